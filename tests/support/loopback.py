"""A whole run over real gRPC in one process: nodes are threads on loopback sockets, connected as ordered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from gannet.fabrics.job import Job
from gannet.node.exchange import GrpcExchange
from gannet.node.exchange.mailbox import Mailbox
from gannet.node.process.wall_clock import WallClock
from gannet.node.tasks.base import AnyTask
from gannet.node.traffic.exchange import exchange_edges
from gannet.node.training.loop import train
from gannet.node.training.meter import Meter, StepStats
from gannet.node.training.worker import Worker


class Notes:
    """A Reporter that keeps the last state."""

    x: Tensor

    def step(self, stats: StepStats) -> None:
        assert not stats.missing

    def snapshot(self, step: int, t_s: float, codec_bytes: int, x: Tensor) -> None:
        self.x = x

    def wants_state(self) -> bool:
        return False

    def state(self, checkpoint: Any) -> None: ...

    def meets(self, step: int) -> bool:
        return False

    def shown_last(self) -> int | None:
        return None

    def stop_after(self) -> int | None:
        return None


def over_grpc(job: Job, tasks: Sequence[AnyTask]) -> tuple[np.ndarray, list[int], list[Any]]:
    """(last states (world, size), body bytes sent by rank, refusals) of a job, whatever its links and pace."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def call(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(600)

    refused: list[Any] = []
    workers = [Worker(job.config, rank, job.world, task) for rank, task in enumerate(tasks)]
    exchanges = []
    for worker in workers:
        rules = worker.schema, worker.codecs, worker.largest_payload, worker.window_rounds
        box = Mailbox(job.config.run, worker.rank, job.world, *rules)
        limits = job.config.exchange
        exchanges.append(
            GrpcExchange(
                worker.rank,
                job.world,
                box,
                limits,
                lambda *news: refused.append(news),
                lambda *waits: None,
                worker.peers.in_turns,
            )
        )
    notes = [Notes() for _ in workers]

    def live(worker: Worker) -> None:
        meter = Meter(lambda: 0.0)
        WallClock(exchanges[worker.rank], meter, pace_s=0.0).run(train(worker, meter, notes[worker.rank]))

    try:
        addresses = [call(exchange.serve("127.0.0.1:0")) for exchange in exchanges]
        for rank, exchange in enumerate(exchanges):
            call(exchange.connect(addresses, {b for a, b in exchange_edges(job.config, job.world) if a == rank}))
        threads = [threading.Thread(target=live, args=(worker,), daemon=True) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(600)
            assert not thread.is_alive()
        for exchange in exchanges:
            call(exchange.drain(300))
        return np.stack([note.x.numpy() for note in notes]), [w.peers.codec_bytes for w in workers], refused
    finally:
        for exchange in exchanges:
            call(exchange.close())
        loop.call_soon_threadsafe(loop.stop)
