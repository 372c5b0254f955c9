"""Image files of every kind as RGB bytes, each kind of pixel by its own rule, or an error that says what is wrong.

Pillow's own conversion to RGB clamps pixels of more than 8 bits at 255 and drops alpha, both without a word.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gannet.node.regular import check_regular

ValueRange = tuple[float, float] | Literal["file"] | None

_PLAIN = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"})
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
_TIFF_BITS, _TIFF_ZERO_IS_WHITE, _TIFF_SAMPLE_FORMAT = 258, 262, 339
_UNSIGNED = 1


class UnreadableImage(ValueError):
    """A file that is not one whole image; the message says why, without the file's name."""


class Pixels(NamedTuple):
    """An RGB image; `deep`: the least and greatest value of a file with more than 8 bits a pixel, as it stores them,
    and the largest that its format can store (None where that is open: 32-bit integers and floats)."""

    image: Image.Image
    deep: tuple[float, float, float | None] | None


def read_pixels(path: Path, value_range: ValueRange = None) -> Pixels:
    """The image in a file, upright by its EXIF orientation, alpha laid on white.

    Grey of more than 8 bits becomes bytes by `value_range`: the values that become 0 and 255, or "file" for the
    file's own least and greatest; unset: 0 and the largest value that the format can store. Raises UnreadableImage.
    """
    try:
        # From memory: of a file that it maps, Pillow 13.0.0 turns the shape and not the pixels (see findings/).
        with Image.open(io.BytesIO(check_regular(path).read_bytes())) as opened:
            _check_frames(opened)
            halved = ";16" in str(opened.tile)  # Pillow keeps the upper 8 bits of 16-bit colour
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            if opened.mode[:1] in "IF":
                return _deep(opened, upright, value_range)
            if halved and value_range is not None:
                raise UnreadableImage(
                    "its 16-bit colour is read in the format's whole range: convert it to 8 bits, or leave out "
                    "data.value_range"
                )
            return Pixels(_on_white(upright), None)
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage("not an image, or of a format that Pillow does not know") from None
    # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, zlib's and others for damaged files.
    except Exception as error:
        raise UnreadableImage(str(error) or type(error).__name__) from error


def _check_frames(image: Image.Image) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a camera's second picture is a preview or a depth map
        raise UnreadableImage(f"it has {frames} frames or pages: save each as a file of its own")


def _deep(opened: Image.Image, upright: Image.Image, value_range: ValueRange) -> Pixels:
    values = np.asarray(upright)
    tags = getattr(opened, "tag_v2", {})
    bits, kind = _numbers(tags.get(_TIFF_BITS, 0)), _numbers(tags.get(_TIFF_SAMPLE_FORMAT, _UNSIGNED))
    if opened.mode == "I" and (bits[0], kind[0]) == (32, _UNSIGNED):
        values = values.view(np.uint32)
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise UnreadableImage(f"{np.count_nonzero(~np.isfinite(numbers)):,} of its pixels are not finite numbers")
    least, greatest, most = float(numbers.min()), float(numbers.max()), _most(opened)
    if value_range == "file":
        low, high = least, greatest
    elif value_range is not None:
        low, high = value_range
    elif most is not None:
        low, high = 0.0, most
    else:
        raise UnreadableImage(
            f"its pixels are {'floats' if opened.mode == 'F' else 'integers'} from {least:g} to {greatest:g}, a kind "
            "without a range of its own: set data.value_range, [low, high] for all files or file for each file's own"
        )
    shares = np.clip((numbers - low) / (high - low), 0, 1) if high > low else np.zeros_like(numbers)
    if tags.get(_TIFF_ZERO_IS_WHITE) == 0:
        shares = 1 - shares
    grey = np.rint(255 * shares).astype(np.uint8)
    hidden = opened.info.get("transparency")
    if isinstance(hidden, int):  # one value is transparent
        grey[values == hidden] = 255
    return Pixels(Image.fromarray(grey).convert("RGB"), (least, greatest, most))


def _most(image: Image.Image) -> float | None:
    """The largest value that a grey image's format can store; None where it is open."""
    if image.mode.startswith("I;16"):
        bits = _numbers(getattr(image, "tag_v2", {}).get(_TIFF_BITS, 16))[0]
        return float(2**bits - 1)
    # Some versions of Pillow have 16-bit PNG files in this mode; PGM files are scaled to 16 bits.
    return 65535.0 if image.mode == "I" and image.format in ("PNG", "PPM") else None


def _numbers(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[image.mode])
    if image.mode not in _PLAIN:
        raise UnreadableImage(f"its pixels are of kind {image.mode}: save it as RGB or grey")
    if not image.has_transparency_data:
        return image.convert("RGB")
    painted = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", painted.size, "white"), painted).convert("RGB")
