"""Each command has a folder of its own, also in the same second."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from gannet.experiment.folders import fresh_folder, new_folder
from gannet.experiment.runner import begin_comparison
from gannet.spec.load import load_spec


def _ask(parent: str) -> list[str]:
    return [str(fresh_folder(Path(parent), "demo")) for _ in range(50)]


def test_processes_that_ask_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = [folder for some in pool.map(_ask, [str(tmp_path / "runs")] * 4, chunksize=1) for folder in some]
    assert len(set(found)) == len(found) == 200
    assert {str(path) for path in (tmp_path / "runs").iterdir()} == set(found)


def test_a_default_folder_is_made_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one, other = new_folder(None, "demo"), new_folder(None, "demo")
    assert one != other
    assert one.is_dir()
    assert other.is_dir()
    assert one.parent == tmp_path / "runs"


def test_one_comparison_alone_begins_in_a_folder(tmp_path: Path) -> None:
    comparison = load_spec("demo")
    out = new_folder(tmp_path / "out", "demo")
    assert new_folder(tmp_path / "out", "demo") == out  # both have looked before either began
    begin_comparison(comparison, out)
    spec = (out / "spec.yaml").read_bytes()
    with pytest.raises(FileExistsError, match="another command has begun in it"):
        begin_comparison(load_spec("games"), out)
    assert (out / "spec.yaml").read_bytes() == spec
