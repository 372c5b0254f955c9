"""The containers fabric: nodes that join the controller by themselves, each from a container.

Compose, Swarm or a user has started them; here they are gathered. A container is identified by its host name. Its
link agent keeps a connection open for as long as it lives; its training process joins one run after the other. Ranks
follow the mesh addresses, so that they stay the same from run to run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from gannet.fabrics import addresses as layout
from gannet.fabrics.containers import LOGS, SCALE
from gannet.fabrics.containers.membership import Membership, RemoteAgent, absent
from gannet.fabrics.credentials import Credentials
from gannet.fabrics.entrance.entrance import Entrance
from gannet.fabrics.job import Job, LinkAgent, NodeInterface, Outcome, Sink
from gannet.fabrics.links.core_links import CoreLinks
from gannet.fabrics.links.operator_server import Operator, local_socket
from gannet.fabrics.recovery.continued import session_of
from gannet.fabrics.recovery.known import verifier_of
from gannet.fabrics.recovery.past import Past
from gannet.fabrics.session.controller import Controller
from gannet.fabrics.session.node_host import Failed
from gannet.netem.agent.client import AgentError
from gannet.node.admission.identity import Identity

CONTROLLER_GRACE_S = 120.0
"""How long nodes train on while no controller is there: for a container to start, and to import torch."""
_BACK_S = 30.0  # for a container that is there to connect again, which it tries once a second
_GATHER_S = 300.0  # for a container that died between two runs to come back


@dataclass(frozen=True)
class Endpoints:
    """Addresses of the controller's services, host:port each."""

    control: str = f"0.0.0.0:{layout.CONTROL_PORT}"
    agents: str = f"0.0.0.0:{layout.AGENTS_PORT}"
    operator: str = f"0.0.0.0:{layout.OPERATOR_PORT}"


def cluster_of(secret: str) -> str:
    """By which a cluster knows its own runs, from which its nodes' secret cannot be had."""
    return verifier_of(f"cluster {secret}")


class ContainersFabric:
    """Runs jobs one after the other over the containers that have joined. Use as a context manager.

    `identity`: the controller's, for mutual TLS with all of its callers.
    """

    def __init__(
        self,
        credentials: Credentials,
        identity: Identity,
        fabric: str = "compose",
        endpoints: Endpoints | None = None,
    ) -> None:
        self.membership, self._identity = Membership(credentials.agent, identity), identity
        self._trainers, self._fabric, self._endpoints = credentials.trainer, fabric, endpoints or Endpoints()
        self._operator = Operator(credentials.operator, identity)

    def __enter__(self) -> ContainersFabric:
        self.membership.start(self._endpoints.agents)
        self._operator.serve([local_socket(), self._endpoints.operator])
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._operator.close()
        self.membership.stop()

    def __call__(self, job: Job, sink: Sink) -> Outcome:
        """Run one job to its end, whatever that is; only programming errors are raised."""
        if job.recovery is not None:
            cluster = cluster_of(self._trainers)
            job = replace(job, recovery=replace(job.recovery, grace_s=CONTROLLER_GRACE_S, cluster=cluster))
        node_host = _ContainerHost(
            self.membership, self._trainers, self._identity, self._endpoints.control, self._fabric
        )
        try:
            engine = node_host.gather(job, sink)
        except Failed as failure:
            return Outcome("failed", str(failure))
        except KeyboardInterrupt:
            return Outcome("stopped", "interrupted by the user")
        session = session_of(job, sink, node_host, engine, self._operator)
        try:
            return session.go()
        finally:
            session.clear()


