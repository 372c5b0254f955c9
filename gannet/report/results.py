"""Numbers from run folders: for each arm of a comparison, the runs that count, and the measures behind verdicts and
tables (final score, seconds and bytes to a common target, cost of a step).

Only finished runs count. If an arm has trusted runs, only those are counted and the others are set aside. An arm
without a trusted run is measured all the same, but has trusted = False. Scores count only where they are taken alike
(see gannet.report.yardstick); all else of a run that is scored otherwise counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from gannet.ledger.reader import Arm, Comparison, Run
from gannet.report.statistics import Better, Crossing, Estimate, Target, common_target, estimate, first_crossing
from gannet.report.yardstick import Yardstick, common, told, yardstick


@dataclass(frozen=True)
class StepCost:
    """Mean seconds of a step over steps and nodes, by activity, and the lower bound where known.

    `hidden_s`: seconds in which the node was both computing and sending.
    """

    compute_s: float
    wait_s: float
    other_s: float
    bound_s: float | None
    hidden_s: float | None = None

    @property
    def total_s(self) -> float:
        return self.compute_s + self.wait_s + self.other_s

    @property
    def waiting_share(self) -> float | None:
        return self.wait_s / self.total_s if self.total_s > 0 else None


@dataclass(frozen=True)
class ArmResult:
    """An arm's measures over its counted runs; None where no counted run has the number. `step_s` is the mean over
    steps: with an exchange every few steps only, a median would miss the exchanges.

    `scored`: the counted runs whose scores can be compared with other arms'. `apart`: how the arm is scored instead,
    in words, where none can; its scores are then in `own_score` alone. `apart_runs`: the same for single runs."""

    arm: Arm
    index: int
    label: str
    counted: tuple[Run, ...]
    set_aside: tuple[Run, ...]
    unfinished: tuple[Run, ...]
    scored: tuple[Run, ...]
    apart: str
    apart_runs: tuple[tuple[Run, str], ...]
    final_score: Estimate | None
    own_score: Estimate | None
    seconds_to_target: Estimate | None
    bytes_to_target: Estimate | None
    reached: int
    at_most: bool
    step_s: float | None
    step_p95_s: float | None
    bytes_per_step: float | None
    cost: StepCost | None

    @property
    def name(self) -> str:
        return self.arm.name

    @property
    def trusted(self) -> bool:
        """True if every counted run is trusted; False also if no run counts."""
        return bool(self.counted) and all(run.trusted for run in self.counted)

    @property
    def distrust(self) -> tuple[str, ...]:
        """The reasons why its runs are untrusted (counted or set aside), each once."""
        runs = (*self.counted, *self.set_aside)
        return tuple(dict.fromkeys(reason for run in runs for reason in run.distrust))

    @property
    def shown(self) -> Run | None:
        """The run that represents the arm where only one can be shown (images, links): preferably a counted one."""
        runs = (*self.counted, *self.set_aside, *self.unfinished)
        return runs[0] if runs else None


@dataclass(frozen=True)
class Results:
    """A comparison in numbers. `score_name` and `better` are the same for all arms."""

    comparison: Comparison
    arms: tuple[ArmResult, ...]
    target: Target | None
    score_name: str
    better: Better

    @property
    def model(self) -> bool:
        return any(run.model for run in self.comparison.runs)

    def arm(self, name: str) -> ArmResult:
        return next(arm for arm in self.arms if arm.name == name)


def measure(comparison: Comparison) -> Results:
    """All numbers of a comparison. Only scores of the averaged model are used."""
    chosen = {arm.name: _choose(arm) for arm in comparison.arms}
    reference = _reference(comparison, [counted for counted, _, _ in chosen.values()])
    better: Better = reference.better if reference else "lower"
    alike = {name: _alike(counted, reference) for name, (counted, _, _) in chosen.items()}
    target = common_target({name: [score_curve(run) for run in runs] for name, (runs, _) in alike.items()}, better)
    arms = []
    for index, arm in enumerate(comparison.arms):
        counted, set_aside, unfinished = chosen[arm.name]
        scored, others = alike[arm.name]
        crossings = _crossings(scored, target, against="seconds")
        byte_crossings = _crossings(scored, target, against="bytes")
        cost = step_cost(counted)
        complete = bool(scored) and len(crossings) == len(scored)
        arms.append(
            ArmResult(
                arm=arm,
                index=index,
                label=arm.label,
                counted=counted,
                set_aside=set_aside,
                unfinished=unfinished,
                scored=scored,
                apart=others[0][1] if others and not scored else "",
                apart_runs=others,
                final_score=_final(scored),
                own_score=_final(scored or [run for run, how in others if how == others[0][1]]),
                # A mean over only the seeds that reached the target would flatter the arm.
                seconds_to_target=estimate([c.x for c in crossings]) if complete else None,
                bytes_to_target=estimate([c.x for c in byte_crossings]) if complete else None,
                reached=len(crossings),
                at_most=any(crossing.at_most for crossing in crossings),
                step_s=cost.total_s if cost is not None else None,
                step_p95_s=_mean([run.summary.step_s.p95 for run in counted]),
                bytes_per_step=_mean([bytes_per_step(run) for run in counted]),
                cost=cost,
            )
        )
    return Results(comparison, tuple(arms), target, reference.score_name if reference else "score", better)


def score_curve(run: Run, against: str = "seconds") -> list[tuple[float, float]]:
    """Points (x, score) of the averaged model; x: seconds of training, or payload bytes of all nodes."""
    return [
        (score.t_s if against == "seconds" else float(score.bytes), score.score)
        for score in run.scores
        if score.of == "average" and score.score is not None
    ]


def final_score(run: Run) -> float | None:
    """The score at the end of the run: the summary's, else the last scored snapshot's (None if it diverged)."""
    if run.summary.final_score is not None:
        return run.summary.final_score
    averages = [score.score for score in run.scores if score.of == "average"]
    return averages[-1] if averages else None


def bytes_per_step(run: Run) -> float | None:
    """Mean payload bytes per step, summed over nodes."""
    if run.summary.bytes_codec is not None and run.summary.steps:
        return run.summary.bytes_codec / run.summary.steps
    numbers = {step.step for step in run.steps}
    return sum(step.codec_bytes for step in run.steps) / len(numbers) if numbers else None


def step_cost(runs: Sequence[Run]) -> StepCost | None:
    """Mean cost of a step over nodes, steps and the given runs."""
    steps = [step for run in runs for step in run.steps]
    if not steps:
        return None
    bounds = [run.summary.lower_bound_s.total_s for run in runs if run.summary.lower_bound_s is not None]
    return StepCost(
        compute_s=fmean(step.compute_s for step in steps),
        wait_s=fmean(step.wait_s for step in steps),
        other_s=fmean(step.other_s for step in steps),
        bound_s=_mean(bounds),
        hidden_s=_mean([run.summary.hidden_s for run in runs]),
    )


def node_costs(run: Run) -> dict[int, StepCost]:
    """Mean cost of a step for each node of one run (without the bound, which is the run's)."""
    by_node = defaultdict(list)
    for step in run.steps:
        by_node[step.node].append(step)
    return {
        node: StepCost(
            fmean(s.compute_s for s in steps),
            fmean(s.wait_s for s in steps),
            fmean(s.other_s for s in steps),
            None,
        )
        for node, steps in sorted(by_node.items())
    }


def _choose(arm: Arm) -> tuple[tuple[Run, ...], tuple[Run, ...], tuple[Run, ...]]:
    """(counted, set aside, unfinished) runs of an arm."""
    finished = [run for run in arm.runs if run.finished]
    trusted = tuple(run for run in finished if run.trusted)
    unfinished = tuple(run for run in arm.runs if not run.finished)
    if not trusted:
        return tuple(finished), (), unfinished
    return trusted, tuple(run for run in finished if not run.trusted), unfinished


def _reference(comparison: Comparison, counted: Sequence[Sequence[Run]]) -> Yardstick | None:
    """The yardstick of most arms: of the trusted ones, if there are any; of any scored run where none counts."""
    trusted = [runs for runs in counted if all(run.trusted for run in runs)]
    for arms in (trusted, counted, [comparison.runs]):
        if found := common([[one for run in runs if (one := yardstick(run))] for runs in arms]):
            return found
    return None


def _alike(runs: Sequence[Run], reference: Yardstick | None) -> tuple[tuple[Run, ...], tuple[tuple[Run, str], ...]]:
    """(the runs that are scored like `reference`, the runs that are scored otherwise and how)."""
    alike, apart = [], []
    for run in runs:
        found = yardstick(run)
        if found is None or reference is None or run.scores[-1].fault:  # its end is not known
            continue
        if differences := found.differences(reference):
            apart.append((run, told(differences)))
        else:
            alike.append(run)
    return tuple(alike), tuple(apart)


def _final(runs: Sequence[Run]) -> Estimate | None:
    return estimate([score for run in runs if (score := final_score(run)) is not None])


def _crossings(runs: Sequence[Run], target: Target | None, against: str) -> list[Crossing]:
    if target is None:
        return []
    found = (first_crossing(score_curve(run, against), target.level, target.better) for run in runs)
    return [crossing for crossing in found if crossing is not None]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
