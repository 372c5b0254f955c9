"""Compare: the arms side by side."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from dashboards.frame import frame
from dashboards.parts import NODE, RUN, Query, against_training_time, by, last, over, pick, rows, series

_BY_RUN = "{{arm}} · {{run}}"


def _now(expr: str) -> Query:
    return Query(expr, now=True)


def compare() -> dashboard.Dashboard:
    """One row per run, and the same curves for all."""
    steps = over("max", pick("gannet_steps_total"))
    table = rows(
        (
            "Runs",
            "Every run in the time range shown, with its last values. Compare only trusted runs on equal links; the "
            "report says how certain a difference is.",
        ),
        {
            "training": _now(by("max", "run, arm", over("max", pick("gannet_training_clock_seconds")))),
            "steps": _now(by("max", "run, arm", over("max", pick("gannet_steps_total")))),
            "step time": _now(
                by("max", "run, arm", f"{over('max', pick('gannet_training_clock_seconds'))} / {steps}")
            ),
            "waiting": _now(
                by("sum", "run, arm", over("max", pick("gannet_spent_seconds_total", RUN, 'activity="wait"')))
                + " / "
                + by("sum", "run, arm", over("max", pick("gannet_spent_seconds_total")))
            ),
            "sent": _now(
                by("sum", "run, arm", over("max", pick("gannet_sent_bytes_total", RUN, 'layer="interface"')))
            ),
            "best quality": _now(by("min", "run, arm", over("min", pick("gannet_quality_score")))),
            "spread": _now(by("max", "run, arm", last(pick("gannet_consensus_spread_ratio", RUN, 'player="all"')))),
            "trusted": _now(by("min", "run, arm", last(pick("gannet_run_trusted")))),
        },
        {"arm": "arm", "run": "run"},
        {
            "training": "s",
            "steps": "short",
            "step time": "s",
            "waiting": "percentunit",
            "sent": "bytes",
            "best quality": "none",
            "spread": "percentunit",
            "trusted": "bool_yes_no",
        },
    )
    labels = ("run", "label", "algorithm", "topology", "codec", "links", "seed")
    about = rows(
        ("Settings", "The settings of each run."),
        {"": _now(by("group", ", ".join(labels), last(pick("gannet_run_info"))))},
        {label: label for label in labels},
        {},
        height=6,
    )
    quality = [
        against_training_time(
            (
                "Quality against seconds of training",
                "Fréchet distance of the averaged model, lower is better, by the training clock: arms that ran one "
                "after another are overlaid.",
            ),
            "none",
            pick("gannet_quality_by_training_time"),
        )
    ]
    by_clock = [
        series(
            ("Steps per second", "Mean of the nodes."),
            "none",
            Query(by("avg", "run, arm", pick("node:gannet_steps:rate20s", NODE)), _BY_RUN),
        ),
        series(
            ("Step time", "Mean of the nodes over 20 s."),
            "s",
            Query(by("avg", "run, arm", pick("node:gannet_step_seconds:mean20s", NODE)), _BY_RUN),
        ),
        series(
            ("Waiting for the network", "Share of a node's time, mean of the nodes."),
            "percentunit",
            Query(
                by("avg", "run, arm", pick("node:gannet_spent:share20s", NODE, 'activity="wait"')),
                _BY_RUN,
            ),
            high=1,
        ),
        series(
            ("Payload sent", "All nodes together, bits per second."),
            "bps",
            Query(by("sum", "run, arm", pick("link:gannet_sent_bits:rate20s")), _BY_RUN),
        ),
        series(
            (
                "Consensus distance",
                "Of the whole state, (1/M) Σ|xᵢ − x̄|². 0 for methods in which all nodes have the same model.",
            ),
            "none",
            Query(by("max", "run, arm", pick("gannet_consensus_distance", RUN, 'player="all"')), _BY_RUN),
        ),
        series(
            ("Quality", "By wall-clock time; lower is better."),
            "none",
            Query(by("min", "run, arm", pick("gannet_quality_score")), _BY_RUN),
        ),
    ]
    return frame(
        "gannet-compare",
        "Gannet · Compare",
        "The arms side by side: speed, bytes, quality and trust. Choose runs and arms above.",
        [("Result", [table, about]), ("Quality", quality), ("Curves by wall-clock time", by_clock)],
    )
