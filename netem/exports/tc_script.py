"""Writes a plan as a shell script for each node: the commands that engine netem runs, and those that undo them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from gannet.netem.exports.paths import Exported, ExportError, held_links
from gannet.netem.links.plan import InterfacePlan
from gannet.netem.shaping.commands import Command, apply_commands, clear_commands
from gannet.netem.shaping.rules import tee_rules
from gannet.netem.shaping.tc import netem_cannot

_HEAD = """\
#!/bin/sh
# The links of node {rank}: {address} on {device}. As root, with tc and ip of iproute2, and sch_netem in the kernel.
#   sh {name}          applies them
#   sh {name} clear    removes them
# Delays and losses are of what arrives from: {sources}
# Protocols other than IPv4 and ARP do not pass.
set -eu
"""


def export_network(plans: Sequence[InterfacePlan]) -> Exported:
    """A script for each node; raises ExportError for what engine netem cannot do."""
    notes = held_links(plans)
    files = {}
    for rank, plan in enumerate(plans):
        if cannot := netem_cannot(plan):
            raise ExportError(f"node {rank}: tc cannot do this: {cannot}")
        if any(limit.at == "core" for limit in plan.shared_in):
            raise ExportError(
                f"node {rank}: tc cannot do this: a shared link whose pairs have several senders and several "
                "receivers is limited at no node; give each receiver a shared link of its own, or leave it out"
            )
        name = f"node-{rank}.sh"
        head = _HEAD.format(
            rank=rank, address=plan.address, device=plan.device, name=name, sources=" ".join(plan.paths) or "nowhere"
        )
        clearing = clear_commands(plan.device)
        clear = [_shell(command) for command in clearing if _is_ours(command, plan)]
        apply = [_shell(command) for command in apply_commands(plan, "netem")[0][len(clearing) :]]
        files[name] = "\n".join(
            [head + "clear() {", *clear, "}", "clear", 'if [ "${1:-}" = clear ]; then exit; fi', *apply, ""]
        )
    if wandering := [path.jitter_ms for plan in plans for path in plan.paths.values() if path.wanders]:
        notes.append(
            f"jitter_ms: left out (up to {max(wandering):g} ms): jitter that keeps packets in order is changed by a "
            "process; with jitter_order: reorder tc has it by itself"
        )
    if any(path.duplicate_percent for plan in plans for path in plan.paths.values()):
        notes.append("duplicate_percent: by iptables (statistic, TEE), which must be installed")
    return Exported(files, tuple(notes))


def _is_ours(command: Command, plan: InterfacePlan) -> bool:
    """Whether it undoes what such a script does: that sets no neighbours, and needs iptables for duplicates alone."""
    if command.argv[0] == "ip":
        return "neigh" not in (command.stdin or "")
    return not command.argv[0].startswith("iptables") or bool(tee_rules(plan))


def _shell(command: Command) -> str:
    words, rest = shlex.join(command.argv), " || true" if command.may_fail else ""
    words += " 2>/dev/null" if command.may_fail else ""
    return f"{words}{rest}" if command.stdin is None else f"{words} <<'END'{rest}\n{command.stdin}END"
