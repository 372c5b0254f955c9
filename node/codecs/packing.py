"""Codes of 2, 4 or 8 bits packed plane by plane.

Within a bucket of d values, byte j holds values j, j + d/p, j + 2d/p, ... (p values a byte, the first in the
lowest bits), so that packing and unpacking work on whole runs of bytes. A level ℓ from −s to s has the code
ℓ + s + 1; code 0 marks the unused places at the end of the last bucket, which is how a payload says how many values
it has without a header.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gannet.node.codecs.lazy import np, torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Bytes = NDArray[np.uint8]


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that `count` codes take."""
    return -(-count * bits // 8)


def pack(codes: Tensor, bits: int) -> Bytes:
    """Rows of codes (rows, d), uint8, as rows of bytes (rows, d · bits / 8)."""
    per = 8 // bits
    planes = codes.view(len(codes), per, codes.shape[1] // per)
    packed = planes[:, per - 1]
    for k in reversed(range(per - 1)):
        packed = torch.add(planes[:, k], packed, alpha=2**bits)
    return packed.numpy()


def unpack(packed: Bytes, bits: int) -> Bytes:
    """The codes of rows of bytes (rows, bytes): shape (rows, bytes · 8 / bits), writable."""
    if bits == 8:
        return packed.copy()
    per, mask = 8 // bits, 2**bits - 1
    codes = np.empty((len(packed), per, packed.shape[1]), np.uint8)
    for k in range(per):
        np.right_shift(packed, bits * k, out=codes[:, k])
        if k < per - 1:
            codes[:, k] &= mask
    return codes.reshape(len(packed), per * packed.shape[1])


def pack_last(codes: Tensor, bits: int) -> Bytes:
    """One bucket of any number of codes."""
    padded = torch.zeros(1, packed_bytes(len(codes), bits) * 8 // bits, dtype=torch.uint8)
    padded[0, : len(codes)] = codes
    return pack(padded, bits).reshape(-1)


def unpack_last(packed: Bytes, bits: int) -> Bytes:
    """The codes of one bucket without the unused places. Raises ValueError where those are not at the end."""
    codes = unpack(packed[None], bits).reshape(-1)
    used = len(codes) - int((codes == 0).sum())
    if len(codes) - used >= 8 // bits or not codes[:used].all():
        raise ValueError("an unused code among the values")
    return codes[:used]


def has_unused(packed: Bytes, bits: int) -> bool:
    """Whether any code is 0: the test for a zero field in a word, 8 bytes at a time."""
    whole = len(packed) // 8 * 8
    ones = np.uint64(sum(1 << k for k in range(0, 64, bits)))
    tops = np.uint64(int(ones) << (bits - 1))
    rest = np.frombuffer(packed[whole:].tobytes().ljust(8, b"\xff"), np.uint64)
    return any(bool(((words - ones) & ~words & tops).any()) for words in (packed[:whole].view(np.uint64), rest))
