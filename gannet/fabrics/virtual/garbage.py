"""Fewer searches for garbage while many nodes are simulated.

Python looks for unreachable cycles whenever it has made 700 more objects than it has freed. A thousand nodes have
that many messages and timers at any moment, none of them garbage: a fifth of a run's time went into looking at them.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_OBJECTS = 10_000  # not more: each may hold a vector as long as the model


@contextmanager
def fewer_searches() -> Iterator[None]:
    """Within the block, look for garbage after 10,000 new objects (less often, where it was less often before)."""
    before = gc.get_threshold()
    if 0 < before[0] < _OBJECTS:
        gc.set_threshold(_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
