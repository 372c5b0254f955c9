"""Connections to a controller: who is let in by certificate, what the others hear, and what one peer may take.

The servers are the real ones, over the loopback; OpenSSL and gRPC's BoringSSL judge what they speak.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from gannet.certs.authority import Authority
from gannet.fabrics import credentials
from gannet.fabrics.containers.membership import Membership
from gannet.fabrics.credentials import Credentials, node_credential
from gannet.fabrics.entrance import bundles
from gannet.fabrics.entrance.door import NOT_ENCRYPTED, Door, Limits
from gannet.fabrics.entrance.entrance import Entrance
from gannet.fabrics.links.operator_server import Operator
from gannet.fabrics.session.controller import Controller
from gannet.node.admission.identity import Identity, NotBelieved, reach
from gannet.node.wire.metadata import CREDENTIAL
from tests.support.patience import wait_until
from tests.support.relay import Relay

DAY = timedelta(days=1)
AUTHORITY = Authority.make("gannet test", DAY)
OWN = {role: bundles.issue(AUTHORITY, role, DAY) for role in bundles.ROLES}
OTHER = bundles.fresh(DAY)
SECRETS = Credentials.fresh()
NODE = "a-node"
SHOWN = {"trainer": node_credential(SECRETS.trainer, NODE), "agent": SECRETS.agent, "operator": SECRETS.operator}
METHODS = {
    "trainer": "/gannet.control.v1.Controller/Attend",
    "agent": "/gannet.control.v1.Membership/Serve",
    "operator": "/gannet.operator.v1.Operator/Show",
}
# What a genuine caller hears who sends one empty message: of the service itself.
SERVED = {
    "trainer": (grpc.StatusCode.INVALID_ARGUMENT, "a node begins with hello"),
    "agent": (grpc.StatusCode.INVALID_ARGUMENT, "an agent begins with hello"),
    "operator": (grpc.StatusCode.FAILED_PRECONDITION, "no run is training now"),
}
ELSEWHERE = "127.0.0.9"


@dataclass(frozen=True)
class Served:
    """The real servers, each on a port of its own."""

    addresses: dict[str, str]

    def call(
        self, role: str, identity: Identity | None, address: str = "", timeout_s: float = 120.0
    ) -> tuple[grpc.StatusCode, str]:
        """How a call of a role's service ends that has the credential of that role."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        where = address or self.addresses[role]
        if identity is None:
            channel = grpc.insecure_channel(where, options)
        else:
            channel = grpc.secure_channel(where, identity.channel(), [*options, *identity.options()])
        with channel:
            stub = channel.unary_unary if role == "operator" else channel.stream_stream
            request = b"" if role == "operator" else iter([b""])
            try:
                answer = stub(METHODS[role])(request, metadata=((CREDENTIAL, SHOWN[role]),), timeout=240)
                return grpc.StatusCode.OK, str(answer if role == "operator" else list(answer))
            except grpc.RpcError as error:
                return error.code(), error.details()

    def still_serve(self, role: str) -> None:
        code, said = self.call(role, OWN[role])
        assert code is SERVED[role][0] and SERVED[role][1] in said


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    own = OWN["controller"]
    controller = Controller("run", "{}", SECRETS.trainer, [NODE])
    controller.entrance = Entrance("node", own)
    membership, operator = Membership(SECRETS.agent, own), Operator(SECRETS.operator, own)
    yield Served(
        {
            "trainer": controller.start("127.0.0.1:0"),
            "agent": membership.start("127.0.0.1:0"),
            "operator": operator.serve(["127.0.0.1:0"])[0],
        }
    )
    controller.stop()
    membership.stop()
    operator.close()


@pytest.mark.parametrize("role", SERVED)
def test_a_role_is_served_with_its_certificate(served: Served, role: str) -> None:
    served.still_serve(role)
    reach(served.addresses[role], OWN[role])


def _expired(role: str) -> Identity:
    return bundles.issue(AUTHORITY, role, timedelta(minutes=-1))


