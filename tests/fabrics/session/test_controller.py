"""The controller's service, spoken to over real gRPC: who is let in, and what is kept of what is sent."""

from __future__ import annotations

import queue
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import inf, nan
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from gannet.certs.authority import key_of_request
from gannet.certs.run_authority import RunAuthority
from gannet.fabrics.credentials import node_credential
from gannet.fabrics.session.controller import Controller
from gannet.fabrics.session.events import Checkpointed, Deposited, Joined, Left, Reported
from gannet.fabrics.session.reports import wrong_with
from gannet.node.exchange.tls import NodeKey
from gannet.node.wire import control_pb2, control_pb2_grpc
from gannet.node.wire.metadata import CREDENTIAL

SECRET = "of this run's nodes"
NODES = ("node0", "node1")
PARAMETERS = 100


def ready(**changes: Any) -> control_pb2.Ready:
    sound = {"mesh_address": "10.1.0.2:7700", "metrics_address": "10.2.0.2:9400", "parameters": PARAMETERS}
    return control_pb2.Ready(**{**sound, **changes})


STATES = [b"state of 0", b"state of 1"]
Stub = Any


@pytest.fixture
def served() -> Iterator[tuple[Controller, Stub]]:
    controller = Controller("run", "{}", SECRET, NODES)
    controller.resume(STATES)
    address = controller.start("127.0.0.1:0")
    with grpc.insecure_channel(address) as channel:
        yield controller, control_pb2_grpc.ControllerStub(channel)
    controller.stop()


def credential(rank: int = 0) -> tuple[tuple[str, str]]:
    """A node's, as metadata."""
    return ((CREDENTIAL, node_credential(SECRET, NODES[rank])),)


class Member:
    """A node's line to the controller, up to its assignment."""

    def __init__(self, stub: Stub, rank: int, request: bytes = b"") -> None:
        self._reports: queue.SimpleQueue[control_pb2.Report | None] = queue.SimpleQueue()
        self.say(hello=control_pb2.Hello(pid=1, certificate_request=request))
        self.orders = stub.Attend(iter(self._reports.get, None), metadata=credential(rank), timeout=120)
        self.assignment = next(self.orders).assignment

    def say(self, **kind: Any) -> None:
        self._reports.put(control_pb2.Report(**kind))

    def leave(self) -> None:
        self._reports.put(None)


def joined(controller: Controller, stub: Stub, rank: int) -> Member:
    """A member that has said how long its vector is, and that the controller has heard."""
    member = Member(stub, rank)
    member.say(ready=ready())
    while not (isinstance(event := controller.events.get(timeout=120), Reported) and event.rank == rank):
        assert isinstance(event, Joined)
    return member


def deposit(stub: Stub, key: str, body: bytes, **header: Any) -> Any:
    fields = {"run": "run", "rank": 0, "step": 3, "bytes": len(body), "crc32": zlib.crc32(body), "key": key, **header}
    chunks = [control_pb2.SnapshotChunk(header=control_pb2.SnapshotHeader(**fields))]
    chunks += [control_pb2.SnapshotChunk(data=body[at : at + 100]) for at in range(0, len(body), 100)]
    return stub.Deposit(iter(chunks), metadata=credential(), timeout=120)


BODY = bytes(4 * PARAMETERS)


def test_a_member_deposits_and_its_bytes_come_as_they_were(served: tuple[Controller, Stub]) -> None:
    controller, stub = served
    member = joined(controller, stub, 0)
    key = member.assignment.key
    assert deposit(stub, key, BODY).accepted
    event = controller.events.get(timeout=120)
    assert isinstance(event, Deposited) and bytes(event.x.numpy().data) == BODY
    assert deposit(stub, key, b"a whole state", checkpoint=True).accepted
    assert controller.events.get(timeout=120) == Checkpointed(0, 3, b"a whole state")


def test_nobody_deposits_for_another(served: tuple[Controller, Stub]) -> None:
    controller, stub = served
    members = [joined(controller, stub, rank) for rank in (0, 1)]  # a member that is dropped leaves
    first, second = (member.assignment.key for member in members)
    assert first != second
    for key in ("", SECRET, second, first[:-1]):
        for checkpoint in (False, True):
            receipt = deposit(stub, key, BODY, checkpoint=checkpoint)
            assert (receipt.accepted, receipt.detail) == (False, "the key is not this rank's")
    assert not deposit(stub, second, BODY, rank=7).accepted
    assert controller.events.empty()


