"""Settings of the games other than `GameConfig`: one whose field is not monotone, and a GAN of points in the
plane."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gannet.node.settings import TaskSettings


class MintyConfig(TaskSettings):
    """A game that is not monotone but has a Minty solution (node/tasks/games/minty.py); it needs no data."""

    name: Literal["minty"]
    dimension: int = Field(default=4, ge=1, description="of each of the two players")
    curvature: float = Field(default=1.0, gt=0, description="a: size of the part that is not monotone")
    coupling: float = Field(default=1.0, description="b: size of the bilinear part")
    noise: float = Field(default=0.0, ge=0, description="σ of one sample's gradient; a minibatch has σ²/batch")
    start: float = Field(default=4.0, gt=0, description="‖x_0‖; a coordinate beyond 1 is not monotone there")

    @property
    def measured_by(self) -> dict[str, Any]:
        return {"dimension": self.dimension, "curvature": self.curvature, "coupling": self.coupling}


class MixtureConfig(TaskSettings):
    """A GAN whose data are points of a mixture of Gaussians in the plane, so that lost modes can be counted.

    As in VEEGAN (Srivastava et al. 2017) and PacGAN (Lin et al. 2018); the networks are smaller here.
    """

    name: Literal["mixture"]
    modes: Literal["ring-8", "grid-25"] = Field(
        default="ring-8",
        description="ring-8: 8 on the circle of radius 1, deviation 0.01. "
        "grid-25: 25 at (−4 + 2i, −4 + 2j), deviation 0.05.",
    )
    sharing: Literal["all", "apart"] = Field(
        default="all", description="all: every node draws from all modes. apart: mode m belongs to node m mod nodes"
    )
    latent: int = Field(default=2, ge=1, description="length of the generator's noise vector")
    width: int = Field(default=64, ge=1, description="of the two hidden layers of each network")
    samples: int = Field(default=500, ge=100, le=5000, description="points that are generated to score a model")

    @property
    def measured_by(self) -> dict[str, Any]:
        return {"modes": self.modes, "samples": self.samples}
