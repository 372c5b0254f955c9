"""Exchanges of several nodes in one process, over real sockets on the loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from gannet.certs.run_authority import RunAuthority
from gannet.node.codecs import build_codec
from gannet.node.config import ExchangeConfig
from gannet.node.exchange import GrpcExchange
from gannet.node.exchange.mailbox import Mailbox
from gannet.node.exchange.tls import Credentials, NodeKey

SCHEMA = 7


class Pair:
    """Two or more nodes' exchanges in one process, over real sockets."""

    def __init__(
        self,
        world: int,
        count: int,
        in_turns: bool = False,
        authority: RunAuthority | None = None,
        through: Callable[[str], str] = lambda address: address,
        **limits: Any,
    ) -> None:
        """`authority`: encrypt, with its certificates. `through`: the address by which the others reach that of a
        node, for instance a relay's.
        """
        self._in_turns = in_turns
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.codec = build_codec("fp32")
        self.refusals: list[tuple[int, int, str, str]] = []
        self.waits: list[tuple[int, int, int]] = []
        # Deadlines that a machine which stands still for a minute meets as well; a test of them has its own.
        settings = {
            "chunk_bytes": 1000,
            "chunk_deadline_s": 120.0,
            "patience_s": 120.0,
            "round_deadline_s": 300.0,
            "liveness_s": 600.0,
            **limits,
        }
        self.config = ExchangeConfig(**settings)
        held = [credentials(authority, rank) if authority else ("", None) for rank in range(world)]
        self.names = [name for name, _ in held]
        self.tls = [tls for _, tls in held]
        self.nodes = [self._node(rank, world, count) for rank in range(world)]
        self.addresses = [self.call(node.serve("127.0.0.1:0")) for node in self.nodes]
        for rank, node in enumerate(self.nodes):
            there = [through(address) for address in self.addresses]
            self.call(node.connect(there, set(range(world)) - {rank}, self.names))

    def _node(self, rank: int, world: int, count: int) -> GrpcExchange:
        size = self.codec.wire_bytes(count)
        box = Mailbox("run", rank, world, SCHEMA, self.codec, size, self.config.window_rounds)
        return GrpcExchange(
            rank,
            world,
            box,
            self.config,
            lambda *news: self.refusals.append(news),
            lambda source, number, together: None if together else self.waits.append((rank, source, number)),
            self._in_turns,
            self.tls[rank],
        )

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(600)

    def close(self) -> None:
        for node in self.nodes:
            self.call(node.close())
        self.loop.call_soon_threadsafe(self.loop.stop)


def credentials(authority: RunAuthority, rank: int) -> tuple[str, Credentials]:
    """The name and the credentials of a new process of that rank."""
    key = NodeKey()
    name, certificate = authority.certify(rank, key.request())
    found = key.credentials(certificate, authority.certificate)
    assert found is not None
    return name, found
