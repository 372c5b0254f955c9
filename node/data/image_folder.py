"""Data set `image-folder`: <root>/<class>/…/<image>. What is in it, read before training and told by name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gannet.node.data.config import DataConfig
from gannet.node.data.pixels import UnreadableImage, read_pixels

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".avif", ".bmp", ".dib", ".tif", ".tiff",
    ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".qoi",
)  # fmt: skip
_NARROW = 1 / 8  # of a format's range: 12 bits in 16 use a sixteenth, and nearly all of it is one grey
_NAMED = 5


@dataclass(frozen=True)
class ImageFolder:
    """The files of a folder, sorted by class and path; `labels`: the number of each one's class in sorted order.

    `empty`: classes without an image, which keep their numbers. `others`: how many files that are no images there
    are, by suffix, and images that are in no class folder.
    """

    root: Path
    files: tuple[Path, ...]
    labels: NDArray[np.int64]
    empty: tuple[str, ...]
    others: Counter[str]


def list_folder(root: Path) -> ImageFolder:
    """The images below `root`. Raises FileNotFoundError if there are none."""
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not _hidden(entry.name))
    files: list[Path] = []
    labels: list[int] = []
    empty: list[str] = []
    loose = [path for path in root.iterdir() if path.is_file() and not _hidden(path.name)]
    others = Counter(f"{path.suffix} in no class folder" if _is_image(path) else path.suffix for path in loose)
    for label, folder in enumerate(folders):
        found = list(_below(folder))
        special = {path for path in found if path.exists() and not path.is_file()}
        images = [path for path in found if _is_image(path) and path not in special]
        others.update(path.suffix for path in found if not _is_image(path) and path not in special)
        others.update({"that are no files but pipes, sockets or devices": len(special)} if special else {})
        files += images
        labels += [label] * len(images)
        if not images:
            empty.append(folder.name)
    if not files:
        told = f"; it has {_counted(others)}" if others else ""
        raise FileNotFoundError(
            f"data.root: no images in the class folders of {root}{told}; image-folder needs root/<class>/<image>, "
            f"files that end in {', '.join(SUFFIXES)}"
        )
    return ImageFolder(root, tuple(files), np.asarray(labels, dtype=np.int64), tuple(empty), others)


def read_image(path: Path, config: DataConfig) -> Tensor:
    """One image, uint8 (3, size, size): the shorter side scaled to size, then cropped to the centre."""
    from torchvision.transforms.v2 import functional as transform

    size = config.image_shape[1]
    image = transform.pil_to_tensor(read_pixels(path, config.value_range).image)
    image = transform.resize(image, [size], antialias=True)
    cropped: Tensor = transform.center_crop(image, [size, size])
    return cropped


def read_images(
    folder: ImageFolder, index: NDArray[np.int64], config: DataConfig
) -> tuple[Tensor, NDArray[np.int64]]:
    """The images of these files, uint8 (n, 3, size, size), and their labels.

    A file that cannot be read is left out with `unreadable: skip`, else a ValueError that names it.
    """
    channels, size, _ = config.image_shape
    images = torch.empty(len(index), channels, size, size, dtype=torch.uint8)
    read: list[int] = []
    for number in index:
        try:
            images[len(read)] = read_image(folder.files[number], config)
        except UnreadableImage as error:
            if config.unreadable == "skip":
                continue
            raise ValueError(f"data.root: {folder.files[number]}: {error}") from error
        read.append(int(number))
    return images[: len(read)], folder.labels[read]


@dataclass(frozen=True)
class Survey:
    """What reading every file of a folder found. `readable`: a bool for each; `unreadable`: path and reason."""

    readable: NDArray[np.bool_]
    unreadable: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def survey(folder: ImageFolder, config: DataConfig) -> Survey:
    """Read every file once. Raises ValueError with all that stands against training on them."""
    readable = np.ones(len(folder.files), dtype=np.bool_)
    unreadable: list[tuple[str, str]] = []
    deep: list[tuple[float, float, float | None]] = []
    for number, path in enumerate(folder.files):
        try:
            found = read_pixels(path, config.value_range)
        except UnreadableImage as error:
            readable[number] = False
            unreadable.append((str(path.relative_to(folder.root)), str(error)))
        else:
            deep += [found.deep] if found.deep is not None else []
    listed = "; ".join(f"{path}: {why}" for path, why in unreadable[:_NAMED])
    listed += "; …" if len(unreadable) > _NAMED else ""
    if unreadable and (config.unreadable == "error" or not readable.any()):
        raise ValueError(
            f"data.root: {len(unreadable):,} of {len(folder.files):,} files in {folder.root} cannot be read "
            f"({listed}): repair or remove them"
            + (", or leave them out with data.unreadable: skip" if config.unreadable == "error" else "")
        )
    _check_range(deep, config)
    notes = [f"{len(unreadable):,} of {len(folder.files):,} files cannot be read and are left out: {listed}"]
    notes = notes if unreadable else []
    if folder.empty:
        notes.append(f"class folders without an image: {', '.join(folder.empty)}")
    if folder.others:
        notes.append(f"not read: {_counted(folder.others)}")
    return Survey(readable, tuple(unreadable), tuple(notes))


def _check_range(deep: list[tuple[float, float, float | None]], config: DataConfig) -> None:
    if config.value_range is not None:
        if not deep:
            raise ValueError("data.value_range: no file has grey of more than 8 bits, which it is for: leave it out")
        return
    least, greatest = min((low for low, *_ in deep), default=0), max((high for _, high, _ in deep), default=0)
    most = max((most for *_, most in deep if most is not None), default=0)
    if greatest - least < _NARROW * most:
        raise ValueError(
            f"data.root: the grey images of more than 8 bits have values from {least:g} to {greatest:g} of {most:g}, "
            f"nearly one grey: set data.value_range: [{least:g}, {greatest:g}] to spread these, or [0, {most:g}] if "
            "they are meant to be so"
        )


def _hidden(name: str) -> bool:
    """Whether a program left it there: .DS_Store, .ipynb_checkpoints, __MACOSX, Thumbs.db."""
    return name.startswith((".", "__MACOSX")) or name in ("Thumbs.db", "desktop.ini")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in the order of torchvision's ImageFolder."""
    for root, _, names in sorted(os.walk(folder, followlinks=True)):
        for name in sorted(names):
            if not _hidden(name):
                yield Path(root, name)


def _counted(others: Counter[str]) -> str:
    return ", ".join(f"{count:,} {suffix or 'without a suffix'}" for suffix, count in sorted(others.items()))
