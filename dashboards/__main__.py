"""`python -m dashboards`: write every dashboard's JSON next to this file, or into the given folder."""

from __future__ import annotations

import sys
from pathlib import Path

from dashboards.compare import compare
from dashboards.frame import text
from dashboards.network import network
from dashboards.training import training
from dashboards.trust import trust

DASHBOARDS = {"training": training, "network": network, "compare": compare, "trust": trust}


def write(folder: Path) -> list[Path]:
    """Write all dashboards; returns the files."""
    paths = []
    for name, make in DASHBOARDS.items():
        path = folder / f"{name}.json"
        path.write_text(text(make()), encoding="utf-8")
        paths.append(path)
    return paths


if __name__ == "__main__":
    for path in write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent):
        print(path)
