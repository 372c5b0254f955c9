"""Nodes in containers: started by Docker Compose on this machine, or by Docker Swarm on several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gannet.fabrics.kind import FabricKind

# How to read the nodes' logs and how to add nodes, by fabric: for messages of the controller.
LOGS = {"compose": "docker compose logs node", "swarm": "docker service logs …_node"}
SCALE = {"compose": "docker compose up -d --scale node", "swarm": "docker service scale …_node"}


def _compose(spec_text: str, folder: Path, nodes: int, say: Callable[[str], None]) -> int:
    from gannet.fabrics.containers.compose import run_compose  # not needed where a spec is only read

    return run_compose(spec_text, folder, nodes, say)


def _swarm(spec_text: str, folder: Path, nodes: int, say: Callable[[str], None]) -> int:
    from gannet.fabrics.containers.swarm import run_swarm

    return run_swarm(spec_text, folder, nodes, say)


FABRICS = (
    FabricKind("compose", launch=_compose, operators=True, can_encrypt=True, encrypts=True),
    FabricKind("swarm", launch=_swarm, operators=True, can_encrypt=True, encrypts=True),
)
