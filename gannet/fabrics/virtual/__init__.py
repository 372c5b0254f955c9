"""The virtual fabric: a discrete-event simulation of nodes and links on a virtual clock."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from gannet.fabrics.kind import FabricKind, FabricSetup

if TYPE_CHECKING:
    from gannet.fabrics.job import Fabric


def _open(setup: FabricSetup) -> AbstractContextManager[Fabric]:
    from gannet.fabrics.virtual.fabric import run_virtual  # imports torch

    return nullcontext(run_virtual)


FABRICS = (FabricKind("virtual", open=_open, modelled=True, resumable=True, revives=True, late_joins=True),)
