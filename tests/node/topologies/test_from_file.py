"""Topologies from files and from specs: what they say, what they refuse, and that they travel with the run."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gannet.node.config import NodeConfig
from gannet.node.topologies.from_file import parse
from gannet.node.topologies.rates import consensus_rate
from gannet.node.topologies.registry import NAMES, topology_config
from gannet.node.topologies.topology import Topology
from gannet.spec.load import SpecError, resolve

RING = "# five nodes\n0 1\n1, 2\n2;3\n3\t4\n\n4 0  # and back\n"


def from_text(folder: Path, text: str, world: int) -> Topology:
    path = folder / "graph.txt"
    path.write_text(text)
    return Topology({"name": "file", "path": str(path)}, world)


def test_an_edge_list_gets_metropolis_hastings_weights(tmp_path: Path) -> None:
    found = from_text(tmp_path, RING, 5)
    np.testing.assert_array_equal(found.mixing_matrix(), Topology("ring", 5).mixing_matrix())
    path = from_text(tmp_path, "0 1\n1 2\n1 0\n", 3)
    np.testing.assert_allclose(path.mixing_matrix(), [[2 / 3, 1 / 3, 0], [1 / 3, 1 / 3, 1 / 3], [0, 1 / 3, 2 / 3]])


def test_an_edge_list_with_weights_keeps_the_rest_at_home(tmp_path: Path) -> None:
    found = from_text(tmp_path, "0 1 0.5\n1 2 0.25\n", 3)
    np.testing.assert_allclose(found.mixing_matrix(), [[0.5, 0.5, 0], [0.5, 0.25, 0.25], [0, 0.25, 0.75]])
    assert found.symmetric


@given(st.lists(st.permutations(range(6)), min_size=1, max_size=4), st.integers(0, 2**32))
def test_any_doubly_stochastic_matrix_is_taken_as_it_is(orders: list[list[int]], seed: int) -> None:
    """Birkhoff: mixtures of permutations are all the doubly stochastic matrices there are; here with six digits."""
    shares = np.random.default_rng(seed).dirichlet(np.ones(len(orders) + 2))
    around = np.roll(np.eye(6), 1, axis=0)
    weights = shares[0] * np.eye(6) + shares[1] * around
    weights += sum(share * np.eye(6)[order] for share, order in zip(shares[2:], orders, strict=True))
    text = "\n".join(",".join(f"{value:.8f}" for value in row) for row in weights)
    topology = Topology({"name": "file", "path": "w.csv", "content": text}, 6)
    found = topology.mixing_matrix()
    np.testing.assert_allclose(found, weights, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-13)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-13)


def test_a_directed_graph_that_is_exact_after_two_rounds() -> None:
    """The de Bruijn graph on four nodes, i → 2i and 2i + 1: W² = 11ᵀ/4, though no row of W is uniform."""
    text = "0.5 0.5 0 0\n0 0 0.5 0.5\n0.5 0.5 0 0\n0 0 0.5 0.5\n"
    topology = Topology({"name": "file", "path": "debruijn", "content": text}, 4)
    np.testing.assert_allclose(np.linalg.matrix_power(topology.mixing_matrix(), 2), 0.25)
    from gannet.node.topologies.rates import figures

    assert figures(topology).exact_after == 2 and not topology.symmetric


@pytest.mark.parametrize(
    ("text", "world", "words"),
    [
        ("", 3, "no edges"),
        ("0 1\n1 2\n", 4, "describes 3 nodes.*the run has 4"),
        ("0 1\n2 3\n", 4, "not connected: nodes 2, 3"),
        ("0 2\n", 3, "not connected: node 1 and"),
        ("0 0\n0 1\n", 2, "edge 0 0 goes from a node to itself"),
        ("0 1 0.7\n1 2 0.7\n", 3, "weights of node 1 sum to 1.4"),
        ("0 1 0.5\n1 0 0.4\n", 2, "two weights"),
        ("0 1\n1 2 0.5\n", 3, "some edges have a weight"),
        ("0.5 0.5\n0.4 0.6\n", 2, "not doubly stochastic: column 0 sums to 0.9"),
        ("0.5 0.6\n0.5 0.4\n", 2, "not doubly stochastic: row 0 sums to 1.1"),
        ("0.5 0.5 0\n0.5 0.5 0\n0 0 1\n", 3, "not connected: node 2"),
        ("0.5 0.5 0\n0.5 0.5\n", 3, "row 0 has 3 numbers, and there are 2 rows"),
        ("1.5 -0.5\n-0.5 1.5\n", 2, "weights lie between 0 and 1"),
        ("nan 0.5\n0.5 0.5\n", 2, "weights lie between 0 and 1"),
        ("0.5 x\n0.5 0.5\n", 2, "'x' is no number"),
        ("0.0 1.0 0\n0 0 1.0\n1.0 0 0\n", 3, "only trade places"),
        ("0 1 0.5\n1 2 0.5\n2 3 0.5\n3 0 0.5\n", 4, "only trade places.*weights that sum to less than 1"),
        ("0 1 1\n", 2, "only trade places"),
        ("0 0.5 0 0.5\n0.5 0 0.5 0\n0 0.5 0 0.5\n0.5 0 0.5 0\n", 4, "only trade places"),
        ("0 999999999\n", 2, "too large"),
    ],
)
def test_what_is_no_topology_says_why(tmp_path: Path, text: str, world: int, words: str) -> None:
    with pytest.raises(ValueError, match=rf"graph\.txt: .*{words}"):
        from_text(tmp_path, text, world)


@pytest.mark.parametrize("third", ["0.333333", "0.3333333333333333", "0.3333", "0.25"])
@pytest.mark.parametrize("parts", [1, 2])
def test_weights_are_taken_where_their_eigenvalues_say_that_they_average(
    tmp_path: Path, third: str, parts: int
) -> None:
    """Each of three nodes with each of three others (-1 is an eigenvalue), or of four with one another (-1/3)."""
    pairs = [(i, j) for i in range(3) for j in range(3, 6)] if parts == 2 else list(combinations(range(4), 2))
    world = 6 if parts == 2 else 4
    text = "".join(f"{i} {j} {third}\n" for i, j in pairs)
    w = np.zeros((world, world))
    for i, j in pairs:
        w[i, j] = w[j, i] = float(third)
    rate = np.sort(np.abs(np.linalg.eigvalsh(w + np.diag(1 - w.sum(axis=1)))))[-2]
    if rate > 1 - 1e-5:
        with pytest.raises(ValueError, match="only trade places"):
            from_text(tmp_path, text, world)
    else:
        np.testing.assert_allclose(consensus_rate(from_text(tmp_path, text, world)), rate, atol=1e-6)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read nowhere\.txt: No such file"):
        topology_config({"name": "file", "path": "nowhere.txt"})
    (tmp_path / "noise").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="it is no text"):
        topology_config({"name": "file", "path": str(tmp_path / "noise")})


def spec_of(topology: Any, nodes: int = 5) -> Any:
    raw = {"algorithm": {"name": "dp-oadam"}, "stop": {"steps": 3}, "nodes": nodes, "topology": topology}
    return resolve(raw, "my.yaml").arms["run"]


@pytest.mark.parametrize("choice", [*NAMES, {"name": "base", "degree": 3}, {"name": "ring"}], ids=str)
def test_a_spec_takes_names_and_mappings_and_gives_them_back(choice: Any) -> None:
    spec = spec_of(choice, 8)
    dumped = spec.model_dump(mode="json")["topology"]
    assert dumped == choice or topology_config(dumped) == topology_config(choice)
    assert isinstance(dumped, str) == (len(type(spec.topology).model_fields) == 1)
    assert yaml.safe_load(yaml.safe_dump(dumped)) == dumped


def test_names_alone_are_of_those_that_need_nothing_else() -> None:
    assert not {"file", "python"} & set(NAMES)
    with pytest.raises(SpecError, match=r"topology: .*a python topology is either a file"):
        spec_of("python")


def test_a_file_travels_with_the_run_and_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "graph.txt"
    path.write_text(RING)
    spec = spec_of({"name": "file", "path": str(path)})
    path.unlink()
    config = NodeConfig(run="r", algorithm=spec.algorithm, topology=spec.topology)
    far_away = NodeConfig.model_validate_json(config.model_dump_json())
    assert far_away == config
    assert consensus_rate(Topology(far_away.topology, 5)) == consensus_rate(Topology("ring", 5))
    assert str(spec.topology) == "file (graph.txt)"
    assert resolve(yaml.safe_load(yaml.safe_dump(spec.model_dump(mode="json", exclude={"arm"}))), "again.yaml")


@pytest.mark.parametrize(
    ("topology", "words"),
    [
        ("rign", ["topology: ", "'rign' (did you mean ring?)", "one-peer-exponential"]),
        ({"name": "base", "degree": 0}, ["topology.degree: ", "more than 0", "(got 0)"]),
        ({"name": "base", "dgree": 2}, ["topology: ", "unknown dgree", "degree"]),
        ({"name": "ring", "degree": 2}, ["topology: ", "unknown degree"]),
        ("hypercube", ["2^k nodes", "here are 5"]),
        ({"name": "file", "path": "nowhere.txt"}, ["topology: ", "cannot read nowhere.txt"]),
        ("file", ["topology.path: ", "is missing"]),
        (7, ["topology"]),
    ],
    ids=str,
)
def test_mistakes_in_a_spec_are_named(topology: Any, words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        spec_of(topology)
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert len(message.splitlines()) == 1, message


def test_parsing_is_by_the_text_alone() -> None:
    assert parse(RING, "a") == parse(RING, "b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('<?xml version="1.0"?>\n<graphml></graphml>', "GraphML, which is not read here"),
        ("graph [\n  node [ id 0 ]\n]", "GML, which is not read here"),
        ('{"nodes": []}', "JSON, which is not read here"),
        ("paris tokyo\ntokyo lima", "'paris' is no node number: nodes .* are numbered from 0"),
        ("1 2\n2 3\n3 1", "counts nodes from 1 to 3: they are numbered from 0, so subtract 1"),
        ("0 1 20\n1 2 35", "its third column, 20 to 35, is no mixing weight"),
        ("0 1 1 0\n1 0 1 0\n1 1 0 1\n0 0 1 0", "zeros and ones, an adjacency matrix, which has no weights"),
    ],
)
def test_files_of_other_kinds_are_told_what_to_write(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text, "mesh.txt")
