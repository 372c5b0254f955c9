"""Elias omega coding, and the sparse code of the QSGD paper that is made of it.

omega(1) = 0; for k > 1 the binary form of k goes before a 0, the length of that less one before it in the same way,
and so on down to 1. The paper's code of a quantized vector: the norm in 32 bits, then for every level that is not
zero omega(gap), a sign bit, omega(|level|); a gap is how many places the level is behind the one before it.

Its length depends on the values, so `EliasQsgd` has `fixed_size = False` and no exchange is given it: limits of the
mailbox, deadlines, predicted times and the check of the three byte counts all rest on `wire_bytes`. It is here to
measure the paper's claims, next to the packed form that is sent.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gannet.node.codecs.dither import Dither, Dithered, flat
from gannet.node.codecs.qsgd import quantize

_HEADER = 4  # the count
_STRIDE_LOG2 = 8  # of 2^8 codes, one is found by walking and the others from it, all at once

Ints = NDArray[np.int64]


def omega_lengths(numbers: Ints) -> Ints:
    """Bits of omega(k) for k ≥ 1: 1, 3, 3, 6, 6, 6, 6, 7 (eight times), 11 for k = 1..16. k < 2^32."""
    lengths, rest = np.ones_like(numbers), numbers.copy()
    while (rest > 1).any():
        more = rest > 1
        width = _bit_length(rest)
        lengths += np.where(more, width, 0)
        rest = np.where(more, width - 1, 1)
    return lengths


def omega_codes(numbers: Ints) -> tuple[NDArray[np.uint64], Ints]:
    """(codes right-aligned in 64 bits, their lengths) for k ≥ 1. k < 2^32: 43 bits at most."""
    if len(numbers) and not 1 <= int(numbers.min()) <= int(numbers.max()) < 1 << 32:
        raise ValueError("omega codes are for whole numbers from 1 to 2^32 − 1")
    codes, lengths, rest = np.zeros(len(numbers), np.uint64), np.ones_like(numbers), numbers.copy()
    while (rest > 1).any():
        more = rest > 1
        codes |= np.where(more, rest.astype(np.uint64) << lengths.astype(np.uint64), np.uint64(0))
        width = _bit_length(rest)
        lengths += np.where(more, width, 0)
        rest = np.where(more, width - 1, 1)
    return codes, lengths


def write_bits(codes: NDArray[np.uint64], lengths: Ints) -> NDArray[np.uint8]:
    """The codes one behind the other, highest bit first; ones fill up the last byte."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    fill = -total % 8
    if fill:
        codes, lengths = np.append(codes, np.uint64((1 << fill) - 1)), np.append(lengths, fill)
        ends = np.append(ends, total + fill)
    first = (ends - lengths) >> 6
    behind = 64 * (first + 1) - ends  # bits of the word behind the code; negative where it runs into the next
    shift = np.abs(behind).astype(np.uint64)
    head = np.where(behind >= 0, codes << (shift & np.uint64(63)), codes >> (shift & np.uint64(63)))
    words = np.zeros(-(-total // 64) + 2, np.uint64)
    _or_into(words, first, head)
    over = behind < 0
    _or_into(words, first[over] + 1, codes[over] << (np.uint64(64) - shift[over]))
    return words.byteswap().view(np.uint8)[: -(-total // 8)]


def _or_into(words: NDArray[np.uint64], where: Ints, what: NDArray[np.uint64]) -> None:
    """words[where] |= what, for ascending places that may repeat."""
    if len(where):
        begins = np.flatnonzero(np.diff(where, prepend=-1))
        words[where[begins]] |= np.bitwise_or.reduceat(what, begins)


def read_omega(windows: NDArray[np.uint64], at: Ints) -> tuple[Ints, Ints]:
    """(number, position behind it) of the omega code at each bit position `at`; number 0 where there is none.

    `windows`: 64 bits of the stream from every byte on; see `windows_of`.
    """
    numbers, position, limit = np.zeros(len(at), np.int64), at.copy(), 8 * (len(windows) - 8)
    going, here, number = np.arange(len(at)), at, np.ones(len(at), np.int64)
    while len(going):
        bits = windows[here >> 3] << (here & 7).astype(np.uint64)
        end = (bits >> np.uint64(63)) == 0
        numbers[going[end]], position[going[end]] = number[end], here[end] + 1
        # A group that begins with 1 is one bit longer than the number before it says, and is the next number.
        more = ~end & (number < 32)
        going, here, width = going[more], here[more], number[more] + 1
        number = (bits[more] >> (np.uint64(64) - width.astype(np.uint64))).astype(np.int64)
        here = here + width
        inside = here < limit
        going, here, number = going[inside], here[inside], number[inside]
    return numbers, position


def windows_of(data: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """For every byte of `data`, and for 8 places behind it, the 64 bits from there on (ones behind the end)."""
    padded = np.concatenate([data, np.full(15, 0xFF, np.uint8)])
    return np.lib.stride_tricks.sliding_window_view(padded, 8).copy().view(">u8").reshape(-1).astype(np.uint64)


def encode_levels(levels: Ints) -> NDArray[np.uint8]:
    """The paper's code of a vector of levels, without its norm."""
    where = np.flatnonzero(levels)
    gaps, gap_bits = omega_codes(np.diff(where, prepend=-1))
    sizes, size_bits = omega_codes(np.abs(levels[where]))
    negative = (levels[where] < 0).astype(np.uint64)
    codes, lengths = np.empty(2 * len(where), np.uint64), np.empty(2 * len(where), np.int64)
    codes[0::2], lengths[0::2] = gaps, gap_bits
    codes[1::2], lengths[1::2] = negative << size_bits.astype(np.uint64) | sizes, size_bits + 1
    return write_bits(codes, lengths)


def code_bits(levels: Ints) -> int:
    """Bits that `encode_levels` needs, and 32 for the norm."""
    where = np.flatnonzero(levels)
    gaps = omega_lengths(np.diff(where, prepend=-1))
    return 32 + int(gaps.sum() + omega_lengths(np.abs(levels[where])).sum()) + len(where)


def dense_bits(levels: Ints) -> int:
    """Bits of the paper's code without gaps, for s of about √n, and 32 for the norm; only its length is needed here.

    omega(|level| + 1) of every value, and a sign bit of those that are not zero.
    """
    return 32 + int(omega_lengths(np.abs(levels) + 1).sum()) + int(np.count_nonzero(levels))


def decode_levels(data: NDArray[np.uint8], count: int, s: int) -> Ints:
    """The levels of a vector of `count` from `encode_levels`' bytes. Raises ValueError when they cannot be such.

    Where a code begins is known only when the one before it is read. So every bit is taken for a beginning, all at
    once, and the chain of those that are true is followed in strides: f, f∘f, f∘f∘f∘f, ...
    """
    windows, total = windows_of(data), 8 * len(data)
    everywhere = np.arange(total, dtype=np.int64)
    numbers, ends = read_omega(windows, everywhere)
    numbers, ends = np.append(numbers, [0, 0]), np.append(ends, [total, total])  # no code begins at the end
    gaps, behind_gap = numbers[:total], ends[:total]
    sizes, behind = numbers[behind_gap + 1], ends[behind_gap + 1]
    none = (gaps == 0) | (sizes == 0)
    follow = [np.append(np.where(none, total, behind), total)]
    for _ in range(_STRIDE_LOG2):
        follow.append(follow[-1][follow[-1]])
    stones, position = [0], 0
    while (position := int(follow[-1][position])) < total:
        stones.append(position)
    at = np.array(stones, np.int64)
    for step in reversed(follow[:-1]):
        at = np.stack([at, step[at]], axis=1).reshape(-1)
    at = at[at < total]
    end = int(at[-1]) if len(at) else 0  # where no code is any more: only ones, less than a byte of them
    if len(at) and not none[end]:
        end, kept = int(behind[end]), at
    else:
        kept = at[:-1]
    spare = total - end
    ones = (1 << spare) - 1 if spare < 8 else 0x1FF
    if spare and int(data[-1]) & ones != ones:
        raise ValueError("bits that are no code")
    where = np.cumsum(gaps[kept]) - 1
    if len(kept) and (int(where[-1]) >= count or int(sizes[kept].max()) > s):
        raise ValueError(f"a level behind the last of {count} values, or above {s}")
    signs = behind_gap[kept]
    negative = (data[signs >> 3] >> (7 - (signs & 7)).astype(np.uint8)) & 1
    levels = np.zeros(count, np.int64)
    levels[where] = np.where(negative == 1, -sizes[kept], sizes[kept])
    return levels


class EliasQsgd(Dithered):
    """QSGD with any number of levels and the paper's code: the count, a scale a bucket, the sparse code of all.

    One bucket as long as the vector is the paper's theorem. For measurements; see the module's text.
    """

    fixed_size = False

    def __init__(self, s: int, bucket: int, scale: str = "l2", dither: Dither | None = None) -> None:
        super().__init__(f"qsgd-elias,s={s},bucket={bucket},scale={scale}", dither or Dither())
        self.s, self.bucket, self.scale = s, bucket, scale

    def wire_bytes(self, count: int) -> int:
        """An upper bound: as if no level were zero and all were s, for a gap of g takes less than g such codes."""
        longest = 2 + int(omega_lengths(np.array([self.s]))[0])
        return _HEADER + 4 * -(-count // self.bucket) + -(-count * longest // 8)

    def encode(self, values: Tensor) -> memoryview:
        x = flat(values)
        rows = torch.zeros(-(-len(x) // self.bucket), self.bucket)
        rows.view(-1)[: len(x)] = x
        scales, codes = quantize(rows, self.s, self.scale, self._dither)
        stream = encode_levels(codes.view(-1)[: len(x)].numpy().astype(np.int64) - (self.s + 1))
        header = np.array([len(x)], "<u4").view(np.uint8)
        return np.concatenate([header, scales.numpy().view(np.uint8), stream]).data

    def decode(self, payload: memoryview) -> Tensor:
        scales, levels = self._open(payload)
        if not np.isfinite(scales).all():
            raise ValueError("a bucket's scale is not finite")
        rows = torch.zeros(len(scales), self.bucket)
        rows.view(-1)[: len(levels)] = torch.from_numpy(levels).to(torch.float32)
        rows *= torch.from_numpy(scales / np.float32(self.s))[:, None]
        return rows.view(-1)[: len(levels)]

    def finite(self, payload: memoryview) -> bool:
        return bool(np.isfinite(self._open(payload)[0]).all())

    def _open(self, payload: memoryview) -> tuple[NDArray[np.float32], Ints]:
        count = int.from_bytes(payload[:_HEADER], "little")
        begin = _HEADER + 4 * -(-count // self.bucket)
        if not begin <= len(payload) <= self.wire_bytes(count):
            raise ValueError(f"{len(payload)} bytes are no payload of {count} values")
        data = np.frombuffer(payload, np.uint8)
        scales = data[_HEADER:begin].view("<f4").astype(np.float32)
        if (scales < 0).any():
            raise ValueError("a bucket's scale is negative")
        return scales, decode_levels(data[begin:], count, self.s)


def _bit_length(numbers: Ints) -> Ints:
    return np.frexp(numbers.astype(np.float64))[1].astype(np.int64)
