"""What the numbers of a matrix are, said by the file or by its reader, never assumed; and a thousand nodes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from gannet.netem.links.matrix_files import LARGEST_BYTES, MOST_NODES, MatrixError
from gannet.netem.links.regions import load_matrix, load_table, tables_in
from gannet.spec.links import LinksSpec

ROWS = "0,40,110\n40,0,90\n110,90,0\n"
NAMED = "a,0,40,110\nb,40,0,90\nc,110,90,0\n"


def delays_of(links: Any) -> dict[tuple[int, int], float]:
    first, _ = LinksSpec.model_validate(links).over_time(3, None)
    return {edge: profile.delay_ms for edge, profile in first.edges.items()}


@pytest.mark.parametrize(
    ("head", "share"),
    [
        ("# round_trips_ms\n", 0.5),
        ("# Round trips (ms)\n", 0.5),
        ("# RTT [ms]\n", 0.5),
        ("# source: me\n# delays_ms\n", 1),
        ("# One-way (ms)\n", 1),
    ],
)
def test_a_csv_says_what_it_has(tmp_path: Path, head: str, share: float) -> None:
    file, named = tmp_path / "far.csv", tmp_path / "named.csv"
    file.write_text(head + ROWS)
    assert load_matrix(file).delays_ms[0] == (0, 40 * share, 110 * share)
    corner = head.splitlines()[-1].removeprefix("# ")
    named.write_text(f"{corner},a,b,c\n{NAMED}")
    assert load_matrix(named).delays_ms[0] == (0, 40 * share, 110 * share)
    named.write_text(f"{head},a,b,c\n{NAMED}")
    assert load_matrix(named).regions == ("a", "b", "c")


def test_what_says_nothing_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "far.csv"
    file.write_text(ROWS)
    with pytest.raises(MatrixError, match=r"one-way delays, or round trips .* `# round_trips_ms` .* --round-trips"):
        load_matrix(file)
    assert load_matrix(file, "round_trips_ms").delays_ms[1] == (20, 0, 45)
    assert load_matrix(file, "delays_ms").delays_ms[1] == (40, 0, 90)
    file.write_text("# round_trips_ms\n" + ROWS)
    with pytest.raises(MatrixError, match="says that it has round_trips_ms, and is read as delays_ms"):
        load_matrix(file, "delays_ms")
    file.write_text("# round_trips_ms\n# delays_ms\n" + ROWS)
    with pytest.raises(MatrixError, match="round_trips_ms and that it has delays_ms: keep one"):
        load_matrix(file)
    yaml = tmp_path / "far.yaml"
    yaml.write_text("round_trips_ms: [[0, 1], [1, 0]]")
    with pytest.raises(MatrixError, match="says that it has round_trips_ms, and is read as delays_ms"):
        load_matrix(yaml, "delays_ms")
    with pytest.raises(MatrixError, match="has no delays_ms, but round_trips_ms"):
        load_table(yaml, "delays_ms")


def test_a_spec_says_it_by_the_name_of_the_field(tmp_path: Path) -> None:
    file, yaml = tmp_path / "far.csv", tmp_path / "far.yaml"
    file.write_text(ROWS)
    once = {(0, 1): 40, (1, 0): 40, (0, 2): 110, (2, 0): 110, (1, 2): 90, (2, 1): 90}
    half = {edge: delay_ms / 2 for edge, delay_ms in once.items()}
    table = [[0, 40, 110], [40, 0, 90], [110, 90, 0]]
    assert delays_of({"delays": str(file)}) == delays_of({"delays_ms": table}) == once
    assert delays_of({"round_trips": str(file)}) == delays_of({"round_trips_ms": table}) == half
    yaml.write_text(json.dumps({"round_trips_ms": table}))
    assert delays_of({"round_trips": str(yaml)}) == half
    file.write_text(",a,b,c\n" + NAMED)
    for field, expected in (("delays", once), ("round_trips", half)):
        assert delays_of({"regions": {field: str(file), "nodes": ["a", "b", "c"]}}) == expected
    for links, words in (
        ({"regions": {"matrix": str(file), "nodes": ["a", "b", "c"]}}, "are these one-way delays, or round trips"),
        ({"regions": {"matrix": "aws", "delays": str(file), "nodes": ["a"]}}, "matrix and delays say the same"),
        ({"delays_ms": table, "round_trips_ms": table}, "delays_ms and round_trips_ms say the same thing twice"),
        ({"delays": str(yaml)}, "has no delays_ms, but round_trips_ms"),
    ):
        with pytest.raises(ValueError, match=words):
            delays_of(links)


def test_nothing_of_a_yaml_file_is_left_unread(tmp_path: Path) -> None:
    file = tmp_path / "far.yaml"
    file.write_text(
        "delays_ms: [[0, 1, 2], [3, 0, 4], [5, 6, 0]]\nlosses_percent: [[0, 0, 100], [0, 0, 0], [0, 0, 0]]"
    )
    assert tables_in(file) == {"delays_ms", "losses_percent"}
    with pytest.raises(ValueError, match=r"has losses_percent too, which nothing reads: add losses: .*far\.yaml"):
        delays_of({"delays": str(file)})
    assert delays_of({"delays": str(file), "losses": str(file)})[2, 1] == 6
    file.write_text("delays_ms: [[0, null], [3, 0]]\nlosses_percent: [[0, 1], [0, 0]]")
    with pytest.raises(MatrixError, match=r"losses_percent, row 0, column 1: 1.*give its delay too"):
        load_matrix(file)


def test_a_matrix_of_a_thousand_nodes_as_csv_and_as_yaml(tmp_path: Path) -> None:
    """The same numbers by both ways, and a text that looks like a row stays a text."""
    draw = random.Random(3)
    rows = [[0 if a == b else round(draw.uniform(1, 300), 2) for b in range(1000)] for a in range(1000)]
    lines, document = tmp_path / "far.csv", tmp_path / "far.yaml"
    lines.write_text("# round_trips_ms\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    document.write_text(
        "source: 'measured, [1, 2], by hand'\nround_trips_ms:\n" + "".join(f"  - {json.dumps(row)}\n" for row in rows)
    )
    for file in (lines, document):
        matrix = load_matrix(file)
        assert [list(row) for row in matrix.delays_ms] == [[cell / 2 for cell in row] for row in rows]
    assert load_matrix(document).source == "measured, [1, 2], by hand"
    document.write_text(
        json.dumps({"delays_ms": [[None if a == b else 1.5 for b in range(300)] for a in range(300)]})
    )
    assert load_table(document, "delays_ms")[7][7:9] == (None, 1.5)


def test_a_matrix_that_is_too_large_says_by_how_much(tmp_path: Path) -> None:
    file = tmp_path / "far.csv"
    file.write_text("\n".join("0" for _ in range(MOST_NODES + 3)))
    with pytest.raises(MatrixError, match="1,027 rows; 1,024 at most, so leave out 3"):
        load_matrix(file, "delays_ms")
    file.write_bytes(b"0" * (LARGEST_BYTES + 1))
    with pytest.raises(MatrixError, match="33,554,433 bytes, and 33,554,432 at most"):
        load_matrix(file, "delays_ms")
