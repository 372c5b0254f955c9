"""How tensors are packed into a message's payload: one file per family, with settings, sizes and arithmetic.

Importing this package imports neither torch nor numpy, so that a spec's codec can be checked without waiting.
"""

from __future__ import annotations

from gannet.node.codecs.base import Codec
from gannet.node.codecs.cast import CastConfig
from gannet.node.codecs.registry import NAMES, CodecSetting, codec_config

__all__ = ["NAMES", "Codec", "build_codec", "float32_codec"]


def build_codec(codec: CodecSetting, seed: int = 0, rank: int = 0) -> Codec:
    """The codec of that name, or of a user's own Python.

    `seed` and `rank` seed the stream of a codec that rounds or picks at random: equal ones give equal payloads,
    errors of different ranks are independent. Raises ValueError for an unknown name, PluginError for Python that
    cannot be used.
    """
    return codec_config(codec).build(seed, rank)


def float32_codec() -> Codec:
    """The codec of tensors that are sent uncompressed, whatever the exchange's codec."""
    return CastConfig(name="fp32").build(0, 0)
