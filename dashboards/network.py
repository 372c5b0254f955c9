"""Network: the configured and observed values of every link, and the links' effect on training."""

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
                "Slowest link, configured",
                "Rate of the slowest link that carries messages. No value: no link has a limit.",
            ),
            "bps",
            Query(by("min", "arm", pick("gannet_configured_rate_bits_per_second", LINK)), "{{arm}}"),
        ),
        figure(
            (
                "Goodput of a link",
                "Bytes that arrive while a message is in flight, mean of the links; latency included.",
            ),
            "bps",
            Query(by("avg", "arm", pick("link:gannet_goodput_bits:busy20s", LINK)), "{{arm}}"),
        ),
        figure(
            ("Round trip, configured", "Sum of a link's delays in both directions, mean of the links."),
            "s",
            Query(by("avg", "arm", pick("link:gannet_configured_rtt:seconds", LINK)), "{{arm}}"),
        ),
        figure(
            ("Round trip, observed", "A small echo between nodes during training: configured delay plus queues."),
            "s",
            Query(by("avg", "arm", pick("gannet_rtt_seconds", LINK)), "{{arm}}"),
        ),
        figure(
            (
                "Packets dropped",
                "Before rate limits, since the run began. TCP fills buffers until they drop packets.",
            ),
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
                "Rate: configured (dashed) and observed",
                "A link's rate limit, and its goodput while messages are in flight. A node that sends to several "
                "peers at once shares its uplink between them; short messages depend on latency more than on rate.",
            ),
            "bps",
            Query(pick("gannet_configured_rate_bits_per_second", LINK), f"configured {_BY_LINK}"),
            Query(pick("link:gannet_goodput_bits:busy20s", LINK), _BY_LINK),
            expected="^configured",
        ),
        series(
            (
                "Round trip: configured (dashed) and observed",
                "The configured delay in both directions, and an echo of a few bytes every second. Time above the "
                "dashed line is spent in queues.",
            ),
            "s",
            Query(pick("link:gannet_configured_rtt:seconds", LINK), f"configured {_BY_LINK}"),
            Query(pick("gannet_rtt_seconds", LINK), _BY_LINK),
            expected="^configured",
        ),
        series(
            (
                "Uplink: limit (dashed) and use",
                "Bits sent by each node's interface, including all headers, mean over 20 s.",
            ),
            "bps",
            Query(pick("gannet_configured_up_bits_per_second", NODE), f"limit {_BY_NODE}"),
            Query(pick("node:gannet_interface_sent_bits:rate20s", NODE), _BY_NODE),
            expected="^limit",
        ),
        series(
            (
                "Downlink: limit (dashed) and use",
                "Bits received by each node's interface: in gossip, messages of all peers share the downlink.",
            ),
            "bps",
            Query(pick("gannet_configured_down_bits_per_second", NODE), f"limit {_BY_NODE}"),
            Query(pick("node:gannet_interface_received_bits:rate20s", NODE), _BY_NODE),
            expected="^limit",
        ),
    ]
    links = [
        graph(
            (
                "Traffic between nodes",
                "Payload in Mbit/s, mean over 20 s: sent on each link, and received by each node.",
            ),
            last(pick("link:gannet_sent_bits:rate20s", LINK)) + " / 1e6",
            "Mbit/s",
        ),
        matrix(
            ("Goodput by link", "While messages are in flight."),
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
            ("Configured delay by link", "One way, last value."),
            "s",
            last(pick("gannet_configured_delay_seconds", LINK)),
            ((None, GREEN), (0.05, YELLOW), (0.15, RED)),
        ),
        matrix(
            ("Configured loss by link", "Share of packets that never arrive; 100%: the link is cut."),
            "percentunit",
            last(pick("gannet_configured_loss_ratio", LINK)),
            ((None, GREEN), (0.001, YELLOW), (0.05, RED)),
        ),
        matrix(
            ("Waiting by link", "Share of the receiver's time in which it was blocked on the sender's messages."),
            "percentunit",
            last(pick("link:gannet_wait:share20s", LINK)),
            ((None, GREEN), (0.2, YELLOW), (0.5, RED)),
        ),
    ]
    queues = [
        series(
            ("Queues at the rate limits", "Bytes waiting in each node's queues, uplink and downlink."),
            "bytes",
            Query(pick("gannet_backlog_bytes", NODE), _BY_NODE),
        ),
        series(
            (
                "Packets dropped by node",
                "Per second, at the rate limits: TCP fills the buffer while it searches for the rate.",
            ),
            "none",
            Query(rate(pick("gannet_dropped_packets_total", NODE)), _BY_NODE),
        ),
        series(
            ("Retransmissions", "TCP segments retransmitted per second, because of loss or full buffers."),
            "none",
            Query(rate(pick("gannet_retransmitted_segments_total", NODE)), _BY_NODE),
            width=8,
        ),
        series(
            ("Busy time of links", "Share of the time with a message in flight."),
            "percentunit",
            Query(pick("link:gannet_busy:ratio20s", LINK), _BY_LINK),
            width=8,
            high=1,
        ),
        series(
            (
                "Packets delayed by the link engine",
                "Per second, released after their delay; 0 if the kernel delays them.",
            ),
            "none",
            Query(rate(pick("gannet_delayed_packets_total", NODE)), _BY_NODE),
            width=8,
        ),
        series(
            ("Arriving by link", "All frames, as counted by the link engine, in bits per second."),
            "bps",
            Query("8 * " + rate(pick("gannet_link_bytes_total", LINK)), _BY_LINK),
        ),
        series(
            ("In flight by link", "Bytes that the link engine holds for as long as the link's delay."),
            "bytes",
            Query(pick("gannet_link_backlog_bytes", LINK), _BY_LINK),
        ),
        series(
            ("Packets arriving by link", "Per second; a packet may hold several TCP segments."),
            "none",
            Query(rate(pick("gannet_link_packets_total", LINK)), _BY_LINK),
        ),
        series(
            ("Packets lost by link", "Per second, as configured or because a queue of the engine was full."),
            "none",
            Query(rate(pick("gannet_link_lost_packets_total", LINK)), _BY_LINK),
        ),
    ]
    sent = [
        series(
            (
                "Bytes sent, three counts",
                "Output of the codec, messages sent by gRPC and bytes counted by the interface, all nodes, since the "
                "run began. They differ by headers; the report compares them.",
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
            ("Payload received by node", "Payload of messages that passed every check, bits per second."),
            "bps",
            Query("8 * " + by("sum", "arm, node", rate(pick("gannet_peer_received_bytes_total", NODE))), _BY_NODE),
            width=8,
        ),
    ]
    return frame(
        "gannet-network",
        "Gannet · Network",
        "Every link as configured and as observed: rate, round trip, queues, losses, and waiting.",
        [
            ("At a glance", glance),
            ("Configured and observed", held),
            ("Every link, by sender and receiver", links),
            ("Queues and losses", queues),
            ("Bytes", sent),
        ],
    )
