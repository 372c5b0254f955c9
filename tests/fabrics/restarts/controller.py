"""A controller's process for tests: `gannet serve` at addresses of the loopback, over containers without links.

Links are not what is tested here: nothing is measured, and agents.py answers as if it had shaped them.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from gannet.experiment import serve
from gannet.fabrics.containers import fabric
from gannet.fabrics.containers.fabric import ContainersFabric, Endpoints
from gannet.fabrics.credentials import Credentials
from gannet.fabrics.entrance.bundles import read_identity
from gannet.fabrics.session import preparation
from gannet.netem.measure.certificate import Certificate


def main() -> int:
    """Arguments: a JSON object of `spec`, `out`, `control`, `agents`, `nodes`, `alive` (a file of its own),
    `credentials` (a folder) and `back_s`: how long a container is waited for that is to come back.
    """
    given: dict[str, Any] = json.loads(sys.argv[1])
    folder = Path(given["credentials"])
    credentials, identity = Credentials.read(folder), read_identity("controller", folder)
    endpoints = Endpoints(given["control"], given["agents"], "127.0.0.1:0")
    replaced: dict[str, Any] = {
        "give_up_root": lambda results: None,
        "_ALIVE": Path(given["alive"]),
        "_METRICS_PORT": 0,
        "ContainersFabric": partial(ContainersFabric, endpoints=endpoints),
        "read_identity": lambda role, least: identity,
    }
    for name, value in replaced.items():
        setattr(serve, name, value)
    Credentials.read = classmethod(lambda cls, *folder: credentials)  # type: ignore[method-assign, assignment]
    fabric._BACK_S = given["back_s"]
    preparation.measure_links = lambda *links: Certificate()  # type: ignore[assignment, attr-defined]
    environment = {"GANNET_NODES": str(given["nodes"])}
    return 0 if serve.serve(given["spec"], given["out"], environment, Console(width=200)) else 1


if __name__ == "__main__":
    sys.exit(main())
