"""YAML 1.2's core schema (yaml.org/spec/1.2.2, 10.3.2), and texts that readers of both versions take alike."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from gannet.netem.links.profile import load_profile
from gannet.netem.yaml12 import LEAST, MOST, MOST_ALIASED, MOST_LEVELS, dump, load


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # what version 1.1 reads otherwise: numbers to the base of sixty, octals, words for true and false, dates
        ("1:2", "1:2"), ("0:1", "0:1"), ("1:30.5", "1:30.5"), ("190:20:30", "190:20:30"),
        ("010", 10), ("0o17", 15), ("0b11", "0b11"), ("1_000", "1_000"),
        ("yes", "yes"), ("No", "No"), ("on", "on"), ("OFF", "OFF"), ("y", "y"), ("2024-01-01", "2024-01-01"),
        ("1e-3", 0.001), ("12e03", 12000.0), ("-2E+05", -200000.0), ("=", "="),
        # the rest of the examples of the specification
        ("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None), ("0x3A", 58), ("-19", -19),
        ("+12", 12), ("0.", 0.0), ("-0.0", -0.0), (".5", 0.5), ("-.INF", -math.inf), (".inf", math.inf),
        ("0xg", "0xg"), ("0o8", "0o8"), ("1.2.3", "1.2.3"), ("True-ish", "True-ish"), ("nan", "nan"),
    ],
)  # fmt: skip
def test_plain_scalars(text: str, value: Any) -> None:
    (found,) = load(f"- {text}")
    assert (type(found), found) == (type(value), value)
    assert load(f"{{a: {text or 'null'}}}") == {"a": value}


def test_not_a_number_and_quotes_and_tags() -> None:
    assert math.isnan(load(".NaN"))
    assert load("['1', \"no\", !!str 12, !!int 010, !!float 7]") == ["1", "no", "12", 10, 7.0]
    assert load("base: &b {x: 1}\nmore: {<<: *b, y: 2}") == {"base": {"x": 1}, "more": {"x": 1, "y": 2}}


@pytest.mark.parametrize(
    "text",
    ["{a: 1, a: 2}", "!!bool maybe", "!!int x", "!!float x", "!!python/name:os.system x", "[" * 2000, "a: [", "\0"],
)
def test_whatever_is_wrong_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        load(text)


def test_nesting_has_an_end() -> None:
    deepest = load("[" * MOST_LEVELS + "]" * MOST_LEVELS)
    while deepest:
        (deepest,) = deepest
    with pytest.raises(yaml.YAMLError, match=f"^line 3: nested deeper than {MOST_LEVELS} levels$"):
        load("a:\n  b: 1\n  c: " + "[" * MOST_LEVELS + "]" * MOST_LEVELS)


def test_whole_numbers_have_an_end() -> None:
    assert load(f"[{LEAST}, {MOST}, 0x{MOST:x}, {'0' * 50}7]") == [LEAST, MOST, MOST, 7]
    for text in (str(MOST + 1), str(LEAST - 1), "9" * 5000, "0x" + "f" * 5000):
        with pytest.raises(yaml.YAMLError, match="line 2: a whole number of more than 64 bits"):
            load(f"a: 1\nb: {text}")


def test_what_aliases_stand_for_has_an_end() -> None:
    """The bound lies between two texts that stand for one more, and one fewer, of the same values."""
    size = 100  # values of what the alias names, its list included
    most = MOST_ALIASED // size
    line = f"a: &a [{', '.join(['1'] * (size - 1))}]\nb: [{{}}]"
    assert len(load(line.format(", ".join(["*a"] * most)))["b"]) == most
    with pytest.raises(yaml.YAMLError, match=f"^line 1: aliases of this value .* {MOST_ALIASED} values"):
        load(line.format(", ".join(["*a"] * (most + 1))))
    levels = ["a0: &a0 [1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 6))]
    load("\n".join(levels[:4]))
    with pytest.raises(yaml.YAMLError, match="in all"):  # levels count in each other
        load("\n".join(levels))
    for text in ("a: &a [*a]", "a: &a {b: [1, *a]}"):
        with pytest.raises(yaml.YAMLError, match="contains itself"):
            load(text)


WHOLE = st.integers(LEAST, MOST)
WORDS = st.sampled_from(["1:2", "010", "0o7", "yes", "1e5", "1_0", "~", "", ".inf", "=", "<<", "2024-01-01", "0x1"])
SCALARS = st.one_of(
    WORDS,
    st.text(),
    st.integers(LEAST, MOST),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False),
    st.just("a\nb\n"),
)


@example("\x85")
@example({"a\u2028b": "c\n\u2029d\n"})
@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(WORDS | st.text(), inner), max_leaves=8))
def test_what_is_written_is_read_as_it_was_by_both_versions(value: Any) -> None:
    assert load(dump(value)) == value == yaml.safe_load(dump(value))
    assert load(dump({1: value})) == {1: value}


@given(st.floats(allow_nan=False) | WHOLE | st.booleans())
def test_numbers_that_older_versions_wrote_are_read(value: Any) -> None:
    assert load(yaml.safe_dump([value])) == [value]


def test_a_profile_with_a_field_twice_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("rate: 10Mbit\ndelay_ms: 1e1\nrate: 1Mbit\n")
    with pytest.raises(ValueError, match="'rate' appears twice"):
        load_profile(str(path))
    path.write_text("rate: 10Mbit\ndelay_ms: 1e1\n")
    assert load_profile(str(path)).delay_ms == 10
