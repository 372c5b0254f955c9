"""Who may make which of the controller's calls: every method of every service, with every credential there is.

The methods come from proto/: a new one is tried without being named here.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from rich.console import Console

from gannet.experiment.serve import ServeError, serve
from gannet.fabrics.containers.make_credentials import make
from gannet.fabrics.containers.membership import Membership
from gannet.fabrics.credentials import ROLES, CredentialError, Credentials, node_credential, node_of, secret_file
from gannet.fabrics.entrance import bundles
from gannet.fabrics.entrance.door import NOT_ENCRYPTED
from gannet.fabrics.entrance.entrance import Entrance
from gannet.fabrics.links import operator_pb2
from gannet.fabrics.links.operator_server import Operator
from gannet.fabrics.session.controller import Controller
from gannet.node.admission.identity import Identity
from gannet.node.wire import control_pb2
from gannet.node.wire.metadata import CREDENTIAL

SECRETS = Credentials.fresh()
NODE = "a-node"
SERVICES = {"Controller": "trainer", "Membership": "agent", "Operator": "operator"}  # by role
PRESENTED = {
    "nobody": "",
    "trainer": node_credential(SECRETS.trainer, NODE),
    "agent": SECRETS.agent,
    "operator": SECRETS.operator,
    # What is no credential, though much of it is in one.
    "the trainers' secret itself": SECRETS.trainer,
    "another node's code": f"b-node:{node_credential(SECRETS.trainer, NODE).partition(':')[2]}",
    "another cluster's trainer": node_credential(Credentials.fresh().trainer, NODE),
    "another cluster's agent": Credentials.fresh().agent,
    "a beginning": SECRETS.operator[:-1],
}
METHODS = [
    method
    for file in (control_pb2.DESCRIPTOR, operator_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
]


OWN = bundles.fresh()


def channel_to(address: str, identity: Identity) -> grpc.Channel:
    return grpc.secure_channel(address, identity.channel(), identity.options())


@dataclass(frozen=True)
class Served:
    """The real servers, each on a port of its own."""

    channels: dict[str, grpc.Channel]
    addresses: dict[str, str]

    def code(
        self, method: MethodDescriptor, presented: str, channel: grpc.Channel | None = None
    ) -> tuple[grpc.StatusCode, str]:
        """How a call ends that sends one empty message, over the connection of its role unless another is given."""
        service = method.containing_service
        kind = ("stream" if method.client_streaming else "unary", "stream" if method.server_streaming else "unary")
        stub: Any = getattr(channel or self.channels[service.name], "_".join(kind))(
            f"/{service.full_name}/{method.name}"
        )
        metadata = ((CREDENTIAL, PRESENTED[presented]),) if PRESENTED[presented] else ()
        request = iter([b""]) if method.client_streaming else b""
        try:
            answer = stub(request, metadata=metadata, timeout=240)
            if method.server_streaming:
                next(answer, None)
                answer.cancel()
        except grpc.RpcError as error:
            return error.code(), error.details()
        return grpc.StatusCode.OK, ""


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    own = OWN["controller"]
    controller = Controller("run", "{}", SECRETS.trainer, [NODE])
    controller.entrance = Entrance("node", own)
    membership, operator = Membership(SECRETS.agent, own), Operator(SECRETS.operator, own)
    addresses = {
        "Controller": controller.start("127.0.0.1:0"),
        "Membership": membership.start("127.0.0.1:0"),
        "Operator": operator.serve(["127.0.0.1:0"])[0],
    }
    channels = {name: channel_to(address, OWN[SERVICES[name]]) for name, address in addresses.items()}
    yield Served(channels, addresses)
    for channel in channels.values():
        channel.close()
    controller.stop()
    membership.stop()
    operator.close()


def test_every_service_has_a_role() -> None:
    assert {method.containing_service.name for method in METHODS} == set(SERVICES)
    assert set(SERVICES.values()) == set(ROLES)


@pytest.mark.parametrize("presented", PRESENTED)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name.partition(".v1.")[2])
def test_a_call_is_taken_from_its_role_only(served: Served, method: MethodDescriptor, presented: str) -> None:
    code, said = served.code(method, presented)
    if presented == SERVICES[method.containing_service.name]:
        # Deposit and Restore ask for the rank's key of this run as well, which an empty message lacks.
        keyed = method.name == "Restore"
        assert (code is grpc.StatusCode.UNAUTHENTICATED) is keyed and ("key" in said) is keyed
    else:
        assert code is grpc.StatusCode.UNAUTHENTICATED and "credential" in said
        assert not any(secret in said for secret in PRESENTED.values() if secret)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name.partition(".v1.")[2])
def test_no_call_is_taken_in_the_clear_or_with_another_roles_certificate(
    served: Served, method: MethodDescriptor
) -> None:
    """Even with the credential of its role."""
    address, role = served.addresses[method.containing_service.name], SERVICES[method.containing_service.name]
    with grpc.insecure_channel(address) as plain:
        assert served.code(method, role, plain) == (grpc.StatusCode.UNAUTHENTICATED, NOT_ENCRYPTED)
    for other in set(OWN) - {role}:
        with channel_to(address, OWN[other]) as channel:
            code, said = served.code(method, role, channel)
            assert code is grpc.StatusCode.UNAUTHENTICATED and "this certificate is of the role" in said


def test_two_credentials_in_one_call_are_none(served: Served) -> None:
    call = served.channels["Operator"].unary_unary("/gannet.operator.v1.Operator/Show")
    with pytest.raises(grpc.RpcError) as error:
        call(b"", metadata=((CREDENTIAL, "guess"), (CREDENTIAL, SECRETS.operator)), timeout=240)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_nodes_credential_is_of_that_node() -> None:
    assert node_of(node_credential(SECRETS.trainer, "a:b"), SECRETS.trainer) == "a:b"
    for other in ("", "a:b", f"a:b:{'0' * 64}", node_credential(SECRETS.agent, "a:b")):
        assert node_of(other, SECRETS.trainer) is None


def test_secrets_are_made_once_and_for_root_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert make(tmp_path)[: len(ROLES)] == list(ROLES)
    finally:
        os.umask(before)
    first = Credentials.read(tmp_path)
    for role in ROLES:
        file = secret_file(role, tmp_path)
        assert {path.name for path in file.parent.iterdir()} == {"token", "tls.pem"}
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert stat.S_IMODE(file.stat().st_mode) == 0o400 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert make(tmp_path) == [] and Credentials.read(tmp_path) == first
    secret_file("agent", tmp_path).unlink()
    assert make(tmp_path) == ["agent"]
    second = Credentials.read(tmp_path)
    assert second.trainer == first.trainer and second.agent != first.agent
    assert first.agent not in repr(first)


@pytest.mark.parametrize(
    ("agent", "why"),
    [
        ("", "the secret in {file} is empty: make one with `openssl rand -hex 32`"),
        ("short", "the secret in {file} is not 16 to 512 visible ASCII characters in one line"),
        ("sixteen characters, but with spaces", "the secret in {file} is not 16 to 512 visible"),
        (SECRETS.operator, "two roles share a secret"),
        (None, r"no secret in {file} \(No such file"),
    ],
    ids=["empty", "short", "spaces", "shared", "missing"],
)
def test_a_secret_that_is_none_is_refused_when_the_controller_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agent: str | None, why: str
) -> None:
    for role in ROLES:
        file = secret_file(role, tmp_path)
        file.parent.mkdir()
        text = agent if role == "agent" else getattr(SECRETS, role)
        if text is not None:
            file.write_text(text)
    monkeypatch.setattr(Credentials.read.__func__, "__defaults__", (tmp_path,))  # type: ignore[attr-defined]
    with pytest.raises(ServeError, match=why.format(file=secret_file("agent", tmp_path))):
        serve("cluster", "/nowhere/", {}, Console(quiet=True))
    with pytest.raises(CredentialError):
        Credentials.read(tmp_path)


@pytest.mark.parametrize("presented", ["nobody", "agent"])
def test_a_flood_of_streams_keeps_no_one_out(served: Served, presented: str) -> None:
    """More than the server has threads, on one connection: they say nothing, and never end."""
    membership, address = served.channels["Membership"], served.addresses["Membership"]
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait(600)
        yield from ()

    metadata = ((CREDENTIAL, PRESENTED[presented]),)
    method = "/gannet.control.v1.Membership/Serve"
    own_connection = [*OWN["agent"].options(), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(address, OWN["agent"].channel(), own_connection) as flood:
        calls = [flood.stream_stream(method)(nothing(), metadata=metadata) for _ in range(1200)]
        try:
            genuine = membership.stream_stream(method)(
                iter([b""]), metadata=((CREDENTIAL, SECRETS.agent),), timeout=240
            )
            with pytest.raises(grpc.RpcError) as error:
                next(genuine)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # served: an empty message is no hello
        finally:
            never.set()
            for call in calls:
                call.cancel()
