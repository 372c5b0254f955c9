"""Checkpoints: a run that went on from one has the bits of a run that never stopped; any other file is refused.

The uninterrupted run is the truth: it has no hand in what is saved and loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from gannet.fabrics.job import Job, Resumed
from gannet.fabrics.virtual.faults import Kill
from gannet.node.config import NodeConfig
from gannet.node.methods.registry import METHODS as SHIPPED
from gannet.node.training.checkpoint import Checkpoint, CheckpointDamaged, CheckpointError, Owner, config_hash
from gannet.node.training.worker import Worker
from tests.support.runs import Memory, play, virtual_job

WORLD, BEFORE, STEPS = 4, 5, 10
GAME = {"name": "game", "dimension": 12, "noise": 0.1, "spread": 0.2}
GAN = {"loss": "wgan-gp", "width": 4, "latent": 4, "critic_steps": 2}

# Every method that can have checkpoints, with states of every kind: local steps, several rounds, graphs that change.
METHODS: list[tuple[dict[str, Any], str, str]] = [
    ({"name": "local"}, "fp32", "ring"),
    ({"name": "local", "method": "optimistic-sg"}, "fp32", "ring"),
    ({"name": "dp-oadam"}, "fp32", "ring"),
    ({"name": "dp-oadam", "every": 3, "rounds": 2}, "fp16", "random-ring"),
    ({"name": "dp-oadam", "overlap": True}, "bf16", "one-peer-exponential"),
    ({"name": "dposg", "rounds": 2}, "fp32", "ring"),
    ({"name": "cp-oadam", "every": 2}, "fp32", "ring"),
    ({"name": "cp-oadam", "average": "gradients"}, "qsgd-4bit,raw_below=0", "ring"),
    ({"name": "cp-oadam", "average": "gradients", "collective": "ring"}, "random-k,raw_below=0", "ring"),
    ({"name": "gossip-pga", "global_every": 3}, "fp32", "ring"),
    ({"name": "sgp"}, "fp32", "exponential"),
    ({"name": "choco"}, "qsgd-4bit,raw_below=0", "ring"),
    ({"name": "choco"}, "top-k,raw_below=0", "ring"),
    ({"name": "deepsqueeze"}, "top-k,raw_below=0", "random-ring"),
    ({"name": "deepsqueeze"}, "qsgd-4bit,raw_below=0", "ring"),
    ({"name": "power-gossip", "iterations": 3}, "fp16", "ring"),
    ({"name": "diloco", "every": 3}, "qsgd-4bit,raw_below=0", "ring"),
    ({"name": "fedgan", "every": 3}, "fp32", "ring"),
    ({"name": "md-gan", "swap_every": 2, "batches": 2}, "fp32", "ring"),
]


def job_of(algorithm: dict[str, Any], codec: str, topology: str, steps: int, task: dict[str, Any]) -> Job:
    settings = {"codec": codec, "topology": topology, "task": task, "batch": 3}
    return virtual_job(algorithm, WORLD, steps, **settings, checkpoint_every=BEFORE)


def resumed(job: Job, before: Memory, step: int) -> Job:
    """`job`, from the checkpoints of another run on."""
    states = [before.checkpoints[step][rank] for rank in range(job.world)]
    clocks = [before.steps[rank][step - 1].t_s for rank in range(job.world)]
    return replace(job, resumed=Resumed(step, tuple(clocks), tuple(states)))


def assert_same(whole: Memory, before: Memory, after: Memory) -> None:
    assert min(after.snapshots) == BEFORE + 1
    for step in range(BEFORE + 1, STEPS + 1):
        np.testing.assert_array_equal(whole.states(step), after.states(step), f"step {step}")
    for rank in range(WORLD):
        told = [*before.steps[rank], *after.steps[rank]]
        assert [s.step for s in told] == list(range(1, STEPS + 1))
        assert [s.loss for s in told] == [s.loss for s in whole.steps[rank]]
        assert [s.codec_bytes for s in told] == [s.codec_bytes for s in whole.steps[rank]]
        assert np.all(np.diff([s.t_s for s in told]) > 0)


def assert_goes_on(job: Callable[[int], Job]) -> None:
    """`job(n)` is a run of n steps: the whole of it is as half of it, and then the rest from a checkpoint on."""
    whole, outcome = play(job(STEPS))
    assert outcome.status == "finished", outcome.reason
    before, _ = play(job(BEFORE))
    after, outcome = play(resumed(job(STEPS), before, BEFORE))
    assert outcome.status == "finished", outcome.reason
    assert not after.refusals and not any(s.missing for stats in after.steps.values() for s in stats)
    assert_same(whole, before, after)
    assert set(whole.checkpoints) == {BEFORE, STEPS}
    for rank in range(WORLD):  # what is remembered at the end is the same too, all of it
        one, other = (Checkpoint.unpack(memory.checkpoints[STEPS][rank], "") for memory in (whole, after))
        assert one.tensors.keys() == other.tensors.keys()
        assert all(torch.equal(value, other.tensors[name]) for name, value in one.tensors.items())
        assert (one.round, one.codec_bytes) == (other.round, other.codec_bytes)


@pytest.mark.parametrize(("algorithm", "codec", "topology"), METHODS, ids=str)
def test_it_goes_on_as_if_it_had_never_stopped(algorithm: dict[str, Any], codec: str, topology: str) -> None:
    task = GAN if algorithm["name"] == "md-gan" else GAME
    task = {**task, "critic_steps": 1} if algorithm["name"] == "md-gan" else task
    assert_goes_on(lambda steps: job_of(algorithm, codec, topology, steps, task))


PLAYERS: dict[str, Any] = {
    "generator": {"algorithm": {"name": "choco"}, "codec": "qsgd-4bit,raw_below=0"},
    "discriminator": {"algorithm": {"name": "diloco", "every": 3}, "codec": "fp16"},
}


def test_players_that_are_exchanged_each_in_its_own_way_go_on_too() -> None:
    def job(steps: int) -> Job:
        settings = {"task": GAN, "batch": 3, "players": PLAYERS, "topology": "ring", "codec": "fp32"}
        return virtual_job({"name": "dp-oadam"}, WORLD, steps, **settings, checkpoint_every=BEFORE)

    assert_goes_on(job)


@pytest.mark.parametrize(
    "task",
    [
        {"name": "kdgan", "teacher": "mlp", "hidden": 16, "pretrain_steps": 3},
        {"name": "mixture"},
        {"name": "minty", "dimension": 6},
        {**GAN, "ema": 0.9},
    ],
    ids=lambda task: task.get("name", "gan with an average"),
)
def test_every_task_goes_on(task: dict[str, Any]) -> None:
    assert_goes_on(lambda steps: job_of({"name": "dp-oadam"}, "fp32", "ring", steps, task))


def test_every_method_is_tried_or_refused() -> None:
    assert {algorithm["name"] for algorithm, _, _ in METHODS} | {"ddp", "ad-psgd"} == set(SHIPPED)
    with pytest.raises(ValueError, match=r"checkpoint_every: .* synchronous method"):
        NodeConfig.model_validate(
            {"run": "r", "algorithm": {"name": "ad-psgd"}, "pace_ms": 10, "checkpoint_every": 5}
        )
    NodeConfig.model_validate({"run": "r", "algorithm": {"name": "ddp"}, "checkpoint_every": 5})  # test_ddp_runs.py


@pytest.mark.parametrize("algorithm", [{"name": "dp-oadam"}, {"name": "dposg"}, {"name": "sgp"}], ids=str)
def test_a_gan_goes_on_with_its_minibatches_its_schedule_and_its_running_statistics(
    algorithm: dict[str, Any],
) -> None:
    whole, _ = play(job_of(algorithm, "fp32", "ring", STEPS, GAN))
    before, _ = play(job_of(algorithm, "fp32", "ring", BEFORE, GAN))  # an odd number: in the middle of critic_steps
    after, _ = play(resumed(job_of(algorithm, "fp32", "ring", STEPS, GAN), before, BEFORE))
    assert_same(whole, before, after)


def test_what_is_left_out_of_a_checkpoint_would_show() -> None:
    """The test above can fail: without the optimizer's moments the trajectory is another one."""
    algorithm = {"name": "dp-oadam"}
    whole, _ = play(job_of(algorithm, "fp32", "ring", STEPS, GAME))
    before, _ = play(job_of(algorithm, "fp32", "ring", BEFORE, GAME))
    for rank, data in before.checkpoints[BEFORE].items():
        found = Checkpoint.unpack(data, "")
        for name in found.tensors:
            if name.endswith("previous"):
                found.tensors[name] = torch.zeros_like(found.tensors[name])
        before.checkpoints[BEFORE][rank] = found.pack()
    after, _ = play(resumed(job_of(algorithm, "fp32", "ring", STEPS, GAME), before, BEFORE))
    assert not np.array_equal(whole.states(STEPS), after.states(STEPS))


