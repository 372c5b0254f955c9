"""`gannet topology` as people use it: a process, its words, its drawings and its exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gannet.cli.topology import picture, pictures
from gannet.cli.topology_plots import drawing, graph_traces
from gannet.node.topologies.topology import Topology

ROOT = Path(__file__).parents[2]


def topology(*arguments: str, width: int = 120) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "gannet", "topology", *arguments]
    environment = {**os.environ, "COLUMNS": str(width)}
    return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def rows(text: str) -> list[str]:
    """The rows of the table, blanks made one."""
    lines = text.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("topology"))
    end = next(i for i, line in enumerate(lines) if i > begin and not line.strip())
    return [" ".join(line.split()) for line in lines[begin + 1 : end]]


def test_several_are_compared_in_one_table() -> None:
    """Figures known from theory: see tests/node/topologies/test_topology.py for where each comes from."""
    names = ["ring", "star", "complete", "exponential", "one-peer-exponential", "base:degree=2", "random-ring"]
    done = topology(*names, "-n", "16")
    assert done.returncode == 0, done.stderr
    assert rows(done.stdout) == [
        "ring – 2 32 never 0.9493 0.0507 0.9493 2",
        "star – 15 30 never 0.9375 0.0625 0.9375 1.88 (15)",
        "complete – 15 240 1 0.0000 1.0000 0.0000 15",
        "exponential – 4 64 never 0.6000 0.4000 0.6000 4",
        "one-peer-exponential 4 1 16/64 4 1.0000 1.0000 0.0000 1",
        "base (degree 2) 4 1 16/64 4 1.0000 1.0000 0.0000 1",
        "random-ring (seed 1) random 2 32/240 never 0.9493 0.4625 0.5375 2",
    ]
    assert "16 nodes" in done.stdout and "round 1" not in done.stdout


def test_one_is_drawn_round_by_round() -> None:
    done = topology("base", "-n", "3")
    assert done.returncode == 0, done.stderr
    assert rows(done.stdout) == ["base (degree 1) 3 1 2/4 3 1.0000 1.0000 0.0000 0.667 (1)"]
    lines = done.stdout.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("round 1"))
    assert [" ".join(line.split()) for line in lines[begin : begin + 4]] == [
        "round 1 round 2 round 3",
        "▒▒▒▒· ░░· ▓▓ ▒▒▒▒·",
        "▒▒▒▒· · ██· ▒▒▒▒·",
        "· · ██ ▓▓· ░░ · · ██",
    ]


def test_the_table_fits_a_narrow_terminal() -> None:
    done = topology("one-peer-exponential", "erdos-renyi:p=0.4,seed=2", "star", "-n", "16", width=80)
    assert done.returncode == 0 and max(map(len, done.stdout.splitlines())) <= 80
    assert "…" not in done.stdout


def test_a_file_brings_its_own_number_of_nodes(tmp_path: Path) -> None:
    graph = tmp_path / "graph.txt"
    graph.write_text("0 1\n1 2\n2 3\n3 4\n4 0\n")
    done = topology(str(graph), "ring")
    assert done.returncode == 0, done.stderr
    found = rows(done.stdout)
    assert "5 nodes" in done.stdout and found[0].removeprefix("file (graph.txt)") == found[1].removeprefix("ring")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rign"], ["unknown topology 'rign'", "one-peer-exponential"]),
        (["base:degree=0"], ["degree", "more than 0"]),
        (["base:depth=2"], ["unknown depth", "degree"]),
        (["base:2"], ["NAME:KEY=VALUE", "base:degree=2"]),
        (["hypercube", "-n", "6"], ["2^k nodes", "here are 6"]),
        (["no/such.txt"], ["cannot read no/such.txt"]),
        (["ring", "--out", "ring.pdf"], [".html, .svg or .png"]),
        (["ring", "--out", "no/such/ring.html"], ["no folder"]),
        (["ring", "-n", "0"], ["--nodes", "greater than or equal to 1"]),
    ],
    ids=str,
)
def test_mistakes_are_named(arguments: list[str], words: list[str]) -> None:
    done = topology(*arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert [word for word in words if word not in done.stderr] == [], done.stderr


def test_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "graphs.html"
    done = topology("ring", "one-peer-exponential", "-n", "8", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "drawn: " in done.stdout
    page = out.read_text()
    assert "one-peer-exponential" in page and not re.search(r"<script[^>]+src=", page)


def test_an_image_or_what_it_would_need(tmp_path: Path) -> None:
    out = tmp_path / "ring.svg"
    done = topology("ring", "-n", "4", "--out", str(out))
    if done.returncode == 0:
        assert "<svg" in out.read_text()[:500]
    else:
        assert done.returncode == 1 and "kaleido" in done.stderr and ".html" in done.stderr


def test_the_picture_is_the_matrix() -> None:
    """Many nodes: half blocks, two rows a line. Few: two characters a weight, darker for heavier."""
    weights = Topology({"name": "erdos-renyi", "p": 0.2, "seed": 3}, 41).mixing_matrix()
    read = np.zeros((42, 41), dtype=bool)
    for at, line in enumerate(picture(weights)):
        assert len(line) == 41
        read[2 * at] = [mark in "▀█" for mark in line]
        read[2 * at + 1] = [mark in "▄█" for mark in line]
    np.testing.assert_array_equal(read[:41], weights > 0)
    small = picture(Topology("star", 5).mixing_matrix())
    assert small[0] == "░░" * 5 and small[1] == "░░██" + "· " * 3


@pytest.mark.parametrize("width", [40, 80, 200])
def test_as_many_rounds_as_fit(width: int) -> None:
    lines = pictures(Topology("base", 11), width)
    assert max(map(len, lines[1:])) <= width and len(lines) == 12


def test_the_drawing_has_every_edge_once() -> None:
    graph = Topology("random-ring", 9)
    figure: dict[str, Any] = drawing([graph, Topology("ring", 9)])
    assert json.loads(json.dumps(figure)) == figure
    heat = [trace for trace in figure["data"] if trace["type"] == "heatmap"]
    assert len(heat) == 2
    np.testing.assert_allclose(heat[1]["z"], Topology("ring", 9).mixing_matrix())
    lines = [trace for trace in graph_traces(graph.mixing_matrix(3), symmetric=True) if trace["mode"] == "lines"]
    assert sum(len(trace["x"]) // 3 for trace in lines) == 9
    directed = graph_traces(Topology("exponential", 9).mixing_matrix(), symmetric=False)
    assert sum(len(trace["x"]) // 3 for trace in directed if "lines" in trace["mode"]) == 9 * 4
