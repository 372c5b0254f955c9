"""`links.shared`: what is accepted, what a fabric refuses and why, and what follows for plans, limits and bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet.experiment.bounds import lower_bound
from gannet.fabrics.job import mesh_plans
from gannet.fabrics.session.deadlines import limits_of
from gannet.netem.exports import tc_script
from gannet.netem.exports.paths import ExportError
from gannet.netem.links.pairs.shared import unplaceable
from gannet.netem.links.plan import InterfacePlan, path_rate_bps
from gannet.netem.links.profile import load_profile
from gannet.netem.links.state import LinkState, difference
from gannet.netem.measure.certificate import Certificate
from gannet.netem.measure.probe_plan import fan_groups, fans, schedule_rounds, unseen_together
from gannet.node.methods.formulas import Traffic
from gannet.spec.links import LinksSpec
from gannet.spec.run_spec import RunSpec

BASE: dict[str, Any] = {"profile": {"rate": "100Mbit", "delay_ms": 5}}


def state_of(*shared: dict[str, Any], world: int = 4, **rest: Any) -> LinkState:
    return LinksSpec.model_validate({**BASE, **rest, "shared": list(shared)}).over_time(world, None)[0]


def plans_of(*shared: dict[str, Any], world: int = 4, **rest: Any) -> tuple[InterfacePlan, ...]:
    return mesh_plans(state_of(*shared, world=world, **rest), world, 1)


def test_pairs_and_groups_of_nodes_say_the_same() -> None:
    pairs = plans_of({"rate": "60Mbit", "pairs": ["0>2", "0>3", "1>2", "1>3"]})
    assert pairs == plans_of({"rate": "60Mbit", "from": [0, 1], "to": [2, 3]})
    assert plans_of({"rate": "9Mbit", "from": 0, "to": [0, 1, 2]}) == plans_of(
        {"rate": "9Mbit", "pairs": ["0>1", "0>2"]}
    )
    one = plans_of({"rate": "60Mbit", "pairs": ["0>2", "1>2"]})
    assert [len(plan.shared_in) for plan in one] == [0, 0, 1, 0] and not any(plan.shared_out for plan in one)
    assert one[2].shared_in[0].peers == (one[0].address, one[1].address)
    sender = plans_of({"rate": "60Mbit", "pairs": ["0>2", "0>1"]})
    assert sender[0].shared_out[0].peers == (sender[2].address, sender[1].address)


def test_a_pair_alone_has_all_of_a_shared_rate() -> None:
    plans = plans_of({"rate": "60Mbit", "pairs": ["0>2", "1>3"]}, edges={"1>3": {"rate": "7Mbit"}})
    rates = [path_rate_bps(plans, *pair) for pair in ((0, 2), (1, 3), (0, 3), (2, 0))]
    assert rates == [60_000_000, 7_000_000, 100_000_000, 100_000_000]


def test_plans_and_records_keep_them() -> None:
    links = LinksSpec.model_validate({**BASE, "shared": [{"rate": "60Mbit", "from": [0, 1], "to": [2, 3]}]})
    again = LinksSpec.model_validate(json.loads(links.model_dump_json()))
    assert again == links
    for plan in mesh_plans(links.state, 4, 1):
        assert InterfacePlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert "60 Mbit/s shared by 0→2 0→3 1→2 1→3" in links.describe()


def test_profiles_come_and_go_and_the_inner_link_stays() -> None:
    state = state_of({"rate": "60Mbit", "pairs": ["0>2", "1>2"]})
    for after in (state.apply(load_profile("dsl")), state.apply(load_profile("dsl"), nodes=[2]), state.heal()):
        assert after.shared == state.shared
        assert difference(state, after)(state) == after
    assert difference(state, LinkState())(state).shared == ()


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        ({"rate": "60", "pairs": ["0>2", "1>2"]}, "'60' is not a rate: write 10Mbit"),
        ({"rate": 60, "pairs": ["0>2", "1>2"]}, r"shared\.0\.rate"),
        ({"rate": "unlimited", "pairs": ["0>2", "1>2"]}, "unlimited limits nothing"),
        ({"rate": "2kbit", "pairs": ["0>2", "1>2"]}, "2 pairs need 4kbit at least"),
        ({"rate": "1Mbit", "pairs": ["0>2"]}, r"is an edge: say edges: "),
        ({"rate": "1Mbit", "pairs": ["0>2", "0 > 2"]}, "0>2 is there twice"),
        ({"rate": "1Mbit", "pairs": ["0>2", "1>1"]}, "1>1 is no link"),
        ({"rate": "1Mbit", "pairs": ["0>2", "1-2"]}, "an edge is written"),
        ({"rate": "1Mbit", "pairs": []}, "name one at least"),
        ({"rate": "1Mbit", "pairs": ["0>2", "1>9"]}, r"links\.shared\.0: node 9 does not exist"),
        ({"rate": "1Mbit", "from": [0, 1]}, "to: None are no nodes: write from: "),
        ({"rate": "1Mbit", "from": [0, 0], "to": [1]}, "a node is there twice"),
        ({"rate": "1Mbit", "from": [0], "to": [1], "pairs": ["0>1"]}, "say the same thing twice"),
        ({"rate": "1Mbit"}, "pairs"),
        ({"pairs": ["0>2", "1>2"]}, "rate"),
        ({"rate": "1Mbit", "pairs": ["0>2", "1>2"], "delay_ms": 4}, "delay_ms"),
    ],
)
def test_mistakes_are_told(shared: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        state_of(shared)


def test_a_link_that_no_node_can_limit_is_told() -> None:
    assert not unplaceable(state_of({"rate": "9Mbit", "from": [0, 1], "to": 2}).shared)
    assert not unplaceable(state_of({"rate": "9Mbit", "from": 2, "to": [0, 1]}).shared)
    inner = state_of({"rate": "9Mbit", "from": [0, 1], "to": 2}, {"rate": "9Mbit", "pairs": ["0>2", "1>3"]})
    assert unplaceable(inner.shared).startswith("1: its pairs have several senders and several receivers")
    assert not unplaceable(inner.shared, core=True)
    cores = [{"rate": "9Mbit", "pairs": ["0>2", "1>3"]}, {"rate": "8Mbit", "pairs": ["0>2", "3>1"]}]
    assert unplaceable(state_of(*cores).shared, core=True).startswith("1: 0>2 is in shared.0 too, at the same place")
    twice = state_of({"rate": "9Mbit", "from": [0, 1], "to": 2}, {"rate": "9Mbit", "from": [1, 3], "to": 2})
    assert "1: 1>2 is in shared.0 too, at the same place" in unplaceable(twice.shared)


pairs_of_four = st.lists(
    st.sampled_from([f"{a}>{b}" for a in range(4) for b in range(4) if a != b]), min_size=2, max_size=6, unique=True
)


@given(pairs_of_four, st.integers(20, 90_000))
def test_a_shared_link_acts(pairs: list[str], rate_kbit: int) -> None:
    given_plans = plans_of({"rate": f"{rate_kbit}kbit", "pairs": pairs})
    assert given_plans != plans_of()
    assert given_plans != plans_of({"rate": f"{rate_kbit + 1}kbit", "pairs": pairs})


def test_deadlines_reckon_with_all_its_pairs() -> None:
    """12 pairs of 4 nodes share 8 Mbit/s: an exchange has what a node's link of a third as much would give it."""
    inner = plans_of({"rate": "8Mbit", "pairs": [f"{a}>{b}" for a in range(4) for b in range(4) if a != b]})
    slow = mesh_plans(LinkState(profile=load_profile("unshaped")), 4, 1)
    alike = mesh_plans(LinksSpec.model_validate({"rate": f"{8_000_000 // 3}bit", "delay_ms": 5}).state, 4, 1)
    limits = [limits_of(plans, 600_000, 4, 2.0) for plans in (inner, alike, slow)]
    assert limits[0] == limits[1] and limits[0].patience_s > limits[2].patience_s


