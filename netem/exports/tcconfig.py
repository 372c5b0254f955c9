"""Writes a plan as the JSON that tcconfig's `tcset FILE --import-setting` reads and `tcshow` prints.

Delay, loss and the like apply to what leaves, one way, though tcconfig's help says "round trip". A file a node, with
a rule for each peer. Its keys have `dst_network`, which tcconfig 0.30 prints and reads (older ones: `dst-network`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from gannet.netem.exports.paths import (
    DirectedPath,
    Exported,
    directed_paths,
    held_links,
    losses_of_figures,
    queues,
    shared_rates,
)
from gannet.netem.links.plan import InterfacePlan
from gannet.netem.links.trace import plain

_HELD = ("jitter_ms", "jitter_distribution", "reorder_percent", "duplicate_percent", "corrupt_percent")


def export_network(plans: Sequence[InterfacePlan]) -> Exported:
    """`node-0.json` and so on: rates in bit/s with their unit, delays in ms, shares in per cent."""
    paths = list(directed_paths(plans))
    rules: list[dict[str, dict[str, str]]] = [{} for _ in plans]
    for path in paths:
        if rule := _rule(path):
            rules[path.src][f"dst_network={plans[path.dst].address}/32, protocol=ip"] = rule
    files = {
        f"node-{rank}.json": json.dumps({plan.device: {"outgoing": rules[rank], "incoming": {}}}, indent=4) + "\n"
        for rank, plan in enumerate(plans)
    }
    notes = [*held_links(plans), *losses_of_figures(paths, _HELD), *shared_rates(plans), *queues(plans)]
    return Exported(files, tuple(notes))


def _rule(path: DirectedPath) -> dict[str, str]:
    figures, rule = path.figures, dict[str, str]()
    if figures.delay_ms:
        rule["delay"] = f"{plain(figures.delay_ms)}ms"
    if figures.jitter_ms:
        rule["delay-distro"] = f"{plain(figures.jitter_ms)}ms"
    for key, percent in (
        ("loss", figures.any_loss_percent),
        ("duplicate", figures.duplicate_percent),
        ("corrupt", figures.corrupt_percent),
        ("reordering", figures.reorder_percent),
    ):
        if percent:
            rule[key] = f"{plain(percent)}%"
    if path.rate_bps is not None:
        rule["rate"] = f"{path.rate_bps}bps"
    return rule
