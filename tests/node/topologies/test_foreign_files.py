"""Files given as topologies that are something else: what they are, and what to write instead."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from gannet.node.topologies.from_file import parse
from gannet.node.topologies.topology import Topology


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 1 1\n1 0 1\n1 1 0\n", r"zeros and ones, an adjacency matrix.*`i j` \(0 1, 0 2, 1 2\)"),
        ("0 1 0\n1 0 1\n0 1 0\n", r"an adjacency matrix.*\(0 1, 1 2\)"),
        ("1 1\n1 1\n", r"an adjacency matrix.*\(0 1\)"),
        ("1 2\n2 3\n3 1\n", "counts nodes from 1 to 3: .* subtract 1"),
        ("1 2 0.5\n2 4 0.5\n", r"counts nodes from 1 to 4 \(node 3 of them without an edge\)"),
        ("paris tokyo\ntokyo oslo\n", r"'paris' is no node number: nodes \('paris', 'tokyo', 'oslo'\)"),
        ("0 1\n1 tokyo\n", "'tokyo' is no node number"),
        ("source target\n0 1\n1 2\n", "its first line, source target, is a heading: put # in front of it"),
        ("src,dst,latency_ms\n0,1,20\n", "leave out its third column unless 'latency_ms' are mixing weights"),
        ("0 1 20\n1 2 30.5\n2 0 10\n", "its third column, 10 to 30.5, is no mixing weight .*delays_ms"),
        ("0 1 20ms\n1 2 30ms\n", r"its third column has units \(20ms\)"),
        ("0 10 20\n10 0 30\n20 30 0\n", "a matrix of distances or latencies, up to 30"),
        ("0 -- 1\n1 -- 2\n", "write 0 -- 1 as 0 1"),
        ("0>1\n1>2\n", "write 0>1 as 0 1"),
        ("<?xml version='1.0'?>\n<graphml xmlns='x'/>", "GraphML, which is not read here: .*nx.read_graphml"),
        ("<network/>", "XML, which is not read here"),
        ("graph [\n node [ id 0 ]\n]", "GML, which is not read here"),
        ("graph G {\n 0 -- 1;\n}", "DOT of Graphviz, which is not read here"),
        ("digraph {\n 0 -> 1;\n}", "DOT of Graphviz"),
        ('{"nodes": []}', "JSON, which is not read here"),
        ("0 1 {}\n1 2 {'weight': 3}\n", "an edge list of networkx with data"),
        ('*Vertices 2\n1 "a"\n', "Pajek"),
        ("%%MatrixMarket matrix coordinate\n3 3 2\n", "Matrix Market"),
    ],
)
def test_it_says_what_the_file_is(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=rf"graph\.txt: .*{words}") as caught:
        parse(text, "graph.txt")
    assert "\n" not in str(caught.value)


def test_what_it_says_to_do_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nx.write_graphml(nx.cycle_graph(["a", "b", "c", "d"]), "ring.graphml")
    with pytest.raises(ValueError, match="GraphML") as caught:
        Topology({"name": "file", "path": "ring.graphml"}, 4)
    told = str(caught.value).partition("as networkx does: ")[2].partition("\n")[0].partition(" [type=")[0]
    exec(told, {"nx": nx})
    found = Topology({"name": "file", "path": "edges.txt"}, 4)
    np.testing.assert_allclose(found.mixing_matrix(), Topology("ring", 4).mixing_matrix())


def test_small_files_that_are_what_they_look_like() -> None:
    assert len(parse("0 1\n1 0\n", "two")) == 2
    assert len(parse("0 1 0.5\n1 2 0.25\n2 0 0.25\n", "three edges of three columns")) == 3
    assert len(parse("0.5 0.25 0.25\n0.25 0.5 0.25\n0.25 0.25 0.5\n", "three rows")) == 3
    with pytest.raises(ValueError, match="only trade places"):
        parse("0 1 0\n0 0 1\n1 0 0\n", "a permutation")
