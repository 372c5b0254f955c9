"""The `gannet` command as the child of a program that calls `gannet.run` or `gannet.compare` (gannet.experiment.api).

`python -P …/gannet/cli/from_python.py PID ARGUMENT…` runs the code of the `gannet` package that this file is in,
even if the current folder or PYTHONPATH has another one, and ends when process PID, which started it, ends.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main() -> None:
    """Find this package, then do what the command does."""
    parent_pid = int(sys.argv.pop(1))
    sys.path.insert(0, str(Path(__file__).parents[2]))
    importlib.import_module("gannet")
    sys.path.append(sys.path.pop(0))  # once gannet is found, its modules are
    importlib.import_module("gannet.netem.process").die_with_parent(parent_pid)
    sys.argv[0] = "gannet"
    importlib.import_module("gannet.cli.main").main()


if __name__ == "__main__":
    main()
