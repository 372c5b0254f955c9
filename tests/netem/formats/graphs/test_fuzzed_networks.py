"""Damaged files of every format: one line of error, or a result that a spec takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.netem.formats.base import FormatError
from gannet.netem.formats.graphs import core_xml, cross_silo, kollaps, miniedit, shadow, simgrid, sndlib, topology_zoo
from gannet.netem.formats.graphs.network import Network, links_mapping
from gannet.netem.formats.matrices import objects, texts
from gannet.netem.formats.matrices.table import matrix_of
from gannet.netem.links.regions import LinkMatrix
from gannet.spec.links import LinksSpec
from tests.netem.formats.graphs import examples
from tests.netem.formats.matrices.test_matrices import MARKDOWN, PLANETLAB


def mapped(parse: Callable[[str], Network]) -> Callable[[str], Any]:
    return lambda text: links_mapping(parse(text))


READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "shadow": (examples.SHADOW, mapped(shadow.parse)),
    "cross-silo": (examples.CROSS_SILO, mapped(cross_silo.parse)),
    "zoo": (examples.ZOO, mapped(topology_zoo.parse)),
    "sndlib": (examples.SNDLIB, mapped(sndlib.parse)),
    "kollaps": (examples.KOLLAPS % examples.KOLLAPS_EVENTS, lambda text: kollaps.parse(text)[1]),
    "simgrid": (examples.SIMGRID, lambda text: simgrid.parse(text)[1]),
    "simgrid-zones": (examples.SIMGRID_ZONES, lambda text: simgrid.parse(text)[1]),
    "core": (examples.CORE, mapped(core_xml.parse)),
    "miniedit": (examples.MINIEDIT, lambda text: links_mapping(miniedit_of(text))),
    "numbers": (PLANETLAB, lambda text: matrix_of(texts.read_numbers(text), None, True, "ms")),
    "csv": (
        "RTT (ms),a,b\na,1,2\nb,3,4\n",
        lambda text: matrix_of(texts.read_named_csv(text), unit="ms", round_trip=True),
    ),
    "markdown": (MARKDOWN, lambda text: matrix_of(texts.read_markdown(text))),
    "pairs": ('{"0-1": 10.0, "0-2": 20, "1-2": 30}', lambda text: json_of(text)),
    "dtfm": ('{"A-B": [67, 0.79], "B-C": [1e-2, 1e2], "A-C": [3, 4]}', lambda text: json_of(text)),
    "regions": ('{"data": {"x": {"x": 1.0, "y": "9.5"}, "y": {"x": 10}}}', lambda text: json_of(text)),
}


def miniedit_of(text: str) -> Network:
    data = loads(text)
    if not miniedit.is_topology(data):
        raise FormatError("not MiniEdit's")
    return miniedit.parse(data)


def json_of(text: str) -> Any:
    data = loads(text)
    if not objects.kind_of(data):
        raise FormatError("no table")
    return matrix_of(objects.read_json(data), None, True, "ms")


def loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise FormatError(str(error)) from None


NASTY = [
    "1e999",
    "-1",
    "9" * 400,
    "nan",
    "inf",
    "0",
    "",
    '"',
    "<",
    "[",
    "]",
    "{",
    "\x00",
    "é",
    "1e-320",
    "true",
    "null",
    "&a;",
]


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files(name: str, data: st.DataObject) -> None:
    text, read = READERS[name]
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(text)))
        end = data.draw(st.one_of(st.integers(begin, min(begin + 30, len(text))), st.just(len(text))))
        piece = data.draw(st.one_of(st.sampled_from(NASTY), st.text(max_size=4), st.just(text[begin : begin + 200])))
        text = text[:begin] + piece + text[end:]
    check(read, text)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_other_numbers(name: str, data: st.DataObject) -> None:
    """Files that parse, with numbers that mean nothing."""
    text, read = READERS[name]
    places = [place for place, char in enumerate(text) if char.isdigit()]
    for place in sorted(
        data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=4, unique=True)), reverse=True
    ):
        text = text[:place] + data.draw(st.sampled_from(NASTY)) + text[place + 1 :]
    check(read, text)


def check(read: Callable[[str], Any], text: str) -> None:
    try:
        found = read(text)
    except FormatError as error:
        assert str(error) and "\n" not in str(error)
        assert len(str(error)) < 1000
        return
    if {"regions", "round_trips_ms"} & found.keys():
        LinkMatrix.model_validate(found)
    else:
        links = LinksSpec.model_validate(found)
        links.over_time(len(found["delays_ms"]), 100.0)
