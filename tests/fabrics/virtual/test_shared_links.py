"""Links that several pairs share, in the virtual fabric: against shares that linear programs find, and by hand."""

from __future__ import annotations

from itertools import permutations
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from gannet.experiment.bounds import lower_bound
from gannet.fabrics.job import mesh_plans
from gannet.fabrics.virtual.link_model import LinkModel
from gannet.netem.links.pairs.shared import SharedLink
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.node.methods.formulas import Traffic

Pair = tuple[int, int]
WORLD = 4
PAIRS = list(permutations(range(WORLD), 2))


def fair_rates(capacities: list[tuple[set[Pair], float]], flows: list[Pair]) -> dict[Pair, float]:
    """Max-min fair rates by their definition: the least rate is as large as can be, then the next, …"""
    known: dict[Pair, float] = {}
    rows = [[float(flow in pairs) for flow in flows] for pairs, _ in capacities]
    limits = [capacity for _, capacity in capacities]

    def most(objective: list[float], floors: list[float], common: bool) -> float:
        """The most of the objective, or of the least rate among those not known, above these floors."""
        count = len(flows)
        left = [[*row, 0.0] for row in rows]
        right = list(limits)
        if common:
            for i, flow in enumerate(flows):
                if flow not in known:
                    left.append([-float(i == j) for j in range(count)] + [1.0])
                    right.append(0.0)
        bounds = [
            (known[flow], known[flow]) if flow in known else (floor, None)
            for flow, floor in zip(flows, floors, strict=True)
        ]
        found = linprog([-c for c in objective] + [-float(common)], left, right, bounds=[*bounds, (0, None)])
        assert found.status == 0
        return -float(found.fun)

    while len(known) < len(flows):
        level = most([0.0] * len(flows), [0.0] * len(flows), common=True)
        floors = [level * (1 - 1e-9)] * len(flows)
        for i, flow in enumerate(flows):
            if flow not in known:
                top = most([float(i == j) for j in range(len(flows))], floors, common=False)
                if top <= level * (1 + 1e-6):
                    known[flow] = level
    return known


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(PAIRS), min_size=2, max_size=7, unique=True),
    st.lists(
        st.tuples(
            st.sampled_from([1e6, 2.5e6, 7e6]), st.lists(st.sampled_from(PAIRS), min_size=2, max_size=6, unique=True)
        ),
        min_size=1,
        max_size=3,
    ),
    st.dictionaries(st.sampled_from(PAIRS), st.sampled_from([5e5, 3e6]), max_size=2),
)
def test_messages_arrive_when_linear_programs_say(
    flows: list[Pair], groups: list[tuple[float, list[Pair]]], own: dict[Pair, float]
) -> None:
    """Each pair sends a megabit at once; whenever one is through, the others share again."""
    state = LinkState(
        profile=LinkProfile.model_validate({"down": "8Mbit", "up": "4Mbit"}),
        rates={pair: LinkProfile(down_bps=int(rate), up_bps=int(rate)) for pair, rate in own.items()},
        shared=tuple(SharedLink(rate_bps=int(rate), pairs=tuple(pairs)) for rate, pairs in groups),
    )
    model: LinkModel[Pair] = LinkModel(mesh_plans(state, WORLD, 1), [])
    for a, b in flows:
        model.send(0.0, a, b, 125_000, (a, b))
    arrived: dict[Pair, float] = {}
    while (now_s := model.next_s(max(arrived.values(), default=0.0))) < inf:
        arrived |= {pair: at_s for at_s, pair in model.advance(now_s)}
    capacities = [({pair for pair in PAIRS if pair[0] == rank}, 4e6) for rank in range(WORLD)]
    capacities += [({pair for pair in PAIRS if pair[1] == rank}, 8e6) for rank in range(WORLD)]
    capacities += [({pair}, rate) for pair, rate in own.items()]
    capacities += [(set(pairs), rate) for rate, pairs in groups]
    left, now_s, expected = dict.fromkeys(flows, 1e6), 0.0, dict[Pair, float]()
    while left:
        rates = fair_rates(capacities, list(left))
        step_s = min(bits / rates[pair] for pair, bits in left.items())
        now_s += step_s
        left = {pair: bits - step_s * rates[pair] for pair, bits in left.items()}
        expected |= {pair: now_s for pair, bits in left.items() if bits < 1}
        left = {pair: bits for pair, bits in left.items() if bits >= 1}
    assert arrived == pytest.approx(expected, rel=1e-4)


