"""Rates from matrices: files of them, and of each pair of regions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet.fabrics.job import mesh_plans
from gannet.netem.links.matrix_files import MatrixError
from gannet.netem.links.regions import load_matrix
from gannet.spec.links import LinksSpec

NAMES = ["near", "far", "near"]
NEAR_AND_FAR = {"regions": ["near", "far"], "delays_ms": [[1, 40], [50, 2]]}


def found(links: dict[str, Any], world: int = 3) -> dict[tuple[int, int], tuple[int | None, float]]:
    """Of each link: its own rate (bit/s), and its delay (ms)."""
    first, _ = LinksSpec.model_validate(links).over_time(world, None)
    plans = mesh_plans(first, world, 1)
    return {
        (a, b): (limit.rate_bps if (limit := plan.limits.get(plans[a].address)) else None, path.delay_ms)
        for b, plan in enumerate(plans)
        for a in range(world)
        if a != b and (path := plan.paths[plans[a].address])
    }


@pytest.mark.parametrize(
    ("text", "kbit"),
    [
        ("# rates_mbit\n0,10,2.5\n1,0,\n,40,0\n", 1000),
        ("# Rates (Mbit/s)\n0,10,2.5\n1,0,\n,40,0\n", 1000),
        ("rate_kbps,a,b,c\na,,10,2.5\nb,1,,\nc,,40,\n", 1),
        (",10Mbit,2.5 Mbit/s\n1Mbit,,unlimited\n,40Mbit,\n", 1000),
        ("# source: mine\n# capacity\n,10Mbit,2500kbit\n1000000bit,,\n,0.04Gbit,\n", 1000),
    ],
)
def test_a_csv_of_rates_says_its_unit_in_its_head_or_in_each_cell(tmp_path: Path, text: str, kbit: int) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(text)
    rates = {edge: rate for edge, (rate, _) in found({"rates": str(file)}).items()}
    thousands = {(0, 1): 10, (0, 2): 2.5, (1, 0): 1, (1, 2): None, (2, 0): None, (2, 1): 40}
    assert rates == {edge: rate and rate * 1000 * kbit for edge, rate in thousands.items()}


def test_a_yaml_file_of_rates_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "far.yaml"
    file.write_text(json.dumps({"delays_ms": [[0, 4], [6, 0]], "rates": [[None, "10Mbit"], ["2Mbit", None]]}))
    whole = {(0, 1): (10_000_000, 4), (1, 0): (2_000_000, 6)}
    assert found({"delays": str(file), "rates": str(file)}, 2) == whole
    with pytest.raises(ValueError, match=r"far\.yaml: has rates too, which nothing reads: add rates: "):
        found({"delays": str(file)}, 2)
    with pytest.raises(ValueError, match=r"far\.yaml: has delays_ms too, which nothing reads: add delays: "):
        found({"rates": str(file)}, 2)


def test_a_matrix_between_regions_gives_each_pair_a_rate(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(json.dumps({**NEAR_AND_FAR, "rates": [["30Mbit", "unlimited"], ["2Mbit", None]]}))
    expected = {
        (0, 1): (None, 40), (0, 2): (30_000_000, 1), (1, 0): (2_000_000, 50),
        (1, 2): (2_000_000, 50), (2, 0): (30_000_000, 1), (2, 1): (None, 40),
    }  # fmt: skip
    links = {"regions": {"matrix": str(file), "nodes": NAMES}}
    assert found(links) == expected
    recorded = LinksSpec.model_validate(links).model_dump(mode="json")
    assert found(recorded) == expected
    beside = {"matrix": NEAR_AND_FAR, "nodes": NAMES, "rates": {"near>near": "30Mbit", "far > near": "2Mbit"}}
    assert found({"regions": beside}) == expected
    table = tmp_path / "rates.csv"
    table.write_text("rates_mbit,far,near\nfar,,2\nnear,,30\n")  # in an order of its own
    assert found({"regions": {**beside, "rates": str(table)}}) == expected


def test_a_matrix_of_rates_alone_leaves_delays_to_the_nodes(tmp_path: Path) -> None:
    file = tmp_path / "rates.csv"
    file.write_text("rates_mbit,near,far\nnear,30,3\nfar,2,\n")
    links = found({"profile": {"delay_ms": 7}, "regions": {"matrix": str(file), "nodes": NAMES}})
    assert links[0, 1] == (3_000_000, 7) and links[0, 2] == (30_000_000, 7) and links[1, 2] == (2_000_000, 7)
    with pytest.raises(MatrixError, match="says that it has rates, and is read as delays_ms"):
        load_matrix(file, "delays_ms")


def test_rates_of_edges_leave_a_delay_of_nodes_something_to_do() -> None:
    edges = {"0>1": {"rate": "1Mbit"}, "1>0": {"rate": "2Mbit"}}
    assert found({"profile": {"delay_ms": 7}, "edges": edges}, 2) == {(0, 1): (10**6, 7), (1, 0): (2 * 10**6, 7)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0,10\n5,0\n", r"10.* has no unit: write 10Mbit, or a line such as `# rates_mbit`"),
        ("# rates\n0,10\n5,0\n", r"row 0, column 1: '10' has no unit: write 10Mbit"),
        ("# rates_mbit\n# rate_kbit\n0,10\n5,0\n", "says that its rates are in Mbit and in kbit: keep one"),
        ("# rates_mbit\n0,5\nten,0\n", "row 1, column 0: 'ten' is not a rate: write 10Mbit"),
        ("# rates_mbit\n0,-10\n5,0\n", "row 0, column 1: '-10Mbit' is not a rate"),
        ("# rates_mbit\n0,0\n5,0\n", "row 0, column 1: '0Mbit' is out of range"),
        ("# rates_MB/s\n0,10\n5,0\n", "has no unit"),
        ("# rates_mbit\n1,10\n5,0\n", "row 0, column 0: the cell of node 0 with itself must be empty"),
        ("# delays_ms\n0,10\n5,0\n", "says that it has delays_ms, and is read as rates: keep one"),
        ("# rates_mbit\n# delays_ms\n0,10\n5,0\n", "rates and that it has delays_ms: keep one"),
        ("# rates_mbit\n0,10\n5\n", "must be 2 × 2"),
        ("", "no rates|is for"),
    ],
)
def test_mistakes_in_a_file_of_rates_are_told(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=words):
        found({"rates": str(file)}, 2)


@pytest.mark.parametrize(
    ("regions", "words"),
    [
        (
            {"rates": {"near>nowhere": "1Mbit"}},
            "'near>nowhere' is of no two nodes: their regions are near, ",
        ),
        ({"rates": {"far>far": "1Mbit"}}, "'far>far' is of no two nodes"),
        ({"rates": {"near": "1Mbit"}}, "'near' is no pair of regions: write"),
        ({"rates": {"near>far": 10}}, "'near>far': 10 has no unit: write 10Mbit"),
        ({"rates": {"near>far": "10MB"}}, "row 0, column 1: '10MB' is not a rate"),
        ({"rates": {"near>far": "1Mbit", "near > far": "2Mbit"}}, "is there twice: keep one"),
        ({"rates": [["1Mbit"]]}, "rates: by pair of regions: write"),
        ({"rates": "no/rates.csv"}, r"no/rates\.csv: No such file"),
        (
            {"matrix": {**NEAR_AND_FAR, "rates": [[None, "1Mbit"], [None, None]]}, "rates": {"near>far": "2Mbit"}},
            "has rates, and others are given: keep one",
        ),
        ({"matrix": {"regions": ["near", "far"], "losses_percent": [[0, 1], [0, 0]]}}, "delays_ms has no rows"),
        ({"matrix": {**NEAR_AND_FAR, "rates": [["1Mbit"]]}}, "rates must be 2 × 2"),
    ],
)
def test_mistakes_in_rates_of_regions_are_told(regions: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        found({"regions": {"matrix": NEAR_AND_FAR, "nodes": NAMES, **regions}})


@given(st.lists(st.lists(st.sampled_from([None, "1Mbit", "7Mbit"]), min_size=2, max_size=2), min_size=2, max_size=2))
def test_any_rate_of_a_pair_of_regions_acts(rates: list[list[str | None]]) -> None:
    pairs = [("near", "near"), ("near", "far"), ("far", "near"), ("far", "far")]
    cells = dict(zip(pairs, (cell for row in rates for cell in row), strict=True))
    nodes = ["near", "far", "near", "far"]
    links = found({"regions": {"matrix": {**NEAR_AND_FAR, "rates": rates}, "nodes": nodes}}, 4)
    for (a, b), (rate, _) in links.items():
        cell = cells[nodes[a], nodes[b]]
        assert rate == (cell and 10**6 * int(cell.removesuffix("Mbit")))
