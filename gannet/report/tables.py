"""The page's tables: arms, runs and facts of the environment. Plain text; the template escapes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean
from typing import Any

from gannet.ledger.records import PlayerFacts, Summary
from gannet.report import formatting as words
from gannet.report.results import ArmResult, Results, StepCost
from gannet.report.statistics import Estimate
from gannet.report.verdicts import Conclusion, Verdict

_NOTABLE_OVERLAP = 0.02  # of a step; less may be rounding


@dataclass(frozen=True)
class Number:
    """A table cell: the number, small print below it, and whether its arm leads by this number."""

    text: str
    below: str = ""
    leads: bool = False


@dataclass(frozen=True)
class ArmRow:
    """One row of the summary table."""

    arm: ArmResult
    how: str
    score: Number
    seconds: Number
    bytes: Number
    step: Number
    step_bytes: Number
    waiting: Number
    counted: Number
    classes: str


def arm_rows(results: Results, conclusion: Conclusion) -> list[ArmRow]:
    """The summary table, one row per arm in the order of the spec."""
    return [_arm_row(results, conclusion, arm) for arm in results.arms]


def _arm_row(results: Results, conclusion: Conclusion, arm: ArmResult) -> ArmRow:
    cost = arm.cost
    bound = ""
    if cost is not None and cost.bound_s:
        bound = f"{cost.total_s / cost.bound_s:.2f}× bound"
    counted = f"{len(arm.counted)} of {len(arm.arm.runs)}"
    classes = [run.scores[-1].classes_found for run in arm.counted if run.scores]
    known = [share for share in classes if share is not None]
    return ArmRow(
        arm=arm,
        how=describe_arm(arm),
        score=_score(arm, _leads(conclusion.quality, arm)),
        seconds=_target(results, arm, arm.seconds_to_target, words.seconds, _leads(conclusion.time, arm)),
        bytes=_target(results, arm, arm.bytes_to_target, words.size, _leads(conclusion.bytes, arm)),
        step=Number(words.seconds(arm.step_s), bound),
        step_bytes=Number(words.size(arm.bytes_per_step)),
        waiting=_waiting(cost),
        counted=Number(counted),
        classes=words.percent(fmean(known)) if known else "",
    )


def _waiting(cost: StepCost | None) -> Number:
    if cost is None:
        return Number(words.percent(None))
    hidden = cost.hidden_s or 0.0
    below = f"{words.seconds(hidden)} overlapped" if hidden > _NOTABLE_OVERLAP * cost.total_s else ""
    return Number(words.percent(cost.waiting_share), below)


def describe_arm(arm: ArmResult) -> str:
    """ "dp-oadam · ring, spectral gap 0.667 · fp32", from its first run."""
    run = arm.shown
    if run is None:
        return ""
    summary = run.summary
    if summary.players:
        return " · ".join(_describe_player(player, facts) for player, facts in summary.players.items())
    topology = summary.topology.name if summary.topology is not None else ""
    if topology and summary.topology is not None and summary.topology.spectral_gap is not None:
        topology += f", spectral gap {words.number(summary.topology.spectral_gap)}"
    return " · ".join(part for part in (summary.algorithm, topology, summary.mixing, summary.codec) if part)


def _describe_player(player: str, facts: PlayerFacts) -> str:
    """ "teacher: choco every 10 steps, ring, qsgd-4bit, 120 kB per step"."""
    if not facts.bytes_per_step:
        return f"{player}: {facts.algorithm}"
    every = f" every {facts.every} steps" if facts.every > 1 else ""
    sent = f"{words.size(facts.bytes_per_step)} per step"
    parts = (facts.algorithm + every, facts.topology, facts.mixing, facts.codec, sent)
    return f"{player}: {', '.join(part for part in parts if part)}"


def _leads(verdict: Verdict, arm: ArmResult) -> bool:
    return verdict.trusted and verdict.leader is not None and verdict.leader.index == arm.index


def estimate_cell(found: Estimate | None, write: Callable[[float | None], str], leads: bool = False) -> Number:
    """A mean over seeds with its ± below it."""
    if found is None:
        return Number("–")
    return Number(write(found.mean), f"± {write(found.spread)}" if found.spread is not None else "one seed", leads)


def _score(arm: ArmResult, leads: bool) -> Number:
    if arm.apart and arm.own_score is not None:
        return Number(words.number(arm.own_score.mean), "scored otherwise")
    return estimate_cell(arm.final_score, words.number, leads)


def _target(
    results: Results,
    arm: ArmResult,
    found: Estimate | None,
    write: Callable[[float | None], str],
    leads: bool,
) -> Number:
    if results.target is None or not arm.scored:
        return Number("–")
    if found is None:
        return Number("not reached", f"in {len(arm.scored) - arm.reached} of {len(arm.scored)}")
    cell = estimate_cell(found, write, leads)
    return Number(f"≤ {cell.text}", cell.below, cell.leads) if arm.at_most else cell


@dataclass(frozen=True)
class RunFacts:
    """One run in the "what was run" table."""

    label: str
    seed: int
    status: str
    trusted: bool
    why: str
    cells: tuple[str, ...]


def _refused(summary: Summary) -> str:
    refused = sum(summary.refused.values())
    kinds = ", ".join(f"{reason}: {count}" for reason, count in sorted(summary.refused.items()) if count)
    return f"{refused} ({kinds})" if refused else "0"


# The columns of the "what was run" table: a figure of the summary is shown by a line here.
_RUN_CELLS: dict[str, Callable[[Summary], str]] = {
    "nodes": lambda summary: "–" if summary.nodes is None else str(summary.nodes),
    "steps": lambda summary: f"{summary.steps:,}",
    "training": lambda summary: words.seconds(summary.seconds),
    "set-up": lambda summary: words.seconds(summary.setup_s),
    "payload": lambda summary: words.size(summary.bytes_codec),
    "gRPC": lambda summary: words.size(summary.bytes_grpc),
    "interface": lambda summary: words.size(summary.bytes_interface),
    "refused messages": _refused,
    "most memory a node": lambda summary: f"{max(summary.memory_mb):.0f} MB" if summary.memory_mb else "–",
}
RUN_COLUMNS = tuple(_RUN_CELLS)


def run_facts(results: Results) -> list[RunFacts]:
    """Every run that has a folder, finished or not, with its three byte counts."""
    facts = []
    for run in results.comparison.runs:
        summary = run.summary
        why = [*run.distrust] if not run.trusted else []
        why += [summary.reason] if summary.reason and not any(summary.reason in text for text in why) else []
        why += [note for note in run.notes if note not in why]
        cells = tuple(cell(summary) for cell in _RUN_CELLS.values())
        facts.append(RunFacts(run.label, run.seed, summary.status, run.trusted, "; ".join(why), cells))
    return facts


def readable_time(stamp: str) -> str:
    """An ISO 8601 time as "14 March 2026, 09:26 UTC"; any other text unchanged."""
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".strip()


def flatten(content: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted name, value) rows."""
    if isinstance(content, dict):
        return [row for key, value in content.items() for row in flatten(value, f"{prefix}.{key}" if prefix else key)]
    if isinstance(content, list):
        return [(prefix, ", ".join(str(item) for item in content))]
    return [(prefix, "–" if content is None else str(content))]


def environment_facts(results: Results) -> list[tuple[str, list[tuple[str, str]]]]:
    """Environments as (title, rows): rows that all runs share, then those that differ between runs."""
    tables = {f"{run.label}, seed {run.seed}": flatten(run.environment.facts()) for run in results.comparison.runs}
    tables = {name: rows for name, rows in tables.items() if rows}
    if not tables:
        return []
    shared = [row for row in next(iter(tables.values())) if all(row in rows for rows in tables.values())]
    own = [
        (f"{name}: {key}", text) for name, rows in tables.items() for key, text in rows if (key, text) not in shared
    ]
    whose = "every run" if len(tables) > 1 else "the run"
    return [
        (title, rows)
        for title, rows in ((f"Environment of {whose}", shared), ("Differences between runs", own))
        if rows
    ]
