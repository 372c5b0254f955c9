"""The `score:` part of a spec: which snapshots, by which scores, on how many images, on which device."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from gannet.node.tasks.config import Settings
from gannet.scores.names import MetricName

FeatureName = Literal["auto", "fashionnet", "inception", "efficientnet-lite0"]


class ScoreSpec(Settings):
    """What to score, after training: `points` snapshots a run, each on `samples` generated images.

    The score that decides is the Fréchet distance; the others are reported next to it.
    """

    samples: Annotated[int, Field(ge=100, le=50_000)] = 1000
    points: Annotated[int, Field(ge=1)] = 12
    features: FeatureName = "auto"
    metrics: Annotated[tuple[MetricName, ...] | None, Field(description="unset: the customary ones")] = None
    node_models: Annotated[
        Literal["none", "last", "all"],
        Field(description="the snapshots at which each node's own model is scored too, not only their mean"),
    ] = "none"
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, value: tuple[MetricName, ...] | None) -> tuple[MetricName, ...] | None:
        if value is not None and len(set(value)) != len(value):
            raise ValueError("a metric is listed twice: list each once")
        return value
