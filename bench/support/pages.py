"""Result files of a benchmark in bench/results: its figures as JSON, and as a page of Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], words: Collection[str] | None = None) -> str:
    """A Markdown table, without an end of line.

    `words`: the headings whose columns hold words; all others hold numbers and are set to the right. None: as they
    come.
    """
    rules = ["---" if words is None or heading in words else "---:" for heading in headings]
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, rules, *rows))


def leave(folder: Path, name: str, result: dict[str, Any], page: str) -> None:
    """Write <name>.json and <name>.md into the folder, and say so."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / f"{name}.md").write_text(page)
    print(f"wrote {folder / name}.json and .md")
