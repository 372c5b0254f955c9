"""Outages that keep packets, as cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gannet.netem.links.plan import InterfacePlan


def outages_as_cuts(plans: Sequence[InterfacePlan]) -> Sequence[InterfacePlan]:
    """The plans with every link that is held at one of its ends as one that loses everything: for questions of
    whether a link carries anything now, where it does not matter what becomes of its packets.
    """
    if not any(plan.up_held or plan.down_held for plan in plans):
        return plans
    held_up = {plan.address for plan in plans if plan.up_held}
    return [
        replace(
            plan,
            paths={
                source: replace(path, loss_percent=100.0) if plan.down_held or source in held_up else path
                for source, path in plan.paths.items()
            },
        )
        for plan in plans
    ]
