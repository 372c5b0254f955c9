"""Sharding is a partition whatever the labels, and every data set arrives as the bytes that were stored."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from gannet.node.data.config import DataConfig
from gannet.node.data.datasets import load_shard, load_split
from gannet.node.data.sharding import partition

LABELS = st.lists(st.integers(0, 9), min_size=1, max_size=200).map(np.array)


@given(LABELS, st.integers(1, 40), st.integers(0, 2**32))
def test_iid_shares_are_a_balanced_partition(labels: np.ndarray, world: int, seed: int) -> None:
    if world > len(labels):
        with pytest.raises(ValueError, match="without data"):
            partition(labels, world, "iid", None, seed)
        return
    shares = partition(labels, world, "iid", None, seed)
    assert len(shares) == world
    assert sorted(np.concatenate(shares)) == list(range(len(labels)))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(LABELS, st.integers(1, 20), st.floats(0.01, 100), st.integers(0, 2**32))
def test_dirichlet_shares_are_a_partition_or_an_error(
    labels: np.ndarray, world: int, alpha: float, seed: int
) -> None:
    try:
        shares = partition(labels, world, "dirichlet", alpha, seed)
    except ValueError as error:
        assert "without data" in str(error)
        return
    assert len(shares) == world and min(map(len, shares)) > 0
    assert sorted(np.concatenate(shares)) == list(range(len(labels)))
    again = partition(labels, world, "dirichlet", alpha, seed)
    assert all(np.array_equal(one, other) for one, other in zip(shares, again, strict=True))


def label_shares(alpha: float) -> np.ndarray:
    """(world, label) fractions of each label's samples, over a large balanced set."""
    labels = np.repeat(np.arange(10), 500)
    shares = partition(labels, 8, "dirichlet", alpha, seed=5)
    return np.array([np.bincount(labels[share], minlength=10) for share in shares]) / 500


def test_the_spread_of_shares_is_that_of_a_dirichlet_variable() -> None:
    """Var of one coordinate of Dirichlet(alpha, ..., alpha) in n dimensions: (n-1) / (n^2 (n alpha + 1))."""
    for alpha in (0.3, 3.0, 300.0):
        variance = label_shares(alpha).var(axis=0).mean()
        assert variance == pytest.approx((8 - 1) / (8**2 * (8 * alpha + 1)), rel=0.5, abs=1e-5)


def test_seed_and_world_decide_the_partition() -> None:
    labels = np.arange(100) % 10
    one, other = (partition(labels, 4, "iid", None, seed) for seed in (1, 2))
    assert not np.array_equal(one[0], other[0])


def test_the_embedded_images_are_fashion_mnist_balanced_and_shared_out_once() -> None:
    train, test = load_split(DataConfig()), load_split(DataConfig(), train=False)
    assert train.images.shape == (5000, 1, 28, 28) and train.images.dtype == torch.uint8
    assert test.images.shape == (1000, 1, 28, 28)
    assert train.labels.bincount().tolist() == [500] * 10
    shards = [load_shard(DataConfig(), rank, 3, seed=1) for rank in range(3)]
    assert sorted(map(len, shards)) == [1666, 1667, 1667]
    pixels = sorted(image.numpy().tobytes() for shard in shards for image in shard.images)
    assert pixels == sorted(image.numpy().tobytes() for image in train.images)


def test_a_shard_keeps_its_own_images_only() -> None:
    shard = load_shard(DataConfig(), 0, 100, seed=1)
    assert shard.images.untyped_storage().nbytes() == 50 * 28 * 28


def test_labels_stay_with_their_images() -> None:
    whole = load_split(DataConfig())
    label_of = {image.numpy().tobytes(): int(label) for image, label in zip(whole.images, whole.labels, strict=True)}
    shard = load_shard(DataConfig(sharding="dirichlet", alpha=0.5), 1, 4, seed=3)
    assert all(label_of[i.numpy().tobytes()] == n for i, n in zip(shard.images, shard.labels.tolist(), strict=True))


def test_a_limited_split_is_spread_evenly_over_it() -> None:
    assert torch.equal(load_split(DataConfig(), limit=100).images, load_split(DataConfig()).images[::50])
    assert len(load_split(DataConfig(), limit=10**6)) == 5000


def test_a_rank_outside_the_world_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 to 3"):
        load_shard(DataConfig(), 4, 4, seed=0)


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def digits() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "train-images-idx3": random.integers(0, 256, (30, 28, 28), np.uint8),
        "train-labels-idx1": random.integers(0, 10, 30, np.uint8),
        "t10k-images-idx3": random.integers(0, 256, (7, 28, 28), np.uint8),
        "t10k-labels-idx1": random.integers(0, 10, 7, np.uint8),
    }


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_idx_files_as_published_and_as_torchvision_keeps_them(
    tmp_path: Path, digits: dict[str, np.ndarray], name: Any, folder: str, compressed: bool
) -> None:
    where = tmp_path if compressed else tmp_path / folder / "raw"
    where.mkdir(parents=True, exist_ok=True)
    for kind, values in digits.items():
        content = idx(values)
        if compressed:
            (where / f"{kind}-ubyte.gz").write_bytes(gzip.compress(content))
        else:
            (where / f"{kind}-ubyte").write_bytes(content)
    config = DataConfig(name=name, root=str(tmp_path))
    for train, split in ((True, "train"), (False, "t10k")):
        loaded = load_split(config, train=train)
        assert np.array_equal(loaded.images[:, 0].numpy(), digits[f"{split}-images-idx3"])
        assert np.array_equal(loaded.labels.numpy(), digits[f"{split}-labels-idx1"])


def test_image_folders_are_read_scaled_and_cropped(tmp_path: Path) -> None:
    for label, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        (tmp_path / label).mkdir()
        for number in range(3):
            Image.new("RGB", (64, 48), colour).save(tmp_path / label / f"{number}.png")
    config = DataConfig(name="image-folder", root=str(tmp_path), image_size=16)
    shard = load_shard(config, 1, 2, seed=0)
    assert shard.images.shape == (3, 3, 16, 16)
    for image, label in zip(shard.images, shard.labels.tolist(), strict=True):
        assert image.float().mean((1, 2)).tolist() == [[0, 0, 255], [255, 0, 0]][label]


def test_images_are_scaled_to_the_size_asked_for() -> None:
    loaded = load_split(DataConfig(image_size=32), limit=20)
    plain = load_split(DataConfig(), limit=20)
    assert loaded.images.shape == (20, 1, 32, 32)
    assert loaded.images.float().mean().item() == pytest.approx(plain.images.float().mean().item(), rel=0.02)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "image-folder"])
def test_a_missing_data_set_is_an_error_with_the_fix_and_no_download(tmp_path: Path, name: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"data\.root"):
        load_split(DataConfig(name=name, root=str(tmp_path)))
    with pytest.raises(FileNotFoundError, match=r"data\.root: no folder"):
        load_split(DataConfig(name=name, root=str(tmp_path / "absent")))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "imagenet"}, "'fashion-mnist-mini', 'fashion-mnist', 'mnist', 'cifar10' or 'image-folder'"),
        ({"name": "mnist"}, "mnist needs root"),
        ({"root": "/data"}, "leave out root"),
        ({"sharding": "dirichlet"}, "needs alpha"),
        ({"alpha": 1.0}, "belongs to sharding: dirichlet"),
        ({"sharding": "dirichlet", "alpha": 0}, "greater than 0"),
        ({"image_size": 30}, "multiple of 4"),
        ({"folder": "x"}, "unknown folder; allowed: name, root"),
    ],
)
def test_wrong_data_settings_say_what_is_allowed(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate(values)
