"""A network of end nodes as a file describes it: directed links, the route of each pair, what a plan can hold of it.

Along a route delays add up, losses combine as 1 − ∏(1 − p), the squares of jitters add up, and the least rate counts.
The link at which all routes of one node begin (or end), and no route of another node, is its access link, whose rate
the plan holds as the node's own. All other rates limit each pair, and those of inner links all of their pairs
together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite, prod, sqrt
from typing import Any

from gannet.netem.formats.base import FormatError, Imported
from gannet.netem.formats.graphs.shared_links import Inner, entries_of, modelled_only, where
from gannet.netem.links.jitter import most_jitter_ms
from gannet.netem.links.profile import FASTEST_BPS, SLOWEST_BPS
from gannet.netem.links.yaml_files import short

LONGEST_MS = 60_000.0
_DIGITS = 6


@dataclass(frozen=True, eq=False)
class Link:
    """One direction of a link, or one whose directions are alike. `loss` and `duplicate` are shares, 0 to 1.

    `jitter_ms`: a standard deviation, or the half-width of a uniform one; all of a file are one of these. `shared`:
    whether the pairs that use it share its rate.
    """

    name: str
    delay_ms: float
    rate_bps: float | None = None
    loss: float = 0.0
    jitter_ms: float = 0.0
    duplicate: float = 0.0
    shared: bool = True

    def __post_init__(self) -> None:
        for what, value in (("delay", self.delay_ms), ("jitter", self.jitter_ms)):
            if not (isfinite(value) and value >= 0):
                raise FormatError(f"{self.name}: a {what} of {short(value)} ms: it must be 0 or more")
        for what, value in (("loss", self.loss), ("share of duplicates", self.duplicate)):
            if not 0 <= value <= 1:
                raise FormatError(f"{self.name}: a {what} of {short(value)}: it must lie between 0 and 1")
        if self.rate_bps is not None and not (isfinite(self.rate_bps) and self.rate_bps > 0):
            raise FormatError(f"{self.name}: a rate of {short(self.rate_bps)} bit/s: it must be more than 0")


Route = Sequence[Link]


@dataclass(frozen=True)
class Figures:
    """What one directed pair gets: `rate_bps` is the pair's own limit, None: that of its ends."""

    delay_ms: float
    rate_bps: int | None = None
    loss_percent: float = 0.0
    jitter_ms: float = 0.0
    duplicate_percent: float = 0.0


@dataclass
class Network:
    """`pairs[a, b]` of each two end nodes; `up_bps[a]`, `down_bps[a]`: rates of access links, None: no cap.

    `shared`: the other links that several pairs pass; `modelled`: see Imported.
    """

    names: Sequence[str]
    pairs: dict[tuple[int, int], Figures]
    up_bps: list[int | None]
    down_bps: list[int | None]
    distribution: str = "normal"
    shared: list[Inner] = field(default_factory=list)
    modelled: bool = False
    facts: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def rate_in_plan(rate_bps: float | None) -> int | None:
    """A rate that a plan holds, bit/s; None: above all of them, or no limit. Raises FormatError below."""
    if rate_bps is None or rate_bps > FASTEST_BPS:
        return None
    if rate_bps < SLOWEST_BPS:
        raise FormatError(f"a rate of {rate_bps:g} bit/s: the slowest that a link can have is {SLOWEST_BPS} bit/s")
    return round(rate_bps)


