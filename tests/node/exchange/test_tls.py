"""Encrypted exchanges: the same bits, and only the present process of a rank of this run is heard or answered."""

from __future__ import annotations

import socket
import ssl
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import torch

from gannet.certs.run_authority import RunAuthority
from gannet.fabrics.tcp_model import frame_bytes
from gannet.node.codecs import build_codec
from gannet.node.exchange.sender import channel_options
from gannet.node.exchange.tls import Credentials, open_channel, peer_name, rank_of
from gannet.node.training.effects import Tag
from gannet.node.wire import exchange_pb2, exchange_pb2_grpc
from tests.support.exchanges import SCHEMA, Pair, credentials
from tests.support.relay import Relay

VALUES = 5000
CODEC = build_codec("fp32")
GENUINE = CODEC.encode(torch.ones(VALUES))
FORGED = CODEC.encode(torch.zeros(VALUES))
DAY = timedelta(days=1)
WORLD = 3


@pytest.fixture(scope="module")
def authority() -> RunAuthority:
    return RunAuthority("run", DAY)


@pytest.fixture
def made(authority: RunAuthority) -> Iterator[Pair]:
    pair = Pair(WORLD, VALUES, authority=authority, chunk_bytes=100_000)
    yield pair
    pair.close()


def forged() -> exchange_pb2.Chunk:
    fields = {"run": "run", "sender": 1, "round": 1, "schema": SCHEMA, "bytes": len(FORGED)}
    return exchange_pb2.Chunk(header=exchange_pb2.Header(**fields, crc32=zlib.crc32(FORGED)), data=bytes(FORGED))


Outcome = list[str] | grpc.StatusCode


async def deliver(pair: Pair, tls: Credentials | None, wait: bool, limit_s: float = 120.0) -> Outcome:
    """What a stranger hears who says that it is rank 1: the receipts' verdicts, or with what the call ended."""
    async with open_channel(pair.addresses[0], channel_options(pair.config), tls, pair.names[0]) as channel:
        call = exchange_pb2_grpc.ExchangeStub(channel).Deliver(iter([forged()]), timeout=limit_s, wait_for_ready=wait)
        try:
            return [exchange_pb2.Verdict.Name(receipt.verdict) async for receipt in call]
        except grpc.aio.AioRpcError as error:
            return error.code()


async def ask(pair: Pair, tls: Credentials | None, method: str) -> grpc.StatusCode:
    async with open_channel(pair.addresses[0], channel_options(pair.config), tls, pair.names[0]) as channel:
        call = getattr(exchange_pb2_grpc.ExchangeStub(channel), method)(exchange_pb2.Listener(run="run", rank=1))
        code: grpc.StatusCode = await call.code()
        return code


def still_works(pair: Pair) -> None:
    pair.nodes[1].send(0, Tag(1, 0), GENUINE, True)
    assert pair.nodes[0].receive(1, Tag(1, 0)) == GENUINE


def test_what_is_received_is_what_was_sent(made: Pair) -> None:
    """Of every length up to several chunks and TLS records of 16 KiB; both ways, between all."""
    generator = torch.Generator().manual_seed(1)
    for number, values in enumerate((1, 100, 4096, VALUES), start=1):
        payload = CODEC.encode(torch.randn(values, generator=generator))
        for source in range(WORLD):
            for to in {*range(WORLD)} - {source}:
                made.nodes[source].send(to, Tag(number, 0), payload, True)
        for source in range(WORLD):
            for to in {*range(WORLD)} - {source}:
                assert made.nodes[to].receive(source, Tag(number, 0)) == payload
    assert made.refusals == []


def _of_another_run(authority: RunAuthority) -> Credentials:
    """Its own certificate is another run's, though it knows the certificate of this run's authority."""
    return replace(credentials(RunAuthority("run", DAY), 1)[1], authority=authority.certificate)


def _expired(authority: RunAuthority) -> Credentials:
    """Signed by this run's authority, and over since a minute."""
    late = RunAuthority("run", DAY)
    late._authority, late._lifetime = authority._authority, timedelta(minutes=-1)
    return credentials(late, 1)[1]


def _without(authority: RunAuthority) -> Credentials:
    class Anonymous(Credentials):
        def channel(self) -> grpc.ChannelCredentials:
            return grpc.ssl_channel_credentials(self.authority)

    return Anonymous(b"", b"", authority.certificate)


STRANGERS: dict[str, Callable[[RunAuthority], Credentials | None]] = {
    "another run's": _of_another_run,
    "expired": _expired,
    "none": _without,
    "plain text": lambda authority: None,
}


@pytest.mark.parametrize("wait", [False, True], ids=["at once", "waits"])
@pytest.mark.parametrize("who", STRANGERS)
def test_a_connection_without_a_valid_certificate_of_this_run_is_refused(
    made: Pair, authority: RunAuthority, who: str, wait: bool
) -> None:
    """Who waits for the connection waits until its own deadline and no longer."""
    told = made.call(deliver(made, STRANGERS[who](authority), wait, 2.0 if wait else 120.0))
    assert told is (grpc.StatusCode.DEADLINE_EXCEEDED if wait else grpc.StatusCode.UNAVAILABLE)
    still_works(made)
    assert made.refusals == []  # it has said nothing that could be refused


