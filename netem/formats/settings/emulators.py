"""Settings of tc: what `tc -j qdisc` shows, tcconfig's JSON, and containerlab's `tools netem show`."""

from __future__ import annotations

from typing import Any

from gannet.netem.formats.base import FormatError, Imported, Options, Source, check_unasked
from gannet.netem.formats.settings.profiles import (
    EGRESS,
    Fields,
    amount,
    chosen,
    duration_ms,
    mapping,
    percent,
    rate_bps,
)

_TCCONFIG_BPS = {
    f"{prefix}{unit}": factor
    for unit in ("bps", "bit/s", "bit", "bits/s")
    for prefix, factor in {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "ki": 2.0**10, "mi": 2.0**20, "gi": 2.0**30}.items()
}


class TcQdisc:
    """JSON of `tc -j qdisc show`: netem in seconds, fractions and bytes per second, and tbf."""

    name = "tc -j qdisc"
    reads = ("name",)

    @staticmethod
    def recognises(source: Source) -> bool:
        """Whether it is a list of qdiscs."""
        return (
            source.is_json and '"kind"' in source.head and ('"refcnt"' in source.head or '"options"' in source.head)
        )

    @staticmethod
    def read(source: Source, options: Options) -> Imported:
        """The settings of one device, which --name names."""
        check_unasked(options)
        qdiscs = source.json
        if not isinstance(qdiscs, list):
            raise FormatError("a list of qdiscs was expected")
        devices: dict[str, list[dict[str, Any]]] = {}
        others: list[str] = []
        for number, qdisc in enumerate(qdiscs):
            qdisc = mapping(qdisc, f"qdisc {number}")
            if (kind := qdisc.get("kind")) in ("netem", "tbf"):
                devices.setdefault(str(qdisc.get("dev", "device")), []).append(qdisc)
            else:
                others.append(str(kind)[:30])
        device, found = chosen(devices, options, "devices with netem or tbf")
        kinds = [qdisc["kind"] for qdisc in found]
        if len(kinds) != len(set(kinds)):
            raise FormatError(
                f"{device}: has several qdiscs of one kind, and a profile is one link: {', '.join(kinds)}"
            )
        fields = Fields()
        for qdisc in found:
            where, given = f"{device}: {qdisc['kind']}", mapping(qdisc.get("options"), device)
            (_netem if qdisc["kind"] == "netem" else _tbf)(fields, given, where)
        if others:
            fields.dropped.append(f"qdiscs of other kinds: {', '.join(dict.fromkeys(others))}")
        return fields.imported(TcQdisc.name, source, [f"device: {device}", EGRESS])


def _netem(fields: Fields, given: dict[str, Any], where: str) -> None:
    given = dict(given)
    fields_of = {key: mapping(given.pop(key, None), f"{where}: {key}") for key in _NETEM}
    delay = fields_of["delay"]
    delay_ms = round(amount(delay.get("delay", 0), f"{where}: delay") * 1000, 6)
    fields.number("delay_ms", delay_ms)
    fields.jitter(
        amount(delay.get("jitter", 0), f"{where}: jitter") * 1000,
        delay_ms,
        percent(delay.get("correlation", 0), f"{where}: delay's correlation", 100),
    )
    for key, name, field in (
        ("loss-random", "loss", "loss_percent"),
        ("duplicate", "duplicate", "duplicate_percent"),
        ("reorder", "reorder", "reorder_percent"),
        ("corrupt", "corrupt", "corrupt_percent"),
    ):
        fields.number(field, percent(fields_of[key].get(name, 0), f"{where}: {key}", 100))
        if correlation := percent(fields_of[key].get("correlation", 0), f"{where}: {key}'s correlation", 100):
            fields.dropped.append(f"the correlation of {key}, {correlation:g}%: each packet is drawn by itself")
    if gemodel := fields_of["loss-gemodel"]:
        names = {"p": "good_to_bad_percent", "r": "bad_to_good_percent"}
        names |= {"1-h": "loss_in_bad_percent", "1-k": "loss_in_good_percent"}
        fields.values["gilbert_elliott"] = {
            field: percent(gemodel[key], f"{where}: gemodel {key}", 100)
            for key, field in names.items()
            if key in gemodel
        }
    if rate := fields_of["rate"]:
        fields.rate("up", 8 * amount(rate.get("rate", 0), f"{where}: rate"), where)
        if any(rate.get(key) for key in ("packetoverhead", "cellsize", "celloverhead")):
            fields.dropped.append("the rate's overhead of packets and cells")
    gap = given.pop("gap", 0)
    if gap and fields_of["reorder"]:
        fields.dropped.append(f"gap {gap!r} of reordering: packets are drawn at random")
    if (limit := given.pop("limit", 0)) and "up" in fields.values:
        fields.values["buffer_packets"] = min(1_000_000, max(1, int(amount(limit, f"{where}: limit"))))
    given.pop("ecn", None)
    if given:
        fields.dropped.append(f"{', '.join(key[:30] for key in given)} of netem")


_NETEM = ("delay", "loss-random", "loss-gemodel", "duplicate", "reorder", "corrupt", "rate")


def _tbf(fields: Fields, given: dict[str, Any], where: str) -> None:
    if "up" in fields.values:
        raise FormatError(f"{where}: netem has a rate too, and a profile has one: take one of them out")
    fields.rate("up", 8 * amount(given.get("rate", 0), f"{where}: rate"), where)
    if "lat" in given and "up" in fields.values:
        fields.values.pop("buffer_packets", None)
        fields.number("buffer_ms", amount(given["lat"], f"{where}: lat") / 1000)
    left = [key[:30] for key in given if key not in ("rate", "lat")]
    if left:
        fields.dropped.append(f"{', '.join(left)} of tbf: packets leave evenly, at the rate")


