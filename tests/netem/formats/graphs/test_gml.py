"""GML of Shadow and of cross-silo underlays, against hand-worked numbers and networkx' own shortest paths."""

from __future__ import annotations

from math import prod
from random import Random
from typing import Any

import networkx as nx
import pytest

from gannet.netem.formats.base import FormatError
from gannet.netem.formats.graphs import cross_silo, shadow
from gannet.netem.formats.graphs.network import links_mapping
from gannet.spec.links import LinksSpec
from tests.netem.formats.graphs.examples import CROSS_SILO, SHADOW


def test_shadow_takes_the_path_of_least_latency_and_combines_its_losses() -> None:
    network = shadow.parse(SHADOW)
    assert network.pairs[0, 2].delay_ms == 10 + 20  # the edge itself has 40
    assert network.pairs[0, 2].loss_percent == pytest.approx(100 * (1 - 0.9 * 0.8))
    assert network.pairs[2, 0] == network.pairs[0, 2]
    assert network.down_bps == [1000 * 1024, 2 * 2**30, None]
    assert network.up_bps == [10_000_000, None, None]
    assert "in 1 of 3 pairs" in network.facts[1]


def test_two_hosts_at_one_node_of_shadow_are_joined_by_its_loop() -> None:
    network = shadow.parse(SHADOW, ["a", "a", "b"])
    assert (network.pairs[0, 1].delay_ms, network.pairs[0, 1].loss_percent) == (1.0, 25.0)
    assert network.pairs[0, 2].delay_ms == 10
    with pytest.raises(FormatError, match="b is named twice, and has no edge to itself"):
        shadow.parse(SHADOW, ["a", "b", "b"])


def test_of_two_paths_of_one_latency_shadow_takes_the_one_that_loses_less() -> None:
    text = """graph [
      node [ id 0 ] node [ id 1 ] node [ id 2 ]
      edge [ source 0 target 1 latency "30 ms" packet_loss 0.5 ]
      edge [ source 0 target 2 latency "10 ms" packet_loss 0.1 ]
      edge [ source 2 target 1 latency "20 ms" packet_loss 0.1 ]
    ]"""
    assert shadow.parse(text).pairs[0, 1].loss_percent == pytest.approx(19)
    assert shadow.parse(text.replace("0.1", "0.9")).pairs[0, 1].loss_percent == pytest.approx(50)


@pytest.mark.parametrize("directed", [0, 1])
def test_random_graphs_of_shadow_against_networkx(directed: int) -> None:
    draw = Random(directed)
    for size in (3, 8, 20):
        truth: Any = nx.DiGraph() if directed else nx.Graph()
        truth.add_nodes_from(range(size))
        for a in range(size):
            truth.add_edge(a, (a + 1) % size, latency=draw.uniform(1, 200), loss=draw.random() / 4)
        for _ in range(2 * size):
            a, b = draw.sample(range(size), 2)
            truth.add_edge(a, b, latency=draw.uniform(1, 200), loss=draw.random() / 4)
        nodes = " ".join(f"node [ id {n} ]" for n in range(size))
        edges = "\n".join(
            f'edge [ source {a} target {b} latency "{data["latency"]!r} ms" packet_loss {data["loss"]!r} ]'
            for a, b, data in truth.edges(data=True)
        )
        network = shadow.parse(f"graph [ directed {directed}\n{nodes}\n{edges}\n]")
        for (a, b), figures in network.pairs.items():
            path = nx.dijkstra_path(truth, a, b, weight="latency")
            hops = [truth.edges[hop] for hop in nx.utils.pairwise(path)]
            assert figures.delay_ms == pytest.approx(sum(hop["latency"] for hop in hops))
            assert figures.loss_percent == pytest.approx(100 * (1 - prod(1 - hop["loss"] for hop in hops)))


def test_an_underlay_of_silos_by_the_rules_of_its_paper() -> None:
    network = cross_silo.parse(CROSS_SILO)
    figures = network.pairs[0, 2]
    assert figures.delay_ms == pytest.approx(0.0085 * (2000 + 2100) + 4)
    assert figures.rate_bps == 10**9 // 2
    assert (network.pairs[0, 1].delay_ms, network.pairs[0, 1].rate_bps) == (21.0, 10**9)
    assert "capacities of 2 of 3 links (100 to 300 Mbit/s)" in network.dropped[0]
    links = LinksSpec.model_validate(links_mapping(network))
    assert links.state.rates[0, 2].path_bps == 500_000_000
    assert links.state.edges[2, 1].delay_ms == pytest.approx(0.0085 * 2100 + 4)


def test_chosen_nodes_and_what_cannot_be_chosen() -> None:
    assert cross_silo.parse(CROSS_SILO, ["Cairo", "0"]).names == ["Cairo", "Oslo"]
    assert cross_silo.parse(CROSS_SILO, 2).names == ["Oslo", "Rome"]
    for nodes, message in (
        (4, r"--nodes 4: the file has 3 nodes, so take 2 to 3"),
        (["Rom", "Oslo"], r"no node 'Rom': did you mean 'Rome'\?"),
        (["Oslo", "0"], "names 'Oslo' twice"),
        (["Oslo"], "1 node: a network has two at least"),
    ):
        with pytest.raises(FormatError, match=message):
            cross_silo.parse(CROSS_SILO, nodes)


def test_more_nodes_than_a_run_can_have() -> None:
    nodes = " ".join(f"node [ id {n} ]" for n in range(1100))
    edges = " ".join(f'edge [ source {n} target {n + 1} latency "1 ms" ]' for n in range(1099))
    text = f"graph [ {nodes} {edges} ]"
    with pytest.raises(FormatError, match=r"1,100 nodes, 76 more than the 1,024 .* --nodes 1024"):
        shadow.parse(text)
    assert shadow.parse(text, ["0", "1099"]).pairs[0, 1].delay_ms == pytest.approx(1099)


def test_parts_that_cannot_reach_each_other() -> None:
    text = """graph [ node [ id 0 ] node [ id 1 ] node [ id 2 ] node [ id 3 ] node [ id 4 ]
      edge [ source 0 target 1 latency "1 ms" ]
      edge [ source 2 target 3 latency "2 ms" ] edge [ source 3 target 4 latency "2 ms" ] ]"""
    with pytest.raises(FormatError, match=r"not connected: 2 parts of 3, 2 nodes; 0 cannot reach 2 .*largest"):
        shadow.parse(text)
    assert shadow.parse(text, "largest").names == ["2", "3", "4"]
    assert shadow.parse(text, ["0", "1"]).pairs[0, 1].delay_ms == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SHADOW.replace('"10 ms"', '"10 parsecs"'), "a–b: latency: '10 parsecs' is no number with a unit"),
        (SHADOW.replace('"10 ms"', '"-10 ms"'), "a–b: a delay of -10.0 ms"),
        (SHADOW.replace("packet_loss 0.2 ", "packet_loss 20 "), "b–c: a loss of 20.0: it must lie between 0 and 1"),
        (SHADOW.replace('latency "40 ms"', ""), "a–c: the edge has no latency"),
        (SHADOW.replace("1000 Kibit", "1000 KiB"), "a: host_bandwidth_down: '1000 KiB' is no number with a unit"),
        (SHADOW.replace("graph [", "graph [ ["), "not GML"),
        ("graph [ node [ id 0 ] ]", "a graph of 1 nodes"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        shadow.parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
