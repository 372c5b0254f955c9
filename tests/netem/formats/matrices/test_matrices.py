"""Tables of latencies: what they say, what is asked for, what is missing, and the figures that a plan gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gannet.netem.formats.base import FormatError
from gannet.netem.formats.matrices import objects, texts
from gannet.netem.formats.matrices.table import matrix_of
from gannet.netem.links.regions import load_matrix, node_edges, region_edges

PLANETLAB = "0.0\t10.5\t0.0\n10.5\t0.0\t30.0\n20.0\t31.0\t0.0\n"
MARKDOWN = """# Latency

Round-trip times between regions in milliseconds (ms).

| | **Dallas (us-south)** | **Tokyo** | **Sydney** |
|---|---|---|---|
| **Dallas (us-south)** | | 135 | 190 |
| **Tokyo** | 136 | | 105 |
| **Sydney** | 190 | 105 | |
"""


def loaded(fields: dict[str, Any], tmp_path: Path) -> Any:
    (tmp_path / "out.yaml").write_text(json.dumps(fields))
    return load_matrix(tmp_path / "out.yaml")


def test_a_matrix_without_names_asks_for_unit_and_direction(tmp_path: Path) -> None:
    table = texts.read_numbers(PLANETLAB)
    with pytest.raises(FormatError, match="--round-trip or --one-way"):
        matrix_of(table, unit="ms")
    with pytest.raises(
        FormatError, match=r"in which unit .*\(10.5 to 31, half of them below .*--unit ms or --unit s"
    ):
        matrix_of(table, round_trip=True)
    fields = matrix_of(table, round_trip=True, unit="ms")
    assert fields["round_trips_ms"][0] == [0, 10.5, None]
    assert "1 of 6 cells off the diagonal are missing (1 cells" in table.dropped[0]
    edges = node_edges(loaded(fields, tmp_path))
    assert edges[1, 2].delay_ms == 15
    assert edges[2, 1].delay_ms == 15.5
    assert (0, 2) not in edges


def test_seconds_and_one_way(tmp_path: Path) -> None:
    text = "0 0.1 0.2\n0.1 0 0.3\n0.2 0.3 0\n"
    fields = matrix_of(texts.read_numbers(text), round_trip=False, unit="s")
    assert node_edges(loaded(fields, tmp_path))[0, 2].delay_ms == 200
    with pytest.raises(FormatError, match="is no unit of latencies: us, ms, s"):
        matrix_of(texts.read_numbers(text), round_trip=False, unit="kbit")


def test_nodes_between_which_nothing_is_missing() -> None:
    fields = matrix_of(texts.read_numbers(PLANETLAB), "complete", True, "ms")
    assert fields["round_trips_ms"] == [[0, 10.5], [10.5, 0]] or fields["round_trips_ms"] == [[0, 30], [31, 0]]
    fields = matrix_of(texts.read_numbers(PLANETLAB), ["2", "1"], True, "ms")
    assert fields["round_trips_ms"] == [[0, 31], [30, 0]]


def test_a_table_of_markdown_that_says_what_it_is(tmp_path: Path) -> None:
    table = texts.read_markdown(MARKDOWN)
    fields = matrix_of(table)
    assert fields["regions"] == ["Dallas (us-south)", "Tokyo", "Sydney"]
    assert "1 pair differ" in table.facts[1] or "1 pair" in table.facts[1]
    matrix = loaded(fields, tmp_path)
    edges = region_edges(["Dallas (us-south)", "Tokyo"], matrix)
    assert (edges[0, 1].delay_ms, edges[1, 0].delay_ms) == (67.5, 68)
    with pytest.raises(FormatError, match="says that its latencies are round trips: leave out --one-way"):
        matrix_of(texts.read_markdown(MARKDOWN), round_trip=False)
    with pytest.raises(FormatError, match="The file does not say"):
        matrix_of(texts.read_markdown(MARKDOWN.replace("Round-trip times", "Times")))


def test_csv_with_names_in_any_order(tmp_path: Path) -> None:
    text = "RTT (ms),a,b,c\nb,10,1,20\na,2,11,n/a\nc,30,21,0.5\n"
    assert texts.is_named_csv(text) and not texts.is_numbers(text)
    fields = matrix_of(texts.read_named_csv(text))
    assert fields == {"regions": ["a", "b", "c"], "round_trips_ms": [[2, 11, None], [10, 1, 20], [30, 21, 0.5]]}
    assert loaded(fields, tmp_path).link(0, 0).delay_ms == 1
    assert matrix_of(texts.read_named_csv(text), ["c", "b"])["regions"] == ["c", "b"]


def test_pairs_of_json_give_both_directions(tmp_path: Path) -> None:
    data = {"0-1": 10.0, "0-2": 20, "1-2": 30}
    assert objects.kind_of(data) == "pairs"
    with pytest.raises(FormatError, match="--round-trip or --one-way"):
        matrix_of(objects.read_json(data))
    edges = node_edges(loaded(matrix_of(objects.read_json(data), round_trip=True), tmp_path))
    assert {pair: edge.delay_ms for pair, edge in edges.items()} == {
        (0, 1): 5, (1, 0): 5, (0, 2): 10, (2, 0): 10, (1, 2): 15, (2, 1): 15
    }  # fmt: skip
    assert matrix_of(objects.read_json({"1-2": 1, "1-3": 2, "2-3": 3}), round_trip=True)["round_trips_ms"][0] == [
        0,
        1,
        2,
    ]
    with pytest.raises(FormatError, match="nodes 0 to 9, but 7 of these have none"):
        objects.read_json({"0-1": 10.0, "0-9": 20})


def test_regions_of_json_within_a_field() -> None:
    data = {"unit": "ms, round trip", "data": {"x": {"x": 1.0, "y": "9.5"}, "y": {"x": 10}}}
    assert objects.kind_of(data) == "regions"
    assert matrix_of(objects.read_json(data)) == {"regions": ["x", "y"], "round_trips_ms": [[1, 9.5], [10, None]]}


def test_pairs_of_regions_with_rates_ask_for_the_direction() -> None:
    data = {
        "Oregon-Virginia": [67, 0.79],
        "Oregon-Oregon": [0.5, 2],
        "Virginia-Ohio": [11, 1.1],
        "Oregon-Ohio": [49, 1.05],
    }
    assert objects.kind_of(data) == "dtfm"
    with pytest.raises(FormatError, match="--round-trip or --one-way"):
        matrix_of(objects.read_json(data))
    fields = matrix_of(objects.read_json(data), ["Virginia", "Oregon"], round_trip=False)
    assert fields["delays_ms"] == [[None, 67], [67, 0.5]]
    assert fields["rates"][0][1] == "790Mbit"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1 2\n1 0\n2 3 0\n", "not square: 3 rows, and one of 2 cells"),
        ("0 1 2\n1 0 x9\n2 3 0\n", "row 1, column 2: 'x9' is no number"),
        ("0 0 0\n0 0 0\n0 0 0\n", "no latency at all"),
        ("0 1e6 2\n1 0 2\n2 3 0\n", "60000 ms at most; is the unit right?"),
    ],
)
def test_what_is_wrong_with_a_matrix_is_said(text: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        matrix_of(texts.read_numbers(text), round_trip=False, unit="ms")
    assert message in str(caught.value)


def test_a_matrix_too_large_says_by_how_much() -> None:
    row = "\t".join(["1.5"] * 1100)
    table = texts.read_numbers("\n".join([row] * 1100))
    with pytest.raises(FormatError, match=r"1,100 nodes, 76 more than the 1,024"):
        matrix_of(table, round_trip=True, unit="ms")
    assert len(matrix_of(table, 1000, True, "ms")["round_trips_ms"]) == 1000
