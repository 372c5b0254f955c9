"""What one node must know to train: the part of a run's spec that crosses the wire to the worker.

Every model forbids unknown fields, so that a typing error is an error and not a silent default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from node.codecs.names import CodecName, codec_config
from node.tasks.config import DataConfig, GameConfig, Settings, TaskConfig
from node.topologies.config import FixedTopology, TopologyConfig

if TYPE_CHECKING:
    from node.topology import Topology


class OptimizerConfig(Settings):
    """Step sizes and moments of the optimistic optimizers, the same for every algorithm of a comparison."""

    learning_rate: PositiveFloat = 2e-3
    learning_rate_discriminator: PositiveFloat | None = None
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.9
    epsilon: PositiveFloat = 1e-8

    def rate_of(self, player: str) -> float:
        """Learning rate of that player ("generator", "discriminator")."""
        if player == "discriminator" and self.learning_rate_discriminator is not None:
            return self.learning_rate_discriminator
        return self.learning_rate


class LocalConfig(Settings):
    """Every node on its own: no exchange."""

    name: Literal["local"]
    method: Literal["oadam", "optimistic-sg"] = "oadam"


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


_AnyAlgorithm = (
    LocalConfig
    | DpOadamConfig
    | DposgConfig
    | CpOadamConfig
    | GossipPgaConfig
    | SgpConfig
    | ChocoConfig
    | DeepSqueezeConfig
    | DilocoConfig
    | FedganConfig
)
AlgorithmConfig = Annotated[_AnyAlgorithm, Field(discriminator="name")]
ALGORITHM_NAMES: tuple[str, ...] = tuple(
    get_args(of.model_fields["name"].annotation)[0] for of in get_args(_AnyAlgorithm)
)

# Those whose nodes mix with neighbours on a topology.
GOSSIPS = frozenset({"dp-oadam", "dposg", "gossip-pga", "sgp", "choco", "deepsqueeze"})
_COMPRESSED_GOSSIP = ("choco", "deepsqueeze")


def check_topology(topology: Topology, algorithm: AlgorithmConfig) -> None:
    """Raise ValueError when the algorithm cannot run, or is not right, on that graph."""
    if algorithm.name == "choco" and topology.period != 1:
        raise ValueError(
            f"choco keeps a replica of each neighbour and needs a graph that stays the same, which {topology.choice} "
            "is not: use a static one (ring, torus, complete), or algorithm deepsqueeze"
        )
    if algorithm.name in _COMPRESSED_GOSSIP and not topology.symmetric:
        raise ValueError(
            f"{algorithm.name} needs symmetric weights, and {topology.choice} is directed: "
            "use an undirected graph (ring, torus, complete), or algorithm sgp"
        )


def check_codec(codec: str, algorithm: AlgorithmConfig) -> None:
    """Raise ValueError when what the algorithm exchanges cannot travel in that codec.

    Quantizing gossiped or averaged parameters fails: x ← W Q(x) stalls or grows. Gradients may be quantized without
    bias, for a step's error is then one more noise; what is biased needs an error memory.
    """
    config = codec_config(codec)
    if config.casts or algorithm.name in ("local", *_COMPRESSED_GOSSIP):
        return
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


class ExchangeConfig(Settings):
    """Limits of the exchange, derived from the links: chunk < round < liveness (seconds).

    `patience_s`: a node that has waited so long for a peer says so, and whoever holds everybody up is
    found out and given up; only where that fails does a wait go on to the round's deadline.
    """

    chunk_bytes: PositiveInt = 65536
    segment_bytes: PositiveInt = 65536
    chunk_deadline_s: PositiveFloat = 10.0
    patience_s: PositiveFloat = 30.0
    round_deadline_s: PositiveFloat = 60.0
    liveness_s: PositiveFloat = 120.0
    window_rounds: PositiveInt = 4

    @model_validator(mode="after")
    def _in_order(self) -> ExchangeConfig:
        deadlines = (self.chunk_deadline_s, self.round_deadline_s, self.liveness_s)
        if list(deadlines) != sorted(set(deadlines)) or self.patience_s >= self.round_deadline_s:
            raise ValueError(f"deadlines must grow: chunk, patience < round < liveness (got {deadlines})")
        return self


class NodeConfig(Settings):
    """Everything that a worker is told; identical on all nodes of a run."""

    run: str
    arm: str = ""
    seed: int = 1
    task: Annotated[TaskConfig | GameConfig, Field(discriminator="name")] = TaskConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    algorithm: AlgorithmConfig
    topology: TopologyConfig = FixedTopology(name="ring")
    codec: CodecName = "fp32"
    batch: PositiveInt = 16
    device: str = "cpu"
    threads: PositiveInt = 1
    pace_ms: PositiveFloat | None = None
    snapshot_every: PositiveInt = 100
    max_steps: PositiveInt | None = None
    exchange: ExchangeConfig = ExchangeConfig()

    @model_validator(mode="after")
    def _codec_fits(self) -> NodeConfig:
        check_codec(self.codec, self.algorithm)
        return self
