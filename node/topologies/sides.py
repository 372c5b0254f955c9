"""Two sides of a graph: those who ask and those who are asked, so that pairs never wait for one another in a circle.

Lian et al. (ICML 2018, section 3): AD-PSGD takes a bipartite graph. Where a graph is none, the edges that cross a cut
with many edges are one.
"""

from __future__ import annotations

from collections.abc import Iterable

from gannet.node.topologies.weights import Edge


def asking_side(world: int, edges: Iterable[Edge]) -> frozenset[int]:
    """The nodes that ask, of a connected graph on ranks 0 to world − 1 with those edges: the larger side.

    The edges to the other side connect all nodes. Of a bipartite graph all edges are such.
    """
    import networkx as nx  # late: settings are read without it

    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(range(world))
    graph.add_edges_from(edges)
    if nx.is_bipartite(graph):
        colour: dict[int, int] = nx.bipartite.color(graph)
        sides = _by(colour)
    else:
        _, cut = nx.approximation.one_exchange(graph, seed=0)
        sides = [frozenset(cut[0]), frozenset(cut[1])]
        across = nx.Graph((a, b) for a, b in graph.edges if (a in sides[0]) != (b in sides[0]))
        if len(across) < world or not nx.is_connected(across):
            # The edges of a breadth-first tree are all between the sides.
            sides = _by(nx.single_source_shortest_path_length(graph, 0))
    return max(sides, key=lambda side: (len(side), 0 in side))


def _by(number: dict[int, int]) -> list[frozenset[int]]:
    """The nodes with an even and those with an odd number."""
    return [frozenset(rank for rank in number if number[rank] % 2 == side) for side in (0, 1)]