def counted(count: int, what: str) -> str:
    """ "1 node", "2,000 nodes"."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def rate_text(rate_bps: int | None) -> str:
    """How a spec writes it: 78028800bit, 10Mbit, unlimited."""
    if rate_bps is None:
        return "unlimited"
    for unit, size in (("Gbit", 10**9), ("Mbit", 10**6), ("kbit", 10**3)):
        if rate_bps % (size // 1000 if size > 1000 else size) == 0 and rate_bps >= size:
            return f"{rate_bps / size:.10g}{unit}"
    return f"{rate_bps}bit"


def network_of(
    names: Sequence[str], route: Callable[[int, int], Route | None], distribution: str = "normal", access: bool = True
) -> Network:
    """The network of these end nodes; `route(a, b)` are the links from one to another, None: there is no way.

    `access`: whether the rates of access links become the nodes'; else all are limits of each pair.
    Raises FormatError.
    """
    size = len(names)
    routes = {(a, b): route(a, b) for a in range(size) for b in range(size) if a != b}
    users: dict[Link, list[tuple[int, int]]] = {}
    of: dict[Link, tuple[set[int], set[int]]] = {}  # the sources of its pairs, and the nodes that all have in common
    first: list[set[Link | None]] = [set() for _ in range(size)]
    last: list[set[Link | None]] = [set() for _ in range(size)]
    into: dict[Link, set[int]] = {}
    for (a, b), links in routes.items():
        first[a].add(links[0] if links else None)
        last[b].add(links[-1] if links else None)
        for link in set(links or ()):
            if link.rate_bps is not None:
                users.setdefault(link, []).append((a, b))
                sources, common = of.setdefault(link, (set(), {a, b}))
                sources.add(a)
                common &= {a, b}
                into.setdefault(link, set()).add(b)
    up: list[Link | None] = [None] * size
    down: list[Link | None] = [None] * size
    for node in range(size if access else 0):
        begin, end = (ends[node].copy().pop() if len(ends[node]) == 1 else None for ends in (first, last))
        both = begin is end and begin in of and node in of[begin][1]
        if begin in of and begin.shared and (both or of[begin][0] == {node}):
            up[node] = begin
        if end in of and end.shared and (both or into[end] == {node}):
            down[node] = end
    up_bps = [rate_in_plan(link.rate_bps) if link else None for link in up]
    down_bps = [rate_in_plan(link.rate_bps) if link else None for link in down]
    network = Network(names, {}, up_bps, down_bps, distribution=distribution)
    for (a, b), links in routes.items():
        if links is None:
            network.pairs[a, b] = Figures(0.0, loss_percent=100.0)
            continue
        own = [link.rate_bps for link in links if link is not up[a] and link is not down[b] and link.rate_bps]
        network.pairs[a, b] = _figures(links, min(own, default=None))
    held = {*up, *down}
    network.shared = [
        Inner(link.name, link.rate_bps or 0, pairs)
        for link, pairs in users.items()
        if len(pairs) > 1 and link not in held and link.shared and rate_in_plan(link.rate_bps)
    ]
    if fast := [link for link in users if link.rate_bps and link.rate_bps > FASTEST_BPS]:
        most = max(link.rate_bps or 0 for link in fast)
        network.dropped.append(
            f"the rate of {counted(len(fast), 'link')} of up to {most / 1e9:g} Gbit/s: a plan holds "
            f"{FASTEST_BPS / 1e9:g} Gbit/s at most, so they limit nothing"
        )
    return network


def _figures(links: Route, rate_bps: float | None) -> Figures:
    return Figures(
        delay_ms=sum(link.delay_ms for link in links),
        rate_bps=rate_in_plan(rate_bps),
        loss_percent=100 * (1 - prod(1 - link.loss for link in links)),
        jitter_ms=sqrt(sum(link.jitter_ms**2 for link in links)),
        duplicate_percent=100 * (1 - prod(1 - link.duplicate for link in links)),
    )


def _say_left(network: Network, left: Sequence[Inner]) -> None:
    if not left:
        return
    worst = min(left, key=lambda link: link.rate_bps / len(link.pairs))
    count = len(worst.pairs)
    network.dropped.append(
        f"{counted(len(left), 'inner link')} that several pairs share: each pair has the whole rate for "
        f"itself, so {count} pairs at once get {count} times the {worst.rate_bps / 1e6:g} Mbit/s of {worst.name}"
    )


def _shared(network: Network, changing: Sequence[Inner]) -> list[dict[str, Any]]:
    texts = {link.rate_bps: rate_text(rate_in_plan(link.rate_bps)) for link in network.shared}
    entries, left = entries_of([link for link in network.shared if link not in changing], texts)
    left += changing
    _say_left(network, left)
    if entries:
        kept = [link for link in network.shared if link not in left]
        network.modelled = modelled_only(kept)
        network.facts.append(
            f"{counted(len(kept), 'inner link')} that several pairs share ({kept[0].name}{' …' * (len(kept) > 1)}): "
            + where(kept)
        )
        if both := [link for link in kept if link.both_ways]:
            network.facts.append(
                f"one rate for both directions together, as the file has it, of {counted(len(both), 'inner link')}"
            )
    return entries


def links_mapping(network: Network, changing: Sequence[Inner] = ()) -> dict[str, Any]:
    """The `links:` of a spec. What it cannot hold is added to `dropped`. Raises FormatError.

    `changing`: those of its shared links that change later, which a schedule cannot say: they are not written.
    """
    size, pairs = len(network.names), network.pairs
    if long := [pair for pair, each in pairs.items() if each.delay_ms > LONGEST_MS]:
        a, b = long[0]
        raise FormatError(
            f"{network.names[a]} to {network.names[b]}: a delay of {pairs[a, b].delay_ms:g} ms: {LONGEST_MS:g} ms "
            "at most"
        )
    links: dict[str, Any] = {}
    access = [_access(up, down) for up, down in zip(network.up_bps, network.down_bps, strict=True)]
    if any(access) and all(each == access[0] for each in access):
        links["profile"] = access[0]
    elif any(access):
        links["nodes"] = {rank: each for rank, each in enumerate(access) if each}

    def table(cell: Callable[[Figures], Any], self_cell: Any) -> list[list[Any]]:
        return [[self_cell if a == b else cell(pairs[a, b]) for b in range(size)] for a in range(size)]

    # A matrix has neither jitter nor duplicates: pairs with any are edges, and empty in the matrices.
    odd = {pair: each for pair, each in pairs.items() if each.jitter_ms or each.duplicate_percent}
    plain = {each for pair, each in pairs.items() if pair not in odd}
    links["delays_ms"] = table(lambda pair: round(pair.delay_ms, _DIGITS) if pair in plain else None, 0)
    if any(pair.loss_percent for pair in plain):
        links["losses_percent"] = table(lambda pair: round(pair.loss_percent, _DIGITS) if pair in plain else None, 0)
    if any(pair.rate_bps for pair in pairs.values()):
        links["rates"] = table(lambda pair: None if pair.rate_bps is None else rate_text(pair.rate_bps), None)
    if shared := _shared(network, changing):
        links["shared"] = shared
    cut = 0
    for (a, b), each in odd.items():
        fields, was_cut = edge_fields(each, network.distribution)
        cut += was_cut
        links.setdefault("edges", {})[f"{a}>{b}"] = fields
    if cut:
        network.dropped.append(say_cut(cut, network.distribution))
    return links


def say_cut(cut: int, distribution: str) -> str:
    share = "half of the delay" if distribution == "normal" else "the delay"
    return f"jitter of {counted(cut, 'pair')} above what their delay holds ({share}): cut to that"


def edge_fields(pair: Figures, distribution: str, rate: bool = False) -> tuple[dict[str, Any], bool]:
    """The profile of a single link, and whether its jitter was cut to what its delay holds.

    With `rate` it says the rate too, unlimited where there is none.
    """
    fields: dict[str, Any] = {"rate": rate_text(pair.rate_bps)} if rate else {}
    fields["delay_ms"] = round(pair.delay_ms, _DIGITS)
    jitter_ms = min(pair.jitter_ms, most_jitter_ms(distribution, pair.delay_ms))
    rounded = round(jitter_ms, _DIGITS)
    if rounded > most_jitter_ms(distribution, fields["delay_ms"]):
        rounded = round(rounded - 10**-_DIGITS, _DIGITS)
    if rounded > 0:
        fields |= {"jitter_ms": rounded, "jitter_distribution": distribution}
    if pair.loss_percent or rate:
        fields["loss_percent"] = round(pair.loss_percent, _DIGITS)
    if pair.duplicate_percent:
        fields["duplicate_percent"] = round(pair.duplicate_percent, _DIGITS)
    return fields, pair.jitter_ms > jitter_ms + 1e-9


def _access(up_bps: int | None, down_bps: int | None) -> dict[str, str]:
    if up_bps is None and down_bps is None:
        return {}
    if up_bps == down_bps:
        return {"rate": rate_text(up_bps)}
    return {"down": rate_text(down_bps), "up": rate_text(up_bps)}


def imported(name: str, network: Network, links: dict[str, Any] | None = None) -> Imported:
    """What a format's `read` returns; `links`: its own mapping, where it has changes. Raises FormatError."""
    links = links_mapping(network) if links is None else links
    content = {"nodes": len(network.names), "links": links}
    facts = [*network.facts, *_spans(network)]
    return Imported(name, "links", content, network.names, facts, network.dropped, network.modelled)


def _spans(network: Network) -> list[str]:
    delays = [pair.delay_ms for pair in network.pairs.values()]
    found = [
        f"delays of pairs, one way: {min(delays):.6g} to {max(delays):.6g} ms, {sum(delays) / len(delays):.6g} on "
        "average"
    ]
    if (loss := max(pair.loss_percent for pair in network.pairs.values())) > 0:
        found.append(f"loss of pairs: up to {loss:.4g}%")
    for what, rates in (
        ("down rates of nodes", network.down_bps),
        ("up rates of nodes", network.up_bps),
        ("rates of pairs", [pair.rate_bps for pair in network.pairs.values()]),
    ):
        if known := [rate for rate in rates if rate is not None]:
            found.append(f"{what}: {min(known) / 1e6:.6g} to {max(known) / 1e6:.6g} Mbit/s")
    return found
