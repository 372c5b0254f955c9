"""Numbers with units as the formats write them: "76200 Kibit", "118555 us", "41.279125MBps", "100Mbps"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite

from gannet.netem.formats.base import FormatError
from gannet.netem.links.yaml_files import short

_QUANTITY = re.compile(r"\s*([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?)\s*([A-Za-zμµ]*)\s*")

TIMES_MS: Mapping[str, float] = {
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-6),
    **dict.fromkeys(("us", "μs", "µs", "microsecond", "microseconds"), 1e-3),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1.0),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1e3),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 6e4),
}
SIMGRID_MS: Mapping[str, float] = {
    "ps": 1e-9, "ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6, "d": 8.64e7, "w": 6.048e8
}  # fmt: skip
_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_WORDS = {"": "", "k": "kilo", "m": "mega", "g": "giga", "t": "tera"}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_BINARY_WORDS = {"ki": "kibi", "mi": "mebi", "gi": "gibi", "ti": "tebi"}


def shadow_rates() -> dict[str, float]:
    """Shadow's units of bits a second, in small letters: Kibit = 1024 bit, kilobit = 1000 bit."""
    units: dict[str, float] = {}
    for prefixes, words in ((_DECIMAL, _WORDS), (_BINARY, _BINARY_WORDS)):
        for prefix, size in prefixes.items():
            for name in (f"{prefix}bit", f"{prefix}bits", f"{words[prefix]}bit", f"{words[prefix]}bits"):
                units[name] = size
    return units


SHADOW_BPS: Mapping[str, float] = shadow_rates()
# Small letters: "bps" bits, and with a capital B bytes; the letter is told apart before.
BITS_BPS: Mapping[str, float] = {f"{prefix}bps": size for prefix, size in (_DECIMAL | _BINARY).items()}


def number(value: object, what: str) -> float:
    """A finite number, given as one or as text. Raises FormatError."""
    try:
        found = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else float("nan")
    except (ValueError, OverflowError):
        found = float("nan")
    if not isfinite(found):
        raise FormatError(f"{what}: {short(value)} is no number")
    return found


def quantity(value: object, units: Mapping[str, float], what: str, bare: float | None = None) -> float:
    """The number in the base unit of `units`; `bare`: the size of a unit that is not given, None: one is needed."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = repr(value)
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) and len(value) <= 60 else None
    unit = match[2] if match else ""
    size = bare if match and not unit else units.get(unit, units.get(unit.lower()))
    if match is None or size is None:
        known = ", ".join(list(units)[:12])
        raise FormatError(f"{what}: {short(value)} is no number with a unit ({known})")
    return number(match[1], what) * size


def simgrid_bps(value: object, what: str) -> float:
    """SimGrid's bandwidths in bit/s: "125MBps" is 10^6 bytes a second each, "1Gbps" bits; a bare number is bytes."""
    text = str(value).strip()
    match = _QUANTITY.fullmatch(text) if len(text) <= 60 else None
    unit = match[2] if match else "?"
    if unit == "":
        return number(text, what) * 8
    size = BITS_BPS.get(unit.lower())
    if match is None or size is None or unit[-3:-2] not in ("b", "B"):
        raise FormatError(f"{what}: {short(value)} is no rate such as 125MBps (bytes) or 1Gbps (bits)")
    return number(match[1], what) * size * (8 if unit[-3] == "B" else 1)
