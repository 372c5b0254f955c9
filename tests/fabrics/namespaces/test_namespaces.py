"""Whole runs on real processes and real TCP: bits, bytes, faults, and what is left when a run is over."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.report.test_html import Page
from tests.support.gannet import (
    FORK_SERVER,
    ORDINARY_USER,
    Ran,
    fork_server,
    gannet,
    node_process,
    processes,
    start,
)

pytestmark = pytest.mark.real("runs")

ARMS: dict[str, Any] = {
    "gossip": {"algorithm": {"name": "dp-oadam"}},
    "overlapped": {"algorithm": {"name": "dp-oadam", "overlap": True}, "codec": "fp16"},
    "two-lines": {"algorithm": {"name": "dposg", "rounds": 2}},
    "changing": {"algorithm": {"name": "dp-oadam"}, "topology": "base"},
    "push": {"algorithm": {"name": "sgp"}, "topology": "one-peer-exponential"},
    "compressed": {"algorithm": {"name": "choco"}, "codec": "qsgd-4bit,raw_below=0"},
    "server": {"algorithm": {"name": "cp-oadam", "collective": "server"}},
    "ring": {"algorithm": {"name": "cp-oadam", "collective": "ring"}},
}


def states(run: Path, step: int) -> np.ndarray:
    files = sorted((run / "snapshots" / f"step-{step:06d}").glob("node-*.safetensors"))
    assert len(files) == 3
    return np.stack([load_file(file)["x"] for file in files])


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Every synchronous method on the namespaces fabric."""
    ran = gannet(tmp_path_factory.mktemp("real"), ["compare"], arms=ARMS)
    assert ran.status == 0, ran.output
    return ran


def test_every_fabric_and_every_link_gives_the_same_bits(real: Ran, tmp_path: Path) -> None:
    """Invariant 1: real TCP at 50 Mbit/s, 5 ms against the virtual clock at 2 Mbit/s, 80 ms."""
    other = gannet(
        tmp_path,
        ["compare", "--fabric", "virtual"],
        arms=ARMS,
        pace_ms=10,
        links={"profile": {"rate": "2Mbit", "delay_ms": 80}},
    )
    assert other.status == 0, other.output
    for arm in ARMS:
        for step in (3, 6):
            np.testing.assert_array_equal(states(real.run(arm), step), states(other.run(arm), step), arm)
    assert not np.array_equal(states(real.run("gossip"), 6), states(real.run("server"), 6))


def test_another_real_link_gives_the_same_bits(real: Ran, tmp_path: Path) -> None:
    arms = {name: ARMS[name] for name in ("gossip", "ring")}
    other = gannet(tmp_path, ["compare"], arms=arms, links={"profile": {"rate": "5Mbit", "delay_ms": 30}})
    assert other.status == 0, other.output
    for arm in arms:
        np.testing.assert_array_equal(states(real.run(arm), 6), states(other.run(arm), 6), arm)
        # Slow links they were: what each of three nodes sent takes so long at 5 Mbit/s, on whatever machine.
        summary = other.summary(arm)
        assert summary["seconds"] > 8 * summary["bytes_codec"] / 3 / 5e6 > 0.2


@pytest.mark.parametrize("arm", ARMS)
def test_three_byte_counts_agree(real: Ran, arm: str) -> None:
    """Invariant 2: payload, gRPC messages and the kernel's counter, headers and acknowledgements apart."""
    summary = real.summary(arm)
    codec, grpc, interface = (summary[f"bytes_{layer}"] for layer in ("codec", "grpc", "interface"))
    # What the method must send, from its formula: 6 exchanges of `size` bytes among 3 nodes.
    size = summary["parameters"] * {"overlapped": 2, "compressed": 4.0625 / 8}.get(arm, 4) + (
        4 if arm == "push" else 0
    )
    copies = {"two-lines": 12, "changing": 2, "push": 3, "server": 4, "ring": 4}.get(arm, 6)
    assert codec == pytest.approx(copies * 6 * size, rel={"ring": 1e-3, "compressed": 2e-2}.get(arm, 0))
    assert codec <= grpc <= 1.02 * codec + 3000
    # A full frame of 1514 bytes carries 1448: 4.6%; acknowledgements of what came in, at most as much again.
    assert 1.03 * grpc <= interface <= 1.16 * grpc + 60_000


def test_three_byte_counts_agree_on_a_fast_profile(tmp_path: Path) -> None:
    """Packets hold up to 40 segments there, and each frame has its header all the same."""
    ran = gannet(tmp_path, ["run"], links={"profile": "wan-eu"}, task={"loss": "hinge", "width": 32})
    assert ran.status == 0, ran.output
    codec, grpc, interface = (ran.summary()[f"bytes_{layer}"] for layer in ("codec", "grpc", "interface"))
    assert codec <= grpc <= 1.02 * codec + 3000
    assert 1.04 * grpc <= interface <= 1.1 * grpc + 60_000


