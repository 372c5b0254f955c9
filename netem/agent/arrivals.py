"""Statistics of one probe's packet arrivals: rate, losses and their bursts, duplicates, reordering. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from gannet.netem.links.plan import FRAME_BYTES

_BLOCKS = 8
# Token buckets let a few frames through at once before they pace, so the first arrivals do not count.
_SKIP_ARRIVALS = 4


def arrival_report(
    times_ns: Sequence[int],
    numbers: Sequence[int],
    sent: int,
    frame_bytes: int = FRAME_BYTES,
    bin_ns: int | None = None,
) -> dict[str, Any]:
    """Report on packets 0 … `sent` − 1, of which `numbers` arrived at `times_ns`, in order of arrival.

    received    packets that arrived, once or more often
    duplicates  arrivals beyond the first of each packet
    overtakers  packets that arrived before one that was sent earlier; they, not those overtaken, are out of order
    bursts      runs of consecutive packets that were lost
    rate_bps of frames over the whole train without its first arrivals; None: too few to tell
    rates_bps   the same in up to eight consecutive blocks
    run_rate_bps  the same within the runs that lost nothing, whose gaps no burst of losses has stretched
    bins, first_bin  arrivals in each `bin_ns` of the clock, from the `first_bin`-th on

    Overtakers have skipped a delay, so they say nothing about the rate: it is computed from the others and raised by
    the overtakers' share.
    """
    seen: set[int] = set()
    firsts = [not (number in seen or seen.add(number)) for number in numbers]  # type: ignore[func-returns-value]
    unique = [(at_ns, number) for at_ns, number, first in zip(times_ns, numbers, firsts, strict=True) if first]
    overtakers = _overtakers([number for _, number in unique])
    report: dict[str, Any] = {
        "received": len(unique),
        "duplicates": len(numbers) - len(unique),
        "overtakers": len(overtakers),
        "bursts": sum(number not in seen and (number == 0 or number - 1 in seen) for number in range(sent)),
    }
    steady = [arrival for arrival in unique if arrival[1] not in overtakers]
    steady = steady[max(_SKIP_ARRIVALS, len(steady) // 20) :]
    scale = 8e9 * frame_bytes * len(unique) / max(1, len(unique) - len(overtakers))
    report |= _rates(steady, scale)
    if bin_ns:
        bins = [at_ns // bin_ns for at_ns, _ in unique]
        first, last = min(bins, default=0), max(bins, default=-1)
        counts = [0] * (last - first + 1)
        for place in bins:
            counts[place - first] += 1
        report |= {"first_bin": first, "bins": counts}
    return report


def _overtakers(numbers: Sequence[int]) -> set[int]:
    """Packets that arrived while an earlier one, which arrived too, was still in flight."""
    found, least_later = set(), None
    for number in reversed(numbers):
        if least_later is not None and least_later < number:
            found.add(number)
        else:
            least_later = number
    return found


def _rates(steady: Sequence[tuple[int, int]], scale: float) -> dict[str, Any]:
    """Rates of a train in order; packets that arrived at the same moment (GSO) count for the interval before it."""

    def rate(part: Sequence[tuple[int, int]]) -> float | None:
        later = sum(at_ns > part[0][0] for at_ns, _ in part)
        return scale * later / (part[-1][0] - part[0][0]) if later else None

    if len(steady) < 2 or rate(steady) is None:
        return {"rate_bps": None, "rates_bps": [], "run_rate_bps": None}
    blocks = min(_BLOCKS, len(steady) - 1)
    edges = [i * (len(steady) - 1) // blocks for i in range(blocks + 1)]
    rates = [found for a, b in pairwise(edges) if (found := rate(steady[a : b + 1])) is not None]
    frames, spent_ns = 0, 0
    for (from_ns, number), (to_ns, following) in pairwise(steady):
        if following == number + 1:
            frames, spent_ns = frames + 1, spent_ns + to_ns - from_ns
    return {
        "rate_bps": rate(steady),
        "rates_bps": rates,
        "run_rate_bps": scale * frames / spent_ns if spent_ns else None,
    }
