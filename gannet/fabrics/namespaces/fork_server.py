"""The fork server: imports torch once and forks every node from that, so that nodes start fast.

Speaks JSON lines with the fabric: reads {"rank", "netns", "hosts", "log", "place"} and forks a node into that
network namespace, with that /etc/hosts; answers {"ready": true} once, then {"rank", "pid"} and {"rank", "status"} as
nodes begin and end. It has one thread and never touches the network itself, which keeps forking safe.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import sys
from typing import Any

from gannet.fabrics.addresses import node_namespace
from gannet.fabrics.namespaces.sandbox import die_with_parent, join_network, rootless, take_name
from gannet.netem.child import Answers
from gannet.node.log_labels import label

_TRAINER_NICENESS = 10

log = logging.getLogger("gannet.fabrics.namespaces.fork_server")


def main(answers: Answers) -> int:
    """Serve until standard input closes; then end all nodes and leave."""
    die_with_parent()
    import torch
    import torch.fx.experimental.symbolic_shapes

    # Modules that every node needs, imported once (the first backward pass imports symbolic_shapes).
    import gannet.node.process.node_process  # noqa: F401
    from gannet.node.data.config import DataConfig
    from gannet.node.data.datasets import load_split
    from gannet.node.methods.registry import import_algorithms
    from gannet.node.tasks import build_sampler
    from gannet.node.tasks.config import TaskConfig

    import_algorithms()
    torch.set_num_threads(1)
    # Building once loads what torch imports only then (over a second); nothing here starts a thread.
    build_sampler(TaskConfig(), DataConfig())
    load_split(DataConfig(), limit=1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the fabric's to handle
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    nodes: dict[int, int] = {}
    answers({"ready": True})
    pending = b""
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap(nodes, answers)
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                order = json.loads(line)
                pid = _fork(order, answers)
                nodes[pid] = order["rank"]
                answers({"rank": order["rank"], "pid": pid})
    for pid in nodes:
        os.kill(pid, signal.SIGKILL)
    return 0


def _reap(nodes: dict[int, int], answers: Answers) -> None:
    for pid in list(nodes):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            answers({"rank": nodes.pop(pid), "status": os.waitstatus_to_exitcode(status)})


def _fork(order: dict[str, Any], answers: Answers) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(answers.fd)
        log_file = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log_file, 1)
        os.dup2(log_file, 2)
        metrics = None
        if order["netns"]:
            # A socket stays in the namespace that it was made in: the node's own has nothing but the mesh.
            host, _, port = order["place"]["metrics"].rpartition(":")
            metrics = socket.create_server((host, int(port)))
            join_network(order["netns"])
        if order["hosts"]:
            take_name(node_namespace(order["rank"]), order["hosts"])
        _yield_to_links()
        from gannet.node.process.node_process import live
        from gannet.node.process.place import Place

        label(rank=order["rank"])

        status = live(Place(**order["place"]), metrics)
    except BaseException:
        log.exception("node %d ended", order["rank"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _yield_to_links() -> None:
    """Let the link engine go first: an emulated link must not be late because a gradient is being computed.

    As root the engine runs with real-time priority, and niceness is enough for the trainers. An ordinary user cannot
    raise the engine's priority, so the trainers lower theirs: an idle-class process yields at once.
    """
    os.nice(_TRAINER_NICENESS)
    if rootless():
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
