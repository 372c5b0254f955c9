"""The house itself: imports point one way, generated code is fresh, nothing unpickles, files stay readable."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("netem", "node", "cluster", "experiment")  # each may import itself and those before it


def python_files(*rooms: str) -> list[Path]:
    return [p for room in rooms for p in sorted((ROOT / room).rglob("*.py")) if "_pb2" not in p.name]


def imported_rooms(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names & set(ROOMS)


@pytest.mark.parametrize("path", python_files(*ROOMS), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    assert imported_rooms(path) <= set(ROOMS[: ROOMS.index(room) + 1])


def test_every_module_says_what_it_is_for() -> None:
    texts = {p: p.read_text() for p in python_files(*ROOMS)}
    silent = [p for p, text in texts.items() if not ast.get_docstring(ast.parse(text))]
    assert silent == []


def test_files_stay_readable() -> None:
    long = {str(p.relative_to(ROOT)): n for p in python_files(*ROOMS) if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}


def test_nothing_unpickles_or_runs_a_shell() -> None:
    """Invariant 7. Pickle hides in torch.load and numpy.load as well."""
    loaders = r"torch\.load\((?!.*weights_only=True)|allow_pickle=True|yaml\.load\("
    forbidden = re.compile(rf"\bimport pickle|\bpickle\.|{loaders}|shell=True|\beval\(")
    found = [
        f"{p.relative_to(ROOT)}:{number}: {line.strip()}"
        for p in python_files(*ROOMS, "bench")
        for number, line in enumerate(p.read_text().splitlines(), start=1)
        if forbidden.search(line) and ".eval()" not in line
    ]
    assert found == []


def test_generated_wire_code_is_what_the_contracts_say(tmp_path: Path) -> None:
    protos = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "proto").glob("*.proto"))
    out = [f"--{kind}={tmp_path}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I.", *out, *protos], cwd=ROOT, check=True)
    for made in (tmp_path / "proto").iterdir():
        fresh, kept = made.read_text(), (ROOT / "proto" / made.name).read_text()
        # The generators write their own versions into the files; those may differ from machine to machine.
        blank = re.compile(r"^.*(GENERATED_VERSION|Protobuf Python Version|^ +\d+,$).*$", re.MULTILINE)
        assert blank.sub("", fresh) == blank.sub("", kept), f"{made.name} is stale: run `make proto`"


def test_verdicts_are_those_of_the_contract() -> None:
    from node.mailbox import Verdict
    from proto import exchange_pb2

    contract = {name: number for name, number in exchange_pb2.Verdict.items() if number}
    assert {verdict.name: verdict.value for verdict in Verdict} == contract
