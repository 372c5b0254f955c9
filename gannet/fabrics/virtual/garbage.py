"""Fewer searches for garbage while many nodes are simulated.

Python looks for unreachable cycles whenever it has made 700 more objects than it has freed. A thousand nodes have
that many messages and timers at any moment, none of them garbage: a fifth of a run's time went into looking at them.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Not many more: garbage may hold vectors as long as the model.
_OBJECTS, _OBJECTS_A_NODE = 10_000, 100


@contextmanager
def fewer_searches(nodes: int) -> Iterator[None]:
    """Within the block, look for garbage after more new objects than so many nodes have in flight at any moment.

    Less often still, where it was less often before.
    """
    before, objects = gc.get_threshold(), max(_OBJECTS, _OBJECTS_A_NODE * nodes)
    if 0 < before[0] < objects:
        gc.set_threshold(objects, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
