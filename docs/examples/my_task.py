"""Three players on images: an encoder and a decoder that remove noise, and a critic who knows what images look like.

The encoder and the decoder share a loss, the mean squared error and how unreal the critic finds what they made. The
critic has a hinge loss. Train it with `gannet compare docs/examples/my_task.yaml`.
"""

import torch
from torch import Tensor, nn

from gannet import Batch, Evaluation, Settings, Task


class Choices(Settings):
    """What a spec may give as `settings`."""

    width: int = 48
    noise: float = 0.8
    realism: float = 0.01


class Denoise(Task):
    """Noisy images in, clean images out."""

    Settings = Choices
    score_name = "squared error of a pixel"

    def networks(self) -> dict[str, nn.Module]:
        pixels = self.context.image_shape[0] * self.context.image_shape[1] * self.context.image_shape[2]
        width = self.settings.width
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.BatchNorm1d(width), nn.ReLU())
        self.decoder = nn.Sequential(nn.Linear(width, pixels), nn.Tanh())
        self.critic = nn.Sequential(nn.Linear(pixels, width), nn.LeakyReLU(0.1), nn.Linear(width, 1))
        return {"encoder": self.encoder, "decoder": self.decoder, "critic": self.critic}

    def clean(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images + self.settings.noise * self.noise(*images.shape)))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        real = batch.images.flatten(1)
        made = self.clean(batch.images)
        rebuild = (made - real).square().mean() - self.settings.realism * self.critic(made).mean()
        judge = (1 - self.critic(real)).relu().mean() + (1 + self.critic(made.detach())).relu().mean()
        return {"encoder": rebuild, "decoder": rebuild, "critic": judge}

    def measure(self) -> Evaluation:
        images = self.test_data(limit=500).images
        made = self.clean(images)
        error = (made - images.flatten(1)).square().mean().item()
        return Evaluation(error, {"worst": (made - images.flatten(1)).abs().max().item()}, made.view_as(images).cpu())

    def sample(self, n: int) -> Tensor:
        return torch.tanh(self.decoder(self.noise(n, self.settings.width).relu())).view(n, *self.context.image_shape)
