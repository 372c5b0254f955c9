"""Networks with coordinates: Topology Zoo and SNDlib, against distances on the globe that are known."""

from __future__ import annotations

from math import pi

import pytest

from gannet.netem.formats.base import FormatError
from gannet.netem.formats.graphs import sndlib, topology_zoo
from gannet.netem.formats.graphs.geography import EARTH_KM, great_circle_km, place_all
from gannet.netem.formats.graphs.network import links_mapping
from gannet.spec.links import LinksSpec
from tests.netem.formats.graphs.examples import SNDLIB, ZOO

QUARTER_MS = EARTH_KM * pi / 2 / (299_792.458 * 2 / 3) * 1e3


def test_great_circles() -> None:
    assert great_circle_km((0, 0), (0, 180)) == pytest.approx(pi * EARTH_KM)
    assert great_circle_km((0, 179.5), (0, -179.5)) == pytest.approx(EARTH_KM * pi / 180)
    assert great_circle_km((52.52, 13.405), (48.8566, 2.3522)) == pytest.approx(878, abs=1)  # Berlin to Paris
    placed, missing = place_all({0: (0.0, 179.0), 1: (0.0, -179.0)}, {2: [0, 1]}, ["a", "b", "c"])
    assert missing == [2]
    assert abs(placed[2][1]) == pytest.approx(180)


def test_a_multigraph_of_the_zoo_with_a_node_without_coordinates() -> None:
    network = topology_zoo.parse(ZOO)
    assert network.names == ["Equator", "East", "Pole", "Nowhere"]
    assert network.pairs[0, 1].delay_ms == pytest.approx(QUARTER_MS)
    assert network.pairs[0, 2].delay_ms == pytest.approx(2 * QUARTER_MS)
    assert network.pairs[2, 3].delay_ms == 0  # in the middle of its one neighbour
    assert network.up_bps == [15_000_000_000, None, None, None]
    assert network.pairs[0, 2].rate_bps == 1_000_000_000
    assert network.pairs[2, 3].rate_bps is None
    mapping = links_mapping(network)
    text = "\n".join(network.facts + network.dropped)
    assert "1 node without coordinates (Nowhere)" in text
    assert "nothing is known of the speed of 1 of 3 links" in text
    assert mapping["shared"] == [
        {"rate": "1Gbit", "from": [0, 1], "to": [2, 3]},  # East–Pole
        {"rate": "1Gbit", "from": [2, 3], "to": [0, 1]},
    ]
    assert "2 inner links that several pairs share (East–Pole …): fabric: virtual and namespaces limit them" in text
    links = LinksSpec.model_validate(mapping).state
    assert links.edges[0, 2].delay_ms == pytest.approx(2 * QUARTER_MS, abs=1e-6)


def test_the_zoo_as_gml_with_parallel_links_that_it_does_not_announce() -> None:
    text = """graph [ Creator "Topology Zoo Toolset"
      node [ id 0 label "A" Longitude 0.0 Latitude 0.0 ] node [ id 1 label "A" Longitude 90.0 Latitude 0.0 ]
      edge [ source 0 target 1 LinkSpeedRaw 1000000.0 ] edge [ source 0 target 1 LinkSpeedRaw 2000000.0 ]
    ]"""
    network = topology_zoo.parse(text)
    assert network.names == ["A (0)", "A (1)"]
    assert network.pairs[0, 1].delay_ms == pytest.approx(QUARTER_MS)
    assert network.up_bps == [3_000_000, 3_000_000]


def test_sndlib_has_the_longitude_first_and_mbit() -> None:
    network = sndlib.parse(SNDLIB)
    degree_ms = EARTH_KM * pi / 180 / (299_792.458 * 2 / 3) * 1e3
    assert network.pairs[0, 1].delay_ms == pytest.approx(
        degree_ms
    )  # at the equator a degree of longitude is one of latitude
    assert network.pairs[0, 2].delay_ms == pytest.approx(2 * degree_ms)
    assert (network.up_bps[0], network.down_bps[2]) == (155_000_000, 40_000_000)
    text = "\n".join(network.facts + network.dropped)
    assert "assumed: 1 link with no capacity installed" in text
    assert "1 demand of 12.5 Mbit/s in all" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SNDLIB.replace("<y>1.0</y>", "<y>91</y>"), "C: latitude 91, longitude 11 is no place on Earth"),
        (SNDLIB.replace('"geographical"', '"pixel"'), "coordinates in pixels"),
        (SNDLIB.replace("<target>C", "<target>X"), "link 'L2': its target 'X' is no node"),
        (SNDLIB.replace("155.0", "much"), "link L1: capacity: 'much' is no number"),
        (SNDLIB.replace("<x>10.0</x>", "").replace("<x>11.0</x>", ""), "3 of 3 nodes have no coordinates"),
        (SNDLIB[:400], "not XML"),
    ],
)
def test_what_is_wrong_with_a_map_is_said(text: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        sndlib.parse(text)
    assert message in str(caught.value)


def test_entities_are_refused_with_one_line() -> None:
    text = '<!DOCTYPE n [<!ENTITY a "b">]>'
    for parse, example in ((sndlib.parse, SNDLIB), (topology_zoo.parse, ZOO)):
        with pytest.raises(FormatError, match="declares an XML entity") as caught:
            parse(text + example.partition("?>")[2])
        assert "\n" not in str(caught.value)