def test_several_interruptions_are_as_none() -> None:
    algorithm = {"name": "choco"}
    whole, _ = play(job_of(algorithm, "qsgd-4bit,raw_below=0", "ring", 20, GAME))
    memory, _ = play(job_of(algorithm, "qsgd-4bit,raw_below=0", "ring", BEFORE, GAME))
    clocks: dict[int, list[Any]] = {rank: list(stats) for rank, stats in memory.steps.items()}
    for step in (5, 10, 15):
        memory.steps = clocks
        memory, _ = play(resumed(job_of(algorithm, "qsgd-4bit,raw_below=0", "ring", step + 5, GAME), memory, step))
        clocks = {rank: clocks[rank] + stats for rank, stats in memory.steps.items()}
    np.testing.assert_array_equal(whole.states(20), memory.states(20))


def test_a_run_that_had_made_its_last_step_only_ends() -> None:
    before, _ = play(job_of({"name": "dp-oadam"}, "fp32", "ring", BEFORE, GAME))
    after, outcome = play(resumed(job_of({"name": "dp-oadam"}, "fp32", "ring", BEFORE, GAME), before, BEFORE))
    assert outcome.status == "finished" and not after.steps


def test_a_lost_node_ends_the_keeping_and_resuming_goes_back_to_when_it_was_there() -> None:
    """Node 2 ends between its fifth and its tenth step."""
    job = job_of({"name": "dp-oadam"}, "fp32", "ring", 40, GAME)
    whole, _ = play(job)
    kill_s = whole.steps[2][6].t_s
    before, outcome = play(job, faults=[Kill(2, at_s=kill_s)])
    assert outcome.status == "finished" and outcome.lost.keys() == {2}
    assert set(before.checkpoints) == {BEFORE} and len(before.checkpoints[BEFORE]) == WORLD
    after, outcome = play(resumed(job, before, BEFORE))
    assert outcome.status == "finished" and not outcome.lost
    np.testing.assert_array_equal(whole.states(40), after.states(40))


