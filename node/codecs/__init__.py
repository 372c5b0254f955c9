"""How tensors are packed into a message's payload: one short module a family, and one way to build any of them.

Importing this package imports neither torch nor numpy, so that a spec's codec can be checked without waiting.
"""

from __future__ import annotations

from gannet.node.codecs.base import Codec
from gannet.node.codecs.names import (
    CodecConfig,
    NaturalConfig,
    QsgdConfig,
    RandomKConfig,
    SignConfig,
    TopKConfig,
    codec_config,
)

__all__ = ["NAMES", "Codec", "build_codec"]

# One ready-made name of every kind; parameters follow a comma, as in "qsgd-4bit,bucket=128".
NAMES = ("fp32", "fp16", "bf16", "qsgd-2bit", "qsgd-4bit", "qsgd-8bit", "top-k", "random-k", "sign", "natural-8bit",
         "natural-9bit")  # fmt: skip


def build_codec(codec: str | CodecConfig, seed: int = 0, rank: int = 0) -> Codec:
    """The codec of that name or configuration.

    `seed` and `rank` begin the stream of a codec that rounds or picks at random: equal ones give equal payloads,
    other ranks' errors are independent. Raises ValueError for a name that is none.
    """
    from gannet.node.codecs.cast import CastCodec
    from gannet.node.codecs.dither import Dither
    from gannet.node.codecs.natural import NaturalCodec
    from gannet.node.codecs.qsgd import QsgdCodec
    from gannet.node.codecs.sign import SignCodec
    from gannet.node.codecs.sparse import RandomKCodec, TopKCodec

    config = codec_config(codec) if isinstance(codec, str) else codec
    match config:
        case QsgdConfig():
            return QsgdCodec(config.text, config.bits, config.bucket, config.scale, Dither(seed, rank))
        case NaturalConfig():
            return NaturalCodec(config.text, config.bits, Dither(seed, rank))
        case TopKConfig():
            return TopKCodec(config.text, config.ratio)
        case RandomKConfig():
            return RandomKCodec(config.text, config.ratio, Dither(seed, rank))
        case SignConfig():
            return SignCodec(config.text, config.bucket)
    return CastCodec(config.name)
