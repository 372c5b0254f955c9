"""Keeps a node container's management network to what it is for: the node's own connections to the controller.

Prometheus, the controller and the nodes are all on that network, and it is not shaped. A program in a node that
connected to another node over it would pass the links by, so new connections into it are refused but for those to the
controller's ports. What others open (scrapes of metrics) is answered, and the internet behind it stays reachable.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from gannet.fabrics import addresses as layout
from gannet.netem.process import complaint

_CHAIN = "gannet-mgmt"


def rules(device: str, subnet: str) -> str:
    """What iptables-restore reads; the chain's name marks it as Gannet's, and a second time changes nothing."""
    where, ports = f"-o {device} -d {subnet}", f"{layout.CONTROL_PORT},{layout.AGENTS_PORT}"
    lines = [
        "*filter",
        f":{_CHAIN} - [0:0]",
        f"-A {_CHAIN} {where} -p tcp -m multiport --dports {ports} -j RETURN",
        f"-A {_CHAIN} {where} -p tcp --syn -j REJECT --reject-with tcp-reset",
        f"-A {_CHAIN} {where} -p tcp -j RETURN",
        f"-A {_CHAIN} {where} -j REJECT --reject-with icmp-net-prohibited",
        "COMMIT",
    ]
    return "\n".join(lines) + "\n"


def keep_to_the_controller(device: str, subnet: str) -> str:
    """Refuse new connections over `device` into `subnet` but to the controller; returns what went wrong, or ""."""
    hook = ("OUTPUT", "-j", _CHAIN)
    if wrong := _run(["iptables-restore", "-w", "--noflush"], rules(device, subnet)):
        return wrong
    if not _run(["iptables", "-w", "-C", *hook]):
        return ""
    return _run(["iptables", "-w", "-I", *hook])


def _run(argv: Sequence[str], text: str = "") -> str:
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"`{' '.join(argv)}`: {error}"
    return f"`{' '.join(argv)}`: {complaint(done)}" if done.returncode else ""
