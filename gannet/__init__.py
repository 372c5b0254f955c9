"""Gannet (GAN over networks): train GANs over slow, far and lossy networks, and see which way of training wins.

This is the public API; docs/api.md describes it. Its names are imported when they are first used, so that
`import gannet` loads nothing, and a link agent or a node loads nothing of what it does not use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gannet.experiment.api import RunError, compare, run
    from gannet.ledger.files import LedgerError
    from gannet.ledger.reader import Arm, Comparison, Run, read_comparison, read_run
    from gannet.ledger.tables import tables
    from gannet.node.algorithms.collectives import gossip, ring_all_reduce, server_average
    from gannet.node.codecs.custom.base import Codec
    from gannet.node.methods.base import Method
    from gannet.node.settings import Settings
    from gannet.node.tasks.base import Evaluation
    from gannet.node.tasks.custom.base import Batch, Task
    from gannet.node.topologies.custom.base import Graph
    from gannet.node.training.optimizers import OAdam
    from gannet.node.training.worker import Step, Worker
    from gannet.spec.load import SpecError, load_spec
    from gannet.spec.run_spec import ComparisonSpec, RunSpec

__all__ = [
    "Arm",
    "Batch",
    "Codec",
    "Comparison",
    "ComparisonSpec",
    "Evaluation",
    "Graph",
    "LedgerError",
    "Method",
    "OAdam",
    "Run",
    "RunError",
    "RunSpec",
    "Settings",
    "SpecError",
    "Step",
    "Task",
    "Worker",
    "compare",
    "gossip",
    "load_spec",
    "read_comparison",
    "read_run",
    "ring_all_reduce",
    "run",
    "server_average",
    "tables",
]

_PLACES = {
    "gannet.experiment.api": ("RunError", "compare", "run"),
    "gannet.ledger.files": ("LedgerError",),
    "gannet.ledger.reader": ("Arm", "Comparison", "Run", "read_comparison", "read_run"),
    "gannet.ledger.tables": ("tables",),
    "gannet.node.algorithms.collectives": ("gossip", "ring_all_reduce", "server_average"),
    "gannet.node.codecs.custom.base": ("Codec",),
    "gannet.node.methods.base": ("Method",),
    "gannet.node.settings": ("Settings",),
    "gannet.node.tasks.base": ("Evaluation",),
    "gannet.node.tasks.custom.base": ("Batch", "Task"),
    "gannet.node.training.optimizers": ("OAdam",),
    "gannet.node.training.worker": ("Step", "Worker"),
    "gannet.node.topologies.custom.base": ("Graph",),
    "gannet.spec.load": ("SpecError", "load_spec"),
    "gannet.spec.run_spec": ("ComparisonSpec", "RunSpec"),
}


def __getattr__(name: str) -> Any:
    """The public name, imported on its first use (PEP 562)."""
    for module, names in _PLACES.items():
        if name in names:
            value = getattr(import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
