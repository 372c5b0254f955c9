"""Connections of web performance tools: WebPageTest's connectivity.ini, ATC's profiles, presets of throttle."""

from __future__ import annotations

import configparser
import re
from typing import Any

from gannet.netem.formats.base import FormatError, Imported, Options, Source, check_unasked
from gannet.netem.formats.settings.profiles import Fields, amount, chosen, mapping, percent
from gannet.netem.formats.traces.intervals import rate_unit

_PRESET = re.compile(r"[\"']?([A-Za-z0-9_.-]{1,60})[\"']?\s{0,20}:\s{0,20}\{([^{}]{1,400})\}")
_FIELD = re.compile(r"[\"']?([A-Za-z]{1,30})[\"']?\s{0,20}:\s{0,20}([0-9]{1,15}(?:\.[0-9]{1,9})?)(?![0-9.A-Za-z])")
_PRESET_NAMES = {"down": "down", "up": "up", "rtt": "rtt"}
_PRESET_NAMES |= {"downstreamkbps": "down", "upstreamkbps": "up", "latency": "rtt"}


class Connectivity:
    """Sections with bwIn and bwOut (bit/s), latency (a round trip, ms) and plr (%)."""

    name = "WebPageTest connectivity"
    reads = ("name",)

    @staticmethod
    def recognises(source: Source) -> bool:
        """Whether it has sections, bwIn and latency."""
        return bool(
            re.search(r"^\s{0,20}\[[^\]\n]+\]\s*$", source.head, re.M)
            and re.search(r"^\s{0,20}bwIn\s{0,20}=", source.head, re.M | re.I)
        )

    @staticmethod
    def read(source: Source, options: Options) -> Imported:
        """The section that --name names."""
        unit_bps = rate_unit(options.unit, "bit")
        parser = configparser.ConfigParser(interpolation=None, strict=True)
        try:
            parser.read_string(source.text)
        except (configparser.Error, ValueError) as error:
            raise FormatError(" ".join(str(error).split())[:200]) from None
        sections = {name: dict(parser[name]) for name in parser.sections() if "bwin" in parser[name]}
        name, given = chosen(sections, options, "connections")
        fields = Fields()
        for key, field in (("bwin", "down"), ("bwout", "up")):
            text = _bare(given.get(key, "0"))
            fields.rate(field, unit_bps * amount(text, f"{name}: {key}"), f"{name}: {key}")
        trip_ms = amount(_bare(given.get("latency", "0")), f"{name}: latency")
        share = 1.0 if options.round_trip is False else 0.5
        fields.number("delay_ms", trip_ms * share)
        fields.number("loss_percent", percent(_bare(given.get("plr", "0")), f"{name}: plr"))
        known = {"label", "bwin", "bwout", "latency", "plr", "timeout"}
        if left := [key[:30] for key in given if key not in known]:
            fields.dropped.append(", ".join(left))
        said = f"latency: {trip_ms:g} ms, " + ("one way, as you say" if share == 1 else "a round trip, halved")
        return fields.imported(Connectivity.name, source, [f"connection: {name}", said, "plr: of each way"])


def _bare(text: str) -> str:
    return text.split(";")[0].strip().strip("\"'") or "0"


