"""The links of a spec: matrices, regions, schedules; what they come to, and that every mistake names its field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gannet.ledger.writer import write_yaml
from gannet.netem.links.profile import load_profile
from gannet.netem.links.regions import load_matrix
from gannet.netem.links.state import LinkState
from gannet.netem.links.trace_files import load_trace
from gannet.spec.load import SpecError, load_spec, resolve
from gannet.spec.run_spec import RunSpec

BASE: dict[str, Any] = {"algorithm": {"name": "dp-oadam"}, "stop": {"seconds": 60}, "nodes": 4}


def run(links: Any, **changes: Any) -> RunSpec:
    return resolve({**BASE, "links": links, **changes}, "my.yaml").arms["run"]


def states(links: Any, **changes: Any) -> list[tuple[float, LinkState, str]]:
    first, moments = run(links, **changes).links_over_time
    return [(0.0, first, "first"), *((change.at_s, change.links, change.name) for change in moments)]


def test_every_kind_of_entry_becomes_states() -> None:
    schedule = [
        {"at_s": 50, "heal": True},
        {"at_s": 1, "profile": "2g", "nodes": [2, 3]},
        {"at_s": 2, "profile": "dsl", "edges": ["0>1"], "for_s": 0.5},
        {"at_s": 3, "isolate": 0, "for_s": 1},
        {"at_s": 10, "partition": "0,1:2,3"},
        {"at_s": 20, "flap": {"down_s": 1, "up_s": 2, "times": 2}, "edges": ["0>1"]},
        {"at_s": 30, "trace": "lte-walk", "nodes": [1], "loop": False},
        {"at_s": 35, "ramp_s": 1, "profile": "lte", "nodes": [2]},
    ]
    found = states({"profile": "cable", "schedule": schedule})
    two_g, lte, dsl = load_profile("2g"), load_profile("lte"), load_profile("dsl")

    def at(t_s: float) -> LinkState:
        return [state for at_s, state, _ in found if at_s <= t_s][-1]

    assert at(1).nodes == {2: two_g, 3: two_g} and at(0.99).nodes == {}
    assert at(2).edges == {(0, 1): dsl} and at(2.5).edges == {}
    assert len(at(3).cut) == 6 and not at(4).cut
    parted = {(a, b) for a in range(4) for b in range(4) if (a < 2) != (b < 2)}
    assert at(10).cut == parted and at(20).cut == at(23).cut == parted | {(0, 1)} and at(21).cut == parted
    trace = load_trace("lte-walk")
    assert at(33).nodes[1].down_bps == trace.at(3).down_bps and at(35.99).nodes[2].name == "2g→lte"
    assert at(36).nodes[2] == lte and at(49.9).cut == parted and at(50).cut == frozenset()
    assert 1 not in at(60).nodes  # the trace has ended
    series = {name for at_s, _, name in found if 30 < at_s < 35}
    assert series == {"trace lte-walk at node 1"}


def test_a_profile_everywhere_leaves_single_edges_theirs() -> None:
    links = {
        "profile": "lte",
        "nodes": {1: "2g"},
        "edges": {"0>1": "dsl"},
        "schedule": [{"at_s": 5, "profile": "3g-fast"}],
    }
    _, (_, changed, _) = states(links)
    assert changed.profile == load_profile("3g-fast") and changed.nodes == {}
    assert changed.edges == {(0, 1): load_profile("dsl")}


def test_a_trace_that_loops_goes_on_to_the_end() -> None:
    found = states({"schedule": [{"at_s": 2, "trace": "lte-walk", "nodes": [0], "loop": True}]})
    trace = load_trace("lte-walk")
    assert found[-1][0] >= 60
    for at_s, state, _ in found[1:-1]:
        point = trace.at(round((at_s - 2) % 30, 6))
        assert ((0, "down") in state.held) == (point.down_bps == 0) and not state.cut
        assert point.down_bps in (0, state.nodes[0].down_bps)


def test_regions_and_matrices_give_each_pair_its_own_and_nodes_their_rates(tmp_path: Path) -> None:
    names = ["us-east-1", "eu-west-1", "eu-west-1", "ap-northeast-1"]
    spec = run({"profile": "home", "regions": {"matrix": "aws", "nodes": names}, "edges": {"0>1": "dsl"}})
    matrix = load_matrix("aws")
    row, column = (matrix.regions.index(name) for name in ("us-east-1", "ap-northeast-1"))
    state, _ = spec.links_over_time
    assert len(state.edges) == 12 and state.edges[0, 1] == load_profile("dsl")
    assert state.edges[0, 3].delay_ms == matrix.delays_ms[row][column]
    plans = state.plans([f"10.0.0.{rank + 1}" for rank in range(4)], ["mesh0"] * 4, 1)
    assert plans[3].paths["10.0.0.1"].delay_ms == matrix.delays_ms[row][column]
    assert {plan.up_bps for plan in plans} == {load_profile("home").up_bps}
    assert "regions us-east-1, eu-west-1, ap-northeast-1" in spec.links.describe()

    (tmp_path / "delays.csv").write_text("0,10,20,30\n11,0,21,31\n12,22,0,32\n13,23,33,0\n")
    spec = run({"delays": str(tmp_path / "delays.csv"), "losses_percent": [[0, 1, 0, 0]] + [[0] * 4] * 3})
    state, _ = spec.links_over_time
    assert state.edges[1, 0].delay_ms == 11 and state.edges[0, 1].loss_percent == 1


def test_whole_links_say_the_same_when_they_are_read_again(tmp_path: Path) -> None:
    """Also where the files that they were made from are not."""
    (tmp_path / "delays.csv").write_text("0,10\n11,0\n")
    (tmp_path / "mine.csv").write_text("time_s,down\n0,3Mbit\n1.5,0\n")
    schedule = [
        {"at_s": 0.5, "trace": str(tmp_path / "mine.csv"), "nodes": 1, "loop": True},
        {"at_s": 1, "flap": {"down_s": 1, "up_s": 2}, "nodes": [0]},
        {"at_s": 2, "partition": "0:1", "for_s": 3},
        {"at_s": 3, "ramp_s": 1, "profile": "3g-fast", "nodes": [0]},
        {"at_s": 9, "isolate": [1]},
        {"at_s": 10, "heal": True},
    ]
    stack = {"congestion_control": "reno"}
    for links in (
        {"profile": "lte", "delays": str(tmp_path / "delays.csv"), "schedule": schedule, "stack": stack},
        {"regions": {"nodes": ["us-east-1", "eu-west-1"]}},
    ):
        comparison = resolve({**BASE, "nodes": 2, "links": links}, "my.yaml")
        path = tmp_path / "order.yaml"
        path.write_text(yaml.safe_dump(comparison.whole()))
        for name in ("delays.csv", "mine.csv"):
            (tmp_path / name).unlink(missing_ok=True)
        again = load_spec(path)
        assert again == comparison
        assert again.arms["run"].links_over_time == comparison.arms["run"].links_over_time


MISTAKES: list[tuple[Any, str]] = [
    (
        {"schedule": [{"at_s": 1}]},
        "links.schedule.0: an entry is one of profile, flap, partition, heal, isolate, trace",
    ),
    ({"schedule": [{"at_s": 1, "profile": "lte", "heal": True}]}, "links.schedule.0: an entry is one of"),
    ({"schedule": [{"profile": "lte"}]}, "links.schedule.0.at_s: is missing"),
    ({"schedule": [{"at_s": -1, "heal": True}]}, "links.schedule.0.at_s: must be at least 0"),
    ({"schedule": [{"at_s": float("nan"), "heal": True}]}, "links.schedule.0.at_s:"),
    ({"schedule": [{"at_s": 1, "heal": False}]}, "links.schedule.0.heal: must be True"),
    ({"schedule": [{"at_s": 1, "heal": True, "nodes": [1]}]}, "links.schedule.0: nodes is not a field of heal"),
    (
        {"schedule": [{"at_s": 1, "trace": "lte-walk", "ramp_s": 2}]},
        "links.schedule.0: ramp_s is not a field of trace",
    ),
    ({"schedule": [{"at_s": 1, "profile": "lte", "nodez": [1]}]}, "links.schedule.0: unknown nodez"),
    ({"schedule": [{"at_s": 1, "profile": "lte", "nodes": []}]}, "links.schedule.0.nodes: name one at least"),
    ({"schedule": [{"at_s": 1, "profile": "lte", "nodes": ["x"]}]}, "links.schedule.0.nodes.0:"),
    ({"schedule": [{"at_s": 1, "profile": "lte", "nodes": [4]}]}, "links.schedule.0.nodes: node 4 does not exist"),
    (
        {"schedule": [{"at_s": 1, "profile": "lte", "edges": ["0>9"]}]},
        "links.schedule.0.edges: node 9 does not exist",
    ),
    ({"schedule": [{"at_s": 1, "profile": "lte", "edges": ["2>2"]}]}, "links.schedule.0.edges: 2>2 is no link"),
    ({"schedule": [{"at_s": 1, "profile": "lte", "edges": ["0-2"]}]}, "links.schedule.0.edges.0: an edge is written"),
    ({"schedule": [{"at_s": 1, "ramp_s": 0, "profile": "lte"}]}, "links.schedule.0.ramp_s:"),
    (
        {"schedule": [{"at_s": 1, "ramp_s": 2, "profile": "lte"}]},
        "links.schedule.0: down_bps: lte has a cap and unshaped",
    ),
    ({"schedule": [{"at_s": 1, "flap": {"down_s": 1}, "nodes": [1]}]}, "links.schedule.0.flap.up_s: is missing"),
    ({"schedule": [{"at_s": 1, "flap": {"down_s": 1, "up_s": 1}}]}, "links.schedule.0: flap needs nodes or edges"),
    (
        {"schedule": [{"at_s": 1, "flap": {"down_s": 1, "up_s": 1, "times": 0}, "nodes": 1}]},
        "links.schedule.0.flap.times:",
    ),
    ({"schedule": [{"at_s": 1, "partition": "0,1;2"}]}, "links.schedule.0.partition: write nodes by commas"),
    (
        {"schedule": [{"at_s": 1, "partition": "0,1,2,3"}]},
        "links.schedule.0.partition: the partition has all nodes on one",
    ),
    (
        {"schedule": [{"at_s": 1, "partition": "0,1:1"}]},
        "links.schedule.0.partition: the partition names node 1 twice",
    ),
    ({"schedule": [{"at_s": 1, "partition": 62}]}, "links.schedule.0.partition: node 62 does not exist"),
    ({"schedule": [{"at_s": 1, "isolate": [7]}]}, "links.schedule.0.isolate: node 7 does not exist"),
    (
        {"schedule": [{"at_s": 1, "trace": "lte-drvie"}]},
        "links.schedule.0.trace: no trace named 'lte-drvie': did you mean",
    ),
    ({"schedule": [{"at_s": 1, "trace": "nowhere.csv"}]}, "links.schedule.0.trace: no trace file at nowhere.csv"),
    ({"schedule": [{"at_s": 1, "trace": 3}]}, "links.schedule.0.trace: a trace is a name"),
    ({"schedule": {"at_s": 1}}, "links.schedule:"),
    ({"regions": {"nodes": ["us-east-1"]}}, "links.regions.nodes: is for 1 nodes, but the run has 4"),
    ({"regions": {"nodes": ["us-east-1", "moon", "moon", "moon"]}}, "links.regions: aws has no region 'moon'"),
    ({"regions": {"matrix": "azzure", "nodes": ["x"]}}, "links.regions.matrix: no matrix named 'azzure'"),
    ({"delays_ms": [[0, 1], [1, 0]]}, "links.delays_ms: is for 2 nodes, but the run has 4"),
    ({"delays_ms": [[0, 1], [1]]}, "links.delays_ms"),
    ({"delays": "x.csv", "delays_ms": [[0]]}, "links: delays and delays_ms say the same thing twice"),
    ({"losses_percent": [[0] * 4] * 4}, "links: losses_percent belongs to delays_ms"),
    (
        {"delays_ms": [[0] * 4] * 4, "regions": {"nodes": ["us-east-1"] * 4}},
        "links: regions and delays_ms say the same",
    ),
    ({"delays": "nowhere.csv"}, "links.delays"),
    ({"stack": {"congestion": "bbr"}}, "links.stack"),
    (
        {"delay_ms": 10, "jitter_ms": 50},
        "links.profile: jitter_ms: a jitter of 50 ms (uniform) does not fit",
    ),
    (
        {"edges": {"0>1": {"delay_ms": 10, "jitter_ms": 6, "jitter_distribution": "normal"}}},
        "links.edges.0>1: jitter_ms: a jitter of 6 ms (normal) does not fit a delay of 10 ms",
    ),
    ({"delay_ms": 10, "jitter_order": "reorder"}, "links.profile: jitter_order: reorder needs a jitter_ms"),
    (
        {"delay_ms": 10, "jitter_ms": 5, "jitter_correlation_percent": 25},
        "links.profile: jitter_correlation_percent is of jitter that each packet draws by itself",
    ),
    (
        {"profile": {"delay_ms": 50, "jitter_ms": 20}, "schedule": [{"at_s": 1, "trace": "short.csv", "for_s": 2}]},
        "links.schedule.0: short at 1 s: jitter_ms: a jitter of 20 ms (uniform) does not fit a delay of 5 ms",
    ),
    (
        {
            "profile": {"delay_ms": 10, "jitter_ms": 10},
            "schedule": [
                {
                    "at_s": 1,
                    "ramp_s": 2,
                    "profile": {"delay_ms": 100, "jitter_ms": 10, "jitter_distribution": "normal"},
                }
            ],
        },
        "links.schedule.0: on the way from delay_ms 10, jitter_ms 10 to ",
    ),
    ({"nodes": {9: "lte"}}, "links.nodes: node 9 does not exist: the nodes are 0 to 3"),
]


@pytest.mark.parametrize(("links", "said"), MISTAKES, ids=lambda value: str(value)[:60])
def test_every_mistake_is_one_line_with_the_fields_path(
    links: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short.csv").write_text("time_s,delay_ms\n0,50\n1,5\n")
    with pytest.raises(SpecError) as error:
        run(links)
    message = str(error.value)
    assert message.startswith(f"my.yaml: {said}"), message
    assert len(message.splitlines()) == 1, message


def test_a_loop_needs_an_end() -> None:
    links = {"schedule": [{"at_s": 1, "trace": "lte-walk", "loop": True}]}
    with pytest.raises(SpecError, match=r"links.schedule.0.loop: a trace that loops needs an end: give for_s"):
        run(links, stop={"steps": 10})
    links["schedule"][0]["for_s"] = 45
    assert run(links, stop={"steps": 10}).links_over_time[1][-1].at_s == 46
    once = {"schedule": [{"at_s": 1, "trace": "lte-walk", "loop": False}]}
    assert run(once, stop={"steps": 10}).links_over_time[1][-1].at_s == 31


def test_a_trace_loops_and_keeps_as_it_says_itself_or_as_the_entry_does(tmp_path: Path) -> None:
    (tmp_path / "gap.down").write_text("100\n900\n1000\n")
    (tmp_path / "gap.csv").write_text("# duration_s: 1\ntime_s,down\n0,1Mbit\n0.1,0\n0.9,2Mbit\n")
    for name, loops, keeps in (("gap.down", True, True), ("gap.csv", False, False)):
        for loop in (None, True, False):
            for outages in (None, "keep", "drop"):
                own = {"loop": loop, "outages": outages}
                entry = {"at_s": 1, "trace": str(tmp_path / name), "nodes": [0], "for_s": 40}
                entry |= {key: value for key, value in own.items() if value is not None}
                found = [state for _, state, _ in states({"schedule": [entry]})]
                again = sum((0, "down") in state.held or (1, 0) in state.cut for state in found)
                assert again == (40 if (loops if loop is None else loop) else 1), entry
                assert any(s.held for s in found) == (outages == "keep" or (outages is None and keeps)), entry


def test_a_constant_trace_is_the_constant_link_for_any_length(tmp_path: Path) -> None:
    """The plans of every node, of a file of one line, of five, and of a thousand rows, against those of a profile."""
    (tmp_path / "one").write_text("1\n")
    (tmp_path / "five").write_text("0\n1\n2\n3\n4\n")
    rows = "".join(f"{n},12Mbit IP\n" for n in range(1000))
    (tmp_path / "rows").write_text(f"# loop: yes\ntime_s,rate\n{rows}")
    addresses = [f"10.0.0.{rank + 1}" for rank in range(4)]
    for name, rate in (("one", "12Mbit IP"), ("five", "15Mbit IP"), ("rows", "12112kbit")):
        for stop in ({"steps": 10}, {"seconds": 86_400}):
            entry = {"at_s": 0, "trace": str(tmp_path / name)}
            spec = run({"profile": "lte", "schedule": [entry]}, stop=stop)
            _, (change,) = spec.links_over_time
            constant = run({"rate": rate, "delay_ms": 35}).links_over_time[0]
            plans, expected = (links.plans(addresses, ["mesh0"] * 4, 1) for links in (change.links, constant))
            assert plans == expected and change.name == ""


def test_the_virtual_fabric_says_what_it_has_no_model_of() -> None:
    virtual = {"fabric": "virtual", "pace_ms": 5}
    trace = {"schedule": [{"at_s": 1, "trace": "starlink", "nodes": [1]}]}
    with pytest.raises(SpecError, match="rate, delay and jitter in order only, and starlink has loss 20%"):
        run(trace, **virtual)
    assert run({"schedule": [{"at_s": 1, "isolate": [1]}, {"at_s": 2, "trace": "lte-drive"}]}, **virtual)


def test_a_profile_s_fields_may_stand_in_its_place() -> None:
    fields = {"rate": "10Mbit", "delay_ms": 50, "jitter_ms": 2, "loss_percent": 0.5}
    found = run({**fields, "nodes": {1: "lte"}, "edges": {"0>1": {"delay_ms": 7}}}).links
    assert found.profile == run({"profile": fields}).links.profile
    assert (found.profile.up_bps, found.profile.down_delay_ms, found.profile.loss_percent) == (10_000_000, 50.0, 0.5)
    assert found.nodes == {1: load_profile("lte")} and found.edges[0, 1].delay_ms == 7
    assert found.describe() == (
        "rate 10Mbit, delay_ms 50, jitter_ms 2, loss_percent 0.5, node 1: lte, 0→1: delay_ms 7"
    )
    assert RunSpec.model_validate(run(fields).model_dump(mode="json")).links == run(fields).links


def test_arms_change_fields_and_replace_them_by_a_profile() -> None:
    links = {"as it is": {}, "far": {"delay_ms": 200}, "lte": "lte", "named": {"profile": "lte"}}
    arms = {name: {"links": each} for name, each in links.items()}
    found = resolve({**BASE, "links": {"rate": "10Mbit", "delay_ms": 50}, "arms": arms}, "my.yaml").arms
    assert [(arm.links.profile.up_bps, arm.links.profile.delay_ms) for arm in found.values()][:2] == [
        (10_000_000, 50.0),
        (10_000_000, 200.0),
    ]
    assert found["lte"].links == found["named"].links and found["lte"].links.profile == load_profile("lte")


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ({"rate": "10MB"}, r"links\.profile: rate: '10MB' is not a rate"),
        ({"rate": "10Mbit", "delay": 5}, r"links: unknown delay; allowed: profile, .*delay_ms"),
        ({"profile": "lte", "delay_ms": 5}, "links: profile and delay_ms say twice what the links are"),
        ({"nodes": {1: {"delay_ms": -1}}}, r"links\.nodes\.1: delay_ms: "),
        ({"profile": {"delays": 1}}, r"links\.profile: 'delays' is no field: did you mean delay_ms"),
    ],
)
def test_a_mistake_in_fields_is_named_as_it_is_written(links: dict[str, Any], expected: str) -> None:
    with pytest.raises(SpecError, match=expected) as error:
        run(links)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("groups", ["1:2", "0:1", "0:2", "1,0:2"])
def test_an_unquoted_partition_of_two_nodes_is_that(tmp_path: Path, groups: str) -> None:
    """YAML 1.1 reads 1:2 as 62."""
    path = tmp_path / "cut.yaml"
    schedule = f"[{{at_s: 5, partition: {groups if ',' not in groups else repr(groups)}}}]"
    head = "{name: x, nodes: 3, algorithm: {name: local}, stop: {steps: 1}, links: {schedule: "
    path.write_text(f"{head}{schedule}}}}}")
    right = run({"schedule": [{"at_s": 5, "partition": groups}]}, nodes=3).links_over_time
    assert len(right[1]) == 1
    for spec in (load_spec(path), load_spec(path, [f"links.schedule={schedule}"])):
        assert spec.arms["run"].links_over_time == right


@pytest.mark.parametrize("word", ["on", "no", "1e3x", "010", "12"])
def test_names_that_yaml_1_1_takes_for_something_else_are_names(tmp_path: Path, word: str) -> None:
    """Of arms, in what is recorded of a comparison, and in what --set gives."""
    path = tmp_path / "x.yaml"
    path.write_text(
        f"{{label: {word!r}, algorithm: {{name: local}}, stop: {{steps: 0x10}}, arms: {{{word!r}: {{}}}}}}"
    )
    spec = load_spec(path)
    recorded = tmp_path / "recorded.yaml"
    write_yaml(recorded, spec.whole())
    again = load_spec(recorded)
    assert list(again.arms) == [word] and again.arms[word].label == word and again.arms[word].stop.steps == 16
    if word in ("on", "no"):
        assert load_spec(path, [f"label={word}"]).arms[word].label == word


def test_words_are_still_booleans_where_a_boolean_is_wanted() -> None:
    for word, value in (("yes", True), ("off", False), ("true", True)):
        (arm,) = load_spec(
            {**BASE, "links": {}}, ["data.name=mnist", "data.root=x", f"data.download={word}"]
        ).arms.values()
        assert arm.data.download is value
