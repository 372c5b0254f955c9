"""Modules and files that docs, docstrings and comments name are there: moves and new names leave none behind."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("gannet", "node", "netem", "bench", "compose", "dashboards", "tests")
DOTTED = re.compile(r"(?<![\w./@])gannet(?:\.[A-Za-z_]\w*)+")
A_FILE = re.compile(r"\.(py|ya?ml|json|log|md|png|html|toml)$")
PATH = re.compile(rf"(?<![\w./<>{{}}*-])(?:{'|'.join(FOLDERS)}|docs|proto|specs|findings)/[\w./-]+")
OF_THE_READER = re.compile(r"NAME\.py$|^specs/mine\.yaml$")


def texts() -> Iterator[tuple[str, str]]:
    """Each page, and each Python file's docstrings and comments, with its path."""
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")]:
        yield str(page.relative_to(ROOT)), page.read_text(encoding="utf-8")
    for path in sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")):
        if "_pb2" in path.name:
            continue
        source = path.read_text(encoding="utf-8")
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        words = [token.string for token in tokens if token.type == tokenize.COMMENT]
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                words.append(ast.get_docstring(node) or "")
        yield str(path.relative_to(ROOT)), "\n".join(words)


def known(dotted: str) -> bool:
    """Whether it is a package, a module, or a name that occurs in that module."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:count])
        files = [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
        if files or place.is_dir():
            rest = parts[count:]
            return not rest or any(re.search(rf"\b{rest[0]}\b", file.read_text(encoding="utf-8")) for file in files)
    return False


def test_what_is_named_exists() -> None:
    checked, missing = 0, []
    for where, text in texts():
        names = [name for name in DOTTED.findall(text) if not A_FILE.search(name)]
        paths = [name.rstrip("./-") for name in PATH.findall(text) if not OF_THE_READER.search(name)]
        checked += len(names) + len(paths)
        missing += [f"{where}: {name}" for name in names if not known(name)]
        missing += [f"{where}: {name}" for name in paths if not any(ROOT.glob(f"{name}*"))]
    assert checked > 300
    assert missing == []
