"""Finds the common mistakes in an algorithm: it trains small games on the virtual fabric, where nothing is random.

Each check is a separate run: on equal links, the same again, over extremely unequal links, with a learning rate of 0,
resumed from a checkpoint, and with a node lost on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

from gannet.experiment.algorithm_runs import Played, bits_differ, play
from gannet.experiment.job import job_of
from gannet.fabrics.job import Resumed
from gannet.fabrics.virtual.faults import Kill
from gannet.node.algorithms.custom import UNCAUGHT
from gannet.node.codecs.split import Split
from gannet.node.methods.formulas import Traffic
from gannet.node.plugins import Finding
from gannet.node.tasks import build_sampler
from gannet.node.topologies.topology import Topology
from gannet.node.traffic.exchange import exchange_traffic
from gannet.node.training.checkpoint import Checkpoint
from gannet.spec.run_spec import RunSpec

_GAME = {"name": "game", "dimension": 24, "curvature": 0.2, "noise": 0.05, "spread": 1.0}
_EQUAL = {"profile": {"rate": "100Mbit", "delay_ms": 2}}
_DELAYS_MS, _RATES, _PACES_MS = (0.2, 3, 40, 300), ("500kbit", "5Mbit", "100Mbit"), (2, 20, 200)
_DELAY_SEEDS = (1, 2, 3)
_LEAST_STEPS, _MOST_PERIOD = 12, 24
_STILL_AFTER = 4  # steps before the learning rate becomes 0 in the check of the mean
_BYTES_TOLERANCE = 0.01


def check_algorithm(spec: RunSpec) -> list[Finding]:
    """The mistakes of the spec's algorithm, on its topology, nodes and codec. Raises ValueError and PluginError if it
    cannot be started at all.
    """
    spec = _with(spec, task=_GAME, fabric="virtual", pace_ms=20, snapshot_every=1, links=_EQUAL, score=None)
    spec.check_algorithms()
    traffic = _traffic(spec)
    steps = _steps(spec, traffic)
    spec = _with(spec, stop={"steps": steps})
    first = play(job_of(spec))
    if finding := _trouble(first, "on equal links"):
        return [finding]
    return [
        *_bytes(first, traffic, steps),
        *_repeats(spec, first),
        *_delays(spec, first),
        *_mean(spec, traffic),
        *_resumes(spec, steps),
        *_loses_a_peer(spec, first, steps),
    ]


def _with(spec: RunSpec, **changes: Any) -> RunSpec:
    fields = spec.model_dump(mode="json")
    if "task" in changes:
        fields.pop("data", None)
    return RunSpec.model_validate({**fields, **changes})


def _traffic(spec: RunSpec) -> Traffic:
    sampler = build_sampler(spec.task, spec.data)
    raw = Split(sampler.layout, spec.codec).raw
    return exchange_traffic(job_of(spec).config, spec.nodes, sampler.size, raw, sampler.layout)


def _steps(spec: RunSpec, traffic: Traffic) -> int:
    """The steps of a check: at least two exchanges, and whole periods of a changing graph."""
    period = min(Topology(spec.topology, spec.nodes).period or 1, _MOST_PERIOD)
    exchanges = max(2, -(-_LEAST_STEPS // traffic.every))
    return int(traffic.every * period * -(-exchanges // period))


def _trouble(played: Played, where: str) -> Finding | None:
    """The failure of a run without any fault, if it failed."""
    if played.hung:
        return Finding("hang", f"a run {where} never ended: {played.error}", "await something in every loop")
    if played.error:
        return Finding("error", f"a run {where}: {played.error}", "mend the line that is named")
    if played.refusals:
        sender, receiver, verdict, detail = played.refusals[0]
        return Finding(
            "refused message",
            f"a run {where}: node {receiver} refused a message of node {sender} ({verdict}: {detail})",
            "number rounds by peers.next_round(), alike on all nodes, and declare largest_payload where a message is "
            "longer than the whole vector",
        )
    late = next((stats for stats in played.all_steps if stats.missing), None)
    if late is not None or played.outcome.lost or "no message within" in played.outcome.reason:
        what = played.outcome.reason or (
            f"step {late.step} waited in vain for node {late.missing[0]}" if late else "a node was given up"
        )
        return Finding(
            "deadlock",
            f"a run {where}: {what}, though every node was well",
            "send before you receive, and receive in a round exactly what the peers send in it",
        )
    if played.outcome.status != "finished":
        return Finding("failed", f"a run {where}: {played.outcome.reason}", "see what the algorithm does to x")
    return None


def _bytes(first: Played, traffic: Traffic, steps: int) -> Iterator[Finding]:
    if undeclared := sorted(set(first.sent) - set(traffic.edges)):
        yield Finding(
            "undeclared edges",
            f"node {undeclared[0][0]} sends to node {undeclared[0][1]}, which is none of its edges: on real links "
            "there is no channel",
            "return every (sender, receiver) from Method.edges",
        )
    exchanges = steps // traffic.every
    for rank, declared in enumerate(traffic.sent):
        sent, expected = sum(stats.codec_bytes for stats in first.steps[rank]), declared * exchanges
        slack = _BYTES_TOLERANCE * expected + 8 * exchanges
        if sent > expected + slack or (sent < expected - slack and not first.asynchronous):
            yield Finding(
                "bytes",
                f"node {rank} sent {sent:,} payload bytes in {steps} steps, and declares {declared:,} every "
                f"{traffic.every} steps, {expected:,} in all: deadlines and the lower bound would be wrong",
                "override copy_bytes, exchange_every, gossip_rounds, averages or traffic of gannet.node.methods.base",
            )
            return


def _repeats(spec: RunSpec, first: Played) -> Iterator[Finding]:
    if what := bits_differ(first, play(job_of(spec))):
        yield Finding(
            "not repeatable",
            f"two runs of one seed differ: {what}",
            "draw from generators of your own, seeded by worker.config.seed and worker.rank; use no time, no id(), "
            "and no order of a set",
        )


def _delays(spec: RunSpec, first: Played) -> Iterator[Finding]:
    """Check over links and processors so unequal that messages arrive in every order."""
    for seed in _DELAY_SEEDS:
        random = Random(seed)
        nodes = {
            rank: {"rate": random.choice(_RATES), "delay_ms": random.choice(_DELAYS_MS)} for rank in range(spec.nodes)
        }
        paces = {rank: random.choice(_PACES_MS) for rank in range(spec.nodes)}
        played = play(job_of(_with(spec, links={**_EQUAL, "nodes": nodes}, node_pace_ms=paces)))
        if finding := _trouble(played, "over very unequal delays"):
            yield finding
            return
        if not played.asynchronous and (what := bits_differ(first, played)):
            yield Finding(
                "depends on timing",
                f"links change the trajectory: {what}",
                "take sums in one fixed order, not in the order in which messages come",
            )
            return


def _mean(spec: RunSpec, traffic: Traffic) -> Iterator[Finding]:
    """Check the mean: with a learning rate of 0, only mixing moves x, once the nodes differ."""
    traits = spec.algorithm.traits
    if not traits.keeps_mean:
        return
    begin = _STILL_AFTER + 1
    still = {
        "optimizer": {"learning_rate": 0.05, "decay_steps": _STILL_AFTER},
        "stop": {"steps": max(3 * _STILL_AFTER, 2 * traffic.every)},
    }
    for topology in [str(spec.topology), "star"] if traits.gossips else [None]:
        other = _with(spec, **still, **({"topology": topology} if topology == "star" else {}))
        played = play(job_of(other))
        where = f"with a learning rate of 0 on topology {topology}" if topology else "with a learning rate of 0"
        if finding := _trouble(played, where):
            yield finding
            return
        apart = (played.x(begin) - played.mean(begin)).abs().max()
        slack = float(1e-3 * apart + 1e-5 * played.x(begin).abs().max())
        for step in sorted(step for step in played.states if step > begin):
            drift = float((played.mean(step) - played.mean(begin)).abs().max())
            if not drift <= slack:
                yield Finding(
                    "mean not kept",
                    f"{where} the nodes' mean moves by {drift:.3g} until step {step}, where they are {apart:.3g} "
                    "apart: training would drift with the graph",
                    "give neighbours the weights of worker.neighbours (x ← own·x + Σ_j incoming[j]·x_j); take step "
                    "sizes from worker.config.optimizer; or declare keeps_mean = False",
                )
                return


def _resumes(spec: RunSpec, steps: int) -> Iterator[Finding]:
    if spec.algorithm.traits.not_resumable:
        return
    middle = steps // 2 + (1 if steps > 2 else 0)
    job = job_of(_with(spec, checkpoint_every=middle))
    whole = play(job)
    fix = (
        "begin at worker.start(), count by worker.steps(), and give all that is remembered from step to step to "
        "worker.keep(); or declare not_resumable"
    )
    states = tuple(whole.checkpoints.get(middle, {}).get(rank, b"") for rank in range(spec.nodes))
    if whole.error or not all(states):
        what = whole.error or f"no checkpoint of all nodes at step {middle}"
        yield Finding("not resumable", f"a run with checkpoints: {what}", fix)
        return
    clocks = tuple(Checkpoint.unpack(state, "checkpoint").t_s for state in states)
    resumed = play(replace(job, resumed=Resumed(middle, clocks, states)))
    if resumed.error or resumed.outcome.status != "finished":
        what = resumed.error or resumed.outcome.reason
        yield Finding("not resumable", f"a run resumed after step {middle}: {what}", fix)
    elif what := bits_differ(whole, resumed, since=middle + 1):
        yield Finding("not resumable", f"a run resumed after step {middle} goes another way: {what}", fix)


def _loses_a_peer(spec: RunSpec, first: Played, steps: int) -> Iterator[Finding]:
    if spec.nodes < 2:
        return
    victim = spec.nodes - 1
    at_s = first.steps[victim][steps // 2].t_s + 1e-3
    played = play(job_of(spec), [Kill(victim, at_s)])
    where = f"a run in which node {victim} is lost"
    if played.hung:
        yield Finding(
            "hangs without a peer",
            f"{where} never ended: {played.error}",
            "do not ask a lost peer again: add it to peers.missing and give its weight to the node's own x",
        )
    elif played.error:
        yield Finding("error without a peer", f"{where}: {played.error}", "mend the line that is named")
    elif UNCAUGHT in played.outcome.reason:
        yield Finding(
            "PeerLost not caught",
            f"{where}: {played.outcome.reason}",
            "catch PeerLost and give the peer's weight to the node's own x; raise "
            "gannet.node.training.peers.CollectiveFailed where the method cannot do without the peer",
        )
    elif played.outcome.status == "finished":
        slow = [rank for rank in range(victim) if played.steps[rank][-1].step < steps]
        if slow:
            yield Finding(
                "hangs without a peer",
                f"{where}: node {slow[0]} ended at step {played.steps[slow[0]][-1].step} of {steps}",
                "do not wait for a lost peer again",
            )
