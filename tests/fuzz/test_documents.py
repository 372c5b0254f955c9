"""Arbitrary text and values where specs, profiles, rates and matrices are expected: one of the documented errors."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.netem.links.profile import LinkProfile, ProfileError, parse_rate_bps, profile_of
from gannet.netem.links.trace import TraceError
from gannet.netem.links.trace_csv import parse_csv
from gannet.netem.links.trace_mahimahi import parse_mahimahi
from gannet.node.codecs.registry import codec_config
from gannet.node.topologies.from_file import parse
from gannet.spec.load import SpecError, resolve

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    ["name", "nodes", "links", "task", "algorithm", "topology", "codec", "stop", "arms", "seeds", "players", "data"]
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(fields | st.text(max_size=6), values, max_size=6))
def test_a_spec_is_resolved_or_refused(raw: dict[str, Any]) -> None:
    try:
        resolve(raw, "some.yaml")
    except SpecError as error:
        assert str(error).startswith("some.yaml")


link_fields = st.sampled_from([*LinkProfile.model_fields, "rate", "down", "up", "delay_ms"])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(link_fields | st.text(max_size=6), values, max_size=5))
def test_a_profile_is_read_or_refused(raw: dict[str, Any]) -> None:
    try:
        profile_of(raw, "some.yaml")
    except ProfileError as error:
        assert str(error)


@settings(max_examples=200, deadline=None)
@given(values)
def test_a_rate_is_read_or_refused(raw: Any) -> None:
    try:
        rate = parse_rate_bps(raw)
    except ValueError as error:
        assert str(error)
    else:
        assert rate is None or isinstance(rate, int)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="0123456789.,- \n#e", max_size=60))
def test_a_matrix_is_read_or_refused(text: str) -> None:
    try:
        parse(text, "matrix.csv")
    except ValueError as error:
        assert "matrix.csv" in str(error)


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=30)
    | st.sampled_from(["qsgd-4bit", "top-k", "sign"]).flatmap(lambda n: st.text(max_size=9).map(lambda t: f"{n},{t}"))
)
def test_a_codec_is_named_or_refused(text: str) -> None:
    try:
        codec_config(text)
    except ValueError as error:
        assert str(error)


rows = st.lists(st.text(alphabet="0123456789.,-emMkbit ", max_size=30), max_size=6).map("\n".join)


@settings(max_examples=200, deadline=None)
@given(rows | st.text(max_size=60), st.sampled_from(["", "t_s,down_bps\n", "t_s,down_bps,up_bps,delay_ms\n"]))
def test_a_trace_is_read_or_refused(text: str, head: str) -> None:
    for read in (lambda: parse_csv(head + text, "trace", "trace.csv"), lambda: parse_mahimahi(text, None, "trace")):
        try:
            read()
        except TraceError as error:
            assert str(error)
