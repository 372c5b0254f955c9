"""Runs `ip` commands, which build what gannet.fabrics.addresses describes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from itertools import groupby


def ip(commands: Sequence[Sequence[str]], check: bool = True) -> None:
    """Run `ip` commands, in batches of one namespace. Raises RuntimeError with ip's own message."""
    for namespace, group in groupby(commands, lambda command: command[1] if command[0] == "-n" else None):
        lines = [" ".join(command[2:] if namespace else command) for command in group]
        argv = [
            "ip",
            *(["-n", namespace] if namespace else []),
            *([] if check else ["-force"]),
            "-batch",
            "-",
        ]
        done = subprocess.run(argv, input="\n".join(lines), text=True, capture_output=True)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(argv)} failed: {done.stderr.strip()}")
