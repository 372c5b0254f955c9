"""The processes that bench/exchange.py measures: one a node and a side, ours or gloo's, each in its node's
network namespace.

Forked from the driver, so that torch is imported once, and as willing to yield to the link engine as a
trainer is. A process reads orders and writes answers as JSON lines on a socket pair; it begins each round
at the moment that the order names, on the one monotonic clock of the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from gannet.fabrics import addresses as layout
from gannet.fabrics.namespaces.sandbox import die_with_parent, join_network
from gannet.node.algorithms.collectives import gossip, ring_all_reduce, server_average
from gannet.node.codecs import build_codec
from gannet.node.config import ExchangeConfig
from gannet.node.exchange import GrpcExchange
from gannet.node.exchange.mailbox import Mailbox
from gannet.node.exchange.tls import Credentials
from gannet.node.process.wall_clock import WallClock
from gannet.node.topologies.topology import Topology
from gannet.node.training.meter import Meter
from gannet.node.training.peers import Peers

TLS = "-tls"  # of a method's name: encrypted
_NICENESS = 10  # as the fork server gives to trainers
_GLOO_PORT = 29500
_SETTLE_S = 0.05  # between a round's order and its beginning, for all processes to be there

Run = Callable[[], Tensor]


@dataclass(frozen=True)
class Setup:
    """Settings of a process, made before it is forked. `names`: of all certificates, by rank, with `tls`."""

    method: str
    rank: int
    world: int
    values: int
    edges: tuple[tuple[int, int], ...]
    exchange: ExchangeConfig
    tls: Credentials | None = None
    names: tuple[str, ...] = ()

    def vector(self) -> Tensor:
        """This node's flat float32 vector: a seed of its own, the same at every rate."""
        generator = np.random.default_rng(self.rank)
        return torch.from_numpy(generator.standard_normal(self.values, dtype=np.float32))


class Node:
    """The driver's end of one process."""

    def __init__(self, setup: Setup, prepare: Callable[[Setup, Node], None]) -> None:
        here, there = socket.socketpair()
        self.name = f"node {setup.rank} of {setup.method}"
        self.pid = os.fork()
        self._file = (there if self.pid == 0 else here).makefile("rw")
        (here if self.pid == 0 else there).close()
        if self.pid == 0:
            status = 1
            try:
                die_with_parent()
                join_network(f"/run/netns/{layout.node_namespace(setup.rank)}")
                os.nice(_NICENESS)
                torch.set_num_threads(1)
                prepare(setup, self)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)

    def say(self, message: Any) -> None:
        """Send one JSON value to the other end."""
        self._file.write(json.dumps(message) + "\n")
        self._file.flush()

    def hear(self) -> Any:
        """Wait for a JSON value from the other end; RuntimeError when it has ended instead."""
        line = self._file.readline()
        if not line:
            raise RuntimeError(f"{self.name} has ended; its error stands above")
        return json.loads(line)

    def end(self) -> None:
        """Have the process leave, and wait for it."""
        self.say(None)
        os.waitpid(self.pid, 0)
        self._file.close()

    def serve(self, run: Run) -> None:
        """In the process: carry out orders until the driver says None."""
        while (order := self.hear()) is not None:
            time.sleep(max(0.0, order["at"] - time.monotonic()))
            cpu_s = time.process_time()
            result = run()
            end = time.monotonic()
            cpu_s = time.process_time() - cpu_s
            self.say({"s": end - order["at"], "cpu_s": cpu_s, "crc32": zlib.crc32(result.numpy().data)})


def start(setups: list[Setup]) -> list[Node]:
    """One process for each of a method's setups, connected and ready to begin."""
    nodes = [Node(setup, gloo if setup.method == "gloo" else ours) for setup in setups]
    served = [node.hear() for node in nodes]
    for node in nodes:
        node.say(served)
    return nodes


def measure(nodes: list[Node]) -> list[dict[str, Any]]:
    """One round on all nodes at once: seconds, CPU seconds and the result's CRC-32 of each."""
    at = time.monotonic() + _SETTLE_S
    for node in nodes:
        node.say({"at": at})
    return [node.hear() for node in nodes]


def ours(setup: Setup, node: Node) -> None:
    """The project's collectives over its gRPC exchange, driven by the wall clock: what a trainer uses."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="grpc-loop", daemon=True).start()

    def in_loop(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    rank, world, codec = setup.rank, setup.world, build_codec("fp32")
    box = Mailbox("bench", rank, world, 1, codec, codec.wire_bytes(setup.values), setup.exchange.window_rounds)

    def refused(*news: Any) -> None:
        raise RuntimeError(f"a message was refused: {news}")

    def waiting(source: int, number: int, together: bool) -> None:
        raise RuntimeError(f"rank {rank} waits for rank {source} in round {number}")

    exchange = GrpcExchange(rank, world, box, setup.exchange, refused, waiting, tls=setup.tls)
    node.say(in_loop(exchange.serve(f"{layout.mesh_address(rank)}:0")))
    addresses = node.hear()
    neighbours = partial(Topology("ring", world), rank)
    incoming = {a for a, b in setup.edges if b == rank}
    outgoing = {b for a, b in setup.edges if a == rank}
    in_loop(exchange.connect(addresses, outgoing, setup.names))
    x = setup.vector()
    exchange.warm_up(codec.encode(x), incoming, outgoing)
    peers = Peers(rank, world, codec, setup.exchange.segment_bytes)
    clock = WallClock(exchange, Meter(time.monotonic), pace_s=0.0)

    methods: dict[str, Callable[[], Any]] = {
        "gossip": lambda: gossip(peers, x, neighbours),
        "server": lambda: server_average(peers, x),
        "ring": lambda: ring_all_reduce(peers, x),
    }
    begin = methods[setup.method.removesuffix(TLS)]

    def a_round() -> Any:
        exchange.inbox.impatience.moves()  # what lies between two rounds is no wait
        return clock.run(begin())

    node.serve(a_round)
    in_loop(exchange.close())


def gloo(setup: Setup, node: Node) -> None:
    """torch.distributed's all-reduce of the same vector, rendezvous on the mesh as well."""
    os.environ["GLOO_SOCKET_IFNAME"] = layout.MESH_DEVICE
    store = f"tcp://{layout.mesh_address(0)}:{_GLOO_PORT}"
    patience = timedelta(seconds=setup.exchange.round_deadline_s)
    dist.init_process_group("gloo", init_method=store, rank=setup.rank, world_size=setup.world, timeout=patience)
    node.say("there")
    node.hear()
    x = setup.vector()

    def run() -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total.div_(setup.world)

    node.serve(run)
    dist.destroy_process_group()
