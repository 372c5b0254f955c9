"""The namespaces fabric: one process and one network namespace a node, real TCP over shaped links.

Lives inside a sandbox (see gannet.fabrics.namespaces.sandbox), so that nothing it makes can outlast it. The run
itself, once the node host is ready, is in gannet.fabrics.session.session.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from gannet.fabrics import addresses as layout
from gannet.fabrics.credentials import fresh_secret, node_credential
from gannet.fabrics.job import Job, NodeInterface, Outcome, Sink
from gannet.fabrics.links.operator_server import Operator, local_socket
from gannet.fabrics.namespaces.exec import write_hosts_file
from gannet.fabrics.namespaces.fork_client import ForkServer
from gannet.fabrics.namespaces.hosts import NodeNamespaces
from gannet.fabrics.namespaces.ip import ip
from gannet.fabrics.namespaces.sandbox import inside
from gannet.fabrics.session.controller import Controller
from gannet.fabrics.session.session import Session
from gannet.node.process.place import Place

_EXIT_LOOKS, _LOOK_S = 100, 0.01  # for the fork server to report an end that the node's connection has shown
_TAIL_LINES, _TAIL_BYTES = 10, 16384


class NamespacesFabric:
    """Runs jobs one after the other; keeps the fork server, the bridges and the operator API between them.

    `logs`: folder for the nodes' output. Use as a context manager, inside a sandbox.
    """

    def __init__(self, logs: Path, engine: str) -> None:
        if not inside():
            raise RuntimeError(
                "the namespaces fabric needs a sandbox: call gannet.fabrics.namespaces.sandbox.enter() first"
            )
        self._logs = logs
        self._engine = engine
        self._fork_server: ForkServer | None = None
        self._operator: Operator | None = None

    def __enter__(self) -> NamespacesFabric:
        self._fork_server = ForkServer()
        ip(layout.build_hub())
        self._operator = Operator()
        self._operator.serve([local_socket()])
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        if self._operator is not None:
            self._operator.close()
        if self._fork_server is not None:
            self._fork_server.close()

    def __call__(self, job: Job, sink: Sink) -> Outcome:
        """Run one job to its end, whatever that is; only programming errors are raised."""
        assert self._fork_server is not None
        engine = job.engine or self._engine
        session = Session(
            job, sink, _NamespaceHost(job.config.run, self._fork_server, self._logs, engine), engine, self._operator
        )
        try:
            return session.go()
        finally:
            session.clear()


class _NamespaceHost(NodeNamespaces):
    """A NodeHost of network namespaces, with nodes forked into them."""

    def __init__(self, run: str, fork_server: ForkServer, logs: Path, engine: str) -> None:
        super().__init__(run, logs)
        self._fork_server, self._folder, self._engine = fork_server, logs, engine
        self._secret = fresh_secret()
        self._begun: dict[int, int] = {}  # size of a node's log before this run, bytes
        self._how: dict[int, str] = {}  # how nodes that failed have ended
        self._controller_address = ""
        # In the sandbox's own /run. A new name for each run: gRPC may remove a closed server's socket only later.
        self.serve_at = f"unix:/run/control-{secrets.token_hex(4)}.sock"
        self.logs = str(logs)

    def open(self, job: Job, sink: Sink) -> dict[str, Any]:
        """See NodeHost: namespaces, their interfaces, and an agent in each."""
        sink.phase(f"bringing up {job.world} namespaces and their links ({self._engine})")
        self.build(job.world)
        self._later = job.join_at_s.keys()
        return {}

    def controller(self, job: Job) -> Controller:
        """See NodeHost: each node has a credential of this run."""
        nodes = [layout.node_namespace(rank) for rank in range(job.world)]
        return Controller(job.config.run, job.config.model_dump_json(), self._secret, nodes)

    def populate(self, address: str, sink: Sink) -> None:
        """See NodeHost: fork every node into its namespace."""
        self._controller_address = address
        for interface in (each for each in self.interfaces if each.rank not in self._later):
            sink.phase(f"starting node {interface.rank + 1} of {len(self.interfaces)}")
            self._fork(interface)

    def revive(self, rank: int) -> None:
        """See NodeHost: a process that hangs is ended first."""
        if (pid := self._fork_server.pids.get(rank)) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.how_ended(rank)
        self._how.pop(rank, None)
        self._fork(self.interfaces[rank])

    def _fork(self, interface: NodeInterface) -> None:
        rank, address = interface.rank, self._controller_address
        place = Place(
            controller=address,
            mesh=f"{interface.address}:{layout.MESH_PORT}",
            metrics=f"{layout.metrics_address(rank)}:{layout.METRICS_PORT}",
            credential=node_credential(self._secret, layout.node_namespace(rank)),
            mesh_device=interface.device,
        )
        namespace = f"/run/netns/{layout.node_namespace(rank)}"
        log = self._log(rank)
        self._begun[rank] = log.stat().st_size if log.exists() else 0
        names = write_hosts_file(rank, [each.address for each in self.interfaces], Path(f"/run/hosts-{rank}"))
        self._fork_server.fork(rank, namespace, place, log, names)

    def ended(self) -> list[tuple[int, str]]:
        while not self._fork_server.exits.empty():
            exited = self._fork_server.exits.get()
            self._fork_server.pids.pop(exited.rank, None)
            if exited.status != 0:
                self._how[exited.rank] = f"its process {exited.how}; see {self._log(exited.rank)}"
        return list(self._how.items())

    def how_ended(self, rank: int) -> str:
        """See NodeHost: the fork server reports it at once.

        Looks are counted and not seconds: where this machine stands still, so does the fork server.
        """
        for _ in range(_EXIT_LOOKS):
            self.ended()
            if rank not in self._fork_server.pids:
                break
            time.sleep(_LOOK_S)
        return self._how.get(rank, "")

    def last_words(self, rank: int) -> str:
        log = self._log(rank)
        with suppress(OSError), log.open("rb") as file:
            file.seek(max(self._begun[rank], log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
            if lines:
                return "\n".join([f"the last lines of {log}:", *(f"    {line}" for line in lines)])
        return f"it has written nothing to {log}"

    def _log(self, rank: int) -> Path:
        return self._folder / f"node-{rank}.log"

    def empty(self) -> bool:
        return not self._fork_server.pids

    def close(self) -> None:
        """See NodeHost. The sandbox would do it too, but the next run needs the names."""
        for pid in list(self._fork_server.pids.values()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 5
        while self._fork_server.pids and time.monotonic() < end:
            self.ended()
            time.sleep(0.02)
        self.remove()
