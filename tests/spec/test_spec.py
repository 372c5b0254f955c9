"""Specs: what is accepted, and that every mistake names its field, what it got and what is allowed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.spec.load import SpecError, load_spec, resolve, shipped_specs
from gannet.spec.run_spec import RunSpec
from gannet.spec.select import some_arms

BASE: dict[str, Any] = {"algorithm": {"name": "dp-oadam"}, "stop": {"steps": 10}}


def spec(overrides: list[str] | None = None, **changes: Any) -> Any:
    return resolve({**BASE, **changes}, "my.yaml", overrides or [])


def mistake(overrides: list[str] | None = None, **changes: Any) -> str:
    with pytest.raises(SpecError) as error:
        spec(overrides, **changes)
    return str(error.value)


@pytest.mark.parametrize("name", shipped_specs())
def test_shipped_specs_are_valid(name: str) -> None:
    comparison = load_spec(name)
    assert comparison.runs()
    for run in comparison.runs():  # a resolved run is itself a valid spec
        again = RunSpec.model_validate(yaml.safe_load(yaml.safe_dump(run.model_dump(mode="json"))))
        assert again == run


def test_defaults_make_one_run() -> None:
    runs = spec().runs()
    assert [(run.arm, run.seed, run.nodes) for run in runs] == [("run", 1, 4)]


def test_arms_override_and_seeds_multiply() -> None:
    comparison = spec(
        seeds=[1, 2],
        batch=8,
        arms={"a": {"codec": "fp16"}, "b": {"algorithm": {"every": 3}}, "c": {"algorithm": {"name": "local"}}},
    )
    runs = comparison.runs()
    assert [(run.arm, run.seed) for run in runs] == [("a", 1), ("b", 1), ("c", 1), ("a", 2), ("b", 2), ("c", 2)]
    a, b, c = runs[:3]
    assert (a.codec, a.batch, b.algorithm.every, b.algorithm.name) == ("fp16", 8, 3, "dp-oadam")
    assert c.algorithm.name == "local"


def test_another_algorithm_replaces_the_base_one_with_its_settings() -> None:
    run = spec(algorithm={"name": "dp-oadam", "overlap": True}, arms={"c": {"algorithm": {"name": "cp-oadam"}}})
    assert run.arms["c"].algorithm.name == "cp-oadam"


def test_the_command_line_wins_over_arms() -> None:
    comparison = spec(["codec=bf16", "stop.steps=3", "arms.a.batch=2"], arms={"a": {"codec": "fp16"}, "b": None})
    assert [arm.codec for arm in comparison.arms.values()] == ["bf16", "bf16"]
    assert comparison.arms["a"].stop.steps == 3
    assert (comparison.arms["a"].batch, comparison.arms["b"].batch) == (2, 16)


MISTAKES = [
    ({"nodes": "four"}, ["my.yaml", "nodes", "'four'", "whole number"]),
    ({"nodes": 0}, ["nodes", "0", "at least 1"]),
    ({"nodez": 4}, ["unknown nodez", "nodes"]),
    ({"algorithm": {"name": "dp-adam"}}, ["algorithm", "dp-adam", "dp-oadam"]),
    ({"algorithm": {"name": "dp-oadam", "evry": 2}}, ["algorithm", "evry", "every"]),
    ({"algorithm": {"name": "dp-oadam", "every": 0}}, ["algorithm.every", "0"]),
    ({"algorithm": {"name": "cp-oadam", "average": "gradients", "every": 2}}, ["every"]),
    ({"topology": "rign"}, ["topology", "'rign'", "ring"]),
    ({"codec": "fp8"}, ["codec", "'fp8'", "fp16"]),
    ({"links": "3g-slwo"}, ["links", "3g-slwo", "did you mean 3g-slow"]),
    ({"links": {"profile": {"down": "10 apples"}}}, ["links.profile", "10 apples", "Mbit"]),
    ({"links": {"profile": "lte", "nodes": {7: "2g"}}}, ["node 7", "0 to 3"]),
    ({"links": {"profile": "lte", "edges": {"0-1": "2g"}}}, ["edges", "SENDER>RECEIVER"]),
    ({"links": {"profile": "lte", "schedule": [{"at_s": -1, "profile": "2g"}]}}, ["schedule.0.at_s", "-1"]),
    ({"stop": {}}, ["stop", "steps, seconds or score"]),
    ({"stop": {"score": 10}}, ["stop", "may never be reached"]),
    ({"seeds": []}, ["seeds", "[1, 2, 3]"]),
    ({"seeds": [1, 1]}, ["seeds", "each seed once"]),
    ({"fabric": "virtual"}, ["pace_ms"]),
    ({"device": "gpu"}, ["device", "'gpu'", "cuda"]),
    ({"name": "../up"}, ["name", "folder"]),
    ({"arms": {}}, ["arms", "at least one"]),
    ({"arms": {"a": 3}}, ["arms.a", "3"]),
    ({"arms": {"a": {}, "b": {"batch": "x"}}}, ["in arm b", "batch", "'x'"]),
    ({"data": {"name": "mnist"}}, ["data", "root"]),
    ({"arms": {"a": {"seed": 7}}}, ["arms.a.seed", "whole comparison"]),
    ({"links": {"profile": "lte", "edges": {"1>1": "2g"}}}, ["1>1", "itself"]),
    ({"algorithm": {"name": "ddp"}, "fabric": "virtual", "pace_ms": 5}, ["ddp", "gloo", "fabric: namespaces"]),
    ({"algorithm": {"name": "ddp"}, "codec": "fp16"}, ["codec fp16", "ddp", "algorithm.hook"]),
    ({"players": {"teacher": {}}}, ["players.teacher", "no such player", "generator, discriminator"]),
    ({"players": {"generator": {"codec": "sign"}}}, ["players.generator: codec sign", "dp-oadam", "choco"]),
    ({"players": {"generator": {"topology": "hypercube"}}, "nodes": 3}, ["players.generator", "hypercube"]),
    ({"players": {"generator": {"topology": "rign"}}}, ["players.generator.topology", "'rign'", "ring"]),
    (
        {"players": {"generator": {"algorithm": {"name": "dp-oadam", "every": 0}}}},
        ["players.generator.algorithm.every"],
    ),
    (
        {"players": {"generator": {"algorithm": {"name": "md-gan"}}}},
        ["players.generator: md-gan", "use one of choco, cp-oadam"],
    ),
    ({"algorithm": {"name": "ddp", "hook": "bf16"}}, ["algorithm.hook", "'bf16'", "powersgd"]),
    ({"algorithm": {"name": "ddp", "powersgd_rank": 2}}, ["powersgd_rank belongs to hook powersgd"]),
    ({"algorithm": {"name": "ddp", "hook": "powersgd", "start_powersgd_iter": 1}}, ["start_powersgd_iter", "2"]),
    ({"fabric": "virtual", "pace_ms": 5, "links": "3g-lossy"}, ["3g-lossy", "rate, delay and jitter in order only"]),
    (
        {"fabric": "virtual", "pace_ms": 5, "links": {"rate": "1Mbit", "down_queue": "shared"}},
        ["down_queue shared", "rate, delay and jitter"],
    ),
    (
        {"fabric": "virtual", "pace_ms": 5, "links": {"rate": "1Mbit", "queue": "codel"}},
        ["queue codel", "rate, delay and jitter"],
    ),
    ({"on_loss": "ignore"}, ["on_loss", "continue", "reform", "stop"]),
    ({"on_loss": "reform"}, ["on_loss: algorithm dp-oadam has no average", "use continue or stop"]),
    ({"on_loss": "continue", "algorithm": {"name": "ddp"}}, ["on_loss: algorithm ddp averages over all nodes"]),
    (
        {"on_loss": "continue", "algorithm": {"name": "cp-oadam", "collective": "ring"}},
        ["on_loss: algorithm cp-oadam around a ring", "averages over all nodes", "stop"],
    ),
    (
        {"on_loss": "continue", "players": {"generator": {"algorithm": {"name": "diloco"}}}},
        ["on_loss: algorithm diloco around a ring"],
    ),
    ({"on_loss": "stop", "return_after_s": 5}, ["on_loss: stop", "come back", "leave out return_after_s"]),
    ({"on_loss": "stop", "on_not_finite": "reset"}, ["on_loss: stop", "leave out on_not_finite: reset"]),
    ({"return_after_s": 0.5}, ["return_after_s", "1"]),
    ({"return_after_s": 5, "fabric": "compose"}, ["return_after_s", "compose", "fabric: namespaces"]),
    ({"on_not_finite": "ignore"}, ["on_not_finite", "leave", "reset", "stop"]),
    ({"on_not_finite": "reset", "fabric": "compose"}, ["on_not_finite: reset", "compose", "fabric: namespaces"]),
    ({"on_not_finite": "reset", "algorithm": {"name": "sgp"}}, ["cannot come back", "sgp"]),
    ({"join_at_s": {4: 5}}, ["join_at_s.4: there is no such node", "0 to 3"]),
    ({"join_at_s": {0: 5}}, ["join_at_s.0", "let another one join"]),
    ({"join_at_s": {1: 0}}, ["join_at_s.1", "more than 0"]),
    ({"join_at_s": {1: 60}, "stop": {"seconds": 60}}, ["join_at_s.1: at 60 s the run is over"]),
    ({"join_at_s": {1: 5}, "fabric": "compose"}, ["join_at_s", "compose", "fabric: namespaces"]),
    ({"join_at_s": {1: 5}, "on_loss": "stop"}, ["on_loss: stop", "leave out join_at_s"]),
    (
        {"join_at_s": {1: 5}, "algorithm": {"name": "cp-oadam", "collective": "ring"}},
        ["join_at_s: algorithm cp-oadam averages over all nodes", "collective: server"],
    ),
    ({"join_at_s": {1: 5}, "algorithm": {"name": "sgp"}}, ["cannot come back", "sgp"]),
    ({"join_at_s": {1: 5, 3: 5}}, ["join_at_s", "node 0 does not reach node 2", "another topology"]),
    ({"return_after_s": 5, "algorithm": {"name": "sgp"}}, ["cannot come back", "sgp"]),
    ({"return_after_s": 5, "players": {"generator": {"algorithm": {"name": "sgp"}}}}, ["cannot come back", "sgp"]),
]


@pytest.mark.parametrize(("changes", "words"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes_are_named(changes: dict[str, Any], words: list[str]) -> None:
    message = mistake(**changes)
    assert [word for word in words if word not in message] == [], message
    assert len(message.splitlines()) == 1, message


def test_several_mistakes_are_all_said_once() -> None:
    message = mistake(nodes=0, batch=-1, arms={"a": {}, "b": {}})
    assert len(message.splitlines()) == 2 and "nodes" in message and "batch" in message
    assert "in arm" not in message


def test_a_seed_on_the_command_line_replaces_the_specs_seeds() -> None:
    assert spec(["seed=5"], seeds=[1, 2]).seeds == (5,)
    assert spec(["seeds=[3, 4]"], seed=1).seeds == (3, 4)


def test_an_override_of_an_arm_that_is_not_there() -> None:
    assert "it has a" in mistake(["arms.b.codec=fp16"], arms={"a": {}})


@pytest.mark.parametrize("text", ["nodes", "=3", "nodes=[1", "a.b.c=1"])
def test_bad_overrides(text: str) -> None:
    assert text.split("=")[0].split(".")[0] in mistake([text])


@given(st.dictionaries(st.text(max_size=8), st.recursive(st.none() | st.integers() | st.text(max_size=5),
       lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)),
       max_size=5))  # fmt: skip
def test_whatever_is_in_the_file_there_is_one_kind_of_error(raw: dict[str, Any]) -> None:
    try:
        resolve({**BASE, **raw}, "my.yaml")
    except SpecError as error:
        assert str(error).startswith("my.yaml")


def test_files_that_are_no_specs(tmp_path: Path) -> None:
    twice = ("a: 1\nb: 2\na: 3", "line 3: 'a' appears twice")
    for text, word in [("a: [", "not YAML"), twice, ("- 1", "a mapping"), ("", "a mapping")]:
        path = tmp_path / "x.yaml"
        path.write_text(text)
        with pytest.raises(SpecError, match=word):
            load_spec(path)
    with pytest.raises(SpecError, match=r"shipped: .*demo"):
        load_spec("demmo")


def test_checking_a_spec_needs_no_torch() -> None:
    """The sandbox must be entered by a process of one thread, so nothing heavy may be imported before."""
    code = "import sys, gannet.cli.main; print([m for m in ('torch', 'numpy', 'grpc') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_whole_spec_says_the_same_when_it_is_read_again(tmp_path: Path) -> None:
    """A comparison travels to its controller, and into its ledger, as a file with every field spelled out."""
    links = {
        "profile": "demo-10mbit",
        "nodes": {2: "3g-slow"},
        "edges": {"0>3": {"rate": "1Mbit", "delay_ms": 70}},
        "schedule": [{"at_s": 5, "profile": "3g-fast", "nodes": [1]}],
    }
    arms = {
        "a": {"algorithm": {"name": "cp-oadam", "collective": "ring", "every": 3}},
        "b": {"codec": "fp16", "nodes": 6},
    }
    comparison = spec(links=links, arms=arms, seeds=[3, 1])
    path = tmp_path / "order.yaml"
    path.write_text(yaml.safe_dump(comparison.whole()))
    assert load_spec(path) == comparison


def test_a_cluster_of_another_size_replaces_the_files_nodes_but_not_an_arms(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump({**BASE, "nodes": 4, "arms": {"a": {}, "b": {"nodes": 2}}}))
    arms = load_spec(path, [], {"nodes": 8}).arms
    assert (arms["a"].nodes, arms["b"].nodes) == (8, 2)


def test_arms_can_differ_in_one_players_settings_and_a_whole_spec_reads_back() -> None:
    critic = {"algorithm": {"name": "choco", "gamma": 0.3}, "codec": "qsgd-4bit"}
    arms = {"a": {}, "b": {"players": {"discriminator": {"codec": "qsgd-8bit"}}}}
    comparison = spec(players={"discriminator": critic}, arms=arms)
    a, b = comparison.arms.values()
    assert a.say(lambda run: run.codec) == "generator fp32, discriminator qsgd-4bit"
    assert b.say(lambda run: run.codec) == "generator fp32, discriminator qsgd-8bit"
    assert b.say(lambda run: run.algorithm.name) == "generator dp-oadam, discriminator choco"
    assert [part.algorithm.name for part in b.methods] == ["dp-oadam", "choco"]
    assert resolve(comparison.whole(), "again") == comparison


def test_arms_are_chosen_once_each() -> None:
    whole = load_spec("demo")
    first, second, *_ = whole.arms
    assert list(some_arms(whole, [second, first]).arms) == [first, second]  # in the spec's own order
    with pytest.raises(SpecError, match=f"arm '{first}' is chosen twice"):
        some_arms(whole, [first, second, first])
    command = ["compare", "demo", "--arms", f"{first}, {first}", "--dry-run"]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, command)
    assert done.exit_code == 2 and "is chosen twice" in done.output
