"""`python -m gannet.node`: one worker. It joins the controller, which tells it everything else.

Its credential, and what it needs for TLS with the controller, come by standard input (gannet.node.admission.handed):
arguments and the environment of a process can be read by other processes of its user.
"""

from __future__ import annotations

import argparse
import json
import logging.config
import os
import signal
import sys
import time
from dataclasses import replace

from gannet.node.admission.handed import HandedOver
from gannet.node.process.controller_client import until_reachable
from gannet.node.process.node_process import NOT_WANTED, live
from gannet.node.process.place import Place

_TRAINER_NICENESS = 10
_PAUSE_S = 0.5

log = logging.getLogger("gannet.node")


def main() -> int:
    """Parse the place to live and live there."""
    parser = argparse.ArgumentParser(
        prog="python -m gannet.node",
        description="One Gannet worker. Its credential is read from standard input.",
    )
    parser.add_argument("--controller", required=True, metavar="HOST:PORT", help="on the management network")
    parser.add_argument("--mesh", default="127.0.0.1:0", metavar="HOST:PORT", help="where to serve messages")
    parser.add_argument("--mesh-device", help="network device whose byte counter to report, e.g. mesh0")
    parser.add_argument("--metrics", default="127.0.0.1:0", metavar="HOST:PORT", help="Prometheus metrics")
    parser.add_argument("--stay", action="store_true", help="join one run after the other until ended by a signal")
    a = parser.parse_args()
    if logs := os.environ.get("GANNET_LOGGING"):
        logging.config.dictConfig(json.loads(logs))
    try:
        handed = HandedOver(sys.stdin.fileno())
    except ValueError as error:
        parser.error(f"{error}: the controller takes no node without one")
    place = Place(a.controller, a.mesh, a.metrics, handed.credential, a.mesh_device, handed.identity())
    return stay(place, handed) if a.stay else live(place)


def stay(place: Place, handed: HandedOver) -> int:
    """Live one run after the other, each in a fresh fork of this process, which imports torch only once.

    A run leaves nothing behind for the next: no thread, no allocator, no random state. Forking is safe because
    this process itself starts no thread and no gRPC.
    """
    import torch

    from gannet.node.methods.registry import import_algorithms

    import_algorithms()
    torch.set_num_threads(1)
    os.nice(_TRAINER_NICENESS)  # below the link engine, whose lateness would lengthen every link
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    while True:
        until_reachable(place.controller, handed.identity)
        child = os.fork()
        if child == 0:
            handed.close()
            os._exit(live(replace(place, identity=handed.identity())))

        def end(number: int, frame: object, child: int = child) -> None:
            os.kill(child, signal.SIGKILL)
            os._exit(128 + number)

        signal.signal(signal.SIGTERM, end)
        _, status = os.waitpid(child, 0)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
        code = os.waitstatus_to_exitcode(status)
        if code < 0:  # killed, by the kernel for want of memory for instance: the supervisor should know
            log.error("the process of this run was killed by %s", signal.Signals(-code).name)
            return 128 - code
        time.sleep(_PAUSE_S if code != NOT_WANTED else 4 * _PAUSE_S)


if __name__ == "__main__":
    sys.exit(main())
