"""The containers fabric: nodes that come to the controller of their own accord, each from a container.

Compose, Swarm or hands have started them; here they are mustered. A container is known by its host name.
Its link agent holds a line for as long as it lives; its training process joins one run after the other.
Ranks follow the mesh addresses, so that they stay the same from run to run.
"""

from __future__ import annotations

import hmac
import json
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import count
from types import TracebackType
from typing import Any

import grpc

from gannet.fabrics import addresses as layout
from gannet.fabrics.job import Berth, Job, LinkAgent, Outcome, Sink
from gannet.fabrics.links.operator_server import Operator, local_socket
from gannet.fabrics.session.controller import Controller
from gannet.fabrics.session.session import Failed, Session
from gannet.netem.agent.client import AgentError, AgentGone
from gannet.node.process.controller_client import KEEPALIVE
from gannet.node.wire import control_pb2, control_pb2_grpc

_LOGS = {"compose": "docker compose logs node", "swarm": "docker service logs …_node"}
_SCALE = {"compose": "docker compose up -d --scale node", "swarm": "docker service scale …_node"}
_MUSTER_S = 300.0  # for a container that died between two runs to come back


class RemoteAgent:
    """A LinkAgent behind a container's line: the same questions as over a pipe."""

    def __init__(self, hello: control_pb2.AgentHello) -> None:
        self.hello = hello
        self.name = f"link agent of {hello.host}"
        self._orders: queue.SimpleQueue[control_pb2.AgentOrder | None] = queue.SimpleQueue()
        self._numbers = count(1)
        self._open: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self.gone = False

    def request(self, op: str, timeout_s: float = 30.0, **arguments: Any) -> dict[str, Any]:
        """Ask one thing and wait for the answer; AgentError says which agent, which request and why not."""
        answer: Future[dict[str, Any]] = Future()
        with self._lock:
            if self.gone:
                raise AgentGone(f"{self.name}: {op}: its container is gone")
            number = next(self._numbers)
            self._open[number] = answer
        self._orders.put(
            control_pb2.AgentOrder(json=json.dumps({"id": number, "op": op, "timeout_s": timeout_s, **arguments}))
        )
        try:
            said = answer.result(timeout_s)
        except TimeoutError:
            raise AgentError(f"{self.name}: {op}: no answer within {timeout_s:g} s") from None
        finally:
            with self._lock:
                self._open.pop(number, None)
        if "gone" in said:
            raise AgentGone(f"{self.name}: {op}: its container is gone")
        if "error" in said:
            raise AgentError(f"{self.name}: {said['error']}")
        result: dict[str, Any] = said["ok"]
        return result

    def close(self) -> None:
        """Clear the links; the agent itself stays for the next run."""
        if not self.gone:
            self.request("clear")

    def orders(self) -> Iterator[control_pb2.AgentOrder]:
        """What to send down the line, until `leave`."""
        return iter(self._orders.get, None)

    def hear(self, answer: str) -> None:
        """An answer came up the line; one that nobody waits for any more is dropped."""
        said = json.loads(answer)
        with self._lock:
            waiting = self._open.pop(said["id"], None)
        if waiting is not None:
            waiting.set_result(said)

    def leave(self) -> None:
        """The line has ended: whoever waits hears so at once."""
        with self._lock:
            self.gone = True
            left, self._open = list(self._open.values()), {}
        for waiting in left:
            waiting.set_result({"gone": True})
        self._orders.put(None)


class Muster(control_pb2_grpc.MusterServicer):
    """All containers that are there, by host name."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._members: dict[str, RemoteAgent] = {}
        self._lock = threading.Lock()
        # A line occupies a thread for as long as it lives.
        self._server = grpc.server(ThreadPoolExecutor(1100, "muster"), options=KEEPALIVE)
        control_pb2_grpc.add_MusterServicer_to_server(self, self._server)

    def start(self, address: str) -> str:
        """Serve on host:port (port 0: any); returns the address with its port."""
        port = self._server.add_insecure_port(address)
        self._server.start()
        return f"{address.rsplit(':', 1)[0]}:{port}"

    def stop(self) -> None:
        """End every line."""
        for member in self.members():
            member.leave()
        self._server.stop(1.0).wait()

    def members(self) -> list[RemoteAgent]:
        """Who is there now, in the order of mesh addresses."""
        with self._lock:
            return sorted(self._members.values(), key=lambda member: IPv4Address(member.hello.mesh_address))

    def Serve(self, request_iterator: Iterator[control_pb2.AgentWord], context: Any) -> Iterator[Any]:
        """One agent's line."""
        first = next(request_iterator, None)
        if first is None or first.WhichOneof("kind") != "hello":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "an agent begins with hello")
            return
        if not hmac.compare_digest(first.hello.token.encode(), self._token.encode()):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "GANNET_TOKEN of this container is not the controller's")
            return
        member = RemoteAgent(first.hello)
        with self._lock:
            before = self._members.get(first.hello.host)
            self._members[first.hello.host] = member
        if before is not None:  # its line broke and it is back before we noticed
            before.leave()
        context.add_callback(lambda: self._leave(member))
        threading.Thread(target=self._listen, args=(request_iterator, member), daemon=True).start()
        yield from member.orders()

    def _listen(self, words: Iterator[control_pb2.AgentWord], member: RemoteAgent) -> None:
        try:
            for word in words:
                member.hear(word.answer.json)
        except grpc.RpcError:
            pass  # the line broke; what follows is the same as for one that ended
        finally:
            self._leave(member)

    def _leave(self, member: RemoteAgent) -> None:
        with self._lock:
            if self._members.get(member.hello.host) is member:
                del self._members[member.hello.host]
        member.leave()


