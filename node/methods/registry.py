"""The methods that a spec can name, each with its settings, and what each needs of graph, codec, task and pace."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, log
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from gannet.node.codecs.names import codec_config
from gannet.node.tasks.config import Settings, TaskConfig, TaskSetting

if TYPE_CHECKING:
    from gannet.node.topologies.topology import Topology


class LocalConfig(Settings):
    """Every node on its own: no exchange. `method`: which optimizer; adam is the plain one, of KDGAN's paper."""

    name: Literal["local"]
    method: Literal["oadam", "optimistic-sg", "adam"] = "oadam"


class DpOadamConfig(Settings):
    """Decentralized parallel OAdam: gossip the parameters after the optimistic step.

    `every`: local steps between exchanges. `rounds`: gossip rounds an exchange (t). `overlap`: mix the
    parameters while the next gradient is computed from the unmixed ones (the D-PSGD order).
    """

    name: Literal["dp-oadam"]
    every: PositiveInt = 1
    rounds: PositiveInt = 1
    overlap: bool = False


class DposgConfig(Settings):
    """DPOSG, the paper's two lines: η is the optimizer's learning rate, t is `rounds` of gossip."""

    name: Literal["dposg"]
    rounds: PositiveInt = 1


class CpOadamConfig(Settings):
    """Centralized parallel OAdam: all nodes average, by way of rank 0 or around a ring.

    `average`: the parameters after each node's own step, or the gradients before it.
    """

    name: Literal["cp-oadam"]
    collective: Literal["server", "ring"] = "server"
    average: Literal["parameters", "gradients"] = "parameters"
    every: PositiveInt = 1

    @model_validator(mode="after")
    def _gradients_every_step(self) -> CpOadamConfig:
        if self.average == "gradients" and self.every > 1:
            raise ValueError("averaging gradients happens every step: leave out `every`, or average parameters")
        return self


class GossipPgaConfig(Settings):
    """Gossip-PGA: gossip at every step, and a global average instead at every `global_every`-th; null for never."""

    name: Literal["gossip-pga"]
    global_every: PositiveInt | None = 10
    collective: Literal["server", "ring"] = "ring"


class SgpConfig(Settings):
    """Stochastic Gradient Push: push-sum along the edges of any topology, whose weights do not count."""

    name: Literal["sgp"]


class ChocoConfig(Settings):
    """CHOCO-SGD: gossip of compressed differences over a static graph with symmetric weights.

    `gamma`: the consensus step γ. 1 is gossip with an exact codec; the coarser the codec, the smaller it must be:
    about 0.5 for qsgd-4bit, 0.05 for top-k that keeps a hundredth.
    """

    name: Literal["choco"]
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.5


class DeepSqueezeConfig(Settings):
    """DeepSqueeze: gossip of compressed models with an error memory; `eta` is the consensus step η."""

    name: Literal["deepsqueeze"]
    eta: Annotated[float, Field(gt=0, le=1)] = 0.1


class PowerGossipConfig(Settings):
    """PowerGossip: gossip of the low-rank part of neighbours' differences; nothing to tune.

    `rank`: directions that a product has. `iterations`: products a step, from the right and the left in turn.
    """

    name: Literal["power-gossip"]
    rank: PositiveInt = 1
    iterations: PositiveInt = 2


class DilocoConfig(Settings):
    """DiLoCo: `every` local steps, then an outer Nesterov step on the mean difference.

    The paper's `every` is 500, for runs of 88,000 steps.
    """

    name: Literal["diloco"]
    every: PositiveInt = 50
    outer_learning_rate: PositiveFloat = 0.7
    outer_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    collective: Literal["server", "ring"] = "ring"


class FedganConfig(Settings):
    """FedGAN: parameters averaged by a server every `every` local steps, which cp-oadam does too."""

    name: Literal["fedgan"]
    every: PositiveInt = 20

    def as_cp_oadam(self) -> CpOadamConfig:
        """The same method under its other name."""
        return CpOadamConfig(name="cp-oadam", every=self.every)


