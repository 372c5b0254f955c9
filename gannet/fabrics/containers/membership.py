"""Membership of a cluster: its containers, and the connection to the agent of each."""

from __future__ import annotations

import hmac
import json
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import IPv4Address
from itertools import count
from typing import Any

import grpc

from gannet.netem.agent.client import AgentError, AgentGone
from gannet.node.process.controller_client import KEEPALIVE
from gannet.node.wire import control_pb2, control_pb2_grpc


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

    def request(self, op: str, timeout_s: float = 30.0, **arguments: Any) -> dict[str, Any]:
        """Send one request and wait for the answer; AgentError says which agent, which request and why it failed."""
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
        """The requests to send to the container, until `leave`."""
        return iter(self._orders.get, None)

    def hear(self, answer: str) -> None:
        """Take an answer from the container; one that no request waits for any more is dropped."""
        said = json.loads(answer)
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


class Membership(control_pb2_grpc.MembershipServicer):
    """All containers that have joined, by host name."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._members: dict[str, RemoteAgent] = {}
        self._lock = threading.Lock()
        # A connection occupies a thread for as long as it lives.
        self._server = grpc.server(ThreadPoolExecutor(1100, "membership"), options=KEEPALIVE)
        control_pb2_grpc.add_MembershipServicer_to_server(self, self._server)

    def start(self, address: str) -> str:
        """Serve on host:port (port 0: any); returns the address with its port."""
        port = self._server.add_insecure_port(address)
        self._server.start()
        return f"{address.rsplit(':', 1)[0]}:{port}"

    def stop(self) -> None:
        """End every connection."""
        for member in self.members():
            member.leave()
        self._server.stop(1.0).wait()

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
        if not hmac.compare_digest(first.hello.token.encode(), self._token.encode()):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "GANNET_TOKEN of this container is not the controller's")
            return
        member = RemoteAgent(first.hello)
        with self._lock:
            before = self._members.get(first.hello.host)
            self._members[first.hello.host] = member
        if before is not None:  # its connection broke and it is back before we noticed
            before.leave()
        context.add_callback(lambda: self._leave(member))
        threading.Thread(target=self._listen, args=(request_iterator, member), daemon=True).start()
        yield from member.orders()

    def _listen(self, words: Iterator[control_pb2.AgentWord], member: RemoteAgent) -> None:
        try:
            for word in words:
                member.hear(word.answer.json)
        except grpc.RpcError:
            pass  # the connection broke; treated like one that ended
        finally:
            self._leave(member)

    def _leave(self, member: RemoteAgent) -> None:
        with self._lock:
            if self._members.get(member.hello.host) is member:
                del self._members[member.hello.host]
        member.leave()
