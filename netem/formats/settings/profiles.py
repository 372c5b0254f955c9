"""Figures of one link as the fields of a profile, checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from gannet.netem.formats.base import FormatError, Imported, Options, Source
from gannet.netem.links.profile import FASTEST_BPS, SLOWEST_BPS, ProfileError, profile_of
from gannet.netem.links.yaml_files import printable, short

_NUMBER = re.compile(r"[0-9]{1,25}(\.[0-9]{0,30})?|\.[0-9]{1,30}", re.ASCII)
_DURATION_MS = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6}
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15}) ?(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_RATE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{0,15})?) ?([A-Za-z/]+)", re.ASCII)
EGRESS = (
    "settings of one interface, for what it sends: in the profile every node has them for what it sends, and a path "
    "between two nodes its whole delay"
)
"""What settings of an interface become."""


def amount(value: Any, where: str) -> float:
    """A number from 0, or a text of one. Raises FormatError."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e25:
        raise FormatError(f"{where}: {short(value)} is no number from 0")
    return float(value)


def percent(value: Any, where: str, scale: float = 1.0) -> float:
    """A share in per cent, from a number or a text such as 0.5%; `scale`: 100 of fractions. Raises FormatError."""
    text = value.strip().removesuffix("%") if isinstance(value, str) else value
    share = round(amount(text, where) * scale, 6)
    if share > 100:
        raise FormatError(f"{where}: {share:g}% is more than all")
    return share


def duration_ms(value: Any, where: str, bare_ms: float | None = None) -> float:
    """Milliseconds of a text such as 90ms or 1m30s; `bare_ms`: those of a bare 1. Raises FormatError."""
    if value in (None, "", "N/A", "0"):
        return 0.0
    if bare_ms is not None and (not isinstance(value, str) or _NUMBER.fullmatch(value.strip())):
        return round(amount(value, where) * bare_ms, 6)
    text = value.strip() if isinstance(value, str) else ""
    parts = _DURATION.findall(text)
    if not parts or "".join(re.split(_DURATION.pattern, text)[::3]).strip():
        raise FormatError(f"{where}: {short(value)} is no time such as 90ms")
    found = round(sum(float(digits) * _DURATION_MS[unit] for digits, unit in parts), 6)
    if not isfinite(found):
        raise FormatError(f"{where}: {short(value)} is no time such as 90ms")
    return found


def rate_bps(value: Any, units_bps: Mapping[str, float], where: str) -> float:
    """Bit/s of a text such as 250Kbps, in units by name, small letters. Raises FormatError."""
    match = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    unit = units_bps.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise FormatError(f"{where}: {short(value)} is no rate in {', '.join(units_bps)}")
    return float(match[1]) * unit


class Fields:
    """Collects the fields of a profile: what says nothing is left out, and what does not fit is said."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.dropped: list[str] = []

    def rate(self, field: str, bps: float, where: str) -> None:
        """`rate`, `down` or `up`; 0 is no limit."""
        if bps == 0:
            return
        if not SLOWEST_BPS <= bps <= FASTEST_BPS:
            raise FormatError(f"{where}: {bps:g} bit/s: a rate is from 1 kbit/s to 100 Gbit/s")
        self.values[field] = f"{round(bps)}bit"

    def number(self, field: str, value: float) -> None:
        """A field of ms or per cent; 0 is left out."""
        if value:
            self.values[field] = int(value) if value == int(value) else round(value, 6)

    def jitter(self, jitter_ms: float, delay_ms: float, correlation_percent: float, distribution: str = "") -> None:
        """Netem's jitter: each packet draws a delay by itself."""
        if not jitter_ms:
            return
        most_ms = delay_ms if distribution in ("", "uniform") else delay_ms / 2
        if jitter_ms > most_ms:
            self.dropped.append(
                f"jitter beyond {most_ms:g} ms ({jitter_ms:g} ms were said): a packet cannot arrive before it is "
                "sent, and netem would move the mean"
            )
        if min(jitter_ms, most_ms) <= 0:
            return
        self.number("jitter_ms", min(jitter_ms, most_ms))
        if distribution not in ("", "uniform"):
            self.values["jitter_distribution"] = distribution
        self.values["jitter_order"] = "reorder"
        if correlation_percent >= 100:
            self.dropped.append(f"jitter's correlation of {correlation_percent:g}%: below 100% here")
        else:
            self.number("jitter_correlation_percent", correlation_percent)

    def imported(self, what: str, source: Source, facts: Iterable[str]) -> Imported:
        """The profile. Raises FormatError."""
        if not self.values:
            raise FormatError("it limits, delays and loses nothing: there is no profile to write")
        fields = {"source": f"{what} {printable(source.path.name)}", **self.values}
        try:
            profile_of({"name": "imported", **fields})
        except ProfileError as error:
            raise FormatError(str(error)) from None
        shown = [f"{name}: {value}" for name, value in self.values.items()]
        return Imported(what, "profile", fields, facts=[*facts, *shown], dropped=self.dropped)


def chosen(found: Mapping[str, Any], options: Options, what: str) -> tuple[str, Any]:
    """The one that --name names, or the only one. Raises FormatError, which lists what there is."""
    names = ", ".join(printable(short(name)) for name in list(found)[:40])
    if not found:
        raise FormatError(f"it has no {what}")
    if options.name is not None:
        if options.name not in found:
            raise FormatError(f"--name {options.name}: there is no such {what}; there are {names}")
        return options.name, found[options.name]
    if len(found) > 1:
        raise FormatError(f"it has {len(found)} of {what}: choose one with --name: {names}")
    return next(iter(found.items()))


def mapping(value: Any, where: str) -> dict[str, Any]:
    """A mapping by names, nothing being an empty one. Raises FormatError."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise FormatError(f"{where}: a mapping was expected")
    return value