# Files.

OWNER = Owner("run/a/seed-1/x", 2, 4, "c0ffee", "5c4e3a")
names = st.from_regex(r"[a-z]{1,8}\.[a-z.-]{1,8}", fullmatch=True)
tensors = st.one_of(
    st.lists(st.floats(width=32, allow_nan=False), max_size=9).map(lambda v: torch.tensor(v, dtype=torch.float32)),
    st.integers(-(2**63), 2**63 - 1).map(lambda v: torch.tensor(v, dtype=torch.int64)),
    st.floats(allow_nan=False).map(lambda v: torch.tensor(v, dtype=torch.float64)),
    st.binary(max_size=20).map(lambda v: torch.tensor(list(v), dtype=torch.uint8)),
    st.booleans().map(torch.tensor),
)
checkpoints = st.builds(
    Checkpoint,
    st.builds(
        Owner, st.text(max_size=9), st.integers(0, 99), st.integers(1, 99), st.text(max_size=5), st.text(max_size=5)
    ),
    st.integers(1, 10**9),
    st.floats(0, 1e9),
    st.integers(0, 10**9),
    st.integers(0, 2**60),
    st.dictionaries(names, tensors, max_size=4).map(lambda d: {"x": torch.arange(3.0), **d}),
)


def facts(checkpoint: Checkpoint) -> tuple[Any, ...]:
    c = checkpoint
    held = {name: (t.dtype, tuple(t.shape), t.reshape(-1).tolist()) for name, t in c.tensors.items()}
    return c.owner, c.step, c.t_s, c.round, c.codec_bytes, c.format, held


