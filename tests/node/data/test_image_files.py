"""Image files as people have them: deep grey, alpha, orientation, damage. The right pixels come from NumPy alone."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder as TorchvisionFolder

from gannet.node.data.config import DataConfig
from gannet.node.data.datasets import fingerprint, inspect, labels_by_node, load_shard, load_split
from gannet.node.data.image_folder import list_folder
from gannet.node.data.pixels import UnreadableImage, read_pixels

RAMP = np.linspace(0, 65535, 48 * 32).reshape(48, 32).astype(np.uint16)


def grey(path: Path, value_range: Any = None) -> np.ndarray:
    """The one plane of an image that must be grey."""
    found = np.asarray(read_pixels(path, value_range).image)
    assert found.shape[2] == 3 and (found[..., :1] == found).all()
    return found[..., 0].astype(int)


def tiff(values: np.ndarray, sample_format: int, zero_is_white: bool = False, bits: int | None = None) -> bytes:
    """One strip of grey as TIFF 6.0 has it, little-endian."""
    height, width = values.shape
    data = values.tobytes()
    entries = [
        (256, 4, width), (257, 4, height), (258, 3, bits or values.dtype.itemsize * 8), (259, 3, 1),
        (262, 3, 0 if zero_is_white else 1), (273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(data)),
        (339, 3, sample_format),
    ]  # fmt: skip
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(entries)) + table + bytes(4)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm", "jp2"])
def test_16_bit_grey_keeps_its_ramp(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ramp.{suffix}"
    Image.fromarray(RAMP).save(path)
    assert np.abs(grey(path) - RAMP / 257).max() <= 0.5


@pytest.mark.parametrize(
    ("values", "sample_format", "value_range", "zero_is_white", "right"),
    [
        (RAMP, 1, None, False, RAMP / 257),
        (RAMP, 1, None, True, 255 - RAMP / 257),  # as radiographs are
        (RAMP, 1, (1000, 5095), False, np.clip((RAMP.astype(float) - 1000) / 4095, 0, 1) * 255),
        ((RAMP.astype(np.int32) - 32768).astype(np.int16), 2, (-32768, 32767), False, RAMP / 257),
        (RAMP.astype(np.uint32) << 16, 1, (0, 65535 << 16), False, RAMP / 257),
        (RAMP.astype(np.int32) - 40000, 2, "file", False, RAMP / 257),
        ((RAMP / 65535).astype(np.float32), 3, (0, 1), False, RAMP / 257),
        ((RAMP / 1e6 - 7).astype(np.float32), 3, "file", False, RAMP / 257),
    ],
)
def test_deep_tiff_files_are_scaled_by_the_range_that_counts(
    tmp_path: Path, values: np.ndarray, sample_format: int, value_range: Any, zero_is_white: bool, right: np.ndarray
) -> None:
    path = tmp_path / "deep.tif"
    path.write_bytes(tiff(values, sample_format, zero_is_white))
    assert np.abs(grey(path, value_range) - right).max() <= 0.51


def test_12_bits_are_a_range_of_their_own(tmp_path: Path) -> None:
    """Two values in three bytes, the upper bits first (TIFF 6.0, FillOrder 1)."""
    values = np.arange(64).reshape(8, 8) * 65
    pairs = values.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
    content = tiff(packed.astype(np.uint8).reshape(8, 12), 1, bits=12)
    content = content.replace(struct.pack("<HHII", 256, 4, 1, 12), struct.pack("<HHII", 256, 4, 1, 8))
    (tmp_path / "a.tif").write_bytes(content)
    assert np.abs(grey(tmp_path / "a.tif") - values * 255 / 4095).max() <= 0.5


@pytest.mark.parametrize(
    ("values", "sample_format", "said"),
    [
        ((RAMP / 65535).astype(np.float32), 3, r"floats from 0 to 1, .* set data\.value_range"),
        (RAMP.astype(np.int32) - 40000, 2, r"integers from -40000 to 25535, .* set data\.value_range"),
        (np.full((4, 4), np.nan, np.float32), 3, "16 of its pixels are not finite"),
    ],
)
def test_what_has_no_range_is_refused(tmp_path: Path, values: np.ndarray, sample_format: int, said: str) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(values, sample_format))
    with pytest.raises(UnreadableImage, match=said):
        read_pixels(tmp_path / "a.tif")


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return colour * share + 255 * (1 - share)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA", "L", "RGB", "1", "I;16"])
def test_what_is_hidden_is_white(tmp_path: Path, mode: str) -> None:
    """Alpha as a band, in a palette, and as one transparent value."""
    random = np.random.default_rng(3)
    colour, alpha = random.integers(0, 256, (16, 16, 3)), random.integers(0, 256, (16, 16))
    transparency: Any = None
    if mode == "RGBA":
        image = Image.fromarray(np.dstack([colour, alpha]).astype(np.uint8))
    elif mode == "LA":
        image = Image.fromarray(np.dstack([colour[..., 0], alpha]).astype(np.uint8))
        colour = np.repeat(colour[..., :1], 3, axis=2)
    else:
        half = random.integers(0, 2, (16, 16))  # the second of two values is transparent
        alpha, transparency = 255 * (1 - half), 1
        levels = np.array([[10, 20, 30], [200, 100, 50]])
        if mode in ("P", "PA"):
            image = Image.fromarray(half.astype(np.uint8)).convert("L")
            image.putpalette(levels.astype(np.uint8).tobytes())
            colour = levels[half]
        elif mode == "RGB":
            image, transparency = Image.fromarray(levels[half].astype(np.uint8)), tuple(levels[1].tolist())
            colour = levels[half]
        elif mode == "1":
            image, colour = Image.fromarray(half.astype(bool)), np.repeat(255 * half[..., None], 3, axis=2)
        else:
            image = Image.fromarray((half * 77).astype(np.uint16 if mode == "I;16" else np.uint8))
            colour, transparency = np.zeros((16, 16, 3)), 77
    path = tmp_path / "a.png"
    if mode == "PA":
        image = image.convert("PA")
        image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
        path = tmp_path / "a.tif"
        image.save(path)
    else:
        image.save(path, **({} if transparency is None else {"transparency": transparency}))
    found = np.asarray(read_pixels(path).image)
    assert np.abs(found - on_white(colour, alpha)).max() <= 1


TURNS = {
    1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
    5: np.transpose, 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90,
}  # fmt: skip


@pytest.mark.parametrize("orientation", list(TURNS))
@pytest.mark.parametrize(
    ("suffix", "kind"), [("png", "u1"), ("png", "u2"), ("tif", "u1"), ("tif", "u2"), ("jpg", "u1")]
)
def test_images_stand_upright(tmp_path: Path, orientation: int, suffix: str, kind: str) -> None:
    """By the EXIF orientation, whose eight values are turns of an array (JEITA CP-3451)."""
    values = np.kron(np.arange(6).reshape(2, 3) * 50, np.ones((16, 16))).astype(kind)  # even squares, for JPEG
    exif = Image.Exif()
    exif[0x112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(values if kind == "u1" else values * 257).save(path, exif=exif)
    right = TURNS[orientation](values.astype(int))
    found = grey(path)
    assert found.shape == right.shape and np.abs(found - right).max() <= (2 if suffix == "jpg" else 0)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_films_and_stacks_are_refused_and_a_cameras_second_picture_is_not(tmp_path: Path, suffix: str) -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second])
    with pytest.raises(UnreadableImage, match="2 frames or pages"):
        read_pixels(tmp_path / f"a.{suffix}")
    first.save(tmp_path / "photo.jpg", format="MPO", save_all=True, append_images=[second])
    assert np.asarray(read_pixels(tmp_path / "photo.jpg").image)[0, 0].tolist() == [254, 0, 0]
    first.save(tmp_path / f"one.{suffix}")
    assert np.abs(np.asarray(read_pixels(tmp_path / f"one.{suffix}").image)[0, 0] - [255, 0, 0]).max() <= 3


def test_cmyk_is_ink_and_a_kind_without_a_rule_is_refused(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "ink.tif")
    assert np.asarray(read_pixels(tmp_path / "ink.tif").image)[0, 0].tolist() == [255, 0, 0]
    Image.new("LAB", (8, 8)).save(tmp_path / "lab.tif")
    with pytest.raises(UnreadableImage, match="of kind LAB"):
        read_pixels(tmp_path / "lab.tif")


def folder_of(root: Path, **classes: int) -> DataConfig:
    for label, count in classes.items():
        (root / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("RGB", (20, 20), (number, 50, 0)).save(root / label / f"{number}.png")
    return DataConfig(name="image-folder", root=str(root), image_size=16)


def spoil(root: Path) -> None:
    whole = (root / "a" / "1.png").read_bytes()
    (root / "a" / "1.png").write_bytes(whole[: len(whole) // 2])
    (root / "b" / "0.png").write_text("<html>404 not found</html>")


def test_damaged_files_are_all_named_before_training(tmp_path: Path) -> None:
    config = folder_of(tmp_path, a=3, b=3)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=r"2 of 6 files in .*a/1\.png: .*; b/0\.png: not an image.*unreadable: skip"):
        fingerprint(config)
    with pytest.raises(ValueError, match=r"a/1\.png: "):
        load_shard(config, 0, 1, seed=1)


def test_damaged_files_are_left_out_and_counted_on_request(tmp_path: Path) -> None:
    config = folder_of(tmp_path, a=3, b=3).model_copy(update={"unreadable": "skip"})
    spoil(tmp_path)
    found = inspect(config)
    assert found.facts["images"] == 4 and found.facts["labels"] == {"0": 2, "1": 2}
    assert found.facts["left_out"] == 2 and set(found.facts["unreadable"]) == {"a/1.png", "b/0.png"}
    assert "2 of 6 files cannot be read and are left out" in found.facts["notes"][0]
    shards = [load_shard(config, rank, 2, seed=1) for rank in range(2)]
    shown = sorted((int(i[0, 0, 0]), n) for s in shards for i, n in zip(s.images, s.labels.tolist(), strict=True))
    assert shown == [(0, 0), (1, 1), (2, 0), (2, 1)]
    assert [sum(counts.values()) for counts in labels_by_node(found, config, 2, 1)] == [len(s) for s in shards]
    assert len(load_split(config)) == 4
    for path in (tmp_path / "a").iterdir():
        path.write_bytes(b"")
    for path in (tmp_path / "b").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="6 of 6 files"):
        inspect(config)


def test_a_shard_of_damaged_files_only_is_found_before_training(tmp_path: Path) -> None:
    config = folder_of(tmp_path, a=4).model_copy(update={"unreadable": "skip"})
    for number in range(3):
        (tmp_path / "a" / f"{number}.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"of the images of node ., 0 can be read"):
        labels_by_node(inspect(config), config, 4, 1)


def test_the_files_are_those_of_torchvision_in_its_order(tmp_path: Path) -> None:
    folder_of(tmp_path, b=2, a=12)
    (tmp_path / "a" / "deep" / "er").mkdir(parents=True)
    for place in ("a/deep/er/x.JPG", "a/deep/y.bmp", "b/z.tif"):
        Image.new("RGB", (9, 9)).save(tmp_path / place)
    found, other = list_folder(tmp_path), TorchvisionFolder(str(tmp_path))
    assert [(str(path), label) for path, label in zip(found.files, found.labels, strict=True)] == other.samples


def test_empty_class_folders_keep_their_number_and_other_files_are_counted(tmp_path: Path) -> None:
    config = folder_of(tmp_path, a=1, b=0, c=1)
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "a" / "photo.heic").write_bytes(b"?")
    (tmp_path / "a" / ".DS_Store").write_bytes(b"?")
    Image.new("RGB", (9, 9)).save(tmp_path / "loose.png")
    found = inspect(config)
    assert found.facts["labels"] == {"0": 1, "2": 1}
    assert found.facts["notes"] == [
        "class folders without an image: b",
        "not read: 1 .heic, 1 .png in no class folder",
    ]
    (tmp_path / "a" / "0.png").unlink()
    (tmp_path / "c" / "0.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"no images in the class folders of .*1 \.heic"):
        load_split(config)


def test_a_set_that_would_be_nearly_one_grey_is_refused_with_its_range(tmp_path: Path) -> None:
    """12 bits in 16-bit files, as depth cameras and scanners write them."""
    (tmp_path / "a").mkdir()
    for number in range(2):
        Image.fromarray((RAMP >> 4) + np.uint16(number)).save(tmp_path / "a" / f"{number}.png")
    config = DataConfig(name="image-folder", root=str(tmp_path), image_size=16)
    with pytest.raises(ValueError, match=r"from 0 to 4096 of 65535, nearly one grey: .*value_range: \[0, 4096\]"):
        inspect(config)
    spread = config.model_copy(update={"value_range": (0.0, 4096.0)})
    assert "notes" not in inspect(spread).facts and load_split(spread).images.max() > 200
    for number in range(2):
        Image.new("L", (20, 20)).save(tmp_path / "a" / f"{number}.png")
    with pytest.raises(ValueError, match="no file has grey of more than 8 bits"):
        inspect(spread)


def test_16_bit_colour_has_no_other_range(tmp_path: Path) -> None:
    """Pillow reads its upper bytes: right in the whole range, and no other can be had."""
    import zlib

    row = np.array([[0x1234, 0xABCD, 0xFFFF]], ">u2")

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" + row.tobytes()))
    (tmp_path / "a.png").write_bytes(png + chunk(b"IEND", b""))
    assert np.abs(np.asarray(read_pixels(tmp_path / "a.png").image)[0, 0] - row[0] / 257).max() < 1
    with pytest.raises(UnreadableImage, match="16-bit colour"):
        read_pixels(tmp_path / "a.png", (0, 4095))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "mnist", "root": "x", "value_range": "file"}, "value_range belongs to name: image-folder"),
        ({"unreadable": "skip"}, "unreadable belongs to name: image-folder"),
        ({"name": "image-folder", "root": "x", "value_range": [5, 5]}, "the lower first"),
        ({"name": "image-folder", "root": "x", "value_range": [0, float("inf")]}, "a finite number"),
        ({"min_per_node": 3}, "min_per_node belongs to sharding: dirichlet"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DataConfig.model_validate(values)
