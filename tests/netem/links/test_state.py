"""The state of links as a value: what each change does, that it does it once, and that plans follow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet.netem.links.plan import network_plan
from gannet.netem.links.profile import LinkProfile, load_profile
from gannet.netem.links.state import UNSHAPED, Change, Journal, LinkState, difference

WORLD = 5
ADDRESSES = [f"10.77.1.{10 + rank}" for rank in range(WORLD)]
DEVICES = [f"mesh{rank}" for rank in range(WORLD)]

ranks = st.integers(0, WORLD - 1)
edges = st.tuples(ranks, ranks).filter(lambda edge: edge[0] != edge[1])
profiles = st.sampled_from([load_profile(name) for name in ("lte", "2g", "3g-lossy", "datacenter", "unshaped")])
sides = st.lists(st.integers(0, 2), min_size=WORLD, max_size=WORLD).filter(lambda of: len(set(of)) > 1)
states = st.builds(
    LinkState,
    profile=profiles,
    nodes=st.dictionaries(ranks, profiles),
    edges=st.dictionaries(edges, profiles),
    cut=st.frozensets(edges),
)


def groups_of(side: list[int]) -> list[list[int]]:
    return [[rank for rank in range(WORLD) if side[rank] == s] for s in sorted(set(side))]


changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(
        lambda profile, nodes, edges: lambda state: state.apply(profile, nodes, edges),
        profiles,
        st.none() | st.sets(ranks),
        st.none() | st.sets(edges),
    ),
    st.builds(lambda side: lambda state: state.partition(groups_of(side), WORLD), sides),
    st.just(LinkState.heal),
    st.just(lambda state: LinkState()),
)


@given(states, changes)
def test_a_change_made_twice_is_made_once(state: LinkState, change: Change) -> None:
    assert change(change(state)) == change(state)


@given(states)
def test_plans_are_those_of_network_plan_but_for_cuts(state: LinkState) -> None:
    plans = state.plans(ADDRESSES, DEVICES, seed=3)
    expected = network_plan(state.profile, state.nodes, state.edges, ADDRESSES, "any", 3)
    for rank, (plan, want) in enumerate(zip(plans, expected, strict=True)):
        assert plan.device == DEVICES[rank]
        assert (plan.up_bps, plan.down_bps, plan.segments) == (want.up_bps, want.down_bps, want.segments)
        assert (plan.buffer_bytes_up, plan.buffer_bytes_down, plan.seed) == (
            want.buffer_bytes_up,
            want.buffer_bytes_down,
            3,
        )
        assert plan.paths.keys() == want.paths.keys()
        for source, address in enumerate(ADDRESSES):
            if source == rank:
                continue
            path, wanted = plan.paths[address], want.paths[address]
            assert (path.delay_ms, path.jitter_ms) == (wanted.delay_ms, wanted.jitter_ms)
            assert path.loss_percent == (100.0 if (source, rank) in state.cut else wanted.loss_percent)


@given(states, sides)
def test_a_partition_cuts_between_groups_only_and_healing_restores_all(state: LinkState, side: list[int]) -> None:
    parted = state.partition(groups_of(side), WORLD)
    everything = {(a, b) for a in range(WORLD) for b in range(WORLD) if a != b}
    assert parted.cut == {(a, b) for a, b in everything if side[a] != side[b]}
    assert parted.heal() == state.heal() and not parted.heal().cut
    assert (parted.profile, parted.nodes, parted.edges) == (state.profile, state.nodes, state.edges)


@given(states, profiles, ranks, edges)
def test_apply_reaches_what_it_names_and_keeps_the_rest(
    state: LinkState, profile: LinkProfile, rank: int, edge: tuple[int, int]
) -> None:
    everywhere = state.apply(profile)
    assert everywhere == LinkState(profile=profile, cut=state.cut)
    at_both = state.apply(profile, [rank], [edge])
    assert at_both.nodes == {**state.nodes, rank: profile} and at_both.edges == {**state.edges, edge: profile}
    assert (at_both.profile, at_both.cut) == (state.profile, state.cut)


def test_nodes_that_no_group_names_are_one_more_group() -> None:
    assert LinkState().partition([[1]], 3).cut == {(0, 1), (1, 0), (2, 1), (1, 2)}
    assert LinkState().partition([[0], [1]], 4) == LinkState().partition([[0], [1], [2, 3]], 4)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ([[0, 1, 2]], "all nodes on one side"),
        ([], "all nodes on one side"),
        ([[0, 1], [1, 2]], "node 1 twice"),
        ([[0], [3]], "node 3, but the nodes are 0 to 2"),
    ],
)
def test_a_partition_that_makes_no_sense(groups: list[list[int]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LinkState().partition(groups, 3)


@pytest.mark.parametrize(
    "state",
    [LinkState(nodes={5: UNSHAPED}), LinkState(edges={(0, 7): UNSHAPED}), LinkState(cut=frozenset({(0, 5)})),
     LinkState(cut=frozenset({(1, 1)}))],
)  # fmt: skip
def test_plans_refuse_nodes_that_are_not_there(state: LinkState) -> None:
    with pytest.raises(ValueError, match=r"0 to 4|itself"):
        state.plans(ADDRESSES, DEVICES, 0)


def test_unshaped_is_the_shipped_profile() -> None:
    shipped = load_profile("unshaped")
    assert shipped.model_dump() == UNSHAPED.model_dump()


def test_a_state_says_what_it_is() -> None:
    lte = load_profile("lte")
    state = LinkState(profile=lte).apply(load_profile("2g"), [2], [(0, 3)])
    assert state.describe() == "lte, node 2: 2g, 0→3: 2g"
    assert state.partition([[0, 1], [2]], 4).describe().endswith(", partition 0,1 | 2 | 3")
    assert LinkState(cut=frozenset({(1, 0)})).describe() == "unshaped, cut 1→0"


timed = st.tuples(changes, st.none() | st.integers(1, 20))


@given(states, st.lists(timed, max_size=8), st.lists(st.integers(1, 20), max_size=4))
def test_what_ends_is_undone_and_all_else_stays(
    state: LinkState, made: list[tuple[Change, int | None]], moments: list[int]
) -> None:
    """Against the definition: the changes that have not ended, in order, from the beginning."""
    journal = Journal(state)
    for change, until_s in made:
        journal.add(change, float("inf") if until_s is None else until_s)
    for now_s in [0, *sorted(moments)]:
        left = [(change, until_s) for change, until_s in made if until_s is None or until_s > now_s]
        due = journal.next_end_s() <= now_s
        assert journal.end_by(now_s) == due
        assert journal.state == _replay(state, left)
        ends = [until_s for _, until_s in left if until_s is not None]
        assert journal.next_end_s() == min(ends, default=float("inf"))


@given(states, st.lists(st.tuples(changes, st.none() | st.integers(1, 9)), max_size=6))
def test_a_change_that_is_overridden_is_forgotten_and_missed_by_nobody(
    state: LinkState, made: list[tuple[Change, int | None]]
) -> None:
    journal, kept = Journal(state), Journal(state)
    for change, until_s in made:
        for each in (journal, kept):
            each.add(change, float("inf") if until_s is None else until_s)
        journal.drop_overridden()
    for now_s in range(10):
        for each in (journal, kept):
            each.end_by(now_s)
        assert journal.state == kept.state


def test_what_is_healed_has_no_end_to_come() -> None:
    journal = Journal(LinkState())
    journal.add(lambda state: state.partition([[0]], WORLD), 30.0)
    journal.add(lambda state: state.apply(load_profile("lte"), [1]), 20.0)
    assert journal.drop_overridden() == set()
    journal.add(LinkState.heal)
    assert journal.drop_overridden() == {30.0}
    assert journal.next_end_s() == 20.0


def _replay(state: LinkState, made: list[tuple[Change, int | None]]) -> LinkState:
    for change, _ in made:
        state = change(state)
    return state


@given(states, edges, ranks)
def test_severed_and_isolated_is_cut_besides(state: LinkState, edge: tuple[int, int], rank: int) -> None:
    assert state.sever([edge]).cut == state.cut | {edge}
    lonely = state.isolate([rank], WORLD)
    assert lonely.cut == state.cut | {(a, b) for a in range(WORLD) for b in range(WORLD) if a != b and rank in (a, b)}
    assert lonely.heal() == state.heal()


def test_nobody_isolates_a_node_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="node 5 does not exist: the nodes are 0 to 4"):
        LinkState().isolate([1, 5], WORLD)


@given(states, states, states)
def test_a_difference_leaves_alone_what_it_does_not_concern(
    before: LinkState, after: LinkState, other: LinkState
) -> None:
    changed = difference(before, after)(other)
    assert changed.cut == (other.cut - (before.cut - after.cut)) | (after.cut - before.cut)
    if before.profile != after.profile:
        assert (changed.profile, changed.nodes, changed.edges) == (after.profile, after.nodes, after.edges)
        return
    assert changed.profile == other.profile
    for rank in range(WORLD):
        touched = before.nodes.get(rank) != after.nodes.get(rank)
        assert changed.nodes.get(rank) == (after if touched else other).nodes.get(rank)


def test_many_links_of_their_own_are_counted() -> None:
    lte = load_profile("lte")
    state = LinkState(edges={(a, b): lte for a in range(4) for b in range(4) if a != b})
    assert state.describe() == "unshaped, 12 links with figures of their own"