def test_the_bound_knows_the_shared_rate() -> None:
    """Nodes 0 and 1 send a megabyte each to 2 and 3 over 8 Mbit/s: no step takes less than two seconds for it."""
    edges = ((0, 2), (0, 3), (1, 2), (1, 3))
    sent, received = (1_000_000, 1_000_000, 0, 0), (0, 0, 1_000_000, 1_000_000)
    traffic = Traffic(edges, sent, received, 1, (1_000_000, 1_000_000), 1)
    inner = plans_of({"rate": "8Mbit", "from": [0, 1], "to": [2, 3]})
    assert lower_bound(traffic, inner, 0.1, 1, False).transfer_s == pytest.approx(2.0)
    assert lower_bound(traffic, plans_of(), 0.1, 1, False).transfer_s == pytest.approx(8e6 / 100e6)
    # Half of what 0 sends may go around it, and then nothing is sure but what 3 receives.
    some = plans_of({"rate": "8Mbit", "pairs": ["0>3", "1>3"]})
    assert lower_bound(traffic, some, 0.1, 1, False).transfer_s == pytest.approx(1.0)
    # Around it there is 1 Mbit/s: 16 Mbit need 16/9 s, though no node and no link by itself needs more than 1 s.
    around = {"edges": {"0>2": {"rate": "1Mbit"}, "0>3": {"rate": "8Mbit"}}}
    both = plans_of({"rate": "8Mbit", "pairs": ["0>3", "1>2", "1>3"]}, **around)
    lopsided = Traffic(edges, sent, (0, 0, 1_100_000, 900_000), 1, (1_100_000, 1_100_000), 1)
    assert lower_bound(lopsided, both, 0.1, 1, False).transfer_s == pytest.approx(16 / 9, rel=1e-4)
    # With another way for each node at both ends nothing is sure but the access links.
    round_about = plans_of({"rate": "8Mbit", "pairs": ["0>2", "1>3"]})
    assert lower_bound(traffic, round_about, 0.1, 1, False).transfer_s == pytest.approx(8e6 / 100e6)


