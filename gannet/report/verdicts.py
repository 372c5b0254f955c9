"""Which arm wins in time, in bytes and in final quality, and how sure that is: the verdicts of a
comparison.

Each verdict compares the arm that leads with every other by an effect and its 95% interval; the intervals
are widened so that all of a verdict's hold together. With one seed the spread is unknown and the verdict is
an indication. Untrusted arms never take part while trusted ones are there, and are called untrusted
wherever they appear. The words are in gannet.report.sentences.
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
# On one seed, arms closer than this are called level: there is no spread to hold a smaller gap against.
CLOSE_RATIO = 1.05


@dataclass(frozen=True)
class Measure:
    """One thing arms are ranked by: how to get it, how to compare it, how to write it."""

    key: Literal["time", "bytes", "quality"]
    kind: Literal["ratio", "difference"]
    of: Callable[[ArmResult], Estimate | None]
    write: Callable[[float | None], str]

    def centre(self, values: Sequence[float]) -> float:
        """The mean that goes with the effect: geometric for ratios (arithmetic when a value is not
        positive)."""
        return geometric_mean(values) if self.kind == "ratio" and min(values) > 0 else fmean(values)


TIME = Measure("time", "ratio", lambda arm: arm.seconds_to_target, words.seconds)
BYTES = Measure("bytes", "ratio", lambda arm: arm.bytes_to_target, words.size)
QUALITY = Measure("quality", "difference", lambda arm: arm.final_score, words.number)


@dataclass(frozen=True)
class Contrast:
    """The first-ranked arm against one other. The effect is oriented: above neutral means the first is
    ahead."""

    first: ArmResult
    other: ArmResult
    effect: Effect
    standing: Standing


@dataclass(frozen=True)
class Verdict:
    """One measure's outcome: `ranked` best first, `zero` the arms without a ratio (they sent nothing, or
    were at the target from the start), `shut_out` the untrusted arms that were measured but may not win."""

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
        """False when every arm in the verdict is untrusted (trusted ones shut the others out)."""
        return all(arm.trusted for arm in (*self.ranked, *self.zero)) and bool(self.ranked or self.zero)

    @property
    def leader(self) -> ArmResult | None:
        """The arm that is ahead of every other one, by what the seeds show or indicate; None when level or
        alone."""
        return self.ranked[0] if self.confidence in ("shown", "indication") else None


@dataclass(frozen=True)
class Conclusion:
    """What a comparison says, how far it can be trusted and why."""

    trust: Trust
    trust_reason: str
    time: Verdict
    bytes: Verdict
    quality: Verdict


def conclude(results: Results) -> Conclusion:
    """All verdicts of a comparison."""
    trust, reason = judge_trust(results)
    return Conclusion(trust, reason, *(judge(results, measure) for measure in (TIME, BYTES, QUALITY)))


def judge(results: Results, measure: Measure) -> Verdict:
    """Rank the arms by one measure and hold the first against each of the others."""
    measured = [arm for arm in results.arms if measure.of(arm) is not None]
    candidates = [arm for arm in measured if arm.trusted] or measured
    # Turned around where more is better, so that smaller is better everywhere below.
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
    """How far the comparison as a whole can be trusted, and why in a few words."""
    runs = results.comparison.runs
    missing = sum(1 for arm in results.comparison.arms if not arm.runs)
    untrusted = sum(1 for run in runs if run.finished and not run.trusted)
    broken = sum(1 for run in runs if not run.finished) + missing
    if not untrusted and not broken and runs:
        start = "every run finished" if len(runs) > 1 else "the run finished"
        if results.model:
            return "trusted", f"{start}; links are a model, so seconds are predictions"
        return "trusted", f"{start}, and its links were measured to be as ordered"
    if len(runs) == 1 and not missing:
        why = "; ".join(runs[0].distrust) or runs[0].summary.reason or "the run did not finish"
        return "untrusted", why
    parts = [words.plural(untrusted, "run is untrusted", "runs are untrusted")] if untrusted else []
    parts += [words.plural(broken, "run did not finish", "runs did not finish")] if broken else []
    if not any(arm.trusted for arm in results.arms):
        return "untrusted", f"{words.listing(parts)}, and no trusted run is left"
    return "partly trusted", f"{words.listing(parts)}; the conclusion rests on the others"