@dataclass(frozen=True)
class Doors:
    """Where the controller's services listen, host:port each."""

    control: str = f"0.0.0.0:{layout.CONTROL_PORT}"
    agents: str = f"0.0.0.0:{layout.AGENTS_PORT}"
    operator: str = f"0.0.0.0:{layout.OPERATOR_PORT}"


class ContainersFabric:
    """Runs jobs one after the other over the containers that are there. Use as a context manager."""

    def __init__(self, token: str, fabric: str = "compose", doors: Doors | None = None) -> None:
        self.muster = Muster(token)
        self._token, self._fabric, self._doors = token, fabric, doors or Doors()
        self._operator = Operator(token)

    def __enter__(self) -> ContainersFabric:
        self.muster.start(self._doors.agents)
        self._operator.serve([local_socket(), self._doors.operator])
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._operator.close()
        self.muster.stop()

    def __call__(self, job: Job, sink: Sink) -> Outcome:
        """Run one job to its end, whatever that is; only programming errors are raised."""
        ground = _Containers(self.muster, self._token, self._doors.control, self._fabric)
        try:
            engine = ground.muster_all(job, sink)
        except Failed as failure:
            return Outcome("failed", str(failure))
        except KeyboardInterrupt:
            return Outcome("stopped", "interrupted by the user")
        session = Session(job, sink, ground, engine, self._operator)
        try:
            return session.go()
        finally:
            session.clear()


class _Containers:
    """A Ground of containers that others have started."""

    def __init__(self, muster: Muster, token: str, serve_at: str, fabric: str) -> None:
        self._muster, self._token, self.serve_at = muster, token, serve_at
        self._scale = _SCALE[fabric]
        self._members: list[RemoteAgent] = []
        self.agents: list[LinkAgent] = []
        self.berths: list[Berth] = []
        self.logs = _LOGS[fabric]

    def muster_all(self, job: Job, sink: Sink) -> str:
        """Wait for as many containers as the run has nodes; returns the engine that works in all of them."""
        end = time.monotonic() + _MUSTER_S
        while len(members := self._muster.members()) < job.world:
            sink.phase(f"waiting for node containers: {len(members)} of {job.world} are there")
            if time.monotonic() > end:
                raise Failed(
                    f"the run wants {job.world} nodes and {len(members)} node containers are there after "
                    f"{_MUSTER_S:.0f} s: {self._scale}={job.world}"
                )
            time.sleep(0.5)
        self._members = members[: job.world]
        wanted = [job.engine] if job.engine else ["netem", "nfqueue"]
        for engine in wanted:
            if all(engine in member.hello.engines.split(",") for member in self._members):
                return engine
        said = "; ".join(dict.fromkeys(f"{m.hello.host}: {m.hello.complaint}" for m in self._members))
        raise Failed(f"link engine {' or '.join(wanted)} does not work in every container: {said}")

    def open(self, job: Job, sink: Sink) -> dict[str, Any]:
        """See Ground."""
        sink.phase(f"links of {job.world} containers")
        for rank, member in enumerate(self._members):
            hello = member.hello
            self.agents.append(member)
            self.berths.append(Berth(rank, hello.mesh_device, hello.mesh_address))
        hosts = {str(rank): member.hello.host for rank, member in enumerate(self._members)}
        clocks = len({member.hello.boot_id for member in self._members})
        return {"containers": hosts, "kernels": clocks}

    def controller(self, job: Job) -> Controller:
        """See Ground: ranks belong to containers."""
        hosts = [member.hello.host for member in self._members]
        return Controller(job.config.run, job.world, job.config.model_dump_json(), self._token, hosts)

    def populate(self, address: str, sink: Sink) -> None:
        """See Ground: the nodes are waiting for the controller already."""
        sink.phase(f"waiting for {len(self._members)} nodes to build their task")

    def ended(self) -> list[tuple[int, str]]:
        """See Ground: a node's line tells of its end; nothing to add."""
        return []

    def empty(self) -> bool:
        """See Ground: a container's next run does not wait for the last one's process."""
        return True

    def close(self) -> None:
        """See Ground: links are cleared, containers stay."""
        for member in self._members:
            try:
                member.close()
            except AgentError:
                continue  # its container is going away, and its links with it
