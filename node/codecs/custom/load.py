"""Builds a codec from a user's Python, and holds it to the interface of codecs.

Its output is checked on every use: a payload whose length differs from `wire_bytes` would silently falsify deadlines,
byte counts and predicted times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from gannet.node.codecs.custom.base import Codec
from gannet.node.codecs.dither import flat
from gannet.node.codecs.lazy import torch
from gannet.node.plugins import PluginError, PythonSource, built, telling

if TYPE_CHECKING:
    from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")
_WANTED = ("casts", "variance", "grain", "raw_below", "wire_bytes", "encode", "decode", "finite", "state",
           "load_state")  # fmt: skip


def build_own(source: PythonSource, seed: int, rank: int) -> GuardedCodec:
    """The codec that the file or entry point makes. Raises PluginError."""
    codec = built(source, Codec, "codec", _WANTED, settings=dict(source.settings), seed=seed, rank=rank)
    if not hasattr(codec, "unbiased"):
        raise PluginError(
            f"{source.title}: {type(codec).__name__} does not say whether it is biased: give it unbiased = True, "
            "or unbiased = False"
        )
    return GuardedCodec(codec, source)


class GuardedCodec:
    """A user's codec whose results are checked and whose errors name the line in the file."""

    fixed_size = True
    exact = False

    def __init__(self, codec: Codec, source: PythonSource) -> None:
        self.codec, self.name, self._title = codec, source.identity, source.title
        self.unbiased = self._is(bool, "unbiased", codec.unbiased)
        self.casts = self._is(bool, "casts", codec.casts)
        self.grain = self._is(int, "grain", codec.grain, least=1)
        self._raw_below = self._is(int, "raw_below", codec.raw_below, least=0)
        variance = codec.variance if codec.variance is not None else 0.0
        if not isinstance(variance, (int, float)) or not 0 <= variance < float("inf"):
            raise PluginError(f"{self._title}: variance is a number from 0, or None, not {codec.variance!r}")
        self.damping = 1 / (1 + variance) if self.unbiased else 1.0

    def keeps_float32(self, values: int, statistics: bool) -> bool:
        """See Traits."""
        return not self.casts and ((statistics and self._raw_below > 0) or values < self._raw_below)

    def wire_bytes(self, count: int) -> int:
        size: int = self._is(int, f"wire_bytes({count})", self._call(self.codec.wire_bytes, count), least=0)
        return size

    def encode(self, values: Tensor) -> memoryview:
        x = flat(values)
        payload = self._call(self.codec.encode, x)
        if not isinstance(payload, bytes):
            raise PluginError(
                f"{self._title}: encode gave {type(payload).__name__}: return bytes, which do not change in flight"
            )
        if len(payload) != (size := self.wire_bytes(len(x))):
            raise PluginError(
                f"{self._title}: encode gave {len(payload)} bytes for {len(x)} values, and wire_bytes({len(x)}) says "
                f"{size}"
            )
        return memoryview(payload)

    def decode(self, payload: memoryview) -> Tensor:
        values = self._call(self.codec.decode, payload.toreadonly())
        if not isinstance(values, torch.Tensor) or values.dtype != torch.float32 or values.dim() != 1:
            got = type(values).__name__
            if isinstance(values, torch.Tensor):
                got = f"{values.dtype} of shape {tuple(values.shape)}"
            raise PluginError(f"{self._title}: decode gave {got}, not a flat tensor of float32")
        if self.wire_bytes(len(values)) != len(payload):
            raise ValueError(f"{len(payload)} bytes cannot be {len(values)} values of {self._title}")
        return values

    def finite(self, payload: memoryview) -> bool:
        return bool(self._call(self.codec.finite, payload.toreadonly()))

    def state(self) -> dict[str, Tensor]:
        return self._call(self.codec.state)

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._call(self.codec.load_state, state)

    def _call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return telling(method, self._title)(*args, **kwargs)

    def _is(self, kind: type[Any], what: str, value: Any, least: int | None = None) -> Any:
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not right or (least is not None and value < least):
            wanted = "True or False" if kind is bool else f"a whole number from {least}"
            raise PluginError(f"{self._title}: {what} is {wanted}, not {value!r}")
        return value
