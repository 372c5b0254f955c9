"""Ternary values, two bits each: minus the largest magnitude, zero or plus (TernGrad, Wen et al. 2017).

A value v becomes ±m with probability |v|/m, and 0 otherwise, where m is the largest magnitude: unbiased. Train with
it by `gannet compare docs/examples/my_codec.yaml`.
"""

import numpy as np
import torch
from torch import Tensor

from gannet import Codec


class Ternary(Codec):
    """The count (4 bytes), m (4 bytes), then four values a byte."""

    unbiased = True
    raw_below = 0  # small tensors travel so too

    def wire_bytes(self, count: int) -> int:
        return 8 + (count + 3) // 4

    def encode(self, values: Tensor) -> bytes:
        most = values.abs().max() if len(values) else torch.zeros(())
        kept = torch.rand(len(values), generator=self.generator) * most < values.abs()
        codes = (values.sign() * kept + 1).nan_to_num().to(torch.uint8).numpy()
        fours = np.pad(codes, (0, -len(codes) % 4)).reshape(-1, 4) << np.array([0, 2, 4, 6], np.uint8)
        header = np.uint32(len(values)).tobytes() + most.numpy().tobytes()
        return header + np.bitwise_or.reduce(fours, axis=1).tobytes()

    def decode(self, payload: memoryview) -> Tensor:
        count, most = np.frombuffer(payload, "<u4", 1)[0], np.frombuffer(payload, "<f4", 1, offset=4)[0]
        fours = np.frombuffer(payload, np.uint8, offset=8)[:, None] >> np.array([0, 2, 4, 6], np.uint8) & 3
        return (torch.from_numpy(fours.reshape(-1)[:count].astype(np.float32)) - 1) * float(most)