# By what is wrong with a caller: its identity, what it hears before it calls, and what the controller logs.
STRANGERS: dict[str, tuple[Callable[[str], Identity], str, str]] = {
    "another cluster's": (
        lambda role: replace(OTHER[role], authority=OWN[role].authority),
        "it does not believe this certificate: is it another cluster's?",
        "the caller's certificate is not believed: another authority issued it",
    ),
    "expired": (_expired, "this certificate has expired", "is not believed: it has expired"),
    "of one that believes another cluster": (
        lambda role: OTHER[role],
        "its certificate is not believed: another authority issued it",
        "the caller does not believe this controller's certificate",
    ),
}


@pytest.mark.parametrize("role", SERVED)
@pytest.mark.parametrize("wrong", STRANGERS)
def test_a_certificate_that_is_not_believed_opens_nothing(
    served: Served, role: str, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    made, heard, logged = STRANGERS[wrong]
    relay = Relay(served.addresses[role], source=f"127.0.1.{1 + [*STRANGERS].index(wrong)}")  # a peer of its own
    try:
        with caplog.at_level(logging.WARNING), pytest.raises(NotBelieved) as refused:
            reach(relay.address, made(role))
        assert heard in str(refused.value)
        wait_until("it is logged", lambda: logged in caplog.text)
        code, said = served.call(role, made(role), relay.address)
        assert code is grpc.StatusCode.UNAVAILABLE and SERVED[role][1] not in said
    finally:
        relay.close()
    served.still_serve(role)


@pytest.mark.parametrize("role", SERVED)
@pytest.mark.parametrize("of", bundles.ROLES)
def test_no_other_roles_certificate_will_do(served: Served, role: str, of: str) -> None:
    """Even with the right credential, and though it is of the same authority."""
    if of == role:
        served.still_serve(role)
        return
    named = bundles.ROLES[of]
    assert served.call(role, OWN[of]) == (
        grpc.StatusCode.UNAUTHENTICATED,
        f"this certificate is of the role {named}, not {bundles.ROLES[role]}",
    )


@pytest.mark.parametrize("role", SERVED)
def test_a_caller_in_the_clear_hears_why_it_is_refused(
    served: Served, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As one of an older version is, which has the right credential; and the controller logs it."""
    relay = Relay(served.addresses[role], source=ELSEWHERE)
    try:
        with caplog.at_level(logging.WARNING):
            assert served.call(role, None, relay.address) == (grpc.StatusCode.UNAUTHENTICATED, NOT_ENCRYPTED)
        assert f"{ELSEWHERE} to the port of the role {bundles.ROLES[role]} is refused" in caplog.text
    finally:
        relay.close()
    served.still_serve(role)


def tls(address: str, own: Identity | None, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLSocket:
    """A connection by OpenSSL, with an identity or without a certificate."""
    agent = OWN["agent"]
    context = agent.context(server=False) if own else ssl.create_default_context(cadata=agent.authority.decode())
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, most
    host, _, port = address.rpartition(":")
    return context.wrap_socket(socket.create_connection((host, int(port)), 120.0), server_hostname=agent.controller)


def test_openssl_agrees_on_tls_1_3_and_nothing_older(served: Served) -> None:
    with tls(served.addresses["agent"], OWN["agent"]) as connection:
        assert connection.version() == "TLSv1.3"
        assert connection.recv(1)  # what is behind answers
    with pytest.raises(ssl.SSLError):
        tls(served.addresses["agent"], OWN["agent"], ssl.TLSVersion.TLSv1_2)


def test_a_caller_without_a_certificate_is_refused_by_name(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING),
        tls(served.addresses["agent"], None) as connection,
        pytest.raises(ssl.SSLError, match="certificate required"),
    ):
        connection.recv(1)
        wait_until("it is logged", lambda: "the caller has no certificate" in caplog.text)


def test_a_server_that_is_not_this_clusters_controller_gets_no_call() -> None:
    """Neither another cluster's controller nor one that has the key of another role of this one."""
    for server, why in ((OTHER["controller"], "another authority issued it"), (OWN["agent"], "Hostname mismatch")):
        membership = Membership(SECRETS.agent, server)
        address = membership.start("127.0.0.1:0")
        try:
            with pytest.raises(NotBelieved, match=why):
                reach(address, OWN["agent"])
        finally:
            membership.stop()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # in the clear: it answers a hello with something else

        def answer() -> None:
            connection, _ = silent.accept()
            with connection:
                connection.recv(1)
                connection.sendall(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
                connection.recv(1 << 16)

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(NotBelieved, match="it is not encrypted"):
            reach(f"127.0.0.1:{silent.getsockname()[1]}", OWN["agent"])


@pytest.fixture
def narrow() -> Iterator[tuple[Served, str]]:
    """A membership whose door is narrow, and an address by which another peer reaches it."""
    membership = Membership(SECRETS.agent)
    membership._entrance = Entrance("agent", OWN["controller"], Limits(rate=1e-6, burst=8, connections=4))
    address = membership.start("127.0.0.1:0")
    relay = Relay(address, source=ELSEWHERE)
    yield Served({"agent": address}), relay.address
    relay.close()
    membership.stop()


def test_a_flood_of_connections_is_refused_while_another_peer_is_served(
    narrow: tuple[Served, str], caplog: pytest.LogCaptureFixture
) -> None:
    """The peer that floods gets as many as it may begin, and no more until it has waited; with TLS or without."""
    served, flood = narrow
    with caplog.at_level(logging.WARNING):
        let_in = 0
        for _ in range(12):
            try:
                reach(flood, OWN["agent"], 120.0)
                let_in += 1
            except OSError:
                pass
    assert let_in == 8
    assert (
        f"a connection from {ELSEWHERE} to the port of the role agent is refused: it begins more than" in caplog.text
    )
    for _ in range(3):
        served.still_serve("agent")


def test_a_peer_has_so_many_connections_and_no_more(narrow: tuple[Served, str]) -> None:
    served, flood = narrow
    held = [tls(flood, OWN["agent"]) for _ in range(4)]
    try:
        assert all(connection.recv(1) for connection in held)
        with pytest.raises(OSError):
            reach(flood, OWN["agent"], 120.0)
        served.still_serve("agent")
    finally:
        for connection in held:
            connection.close()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Servers that take ten calls of a peer, and then one in months."""
    monkeypatch.setattr(credentials, "CALLS_PER_S", 1e-6)
    monkeypatch.setattr(credentials, "CALLS_AT_ONCE", 10.0)
    own = OWN["controller"]
    controller = Controller("run", "{}", SECRETS.trainer, [NODE])
    controller.entrance = Entrance("node", own)
    membership, operator = Membership(SECRETS.agent, own), Operator(SECRETS.operator, own)
    yield Served(
        {
            "trainer": controller.start("127.0.0.1:0"),
            "agent": membership.start("127.0.0.1:0"),
            "operator": operator.serve(["127.0.0.1:0"])[0],
        }
    )
    controller.stop()
    membership.stop()
    operator.close()


@pytest.mark.parametrize("role", ["agent", "operator"])
def test_a_flood_of_calls_is_refused_while_another_address_is_served(slow: Served, role: str) -> None:
    relay = Relay(slow.addresses[role], source=ELSEWHERE)
    try:
        codes = [slow.call(role, OWN[role], relay.address)[0] for _ in range(13)]
    finally:
        relay.close()
    assert codes == [SERVED[role][0]] * 10 + [grpc.StatusCode.RESOURCE_EXHAUSTED] * 3
    slow.still_serve(role)


def test_a_flood_of_a_nodes_calls_is_refused_while_another_node_is_served(
    slow: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even at one address: a node is known by its credential."""
    codes = [slow.call("trainer", OWN["trainer"])[0] for _ in range(13)]
    assert codes == [grpc.StatusCode.INVALID_ARGUMENT] * 10 + [grpc.StatusCode.RESOURCE_EXHAUSTED] * 3
    monkeypatch.setitem(SHOWN, "trainer", node_credential(SECRETS.trainer, "b-node"))
    slow.still_serve("trainer")


def test_what_no_one_takes_waits_at_the_caller(tmp_path: Path) -> None:
    """A service that reads nothing: a caller can send what the sockets and a few buffers hold, and then no more."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "behind"))
        silent.listen()
        door = Door(OWN["controller"], "agent", tmp_path / "behind")
        address = door.open("127.0.0.1:0")
        try:
            with tls(address, OWN["agent"]) as connection:
                taken, _ = silent.accept()
                connection.setblocking(False)
                sent, most = 0, 64 << 20
                while sent < most and select.select([], [connection], [], 3.0)[1]:
                    with contextlib.suppress(ssl.SSLWantWriteError):
                        sent += connection.send(bytes(1 << 16))
                assert 0 < sent < most
                taken.close()
        finally:
            door.close()
