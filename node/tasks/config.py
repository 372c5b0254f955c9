"""Settings of the task, as a spec file holds them.

All models refuse unknown fields, and every error names the value given and the values allowed. Importing this module
does not import torch, so a spec can be checked without waiting for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from gannet.node.data.config import DataConfig
from gannet.node.settings import Settings, TaskSettings, by_name
from gannet.node.tasks.custom.config import PythonTaskConfig
from gannet.node.tasks.games.config import MintyConfig, MixtureConfig
from gannet.node.tasks.kdgan.config import KdganConfig, share_of

__all__ = [
    "TASK_NAMES",
    "DataConfig",
    "GameConfig",
    "KdganConfig",
    "MintyConfig",
    "MixtureConfig",
    "PythonTaskConfig",
    "Settings",
    "TaskConfig",
    "TaskSetting",
]


class TaskConfig(TaskSettings):
    """A GAN: two networks and the losses they play for."""

    name: Literal["gan"] = "gan"
    loss: Literal["non-saturating", "wgan-gp", "hinge"] = Field(
        default="wgan-gp",
        description="wgan-gp: Wasserstein loss with gradient penalty (Gulrajani et al. 2017). "
        "hinge: hinge loss with a spectrally normalised critic (Miyato et al. 2018). "
        "non-saturating: -log D of fakes for the generator (Goodfellow et al. 2014), as DCGAN has it.",
    )
    critic_steps: int = Field(default=1, ge=1, description="the generator moves at every N-th step")
    gradient_penalty: float = Field(default=10.0, ge=0, description="weight of the penalty; wgan-gp only")
    latent: int = Field(default=32, ge=1, description="length of the generator's noise vector")
    width: int = Field(default=32, ge=1, description="channels at half resolution; doubled at each halving")
    generator_norm: Literal["batch", "none"] = "batch"
    batch_norm_buffers: Literal["mixed", "absent"] = Field(
        default="mixed",
        description="mixed: running statistics belong to the model, travel with it and serve generation. "
        "absent: there are none, and generation normalises with its own batch.",
    )
    architecture: Literal["small", "dcgan", "resnet", "sagan"] = Field(
        default="small",
        description="small: few layers for many steps on few cores. dcgan: Radford et al. 2016. resnet: WGAN-GP's "
        "and SNGAN's for CIFAR-10. sagan: with self-attention (Zhang et al. 2019). See node/tasks/gan/architectures.",
    )
    generator_width: int | None = Field(default=None, ge=1, description="the generator's own width; unset: width")
    classes: int | None = Field(
        default=None,
        ge=2,
        description="class-conditional on labels 0 to classes - 1: conditional BatchNorm in the generator, a "
        "projection in the critic; unset: the GAN knows no labels",
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="decay of a moving average of the generator, which is then what snapshots, scores and users "
        "get; it stays on its node and never travels",
    )

    @model_validator(mode="after")
    def _check_architecture(self) -> Self:
        if self.classes is not None and self.architecture == "small":
            raise ValueError("classes: architecture small knows no labels; use dcgan, resnet or sagan")
        if self.classes is not None and self.generator_norm == "none":
            raise ValueError("classes: labels enter the generator through its BatchNorm; set generator_norm: batch")
        if self.architecture == "sagan" and self.loss != "hinge":
            raise ValueError(f"architecture sagan has spectral norms and plays loss: hinge (got {self.loss!r})")
        return self

    @property
    def first_acts(self) -> dict[str, tuple[int, str]]:
        return {"critic_steps": (self.critic_steps, "the generator moves")} if self.critic_steps > 1 else {}

    @property
    def unused(self) -> tuple[str, ...]:
        normal, found = type(self).model_fields, []
        if self.loss != "wgan-gp" and self.gradient_penalty != normal["gradient_penalty"].default:
            found.append(f"task.gradient_penalty: does nothing with loss {self.loss}, only with wgan-gp")
        if self.generator_norm == "none" and self.batch_norm_buffers != normal["batch_norm_buffers"].default:
            found.append("task.batch_norm_buffers: there are none with generator_norm: none")
        return tuple(found)

    @property
    def generator_features(self) -> int:
        """The generator's width."""
        return self.generator_width or self.width

    @property
    def players(self) -> tuple[str, ...]:
        """Names of the players, in the order of the flat vector; a spec may exchange each in its own way."""
        return ("generator", "discriminator")


class GameConfig(TaskSettings):
    """A small min-max game instead of a GAN, whose saddle point is known; it needs no data."""

    name: Literal["game"]
    dimension: int = Field(default=64, ge=1, description="of each of the two players")
    curvature: float = Field(default=0.0, ge=0, description="strong convexity and concavity; 0: bilinear")
    noise: float = Field(default=0.0, ge=0, description="standard deviation of each gradient entry's noise")
    spread: float = Field(default=0.0, ge=0, description="size of the constant by which nodes' gradients differ")
    padding: int = Field(default=0, ge=0, description="further values without a gradient: messages of a larger model")

    @property
    def measured_by(self) -> dict[str, Any]:
        return {"dimension": self.dimension, "curvature": self.curvature}

    @property
    def players(self) -> tuple[str, ...]:
        """As of a GAN."""
        return ("generator", "discriminator")


def _kind(task: Any) -> str:
    """A task that does not say what it is, is a GAN."""
    return str(task.get("name", "gan") if isinstance(task, dict) else getattr(task, "name", "gan"))


_Tagged = Annotated[
    Annotated[TaskConfig, Tag("gan")]
    | Annotated[GameConfig, Tag("game")]
    | Annotated[MintyConfig, Tag("minty")]
    | Annotated[MixtureConfig, Tag("mixture")]
    | Annotated[PythonTaskConfig, Tag("python")]
    | Annotated[KdganConfig, Tag("kdgan")],
    Discriminator(_kind),
]
TaskSetting = Annotated[_Tagged, BeforeValidator(by_name)]
TASK_NAMES = ("gan", "game", "minty", "mixture", "kdgan", "python")


def check_labels(task: TaskSetting, held: Sequence[Mapping[str, int]]) -> None:
    """Raise ValueError when the task cannot train on shards with these numbers of images by label, one a node."""
    if isinstance(task, TaskConfig | KdganConfig) and task.classes is not None:
        found = sorted({int(label) for labels in held for label in labels})
        if found and (found[0] < 0 or found[-1] + 1 != task.classes):  # one without images would never be learnt
            raise ValueError(
                f"task.classes is {task.classes}, but the data has labels from {found[0]} to {found[-1]}: set "
                f"task.classes: {found[-1] + 1}"
            )
    if isinstance(task, KdganConfig) and task.labels is not None:
        for rank, labels in enumerate(held):
            count, there = share_of(task.labels, rank, len(held)), sum(labels.values())
            if not 1 <= count <= there:
                raise ValueError(
                    f"task.labels: {task.labels} labelled images are {count} on node {rank}, whose shard has "
                    f"{there}: each node needs one, and has no more than its shard"
                )


def check_data(task: TaskSetting, data: DataConfig) -> None:
    """Raise ValueError when the data has not the labels that the task learns."""
    tagging = isinstance(task, KdganConfig) and task.kind == "tagging"
    if tagging and data.compose is None:
        raise ValueError("task.kind: tagging wants images with several tags: set data.compose, for example to 3")
    if data.compose is not None and not tagging:
        raise ValueError("data.compose makes sets of tags, for task kdgan with kind: tagging; leave it out")
    if isinstance(task, KdganConfig) and data.name == "image-folder":
        raise ValueError("task kdgan is scored on a test split, and image-folder has none: use another data.name")
