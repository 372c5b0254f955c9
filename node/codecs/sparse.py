"""Some of the values only: the largest (top-k), or some at random (random-k).

Top-k is biased and a contraction: ‖Q(v) − v‖² ≤ (1 − k/n) ‖v‖² (Stich et al. 2018); with an error memory training
with it converges. Random-k scales what it picks by how many values stand for one, so it is unbiased, with variance
(n/k − 1) ‖v‖². k is the given share of n, rounded up, so lengths are known from the count.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from gannet.node.codecs.base import QuantizerConfig, Stateless
from gannet.node.codecs.dither import Dither, Dithered, flat
from gannet.node.codecs.finite import all_finite
from gannet.node.codecs.lazy import np, torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_HEADER = 4  # the count
Ratio = Annotated[float, Field(gt=0, le=1)]


class TopKConfig(QuantizerConfig):
    """The largest magnitudes, that share of all values; biased: needs an error memory."""

    unbiased: ClassVar[bool] = False
    forms: ClassVar[tuple[str, ...]] = ("top-k",)

    name: Literal["top-k"]
    ratio: Ratio = 0.01

    def build(self, seed: int, rank: int) -> TopKCodec:
        return TopKCodec(self.text, self.ratio)


class RandomKConfig(QuantizerConfig):
    """Values picked at random, that share of all, scaled up to stay unbiased."""

    forms: ClassVar[tuple[str, ...]] = ("random-k",)

    name: Literal["random-k"]
    ratio: Ratio = 0.1

    @property
    def damping(self) -> float:
        """k/n, as ω = n/k − 1: the result is the paper's rand_k, which keeps values unscaled."""
        return self.ratio

    def build(self, seed: int, rank: int) -> RandomKCodec:
        return RandomKCodec(self.text, self.ratio, Dither(seed, rank))


def kept(count: int, ratio: float) -> int:
    """Number of values sent, of `count`."""
    return min(count, ceil(count * ratio))


class TopKCodec(Stateless):
    """The k largest magnitudes: the count, where they are, and their values in float32.

    Their places take 4 bytes each or a bit for every value, whichever is shorter for that count.
    """

    unbiased = False

    def __init__(self, name: str, ratio: float) -> None:
        self.name, self.ratio = name, ratio

    def wire_bytes(self, count: int) -> int:
        k = kept(count, self.ratio)
        return _HEADER + min(4 * k, -(-count // 8)) + 4 * k

    def encode(self, values: Tensor) -> memoryview:
        x = flat(values).numpy()
        k = kept(len(x), self.ratio)
        payload = np.empty(self.wire_bytes(len(x)), np.uint8)
        payload[:_HEADER].view("<u4")[0] = len(x)
        if not len(x):
            return payload.data
        where = _largest(np.abs(x), k)
        picked = x[where]
        if not all_finite(torch.from_numpy(x)):  # values that are not sent too: a vector with NaN must not look whole
            picked[0] = np.nan
        places = payload[_HEADER : -4 * k]
        if 4 * k <= -(-len(x) // 8):
            places.view("<u4")[:] = where
        else:
            mask = np.zeros(len(x), bool)
            mask[where] = True
            places[:] = np.packbits(mask)
        payload[-4 * k :] = picked.astype("<f4", copy=False).view(np.uint8)
        return payload.data

    def decode(self, payload: memoryview) -> Tensor:
        count, where, picked = self._open(payload)
        values = torch.zeros(count)
        values.numpy()[where] = picked
        return values

    def finite(self, payload: memoryview) -> bool:
        return bool(np.isfinite(self._open(payload)[2]).all())

    def _open(self, payload: memoryview) -> tuple[int, NDArray[np.int64], NDArray[np.float32]]:
        """(count, places in ascending order, values there), or ValueError."""
        count = int.from_bytes(payload[:_HEADER], "little")
        if len(payload) < _HEADER or len(payload) != self.wire_bytes(count):
            raise ValueError(f"{len(payload)} bytes are no whole number of {self.name} values")
        k = kept(count, self.ratio)
        data = np.frombuffer(payload, np.uint8)
        places, picked = data[_HEADER : len(data) - 4 * k], data[len(data) - 4 * k :].view("<f4")
        if 4 * k <= -(-count // 8):
            where = places.view("<u4").astype(np.int64)
            if k and (where[-1] >= count or (np.diff(where) <= 0).any()):
                raise ValueError("places that are not in order, or behind the last value")
        else:
            where = np.flatnonzero(np.unpackbits(places))
            if len(where) != k or (k and where[-1] >= count):
                raise ValueError(f"{len(where)} places where {k} values are")
        return count, where, picked.astype(np.float32)


def _largest(magnitudes: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Places of the k largest, ascending; of equals the first."""
    threshold = np.partition(magnitudes, len(magnitudes) - k)[len(magnitudes) - k]
    above = np.flatnonzero(magnitudes > threshold)
    if len(above) == k:
        return above
    # NaN equals nothing: whatever is there then, k places are named, and the payload is not finite anyway.
    equal = np.flatnonzero(~(magnitudes > threshold) & ~(magnitudes < threshold))
    return np.sort(np.concatenate([above, equal])[:k])


class RandomKCodec(Dithered):
    """One value of each of k runs of neighbours, picked at random and scaled by the run's length.

    Picking one of each run instead of any k of all has the same mean and the same variance, n/k − 1 where k divides
    n, and takes no search. Receivers draw the same places from a seed in the payload: count, seed, values.
    """

    def __init__(self, name: str, ratio: float, dither: Dither) -> None:
        super().__init__(name, dither)
        self.ratio = ratio

    def wire_bytes(self, count: int) -> int:
        return _HEADER + 8 + 4 * kept(count, self.ratio)

    def encode(self, values: Tensor) -> memoryview:
        x = flat(values).numpy()
        payload, seed = np.empty(self.wire_bytes(len(x)), np.uint8), self._dither.word()
        payload[:_HEADER].view("<u4")[0] = len(x)
        payload[_HEADER : _HEADER + 8].view("<u8")[0] = seed
        where, lengths = _picks(len(x), kept(len(x), self.ratio), seed)
        with np.errstate(over="ignore"):  # what overflows is not finite, and refused
            picked = x[where] * lengths
        if not all_finite(torch.from_numpy(x)):
            picked[:1] = np.nan
        payload[_HEADER + 8 :] = picked.astype("<f4", copy=False).view(np.uint8)
        return payload.data

    def decode(self, payload: memoryview) -> Tensor:
        count, seed, picked = self._open(payload)
        values = torch.zeros(count)
        values.numpy()[_picks(count, len(picked), seed)[0]] = picked
        return values

    def finite(self, payload: memoryview) -> bool:
        return bool(np.isfinite(self._open(payload)[2]).all())

    def _open(self, payload: memoryview) -> tuple[int, int, NDArray[np.float32]]:
        count = int.from_bytes(payload[:_HEADER], "little")
        if len(payload) < _HEADER + 8 or len(payload) != self.wire_bytes(count):
            raise ValueError(f"{len(payload)} bytes are no whole number of {self.name} values")
        seed = int.from_bytes(payload[_HEADER : _HEADER + 8], "little")
        return count, seed, np.frombuffer(payload, "<f4", offset=_HEADER + 8).astype(np.float32)


def _picks(count: int, k: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """One place in each of k runs that share `count` values, and the runs' lengths; places by SplitMix64."""
    edges = np.arange(k + 1, dtype=np.int64) * count // max(1, k)
    lengths = np.diff(edges)
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, k + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return edges[:-1] + (z % lengths.astype(np.uint64)).astype(np.int64), lengths.astype(np.float32)
