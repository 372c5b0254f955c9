"""Where the results of a run or comparison go."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gannet.spec.run_spec import RunSpec


def run_folder(folder: Path, spec: RunSpec) -> Path:
    """<arm>/seed-<s> in the comparison's folder."""
    return folder / spec.arm / f"seed-{spec.seed}"


def new_folder(out: str | Path | None, name: str) -> Path:
    """`out`, which may be missing or empty; by default runs/<name>-<time>, made here. Absolute.

    Raises FileExistsError where `out` is neither.
    """
    if out is None:
        return fresh_folder(Path("runs"), name)
    folder = Path(out).absolute()
    if folder.is_file():
        raise FileExistsError(f"{folder} is a file: choose a folder for the results")
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: choose another folder, or remove it")
    return folder


def fresh_folder(parent: Path, name: str) -> Path:
    """A new folder <name>-<time> in `parent`, or <name>-<time>-2 where a run of the same second has that; absolute.

    It is made here: of two commands that ask in the same moment each gets its own.
    """
    parent.mkdir(parents=True, exist_ok=True)
    first = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in count(1):
        folder = (parent / (first if number == 1 else f"{first}-{number}")).absolute()
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("count() has no end")
