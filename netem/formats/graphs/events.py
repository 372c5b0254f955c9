"""Changes of a network over time as entries of a spec's `schedule`: every pair that changes gets its new figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gannet.netem.formats.base import FormatError
from gannet.netem.formats.graphs.network import Figures, Network, edge_fields, links_mapping, say_cut

MOST_ENTRIES = 2_000


def with_events(networks: Sequence[tuple[float, Network]]) -> dict[str, Any]:
    """The `links:` of a network and its later states, (seconds, network) in order; the first is at 0 s.

    All must be made without access links (network_of(…, access=False)), so that a rate that changes is one of pairs.
    What is dropped is added to the first network. Raises FormatError.
    """
    (_, first), *later = networks
    links = links_mapping(
        first, [link for link in first.shared if any(link not in network.shared for _, network in later)]
    )
    entries: list[dict[str, Any]] = []
    now, cut = first.pairs, 0
    for at_s, network in later:
        groups: dict[Figures, list[str]] = {}
        for pair, figures in network.pairs.items():
            if figures != now[pair]:
                groups.setdefault(figures, []).append(f"{pair[0]}>{pair[1]}")
        now = network.pairs
        for figures, edges in groups.items():
            fields, was_cut = edge_fields(figures, network.distribution, rate=True)
            cut += was_cut * len(edges)
            entries.append({"at_s": at_s, "profile": fields, "edges": edges})
    if len(entries) > MOST_ENTRIES:
        raise FormatError(f"{len(entries):,} changes, and {MOST_ENTRIES:,} at most: take fewer --nodes")
    if cut:
        first.dropped.append("in changes, " + say_cut(cut, first.distribution))
    if entries:
        links["schedule"] = entries
    return links
