"""NumPy and torch, imported when they are first used.

A codec's settings and its arithmetic stand in one file, and a spec that names the codec is checked without the
seconds that it takes to import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
else:

    class _Lazy:
        def __init__(self, name: str) -> None:
            self._module = name

        def __getattr__(self, name: str) -> Any:
            value = getattr(import_module(self._module), name)
            setattr(self, name, value)  # found at once from now on
            return value

    np, torch = _Lazy("numpy"), _Lazy("torch")

__all__ = ["np", "torch"]
