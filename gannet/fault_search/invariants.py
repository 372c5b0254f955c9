"""What must be true of every run, whatever befell it, judged from what came out of it alone.

Each check is a function of a Trial that yields what is wrong. References are computed another way than the code under
test does: what a node's own steps make of x from runs without mixing, what mixing keeps from linear algebra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gannet.fabrics.job import NODE_LOST, NODE_RETURNED
from gannet.fabrics.virtual.faults import AtAwait, Corrupt, DamageOne, Drop, Duplicate, Kill, Pause
from gannet.fault_search import mixing
from gannet.fault_search.damage import POISON, WAYS, Damaged
from gannet.fault_search.schedule import PACE_MS, PATIENCE_S, ROUND_DEADLINE_S, Cut, Slow
from gannet.fault_search.trial import Trial
from gannet.node.players.config import parts_of
from gannet.node.traffic.exchange import exchange_edges

_LARGEST = POISON / 50  # no value of a run that used none of what was refused comes near it
_CENTRAL = ("server average", "ring all-reduce", "md-gan's round", "the nodes that are left cannot form")

_TOLD_BYTES = 8  # by a node that leaves, to each other one: a count in two float32 numbers


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold, and how it shows."""

    invariant: str
    found: str


def violations(trial: Trial) -> list[Violation]:
    """All that is wrong with a run, the first of each invariant."""
    if trial.outcome is None:
        return [Violation("no run ends with an exception, or never", trial.error)]
    return [
        Violation(name, found)
        for name, check in INVARIANTS.items()
        if (found := next(check(trial), None)) is not None
    ]


def differences(trial: Trial, again: Trial) -> list[Violation]:
    """Whether the same schedule has come to the same bits."""
    if trial.record.digest() == again.record.digest() and trial.outcome == again.outcome:
        return []
    return [Violation("a schedule has the same bits every time", "two runs of it differ")]


def changes(trial: Trial, calm: Trial) -> list[Violation]:
    """Whether a harmless schedule has changed what nodes compute, which no schedule of a synchronous method may."""
    if trial.schedule.config.asynchronous:
        return []
    name = "what only comes late or twice changes no bit"
    for step in sorted(trial.record.x.keys() & calm.record.x.keys()):
        for rank, x in trial.record.x[step].items():
            if rank in calm.record.x[step] and not x.equal(calm.record.x[step][rank]):
                return [Violation(name, f"step {step}: x of node {rank} is not that of the calm run")]
    missing = [(rank, s.step, s.missing) for rank, steps in trial.record.steps.items() for s in steps if s.missing]
    return [Violation(name, f"node {r}, step {s}: nothing came from {m}") for r, s, m in missing[:1]]


def _ends(trial: Trial) -> Iterator[str]:
    outcome, schedule = trial.outcome, trial.schedule
    assert outcome is not None
    if outcome.status == "failed":
        central = any(outcome.reason.partition(": ")[2].startswith(words) for words in _CENTRAL)
        averages = any(_is_central(part) for part in parts_of(schedule.config).values() or [schedule.config])
        everyone = outcome.reason.startswith("every node was lost: ") and len(outcome.lost) == schedule.world
        if schedule.config.on_loss == "stop" and outcome.lost:
            right = outcome.reason.endswith("(on_loss: stop)")
        elif schedule.config.on_loss == "reform":  # a loss alone ends no such run
            right = everyone or (central and not _only_losses(trial))
        else:
            right = everyone or (central and averages)
        if schedule.harmless or not right:
            yield f"the run failed: {outcome.reason}"
        return
    if schedule.config.on_loss == "stop" and outcome.lost:
        yield f"the run did not fail, and lost {sorted(outcome.lost)}"
    ends = {r: trial.record.steps[r][-1].step if trial.record.steps[r] else 0 for r in _there(trial)}
    if schedule.config.asynchronous:
        if schedule.steps is not None and any(step < 1 for step in ends.values()):
            yield f"nodes that were there at the end had made these steps: {ends}"
        return
    if schedule.steps is not None and any(step != schedule.steps for step in ends.values()):
        yield f"nodes that were there at the end had made these steps, of {schedule.steps}: {ends}"
    if schedule.steps is None and not any(isinstance(event, Cut) for event in schedule.events):
        for part in _connected(trial):
            if len({ends[rank] for rank in part}) > 1:
                yield f"nodes that were there at the end, and connected, had made these steps: {ends}"


