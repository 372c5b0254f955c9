"""How the report writes numbers and lists: three significant digits and SI units."""

from __future__ import annotations

import math
from collections.abc import Sequence

BYTE_UNITS = ("B", "kB", "MB", "GB", "TB")
RATE_UNITS = ("bit/s", "kbit/s", "Mbit/s", "Gbit/s")


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` significant digits, without an exponent between 0.0001 and 10 million; "–" for None."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if -4 <= magnitude < 7:
        decimals = max(0, digits - 1 - magnitude)
        text = f"{value:,.{decimals}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = f"{value:.{digits - 1}e}"
    return text.replace("-", "−", 1) if value < 0 else text


def seconds(value: float | None) -> str:
    """12.3 s, 840 ms, 14 min 20 s."""
    if value is None or not math.isfinite(value):
        return "–"
    if 0 < abs(value) < 1:
        return f"{number(value * 1000)} ms"
    if abs(value) < 600:
        return f"{number(value)} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 600:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{number(value / 3600)} h"


def _scaled(value: float | None, base_units: Sequence[str]) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    index = 0
    # 999.7 would be written as "1,000": change to the next unit there.
    while abs(value) >= 999.5 and index < len(base_units) - 1:
        value, index = value / 1000, index + 1
    return f"{number(value)} {base_units[index]}"


def size(value: float | None) -> str:
    """A number of bytes in SI units (1 MB = 10⁶ bytes)."""
    return _scaled(value, BYTE_UNITS)


def rate(value_bps: float | None) -> str:
    """A rate in SI units; None is written "unlimited"."""
    return "unlimited" if value_bps is None else _scaled(value_bps, RATE_UNITS)


def percent(fraction: float | None) -> str:
    """A fraction as whole percent, with one decimal below ten percent."""
    if fraction is None or not math.isfinite(fraction):
        return "–"
    value = 100 * fraction
    return f"{value:.1f}%" if 0 < abs(value) < 9.95 else f"{value:.0f}%"


def times(ratio: float) -> str:
    """A ratio: 1.43×, 2.8×, 14×, with enough decimals to distinguish it from 1."""
    return f"{_ratio(ratio)}×"


def ratio_interval(low: float, high: float) -> str:
    return f"{_ratio(low)} to {_ratio(high)}"


def _ratio(ratio: float) -> str:
    if ratio >= 9.95 or ratio == 0:
        return number(ratio, 3) if ratio >= 99.5 else f"{ratio:.0f}"
    if ratio >= 1.995:
        return f"{ratio:.1f}"
    if 0.995 <= ratio <= 1.005 and ratio != 1:
        return f"{ratio:.4f}".rstrip("0")
    return f"{ratio:.2f}"


def listing(items: Sequence[str], last: str = "and") -> str:
    """a, b and c"""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """1 seed, 3 seeds"""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
