"""Algorithms of one's own: found, declared, run, and the mistakes that `gannet algorithm check` must find."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.experiment import algorithm_check, algorithm_runs
from gannet.experiment.algorithm_check import check_algorithm
from gannet.node.config import NodeConfig
from gannet.node.plugins import PluginError, with_source
from gannet.node.traffic.exchange import exchange_edges, exchange_traffic
from gannet.spec.load import load_spec
from gannet.spec.run_spec import RunSpec

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "my_algorithm.py"
HEAD = """
import torch
from gannet.node.algorithms.collectives import gossip
from gannet.node.methods.base import Method
from gannet.node.topologies.weights import Neighbourhood
from gannet.node.training.effects import PeerLost, Receive, ReceiveFirst, Tag
from gannet.node.training.optimizers import OAdam
from gannet.node.training.worker import Step, Worker

class Mine(Method):
    async def run(self, worker):
        peers = worker.peers
        x = {start}
        oadam = {oadam}
        for k in worker.steps():
            g = await worker.gradient(x)
            x = oadam.step(x, g)
            number = peers.round + 1
            here = worker.neighbours(number)
{mix}
            yield Step(x, g.losses)
"""
GOSSIP = "x = await gossip(peers, x, worker.neighbours)"
SEND = """
tag = Tag(peers.next_round(), 0)
for to in here.outgoing:
    await peers.send(to, tag, peers.codec.encode(x))
"""
RECEIVE = """
mixed = x * here.own
for j, weight in here.incoming.items():
    mixed.add_(await peers.receive(j, tag, len(x)), alpha=weight)
x = mixed
"""
FAULTY = {
    "mean not kept": {
        "mix": """
share = 1 / (1 + len(here.incoming))
def uniform(number):
    return Neighbourhood(share, dict.fromkeys(here.incoming, share), here.outgoing)
x = await gossip(peers, x, uniform)
"""
    },
    "bytes": {"mix": "x = await gossip(peers, x, worker.neighbours, rounds=2)"},
    "undeclared edges": {
        "mix": GOSSIP
        + """
across = (worker.rank + 2) % worker.world
await peers.send(across, Tag(peers.next_round(), 0), peers.codec.encode(x[:1]))
await peers.receive((worker.rank - 2) % worker.world, Tag(peers.round, 0), 1)
"""
    },
    "deadlock": {
        "mix": "tag = Tag(peers.next_round(), 0)"
        + RECEIVE
        + "for to in here.outgoing:\n    await peers.send(to, tag, peers.codec.encode(x))"
    },
    "refused message": {"mix": SEND.replace("peers.next_round()", "1000 + peers.next_round()")},
    "not repeatable": {"mix": GOSSIP + "\nx = x + 1e-3 * torch.randn(len(x))"},
    "depends on timing": {
        "mix": SEND
        + """
wanted, others = [Receive(j, tag) for j in here.incoming], x[:0]
mixed = x * here.own
while wanted:
    n, payload = await ReceiveFirst(tuple(wanted))
    if not isinstance(payload, PeerLost):
        mixed = (mixed + peers.codec.decode(payload)) * (1 + 1e-3)
    wanted.pop(n)
x = mixed / 3
""",
    },
    "not resumable": {"mix": GOSSIP, "oadam": "OAdam(worker.task, worker.config.optimizer, x)"},
    "PeerLost not caught": {"mix": SEND + RECEIVE},
    "hangs without a peer": {
        "mix": SEND
        + """
mixed = x * here.own
for j, weight in here.incoming.items():
    while True:
        try:
            mixed.add_(await peers.receive(j, tag, len(x)), alpha=weight)
            break
        except PeerLost:
            pass
x = mixed
"""
    },
    "error without a peer": {
        "mix": SEND
        + """
mixed = x * here.own
for j, weight in here.incoming.items():
    try:
        mixed.add_(await peers.receive(j, tag, len(x)), alpha=weight)
    except PeerLost:
        mixed.add_(last_known[j], alpha=weight)