class AdPsgdConfig(Settings):
    """AD-PSGD: asynchronous pairwise averaging along the edges of an undirected topology, whose weights do not count.

    `staleness`: a node waits when a neighbour has owed it an answer for more than so many of its steps; null: never.
    """

    name: Literal["ad-psgd"]
    staleness: NonNegativeInt | None = None


class MdGanConfig(Settings):
    """MD-GAN: rank 0 holds the generator and no data, each other node a discriminator and its share of the data.

    `local_steps` (L): the discriminator's steps for each of the generator's. `swap_every`: after so many of these the
    discriminators change places, about an epoch in the paper; null for never. `batches` (k): minibatches generated a
    step, of which a worker gets two; null for ⌊ln N⌋ of N workers, and one at least.
    """

    name: Literal["md-gan"]
    local_steps: PositiveInt = 1
    swap_every: PositiveInt | None = 100
    batches: PositiveInt | None = None

    def batch_count(self, world: int) -> int:
        """k."""
        return self.batches or max(1, floor(log(world - 1)))


class DdpConfig(Settings):
    """PyTorch's own data parallelism: DistributedDataParallel over gloo (Li et al., VLDB 2020), every step.

    `hook`: its communication hook. "none" sends float32, "fp16" half precision, "powersgd" matrices P, Q of rank
    `powersgd_rank` with error feedback (Vogels et al., NeurIPS 2019), from step `start_powersgd_iter` (counted
    from 0) on, and float32 before; the hook wants 2 at least.
    """

    name: Literal["ddp"]
    hook: Literal["none", "fp16", "powersgd"] = "none"
    powersgd_rank: PositiveInt | None = None
    start_powersgd_iter: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _settings_of_powersgd(self) -> DdpConfig:
        given = [name for name in ("powersgd_rank", "start_powersgd_iter") if getattr(self, name) is not None]
        if given and self.hook != "powersgd":
            raise ValueError(f"{given[0]} belongs to hook powersgd, and the hook is {self.hook}: leave it out")
        return self

    @property
    def rank(self) -> int:
        """Rank of PowerSGD's matrices."""
        return self.powersgd_rank or 1

    @property
    def start(self) -> int:
        """How many steps PowerSGD leaves uncompressed."""
        return self.start_powersgd_iter or 2


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
# Those whose parcels of a round take turns with the round before, where the graph changes in between.
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
        "ad-psgd": "ad-psgd has parcels under way at every moment, and no step that is the same on all nodes",
    }
    if every is not None and algorithm.name in why:
        raise ValueError(
            f"checkpoint_every: {why[algorithm.name]}, so it cannot go on from a checkpoint: leave it out, "
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


def check_codec(codec: str, algorithm: AlgorithmConfig) -> None:
    """Raise ValueError when what the algorithm exchanges cannot travel in that codec.

    Quantizing gossiped or averaged parameters fails: x ← W Q(x) stalls or grows. Gradients may be quantized without
    bias, for a step's error is then one more noise; what is biased needs an error memory.
    """
    config = codec_config(codec)
    if algorithm.name == "ddp" and codec != "fp32":
        raise ValueError(
            f"codec {codec}: ddp compresses by its own communication hook: leave codec at fp32, "
            "and set algorithm.hook to fp16 or powersgd"
        )
    if config.casts or algorithm.name in ("local", *_COMPRESSED_GOSSIP):
        return
    if algorithm.name == "md-gan":
        raise ValueError(
            f"codec {codec} quantizes gradients, and md-gan exchanges images and discriminators as well: "
            "use codec fp32, fp16 or bf16"
        )
    gradients = algorithm.name == "diloco" or (algorithm.name == "cp-oadam" and algorithm.average == "gradients")
    if not gradients:
        raise ValueError(
            f"codec {codec} quantizes gradients, and {algorithm.name} exchanges parameters, which would stall or "
            "diverge: use algorithm choco, or cp-oadam with average: gradients, or codec fp32, fp16 or bf16"
        )
    if not config.unbiased:
        raise ValueError(
            f"codec {codec} is biased and needs an error memory, which {algorithm.name} has not: "
            "use codec qsgd-4bit (or qsgd-2bit, qsgd-8bit, natural-8bit, random-k)"
        )
