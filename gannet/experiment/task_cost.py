"""The cost of a spec's task, before it is run and without its data: parameters, bytes on the wire, FLOPs, memory.

A gradient is taken on the meta device, where tensors have shapes and no values: a GAN of any size takes a second and
no memory, whatever the processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gannet.experiment.job import job_of
from gannet.node.data.datasets import load_shard
from gannet.node.data.shard import Shard
from gannet.node.players.config import REST, parts_of
from gannet.node.players.parts import players_in
from gannet.node.tasks import build_sampler, build_task, needs_data
from gannet.node.tasks.base import AnyTask
from gannet.node.tasks.config import KdganConfig, TaskConfig
from gannet.node.traffic.players import traffic_by_player
from gannet.spec.run_spec import RunSpec

FLOAT_BYTES = 4
OADAM_VECTORS = 3  # moment, square and last direction, of each parameter


@dataclass(frozen=True)
class Cost:
    """players: parameters of each. buffers: values without gradients. batch: samples per step.

    sent_bytes: payloads that a node sends per step, the mean over nodes; busiest_bytes: of the node that sends most.
    flops: of matrix products and convolutions in a step's gradient (a multiplication and an addition are two), the
    mean over a round of critic steps. state_bytes: x, the model's copy of it, its gradient and optimistic Adam's
    vectors. kept_bytes: all that the forward passes keep for the backward passes. exchanges: of each player that is
    exchanged by itself, the steps from one exchange to the next, and its part of sent_bytes.
    """

    players: dict[str, int]
    buffers: int
    batch: int
    sent_bytes: float
    busiest_bytes: float
    flops: float
    state_bytes: int
    kept_bytes: int
    exchanges: tuple[tuple[int, float], ...]

    @property
    def parameters(self) -> int:
        """The parameters of all players."""
        return sum(self.players.values())

    def sent_in(self, steps: int) -> float:
        """Bytes that a node sends in so many steps, the mean over nodes: nothing after the last exchange."""
        return sum(steps // every * every * sent for every, sent in self.exchanges)


def cost_of(spec: RunSpec) -> Cost:
    """The cost of a step of that run."""
    sampler = build_sampler(spec.task, spec.data)
    config = job_of(spec).config
    flops, kept = _gradient_of(spec, getattr(spec.task, "critic_steps", 1))
    parts = parts_of(spec, players_in(sampler.layout)) or {REST: spec}
    by_player = traffic_by_player(config, spec.nodes, sampler.layout)
    each = [[sent / traffic.every for sent in traffic.sent] for traffic in by_player.values() if traffic.sent]
    of_nodes = [sum(player) for player in zip(*each, strict=True)]  # bytes that a node sends a step, by rank
    players = {name: part.stop - part.start for name, part in sampler.players.items()}
    parameters = sum(players.values())
    return Cost(
        players=players,
        buffers=sampler.buffers.stop - sampler.buffers.start,
        batch=spec.batch,
        sent_bytes=sum(of_nodes) / spec.nodes,
        busiest_bytes=max(of_nodes, default=0.0),
        flops=flops,
        state_bytes=FLOAT_BYTES * (2 * sampler.size + (1 + OADAM_VECTORS) * parameters),
        kept_bytes=kept,
        exchanges=tuple(
            (parts[player].algorithm.traits.exchange_every, sum(traffic.sent) / spec.nodes / traffic.every)
            for player, traffic in by_player.items()
        ),
    )


def _gradient_of(spec: RunSpec, calls: int) -> tuple[float, int]:
    """`gradient_cost` on made-up data; on the node's own where the task refuses these and its own are here."""
    try:
        return gradient_cost(dry_task(spec), calls)
    except Exception:
        if isinstance(spec.task, TaskConfig) or not needs_data(spec.task):
            raise
        try:
            shard = load_shard(spec.data, *spec.algorithm.traits.shard_of(0, spec.nodes), spec.seed)
        except FileNotFoundError:
            shard = None
        if shard is None:
            raise
    return gradient_cost(build_task(spec.task, shard, 0, spec.nodes, spec.seed, spec.batch, "cpu"), calls)


def dry_task(spec: RunSpec) -> AnyTask:
    """The task with made-up data: a GAN on the meta device; others, which may read values, on the CPU.

    As many images as a gradient wants, whatever number of them the spec asks to be labelled.
    """
    shard, task = None, spec.task
    if needs_data(task):
        count = max(100, spec.batch)
        labels = torch.arange(count) % (getattr(task, "classes", None) or 10)
        if isinstance(task, KdganConfig):
            task = task.model_copy(update={"labels": None})
            labels = 1 << labels if task.kind == "tagging" else labels
        shard = Shard(torch.zeros(count, *spec.data.image_shape, dtype=torch.uint8), labels)
    device = "meta" if isinstance(task, TaskConfig) else "cpu"
    return build_task(task, shard, 0, spec.nodes, spec.seed, spec.batch, device)


class Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """torch's FlopCounterMode without its book-keeping of modules, which a penalty's second derivatives break."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def gradient_cost(task: AnyTask, calls: int = 1) -> tuple[float, int]:
    """(FLOPs of a gradient, bytes kept for its backward passes): the mean and the maximum of `calls` calls."""
    device = getattr(task, "device", torch.device("cpu"))
    x, most = task.initial().to(device), 0
    with Flops() as counter:
        for _ in range(calls):
            kept: dict[int, torch.UntypedStorage] = {}

            def keep(tensor: Tensor, kept: dict[int, torch.UntypedStorage] = kept) -> Tensor:
                storage = tensor.untyped_storage()
                kept[storage._cdata] = storage  # held, so that its address is not reused
                return tensor

            with saved_tensors_hooks(keep, lambda tensor: tensor):
                task.gradient(x)
            most = max(most, sum(storage.nbytes() for storage in kept.values()))
    return counter.total / calls, most


def cost_table(costs: dict[str, tuple[RunSpec, Cost]]) -> Table:
    """One row per name, of an arm or a task."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("", overflow="fold", min_width=7)
    table.add_column("images", no_wrap=True)
    table.add_column("parameters", no_wrap=True)
    for heading in ("buffers", "batch", "MB sent", "GFLOP", "MB held"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, (spec, cost) in costs.items():
        busiest = cost.busiest_bytes > 1.001 * cost.sent_bytes
        table.add_row(
            name,
            "×".join(map(str, spec.data.image_shape)) if needs_data(spec.task) else "–",
            "\n".join(f"{player} {count:,}" for player, count in cost.players.items()),
            f"{cost.buffers:,}",
            str(cost.batch),
            f"{cost.sent_bytes / 1e6:.3f}" + (f"\n≤ {cost.busiest_bytes / 1e6:.3f}" if busiest else ""),
            f"{cost.flops / 1e9:.4g}",
            f"{cost.state_bytes / 1e6:.3g} + {cost.kept_bytes / 1e6:.3g}",
        )
    return table


NOTES = """\
MB sent: a step's messages of a node, by algorithm, codec and topology; the mean over nodes, ≤ the busiest one's
GFLOP: of a step's matrix products and convolutions, a multiply-add being two; the mean over a round of critic steps
MB held: x, the model, its gradient and optimistic Adam; + what forward passes keep for the backward ones, at most"""
