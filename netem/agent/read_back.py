"""Reads the applied plan of an interface back from the kernel, and compares it with what was configured."""

from __future__ import annotations

import socket
import struct
import subprocess
from dataclasses import dataclass, field
from typing import Any

from gannet.netem.agent.sysctls import Sysctls, link_settings, neighbours
from gannet.netem.engines.base import Engine, EngineError, read_buckets, read_limits, strangers
from gannet.netem.links.plan import InterfacePlan
from gannet.netem.shaping.commands import ifb_name
from gannet.netem.shaping.differences import plan_differences, unannounced_differences
from gannet.netem.shaping.rules import source_number

# Errors that the kernel, or what other programs have built on the interface, may cause.
ERRORS = (
    EngineError, OSError, ValueError, LookupError, AssertionError, struct.error, subprocess.SubprocessError,
)  # fmt: skip


@dataclass(frozen=True)
class Differences:
    """Differences between applied and configured state: of the links, and of the stack."""

    links: list[str] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)


def read_interface(
    engine: Engine, plan: InterfacePlan, sysctls: Sysctls | None, all_of_it: bool = True
) -> tuple[Differences, dict[str, Any]]:
    """The applied state and its differences from the plan: all, or only those the kernel does not announce."""
    found: dict[str, Any] = {"paths": {}}
    links: list[str] = []
    stack: list[str] = []
    try:
        must_exist(plan.device)
        link = link_settings(plan.device)
        if plan.hardware:
            link["neighbours"] = {plan.address: link["hardware"], **neighbours(plan.device)}
        found["paths"] = paths = engine.paths()
        if not all_of_it:
            links += unannounced_differences(plan, paths, link)
            stack += sysctls.sysctl_differences() if sysctls else []
            return Differences(links, stack), found
        buckets = read_buckets(plan.device)
        for direction, bucket in buckets.items():
            found[f"{direction}_bps"] = bucket and bucket["rate_bps"]
            found[f"buffer_bytes_{direction}"] = bucket and bucket["buffer_bytes"]
        found["strangers"] = strangers(plan.device)
        limits = read_limits(ifb_name(plan.device))
        found["limits"] = {source: limits.get(source_number(source)) for source in plan.limits}
        links += plan_differences(plan, buckets, paths, link, limits, read_limits(plan.device))
        stack += sysctls.differences(link) if sysctls else []
    except ERRORS as error:
        links.append(str(error))
    return Differences(links, stack), found


def must_exist(device: str) -> None:
    try:
        socket.if_nametoindex(device)
    except OSError as error:
        raise EngineError(f"no interface {device} in this network namespace") from error
