"""The verdicts and their sentences: who wins, how sure that is, and that distrust is never left out."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from gannet.ledger.reader import Arm, Comparison, Run, read_comparison
from gannet.ledger.records import Certificate, Environment, Score, Summary
from gannet.report import sentences, write_report
from gannet.report.results import Results, measure
from gannet.report.summary import conclusion_text
from gannet.report.verdicts import Verdict, conclude
from tests.report.ledger_factory import RunPlan, realistic_plans, write_comparison


def run(
    arm: str,
    seed: int,
    reaches_s: float,
    *,
    bytes_to_target: int = 1000,
    final: float = 50.0,
    trusted: bool = True,
    status: str = "finished",
    better: str = "lower",
) -> Run:
    """A run whose score goes straight from 100 to 60 in `reaches_s` seconds and then to `final`."""
    scores = tuple(
        Score(step=step, t_s=t_s, bytes=sent, score=score, score_name="Fréchet distance (test)", better=better)
        for step, t_s, sent, score in (
            (0, 0.0, 0, 100.0),
            (5, reaches_s, bytes_to_target, 60.0),
            (9, 2 * reaches_s, 2 * bytes_to_target, final),
        )
    )
    summary = Summary(
        arm=arm,
        seed=seed,
        label=arm.upper(),
        status=status,
        trusted=trusted,
        reasons=() if trusted else ("engine late",),
        nodes=4,
        steps=9,
        final_score=final,
        links="demo-10mbit",
    )
    return Run(
        folder=Path(),
        arm=arm,
        seed=seed,
        summary=summary,
        summary_raw={},
        certificate=Certificate(trusted=True),
        environment=Environment(),
        spec={},
        spec_text="",
        steps=(),
        scores=scores,
        links=(),
        events=(),
        images=(),
        notes=(),
    )


def results(*runs: Run) -> Results:
    names = dict.fromkeys(one.arm for one in runs)
    arms = tuple(Arm(name, tuple(one for one in runs if one.arm == name)) for name in names)
    return measure(Comparison(Path(), "test", "", "", arms))


def times(arm: str, *seconds: float, **settings: object) -> list[Run]:
    return [run(arm, seed, value, **settings) for seed, value in enumerate(seconds)]  # type: ignore[arg-type]


def leader(verdict: Verdict) -> str | None:
    return verdict.leader.name if verdict.leader is not None else None


def test_a_clear_winner_by_hand() -> None:
    # Every run ends at 50, so the target is 50, reached at twice the given seconds. Logarithms differ by
    # log 1.4148 with error 0.01725 and 3.60 degrees of freedom: t = 2.90, so 1.4148 · exp(±0.0500).
    found = results(*times("x", 20.0, 20.5, 21.0), *times("y", 28.5, 29.0, 29.5))
    assert found.target is not None and found.target.level == 50.0
    conclusion = conclude(found)
    assert leader(conclusion.time) == "x" and conclusion.time.confidence == "shown"
    text = sentences.sentence(found, conclusion.time)
    assert text == (
        "On 4 nodes over demo-10mbit links, X reached a Fréchet distance of 50 in 41 s, "
        "1.41× sooner than Y (58 s; 95% interval 1.35 to 1.49). 3 seeds per arm."
    )


def test_within_noise_no_winner_is_named() -> None:
    found = results(*times("x", 20.0, 24.0, 22.0), *times("y", 21.0, 25.0, 23.0))
    verdict = conclude(found).time
    assert verdict.leader is None and verdict.confidence == "not shown"
    assert "these seeds show no difference" in sentences.sentence(found, verdict)


def test_one_seed_is_an_indication() -> None:
    found = results(*times("x", 20.0), *times("y", 30.0))
    verdict = conclude(found).time
    assert leader(verdict) == "x" and verdict.confidence == "indication"
    text = sentences.sentence(found, verdict)
    assert "1.50× sooner than Y" in text and "the spread is unknown: this is only an indication" in text
    assert "interval" not in text


def test_one_seed_and_a_small_gap_is_no_win() -> None:
    found = results(*times("x", 20.0), *times("y", 20.4))
    verdict = conclude(found).time
    assert verdict.leader is None and "one seed cannot show a difference" in sentences.sentence(found, verdict)


def test_an_untrusted_arm_never_wins_over_a_trusted_one() -> None:
    found = results(*times("fast", 10.0, 10.1, trusted=False), *times("x", 20.0, 20.1), *times("y", 30.0, 30.1))
    conclusion = conclude(found)
    assert leader(conclusion.time) == "x" and conclusion.time.trusted
    text = sentences.sentence(found, conclusion.time)
    assert "FAST (untrusted) did even better (20.1 s), but does not count." in text
    assert conclusion.trust == "partly trusted"
    assert any("FAST, seed 0, is untrusted" in note and "engine late" in note for note in sentences.notes(found))


def test_where_nothing_is_trusted_the_sentence_says_so() -> None:
    found = results(*times("x", 10.0, trusted=False), *times("y", 20.0, trusted=False))
    conclusion = conclude(found)
    assert conclusion.trust == "untrusted" and not conclusion.time.trusted
    for verdict in (conclusion.time, conclusion.bytes, conclusion.quality):
        text = sentences.sentence(found, verdict)
        assert text.startswith("Untrusted result: ") and "X (untrusted)" in text and "Y (untrusted)" in text


def test_untrusted_runs_of_a_trusted_arm_are_set_aside() -> None:
    found = results(*times("x", 20.0, 22.0), run("x", 7, 5.0, trusted=False), *times("y", 40.0, 42.0))
    assert [one.seed for one in found.arm("x").counted] == [0, 1]
    assert [one.seed for one in found.arm("x").set_aside] == [7]
    assert found.arm("x").seconds_to_target is not None
    assert found.arm("x").seconds_to_target.values == (40.0, 44.0)  # type: ignore[union-attr]


def test_failed_runs_are_not_counted_and_are_named() -> None:
    found = results(*times("x", 20.0), run("x", 5, 1.0, status="failed"), *times("y", 30.0))
    assert [one.seed for one in found.arm("x").counted] == [0]
    assert any(note.startswith("X, seed 5, failed at step 9") for note in sentences.notes(found))
    assert conclude(found).trust == "partly trusted"


def test_an_arm_that_sends_nothing_stands_apart() -> None:
    silent = times("local", 30.0, bytes_to_target=0)
    found = results(*silent, *times("x", 20.0, bytes_to_target=500), *times("y", 20.0, bytes_to_target=900))
    text = sentences.sentence(found, conclude(found).bytes)
    assert "X sent 1 kB to reach a Fréchet distance of 50, 1.80× less than Y (1.8 kB)" in text
    assert text.endswith("LOCAL sent nothing.")


def test_quality_by_hand_and_higher_is_better() -> None:
    worse, best = (
        [run("x", s, 10.0, final=f) for s, f in enumerate((50.0, 51.0, 52.0))],
        [run("y", s, 10.0, final=f) for s, f in enumerate((30.0, 31.0, 32.0))],
    )
    found = results(*worse, *best)
    verdict = conclude(found).quality
    assert leader(verdict) == "y" and verdict.contrasts[0].effect.value == pytest.approx(20.0)
    assert "Y ended with a Fréchet distance of 31, 20 better than X (51;" in sentences.sentence(found, verdict)
    high = results(*(run(a, s, 10.0, final=f, better="higher") for a, s, f in
                     (("x", 0, 150.0), ("x", 1, 151.0), ("y", 0, 180.0), ("y", 1, 181.0))))  # fmt: skip
    assert leader(conclude(high).quality) == "y"


def test_nothing_to_compare_is_said() -> None:
    alone = results(*times("x", 20.0))
    assert "no other arm to compare with" in sentences.sentence(alone, conclude(alone).time)
    failed = results(run("x", 0, 20.0, status="failed"))
    assert sentences.headline(failed, conclude(failed)) == ["No arm finished a run, so nothing can be concluded."]


seconds = st.lists(st.floats(1.0, 1000.0), min_size=1, max_size=4)


@settings(deadline=None)
@given(seconds, seconds, st.booleans(), st.booleans())
def test_swapping_arms_swaps_the_verdict(a: list[float], b: list[float], a_ok: bool, b_ok: bool) -> None:
    first = results(*times("x", *a, trusted=a_ok), *times("y", *b, trusted=b_ok))
    second = results(*times("x", *b, trusted=b_ok), *times("y", *a, trusted=a_ok))
    swapped = {"x": "y", "y": "x", None: None}
    for key in ("time", "bytes", "quality"):
        there, back = getattr(conclude(first), key), getattr(conclude(second), key)
        assert there.confidence == back.confidence
        assert leader(there) == swapped[leader(back)]


@settings(deadline=None)
@given(seconds, seconds, seconds)
def test_the_order_of_arms_changes_nothing(a: list[float], b: list[float], c: list[float]) -> None:
    runs = [times("x", *a), times("y", *b), times("z", *c)]
    forward = conclude(results(*(one for arm in runs for one in arm))).time
    backward = conclude(results(*(one for arm in reversed(runs) for one in arm))).time
    assert (leader(forward), forward.confidence) == (leader(backward), backward.confidence)


@settings(deadline=None)
@given(st.lists(st.tuples(seconds, st.booleans()), min_size=1, max_size=4))
def test_no_untrusted_leader_beside_a_trusted_arm(arms: list[tuple[list[float], bool]]) -> None:
    found = results(*(one for i, (a, ok) in enumerate(arms) for one in times(f"arm{i}", *a, trusted=ok)))
    for verdict in (conclude(found).time, conclude(found).bytes, conclude(found).quality):
        if verdict.leader is not None and not verdict.leader.trusted:
            assert not any(ok for _, ok in arms)
            assert "untrusted" in sentences.sentence(found, verdict)


def test_models_of_links_are_called_predictions(tmp_path: Path) -> None:
    plans = [
        RunPlan("a", "A", 1, model=True, images=False),
        RunPlan("b", "B", 1, model=True, wait_s=0.9, images=False),
    ]
    found = measure(read_comparison(write_comparison(tmp_path / "c", plans)))
    assert "(modelled links: predicted, not measured)" in sentences.headline(found, conclude(found))[0]


def test_the_realistic_comparison(tmp_path: Path) -> None:
    found = measure(read_comparison(write_comparison(tmp_path / "c", realistic_plans((1, 2, 3), broken=False))))
    conclusion = conclude(found)
    assert leader(conclusion.time) == "dp-oadam" and conclusion.time.confidence == "shown"
    assert conclusion.trust == "trusted"
    assert found.arm("cp-server").cost is not None
    assert found.arm("cp-server").cost.waiting_share == pytest.approx(0.84, abs=0.02)  # type: ignore[union-attr]


def test_no_sentence_of_the_conclusion_comes_twice(tmp_path: Path) -> None:
    plans = [RunPlan(name, name.upper(), 1, images=False) for name in ("a", "b")]
    folder = write_comparison(tmp_path / "c", plans)
    for path in folder.glob("*/seed-1/scores.jsonl"):
        path.unlink()
    found = read_comparison(folder)
    said = "No run was scored, so nothing can be concluded about quality."
    console = Console(width=300, record=True)
    console.print(conclusion_text(found))
    assert console.export_text().count(said) == 1
    assert write_report(found).read_text().count(said) == 1
    level = results(*times("x", 20.0), *times("y", 30.0))
    conclusion = conclude(level)
    further = [text for _, text in sentences.further(level, conclusion)]
    parts = [" ".join(sentences.headline(level, conclusion)), *further]
    assert len(set(parts)) == len(parts) == 3
