"""Profiles: what a file may say, what the shipped ones say, and how mistakes are told."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gannet.netem.links.profile import (
    PROFILE_FOLDER,
    LinkProfile,
    ProfileError,
    list_profiles,
    load_profile,
    parse_rate_bps,
    user_profiles,
)


@pytest.mark.parametrize(
    ("text", "rate_bps"),
    [
        ("10Mbit", 10_000_000),
        ("1.6 mbit", 1_600_000),
        ("35kbit", 35_000),
        ("1Gbit", 10**9),
        (4000, 4000),
        ("10 Mbit/s", 10_000_000),  # as Gannet prints rates
        ("780 kbit/s", 780_000),
        ("no cap", None),
        ("unlimited", None),
        (None, None),
    ],
)
def test_rates_are_read_with_their_units(text: object, rate_bps: int | None) -> None:
    assert parse_rate_bps(text) == rate_bps


@pytest.mark.parametrize("text", ["10", "10MB/s", "fast", "Mbit", True, 1.5, "-1Mbit"])
def test_rates_without_a_clear_unit_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match="10Mbit"):
        parse_rate_bps(text)


@pytest.mark.parametrize("name", list_profiles())
def test_shipped_profiles_load_and_name_their_source(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.source


# Of www/settings/connectivity.ini.sample: bwIn, bwOut (bit/s), latency (ms, a round trip); 3g-slow as it once was.
CONNECTIVITY = {
    "2g": (35_000, 32_000, 1300),
    "3g-fast": (1_600_000, 768_000, 150),
    "3g-slow": (780_000, 330_000, 200),
    "cable": (5_000_000, 1_000_000, 28),
    "dsl": (1_500_000, 384_000, 50),
    "fiber": (20_000_000, 5_000_000, 4),
}


def test_profiles_of_webpagetest_are_those_of_its_file() -> None:
    profiles = {name: load_profile(name) for name in list_profiles()}
    named = {name: each for name, each in profiles.items() if "connectivity.ini" in each.source}
    assert {n: (p.down_bps, p.up_bps, p.down_delay_ms + p.up_delay_ms) for n, p in named.items()} == CONNECTIVITY
    assert "3G - Average" in profiles["3g-slow"].source and "until" in profiles["3g-slow"].source


KBIT, MBIT, GBIT = 10**3, 10**6, 10**9
# Name, rates down and up, one-way delays down and up (ms), jitter (ms), loss (%), and what no source gives.
SOURCES = [
    ("2g", 35 * KBIT, 32 * KBIT, 650, 650, 0, 0, ""),
    ("edge", 240 * KBIT, 200 * KBIT, 400, 440, 0, 0, ""),
    ("3g-slow", 780 * KBIT, 330 * KBIT, 100, 100, 0, 0, ""),
    ("3g-fast", 1600 * KBIT, 768 * KBIT, 75, 75, 0, 0, ""),
    ("3g-lossy", 1200 * KBIT, 1200 * KBIT, 125, 125, 50, 0.5, "delay"),
    ("4g", 9 * MBIT, 1500 * KBIT, 30, 30, 0, 0, ""),
    ("lte", 12 * MBIT, 12 * MBIT, 35, 35, 0, 0, ""),
    ("5g", 207 * MBIT, 20 * MBIT, 22, 22, 0, 0, "jitter loss"),
    ("dsl", 1500 * KBIT, 384 * KBIT, 25, 25, 0, 0, ""),
    ("cable", 5 * MBIT, 1 * MBIT, 14, 14, 0, 0, ""),
    ("fiber", 20 * MBIT, 5 * MBIT, 2, 2, 0, 0, ""),
    ("home", 100 * MBIT, 20 * MBIT, 10, 10, 0, 0, "delay jitter loss"),
    ("starlink", 150 * MBIT, 20 * MBIT, 25, 25, 5, 1, "up loss jitter"),
    ("geo-satellite", 100 * MBIT, 10 * MBIT, 300, 300, 0, 0, "jitter loss"),
    ("wan-us", GBIT, GBIT, 44, 44, 0, 0, "rate jitter loss"),
    ("wan-atlantic", GBIT, GBIT, 40, 40, 0, 0, "rate jitter loss"),
    ("wan-eu", GBIT, GBIT, 10, 10, 0, 0, "rate jitter loss"),
    ("wan-asia-us", GBIT, GBIT, 108, 108, 0, 0, "rate jitter loss"),
    ("wan-asia-brazil", GBIT, GBIT, 164, 164, 0, 0, "rate jitter loss"),
    ("datacenter", 10 * GBIT, 10 * GBIT, 0.25, 0.25, 0, 0, "rate jitter loss"),
]


@pytest.mark.parametrize(
    ("name", "down_bps", "up_bps", "down_ms", "up_ms", "jitter_ms", "loss_percent", "assumed"), SOURCES
)
def test_shipped_figures_are_those_of_the_sources(
    name: str,
    down_bps: int,
    up_bps: int,
    down_ms: float,
    up_ms: float,
    jitter_ms: float,
    loss_percent: float,
    assumed: str,
) -> None:
    profile = load_profile(name)
    assert (profile.down_bps, profile.up_bps) == (down_bps, up_bps)
    assert (profile.down_delay_ms, profile.up_delay_ms, profile.jitter_ms) == (down_ms, up_ms, jitter_ms)
    assert profile.mean_loss_percent == pytest.approx(loss_percent, abs=0.001)
    assert all(figure in " ".join(profile.assumed) for figure in assumed.split())


def test_every_shipped_profile_is_one_of_a_source_or_says_what_it_is_for() -> None:
    assert set(list_profiles()) == {row[0] for row in SOURCES} | {"demo-10mbit", "unshaped"}
    assert load_profile("unshaped") == LinkProfile(name="unshaped", source="none")
    demo = load_profile("demo-10mbit")
    assert (demo.down_bps, demo.up_bps, demo.delay_ms) == (10 * MBIT, 10 * MBIT, 25)


def test_starlink_loses_in_bursts_of_some_packets() -> None:
    """A chain run by hand: how many packets are lost, and how many in a row."""
    bursts = load_profile("starlink").gilbert_elliott
    assert bursts is not None and bursts.loss_in_bad_percent == 100 and bursts.loss_in_good_percent == 0
    random, bad, runs, lost = Random(4), False, 0, 0
    for _ in range(1_000_000):
        lost += bad
        leaves = random.random() < (bursts.bad_to_good_percent if bad else bursts.good_to_bad_percent) / 100
        runs += leaves and not bad
        bad ^= leaves
    # Some 1250 bursts: their number deviates by 3%, the packets in them by 4% (geometric lengths).
    assert lost / 1_000_000 == pytest.approx(0.01, rel=0.2)
    assert lost / runs == pytest.approx(bursts.bad_packets, rel=0.15)
    assert bursts.bad_packets == 8


def test_shorthands_set_both_directions(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("rate: 3Mbit\ndelay_ms: 7\nloss_percent: 1\n")
    profile = load_profile(file)
    assert profile.name == "mine"
    assert (profile.down_bps, profile.up_bps) == (3_000_000, 3_000_000)
    assert (profile.down_delay_ms, profile.up_delay_ms, profile.loss_percent) == (7, 7, 1)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rate: 10MB", "rate: '10MB' is not a rate: write 10Mbit"),
        ("down: 0.5kbit", "down: '0.5kbit' is out of range: a rate is from 1kbit to 100Gbit"),
        ("up: 5", "up: 5 has no unit: write 5bit or 5Mbit"),
        ("up: 1Mbit\nrate: 2Mbit", "rate and up_bps say the same thing twice|up and up_bps say the same thing twice"),
        ("delay: 3", "'delay' is no field: did you mean delay_ms?"),
        ("xyzzy: 3", "'xyzzy' is no field: known: name, "),
        ("delay_ms: -3", "delay_ms: must be at least 0 .got -3"),
        ("delay_ms: '3'", "delay_ms: a number is wanted .got '3'"),
        ("delay_ms: true", "delay_ms: a number is wanted .got True"),
        ("delay_ms: .nan", "nan is no number"),
        ("delay_ms: .inf", "inf is no number"),
        ("source: !!timestamp 2024-01-01", "neither a number nor text"),
        ("1: 2", "1 is no name of a field"),
        ("loss_percent: 200", "loss_percent: must be at most 100 .got 200"),
        ("loss_percent: 1\ngilbert_elliott: {good_to_bad_percent: 1, bad_to_good_percent: 5}", "exclude each other"),
        ("gilbert_elliott: {good_to_bad_percent: 1}", r"gilbert_elliott\.bad_to_good_percent is missing"),
        ("gilbert_elliott: {good_to_bad: 1, bad_to_good_percent: 5}", "did you mean good_to_bad_percent?"),
        (
            "gilbert_elliott: {good_to_bad_percent: 0, bad_to_good_percent: 5}",
            "good_to_bad_percent: must be more than 0",
        ),
        ("buffer_ms: 5\nbuffer_bytes: 5000", "buffer_ms and buffer_bytes say the same thing twice: keep one"),
        ("buffer_packets: 2.5", "buffer_packets: a whole number is wanted .got 2.5"),
        ("gilbert_elliott: 3", "gilbert_elliott: a mapping such as"),
        ("assumed: x", "assumed: a list is wanted"),
        ("queue: red", "queue: must be .fifo., .codel., .fq_codel.*got 'red'"),
        ("jitter_correlation_percent: 5", "needs a jitter_ms"),
        ("delay_ms: 10\njitter_ms: 50", "jitter_ms: a jitter of 50 ms .uniform. does not fit a delay of 10 ms"),
        ("jitter_ms: 1", "give at most 0 ms of jitter, or at least 1 ms of delay"),
        ("delay_ms: 10\njitter_ms: 6\njitter_distribution: normal", "at most 5 ms of jitter, or at least 12 ms"),
        ("delay_ms: 10\njitter_ms: 5\njitter_correlation_percent: 5", "needs jitter_order: reorder"),
        ("delay_ms: 10\njitter_order: reorder", "needs a jitter_ms"),
        ("reorder_percent: 5", "reorder_percent needs a delay"),
        ("rate: 1MB\nqueue: red", "rate: '1MB' is not .*; queue: "),
        ("[1, 2]", "mapping"),
        ("", "mapping"),
        ("a: b: c", "not YAML"),
        ("a: " + 2000 * "[", "not YAML"),
        ("a: !!timestamp x", "not YAML"),
        ("a: [[[[[[[[[[[]]]]]]]]]]]", "nested too deep"),
        ("a: " + "x" * 2**18, "more than such a file may have"),
    ],
)
def test_mistakes_in_a_file_are_told_with_file_and_field(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(ProfileError, match=rf"(?s)wrong\.yaml: .*({complaint})"):
        load_profile(file)


def test_an_unknown_name_gets_the_closest_and_the_list() -> None:
    with pytest.raises(ProfileError, match=r"did you mean starlink\?.*wan-eu"):
        load_profile("starlnk")
    with pytest.raises(ProfileError, match="no file at"):
        load_profile("nowhere/else.yaml")
    with pytest.raises(ProfileError, match="no profile named"):
        load_profile("../profiles/2g")


def test_the_users_own_are_found_by_name_beside_the_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "profiles", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    (here / "attic.yaml").write_text("rate: 3Mbit\n")
    (there / "attic.yml").write_text("rate: 5Mbit\n")
    (there / "barn.yaml").write_text("delay_ms: 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GANNET_PROFILES", raising=False)
    assert list(user_profiles()) == ["attic"] and load_profile("attic").up_bps == 3_000_000
    with pytest.raises(ProfileError, match="did you mean attic"):
        load_profile("attik")
    monkeypatch.setenv("GANNET_PROFILES", f"{there}")
    assert load_profile("attic").up_bps == 5_000_000 and load_profile("barn").delay_ms == 7
    monkeypatch.setenv("GANNET_PROFILES", f"profiles:{there}")
    assert load_profile("attic").up_bps == 3_000_000 and load_profile("barn").delay_ms == 7
    assert load_profile("2g").delay_ms == 650
    monkeypatch.setenv("GANNET_PROFILES", f"{tmp_path / 'nowhere'}")
    assert user_profiles() == {}
    with pytest.raises(ProfileError, match="no profile named 'attic'"):
        load_profile("attic")


def test_a_users_profile_may_not_pass_for_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "4g.yaml").write_text("rate: 3Mbit\n")
    monkeypatch.setenv("GANNET_PROFILES", str(tmp_path))
    with pytest.raises(ProfileError, match="name of a shipped profile"):
        load_profile("4g")
    assert load_profile(tmp_path / "4g.yaml").up_bps == 3_000_000
    monkeypatch.setenv("GANNET_PROFILES", str(PROFILE_FOLDER))
    assert load_profile("4g").up_bps == 1_500_000


def test_aliases_do_not_make_a_small_file_endless(tmp_path: Path) -> None:
    file = tmp_path / "laughs.yaml"
    file.write_text(
        "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
    )
    with pytest.raises(ProfileError, match="aliases of this value stand for more than"):
        load_profile(file)
    file.write_text("a: &a [*a]\n")
    with pytest.raises(ProfileError, match="a value that contains itself"):
        load_profile(file)
    file.write_text(f"a: {'[' * 20 + ']' * 20}\n")
    with pytest.raises(ProfileError, match="nested too deep, or too many"):
        load_profile(file)


FIELDS = [*LinkProfile.model_fields, "rate", "down", "up", "delay_ms", "good_to_bad_percent", "bad_to_good_percent"]
TOKENS = [
    *(f"{name}: " for name in FIELDS), "10Mbit", "1", "0.5", "-1", "1e400", "1_0", "0x1F", "0o7", "1:30", ".nan",
    "-.inf", "2024-13-45", "2024-01-01", "null", "~", "yes", "'", '"', "\\ud800", '"\\ud800"', "[",
    "]", "{", "}", ", ", ": ",
    "&a ", "*a", "<<: ", "!!bool ", "!!int ", "!!float ", "!!binary ", "!!set ", "!!omap ", "!!timestamp ",
    "!!python/name:os.system ", "? ", "- ", "| ", "> ", "#", "%", "---\n", "...\n", "\n", "\n  ", "\t", "\x00",
    "\x1b[31m", "\ufeff", "9" * 400,
]  # fmt: skip


@settings(max_examples=600)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.lists(st.sampled_from(TOKENS), max_size=25).map(lambda tokens: "".join(tokens).encode()),
        st.lists(st.tuples(st.sampled_from(FIELDS), st.sampled_from(TOKENS)), max_size=6).map(
            lambda lines: "\n".join(f"{name}: {value}" for name, value in lines).encode()
        ),
    )
)
@example(b'name: "\\ud800"')
@example(b'"\\ud800": 1')
@example(b'source: "\\ud800"')
@example(b"delay_ms: " + b"9" * 5000)
@example(b"rate: " + b"9" * 30 + b"Gbit")
@example(b"\xff\xfe\x00")
@example(b"!!int ''")
def test_whatever_is_in_a_file_it_is_a_profile_or_one_clear_error(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "any.yaml"
        file.write_bytes(content)
        try:
            profile = load_profile(file)
        except ProfileError as error:
            assert str(file) in str(error) and len(str(error)) < 4000
            assert str(error).encode().decode().replace("\n", "").isprintable()
        else:
            assert LinkProfile.model_validate_json(profile.model_dump_json()) == profile


@given(st.text(max_size=40))
@example("\0.yaml")
@example("x" * 300 + ".yaml")
@example("/")
@example(".yaml")
@example("..")
def test_whatever_is_asked_for_is_a_profile_or_one_clear_error(name: str) -> None:
    try:
        load_profile(name)
    except ProfileError:
        return
    assert name in list_profiles() or os.path.exists(name)  # noqa: PTH110
