"""Weights that a run begins from, instead of those that its task draws by the seed.

They are named as in the task's layout and travel from the controller to every node in one safetensors file, which
holds numbers and names only. A node checks the digest and that each tensor has its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from gannet.node.layout import TensorSpec

_DIGEST = "sha256"


@dataclass(frozen=True)
class StartWeights:
    """Float32 tensors by their names in the layout: of all players, or of some."""

    tensors: dict[str, Tensor] = field(repr=False)

    @cached_property
    def sha256(self) -> str:
        """SHA-256, in hex, of every name, shape and value, whatever kind of file they came from."""
        hashed = sha256()
        for name, tensor in sorted(self.tensors.items()):
            hashed.update(repr((name, tuple(tensor.shape))).encode())
            hashed.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
        return hashed.hexdigest()

    def pack(self) -> bytes:
        """The file that travels."""
        return save({name: tensor.contiguous() for name, tensor in self.tensors.items()}, {_DIGEST: self.sha256})

    @classmethod
    def unpack(cls, data: bytes, digest: str) -> StartWeights:
        """Read what `pack` wrote. Raises ValueError unless its contents have that digest."""
        try:
            found = cls({name: tensor.clone() for name, tensor in load(data).items()})
        except (SafetensorError, ValueError) as error:
            raise ValueError(f"the weights to begin from did not come whole: {error}") from None
        if found.sha256 != digest:
            raise ValueError(f"the weights to begin from did not come whole: SHA-256 {found.sha256}, not {digest}")
        return found

    def put_into(self, x: Tensor, layout: Sequence[TensorSpec]) -> Tensor:
        """x with these tensors in their places, as a new tensor. Raises ValueError for one that has none."""
        places = {spec.name: spec for spec in layout}
        begun = x.clone()
        for name, tensor in self.tensors.items():
            spec = places.get(name)
            if spec is None or tuple(tensor.shape) != tuple(spec.shape) or tensor.dtype != x.dtype:
                raise ValueError(f"the weights to begin from have {name}, which does not fit this task")
            begun[spec.place] = tensor.reshape(-1)
        return begun
