"""The search itself: some hundreds of schedules, and that a schedule is a function of its seed and can be read."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.fault_search.schedule import draw
from gannet.fault_search.search import Totals, judge, search, shrunk
from gannet.fault_search.trial import run
from gannet.fault_search.variants import methods
from gannet.node.methods.registry import METHODS

BLOCKS = 12


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_schedule_breaks_an_invariant(block: int) -> None:
    """300 seeds; more: `gannet fault-search`."""
    seeds = range(1_000_000 + 25 * block, 1_000_000 + 25 * (block + 1))
    failing = [found for found in search(seeds) if found.violations]
    # With tracebacks as they are: a failure on another machine is often seen only here.
    shown = [f"seed {found.seed}: {v.invariant}\n{v.found}" for found in failing for v in found.violations]
    assert not failing, "\n\n".join(shown)


def test_the_schedules_are_of_every_method_and_every_kind_of_fault() -> None:
    totals = Totals()
    drawn = [draw(seed) for seed in range(1_000_000, 1_000_300)]
    assert {schedule.method for schedule in drawn} == set(methods())
    assert set(methods()) == {name for name in METHODS if name != "ddp"} | {"players"}  # gloo is not on this fabric
    for schedule in drawn:
        totals.by_kind += schedule.kinds()
    assert totals.by_kind.keys() == {
        "kill", "kill at an await", "return", "pause", "pause at an await", "corrupt sender", "corrupt message",
        "lost message", "broken stream", "duplicate", "replay", "reordering", "cut", "delay",
    }  # fmt: skip
    assert {schedule.world for schedule in drawn} == {3, 4, 5, 6, 8}


def test_a_schedule_is_a_function_of_its_seed() -> None:
    assert draw(5) == draw(5) != draw(6)
    assert draw(5, "choco").method == "choco" and draw(5, "choco") == draw(5, "choco")
    assert run(draw(5)).record.digest() == run(draw(5)).record.digest() != run(draw(6)).record.digest()


def test_one_seed_is_repeated_and_printed_whole() -> None:
    schedule = draw(1_000_001)
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["fault-search", "--seed", "1000001"])
    assert done.exit_code == 0, done.output
    for line in schedule.lines():
        assert line in done.output
    assert "1 schedules" in done.output and "0 schedules violated an invariant" in done.output


def test_the_command_counts_what_it_ran() -> None:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["fault-search", "--count", "6", "--method", "sgp"])
    assert done.exit_code == 0, done.output
    assert re.search(r"│ sgp\s+│\s+6 │", done.output)
    wrong = CliRunner().invoke(app, ["fault-search", "--method", "sgd"])
    assert wrong.exit_code == 2 and "choose one of" in wrong.output


def test_several_processes_find_what_one_does() -> None:
    seeds = range(1_000_000, 1_000_004)
    assert list(search(seeds, "local", jobs=2)) == list(search(seeds, "local"))


def test_a_failing_schedule_shrinks_to_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no node may be lost at all, one kill of many events is left."""
    from gannet.fault_search import invariants

    def nobody_is_lost(trial: object) -> object:
        yield from (str(line) for line in trial.record.lines if line["event"] == "node-lost")  # type: ignore[attr-defined]

    monkeypatch.setitem(invariants.INVARIANTS, "planted", nobody_is_lost)
    schedule = next(s for s in map(draw, range(200)) if s.kinds()["kill"] and len(s.events) > 4)
    assert any(violation.invariant == "planted" for violation in judge(schedule).violations)
    small = shrunk(schedule, "planted")
    assert len(small.events) == 1 and small.events[0] in schedule.events
