"""A controller is killed while its nodes train, and started again: real processes and connections, no links.

The truth is an undisturbed run on the virtual fabric, which has the same bits.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from gannet.experiment.runner import run_one
from gannet.experiment.take_up import DIARY
from gannet.fabrics.containers import make_credentials
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.ledger.reader import read_run
from gannet.spec.load import load_spec
from tests.support.interrupted import lines
from tests.support.patience import wait_until
from tests.support.ports import free_ports

NODES, STEPS = 3, 400
SPEC: dict[str, Any] = {
    "name": "restart",
    "fabric": "compose",
    "nodes": NODES,
    "task": {"name": "game", "dimension": 6, "noise": 0.1},
    "algorithm": {"name": "dp-oadam"},
    "pace_ms": 30,
    "snapshot_every": 50,
    "score": None,
    "stop": {"steps": STEPS},
}


class Cluster:
    """Containers as processes of this machine, which are ended with the test."""

    def __init__(self, folder: Path, spec: dict[str, Any]) -> None:
        self.folder, self.run = folder, folder / "out" / "run" / "seed-1"
        self.spec = folder / "spec.yaml"
        self.spec.write_text(yaml.safe_dump(spec), encoding="utf-8")
        (folder / "credentials").mkdir()
        make_credentials.make(folder / "credentials")
        ports = free_ports(2)
        self._common = {
            "credentials": str(folder / "credentials"),
            "control": f"127.0.0.1:{ports[0]}",
            "agents": f"127.0.0.1:{ports[1]}",
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, script: str, log: str, **more: Any) -> subprocess.Popen[bytes]:
        module = f"tests.fabrics.restarts.{script}"
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", module, json.dumps({**self._common, **more})],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def controller(self) -> subprocess.Popen[bytes]:
        out, alive = str(self.folder / "out"), str(self.folder / "alive" / "alive")
        more = {"spec": str(self.spec), "out": out, "alive": alive, "nodes": NODES}
        return self.start("controller", "controller.log", **more)

    def node(self, rank: int) -> subprocess.Popen[bytes]:
        return self.start("node", f"node-{rank}.log", host=f"node{rank}", mesh=f"127.0.0.{rank + 2}")

    def steps(self) -> Counter[tuple[int, int]]:
        path = self.run / "steps.jsonl"
        whole = [text for text in path.read_text().splitlines(keepends=True) if text.endswith("\n")]
        return Counter((line["node"], line["step"]) for line in map(json.loads, whole))

    def reach(self, step: int) -> None:
        """Wait until every node's step is recorded."""

        def reached() -> bool:
            return (self.run / "steps.jsonl").exists() and all((rank, step) in self.steps() for rank in range(NODES))

        try:
            wait_until(f"step {step} of all nodes", reached)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-4000:] for path in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, SPEC)
    yield cluster
    cluster.close()


def test_training_continues_while_the_controller_is_away_and_nothing_is_lost(
    cluster: Cluster, tmp_path: Path
) -> None:
    for rank in range(NODES):
        cluster.node(rank)
    first = cluster.controller()
    cluster.reach(10)
    first.kill()
    first.wait()
    before = cluster.steps()
    with (cluster.run / "steps.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step":11,"t_')  # as if it had been killed in the middle of a line
    assert (cluster.run / DIARY).stat().st_mode & 0o777 == 0o600
    second = cluster.controller()
    assert second.wait(400) == 0, cluster.log()

    calm = tmp_path / "calm"
    run_one(load_spec(cluster.spec, ["fabric=virtual"]).runs()[0], calm, run_virtual)
    assert max(step for _, step in before) < STEPS  # it was killed in the middle
    assert cluster.steps() == Counter((rank, step) for rank in range(NODES) for step in range(1, STEPS + 1))
    assert losses(cluster.run) == losses(calm)
    assert states(cluster.run) == states(calm)
    run = read_run(cluster.run)
    assert run.summary.status == "finished" and not run.summary.trusted
    (away,) = [line for line in lines(cluster.run, "links.jsonl") if line.get("event") == "controller-away"]
    assert any(away["detail"] == reason for reason in run.summary.reasons)
    assert not (cluster.run / DIARY).exists()


def losses(run: Path) -> dict[tuple[int, int], Any]:
    return {(line["node"], line["step"]): line["loss"] for line in lines(run)}


def states(run: Path) -> dict[str, bytes]:
    paths = sorted((run / "snapshots").glob("*/*.safetensors"))
    return {f"{path.parent.name}/{path.name}": load_file(path)["x"].numpy().tobytes() for path in paths}
