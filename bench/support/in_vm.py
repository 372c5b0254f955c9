"""A benchmark under a kernel that has what this machine's lacks: Debian's stock kernel, which qemu emulates."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VM = Path(__file__).parents[2] / "tests/netem/vm/netem-vm"


def said_in_vm(script: str, arguments: Sequence[str]) -> Any:
    """JSON that a benchmark prints on a separate line, when it runs with `--json` in the emulated machine.

    Its other output goes to stderr as it comes: files written inside the machine are lost. Raises
    SystemExit when it ends without figures.
    """
    command = [str(VM), "--", "env", "PYTHONDONTWRITEBYTECODE=1", sys.executable, str(Path(script).absolute())]
    found = None
    with subprocess.Popen(
        [*command, *arguments, "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as machine:
        assert machine.stdout is not None
        for line in machine.stdout:
            if line.startswith("{"):
                found = json.loads(line)
            else:
                print(line, end="", file=sys.stderr, flush=True)
    if machine.returncode or found is None:
        raise SystemExit(f"{VM.name} ended with status {machine.returncode} and without figures: see above")
    return found
