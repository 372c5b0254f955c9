"""Plots with a panel for each player of a task: its loss and its consensus distance over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite, nan
from statistics import fmean
from typing import Any

from gannet.ledger.reader import Run
from gannet.report.figures import Figure, label, panels
from gannet.report.plots import Curve, arm_traces
from gannet.report.results import Results

_PANEL_HEIGHT = 240
_LOSS_POINTS = 120
"""The most points of a curve. Consecutive steps are averaged, which keeps the page small and the lines smooth."""


def losses(results: Results) -> Figure | None:
    """Each player's own loss over time, averaged over nodes."""
    players = [player for run in results.comparison.runs for step in run.steps for player in step.loss]
    return panels(
        _by_player(results, players, loss_curve, markers=False), "loss (in the task's units)", _PANEL_HEIGHT
    )


def consensus(results: Results) -> Figure | None:
    players = [player for run in results.comparison.runs for score in run.scores for player in score.consensus]
    named = _by_player(results, players, _consensus_curve)
    powers = {"rangemode": "tozero", "exponentformat": "e"}  # nodes that agree are about 1e-13 apart
    return panels(named, "mean ‖xᵢ − x̄‖² (parameters²)", _PANEL_HEIGHT, **powers)


def loss_curve(run: Run, player: str) -> Curve:
    """(training seconds, loss) of one player, at the steps in which it played."""
    by_step: dict[int, list[tuple[float, float]]] = {}
    for step in run.steps:
        if isfinite(loss := step.loss.get(player, nan)):
            by_step.setdefault(step.step, []).append((step.t_s, loss))
    points = [_mean(of_nodes) for _, of_nodes in sorted(by_step.items())]
    together = -(-len(points) // _LOSS_POINTS) or 1
    return [_mean(points[begin : begin + together]) for begin in range(0, len(points), together)]


def _consensus_curve(run: Run, player: str) -> Curve:
    values = [(score.t_s, score.consensus.get(player)) for score in run.scores if score.of == "average"]
    return [(t_s, value) for t_s, value in values if value is not None]


def _mean(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return fmean(t_s for t_s, _ in points), fmean(value for _, value in points)


def _by_player(
    results: Results, players: Sequence[str], curve: Callable[[Run, str], Curve], markers: bool = True
) -> list[tuple[str, list[dict[str, Any]]]]:
    """(heading, traces) of each player, in order of first appearance: a line for each arm that has the player."""
    found = {
        player: arm_traces(results, lambda run, p=player: curve(run, p), "s", markers)  # type: ignore[misc]
        for player in dict.fromkeys(players)
    }
    return [(label(player[:1].upper() + player[1:]), traces) for player, traces in found.items() if traces]