class Tcconfig:
    """JSON of tcshow: rules of each device, outgoing and incoming."""

    name = "tcconfig"
    reads = ("name",)

    @staticmethod
    def recognises(source: Source) -> bool:
        """Whether it is JSON with rules that are outgoing or incoming."""
        return source.is_json and ('"outgoing"' in source.head or '"incoming"' in source.head)

    @staticmethod
    def read(source: Source, options: Options) -> Imported:
        """One rule a direction of one device; it calls delays round trips and applies them on one side, so ask."""
        check_unasked(options, trip=False)
        devices = mapping(source.json, "tcconfig")
        device, given = chosen(devices, options, "devices")
        ways = {
            way: mapping(mapping(given, device).get(key), f"{device}: {key}")
            for key, way in (("outgoing", "up"), ("incoming", "down"))
        }
        fields, delays, losses, jitters = Fields(), dict[str, float](), dict[str, float](), dict[str, float]()
        for way, rules in ways.items():
            if not rules:
                continue
            if len(rules) > 1:
                raise FormatError(f"{device}: {len(rules)} rules {way}, and a profile is one link: leave one")
            match, raw = next(iter(rules.items()))
            where = f"{device}, {way}"
            rule = mapping(raw, where)
            if match not in ("protocol=ip", ""):
                fields.dropped.append(f"that the rule {way} is for {match[:60]} alone: it is for all packets")
            delays[way] = duration_ms(rule.get("delay"), f"{where}: delay", 1.0)
            jitters[way] = duration_ms(rule.get("delay-distro"), f"{where}: delay-distro", 1.0)
            losses[way] = percent(rule.get("loss", 0), f"{where}: loss")
            if "rate" in rule:
                fields.rate(way, rate_bps(rule["rate"], _TCCONFIG_BPS, f"{where}: rate"), where)
            for key, field in (("duplicate", "duplicate_percent"), ("corrupt", "corrupt_percent")):
                fields.number(field, max(fields.values.get(field, 0), percent(rule.get(key, 0), f"{where}: {key}")))
            known = {"filter_id", "delay", "delay-distro", "loss", "rate", "duplicate", "corrupt"}
            if left := [key[:30] for key in rule if key not in known]:
                fields.dropped.append(f"{', '.join(left)} {way}")
        if any(delays.values()) and options.round_trip is None:
            raise FormatError(
                "tcconfig calls its delays round trips, and applies them to one direction: say what they are to be: "
                "--round-trip (halved) or --one-way"
            )
        both = len(delays) == 2
        share = 0.5 if options.round_trip and not both else 1.0
        facts = [f"device: {device}", "rates: bits"]
        if any(delays.values()):
            total_ms = sum(delays.values()) / (2 if both else 1) * share
            fields.number("delay_ms", total_ms)
            facts.append(
                "delay: "
                + ("the mean of both directions" if both else "halved" if share != 1 else "of each direction")
            )
            if any(jitters.values()):
                fields.jitter(max(jitters.values()) * share, total_ms, 0, "normal")
        if len(set(losses.values())) > 1:
            fields.dropped.append("that directions lose differently: " + _ways(losses) + ", here the mean")
        if losses:
            fields.number("loss_percent", sum(losses.values()) / len(losses))
        return fields.imported(Tcconfig.name, source, facts)


def _ways(figures: dict[str, float]) -> str:
    return " and ".join(f"{value:g}% {way}" for way, value in figures.items())


class Containerlab:
    """JSON of `containerlab tools netem show`: impairments of interfaces, rates in kbit/s."""

    name = "containerlab netem"
    reads = ("name",)

    @staticmethod
    def recognises(source: Source) -> bool:
        """Whether it is JSON with interfaces and their packet_loss."""
        return source.is_json and '"packet_loss"' in source.head and '"interface"' in source.head

    @staticmethod
    def read(source: Source, options: Options) -> Imported:
        """The interface that --name names, as NODE:INTERFACE."""
        check_unasked(options)
        interfaces: dict[str, dict[str, Any]] = {}
        value = source.json
        for node, listed in (mapping(value, "netem") if isinstance(value, dict) else {"": value}).items():
            if not isinstance(listed, list):
                raise FormatError(f"{node}: a list of interfaces was expected")
            for each in listed:
                each = mapping(each, node)
                interfaces[f"{node}:{each.get('interface')}".lstrip(":")] = each
        name, given = chosen(interfaces, options, "interfaces")
        fields = Fields()
        delay_ms = duration_ms(given.get("delay"), f"{name}: delay")
        fields.number("delay_ms", delay_ms)
        fields.jitter(duration_ms(given.get("jitter"), f"{name}: jitter"), delay_ms, 0)
        fields.number("loss_percent", percent(given.get("packet_loss") or 0, f"{name}: packet_loss"))
        fields.rate("up", 1000 * amount(given.get("rate") or 0, f"{name}: rate"), name)
        fields.number("corrupt_percent", percent(given.get("corruption") or 0, f"{name}: corruption"))
        known = {"interface", "delay", "jitter", "packet_loss", "rate", "corruption"}
        if left := [key[:30] for key in given if key not in known]:
            fields.dropped.append(", ".join(left))
        return fields.imported(Containerlab.name, source, [f"interface: {name}", EGRESS])
