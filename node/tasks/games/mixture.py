"""A GAN of points in the plane: 8 Gaussians on a ring, or 25 on a grid. Modes that the generator lost can be counted.

The mixtures, and what counts as found, are VEEGAN's (Srivastava et al., NeurIPS 2017, section 4.1) as PacGAN (Lin et
al., NeurIPS 2018, section 4.1) states them: a sample is of high quality within three standard deviations of its
nearest centre, and a mode is found if a sample of high quality is nearest to it. The loss is the original GAN's,
−log D(G(z)) for the generator (Goodfellow et al. 2014). The networks are smaller than theirs.

The score is the Wasserstein-1 distance between as many samples of each, which sees lost modes and blur alike.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gannet.node.tasks.base import Evaluation, random_stream
from gannet.node.tasks.custom.base import Context, Task
from gannet.node.tasks.games.config import MixtureConfig

QUALITY_DEVIATIONS = 3.0
PICTURE_PIXELS = 128
_TARGET_SEED = 8_25


class Mixture(NamedTuple):
    """Equally likely Gaussians: centres (modes, 2), one deviation for all, and the half width of a picture."""

    centres: Tensor
    deviation: float
    extent: float


def mixture(name: str) -> Mixture:
    """PacGAN's 2D-ring and 2D-grid."""
    if name == "ring-8":
        angles = torch.arange(8) * (2 * torch.pi / 8)
        return Mixture(torch.stack([angles.cos(), angles.sin()], dim=1), 0.01, 1.5)
    line = torch.arange(-4.0, 5.0, 2.0)
    return Mixture(torch.cartesian_prod(line, line), 0.05, 6.0)


def count_modes(samples: Tensor, of: Mixture) -> tuple[int, float]:
    """(modes found, share of samples of high quality) among samples (n, 2)."""
    distance, nearest = torch.cdist(samples.double(), of.centres.double()).min(dim=1)
    good = distance <= QUALITY_DEVIATIONS * of.deviation
    return len(torch.unique(nearest[good])), good.double().mean().item()


def wasserstein(a: Tensor, b: Tensor) -> float:
    """The Wasserstein-1 distance of two sets of as many points (n, 2): the mean distance of the best matching."""
    from scipy.optimize import linear_sum_assignment

    costs = torch.cdist(a.double(), b.double()).numpy()
    rows, columns = linear_sum_assignment(costs)
    return float(costs[rows, columns].mean())


class MixtureTask(Task):
    """See the module. Nothing is read: a node draws its points from its modes."""

    uses_data = False
    score_name = "Wasserstein-1 distance to the mixture"

    def __init__(self, config: MixtureConfig, context: Context) -> None:
        self.config = config
        self.mixture = mixture(config.modes)
        count = len(self.mixture.centres)
        mine = range(count) if config.sharing == "all" else range(context.rank, count, context.world)
        if not mine:
            raise ValueError(
                f"task.sharing: apart gives each node one of {count} modes at least, and there are {context.world} "
                "nodes: use fewer nodes, or sharing: all"
            )
        self._mine = torch.tensor(list(mine))
        super().__init__({}, context)

    def networks(self) -> dict[str, nn.Module]:
        """Two hidden layers each. Both see the plane divided by the mixture's extent."""
        width = self.config.width

        def perceptron(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(
                nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
            )

        self.generator, self.discriminator = perceptron(self.config.latent, 2), perceptron(2, 1)
        return {"generator": self.generator, "discriminator": self.discriminator}

    def minibatch(self) -> Tensor:
        """Points (batch, 2) of this node's modes."""
        return self.to_device(self.draw(self.context.batch, self._random))

    def draw(self, n: int, stream: torch.Generator) -> Tensor:
        """n points (n, 2) of this node's modes, on the CPU."""
        mode = self._mine[torch.randint(len(self._mine), (n,), generator=stream)]
        return self.mixture.centres[mode] + self.mixture.deviation * torch.randn(n, 2, generator=stream)

    def points(self, n: int) -> Tensor:
        """n points of the generator (n, 2)."""
        made: Tensor = self.generator(self.noise(n, self.config.latent))
        return made * self.mixture.extent

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        """−log D(G(z)), and −log D(x) − log(1 − D(G(z)))."""
        fake = self.points(len(batch))
        on_real, on_fake = self._judge(batch), self._judge(fake)
        return {
            "generator": F.softplus(-on_fake).mean(),
            "discriminator": F.softplus(-on_real).mean() + F.softplus(self._judge(fake.detach())).mean(),
        }

    def _judge(self, points: Tensor) -> Tensor:
        scores: Tensor = self.discriminator(points / self.mixture.extent)
        return scores

    def measure(self) -> Evaluation:
        """The distance to the mixture; modes found and lost, share of high quality; a scatter picture."""
        n = self.config.samples
        made = self.points(n).cpu()
        target = self._all(n)
        modes, quality = count_modes(made, self.mixture)
        more = {
            "modes_found": float(modes),
            "modes_lost": float(len(self.mixture.centres) - modes),
            "high_quality_percent": 100 * quality,
        }
        return Evaluation(wasserstein(made, target), more, self.picture(made).unsqueeze(0))

    def _all(self, n: int) -> Tensor:
        """n points of the whole mixture, the same for every caller."""
        stream = random_stream(_TARGET_SEED)
        mode = torch.arange(n) % len(self.mixture.centres)
        return self.mixture.centres[mode] + self.mixture.deviation * torch.randn(n, 2, generator=stream)

    def picture(self, made: Tensor) -> Tensor:
        """A scatter plot (3, pixels, pixels) in [-1, 1]: the centres in grey, the generator's points in dark blue."""
        image = torch.ones(3, PICTURE_PIXELS, PICTURE_PIXELS)
        for points, size, colour in ((self.mixture.centres, 2, (0.3, 0.3, 0.3)), (made, 0, (-1.0, -0.6, 0.4))):
            inside = points[points.abs().amax(dim=1) < self.mixture.extent]
            place = ((inside / self.mixture.extent + 1) / 2 * PICTURE_PIXELS).long()
            for right, up in place.tolist():
                row = PICTURE_PIXELS - 1 - up
                rows = slice(max(0, row - size), row + size + 1)
                columns = slice(max(0, right - size), right + size + 1)
                image[:, rows, columns] = torch.tensor(colour).view(3, 1, 1)
        return image

    def sample(self, n: int) -> Tensor:
        """One picture of as many points as a score takes, n times: a point is no image."""
        return self.picture(self.points(self.config.samples).cpu()).expand(n, -1, -1, -1)
