"""Configuration of one node, and the part of it that a run's spec sets: both are TrainingSettings.

Every model forbids unknown fields, so that a typo is an error and not a silent default.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from gannet.node.codecs.registry import CodecSetting
from gannet.node.data.config import DataConfig
from gannet.node.losses import OnLoss, check_on_loss
from gannet.node.methods.registry import AlgorithmConfig
from gannet.node.mixing.mean import MeanRule
from gannet.node.mixing.registry import MixingConfig
from gannet.node.players.config import PlayerConfig, check_methods, parts_of
from gannet.node.settings import by_name
from gannet.node.tasks.config import Settings, TaskConfig, TaskSetting, check_data
from gannet.node.topologies.graphs import RingTopology
from gannet.node.topologies.registry import TopologyConfig


class OptimizerConfig(Settings):
    """Step sizes and moments of the optimistic optimizers, the same for every algorithm of a comparison."""

    learning_rate: PositiveFloat = 2e-3
    learning_rate_discriminator: PositiveFloat | None = None
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.9
    epsilon: PositiveFloat = 1e-8
    decay_steps: PositiveInt | None = None

    def decay(self, step: int) -> float:
        """The learning rates' factor after `step` steps: linearly down to 0 at `decay_steps`."""
        return 1.0 if self.decay_steps is None else max(0.0, 1 - step / self.decay_steps)

    def rate_of(self, player: str) -> float:
        """Learning rate of that player ("generator", "discriminator")."""
        if player == "discriminator" and self.learning_rate_discriminator is not None:
            return self.learning_rate_discriminator
        return self.learning_rate


class ExchangeConfig(Settings):
    """Limits of the exchange, derived from the links: chunk < round < liveness (seconds).

    `patience_s`: a node that has waited this long for a peer reports it, and the node that all wait for is
    identified and given up; only where that fails does a wait last until the round's deadline.
    `pipe_bytes`: the bytes that a link may carry during a round trip; no message up to this size ever waits for its
    turn, and none waits longer than `turn_s` (see gannet.node.exchange.turn_rule). None: no message waits at all.
    """

    chunk_bytes: PositiveInt = 65536
    segment_bytes: PositiveInt = 65536
    chunk_deadline_s: PositiveFloat = 10.0
    patience_s: PositiveFloat = 30.0
    round_deadline_s: PositiveFloat = 60.0
    liveness_s: PositiveFloat = 120.0
    window_rounds: PositiveInt = 4
    pipe_bytes: PositiveInt | None = None
    turn_s: PositiveFloat = 10.0

    @model_validator(mode="after")
    def _in_order(self) -> ExchangeConfig:
        deadlines = (self.chunk_deadline_s, self.round_deadline_s, self.liveness_s)
        if list(deadlines) != sorted(set(deadlines)) or self.patience_s >= self.round_deadline_s:
            raise ValueError(f"deadlines must grow: chunk, patience < round < liveness (got {deadlines})")
        return self


class TrainingSettings(Settings):
    """How a run trains: what its spec says and its nodes must know. A new setting of training is a field here."""

    arm: str = "run"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    task: TaskSetting = TaskConfig()
    data: Annotated[DataConfig, BeforeValidator(by_name)] = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    algorithm: AlgorithmConfig
    topology: TopologyConfig = RingTopology()
    codec: CodecSetting = "fp32"
    mixing: MixingConfig = MeanRule()
    players: dict[str, PlayerConfig] = Field(default_factory=dict)
    batch: PositiveInt = 16
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    threads: PositiveInt = 1
    pace_ms: PositiveFloat | None = None
    node_pace_ms: dict[int, PositiveFloat] = Field(default_factory=dict)
    snapshot_every: PositiveInt = 50
    checkpoint_every: PositiveInt | None = None
    on_loss: OnLoss | None = None

    @model_validator(mode="after")
    def _training_fits_together(self) -> Self:
        check_data(self.task, self.data)
        if all(part.algorithm.shipped for part in [self, *parts_of(self).values()]):
            self.check_algorithms()
        return self

    def check_algorithms(self, custom: bool = False) -> None:
        """Raise ValueError where a method does not fit the rest of the run.

        Loads an algorithm of a user's own, so reading settings does this only where all methods are shipped.
        `custom`: ask codecs of a user's own as well.
        """
        check_methods(self, custom)
        self.algorithm.traits.check_task(self.task)
        self.algorithm.traits.check_checkpoints(self.checkpoint_every)
        for part in parts_of(self).values() or [self]:
            if self.on_loss is not None and (custom or part.algorithm.shipped):
                check_on_loss(self.on_loss, part.algorithm.traits, bool(self.players))

    def training(self) -> dict[str, Any]:
        """These settings by name, as they are: keyword arguments of another kind of TrainingSettings."""
        return {name: getattr(self, name) for name in TrainingSettings.model_fields}


class NodeConfig(TrainingSettings):
    """A worker's whole configuration; identical on all nodes of a run."""

    run: str
    origin: dict[str, str] = Field(
        default_factory=dict, description="what the run's bits depend on besides settings, for its checkpoints"
    )
    max_steps: PositiveInt | None = None
    exchange: ExchangeConfig = ExchangeConfig()

    @property
    def asynchronous(self) -> bool:
        """Whether nodes make their steps without common rounds."""
        return self.algorithm.traits.asynchronous

    def pace_s_of(self, rank: int) -> float:
        """The least time of a gradient on that node, seconds; 0 where gradients are not paced."""
        return self.node_pace_ms.get(rank, self.pace_ms or 0.0) / 1000
