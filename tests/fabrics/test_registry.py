"""A fabric is one folder, or one entry point: nothing else knows its name."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import gannet.fabrics
from gannet.experiment.compare import execute
from gannet.fabrics import registry
from gannet.fabrics.kind import FabricKind
from gannet.ledger.reader import read_run
from gannet.spec.load import SpecError, resolve

ROOT = Path(gannet.__file__).parents[1]
EMPTY = '''"""A fabric without nodes."""

from contextlib import nullcontext

from gannet.fabrics.kind import FabricKind


def _open(setup):
    from gannet.fabrics.job import Outcome

    def run(job, sink):
        sink.phase(f"no node trains {job.config.algorithm.name} on {setup.engines}")
        return Outcome("finished", environment={"bench": 7})

    return nullcontext(run)


FABRICS = (FabricKind("lab", open=_open),)
LAB = FABRICS[0]
'''
SPEC: dict[str, Any] = {
    "name": "throw-away", "nodes": 2, "fabric": "lab", "task": {"name": "game"}, "algorithm": {"name": "dp-oadam"},
    "stop": {"steps": 3}, "score": None,
}  # fmt: skip


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One folder more among the fabrics."""
    (tmp_path / "more" / "lab").mkdir(parents=True)
    (tmp_path / "more" / "lab" / "__init__.py").write_text(EMPTY)
    monkeypatch.setattr(gannet.fabrics, "__path__", [*gannet.fabrics.__path__, str(tmp_path / "more")])
    registry._shipped.cache_clear()
    yield
    sys.modules.pop("gannet.fabrics.lab", None)
    registry._shipped.cache_clear()


def test_the_shipped_fabrics_declare_what_they_can() -> None:
    kinds = {name: registry.fabric_kind(name) for name in registry.fabric_names()}
    able = {ability: {name for name, kind in kinds.items() if getattr(kind, ability)} for ability in (
        "modelled", "operators", "resumable", "needs_sandbox", "in_containers",
    )}  # fmt: skip
    assert able == {
        "modelled": {"virtual"},
        "operators": {"namespaces", "compose", "swarm"},
        "resumable": {"namespaces", "virtual"},
        "needs_sandbox": {"namespaces"},
        "in_containers": {"compose", "swarm"},
    }


def test_asking_what_fabrics_there_are_loads_neither_torch_nor_grpc() -> None:
    code = "import sys; from gannet.fabrics.registry import fabric_kind as k, fabric_names as n; [k(f) for f in n()];"
    code += "print([name for name in ('torch', 'numpy', 'grpc') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_a_new_folder_is_a_fabric_that_specs_run_on(lab: None, tmp_path: Path) -> None:
    said = io.StringIO()
    assert execute(resolve(SPEC, "spec.yaml"), tmp_path / "out", Console(file=said, width=120))
    assert "no node trains dp-oadam on ('auto',)" in said.getvalue()
    run = read_run(tmp_path / "out" / "run" / "seed-1")
    assert run.finished and run.summary.steps == 0 and not run.model
    assert run.environment.fabric == "lab" and run.environment.facts()["bench"] == 7
    assert not run.trusted  # nothing was measured
    assert (tmp_path / "out" / "report.html").exists()


def test_what_a_fabric_cannot_do_is_refused_by_its_name(lab: None) -> None:
    with pytest.raises(SpecError, match="runs on fabric lab cannot be resumed yet"):
        resolve({**SPEC, "checkpoint_every": 1}, "spec.yaml")


def test_a_package_adds_a_fabric_by_an_entry_point(tmp_path: Path) -> None:
    (tmp_path / "lab_fabric.py").write_text(EMPTY)
    facts = tmp_path / "lab_fabric-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-fabric\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(
        "[gannet.fabrics]\nlab = lab_fabric:LAB\nlost = lab_fabric:LOST\nother = lab_fabric:LAB\n"
    )
    (tmp_path / "spec.yaml").write_text(
        "nodes: 2\nfabric: lab\ntask: {name: game}\nalgorithm: {name: dp-oadam}\nstop: {steps: 3}\nscore: null\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "COLUMNS": "200"}

    def gannet_run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gannet", "run", str(tmp_path / "spec.yaml"), *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)

    done = gannet_run("--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_run(tmp_path / "out" / "run" / "seed-1").environment.fabric == "lab"
    lost = gannet_run("--fabric", "lost")
    assert lost.returncode == 2 and "fabric lost: its entry point lab_fabric:LOST cannot be loaded" in lost.stderr
    other = gannet_run("--fabric", "other")
    assert other.returncode == 2 and "lab_fabric:LAB is not a FabricKind of that name" in other.stderr
    unknown = gannet_run("--fabric", "mars")
    assert unknown.returncode == 2 and "'lab'" in unknown.stderr and "(got 'mars')" in unknown.stderr


def test_a_fabric_is_either_opened_or_launched() -> None:
    with pytest.raises(ValueError, match="fabric half: declare either open or launch"):
        FabricKind("half")


def compared_with_names(tree: ast.AST) -> list[int]:
    """Lines that compare something called fabric with strings, or look it up in a literal of them."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            named = any(
                (isinstance(side, ast.Attribute) and side.attr == "fabric")
                or (isinstance(side, ast.Name) and side.id in ("fabric", "fabrics"))
                for side in sides
            )
            strings = any(
                isinstance(part, ast.Constant) and isinstance(part.value, str)
                for side in sides
                for part in ast.walk(side)
            )
            if named and strings:
                found.append(node.lineno)
        elif (
            isinstance(node, ast.Match) and isinstance(node.subject, ast.Attribute) and node.subject.attr == "fabric"
        ):
            found.append(node.lineno)
    return found


def test_nothing_outside_the_fabrics_compares_a_fabric_with_a_name() -> None:
    wrong = (
        'if spec.fabric == "virtual": pass',
        'x = self.fabric in ("a", "b")',
        "match spec.fabric:\n case _: pass",
    )
    assert all(compared_with_names(ast.parse(text)) for text in wrong)
    inside = ROOT / "gannet" / "fabrics"
    files = [path for half in ("gannet", "node", "netem") for path in (ROOT / half).rglob("*.py")]
    assert len(files) > 200
    found = {
        str(path): lines
        for path in files
        if inside not in path.parents and (lines := compared_with_names(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found == {}
