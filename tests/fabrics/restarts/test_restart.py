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
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from gannet.experiment.runner import run_one
from gannet.experiment.take_up import DIARY
from gannet.fabrics.containers import make_credentials
from gannet.fabrics.recovery.mark import MARK
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
        self.nodes: list[subprocess.Popen[bytes]] = []
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

    def controller(self, back_s: float = 60.0) -> subprocess.Popen[bytes]:
        out, alive = str(self.folder / "out"), str(self.folder / "alive" / "alive")
        more = {"spec": str(self.spec), "out": out, "alive": alive, "nodes": NODES, "back_s": back_s}
        return self.start("controller", "controller.log", **more)

    def start_nodes(self) -> None:
        places = [{"host": f"node{rank}", "mesh": f"127.0.0.{rank + 2}"} for rank in range(NODES)]
        self.nodes = [self.start("node", f"node-{rank}.log", **place) for rank, place in enumerate(places)]

    def steps(self, run: Path | None = None) -> Counter[tuple[int, int]]:
        path = (run or self.run) / "steps.jsonl"
        whole = [text for text in path.read_text().splitlines(keepends=True) if text.endswith("\n")]
        return Counter((line["node"], line["step"]) for line in map(json.loads, whole))

    def reach(self, step: int) -> None:
        """Wait until every node's step is recorded."""

        def reached() -> bool:
            return (self.run / "steps.jsonl").exists() and all((rank, step) in self.steps() for rank in range(NODES))

        self.wait_until(f"step {step} of all nodes", reached)

    def wait_until(self, what: str, true: Callable[[], bool]) -> None:
        try:
            wait_until(what, true)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-4000:] for path in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        for process in self.processes:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill it, with all that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def clusters(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    with ExitStack() as stack:

        def start(**changes: Any) -> Cluster:
            cluster = Cluster(tmp_path, {**SPEC, **changes})
            stack.callback(cluster.close)
            cluster.start_nodes()
            return cluster

        yield start


def test_training_continues_while_the_controller_is_away_and_nothing_is_lost(
    clusters: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster = clusters()
    first = cluster.controller()
    cluster.reach(10)
    end(first)
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
    assert not (cluster.run / DIARY).exists() and not (tmp_path / "out" / MARK).exists()


def test_a_comparison_whose_controller_is_killed_between_two_runs_is_made_once(
    clusters: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster = clusters(seeds=[1, 2], stop={"steps": 60})
    first, seeds = cluster.controller(), [cluster.run, cluster.run.with_name("seed-2")]
    cluster.wait_until("the first run's summary", (seeds[0] / "summary.json").exists)
    end(first)
    before = (seeds[0] / "steps.jsonl").read_bytes()
    second = cluster.controller()
    assert second.wait(400) == 0, cluster.log()
    assert (seeds[0] / "steps.jsonl").read_bytes() == before
    for run in seeds:
        assert cluster.steps(run) == Counter((rank, step) for rank in range(NODES) for step in range(1, 61))
        assert read_run(run).summary.status == "finished"
    assert [folder.name for folder in (tmp_path / "out" / "run").iterdir()].count("seed-2") == 1
    assert (tmp_path / "out" / "report.html").exists()


def test_a_node_whose_container_dies_while_the_controller_is_away_is_lost_alone(
    clusters: Callable[..., Cluster],
) -> None:
    cluster = clusters(stop={"steps": 100})
    first = cluster.controller()
    cluster.reach(10)
    end(first)
    end(cluster.nodes[2])
    second = cluster.controller(back_s=3.0)
    assert second.wait(400) == 0, cluster.log()
    (lost,) = [line for line in lines(cluster.run, "links.jsonl") if line.get("event") == "node-lost"]
    assert lost["node"] == 2 and "did not come back" in lost["reason"]
    made = cluster.steps()
    assert max(made.values()) == 1 and {(0, 100), (1, 100)} <= made.keys() and (2, 100) not in made
    assert read_run(cluster.run).summary.status == "finished"


def losses(run: Path) -> dict[tuple[int, int], Any]:
    return {(line["node"], line["step"]): line["loss"] for line in lines(run)}


def states(run: Path) -> dict[str, bytes]:
    paths = sorted((run / "snapshots").glob("*/*.safetensors"))
    return {f"{path.parent.name}/{path.name}": load_file(path)["x"].numpy().tobytes() for path in paths}
