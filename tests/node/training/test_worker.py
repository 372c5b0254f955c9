"""The training loop and the wall clock: what counts as training, where time goes, what ends a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gannet.node.config import NodeConfig
from gannet.node.process.wall_clock import WallClock
from gannet.node.tasks.base import Gradient
from gannet.node.training.effects import PeerLost, Tag
from gannet.node.training.loop import train
from gannet.node.training.meter import Meter, StepStats
from gannet.node.training.peers import Diverged
from gannet.node.training.worker import Worker, device_of
from tests.support.games import BilinearGame


class Notes:
    """A Reporter that remembers, and stops when told."""

    def __init__(self, stop: int | None = None) -> None:
        self.stats: list[StepStats] = []
        self.kept: list[tuple[int, float, torch.Tensor, torch.Tensor]] = []
        self.stop = stop

    def step(self, stats: StepStats) -> None:
        self.stats.append(stats)

    def snapshot(self, step: int, t_s: float, codec_bytes: int, x: torch.Tensor) -> None:
        self.kept.append((step, t_s, x, x.clone()))

    def wants_state(self) -> bool:
        return False

    def state(self, checkpoint: Any) -> None: ...

    def meets(self, step: int) -> bool:
        return False

    def shown_last(self) -> int | None:
        return None

    def stop_after(self) -> int | None:
        return self.stop


class Silence:
    """A network in which everybody else is dead."""

    def send(self, to: int, tag: Tag, payload: memoryview, last: bool) -> None: ...

    def receive(self, source: int, tag: Tag) -> memoryview:
        raise PeerLost(source, "silence")


class Slow(BilinearGame):
    def gradient(self, x: torch.Tensor) -> Gradient:
        time.sleep(0.005)
        return super().gradient(x)


def run(task: Any, notes: Notes, world: int = 1, clock: Callable[[], float] = time.monotonic, **config: Any) -> int:
    settings = NodeConfig.model_validate({"run": "r", "algorithm": {"name": "dp-oadam"}, **config})
    meter = Meter(clock=clock)
    return WallClock(Silence(), meter, settings.pace_s_of(0)).run(
        train(Worker(settings, 0, world, task), meter, notes)
    )


def test_a_step_is_computing_waiting_and_the_rest() -> None:
    notes = Notes()
    assert run(Slow(0), notes, max_steps=5) == 5
    assert [s.step for s in notes.stats] == [1, 2, 3, 4, 5]
    for before, now in zip([0.0, *(s.t_s for s in notes.stats)], notes.stats, strict=False):
        assert now.compute_s >= 0.005
        assert now.compute_s + now.wait_s + now.other_s == pytest.approx(now.t_s - before, abs=1e-6)


def test_pace_is_the_least_time_of_a_gradient() -> None:
    notes = Notes()
    run(BilinearGame(0), notes, max_steps=4, pace_ms=20)
    assert all(s.compute_s >= 0.020 for s in notes.stats)


def test_snapshots_are_states_that_nobody_changes_afterwards() -> None:
    """A reporter may upload a snapshot while training goes on: it holds the tensor, not a copy."""
    for algorithm in ({"name": "dp-oadam"}, {"name": "dposg"}, {"name": "local"}, {"name": "cp-oadam"}):
        notes = Notes()
        run(BilinearGame(0, noise=0.1), notes, max_steps=6, snapshot_every=2, algorithm=algorithm)
        assert [step for step, *_ in notes.kept] == [0, 2, 4, 6]
        assert all(torch.equal(held, then) for _, _, held, then in notes.kept)


def test_the_training_clock_holds_nothing_but_training() -> None:
    """Invariant 4: nothing is generated, scored or drawn while the clock runs, and step 0 is off it."""

    class NoPictures(BilinearGame):
        def generate(self, x: torch.Tensor, n: int, seed: int) -> torch.Tensor:
            raise AssertionError("an image was made on the training clock")

    class SlowFirstSnapshot(Notes):
        def snapshot(self, step: int, t_s: float, codec_bytes: int, x: torch.Tensor) -> None:
            if step == 0:
                spent_s.append(1000.0)
            super().snapshot(step, t_s, codec_bytes, x)

    notes, spent_s = SlowFirstSnapshot(), [0.0]
    run(NoPictures(0), notes, clock=lambda: time.monotonic() + sum(spent_s), max_steps=3, snapshot_every=1)
    assert notes.kept[0][1] == 0 and sum(spent_s) == 1000 and notes.stats[-1].t_s < 1000


def test_alone_in_silence_every_weight_goes_to_oneself() -> None:
    """Invariant 3 on the wall clock: with all peers dead, gossip is local training, bit for bit."""
    lonely, local = Notes(), Notes()
    run(BilinearGame(0, noise=0.1), lonely, world=4, max_steps=5, topology="complete")
    run(BilinearGame(0, noise=0.1), local, max_steps=5, algorithm={"name": "local"})
    torch.testing.assert_close(lonely.kept[-1][2], local.kept[-1][2])
    assert all(s.missing == (1, 2, 3) for s in lonely.stats)


def test_an_order_to_stop_ends_with_a_last_snapshot() -> None:
    notes = Notes(stop=3)
    assert run(BilinearGame(0), notes, snapshot_every=100) == 3
    assert [step for step, *_ in notes.kept] == [0, 3]


def test_a_gradient_that_is_not_finite_ends_the_run_with_the_losses() -> None:
    class Exploding(BilinearGame):
        def gradient(self, x: torch.Tensor) -> Gradient:
            return super().gradient(x)._replace(field=torch.full((self.size,), float("nan")))

    with pytest.raises(Diverged, match="not finite; losses"):
        run(Exploding(0), Notes(), max_steps=3)


def test_nodes_of_one_machine_take_its_gpus_in_turn() -> None:
    assert [device_of("cuda", rank, 2) for rank in range(4)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert (
        device_of("cuda:1", 0, 4) == "cuda:1"
        and device_of("cpu", 3, 2) == "cpu"
        and device_of("cuda", 0, 0) == "cuda"
    )
