"""Data sets as uint8 tensors: the embedded Fashion-MNIST subset, torchvision's from a given root, and .npz files.

Nothing is downloaded unless the configuration asks for it, and a node keeps only its own shard. The embedded set is
checked against its SHA-256; torchvision checks downloads, and CIFAR-10's files whenever it reads them, against their
MD5. `fingerprint` identifies the data of a run for all of them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gannet.node.data.composed import compose
from gannet.node.data.config import DataConfig
from gannet.node.data.image_folder import ImageFolder, list_folder, read_images, survey
from gannet.node.data.shard import Shard
from gannet.node.data.sharding import partition
from gannet.node.regular import check_regular

EMBEDDED_SHA256 = "1064eff4cef408fe773c6040772d7cb7c114c2d2b60accb705d268cbecb8d44e"
_UNREADABLE_NAMED = 100
IDX_NAMES = {True: "train", False: "t10k"}


def load_shard(config: DataConfig, rank: int, world: int, seed: int) -> Shard:
    """The training images of node `rank`; the shards of one (config, world, seed) are a partition."""
    if not 0 <= rank < world:
        raise ValueError(f"rank must be in 0 to {world - 1}, got {rank}")
    source = _source(config, train=True)
    shares = _shares(source.labels, config, world, seed)
    return _composed(_select(source, shares[rank], config), config, seed)


def load_split(config: DataConfig, train: bool = True, limit: int | None = None) -> Shard:
    """A whole split, or `limit` of its images, evenly spaced."""
    source = _source(config, train)
    total = len(source.labels)
    count = total if limit is None else min(limit, total)
    return _composed(_select(source, np.arange(count, dtype=np.int64) * total // count, config), config, seed=0)


def _composed(shard: Shard, config: DataConfig, seed: int) -> Shard:
    """The shard, or canvases of its images if the configuration asks for them."""
    if config.compose is None:
        return shard
    return compose(shard, config.compose, seed)


@dataclass(frozen=True)
class Inspected:
    """Training data as read once, before training. `facts`: their fingerprint, and notes that a user should read.

    `labels`: of every image; `readable`: whether it can be read, which only files of an image folder may not be.
    """

    facts: dict[str, Any]
    labels: NDArray[np.int64]
    readable: NDArray[np.bool_]


def inspect(config: DataConfig) -> Inspected:
    """Read all training images. Raises ValueError or FileNotFoundError for what cannot be trained on.

    facts: number, labels and identity of the images: a SHA-256 of their bytes and labels in order. It is that of the
    images before scaling, independent of the files' format; for an image folder, that of its files' names and bytes.
    """
    source = _source(config, train=True)
    digest = hashlib.sha256()
    readable = np.ones(len(source.labels), dtype=np.bool_)
    facts: dict[str, Any] = {}
    if isinstance(source.images, np.ndarray):
        digest.update(f"uint8 {source.images.shape}".encode())
        digest.update(source.images.tobytes())
    else:
        folder = source.images
        found = survey(folder, config)
        readable = found.readable
        if found.unreadable:
            facts = {"left_out": len(found.unreadable), "unreadable": dict(found.unreadable[:_UNREADABLE_NAMED])}
        if found.notes:
            facts |= {"notes": list(found.notes)}
        for path in sorted(folder.files):
            name = str(path.relative_to(folder.root))
            digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    digest.update(source.labels.astype("<i8").tobytes())
    known = {"name": config.name, "images": int(readable.sum()), "labels": _counted(source.labels[readable])}
    return Inspected({**known, "sha256": digest.hexdigest(), **facts}, source.labels, readable)


def fingerprint(config: DataConfig) -> dict[str, Any]:
    """The `facts` of `inspect`: runs with equal ones saw the same images and labels."""
    return inspect(config).facts


def labels_by_node(data: Inspected, config: DataConfig, world: int, seed: int) -> list[dict[str, int]]:
    """How many readable images of each label the nodes' shards have. Raises ValueError if one has too few."""
    shares = _shares(data.labels, config, world, seed)
    held = [data.labels[share[data.readable[share]]] for share in shares]
    least = config.min_per_node or 1
    if short := [rank for rank, labels in enumerate(held) if len(labels) < least]:
        raise ValueError(
            f"data: of the images of node {short[0]}, {len(held[short[0]])} can be read, and it needs {least}: "
            "repair the files, or use fewer nodes"
        )
    return [_counted(labels) for labels in held]


def _shares(labels: NDArray[np.int64], config: DataConfig, world: int, seed: int) -> list[NDArray[np.int64]]:
    return partition(labels, world, config.sharding, config.alpha, seed, config.classes_per_node, config.min_per_node)


def _counted(labels: NDArray[np.int64]) -> dict[str, int]:
    found, counts = np.unique(labels, return_counts=True)
    return {str(label): int(count) for label, count in zip(found, counts, strict=True)}


