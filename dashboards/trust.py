"""Trust: whether a run's results are reliable."""

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
            ("Run trusted", "No as soon as there is one reason against it; the reasons are listed below."),
            "none",
            Query(by("min", "arm", pick("gannet_run_trusted")), "{{arm}}"),
            texts=_YES_NO,
        ),
        figure(
            ("Links match their profile", "Every link is measured before training and compared with its profile."),
            "none",
            Query(by("min", "arm", pick("gannet_certificate_trusted")), "{{arm}}"),
            texts=_YES_NO,
        ),
        figure(
            (
                "Waiting for a processor",
                "Worst node: share of its time in which its threads were ready to run but had no processor.",
            ),
            "percentunit",
            Query(by("max", "arm", pick("node:gannet_cpu_starved:ratio20s", NODE)), "{{arm}}"),
            ((None, GREEN), (0.1, YELLOW), (0.25, RED)),
            decimals=0,
        ),
        figure(
            ("Packets late", "Worst node: 99% of packets leave the link engine at most this late."),
            "s",
            Query(by("max", "arm", pick("gannet_late_seconds", NODE, 'quantile="0.99"')), "{{arm}}"),
            ((None, GREEN), (0.001, YELLOW), (0.005, RED)),
        ),
        figure(
            ("Messages rejected", "Messages that failed a check, since the run began."),
            "none",
            Query(by("sum", "arm", pick("gannet_refused_messages_total", NODE)), "{{arm}}"),
            ((None, GREEN), (1, RED)),
        ),
        figure(
            ("Alerts firing", "Rules in compose/prometheus/rules/alerts.yml that fire now."),
            "none",
            Query('sum(ALERTS{alertstate="firing",alertname=~"Gannet.*"}) or vector(0)', "alerts"),
            ((None, GREEN), (1, RED)),
        ),
    ]
    reasons = rows(
        (
            "Reasons not to trust the run",
            "As in the report. Links changed by hand count: the run then differs from its spec.",
        ),
        {
            "": Query(
                f"{by('max', 'arm, run, reason', last(pick('gannet_reason_info')))} or label_replace("
                f'{by("max", "arm, run", last(pick("gannet_reasons")))} == 0, "reason", "none", "", "")',
                now=True,
            )
        },
        {"reason": "reason", "arm": "arm", "run": "run"},
        {},
        width=12,
    )
    certificate = rows(
        (
            "Certificate: every link as configured and as measured",
            "Measured with idle nodes before training. Rates may differ by 5%, delays by 1 ms or 2%.",
        ),
        {
            "rate configured": Query(
                by("max", "arm, src, dst", last(pick("gannet_configured_rate_bits_per_second", LINK))), now=True
            ),
            "rate measured": Query(
                by("max", "arm, src, dst", last(pick("gannet_measured_rate_bits_per_second", LINK))), now=True
            ),
            "delay configured": Query(
                by("max", "arm, src, dst", last(pick("gannet_configured_delay_seconds", LINK))), now=True
            ),
            "jitter configured": Query(
                by("max", "arm, src, dst", last(pick("gannet_configured_jitter_seconds", LINK))), now=True
            ),
            "delay measured": Query(
                by("max", "arm, src, dst", last(pick("gannet_measured_delay_seconds", LINK))), now=True
            ),
            "loss measured": Query(
                by("max", "arm, src, dst", last(pick("gannet_measured_loss_ratio", LINK))), now=True
            ),
            "within tolerance": Query(
                by("min", "arm, src, dst", last(pick("gannet_certified_link", LINK))), now=True
            ),
        },
        {"arm": "arm", "src": "from", "dst": "to"},
        {
            "rate configured": "bps",
            "rate measured": "bps",
            "delay configured": "s",
            "jitter configured": "s",
            "delay measured": "s",
            "loss measured": "percentunit",
            "within tolerance": "bool_yes_no",
        },
        width=12,
    )
    machine = [
        series(
            (
                "Waiting for a processor by node",
                "Share of time in which a node's threads were ready to run but had no processor, or were throttled "
                "by a CPU limit, summed over threads. Emulated links are accurate only while this is small.",
            ),
            "percentunit",
            Query(pick("node:gannet_cpu_starved:ratio20s", NODE), _BY_NODE),
            thresholds=((None, "transparent"), (0.25, RED)),
        ),
        series(
            ("Processors in use", "By node; 1 is one processor in constant use."),
            "none",
            Query(rate(pick("gannet_cpu_seconds_total", NODE)), _BY_NODE),
        ),
        series(
            (
                "Packets late by node",
                "How late the link engine releases packets: 99th percentile and maximum.",
            ),
            "s",
            Query(pick("gannet_late_seconds", NODE, 'quantile="0.99"'), f"{_BY_NODE} · 99%"),
            Query(pick("gannet_late_seconds", NODE, 'quantile="1"'), f"{_BY_NODE} · max"),
            thresholds=((None, "transparent"), (0.005, RED)),
        ),
        series(
            (
                "Link engine without a processor",
                "Share of the time in which the engine was ready to run but had none. 0 for an engine in the kernel.",
            ),
            "percentunit",
            Query(pick("node:gannet_engine_starved:ratio20s", NODE), _BY_NODE),
        ),
        series(
            (
                "Bad intervals",
                "Intervals in which a node's links deviated from their profile, since the run began: another program "
                "changed them (they are restored), or the engine was late.",
            ),
            "none",
            Query(pick("gannet_bad_windows_total", NODE), _BY_NODE),
            thresholds=((None, "transparent"), (1, RED)),
        ),
        series(
            (
                "Time in bad intervals",
                "Seconds by node, since the run began; links.jsonl has each interval with its reason.",
            ),
            "s",
            Query(pick("gannet_bad_window_seconds_total", NODE), _BY_NODE),
        ),
        series(
            ("Memory", "Resident memory by node, including pages shared between nodes of one machine."),
            "bytes",
            Query(pick("gannet_resident_memory_bytes", NODE), _BY_NODE),
        ),
        series(
            ("Seconds since the last step", "By node; if only one curve rises, its node hangs."),
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
                "Messages rejected, by reason",
                "Per second. A message is rejected if it is of another run, damaged, late or too large, or if its "
                "values are not all finite.",
            ),
            "none",
            Query(
                by("sum", "arm, reason", rate(pick("gannet_refused_messages_total", NODE))),
                "{{arm}} · {{reason}}",
            ),
        ),
        rows(
            ("Messages rejected, by link and reason", "As reported by the nodes to the controller."),
            {
                "messages": Query(
                    by("sum", "arm, src, dst, reason", last(pick("gannet_reported_refusals_total")))
                    + ' or label_replace(vector(0), "reason", "none", "", "")',
                    now=True,
                )
            },
            {"reason": "reason", "src": "from", "dst": "rejected by", "arm": "arm"},
            {},
            width=12,
        ),
        series(
            ("Nodes lost", "Peers that each node knows to be lost."),
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
        "Whether the results are reliable: links within tolerance, processors free, messages intact, no node lost.",
        [
            ("At a glance", glance),
            ("Certificate", [certificate, reasons]),
            ("The machine", machine),
            ("Messages and nodes", messages),
        ],
    )
