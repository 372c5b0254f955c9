"""Files that a spec names by relative paths: in the current folder, or else next to the spec."""

from __future__ import annotations

from pathlib import Path

import pytest

from gannet.spec.load import SpecError, load_spec

SPEC = """
nodes: 3
task: game
algorithm: dp-oadam
topology: {name: file, path: graphs/path.txt}
stop: {steps: 1}
links:
  profile: near.yaml
  round_trips: far.csv
"""
MATRIX = "0,{0},{0}\n{0},0,{0}\n{0},{0},0\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec with its files, read from elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    here = tmp_path / "specs"
    (here / "graphs").mkdir(parents=True)
    (here / "spec.yaml").write_text(SPEC)
    (here / "graphs" / "path.txt").write_text("0 1\n1 2\n")
    (here / "near.yaml").write_text("rate: 7Mbit\n")
    (here / "far.csv").write_text(MATRIX.format(30))
    return here


def test_they_are_found_next_to_the_spec(folder: Path) -> None:
    spec = load_spec(folder / "spec.yaml").arms["run"]
    first, _ = spec.links.over_time(3, None)
    assert first.profile.up_bps == 7_000_000
    assert {profile.delay_ms for profile in first.edges.values()} == {15}
    assert spec.topology.own_size == 3


def test_the_current_folder_comes_first(folder: Path) -> None:
    Path("far.csv").write_text(MATRIX.format(80))
    first, _ = load_spec(folder / "spec.yaml").arms["run"].links.over_time(3, None)
    assert {profile.delay_ms for profile in first.edges.values()} == {40}


def test_what_the_command_line_names_is_found_from_the_current_folder(folder: Path) -> None:
    Path("other.yaml").write_text("rate: 2Mbit\n")
    first, _ = load_spec(folder / "spec.yaml", ["links.profile=other.yaml"]).arms["run"].links.over_time(3, None)
    assert first.profile.up_bps == 2_000_000


def test_a_name_is_no_path(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC.replace("near.yaml", "lte"))
    (folder / "lte").write_text("rate: 1Mbit\n")
    first, _ = load_spec(folder / "spec.yaml").arms["run"].links.over_time(3, None)
    assert first.profile.up_bps != 1_000_000


def test_what_is_in_neither_is_refused_by_the_name_that_was_written(folder: Path) -> None:
    (folder / "far.csv").unlink()
    with pytest.raises(SpecError, match=r"links\.round_trips_ms: far\.csv: No such file"):
        load_spec(folder / "spec.yaml")
