"""Finds common mistakes in a user-defined codec before a run is lost to them; `gannet codec check`.

Findings come in stages, and a stage that finds something ends the check: later findings would only follow from it.
Seeds are fixed, so one file always has the same findings.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from gannet.node.codecs.custom.check_statistics import statistics
from gannet.node.codecs.custom.load import GuardedCodec
from gannet.node.plugins import USER_ERRORS, Finding, PluginError

Make = Callable[[int, int], GuardedCodec]  # (seed, rank) → the codec, built again

LENGTHS = (0, 1, 2, 3, 5, 7, 8, 9, 13, 31, 64, 127, 128, 257, 1000, 1009, 65_537)
_LONG = 1009


def check(make: Make) -> list[Finding]:
    """All findings, the gravest first; empty: none of these mistakes was found."""
    for stage in (_sizes, _repeats, _memory, _not_finite, _values, statistics):
        if findings := list(stage(make)):
            return findings
    return []


def vector(length: int, seed: int = 1) -> Tensor:
    """Standard normal values."""
    return torch.randn(length, generator=torch.Generator().manual_seed(seed))


def _sizes(make: Make) -> Iterator[Finding]:
    """Vectors of each length are decoded to that length, from a payload of the declared size."""
    codec, before = make(1, 0), -1
    for length in LENGTHS:
        try:
            size = codec.wire_bytes(length)
            raw = codec.codec.encode(vector(length))
        except USER_ERRORS as error:
            yield _failed("encode", length, error)
            return
        if not isinstance(raw, bytes):
            yield Finding(
                "not-bytes",
                f"encode gave {type(raw).__name__}",
                "return bytes, for example array.tobytes(): what shares memory with the parameters changes in flight",
            )
            return
        if len(raw) != size:
            yield Finding(
                "wire-bytes",
                f"encode gave {len(raw)} bytes for {length} values, and wire_bytes({length}) says {size}",
                "let wire_bytes give the exact length for every count, whatever the values are: deadlines, predicted "
                "times and byte counts rest on it",
            )
            return
        if size < before:
            yield Finding(
                "wire-bytes",
                f"wire_bytes({length}) is {size}, less than for fewer values",
                "more values never take fewer bytes; exchanges look for the longest vector that fits into a segment",
            )
            return
        before = size
        try:
            values = codec.codec.decode(memoryview(raw))
        except USER_ERRORS as error:
            yield _failed("decode", length, error)
            return
        if not isinstance(values, Tensor) or values.dtype != torch.float32 or values.shape != (length,):
            got = (
                f"{values.dtype} of shape {tuple(values.shape)}" if isinstance(values, Tensor) else f"{values!r:.30}"
            )
            yield Finding(
                "length",
                f"of {length} values decode gave {got}",
                f"return a flat float32 tensor of {length} values; where the length of the payload does not say how "
                "many there are, put the count into it",
            )
            return
    if codec.grain > 1:
        yield from _grain(codec)


def _grain(codec: GuardedCodec) -> Iterator[Finding]:
    header = codec.wire_bytes(0)
    for pieces, rest in ((1, 1), (2, 0), (3, codec.grain // 2)):
        cut = codec.grain * pieces
        whole, apart = codec.wire_bytes(cut + rest), codec.wire_bytes(cut) + codec.wire_bytes(rest) - header
        if whole != apart:
            yield Finding(
                "grain",
                f"{cut + rest} values take {whole} bytes, and cut at {cut}, a multiple of grain, {apart} bytes",
                "let grain be a number of values after which packing starts over, such as the length of a bucket",
            )
            return


def _failed(method: str, length: int, error: BaseException) -> Finding:
    empty = " Averages may cut a vector so that a part is empty." if length == 0 else ""
    return Finding(
        "empty" if length == 0 else f"{method}-fails",
        f"{method} of {length} values: {type(error).__name__}: {error}",
        f"let {method} work for any number of values.{empty}",
    )


def _memory(make: Make) -> Iterator[Finding]:
    codec, x = make(1, 0), vector(_LONG)
    before = x.clone()
    payload = codec.codec.encode(x)
    if not torch.equal(x, before):
        yield Finding("changes-input", "encode changes the values that it is given", "work on values.clone()")
        return
    inside = torch.cat([vector(3), before, vector(5)])[3:-5]
    if make(1, 0).codec.encode(inside) != make(1, 0).codec.encode(before):
        yield Finding(
            "storage",
            "a slice of a longer vector packs otherwise than a copy of it",
            "read the tensor's values, not its storage: no untyped_storage(), no data_ptr()",
        )
    values, again = codec.codec.decode(memoryview(payload)), codec.codec.decode(memoryview(payload))
    if not _same(values, again) or codec.codec.encode(before) != _second_payload(make, before):
        yield Finding(
            "decode-random",
            "one payload decodes to other values each time, or decoding moves the random stream",
            "draw random numbers in encode only; what the receiver must know of them goes into the payload",
        )
        return
    other = make(2, 1).codec
    if not _same(values, _decoded(other, payload)):
        yield Finding(
            "decode-needs-sender",
            "another node decodes the payload to other values, or not at all",
            "put everything that decode needs into the payload; it must not use what encode remembered, nor the "
            "generator, which is another one on each node",
        )
        return
    writable = bytearray(payload)
    shared = [codec.codec.decode(memoryview(writable)) for _ in range(2)]
    buffer = np.frombuffer(writable, np.uint8)
    if np.shares_memory(shared[0].numpy(), buffer) or np.shares_memory(shared[0].numpy(), shared[1].numpy()):
        yield Finding(
            "shared-memory",
            "decode gives memory of the payload, or the same memory twice",
            "return a tensor of its own, for example by .clone(): receivers change what they get",
        )
    elif np.shares_memory(shared[0].numpy(), x.numpy()):
        yield Finding("shared-memory", "decode gives memory of the parameters", "return a tensor of its own")


def _second_payload(make: Make, x: Tensor) -> bytes:
    """The second payload of a codec that decodes nothing in between."""
    codec = make(1, 0).codec
    codec.encode(x)
    return codec.encode(x)


def _decoded(codec: object, payload: bytes) -> Tensor | None:
    try:
        values = codec.decode(memoryview(payload))  # type: ignore[attr-defined]
    except USER_ERRORS:
        return None
    return values if isinstance(values, Tensor) else None


def _repeats(make: Make) -> Iterator[Finding]:
    """Payloads depend on seed, rank and values only."""
    first, apart, alike = (_payloads(make, seed) for seed in (1, 2, 1))
    if first != apart:
        yield Finding(
            "global-random" if first == alike else "not-repeatable",
            "payloads change with global random numbers of torch, NumPy or Python"
            if first == alike
            else "two codecs built with one seed and rank give other payloads for the same values",
            "take every random number from self.generator, as in torch.rand(n, generator=self.generator)",
        )
        return
    codec, x = make(1, 0), vector(_LONG)
    drawn = [codec.codec.encode(x) for _ in range(3)]
    other = make(1, 1)
    if len(set(drawn)) > 1 and drawn == [other.codec.encode(x) for _ in range(3)]:
        yield Finding(
            "same-stream",
            "payloads are random, and rank 1 draws what rank 0 draws: errors of different nodes would add up",
            "let the stream depend on the rank too, as self.generator does",
        )
    state = codec.state()
    following = [codec.codec.encode(x) for _ in range(2)]
    resumed = make(9, 3)
    resumed.load_state({name: tensor.clone() for name, tensor in state.items()})
    if following != [resumed.codec.encode(x) for _ in range(2)]:
        yield Finding(
            "state-incomplete",
            "a codec put back to a state continues with other payloads",
            "return everything that encode remembers from state(), and take it back in load_state()",
        )


def _payloads(make: Make, seed: int) -> list[bytes]:
    """Payloads of a codec built and used with the global random streams seeded by `seed`; restores the streams."""
    held = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        codec = make(1, 0)
        return [codec.codec.encode(vector(_LONG)) for _ in range(2)]
    finally:
        torch.set_rng_state(held[0])
        np.random.set_state(held[1])
        random.setstate(held[2])


def _not_finite(make: Make) -> Iterator[Finding]:
    codec = make(1, 0)
    if not all(codec.finite(codec.encode(vector(length))) for length in (0, 1, 64)):
        yield Finding("finite", "finite says no of a payload whose values are all finite", "compare what it looks at")
        return
    for bad in (float("nan"), float("inf"), -float("inf")):
        for length, place in ((1, 0), (64, 0), (64, 31), (_LONG, _LONG - 1)):
            x = vector(length)
            x[place] = bad
            try:
                seen = not codec.finite(codec.encode(x))
            except PluginError as error:
                seen, why = False, f"encode or finite of values with {bad} raises: {error}"
            else:
                why = f"value {place} of {length} was {bad}, and the payload passes for finite numbers"
            if not seen:
                yield Finding(
                    "hides-nan",
                    why,
                    "let NaN and infinity come back as such, or override finite(payload) to say that they were "
                    "among the values: a receiver must refuse them, or one node that diverged spoils the others",
                )
                return


def _values(make: Make) -> Iterator[Finding]:
    codec = make(1, 0)
    if not codec.casts:
        return
    x = vector(64)
    whole = codec.decode(codec.encode(x))
    alone = torch.cat([codec.decode(codec.encode(x[i : i + 1])) for i in range(len(x))])
    if not _same(whole, alone) or float((whole - x).abs().max()) > 0.05 * float(x.abs().max()):
        yield Finding(
            "casts",
            "casts is True, and values are not rounded each by itself to one nearby",
            "leave casts out: parameters that travel through a coarser codec stall or diverge",
        )


def _same(a: Tensor, b: Tensor | None) -> bool:
    return b is not None and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
