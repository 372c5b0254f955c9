"""Sixty-four nodes that all talk to each other: more pairs than the kernel's neighbour table has entries."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gannet.netem.sandbox import Sandbox
from gannet.netem.shaping.commands import apply_commands
from tests.netem.link_lab import node_plan

pytestmark = pytest.mark.real("links")

TOOL = str(Path(__file__).parents[1] / "pairs_tool.py")
ADDRESSES = tuple(f"10.77.3.{10 + n}" for n in range(64))


def test_every_pair_gets_through() -> None:
    """All namespaces share the 1024 entries of gc_thresh3; permanent ones, which the plan makes, do not count."""
    with Sandbox() as sandbox:
        sandbox.add_network(ADDRESSES)
        hardware = {}
        for rank, address in enumerate(ADDRESSES):
            (shown,) = json.loads(sandbox.run("ip -j link show mesh0", f"node{rank}"))
            hardware[address] = shown["address"]
        for rank in range(len(ADDRESSES)):
            plan = replace(node_plan(rank, addresses=ADDRESSES), hardware=hardware)
            for command in apply_commands(plan, "nfqueue")[0]:
                if not command.may_fail:
                    sandbox.run(command.argv, f"node{rank}", stdin=command.stdin or "")
        assert json.loads(sandbox.run([sys.executable, TOOL, *ADDRESSES])) == []
