"""In a run's node there is no network but the mesh: nothing by which a program could pass the links by."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gannet import FORK_SERVER, ROOT, node_process, processes, start
from tests.support.patience import wait_until

pytestmark = pytest.mark.real("runs")

CONNECT = """
import errno, socket, sys
for where in sys.argv[1:]:
    host, port = where.split(":")
    with socket.socket() as trying:
        trying.settimeout(30)
        print(where, errno.errorcode.get(trying.connect_ex((host, int(port)))))
"""
GLOO = """
import os, pathlib, torch, torch.distributed as distributed
rank = int(os.environ["GANNET_NODE"])
os.environ.pop("GLOO_SOCKET_IFNAME", None)
distributed.init_process_group("gloo", init_method="tcp://node0:29600", rank=rank, world_size=3)
values = torch.full((100_000,), float(rank))
distributed.all_reduce(values)
rows = map(str.split, pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:])
print(values[0].item(), *sorted({row[1][:8] for row in rows if row[3] == "01"}))  # own ends of open connections
distributed.barrier()
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of three nodes that trains."""
    folder = tmp_path_factory.mktemp("one-network")
    process = start(folder, ["run"], stop={"steps": 1_000_000})
    steps = folder / "out" / "run" / "seed-1" / "steps.jsonl"
    try:
        wait_until("the run trains", lambda: steps.exists() and steps.stat().st_size)
        yield folder
    finally:
        process.terminate()
        process.communicate(timeout=240)


def in_node(run: Path, rank: int, *command: str) -> subprocess.Popen[str]:
    """`gannet net exec` into a node of the run."""
    argv = [sys.executable, "-m", "gannet", "net", "exec", str(rank), "--", *command]
    environment: dict[str, Any] = {**os.environ, "XDG_STATE_HOME": str(run / "state"), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(program: subprocess.Popen[str]) -> str:
    text, errors = program.communicate(timeout=240)
    assert program.returncode == 0, errors
    return text


def test_a_program_finds_the_mesh_and_no_other_way(run: Path) -> None:
    shown = said(in_node(run, 0, "sh", "-c", "hostname -I; ip -o address show | awk '{print $2}' | sort -u | xargs"))
    assert [line.split() for line in shown.splitlines()] == [["10.77.0.2"], ["lo", "mesh0"]]
    # What a management network and metrics were or are at; the last is a port of the mesh, for comparison.
    tried = [
        "10.78.0.1:7000",
        "10.78.0.3:9400",
        "127.78.0.3:9400",
        "127.0.0.1:9400",
        "10.77.0.3:9400",
        "10.77.0.3:7700",
    ]
    found = dict(line.split() for line in said(in_node(run, 0, sys.executable, "-c", CONNECT, *tried)).splitlines())
    assert [found[where] for where in tried] == 2 * ["ENETUNREACH"] + 3 * ["ECONNREFUSED"] + ["None"]


def test_gloo_finds_the_mesh_without_being_told(run: Path) -> None:
    programs = [in_node(run, rank, sys.executable, "-c", GLOO) for rank in range(3)]
    for rank, program in enumerate(programs):
        total, *own = said(program).split()
        assert total == "3.0" and f"{2 + rank:02X}004D0A" in own  # 10.77.0.x as the kernel writes it
        assert all(end.endswith("4D0A") for end in own)


def test_a_training_process_has_the_name_of_its_node_and_one_interface(run: Path) -> None:
    assert len(processes(str(run), FORK_SERVER)) == 1 + 3  # the server itself, and the nodes
    for rank in range(3):
        pid = node_process(str(run), rank)
        devices = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
        # The second shapes what arrives at the first, and has no address.
        assert {line.partition(":")[0].strip() for line in devices} - {"lo"} == {"mesh0", "ifb-mesh0"}
        names = ["nsenter", "--target", str(pid), "--uts", "--mount", "--", "sh", "-c"]
        name, *known = subprocess.check_output(
            [*names, "hostname; getent hosts $(hostname) node2"], text=True
        ).splitlines()
        assert name == f"node{rank}"  # the machine's own name means the node, too
        assert [line.split()[:2] for line in known] == [[f"10.77.0.{2 + rank}", name], ["10.77.0.4", "node2"]]
