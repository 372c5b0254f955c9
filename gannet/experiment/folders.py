"""Where the results of a run or comparison go."""

from __future__ import annotations

import time
from pathlib import Path


def new_folder(out: str | Path | None, name: str) -> Path:
    """`out`, or by default runs/<name>-<time>; absolute. Raises FileExistsError unless it is new or empty."""
    folder = Path(out or Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}").absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty: choose another folder, or remove it")
    return folder