@given(checkpoints)
def test_what_is_read_is_what_was_written(checkpoint: Checkpoint) -> None:
    assert facts(Checkpoint.unpack(checkpoint.pack(), "here")) == facts(checkpoint)


@given(checkpoints, st.data())
def test_a_damaged_file_is_one_clear_error(checkpoint: Checkpoint, data: st.DataObject) -> None:
    """Cut short or one bit wrong anywhere: never another state (a bit in a JSON's spaces may not matter)."""
    packed = bytearray(checkpoint.pack())
    if data.draw(st.booleans(), "cut"):
        packed = packed[: data.draw(st.integers(0, len(packed) - 1), "length")]
    else:
        packed[data.draw(st.integers(0, len(packed) - 1), "byte")] ^= 1 << data.draw(st.integers(0, 7), "bit")
    try:
        found = Checkpoint.unpack(bytes(packed), "node-2.safetensors")
    except CheckpointDamaged as error:  # never one of a later format, which is not passed over
        assert str(error).startswith("node-2.safetensors: ")
    else:
        assert facts(found) == facts(checkpoint)


@given(st.binary(max_size=200))
def test_any_other_file_is_one_clear_error(data: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"^here: not a whole checkpoint"):
        Checkpoint.unpack(data, "here")


def test_a_snapshot_is_no_checkpoint() -> None:
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        Checkpoint.unpack(safetensors.torch.save({"x": torch.zeros(3)}, {"step": "3"}), "here")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"run": "other"}, "another run"),
        ({"rank": 1}, "another node"),
        ({"world": 5}, "another number of nodes"),
        ({"config": "beef"}, "other settings"),
        ({"schema": "0"}, "lie elsewhere"),
    ],
    ids=str,
)
def test_a_checkpoint_of_something_else_is_refused(changes: dict[str, Any], what: str) -> None:
    OWNER.check(OWNER, "here")
    with pytest.raises(CheckpointError, match=f"^here: .*{what}"):
        OWNER.check(replace(OWNER, **changes), "here")


def test_settings_that_x_depends_on_are_in_the_hash_and_others_are_not() -> None:
    def hashed(**changes: Any) -> str:
        base = {"run": "r", "algorithm": {"name": "dp-oadam"}, "checkpoint_every": 5}
        return config_hash(NodeConfig.model_validate({**base, **changes}))

    for change in (
        {"run": "s"}, {"arm": "a"}, {"pace_ms": 3}, {"snapshot_every": 7}, {"checkpoint_every": 6}, {"max_steps": 9},
        {"exchange": {"patience_s": 9}},
    ):  # fmt: skip
        assert hashed(**change) == hashed()
    changed = [
        {"seed": 2}, {"task": GAN}, {"data": {"name": "cifar10", "root": "x"}}, {"optimizer": {"beta1": 0.3}},
        {"codec": "fp16"},
        {"algorithm": {"name": "dp-oadam", "every": 2}}, {"topology": "star"}, {"batch": 5}, {"device": "cuda"},
    ]  # fmt: skip
    assert len({hashed(), *(hashed(**change) for change in changed)}) == 1 + len(changed)


def test_a_node_refuses_the_checkpoint_of_another_and_what_it_cannot_use() -> None:
    job = job_of({"name": "dp-oadam"}, "fp32", "ring", BEFORE, GAME)
    before, _ = play(job)
    worker = Worker(job.config, 1, WORLD)
    with pytest.raises(CheckpointError, match="another node: its rank is 2, here 1"):
        worker.go_on_from(Checkpoint.unpack(before.checkpoints[BEFORE][2], ""))
    more = Checkpoint.unpack(before.checkpoints[BEFORE][1], "")
    less = Checkpoint.unpack(before.checkpoints[BEFORE][1], "")
    more.tensors["moon.phase"] = torch.ones(1)
    del less.tensors["oadam.generator.moment"]
    states = dict(before.checkpoints[BEFORE])
    for wrong, what in ((more, "moon.phase would be ignored"), (less, "no state of 'oadam' that fits")):
        before.checkpoints[BEFORE] = {**states, 1: wrong.pack()}
        with pytest.raises(CheckpointError, match=what):
            play(resumed(job_of({"name": "dp-oadam"}, "fp32", "ring", STEPS, GAME), before, BEFORE))
