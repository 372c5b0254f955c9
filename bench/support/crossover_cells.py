"""Cells of bench/crossover.py: the methods, their jobs on a link, and the figures of a job's run.

Two kinds of jobs. A *trajectory* is a small min-max game on links without limits, until it is near its saddle point:
how many steps a method needs does not depend on links (all methods here are synchronous). A *timing* is the same game
padded to the size of the default GAN, for a few steps on the link in question: how long a step takes does not depend
on the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from torch import Tensor

from gannet.fabrics.job import Job
from gannet.fabrics.session.deadlines import limits_of, with_turns
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.netem.measure.certificate import Certificate
from gannet.node.config import NodeConfig
from gannet.node.training.meter import StepStats

PACE_MS = 60.0
GAN_VALUES, GAN_RAW = (
    228_962,
    3_682,
)  # of the default task: all, and those that quantizers leave alone (gannet.node.codecs.split)
TIMED_GAME = {"name": "game", "dimension": GAN_RAW // 2, "padding": GAN_VALUES - GAN_RAW}
GAME = {"name": "game", "dimension": 256, "curvature": 0.5, "noise": 1.0, "spread": 1.5}
OPTIMIZER = {"learning_rate": 0.05}
SCORE = 0.5  # root mean square over nodes of the distance to the saddle point, of that at the beginning
STEPS_LIMIT, SCORE_EVERY = 300, 2


@dataclass(frozen=True)
class Method:
    """A way of training.

    `same_steps_as`: another with the same trajectory but for rounding, cheaper to run. `same_step_s_as`: another
    whose exchange is the same. `for_steps`: what is run instead for the trajectory, which it leaves the same.
    """

    label: str
    algorithm: dict[str, Any]
    topology: str = "ring"
    codec: str = "fp32"
    same_steps_as: str | None = None
    same_step_s_as: str | None = None
    for_steps: dict[str, Any] | None = None
    most_nodes: int = 256  # for which its trajectory is run

    @property
    def every(self) -> int:
        """Steps from one exchange to the next."""
        return int(self.algorithm.get("every", 1))


METHODS = {
    "gossip-ring": Method("DP-OAdam, ring", {"name": "dp-oadam"}),
    "gossip-peer": Method("DP-OAdam, one-peer exponential", {"name": "dp-oadam"}, "one-peer-exponential"),
    "choco": Method("CHOCO, qsgd-4bit, ring", {"name": "choco"}, codec="qsgd-4bit"),
    "all-reduce": Method(
        "CP-OAdam, ring all-reduce", {"name": "cp-oadam", "collective": "ring"}, same_steps_as="server"
    ),
    "server": Method("CP-OAdam, server", {"name": "cp-oadam", "collective": "server"}),
    "exact-gradients": Method(
        "CP-OAdam, gradients, ring all-reduce",
        {"name": "cp-oadam", "collective": "ring", "average": "gradients"},
        same_step_s_as="all-reduce",  # as many values, and the game has no buffers
        for_steps={"name": "cp-oadam", "collective": "server", "average": "gradients"},
    ),
    "gradients": Method(
        "CP-OAdam, gradients, qsgd-4bit, ring all-reduce",
        {"name": "cp-oadam", "collective": "ring", "average": "gradients"},
        codec="qsgd-4bit",
        most_nodes=64,  # a ring passes on n² parts a step
    ),
    "local": Method(
        "CP-OAdam every 10 steps, ring all-reduce", {"name": "cp-oadam", "collective": "ring", "every": 10}
    ),
}


class Watch:
    """A Sink that keeps the steps' times, and with `initial` knows when the game's score is reached."""

    def __init__(self, world: int, dimension: int | None = None) -> None:
        self._world, self._dimension = world, dimension
        self._distances: dict[int, list[float]] = {}
        self.times: dict[int, list[float]] = {}
        self.busy_s: list[float] = []
        self.reached: int | None = None

    def phase(self, text: str) -> None: ...

    def step(self, rank: int, stats: StepStats) -> None:
        self.times.setdefault(rank, []).append(stats.t_s)
        self.busy_s.append(stats.compute_s + stats.other_s)

    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        if self._dimension is None:
            return False
        found = self._distances.setdefault(step, [])
        found.append(float(x[: 2 * self._dimension].norm()))
        if len(found) == self._world and self.reached is None and self.score(step) <= SCORE:
            self.reached = step
        return self.reached is not None

    def score(self, step: int) -> float:
        """Distance after that step, of the distance at the beginning."""
        now, begin = (float(np.sqrt(np.mean(np.square(self._distances[k])))) for k in (step, 0))
        return now / begin

    def checkpoint(self, rank: int, step: int, data: bytes) -> None: ...

    def links(self, line: dict[str, Any]) -> None: ...

    def refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None:
        raise RuntimeError(f"a message from {sender} to {receiver} was refused: {verdict}, {detail}")

    def certificate(self, certificate: Certificate) -> None: ...

    def ends_s(self) -> list[float]:
        """When the last node ended each step, seconds of training."""
        return [max(times) for times in zip(*self.times.values(), strict=False)]

    def step_s(self, after: int = 0) -> float:
        """Mean seconds a step over the steps later than `after`; a step ends when the last node has ended it."""
        ends = self.ends_s()
        return (ends[-1] - (ends[after - 1] if after else 0.0)) / (len(ends) - after)


def link(rate_mbps: float, delay_ms: float) -> LinkProfile:
    """The same both ways."""
    bps = round(rate_mbps * 1e6)
    return LinkProfile(
        name=f"{rate_mbps:g}M-{delay_ms:g}ms", up_bps=bps, down_bps=bps, up_delay_ms=delay_ms, down_delay_ms=delay_ms
    )


def timing_job(name: str, world: int, rate_mbps: float, delay_ms: float, steps: int, pace_ms: float = PACE_MS) -> Job:
    """A job of `steps` steps of a method with messages of the default GAN's size."""
    method = METHODS[name]
    links = LinkState(profile=link(rate_mbps, delay_ms))
    settings = {
        "run": "crossover",
        "task": TIMED_GAME,
        "algorithm": method.algorithm,
        "topology": method.topology,
        "codec": method.codec,
        "pace_ms": pace_ms,
        "snapshot_every": 10**6,
        "max_steps": steps,
    }
    config, message_bytes = NodeConfig.model_validate(settings), 4 * GAN_VALUES
    compute_s = 10 * pace_ms / 1000 * method.every
    job = Job(config, world, links, message_bytes=message_bytes, compute_s=compute_s)
    limits = with_turns(
        limits_of(job.plans, message_bytes, world, compute_s), [(0.0, job.plans)], message_bytes, compute_s
    )
    return Job(
        config.model_copy(update={"exchange": limits}), world, links, message_bytes=message_bytes, compute_s=compute_s
    )


