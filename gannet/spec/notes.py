"""Settings that take no effect in a run, and differences between arms that a ranking does not know of, in sentences.

They are no mistakes: arms share settings, and a short trial of a long spec is one. But the reader of the result must
know. What a method's or a task's setting needs to act is declared there (`first_acts`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the report reads recorded specs, without models
    from gannet.spec.run_spec import ComparisonSpec, RunSpec


def comparison_notes(comparison: ComparisonSpec) -> list[str]:
    """The notes of all arms, each once, and those on their differences."""
    arms = comparison.arms
    each = {name: idle_settings(arm) for name, arm in arms.items()}
    found = []
    for note in dict.fromkeys(note for notes in each.values() for note in notes):
        whose = [name for name, notes in each.items() if note in notes]
        found.append(note if len(whose) == len(arms) else f"{', '.join(whose)}: {note}")
    starts = {name: arm.start_from.title if arm.start_from is not None else "" for name, arm in arms.items()}
    return [*found, *different_ends({name: arm.stop.model_dump() for name, arm in arms.items()}),
            *different_starts(starts)]  # fmt: skip


def different_starts(starts: Mapping[str, str]) -> list[str]:
    """A note if arms, by name, begin from different weights; empty: those that the seed draws."""
    begins: dict[str, list[str]] = {}
    for name, start in starts.items():
        begins.setdefault(start, []).append(name)
    if len(begins) < 2:
        return []
    each = "; ".join(f"{', '.join(names)} from {start or 'what the seed draws'}" for start, names in begins.items())
    return [f"start_from: arms begin differently ({each}), so their scores and times are not of equal training"]


def different_ends(stops: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A note if arms, by name, have different `stop`s."""
    ends: dict[str, list[str]] = {}
    for name, stop in stops.items():
        ends.setdefault(_end(stop), []).append(name)
    if len(ends) < 2:
        return []
    each = "; ".join(f"{', '.join(names)} {end}" for end, names in ends.items())
    return [f"stop: arms end differently ({each}), so their final scores are not of equal training"]


def idle_settings(spec: RunSpec) -> list[str]:
    """The settings of a run that do nothing of what they say, and why."""
    return [
        *_too_late(spec),
        *spec.task.unused,
        *_not_modelled(spec),
        *_not_encrypted(spec),
        *_begun_elsewhere(spec),
    ]


def _too_late(spec: RunSpec) -> Iterator[str]:
    """Settings that first act after the run's end."""
    from gannet.node.players.config import parts_of

    if spec.stop.steps is not None:  # a run that ends by the clock ends with an exchange
        for player, part in (parts_of(spec) or {"": spec}).items():
            name = f"players.{player}.algorithm" if player in spec.players else "algorithm"
            for setting, (step, what) in part.algorithm.traits.first_acts.items():
                if step > spec.stop.steps:
                    yield _late(f"{name}.{setting}", what, step, spec.stop.steps)
        decay = spec.optimizer.decay_steps
        if decay is not None and decay < spec.stop.steps:
            rest = spec.stop.steps - decay
            yield (
                f"optimizer.decay_steps: {decay:,} is before the last step, {spec.stop.steps:,}: the last {rest:,} "
                "steps move nothing"
            )
    last = _most_steps(spec)
    if last is not None:
        for setting, (step, what) in spec.task.first_acts.items():
            if step > last:
                yield _late(f"task.{setting}", what, step, last)
        if spec.checkpoint_every is not None and spec.checkpoint_every > last:
            yield _late("checkpoint_every", "a checkpoint to resume from is made", spec.checkpoint_every, last)
    if spec.stop.seconds is not None:
        for number, entry in enumerate(spec.links.schedule):
            if entry.at_s >= spec.stop.seconds:
                yield (
                    f"links.schedule.{number}: nothing changes at {entry.at_s:g} s, since the run ends after "
                    f"{spec.stop.seconds:g} s"
                )


def _late(setting: str, what: str, step: int, last: int) -> str:
    return f"{setting}: {what} at step {step:,} first, and the run ends with step {last:,} at the latest"


def _most_steps(spec: RunSpec) -> int | None:
    """The most steps that a run can have; None: not known. By the clock it ends a period late at most."""
    if spec.stop.steps is not None:
        return spec.stop.steps
    if spec.stop.seconds is None or spec.pace_ms is None:
        return None
    pace_ms = min([spec.pace_ms, *spec.node_pace_ms.values()])
    period = max(part.algorithm.traits.exchange_every for part in spec.methods)
    return ceil(1000 * spec.stop.seconds / pace_ms) + period


def _not_modelled(spec: RunSpec) -> Iterator[str]:
    if spec.fabric_kind.modelled:
        if spec.engine != "auto":
            yield f"engine: {spec.engine} does nothing on fabric {spec.fabric}, whose links are a model"
        if spec.links.stack != type(spec.links.stack)():
            yield f"links.stack: does nothing on fabric {spec.fabric}, which has no TCP"


def _not_encrypted(spec: RunSpec) -> Iterator[str]:
    if spec.encrypt is None and spec.fabric_kind.encrypts and not spec.encrypted:
        yield f"encrypt: messages are not encrypted, as they are on fabric {spec.fabric}: {_why_plain(spec)}"
    elif spec.encrypt and not any(part.algorithm.traits.exchanges for part in spec.methods):
        yield f"encrypt: does nothing, since nodes of {spec.algorithm.title} send each other nothing"


def _why_plain(spec: RunSpec) -> str:
    return f"{spec.algorithm.title} {spec.algorithm.traits.not_encrypted.partition(':')[0]}"


def _begun_elsewhere(spec: RunSpec) -> Iterator[str]:
    start = type(spec.task).model_fields.get("start")  # of a game: where it begins
    whole = spec.start_from is not None and not spec.start_from.players
    if whole and start is not None and spec.task.model_dump()["start"] != start.default:
        yield "task.start: does nothing, since start_from gives all values"


def _end(stop: Mapping[str, Any]) -> str:
    """ "after 20 steps or 45 s" """
    words = {"steps": "{:,} steps", "seconds": "{:g} s", "score": "a score of {:g}"}
    each = [text.format(stop[name]) for name, text in words.items() if stop.get(name) is not None]
    return f"after {' or '.join(each)}"