x = mixed
"""
    },
    "error": {"mix": "x = x[here.nothing]"},
}
KEPT = 'worker.keep("oadam", OAdam(worker.task, worker.config.optimizer, x))'


def text_of(mix: str = GOSSIP, start: str = "worker.start()", oadam: str = KEPT) -> str:
    return HEAD.format(mix=indent(mix.strip(), 12 * " "), start=start, oadam=oadam)


def mine(text: str, **settings: Any) -> dict[str, Any]:
    return with_source({"name": "python", "file": "mine.py", "settings": settings}, text)


def spec_of(algorithm: dict[str, Any], **fields: Any) -> RunSpec:
    task = {"name": "game", "dimension": 8}
    return RunSpec.model_validate(
        {"algorithm": algorithm, "task": task, "nodes": 5, "pace_ms": 20, "stop": {"steps": 4}, **fields}
    )


@pytest.mark.parametrize("name", FAULTY)
def test_every_kind_of_mistake_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(algorithm_check, "play", lambda *a: algorithm_runs.play(*a, limit_s=4.0))
    findings = check_algorithm(spec_of(mine(text_of(**FAULTY[name]))))
    assert name in [finding.name for finding in findings], findings
    assert all(finding.what and finding.fix for finding in findings)
    if name.startswith("error"):
        assert "mine.py:" in findings[0].what


@pytest.mark.parametrize(
    "algorithm",
    [
        {"name": "local"},
        {"name": "dp-oadam", "rounds": 2, "overlap": True},
        {"name": "dposg"},
        {"name": "cp-oadam", "every": 3},
        {"name": "cp-oadam", "collective": "ring", "average": "gradients"},
        {"name": "fedgan", "every": 4},
        {"name": "diloco", "every": 5},
        {"name": "gossip-pga", "global_every": 4},
        {"name": "sgp"},
        {"name": "choco"},
        {"name": "deepsqueeze"},
        {"name": "power-gossip"},
        {"name": "ad-psgd"},
        mine(EXAMPLE.read_text(), every=2, gamma=0.7),
        mine(text_of()),
    ],
    ids=lambda algorithm: algorithm["name"],
)
def test_nothing_is_found_where_nothing_is_wrong(algorithm: dict[str, Any]) -> None:
    assert check_algorithm(spec_of(algorithm)) == []


def test_a_graph_that_changes_is_looked_at_over_its_period() -> None:
    spec = spec_of(mine(text_of()), topology="one-peer-exponential", nodes=6)
    assert check_algorithm(spec) == []


def test_the_command_checks_the_example_and_finds_a_mistake(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["algorithm", "check", str(EXAMPLE), "--settings", "gamma=1", "--nodes", "4"])
    assert found.exit_code == 0 and "my_algorithm.py: no mistakes found" in found.output
    (tmp_path / "mine.py").write_text(text_of(**FAULTY["bytes"]))
    found = CliRunner().invoke(app, ["algorithm", "check", str(tmp_path / "mine.py")])
    assert found.exit_code == 1 and "bytes: node 0 sent" in found.output and "fix:" in found.output
    found = CliRunner().invoke(app, ["algorithm", "check", str(tmp_path / "other.py")])
    assert found.exit_code == 1 and "no such file" in found.output


def test_the_example_runs_next_to_shipped_methods(tmp_path: Path) -> None:
    for name in ("my_algorithm.py", "my_algorithm.yaml"):
        shutil.copy(EXAMPLE.parent / name, tmp_path)
    ran = CliRunner().invoke(app, ["compare", str(tmp_path / "my_algorithm.yaml"), "--out", str(tmp_path / "out")])
    assert ran.exit_code == 0, ran.output
    summary = json.loads((tmp_path / "out/lazy/seed-1/summary.json").read_text())
    gossip = json.loads((tmp_path / "out/gossip/seed-1/summary.json").read_text())
    assert summary["algorithm"] == "my_algorithm.py" and summary["trusted"]
    assert summary["bytes_codec"] * 2 == gossip["bytes_codec"] > 0  # every second step
    bound, median = summary["lower_bound_s"]["total_s"], summary["step_s"]["median"]
    assert 0 < bound < gossip["lower_bound_s"]["total_s"] and bound <= 1.01 * max(median, summary["step_s"]["mean"])
    (tmp_path / "my_algorithm.py").unlink()  # a recorded spec has the text
    again = load_spec(tmp_path / "out" / "spec.yaml").arms["lazy"]
    assert again.algorithm.traits.exchange_every == 2


def test_traffic_and_edges_are_the_declared_ones() -> None:
    text = text_of() + "    gossips = False\n    @property\n    def averages(self):\n        return 'server'\n"
    config = NodeConfig.model_validate({"run": "r", "algorithm": mine(text), "task": {"name": "game"}})
    assert exchange_edges(config, 3) == ((0, 1), (0, 2), (1, 0), (2, 0))
    assert exchange_traffic(config, 3, 100).sent == (800, 400, 400)


@pytest.mark.parametrize(
    ("text", "settings", "what"),
    [
        ("x = 1\n", {}, r"mine.py:1: there is no algorithm in it"),
        ("import nothing_of_that_name\n", {}, r"mine.py:1: ModuleNotFoundError"),
        (EXAMPLE.read_text(), {"gama": 1}, r"algorithm.settings: unknown gama; mine.py allows every, gamma"),
        (EXAMPLE.read_text(), {"gamma": 2}, r"algorithm.settings.gamma: .*at most 1 \(got 2\)"),
        (text_of().replace("Mine(Method):", "Mine(Method):\n    name: str = 'mine'"), {}, "remove it"),
    ],
)
def test_what_cannot_be_loaded_is_told_with_its_place(text: str, settings: dict[str, Any], what: str) -> None:
    spec = spec_of(mine(text, **settings))  # reading a spec runs no code of a user's
    with pytest.raises(PluginError, match=what):
        spec.check_algorithms()


def test_needs_are_checked_before_a_run() -> None:
    spec = spec_of(mine(text_of() + "    symmetric_graph = True\n"), topology="exponential")
    with pytest.raises(ValueError, match=r"mine.py needs symmetric weights"):
        spec.check_algorithms()
    spec = spec_of(mine(text_of()), codec="qsgd-4bit")
    with pytest.raises(ValueError, match=r"mine\.py exchanges parameters"):
        spec.check_algorithms()


def test_a_text_that_was_changed_is_refused() -> None:
    with pytest.raises(ValidationError, match="it was changed"):
        spec_of({**mine(text_of()), "source": text_of(mix="pass")})


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (text_of().replace("yield Step(x, g.losses)", "yield x"), "yielded Tensor at step 1"),
        (text_of().replace("yield Step(x,", "yield Step(x[1:],"), "the x of step 1 is"),
        (text_of().replace("yield Step(x, g.losses)", "return\n            yield"), "ended by itself after step 0"),
        (text_of().replace("yield Step(x, g.losses)", "pass"), "no async generator"),
    ],
)
def test_steps_that_are_none_are_told(text: str, what: str) -> None:
    (finding,) = check_algorithm(spec_of(mine(text)))
    assert finding.name == "error" and what in finding.what and "mine.py" in finding.what


def test_an_entry_point_is_an_algorithm_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lazy_gossip.py").write_text(EXAMPLE.read_text())
    meta = tmp_path / "lazy_gossip-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: lazy-gossip\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text("[gannet.algorithms]\nlazy-gossip = lazy_gossip:LazyGossip\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = spec_of({"name": "python", "entry": "lazy-gossip", "settings": {"every": 3}})
    assert spec.algorithm.traits.exchange_every == 3 and spec.algorithm.title == "lazy-gossip"
    assert check_algorithm(spec) == []