@dataclass(frozen=True)
class _Source:
    """A data set before selection: uint8 (n, H, W[, C]), or a folder whose files stay on disk."""

    images: NDArray[np.uint8] | ImageFolder
    labels: NDArray[np.int64]


def _select(source: _Source, index: NDArray[np.int64], config: DataConfig) -> Shard:
    size = config.image_shape[1]
    if isinstance(source.images, np.ndarray):
        chosen = torch.from_numpy(source.images[index])
        images = chosen.unsqueeze(1) if chosen.dim() == 3 else chosen.permute(0, 3, 1, 2)
        images = _resize(images.contiguous(), size)
    else:
        images, labels = read_images(source.images, index, config)
        return Shard(images, torch.from_numpy(labels))
    return Shard(images, torch.from_numpy(source.labels[index]))


def _source(config: DataConfig, train: bool) -> _Source:
    if config.name == "fashion-mnist-mini":
        return _embedded(train)
    root = Path(config.root or "").expanduser()
    if config.from_npz:
        return _npz(config, root, train)
    if not root.is_dir() and not config.download:
        raise FileNotFoundError(f"data.root: no folder {root}; {config.name} is expected there")
    if config.name == "image-folder":
        if not train:
            raise ValueError("data.name: image-folder has only training images, no test split")
        folder = list_folder(root)
        return _Source(folder, folder.labels)
    if config.name in ("mnist", "fashion-mnist") and _idx_path(root, train, "images-idx3").is_file():
        return _idx(root, train)
    return _torchvision(config, root, train)


@cache
def _embedded(train: bool) -> _Source:
    """5,000 training or 1,000 test images (4 MB); cached, because many nodes may share a process."""
    split = "train" if train else "test"
    path = files("gannet.node.data") / "assets" / "fashion_mnist_mini.npz"
    content = path.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != EMBEDDED_SHA256:
        raise ValueError(f"{path} is damaged: its SHA-256 is {found}; reinstall gannet-testbed")
    with np.load(io.BytesIO(content)) as arrays:
        return _Source(arrays[f"{split}_images"], arrays[f"{split}_labels"].astype(np.int64))


def _npz(config: DataConfig, path: Path, train: bool) -> _Source:
    """One split of an .npz file, checked against the shape of the data set's images."""
    split, shape = "train" if train else "test", (32, 32, 3) if config.name == "cifar10" else (28, 28)
    if not path.is_file():
        raise FileNotFoundError(f"data.root: no file {path}; {config.name} was to be read from it")
    try:
        with np.load(path) as arrays:
            images, labels = (np.asarray(arrays[f"{split}_{what}"]) for what in ("images", "labels"))
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"data.root: {path} is not a data set ({error}); it must be a file of numpy.savez with train_images, "
            "train_labels, test_images and test_labels"
        ) from error
    if images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
        raise ValueError(
            f"data.root: {split}_images of {path} are {images.dtype} {images.shape}, but {config.name} is "
            f"uint8 (n, {', '.join(map(str, shape))})"
        )
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"data.root: {split}_labels of {path} are {labels.dtype} {labels.shape}: want one "
            f"integer for each of {len(images)} images"
        )
    return _Source(images, labels.astype(np.int64))


def _idx_path(root: Path, train: bool, kind: str) -> Path:
    return root / f"{IDX_NAMES[train]}-{kind}-ubyte.gz"


def _idx(root: Path, train: bool) -> _Source:
    """The compressed idx files as published, and as Debian's dataset-fashion-mnist installs them."""

    def read(kind: str, header_bytes: int) -> NDArray[np.uint8]:
        content = gzip.decompress(check_regular(_idx_path(root, train, kind)).read_bytes())
        return np.frombuffer(content, np.uint8, offset=header_bytes)

    return _Source(read("images-idx3", 16).reshape(-1, 28, 28), read("labels-idx1", 8).astype(np.int64))


def _torchvision(config: DataConfig, root: Path, train: bool) -> _Source:
    from torchvision import datasets

    kind = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST, "cifar10": datasets.CIFAR10}
    try:
        found = kind[config.name](str(root), train=train, download=config.download)
    except (RuntimeError, OSError) as error:
        files = f"torchvision's {kind[config.name].__name__} files"
        if config.download:
            raise FileNotFoundError(
                f"data.download: {config.name} could not be downloaded to {root} ({error}); download it on a "
                f"machine with access, and set data.root to the folder with {files}, or to an .npz file with "
                "train_images, train_labels, test_images and test_labels"
            ) from error
        raise FileNotFoundError(
            f"data.root: no {config.name} in {root} ({error}); set root to the folder with {files}, or to an "
            ".npz file, or set data.download: true"
        ) from error
    return _Source(np.asarray(found.data), np.asarray(found.targets, dtype=np.int64))


def _resize(images: Tensor, size: int) -> Tensor:
    """Square uint8 images scaled to a side length of `size` pixels."""
    if images.shape[-1] == size:
        return images
    scaled = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return scaled.round_().clamp_(0, 255).byte()
