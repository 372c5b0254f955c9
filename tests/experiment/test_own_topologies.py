"""A topology of one's own: it travels with the spec, every round of it is checked, and nodes mix by its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.experiment.checks import check_plugins
from gannet.experiment.job import job_of
from gannet.ledger.reader import read_run
from gannet.node.config import NodeConfig
from gannet.node.plugins import PluginError, with_source
from gannet.node.topologies.custom.config import PythonTopologyConfig
from gannet.node.topologies.topology import Topology
from gannet.node.traffic.exchange import exchange_edges, exchange_traffic
from gannet.spec.load import SpecError, resolve
from gannet.spec.run_spec import ComparisonSpec
from tests.support.runs import play

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "my_topology.py"
RING = """
import numpy as np
from gannet import Graph, Settings

class Ring(Graph):
    class Settings(Settings):
        turn: bool = False

    def matrix(self, number):
        w = np.zeros((self.world, self.world))
        for i in range(self.world):
            for j in (i - 1, i, i + 1):
                w[i, j % self.world] += 1 / 3
        return w
"""


def own(text: str, **chosen: Any) -> PythonTopologyConfig:
    raw = {"name": "python", "file": "mine.py", "settings": chosen}
    return PythonTopologyConfig.model_validate(with_source(raw, text))


def weights(body: str, period: object = 1) -> PythonTopologyConfig:
    return own(
        f"import numpy as np\nfrom gannet import Graph\nclass Mine(Graph):\n    period = {period!r}\n"
        f"    def matrix(self, number):\n        return {body}\n"
    )


def spec_with(folder: Path, text: str, **more: Any) -> ComparisonSpec:
    (folder / "mine.py").write_text(text, encoding="utf-8")
    raw = {
        "fabric": "virtual", "pace_ms": 10, "nodes": 4, "task": {"name": "game"}, "stop": {"steps": 3}, "score": None,
        "algorithm": {"name": "dp-oadam"}, "topology": {"name": "python", "file": "mine.py"}, **more,
    }  # fmt: skip
    return resolve(raw, str(folder / "spec.yaml"))


def test_the_example_runs_from_the_command_line_and_mixes_by_its_matrices(tmp_path: Path) -> None:
    """With a learning rate that is 0 from step 3 on, x of each step is W times x of the step before."""
    text = EXAMPLE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    sets = ["stop.steps=12", "snapshot_every=1", "optimizer.decay_steps=2", "optimizer.learning_rate=0.1"]
    argv = ["compare", str(EXAMPLE.with_suffix(".yaml")), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*argv, *(word for each in sets for word in ("--set", each))])
    torch.set_num_threads(1)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "run" / "clusters" / "seed-1"
    facts = read_run(folder).summary.topology
    assert facts is not None and facts.name == "my_topology.py (every 3)" and facts.spectral_gap == 1
    assert (folder / "my_topology.py").read_text(encoding="utf-8") == text
    assert yaml.safe_load((folder / "spec.yaml").read_text(encoding="utf-8"))["topology"]["source"] == text

    def states(step: int) -> np.ndarray:
        files = [folder / "snapshots" / f"step-{step:06d}" / f"node-{rank}.safetensors" for rank in range(6)]
        return np.stack([load_file(file)["x"].double().numpy() for file in files])

    third = 1 / 3
    inside, across = np.zeros((6, 6)), np.eye(6)
    inside[:3, :3] = inside[3:, 3:] = third
    for i in range(3):
        across[[i, i, i + 3, i + 3], [i, i + 3, i, i + 3]] = 0.5
    x = states(3)
    assert np.ptp(x, axis=0).max() > 1e-4
    for step in range(4, 12):
        x = (across if step % 3 == 0 else inside) @ x
        np.testing.assert_allclose(states(step), x, atol=1e-6)
    assert np.ptp(states(8), axis=0).max() < 1e-6  # exact after both kinds of rounds


def test_it_travels_as_json_and_trains_as_the_shipped_one_of_the_same_weights(tmp_path: Path) -> None:
    """A ring by hand: the same edges, traffic and deadlines, and but for rounding the same x."""
    mine = spec_with(tmp_path, RING).arms["run"]
    (tmp_path / "mine.py").unlink()
    config = job_of(mine).config
    assert NodeConfig.model_validate_json(config.model_dump_json()) == config
    twin = mine.model_copy(update={"topology": spec_with(tmp_path, RING, topology="ring").arms["run"].topology})
    other = job_of(twin).config
    assert np.allclose(play(job_of(mine))[0].states(3), play(job_of(twin))[0].states(3), rtol=0, atol=1e-7)
    assert exchange_edges(config, 4) == exchange_edges(other, 4)
    assert exchange_traffic(config, 4, 128) == exchange_traffic(other, 4, 128) and config.exchange == other.exchange
    assert Topology(config.topology, 4).rounds_ahead() == Topology("ring", 4).rounds_ahead()


def test_one_player_has_it_alone(tmp_path: Path) -> None:
    mine = {"topology": {"name": "python", "file": "mine.py"}}
    spec = spec_with(tmp_path, RING, topology="complete", players={"generator": mine})
    check_plugins(spec)
    assert play(job_of(spec.arms["run"]))[1].status == "finished"
    assert spec.arms["run"].python_files == {"mine.py": RING}


@st.composite
def doubly_stochastic(draw: st.DrawFn) -> list[np.ndarray]:
    """Rounds that are convex sums of permutations; the identity and one cycle of all nodes make them average."""
    world = draw(st.integers(1, 7))
    rounds = []
    for _ in range(draw(st.integers(1, 4))):
        orders = [
            list(range(world)),
            [*range(1, world), 0],
            *draw(st.lists(st.permutations(range(world)), max_size=4)),
        ]
        shares = np.array([draw(st.floats(0.05, 1)) for _ in orders])
        rounds.append(sum(s * np.eye(world)[order] for s, order in zip(shares / shares.sum(), orders, strict=True)))
    return rounds


@given(doubly_stochastic())
@settings(max_examples=60, deadline=None)
def test_what_nodes_mix_is_w_times_x(rounds: list[np.ndarray]) -> None:
    world = len(rounds[0])
    choice = weights(f"np.array({[w.tolist() for w in rounds]!r})[number - 1]", len(rounds))
    topology = Topology(choice, world)
    x = np.random.default_rng(1).standard_normal((world, 3))
    for number in range(1, 2 * len(rounds) + 1):
        w = rounds[(number - 1) % len(rounds)]
        assert np.array_equal(topology.mixing_matrix(number), w)
        nodes = [topology(rank, number) for rank in range(world)]
        mixed = np.zeros((world, 3))
        for i, node in enumerate(nodes):
            mixed[i] = node.own * x[i]
            for j, weight in node.incoming.items():
                mixed[i] += weight * x[j]
        np.testing.assert_allclose(mixed, w @ x, atol=1e-12)
    assert set(topology.edges()) == {(j, i) for w in rounds for i, j in np.argwhere(w > 0).tolist() if i != j}


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (weights("np.eye(3)"), r"mine\.py: round 1: the matrix has shape \(3, 3\), and 4 nodes need \(4, 4\)"),
        (weights("[[1, 0], [1]]"), r"mine\.py: round 1: not a matrix: "),
        (weights("'ring'"), r"mine\.py: round 1: matrix gave str, which holds no real numbers"),
        (weights("None"), r"mine\.py: round 1: matrix gave NoneType, which holds no real numbers"),
        (weights("np.ones((4, 4)) / 4 + 1j"), r"mine\.py: round 1: matrix gave ndarray, which holds no real numbers"),
        (weights("np.full((4, 4), np.nan)"), r"mine\.py: round 1, row 0: the weight of node 0 is nan"),
        (
            weights("np.ones((4, 4)) / 4 - (number == 2) * np.eye(4)[[2, 1, 0, 3]]", 2),
            r"mine\.py: round 2, row 0: the weight of node 2 is -0\.75: weights are finite and not negative",
        ),
        (
            weights("np.ones((4, 4)) / (4 + 1e-7)"),
            r"mine\.py: round 1, row 0: the weights sum to 0\.999999975",
        ),
        (weights("np.eye(4)[[0, 0, 2, 3]]"), r"mine\.py: round 1, column 0: the weights sum to 2 instead of 1"),
        (weights("np.eye(4)", 2), r"mine\.py: not connected in any round: nodes 1, 2, 3 and node 0 never"),
        (weights("np.eye(4)[[1, 2, 3, 0]]"), r"mine\.py: never averages, the nodes only trade places"),
        (
            weights("np.eye(4)[[1, 2, 3, 0] if number == 1 else [3, 0, 1, 2]]", 2),
            r"mine\.py: never averages, the nodes only trade places",
        ),
        (  # what is left over of 1 by rounding is no weight
            weights("np.eye(4)[[1, 2, 3, 0]] * (1 - 1e-16) + 1e-16 * np.eye(4)"),
            r"mine\.py: never averages, the nodes only trade places",
        ),
        (weights("np.ones((4, 4)) / 4", 0), r"mine\.py: period is a whole number from 1 to 64, not 0"),
        (weights("np.ones((4, 4)) / 4", 65), r"mine\.py: period is a whole number from 1 to 64, not 65"),
        (weights("np.ones((4, 4)) / 4", 2.0), r"mine\.py: period is a whole number from 1 to 64, not 2\.0"),
        (weights("np.ones((4, 4)) / 4", True), r"mine\.py: period is a whole number from 1 to 64, not True"),
        (weights("nump.eye(4)"), r"mine\.py:6: NameError: name 'nump'"),
        (
            own("from gannet import Graph\nclass Mine(Graph): pass\n"),
            r"mine\.py: NotImplementedError: Mine has",
        ),
        (own("x = 1\n"), r"mine\.py:1: there is no topology in it: define a class derived from gannet\."),
        (own("def build(settings):\n    return 1\n"), r"mine\.py:1: build\(settings\) cannot be called with two"),
        (own("def build(settings, world):\n    return 1\n"), r"mine\.py: build gave int, which is no topology"),
        (own(RING, hop=2), r"mine\.py: settings: unknown hop; allowed: turn"),
    ],
)
def test_what_is_no_topology_is_one_error_with_file_round_and_row(choice: PythonTopologyConfig, words: str) -> None:
    with pytest.raises(PluginError, match=words) as error:
        Topology(choice, 4)
    assert "\n" not in str(error.value)


def test_sums_may_be_off_by_rounding() -> None:
    assert Topology(weights("np.ones((4, 4)) / (4 + 1e-9)"), 4).period == 1


def test_reading_a_spec_runs_none_of_it_and_a_run_checks_it_first(tmp_path: Path) -> None:
    broken = spec_with(tmp_path, "raise RuntimeError('was run')\n")
    with pytest.raises(PluginError, match=r"mine\.py:1: RuntimeError: was run"):
        check_plugins(broken)
    with pytest.raises(PluginError, match=r"mine\.py: built twice, it gives other weights"):
        check_plugins(
            spec_with(tmp_path, RING.replace("return w", "a = np.random.rand(); return a*w + (1-a)/self.world"))
        )
    changing = RING.replace("    def matrix", "    period = 2\n    def matrix")
    with pytest.raises(SpecError, match=r"in arm run: choco keeps a replica .* which mine\.py is "):
        check_plugins(spec_with(tmp_path, changing, algorithm={"name": "choco"}))
    check_plugins(spec_with(tmp_path, RING, algorithm={"name": "choco"}))


def test_mistakes_in_the_spec_are_reported_with_their_field(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"topology: unknown filed .did you mean file..; allowed: name, file, entry"):
        spec_with(tmp_path, RING, topology={"name": "python", "filed": "mine.py"})
    with pytest.raises(SpecError, match=r"topology: .*a python topology is either a file \(file: my_topology\.py\)"):
        spec_with(tmp_path, RING, topology={"name": "python"})
    with pytest.raises(SpecError, match=r"topology\.file: .*none\.py: no such file"):
        spec_with(tmp_path, RING, topology={"name": "python", "file": "none.py"})


def test_an_installed_entry_point_is_a_topology(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brought_topology.py").write_text(RING, encoding="utf-8")
    info = tmp_path / "brought_topology-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought-topology\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gannet.topologies]\nloop = brought_topology:Ring\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = Topology({"name": "python", "entry": "loop"}, 5)
    np.testing.assert_allclose(found.mixing_matrix(), Topology("ring", 5).mixing_matrix())


def test_the_command_shows_files_and_specs(tmp_path: Path) -> None:
    environment = {"COLUMNS": "120"}
    done = CliRunner().invoke(app, ["topology", f"{EXAMPLE}:every=2", "ring", "-n", "6"], env=environment)
    assert done.exit_code == 0, done.output
    assert "my_topology.py (every 2) 2 2 9/18 2 1.0000 1.0000 0.0000 1.5" in " ".join(done.output.split())
    spec = CliRunner().invoke(app, ["topology", str(EXAMPLE.with_suffix(".yaml"))], env=environment)
    assert spec.exit_code == 0 and "6 nodes" in spec.output, spec.output
    assert "my_topology.py (every 3) 3 2 10/18" in " ".join(spec.output.split())
    for argument, words in {
        f"{EXAMPLE}:every": "write FILE.py:KEY=VALUE",
        f"{EXAMPLE}:evry=2": "unknown evry (did you mean every?); allowed: every",
        str(tmp_path / "none.py"): "no such file",
    }.items():
        wrong = CliRunner().invoke(app, ["topology", argument])
        assert wrong.exit_code == 2 and words in " ".join(wrong.output.split()), wrong.output
