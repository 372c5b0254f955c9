"""Client of the operator API: finds the controller of a live run and sends it requests (see
gannet.fabrics.links.operator_server).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

import grpc

from gannet.fabrics.links import operator_pb2, operator_pb2_grpc
from gannet.fabrics.links.operator_server import live_folder
from gannet.node.admission.identity import Identity, NotBelieved, reach
from gannet.node.wire.metadata import CREDENTIAL

# An agent that hangs is given up after some ten seconds, once to apply and once to read back.
_CHANGE_S, _SHOW_S, _VERIFY_S = 60.0, 30.0, 600.0
_CONNECT_S = 3.0
_COMPOSE_PORT = 7701


class NoController(RuntimeError):
    """There is no controller to connect to, or several; the message says what to do."""


class Refused(RuntimeError):
    """The controller answered with an error. `usage`: the request itself was wrong."""

    def __init__(self, message: str, usage: bool = False) -> None:
        super().__init__(message)
        self.usage = usage


class OperatorClient:
    """A connection to one controller. Its methods raise NoController and Refused.

    `secret`, `identity`: the operators' of a cluster of containers; a local socket asks for neither.
    """

    def __init__(self, address: str, secret: str = "", identity: Identity | None = None) -> None:
        self.address = address
        self._is_local = address.startswith("unix:")
        self._identity = None if self._is_local else identity
        # No proxy, which is for remote hosts; and a socket's path is not a valid HTTP/2 authority.
        options: list[tuple[str, Any]] = [("grpc.enable_http_proxy", 0)]
        if self._identity is None:
            options.append(("grpc.default_authority", "gannet"))
            self._channel = grpc.insecure_channel(address, options)
        else:
            options += self._identity.options()
            self._channel = grpc.secure_channel(address, self._identity.channel(), options)
        self._stub = operator_pb2_grpc.OperatorStub(self._channel)
        self._metadata = ((CREDENTIAL, secret),) if secret else ()

    def __enter__(self) -> OperatorClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._channel.close()

    def connect(self) -> None:
        """Check that a server listens: gRPC itself would keep trying a silent address for a long time."""
        try:
            if self._identity is not None:
                reach(self.address, self._identity, _CONNECT_S)
            else:
                _connect(self.address).close()
        except NotBelieved as error:
            raise Refused(f"the controller at {self.address}: {error}") from None
        except (OSError, ValueError) as error:
            raise NoController(f"no controller answers at {self.address} ({error})") from None

    def show(self) -> operator_pb2.Shown:
        """The applied links, and the scheduled changes."""
        shown: operator_pb2.Shown = self._call(self._stub.Show, operator_pb2.ShowRequest(), _SHOW_S)
        return shown

    def change(self, for_s: float | None = None, **operation: Any) -> operator_pb2.Changed:
        """Request one of ChangeRequest's operations, by its name there, for a time or permanently."""
        request = operator_pb2.ChangeRequest(for_s=for_s or 0.0, **operation)
        changed: operator_pb2.Changed = self._call(self._stub.Change, request, _CHANGE_S)
        return changed

    def verify(self, links: list[tuple[int, int]]) -> operator_pb2.Verified:
        """Measure these links, or those that training uses."""
        wanted = [operator_pb2.Link(source=source, target=target) for source, target in links]
        verified: operator_pb2.Verified = self._call(
            self._stub.Verify, operator_pb2.VerifyRequest(links=wanted), _VERIFY_S
        )
        return verified

    def _call(self, method: Any, request: Any, timeout_s: float) -> Any:
        self.connect()
        try:
            return method(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            code, detail = error.code(), error.details()
            if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED):
                raise NoController(f"no controller answers at {self.address} ({detail})") from None
            if code == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise Refused(f"the controller at {self.address} did not answer within {timeout_s:g} s") from None
            if code == grpc.StatusCode.UNAUTHENTICATED and self._identity is None and not self._is_local:
                detail = f"{detail}; GANNET_CERTS names the operators' certificate (docs/compose.md)"
            raise Refused(detail or code.name, usage=code == grpc.StatusCode.INVALID_ARGUMENT) from None


def _connect(address: str) -> socket.socket:
    """Connect to "host:port" or "unix:/path". Raises OSError, and ValueError for an invalid address."""
    if not address.startswith("unix:"):
        host, _, port = address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S)
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.settimeout(_CONNECT_S)
        probe.connect(address.removeprefix("unix:"))
    except OSError:
        probe.close()
        raise
    return probe


def local_sockets() -> list[str]:
    """Addresses of this machine's live runs that this user may reach. A socket that no process serves is removed."""
    found = []
    for path in sorted(live_folder().glob("*.sock")):
        with suppress(OSError):
            try:
                _connect(f"unix:{path}").close()
            except ConnectionRefusedError:  # its owner was killed; a slow or forbidden one gives another error
                path.unlink()
            else:
                found.append(f"unix:{path}")
    return found


def find_controller(environment: Mapping[str, str] = os.environ) -> str:
    """The address of the controller to use where none is given.

    $GANNET_OPERATOR; else the one live run of this machine; else 127.0.0.1:${GANNET_PORT:-7701}, where the cluster of
    compose.yaml publishes its operator API. Raises NoController where several runs are live, and in a node's
    container, from which no operator's call is taken.
    """
    if address := environment.get("GANNET_OPERATOR"):
        return address
    if environment.get("GANNET_CONTROLLER"):
        raise NoController("a node's container cannot operate the links: run this in the controller's container")
    local = local_sockets()
    if len(local) > 1:
        runs = "".join(f"\n  --controller {address}   {_name(address)}" for address in local)
        raise NoController(f"{len(local)} runs are live: say which one is meant{runs}")
    return local[0] if local else f"127.0.0.1:{environment.get('GANNET_PORT') or _COMPOSE_PORT}"


def _name(address: str) -> str:
    with OperatorClient(address) as client:
        try:
            return client.show().run
        except (NoController, Refused) as error:
            return f"({error})"