def _only_losses(trial: Trial) -> bool:
    """Whether no message can be missing but those of nodes that are lost."""
    others = (DamageOne, Corrupt, Cut)
    events = trial.schedule.events
    return not any(isinstance(e, others) or (isinstance(e, Drop) and e.again_s is None) for e in events)


def _connected(trial: Trial) -> list[list[int]]:
    """The nodes that nothing killed, those together that reach each other without one that something did."""
    kills = [event.fault if isinstance(event, AtAwait) else event for event in trial.schedule.events]
    killed = {kill.rank for kill in kills if isinstance(kill, Kill)}  # some only after the end, or not noticed before
    there = [rank for rank in _there(trial) if rank not in killed]
    edges = exchange_edges(trial.schedule.config, trial.schedule.world)
    near = {a: {b for edge in edges for b in edge if a in edge and b in there} | {a} for a in there}
    for _ in there:
        near = {rank: set[int]().union(*(near[other] for other in reach)) for rank, reach in near.items()}
    return [sorted(reach) for rank, reach in near.items() if rank == min(reach)]


def _is_central(part: object) -> bool:
    traits = part.algorithm.traits  # type: ignore[attr-defined]
    return traits.averages is not None or traits.worker_player is not None


def _there(trial: Trial) -> list[int]:
    assert trial.outcome is not None
    return [rank for rank in range(trial.schedule.world) if rank not in trial.outcome.lost]


def _in_time(trial: Trial) -> Iterator[str]:
    """All waits have a deadline, so a run's length has a bound: a generous one, which no deadlock keeps."""
    schedule, deadline_s = trial.schedule, ROUND_DEADLINE_S + PATIENCE_S
    config = schedule.config
    parts = list(parts_of(config).values()) or [config]
    rounds = sum(part.algorithm.traits.gossip_rounds + 2 * schedule.world for part in parts)
    slowest_ms = max([schedule.delay_ms, *(e.delay_ms for e in schedule.events if isinstance(e, Slow))])
    local = max(part.algorithm.traits.paces_per_step for part in parts)
    steps = schedule.steps or int(1000 * (schedule.stop_s or 0) / PACE_MS) + 10
    step_s = local * PACE_MS / 1000 + rounds * (2 * slowest_ms + 4 * schedule.jitter_ms + 60) / 1000
    lasting = sum(e.for_s for e in schedule.events if isinstance(e, Cut | Slow | Pause))
    a_step = any(isinstance(event, Corrupt) for event in schedule.events)  # may cost a deadline at every step
    waits = (len(schedule.events) + 1) * schedule.world + a_step * steps * rounds * schedule.world
    bound_s = steps * step_s + lasting + waits * deadline_s
    t_s = max((s.t_s for steps in trial.record.steps.values() for s in steps), default=0.0)
    if t_s > bound_s:
        yield f"its last step ended at {t_s:.1f} s, and {bound_s:.1f} s are enough"


def _steps_in_order(trial: Trial) -> Iterator[str]:
    back = {(line["node"], line["step"]) for line in trial.record.lines if line["event"] == NODE_RETURNED}
    meetings = {step for _, step in back}
    for rank, steps in trial.record.steps.items():
        before, then_s = 0, 0.0
        for stats in steps:
            came_in = (rank, stats.step - 1) in back
            met = any(stats.step - 1 == meeting >= before for meeting in meetings)
            if stats.step != before + 1 and not came_in and not met:
                yield f"node {rank} made step {stats.step} after step {before}"
            if stats.t_s < then_s:
                yield f"node {rank} ended step {stats.step} at {stats.t_s} s, and the one before at {then_s} s"
            before, then_s = stats.step, stats.t_s


