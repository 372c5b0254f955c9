"""What every writer needs of a plan: what it writes, and its directed paths with a rate for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gannet.netem.links.plan import InterfacePlan, PathPlan, path_rate_bps


class ExportError(ValueError):
    """A plan that a format cannot hold at all; the message says why and what to do."""


@dataclass(frozen=True)
class Exported:
    """Texts by file name, and `notes`: a sentence for everything of the plan that they do not hold."""

    files: dict[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DirectedPath:
    """A path from rank `src` to rank `dst`; `rate_bps`: the least of the sender's, the link's and the receiver's."""

    src: int
    dst: int
    rate_bps: int | None
    figures: PathPlan


def directed_paths(plans: Sequence[InterfacePlan]) -> Iterator[DirectedPath]:
    """All paths of a network, by sender, then by receiver."""
    for src, sender in enumerate(plans):
        for dst, receiver in enumerate(plans):
            if src != dst:
                yield DirectedPath(src, dst, path_rate_bps(plans, src, dst), receiver.paths[sender.address])


def shared_rates(plans: Sequence[InterfacePlan]) -> list[str]:
    """A note where nodes share a rate between several peers, for formats that have a rate for each path alone."""
    notes = []
    if len(plans) > 2 and any(rate is not None for plan in plans for rate in (plan.up_bps, plan.down_bps)):
        notes.append(
            "rates of access links: here all peers of a node share its up and down; there each path has the lesser "
            "of the two for itself"
        )
    if any(plan.shared_in for plan in plans):
        notes.append("shared links: here several paths share one; there each path has its rate for itself")
    return notes


def losses_of_figures(paths: Iterable[DirectedPath], held: Iterable[str]) -> list[str]:
    """A note for each figure that some path has and a format, which has those of `held`, lacks; with its value."""
    lacking = []
    chosen = {*held}
    every = list(paths)
    for name, what in _WORDS.items():
        values = sorted({found for path in every if (found := _value(path.figures, name))}, key=str)
        if values and name not in chosen:
            shown = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values[:3])
            lacking.append(f"{what}: left out ({shown}{', …' if len(values) > 3 else ''})")
    return lacking


_WORDS = {
    "jitter_ms": "jitter_ms",
    "jitter_distribution": "jitter_distribution, of jitter that is not uniform",
    "normal": "jitter_distribution, of jitter that is not normal",
    "jitter_order": "jitter_order: keep (there jitter reorders packets)",
    "jitter_correlation_percent": "jitter_correlation_percent",
    "bursts": "gilbert_elliott (there losses are at random, as many of them)",
    "reorder_percent": "reorder_percent",
    "duplicate_percent": "duplicate_percent",
    "corrupt_percent": "corrupt_percent",
}


def _value(path: PathPlan, name: str) -> object:
    """A figure where it means anything; None: not."""
    if name == "bursts":
        return f"{path.bursts.loss_percent:.3g}%" if path.bursts else None
    if name in ("jitter_distribution", "normal"):
        usual = "uniform" if name == "jitter_distribution" else "normal"
        return path.jitter_distribution if path.jitter_ms and path.jitter_distribution != usual else None
    if name == "jitter_order":
        return "keep" if path.wanders else None
    return getattr(path, name) or None


def queues(plans: Sequence[InterfacePlan]) -> list[str]:
    """A note on the buffers in front of rates, for formats that say nothing of them."""
    limited = [plan for plan in plans if plan.rates_bps()]
    if not limited:
        return []
    kinds = sorted({plan.queue for plan in limited})
    return [f"buffers and queues ({', '.join(kinds)}): left out; there the tool's own apply"]


def held_links(plans: Sequence[InterfacePlan]) -> list[str]:
    """A note where a link is in an outage that keeps packets."""
    ranks = [str(rank) for rank, plan in enumerate(plans) if plan.up_held or plan.down_held]
    return [f"outages that keep packets, at node {', '.join(ranks)}: left out"] if ranks else []
