"""The checkpoints in a run's folder: checkpoints/step-…/node-….safetensors, the last two sets that all nodes have.

A set is whole when every node's file exists; a run resumes from the newest whole one. Nodes can be some steps apart,
so newer sets that are not whole yet are kept in addition to the two.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from gannet.ledger.atomic import whole_file

_KEPT = 2


class CheckpointFolder:
    """The checkpoints of a run with `world` nodes; importing this module does not import torch."""

    def __init__(self, run: Path, world: int) -> None:
        self.folder, self._world = run / "checkpoints", world

    def put(self, rank: int, step: int, data: bytes) -> None:
        """Keep a node's checkpoint, written whole or not at all; remove sets that newer whole ones supersede."""
        final = self.path(step, rank)
        final.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(final, durable=True) as partial:
            partial.write_bytes(data)
        whole = self.whole()
        if step in whole and len(whole) > _KEPT:
            for old in [step for step in self._steps() if step < whole[-_KEPT]]:
                shutil.rmtree(self.folder / f"step-{old:06d}")

    def path(self, step: int, rank: int) -> Path:
        """The path of a node's checkpoint of a step, whether or not it exists."""
        return self.folder / f"step-{step:06d}" / f"node-{rank}.safetensors"

    def whole(self) -> list[int]:
        """The steps at which all nodes have a checkpoint, the newest last."""
        return [s for s in self._steps() if all(self.path(s, rank).is_file() for rank in range(self._world))]

    def forget_after(self, step: int) -> None:
        """Remove the sets of later steps: a run that resumes from `step` makes them again."""
        for later in [s for s in self._steps() if s > step]:
            shutil.rmtree(self.folder / f"step-{later:06d}")

    def _steps(self) -> list[int]:
        return sorted(int(folder.name.removeprefix("step-")) for folder in self.folder.glob("step-*"))
