"""Start-up and memory: how long until all nodes train, and what each costs, for 4 and 8 nodes on this machine.

    python bench/startup.py [--nodes 4 8]

Runs the `gannet` command itself on the shipped demo's network and task, for a few steps without exchange,
and reads the run's own summary. Set-up counts from the first namespace to the training clock's start:
links, forked nodes, the measurement of every link, warm channels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

TARGET_S, TARGET_MB = 30.0, 700.0


def measure(nodes: int) -> dict[str, Any]:
    """Run the demo's gossip arm for two steps on `nodes` nodes; its summary and the whole command's time."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        settings = [f"nodes={nodes}", "stop={steps: 2}", "score=null", "snapshot_every=2", "pace_ms=null"]
        argv = [sys.executable, "-m", "gannet", "run", "demo", "--arm", "gossip", "--out", str(out)]
        begin = time.monotonic()
        subprocess.run([*argv, *(word for s in settings for word in ("--set", s))], check=True, capture_output=True)
        summary: dict[str, Any] = json.loads((out / "gossip" / "seed-1" / "summary.json").read_text())
        return summary | {"command_s": time.monotonic() - begin}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Start-up time and memory of nodes.")
    parser.add_argument("--nodes", type=int, nargs="+", default=[4, 8])
    table = Table(title="Start-up and memory", title_justify="left")
    headings = ("nodes", "until training", "of 30 s", "whole command", "memory a node (PSS)", "of 700 MB")
    for heading in headings:
        table.add_column(heading, justify="right")
    for nodes in parser.parse_args().nodes:
        found = measure(nodes)
        memory_mb = max(found["memory_mb"])
        table.add_row(
            str(nodes),
            f"{found['setup_s']:.1f} s",
            f"{found['setup_s'] / TARGET_S:.2f}",
            f"{found['command_s']:.1f} s",
            f"{memory_mb:.0f} MB",
            f"{memory_mb / TARGET_MB:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
