"""What an operator sees of a run's links: their state and scheduled changes, or that they are busy."""

from __future__ import annotations

from dataclasses import dataclass, field

from gannet.fabrics.links.agent_pool import Acknowledgement
from gannet.netem.links.state import LinkState


class LinksBusy(RuntimeError):
    """The links cannot be changed or shown now; the message says why."""


@dataclass(frozen=True)
class Outlook:
    """The state of the links at a moment of the training clock, and each node's applied plan, by rank.

    Upcoming changes, in seconds from then: `ends` of temporary changes, and the run's `schedule`.
    """

    state: LinkState
    t_s: float
    nodes: list[Acknowledgement]
    ends: list[tuple[float, str]] = field(default_factory=list)
    schedule: list[tuple[float, str]] = field(default_factory=list)
