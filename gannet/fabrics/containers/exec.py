"""Runs programs in the container of a node: `docker exec`, on the machine where the container is.

A cluster is identified by its labels (Compose's project, Swarm's service), and a node's rank by its mesh address:
ranks follow addresses, as in gannet.fabrics.containers.fabric.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from gannet.fabrics.exec_errors import NoNode
from gannet.fabrics.namespaces.exec import variables

# Label of the containers of a cluster's nodes: Compose's service, or the end of Swarm's.
_COMPOSE_PROJECT, _COMPOSE_SERVICE = "com.docker.compose.project", "com.docker.compose.service"
_STACK, _STACK_SERVICE = "com.docker.stack.namespace", "com.docker.swarm.service.name"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_END_S, _TRIES = 5.0, 20
# A container's process does not end with `docker exec`, so it writes its pid to a file.
_WITH_WORD = 'word=$1; shift; echo $$ > "$word" && exec "$@"'
_END_IT = 'read -r pid < "$1" && kill -s "$2" "$pid"'


@dataclass(frozen=True)
class ContainerPlace:
    """A node's container, and all nodes' mesh addresses by rank."""

    rank: int
    container: str
    addresses: tuple[str, ...]


def find_container(port: int | None, rank: int) -> ContainerPlace:
    """The container of node `rank` in the cluster whose operator API is published on `port`, or in the only one.

    Raises NoNode.
    """
    clusters: dict[str, list[tuple[IPv4Address, str]]] = {}
    endpoints: dict[int, str] = {}
    stacks: set[str] = set()
    for described in _running():
        labels: dict[str, str] = described["Config"].get("Labels") or {}
        name = labels.get(_COMPOSE_PROJECT) or labels.get(_STACK)
        service = labels.get(_COMPOSE_SERVICE) or labels.get(_STACK_SERVICE, "").removeprefix(f"{name}_")
        if name is None:
            continue
        if _STACK in labels:
            stacks.add(name)
        if service == "controller":
            endpoints |= dict.fromkeys(_published(described), name)
        elif service == "node" and (address := _mesh_address(described)):
            clusters.setdefault(name, []).append((address, described["Id"]))
    chosen = endpoints.get(port) if port is not None else None
    if chosen is None and len(clusters) > 1:
        raise NoNode(f"{len(clusters)} clusters are up ({', '.join(sorted(clusters))}): say which with --controller")
    chosen = chosen or next(iter(clusters), "")
    nodes = sorted(clusters.get(chosen, []))
    if not nodes:
        raise NoNode("nothing is up: no network of this machine (gannet net up, gannet run) and no node's container")
    if chosen in stacks:
        _all_here(chosen, len(nodes))
    if not 0 <= rank < len(nodes):
        raise NoNode(f"there is no node {rank} on this machine: its nodes are 0 to {len(nodes) - 1}")
    return ContainerPlace(rank, nodes[rank][1], tuple(str(address) for address, _ in nodes))


def controller_at(port: int) -> str | None:
    """The container that serves a cluster's operator API on this port of the machine; None: no container does."""
    for described in _running():
        labels: dict[str, str] = described["Config"].get("Labels") or {}
        if labels.get(_COMPOSE_SERVICE) == "controller" and port in _published(described):
            return str(described["Id"])
    return None


def run_in(place: ContainerPlace, command: Sequence[str]) -> int:
    """Run `command` in a node's container, with this process's standard streams; returns its exit status.

    It sees the container's files and is root of the container, with the container's few capabilities. SIGINT,
    SIGTERM and SIGHUP are passed on to it.
    """
    word = f"/tmp/gannet-exec-{secrets.token_hex(6)}"
    options = ["-i", *(["-t"] if sys.stdin.isatty() and sys.stdout.isatty() else [])]
    for name, value in variables(place.rank, place.addresses).items():
        options += ["-e", f"{name}={value}"]
    argv = ["docker", "exec", *options, place.container, "sh", "-c", _WITH_WORD, "sh", word, *command]
    received: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        received.append(number)
        end = ["docker", "exec", place.container, "sh", "-c", _END_IT, "sh", word, signal.Signals(number).name[3:]]
        for _ in range(_TRIES):  # it may not have written its pid yet
            if subprocess.run(end, capture_output=True).returncode == 0:
                return
            time.sleep(0.1)

    before = {number: signal.signal(number, pass_on) for number in _SIGNALS}
    try:
        with subprocess.Popen(argv) as client:
            status = client.wait()
        if status < 0 and not received:  # the client was killed: its program must not outlive it
            pass_on(signal.SIGTERM, None)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        with suppress(OSError, subprocess.TimeoutExpired):
            rm = ["docker", "exec", place.container, "rm", "-f", word]
            subprocess.run(rm, capture_output=True, timeout=_END_S)
    return 128 - status if status < 0 else status


def _running() -> list[dict[str, Any]]:
    """The engine's description of every running container; none where there is no engine."""
    if shutil.which("docker") is None:
        return []
    ids = subprocess.run(["docker", "ps", "-q", "--no-trunc"], capture_output=True, text=True, env=os.environ)
    if ids.returncode or not ids.stdout.split():
        return []
    inspect = ["docker", "inspect", *ids.stdout.split()]
    described: list[dict[str, Any]] = json.loads(
        subprocess.run(inspect, capture_output=True, text=True).stdout or "[]"
    )
    return described


def _all_here(stack: str, nodes: int) -> None:
    """Raise NoNode unless all nodes of a swarm's stack are on this machine: ranks follow from all addresses."""
    ask = ["docker", "service", "inspect", "-f", "{{.Spec.Mode.Replicated.Replicas}}", f"{stack}_node"]
    wanted = subprocess.run(ask, capture_output=True, text=True).stdout.strip()
    if wanted != str(nodes):
        raise NoNode(
            f"{nodes} of {wanted or 'an unknown number of'} nodes of stack {stack} are on this machine, and which is "
            "which cannot be told from here: docker exec into the container that is meant"
        )


def _mesh_address(described: dict[str, Any]) -> IPv4Address | None:
    """A node container's address in the subnet that its environment names as the mesh."""
    pairs = (entry.partition("=") for entry in described["Config"].get("Env") or ())
    subnet = next((value for name, _, value in pairs if name == "GANNET_MESH_SUBNET"), None)
    if not subnet:
        return None
    for network in described["NetworkSettings"]["Networks"].values():
        if (text := network.get("IPAddress")) and IPv4Address(text) in IPv4Network(subnet):
            return IPv4Address(text)
    return None


def _published(described: dict[str, Any]) -> list[int]:
    """Host ports that are forwarded to a container."""
    bindings = (described["NetworkSettings"].get("Ports") or {}).values()
    return [int(binding["HostPort"]) for each in bindings for binding in each or ()]
