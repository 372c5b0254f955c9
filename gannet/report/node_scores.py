"""The scores of each node's own model, next to that of their mean: a table of their spread, and plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from gannet.ledger.reader import Run
from gannet.ledger.records import Score
from gannet.report import formatting as words
from gannet.report.figures import Figure, arm_colour, arm_symbol, axis, label, layout, legend_name, panels
from gannet.report.results import ArmResult, Results


@dataclass(frozen=True)
class Spread:
    """The models of one run at its last snapshot with own models scored: `values` by node, None of one without.

    `mean_model` is the score of the nodes' mean model, not the mean of the scores.
    """

    arm: ArmResult
    run: Run
    step: int
    score_name: str
    better: str
    mean_model: float | None
    values: dict[int, float | None]

    @property
    def known(self) -> list[float]:
        """The scores, the best first."""
        found = [value for value in self.values.values() if value is not None]
        return sorted(found, reverse=self.better == "higher")

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table, in the order of COLUMNS."""
        known = self.known
        scored = f"{len(known)} of {len(self.values)}" if len(known) < len(self.values) else str(len(known))
        if not known:
            return scored, words.number(self.mean_model), "–", "–", "–"
        by_score = {value: node for node, value in reversed(self.values.items())}
        return (
            scored,
            words.number(self.mean_model),
            f"{words.number(known[0])} (node {by_score[known[0]]})",
            words.number(median(known)),
            f"{words.number(known[-1])} (node {by_score[known[-1]]})",
        )


COLUMNS = ("nodes scored", "mean model", "best node", "median node", "worst node")


def spreads(results: Results) -> list[Spread]:
    """Of every run whose nodes' own models were scored."""
    found = []
    for arm in results.arms:
        for run in arm.arm.runs:
            last = next((score for score in reversed(run.scores) if score.node_models), None)
            if last is not None:
                values = {own.node: own.score for own in last.node_models}
                found.append(
                    Spread(arm, run, last.step, last.score_name, last.better, last.score, values)
                )  # fmt: skip
    return found


def at_the_end(results: Results) -> Figure | None:
    """A point for each node, and a line for the mean model, of each run."""
    data: list[dict[str, Any]] = []
    for spread in spreads(results):
        where = label(f"{spread.arm.label}, seed {spread.run.seed}", 28)
        known = {node: value for node, value in spread.values.items() if value is not None}
        doubt = "" if spread.run.trusted else " ⚠ untrusted"
        data.append(
            {"type": "scatter", "mode": "markers", "name": legend_name(spread.arm.label, doubt),
             "x": [where] * len(known), "y": list(known.values()), "text": [f"node {node}" for node in known],
             "marker": {"color": f"{arm_colour(spread.arm.index)}/0.6", "size": 9,
                        "symbol": arm_symbol(spread.arm.index)},
             "hovertemplate": "%{x}<br>%{text}: %{y:.4g}<extra></extra>"}
        )  # fmt: skip
        if spread.mean_model is not None:
            data.append(
                {"type": "scatter", "mode": "markers", "name": "mean model", "x": [where], "y": [spread.mean_model],
                 "marker": {"symbol": "line-ew-open", "size": 34, "color": "@ink", "line": {"width": 2}},
                 "hovertemplate": "%{x}<br>mean model: %{y:.4g}<extra></extra>"}
            )  # fmt: skip
    if not data:
        return None
    seen: set[str] = set()
    for trace in data:
        trace |= {"showlegend": trace["name"] not in seen, "legendgroup": trace["name"]}
        seen.add(trace["name"])
    name = label(next(spread.score_name for spread in spreads(results)))
    settings = {"xaxis": axis("", showgrid=False, type="category"), "yaxis": axis(name), "showlegend": True}
    return {"data": data, "layout": layout(380, **settings)}


def over_time(results: Results) -> Figure | None:
    """A panel for each run whose nodes' own models were scored at several snapshots: their range, and the mean's."""
    named = []
    for arm in results.arms:
        for run in arm.arm.runs:
            at = [score for score in run.scores if any(own.score is not None for own in score.node_models)]
            if len(at) > 1:
                named.append((label(f"{arm.label}, seed {run.seed}"), _lines(at, arm.index)))
    return panels(named, "score")


def _lines(at: Sequence[Score], index: int) -> list[dict[str, Any]]:
    each = [[own.score for own in score.node_models if own.score is not None] for score in at]
    times = [score.t_s for score in at]
    kinds = {
        "lowest node": ([min(values) for values in each], "dot"),
        "median node": ([median(values) for values in each], "dash"),
        "highest node": ([max(values) for values in each], "dot"),
        "mean model": ([score.score for score in at], "solid"),
    }
    return [
        {"type": "scatter", "mode": "lines+markers", "name": name, "legendgroup": name, "x": times, "y": values,
         "line": {"color": arm_colour(index) if name != "mean model" else "@ink", "dash": dash, "width": 1.6},
         "marker": {"size": 5}, "hovertemplate": f"%{{x:.1f}} s: %{{y:.4g}}<extra>{name}</extra>"}
        for name, (values, dash) in kinds.items()
    ]  # fmt: skip
