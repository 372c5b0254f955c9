"""Credentials: who may make which of the controller's calls.

A cluster has three secrets, one for each role, and a call carries its caller's credential as metadata:

    role       its service   its credential
    trainer    Controller    its node's name, and an HMAC of it under the secret: `node_credential`
    agent      Membership    the secret
    operator   Operator      the secret

So a training process, which runs a task's code, holds nothing by which it could pass for another node: the first
process of its container makes its credential, and keeps the secret. A server asks before a servicer is called
(`gate`, `async_gate`), whatever the method: a new call is behind the same gate.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

import grpc
import grpc.aio

from gannet.node.admission.call_rate import PeerRates
from gannet.node.wire.metadata import CREDENTIAL

FOLDER = Path("/credentials")  # in every container: ROLE/token, of the roles that the container has
LEAST_CHARACTERS = 16
_FRESH_BYTES = 32
# Calls of one peer. A node of a run makes one, and one for each snapshot and checkpoint.
CALLS_PER_S, CALLS_AT_ONCE = 50.0, 400.0
_TOO_MANY = f"more than {CALLS_PER_S:g} calls a second"
_SECRET = re.compile(r"[\x21-\x7e]{16,512}")  # what gRPC's metadata can carry

Whose = Callable[[str], str | None]
Metadata = Sequence[tuple[str, str | bytes]] | None


class CredentialError(Exception):
    """A secret is missing or cannot be used; the message says which and what to do."""


@dataclass(frozen=True)
class Credentials:
    """The secrets of a cluster. Raises CredentialError where one is none, or where two roles share one."""

    trainer: str = field(repr=False)
    agent: str = field(repr=False)
    operator: str = field(repr=False)

    def __post_init__(self) -> None:
        for role in ROLES:
            check(getattr(self, role), f"the secret of the role {role}")
        if len({getattr(self, role) for role in ROLES}) != len(ROLES):
            raise CredentialError("two roles share a secret: each needs one of its own")

    @classmethod
    def fresh(cls) -> Credentials:
        """New random secrets."""
        return cls(*(fresh_secret() for _ in ROLES))

    @classmethod
    def read(cls, folder: Path = FOLDER) -> Credentials:
        """The secrets in a folder."""
        return cls(**{role: read_secret(secret_file(role, folder)) for role in ROLES})


ROLES = tuple(role.name for role in fields(Credentials))


def fresh_secret() -> str:
    """A new random secret."""
    return secrets.token_hex(_FRESH_BYTES)


def secret_file(role: str, folder: Path = FOLDER) -> Path:
    """Where a role's secret is."""
    return folder / role / "token"


def check(secret: str, what: str) -> str:
    """The secret. Raises CredentialError where no server would take it; the message does not contain it."""
    if not _SECRET.fullmatch(secret):
        told = "is empty" if not secret else "is not 16 to 512 visible ASCII characters in one line"
        raise CredentialError(f"{what} {told}: make one with `openssl rand -hex {_FRESH_BYTES}`")
    return secret


def read_secret(file: Path) -> str:
    """The secret in a file. Raises CredentialError."""
    try:
        with file.open(encoding="ascii", errors="replace") as opened:
            return check(opened.read(4096).strip(), f"the secret in {file}")
    except OSError as error:
        raise CredentialError(f"no secret in {file} ({error.strerror or error})") from None


def node_credential(secret: str, node: str) -> str:
    """The credential of a node's training process."""
    return f"{node}:{hmac.new(secret.encode(), node.encode(), hashlib.sha256).hexdigest()}"


def node_of(credential: str, secret: str) -> str | None:
    """The node that a credential is of; None: it is none of this secret."""
    node = credential.rpartition(":")[0]
    return node if hmac.compare_digest(credential.encode(), node_credential(secret, node).encode()) else None


def presented(metadata: Metadata) -> str:
    """The credential that a call carries; empty: none."""
    found = [value for key, value in metadata or () if key == CREDENTIAL]
    return found[0] if len(found) == 1 and isinstance(found[0], str) and found[0].isascii() else ""


def gate(secret: str, refusal: str) -> grpc.ServerInterceptor:
    """Lets those calls pass that carry this secret; the others end with UNAUTHENTICATED and `refusal`.

    A peer, an address, that calls more often than CALLS_PER_S ends with RESOURCE_EXHAUSTED for a while.
    """
    return _Gate(secret, refusal)


def async_gate(whose: Whose, refusal: str) -> grpc.aio.ServerInterceptor:
    """The same for grpc.aio: `whose` names the node that has a credential, which is the peer; None: no one."""
    return _AsyncGate(whose, refusal)


class _Gate(grpc.ServerInterceptor):
    def __init__(self, secret: str, refusal: str) -> None:
        self._secret, self._refusal, self._rates = secret, refusal, PeerRates(CALLS_PER_S, CALLS_AT_ONCE)

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if handler is None:
            return handler
        if not hmac.compare_digest(presented(details.invocation_metadata).encode(), self._secret.encode()):
            return _of_the_same_kind(handler, _refusing(grpc.StatusCode.UNAUTHENTICATED, self._refusal))
        name = next(kind for kind in _KINDS.values() if getattr(handler, kind) is not None)
        served = getattr(handler, name)

        def limited(request: Any, context: grpc.ServicerContext) -> Any:
            host = context.peer().rpartition(":")[0]  # without its port
            if host != "unix" and not self._rates.take(host):  # a file of this user is no peer
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, _TOO_MANY)
            return served(request, context)

        return handler._replace(**{name: limited})


class _AsyncGate(grpc.aio.ServerInterceptor):
    def __init__(self, whose: Whose, refusal: str) -> None:
        self._whose, self._refusal, self._rates = whose, refusal, PeerRates(CALLS_PER_S, CALLS_AT_ONCE)

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            return handler
        caller = self._whose(presented(details.invocation_metadata))
        if caller is None:
            code, why = grpc.StatusCode.UNAUTHENTICATED, self._refusal
        elif not self._rates.take(caller):
            code, why = grpc.StatusCode.RESOURCE_EXHAUSTED, _TOO_MANY
        else:
            return handler

        async def refuse(request: Any, context: Any) -> None:
            await context.abort(code, why)

        return _of_the_same_kind(handler, refuse)


def _refusing(code: grpc.StatusCode, why: str) -> Callable[[Any, grpc.ServicerContext], NoReturn]:
    def refuse(request: Any, context: grpc.ServicerContext) -> NoReturn:
        context.abort(code, why)
        raise AssertionError("abort raises")

    return refuse


_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}


def _of_the_same_kind(handler: Any, behaviour: Any) -> Any:
    """A handler that reads and writes as often as `handler`; it takes messages as bytes, and parses none."""
    kind = _KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]
    return getattr(grpc, f"{kind}_rpc_method_handler")(behaviour)
