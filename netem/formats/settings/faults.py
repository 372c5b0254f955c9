"""Faults as chaos tools write them: Chaos Mesh's NetworkChaos and Toxiproxy's toxics."""

from __future__ import annotations

import re
from typing import Any

from yaml import YAMLError

from gannet.netem import yaml12
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
from gannet.netem.links.yaml_files import DocumentError, printable, read_mapping, short

# bps counts bytes, and the steps are of 1024 (ConvertUnitToBytes in api/v1alpha1 of chaos-mesh/chaos-mesh).
_CHAOS_BPS = {f"{prefix}bps": 8.0 * 1024**n for n, prefix in enumerate(("", "k", "m", "g", "t"))}
_DOCUMENT = re.compile(r"^---(?=\s|$)", re.M)
_LARGEST = 2**18
_SHARES = {"loss": "loss_percent", "duplicate": "duplicate_percent", "corrupt": "corrupt_percent"}
_KNOWN = {"action", "mode", "value", "selector", "delay", "bandwidth", "duration", "direction", *_SHARES}


class ChaosMesh:
    """A NetworkChaos: delay, loss, duplicate, corrupt and bandwidth of what pods send; of several one by its name."""

    name = "Chaos Mesh NetworkChaos"
    reads = ("nodes", "name")

    @staticmethod
    def recognises(source: Source) -> bool:
        """Whether its kind is NetworkChaos."""
        return bool(re.search(r"^kind:[ \t]*[\"']?NetworkChaos", source.head, re.M))

    @staticmethod
    def read(source: Source, options: Options) -> Imported:
        """A profile; with --nodes N and a duration, links that have it for so long."""
        check_unasked(options)
        _, document = chosen(_network_chaos(source), options, "NetworkChaos")
        spec = mapping(document.get("spec"), "spec")
        action = spec.get("action")
        if action == "partition":
            raise FormatError(
                "action partition: which pods are cut off is known to the cluster alone; write it as a spec's "
                'schedule: [{at_s: 0, partition: "0,1:2,3", for_s: 10}]'
            )
        fields = Fields()
        delay = mapping(spec.get("delay"), "delay")
        delay_ms = duration_ms(delay.get("latency"), "delay.latency")
        fields.number("delay_ms", delay_ms)
        fields.jitter(
            duration_ms(delay.get("jitter"), "delay.jitter"),
            delay_ms,
            percent(delay.get("correlation") or 0, "delay"),
        )
        if reorder := mapping(delay.get("reorder"), "delay.reorder"):
            fields.number("reorder_percent", percent(reorder.get("reorder") or 0, "delay.reorder"))
            fields.dropped.append("gap and correlation of reordering: packets are drawn at random")
        for key, field in _SHARES.items():
            given = mapping(spec.get(key), key)
            fields.number(field, percent(given.get(key) or 0, key))
            if correlation := percent(given.get("correlation") or 0, f"{key}.correlation"):
                fields.dropped.append(f"the correlation of {key}, {correlation:g}%: each packet is drawn by itself")
        if bandwidth := mapping(spec.get("bandwidth"), "bandwidth"):
            fields.rate("up", rate_bps(bandwidth.get("rate"), _CHAOS_BPS, "bandwidth.rate"), "bandwidth.rate")
            if left := [key[:30] for key in bandwidth if key != "rate"]:
                fields.dropped.append(f"{', '.join(left)} of the bandwidth: the buffer holds 100 ms")
        if spec.get("selector") or spec.get("mode"):
            fields.dropped.append(
                "selector and mode, since pods are no nodes here: name nodes where you use the profile"
            )
        if spec.get("direction", "to") != "to":
            fields.dropped.append(f"direction {short(spec['direction'])}: it is that of what a node sends")
        if left := [key[:30] for key in spec if key not in _KNOWN]:
            fields.dropped.append(", ".join(left))
        return ChaosMesh._result(source, options, fields, spec.get("duration"))

    @staticmethod
    def _result(source: Source, options: Options, fields: Fields, duration: Any) -> Imported:
        for_s = duration_ms(duration, "duration") / 1000
        facts = [EGRESS, "bandwidth: bytes per second, of 1024 to a kbps"]
        if not for_s:
            return fields.imported(ChaosMesh.name, source, facts)
        if not isinstance(options.nodes, int):
            fields.dropped.append(f"duration {for_s:g} s: with --nodes N it becomes for_s in a schedule of N nodes")
            return fields.imported(ChaosMesh.name, source, facts)
        if not 2 <= options.nodes <= 1024:
            raise FormatError(f"--nodes {options.nodes}: from 2 to 1024")
        profile = fields.imported(ChaosMesh.name, source, [*facts, f"for {for_s:g} s, at all {options.nodes} nodes"])
        figures = {key: value for key, value in profile.content.items() if key != "source"}
        links = {"schedule": [{"at_s": 0, "for_s": for_s, "profile": figures}]}
        content = {"nodes": options.nodes, "links": links}
        return Imported(ChaosMesh.name, "links", content, facts=profile.facts, dropped=profile.dropped)


