"""The summary of a finished run: its figures, and the environment in which they were measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from statistics import median
from typing import Any

import numpy as np

from gannet.experiment.costs import bound_of, computing_s, hidden_per_step_s, missed_pace
from gannet.fabrics.job import Job, Outcome
from gannet.ledger.origin import processor
from gannet.ledger.records import Environment, Host, PlayerFacts, StepTime, Summary, TopologyFacts
from gannet.ledger.totals import Missing
from gannet.ledger.writer import Ledger, disk_was_full, now
from gannet.node.methods.formulas import Traffic
from gannet.node.players.config import parts_of
from gannet.node.tasks import build_sampler
from gannet.node.topologies.rates import consensus_rate
from gannet.node.topologies.topology import Topology
from gannet.node.traffic.players import bytes_per_step, traffic_by_player
from gannet.node.training.meter import LAYERS
from gannet.spec.notes import idle_settings
from gannet.spec.run_spec import RunSpec
from gannet.version import version as gannet_version

_LINKS_NAMED = 6


def summarise_run(
    spec: RunSpec,
    job: Job,
    ledger: Ledger,
    outcome: Outcome,
    changes: Sequence[str] = (),
    exploded: Sequence[str] = (),
) -> Summary:
    """The summary of a run whose folder is complete; scores are added once they are known.

    `changes`: which data and versions are not those of the runs that it is compared with. `exploded`: which numbers
    cannot be right.
    """
    sampler = build_sampler(spec.task, spec.data)
    traffics = traffic_by_player(job.config, spec.nodes, sampler.layout)
    step_s, stats = ledger.step_times(), ledger.stats
    reasons = [] if outcome.certificate is None else list(outcome.certificate.reasons)
    if outcome.status == "failed":
        reasons.append(f"the run failed: {outcome.reason}")
    lost = {**ledger.lost, **outcome.lost}  # a run that an error or Ctrl-C ended has told its losses all the same
    for rank, why in sorted(lost.items()):
        late = rank in spec.join_at_s and why == job.not_yet_there(rank)
        reasons.append(f"node {rank} {'had not joined when the run ended' if late else 'was lost'}: {why}")
    reasons += exploded
    if missing := missing_messages(ledger, lost):
        reasons.append(missing)
    if ledger.disk.waited_s and not spec.fabric_kind.modelled:
        reasons.append(disk_was_full(ledger.disk.waited_s))
    reasons += [reason for was in ledger.resumed for reason in was.reasons()]
    reasons += [f"not as the runs before: {change}" for change in changes]
    compute_s = ledger.per_step("compute_s")
    if not spec.fabric_kind.modelled:
        reasons += missed_pace(spec, ledger)
    mixes = not spec.players and spec.algorithm.traits.gossips
    steps = max(node.last_step for node in stats.values())
    gap = round(1 - consensus_rate(Topology(spec.topology, spec.nodes)), 4) if mixes else None
    sent = {layer: ledger.total(layer, outcome.sent_bytes) for layer in LAYERS}
    return Summary(
        arm=spec.arm,
        label=spec.title,
        seed=spec.seed,
        status=outcome.status,
        reason=outcome.reason or "; ".join(f"lost node {r}: {why}" for r, why in sorted(lost.items())),
        nodes=spec.nodes,
        algorithm=spec.algorithm.title,
        codec=str(spec.codec),
        mixing=_rule(spec),
        players=facts_of_players(spec, traffics),
        links=spec.links.describe(),
        topology=TopologyFacts(name=str(spec.topology), spectral_gap=gap) if mixes else None,
        parameters=sampler.size,
        steps=steps,
        resumed_after=tuple(was.step for was in ledger.resumed) or None,
        seconds=max(node.t_s for node in stats.values()),
        setup_s=outcome.setup_s,
        step_s=StepTime(
            median=median(step_s) if step_s else 0.0,
            mean=float(np.mean(step_s)) if step_s else 0.0,
            p95=float(np.percentile(step_s, 95)) if step_s else 0.0,
        ),
        compute_s=compute_s,
        wait_s=ledger.per_step("wait_s"),
        other_s=ledger.per_step("other_s"),
        hidden_s=hidden_per_step_s(ledger, job),
        # Fewer nodes exchange less: the bound of all of them holds for no run without some.
        lower_bound_s=None if spec.join_at_s else bound_of(spec, traffics, job, computing_s(spec, ledger), steps),
        bytes_codec=sent["codec"],
        bytes_grpc=sent["grpc"],
        bytes_interface=sent["interface"],
        missing_messages=ledger.missing,
        refused=dict(ledger.refusals),
        memory_mb=tuple(round(outcome.memory_mb.get(rank, 0.0), 1) for rank in range(spec.nodes)),
        notes=tuple(idle_settings(spec)),
        trusted=outcome.status == "finished" and not reasons,
        reasons=tuple(dict.fromkeys(reasons)),
    )


def missing_messages(ledger: Ledger, lost: Collection[int]) -> str:
    """Which links' messages were missing from mixes, since when, and how many; "" if only those of lost nodes."""
    found: dict[tuple[int, int], Missing] = {
        (source, rank): missing
        for rank, node in ledger.stats.items()
        for source, missing in node.missing.items()
        if source not in lost
    }
    links = [
        f"link {src} → {dst} {link.count} from step {link.first_step} ({link.first_s:.1f} s) to step {link.last_step}"
        for (src, dst), link in sorted(found.items(), key=lambda link: -link[1].count)
    ]
    if not links:
        return ""
    more = f", and {len(links) - _LINKS_NAMED} more links" if len(links) > _LINKS_NAMED else ""
    named = ", ".join(links[:_LINKS_NAMED])
    count = sum(link.count for link in found.values())
    nobody = "their senders were not" if lost else "no node was"
    return f"{count} messages were missing from mixes though {nobody} lost: {named}{more}"


def facts_of_players(spec: RunSpec, traffics: Mapping[str, Traffic]) -> dict[str, PlayerFacts]:
    """How each player was exchanged, where players have own methods; `bytes_per_step`: computed, of all nodes."""
    if not spec.players:
        return {}
    return {
        player: PlayerFacts(
            algorithm=part.algorithm.title,
            every=traffics[player].every,
            topology=str(part.topology) if part.algorithm.traits.gossips else None,
            codec=str(part.codec),
            mixing=_rule(part),
            bytes_per_step=bytes_per_step(traffics[player]),
        )
        for player, part in parts_of(spec, traffics).items()
    }


def _rule(spec: RunSpec) -> str | None:
    return str(spec.mixing) if spec.mixing.robust else None


def environment(fabric: str, data: dict[str, Any] | None, found: Mapping[str, Any]) -> Environment:
    """The machine and the versions that a run depends on; `found`: the fabric's own facts."""
    return Environment(
        host=Host(
            cpus=len(os.sched_getaffinity(0)),
            cpu=processor(),
            kernel=platform.release(),
            memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        ),
        versions={
            "gannet": gannet_version(),
            "python": platform.python_version(),
            "torch": version("torch"),
            "grpc": version("grpcio"),
        },
        written=now(),
        **found,
        fabric=fabric,
        data=data,
    )