@pytest.mark.parametrize(
    ("body", "header", "detail"),
    [
        (BODY, {"run": "another"}, "not of this run"),
        (BODY + BODY, {}, "800 bytes, a snapshot has 400"),
        (b"", {"checkpoint": True, "bytes": 1 << 40}, "1099511627776 bytes, limit 67116864"),
        (BODY, {"bytes": 1, "checkpoint": True}, "more bytes than announced"),
        (BODY[:-1], {"bytes": 400}, "bytes or checksum do not fit"),
        (BODY, {"crc32": 1}, "bytes or checksum do not fit"),
    ],
)
def test_what_does_not_fit_is_refused(
    served: tuple[Controller, Stub], body: bytes, header: dict[str, Any], detail: str
) -> None:
    controller, stub = served
    member = joined(controller, stub, 0)
    key = member.assignment.key
    receipt = deposit(stub, key, body, **header)
    assert (receipt.accepted, receipt.detail) == (False, detail)
    assert controller.events.empty()


def test_a_strangers_bytes_are_not_waited_for(served: tuple[Controller, Stub]) -> None:
    """The answer comes while the stranger has not sent the end of what it announced, and never will."""
    _, stub = served
    never: queue.SimpleQueue[None] = queue.SimpleQueue()

    def chunks() -> Iterator[control_pb2.SnapshotChunk]:
        yield control_pb2.SnapshotChunk(header=control_pb2.SnapshotHeader(run="run", bytes=200 << 20))
        never.get()

    assert not stub.Deposit(chunks(), metadata=credential(), timeout=120).accepted
    never.put(None)


def test_a_checkpoint_goes_to_its_own_rank_only(served: tuple[Controller, Stub]) -> None:
    controller, stub = served
    members = [joined(controller, stub, rank) for rank in (0, 1)]
    keys = [member.assignment.key for member in members]
    for rank, key in enumerate(keys):
        chunks = stub.Restore(control_pb2.RestoreRequest(key=key, rank=rank), metadata=credential(rank), timeout=120)
        assert b"".join(chunk.data for chunk in chunks) == STATES[rank]
    for key in ("", SECRET, keys[0]):
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Restore(control_pb2.RestoreRequest(key=key, rank=1), metadata=credential(1), timeout=120))
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_deposit_before_ready_is_refused(served: tuple[Controller, Stub]) -> None:
    _, stub = served
    member = Member(stub, 0)
    for checkpoint in (False, True):
        receipt = deposit(stub, member.assignment.key, b"", checkpoint=checkpoint)
        assert (receipt.accepted, receipt.detail) == (False, "a deposit comes after Ready")


def test_a_node_has_the_rank_of_its_credential(served: tuple[Controller, Stub]) -> None:
    _, stub = served
    assert [Member(stub, rank).assignment.rank for rank in (1, 0)] == [1, 0]


def test_a_rank_is_given_once(served: tuple[Controller, Stub]) -> None:
    controller, stub = served
    member = joined(controller, stub, 0)
    with pytest.raises(grpc.RpcError) as error:
        Member(stub, 0)
    assert error.value.code() is grpc.StatusCode.ALREADY_EXISTS
    member.leave()


@pytest.fixture
def encrypting() -> Iterator[tuple[Controller, Stub]]:
    controller = Controller("a run/of mine", "{}", SECRET, NODES)
    controller.encrypt(RunAuthority("a run/of mine", timedelta(hours=1)))
    with grpc.insecure_channel(controller.start("127.0.0.1:0")) as channel:
        yield controller, control_pb2_grpc.ControllerStub(channel)
    controller.stop()


def ready_name(controller: Controller, member: Member, rank: int, says: str = "") -> str:
    member.say(ready=ready(name=says))
    while not (isinstance(event := controller.events.get(timeout=120), Reported) and event.rank == rank):
        pass
    return str(event.report.ready.name)