class _ContainerHost:
    """A NodeHost of containers that were started elsewhere."""

    def __init__(self, membership: Membership, secret: str, identity: Identity, serve_at: str, fabric: str) -> None:
        self._membership, self._secret, self._identity, self.serve_at = membership, secret, identity, serve_at
        self._scale = SCALE[fabric]
        self._members: list[RemoteAgent] = []
        self.core: CoreLinks | None = None  # containers meet at a bridge of the engine, or in an overlay network
        self.agents: list[LinkAgent] = []
        self.interfaces: list[NodeInterface] = []
        self.logs = LOGS[fabric]

    def gather(self, job: Job, sink: Sink) -> str:
        """Wait for as many containers as the run has nodes; returns the engine that works in all of them.

        For a run that is taken up, those it has.
        """
        if job.recovery is not None and job.recovery.past is not None:
            return self._gather_again(job.recovery.past)
        end = time.monotonic() + _GATHER_S
        while len(members := self._membership.members()) < job.world:
            sink.phase(f"waiting for node containers: {len(members)} of {job.world} are there")
            if time.monotonic() > end:
                raise Failed(
                    f"the run wants {job.world} nodes and {len(members)} node containers are there after "
                    f"{_GATHER_S:.0f} s: {self._scale}={job.world}"
                )
            time.sleep(0.5)
        self._members = members[: job.world]
        wanted = [job.engine] if job.engine else ["netem", "nfqueue"]
        for engine in wanted:
            if all(engine in member.hello.engines.split(",") for member in self._members):
                return engine
        said = "; ".join(dict.fromkeys(f"{m.hello.host}: {m.hello.complaint}" for m in self._members))
        raise Failed(f"link engine {' or '.join(wanted)} does not work in every container: {said}")

    def _gather_again(self, past: Past) -> str:
        """A container that has not come back has an agent that is away."""
        environment = past.facts["environment"]
        hosts, end = [environment["containers"][str(rank)] for rank in sorted(past.ready)], time.monotonic() + _BACK_S
        awaited = {host for rank, host in enumerate(hosts) if rank not in past.lost}
        while True:
            here = {member.hello.host: member for member in self._membership.members()}
            if awaited <= here.keys() or time.monotonic() > end:
                break
            time.sleep(0.2)
        addresses = [past.ready[rank].mesh_address.rpartition(":")[0] for rank in range(len(hosts))]
        self._members = [
            here.get(host) or absent(host, address) for host, address in zip(hosts, addresses, strict=True)
        ]
        if not awaited & here.keys():
            raise Failed("the controller was away, and none of its nodes' containers came back")
        return str(environment["engine"])

    def open(self, job: Job, sink: Sink) -> dict[str, Any]:
        sink.phase(f"links of {job.world} containers")
        for rank, member in enumerate(self._members):
            hello = member.hello
            self.agents.append(member)
            self.interfaces.append(NodeInterface(rank, hello.mesh_device, hello.mesh_address))
        hosts = {str(rank): member.hello.host for rank, member in enumerate(self._members)}
        clocks = len({member.hello.boot_id for member in self._members})
        return {"containers": hosts, "kernels": clocks}

    def controller(self, job: Job) -> Controller:
        """See NodeHost: ranks belong to containers."""
        hosts = [member.hello.host for member in self._members]
        grace_s = job.recovery.grace_s if job.recovery is not None else 0.0
        controller = Controller(job.config.run, job.config.model_dump_json(), self._secret, hosts, grace_s)
        controller.entrance = Entrance("node", self._identity)
        return controller

    def populate(self, address: str, sink: Sink) -> None:
        """See NodeHost: the nodes are waiting for the controller already."""
        sink.phase(f"waiting for {len(self._members)} nodes to build their task")

    def revive(self, rank: int) -> None:
        """See NodeHost: a container starts its node again by itself."""

    def ended(self) -> list[tuple[int, str]]:
        """See NodeHost: a node's connection shows its end; nothing to add."""
        return []

    def how_ended(self, rank: int) -> str:
        """See NodeHost: only the container knows."""
        return ""

    def last_words(self, rank: int) -> str:
        """See NodeHost: Docker keeps them, on the machine of the container."""
        return f"its log: docker logs --tail 20 {self._members[rank].hello.host}"

    def empty(self) -> bool:
        """See NodeHost: a container's next run does not wait for the last one's process."""
        return True

    def close(self) -> None:
        """See NodeHost: links are cleared, containers stay."""
        for member in self._members:
            try:
                member.close()
            except AgentError:
                continue  # its container is ending, and its links with it
