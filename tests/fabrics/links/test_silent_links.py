"""Links over which no message comes: named at once, before training where they are configured so, and at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gannet
from gannet.fabrics.job import LinkChange
from gannet.fabrics.session.session import Session
from gannet.fabrics.virtual.faults import Kill
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.node.wire import control_pb2
from tests.support.games import BilinearGame
from tests.support.runs import Memory, virtual_job

PROFILE = LinkProfile.model_validate({"rate": "10Mbit", "delay_ms": 25})
DEAD = LinkState(profile=PROFILE, cut=frozenset({(0, 1)}))


class InOrder(Memory):
    """Remembers which came first, steps or lines."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    def step(self, rank: int, stats: Any) -> None:
        super().step(rank, stats)
        self.order.append("step")

    def links(self, line: dict[str, Any]) -> None:
        super().links(line)
        self.order.append(line["event"])


def run(
    algorithm: str = "dp-oadam", steps: int = 4, faults: tuple[Any, ...] = (), world: int = 4, **changes: Any
) -> InOrder:
    from gannet.fabrics.virtual.fabric import run_virtual

    memory = InOrder()
    job = replace(virtual_job({"name": algorithm}, world, steps), **changes)
    run_virtual(job, memory, faults, [BilinearGame(rank) for rank in range(world)])
    return memory


def silent(memory: Memory) -> list[tuple[int, int, str]]:
    return [
        (line["src"], line["dst"], line["detail"]) for line in memory.link_lines if line["event"] == "silent-link"
    ]


def test_a_link_that_is_dead_from_the_start_is_named_before_any_step_and_with_its_first_missing_message() -> None:
    memory = run(links=DEAD)
    first, waits = silent(memory)[:2]
    second = next(line for line in silent(memory) if "did not come" in line[2])
    assert memory.order[0] == "silent-link"
    assert first[:2] == (0, 1) and "loses every packet from the start, as configured" in first[2]
    assert waits == (0, 1, "link 0 → 1: node 1 still waits for the message of node 0 for step 1")
    assert second[:2] == (0, 1) and "did not come in time for step 1" in second[2]
    line = next(line for line in memory.link_lines if "did not come" in line["detail"])
    told = [at for at, what in enumerate(memory.order) if what == "silent-link"][memory.link_lines.index(line)]
    missing = next(stats for stats in memory.steps[1] if stats.missing)
    assert missing.step == 1 and missing.missing == (0,)
    assert memory.order[told - 1] == "step" and line["t_s"] == missing.t_s  # at once


def test_each_link_is_named_once_and_sound_ones_never() -> None:
    assert silent(run()) == []
    found = silent(run(steps=8, links=DEAD))
    assert len(found) == len(set(found))
    for what in ("still waits", "did not come in time"):
        links = [(src, dst) for src, dst, detail in found if what in detail]
        assert len(links) == len(set(links)) and (0, 1) in links


def test_a_link_that_dies_later_is_named_with_its_step() -> None:
    """Not to a node that then trains without the other: of a method whose nodes wait."""
    memory = run("power-gossip", steps=8, links=LinkState(profile=PROFILE), changes=(LinkChange(0.2, DEAD),))
    src, dst, detail = next(line for line in silent(memory) if "did not come" in line[2])
    since = next(stats.step for stats in memory.steps[1] if stats.missing)
    assert (src, dst) == (0, 1) and since > 1 and detail.endswith(f"for step {since}")


def test_who_is_lost_has_no_silent_links() -> None:
    assert silent(run(steps=20, faults=(Kill(2, 0.3),))) == []


def test_a_session_names_whom_a_node_waits_for_long_before_it_gives_up() -> None:
    """On real links the deadline of a round is minutes, and a node reports at the end of its patience."""
    memory = Memory()
    session = Session(virtual_job({"name": "dp-oadam"}, 4, 4), memory, None, "none")  # type: ignore[arg-type]
    session.alive = set(range(4))
    for _ in range(2):
        session._hear(1, control_pb2.Report(waiting=control_pb2.Waiting(source=2)))
    assert silent(memory) == [(2, 1, "link 2 → 1: node 1 still waits for the message of node 2 for step 1")]
    session._hear(1, control_pb2.Report(step=control_pb2.Step(step=1, t_s=24.0, missing=[2])))
    assert silent(memory)[1][2].endswith("did not come in time for step 1")


def test_the_run_ends_untrusted_with_the_links_their_steps_and_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nrate: 10Mbit\ndelay_ms: 25\n")
    spec = {
        "name": "dead",
        "nodes": 4,
        "fabric": "virtual",
        "task": {"name": "game"},
        "algorithm": {"name": "dp-oadam"},
        "pace_ms": 10,
        "links": {"profile": str(tmp_path / "mine.yaml"), "edges": {"0>1": {"loss_percent": 100}}},
        "stop": {"steps": 4},
        "score": None,
    }
    found = gannet.run(spec, out=tmp_path / "out")
    said = " ".join(capsys.readouterr().out.split())
    assert "at 0.0 s: link 0 → 1: loses every packet from the start, as configured" in said
    (reason,) = found.summary.reasons
    steps = [step for step in found.steps if step.node == 1 and 0 in step.missing]
    assert f"link 0 → 1 {len(steps)} from step 1 ({steps[0].t_s:.1f} s) to step {steps[-1].step}" in reason
    assert reason.startswith(f"{sum(len(step.missing) for step in found.steps)} messages were missing from mixes")
