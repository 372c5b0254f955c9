"""A method declares itself: nothing outside node/methods compares its name, lists names, or knows its class."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from gannet.node.methods.base import Method
from gannet.node.methods.registry import METHODS
from tests.test_layout import PRODUCT, ROOT, imports

ELSEWHERE = [path for path in PRODUCT if path.relative_to(ROOT).parts[:2] != ("node", "methods")]
SHARED = {f"gannet.node.methods.{name}" for name in ("base", "custom", "formulas", "registry", "segments")}
OWN = {f"node/algorithms/{of.__module__.rpartition('.')[2]}.py" for of in METHODS.values()} | {
    "node/process/torch_ddp.py"  # what DDP declares as its all_reduce
}


def asks_a_name(node: ast.AST) -> bool:
    """algorithm.name compared with, matched against, or looked up in something."""

    def is_name(part: ast.AST) -> bool:
        whole = ast.unparse(part) if isinstance(part, ast.Attribute) else ""
        return whole == "algorithm.name" or whole.endswith(".algorithm.name")

    match node:
        case ast.Compare():
            return any(is_name(side) for side in (node.left, *node.comparators))
        case ast.Match():
            return is_name(node.subject)
        case ast.Subscript():
            return is_name(node.slice)
        case ast.SetComp() | ast.ListComp():
            return is_name(node.elt)
    return False


@pytest.mark.parametrize(
    "text",
    [
        'spec.algorithm.name == "ddp"',
        "algorithm.name in ASYNCHRONOUS",
        "ALGORITHMS[config.algorithm.name]",
        '{p.algorithm.name for p in parts} <= {"local"}',
        'match c.algorithm.name:\n    case "ddp": pass',
    ],
)
def test_the_search_finds_what_it_is_for(text: str) -> None:
    assert any(map(asks_a_name, ast.walk(ast.parse(text))))
    assert not any(map(asks_a_name, ast.walk(ast.parse("print(spec.algorithm.name); task.name == 'gan'"))))


def test_no_method_is_told_from_another_by_its_name() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in ELSEWHERE
        for node in ast.walk(ast.parse(path.read_text()))
        if asks_a_name(node) and isinstance(node, (ast.expr, ast.stmt))
    ]
    assert found == []


def test_only_a_method_s_own_algorithm_knows_its_class() -> None:
    def strange(path: Path) -> set[str]:
        return {name for name in imports(path) if name.startswith("gannet.node.methods.")} - SHARED

    found = {str(path.relative_to(ROOT)): strange(path) for path in ELSEWHERE if strange(path)}
    assert set(found) <= OWN, found


@pytest.mark.parametrize("name", METHODS)
def test_every_module_of_the_folder_is_a_method_with_a_coroutine_of_its_own(name: str) -> None:
    of = METHODS[name]
    module = of.__module__.rpartition(".")[2]
    assert of.coroutine.startswith(f"gannet.node.algorithms.{module}:")
    assert issubclass(of, Method) and name == module.replace("_", "-")
