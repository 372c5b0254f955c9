"""GML as networkx reads it, with every fault of a file as one error."""

from __future__ import annotations

import re
from typing import Any

import networkx as nx

from gannet.netem.formats.base import FormatError
from gannet.netem.links.yaml_files import printable

LARGEST_BYTES = 2**26
_GRAPH = re.compile(r"^\s*graph\s*\[|^graph\s*$", re.MULTILINE)
_DUPLICATE = re.compile(r"is duplicated|multigraph", re.IGNORECASE)


def is_gml(head: str) -> bool:
    """Whether this beginning of a file is GML."""
    return _GRAPH.search(head) is not None and re.search(r"\bnode\s*\[", head) is not None


def read_gml(text: str) -> Any:
    """The graph, its nodes by their ids; a multigraph where links are parallel. Raises FormatError."""
    if len(text) > LARGEST_BYTES:
        raise FormatError(f"{len(text):,} bytes of GML, and {LARGEST_BYTES:,} at most: leave out nodes")
    try:
        return _parse(text)
    except nx.NetworkXError as error:
        if not _DUPLICATE.search(str(error)):
            raise FormatError(_said(error)) from None
    try:  # Topology Zoo's files have parallel links, and do not say that they are multigraphs
        return _parse(_GRAPH.sub("graph [ multigraph 1 ", text, count=1))
    except nx.NetworkXError as error:
        raise FormatError(_said(error)) from None


def _parse(text: str) -> Any:
    try:
        graph = nx.parse_gml(text.splitlines(), label="id")
    except nx.NetworkXError:
        raise
    # Odd files raise many kinds, among them RecursionError for nested brackets and TypeError for a node 5.
    except Exception as error:
        raise FormatError(f"not GML: {type(error).__name__}: {printable(error)[:200]}") from None
    if len(graph) < 2:
        raise FormatError(f"a graph of {len(graph)} nodes: a network has two at least")
    return graph


def _said(error: Exception) -> str:
    return "not GML: " + " ".join(printable(error)[:200].split())


def names_of(graph: Any) -> tuple[list[Any], list[str]]:
    """(ids, names) of the nodes: their labels, and where these are missing or double with their ids."""
    ids = list(graph.nodes)
    labels = [str(graph.nodes[node].get("label", node)).strip() or str(node) for node in ids]
    double = {label for label in labels if labels.count(label) > 1} if len(set(labels)) < len(labels) else set()
    return ids, [f"{label} ({node})" if label in double else label for node, label in zip(ids, labels, strict=True)]
