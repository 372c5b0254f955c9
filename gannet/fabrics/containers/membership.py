"""Membership of a cluster: its containers, and the connection to the agent of each."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import IPv4Address
from itertools import count
from typing import Any

import grpc

from gannet.fabrics.addresses import MESH_DEVICE
from gannet.fabrics.containers.hello import answer_of, wrong_with
from gannet.fabrics.credentials import gate
from gannet.fabrics.entrance.entrance import Entrance
from gannet.netem.agent.client import AgentError, AgentGone
from gannet.node.admission.identity import Identity
from gannet.node.process.controller_client import KEEPALIVE
from gannet.node.wire import control_pb2, control_pb2_grpc

log = logging.getLogger(__name__)

_ANSWER_S = 3.0  # for an agent to show that it is there, when another one claims its name
_MOST_STREAMS = 4  # of one connection: an agent has one


class RemoteAgent:
    """A LinkAgent behind a container's connection: the same requests as over a pipe."""

    def __init__(self, hello: control_pb2.AgentHello) -> None:
        self.hello = hello
        self.name = f"link agent of {hello.host}"
        self._orders: queue.SimpleQueue[control_pb2.AgentOrder | None] = queue.SimpleQueue()
        self._numbers = count(1)
        self._open: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self.gone = False
        self.away = ""  # see MayBeAway
        self.fault = ""  # why its connection was ended

    def request(self, op: str, timeout_s: float = 30.0, **arguments: Any) -> dict[str, Any]:
        """Send one request and wait for the answer; AgentError says which agent, which request and why it failed."""
        said = self._ask(op, timeout_s, arguments)
        if said is None:
            raise AgentError(f"{self.name}: {op}: no answer within {timeout_s:g} s")
        if "error" in said:
            raise AgentError(f"{self.name}: {said['error']}")
        result: dict[str, Any] = said["ok"]
        return result

    def answers(self) -> bool:
        """Whether the container is there: a connection that broke may not show it for half a minute."""
        try:
            return self._ask("ping", _ANSWER_S, {}) is not None
        except AgentGone:
            return False

    def _ask(self, op: str, timeout_s: float, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """What was answered, which may be an error; None: nothing in time. Raises AgentGone."""
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
            return None
        finally:
            with self._lock:
                self._open.pop(number, None)
        if "gone" in said:
            raise AgentGone(f"{self.name}: {op}: its container is gone")
        return said

    def close(self) -> None:
        """Clear the links; the agent itself stays for the next run."""
        if not self.gone:
            self.request("clear")

    def orders(self) -> Iterator[control_pb2.AgentOrder]:
        """The requests to send to the container, until `leave`."""
        return iter(self._orders.get, None)

    def hear(self, answer: str) -> None:
        """Take an answer from the container; one that no request waits for any more is dropped. Raises ValueError."""
        said = answer_of(answer)
        with self._lock:
            waiting = self._open.pop(said["id"], None)
        if waiting is not None:
            waiting.set_result(said)

    def leave(self) -> None:
        """Fail all requests: the connection has ended."""
        with self._lock:
            self.gone = True
            left, self._open = list(self._open.values()), {}
        for waiting in left:
            waiting.set_result({"gone": True})
        self._orders.put(None)


def absent(host: str, mesh_address: str) -> RemoteAgent:
    """The agent of a container that is not there."""
    agent = RemoteAgent(control_pb2.AgentHello(host=host, mesh_device=MESH_DEVICE, mesh_address=mesh_address))
    agent.away = f"{agent.name}: its container did not come back to the controller, which was away"
    agent.leave()
    return agent


class Membership(control_pb2_grpc.MembershipServicer):
    """All containers that have joined, by host name. `secret`: the link agents' (gannet.fabrics.credentials).

    `identity`: have them connect by mutual TLS.
    """

    def __init__(self, secret: str, identity: Identity | None = None) -> None:
        self._entrance = Entrance("agent", identity)
        self._members: dict[str, RemoteAgent] = {}
        self._refused: dict[str, str] = {}  # by address, what was logged last: a refused agent tries again
        self._lock = threading.Lock()
        options = [*KEEPALIVE, ("grpc.max_concurrent_streams", _MOST_STREAMS)]
        guard = gate(secret, "this is not the credential of this cluster's link agents")
        # A connection occupies a thread for as long as it lives.
        self._server = grpc.server(ThreadPoolExecutor(1100, "membership"), interceptors=[guard], options=options)
        control_pb2_grpc.add_MembershipServicer_to_server(self, self._server)

    def start(self, address: str) -> str:
        """Serve on host:port (port 0: any); returns the address with its port."""
        served = self._entrance.add(self._server, address)
        self._server.start()
        return served

    def stop(self) -> None:
        """End every connection."""
        for member in self.members():
            member.leave()
        self._server.stop(1.0).wait()
        self._entrance.close()

    def members(self) -> list[RemoteAgent]:
        """The present members, in the order of mesh addresses."""
        with self._lock:
            return sorted(self._members.values(), key=lambda member: IPv4Address(member.hello.mesh_address))

    def Serve(self, request_iterator: Iterator[control_pb2.AgentWord], context: Any) -> Iterator[Any]:
        """Serve one agent's connection."""
        first = next(request_iterator, None)
        if first is None or first.WhichOneof("kind") != "hello":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "an agent begins with hello")
            return
        if (wrong := wrong_with(first.hello)) is not None:
            self._refuse(context, grpc.StatusCode.INVALID_ARGUMENT, wrong)
            return
        member = RemoteAgent(first.hello)
        if (rival := self._admit(member)) is not None:
            told = f"the link agent of {rival.hello.host} at {rival.hello.mesh_address} is there, and answers"
            self._refuse(context, grpc.StatusCode.ALREADY_EXISTS, f"{member.hello.host}: {told}")
            return
        context.add_callback(lambda: self._leave(member))
        threading.Thread(target=self._listen, args=(request_iterator, member), daemon=True).start()
        yield from member.orders()
        if member.fault:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, member.fault)

    def _refuse(self, context: Any, code: grpc.StatusCode, why: str) -> None:
        peer = str(context.peer()).rpartition(":")[0]  # without its port, which is another one each time
        if self._refused.get(peer) != why:
            if len(self._refused) > 1000:
                self._refused.clear()
            self._refused[peer] = why
            log.warning("a link agent at %s is refused: %s", peer, why)
        context.abort(code, why)

    def _admit(self, member: RemoteAgent) -> RemoteAgent | None:
        """Make it a member; returns the one that has its name or its address, if that one is there.

        A connection that broke may not show it yet: one that does not answer is replaced.
        """
        own, silent = member.hello, set[RemoteAgent]()
        while True:
            with self._lock:
                rivals = {
                    other
                    for other in self._members.values()
                    if other.hello.host == own.host or other.hello.mesh_address == own.mesh_address
                }
                if rivals <= silent:
                    for other in rivals:
                        del self._members[other.hello.host]
                    self._members[own.host] = member
                    break
            for rival in rivals - silent:
                if rival.answers():
                    return rival
                silent.add(rival)
        for other in silent:
            other.leave()
        return None

    def _listen(self, words: Iterator[control_pb2.AgentWord], member: RemoteAgent) -> None:
        try:
            for word in words:
                member.hear(word.answer.json)
        except ValueError as error:
            member.fault = f"an answer of the link agent of {member.hello.host} is refused: {error}"
            log.warning("%s", member.fault)
        except grpc.RpcError:
            pass  # the connection broke; treated like one that ended
        finally:
            self._leave(member)

    def _leave(self, member: RemoteAgent) -> None:
        with self._lock:
            if self._members.get(member.hello.host) is member:
                del self._members[member.hello.host]
        member.leave()
