"""Network: what every link was ordered to be, what it is, and what it costs the training."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from dashboards.frame import frame
from dashboards.parts import (
    GREEN,
    LINK,
    NODE,
    RED,
    YELLOW,
    Query,
    by,
    figure,
    graph,
    last,
    matrix,
    pick,
    rate,
    series,
)

_BY_LINK = "{{arm}} · {{src}} → {{dst}}"
_BY_NODE = "{{arm}} · node {{node}}"


def network() -> dashboard.Dashboard:
    """Configured against observed, link by link."""
    glance = [
        figure(
            (
                "Slowest link, as ordered",
                "Rate of the slowest link that messages cross. No figure: no link has a limit.",
            ),
            "bps",
            Query(by("min", "arm", pick("gannet_configured_rate_bits_per_second", LINK)), "{{arm}}"),
        ),
        figure(
            (
                "Goodput of a link",
                "Bytes that arrive while a message is on its way, mean of the links; latency included.",
            ),
            "bps",
            Query(by("avg", "arm", pick("link:gannet_goodput_bits:busy20s", LINK)), "{{arm}}"),
        ),
        figure(
            ("Round trip, as ordered", "Both ways' delays of a link, mean of the links."),
            "s",
            Query(by("avg", "arm", pick("link:gannet_configured_rtt:seconds", LINK)), "{{arm}}"),
        ),
        figure(
            ("Round trip, observed", "A small echo between nodes while they train: ordered delay and queues."),
            "s",
            Query(by("avg", "arm", pick("gannet_rtt_seconds", LINK)), "{{arm}}"),
        ),
        figure(
            ("Packets dropped", "In front of rate limits, since the run began. TCP fills buffers until they drop."),
            "short",
            Query(by("sum", "arm", pick("gannet_dropped_packets_total", NODE)), "{{arm}}"),
        ),
        figure(
            ("Link changes", "By the spec's schedule and by hand (`gannet net`); marked in every chart."),
            "none",
            Query(by("sum", "arm", pick("gannet_link_changes_total")), "{{arm}}"),
        ),
    ]
    held = [
        series(
            (
                "Rate: ordered (dashed) and observed",
                "What a link may carry, and the goodput while messages are in flight. A node that sends to several "
                "peers at once shares its uplink between them; short messages are latency more than rate.",
            ),
            "bps",
            Query(pick("gannet_configured_rate_bits_per_second", LINK), f"ordered {_BY_LINK}"),
            Query(pick("link:gannet_goodput_bits:busy20s", LINK), _BY_LINK),
            ordered="^ordered",
        ),
        series(
            (
                "Round trip: ordered (dashed) and observed",
                "Delay there and back as configured, and an echo of a few bytes every second. What is above the "
                "dashes is waiting in queues.",
            ),
            "s",
            Query(pick("link:gannet_configured_rtt:seconds", LINK), f"ordered {_BY_LINK}"),
            Query(pick("gannet_rtt_seconds", LINK), _BY_LINK),
            ordered="^ordered",
        ),
        series(
            (
                "Uplink: limit (dashed) and use",
                "What each node's interface sends, all headers included, mean over 20 s.",
            ),
            "bps",
            Query(pick("gannet_configured_up_bits_per_second", NODE), f"limit {_BY_NODE}"),
            Query(pick("node:gannet_interface_sent_bits:rate20s", NODE), _BY_NODE),
            ordered="^limit",
        ),
        series(
            (
                "Downlink: limit (dashed) and use",
                "What each node's interface receives; gossip is fan-in, and meets here.",
            ),
            "bps",
            Query(pick("gannet_configured_down_bits_per_second", NODE), f"limit {_BY_NODE}"),
            Query(pick("node:gannet_interface_received_bits:rate20s", NODE), _BY_NODE),
            ordered="^limit",
        ),
    ]
    links = [
        graph(
            (
                "Who sends to whom",
                "Nodes and links with Mbit/s of payload, mean over 20 s; a node shows what comes in.",
            ),
            last(pick("link:gannet_sent_bits:rate20s", LINK)) + " / 1e6",
            "Mbit/s",
        ),
        matrix(
            ("Goodput by link", "While messages are on their way."),
            "bps",
            last(pick("link:gannet_goodput_bits:busy20s", LINK)),
            ((None, RED), (1e6, YELLOW), (5e6, GREEN)),
        ),
        matrix(
            ("Round trip by link", "Observed, last value."),
            "s",
            last(pick("gannet_rtt_seconds", LINK)),
            ((None, GREEN), (0.1, YELLOW), (0.3, RED)),
        ),
        matrix(
            ("Delay by link, as ordered", "One way, as it is in force now."),
            "s",
            last(pick("gannet_configured_delay_seconds", LINK)),
            ((None, GREEN), (0.05, YELLOW), (0.15, RED)),
        ),
        matrix(
            ("Loss by link, as ordered", "Share of packets that never arrive; 100%: the link is cut."),
            "percentunit",
            last(pick("gannet_configured_loss_ratio", LINK)),
            ((None, GREEN), (0.001, YELLOW), (0.05, RED)),
        ),
        matrix(
            ("Who waits for whom", "Part of the receiver's time that it was blocked on the sender's messages."),
            "percentunit",
            last(pick("link:gannet_wait:share20s", LINK)),
            ((None, GREEN), (0.2, YELLOW), (0.5, RED)),
        ),
    ]
    queues = [
        series(
            ("Queue in front of the limits", "Bytes that wait for their turn, up and down."),
            "bytes",
            Query(pick("gannet_backlog_bytes", NODE), _BY_NODE),
        ),
        series(
            ("Packets dropped by node", "Per second, in front of the limits: a full buffer, as TCP finds the rate."),
            "none",
            Query(rate(pick("gannet_dropped_packets_total", NODE)), _BY_NODE),
        ),
        series(
            ("Retransmissions", "TCP segments sent again, per second: the price of loss and of full buffers."),
            "none",
            Query(rate(pick("gannet_retransmitted_segments_total", NODE)), _BY_NODE),
            width=8,
        ),
        series(
            ("Time in which a link is busy", "Part of the time with a message on its way."),
            "percentunit",
            Query(pick("link:gannet_busy:ratio20s", LINK), _BY_LINK),
            width=8,
            high=1,
        ),
        series(
            (
                "Packets held by the link engine",
                "Per second, let go when their delay was over; 0 where the kernel does it.",
            ),
            "none",
            Query(rate(pick("gannet_delayed_packets_total", NODE)), _BY_NODE),
            width=8,
        ),
        series(
            ("Arriving by link", "Frames as the link engine takes them up, bits per second: messages and all else."),
            "bps",
            Query("8 * " + rate(pick("gannet_link_bytes_total", LINK)), _BY_LINK),
        ),
        series(
            ("On their way by link", "Bytes that the link engine holds for as long as the link's delay."),
            "bytes",
            Query(pick("gannet_link_backlog_bytes", LINK), _BY_LINK),
        ),
        series(
            ("Packets arriving by link", "Per second; a packet may hold several TCP segments."),
            "none",
            Query(rate(pick("gannet_link_packets_total", LINK)), _BY_LINK),
        ),
        series(
            ("Packets lost by link", "Per second: as the profile orders, or because the engine had no room."),
            "none",
            Query(rate(pick("gannet_link_lost_packets_total", LINK)), _BY_LINK),
        ),
    ]
    sent = [
        series(
            (
                "Bytes sent, three counts",
                "What the codec made, what gRPC sent and what the interface counted, all nodes, since the run began. "
                "They differ by headers; the report holds them against each other.",
            ),
            "bytes",
            Query(by("sum", "arm, layer", pick("gannet_sent_bytes_total", NODE)), "{{arm}} · {{layer}}"),
            width=8,
        ),
        series(
            ("Payload by link", "Mean over 20 s, pauses included."),
            "bps",
            Query(pick("link:gannet_sent_bits:rate20s", LINK), _BY_LINK),
            width=8,
        ),
        series(
            ("Payload taken in by node", "Bodies of messages that passed every check, bits per second."),
            "bps",
            Query("8 * " + by("sum", "arm, node", rate(pick("gannet_peer_received_bytes_total", NODE))), _BY_NODE),
            width=8,
        ),
    ]
    return frame(
        "gannet-network",
        "Gannet · Network",
        "Every link as it was ordered and as it is: rate, round trip, queues, losses, and who waits for whom.",
        [
            ("At a glance", glance),
            ("Ordered and observed", held),
            ("Every link, sender by receiver", links),
            ("Queues and losses", queues),
            ("Bytes", sent),
        ],
    )