@pytest.mark.parametrize("whose", ["node 0's", "node 2's", "another process's"])
def test_openssl_finds_the_certificates_in_order(
    made: Pair, authority: RunAuthority, whose: str, tmp_path: Path
) -> None:
    """By another implementation of TLS and X.509, as strictly as it can: who serves there is node 0 and no other."""
    names = {"node 0's": made.names[0], "node 2's": made.names[2], "another process's": credentials(authority, 0)[0]}
    tls = made.tls[1]
    assert tls is not None
    (tmp_path / "both.pem").write_bytes(tls.key + tls.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=authority.certificate.decode())
    context.load_cert_chain(tmp_path / "both.pem")
    context.set_alpn_protocols(["h2"])
    host, _, port = made.addresses[0].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=120) as plain:
        if whose != "node 0's":
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                context.wrap_socket(plain, server_hostname=names[whose])
            return
        with context.wrap_socket(plain, server_hostname=names[whose]) as secure:
            assert secure.version() == "TLSv1.3"
            assert secure.read(9)[3] == 4  # the type of HTTP/2's first frame, SETTINGS: node 0 believes rank 1, too


@pytest.mark.parametrize("wait", [False, True], ids=["at once", "waits"])
def test_another_ranks_certificate_speaks_for_that_rank_only(made: Pair, wait: bool) -> None:
    assert made.call(deliver(made, made.tls[2], wait)) == ["WRONG_SENDER"]
    assert made.refusals == [(1, 0, "wrong_sender", "the certificate is rank 2's, not rank 1's")]
    still_works(made)


@pytest.mark.parametrize("method", ["Attend", "Fetch"])
def test_another_ranks_certificate_hears_nothing_and_gets_no_state(made: Pair, method: str) -> None:
    made.nodes[0].offer_state(1, b"the whole state")
    assert made.call(ask(made, made.tls[2], method)) is grpc.StatusCode.PERMISSION_DENIED


def test_a_process_whose_place_another_has_taken_is_no_longer_heard(made: Pair, authority: RunAuthority) -> None:
    """Its key and certificate are genuine and not expired, and of the right rank."""
    before = made.tls[1]
    name, now = credentials(authority, 1)
    made.loop.call_soon_threadsafe(made.nodes[0].expect_at, 1, made.addresses[1], name)
    told = made.call(deliver(made, before, False))
    assert told == ["WRONG_SENDER"]
    why = "the certificate is not rank 1's present one: it belongs to another process"
    assert made.refusals == [(1, 0, "wrong_sender", why)]
    assert made.call(deliver(made, now, False)) == ["ACCEPTED"]


def test_its_open_connection_is_no_longer_heard_either(made: Pair, authority: RunAuthority) -> None:
    still_works(made)  # node 1's connection to node 0 is up
    name, _ = credentials(authority, 1)
    made.loop.call_soon_threadsafe(made.nodes[0].expect_at, 1, made.addresses[1], name)
    made.nodes[1].send(0, Tag(2, 0), FORGED, True)
    made.call(made.nodes[1].drain(300))
    assert [refusal[2] for refusal in made.refusals] == ["wrong_sender"]


@pytest.mark.parametrize("whose", ["another rank's", "an earlier process's", "another run's"])
def test_a_node_does_not_speak_to_a_server_that_is_not_the_peer_it_means(
    made: Pair, authority: RunAuthority, whose: str
) -> None:
    """Node 1 finds another server at node 0's address, and sends it nothing: neither does it hang."""
    other = RunAuthority("run", DAY) if whose == "another run's" else authority
    rank = 2 if whose == "another rank's" else 0
    name, tls = credentials(other, rank)
    heard: list[Any] = []

    class Impostor(exchange_pb2_grpc.ExchangeServicer):
        async def Deliver(self, chunks: Any, context: Any) -> Any:
            async for chunk in chunks:
                heard.append(chunk)
                yield exchange_pb2.Receipt(verdict=exchange_pb2.ACCEPTED)

    async def impersonate() -> grpc.StatusCode:
        server = grpc.aio.server()
        exchange_pb2_grpc.add_ExchangeServicer_to_server(Impostor(), server)
        port = server.add_secure_port("127.0.0.1:0", tls.server())
        await server.start()
        options = channel_options(made.config)
        try:
            async with open_channel(f"127.0.0.1:{port}", options, made.tls[1], made.names[0]) as channel:
                call = exchange_pb2_grpc.ExchangeStub(channel).Deliver(iter([forged()]), timeout=120)
                return await call.code()
        finally:
            await server.stop(0)

    assert made.call(impersonate()) is grpc.StatusCode.UNAVAILABLE
    assert heard == []
    assert name != made.names[0]


