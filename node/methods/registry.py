"""The methods that a spec can name, each with its settings, and what each needs of graph, codec, task and pace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, get_args

from pydantic import Field

from gannet.node.codecs.registry import CodecSetting, codec_config, names_of
from gannet.node.methods.ad_psgd import AdPsgdConfig
from gannet.node.methods.choco import ChocoConfig
from gannet.node.methods.cp_oadam import CpOadamConfig
from gannet.node.methods.ddp import DdpConfig
from gannet.node.methods.deepsqueeze import DeepSqueezeConfig
from gannet.node.methods.diloco import DilocoConfig
from gannet.node.methods.dp_oadam import DpOadamConfig
from gannet.node.methods.dposg import DposgConfig
from gannet.node.methods.fedgan import FedganConfig
from gannet.node.methods.gossip_pga import GossipPgaConfig
from gannet.node.methods.local import LocalConfig
from gannet.node.methods.md_gan import MdGanConfig
from gannet.node.methods.power_gossip import PowerGossipConfig
from gannet.node.methods.sgp import SgpConfig
from gannet.node.tasks.config import TaskConfig, TaskSetting

if TYPE_CHECKING:
    from gannet.node.topologies.topology import Topology


_AnyAlgorithm = (
    LocalConfig
    | DpOadamConfig
    | DposgConfig
    | CpOadamConfig
    | GossipPgaConfig
    | SgpConfig
    | ChocoConfig
    | DeepSqueezeConfig
    | PowerGossipConfig
    | DilocoConfig
    | FedganConfig
    | AdPsgdConfig
    | MdGanConfig
    | DdpConfig
)
AlgorithmConfig = Annotated[_AnyAlgorithm, Field(discriminator="name")]
ALGORITHM_NAMES: tuple[str, ...] = tuple(
    get_args(of.model_fields["name"].annotation)[0] for of in get_args(_AnyAlgorithm)
)

# Those whose nodes mix with neighbours on a topology.
GOSSIPS = frozenset({"dp-oadam", "dposg", "gossip-pga", "sgp", "choco", "deepsqueeze", "power-gossip", "ad-psgd"})
# Those whose nodes have no common rounds: each makes its steps at its own speed.
ASYNCHRONOUS = frozenset({"ad-psgd"})
# Those whose messages of a round take turns with the round before, where the graph changes in between.
TAKING_TURNS = frozenset({"dp-oadam", "dposg", "gossip-pga", "sgp", "deepsqueeze"})
_COMPRESSED_GOSSIP = ("choco", "deepsqueeze")
_BY_PAIRS = (*_COMPRESSED_GOSSIP, "power-gossip", "ad-psgd")  # what one node of an edge does, the other takes back


def check_topology(topology: Topology, algorithm: AlgorithmConfig) -> None:
    """Raise ValueError when the algorithm cannot run, or is not right, on that graph or among so many nodes."""
    if isinstance(algorithm, MdGanConfig):
        if topology.world < 2:
            raise ValueError("md-gan is a server and its workers: give it 2 nodes at least, or use algorithm local")
        if algorithm.batch_count(topology.world) >= topology.world:
            raise ValueError(
                f"algorithm.batches: {topology.world - 1} workers cannot use {algorithm.batches} minibatches a step; "
                f"give {topology.world - 1} at most"
            )
    if algorithm.name == "choco" and topology.period != 1:
        raise ValueError(
            f"choco keeps a replica of each neighbour and needs a graph that stays the same, which {topology.choice} "
            "is not: use a static one (ring, torus, complete), or algorithm deepsqueeze"
        )
    if algorithm.name in ASYNCHRONOUS and topology.period != 1:
        raise ValueError(
            f"{algorithm.name} divides the nodes into two sides, and needs a graph that stays the same, which "
            f"{topology.choice} is not: use a static one (ring, torus, hypercube, complete, star)"
        )
    if algorithm.name in _BY_PAIRS and not topology.symmetric:
        raise ValueError(
            f"{algorithm.name} needs symmetric weights, and {topology.choice} is directed: "
            "use an undirected graph (ring, torus, complete), or algorithm sgp"
        )


def check_pace(
    algorithm: AlgorithmConfig, pace_ms: float | None, node_pace_ms: Mapping[int, float], world: int
) -> None:
    """Raise ValueError when what is said of the nodes' pace does not fit together."""
    if algorithm.name in ASYNCHRONOUS and pace_ms is None:
        raise ValueError(
            f"{algorithm.name} has no common steps, so its snapshots are taken by the clock, every "
            "snapshot_every · pace_ms: set pace_ms, for example 50"
        )
    if node_pace_ms and pace_ms is None:
        raise ValueError("node_pace_ms: says whose pace is another than pace_ms: set pace_ms, for example 50")
    if strange := sorted(rank for rank in node_pace_ms if not 0 <= rank < world):
        raise ValueError(f"node_pace_ms.{strange[0]}: there is no such node; nodes are 0 to {world - 1}")


