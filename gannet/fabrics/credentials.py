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

from gannet.node.wire.metadata import CREDENTIAL

FOLDER = Path("/credentials")  # in every container: ROLE/token, of the roles that the container has
LEAST_CHARACTERS = 16
_FRESH_BYTES = 32
_SECRET = re.compile(r"[\x21-\x7e]{16,512}")  # what gRPC's metadata can carry

Admits = Callable[[str], bool]
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
    """Lets those calls pass that carry this secret; the others end with UNAUTHENTICATED and `refusal`."""
    return _Gate(lambda credential: hmac.compare_digest(credential.encode(), secret.encode()), refusal)


def async_gate(admits: Admits, refusal: str) -> grpc.aio.ServerInterceptor:
    """The same for grpc.aio: `admits` says whether a credential will do."""
    return _AsyncGate(admits, refusal)


class _Gate(grpc.ServerInterceptor):
    def __init__(self, admits: Admits, refusal: str) -> None:
        self._admits, self._refusal = admits, refusal

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if handler is None or self._admits(presented(details.invocation_metadata)):
            return handler

        def refuse(request: Any, context: grpc.ServicerContext) -> NoReturn:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, self._refusal)
            raise AssertionError("abort raises")

        return _of_the_same_kind(handler, refuse)


class _AsyncGate(grpc.aio.ServerInterceptor):
    def __init__(self, admits: Admits, refusal: str) -> None:
        self._admits, self._refusal = admits, refusal

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or self._admits(presented(details.invocation_metadata)):
            return handler

        async def refuse(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, self._refusal)

        return _of_the_same_kind(handler, refuse)


def _of_the_same_kind(handler: Any, behaviour: Any) -> Any:
    """A handler that reads and writes as often as `handler`; it takes messages as bytes, and parses none."""
    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    return kinds[bool(handler.request_streaming), bool(handler.response_streaming)](behaviour)
