"""The trimmed mean and the median of each coordinate.

Yin, Chen, Kannan, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (ICML 2018,
arXiv 1803.01498), definitions 1 and 2, over a node's own value and those of its peers, m together:

    trimmed mean   the mean of what is left of each coordinate's m values without the b largest and the b smallest
    median         the same with the largest b that leaves a value: b = ⌊(m−1)/2⌋

With at most b Byzantine values among m > 2b, every coordinate of the result lies between two honest values.

The paper's values weigh the same. Mixing weights that differ (Metropolis-Hastings, on graphs whose degrees do) are
kept here, and divided by the sum of those that are left: Σ_kept w_j x_j / Σ_kept w_j. So nothing trimmed is plain
gossip; but nodes keep different values, and their mean moves, as with every rule that leaves values out. Of equal
values, those of less weight count as smaller, so that the order of the peers decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from gannet.node.mixing.base import Mix, MixingRule

if TYPE_CHECKING:
    from torch import Tensor

_AT_ONCE = 1 << 15  # values of each vector that are sorted together: they stay in the processor's cache


def trimmed_mean(values: Sequence[Tensor], weights: Sequence[float], trim: int) -> Tensor:
    """See the module: `values` of shape (n,) each, `trim` of them dropped at both ends of every coordinate.

    A new tensor of shape (n,). Raises ValueError where `trim` leaves none.
    """
    if 2 * trim >= len(values):
        raise ValueError(f"{trim} of {len(values)} values trimmed at both ends leave none")
    result = values[0].new_empty(values[0].shape)
    mean = _mean_of_equals if max(weights) - min(weights) < 1e-9 else _mean_by_weight
    for start in range(0, len(result), _AT_ONCE):
        here = slice(start, start + _AT_ONCE)
        result[here] = mean([each[here] for each in values], weights, trim)
    return result


def _mean_of_equals(rows: list[Tensor], weights: Sequence[float], trim: int) -> Tensor:
    def exchange(low: int, high: int) -> None:
        rows[low], rows[high] = rows[low].minimum(rows[high]), rows[low].maximum(rows[high])

    return _sum(_kept(rows, trim, exchange)) / (len(rows) - 2 * trim)


def _mean_by_weight(rows: list[Tensor], weights: Sequence[float], trim: int) -> Tensor:
    shares = [row.new_full(row.shape, weight) for row, weight in zip(rows, weights, strict=True)]

    def exchange(low: int, high: int) -> None:
        (a, b), (v, w) = (rows[low], rows[high]), (shares[low], shares[high])
        swap = (a > b) | ((a == b) & (v > w))
        rows[low], rows[high] = b.where(swap, a), a.where(swap, b)
        shares[low], shares[high] = w.where(swap, v), v.where(swap, w)

    kept, by = _kept(rows, trim, exchange), shares[trim : len(shares) - trim]
    return _sum([row * share for row, share in zip(kept, by, strict=True)]) / _sum(by)


def _kept(rows: list[Tensor], trim: int, exchange: Callable[[int, int], None]) -> list[Tensor]:
    """The rows that are left, in ascending order in every coordinate; `exchange` sorts two of them.

    All are sorted, more than trimming needs: their sum then has the same bits in any order of the peers.
    """
    for last in range(len(rows) - 1, 0, -1):
        for low in range(last):
            exchange(low, low + 1)
    return rows[trim : len(rows) - trim]


def _sum(rows: Sequence[Tensor]) -> Tensor:
    total = rows[0].clone()
    for row in rows[1:]:
        total += row
    return total


class _Kept:
    """Keeps all that comes in until it is trimmed; `trim` says how much of that many values."""

    def __init__(self, own: Tensor, weight: float, trim: Callable[[int], int]) -> None:
        self._values, self._weights, self._trim = [own], [weight], trim

    def add(self, values: Tensor, weight: float) -> None:
        self._values.append(values)
        self._weights.append(weight)

    def result(self) -> Tensor:
        return trimmed_mean(self._values, self._weights, self._trim(len(self._values)))


class TrimmedMeanRule(MixingRule):
    """`byzantine`: how many of the values that a node mixes may be bad (b)."""

    name: Literal["trimmed-mean"] = "trimmed-mean"
    byzantine: PositiveInt = 1

    @property
    def least_peers(self) -> int:
        return 2 * self.byzantine

    def begin(self, own: Tensor, weight: float) -> Mix:
        return _Kept(own, weight, lambda count: self.byzantine)


class MedianRule(MixingRule):
    """Withstands as many bad values as any rule of single coordinates can, and wastes the most of good ones."""

    name: Literal["median"] = "median"

    @property
    def least_peers(self) -> int:
        return 2

    def begin(self, own: Tensor, weight: float) -> Mix:
        return _Kept(own, weight, lambda count: (count - 1) // 2)