def test_the_certificate_measures_paths_together_or_says_that_it_did_not() -> None:
    """By hand: two paths of 40 Mbit/s into a node of 100, and a third that has the other 60."""
    plans = plans_of({"rate": "40Mbit", "pairs": ["0>2", "1>2"]})
    edges = [(0, 2), (1, 2), (3, 2)]
    found = {fan.peers: fan for fan in fans(plans, edges)}
    assert found.keys() == {(0, 1), (0, 1, 3)}
    assert found[0, 1].rate_bps == 40e6 and sum(found[0, 1].paces_bps) == pytest.approx(1.3 * 40e6)
    assert found[0, 1, 3].rate_bps == 100e6
    assert found[0, 1, 3].paces_bps == pytest.approx([26e6, 26e6, 130e6])  # 1.3 times what each can have
    assert len(fan_groups(plans, list(found.values()))) == 2
    assert unseen_together(plans, list(found.values())) == []
    (said,) = unseen_together(plans, fans(plans, edges[1:]))
    assert said.startswith("the 40 Mbit/s that 0→2 1→2 share: each was measured by itself")
    sender = plans_of({"rate": "40Mbit", "pairs": ["2>0", "2>1"]})
    out = fans(sender, [(2, 0), (2, 1), (2, 3)])
    assert [(fan.direction, fan.peers, fan.rate_bps) for fan in out] == [
        ("out", (0, 1), 40e6),
        ("out", (0, 1, 3), 1e8),
    ]
    assert unseen_together(sender, [fan for fan in out if fan.direction == "in"])
    certificate = Certificate(unseen=[said])
    assert Certificate.from_json(certificate.to_json()).unseen == [said] and certificate.trusted


def test_the_certificate_measures_no_two_paths_of_a_core_link_at_once_but_as_a_fan() -> None:
    """By hand: 40 Mbit/s for all from 0 and 1 to 2 and 3, whose own links have 100."""
    plans = plans_of({"rate": "40Mbit", "from": [0, 1], "to": [2, 3]})
    pairs = [(0, 2), (0, 3), (1, 2), (1, 3)]
    assert [len(batch) for batch in schedule_rounds(pairs)] == [2, 2]
    assert [len(batch) for batch in schedule_rounds(pairs, plans)] == [1, 1, 1, 1]
    assert [len(batch) for batch in schedule_rounds([(2, 0), (3, 1)], plans)] == [2]
    found = fans(plans, [*pairs, (3, 2)])
    assert {(fan.direction, fan.node, fan.peers): fan.rate_bps for fan in found} == {
        ("in", 2, (0, 1)): 40e6,
        ("in", 2, (0, 1, 3)): 100e6,
        ("in", 3, (0, 1)): 40e6,
        ("out", 0, (2, 3)): 40e6,
        ("out", 1, (2, 3)): 40e6,
    }
    assert all(len(group) == 1 for group in fan_groups(plans, found))
    (said,) = unseen_together(plans, found)
    assert said.startswith("the 40 Mbit/s that 0→2 0→3 1→2 1→3 share")


def test_a_fan_knows_that_slow_peers_leave_the_rest_to_others() -> None:
    """Of 40 Mbit/s a path of 1 Mbit/s leaves 39 to the other."""
    plans = plans_of({"rate": "40Mbit", "pairs": ["0>2", "1>2"]}, edges={"0>2": {"rate": "1Mbit"}})
    (fan,) = [fan for fan in fans(plans, [(0, 2), (1, 2), (3, 2)]) if len(fan.peers) == 3]
    assert fan.paces_bps[1] == pytest.approx(1.3 * 39e6) and fan.rate_bps == 100e6


def test_no_export_leaves_a_core_link_out_without_a_word() -> None:
    plans = plans_of({"rate": "40Mbit", "from": [0, 1], "to": [2, 3]})
    with pytest.raises(ExportError, match="several senders and several receivers is limited at no node"):
        tc_script.export_network(plans)


def test_runs_in_containers_refuse_what_no_node_can_limit() -> None:
    spec: dict[str, Any] = {
        "name": "inner", "algorithm": {"name": "dp-oadam"}, "nodes": 4, "stop": {"steps": 10}, "pace_ms": 5,
        "links": {**BASE, "shared": [{"rate": "9Mbit", "pairs": ["0>2", "1>3"]}]},
    }  # fmt: skip
    for fabric in ("compose", "swarm"):
        with pytest.raises(ValueError, match=r"links\.shared\.0: its pairs have several senders.*fabric: namespaces"):
            RunSpec.model_validate({**spec, "fabric": fabric})
    for fabric in ("virtual", "namespaces"):
        assert RunSpec.model_validate({**spec, "fabric": fabric}).links.shared