def _network_chaos(source: Source) -> dict[str, dict[str, Any]]:
    """Those of a file's documents, by metadata.name."""
    if not _DOCUMENT.search(source.text):
        try:
            document = read_mapping(source.path, "kind: NetworkChaos")
        except DocumentError as error:
            raise FormatError(" ".join(str(error).removeprefix(f"{source.path}: ").split())) from None
        return {_name_of(document): document}
    if len(source.text) > _LARGEST:
        raise FormatError(f"{len(source.text):,} characters, and {_LARGEST:,} at most: leave out documents")
    found: dict[str, dict[str, Any]] = {}
    for number, text in enumerate(_DOCUMENT.split(source.text), 1):
        try:
            value = yaml12.load(text)
        except YAMLError as error:
            raise FormatError(f"part {number}: not YAML: {' '.join(printable(error).split())}"[:300]) from None
        if isinstance(value, dict) and value.get("kind") == "NetworkChaos":
            document = mapping(value, f"part {number}")
            if found.setdefault(name := _name_of(document), document) is not document:
                raise FormatError(f"part {number}: a second one of the name {short(name)}: rename one")
    return found


def _name_of(document: dict[str, Any]) -> str:
    return str(mapping(document.get("metadata"), "metadata").get("name", "unnamed"))[:200]


class Toxiproxy:
    """Toxics of a proxy: latency and jitter in ms, bandwidth in kilobytes per second, by stream."""

    name = "Toxiproxy"
    reads = ("name",)

    @staticmethod
    def recognises(source: Source) -> bool:
        """Whether it is JSON with toxics."""
        return source.is_json and ('"toxics"' in source.head or '"toxicity"' in source.head)

    @staticmethod
    def read(source: Source, options: Options) -> Imported:
        """The proxy that --name names."""
        check_unasked(options)
        name, toxics = chosen(_proxies(source.json), options, "proxies")
        fields, delays, jitters = Fields(), {"up": 0.0, "down": 0.0}, {"up": 0.0, "down": 0.0}
        seen: set[tuple[str, str]] = set()
        for number, toxic in enumerate(toxics):
            where = f"{name}, toxic {number}"
            toxic = mapping(toxic, where)
            way = {"upstream": "up", "downstream": "down"}.get(str(toxic.get("stream", "downstream")))
            if way is None:
                raise FormatError(f"{where}: stream {short(toxic.get('stream'))}: upstream or downstream")
            kind, given = str(toxic.get("type"))[:30], mapping(toxic.get("attributes"), where)
            if kind not in ("latency", "bandwidth"):
                fields.dropped.append(f"toxic {kind} ({way})")
                continue
            if (kind, way) in seen:
                raise FormatError(f"{where}: a second {kind} {way}, and a profile has one: leave one")
            seen.add((kind, way))
            if amount(toxic.get("toxicity", 1), f"{where}: toxicity") < 1:
                fields.dropped.append(f"toxicity of {kind} {way}: all connections have it")
            if kind == "latency":
                delays[way] = amount(given.get("latency") or 0, f"{where}: latency")
                jitters[way] = amount(given.get("jitter") or 0, f"{where}: jitter")
                fields.number(f"{way}_delay_ms", delays[way])
            else:
                fields.rate(way, 8000 * amount(given.get("rate") or 0, f"{where}: rate"), where)
        if any(jitters.values()):
            if jitters["up"] != jitters["down"]:
                fields.dropped.append(f"that jitter differs: {jitters['up']:g} ms up, {jitters['down']:g} ms down")
            fields.jitter(sum(jitters.values()) / 2, sum(delays.values()) / 2, 0)
        facts = [f"proxy: {name}", "upstream is up, downstream is down; rates: kilobytes (1000 bytes) per second"]
        return fields.imported(Toxiproxy.name, source, facts)


def _proxies(value: Any) -> dict[str, list[Any]]:
    """Toxics by proxy: of GET /proxies, of one proxy, of a list of proxies, or of toxics alone."""
    if isinstance(value, dict) and "toxics" in value:
        value = [value]
    if isinstance(value, list) and value and all(isinstance(each, dict) and "type" in each for each in value):
        return {"proxy": value}
    if isinstance(value, list):
        value = {str(each.get("name", n)) if isinstance(each, dict) else str(n): each for n, each in enumerate(value)}
    found = {}
    for name, proxy in mapping(value, "proxies").items():
        toxics = mapping(proxy, f"proxy {short(name)}").get("toxics")
        if toxics:
            if not isinstance(toxics, list):
                raise FormatError(f"{short(name)}: toxics: a list was expected")
            found[name] = toxics
    return found
