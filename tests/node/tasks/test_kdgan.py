"""The KDGAN task against NumPy, finite differences and its own promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from gannet.node.data.composed import compose
from gannet.node.data.config import DataConfig
from gannet.node.data.datasets import load_shard
from gannet.node.data.shard import Shard
from gannet.node.tasks import build_sampler, build_task
from gannet.node.tasks.base import Evaluates, random_stream
from gannet.node.tasks.kdgan.augment import augment
from gannet.node.tasks.kdgan.config import KdganConfig
from gannet.node.tasks.kdgan.labels import choose_labelled, label_vectors
from gannet.node.tasks.kdgan.scores import mean_average_precision, precision_at
from gannet.node.tasks.kdgan.task import STREAMS, KdganTask
from tests.reference.kdgan_reference import kdgan
from tests.support.kdgan import SHAPE, shard, small_config, small_task

METHODS = ["kdgan", "classifier", "mimic", "distn", "nagan"]


def descend(task: KdganTask, x: Tensor, moves: int, rate: float = 0.1) -> Tensor:
    for _ in range(moves):
        x = x.clone() - rate * task.gradient(x).field
    return x


@pytest.mark.parametrize("adversarial", ["minimax", "non-saturating"])
def test_trajectory_is_that_of_the_numpy_reference(adversarial: str) -> None:
    """20 moves: pretraining, four rounds in turn and one move more, τ falling."""
    steps: dict[str, Any] = {"discriminator_steps": 2, "teacher_steps": 1, "classifier_steps": 1}
    steps["adversarial"] = adversarial
    task = small_task(teacher="mlp", augment="never", alpha=0.3, beta=0.7, gamma=0.2, labels=None, **steps)
    start = task.initial()
    reached = descend(task, start, 20)

    held, batch, classes = shard(), 7, 4
    draw, noise = random_stream(5, 0, STREAMS["images"]), random_stream(5, 0, STREAMS["gumbel"])

    def minibatch() -> tuple[np.ndarray, np.ndarray]:
        index = torch.randint(len(held), (batch,), generator=draw).numpy()
        return held.images.numpy()[index].reshape(batch, -1) / 255.0, np.eye(classes)[held.labels.numpy()[index]]

    def uniform() -> np.ndarray:
        return torch.rand(batch, classes, generator=noise).numpy().astype(np.float64)

    turns = ["discriminator", "discriminator", "teacher", "classifier"]
    moves = [("pretrain", 1.0)] * 3
    moves += [(turns[k % 4], 0.1 ** min(k / 10, 1.0)) for k in range(17)]
    players: dict[str, list[np.ndarray]] = {name: [] for name in task.players}
    for spec in task.layout:
        players[spec.player].append(start[spec.place].numpy().astype(np.float64).reshape(spec.shape))
    ended = kdgan(
        players, minibatch, uniform, moves, alpha=0.3, beta=0.7, gamma=0.2, rate=0.1, minimax=adversarial == "minimax"
    )
    expected = np.concatenate([w.ravel() for name in task.players for w in ended[name]])
    np.testing.assert_allclose(reached.numpy(), expected, rtol=0, atol=2e-5)
    assert np.abs(expected - start.numpy()).max() > 0.05


@pytest.mark.parametrize("method", METHODS)
def test_field_is_the_derivative_of_the_loss_it_reports(method: Any) -> None:
    """By finite differences of the reported losses, with the same random numbers, at every kind of move."""
    task = small_task(method=method, dropout=0.3, samples=3)
    x = descend(task, task.initial(), 2)
    for _ in range(9):
        before = task.state()
        gradient = task.gradient(x)
        after = task.state()
        for player in gradient.active:
            where = task.players[player]
            way = torch.zeros_like(x)
            way[where] = gradient.field[where] / gradient.field[where].norm()
            found = []
            for sign in (1, -1):
                task.load_state(before)
                found.append(task.gradient(x + sign * 1e-2 * way).losses[player])
            assert (found[0] - found[1]) / 2e-2 == pytest.approx(float(gradient.field[where].norm()), rel=0.03)
        still = torch.ones(task.size, dtype=torch.bool)
        for player in gradient.active:
            still[task.players[player]] = False
        assert not gradient.field[still].any()
        task.load_state(after)
        x = x - 0.1 * gradient.field


def test_a_short_training_learns_and_scores_itself() -> None:
    task = small_task(pretrain_steps=0, method="classifier", augment="never", hidden=64)
    assert isinstance(task, Evaluates)
    start = task.initial()
    first, last = task.evaluate(start), task.evaluate(descend(task, start, 400))
    assert last.score < 20 < first.score
    assert last.more["accuracy"] == pytest.approx(100 - last.score)


@pytest.mark.parametrize("method", METHODS)
def test_state_continues_bit_by_bit(method: Any) -> None:
    task, again = small_task(method=method, dropout=0.5), small_task(method=method, dropout=0.5)
    x = descend(task, task.initial(), 7)
    again.load_state(task.state())
    for _ in range(6):
        one, two = task.gradient(x), again.gradient(x)
        assert one.active == two.active
        assert torch.equal(one.field, two.field)
        x = x - one.field


def test_the_global_random_stream_and_x_are_left_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    task = small_task(dropout=0.5)
    x = task.initial()
    kept = x.clone()
    for _ in range(8):
        task.gradient(x)
    state = task.state()
    task.evaluate(x)
    assert torch.equal(x, kept)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, task.state()[name]) for name, value in state.items())


def test_methods_share_a_players_start_and_the_minibatches() -> None:
    whole = small_task()
    for method in ("classifier", "mimic", "distn", "nagan"):
        part = small_task(method=method)
        for player, where in part.players.items():
            assert torch.equal(part.initial()[where], whole.initial()[whole.players[player]])
    alone, played = small_task(method="classifier"), small_task()
    x, y = whole.initial(), small_task(method="classifier").initial()
    for _ in range(3):
        assert torch.equal(played.gradient(x).field[whole.players["classifier"]], alone.gradient(y).field)


def test_ranks_start_alike_and_draw_apart() -> None:
    one, two = small_task(rank=0, world=2), small_task(rank=1, world=2)
    assert torch.equal(one.initial(), two.initial())
    assert not torch.equal(one.gradient(one.initial()).field, two.gradient(two.initial()).field)


def test_labelled_images_are_as_many_a_class_and_shared_out() -> None:
    labels = torch.arange(1000) % 10
    chosen = choose_labelled(labels, 100, seed=3)
    assert labels[chosen].bincount().tolist() == [10] * 10
    assert chosen.tolist() == choose_labelled(labels, 100, seed=3).tolist()
    assert chosen.tolist() != choose_labelled(labels, 100, seed=4).tolist()
    uneven = torch.tensor([0] * 50 + [1] * 3)
    assert uneven[choose_labelled(uneven, 20, seed=1)].bincount().tolist() == [17, 3]
    with pytest.raises(ValueError, match=r"task\.labels: this node's part is 54 .* its shard has 53"):
        choose_labelled(uneven, 54, seed=1)


def test_augmentation_agrees_with_torchvision() -> None:
    image = load_shard(DataConfig(), 0, 1, 1).images[:1].float() / 255
    image = F.pad(image, (14, 14, 14, 14))  # a wide black border, so that outside is black for both
    for case in range(4):
        draw = torch.rand(1, 4, generator=random_stream(case)).mul(2).sub(1)[0].tolist()
        ours = augment(image, 15.0, 0.1, 0.1, random_stream(case))
        # the grid maps output places to input places, so torchvision gets the inverse
        turned = vision.affine(image, -15.0 * draw[0], [0, 0], 1 + 0.1 * draw[1], [0, 0],
                               interpolation=vision.InterpolationMode.BILINEAR)  # fmt: skip
        side = image.shape[-1]
        moved = ours if draw[2] == draw[3] == 0 else augment_without_shift(image, case)
        assert (moved - turned).abs().mean() < 0.01
        centre = centroid(moved) - centroid(ours)
        assert (centre - torch.tensor([draw[2], draw[3]]) * 0.1 * side).abs().max() < 1.5


def augment_without_shift(image: Tensor, case: int) -> Tensor:
    return augment(image, 15.0, 0.0, 0.1, random_stream(case))


def centroid(image: Tensor) -> Tensor:
    mass = image[0, 0]
    places = torch.arange(len(mass), dtype=torch.float32)
    return torch.stack([(mass.sum(0) * places).sum(), (mass.sum(1) * places).sum()]) / mass.sum()


def test_precision_and_map_are_those_of_plain_loops() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 6, generator=random)
    tags = torch.rand(50, 6, generator=random) < 0.4
    tags[:, 0] |= ~tags.any(1)
    precisions, averages = [], []
    for row, wanted in zip(logits.tolist(), tags.tolist(), strict=True):
        ranked = sorted(range(6), key=lambda k: -row[k])
        precisions.append(sum(wanted[k] for k in ranked[:3]) / 3)
        hits = [place for place, k in enumerate(ranked, 1) if wanted[k]]
        averages.append(sum((found + 1) / place for found, place in enumerate(hits)) / len(hits))
    assert precision_at(logits, tags, 3) == pytest.approx(np.mean(precisions))
    assert mean_average_precision(logits, tags) == pytest.approx(np.mean(averages), abs=1e-6)


def test_composed_canvases_show_what_their_tags_say() -> None:
    """Images of one grey level a class: every quarter of a canvas is black or tells its tag."""
    labels = torch.arange(200) % 10
    plain = Shard(((labels + 1) * 20).view(-1, 1, 1, 1).expand(200, 1, 8, 8).to(torch.uint8), labels)
    made = compose(plain, 3, seed=1)
    sizes = set()
    for image, mask in zip(made.images[:, 0].tolist(), made.labels.tolist(), strict=True):
        corners = [image[r][c] for r in (0, 7) for c in (0, 7)]
        shown = {level // 20 - 1 for level in corners if level}
        assert mask == sum(1 << tag for tag in shown)
        sizes.add(sum(level > 0 for level in corners))
    assert sizes == {1, 2, 3}
    assert torch.equal(made.images, compose(plain, 3, seed=1).images)
    assert not torch.equal(made.images, compose(plain, 3, seed=2).images)


def test_tagging_learns_and_is_scored_by_rank() -> None:
    data = DataConfig(compose=2)
    config = small_config(kind="tagging", classes=10, method="classifier", hidden=64, pretrain_steps=0)
    task = build_task(config, load_shard(data, 0, 1, 1), 0, 1, seed=1, batch=32)
    sampler = build_sampler(config, data)
    assert isinstance(task, KdganTask) and isinstance(sampler, KdganTask)
    start = task.initial()
    before, after = sampler.evaluate(start), sampler.evaluate(descend(task, start, 150, 0.3))
    assert before.more.keys() == {"map", "precision_at_1", "precision_at_3"}
    assert after.more["map"] > before.more["map"] + 15
    assert after.score == pytest.approx(100 - after.more["map"])


def test_colour_and_every_network_give_the_wanted_shapes() -> None:
    shape = (3, 32, 32)
    for kind in ("mlp", "lenet"):
        task = KdganTask(small_config(classifier=kind, teacher=kind), shape, 1, shard=shard(shape=shape), batch=2)
        x = task.initial()
        assert task.gradient(x).field.shape == x.shape
        assert task.logits(x, shard(5, shape=shape).images).shape == (5, 4)


def test_the_papers_classifier_and_teacher_have_the_papers_sizes() -> None:
    task = KdganTask(KdganConfig(name="kdgan"), (1, 28, 28), 1)
    sizes = {player: where.stop - where.start for player, where in task.players.items()}
    mlp = 784 * 800 + 800 + 800 * 800 + 800 + 800 * 10 + 10
    lenet = 25 * 32 + 32 + 25 * 32 * 64 + 64 + 7 * 7 * 64 * 1024 + 1024 + 1024 * 10 + 10
    assert sizes == {"classifier": mlp, "teacher": lenet, "discriminator": lenet}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 1.5}, "less than or equal to 1"),
        ({"gumbel_start": 0.1, "gumbel_end": 1.0}, "gumbel_end 1 is above gumbel_start 0.1: the temperature falls"),
        ({"kind": "tagging", "classes": 63}, "63 tags do not fit in a label; 62 at most"),
        ({"method": "gan"}, "'kdgan', 'classifier', 'mimic', 'distn' or 'nagan'"),
        ({"betta": 2}, "unknown betta \\(did you mean beta\\?\\); allowed: name, method"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_fix(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        KdganConfig(name="kdgan", **settings)


def test_wrong_data_is_refused_with_the_fix() -> None:
    with pytest.raises(ValueError, match="classes is 4, but a label is 9"):
        label_vectors(torch.tensor([1, 9]), 4, tagging=False)
    with pytest.raises(ValueError, match="the data has other labels: sets of 1 to 4 tags"):
        label_vectors(torch.tensor([0, 3]), 4, tagging=True)
    with pytest.raises(ValueError, match="leave node 3 of 4 without any"):
        small_task(rank=3, world=4, labels=3)
    with pytest.raises(RuntimeError, match="without images: it evaluates"):
        KdganTask(small_config(), SHAPE, 1).gradient(torch.zeros(KdganTask(small_config(), SHAPE, 1).size))
    with pytest.raises(ValueError, match="compose: 1 to 4 items"):
        compose(shard(), 5, 1)
