"""The available fabrics: those in the folders of gannet/fabrics and those that installed packages add.

A package adds one by an entry point of the group gannet.fabrics: the fabric's name, and where its FabricKind is.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

import gannet.fabrics
from gannet.fabrics.kind import FabricKind

GROUP = "gannet.fabrics"


def fabric_names() -> tuple[str, ...]:
    """The names of the fabrics; no other package's code is run to list them."""
    return tuple(sorted({*_shipped(), *_installed()}))


def fabric_kind(name: str) -> FabricKind:
    """The declaration of a fabric. Raises ValueError, with the reason, where there is none."""
    if name in _shipped():
        return _shipped()[name]
    if name not in _installed():
        raise ValueError(f"no fabric is called {name!r}; there are {', '.join(fabric_names())}")
    entry = _installed()[name]
    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"fabric {name}: its entry point {entry.value} cannot be loaded: {error}") from error
    if not isinstance(found, FabricKind) or found.name != name:
        raise ValueError(f"fabric {name}: its entry point {entry.value} is not a FabricKind of that name")
    return found


def is_modelled(name: str) -> bool:
    """Whether runs of that fabric are modelled; False for one that is not installed here, whose runs may be read."""
    return name in fabric_names() and fabric_kind(name).modelled


@cache
def _shipped() -> dict[str, FabricKind]:
    folders = [f"{GROUP}.{found.name}" for found in pkgutil.iter_modules(gannet.fabrics.__path__) if found.ispkg]
    kinds = [kind for folder in folders for kind in getattr(import_module(folder), "FABRICS", ())]
    return {kind.name: kind for kind in kinds}


@cache
def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
