"""Which comparison a controller that is started again takes up, and in what state its runs are."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gannet.experiment.runner import begin_comparison
from gannet.experiment.take_up import DIARY, left_behind
from gannet.fabrics.recovery.mark import MARK, is_left, marked
from gannet.ledger.lock import FolderBusy
from tests.fabrics.restarts.test_diary import CLUSTER, written
from tests.support.interrupted import comparison

SEEDS = (1, 2, 3)


def killed(folder: Path, cluster: str = CLUSTER) -> None:
    """What a controller leaves that is killed."""
    with marked(folder, cluster):
        text = (folder / MARK).read_text()
    (folder / MARK).write_text(text)


def comparison_of_three(folder: Path) -> list[Path]:
    """Its controller was killed; no run of it has a folder yet."""
    begin_comparison(comparison(seeds=list(SEEDS)), folder)
    killed(folder)
    return [folder / "run" / f"seed-{seed}" for seed in SEEDS]


def ended(run: Path, status: str = "finished") -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / "summary.json").write_text(json.dumps({"status": status}))


def training(run: Path) -> None:
    run.mkdir(parents=True, exist_ok=True)
    written(run / DIARY)


def seeds_of(specs: Any) -> list[int]:
    return [spec.seed for spec in specs]


def test_the_run_that_trains_is_taken_up_and_the_others_follow(tmp_path: Path) -> None:
    runs = comparison_of_three(tmp_path)
    ended(runs[0])
    training(runs[1])
    plan = left_behind([tmp_path], 60.0, CLUSTER)
    assert plan is not None and plan.taken_up == {runs[1]} and not plan.again and not plan.resumed
    assert (seeds_of(plan.ended), seeds_of(plan.left)) == ([1], [2, 3])


def test_between_two_runs_none_is_made_twice(tmp_path: Path) -> None:
    runs = comparison_of_three(tmp_path)
    ended(runs[0], "failed")
    plan = left_behind([tmp_path], 60.0, CLUSTER)
    assert plan is not None and not plan.taken_up and not plan.again
    assert (seeds_of(plan.ended), seeds_of(plan.left)) == ([1], [2, 3])


def test_a_run_whose_training_had_not_begun_begins_again(tmp_path: Path) -> None:
    runs = comparison_of_three(tmp_path)
    runs[0].mkdir(parents=True)
    (runs[0] / DIARY).write_text('{"joined": 0, "verifier": "a"}\n{"joi')
    plan = left_behind([tmp_path], 60.0, CLUSTER)
    assert plan is not None and plan.again == {runs[0]} and not plan.taken_up


def test_a_diary_that_cannot_be_read_is_an_error_of_its_run(tmp_path: Path) -> None:
    runs = comparison_of_three(tmp_path)
    training(runs[0])
    with (runs[0] / DIARY).open("a") as file:
        file.write('{"of": "a later version"}\n')
    plan = left_behind([tmp_path], 60.0, CLUSTER)
    assert plan is not None and plan.taken_up == {runs[0]} and not plan.again


def test_what_had_yet_to_be_scored_is(tmp_path: Path) -> None:
    for run in comparison_of_three(tmp_path):
        ended(run)
    plan = left_behind([tmp_path], 60.0, CLUSTER)
    assert plan is not None and not plan.left and seeds_of(plan.ended) == [1, 2, 3]


def test_after_a_run_that_a_user_stopped_none_begins(tmp_path: Path) -> None:
    ended(comparison_of_three(tmp_path)[0], "stopped")
    plan = left_behind([tmp_path], 60.0, CLUSTER)
    assert plan is not None and not plan.left and seeds_of(plan.ended) == [1]


def test_another_cluster_and_one_whose_nodes_are_gone_are_left_alone(tmp_path: Path) -> None:
    runs = comparison_of_three(tmp_path)
    training(runs[0])
    assert left_behind([tmp_path], 60.0, "another cluster") is None
    for path in (tmp_path / MARK, *runs[0].iterdir()):
        os.utime(path, (1e9, 1e9))
    assert left_behind([tmp_path], 60.0, CLUSTER) is None


def test_a_controller_that_was_killed_before_it_had_begun_has_left_nothing(tmp_path: Path) -> None:
    killed(tmp_path)
    assert left_behind([tmp_path], 60.0, CLUSTER) is None
    for text in ("", "{", "[]", json.dumps({"format": 2, "cluster": CLUSTER})):
        (tmp_path / MARK).write_text(text)
        assert not is_left(tmp_path, CLUSTER)


def test_there_is_one_controller_at_a_time(tmp_path: Path) -> None:
    with marked(tmp_path, CLUSTER):
        with pytest.raises(FolderBusy, match="another controller"), marked(tmp_path, CLUSTER):
            pass
        with pytest.raises(FolderBusy, match="another controller"):
            left_behind([tmp_path], 60.0, CLUSTER)
        assert (tmp_path / MARK).stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / MARK).exists()


def test_a_controller_that_ends_has_left_nothing_however_it_ends(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), marked(tmp_path, CLUSTER):
        raise KeyboardInterrupt
    assert not is_left(tmp_path, CLUSTER) and not (tmp_path / MARK).exists()
