"""Runs whose scores say different things are not ranked against each other, and the report says which and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gannet.ledger.reader import Run
from gannet.report import sentences
from gannet.report.results import measure
from gannet.report.summary import summarise
from gannet.report.verdicts import conclude
from tests.report.test_verdicts import leader, results, run, times

DATA = {"data.name": "mnist", "data.sha256": "1"}


def scored(runs: list[Run], **changes: Any) -> list[Run]:
    """The same runs, with other fields in each line of their scores."""
    return [replace(one, scores=tuple(score.model_copy(update=changes) for score in one.scores)) for one in runs]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"samples": 100}, "scored on 100 generated images instead of 3,000"),
        (
            {"score_name": "distance to the saddle point"},
            "scored by its distance to the saddle point instead of its Fréchet distance (test)",
        ),
        ({"better": "higher"}, "scored by its Fréchet distance (test) instead of"),
        ({"basis": DATA | {"data.name": "cifar10", "data.sha256": "2"}}, "with data.name cifar10 instead of mnist"),
        ({"basis": DATA | {"data.sha256": "2"}}, "against other images of mnist"),
        ({"basis": DATA | {"data.image_size": 64}}, "with data.image_size 64 instead of 28"),
    ],
)
def test_an_arm_that_is_scored_otherwise_is_left_out_of_every_ranking(changes: dict[str, Any], expected: str) -> None:
    usual: dict[str, Any] = {"samples": 3000, "basis": DATA | {"data.image_size": 28}}
    alike = [scored(times(name, *seconds), **usual) for name, seconds in (("x", (20.0,)), ("y", (30.0,)))]
    best = scored([run("odd", 0, 1.0, final=1.0)], **usual | changes)
    found = results(*best, *alike[0], *alike[1])
    conclusion = conclude(found)
    for verdict in (conclusion.time, conclusion.bytes, conclusion.quality):
        named = {arm.name for arm in (*verdict.ranked, *verdict.zero, *verdict.shut_out)}
        assert named == {"x", "y"}
    assert leader(conclusion.time) == "x"
    assert found.target is not None and found.target.level == 50.0  # that of x and y alone
    assert sentences.headline(found, conclusion)[-1] == "ODD is left out: it is scored otherwise."
    (note,) = [note for note in sentences.notes(found) if "left out of the ranking" in note]
    assert note.startswith("ODD is left out") and expected in note
    told = {arm["name"]: arm for arm in summarise(found.comparison)["arms"]}
    assert told["odd"]["final_score"] is None and expected in told["odd"]["scored_otherwise"]
    assert told["x"]["final_score"]["mean"] == 50.0 and told["x"]["scored_otherwise"] is None


def test_of_two_arms_that_are_scored_otherwise_none_wins() -> None:
    found = results(*scored(times("few", 20.0, 21.0), samples=100), *scored(times("many", 2.0, 2.1), samples=3000))
    conclusion = conclude(found)
    assert [leader(verdict) for verdict in (conclusion.time, conclusion.bytes, conclusion.quality)] == [None] * 3
    text = " ".join(sentences.headline(found, conclusion))
    assert "FEW reached a Fréchet distance of 50 in 41 s (no other arm is scored alike)" in text
    assert "MANY is left out: it is scored otherwise." in text


def test_a_seed_that_is_scored_otherwise_is_left_out_of_its_arm() -> None:
    usual = scored([*times("x", 20.0, 22.0), *times("y", 30.0, 32.0, 34.0)], samples=3000)
    found = results(*usual, *scored([run("x", 7, 1.0, final=1.0)], samples=100))
    arm = found.arm("x")
    assert arm.final_score is not None and arm.final_score.values == (50.0, 50.0)
    assert arm.seconds_to_target is not None and arm.seconds_to_target.values == (40.0, 44.0)
    assert [one.seed for one in arm.counted] == [0, 1, 7]  # all else of it counts
    assert any(note.startswith("X, seed 7, is left out of the scores of its arm") for note in sentences.notes(found))


def test_trusted_arms_say_how_scores_are_taken() -> None:
    wrong = [scored(times(name, 10.0, trusted=False), samples=100) for name in ("a", "b", "c")]
    found = results(*(one for runs in wrong for one in runs), *scored(times("x", 20.0), samples=3000))
    assert found.arm("x").final_score is not None and found.arm("a").apart


def test_what_an_older_folder_does_not_say_is_not_held_against_it() -> None:
    old, new = times("old", 20.0), scored(times("new", 30.0), basis=DATA)
    assert leader(conclude(results(*old, *new)).time) == "old"
    other = [replace(old[0], environment=old[0].environment.model_copy(update={"data": {"name": "cifar10"}}))]
    assert results(*new, *other).arm("old").apart == "scored with data.name cifar10 instead of mnist"


def test_only_an_arm_that_sent_nothing_is_said_to_have_sent_nothing() -> None:
    local = times("local", 30.0, bytes_to_target=0)
    early = [replace(one, scores=(one.scores[0].model_copy(update={"score": 40.0}), *one.scores[1:]))
             for one in times("early", 10.0)]  # fmt: skip
    found = results(*local, *times("x", 20.0), *early)
    text = sentences.sentence(found, conclude(found).bytes)
    assert "LOCAL sent nothing." in text and "EARLY met the target before it sent anything." in text
    both = measure(replace(found.comparison, arms=results(*early, run("early", 1, 10.0), *local).comparison.arms))
    assert "EARLY met the target from the start with 1 of 2 seeds." in sentences.sentence(both, conclude(both).time)


def test_a_run_whose_end_could_not_be_scored_is_not_said_to_have_missed_the_target() -> None:
    (torn,) = times("torn", 20.0)
    end = torn.scores[-1].model_copy(update={"score": None, "fault": "torn"})
    summary = torn.summary.model_copy(update={"final_score": None, "score_fault": "1 of its snapshots: torn"})
    found = results(replace(torn, scores=(*torn.scores[:-1], end), summary=summary), *times("x", 30.0))
    told = " ".join([*sentences.headline(found, conclude(found)), *sentences.notes(found)])
    assert "(no other arm is scored)" in told
    assert "TORN, seed 0, could not be scored: 1 of its snapshots: torn." in told
    assert "TORN reached" not in told and "diverged" not in told
