"""Settings of other programs as profiles: every unit and direction by value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gannet.netem.formats.base import FormatError, Imported, Options
from gannet.netem.formats.registry import import_file
from gannet.netem.links.profile import LinkProfile, profile_of
from gannet.spec.links import LinksSpec
from tests.netem.formats.single_link_files import FILES, QDISC


def imported(folder: Path, text: str, **said: Any) -> Imported:
    path = folder / "a file of no particular name"
    path.write_text(text)
    return import_file(path, Options(**said))


def profile(folder: Path, text: str, **said: Any) -> LinkProfile:
    found = imported(folder, text, **said)
    assert found.kind == "profile"
    return profile_of({"name": "x", **found.content})


def test_webpagetest_has_bits_and_round_trips(tmp_path: Path) -> None:
    found = profile(tmp_path, FILES["WebPageTest connectivity"], name="Slow")
    assert (found.down_bps, found.up_bps, found.delay_ms, found.loss_percent) == (400_000, 200_000, 200, 0)
    cable = profile(tmp_path, FILES["WebPageTest connectivity"], name="Cable")
    assert (cable.down_bps, cable.up_bps, cable.delay_ms, cable.loss_percent) == (5_000_000, 1_000_000, 14, 1)


def test_of_several_one_is_chosen_by_name(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="--name: 'Slow', 'Cable'"):
        imported(tmp_path, FILES["WebPageTest connectivity"])
    with pytest.raises(FormatError, match="no such connections; there are 'Slow', 'Cable'"):
        imported(tmp_path, FILES["WebPageTest connectivity"], name="DSL")


def test_atc_has_kilobits_and_delays_of_each_direction(tmp_path: Path) -> None:
    found = imported(tmp_path, FILES["ATC profile"])
    read = profile_of({"name": "x", **found.content})
    assert (read.down_bps, read.up_bps) == (240_000, 200_000)
    assert (read.down_delay_ms, read.up_delay_ms) == (400, 440)
    assert read.loss_percent == 2
    assert any("3 down and 1 up" in each for each in found.dropped)


def test_throttle_halves(tmp_path: Path) -> None:
    found = profile(tmp_path, FILES["throttle presets"], name="3g")
    assert (found.down_bps, found.up_bps, found.delay_ms) == (1_600_000, 768_000, 75)
    as_json = json.dumps({"connectivity": {"downstreamKbps": 500, "upstreamKbps": 400, "latency": 60}})
    custom = profile(tmp_path, as_json)
    assert (custom.down_bps, custom.up_bps, custom.delay_ms) == (500_000, 400_000, 30)


def test_toxiproxy_has_kilobytes_by_stream(tmp_path: Path) -> None:
    found = imported(tmp_path, FILES["Toxiproxy"])
    read = profile_of({"name": "x", **found.content})
    assert (read.down_delay_ms, read.up_delay_ms, read.up_bps, read.down_bps) == (90, 0, 800_000, None)
    assert any("slicer" in each for each in found.dropped)
    assert any("toxicity" in each for each in found.dropped)


@pytest.mark.parametrize(("round_trip", "delay_ms"), [(True, 5), (False, 10)])
def test_tcconfig_has_bits_and_asks_what_its_delays_are(tmp_path: Path, round_trip: bool, delay_ms: float) -> None:
    with pytest.raises(FormatError, match=r"--round-trip .*--one-way"):
        imported(tmp_path, FILES["tcconfig"])
    found = profile(tmp_path, FILES["tcconfig"], round_trip=round_trip)
    assert (found.up_bps, found.down_bps, found.delay_ms, found.loss_percent) == (250_000, None, delay_ms, 0.01)


def test_tc_has_seconds_fractions_and_bytes(tmp_path: Path) -> None:
    found = imported(tmp_path, FILES["tc -j qdisc"])
    read = profile_of({"name": "x", **found.content})
    assert (read.up_bps, read.down_bps, read.delay_ms, read.jitter_ms) == (10_000_000, None, 50, 5)
    assert (read.jitter_order, read.jitter_correlation_percent, read.loss_percent) == ("reorder", 25, 1)
    assert read.buffer_packets == 1000
    assert any("noqueue" in each for each in found.dropped)


def test_tc_bursts_and_token_buckets(tmp_path: Path) -> None:
    netem = {**QDISC[1], "options": {"loss-gemodel": {"p": 0.01, "r": 0.1, "1-h": 0.9, "1-k": 0.005}}}
    tbf = {"kind": "tbf", "dev": "eth0", "options": {"rate": 1_250_000, "burst": 32767, "lat": 50_000}}
    found = imported(tmp_path, json.dumps([netem, tbf]))
    read = profile_of({"name": "x", **found.content})
    assert read.gilbert_elliott is not None
    assert read.gilbert_elliott.good_to_bad_percent == 1
    assert read.gilbert_elliott.bad_to_good_percent == 10
    assert read.gilbert_elliott.loss_in_bad_percent == 90
    assert read.gilbert_elliott.loss_in_good_percent == 0.5
    assert (read.up_bps, read.buffer_ms) == (10_000_000, 50)
    assert any("burst" in each for each in found.dropped)


def test_containerlab_has_kilobits_and_per_cent(tmp_path: Path) -> None:
    read = profile(tmp_path, FILES["containerlab netem"], name="clab-x:eth1")
    assert (read.delay_ms, read.jitter_ms, read.loss_percent, read.up_bps) == (1000, 5, 0.1, 64_000)
    other = profile(tmp_path, FILES["containerlab netem"], name="clab-x:eth2")
    assert (other.delay_ms, other.loss_percent, other.up_bps) == (0, 2, None)


def test_the_kbps_of_chaos_mesh_are_kilobytes(tmp_path: Path) -> None:
    found = imported(tmp_path, FILES["Chaos Mesh NetworkChaos"])
    read = profile_of({"name": "x", **found.content})
    assert (read.up_bps, read.delay_ms, read.jitter_ms, read.loss_percent) == (100 * 1024 * 8, 80, 20, 5)
    assert read.jitter_correlation_percent == 10
    said = " ".join(found.dropped)
    for each in ("correlation of loss, 30%", "limit, buffer", "selector and mode", "duration 90 s"):
        assert each in said


def test_the_duration_of_chaos_mesh_becomes_a_schedule(tmp_path: Path) -> None:
    found = imported(tmp_path, FILES["Chaos Mesh NetworkChaos"], nodes=3)
    assert found.kind == "links"
    _, changes = LinksSpec.model_validate(found.content["links"]).over_time(3, 200)
    assert [change.at_s for change in changes] == [0, 90] or [change.at_s for change in changes] == [90]


def test_of_several_documents_of_chaos_mesh_one_is_chosen_by_name(tmp_path: Path) -> None:
    lossy = "kind: NetworkChaos\nmetadata: {name: lossy}\nspec: {action: loss, loss: {loss: '7'}}\n"
    text = "--- {kind: Pod}\n---  # the first\n" + FILES["Chaos Mesh NetworkChaos"] + "---\n" + lossy
    with pytest.raises(FormatError, match="--name: 'slow', 'lossy'"):
        imported(tmp_path, text)
    read = profile(tmp_path, text, name="lossy")
    assert (read.loss_percent, read.delay_ms) == (7, 0)
    assert profile(tmp_path, text, name="slow").delay_ms == 80
    with pytest.raises(FormatError, match="part 5: a second one of the name 'lossy'"):
        imported(tmp_path, text + "---\n" + lossy, name="lossy")
    with pytest.raises(FormatError, match="part 4: not YAML"):
        imported(tmp_path, text.replace("{loss: '7'}", "{loss: '7'"))


def test_speed_tests_are_a_profile_of_means(tmp_path: Path) -> None:
    found = imported(tmp_path, FILES["speed tests"])
    read = profile_of({"name": "x", **found.content})
    assert (read.down_bps, read.up_bps, read.delay_ms) == (75_000_000, 15_000_000, 20)
    assert "down: mean 75 Mbit/s, minimum 50, maximum 100" in found.facts


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("ATC profile", '"240"', '"fast"', "down: rate: 'fast' is no number"),
        ("tc -j qdisc", "1250000", "1e20", "a rate is from 1 kbit/s to 100 Gbit/s"),
        ("Chaos Mesh NetworkChaos", "80ms", "80", "delay.latency: '80' is no time such as 90ms"),
        ("Chaos Mesh NetworkChaos", "action: netem", "action: partition", "schedule"),
        ("Chaos Mesh NetworkChaos", "100kbps", "100kb", "no rate in bps, kbps"),
        ("Toxiproxy", '"upstream"', '"sideways"', "upstream or downstream"),
        ("tc -j qdisc", '"loss": 0.01', '"loss": 2', "200% is more than all"),
    ],
)
def test_what_is_wrong_is_one_error_that_says_where(
    tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    assert old in FILES[name]
    with pytest.raises(FormatError) as refused:
        imported(tmp_path, FILES[name].replace(old, new))
    assert message in str(refused.value)