class Atc:
    """Facebook's Augmented Traffic Control: settings of each direction, kbit/s, ms one way, %."""

    name = "ATC profile"
    reads = ("name",)

    @staticmethod
    def recognises(source: Source) -> bool:
        """Whether it is JSON with rates, losses and delays, down and up."""
        return source.is_json and all(f'"{key}"' in source.head for key in ("down", "up", "rate", "loss", "delay"))

    @staticmethod
    def read(source: Source, options: Options) -> Imported:
        """Both directions; --name names one of several profiles."""
        check_unasked(options)
        value = source.json
        listed = value if isinstance(value, list) else [value]
        profiles = {}
        for number, each in enumerate(listed):
            each = mapping(each, f"profile {number}")
            profiles[str(each.get("name", f"profile {number}"))] = each.get("content", each)
        name, content = chosen(profiles, options, "profiles")
        fields, losses, jitters = Fields(), dict[str, float](), dict[str, float]()
        delays = dict[str, float]()
        shares: dict[str, dict[str, float]] = {"reorder_percent": {}, "corrupt_percent": {}}
        for way in ("down", "up"):
            given = mapping(mapping(content, name).get(way), f"{name}: {way}")
            where = f"{name}: {way}"
            fields.rate(way, 1000 * amount(given.get("rate") or 0, f"{where}: rate"), where)
            delay = mapping(given.get("delay"), f"{where}: delay")
            delays[way] = amount(delay.get("delay") or 0, f"{where}: delay")
            jitters[way] = amount(delay.get("jitter") or 0, f"{where}: jitter")
            fields.number(f"{way}_delay_ms", delays[way])
            losses[way] = _share(fields, given, "loss", where)
            shares["corrupt_percent"][way] = _share(fields, given, "corruption", where)
            shares["reorder_percent"][way] = _share(fields, given, "reorder", where)
            if given.get("iptables_options"):
                fields.dropped.append(f"iptables_options {way}")
        _mean(fields, "loss_percent", losses)
        for field, figures in shares.items():
            _mean(fields, field, figures)
        if any(jitters.values()):
            if len(set(jitters.values())) > 1:
                fields.dropped.append(f"that jitter differs: {jitters['down']:g} ms down and {jitters['up']:g} ms up")
            fields.jitter(sum(jitters.values()) / 2, sum(delays.values()) / 2, 0)
        return fields.imported(Atc.name, source, [f"profile: {name}", "delays: one way, each direction its own"])


def _share(fields: Fields, given: dict[str, Any], key: str, where: str) -> float:
    found = mapping(given.get(key), f"{where}: {key}")
    if correlation := amount(found.get("correlation") or 0, f"{where}: {key}'s correlation"):
        fields.dropped.append(f"the correlation of {key}, {correlation:g}%: each packet is drawn by itself")
    return percent(found.get("percentage") or 0, f"{where}: {key}")


def _mean(fields: Fields, field: str, figures: dict[str, float]) -> None:
    down, up = figures["down"], figures["up"]
    if down != up:
        fields.dropped.append(f"that {field} differs, {down:g} down and {up:g} up: here it is the mean of both")
    fields.number(field, (down + up) / 2)


class Throttle:
    """Presets of sitespeed.io's throttle and browsertime: down and up in kbit/s, rtt in ms."""

    name = "throttle presets"
    reads = ("name",)

    @staticmethod
    def recognises(source: Source) -> bool:
        """Whether something in braces has down, up and rtt."""
        return bool(_presets(source.head[:20_000]))

    @staticmethod
    def read(source: Source, options: Options) -> Imported:
        """The preset that --name names."""
        check_unasked(options, trip=False)
        presets = _presets(source.text[: 2**20])
        name, given = chosen(presets, options, "presets")
        fields = Fields()
        for field in ("down", "up"):
            fields.rate(field, 1000 * given[field], f"{name}: {field}")
        share = 1.0 if options.round_trip is False else 0.5
        fields.number("delay_ms", given["rtt"] * share)
        said = f"rtt: {given['rtt']:g} ms, " + ("one way, as you say" if share == 1 else "halved")
        return fields.imported(Throttle.name, source, [f"preset: {name}", said])


def _presets(text: str) -> dict[str, dict[str, float]]:
    found = {}
    for match in _PRESET.finditer(text):
        given = {_PRESET_NAMES.get(key.lower()): float(value) for key, value in _FIELD.findall(match[2])}
        if {"down", "up", "rtt"} <= given.keys():
            found[match[1]] = {key: value for key, value in given.items() if key}
    return found