def test_control_metrics_and_snapshots_never_cross_the_shaped_link(tmp_path: Path) -> None:
    """Invariant 5: nodes that exchange nothing report, snapshot and serve metrics; the mesh stays silent."""
    ran = gannet(tmp_path, ["run"], algorithm={"name": "local"})
    assert ran.status == 0, ran.output
    assert len(list((ran.run() / "snapshots").glob("*/*.safetensors"))) == 3 * 3
    assert ran.summary()["bytes_interface"] < 20_000  # some neighbour discoveries, not 800 kB of snapshots


def test_the_ledger_is_whole(real: Ran) -> None:
    run = real.run("gossip")
    steps = real.steps("gossip")
    assert sorted((line["node"], line["step"]) for line in steps) == [(n, s) for n in range(3) for s in range(1, 7)]
    for line in steps:
        parts = line["compute_s"] + line["wait_s"] + line["other_s"]
        before = [o["t_s"] for o in steps if o["node"] == line["node"] and o["step"] == line["step"] - 1] or [0.0]
        assert parts == pytest.approx(line["t_s"] - before[0], abs=1e-3)
    for name in ("spec.yaml", "environment.json", "certificate.json", "links.jsonl", "summary.json"):
        assert (run / name).stat().st_size > 0
    summary = real.summary("gossip")
    assert summary["topology"] == {"name": "ring", "spectral_gap": 1.0}  # three nodes on a ring know each other
    assert all(0 < memory < 700 for memory in summary["memory_mb"])
    page = Page((real.folder / "out" / "report.html").read_text())
    assert all(real.summary(arm)["label"] in page.plain for arm in ARMS)
    points = {name: sum(len(trace["x"]) for trace in figure["data"]) for name, figure in page.figures.items()}
    assert (
        points["losses"] >= 6 * len(ARMS) and points["deviation"] >= 2 * 6
    )  # the steps; rate and delay of a run's links


def test_the_certificate_holds_every_directed_edge_and_its_figures(real: Ran) -> None:
    import json

    certificate = json.loads((real.run("gossip") / "certificate.json").read_text())
    assert {(e["src"], e["dst"]) for e in certificate["edges"]} == {
        (a, b) for a in range(3) for b in range(3) if a != b
    }
    for edge in certificate["edges"]:
        assert edge["expected_rate_bps"] == 50e6 and edge["expected_delay_ms"] == 5
        assert edge["measured_rate_bps"] > 40e6 and 4 < edge["delay_p50_ms"] < 8


def wait_for(condition: Any, timeout_s: float = 240.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def lines(run: Path) -> int:
    steps = run / "steps.jsonl"
    return len(steps.read_text().splitlines()) if steps.exists() else 0


def test_a_killed_node_costs_gossip_its_weight_and_no_more(tmp_path: Path) -> None:
    process = start(tmp_path, ["run"], stop={"steps": 150}, nodes=4, pace_ms=20)
    run = tmp_path / "out" / "run" / "seed-1"
    wait_for(lambda: lines(run) > 40)
    os.kill(node_process(str(tmp_path), 3), signal.SIGKILL)
    output, _ = process.communicate(timeout=400)
    ran = Ran(process.returncode, output, tmp_path)
    assert ran.status == 0, output
    summary = ran.summary()
    assert "lost node 3" in summary["reason"] and summary["steps"] == 150
    last = [line for line in ran.steps() if line["step"] == 150]
    assert {line["node"]: line["missing"] for line in last} == {0: [3], 1: [], 2: [3]}


def test_a_ring_that_loses_a_node_fails_and_says_why(tmp_path: Path) -> None:
    process = start(tmp_path, ["run"], stop={"steps": 2000}, algorithm={"name": "cp-oadam", "collective": "ring"})
    wait_for(lambda: lines(tmp_path / "out" / "run" / "seed-1") > 20)
    os.kill(node_process(str(tmp_path), 2), signal.SIGKILL)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 1
    summary = Ran(1, output, tmp_path).summary()
    assert summary["status"] == "failed" and not summary["trusted"]
    assert "without rank 2" in summary["reason"]


def test_many_failures_at_once_are_one_failed_run_and_the_next_arm_goes_on(tmp_path: Path) -> None:
    """Every worker of a dead server fails together; the comparison still ends with its other arm and a report."""
    arms = {
        "server": {"algorithm": {"name": "cp-oadam"}, "stop": {"steps": 5000}},
        "alone": {"algorithm": {"name": "local"}},
    }
    process = start(tmp_path, ["compare"], arms=arms, nodes=4)
    wait_for(lambda: lines(tmp_path / "out" / "server" / "seed-1") > 20)
    os.kill(node_process(str(tmp_path), 0), signal.SIGKILL)
    output, _ = process.communicate(timeout=400)
    ran = Ran(process.returncode, output, tmp_path)
    assert ran.status == 1 and "Traceback" not in output, output
    assert "without rank 0" in ran.summary("server")["reason"]
    assert ran.summary("alone")["status"] == "finished"
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["setting up", "training"])
def test_nothing_is_left_however_a_run_ends(tmp_path: Path, number: signal.Signals, moment: str) -> None:
    """Ctrl-C, kill and kill -9, early and late: no process stays, and namespaces live and die with processes."""
    process = start(tmp_path, ["run"], stop={"steps": 100_000})
    try:
        if moment == "training":
            wait_for(lambda: lines(tmp_path / "out" / "run" / "seed-1") > 10)
        else:
            wait_for(lambda: processes(str(tmp_path), FORK_SERVER))
        process.send_signal(number)
        output, _ = process.communicate(timeout=400)
    finally:
        process.kill()
    wait_for(lambda: not processes(str(tmp_path)))
    if number is not signal.SIGKILL:
        assert process.returncode != 0
        if moment == "training":
            assert Ran(1, output, tmp_path).summary()["status"] == "stopped"
            assert (tmp_path / "out" / "report.html").exists()
    assert "Traceback" not in output


