"""Writes a plan as settings of containerlab's `tools netem`: the JSON that `show --format json` prints, and a script.

Impairments apply to what leaves an interface. The topology is one link for each pair of nodes: eth1 leads to the
first of the other nodes, by rank, eth2 to the second, and so on.
"""

from __future__ import annotations

import json
import shlex
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


def export_network(plans: Sequence[InterfacePlan]) -> Exported:
    """`netem.json` of all nodes (node0, node1 …), and `netem.sh`, whose `clear` resets every interface.

    Delays are rounded to the microsecond, rates to kbit/s, which is what containerlab has.
    """
    paths = list(directed_paths(plans))
    settings: dict[str, list[dict[str, object]]] = {f"node{rank}": [] for rank in range(len(plans))}
    lines, resets = [], []
    for path in paths:
        setting = _setting(path)
        settings[f"node{path.src}"].append(setting)
        where = ["containerlab", "tools", "netem", "set", "-n", f"node{path.src}", "-i", str(setting["interface"])]
        options = [
            word
            for option, key in (
                ("--delay", "delay"), ("--jitter", "jitter"), ("--loss", "packet_loss"), ("--rate", "rate"),
                ("--corruption", "corruption"),
            )
            if setting[key]
            for word in (option, str(setting[key]))
        ]  # fmt: skip
        lines.append(shlex.join([*where, *options]) + ' "$@"')
        resets.append(shlex.join(where) + ' "$@"')
    script = [
        "#!/bin/sh",
        "# sh netem.sh -t FILE.clab.yml sets the impairments; sh netem.sh clear -t FILE.clab.yml removes them.",
        "set -eu",
        'if [ "${1:-}" = clear ]; then',
        "shift",
        *resets,
        "exit",
        "fi",
        *lines,
        "",
    ]
    return Exported(
        {"netem.json": json.dumps(settings, indent=2) + "\n", "netem.sh": "\n".join(script)},
        (
            *held_links(plans),
            *losses_of_figures(paths, ("jitter_ms", "normal", "corrupt_percent")),
            *_rounded(paths),
            *shared_rates(plans),
            *queues(plans),
        ),
    )


def interface(path: DirectedPath) -> str:
    """The sender's interface that leads to the receiver."""
    return f"eth{path.dst + (path.dst < path.src)}"


def _setting(path: DirectedPath) -> dict[str, object]:
    figures = path.figures
    return {
        "interface": interface(path),
        "delay": _time(figures.delay_ms),
        "jitter": _time(figures.jitter_ms),
        "packet_loss": _percent(figures.any_loss_percent),
        "rate": 0 if path.rate_bps is None else max(1, round(path.rate_bps / 1000)),
        "corruption": _percent(figures.corrupt_percent),
    }


def _time(value_ms: float) -> str:
    """A duration in Go's notation: milliseconds, to the microsecond; empty: none."""
    return f"{plain(round(value_ms, 3))}ms" if round(value_ms, 3) else ""


def _percent(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _rounded(paths: Sequence[DirectedPath]) -> list[str]:
    notes = []
    if odd := sorted({path.rate_bps for path in paths if path.rate_bps is not None and path.rate_bps % 1000}):
        notes.append(f"rates: rounded to kbit/s ({odd[0]} bit/s)")
    delays = {ms for path in paths for ms in (path.figures.delay_ms, path.figures.jitter_ms)}
    if odd_ms := sorted(ms for ms in delays if round(ms, 3) != ms):
        notes.append(f"delays: rounded to microseconds ({odd_ms[0]:g} ms)")
    return notes
