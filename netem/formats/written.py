"""Imported networks as the YAML of specs and matrix files, with what was understood in comments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gannet.netem import yaml12
from gannet.netem.formats.base import FormatError, Imported
from gannet.netem.links.yaml_files import printable

# A spec is read as all YAML is, which takes minutes for a million numbers; a matrix file is read row by row.
_MOST_ROWS_IN_A_SPEC = 32
_TABLES = {"delays_ms": "delays", "round_trips_ms": "round_trips", "losses_percent": "losses", "rates": "rates"}


def files_of(imported: Imported, out: Path, of: Path) -> dict[Path, str]:
    """The texts to be written, by path; `of` is the imported file. Raises FormatError."""
    what, *suffixes = _WHAT[imported.kind]
    if out.suffix not in suffixes:  # which is how a trace's CSV is told from Mahimahi's files
        raise FormatError(f"{out}: {what} is a {suffixes[0]} file, so give -o such a name")
    if imported.kind == "trace":
        return {out: imported.content}
    comments = [
        f"from {of} ({imported.format})",
        *imported.facts,
        *(f"not held: {each}" for each in imported.dropped),
    ]
    content, others = dict(imported.content), {}
    if imported.kind == "links" and content["nodes"] > _MOST_ROWS_IN_A_SPEC:
        beside = out.with_suffix(f".matrix{out.suffix}")
        links = dict(content["links"])
        tables = {name: links.pop(name) for name in _TABLES if name in links}
        content["links"] = {**links, **{_TABLES[name]: beside.name for name in tables}}
        others[beside] = yaml_of(tables, [f"the matrices of {out}"])
    if imported.kind == "links":
        comments += [f"node {rank}: {name}" for rank, name in enumerate(imported.names)]
    return {out: yaml_of(content, comments), **others}


_WHAT = {
    "links": ("a spec", ".yaml", ".yml"),
    "matrix": ("a matrix", ".yaml", ".yml"),
    "profile": ("a profile", ".yaml", ".yml"),
    "trace": ("a trace", ".csv"),
}


def yaml_of(content: Mapping[str, Any], comments: list[str]) -> str:
    """YAML with matrices a row a line."""
    lines = [f"# {' '.join(printable(comment).split())}" for comment in comments]
    return "\n".join([*lines, *_lines(content, 0), ""])


def _lines(value: Mapping[str, Any], indent: int) -> list[str]:
    found: list[str] = []
    pad = "  " * indent
    for key, item in value.items():
        name = yaml12.dump({key: 0}).rpartition(":")[0]
        if isinstance(item, list) and item and all(isinstance(row, list) for row in item):
            found += [f"{pad}{name}:", *(f"{pad}  - {json.dumps(row, ensure_ascii=False)}" for row in item)]
        elif isinstance(item, dict) and any(isinstance(inner, (dict, list)) for inner in item.values()):
            found += [f"{pad}{name}:", *_lines(item, indent + 1)]
        elif isinstance(item, list) and all(isinstance(each, dict) for each in item):
            found += [f"{pad}{name}:", *(f"{pad}  - {json.dumps(each, ensure_ascii=False)}" for each in item)]
        elif isinstance(item, (list, dict)):
            found.append(f"{pad}{name}: {json.dumps(item, ensure_ascii=False)}")
        else:
            found.append(f"{pad}{yaml12.dump({key: item}).rstrip()}")
    return found


def how_to_use(imported: Imported, out: Path) -> str:
    """The next thing to type or write."""
    if imported.modelled:
        return f"nodes and links of {out} in a spec of fabric: virtual"
    if imported.kind == "links":
        return f"gannet net up {out}"
    if imported.kind == "matrix" and "regions" in imported.content:
        first = imported.content["regions"][0]
        return f"in a spec: links: {{regions: {{matrix: {out}, nodes: [{first}, …]}}}}"
    if imported.kind == "matrix":
        said = [f"{short}: {out}" for name, short in _TABLES.items() if name in imported.content]
        return f"in a spec: links: {{{', '.join(said)}}}"
    return f"gannet net {'replay' if imported.kind == 'trace' else 'up'} {out}"
