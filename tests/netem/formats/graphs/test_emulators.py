"""Networks of other emulators and simulators, against figures that are worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gannet.netem.formats.base import FormatError
from gannet.netem.formats.graphs import core_xml, kollaps, miniedit, simgrid
from gannet.netem.formats.graphs.network import links_mapping
from gannet.netem.formats.graphs.simgrid_profiles import parse_profile
from gannet.netem.formats.graphs.units import simgrid_bps
from gannet.spec.links import LinksSpec
from tests.netem.formats.graphs.examples import CORE, KOLLAPS, KOLLAPS_EVENTS, MINIEDIT, SIMGRID, SIMGRID_ZONES


def test_kollaps_paths() -> None:
    network, mapping = kollaps.parse(KOLLAPS % "")
    assert network.names == ["c1", "c2", "server"]
    figures = network.pairs[0, 2]
    assert figures.delay_ms == 10 + 20 + 5
    assert figures.jitter_ms == pytest.approx(5)  # √(3² + 4²)
    assert figures.loss_percent == pytest.approx(100 * (1 - 0.9 * 0.8))
    assert (network.up_bps, network.down_bps) == ([10**7, 5 * 10**7, 10**8], [10**8, 5 * 10**7, 10**8])
    assert figures.rate_bps == 60 * 10**6
    assert network.pairs[0, 1].rate_bps is None
    assert mapping["shared"] == [
        {"rate": "60Mbit", "from": [0, 1], "to": [2]},
        {"rate": "60Mbit", "from": [2], "to": [0, 1]},
    ]
    assert "2 inner links that several pairs share (s1→s2 …): every fabric limits them" in network.facts
    state = LinksSpec.model_validate(mapping).state
    assert state.edges[0, 2].jitter_distribution == "normal"
    assert state.rates[1, 2].path_bps == 60 * 10**6


def test_kollaps_events_become_a_schedule() -> None:
    network, mapping = kollaps.parse(KOLLAPS % KOLLAPS_EVENTS)
    assert "shared" not in mapping  # all routes change at 9 s, and no change of a schedule touches a shared link
    assert any("get 2 times the 10 Mbit/s of c1→s1" in line for line in network.dropped)
    links = LinksSpec.model_validate(mapping)
    state, changes = links.over_time(3, 100)
    assert state.rates[0, 2].path_bps == 10**7
    at = {change.at_s: change.links for change in changes}
    assert sorted(at) == [5, 9, 11, 20, 25, 60]
    assert (at[5].edges[0, 2].delay_ms, at[5].rates[0, 2].path_bps) == (55, 5 * 10**6)
    assert (at[5].edges[2, 0].delay_ms, at[5].rates[2, 0].path_bps) == (55, 60 * 10**6)
    assert at[9].edges[1, 2].mean_loss_percent == 100
    assert at[9].edges[0, 1].mean_loss_percent == pytest.approx(10)
    assert at[11].edges[1, 2].delay_ms == 30
    assert at[11].edges[1, 2].mean_loss_percent == pytest.approx(20)
    assert (1, 2) in at[20].cut and (0, 2) not in at[20].cut
    assert not at[25].cut
    assert {(0, 1), (2, 0)} <= at[60].cut


def test_shared_links_that_no_event_changes_are_kept() -> None:
    event = '<dynamic><schedule origin="c1" dest="s1" time="5" latency="30" upload="5Mbps"/></dynamic>'
    network, mapping = kollaps.parse(KOLLAPS % event)
    assert {"rate": "60Mbit", "from": [0, 1], "to": [2]} in mapping["shared"]
    assert not any(each["rate"] in ("5Mbit", "10Mbit") for each in mapping["shared"])
    assert any("get 2 times the 10 Mbit/s of c1→s1" in line for line in network.dropped)
    LinksSpec.model_validate(mapping).over_time(3, 10)


def test_kollaps_services_of_several_instances_that_come_later() -> None:
    events = """<dynamic>
      <schedule name="c1" time="0" action="join" amount="2"/><schedule name="c1" time="10" action="join"/>
      <schedule name="c2" time="0" action="join"/><schedule name="server" time="0" action="join"/></dynamic>"""
    network, mapping = kollaps.parse(KOLLAPS % events)
    assert network.names == ["c1.1", "c1.2", "c1.3", "c2", "server"]
    assert mapping["schedule"] == [{"at_s": 0.0, "isolate": [2], "for_s": 10.0}]
    assert network.pairs[0, 1].delay_ms == 20


def test_simgrid_rates_are_bytes_or_bits() -> None:
    assert simgrid_bps("41.279125MBps", "x") == 41.279125e6 * 8
    assert simgrid_bps("100Mbps", "x") == 1e8
    assert simgrid_bps("1KiBps", "x") == 8 * 1024
    assert simgrid_bps("1e3", "x") == 8000
    for wrong in ("10 apples", "MBps", "1e999MBps", "10Mbit"):
        with pytest.raises(FormatError):
            simgrid_bps(wrong, "x")


def test_simgrid_routes() -> None:
    network, mapping = simgrid.parse(SIMGRID)
    assert network.pairs[0, 1].delay_ms == pytest.approx(20.05)
    assert network.pairs[2, 0].delay_ms == pytest.approx(0.55)
    assert (network.up_bps[0], network.down_bps[2]) == (32_000_000, 8_000_000)
    assert network.pairs[1, 0].rate_bps == 16_000_000  # a FATPIPE limits each pair by itself
    assert not any("several pairs share" in line for line in network.dropped)
    assert any("LV08" in line for line in network.facts)
    LinksSpec.model_validate(mapping).over_time(3, 10)


def test_simgrid_zones_and_clusters() -> None:
    network, mapping = simgrid.parse(SIMGRID_ZONES)
    sea = next(each for each in mapping["shared"] if each["rate"] == "1Gbit")
    assert len(sea["pairs"]) == 2 * 3 * 2  # of both directions, since a link of SimGrid has one rate
    assert "one rate for both directions together, as the file has it, of 2 inner links" in network.facts
    assert any("both directions of 2 links" in line for line in network.dropped)
    assert network.names == ["n-0.x", "n-1.x", "n-7.x", "p", "q"]
    assert network.pairs[0, 1].delay_ms == pytest.approx(0.05 + 0.5 + 0.05)
    assert network.pairs[3, 4].delay_ms == pytest.approx(3)  # over the router
    assert network.pairs[2, 4].delay_ms == pytest.approx(0.05 + 0.5 + 40 + 2)
    assert network.pairs[4, 2].delay_ms == network.pairs[2, 4].delay_ms
    assert network.pairs[0, 1].rate_bps == 18 * 10**9
    assert network.pairs[0, 3].rate_bps == 10**9
    assert network.up_bps == [10**9, 10**9, 10**9, 80 * 10**6, 160 * 10**6]


def test_simgrid_profiles_begin_again_after_their_last_change(tmp_path: Path) -> None:
    assert parse_profile("4.0 40000000\n8.0 60000000\nLOOPAFTER 12.0\n", "x").unrolled()[:4] == [
        (4, 4e7),
        (8, 6e7),
        (24, 4e7),
        (28, 6e7),
    ]
    (tmp_path / "slow.profile").write_text("# comment\n2 500000\n5 1000000\n")
    text = SIMGRID.replace('latency="0.5ms"', 'latency="0.5ms" bandwidth_file="slow.profile"')
    _, mapping = simgrid.parse(text, folder=tmp_path)
    links = LinksSpec.model_validate(mapping)
    state, changes = links.over_time(3, 100)
    assert state.rates[0, 2].path_bps == 8_000_000
    assert [(change.at_s, change.links.rates[0, 2].path_bps) for change in changes] == [
        (2, 4_000_000),
        (5, 8_000_000),
    ]
    for outside in ("/etc/hostname", "../slow.profile"):
        with pytest.raises(FormatError, match="lies in the folder of its platform"):
            simgrid.parse(text.replace("slow.profile", outside), folder=tmp_path)


def test_core_has_microseconds_and_per_cent_and_one_direction() -> None:
    network = core_xml.parse(CORE)
    assert network.names == ["pc1", "pc2"]
    there, back = network.pairs[0, 1], network.pairs[1, 0]
    assert (there.delay_ms, back.delay_ms) == (6, 8)
    assert there.loss_percent == pytest.approx(100 * (1 - 0.99 * 0.9))
    assert there.jitter_ms == pytest.approx(0.5)
    assert there.duplicate_percent == pytest.approx(2)
    assert (network.up_bps, network.down_bps) == ([54_000_000, None], [10_000_000, None])
    state = LinksSpec.model_validate(links_mapping(network)).state
    assert (state.edges[0, 1].jitter_distribution, state.edges[0, 1].duplicate_percent) == ("uniform", 2)
    assert core_xml.parse(CORE.replace('type="PC"', 'type="router"')).names == ["pc1", "r1", "pc2"]


def test_miniedit() -> None:
    network = miniedit.parse(json.loads(MINIEDIT))
    assert network.pairs[0, 1].delay_ms == network.pairs[1, 0].delay_ms == 5.5
    assert network.pairs[0, 1].loss_percent == pytest.approx(1)
    assert (network.up_bps, network.down_bps) == ([10**7, 2_500_000], [10**7, 2_500_000])


def test_jitter_that_a_delay_does_not_hold_is_cut_and_said() -> None:
    network, mapping = kollaps.parse(KOLLAPS.replace('jitter="3"', 'jitter="30"') % "")
    assert mapping["edges"]["0>1"]["jitter_ms"] == 7.5  # half of 15 ms
    assert "jitter of 4 pairs above what their delay holds" in "\n".join(network.dropped)
    LinksSpec.model_validate(mapping)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (KOLLAPS.replace('dest="s1" latency="5"', 'dest="s9" latency="5"') % "", "'s9' is neither a service nor a"),
        (KOLLAPS.replace('upload="50Mbps"', 'upload="50 apples"') % "", "c2→s1: rate: '50 apples'"),
        (KOLLAPS.replace(' latency="20"', "") % "", "link s1–s2: latency is missing"),
        (KOLLAPS.replace('drop="0.2"', 'drop="2"') % "", "a loss of 2.0: it must lie between 0 and 1"),
        (
            KOLLAPS % '<dynamic><schedule origin="s1" dest="c9" time="1" drop="1"/></dynamic>',
            "there is no link s1–c9",
        ),
    ],
)
def test_what_is_wrong_with_an_experiment_is_said(text: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        kollaps.parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SIMGRID.replace('id="wide"/>', 'id="narrow"/>'), "the link 'narrow', which does not exist"),
        (SIMGRID.replace('dst="Jupiter">', 'dst="Saturn">'), "gives no route from Tremblay to Jupiter"),
        (SIMGRID.replace('"Full"', '"Vivaldi"'), "routing 'Vivaldi' is not read"),
        (SIMGRID.replace('bandwidth="1MBps" ', ""), "bandwidth is missing"),
        ("<platform/>", "a platform without hosts"),
    ],
)
def test_what_is_wrong_with_a_platform_is_said(text: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        simgrid.parse(text)
    assert message in str(caught.value)
