"""Which arm wins in time, in bytes and in final quality, and how certain that is: the verdicts of a comparison.

Each verdict compares the leading arm with every other by an effect and its 95% interval, widened so that all
intervals of a verdict hold together. With one seed the spread is unknown and the verdict is an indication. Untrusted
arms do not take part if there are trusted ones, and are called untrusted wherever they appear.
gannet.report.sentences puts verdicts into words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean
from typing import Literal

from gannet.report import formatting as words
from gannet.report.results import ArmResult, Results
from gannet.report.statistics import Effect, Estimate, difference_effect, ratio_effect

Confidence = Literal["shown", "indication", "not shown", "none"]
Standing = Literal["ahead", "indication", "level"]
Trust = Literal["trusted", "partly trusted", "untrusted"]
# With one seed, arms closer than this are called level: there is no spread to compare a smaller gap with.
CLOSE_RATIO = 1.05


@dataclass(frozen=True)
class Measure:
    """A measure that arms are ranked by: how to get it from an arm, compare it and write it."""

    key: Literal["time", "bytes", "quality"]
    kind: Literal["ratio", "difference"]
    of: Callable[[ArmResult], Estimate | None]
    write: Callable[[float | None], str]

    def centre(self, values: Sequence[float]) -> float:
        """The mean that matches the effect: geometric for ratios (arithmetic if a value is not positive)."""
        return geometric_mean(values) if self.kind == "ratio" and min(values) > 0 else fmean(values)


TIME = Measure("time", "ratio", lambda arm: arm.seconds_to_target, words.seconds)
BYTES = Measure("bytes", "ratio", lambda arm: arm.bytes_to_target, words.size)
QUALITY = Measure("quality", "difference", lambda arm: arm.final_score, words.number)


@dataclass(frozen=True)
class Contrast:
    """The first-ranked arm against one other. An effect above neutral means that the first is ahead."""

    first: ArmResult
    other: ArmResult
    effect: Effect
    standing: Standing


@dataclass(frozen=True)
class Verdict:
    """One measure's outcome: `ranked` best first, `zero` the arms without a ratio (they sent nothing, or met the
    target from the start), `shut_out` the untrusted arms that were measured but cannot win."""

    measure: Measure
    ranked: tuple[ArmResult, ...]
    zero: tuple[ArmResult, ...]
    shut_out: tuple[ArmResult, ...]
    contrasts: tuple[Contrast, ...]

    @property
    def confidence(self) -> Confidence:
        standings = {contrast.standing for contrast in self.contrasts}
        if not standings:
            return "none"
        return "not shown" if "level" in standings else "indication" if "indication" in standings else "shown"

    @property
    def trusted(self) -> bool:
        """False if every arm in the verdict is untrusted (trusted ones exclude the others)."""
        return all(arm.trusted for arm in (*self.ranked, *self.zero)) and bool(self.ranked or self.zero)

    @property
    def leader(self) -> ArmResult | None:
        """The arm that is ahead of every other one, as far as the seeds show or indicate; None if level or alone."""
        return self.ranked[0] if self.confidence in ("shown", "indication") else None


@dataclass(frozen=True)
class Conclusion:
    """The verdicts of a comparison, how far it can be trusted and why."""

    trust: Trust
    trust_reason: str
    time: Verdict
    bytes: Verdict
    quality: Verdict


def conclude(results: Results) -> Conclusion:
    trust, reason = judge_trust(results)
    return Conclusion(trust, reason, *(judge(results, measure) for measure in (TIME, BYTES, QUALITY)))


def judge(results: Results, measure: Measure) -> Verdict:
    """Rank the arms by one measure and compare the first with each of the others."""
    measured = [arm for arm in results.arms if measure.of(arm) is not None]
    candidates = [arm for arm in measured if arm.trusted] or measured
    # Negated where higher is better, so that smaller is better everywhere below.
    sign = -1.0 if measure.key == "quality" and results.better == "higher" else 1.0
    values = {arm.index: [sign * value for value in found.values] for arm in candidates if (found := measure.of(arm))}
    zero = [arm for arm in candidates if measure.kind == "ratio" and min(values[arm.index]) <= 0]
    ranked = sorted((arm for arm in candidates if arm not in zero), key=lambda arm: measure.centre(values[arm.index]))
    contrasts = []
    for other in ranked[1:]:
        compare = ratio_effect if measure.kind == "ratio" else difference_effect
        effect = compare(values[ranked[0].index], values[other.index], comparisons=len(ranked) - 1)
        standing = _standing(effect, values[ranked[0].index], values[other.index])
        contrasts.append(Contrast(ranked[0], other, effect, standing))
    shut_out = tuple(arm for arm in measured if arm not in candidates)
    return Verdict(measure, tuple(ranked), tuple(zero), shut_out, tuple(contrasts))


def _standing(effect: Effect, first: Sequence[float], other: Sequence[float]) -> Standing:
    if effect.shown is not None:
        # The first has the better centre, so an interval without the neutral value lies on its side.
        return "ahead" if effect.shown else "level"
    if effect.kind == "ratio":
        return "level" if effect.value < CLOSE_RATIO else "indication"
    scale = max(abs(fmean(first)), abs(fmean(other)))
    return "level" if effect.value <= (CLOSE_RATIO - 1) * scale else "indication"


def judge_trust(results: Results) -> tuple[Trust, str]:
    """How far the comparison as a whole can be trusted, and a short reason."""
    runs = results.comparison.runs
    missing = sum(1 for arm in results.comparison.arms if not arm.runs)
    untrusted = sum(1 for run in runs if run.finished and not run.trusted)
    broken = sum(1 for run in runs if not run.finished) + missing
    if not untrusted and not broken and runs:
        start = "every run finished" if len(runs) > 1 else "the run finished"
        if results.model:
            return "trusted", f"{start}; links are a model, so seconds are predictions"
        return "trusted", f"{start}, and its links matched their profile when measured"
    if len(runs) == 1 and not missing:
        why = "; ".join(runs[0].distrust) or runs[0].summary.reason or "the run did not finish"
        return "untrusted", why
    parts = [words.plural(untrusted, "run is untrusted", "runs are untrusted")] if untrusted else []
    parts += [words.plural(broken, "run did not finish", "runs did not finish")] if broken else []
    if not any(arm.trusted for arm in results.arms):
        return "untrusted", f"{words.listing(parts)}, and there is no trusted run"
    return "partly trusted", f"{words.listing(parts)}; the conclusion is based on the others"
