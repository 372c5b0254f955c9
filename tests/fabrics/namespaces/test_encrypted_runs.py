"""Encrypted runs of real processes: the same bits, nothing to read on the mesh, and no key anywhere."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from safetensors.numpy import load_file

from gannet.certs.run_authority import RunAuthority, lifetime_of
from gannet.fabrics.addresses import MESH_PORT, mesh_address
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
end, left = time.monotonic() + 240, int(sys.argv[3])
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


STRANGER = """
import socket, ssl, sys
host, port, certificate = sys.argv[1], int(sys.argv[2]), sys.argv[3]
for how in ("plain", "anonymous", "stranger"):
    for _ in range(20):
        with socket.create_connection((host, port), timeout=120) as plain:
            if how == "plain":
                plain.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes(9))
                answered = plain
            else:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                context.set_alpn_protocols(["h2"])
                if how == "stranger":
                    context.load_cert_chain(certificate)
                answered = context.wrap_socket(plain)
            try:
                heard = answered.recv(9)
            except (ssl.SSLError, ConnectionError):
                heard = b""
            assert len(heard) < 9 or heard[3] != 4, (how, heard)  # no SETTINGS: HTTP/2 has not begun
"""


def test_bits_are_the_same_and_only_headers_are_added(tmp_path: Path) -> None:
    ran = gannet(tmp_path, ["compare"], arms=ARMS)
    assert ran.status == 0, ran.output
    for method in ("gossip", "server"):
        plain, encrypted = (ran.run(f"{method}-{how}") for how in ("plain", "tls"))
        for step in (3, 6):
            np.testing.assert_array_equal(states(plain, step), states(encrypted, step))
        before, after = (ran.summary(f"{method}-{how}") for how in ("plain", "tls"))
        # Its links may have been disturbed by a busy machine; nothing else may be said against it.
        assert not any(word in reason for reason in after["reasons"] for word in ("lost", "failed", "missing"))
        assert after["refused"] == {}
        assert after["bytes_codec"] == before["bytes_codec"]
        assert after["bytes_grpc"] == pytest.approx(before["bytes_grpc"], rel=1e-3)
        assert after["bytes_interface"] == pytest.approx(before["bytes_interface"], rel=0.03, abs=20_000)
        facts = [json.loads((run / "environment.json").read_text())["encrypted"] for run in (plain, encrypted)]
        assert facts == [False, True]


def training(folder: Path, encrypt: bool, steps: int) -> subprocess.Popen[str]:
    """A run that has made its first steps."""
    process = start(
        folder, ["run"], algorithm=SERVER, encrypt=encrypt, snapshot_every=1, pace_ms=30, stop={"steps": steps}
    )
    steps = folder / "out" / "run" / "seed-1" / "steps.jsonl"
    end = time.monotonic() + 240
    while not steps.exists() or steps.read_text().count("\n") < 6:
        assert time.monotonic() < end and process.poll() is None, "it does not train"
        time.sleep(0.1)
    return process


def at_node(folder: Path, rank: int, script: str, *arguments: str) -> None:
    """Run a Python script in that node's namespace."""
    tool = folder / "tool.py"
    tool.write_text(script)
    done = subprocess.run(
        [sys.executable, "-m", "gannet", "net", "exec", str(rank), "--", sys.executable, str(tool), *arguments],
        cwd=ROOT,
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def captured(folder: Path, encrypt: bool) -> tuple[bytes, Ran, dict[str, bytes]]:
    """What passes node 1 during a run, the stopped run, its processes' command lines and environments."""
    process = training(folder, encrypt, steps=100_000)
    said = {}
    for pid in processes(str(folder)):
        for what in ("environ", "cmdline"):
            with suppress(FileNotFoundError, ProcessLookupError):  # tools come and go
                said[f"{pid}/{what}"] = Path(f"/proc/{pid}/{what}").read_bytes()
    file = folder / "frames"
    at_node(folder, 1, CAPTURE, "mesh0", str(file), "1000000")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=400)
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
        assert ran.status == 130 and ran.summary()["status"] == "stopped", ran.output
        assert len(frames) >= 1_000_000
        seen[encrypt] = parameters_seen(frames, ran.run())
        assert any(name.endswith("cmdline") for name in said) and ran.output
        files = {str(path): path.read_bytes() for path in ran.folder.rglob("*") if path.is_file()}
        assert any(name.endswith("node-1.log") for name in files)
        everywhere = {**said, **files, "terminal": ran.output.encode()}
        assert [(name, mark) for name, text in everywhere.items() for mark in key_marks() if mark in text] == []
    assert seen[False] > 20 and seen[True] == 0


def test_strangers_on_the_mesh_disturb_nothing_and_grpc_can_say_why_they_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a namespace of the run itself, at a node's own port, while it trains: 60 connections by OpenSSL."""
    monkeypatch.setenv("GRPC_VERBOSITY", "INFO")
    process = training(tmp_path, True, steps=100_000)
    _, tls = credentials(RunAuthority("run", lifetime_of(None)), 2)  # of another authority, for all else genuine
    (tmp_path / "other.pem").write_bytes(tls.key + tls.certificate)
    at_node(tmp_path, 2, STRANGER, mesh_address(1), str(MESH_PORT), str(tmp_path / "other.pem"))
    (tmp_path / "other.pem").unlink()
    assert process.poll() is None  # it trained all the while
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=400)
    ran = Ran(process.returncode, output, tmp_path)
    assert ran.status == 130, output
    summary = ran.summary()
    assert summary["refused"] == {} and summary["missing_messages"] == 0
    assert summary["status"] == "stopped" and summary["reason"] == "interrupted by the user"
    (log,) = tmp_path.rglob("node-1.log")
    reasons = [line for line in log.read_text().splitlines() if "andshake failed" in line]
    assert len([line for line in reasons if "PEER_DID_NOT_RETURN_A_CERTIFICATE" in line]) == 20
    assert len(reasons) == 60
