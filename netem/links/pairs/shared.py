"""Shared links: bottlenecks inside the network that several pairs of nodes pass together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gannet.netem.links.pairs.shared_limit import SharedLimit
from gannet.netem.links.plan import Edge, InterfacePlan, profile_buffer_bytes
from gannet.netem.links.profile import FASTEST_FRAMES_BPS, LinkProfile, parse_rate_bps

# Of an engine's classes each is sure of a small rate, which must not add up to that of all.
_LEAST_BPS_OF_A_PAIR = 2_000


class SharedLink(BaseModel):
    """A rate that all packets of these directed `pairs` (by rank) share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate_bps: Annotated[int, Field(strict=True, ge=1000, le=FASTEST_FRAMES_BPS), BeforeValidator(parse_rate_bps)]
    pairs: tuple[Edge, ...]

    @property
    def at(self) -> str:
        """Where it is limited: see SharedLimit."""
        if len({target for _, target in self.pairs}) == 1:
            return "receiver"
        return "sender" if len({source for source, _ in self.pairs}) == 1 else "core"

    def describe(self) -> str:
        """For example "60 Mbit/s shared by 0→2 1→2"."""
        named = " ".join(f"{a}→{b}" for a, b in self.pairs) if len(self.pairs) <= 8 else f"{len(self.pairs)} pairs"
        return f"{self.rate_bps / 1e6:g} Mbit/s shared by {named}"

    def misfit(self) -> str:
        """What is wrong with it, and what to do; empty: nothing."""
        if len(set(self.pairs)) < len(self.pairs):
            twice = next(pair for pair in self.pairs if self.pairs.count(pair) > 1)
            return f"{twice[0]}>{twice[1]} is there twice: keep one"
        if looped := [a for a, b in self.pairs if a == b]:
            return f"{looped[0]}>{looped[0]} is no link: it goes from a node to itself"
        if len(self.pairs) < 2:
            return "a link that a single pair has is an edge: say edges: {SENDER>RECEIVER: {rate: …}}"
        if self.rate_bps < _LEAST_BPS_OF_A_PAIR * len(self.pairs):
            least = _LEAST_BPS_OF_A_PAIR * len(self.pairs) // 1000
            return f"rate: {len(self.pairs)} pairs need {least}kbit at least"
        return ""


def shared_limits(
    shared: Sequence[SharedLink], profile_of: Callable[[int], LinkProfile], addresses: Sequence[str]
) -> tuple[list[tuple[SharedLimit, ...]], list[tuple[SharedLimit, ...]]]:
    """What each node's plan says of the shared links, by rank: those that it receives from, and that it limits as the
    sender. Buffers are those of that node's access link, at the lesser of the two rates; in the core, at the link's.
    """
    ins: list[tuple[SharedLimit, ...]] = [()] * len(addresses)
    outs: list[tuple[SharedLimit, ...]] = [()] * len(addresses)
    for number, link in enumerate(shared):
        targets = sorted({target for _, target in link.pairs})
        ends = [(target, ins, 1) for target in targets]
        ends += [(link.pairs[0][0], outs, 0)] if link.at == "sender" else []
        for rank, found, end in ends:
            profile = profile_of(rank)
            access_bps = profile.down_bps if end else profile.up_bps
            slowest_bps = min(link.rate_bps, access_bps or link.rate_bps)
            peers = tuple(addresses[pair[1 - end]] for pair in link.pairs if pair[end] == rank)
            found[rank] += (
                SharedLimit(
                    number,
                    link.rate_bps,
                    profile_buffer_bytes(profile, link.rate_bps if link.at == "core" else slowest_bps),
                    peers,
                    len(link.pairs),
                    link.at,  # type: ignore[arg-type]
                    profile.buffer_packets,
                ),
            )
    return ins, outs


def unplaceable(shared: Sequence[SharedLink], core: bool = False) -> str:
    """The shared link that no engine can limit, by its place, and what to do; empty: none.

    An engine limits what one node receives, or sends, and with `core` what passes where all nodes' links meet; one
    path passes one such link at each of these places.
    """
    known: dict[tuple[str, Edge], int] = {}
    for number, link in enumerate(shared):
        if link.at == "core" and not core:
            return (
                f"{number}: its pairs have several senders and several receivers, and containers' links are limited "
                "where they begin or end: give each receiver (or each sender) a shared link of its own, or use "
                "fabric: namespaces or virtual"
            )
        for pair in link.pairs:
            if (other := known.setdefault((link.at, pair), number)) != number:
                return (
                    f"{number}: {pair[0]}>{pair[1]} is in shared.{other} too, at the same place, where a path passes "
                    "one of them: leave it out of one, or use fabric: virtual"
                )
    return ""


def shared_pairs(plans: Sequence[InterfacePlan]) -> list[tuple[frozenset[Edge], int]]:
    """The pairs (by rank) and the rate (bit/s) of each shared link, from the plans of all nodes by rank."""
    ranks = {plan.address: rank for rank, plan in enumerate(plans)}
    pairs: dict[int, set[Edge]] = {}
    rates: dict[int, int] = {}
    for to, limit in ((to, limit) for to, plan in enumerate(plans) for limit in plan.shared_in):
        pairs.setdefault(limit.number, set()).update((ranks[address], to) for address in limit.peers)
        rates[limit.number] = limit.rate_bps
    return [(frozenset(pairs[number]), rates[number]) for number in pairs]
