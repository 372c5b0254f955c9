"""`gannet net export` as people use it: files, notes, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.netem.links.trace_files import load_trace


def told(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["net", "export", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("form", "files"),
    [
        ("tc", ["node-0.sh", "node-1.sh"]),
        ("tcconfig", ["node-0.json", "node-1.json"]),
        ("containerlab", ["netem.json", "netem.sh"]),
        ("mahimahi", [f"node-{n}.{end}" for n in (0, 1) for end in ("down", "sh", "up")]),
    ],
)
def test_a_profile_is_written_in_every_format(tmp_path: Path, form: str, files: list[str]) -> None:
    status, output, _ = told("lte", "-n", "2", "--format", form, "-o", str(tmp_path / "new"))
    assert status == 0
    assert output == f"written: {len(files)} files in {tmp_path / 'new'}\n"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == files


def test_a_spec_has_addresses_and_a_device_of_its_own_and_says_what_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(
        "nodes: 2\nlinks: {profile: {rate: 10Mbit, delay_ms: 20}, edges: {'0>1': {delay_ms: 70}},"
        " stack: {congestion_control: reno}, schedule: [{at_s: 5, partition: '0:1'}]}\n"
    )
    words = [
        str(tmp_path / "spec.yaml"),
        "--format",
        "tcconfig",
        "--device",
        "ens3",
        "--addresses",
        "10.1.0.7,10.1.0.9",
    ]
    status, _, notes = told(*words, "-o", str(tmp_path))
    assert status == 0
    assert json.loads((tmp_path / "node-0.json").read_text()) == {
        "ens3": {
            "outgoing": {"dst_network=10.1.0.9/32, protocol=ip": {"delay": "70ms", "rate": "10000000bps"}},
            "incoming": {},
        }
    }
    assert "note: schedule: left out, 1 of its entries (partition 0:1)" in notes
    assert "note: stack: left out" in notes


def test_a_trace_of_a_node_becomes_its_mahimahi_files(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(
        "nodes: 2\nlinks: {profile: lte, schedule: [{at_s: 0, trace: lte-walk, nodes: [1]}]}\n"
    )
    status, _, notes = told(str(tmp_path / "spec.yaml"), "--format", "mahimahi", "-o", str(tmp_path))
    assert status == 0, notes
    assert "schedule" not in notes
    own, written = load_trace("lte-walk"), load_trace(tmp_path / "node-1.down")
    assert (written.tracks, written.loop) == (own.tracks, True)
    assert load_trace(tmp_path / "node-0.down").points[0].down_bps == pytest.approx(12_000_000, rel=1e-3)


def test_a_shipped_trace_comes_back_from_its_files(tmp_path: Path) -> None:
    assert told("lte-walk", "--format", "mahimahi", "-o", str(tmp_path))[0] == 0
    assert load_trace(tmp_path / "lte-walk.down") == load_trace("lte-walk")


def test_one_file_is_printed_and_several_need_a_folder() -> None:
    status, output, _ = told("lte", "-n", "1", "--format", "tcconfig")
    assert status == 0 and json.loads(output) == {"eth0": {"outgoing": {}, "incoming": {}}}
    status, _, error = told("lte", "-n", "2", "--format", "tcconfig")
    assert status == 2 and "add -o FOLDER" in error


def test_a_name_of_a_profile_and_a_trace_is_the_profile_unless_said(tmp_path: Path) -> None:
    assert told("starlink", "-n", "2", "--format", "mahimahi", "-o", str(tmp_path / "a"))[0] == 0
    assert told("starlink", "--trace", "--format", "mahimahi", "-o", str(tmp_path / "b"))[0] == 0
    assert (tmp_path / "a" / "node-0.up").is_file() and (tmp_path / "b" / "starlink.up").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lte", "--format", "ns3"], "--format ns3: one of tc, tcconfig, containerlab, mahimahi"),
        (["lte", "--format", "tc", "--trace"], "tc holds no traces"),
        (["lte", "-n", "2", "--format", "tc", "--addresses", "10.0.0.1"], "1 for 2 nodes"),
        (["lte", "-n", "2", "--format", "tc", "--addresses", "10.0.0.1,x"], "'x' is no IPv4 address"),
        (["lte", "-n", "2", "--format", "tc", "--addresses", "10.0.0.1,10.0.0.1"], "each once"),
        (["unshaped", "-n", "2", "--format", "mahimahi"], "node 0 has no limit of its up rate"),
        (["lte", "-n", "2", "--format", "tc", "--set", "links.down_queue=shared"], "down_queue"),
    ],
)
def test_what_cannot_be_written_is_refused(words: list[str], said: str) -> None:
    status, output, error = told(*words)
    assert (status, output) == (2, "")
    assert said in error
