"""Inner links that several pairs pass, against shortest paths that networkx finds over the same map."""

from __future__ import annotations

import random
from itertools import pairwise
from math import acos, cos, radians, sin
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import yaml
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.netem.formats.graphs.network import links_mapping
from gannet.netem.formats.graphs.shared_links import MOST_NAMED_PAIRS, Inner, entries_of
from gannet.netem.formats.graphs.sndlib import parse
from gannet.spec.links import LinksSpec
from tests.netem.formats.graphs.examples import KOLLAPS, SIMGRID_ZONES, ZOO

Pairs = frozenset[tuple[int, int]]
RUN = {
    "name": "shared", "fabric": "virtual", "pace_ms": 20, "algorithm": {"name": "dp-oadam"}, "topology": "ring",
    "task": {"name": "game", "dimension": 16}, "stop": {"steps": 4}, "batch": 4,
}  # fmt: skip


def some_map(seed: int) -> Any:
    """A tree of ten cities with three more links; those of one link are at the edge of the network."""
    drawn = random.Random(seed)
    graph: Any = nx.Graph()
    for node in range(10):
        graph.add_node(node, at=(drawn.uniform(-60, 60), drawn.uniform(-170, 170)))
        if node:
            graph.add_edge(drawn.randrange(node), node)
    while graph.number_of_edges() < 12:
        graph.add_edge(*drawn.sample(range(10), 2))
    for number, (a, b) in enumerate(graph.edges):
        (lat_a, lon_a), (lat_b, lon_b) = (map(radians, graph.nodes[end]["at"]) for end in (a, b))
        arc = acos(sin(lat_a) * sin(lat_b) + cos(lat_a) * cos(lat_b) * cos(lon_a - lon_b))
        graph.edges[a, b].update(arc=arc, mbit=10 + number)
    return graph


def sndlib_of(graph: Any) -> str:
    nodes = "".join(
        f'<node id="n{node}"><coordinates><x>{lon!r}</x><y>{lat!r}</y></coordinates></node>'
        for node, (lat, lon) in graph.nodes(data="at")
    )
    links = "".join(
        f'<link id="l{a}-{b}"><source>n{a}</source><target>n{b}</target>'
        f"<preInstalledModule><capacity>{mbit}</capacity></preInstalledModule></link>"
        for a, b, mbit in graph.edges(data="mbit")
    )
    return (
        f'<network><networkStructure><nodes coordinatesType="geographical">{nodes}</nodes>'
        f"<links>{links}</links></networkStructure></network>"
    )


def inner_links(graph: Any) -> set[tuple[int, Pairs]]:
    """(bit/s, pairs) of each direction of a link that several shortest paths take, those of leaves left out."""
    users: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for a, paths in nx.all_pairs_dijkstra_path(graph, weight="arc"):
        for b, path in paths.items():
            for hop in pairwise(path):
                users.setdefault(hop, set()).add((a, b))
    return {
        (graph.edges[hop]["mbit"] * 10**6, frozenset(pairs))
        for hop, pairs in users.items()
        if len(pairs) > 1 and min(graph.degree[end] for end in hop) > 1
    }


@pytest.mark.parametrize("seed", range(5))
def test_the_pairs_of_each_inner_link_are_those_whose_shortest_paths_take_it(seed: int) -> None:
    graph = some_map(seed)
    network = parse(sndlib_of(graph))
    links = LinksSpec.model_validate(links_mapping(network))
    found = [(each.link.rate_bps, frozenset(each.pairs)) for each in links.shared]
    assert len(found) == len(set(found)) and set(found) == inner_links(graph)
    leaves = [node for node in graph if graph.degree[node] == 1]
    assert [node for node, rate in enumerate(network.up_bps) if rate] == leaves


@pytest.mark.parametrize(
    "text", [sndlib_of(some_map(1)), ZOO, (KOLLAPS % "").replace(' drop="0.1"', "").replace(' drop="0.2"', ""),
             SIMGRID_ZONES],
    ids=["sndlib", "zoo", "kollaps", "simgrid"],
)  # fmt: skip
def test_the_virtual_fabric_takes_what_the_command_writes(text: str, tmp_path: Path) -> None:
    file, out, spec = (tmp_path / name for name in ("network", "links.yaml", "spec.yaml"))
    file.write_text(text)
    runner = CliRunner(env={"COLUMNS": "300"})
    done = runner.invoke(app, ["net", "import", str(file), "-o", str(out)])
    assert done.exit_code == 0, done.output
    written = yaml.safe_load(out.read_text())
    assert written["links"]["shared"]
    spec.write_text(yaml.safe_dump({**RUN, **written}))
    done = runner.invoke(app, ["run", str(spec), "--dry-run"])
    assert done.exit_code == 0, done.output


def test_a_link_that_no_spec_holds_is_left_and_said() -> None:
    many = [(a, b) for a in range(250) for b in range(250) if a < b]
    inner = [Inner("all", 1e9, many), Inner("slow", 2_000.0, [(0, 1), (2, 3)]), Inner("again", 1e9, many)]
    entries, left = entries_of(inner, {1e9: "1Gbit", 2_000.0: "2kbit"})
    assert len(many) < MOST_NAMED_PAIRS < 2 * len(many)
    assert [len(each["pairs"]) for each in entries] == [len(many)]
    assert [link.name for link in left] == ["slow", "again"]
