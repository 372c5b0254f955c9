"""Profiles of SimGrid's links: bandwidth in bytes/s, latency in s, or up and down, at times, which may repeat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from gannet.netem.formats.base import FormatError
from gannet.netem.formats.graphs.units import number
from gannet.netem.formats.graphs.xml_files import needed
from gannet.netem.links.yaml_files import short
from gannet.netem.regular import check_regular

UNTIL_S = 3_600.0
_MOST_CHANGES = 200
_LARGEST_BYTES = 2**20
_KINDS = {"bandwidth_file": "bandwidth", "latency_file": "latency", "state_file": "state"}
_CONNECTED = {"BANDWIDTH": "bandwidth", "LATENCY": "latency", "LINK_AVAIL": "state"}


@dataclass(frozen=True)
class Profile:
    """(seconds, value) in order; `period_s`: it begins again then, 0: never."""

    changes: list[tuple[float, float]]
    period_s: float

    def at(self, seconds: float) -> float | None:
        """The value at that time; None: that of the link itself, as before its first change."""
        passed = [pair for pair in self.unrolled() if pair[0] <= seconds]
        return passed[-1][1] if passed else None

    def unrolled(self) -> list[tuple[float, float]]:
        found: list[tuple[float, float]] = []
        begin_s = 0.0
        while len(found) < _MOST_CHANGES:
            found += [(begin_s + at_s, value) for at_s, value in self.changes]
            begin_s += self.period_s
            if not self.period_s or begin_s > UNTIL_S:
                break
        return found[:_MOST_CHANGES]


@dataclass
class LinkProfiles:
    """The profiles of links, by (link, what of it)."""

    of: dict[tuple[str, str], Profile] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    @property
    def loops(self) -> int:
        return sum(profile.period_s > 0 for profile in self.of.values())

    def times(self) -> list[float]:
        """When any link changes, after the beginning."""
        every = {at_s for profile in self.of.values() for at_s, _ in profile.unrolled() if at_s > 0}
        return sorted(every)[:_MOST_CHANGES]

    def _at(self, link: str, kind: str, seconds: float) -> float | None:
        profile = self.of.get((link, kind))
        return profile.at(seconds) if profile else None

    def bandwidth_bps(self, link: str, seconds: float) -> float | None:
        """None: as the link says. A bandwidth of 0 is that of a link that is down."""
        found = self._at(link, "bandwidth", seconds)
        return found * 8 if found else None

    def latency_ms(self, link: str, seconds: float) -> float | None:
        found = self._at(link, "latency", seconds)
        return None if found is None else found * 1e3

    def is_on(self, link: str, seconds: float) -> bool:
        return self._at(link, "state", seconds) != 0 and self._at(link, "bandwidth", seconds) != 0


def read_profiles(root: Any, links: Mapping[str, Any], folder: Path | None) -> LinkProfiles:
    """The profiles that links name: files below `folder`, or traces in the file itself. Raises FormatError."""
    profiles = LinkProfiles()
    for link in root.iter("link"):
        for attribute, kind in _KINDS.items():
            if (file := link.get(attribute)) is not None:
                name = needed(link, "id")
                profiles.of[name, kind] = parse_profile(_text(file, folder), f"{file}, the {kind} of link {name}")
    inline = {needed(trace, "id"): trace for trace in root.iter("trace")}
    for connect in root.iter("trace_connect"):
        kind, link_id = connect.get("kind", "HOST_AVAIL"), connect.get("element")
        trace = inline.get(connect.get("trace", ""))
        if kind not in _CONNECTED or link_id not in links or trace is None:
            profiles.dropped.append(f"a trace of {kind} of {short(link_id)}: not of a link's bandwidth or latency")
            continue
        text = _text(trace.get("file"), folder) if trace.get("file") else (trace.text or "")
        period = f"LOOPAFTER {trace.get('periodicity')}\n" if trace.get("periodicity") else ""
        profiles.of[link_id, _CONNECTED[kind]] = parse_profile(period + text, f"trace {trace.get('id')}")
    return profiles


def parse_profile(text: str, where: str) -> Profile:
    """Lines of a time in seconds and a value; with `LOOPAFTER 12` it begins again 12 s after its last change.

    Raises FormatError.
    """
    changes: list[tuple[float, float]] = []
    period_s = 0.0
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2:
            raise FormatError(f"{where}: {short(line)} is not a time and a value")
        if words[0].upper() in ("LOOPAFTER", "PERIODICITY"):
            period_s = max(number(words[1], where), 0.0)
        else:
            changes.append((number(words[0], where), number(words[1], where)))
    if any(value < 0 or at_s < 0 for at_s, value in changes):
        raise FormatError(f"{where}: a time or value below 0")
    if any(a[0] >= b[0] for a, b in pairwise(changes)):
        raise FormatError(f"{where}: times that do not rise")
    if period_s and changes:
        period_s += changes[-1][0]  # it begins again that long after its last change
    return Profile(changes, period_s if changes else 0.0)


def _text(file: str, folder: Path | None) -> str:
    relative = Path(file)
    if folder is None or relative.is_absolute() or ".." in relative.parts:
        raise FormatError(f"{short(file)}: a profile lies in the folder of its platform or below it")
    path = folder / relative
    try:
        if check_regular(path).stat().st_size > _LARGEST_BYTES:
            raise FormatError(f"{path}: more than {_LARGEST_BYTES:,} bytes")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise FormatError(f"{path}, which a link names: {getattr(error, 'strerror', None) or error}") from None
