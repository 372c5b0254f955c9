"""Speed of packing and unpacking, bits per value and noise of each codec.

Measures every codec of node/codecs, and for comparison zlib at level 1, the fp16 cast and a literal NumPy QSGD, in
one process with one thread, in alternation. Nothing is sent.

    python bench/codec_speed.py                          # 1,000,000 values
    python bench/codec_speed.py --values 250000 --repeat 30 --codecs qsgd-4bit top-k,ratio=0.05
"""

from __future__ import annotations

import argparse
import os
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from support.pages import RESULTS, leave, table
from torch import Tensor

from gannet.node.codecs import NAMES, build_codec
from gannet.node.codecs.base import Codec
from gannet.node.codecs.dither import Dither
from gannet.node.codecs.elias import EliasQsgd
from gannet.node.data.config import DataConfig
from gannet.node.data.datasets import load_shard
from gannet.node.tasks import build_task
from gannet.node.tasks.config import TaskConfig

BASE = "fp16"  # what the others are compared with
LITERAL = "literal NumPy QSGD, 4 bits"
ZLIB, ZLIB_PACKED = "zlib-1 of float32", "zlib-1 of qsgd-4bit"
ELIAS = "qsgd s=7, Elias omega"


@dataclass(frozen=True)
class Contestant:
    """Something that packs float32 vectors: `encode` gives a payload, `decode` the values."""

    encode: Callable[[Tensor], Any]
    decode: Callable[[Any], Tensor]
    repeat: int | None = None  # for the slow ones


def contestants(names: list[str]) -> dict[str, Contestant]:
    """Every codec by its name, then the baselines."""

    def of(codec: Codec, repeat: int | None = None) -> Contestant:
        return Contestant(codec.encode, codec.decode, repeat)

    packed, rng = build_codec("qsgd-4bit"), np.random.default_rng(1)
    return {
        **{name: of(build_codec(name)) for name in names},
        ELIAS: of(EliasQsgd(7, 512, "max", Dither()), 2),
        ZLIB: Contestant(
            lambda x: zlib.compress(x.numpy().tobytes(), 1),
            lambda payload: torch.frombuffer(bytearray(zlib.decompress(payload)), dtype=torch.float32),
            3,
        ),
        ZLIB_PACKED: Contestant(
            lambda x: zlib.compress(packed.encode(x), 1),
            lambda payload: packed.decode(memoryview(zlib.decompress(payload))),
            3,
        ),
        LITERAL: Contestant(lambda x: literal_encode(x.numpy(), rng), literal_decode),
    }


def literal_encode(v: np.ndarray, rng: np.random.Generator, s: int = 7, bucket: int = 512) -> tuple[int, bytes]:
    """QSGD written literally: levels, signs, two codes per byte."""
    rows = np.pad(v, (0, -len(v) % bucket)).reshape(-1, bucket)
    scales = np.abs(rows).max(axis=1)
    scaled = np.abs(rows) / np.where(scales > 0, scales, 1)[:, None] * s
    low = np.floor(scaled)
    levels = low + (rng.random(rows.shape) < scaled - low)
    codes = levels.astype(np.uint8) | (np.signbit(rows).astype(np.uint8) << 3)
    packed = codes[:, 0::2] | (codes[:, 1::2] << 4)
    return len(v), scales.astype(np.float32).tobytes() + packed.tobytes()


