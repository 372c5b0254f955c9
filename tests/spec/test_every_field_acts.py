"""Any field that a spec's `links` may have, wherever it stands, changes the plans of the run or is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gannet.fabrics.job import mesh_plans
from gannet.netem.links.profile import PROFILE_FIELDS
from gannet.spec.links import LinksSpec

WORLD, LAST_S = 3, 100.0
MATRIX = [[0, 40, 110], [40, 0, 90], [110, 90, 0]]
NAMES = ["us-east-1", "eu-west-1", "ap-northeast-1"]
ORIGIN = {"name", "source", "assumed"}
VALUES: dict[str, Any] = {
    "rate": "7Mbit", "down": "6Mbit", "up": "5Mbit", "down_bps": 4_000_000, "up_bps": 3_000_000,
    "delay_ms": 33, "down_delay_ms": 34, "up_delay_ms": 35, "jitter_ms": 3, "jitter_distribution": "normal",
    "jitter_order": "reorder", "jitter_correlation_percent": 10, "loss_percent": 2,
    "gilbert_elliott": {"good_to_bad_percent": 1, "bad_to_good_percent": 30},
    "reorder_percent": 1, "duplicate_percent": 1, "corrupt_percent": 1,
    "buffer_ms": 333, "buffer_bytes": 77_777, "buffer_packets": 77, "queue": "codel", "down_queue": "shared",
}  # fmt: skip
PLAIN: dict[str, Any] = {"rate": "20Mbit", "delay_ms": 50, "loss_percent": 1}
BASES: list[dict[str, Any]] = [
    {},
    {"profile": PLAIN},
    {"profile": {**PLAIN, "jitter_ms": 4}},
    {"profile": "home", "regions": {"nodes": NAMES}},
    {"profile": "lte", "delays_ms": MATRIX},
    {"profile": PLAIN, "edges": {"0>1": {"delay_ms": 7}}, "nodes": {2: "dsl"}},
    {"profile": PLAIN, "edges": {"0>1": {"rate": "1Mbit"}}},
    {"profile": PLAIN, "edges": {"0>1": "3g-slow"}},
]
ENTRIES: list[dict[str, Any]] = [
    {"at_s": 5, "nodes": [0]}, {"at_s": 5, "edges": ["0>1"]}, {"at_s": 5}, {"at_s": 5, "for_s": 3},
    {"at_s": 5, "ramp_s": 1, "nodes": [0]}, {"at_s": 5, "ramp_s": 1, "edges": ["0>1"]},
]  # fmt: skip


def plans(links: dict[str, Any]) -> list[Any] | None:
    """The plans of each moment, without the profiles' names; None: refused."""
    try:
        first, changes = LinksSpec.model_validate(links).over_time(WORLD, LAST_S)
        return [(0.0, mesh_plans(first, WORLD, 1)), *((c.at_s, mesh_plans(c.links, WORLD, 1)) for c in changes)]
    except (ValidationError, ValueError):
        return None