def test_a_node_that_finds_another_server_at_a_peers_address_says_whom_it_did_not_reach(
    authority: RunAuthority,
) -> None:
    """Rank 2 answers where rank 0 should: node 1 gives up in its own time, and names rank and address."""
    limits = {"chunk_deadline_s": 0.2, "patience_s": 1.0, "round_deadline_s": 2.0}
    pair = Pair(WORLD, VALUES, authority=authority, **limits)
    try:
        lost = pair._node(1, WORLD, VALUES)
        there = [pair.addresses[2], *pair.addresses[1:]]
        with pytest.raises(TimeoutError, match=f"rank 0 was not reached at {pair.addresses[2]} within 1 s"):
            pair.call(lost.connect(there, {0}, pair.names))
        pair.call(lost.close())
    finally:
        pair.close()


def test_a_node_that_comes_back_is_reached_by_its_new_certificate(authority: RunAuthority) -> None:
    """As when a lost node returns: the same rank and address, another process, key and certificate."""
    pair = Pair(2, VALUES, authority=authority, chunk_bytes=100_000)
    try:
        still_works(pair)
        pair.call(pair.nodes[1].close())
        pair.names[1], pair.tls[1] = credentials(authority, 1)
        pair.nodes[1] = back = pair._node(1, 2, VALUES)
        pair.nodes[0].lose(1, "killed")
        pair.addresses[1] = pair.call(back.serve("127.0.0.1:0"))
        pair.nodes[0].expect_at(1, pair.addresses[1], pair.names[1])
        pair.call(back.connect(pair.addresses, {0}, pair.names))
        pair.nodes[0].offer_state(1, b"a neighbour's state")
        assert pair.call(back.fetch_state(pair.addresses[0], pair.names[0])) == b"a neighbour's state"
        pair.call(pair.nodes[0].readmit(1, pair.addresses[1], [1], pair.names[1]))
        pair.nodes[0].send(1, Tag(2, 0), GENUINE, True)
        back.send(0, Tag(2, 0), GENUINE, True)
        assert back.receive(0, Tag(2, 0)) == GENUINE and pair.nodes[0].receive(1, Tag(2, 0)) == GENUINE
    finally:
        pair.close()


def test_nothing_of_a_message_can_be_read_on_the_way(authority: RunAuthority) -> None:
    """A relay that keeps what passes: the pattern is in what passes only where messages are not encrypted."""
    pattern = b"0123456789abcdef" * 100
    payload = memoryview(pattern * 10)
    for tls in (None, authority):
        kept: list[bytes] = []
        relays: list[Relay] = []

        def through(address: str, kept: list[bytes] = kept, relays: list[Relay] = relays) -> str:
            relays.append(Relay(address, tap=kept.append))
            return relays[-1].address

        pair = Pair(2, VALUES, authority=tls, through=through)
        pair.nodes[1].send(0, Tag(1, 0), payload, True)
        assert pair.nodes[0].receive(1, Tag(1, 0)) == payload
        pair.close()
        for relay in relays:
            relay.close()
        passed = b"".join(kept)
        assert len(passed) > len(payload)
        assert (pattern[:64] in passed) == (tls is None)
        assert (b"gannet.exchange.v1" in passed) == (tls is None)  # the methods' names, in HTTP/2's headers


def carried(values: int, authority: RunAuthority | None) -> int:
    """Bytes that a relay carries from node 1 to node 0 for one message of so many values, with the handshake."""
    kept: list[list[bytes]] = []
    relays: list[Relay] = []

    def through(address: str) -> str:
        kept.append([])
        relays.append(Relay(address, tap=kept[-1].append))
        return relays[-1].address

    pair = Pair(2, values, authority=authority, through=through, chunk_bytes=65536)
    payload = CODEC.encode(torch.ones(values))
    pair.nodes[1].send(0, Tag(1, 0), payload, True)
    assert pair.nodes[0].receive(1, Tag(1, 0)) == payload
    pair.close()
    for relay in relays:
        relay.close()
    return max(len(b"".join(each)) for each in kept)


def test_the_overhead_of_records_is_as_modelled(authority: RunAuthority) -> None:
    """Counted by a relay, against the model that plans. What two messages differ by has no handshake in it."""
    sizes = (1_000_000, 200_000)
    plain, encrypted = (carried(sizes[0], tls) - carried(sizes[1], tls) for tls in (None, authority))
    payload_bytes = 4 * (sizes[0] - sizes[1])
    modelled = frame_bytes(payload_bytes, 1, encrypted=True) / frame_bytes(payload_bytes, 1)
    assert encrypted / plain == pytest.approx(modelled, abs=5e-4) and encrypted / plain > 1.001


def test_names_tell_rank_and_run_and_process_apart() -> None:
    names = {peer_name(run, rank, serial) for run in ("a", "b") for rank in (1, 11) for serial in (1, 17)}
    assert len(names) == 8
    assert {rank_of(name) for name in names} == {1, 11}
    assert all(len(label) <= 63 for name in names for label in name.split("."))
    assert rank_of("rank-1.example.org") is None