def test_a_certificate_is_of_the_runs_rank_and_of_the_nodes_own_key(encrypting: tuple[Controller, Stub]) -> None:
    controller, stub = encrypting
    key = NodeKey()
    member = Member(stub, 1, request=key.request())
    certificate = x509.load_pem_x509_certificate(member.assignment.certificate)
    authority = x509.load_pem_x509_certificate(member.assignment.authority)
    certificate.verify_directly_issued_by(authority)
    assert certificate.public_key() == x509.load_der_x509_csr(key.request()).public_key()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["gannet://a%20run%2Fof%20mine/rank/1"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(minutes=55) < left <= timedelta(hours=1)
    # By which name it is known, the controller says, whatever the node claims.
    assert [ready_name(controller, member, 1, "rank-0.1")] == names.get_values_for_type(x509.DNSName)
    member.leave()


def test_a_process_that_comes_back_has_another_certificate(encrypting: tuple[Controller, Stub]) -> None:
    controller, stub = encrypting
    request = NodeKey().request()  # even with the same key
    first = Member(stub, 0, request=request)
    before = ready_name(controller, first, 0)
    first.leave()
    while not isinstance(controller.events.get(timeout=120), Left):
        pass
    controller.expect_back(0)
    second = Member(stub, 0, request=request)
    assert second.assignment.returning
    assert second.assignment.certificate != first.assignment.certificate
    assert ready_name(controller, second, 0) != before
    second.leave()


@pytest.mark.parametrize(
    "request_bytes", [b"", b"no request", NodeKey().request()[:-1]], ids=["none", "other", "torn"]
)
def test_without_a_request_no_node_joins_an_encrypted_run(
    encrypting: tuple[Controller, Stub], request_bytes: bytes
) -> None:
    _, stub = encrypting
    with pytest.raises(grpc.RpcError) as error:
        Member(stub, 0, request=request_bytes)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "certificate" in str(error.value.details())
    Member(stub, 0, request=NodeKey().request()).leave()  # its place is still free


def test_requests_with_other_keys_or_a_wrong_signature_are_refused() -> None:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        with pytest.raises(ValueError, match="P-256"):
            key_of_request(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
    signed = bytearray(NodeKey().request())
    signed[-1] ^= 1
    with pytest.raises(ValueError, match="signature"):
        key_of_request(bytes(signed))


def test_a_run_that_is_not_encrypted_gives_no_certificates(served: tuple[Controller, Stub]) -> None:
    controller, stub = served
    member = Member(stub, 0, request=NodeKey().request())
    assert not member.assignment.certificate and not member.assignment.authority
    assert ready_name(controller, member, 0, "rank-0.1") == ""
    member.leave()


@pytest.mark.parametrize(
    ("report", "why"),
    [
        ({"ready": control_pb2.Ready()}, "ready: mesh_address is '', not an IPv4 address and a port"),
        ({"ready": ready(mesh_address="node:7700")}, "ready: mesh_address is 'node:7700', not an IPv4 address and"),
        ({"ready": ready(mesh_address="10.1.0.2:77000")}, "ready: mesh_address is '10.1.0.2:77000', not an IPv4"),
        ({"ready": ready(metrics_address="x" * 99)}, f"ready: metrics_address is '{'x' * 40}…', not an IPv4"),
        ({"ready": ready(setup_s=inf)}, "ready: setup_s is inf"),
        ({"ready": ready(parameters=0)}, "ready: parameters is 0"),
        ({"ready": ready(parameters=1 << 40)}, "ready: parameters is 1099511627776"),
        ({"step": control_pb2.Step(step=1 << 60)}, "step: step is 1152921504606846976"),
        ({"step": control_pb2.Step(step=1, t_s=nan)}, "step: t_s is nan"),
        ({"step": control_pb2.Step(step=1, wait_s=-1)}, "step: wait_s is -1.0"),
        ({"step": control_pb2.Step(step=1, missing=[2])}, "step: missing names more than the 2 nodes"),
        ({"step": control_pb2.Step(step=1, loss={"x" * 300: 1.0})}, "step: loss has more than 256 names, or one of"),
        ({"waiting": control_pb2.Waiting(source=2)}, "waiting: source is 2 of 2 nodes"),
        ({"refused": control_pb2.Refused(sender=9)}, "refused: sender is 9 of 2 nodes"),
        ({"failed": control_pb2.Failed(reason="x" * 70_000)}, "failed: reason has 70000 characters, limit 65536"),
        ({"finished": control_pb2.Finished(memory_mb=inf)}, "finished: memory_mb is inf"),
        ({"state_offered": control_pb2.StateOffered(rank=3)}, "state_offered: rank is 3 of 2 nodes"),
        ({"at_meeting": control_pb2.AtMeeting(step=1)}, "at_meeting: rounds are not those of 1 to 64 players"),
        ({"hello": control_pb2.Hello()}, "a second hello"),
        ({}, "a report of no known kind"),
    ],
)
def test_a_malformed_report_ends_its_nodes_connection_only(
    served: tuple[Controller, Stub], report: dict[str, Any], why: str
) -> None:
    controller, stub = served
    sound, member = joined(controller, stub, 1), Member(stub, 0)
    assert isinstance(controller.events.get(timeout=120), Joined)
    member.say(**report)
    (order,) = member.orders
    assert order.abort.reason.startswith(f"its report is refused: {why}")
    assert controller.events.get(timeout=120) == Left(0, order.abort.reason)
    sound.say(warmed=control_pb2.Warmed())
    event = controller.events.get(timeout=120)
    assert isinstance(event, Reported) and (event.rank, event.report.WhichOneof("kind")) == (1, "warmed")


def test_a_node_is_ready_once(served: tuple[Controller, Stub]) -> None:
    controller, stub = served
    member = joined(controller, stub, 0)
    member.say(ready=ready(parameters=7))
    (order,) = member.orders
    assert order.abort.reason == "its report is refused: a second ready"


def test_every_kind_of_report_is_known() -> None:
    """One that is added to the protocol and not to the checks would be refused."""
    kinds = {field.name: field for field in control_pb2.Report.DESCRIPTOR.oneofs_by_name["kind"].fields}
    unknown = []
    for name in kinds.keys() - {"hello"}:
        report = control_pb2.Report()
        getattr(report, name).SetInParent()
        if wrong_with(report, world=2) == wrong_with(control_pb2.Report(), world=2):
            unknown.append(name)
    assert unknown == []
