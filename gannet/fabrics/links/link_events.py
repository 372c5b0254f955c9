"""Lines of the run folder about configured links: each node's links, and the steps of traces and ramps."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from statistics import fmean
from typing import Any

from gannet.fabrics.job import LinkChange
from gannet.netem.links.plan import InterfacePlan

_SERIES_S = 10.0
_CONFIGURED_S = 1.0


class Configured:
    """What the run folder records of each node's configured links.

    `edges` (sender, receiver): the links that training uses; only these are recorded. `rank_of`: by address.
    """

    def __init__(self, rank_of: Mapping[str, int], edges: Collection[tuple[int, int]]) -> None:
        self._rank_of, self._edges = rank_of, set(edges)
        self._known: dict[int, InterfacePlan] = {}
        self._told_s = float("-inf")

    def lines(self, plans: Sequence[InterfacePlan], t_s: float, step: bool = False) -> list[dict[str, Any]]:
        """All nodes' plans; at a `step` of a series, those that have changed, at most once a second."""
        if step and t_s - self._told_s < _CONFIGURED_S:
            return []
        changed = {r: plan for r, plan in enumerate(plans) if not step or self._known.get(r) != plan}
        self._known |= changed
        self._told_s = t_s
        return [{"t_s": t_s, "event": "configured", "node": r, **self._words(r, plan)} for r, plan in changed.items()]

    def _words(self, rank: int, plan: InterfacePlan) -> dict[str, Any]:
        paths = {
            str(source): {
                "delay_ms": path.delay_ms,
                "jitter_ms": path.jitter_ms,
                "loss_percent": path.any_loss_percent,
            }
            for source, path in ((self._rank_of[address], path) for address, path in plan.paths.items())
            if (source, rank) in self._edges
        }
        for address, limit in plan.limits.items():
            if str(self._rank_of[address]) in paths:
                paths[str(self._rank_of[address])]["rate_bps"] = limit.rate_bps
        return {"up_bps": _now_bps(plan, "up"), "down_bps": _now_bps(plan, "down"), "paths": paths}


class Series:
    """The steps applied under one name: when, how late, and their values at the nodes that they change.

    `edges` (sender, receiver): the links that training uses; a node's delay and loss are means over those that end
    there. `rank_of`: by address.
    """

    def __init__(
        self, name: str, by: str, begun_s: float, rank_of: Mapping[str, int], edges: Collection[tuple[int, int]]
    ) -> None:
        self.name, self.by = name, by
        self.steps = self.skipped = 0
        self.late_max_s = 0.0
        self._rank_of, self._edges = rank_of, edges
        self._told_s = begun_s
        self._at_s: list[float] = []
        self._late_ms: list[float] = []
        self._nodes: dict[int, list[tuple[int, InterfacePlan]]] = {}

    def add(self, at_s: float, now_s: float, skipped: int, plans: Mapping[int, InterfacePlan]) -> None:
        """Add a step due at `at_s` and applied at `now_s`; `skipped` steps before it came too late to be applied."""
        self.steps += 1
        self.skipped += skipped
        self.late_max_s = max(self.late_max_s, now_s - at_s)
        for rank, plan in plans.items():
            self._nodes.setdefault(rank, []).append((len(self._at_s), plan))
        self._at_s.append(round(at_s, 3))
        self._late_ms.append(round(1000 * (now_s - at_s), 1))

    def line(self, now_s: float, last: bool = False) -> dict[str, Any] | None:
        """The steps not yet recorded, as one line, when it is time for one; None: not yet.

        `nodes`: by rank, the numbers of the steps (in this line) that changed something there, and the values.
        """
        if not self._at_s or (now_s - self._told_s < _SERIES_S and not last):
            return None
        nodes = {str(rank): self._columns(rank, changes) for rank, changes in sorted(self._nodes.items())}
        line = {"t_s": now_s, "event": "series", "name": self.name, "at_s": self._at_s, "late_ms": self._late_ms}
        self._told_s, self._at_s, self._late_ms, self._nodes = now_s, [], [], {}
        return {**line, "nodes": nodes}

    def _columns(self, rank: int, changes: list[tuple[int, InterfacePlan]]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {"step": [step for step, _ in changes]}
        for way in ("up", "down"):
            columns[f"{way}_bps"] = [_now_bps(plan, way) for _, plan in changes]
        for field in ("delay_ms", "any_loss_percent"):
            values = [self._mean(rank, plan, field) for _, plan in changes]
            columns[field.removeprefix("any_")] = values
        return columns

    def _mean(self, rank: int, plan: InterfacePlan, field: str) -> float | None:
        found = [
            getattr(path, field)
            for address, path in plan.paths.items()
            if (self._rank_of[address], rank) in self._edges
        ]
        return round(fmean(found), 6) if found else None


def _now_bps(plan: InterfacePlan, way: str) -> int | None:
    """The rate of an access link: 0 where it holds what is sent."""
    return 0 if getattr(plan, f"{way}_held") else getattr(plan, f"{way}_bps")


def largest_shrinking_ms(before: Sequence[InterfacePlan], after: Sequence[InterfacePlan]) -> float:
    """By how much the delay of a path shrinks at most, from one state of all nodes' links to the next.

    0 or less: none does.
    """
    shrinking = (
        was.paths[source].delay_ms - path.delay_ms
        for was, plan in zip(before, after, strict=True)
        for source, path in plan.paths.items()
    )
    return max(shrinking, default=0.0)


def upcoming(schedule: Collection[LinkChange], under_way: Container[str], t_s: float) -> list[tuple[float, str]]:
    """The remaining schedule, in seconds from `t_s`: of a series its beginning, or its end if it is in progress."""
    found = [(change.at_s - t_s, change.links.describe()) for change in schedule if not change.name]
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for change in schedule:
        first.setdefault(change.name, change.at_s)
        last[change.name] = change.at_s
    for name in first.keys() - {""}:
        found.append((last[name] - t_s, f"end of {name}") if name in under_way else (first[name] - t_s, name))
    return sorted(found)