def literal_decode(payload: tuple[int, bytes], s: int = 7, bucket: int = 512) -> Tensor:
    """The values of `literal_encode`."""
    count, data = payload
    buckets = -(-count // bucket)
    scales = np.frombuffer(data, np.float32, buckets)
    packed = np.frombuffer(data, np.uint8, offset=4 * buckets).reshape(buckets, -1)
    codes = np.empty((buckets, bucket), np.uint8)
    codes[:, 0::2], codes[:, 1::2] = packed & 15, packed >> 4
    values = np.where(codes & 8, -1.0, 1.0) * (codes & 7) * scales[:, None] / s
    return torch.from_numpy(values.reshape(-1)[:count].astype(np.float32))


def main() -> None:
    """Measure, print the table and write it to bench/results."""
    options = parse()
    torch.set_num_threads(1)
    begin = {"load_before": os.getloadavg()[0]}
    vectors = {"gaussian": torch.randn(options.values, generator=torch.Generator().manual_seed(1)),
               "gradient": gan_gradient()}  # fmt: skip
    what = contestants(options.codecs)
    rows = {name: quality(one, vectors) for name, one in what.items()}
    for name, seconds in speeds(what, vectors["gaussian"], options.repeat).items():
        rows[name] |= seconds
    result = {
        **begin,
        "load_after": os.getloadavg()[0],
        "options": {"values": options.values, "repeat": options.repeat, "gradient": len(vectors["gradient"])},
        "codecs": rows,
    }
    print(markdown(result))
    leave(options.out, "codecs", result, markdown(result))


def parse() -> argparse.Namespace:
    """The command line; mistakes end the program with one message."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, default=1_000_000, help="length of the float32 vector")
    parser.add_argument("--repeat", type=int, default=15, help="rounds of each codec")
    parser.add_argument("--codecs", nargs="+", default=list(NAMES), help="as in a spec")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for codecs.json and codecs.md")
    options = parser.parse_args()
    try:
        for name in options.codecs:
            build_codec(name)
    except ValueError as error:
        parser.error(str(error))
    options.codecs = list(dict.fromkeys([BASE, *options.codecs]))
    return options


def gan_gradient() -> Tensor:
    """The field of the default GAN at its start, on a minibatch of 64 images of the data set in the package."""
    task = build_task(TaskConfig(), load_shard(DataConfig(), 0, 1, 1), 0, 1, 1, 64)
    return task.gradient(task.initial()).field


def quality(one: Contestant, vectors: dict[str, Tensor]) -> dict[str, float]:
    """Bits a value, and E‖Q(v) − v‖² ÷ ‖v‖² of three payloads, on each of the vectors."""
    found: dict[str, float] = {}
    for kind, v in vectors.items():
        payloads = [one.encode(v) for _ in range(3)]
        size = len(payloads[0][1]) if isinstance(payloads[0], tuple) else len(payloads[0])
        errors = [
            float(((one.decode(payload) - v).double() ** 2).sum() / (v.double() ** 2).sum()) for payload in payloads
        ]
        found |= {f"bits_{kind}": 8 * size / len(v), f"variance_{kind}": sum(errors) / len(errors)}
    return found


def speeds(what: dict[str, Contestant], v: Tensor, repeat: int) -> dict[str, dict[str, Any]]:
    """Seconds of every round, contestants in alternation; GB of float32 a second at the median."""
    seconds: dict[str, dict[str, list[float]]] = {name: {"encode": [], "decode": []} for name in what}
    for number in range(repeat):
        for name, one in what.items():
            if one.repeat is not None and number >= one.repeat:
                continue
            begin = time.perf_counter()
            payload = one.encode(v)
            middle = time.perf_counter()
            one.decode(payload)
            end = time.perf_counter()
            seconds[name]["encode"].append(middle - begin)
            seconds[name]["decode"].append(end - middle)
    return {
        name: {f"{way}_s": found[way] for way in found}
        | {f"{way}_gb_per_s": 4e-9 * len(v) / median(found[way]) for way in found}
        | {f"{way}_best_gb_per_s": 4e-9 * len(v) / min(found[way]) for way in found}
        for name, found in seconds.items()
    }


def markdown(result: dict[str, Any]) -> str:
    """The table in Markdown, which reads in a terminal too."""
    rows, base = result["codecs"], result["codecs"][BASE]
    literal = rows[LITERAL]
    headings = ("codec", "bits a value", "relative variance: Gaussian", "a GAN's gradient", "encode GB/s (best)",
                "decode GB/s (best)", f"encode ÷ {BASE}", "÷ literal", "÷ zlib-1")  # fmt: skip
    cells = []
    for name, row in rows.items():
        way = "encode_gb_per_s"
        cells.append((
            name, f"{row['bits_gaussian']:.2f}",
            f"{row['variance_gaussian']:.2g}", f"{row['variance_gradient']:.2g}",
            *(f"{row[f'{d}_gb_per_s']:.3g} ({row[f'{d}_best_gb_per_s']:.3g})" for d in ("encode", "decode")),
            f"{row[way] / base[way]:.2g}", f"{row[way] / literal[way]:.3g}", f"{row[way] / rows[ZLIB][way]:.3g}",
        ))  # fmt: skip
    o = result["options"]
    caption = (
        f"{o['values']:,} Gaussian float32 values, one thread, medians of {o['repeat']} rounds in alternation (fewer "
        f"of the slow ones), GB of float32 a second; the gradient has {o['gradient']:,} values; load "
        f"{result['load_before']:.1f} before and {result['load_after']:.1f} after."
    )
    return f"{table(headings, cells, words=('codec',))}\n\n{caption}\n"


if __name__ == "__main__":
    main()
