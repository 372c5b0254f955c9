"""Inner links that several pairs pass, as entries of a spec's `links.shared`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gannet.netem.links.pairs.shared import SharedLink, unplaceable
from gannet.netem.links.plan import Edge

# A spec is read as all YAML is, which takes seconds for this many pairs.
MOST_NAMED_PAIRS = 50_000


@dataclass(frozen=True)
class Inner:
    """A link inside the network, and the pairs (by rank) whose routes pass it."""

    name: str
    rate_bps: float
    pairs: Sequence[Edge]

    @property
    def both_ways(self) -> bool:
        """Whether one rate is that of both directions."""
        pairs = {*self.pairs}
        return any((b, a) in pairs for a, b in pairs)


def entries_of(inner: Sequence[Inner], texts: Mapping[float, str]) -> tuple[list[dict[str, Any]], list[Inner]]:
    """The entries of `shared:`, and the links that it cannot hold; `texts`: the rates as a spec writes them."""
    entries: list[dict[str, Any]] = []
    left: list[Inner] = []
    named = 0
    for link in inner:
        rate = texts.get(link.rate_bps)
        entry = _pairs(link.pairs)
        named += len(entry.get("pairs", ()))
        fits = rate is not None and not SharedLink(rate_bps=round(link.rate_bps), pairs=tuple(link.pairs)).misfit()
        if not fits or named > MOST_NAMED_PAIRS:
            left.append(link)
        else:
            entries.append({"rate": rate, **entry})
    return entries, left


def modelled_only(inner: Sequence[Inner]) -> bool:
    """Whether no engine limits all of these links."""
    return bool(unplaceable(_links(inner), core=True))


def where(inner: Sequence[Inner]) -> str:
    """Which fabrics limit all of these links."""
    if modelled_only(inner):
        return "some pairs pass several of them, which fabric: virtual alone limits: elsewhere take `shared` out"
    if unplaceable(_links(inner)):
        return "fabric: virtual and namespaces limit them, not containers: there take `shared` out"
    return "every fabric limits them"


def _links(inner: Sequence[Inner]) -> list[SharedLink]:
    return [SharedLink(rate_bps=round(link.rate_bps), pairs=tuple(link.pairs)) for link in inner]


def _pairs(pairs: Sequence[Edge]) -> dict[str, Any]:
    """From these nodes to those, where that is the same."""
    sources, targets = sorted({a for a, _ in pairs}), sorted({b for _, b in pairs})
    if {*pairs} == {(a, b) for a in sources for b in targets if a != b}:
        return {"from": sources, "to": targets}
    return {"pairs": [f"{a}>{b}" for a, b in pairs]}
