"""Settings of KDGAN and of the methods that it is compared with. No torch here."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from gannet.node.settings import TaskSettings

CLASSIFIER, TEACHER, DISCRIMINATOR = "classifier", "teacher", "discriminator"
Method = Literal["kdgan", "classifier", "mimic", "distn", "nagan"]
PLAYERS: dict[Method, tuple[str, ...]] = {
    "kdgan": (CLASSIFIER, TEACHER, DISCRIMINATOR),
    "classifier": (CLASSIFIER,),
    "mimic": (CLASSIFIER, TEACHER),
    "distn": (CLASSIFIER, TEACHER),
    "nagan": (CLASSIFIER, DISCRIMINATOR),
}
"""Players of each method: networks of other players are not in x, and are never sent."""
Network = Literal["mlp", "lenet"]
MAX_TAGS = 62


def share_of(count: int, rank: int, world: int) -> int:
    """Node `rank`'s part of `count`; parts differ by one at most."""
    return count // world + (rank < count % world)


class KdganConfig(TaskSettings):
    """KDGAN, or a method that it is held against. Arms share settings: a method leaves alone what it cannot use.

    A light classifier C, a teacher T and a discriminator D; the value function's α, β, γ; who moves when.

    One step of an algorithm is one move: `pretrain_steps` of all players together, C and T on the labels, D on
    true labels against random ones; then rounds of `discriminator_steps`, `teacher_steps` and `classifier_steps`
    moves in turn. Methods that have no game train C alone after the pretraining.
    """

    name: Literal["kdgan"]
    method: Method = Field(
        default="kdgan",
        description="kdgan: all three players. classifier: C alone, on the labels. mimic: C matches the pretrained "
        "teacher's logits (Ba & Caruana 2014). distn: C learns the labels and the teacher's soft targets (Hinton et "
        "al. 2015). nagan: C against D, no teacher.",
    )
    kind: Literal["classification", "tagging"] = Field(
        default="classification", description="tagging: an image's label is a set of tags (data.compose makes such)"
    )
    alpha: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="share of D's fakes that are C's, T has the rest; nagan has no T, and C all",
    )
    beta: float = Field(default=2.0, ge=0, description="weight of C's distillation loss")
    gamma: float = Field(default=1e-4, ge=0, description="weight of T's distillation loss; at 100 training collapses")
    adversarial: Literal["minimax", "non-saturating"] = Field(
        default="non-saturating",
        description="what C and T descend of the game. minimax: log(1 − p_d), the paper's value. non-saturating: "
        "−log p_d, whose slope does not vanish where D is sure",
    )
    distillation: Literal["l2", "kl"] = Field(
        default="l2", description="l2: mean squared difference of logits. kl: of softmaxes at `temperature`"
    )
    temperature: float = Field(default=3.0, gt=0, description="of soft targets: distillation kl, and method distn")
    soft_weight: float = Field(default=0.7, ge=0, le=1, description="distn: the soft targets' share of the loss")
    samples: int = Field(default=1, ge=1, description="Gumbel samples that a move draws of each image's label")
    gumbel_start: float = Field(default=1.0, gt=0, description="τ of the Gumbel-softmax when the game begins")
    gumbel_end: float = Field(default=0.1, gt=0, description="and from `gumbel_steps` moves on")
    gumbel_steps: int = Field(default=3000, ge=1, description="moves over which τ falls exponentially")
    pretrain_steps: int = Field(default=500, ge=0)
    discriminator_steps: int = Field(default=1, ge=1)
    teacher_steps: int = Field(default=1, ge=1)
    classifier_steps: int = Field(default=1, ge=1)
    labels: int | None = Field(
        default=None,
        ge=1,
        description="labelled images of all nodes together, shared out evenly; each node takes its part from its "
        "own shard, classes as evenly as that has them. Unset: all",
    )
    augment: Literal["always", "after-pretraining", "never"] = Field(
        default="always", description="when images are turned, shifted and zoomed; the same for every method"
    )
    rotation_degrees: float = Field(default=15.0, ge=0, le=180)
    shift: float = Field(default=0.1, ge=0, lt=1, description="as a part of the image's side")
    zoom: float = Field(default=0.1, ge=0, lt=1)
    classes: int = Field(default=10, ge=2, le=1000, description="labels that there are")
    classifier: Network = Field(default="mlp", description="mlp: two hidden layers. lenet: two convolutions")
    teacher: Network = Field(default="lenet", description="of T, and of D")
    hidden: int = Field(default=800, ge=1, description="an mlp's hidden units, a layer")
    filters: int = Field(default=32, ge=1, description="a lenet's first channels; its second has twice as many")
    features: int = Field(default=1024, ge=1, description="a lenet's fully connected units")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of T's and D's last hidden layer, in training")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.gumbel_end > self.gumbel_start:
            raise ValueError(
                f"gumbel_end {self.gumbel_end:g} is above gumbel_start {self.gumbel_start:g}: the temperature falls"
            )
        if self.kind == "tagging" and self.classes > MAX_TAGS:
            raise ValueError(f"classes: {self.classes} tags do not fit in a label; {MAX_TAGS} at most")
        return self

    @property
    def players(self) -> tuple[str, ...]:
        """Their order in x."""
        return PLAYERS[self.method]

    @property
    def first_acts(self) -> dict[str, tuple[int, str]]:
        """What follows the pretraining; method classifier goes on as before."""
        if self.method == "classifier" or not self.pretrain_steps:
            return {}
        return {"pretrain_steps": (self.pretrain_steps + 1, "what method " + self.method + " is begins")}

    @property
    def measured_by(self) -> dict[str, Any]:
        return {"kind": self.kind}

    @property
    def share(self) -> float:
        """The weight of C's fakes: α, and 1 where there is no teacher."""
        return 1.0 if self.method == "nagan" else self.alpha

    def active(self, call: int) -> tuple[str, ...]:
        """Players that move at that call, counted from 0."""
        if call < self.pretrain_steps:
            return self.players
        if DISCRIMINATOR not in self.players:
            return (CLASSIFIER,)
        steps = {
            DISCRIMINATOR: self.discriminator_steps,
            TEACHER: self.teacher_steps,
            CLASSIFIER: self.classifier_steps,
        }
        turns = [player for player, count in steps.items() if player in self.players for _ in range(count)]
        return (turns[(call - self.pretrain_steps) % len(turns)],)

    def gumbel(self, call: int) -> float:
        """τ at that call: start · (end ÷ start)^(moves of the game so far ÷ gumbel_steps), then end."""
        part = min(max(call - self.pretrain_steps, 0) / self.gumbel_steps, 1.0)
        return float(self.gumbel_start * (self.gumbel_end / self.gumbel_start) ** part)