def _losses_told(trial: Trial) -> Iterator[str]:
    assert trial.outcome is not None
    for rank in range(trial.schedule.world):
        events = [line["event"] for line in trial.record.lines if line.get("node") == rank]
        events = [event for event in events if event in (NODE_LOST, NODE_RETURNED)]
        turns = [NODE_LOST if number % 2 == 0 else NODE_RETURNED for number in range(len(events))]
        if events != turns or (rank in trial.outcome.lost) != (len(events) % 2 == 1):
            yield f"node {rank}: reported: {events}, lost at the end: {rank in trial.outcome.lost}"


def _losses_have_causes(trial: Trial) -> Iterator[str]:
    """Who was not struck is not given up, whatever befell messages and links."""
    struck = set()
    for event in trial.schedule.events:
        match event:
            case Kill(rank) | AtAwait(rank, fault=Kill()):
                struck.add(rank)
            case Pause(rank) if not trial.schedule.harmless:
                struck.add(rank)
            case AtAwait(rank) if not trial.schedule.harmless:
                struck.add(rank)
    for line in trial.record.lines:
        if line["event"] == NODE_LOST and line["node"] not in struck:
            yield f"at {line['t_s']:.2f} s: {line['detail']}, and nothing had struck it"


def _refusals_have_causes(trial: Trial) -> Iterator[str]:
    allowed: dict[int, set[str]] = {}
    for event in trial.schedule.events:
        match event:
            case Corrupt(sender, damage=Damaged(way)) | DamageOne(sender, damage=Damaged(way)):
                allowed.setdefault(sender, set()).update(WAYS[way][1])
                allowed.setdefault(1000, set()).add("wrong_sender")
            case Duplicate(sender, again=False):
                allowed.setdefault(sender, set()).add("stale")
    for sender, receiver, verdict, detail in trial.record.refusals:
        late = verdict == "stale" and not trial.schedule.harmless  # what comes when it is given up already
        if not late and verdict not in allowed.get(sender, ()):
            yield f"node {receiver} refused a message of node {sender}: {verdict}: {detail}"


def _nothing_refused_is_used(trial: Trial) -> Iterator[str]:
    for step, by_rank in sorted(trial.record.x.items()):
        for rank, x in by_rank.items():
            if not float(x.abs().max()) < _LARGEST:
                yield f"step {step}: a value of node {rank} is {float(x.abs().max()):g}"
    for rank, task in enumerate(trial.tasks):
        if not task.largest < _LARGEST:
            yield f"node {rank} was handed a value of {task.largest:g}"


def _bytes_add_up(trial: Trial) -> Iterator[str]:
    assert trial.outcome is not None
    if trial.outcome.status == "failed" or trial.schedule.config.asynchronous:  # it says farewell after its last step
        return
    lost = any(line["event"] == NODE_LOST for line in trial.record.lines)
    reforms = trial.schedule.config.on_loss == "reform"  # its nodes tell each other at the end how far they are
    for rank in range(trial.schedule.world):
        counted, sent = sum(s.codec_bytes for s in trial.record.steps[rank]), trial.record.sent[rank]
        if reforms and not lost and (more := sent - counted) >= _TOLD_BYTES * (trial.schedule.world - 1):
            sent -= more - more % _TOLD_BYTES
        if (not lost and counted != sent) or (rank in _there(trial) and not lost and counted < sent):
            yield f"node {rank} counted {counted} bytes of payload, and {sent} were sent"
        wire = sum(s.interface_bytes for s in trial.record.steps[rank])
        if not lost and wire < sent:
            yield f"node {rank} sent {sent} bytes of payload in {wire} bytes of frames"


Check = Callable[[Trial], Iterator[str]]

INVARIANTS: dict[str, Check] = {
    "every run ends as it should, each node with the last step": _ends,
    "no wait is without a deadline": _in_time,
    "steps are made one after the other": _steps_in_order,
    "each loss and each return is reported once": _losses_told,
    "a node is lost only where something struck it": _losses_have_causes,
    "a message is refused only where something struck it, for that reason": _refusals_have_causes,
    "nothing that is refused is used": _nothing_refused_is_used,
    "bytes add up": _bytes_add_up,
    **mixing.INVARIANTS,
}
