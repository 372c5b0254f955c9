"""Training: is it learning, do the nodes agree, how fast is it, and where does a step's time go."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from dashboards.frame import frame
from dashboards.parts import GREEN, NODE, RED, YELLOW, Query, by, figure, heat, pick, rate, series, timeline

STATES = {
    "0": ("setting up", "#808080"),
    "1": ("training", "green"),
    "2": ("finished", "blue"),
    "3": ("stopped", "#EAB839"),
    "4": ("failed", "red"),
}


def training() -> dashboard.Dashboard:
    """The dashboard to open first."""
    glance = [
        figure(
            ("State", "What the run is doing: setting up, training, finished, stopped or failed."),
            "none",
            Query(by("max", "arm", pick("gannet_run_state")), "{{arm}}"),
            texts=STATES,
        ),
        figure(
            (
                "Training time",
                "Seconds of training, without set-up and scoring: the clock that arms are compared by.",
            ),
            "s",
            Query(by("max", "arm", pick("gannet_training_clock_seconds")), "{{arm}}"),
        ),
        figure(
            ("Steps per second", "Gradient steps of a node per second, mean of the nodes."),
            "none",
            Query(by("avg", "arm", pick("node:gannet_steps:rate20s", NODE)), "{{arm}}"),
            decimals=2,
        ),
        figure(
            ("Waiting for the network", "Part of a node's time that it is blocked on messages of others."),
            "percentunit",
            Query(by("avg", "arm", pick("node:gannet_spent:share20s", NODE, 'activity="wait"')), "{{arm}}"),
            ((None, GREEN), (0.3, YELLOW), (0.6, RED)),
            decimals=0,
        ),
        figure(
            (
                "Quality (lower is better)",
                "Fréchet distance of a small sample that the nodes' mean generates, scored in idle time. It says "
                "which way things go; the report's figure, of more images, is the one to quote.",
            ),
            "none",
            Query(by("min", "arm", pick("gannet_quality_score")), "{{arm}}"),
            decimals=1,
        ),
        figure(
            ("Nodes lost", "Nodes that the run goes on without."),
            "none",
            Query(by("max", "arm", pick("gannet_peers_lost", NODE)), "{{arm}}"),
            ((None, GREEN), (1, RED)),
        ),
    ]
    learning = [
        series(
            (
                "Losses",
                "Each player's own loss, the mean over the nodes. In a healthy game none runs away; a gap in a curve "
                "is a loss that is not a number.",
            ),
            "none",
            Query(by("avg", "arm, player", pick("gannet_loss", NODE)), "{{arm}} · {{player}}"),
            low=None,
        ),
        series(
            ("Quality", "Fréchet distance of the nodes' mean, lower is better: a small sample, scored in idle time."),
            "none",
            Query(by("min", "arm, score", pick("gannet_quality_score")), "{{arm}} · {{score}}"),
        ),
        series(
            (
                "Consensus distance",
                "Mean squared distance of the nodes' parameters from their mean, (1/M) Σ|xᵢ − x̄|², of each "
                "player and of all. 0: all nodes hold the same model. Growing: they train models of their own.",
            ),
            "none",
            Query(by("max", "arm, player", pick("gannet_consensus_distance")), "{{arm}} · {{player}}"),
            width=8,
        ),
        series(
            (
                "How far apart, relative",
                "Root of the consensus distance over the size of the mean: comparable between models and over time. "
                "The alert for diverging nodes begins at 0.2.",
            ),
            "percentunit",
            Query(by("max", "arm, player", pick("gannet_consensus_spread_ratio")), "{{arm}} · {{player}}"),
            width=8,
            thresholds=((None, "transparent"), (0.2, RED)),
        ),
        series(
            (
                "Kinds of images",
                "Share of the data's classes that are found among the generated images. A fall is a generator that "
                "makes the same few again and again.",
            ),
            "percentunit",
            Query(by("max", "arm", pick("gannet_quality_classes_ratio")), "{{arm}}"),
            width=8,
            high=1,
        ),
    ]
    speed = [
        series(
            (
                "Where a step's time goes",
                "Mean of the nodes: computing gradients, waiting for messages, everything else.",
            ),
            "percentunit",
            Query(by("avg", "arm, activity", pick("node:gannet_spent:share20s", NODE)), "{{arm}} · {{activity}}"),
            stacked=True,
            high=1,
        ),
        series(
            ("Step time", "Time of a step: mean of the nodes over 20 s, and the time that 95% of steps stay below."),
            "s",
            Query(by("avg", "arm", pick("node:gannet_step_seconds:mean20s", NODE)), "{{arm}} · mean"),
            Query(by("max", "arm", pick("run:gannet_step_seconds:p95_20s")), "{{arm}} · 95%"),
        ),
        heat(
            (
                "Step times",
                "How many steps a second took how long. An exchange every few steps makes two bands.",
            ),
            "s",
            Query(by("sum", "le", rate(pick("gannet_step_seconds_bucket", NODE))), "{{le}}"),
        ),
        series(
            ("Steps per second by node", "Synchronous methods keep all nodes together: the slowest sets the pace."),
            "none",
            Query(pick("node:gannet_steps:rate20s", NODE), "{{arm}} · node {{node}}"),
        ),
    ]
    nodes = [
        series(
            ("Loss by node", "Each node's own loss on its own part of the data."),
            "none",
            Query(pick("gannet_loss", NODE), "{{arm}} · node {{node}} · {{player}}"),
            low=None,
        ),
        series(
            ("Distance from the mean by node", "|xᵢ − x̄| of each node's whole state: which node drifts away."),
            "none",
            Query(pick("gannet_node_drift", NODE), "{{arm}} · node {{node}}"),
        ),
        series(
            (
                "Staleness",
                "Rounds since a peer's message was last in a node's mix. Synchronous methods have 0 while nobody is "
                "missing; it climbs where a node is lost.",
            ),
            "none",
            Query(
                by("max", "arm, node, peer", pick("gannet_staleness_rounds", NODE)),
                "{{arm}} · {{peer}} at {{node}}",
            ),
            thresholds=((None, "transparent"), (1, YELLOW)),
        ),
        series(
            (
                "Messages missing from mixes",
                "Per second, by whose message it was. The weight goes to the node itself.",
            ),
            "none",
            Query(
                by("sum", "arm, peer", rate(pick("gannet_missing_messages_total", NODE))),
                "{{arm}} · of node {{peer}}",
            ),
        ),
        timeline(
            ("State of the runs", "When which run was set up, trained and ended."),
            Query(by("max", "run", pick("gannet_run_state")), "{{run}}"),
            STATES,
            width=24,
            height=5,
        ),
    ]
    return frame(
        "gannet-training",
        "Gannet · Training",
        "Is it learning, do the nodes agree, how fast is it, and where does the time of a step go?",
        [("At a glance", glance), ("Learning", learning), ("Speed", speed), ("Node by node", nodes)],
    )
