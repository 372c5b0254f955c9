"""Matrices: what a file may say, what the shipped ones say, and that nodes' rates and pairs' delays hold together."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gannet.netem.links.matrix_files import MatrixError
from gannet.netem.links.plan import network_plan, path_rate_bps
from gannet.netem.links.profile import LinkProfile, load_profile
from gannet.netem.links.regions import (
    REGIONS_FOLDER,
    LinkMatrix,
    list_matrices,
    load_matrix,
    load_table,
    matrix_edges,
    node_edges,
    region_edges,
)

Rows = list[list[float | None]]


@st.composite
def tables(draw: st.DrawFn, most: float, diagonal: st.SearchStrategy[float | None]) -> Rows:
    size = draw(st.integers(1, 6))
    cells = st.none() | st.floats(0, most) | st.integers(0, int(most))
    return [[draw(diagonal if r == c else cells) for c in range(size)] for r in range(size)]


delays = tables(60_000, st.sampled_from([0.0, 0, None]))


@given(delays, st.data())
def test_each_pair_gets_its_cell_and_each_node_keeps_its_rates(delays_ms: Rows, data: st.DataObject) -> None:
    size = len(delays_ms)
    losses = st.lists(
        st.lists(st.none() | st.floats(0, 100), min_size=size, max_size=size), min_size=size, max_size=size
    )
    losses_percent = data.draw(st.none() | losses)
    if losses_percent is not None:
        for a, row in enumerate(delays_ms):
            for b, delay_ms in enumerate(row):
                if a == b or delay_ms is None:  # a loss of a link whose delay is not said is refused
                    losses_percent[a][b] = None
    edges = matrix_edges(delays_ms, losses_percent)
    assert set(edges) == {(a, b) for a in range(size) for b in range(size) if a != b and delays_ms[a][b] is not None}
    nodes = {rank: LinkProfile(down_bps=10**6 * (rank + 1), up_bps=10**5 * (rank + 1)) for rank in range(size)}
    access = LinkProfile(delay_ms=3, jitter_ms=1)  # for the pairs of which the matrix says nothing
    nodes = {
        rank: access.model_copy(update={"down_bps": p.down_bps, "up_bps": p.up_bps}) for rank, p in nodes.items()
    }
    addresses = [f"10.77.1.{10 + rank}" for rank in range(size)]
    plans = network_plan(LinkProfile(), nodes, edges, addresses, "mesh0")
    for a in range(size):
        for b in range(size):
            if a == b:
                continue
            path, cell = plans[b].paths[addresses[a]], delays_ms[a][b]
            assert path_rate_bps(plans, a, b) == min(10**5 * (a + 1), 10**6 * (b + 1))
            if cell is None:
                assert (path.delay_ms, path.jitter_ms, path.loss_percent) == (3, 1, 0)
                continue
            loss_percent = (losses_percent[a][b] if losses_percent else None) or 0
            assert path.delay_ms == pytest.approx(cell)
            assert path.loss_percent == pytest.approx(loss_percent, abs=1e-6)
            assert (path.jitter_ms, path.bursts) == (0, None)


def as_csv(rows: Rows, names: list[str] | None = None) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    if names:
        writer.writerow(["", *names])
    for r, row in enumerate(rows):
        writer.writerow([*([names[r]] if names else []), *("" if cell is None else repr(cell) for cell in row)])
    return text.getvalue()


@given(delays)
def test_csv_and_yaml_say_the_same(delays_ms: Rows) -> None:
    with TemporaryDirectory() as folder:
        lines, document, doubled = (Path(folder) / name for name in ("own.csv", "own.yaml", "rtt.yaml"))
        lines.write_text("# one way (ms)\n" + as_csv(delays_ms))
        document.write_text(yaml.safe_dump({"delays_ms": delays_ms}))
        twice = [[None if cell is None else 2 * cell for cell in row] for row in delays_ms]
        doubled.write_text(yaml.safe_dump({"round_trips_ms": twice}))
        first = load_matrix(lines)
        assert first == load_matrix(document)
        assert (
            first.delays_ms
            == load_matrix(doubled).delays_ms
            == load_table(lines, "delays_ms")
            == load_table(document, "delays_ms")
        )
        assert first.name == "own" and node_edges(first).keys() == matrix_edges(delays_ms).keys()


@given(tables(1000, st.floats(0, 1)), st.data())
def test_nodes_in_regions_are_as_far_as_their_regions(rows: Rows, data: st.DataObject) -> None:
    names = [f"region-{n}" for n in range(len(rows))]
    matrix = LinkMatrix.model_validate({"regions": names, "delays_ms": rows})
    with TemporaryDirectory() as folder:
        file = Path(folder) / "matrix.csv"
        file.write_text("# delays_ms\n" + as_csv(rows, names))
        assert load_matrix(file) == matrix
    where = data.draw(st.lists(st.sampled_from(range(len(rows))), max_size=6))
    at = [names[n] for n in where]
    pairs = [(a, b) for a in range(len(at)) for b in range(len(at)) if a != b]
    if any(rows[where[a]][where[b]] is None for a, b in pairs):
        with pytest.raises(MatrixError, match="does not say how far"):
            region_edges(at, matrix)
        return
    edges = region_edges(at, matrix)
    assert set(edges) == set(pairs)
    for (a, b), link in edges.items():
        assert link.delay_ms == rows[where[a]][where[b]]
        assert link.name == f"{at[a]}→{at[b]}"


@pytest.mark.parametrize("name", list_matrices())
def test_shipped_matrices_name_source_and_assumptions_and_are_possible(name: str) -> None:
    matrix = load_matrix(name)
    assert matrix.name == name and matrix.source and matrix.assumed
    round_trips = yaml.safe_load((REGIONS_FOLDER / f"{name}.yaml").read_text())["round_trips_ms"]
    for a in range(len(matrix.regions)):
        assert matrix.delays_ms[a][a] == 0.25
        for b in range(a):
            there, back = round_trips[a][b], round_trips[b][a]
            # A round trip is one figure, whichever end measures it: a slip of the pen would stand out.
            assert there == pytest.approx(back, rel=0.1)
            assert (matrix.delays_ms[a][b], matrix.delays_ms[b][a]) == (there / 2, back / 2)


# The great circle between cities (km), which light in glass (200 km/ms) cannot outrun.
@pytest.mark.parametrize(
    ("a", "b", "km"),
    [
        ("us-east-1", "eu-west-1", 5400),
        ("us-east-1", "us-west-2", 3700),
        ("eu-west-1", "eu-central-1", 1090),
        ("eu-central-1", "ap-northeast-1", 9300),
        ("us-west-2", "ap-northeast-1", 7800),
        ("ap-southeast-1", "sa-east-1", 16000),
        ("ap-southeast-1", "ap-southeast-2", 6300),
    ],
)
@pytest.mark.parametrize("matrix", list_matrices())
def test_no_shipped_link_outruns_light(matrix: str, a: str, b: str, km: float) -> None:
    link = region_edges([a, b], matrix)[0, 1]
    assert km / 200 <= link.delay_ms <= 3 * km / 200 + 5


def test_profiles_of_the_wide_area_are_cells_of_the_table_of_their_year() -> None:
    for profile, a, b in (
        ("wan-us", "us-west-2", "us-east-1"),
        ("wan-atlantic", "us-east-1", "eu-west-1"),
        ("wan-eu", "eu-west-1", "eu-central-1"),
        ("wan-asia-us", "us-east-1", "ap-southeast-1"),
        ("wan-asia-brazil", "ap-southeast-1", "sa-east-1"),
    ):
        assert region_edges([a, b], "aws-2017")[0, 1].delay_ms == pytest.approx(
            load_profile(profile).delay_ms, abs=0.5
        )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("delays_ms: [[0, 1], [2]]", "delays_ms must be 2 × 2"),
        ("delays_ms: []", "delays_ms has no rows"),
        ("delays_ms: [[0, -1], [2, 0]]", "row 0, column 1: -1 is not between 0 and 60000"),
        ("delays_ms: [[0, fast], [2, 0]]", "delays_ms, 0, 1: .*number .got 'fast'"),
        ("delays_ms: [[0, true], [2, 0]]", "got True"),
        ("delays_ms: [[0, .nan], [2, 0]]", "nan is no number"),
        ("round_trips_ms: [[0, fast], [2, 0]]", "delays_ms, 0, 1: .*number .got 'fast'"),
        ("delays_ms: [[3, 1], [2, 0]]", "cell of node 0 with itself"),
        ("delays_ms: [[0, 1], [2, 0]]\nlosses_percent: [[0]]", "losses_percent must be 2 × 2"),
        ("delays_ms: [[0, 1], [2, 0]]\nlosses_percent: [[0, 101], [0, 0]]", "101 is not between 0 and 100"),
        ("delays_ms: [[0]]\nround_trips_ms: [[0]]", "say the same thing twice"),
        ("regions: [a, a]\ndelays_ms: [[0, 1], [2, 0]]", "names 'a' twice"),
        ("regions: [a]\ndelays_ms: [[0, 1], [2, 0]]", "delays_ms must be 1 × 1"),
        ("regions: [a]", "delays_ms"),
        ("matrix: []", "matrix"),
        ("[]", "expected a mapping"),
    ],
)
def test_mistakes_in_a_matrix_are_told_with_file_and_cell(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(MatrixError, match=rf"(?s)own\.yaml: .*{complaint}"):
        load_matrix(file)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0,1\n2\n", "must be 2 × 2"),
        ("0,1\n2,fast\n", "row 1, column 1: 'fast' is no number"),
        (",a,b\na,0,1\nc,1,0\n", "names of the rows are not those of the columns"),
        ("", "no rows"),
        ("0,nan\n1,0\n", "names of the rows"),
        ("0,-4\n1,0\n", "-4.* is not between"),
    ],
)
def test_mistakes_in_a_csv_are_told(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "own.csv"
    file.write_text(text)
    with pytest.raises(MatrixError, match=rf"(?s)own\.csv.*{complaint}"):
        load_matrix(file, "delays_ms")


def test_what_does_not_exist_gets_the_closest() -> None:
    with pytest.raises(MatrixError, match="no matrix named 'awz': did you mean aws"):
        load_matrix("awz")
    with pytest.raises(MatrixError, match="no region 'eu-west-9': did you mean eu-west-"):
        region_edges(["us-east-1", "eu-west-9"])
    with pytest.raises(MatrixError, match="names no regions"):
        region_edges(["us-east-1"], LinkMatrix(delays_ms=((0,),)))
    with pytest.raises(MatrixError, match="say which region each node is in"):
        node_edges(load_matrix("aws"))
    for nowhere in ("no/where.csv", "no/where.yaml"):
        with pytest.raises(MatrixError, match="where"):
            load_matrix(nowhere)


@settings(max_examples=300)
@given(
    st.sampled_from(["any.csv", "any.yaml"]),
    st.binary(max_size=80)
    | st.text(alphabet="0123456789.,-e\n\"' ab#\x00\r\t[]:{}&*!", max_size=60).map(str.encode)
    | st.text(alphabet="01.,-\n", max_size=30).map(lambda text: b"delays_ms: [[" + text.encode() + b"]]"),
)
@example("any.csv", b'"' + b"9" * 200_000)
@example("any.csv", b"1e308,1e309\n1,1")
@example("any.yaml", b"delays_ms: [[&a [*a]]]")
@example("any.yaml", b"round_trips_ms: " + b"[" * 7 + b"]" * 7)
@example("any.yaml", b"round_trips_ms: [[" + b"9" * 400 + b"]]")
def test_whatever_is_in_a_file_it_is_a_matrix_or_one_clear_error(name: str, content: bytes) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        try:
            matrix = load_matrix(file, "delays_ms" if name == "any.csv" else "")
        except MatrixError as error:
            assert str(file) in str(error) and len(str(error)) < 4000
        else:
            assert LinkMatrix.model_validate_json(matrix.model_dump_json()) == matrix
