"""A node's container for tests: its training process, and a link agent's connection that shapes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gannet.fabrics.containers.node_container import Relay
from gannet.fabrics.containers.renewals import Handing, Newest
from gannet.fabrics.credentials import Credentials, node_credential
from gannet.fabrics.entrance.bundles import identity_file
from gannet.netem.process import clock_name
from gannet.node.wire import control_pb2


class Unshaped:
    """A LinkAgent that has done whatever is asked."""

    name = "an agent without links"

    def request(self, op: str, timeout_s: float = 30.0, **arguments: Any) -> dict[str, Any]:
        """The answers of gannet.netem.agent.server that are used."""
        counters = {
            "clock_ns": time.monotonic_ns(), "broken": None, "repairs": [], "rtt_ms": {}, "classes": {},
            "strangers": 0, "dropped_up": 0, "dropped_down": 0, "backlog_bytes_up": 0, "backlog_bytes_down": 0,
        }  # fmt: skip
        return {
            "interface": {"hardware": "02:00:00:00:00:01"},
            "probe_serve": {"port": 1, "clock": clock_name()},
            "counters": counters,
        }.get(op, {})

    def close(self) -> None:
        """Nothing is to be cleared."""


def main() -> None:
    """Arguments: a JSON object of `host`, `mesh`, `control`, `agents` and `credentials` (a folder)."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    folder, mesh = Path(given["credentials"]), given["mesh"]
    credentials = Credentials.read(folder)
    of_node, of_agent = (Newest(role, identity_file(role, folder)) for role in ("trainer", "agent"))
    places = ["--controller", given["control"], "--mesh", f"{mesh}:0", "--metrics", f"{mesh}:0"]
    trainer = subprocess.Popen([sys.executable, "-m", "gannet.node", "--stay", *places], stdin=subprocess.PIPE)
    Handing(trainer, node_credential(credentials.trainer, given["host"]), of_node).hand()
    hello = control_pb2.AgentHello(
        host=given["host"], mesh_device="lo", mesh_address=mesh, boot_id=clock_name()[:36], engines="netem"
    )
    Relay(Unshaped(), hello, credentials.agent, of_agent, given["agents"]).run()


if __name__ == "__main__":
    main()
