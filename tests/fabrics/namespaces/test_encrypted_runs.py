"""Encrypted runs of real processes: the same bits, nothing to read on the mesh, and no key anywhere."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from safetensors.numpy import load_file

from gannet.certs.run_authority import RunAuthority, lifetime_of
from tests.support.exchanges import credentials
from tests.support.gannet import ROOT, Ran, gannet, processes, start

pytestmark = pytest.mark.real("runs")

# A server sends all nodes the mean of their parameters, which are then the parameters of its snapshot: known bytes.
SERVER = {"name": "cp-oadam", "collective": "server"}
ARMS: dict[str, Any] = {
    f"{name}-{'tls' if encrypt else 'plain'}": {"algorithm": algorithm, "encrypt": encrypt}
    for name, algorithm in {"gossip": {"name": "dp-oadam"}, "server": SERVER}.items()
    for encrypt in (False, True)
}
CAPTURE = """
import socket, sys, time
packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
packets.bind((sys.argv[1], 0))
packets.settimeout(0.5)
end, left = time.monotonic() + 60, int(sys.argv[3])
with open(sys.argv[2], "wb") as file:
    while left > 0 and time.monotonic() < end:
        try:
            frame = packets.recv(65536)
        except TimeoutError:
            continue
        file.write(frame)
        left -= len(frame)
"""


def states(run: Path, step: int) -> np.ndarray:
    files = sorted((run / "snapshots" / f"step-{step:06d}").glob("node-*.safetensors"))
    assert len(files) == 3
    return np.stack([load_file(file)["x"] for file in files])


def test_bits_are_the_same_and_only_headers_are_added(tmp_path: Path) -> None:
    ran = gannet(tmp_path, ["compare"], arms=ARMS)
    assert ran.status == 0, ran.output
    for method in ("gossip", "server"):
        plain, encrypted = (ran.run(f"{method}-{how}") for how in ("plain", "tls"))
        for step in (3, 6):
            np.testing.assert_array_equal(states(plain, step), states(encrypted, step))
        before, after = (ran.summary(f"{method}-{how}") for how in ("plain", "tls"))
        assert after["trusted"] and after["refused"] == {}
        assert after["bytes_codec"] == before["bytes_codec"]
        assert after["bytes_grpc"] == pytest.approx(before["bytes_grpc"], rel=1e-3)
        assert after["bytes_interface"] == pytest.approx(before["bytes_interface"], rel=0.03, abs=20_000)
        facts = [json.loads((run / "environment.json").read_text())["encrypted"] for run in (plain, encrypted)]
        assert facts == [False, True]


def captured(folder: Path, encrypt: bool) -> tuple[bytes, Ran, dict[str, bytes]]:
    """What passes node 1 during a run, the finished run, its processes' command lines and environments."""
    process = start(
        folder, ["run"], algorithm=SERVER, encrypt=encrypt, snapshot_every=1, pace_ms=30, stop={"steps": 60}
    )
    steps = folder / "out" / "run" / "seed-1" / "steps.jsonl"
    end = time.monotonic() + 120
    while not steps.exists() or steps.read_text().count("\n") < 6:
        assert time.monotonic() < end and process.poll() is None, "it does not train"
        time.sleep(0.1)
    said = {}
    for pid in processes(str(folder)):
        for what in ("environ", "cmdline"):
            said[f"{pid}/{what}"] = Path(f"/proc/{pid}/{what}").read_bytes()
    tool, file = folder / "capture.py", folder / "frames"
    tool.write_text(CAPTURE)
    done = subprocess.run(
        [sys.executable, "-m", "gannet", "net", "exec", "1", "--",
         sys.executable, str(tool), "mesh0", str(file), "1000000"],
        cwd=ROOT, env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    output, _ = process.communicate(timeout=200)
    return file.read_bytes(), Ran(process.returncode, output, folder), said


def parameters_seen(frames: bytes, run: Path) -> int:
    """In how many places a frame holds 32 bytes of parameters that a snapshot has."""
    found = 0
    for file in sorted((run / "snapshots").glob("step-*/node-*1.safetensors")):
        values = load_file(file)["x"].astype("<f4").tobytes()
        found += sum(values[at : at + 32] in frames for at in range(0, len(values) - 32, 4096))
    return found


def key_marks() -> list[bytes]:
    """How a private key on P-256 begins, in each form that one would be written in."""
    _, tls = credentials(RunAuthority("run", lifetime_of(None)), 0)
    key = serialization.load_pem_private_key(tls.key, None)
    forms = (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL)
    whole = [key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption()) for form in forms]
    # Of SEC 1's form only the first 7 bytes are the same for all keys, too few to be looked for in binary files.
    pkcs8 = whole[0][:36]
    marks = [b"PRIVATE KEY", pkcs8, base64.b64encode(pkcs8), pkcs8.hex().encode()]
    assert marks[0] in tls.key and marks[2][:40] in tls.key.replace(b"\n", b"")
    return marks


def test_the_mesh_carries_nothing_readable_and_no_key_is_left_anywhere(tmp_path: Path) -> None:
    seen = {}
    for encrypt in (False, True):
        frames, ran, said = captured(tmp_path / f"{encrypt}", encrypt)
        assert ran.status == 0, ran.output
        assert len(frames) >= 1_000_000
        seen[encrypt] = parameters_seen(frames, ran.run())
        assert any(name.endswith("cmdline") for name in said) and ran.output
        files = {str(path): path.read_bytes() for path in ran.folder.rglob("*") if path.is_file()}
        assert any(name.endswith("node-1.log") for name in files)
        everywhere = {**said, **files, "terminal": ran.output.encode()}
        assert [(name, mark) for name, text in everywhere.items() for mark in key_marks() if mark in text] == []
    assert seen[False] > 20 and seen[True] == 0
