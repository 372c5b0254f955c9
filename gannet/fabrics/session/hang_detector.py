"""Detects nodes that hang: the suspected nodes, and the grace that each is given."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from gannet.fabrics.session.deadlines import LONGEST_BACKOFF_S, is_cut, limits_of
from gannet.netem.links.plan import InterfacePlan
from gannet.node.config import ExchangeConfig


def grace_of(
    limits: ExchangeConfig, plans: Sequence[InterfacePlan], message_bytes: int, compute_s: float
) -> float | None:
    """Seconds for which a suspected node may neither move nor wait before it counts as hanging.

    `limits` are those that the nodes have, `plans` those that apply now, by rank: on slower links, a waiting node
    takes longer to report that it waits. None: links are cut, and a hanging node cannot be told from the others.
    """
    if is_cut(plans):
        return None
    slower_s = limits_of(plans, message_bytes, len(plans), compute_s).patience_s - limits.patience_s
    return limits.patience_s / 4 + max(0.0, slower_s)


class HangDetector:
    """Suspected nodes, and how much of its grace each has used up under the present links.

    Every second uses up the share that the links of that second allow (see grace_of). No node is judged while links
    are cut, nor until TCP must have noticed their return; all then start over.
    """

    def __init__(self, limits: ExchangeConfig, message_bytes: int, compute_s: float) -> None:
        self._limits, self._message_bytes, self._compute_s = limits, message_bytes, compute_s
        self._used: dict[int, float] = {}  # share of its grace
        self._steps: dict[int, int] = {}
        self._from_s: dict[int, float] = {}
        self._plans: Sequence[InterfacePlan] | None = None
        self._grace_s: float | None = None
        self._now_s: float | None = None
        self._cut_s: float | None = None  # since when links are cut
        self._judging_s = 0.0  # from when on nodes may be judged

    def add(self, rank: int, step: int, from_s: float = -inf) -> None:
        """Suspect a node, which is at that step; no change if it was suspected already. Its grace begins at `from_s`
        (monotonic) at the earliest.
        """
        self._used.setdefault(rank, 0.0)
        self._steps.setdefault(rank, step)
        self._from_s.setdefault(rank, from_s)

    def drop(self, rank: int) -> None:
        """Clear a node of suspicion."""
        for of_rank in (self._used, self._steps, self._from_s):
            of_rank.pop(rank, None)

    def steps(self) -> dict[int, int]:
        """The suspected nodes, and the step at which each was."""
        return dict(self._steps)

    def hanging(self, plans: Sequence[InterfacePlan], now_s: float) -> list[int]:
        """Nodes that have used up their grace, with these plans applied since the last call (`now_s`: monotonic)."""
        passed_s = 0.0 if self._now_s is None else now_s - self._now_s
        self._now_s = now_s
        if plans is not self._plans:
            self._plans = plans
            self._grace_s = grace_of(self._limits, plans, self._message_bytes, self._compute_s)
            if self._grace_s is None:
                self._cut_s = now_s if self._cut_s is None else self._cut_s
            elif self._cut_s is not None:
                self._judging_s = max(self._judging_s, now_s + min(now_s - self._cut_s, LONGEST_BACKOFF_S))
                self._cut_s = None
        if self._grace_s is None or now_s < self._judging_s:
            self._used = dict.fromkeys(self._used, 0.0)
            return []
        for rank in self._used:
            self._used[rank] += max(0.0, min(passed_s, now_s - self._from_s[rank])) / self._grace_s
        return [rank for rank, used in self._used.items() if used > 1]
