"""The namespaces fabric: a process and a network namespace for each node, real TCP over shaped links."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from gannet.fabrics.kind import FabricKind, FabricSetup

if TYPE_CHECKING:
    from gannet.fabrics.job import Fabric


def _open(setup: FabricSetup) -> AbstractContextManager[Fabric]:
    from gannet.fabrics.namespaces.fabric import NamespacesFabric  # imports grpc and torch
    from gannet.netem.preflight import choose_engine

    engines = {engine: choose_engine(engine, setup.profiles) for engine in setup.engines}
    return NamespacesFabric(setup.logs, engines.get("auto", next(iter(engines.values()))))


FABRICS = (
    FabricKind(
        "namespaces",
        open=_open,
        operators=True,
        resumable=True,
        revives=True,
        late_joins=True,
        can_encrypt=True,
        needs_sandbox=True,
        reaches_core=True,
    ),
)
