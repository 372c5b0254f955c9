"""The KDGAN task: one move of one player a step, so that any algorithm and codec trains it over any network.

x = [classifier | teacher | discriminator], of which a method that is not KDGAN has those that play. The field holds
each player's gradient of what it descends, which for the discriminator is minus the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn

from gannet.node.data.shard import Shard
from gannet.node.tasks.base import Evaluation, FlatModel, Gradient, fetch, random_stream, stage
from gannet.node.tasks.kdgan.augment import augment
from gannet.node.tasks.kdgan.config import CLASSIFIER, DISCRIMINATOR, TEACHER, KdganConfig, share_of
from gannet.node.tasks.kdgan.labels import choose_labelled, label_vectors
from gannet.node.tasks.kdgan.losses import (
    discriminator_loss,
    distillation,
    fooling_loss,
    gumbel_sample,
    supervised_loss,
    value,
)
from gannet.node.tasks.kdgan.networks import build_network
from gannet.node.tasks.kdgan.scores import scores_of

INITIAL_STREAM = 0
# Own streams, so that methods that draw different noise still see the same minibatches.
STREAMS = {"images": 1, "dropout": 2, "gumbel": 3}
ORDER = (CLASSIFIER, TEACHER, DISCRIMINATOR)
EVALUATION_BATCH = 500


class KdganTask:
    """The players on one shard. See `gannet.node.tasks.base.AnyTask` for the contract.

    shard: this node's training data; None for a task that only evaluates. batch: images a move, drawn with
    replacement from the labelled ones. test: loads what `evaluate` scores on, when it is asked for.
    """

    def __init__(
        self,
        config: KdganConfig,
        image_shape: tuple[int, int, int],
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
        shard: Shard | None = None,
        test: Callable[[], Shard] | None = None,
        batch: int = 10,
        device: torch.device | str = "cpu",
    ) -> None:
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        if min(image_shape[1:]) < 4:
            raise ValueError(f"images of {image_shape[1]} × {image_shape[2]} pixels are too small: 4 a side at least")
        self.config = config
        self.score_name = "100 − MAP, %" if config.kind == "tagging" else "test error, %"
        self.device = torch.device(device)
        with torch.device("meta"):
            self.networks: dict[str, nn.Module] = {
                player: build_network(
                    config.classifier if player == CLASSIFIER else config.teacher,
                    config,
                    image_shape,
                    0.0 if player == CLASSIFIER else config.dropout,
                )
                for player in config.players
            }
        self.model = FlatModel(self.networks, self.device)
        self.layout, self.players, self.buffers = self.model.layout, self.model.players, self.model.buffers
        self.size = self.model.size
        self._test = test
        self._batch, self._seed, self._calls = batch, seed, 0
        self._random = {name: random_stream(seed, rank, stream) for name, stream in STREAMS.items()}
        self._images, self._labels = self._labelled(shard, image_shape, rank, world)

    def _labelled(
        self, shard: Shard | None, shape: tuple[int, int, int], rank: int, world: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """This node's labelled images, uint8 (n, C, H, W), and their label vectors (n, K)."""
        if shard is None:
            return None, None
        if shard.images.dtype != torch.uint8 or tuple(shard.images.shape[1:]) != shape:
            got = f"{shard.images.dtype} {tuple(shard.images.shape)}"
            raise ValueError(f"images: want uint8 (n, {', '.join(map(str, shape))}), got {got}")
        c = self.config
        images, labels = shard.images, shard.labels
        if c.labels is not None:
            count = share_of(c.labels, rank, world)
            if count == 0:
                raise ValueError(f"task.labels: {c.labels} labelled images leave node {rank} of {world} without any")
            chosen = choose_labelled(labels, count, self._seed)
            images, labels = images[chosen], labels[chosen]
        return images, label_vectors(labels, c.classes, c.kind == "tagging")

    def initial(self) -> Tensor:
        """Weights of N(0, 2/fan_in) and 0.1 of that in the last layer, biases 0; shape (size,), on the CPU.

        A player's start is the same in every method.
        """
        x = torch.zeros(self.size)
        random = {player: random_stream(self._seed, INITIAL_STREAM, ORDER.index(player)) for player in self.players}
        for spec in self.layout:
            if len(spec.shape) > 1:
                tensor = x[spec.place].view(spec.shape)
                gain = 0.1 if ".out." in spec.name else 1.0
                tensor.normal_(0.0, gain * (2 / tensor[0].numel()) ** 0.5, generator=random[spec.player])
        return x

    @torch.enable_grad()
    def gradient(self, x: Tensor) -> Gradient:
        """The move's gradient at x on the next minibatch; `KdganConfig.active` says whose move it is."""
        c = self.config
        active, tau = c.active(self._calls), c.gumbel(self._calls)
        pretraining = self._calls < c.pretrain_steps
        self._calls += 1
        self.model.load(x)
        images, labels = self._draw(pretraining)
        if pretraining:
            losses = {player: self._pretrain(player, images, labels) for player in active}
        elif DISCRIMINATOR not in self.players:
            losses = {CLASSIFIER: self._alone(images, labels)}
        else:
            losses = {active[0]: self._play(active[0], images, labels, tau)}
        torch.autograd.backward(list(losses.values()))
        return Gradient(
            field=fetch(self.model.gradients, x.device),
            active=active,
            buffers=None,
            losses={player: loss.item() for player, loss in losses.items()},
        )

    def _pretrain(self, player: str, images: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy; for D, minus the value of the game against labels drawn evenly."""
        logits = self._logits(player, images, True)
        if player != DISCRIMINATOR:
            return supervised_loss(logits, labels)
        even = torch.full_like(labels, 1 / self.config.classes)
        return -value(logits, labels, even, even, self.config.share)

    def _alone(self, images: Tensor, labels: Tensor) -> Tensor:
        """C's loss in the methods without a game; the teacher stays as it was pretrained."""
        c = self.config
        logits = self._logits(CLASSIFIER, images, True)
        if c.method == "classifier":
            return supervised_loss(logits, labels)
        taught = self._logits(TEACHER, images, False)
        if c.method == "mimic":
            return distillation(logits, taught, "l2")
        soft = distillation(logits, taught, "kl", c.temperature)
        return (1 - c.soft_weight) * supervised_loss(logits, labels) + c.soft_weight * soft

    def _play(self, player: str, images: Tensor, labels: Tensor, tau: float) -> Tensor:
        """The loss that this player minimizes in the game; the others are constants."""
        c = self.config
        of = {name: self._logits(name, images, name == player) for name in self.players}
        scores = of[DISCRIMINATOR]
        if player == DISCRIMINATOR:
            taught = self._sample(of[TEACHER], tau) if TEACHER in of else None
            return discriminator_loss(scores, labels, self._sample(of[CLASSIFIER], tau), taught, c.share)
        weight, pull, other = (
            (c.share, c.beta, TEACHER) if player == CLASSIFIER else (1 - c.alpha, c.gamma, CLASSIFIER)
        )
        loss = weight * fooling_loss(scores, self._sample(of[player], tau), c.adversarial)
        if other in of:
            loss = loss + pull * distillation(of[player], of[other], c.distillation, c.temperature)
        return loss

    def _logits(self, player: str, images: Tensor, moves: bool) -> Tensor:
        """Logits of one network: with gradient and dropout if this player moves, else as when deployed."""
        with torch.set_grad_enabled(moves):
            logits: Tensor = self.networks[player](images, self._uniform_like if moves else None)
        return logits

    def _sample(self, logits: Tensor, tau: float) -> Tensor:
        """Gumbel samples (samples, n, K) of the labels that these logits give."""
        u = torch.rand(self.config.samples, *logits.shape, generator=self._random["gumbel"])
        tiny = torch.finfo(torch.float32).tiny
        return gumbel_sample(logits, stage(u.clamp_(tiny, 1 - 2**-24), self.device), tau)

    def _uniform_like(self, tensor: Tensor) -> Tensor:
        return stage(torch.rand(tensor.shape, generator=self._random["dropout"]), self.device)

    def _draw(self, pretraining: bool) -> tuple[Tensor, Tensor]:
        """The next minibatch: images (batch, C, H, W) in [0, 1], augmented if it is time, and label vectors."""
        if self._images is None or self._labels is None:
            raise RuntimeError("this task was built without images: it evaluates, it does not train")
        c, random = self.config, self._random["images"]
        index = torch.randint(len(self._images), (self._batch,), generator=random)
        images = stage(self._images[index], self.device).float().div_(255)
        if c.augment == "always" or (c.augment == "after-pretraining" and not pretraining):
            images = augment(images, c.rotation_degrees, c.shift, c.zoom, random)
        labels = self._labels[index]
        if c.kind == "tagging":  # the true label of one reading is one of the image's tags
            chosen = torch.multinomial(labels, 1, generator=random).squeeze(1)
            labels = nn.functional.one_hot(chosen, c.classes).float()
        return images, stage(labels, self.device)

    @torch.no_grad()
    def logits(self, x: Tensor, images: Tensor, player: str = CLASSIFIER) -> Tensor:
        """A player's logits (n, K), on the CPU, for images uint8 (n, C, H, W); leaves `state` alone."""
        self.model.load(x)
        network = self.networks[player]
        batches = torch.split(images, EVALUATION_BATCH)
        return torch.cat([network(stage(part, self.device).float().div_(255)).cpu() for part in batches])

    def evaluate(self, x: Tensor) -> Evaluation:
        """The classifier on the test split, and the teacher, if it plays."""
        test = self._test_split
        more: dict[str, float] = {}
        for player in (CLASSIFIER, TEACHER):
            if player in self.players:
                prefix = "" if player == CLASSIFIER else f"{player}_"
                scores = scores_of(self.logits(x, test.images, player), test.labels, self.config)
                more |= {prefix + name: percent for name, percent in scores.items()}
        main = "map" if self.config.kind == "tagging" else "accuracy"
        return Evaluation(score=100 - more[main], more=more, images=None)

    @cached_property
    def _test_split(self) -> Shard:
        if self._test is None:
            raise RuntimeError("this task was built without a test split: it trains, it does not evaluate")
        return self._test()

    def generate(self, x: Tensor, n: int, seed: int) -> Tensor:
        """KDGAN makes labels, not images: n grey pixels."""
        return torch.zeros(n, 1, 1, 1)

    def state(self) -> dict[str, Tensor]:
        """The number of moves made, and the position in each random stream."""
        return {"calls": torch.tensor(self._calls), **{name: r.get_state() for name, r in self._random.items()}}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Back to a position that `state` gave."""
        self._calls = int(state["calls"])
        for name, random in self._random.items():
            random.set_state(state[name])
