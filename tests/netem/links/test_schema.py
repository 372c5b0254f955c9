"""The schema for editors against the loader: one set of files, two judges (the other is python-jsonschema)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gannet.netem.links.profile import PROFILE_FOLDER, SHORTHANDS, LinkProfile, ProfileError, load_profile
from gannet.netem.links.schema import profile_schema

SCHEMA = Draft202012Validator(profile_schema())

rates = st.one_of(
    st.sampled_from(
        ["10Mbit", "1.6 mbit", "unlimited", None, 4000, 4000.0, 999, 10**11, 10**11 + 1, "10MB", "fast", 1.5]
    ),
    st.from_regex(r"\A[ \n]?[0-9]{0,4}\.?[0-9]{1,8}[ \t]?[kKmMgG]?[bB][iI][tT][ \n]?\Z"),
)
# Every kind of value may stand at every field: most of them where they are wrong.
numbers = st.sampled_from(
    [0, 0.0, 1, 0.5, 5.0, 25, 99.9, 100, 100.0, 101, -1, -0.0, 1513, 1514, 3.7, 60_000, 60_001, 2**31, 10**30]
)
oddities = st.sampled_from(
    [None, True, False, "", "5", "fifo", "codel", "normal", "pareto", [], ["a"], [1], {}, "2024-01-01"]
)
bursts = st.dictionaries(
    st.sampled_from(
        ["good_to_bad_percent", "bad_to_good_percent", "loss_in_bad_percent", "loss_in_good_percent", "p"]
    ),
    numbers | oddities,
)
whole_bursts = st.fixed_dictionaries(
    {"good_to_bad_percent": st.floats(0.1, 100), "bad_to_good_percent": st.integers(1, 100)},
    optional={"loss_in_bad_percent": numbers},
)
fields = sorted({*LinkProfile.model_fields, *SHORTHANDS})
likely = {
    **dict.fromkeys(["rate", "down", "up", "down_bps", "up_bps"], rates),
    "gilbert_elliott": whole_bursts | bursts | st.none(),
    "jitter_distribution": st.sampled_from(["uniform", "normal", "pareto", "paretonormal"]),
    "jitter_order": st.sampled_from(["keep", "reorder", "drop"]),
    "queue": st.sampled_from(["fifo", "codel", "fq_codel", "sfq", "red"]),
    "down_queue": st.sampled_from(["per-source", "shared", "per-node"]),
    **dict.fromkeys(["name", "source"], st.text(max_size=3)),
    "assumed": st.lists(st.text(max_size=3), max_size=2),
}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    chosen = draw(st.lists(st.sampled_from([*fields, "delay", "rates"]), unique=True, max_size=5))
    return {name: draw(st.one_of(likely.get(name, numbers), likely.get(name, numbers), oddities)) for name in chosen}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("schema") / "some.yaml"


def complaint(file: Path, document: object) -> str:
    file.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    try:
        load_profile(file)
    except ProfileError as error:
        return str(error)
    return ""


def loads(file: Path, document: object) -> bool:
    return not complaint(file, document)


def judged_alike(file: Path, document: dict[str, Any]) -> bool:
    """Whether both accept it. Only the loader knows how much jitter a delay holds."""
    accepted, said = SCHEMA.is_valid(document), complaint(file, document)
    if "does not fit a delay" in said:
        assert document["jitter_ms"] > 0
        return False
    assert accepted == (not said), document
    return accepted


def test_it_is_a_schema_and_the_file_beside_the_profiles_is_fresh() -> None:
    Draft202012Validator.check_schema(SCHEMA.schema)
    kept = json.loads((PROFILE_FOLDER / "schema.json").read_text(encoding="utf-8"))
    assert kept == SCHEMA.schema, "stale: run `gannet net schema --out netem/profiles/schema.json`"


@pytest.mark.parametrize("path", sorted(PROFILE_FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_profiles_are_valid_and_point_editors_at_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    SCHEMA.validate(yaml.safe_load(text))


@settings(max_examples=800)
@given(documents())
@example({"rate": "10Mbit", "down": "1Mbit"})
@example({"delay_ms": 5, "up_delay_ms": 5})
@example({"down_bps": None, "down": None})
@example({"buffer_ms": None, "buffer_bytes": 5000.0})
@example({"buffer_packets": 5, "buffer_bytes": 5000})
@example({"loss_percent": 0.0, "gilbert_elliott": {"good_to_bad_percent": 1, "bad_to_good_percent": 10}})
@example({"loss_percent": 1, "gilbert_elliott": {"good_to_bad_percent": 1, "bad_to_good_percent": 10}})
@example({"loss_percent": 1, "gilbert_elliott": None})
@example({"jitter_correlation_percent": 0, "jitter_ms": 0})
@example({"jitter_correlation_percent": 5, "jitter_ms": 0})
@example({"jitter_correlation_percent": 5})
@example({"jitter_correlation_percent": 5, "jitter_ms": 1, "delay_ms": 5})
@example({"jitter_correlation_percent": 5, "jitter_ms": 1, "delay_ms": 5, "jitter_order": "keep"})
@example({"jitter_correlation_percent": 5, "jitter_ms": 1, "delay_ms": 5, "jitter_order": "reorder"})
@example({"jitter_order": "reorder", "jitter_ms": 0, "delay_ms": 5})
@example({"jitter_order": "keep", "jitter_ms": 0})
@example({"jitter_order": None})
@example({"reorder_percent": 5, "down_delay_ms": 0, "up_delay_ms": 0.1})
@example({"reorder_percent": 5, "delay_ms": 0})
@example({"name": ""})
@example({"assumed": "rate"})
def test_schema_and_loader_accept_the_same_files(file: Path, document: dict[str, Any]) -> None:
    judged_alike(file, document)


@settings(max_examples=300)
@given(rates)
@example("100Gbit")
@example("100.0Gbit")
@example("100.00000001Gbit")
@example("0.000001Gbit")
@example(".0000009Gbit")
@example("0.9999kbit")
@example("999.9bit")
@example("1000bit")
@example("99999999999.5bit")
@example("100000000000.5bit")
@example("0" * 35 + "1kbit")
@example("0" * 40 + "1kbit")
@example("100Gbit IP")
@example("100.1Gbit ip")
@example("1Mbit/s  Ip ")
@example("1MbitIP")
@example("10Mbit\n")
@example("10\u00a0Mbit")
@example("10\u212abit")
@example("١٠Mbit")
def test_schema_and_loader_read_the_same_rates(file: Path, rate: object) -> None:
    judged_alike(file, {"rate": rate})


def test_both_judges_do_accept_and_refuse(file: Path) -> None:
    """The property above would hold as well for two judges that refuse everything."""
    everything = {
        "name": "all", "source": "here", "assumed": ["all"], "down": "10 Mbit", "up": "64 kbit/s IP",
        "down_delay_ms": 5,
        "up_delay_ms": 6.5, "jitter_ms": 2, "jitter_distribution": "pareto", "jitter_correlation_percent": 25,
        "jitter_order": "reorder",
        "gilbert_elliott": {"good_to_bad_percent": 1, "bad_to_good_percent": 20, "loss_in_good_percent": 0.1},
        "reorder_percent": 1, "duplicate_percent": 1, "corrupt_percent": 1, "buffer_packets": 20, "queue": "sfq",
        "down_queue": "shared",
    }  # fmt: skip
    assert judged_alike(file, everything) and judged_alike(file, {})
    for name in fields:
        assert not judged_alike(file, {**everything, name: [[]]})
    assert judged_alike(file, {"up_bps": 64_000}) and not judged_alike(file, {"up": 64_000})
    for wrong in (None, [], "rate: 10Mbit", 3):
        assert not SCHEMA.is_valid(wrong) and not loads(file, wrong)