def check_checkpoints(every: int | None, algorithm: AlgorithmConfig) -> None:
    """Raise ValueError when checkpoints are asked of a method that could not go on from one."""
    why = {
        "ddp": "ddp's state is inside PyTorch and gloo",
        "ad-psgd": "ad-psgd has messages under way at every moment, and no step that is the same on all nodes",
    }
    if every is not None and algorithm.name in why:
        raise ValueError(
            f"checkpoint_every: {why[algorithm.name]}, so it cannot be resumed from a checkpoint: leave it out, "
            "or use a synchronous method (dp-oadam, choco, cp-oadam)"
        )


def check_task(task: TaskSetting, algorithm: AlgorithmConfig) -> None:
    """Raise ValueError when the algorithm cannot train that task, or the task asks for what the algorithm decides.

    PowerSGD starts from the last step's Q, and of a gradient that is all zero it keeps a Q of zero for ever.
    """
    if not isinstance(task, TaskConfig):
        if algorithm.name == "md-gan":
            raise ValueError(f"md-gan takes a GAN's players apart, the task is {task.name}: use another algorithm")
        return
    if algorithm.name == "md-gan" and task.critic_steps != 1:
        raise ValueError(
            f"task.critic_steps: md-gan counts the discriminator's steps itself; leave it at 1 and set "
            f"algorithm.local_steps: {task.critic_steps}"
        )
    if algorithm.name == "md-gan" and task.classes is not None:
        raise ValueError(
            "task.classes: md-gan's samples travel without their labels; leave classes out, or use another algorithm"
        )
    if algorithm.name == "ddp" and algorithm.hook == "powersgd" and task.critic_steps > 1:
        raise ValueError(
            f"hook powersgd cannot pass over the generator at some steps, as critic_steps {task.critic_steps} does: "
            "use critic_steps 1, or hook none or fp16"
        )


def shard_of(algorithm: AlgorithmConfig, rank: int, world: int) -> tuple[int, int]:
    """(which share of the data, of how many) a node has. MD-GAN's server trains on none: it is given worker 1's."""
    return (max(0, rank - 1), world - 1) if algorithm.name == "md-gan" else (rank, world)


def check_codec(codec: CodecSetting, algorithm: AlgorithmConfig) -> None:
    """Raise ValueError when what the algorithm exchanges cannot travel in that codec.

    Quantizing gossiped or averaged parameters fails: x ← W Q(x) stalls or grows. Gradients may be quantized without
    bias, for a step's error is then one more noise; what is biased needs an error memory.
    """
    traits = codec_config(codec).traits
    if algorithm.name == "ddp" and not traits.exact:
        raise ValueError(
            f"codec {codec}: ddp compresses by its own communication hook: leave codec at fp32, "
            "and set algorithm.hook to fp16 or powersgd"
        )
    if traits.casts or algorithm.name in ("local", *_COMPRESSED_GOSSIP):
        return
    if algorithm.name == "md-gan":
        raise ValueError(
            f"codec {codec} quantizes gradients, and md-gan exchanges images and discriminators as well: "
            f"use codec {names_of(casts=True)}"
        )
    gradients = algorithm.name == "diloco" or (algorithm.name == "cp-oadam" and algorithm.average == "gradients")
    if not gradients:
        raise ValueError(
            f"codec {codec} quantizes gradients, and {algorithm.name} exchanges parameters, which would stall or "
            "diverge: use algorithm choco, or cp-oadam with average: gradients, or codec "
            f"{names_of(casts=True)}"
        )
    if not traits.unbiased:
        raise ValueError(
            f"codec {codec} is biased and needs an error memory, which {algorithm.name} has not: "
            f"use codec {names_of(casts=False)}"
        )