def placed(base: dict[str, Any], place: str, field: str, entry: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The spec with the field at that place, and the same without it."""
    value = VALUES[field]
    if place == "schedule":
        given = {**base, "schedule": [{**entry, "profile": {field: value}}]}
        return given, base
    if place == "profile":
        inner = base.get("profile", {})
        if isinstance(inner, str):  # by name: its fields cannot be overridden one by one
            return {**base, "profile": {field: value}}, {**base, "profile": {}}
        return {**base, "profile": {**inner, field: value}}, base
    key: Any = 1 if place == "nodes" else "0>1"
    old = {**base.get(place, {})}
    inner = old.get(key, {})
    inner = {} if isinstance(inner, str) else inner
    rest = {**old, key: inner} if inner or place == "nodes" else {k: v for k, v in old.items() if k != key}
    return {**base, place: {**old, key: {**inner, field: value}}}, {**base, place: rest}


def test_a_value_is_known_for_every_field_of_a_profile() -> None:
    assert VALUES.keys() == PROFILE_FIELDS - ORIGIN


@settings(max_examples=400, deadline=None)
@given(
    base=st.sampled_from(BASES),
    place=st.sampled_from(["profile", "nodes", "edges", "schedule"]),
    field=st.sampled_from(sorted(VALUES)),
    entry=st.sampled_from(ENTRIES),
)
def test_a_field_of_a_profile_acts_or_is_refused(
    base: dict[str, Any], place: str, field: str, entry: dict[str, Any]
) -> None:
    given_links, without = placed(base, place, field, entry)
    found = plans(given_links)
    assert found is None or found != plans(without), given_links


def test_a_rate_at_an_edge_is_its_rate_and_leaves_delay_and_loss() -> None:
    """The example of the issue: 0>1 at 1 Mbit/s, with the delay and the loss of all links."""
    found = plans({"profile": PLAIN, "edges": {"0>1": {"rate": "1Mbit"}}})
    assert found is not None
    sender, receiver, _ = found[0][1]
    path = receiver.paths[sender.address]
    assert {a: limit.rate_bps for a, limit in receiver.limits.items()} == {sender.address: 1_000_000}
    assert (path.delay_ms, path.loss_percent) == (50, 1)


KINDS: dict[str, Any] = {
    "profile": "3g-slow", "flap": {"down_s": 1, "up_s": 2}, "partition": "0:1,2", "heal": True, "isolate": [2],
    "trace": "lte-walk",
}  # fmt: skip
OTHERS: dict[str, Any] = {"nodes": [1], "edges": ["2>1"], "ramp_s": 2, "for_s": 3, "loop": True}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", OTHERS)
def test_a_field_of_an_entry_acts_or_is_refused(kind: str, other: str) -> None:
    """What an entry of each kind says besides its kind: of cuts before `heal`, and at a place for `flap`."""
    needed = {"nodes": [0]} if kind == "flap" and other != "nodes" else {}
    needed |= {"nodes": [0], "for_s": 400} if other == "loop" else {}
    before = [{"at_s": 1, "isolate": [0]}] if kind == "heal" else []
    entry = {"at_s": 5, kind: KINDS[kind], **needed}

    def links(last: dict[str, Any]) -> dict[str, Any]:
        return {"profile": PLAIN, "schedule": [*before, last]}

    value = False if (kind, other) == ("trace", "loop") else OTHERS[other]  # a trace of Mahimahi loops by itself
    found = plans(links({**entry, other: value}))
    assert found is None or found != plans(links(entry))


@pytest.mark.parametrize("twice", [{"nodes": {1: "lte", "1": "dsl"}}, {"edges": {"0>1": "lte", "0 > 1": "dsl"}}])
def test_one_node_or_link_twice_is_refused(twice: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="are the same: keep one"):
        LinksSpec.model_validate(twice)


def test_what_a_record_holds_is_the_same_links() -> None:
    """A recorded spec keeps which figures an edge was given."""
    links = LinksSpec.model_validate(
        {**BASES[6], "schedule": [{"at_s": 3, "profile": {"delay_ms": 9}, "edges": ["0>1"]}]}
    )
    again = LinksSpec.model_validate(links.model_dump(mode="json"))
    assert plans(links.model_dump(mode="json")) is not None
    assert again.over_time(WORLD, LAST_S) == links.over_time(WORLD, LAST_S)


def test_a_matrix_of_rates_limits_its_links_and_nothing_else() -> None:
    rates = [[None, "1Mbit", "unlimited"], ["2.5 Mbit/s", None, None], [None, "40Mbit", None]]
    base = {"profile": {"rate": "20Mbit"}, "delays_ms": MATRIX}
    found, plain = plans({**base, "rates": rates}), plans(base)
    assert found is not None and plain is not None
    nodes, before = found[0][1], plain[0][1]
    address = [plan.address for plan in nodes]
    limits = [{address.index(a): limit.rate_bps for a, limit in plan.limits.items()} for plan in nodes]
    assert limits == [{1: 2_500_000}, {0: 1_000_000, 2: 40_000_000}, {}]
    assert [plan.paths for plan in nodes] == [plan.paths for plan in before]
    edge = plans({"profile": PLAIN, "rates": rates, "edges": {"0>1": {"rate": "unlimited"}}})
    assert edge is not None and set(edge[0][1][1].limits) == {address[2]}


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ([[None, "10"], [None, None]], r"links\.rates: row 0, column 1: '10' is not a rate: write 10Mbit"),
        ([[None, "10MB"], [None, None]], r"links\.rates: row 0, column 1: '10MB' is not a rate"),
        ([["1Mbit", None], [None, None]], r"links\.rates: row 0, column 0: the cell of node 0 with itself"),
        ([[None, "1Mbit"], [None]], r"links\.rates: must be 2 × 2: it has 2 rows of \[1, 2\] cells"),
        ([[None]], r"links\.rates: is for 1 nodes, but the run has 2"),
        ([[None, 10_000_000], [None, None]], r"rates\.0\.1"),
        ("rates.csv", r"rates\.csv: No such file"),
    ],
)
def test_mistakes_in_rates_are_told(rates: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LinksSpec.model_validate({"rates": rates}).over_time(2, LAST_S)