@given(
    st.dictionaries(st.sampled_from(PAIRS), st.integers(1_000, 400_000), min_size=1, max_size=8),
    st.lists(
        st.tuples(
            st.sampled_from([1e6, 2.5e6, 7e6]), st.lists(st.sampled_from(PAIRS), min_size=2, max_size=6, unique=True)
        ),
        max_size=3,
    ),
    st.dictionaries(st.sampled_from(PAIRS), st.sampled_from([5e5, 3e6]), max_size=3),
)
def test_no_exchange_is_faster_than_its_bound(
    sizes: dict[Pair, int], groups: list[tuple[float, list[Pair]]], own: dict[Pair, float]
) -> None:
    """And where every node has one edge each way, the bound is at least the busiest link's bytes ÷ rate."""
    state = LinkState(
        profile=LinkProfile.model_validate({"down": "8Mbit", "up": "4Mbit"}),
        rates={pair: LinkProfile(down_bps=int(rate), up_bps=int(rate)) for pair, rate in own.items()},
        shared=tuple(SharedLink(rate_bps=int(rate), pairs=tuple(pairs)) for rate, pairs in groups),
    )
    plans = mesh_plans(state, WORLD, 1)
    sent, received = (
        tuple(sum(size for pair, size in sizes.items() if pair[end] == rank) for rank in range(WORLD))
        for end in (0, 1)
    )
    traffic = Traffic(tuple(sizes), sent, received, 1, (max(sent), max(received)), 1)
    bound_s = lower_bound(traffic, plans, 0.0, 1, True).transfer_s
    model: LinkModel[Pair] = LinkModel(plans, [])
    for (a, b), size in sizes.items():
        model.send(0.0, a, b, size, (a, b))
    end_s = 0.0
    while (now_s := model.next_s(end_s)) < inf:
        end_s = max(end_s, *(at_s for at_s, _ in model.advance(now_s)), now_s)
    assert bound_s <= end_s * (1 + 1e-6)
    if all(
        len({pair[1 - end] for pair in sizes if pair[end] == rank}) <= 1 for rank in range(WORLD) for end in (0, 1)
    ):
        busy = [(set(pairs), rate) for rate, pairs in groups] + [({pair}, rate) for pair, rate in own.items()]
        busiest_s = max((8 * sum(sizes.get(pair, 0) for pair in pairs) / rate for pairs, rate in busy), default=0.0)
        assert bound_s >= busiest_s * (1 - 1e-4)


def test_four_pairs_of_four_nodes_share_one_bottleneck() -> None:
    """Two senders and two receivers of 100 Mbit/s each, 60 Mbit/s between them: 15 Mbit/s for each pair."""
    pairs = ((0, 2), (0, 3), (1, 2), (1, 3))
    state = LinkState(
        profile=LinkProfile.model_validate({"rate": "100Mbit", "delay_ms": 10}),
        shared=(SharedLink(rate_bps=60_000_000, pairs=pairs),),
    )
    model: LinkModel[Pair] = LinkModel(mesh_plans(state, WORLD, 1), [])
    for a, b in (*pairs, (2, 0)):
        model.send(0.0, a, b, 15_000_000 / 8, (a, b))
    first = model.next_s(0.0)
    assert [(round(at_s, 9), pair) for at_s, pair in model.advance(first)] == [(0.16, (2, 0))]
    assert {(round(at_s, 9), pair) for at_s, pair in model.advance(model.next_s(first))} == {
        (1.01, pair) for pair in pairs
    }
