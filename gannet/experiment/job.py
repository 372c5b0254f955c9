"""From a resolved spec to the fabric's job."""

from __future__ import annotations

import secrets
import time

from gannet.fabrics.job import Job, mesh_plans
from gannet.fabrics.session.deadlines import limits_over_time, with_room_for_operators, with_turns
from gannet.node.config import NodeConfig
from gannet.node.tasks import build_sampler
from gannet.node.traffic.exchange import message_bytes
from gannet.spec.run_spec import RunSpec
from gannet.trained.start import start_of

# The longest gradient on a crowded host before its node counts as dead: a multiple of its pace, or seconds where it
# has none.
_SLOWEST_GRADIENT_PACES, _SLOWEST_GRADIENT_S = 10, 3.0


def job_of(spec: RunSpec) -> Job:
    """The fabric's job for this run."""
    links, changes = spec.links_over_time
    states = [(0.0, links), *((change.at_s, change.links) for change in changes)]
    planned = [(at_s, mesh_plans(state, spec.nodes, spec.seed)) for at_s, state in states]
    sampler = build_sampler(spec.task, spec.data)
    pace_ms = max([spec.pace_ms or 0.0, *spec.node_pace_ms.values()])
    gradient_s = _SLOWEST_GRADIENT_PACES * pace_ms / 1000 if pace_ms else _SLOWEST_GRADIENT_S
    methods = [part.algorithm.traits for part in spec.methods]
    steps = max(max(method.exchange_every, method.paces_per_step) for method in methods)
    compute_s = steps * gradient_s
    config = NodeConfig(
        run=f"{spec.name}/{spec.arm}/seed-{spec.seed}/{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}",
        **spec.training(),
        max_steps=spec.stop.steps,
    )
    size = message_bytes(config, sampler.layout)
    limits = limits_over_time(planned, size, spec.nodes, compute_s)
    limits = with_turns(limits, planned, size, compute_s, spec.encrypted)
    limits = with_room_for_operators(limits) if spec.fabric_kind.operators else limits
    config = config.model_copy(update={"exchange": limits})
    engine = None if spec.engine == "auto" else spec.engine
    stop_s = spec.stop.seconds
    return Job(
        config,
        spec.nodes,
        links,
        changes,
        stop_s,
        engine,
        spec.seed,
        size,
        compute_s,
        spec.links.stack,
        start_weights=start_of(spec),
        return_after_s=spec.return_after_s,
        encrypted=spec.encrypted,
        on_not_finite=spec.on_not_finite,
        join_at_s=spec.join_at_s,
    )
