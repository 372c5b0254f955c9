"""What mixing keeps, also without a node: read off x, since nothing moves it but known kicks and the mixing itself.

The task's `still` entries are 1 and 0 on all nodes, and its kick to node r moves coordinate r alone. So where every
row of the mixing matrix sums to 1, the first stays 1 and the sum over a node's kick coordinates stays that of one
kick; where columns do too, the mean over the nodes stays that of runs without mixing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gannet.fabrics.job import NODE_LOST, NODE_RETURNED
from gannet.fault_search.kick_task import KickTask
from gannet.fault_search.trial import Trial, alone
from gannet.node.codecs.registry import codec_config
from gannet.node.config import NodeConfig
from gannet.node.methods.base import Method
from gannet.node.players.config import parts_of
from gannet.node.training.meter import StepStats

_SETTLED = 6  # steps after which no kick moves anything
# Relative rounding of each cast.
_ROUNDING = {"fp32": 2.0**-23, "fp16": 2.0**-11, "bf16": 2.0**-8}


@dataclass(frozen=True)
class Part:
    """What one method exchanges: all of x, or one player's."""

    trial: Trial
    config: NodeConfig
    player: str | None

    @property
    def task(self) -> KickTask:
        return self.trial.tasks[0]

    @property
    def where(self) -> slice:
        """Its place in x."""
        return slice(0, self.task.size) if self.player is None else self.task.players[self.player]

    @property
    def has_kick(self) -> bool:
        return self.player in (None, "generator")

    @property
    def traits(self) -> Method:
        return self.config.algorithm.traits

    @property
    def casts(self) -> bool:
        return codec_config(self.config.codec).traits.casts

    @property
    def moves_alike(self) -> bool:
        """Whether x of every node is what mixing makes of its own steps: no averaged gradients, no outer momentum."""
        return self.traits.name not in ("diloco", "md-gan") and self.traits.carries != "gradients"

    @property
    def prefix(self) -> str:
        """Of the names of what its algorithm keeps."""
        return "" if self.player is None else f"{self.player}/"

    def tolerance(self, step: int) -> float:
        """Rounding of that many steps, of values of about 1."""
        each = _ROUNDING.get(str(self.config.codec), _ROUNDING["fp32"])
        return 1e-4 + 4 * step * self.traits.gossip_rounds * each

    def alone(self, step: int) -> list[Tensor]:
        """x of every rank after that step without mixing."""
        steps = alone(self.trial.schedule.world, _SETTLED, "oadam")
        return list(steps[min(step, _SETTLED)])

    @cached_property
    def first_incomplete(self) -> int:
        """The first step of which a message or a node was missing, or more steps than there are."""
        steps = self.trial.record.steps
        missed = [s.step for of_rank in steps.values() for s in of_rank if s.missing]
        lost = [len(made) for _, made in losses(self.trial)]  # of its first loss, as many as its last step
        ended = [max((s.step for s in steps[rank]), default=0) + 1 for rank in range(self.trial.schedule.world)]
        # A node that was ahead of the others makes some steps a second time, with a neighbour's x.
        back = [int(line["step"]) for line in self.trial.record.lines if line["event"] == NODE_RETURNED]
        first: int = min([*missed, *lost, *ended, *back])
        return first


def _parts(trial: Trial) -> Iterator[Part]:
    config = trial.schedule.config
    if not config.players:
        yield Part(trial, config, None)
    for player, part in parts_of(config, trial.tasks[0].players).items():
        yield Part(trial, part, player)


def _rows_sum_to_one(trial: Trial) -> Iterator[str]:
    for part in _parts(trial):
        if not (part.has_kick and part.casts):
            continue
        one, zero = part.task.still.start, part.task.still.start + 1
        for step, by_rank in sorted(trial.record.x.items()):
            for rank, x in by_rank.items():
                if abs(float(x[one]) - 1) > part.tolerance(step) or float(x[zero]) != 0:
                    yield f"step {step}: 1 and 0 have become {float(x[one]):g} and {float(x[zero]):g} on node {rank}"


def _kicks_are_shared_out(trial: Trial) -> Iterator[str]:
    """Σ over a node's kick coordinates is that of a node that never mixed, at every step."""
    for part in _parts(trial):
        if part.player is not None or not part.casts or not part.moves_alike or not part.traits.gossips:
            continue
        if part.traits.name in ("sgp", "ad-psgd", "dposg") or _lost_early(trial):
            continue
        for step, by_rank in sorted(trial.record.x.items()):
            expected = float(part.alone(step)[0][part.task.kick].sum())
            for rank, x in by_rank.items():
                kicks = x[part.task.kick]
                if abs(float(kicks.sum()) - expected) > part.tolerance(step):
                    yield f"step {step}: node {rank} has {float(kicks.sum()):.6f} of a kick of {expected:.6f}"


def _lost_early(trial: Trial) -> bool:
    """Whether a node that comes back may have been kicked too late: its optimizer is then a neighbour's."""
    back = any(line["event"] == NODE_RETURNED for line in trial.record.lines)
    return back and any(len(made) < _SETTLED for _, made in losses(trial))


def losses(trial: Trial) -> list[tuple[int, list[StepStats]]]:
    """Of each loss, the node and the steps that it had made by then."""
    lost = [(line["node"], line["t_s"]) for line in trial.record.lines if line["event"] == NODE_LOST]
    return [(rank, [s for s in trial.record.steps[rank] if s.t_s <= t_s]) for rank, t_s in lost]