def test_clean_ends_what_a_killed_run_left_and_nothing_else(tmp_path: Path) -> None:
    """An outer process that is killed takes its sandbox along; clean forgets it, and leaves a live one alone."""
    killed = start(tmp_path / "a", ["run"], stop={"steps": 100_000})
    living = start(tmp_path / "b", ["run"], stop={"steps": 100_000})
    try:
        for name in "ab":
            wait_for(lambda name=name: lines(tmp_path / name / "out" / "run" / "seed-1") > 3)  # type: ignore[misc]
        killed.kill()
        killed.communicate()
        state = tmp_path / "a" / "state" / "gannet" / "sandboxes"
        shutil.copytree(state, tmp_path / "b" / "state" / "gannet" / "sandboxes", dirs_exist_ok=True)
        environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "b" / "state"), "COLUMNS": "300"}
        argv = [sys.executable, "-m", "gannet", "clean"]
        said = subprocess.check_output(argv, env=environment, text=True)
        assert sorted(line.rpartition(": ")[2] for line in said.splitlines()) == [
            "nothing was left of it; its entry is removed",
            "still running, left alone",
        ]
        before = lines(tmp_path / "b" / "out" / "run" / "seed-1")
        wait_for(lambda: lines(tmp_path / "b" / "out" / "run" / "seed-1") > before)
    finally:
        living.send_signal(signal.SIGINT)
        living.communicate(timeout=240)


def test_an_ordinary_user_needs_no_root(tmp_path: Path) -> None:
    ran = gannet(tmp_path, ["run"], ORDINARY_USER)
    assert ran.status == 0, ran.output
    assert ran.summary()["status"] == "finished" and len(ran.steps()) == 3 * 6
    assert (ran.run() / "summary.json").stat().st_uid == os.geteuid()


def test_a_score_can_end_a_run(tmp_path: Path) -> None:
    """Any picture is nearer than 1e6, so the first scored snapshot ends the run long before its steps do."""
    ran = gannet(
        tmp_path, ["run"], stop={"steps": 90_000, "score": 1e6}, score={"samples": 100, "points": 2}, snapshot_every=5
    )
    assert ran.status == 0, ran.output
    summary = ran.summary()
    assert summary["status"] == "finished" and summary["steps"] < 45_000
    assert summary["final_score"] > 0 and summary["score_name"] == "Fréchet distance (FashionNet features)"


def test_metrics_of_a_running_node_are_where_the_controller_lives(tmp_path: Path) -> None:
    """And not in the node's own namespace, which the mesh alone leads into."""
    process = start(tmp_path, ["run"], stop={"steps": 100_000})
    try:
        wait_for(lambda: lines(tmp_path / "out" / "run" / "seed-1") > 10)
        inside = fork_server(str(tmp_path))
        scrape = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=30).read().decode())"
        enter = ["nsenter", f"--net=/proc/{inside}/ns/net", "--", sys.executable, "-c", scrape]
        text = subprocess.check_output([*enter, "http://127.78.0.3:9400/metrics"], text=True)
        assert 'gannet_steps_total{arm="run",node="1",run="quick/run/seed-1/' in text
        node = node_process(str(tmp_path), 1)
        in_node = ["nsenter", f"--net=/proc/{node}/ns/net", *enter[2:]]
        for address in ("10.77.0.3", "127.78.0.3"):
            refused = subprocess.run([*in_node, f"http://{address}:9400/metrics"], capture_output=True, text=True)
            assert refused.returncode != 0 and "refused" in refused.stderr
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=240)
