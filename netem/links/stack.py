"""Settings of a node's TCP and shaped interface, since these affect results too; see gannet.netem.agent.sysctls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Stack(BaseModel):
    """What is pinned in every node's network namespace while a run lasts.

    `congestion_control`: of all TCP on the mesh, by the kernel's name. `slow_start_after_idle`: whether a
    connection that pauses begins with a small window again (RFC 2861; the kernel's default is yes).
    `mtu`: bytes of IP packet on the shaped interface; None: 1500, or less where the underlying network carries less.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    congestion_control: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,15}$")] = "cubic"
    slow_start_after_idle: bool = False
    # Buckets and buffers of the engines count frames of 1514 bytes, and drop longer ones.
    mtu: Annotated[int, Field(ge=576, le=1500)] | None = None


def in_one(reports: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """The agents' reports of their stacks, for a run's record: once where all nodes agree, else by rank."""
    names = dict.fromkeys(name for report in reports.values() for name in report)
    by_name = {name: {str(rank): report.get(name) for rank, report in sorted(reports.items())} for name in names}
    return {
        name: next(iter(values.values())) if len({repr(value) for value in values.values()}) == 1 else values
        for name, values in by_name.items()
    }