def _mean_is_kept(trial: Trial) -> Iterator[str]:
    """The nodes' mean is that of nodes that never mixed, until something is missing."""
    for part in _parts(trial):
        if not part.traits.keeps_mean or not part.moves_alike or (part.traits.carries == "parameters") > part.casts:
            continue
        absolute = part.player is None and part.traits.name != "dposg"
        first: Tensor | None = None
        for step in range(0 if absolute else _SETTLED, part.first_incomplete):
            if len(trial.record.x[step]) < trial.schedule.world:
                continue  # a meeting lets nodes without an exchange pass over steps
            mean = torch.stack(list(trial.record.x[step].values())).mean(0)[part.where]
            if first is None:
                first = mean
            expected = torch.stack(part.alone(step)).mean(0)[part.where] if absolute else first
            off = float((mean - expected).abs().max())
            if off > part.tolerance(step):
                yield f"step {step}: the nodes' mean is off by {off:g}"


def _mass_is_kept(trial: Trial) -> Iterator[str]:
    """Push weights sum to the number of nodes and pushed x to what nodes have alone, until something is missing."""
    for part in _parts(trial):
        if part.traits.name != "sgp":
            continue
        world, name = trial.schedule.world, f"{part.prefix}push-sum"
        for step, states in sorted(trial.record.states.items()):
            weights = [float(state[f"{name}.weight"]) for state in states.values()]
            if min(weights) <= 0:
                yield f"step {step}: a push weight is {min(weights):g}"
            if step >= part.first_incomplete:
                continue
            if len(weights) != world or abs(sum(weights) - world) > 1e-4:
                yield f"step {step}: {len(weights)} push weights sum to {sum(weights):.6f}, of {world} nodes"
            if part.player is None:
                pushed = torch.stack([state[f"{name}.x"] for state in states.values()]).mean(0)
                off = float((pushed - torch.stack(part.alone(step)).mean(0)).abs().max())
                if off > part.tolerance(step):
                    yield f"step {step}: the mean of what was pushed is off by {off:g}"


def _averages_are_equal(trial: Trial) -> Iterator[str]:
    """After an average over all nodes, those that have made the step have the same bits.

    Where averages are formed again, a node that is lost may have had the one that the others had to form again.
    """
    again = trial.schedule.config.on_loss == "reform"
    gone = {line["node"] for line in trial.record.lines if again and line["event"] == NODE_LOST}
    for part in _parts(trial):
        if part.traits.averages is None:
            continue
        every = getattr(part.config.algorithm, "global_every", part.traits.exchange_every)
        for step, by_rank in sorted(trial.record.x.items()):
            if step % every == 0 and (there := sorted(by_rank.keys() - gone)):
                first, *others = ((rank, by_rank[rank][part.where]) for rank in there)
                for rank, x in others:
                    if not x.equal(first[1]):
                        yield f"step {step}: after an average, node {rank} has another x than node {first[0]}"


def _replicas_are_equal(trial: Trial) -> Iterator[str]:
    """CHOCO's replica of a neighbour is the neighbour's own, and a PowerGossip edge has one basis, at both ends."""
    for part in _parts(trial):
        names = {"choco": "replicas", "power-gossip": "edges"}
        if (kept := names.get(part.traits.name)) is None:
            continue
        start = f"{part.prefix}{kept}."
        for step, states in sorted(trial.record.states.items()):
            gone = {rank: set(state[f"{start}gone"].tolist()) for rank, state in states.items()}
            for rank, state in states.items():
                for name, value in state.items():
                    found = re.match(rf"{re.escape(start)}(?:of-(\d+)$|(\d+)\.basis-(\d+)$)", name)
                    if found is None:
                        continue
                    other = int(found[1] or found[2])
                    if other not in states or other in gone[rank] or (found[2] and rank in gone[other]):
                        continue
                    theirs = f"{start}own" if found[1] else f"{start}{rank}.basis-{found[3]}"
                    if not value.equal(states[other].get(theirs, torch.empty(0))):
                        yield f"step {step}: {name} of node {rank} is not {theirs} of node {other}"


def _nothing_grows(trial: Trial) -> Iterator[str]:
    """Gossip's weights are positive: no coordinate leaves the range that the nodes had a step before."""
    for part in _parts(trial):
        if not part.traits.gossips or not part.casts or part.traits.name not in ("dp-oadam", "dposg", "gossip-pga"):
            continue
        if any(line["event"] == NODE_RETURNED for line in trial.record.lines):
            continue  # a state is older than the step at which it comes in
        for step in range(_SETTLED, max(trial.record.x, default=0)):
            now, then = (list(trial.record.x[k].values()) for k in (step + 1, step))
            if now and then:
                here, before = (torch.stack(each)[:, part.where] for each in (now, then))
                tolerance = part.tolerance(1)
                high = float((here.amax(0) - before.amax(0)).max())
                low = float((before.amin(0) - here.amin(0)).max())
                if max(high, low) > tolerance:
                    yield f"step {step + 1}: a value left the nodes' range of the step before by {max(high, low):g}"


INVARIANTS: dict[str, Callable[[Trial], Iterator[str]]] = {
    "weights sum to 1": _rows_sum_to_one,
    "kicks are shared out, and no more": _kicks_are_shared_out,
    "the mean is kept while nothing is missing": _mean_is_kept,
    "push mass is kept while nothing is missing": _mass_is_kept,
    "an average is the same on all nodes": _averages_are_equal,
    "replicas are equal at both ends": _replicas_are_equal,
    "mixing stays within the nodes' range": _nothing_grows,
}
