"""Damaged and foreign checkpoints: passed over for the set before, or one clear error."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.experiment.runner import run_one
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.ledger.checkpoints import CheckpointFolder
from gannet.node.training.checkpoint import FORMAT, Checkpoint
from gannet.version import version
from tests.support.interrupted import comparison, interrupted, lines, snapshots


def spoilt(run: Path, what: str) -> None:
    kept, spec = CheckpointFolder(run, 3), run / "spec.yaml"
    newest = [kept.path(20, rank) for rank in range(3)]
    data = newest[1].read_bytes()
    match what:
        case "none":
            for step in (16, 20):
                kept.path(step, 2).unlink()
        case "cut short":
            newest[1].write_bytes(data[:-1])
        case "empty":
            newest[1].write_bytes(b"")
        case "a bit flipped":
            newest[1].write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "another node's":
            newest[1].write_bytes(newest[2].read_bytes())
        case "an older step's":
            newest[1].write_bytes(kept.path(16, 1).read_bytes())
        case "a pipe":
            newest[1].unlink()
            os.mkfifo(newest[1])
        case "all damaged":
            for step in (16, 20):
                kept.path(step, 1).write_bytes(data[:-1])
        case "a later format":
            packed = replace(Checkpoint.unpack(data, "here"), format=FORMAT + 1).pack()
            newest[1].write_bytes(packed)
        case "other settings":
            spec.write_text(yaml.safe_dump(yaml.safe_load(spec.read_text()) | {"seed": 1, "batch": 99}))
        case "no spec":
            spec.unlink()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("none", "no step of which all nodes have a checkpoint"),
        ("all damaged", "node-1.safetensors: not a whole checkpoint"),
        ("a later format", f"this version reads up to format {FORMAT}: resume with that one"),
        ("other settings", "node-0.safetensors: of a run with other settings"),
        ("no spec", "no spec.yaml"),
    ],
)
def test_what_cannot_go_on_is_one_error_and_leaves_the_ledger_alone(tmp_path: Path, what: str, said: str) -> None:
    (spec,) = comparison().runs()
    run = tmp_path / "run" / "seed-1"
    interrupted(spec, run)
    spoilt(run, what)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = CliRunner().invoke(app, ["resume", str(run)])
    assert result.exit_code == 2, result.output
    assert said in result.output and result.output.count("gannet: ") == 1 and "Traceback" not in result.output
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("cut short", "not a whole checkpoint"),
        ("empty", "not a whole checkpoint"),
        ("a bit flipped", "damaged, its digest does not fit"),
        ("another node's", "of node 2 at step 20, not of node 1 at step 20"),
        ("an older step's", "of node 1 at step 16, not of node 1 at step 20"),
        ("a pipe", None),
    ],
)
def test_a_damaged_set_is_passed_over_for_the_one_before(
    tmp_path: Path, what: str, said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """And the run goes on with the bits of one that never stopped."""
    (spec,) = comparison().runs()
    run_one(spec, tmp_path / "whole", run_virtual)
    run = tmp_path / "run"
    interrupted(spec, run)
    spoilt(run, what)
    summary = run_one(spec, run, run_virtual, resume=True)
    assert summary.resumed_after == (16,) and summary.status == "finished" and summary.trusted
    assert snapshots(run) == snapshots(tmp_path / "whole") and CheckpointFolder(run, 3).whole() == [36, 40]
    (part,) = lines(run, "resumed.jsonl")
    told = [f"{CheckpointFolder(run, 3).path(20, 1)}: {said}"] if said else []  # a set without a file is not whole
    assert [why[: len(text)] for why, text in zip(part["passed_over"], told, strict=True)] == told
    assert all(text in caplog.text for text in told)


def test_a_checkpoint_of_before_there_were_formats_is_read(tmp_path: Path) -> None:
    (spec,) = comparison().runs()
    interrupted(spec, tmp_path)
    for file in CheckpointFolder(tmp_path, 3).folder.rglob("*.safetensors"):
        found = Checkpoint.unpack(file.read_bytes(), str(file))
        assert found.format == FORMAT and found.owner.origin["gannet"] == version()
        packed = replace(found, format=None).pack()
        assert b'"format":' not in packed[:4096].replace(b'"format":"pt"', b"")
        file.write_bytes(packed)
    assert run_one(spec, tmp_path, run_virtual, resume=True).resumed_after == (20,)


def test_sets_are_kept_until_newer_ones_are_whole(tmp_path: Path) -> None:
    """Node 0 is far ahead of node 1, as nodes without exchange can be."""
    kept = CheckpointFolder(tmp_path, 2)
    for step in (10, 20, 30, 40):
        kept.put(0, step, b"a")
    assert kept.whole() == []
    for step, left in ((10, {10, 20, 30, 40}), (20, {10, 20, 30, 40}), (30, {20, 30, 40}), (40, {30, 40})):
        kept.put(1, step, b"b")
        assert {int(folder.name[5:]) for folder in kept.folder.iterdir()} == left
    assert kept.path(40, 1).read_bytes() == b"b" and not list(tmp_path.rglob("*.partial"))
