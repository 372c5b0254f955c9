"""What a controller that is started again knows of a node that trained on meanwhile."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """`verifier`: of its key. `parameters`, `name`: as in Ready. `recorded`: the last report's number on record."""

    verifier: str
    parameters: int
    name: str = ""
    recorded: int = 0


def verifier_of(key: str) -> str:
    """What shows that a key is the right one, and from which nobody can make it: keys are 128 random bits."""
    return hashlib.sha256(key.encode()).hexdigest()
