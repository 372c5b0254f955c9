"""A cluster of compose.yaml under a name, networks, ports and results folder of its own."""

from __future__ import annotations

import json
import os
import secrets
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.docker import Engine
from tests.support.images import FILE
from tests.support.ports import free_ports

_PROCESSES = """
import json, pathlib
found = []
for entry in pathlib.Path("/proc").iterdir():
    if entry.name.isdigit():
        status = dict(line.split(":", 1) for line in (entry / "status").read_text().splitlines())
        command = (entry / "cmdline").read_bytes().decode().split("\\0")
        found.append({"pid": int(entry.name), "command": " ".join(command)}
            | {key: value.strip() for key, value in status.items()})
print(json.dumps(found))
"""
_CONNECT = """
import socket, sys, time
best = 1e9
for _ in range(12):
    begun = time.monotonic()
    socket.create_connection((sys.argv[1], 7700), timeout=20).close()
    best = min(best, time.monotonic() - begun)
    time.sleep(0.1)
print(best)
"""


def wait_until(what: str, true: Callable[[], Any], patience_s: float) -> Any:
    """Poll until `true()` is something; AssertionError that says what never came."""
    end = time.monotonic() + patience_s
    while not (found := true()):
        assert time.monotonic() < end, f"waited {patience_s:.0f} s in vain until {what}"
        time.sleep(0.25)
    return found


class ComposeCluster:
    """Containers of one project. `folder`: specs/ and runs/ are made in it, runs/ owned by `owner`."""

    def __init__(self, engine: Engine, image: str, folder: Path, spec: dict[str, Any], owner: int) -> None:
        self.engine, self.project = engine, f"gannet-test-{secrets.token_hex(3)}"
        self.runs, specs = folder / "runs", folder / "specs"
        self.runs.mkdir()
        specs.mkdir()
        (specs / "spec.yaml").write_text(yaml.safe_dump(spec))
        if owner != os.geteuid():
            os.chown(self.runs, owner, owner)
        self.port, self.prometheus_port, grafana = map(str, free_ports(3))
        self.settings = {
            "GANNET_IMAGE": image, "GANNET_RUNS": str(self.runs), "GANNET_SPECS": str(specs),
            "GANNET_SPEC": "specs/spec.yaml", "GANNET_NODES": "",
            "GANNET_PORT": self.port, "GANNET_PROMETHEUS_PORT": self.prometheus_port, "GANNET_GRAFANA_PORT": grafana,
            "GANNET_MESH_SUBNET": "10.231.0.0/24", "GANNET_MGMT_SUBNET": "10.232.0.0/24",
        }  # fmt: skip

    def compose(self, *words: str, timeout_s: float = 180.0) -> str:
        """`docker compose …` of this project."""
        prefix = ("compose", "--progress", "plain", "-p", self.project, "-f", str(FILE))
        return self.engine.docker(*prefix, *words, timeout_s=timeout_s, **self.settings)

    def containers(self, service: str) -> list[str]:
        """Names of a service's containers, ended ones too, in order."""
        label = f"label=com.docker.compose.project={self.project}"
        of = f"label=com.docker.compose.service={service}"
        return sorted(
            self.engine.docker("ps", "-a", "--filter", label, "--filter", of, "--format", "{{.Names}}").split()
        )

    def inspect(self, container: str) -> dict[str, Any]:
        """What the engine says of a container."""
        (found,) = json.loads(self.engine.docker("inspect", container))
        return dict(found)

    def address(self, container: str, network: str) -> str:
        """The container's IPv4 address in `mesh` or `mgmt`."""
        networks = self.inspect(container)["NetworkSettings"]["Networks"]
        return str(networks[f"{self.project}_{network}"]["IPAddress"])

    def python(self, container: str, program: str, *arguments: str) -> str:
        """Run Python in a container."""
        return self.engine.docker("exec", container, "python", "-c", program, *arguments)

    def processes(self, container: str) -> list[dict[str, Any]]:
        """`/proc/*/status` of a container's processes, with pid and command line as the container sees them."""
        return list(json.loads(self.python(container, _PROCESSES)))

    def round_trip_s(self, container: str, other: str) -> float:
        """The quickest of some TCP handshakes over the mesh: one round trip each, and nothing of ours measures it."""
        return float(self.python(container, _CONNECT, self.address(other, "mesh")))

    def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant query to the cluster's Prometheus; nothing while it does not answer yet."""
        quoted = urllib.parse.urlencode({"query": expression})
        address = f"http://127.0.0.1:{self.prometheus_port}/api/v1/query?{quoted}"
        try:
            with urllib.request.urlopen(address, timeout=10) as got:
                return list(json.load(got)["data"]["result"])
        except (urllib.error.URLError, ConnectionError):  # Docker's proxy takes connections before it listens
            return []

    def ledger(self, arm: str) -> Path:
        """Folder of an arm's run; it may not exist yet."""
        return next(iter(self.runs.glob("*/")), self.runs / "none") / arm / "seed-1"

    def lines(self, arm: str, name: str) -> list[dict[str, Any]]:
        """Lines of a ledger file so far."""
        file = self.ledger(arm) / name
        whole = file.read_text().rpartition("\n")[0].splitlines() if file.exists() else []
        return [json.loads(line) for line in whole]

    def leftovers(self) -> dict[str, Sequence[str]]:
        """What the engine still has of this project."""
        label = f"label=com.docker.compose.project={self.project}"
        lists = {"containers": ("ps", "-a"), "networks": ("network", "ls"), "volumes": ("volume", "ls")}
        return {name: self.engine.docker(*words, "-q", "--filter", label).split() for name, words in lists.items()}
