"""Many schedules, one after the other or several at a time: what was wrong with which, and what befell them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context

from gannet.fault_search.invariants import Violation, changes, differences, violations
from gannet.fault_search.schedule import Event, Schedule, draw
from gannet.fault_search.trial import run


@dataclass(frozen=True)
class Found:
    """What one schedule came to. `status`: the outcome's; "crashed": the run ended with an exception."""

    seed: int
    method: str
    kinds: Counter[str]
    harmless: bool
    status: str
    lost: int
    returned: int
    violations: tuple[Violation, ...]


@dataclass
class Totals:
    """What all schedules so far came to."""

    schedules: int = 0
    harmless: int = 0
    lost: int = 0
    returned: int = 0
    by_method: dict[str, Counter[str]] = field(default_factory=dict)
    by_kind: Counter[str] = field(default_factory=Counter)
    schedules_of_kind: Counter[str] = field(default_factory=Counter)
    failing: list[Found] = field(default_factory=list)

    def add(self, found: Found) -> None:
        """Count one more."""
        self.schedules += 1
        self.harmless += found.harmless
        self.lost += found.lost
        self.returned += found.returned
        of_method = self.by_method.setdefault(found.method, Counter())
        of_method["schedules"] += 1
        of_method[found.status] += 1
        of_method["violated"] += bool(found.violations)
        self.by_kind += found.kinds
        self.schedules_of_kind.update(found.kinds.keys())
        if found.violations:
            self.failing.append(found)


def judge(schedule: Schedule) -> Found:
    """Run a schedule and hold it against all invariants: against the calm run too if it is harmless, else twice."""
    trial = run(schedule)
    wrong = violations(trial)
    if trial.outcome is not None:
        wrong += changes(trial, run(schedule.calm)) if schedule.harmless else differences(trial, run(schedule))
    events = Counter(line["event"] for line in trial.record.lines)
    return Found(
        schedule.seed,
        schedule.method,
        schedule.kinds(),
        schedule.harmless,
        "crashed" if trial.outcome is None else trial.outcome.status,
        events["node-lost"],
        events["node-returned"],
        tuple(wrong),
    )


def judge_seed(method: str | None, seed: int) -> Found:
    """`judge` the schedule of a seed, in whatever process."""
    return judge(draw(seed, method))


def search(seeds: Iterable[int], method: str | None = None, jobs: int = 1) -> Iterator[Found]:
    """What each of these seeds came to, in order; `jobs` processes at a time."""
    if jobs == 1:
        yield from (judge_seed(method, seed) for seed in seeds)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(partial(judge_seed, method), seeds, chunksize=8)


def shrunk(schedule: Schedule, invariant: str) -> Schedule:
    """The schedule without the events that it takes none of to violate that invariant, taken away one by one."""
    events = list(schedule.events)
    kept = True
    while kept:
        kept = False
        for event in list(events):
            fewer = [each for each in events if each is not event]
            if _violates(_with(schedule, fewer), invariant):
                events, kept = fewer, True
    if schedule.return_after_s is not None and _violates(
        replace(_with(schedule, events), return_after_s=None), invariant
    ):
        schedule = replace(schedule, return_after_s=None)
    return _with(schedule, events)


def _with(schedule: Schedule, events: list[Event]) -> Schedule:
    return replace(schedule, events=tuple(events))


def _violates(schedule: Schedule, invariant: str) -> bool:
    with suppress(ValueError):
        return any(violation.invariant == invariant for violation in judge(schedule).violations)
    return False
