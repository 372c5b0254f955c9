"""All scores, not only the deciding one: a table with a column for each score and feature network, each score over
time, and the classes of the last images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from gannet.ledger.reader import Run
from gannet.ledger.records import Score
from gannet.report import formatting as words
from gannet.report.figures import Figure, arm_colour, axis, label, layout, legend_name, panels
from gannet.report.plots import arm_traces
from gannet.report.results import ArmResult, Results, final_score
from gannet.report.statistics import Estimate, estimate
from gannet.report.tables import Number, estimate_cell
from gannet.scores.names import METRICS, Better, MetricName, title


@dataclass(frozen=True)
class Column:
    """One score: its key in scores.jsonl ("" for the deciding one), its name including the network, which direction
    is better (None: unknown), what it measures and where it is defined ("": unknown)."""

    key: str
    title: str
    better: Better | None
    what: str = ""
    source: str = ""

    @property
    def arrow(self) -> str:
        return {"lower": "↓", "higher": "↑", None: ""}[self.better]

    def of(self, score: Score) -> float | None:
        """Its value in a line of scores.jsonl; None if the line has no score of this name."""
        if not self.key:
            return score.score if score.score_name == self.title else None
        return score.more.get(self.key) if _named(self.key, score) == self.title else None


@dataclass(frozen=True)
class AllScores:
    """The table. `samples`: the numbers of images that scores are based on (usually one number)."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[ArmResult, tuple[Number, ...]], ...]
    samples: tuple[int, ...]


def columns(results: Results) -> tuple[Column, ...]:
    """Every score of the runs, the deciding one first; a score on two feature networks has two columns."""
    found: dict[tuple[str, str], Column] = {}
    for score in (score for run in results.comparison.runs for score in _averages(run)):
        known = METRICS["frechet"] if score.features else None
        about = (known.what, known.source) if known else ("", "")
        found.setdefault(("", score.score_name), Column("", score.score_name, score.better, *about))
    for score in (score for run in results.comparison.runs for score in _averages(run)):
        for key in score.more:
            name, metric = _named(key, score), METRICS.get(cast(MetricName, key))
            column = (
                Column(key, name, metric.better, metric.what, metric.source) if metric else Column(key, name, None)
            )
            found.setdefault((key, name), column)
    return tuple(found.values())


def final_estimates(arm: ArmResult, of: Sequence[Column]) -> list[Estimate | None]:
    """Each score at the last snapshot, over the arm's counted runs."""
    found = []
    for column in of:
        values = [_final(run, column) for run in arm.scored or arm.counted]
        found.append(estimate([value for value in values if value is not None]))
    return found


def all_scores(results: Results) -> AllScores | None:
    """The table; None if there is only the deciding score."""
    shown = columns(results)
    if not any(column.key for column in shown):
        return None
    last = [_averages(run)[-1] for run in results.comparison.runs if _averages(run)]
    return AllScores(
        shown,
        tuple(
            (arm, tuple(estimate_cell(found, words.number) for found in final_estimates(arm, shown)))
            for arm in results.arms
        ),
        tuple(sorted({score.samples for score in last if score.samples is not None})),
    )


def over_time(results: Results) -> Figure | None:
    """A small panel for each score except the deciding one, against seconds of training."""
    named = []
    for column in columns(results):
        if column.key:
            traces = arm_traces(results, lambda run, column=column: _curve(run, column), "s", scores=True)  # type: ignore[misc]
            if traces:
                named.append((label(f"{short(column.title)} {column.arrow}".strip()), traces))
    return panels(named)


def class_shares(results: Results) -> Figure | None:
    """Bars: the share of each class in each arm's last images, averaged over counted seeds."""
    data: list[dict[str, Any]] = []
    most = 0
    for arm in results.arms:
        last = [score.classes for run in arm.counted if (score := _last(run)) is not None and score.classes]
        if not last or any(list(each) != list(last[0]) for each in last):
            continue
        names = list(last[0])
        most = max(most, len(names))
        mean = [sum(each[name] for each in last) / len(last) for name in names]
        data.append(
            {"type": "bar", "name": legend_name(arm.label, "" if arm.trusted else " ⚠ untrusted"),
             "x": [label(name) for name in names], "y": [round(share, 5) for share in mean],
             "marker": {"color": arm_colour(arm.index), "pattern": {"shape": "" if arm.trusted else "/"}},
             "hovertemplate": "%{fullData.name}<br>%{x}: %{y:.1%}<extra></extra>"}
        )  # fmt: skip
    if not data:
        return None
    equal = 1 / most
    settings = {
        "barmode": "group",
        "bargap": 0.25,
        "showlegend": True,
        "xaxis": axis("", showgrid=False),
        "yaxis": axis("share of the images (%)", tickformat=".0%", rangemode="tozero"),
        "shapes": [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": equal, "y1": equal,
             "line": {"color": "@muted", "width": 1, "dash": "dot"}}
        ],
    }  # fmt: skip
    return {"data": data, "layout": layout(320, **settings)}


def short(name: str) -> str:
    """A score's name for a narrow space: "precision (FashionNet features)" → "precision (FashionNet)"."""
    return name.replace(" features)", ")")


def _named(key: str, score: Score) -> str:
    return title(key, score.features) if key in METRICS and score.features else key


def _averages(run: Run) -> list[Score]:
    return [score for score in run.scores if score.of == "average"]


def _last(run: Run) -> Score | None:
    return next(reversed(_averages(run)), None)


def _final(run: Run, column: Column) -> float | None:
    last = _last(run)
    if last is None:
        return None
    if not column.key and last.score_name == column.title:
        return final_score(run)  # as everywhere else in the report
    return column.of(last)


def _curve(run: Run, column: Column) -> list[tuple[float, float]]:
    return [(score.t_s, value) for score in _averages(run) if (value := column.of(score)) is not None]
