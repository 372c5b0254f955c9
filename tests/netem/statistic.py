"""Bounds for what is counted, so that tests of chance say how sure they are."""

from __future__ import annotations

from itertools import pairwise
from math import exp, lgamma, log, sqrt


def binomial_interval(count: int, share: float, confidence: float) -> tuple[int, int]:
    """The counts between which `count` trials of probability `share` lie with this confidence, exactly."""
    tail, low, high, below = (1 - confidence) / 2, 0, count, 0.0
    found = False
    for k in range(count + 1):
        chance = exp(
            lgamma(count + 1) - lgamma(k + 1) - lgamma(count - k + 1) + k * log(share) + (count - k) * log(1 - share)
        )
        below += chance
        if not found and below >= tail:
            low, found = k, True
        if below >= 1 - tail:
            high = k
            break
    return low, high


def mean_deviation(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation."""
    mean = sum(values) / len(values)
    return mean, sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def lag_1(values: list[float]) -> float:
    """Correlation of each value with the one before."""
    mean, deviation = mean_deviation(values)
    products = [(a - mean) * (b - mean) for a, b in pairwise(values)]
    return sum(products) / len(products) / deviation**2


def bursts(numbers: list[int], count: int) -> list[int]:
    """Lengths of the runs that are missing among 0…count − 1."""
    missing, lengths, last = sorted(set(range(count)) - set(numbers)), list[int](), -2
    for number in missing:
        if number == last + 1:
            lengths[-1] += 1
        else:
            lengths.append(1)
        last = number
    return lengths
