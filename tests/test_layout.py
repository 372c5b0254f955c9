"""The house itself: imports point one way, generated code is fresh, nothing unpickles, files stay readable."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
HALVES = ("netem", "node")  # each imports itself alone; gannet/ joins them


def python_files(*folders: str) -> list[Path]:
    """Real files, each once: gannet/node and gannet/netem are links."""
    found: list[Path] = []
    for folder in folders:
        for root, below, names in os.walk(ROOT / folder, followlinks=False):
            below.sort()
            found += [Path(root) / name for name in sorted(names) if name.endswith(".py") and "_pb2" not in name]
    return found


PRODUCT = python_files("gannet", *HALVES)


def module_name(path: Path) -> str:
    """gannet.node.config of node/config.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    whole = parts if parts[0] == "gannet" else ("gannet", *parts)
    return ".".join(whole[:-1] if whole[-1] == "__init__" else whole)


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it; `from a import b` counts as a.b where that is one."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= whole & MODULES or {node.module}
            if whole - MODULES:
                names.add(node.module)
    return names


MODULES = {module_name(path) for path in PRODUCT} | {
    "gannet.node.wire.control_pb2", "gannet.node.wire.exchange_pb2", "gannet.fabrics.links.operator_pb2",
}  # fmt: skip


@pytest.mark.parametrize("path", PRODUCT, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_halves_import_nothing_but_themselves(path: Path) -> None:
    half = path.relative_to(ROOT).parts[0]
    own = {name for name in imports(path) if name.split(".")[0] == "gannet"}
    strange = {name for name in own if half in HALVES and name.split(".")[:2] != ["gannet", half]}
    assert strange == set()


def test_all_imports_of_the_product_begin_with_gannet() -> None:
    old = {"node", "netem", "cluster", "experiment", "proto"}
    everything = [*PRODUCT, *python_files("tests", "bench", "dashboards")]
    assert {name for path in everything for name in imports(path) if name.split(".")[0] in old} == set()


def test_types_of_every_benchmark_are_checked() -> None:
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["modules"]
    assert checked == sorted(path.stem for path in (ROOT / "bench").glob("*.py"))


def test_every_module_says_what_it_is_for() -> None:
    texts = {p: p.read_text() for p in PRODUCT}
    silent = [p for p, text in texts.items() if not ast.get_docstring(ast.parse(text))]
    assert silent == []


def test_files_and_folders_stay_readable() -> None:
    long = {str(p.relative_to(ROOT)): n for p in PRODUCT if (n := len(p.read_text().splitlines())) > 349}
    assert long == {}
    full = {str(p.relative_to(ROOT)): n for p, n in Counter(p.parent for p in PRODUCT).items() if n > 20}
    assert full == {}


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports in functions and under TYPE_CHECKING count: they hide a circle, they do not remove it."""
    graph = nx.DiGraph((module_name(path), name) for path in PRODUCT for name in imports(path) & MODULES)
    assert graph.number_of_edges() > len(PRODUCT)
    circles = [sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1]
    assert circles == []


def test_tests_of_real_things_are_marked() -> None:
    """Else they run beside others, which disturb them, and in `make test-fast`."""
    things = {"gannet.netem.sandbox", "gannet.fabrics.namespaces.sandbox", "tests.swarm.two_engines"}
    things |= {f"tests.support.{name}" for name in ("compose_cluster", "docker", "gannet", "images", "live", "up")}
    tests = [path for path in python_files("tests") if path.name.startswith("test_") and path != Path(__file__)]
    real = {path: path.read_text() for path in tests if imports(path) & things}
    assert len(real) > 20
    assert [str(path) for path, text in real.items() if "pytest.mark.real(" not in text] == []


def test_nothing_unpickles_or_runs_a_shell() -> None:
    """Invariant 7. Pickle hides in torch.load and numpy.load as well."""
    loaders = r"torch\.load\((?!.*weights_only=True)|allow_pickle=True|yaml\.load\("
    forbidden = re.compile(rf"\bimport pickle|\bpickle\.|{loaders}|shell=True|\beval\(")
    found = [
        f"{p.relative_to(ROOT)}:{number}: {line.strip()}"
        for p in [*PRODUCT, *python_files("bench")]
        for number, line in enumerate(p.read_text().splitlines(), start=1)
        if forbidden.search(line) and ".eval()" not in line
    ]
    assert found == []


def test_generated_wire_code_is_what_the_contracts_say(tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text().partition("proto:")[2].partition("\n\n")[0].replace("\\\n", "")
    for line in makefile.splitlines()[1:]:
        words = line.split()[1:]  # after $(BIN)/python
        words = [f"{word.removesuffix('.')}{tmp_path}" if word.endswith("_out=.") else word for word in words]
        subprocess.run([sys.executable, *words], cwd=ROOT, check=True)
    made = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert len(made) == 9
    for path in made:
        fresh, kept = path.read_text(), (ROOT / path.relative_to(tmp_path)).read_text()
        # The generators write their own versions into the files; those may differ from machine to machine.
        blank = re.compile(r"^.*(GENERATED_VERSION|Protobuf Python Version|^ +\d+,$).*$", re.MULTILINE)
        assert blank.sub("", fresh) == blank.sub("", kept), f"{path.name} is stale: run `make proto`"


def test_verdicts_are_those_of_the_contract() -> None:
    from gannet.node.exchange.mailbox import Verdict
    from gannet.node.wire import exchange_pb2

    contract = {name: number for name, number in exchange_pb2.Verdict.items() if number}
    assert {verdict.name: verdict.value for verdict in Verdict} == contract
