"""The JSON Schema of a profile file, for editors. Pure.

It accepts exactly the files that load_profile accepts, but for one rule that JSON Schema has no words for: how much
jitter a delay holds. Types, ranges and descriptions come from the model; shorthands, rate strings and rules between
fields are added here. Draft 2020-12.
"""

from __future__ import annotations

import json
from typing import Any

from gannet.netem.links.fields import LINK_FIELDS
from gannet.netem.links.profile import (
    FASTEST_FRAMES_BPS,
    RATE_MAX_LENGTH,
    SHORTHANDS,
    SLOWEST_BPS,
    UNLIMITED,
    LinkProfile,
)

_BUFFERS = ("buffer_ms", "buffer_bytes", "buffer_packets")
_SHORTHAND_HELP = {
    "rate": "Rate in both directions: 10Mbit (bit, kbit, Mbit or Gbit; 10Mbit IP of IP packets), or unlimited.",
    "down": "Rate at which a node receives: 10Mbit (bit, kbit, Mbit or Gbit; 10Mbit IP of IP packets), or unlimited.",
    "up": "Rate at which a node sends: 10Mbit (bit, kbit, Mbit or Gbit; 10Mbit IP of IP packets), or unlimited.",
    "delay_ms": "One-way delay between two nodes of this profile, ms: half of it at each end, both ways alike.",
}
_SPACE = r"[ \t\r\n]*"


def _rate_pattern() -> str:
    """A rate with its unit, from 1kbit to 100Gbit: both bounds are powers of ten in every unit, so digits decide."""
    units = {
        "[kK]": r"[1-9][0-9]{0,7}(\.[0-9]+)?|100000000(\.0+)?",
        "[mM]": r"(\.0{0,2}[1-9][0-9]*)|[1-9][0-9]{0,4}(\.[0-9]+)?|100000(\.0+)?",
        "[gG]": r"(\.0{0,5}[1-9][0-9]*)|[1-9][0-9]?(\.[0-9]+)?|100(\.0+)?",
        "": r"[1-9][0-9]{3,10}(\.[0-9]+)?|100000000000(\.0+)?",
    }
    choices = "|".join(rf"0*({digits}){_SPACE}{prefix}" for prefix, digits in units.items())
    return rf"^{_SPACE}({choices})[bB][iI][tT](/[sS])?([ \t\r\n]+[iI][pP])?{_SPACE}$"


def profile_schema() -> dict[str, Any]:
    """The schema, as plain JSON values."""
    schema = LinkProfile.model_json_schema()
    bursts = schema["$defs"]["GilbertElliott"]
    properties = {name: _tidy(field) for name, field in schema["properties"].items()}
    said = {
        "anyOf": [
            {"type": "string", "pattern": _rate_pattern(), "maxLength": RATE_MAX_LENGTH},
            {"enum": [*UNLIMITED, None]},
        ],
        "examples": ["10Mbit", "1.6Mbit", "unlimited"],
    }
    rate = {
        "anyOf": [
            {"type": "string", "pattern": _rate_pattern(), "maxLength": RATE_MAX_LENGTH},
            {"type": "integer", "minimum": SLOWEST_BPS, "maximum": FASTEST_FRAMES_BPS},
            {"enum": [*UNLIMITED, None]},
        ],
        "examples": ["10Mbit", "1.6Mbit", "unlimited"],
    }
    for name in ("down_bps", "up_bps"):
        properties[name] = {"description": properties[name]["description"], "$ref": "#/$defs/rate"}
    delay = {**properties["up_delay_ms"], "description": _SHORTHAND_HELP["delay_ms"]}
    rates = {
        name: {"description": text, "$ref": "#/$defs/stated_rate"}
        for name, text in _SHORTHAND_HELP.items()
        if name != "delay_ms"
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Gannet link profile",
        "description": "A link between two nodes that both have it; delays are one way.",
        "type": "object",
        "properties": {**rates, "delay_ms": delay, **properties},
        "additionalProperties": False,
        "allOf": _rules(),
        "$defs": {
            "rate": rate,
            "stated_rate": said,
            "GilbertElliott": {
                **bursts,
                "description": "Loss in bursts: a good and a bad state, advanced by each packet (Gilbert 1960, "
                "Elliott 1963; tc netem's loss gemodel).",
                "properties": {name: _tidy(field) for name, field in bursts["properties"].items()},
            },
        },
    }


def schema_text() -> str:
    """The schema as it is in the file next to the shipped profiles."""
    return json.dumps(profile_schema(), indent=2) + "\n"


def _tidy(field: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in field.items() if key not in ("title", "default")}


def _rules() -> list[dict[str, Any]]:
    """Rules between fields, as in LinkProfile's validators; each is one of the model's messages."""
    writers: dict[str, list[str]] = {}
    for shorthand, fields in SHORTHANDS.items():
        for name in fields:
            writers.setdefault(name, [name]).append(shorthand)
    twice = {tuple(sorted((a, b))) for names in writers.values() for a in names for b in names if a != b}
    rules: list[dict[str, Any]] = [{"not": {"required": list(pair)}} for pair in sorted(twice)]
    said = {"not": {"type": "null"}}
    for index, one in enumerate(_BUFFERS):
        for other in _BUFFERS[index + 1 :]:
            rules.append({"not": {"required": [one, other], "properties": {one: said, other: said}}})
    positive = {"exclusiveMinimum": 0}
    rules.append(
        {
            "not": {
                "required": ["gilbert_elliott", "loss_percent"],
                "properties": {"gilbert_elliott": said, "loss_percent": positive},
            }
        }
    )
    reordering = {"required": ["jitter_order"], "properties": {"jitter_order": {"const": "reorder"}}}
    jittered, correlated = (
        {"required": [name], "properties": {name: positive}} for name in ("jitter_ms", "jitter_correlation_percent")
    )
    rules += [{"if": reordering, "then": jittered}, {"if": correlated, "then": reordering}]
    return rules + [_needs(name, declared.needs) for name, declared in LINK_FIELDS.items() if declared.needs]


def _needs(field: str, others: tuple[str, ...]) -> dict[str, Any]:
    """`field` above 0 only together with one of `others` above 0."""
    above = [{"required": [name], "properties": {name: {"exclusiveMinimum": 0}}} for name in (field, *others)]
    return {"if": above[0], "then": {"anyOf": above[1:]}}
