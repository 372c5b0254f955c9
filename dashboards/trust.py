"""Trust: whether a run's figures mean what they seem to."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from dashboards.frame import frame
from dashboards.parts import GREEN, LINK, NODE, RED, YELLOW, Query, by, figure, last, pick, rate, rows, series

_BY_NODE = "{{arm}} · node {{node}}"
_YES_NO = {"0": ("no", "red"), "1": ("yes", "green")}


def trust() -> dashboard.Dashboard:
    """Certificate, processors, memory, messages."""
    glance = [
        figure(
            ("Run trusted", "No, as soon as one thing speaks against the run; below it is said what."),
            "none",
            Query(by("min", "arm", pick("gannet_run_trusted")), "{{arm}}"),
            texts=_YES_NO,
        ),
        figure(
            ("Links as ordered", "Every link was measured before training and held against its plan."),
            "none",
            Query(by("min", "arm", pick("gannet_certificate_trusted")), "{{arm}}"),
            texts=_YES_NO,
        ),
        figure(
            (
                "Waiting for a processor",
                "Of the worst node: part of its time that its threads were ready to run and had no processor.",
            ),
            "percentunit",
            Query(by("max", "arm", pick("node:gannet_cpu_starved:ratio20s", NODE)), "{{arm}}"),
            ((None, GREEN), (0.1, YELLOW), (0.25, RED)),
            decimals=0,
        ),
        figure(
            ("Packets late", "Of the worst node: 99% of packets leave the link engine at most this much too late."),
            "s",
            Query(by("max", "arm", pick("gannet_late_seconds", NODE, 'quantile="0.99"')), "{{arm}}"),
            ((None, GREEN), (0.001, YELLOW), (0.005, RED)),
        ),
        figure(
            ("Messages refused", "Parts that a node would not use, since the run began."),
            "none",
            Query(by("sum", "arm", pick("gannet_refused_messages_total", NODE)), "{{arm}}"),
            ((None, GREEN), (1, RED)),
        ),
        figure(
            ("Alerts firing", "Of the rules in compose/prometheus/rules/alerts.yml, right now."),
            "none",
            Query('sum(ALERTS{alertstate="firing",alertname=~"Gannet.*"}) or vector(0)', "alerts"),
            ((None, GREEN), (1, RED)),
        ),
    ]
    reasons = rows(
        (
            "What speaks against the run",
            "In words, as the report has them. Links changed by hand count: the run is not what its spec says.",
        ),
        {
            "": Query(
                f"{by('max', 'arm, run, reason', last(pick('gannet_reason_info')))} or label_replace("
                f'{by("max", "arm, run", last(pick("gannet_reasons")))} == 0, "reason", "nothing", "", "")',
                now=True,
            )
        },
        {"reason": "reason", "arm": "arm", "run": "run"},
        {},
        width=12,
    )
    certificate = rows(
        (
            "Certificate: every link as ordered and as measured",
            "Measured with idle nodes before training. Rates may differ by 5%, delays by 1 ms or 2%.",
        ),
        {
            "rate ordered": Query(
                by("max", "arm, src, dst", last(pick("gannet_configured_rate_bits_per_second", LINK))), now=True
            ),
            "rate measured": Query(
                by("max", "arm, src, dst", last(pick("gannet_measured_rate_bits_per_second", LINK))), now=True
            ),
            "delay ordered": Query(
                by("max", "arm, src, dst", last(pick("gannet_configured_delay_seconds", LINK))), now=True
            ),
            "jitter ordered": Query(
                by("max", "arm, src, dst", last(pick("gannet_configured_jitter_seconds", LINK))), now=True
            ),
            "delay measured": Query(
                by("max", "arm, src, dst", last(pick("gannet_measured_delay_seconds", LINK))), now=True
            ),
            "loss measured": Query(
                by("max", "arm, src, dst", last(pick("gannet_measured_loss_ratio", LINK))), now=True
            ),
            "as ordered": Query(by("min", "arm, src, dst", last(pick("gannet_certified_link", LINK))), now=True),
        },
        {"arm": "arm", "src": "from", "dst": "to"},
        {
            "rate ordered": "bps",
            "rate measured": "bps",
            "delay ordered": "s",
            "jitter ordered": "s",
            "delay measured": "s",
            "loss measured": "percentunit",
            "as ordered": "bool_yes_no",
        },
        width=12,
    )
    machine = [
        series(
            (
                "Waiting for a processor by node",
                "Part of the time that a node's threads were ready to run and had no processor, or were held by a "
                "CPU limit, all threads together. Emulated links are honest only while this is small.",
            ),
            "percentunit",
            Query(pick("node:gannet_cpu_starved:ratio20s", NODE), _BY_NODE),
            thresholds=((None, "transparent"), (0.25, RED)),
        ),
        series(
            ("Processors in use", "By node; 1 is one processor all the time."),
            "none",
            Query(rate(pick("gannet_cpu_seconds_total", NODE)), _BY_NODE),
        ),
        series(
            (
                "Packets late by node",
                "How much later than ordered the link engine lets packets go: the worst 1% and the latest.",
            ),
            "s",
            Query(pick("gannet_late_seconds", NODE, 'quantile="0.99"'), f"{_BY_NODE} · 99%"),
            Query(pick("gannet_late_seconds", NODE, 'quantile="1"'), f"{_BY_NODE} · latest"),
            thresholds=((None, "transparent"), (0.005, RED)),
        ),
        series(
            (
                "Link engine without a processor",
                "Part of the time that the engine wanted one. 0 for an engine in the kernel.",
            ),
            "percentunit",
            Query(pick("node:gannet_engine_starved:ratio20s", NODE), _BY_NODE),
        ),
        series(
            (
                "Bad windows",
                "Stretches in which a node's links were not as ordered, since the run began: changed by another "
                "program and repaired, or the engine was late.",
            ),
            "none",
            Query(pick("gannet_bad_windows_total", NODE), _BY_NODE),
            thresholds=((None, "transparent"), (1, RED)),
        ),
        series(
            ("Time in bad windows", "Seconds, by node, since the run began; the ledger has each with its reason."),
            "s",
            Query(pick("gannet_bad_window_seconds_total", NODE), _BY_NODE),
        ),
        series(
            ("Memory", "In RAM, by node, pages shared between nodes of one machine included."),
            "bytes",
            Query(pick("gannet_resident_memory_bytes", NODE), _BY_NODE),
        ),
        series(
            ("Seconds since the last step", "By node; a node that hangs climbs alone."),
            "s",
            Query(
                f"time() - {pick('gannet_last_step_timestamp_seconds', NODE)} "
                "and on (run, arm) gannet_run_state == 1",
                _BY_NODE,
            ),
            thresholds=((None, "transparent"), (60, RED)),
        ),
    ]
    messages = [
        series(
            (
                "Messages refused, by reason",
                "Per second. Nothing that fails a check is used: another run's, a damaged, late or too large part, "
                "values that are not finite.",
            ),
            "none",
            Query(
                by("sum", "arm, reason", rate(pick("gannet_refused_messages_total", NODE))),
                "{{arm}} · {{reason}}",
            ),
        ),
        rows(
            ("Messages refused, by link and reason", "As the nodes reported them to the controller."),
            {
                "parts": Query(
                    by("sum", "arm, src, dst, reason", last(pick("gannet_reported_refusals_total")))
                    + ' or label_replace(vector(0), "reason", "none", "", "")',
                    now=True,
                )
            },
            {"reason": "reason", "src": "from", "dst": "refused by", "arm": "arm"},
            {},
            width=12,
        ),
        series(
            ("Nodes lost", "Peers that each node knows to be gone."),
            "none",
            Query(pick("gannet_peers_lost", NODE), f"known to {_BY_NODE}"),
            Query(pick("gannet_agent_lost", NODE), f"link agent of {_BY_NODE}"),
            thresholds=((None, "transparent"), (1, RED)),
        ),
        series(
            ("Not finite", "1 once a node's loss or gradient is NaN or infinite."),
            "none",
            Query(pick("gannet_diverged", NODE), _BY_NODE),
            high=1,
            thresholds=((None, "transparent"), (1, RED)),
        ),
    ]
    return frame(
        "gannet-trust",
        "Gannet · Trust",
        "Whether the figures mean what they seem to: links as ordered, processors free, messages whole, nodes there.",
        [
            ("At a glance", glance),
            ("Certificate", [certificate, reasons]),
            ("The machine", machine),
            ("Messages and nodes", messages),
        ],
    )
