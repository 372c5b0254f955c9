"""Selects the tensors of a vector sent as float32 though the codec quantizes: small ones and running statistics.

As in QSGD, section 5: tensors of fewer than 10,000 elements cost little and suffer most, for biases and scales would
share a bucket's scale with weights of another size. Buffers (BatchNorm's running statistics) are no gradients, and a
variance that is rounded to zero is none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gannet.node.codecs.registry import CodecSetting, codec_config
from gannet.node.layout import BUFFERS, TensorSpec


class Split:
    """Moves the values sent as float32 to the end of a vector, its last `raw` values, and back.

    A codec that casts leaves everything in its place, with `raw` = 0.
    """

    def __init__(self, layout: Sequence[TensorSpec], codec: CodecSetting) -> None:
        traits = codec_config(codec).traits
        coarse: list[slice] = []
        fine: list[slice] = []
        for spec in sorted(layout, key=lambda spec: spec.start):
            kept = traits.keeps_float32(spec.place.stop - spec.start, spec.player == BUFFERS)
            _append(fine if kept else coarse, spec.place)
        self.raw: int = sum(place.stop - place.start for place in fine)
        self._places = coarse + fine if fine else []

    def pack(self, x: Tensor) -> Tensor:
        """x (flat, whole layout) with the raw values last; x itself where there are none."""
        return torch.cat([x[place] for place in self._places]) if self._places else x

    def unpack(self, packed: Tensor) -> Tensor:
        """The vector that `pack` was given."""
        if not self._places:
            return packed
        x, begin = torch.empty_like(packed), 0
        for place in self._places:
            x[place] = packed[begin : (begin := begin + place.stop - place.start)]
        return x


def _append(places: list[slice], place: slice) -> None:
    if places and places[-1].stop == place.start:
        places[-1] = slice(places[-1].start, place.stop)
    else:
        places.append(place)
