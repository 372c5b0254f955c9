"""A real run that is killed outright goes on in new processes, which fetch their states from the controller."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from gannet.experiment.job import job_of
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.ledger.checkpoints import CheckpointFolder
from gannet.spec.run_spec import RunSpec
from tests.support.gannet import QUICK, Ran, in_folder, net, node_process, resume, start, start_resume
from tests.support.patience import wait_until
from tests.support.runs import Memory

pytestmark = pytest.mark.real("runs")

NODES, STEPS = 2, 60
SPEC = {
    "algorithm": {"name": "choco"},
    "codec": "qsgd-4bit,raw_below=0",
    "nodes": NODES,
    "stop": {"steps": STEPS},
    "pace_ms": 100,  # six seconds in all, so that it can be killed on its way
    "snapshot_every": 20,
    "checkpoint_every": 5,
}


def lines_of(run: Path, name: str) -> list[str]:
    """The whole lines of a file that still grows."""
    text = (run / f"{name}.jsonl").read_text()
    return text[: text.rfind("\n") + 1].splitlines()


def test_a_killed_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    """The truth is an uninterrupted run on the virtual clock, which has the bits of every fabric."""
    process = start(tmp_path, ["run"], **SPEC)
    run = tmp_path / "out" / "run" / "seed-1"
    kept = CheckpointFolder(run, NODES)
    try:
        end = time.monotonic() + 240
        while len(kept.whole()) < 2:
            assert time.monotonic() < end and process.poll() is None, "no checkpoints came"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=240)
    interrupted = kept.whole()[-1]
    assert interrupted < STEPS and not (run / "summary.json").exists()
    ran = resume(tmp_path)
    assert ran.status == 0, ran.output
    summary, steps = ran.summary(), ran.steps()
    assert summary["status"] == "finished" and summary["resumed_after"] == [interrupted]
    assert f"resuming after step {interrupted}" in ran.output
    assert sorted((line["node"], line["step"]) for line in steps) == [
        (n, s) for n in range(NODES) for s in range(1, STEPS + 1)
    ]
    truth = Memory()
    run_virtual(job_of(RunSpec.model_validate({**QUICK, **SPEC, "fabric": "virtual"})), truth)
    for step in (20, 40, 60):
        states = [
            load_file(run / "snapshots" / f"step-{step:06d}" / f"node-{n}.safetensors")["x"] for n in range(NODES)
        ]
        np.testing.assert_array_equal(np.stack(states), truth.states(step))
    for node in range(NODES):
        mine = [line for line in steps if line["node"] == node]
        assert [line["loss"] for line in mine] == [stats.loss for stats in truth.steps[node]]
        clock = np.array([line["t_s"] for line in mine])
        assert (np.diff(clock) > 0).all()
        # What came before the interruption is on the clock, and what passed until it was resumed is not.
        spent = [line["compute_s"] + line["wait_s"] + line["other_s"] for line in mine]
        assert clock[-1] == pytest.approx(sum(spent), abs=0.01)
    assert summary["bytes_codec"] == sum(line["codec_bytes"] for line in steps)
    told = sum(line["grpc_bytes"] for line in steps)
    # A step ends when its messages have come in: its own may still wait to be sent when its last line is written.
    last = sum(line["codec_bytes"] for line in steps if line["step"] == STEPS)
    assert told <= summary["bytes_grpc"] <= told + last + 10_000  # and receipts
    assert kept.whole() == [STEPS - 5, STEPS]


def test_a_change_by_hand_is_not_forgotten_when_the_run_is_killed(tmp_path: Path) -> None:
    """And a node that is lost is in the run folder while the others train on, and in what Ctrl-C leaves."""
    process = start(tmp_path, ["run"], **{**SPEC, "nodes": 3, "stop": {"steps": 100_000}, "pace_ms": 20})
    run = tmp_path / "out" / "run" / "seed-1"
    kept = CheckpointFolder(run, 3)
    try:
        wait_until("two checkpoints", lambda: len(kept.whole()) >= 2)
        for command in ("resume", "score"):
            second = in_folder(tmp_path, command)
            assert second.status == 2 and "/out: `gannet run " in second.output, second.output
            assert f"still works in this folder (process {process.pid}, since" in second.output
        assert net("apply", "datacenter", XDG_STATE_HOME=str(tmp_path / "state")).returncode == 0
        before = kept.whole()[-1]
        wait_until("a later checkpoint", lambda: kept.whole()[-1] > before)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=240)
    process = start_resume(tmp_path)
    try:
        wait_until("later checkpoints", lambda: len(kept.whole()) >= 2 and kept.whole()[-1] > before + 10)
        (part,) = (json.loads(line) for line in (run / "resumed.jsonl").read_text().splitlines())
        os.kill(node_process(str(tmp_path), 2), signal.SIGKILL)
        told = wait_until("it is told", lambda: [text for text in lines_of(run, "links") if '"node-lost"' in text])
        steps = len(lines_of(run, "steps"))
        wait_until("the others train on", lambda: len(lines_of(run, "steps")) > steps + 10)
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=400)
    (line,) = map(json.loads, told)
    assert f"  at {line['t_s']:.1f} s: node 2 was lost: its process was killed by SIGKILL" in output
    reasons = Ran(process.returncode, output, tmp_path).summary()["reasons"]
    by_hand = r"links were changed by hand at [\d.]+ s: apply datacenter"
    assert any(re.fullmatch(by_hand, reason) for reason in part["reasons_before"])
    assert any(re.fullmatch(rf"before step \d+: {by_hand}", reason) for reason in reasons), reasons
    assert [reason for reason in reasons if " lost" in reason] == [f"node 2 was lost: {line['reason']}"]
