"""Prints the findings of checks of a user's files."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from gannet.node.plugins import Finding


def print_findings(console: Console, title: str, findings: Sequence[Finding]) -> int:
    """Print each with its fix, then one line about `title`; returns how many there are."""
    for name, what, fix in findings:
        console.print(f"[red]{name}[/red]: {escape(what)}\n    fix: {escape(fix)}", soft_wrap=True)
    words = "no mistakes found" if not findings else f"{len(findings)} found; fix them and check again"
    console.print(f"{title}: {words}", style="green" if not findings else "red", markup=False)
    return len(findings)
