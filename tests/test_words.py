"""Text that users read keeps to plain English: phrases that were retired do not come back.

Read are the help of every command, the README and docs/, the report's templates, dashboards, metric help and alert
annotations, and every string literal of gannet/, node/ and netem/ that is not a docstring.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from gannet.cli.main import app
from gannet.metrics.registry import COUNTERS, GAUGES

ROOT = Path(__file__).parents[1]

RETIRED = {
    r"in force": "applied, active",
    r"as ordered": "as configured; within tolerance",
    r"anew": "again",
    r"beside": "next to, besides, compared with",
    r"whoever": "name the one who does",
    r"nobody|somebody": "no node, no peer, a user",
    r"amiss": "out of tolerance",
    r"of (its|their) own accord": "by itself, by themselves",
    r"for good(?! (reason|measure))": "permanently",
    r"(is|are|was|were) told": "receives, is notified",
    r"so many(?! (that|as))": "N, a number of",
    r"on (its|their) way": "in flight",
    r"goes on(?! the)|go on (with|from|without)|cannot go on": "continues, resumes",
    r"berths?": "node interface",
    r"muster(s|ed)?": "membership, join",
    r"parcels?": "message",
    r"zygotes?": "fork server",
    r"crews?": "agent pool",
    r"(?<!gannet[./])ledgers?(?![./])": "run folder",
}
PATTERNS = {re.compile(rf"\b({phrase})\b", re.IGNORECASE): plain for phrase, plain in RETIRED.items()}


def retired(where: str, text: str) -> list[str]:
    """A line for each retired phrase in a text."""
    found = [(match, plain) for pattern, plain in PATTERNS.items() for match in pattern.finditer(text)]
    return [
        f"{where}: {match.group()!r} (rather: {plain}) in {text[max(0, match.start() - 40) : match.end() + 40]!r}"
        for match, plain in found
    ]


def check(texts: Iterator[tuple[str, str]]) -> None:
    read = list(texts)
    assert read, "there is nothing here to read"
    assert not (found := [line for where, text in read for line in retired(where, text)]), "\n".join(found)


def helps(command: Any, name: str) -> Iterator[tuple[str, str]]:
    for text in (command.help, command.short_help, command.epilog):
        yield f"{name} --help", text or ""
    for parameter in command.params:
        yield f"{name} --help, {parameter.name}", getattr(parameter, "help", None) or ""
    for below in getattr(command, "commands", {}).values():
        yield from helps(below, f"{name} {below.name}")


def test_the_help_of_every_command() -> None:
    texts = list(helps(typer.main.get_command(app), "gannet"))
    assert any("net apply" in where for where, _ in texts), "subcommands are read too"
    check(iter(texts))


@pytest.mark.parametrize("path", ["README.md", "docs/**/*.md", "bench/README.md", "gannet/report/templates/*"])
def test_documents_and_templates(path: str) -> None:
    check((str(file.relative_to(ROOT)), file.read_text()) for file in sorted(ROOT.glob(path)))


def texts_of(content: Any, keys: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Every string below one of these keys, wherever it is in a nested structure."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key in keys and isinstance(value, str):
                yield key, value
            else:
                yield from texts_of(value, keys)
    elif isinstance(content, list):
        for value in content:
            yield from texts_of(value, keys)


def test_dashboards_metrics_and_alerts() -> None:
    keys = ("title", "description", "legendFormat", "displayName", "text")
    for path in sorted(ROOT.glob("dashboards/*.json")):
        check((f"{path.name}, {key}", text) for key, text in texts_of(json.loads(path.read_text()), keys))
    check((name, text) for name, (text, _) in (GAUGES | COUNTERS).items())
    for path in sorted(ROOT.glob("compose/prometheus/rules/*.yml")):
        groups = yaml.safe_load(path.read_text())["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        check((path.name, json.dumps(rule)) for rule in rules)


def literals(path: Path) -> Iterator[tuple[str, str]]:
    """The string literals of a module, without its docstrings."""
    tree = ast.parse(path.read_text())
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


@pytest.mark.parametrize("folder", ["gannet", "node", "netem"])
def test_string_literals(folder: str) -> None:
    files = [
        path for path in sorted((ROOT / folder).rglob("*.py")) if "_pb2" not in path.name
    ]  # links are not followed
    check(text for path in files for text in literals(path))


def test_a_retired_phrase_is_found_and_good_english_is_not() -> None:
    assert len(retired("here", "Whoever is told that links in force are as ordered goes on.")) == 5
    good = "They go on the wire once more, besides; for good reason, so many that the account is in gannet.ledger."
    assert not retired("here", good)