@cache
def predicted_step_s(name: str, world: int, rate_mbps: float, delay_ms: float, pace_ms: float = PACE_MS) -> float:
    """By the virtual fabric. On links that are all alike every exchange takes as long as the first."""
    method = METHODS[name]
    if method.same_step_s_as is not None:
        return predicted_step_s(method.same_step_s_as, world, rate_mbps, delay_ms, pace_ms)
    if method.every > 1:
        exchange_s = predicted_step_s("all-reduce", world, rate_mbps, delay_ms, pace_ms) - pace_ms / 1000
        return pace_ms / 1000 + exchange_s / method.every
    watch = Watch(world)
    outcome = run_virtual(timing_job(name, world, rate_mbps, delay_ms, 1, pace_ms), watch)
    if outcome.status != "finished" or outcome.lost:
        raise RuntimeError(f"{name} on {world} nodes: {outcome.reason or outcome.lost}")
    return watch.step_s()


def steps_to_score(name: str, world: int) -> int | None:
    """Steps until the game is near enough to its saddle point; None: not within STEPS_LIMIT."""
    method = METHODS[name]
    settings = {
        "run": "crossover",
        "task": GAME,
        "optimizer": OPTIMIZER,
        "algorithm": method.for_steps or method.algorithm,
        "topology": method.topology,
        "codec": f"{method.codec},raw_below=0" if method.codec != "fp32" else "fp32",
        "pace_ms": PACE_MS,
        "snapshot_every": max(SCORE_EVERY, method.every),
        "max_steps": STEPS_LIMIT,
    }
    watch = Watch(world, GAME["dimension"])  # type: ignore[arg-type]
    outcome = run_virtual(Job(NodeConfig.model_validate(settings), world, LinkState(profile=LinkProfile())), watch)
    if outcome.status != "finished":
        raise RuntimeError(f"{name} on {world} nodes: {outcome.reason}")
    return watch.reached


def winners(seconds: dict[str, float | None]) -> tuple[str | None, float | None]:
    """(the first to reach the score, how many times as long the runner-up takes); None where there is none."""
    ranked: Sequence[tuple[float, str]] = sorted((s, name) for name, s in seconds.items() if s is not None)
    if not ranked:
        return None, None
    return ranked[0][1], ranked[1][0] / ranked[0][0] if len(ranked) > 1 else None
