"""What engines cannot carry out of a plan, in words. Pure."""

from __future__ import annotations

from gannet.netem.links.fields import LINK_FIELDS
from gannet.netem.links.plan import InterfacePlan


def unsupported(plan: InterfacePlan, engine: str) -> str:
    """A figure of the plan that the engine cannot carry out, by the figure's declaration, and why; empty: none."""
    other = "netem" if engine == "nfqueue" else "nfqueue"
    refused = [(name, declared.cannot[engine]) for name, declared in LINK_FIELDS.items() if engine in declared.cannot]
    for source, path in plan.paths.items():
        for name, why in refused:
            if getattr(path, name):
                return f"path from {source}: {why}; use engine {other}, or {name}: 0"
    here = [limit for limit in plan.shared_in if limit.at == "receiver"]
    if here and plan.down_queue == "shared":
        return (
            f"a shared link from {', '.join(here[0].peers)}: each of these paths needs a buffer of its own, and "
            "down_queue: shared has one for all; use down_queue: per-source, or leave out one of the two"
        )
    if plan.limits and plan.down_queue == "shared":
        return (
            f"path from {next(iter(plan.limits))}: a rate of its own needs a buffer of its own, and down_queue: "
            "shared has one for all; use down_queue: per-source, or leave out one of the two"
        )
    return ""
