"""The random stream that codecs round with: 16 random bits a value, for half the time that 32 take.

One more random number, shared by a whole chunk, fills in the bits below those 16. So each value by itself is
rounded with all the bits it needs, and its mean is exact; what two values of a chunk share is 2^-16 of a level.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gannet.node.codecs.lazy import np, torch

if TYPE_CHECKING:
    from torch import Tensor

# Values worked on at a time: a chunk and its temporaries stay in a processor's second-level cache.
CHUNK = 1 << 16


class Dither:
    """A seeded stream (PCG64) for one codec of one rank."""

    def __init__(self, seed: int = 0, rank: int = 0) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, rank, 0xC0DEC]))

    def integers(self, count: int) -> np.ndarray:
        """`count` random int16, all 2^16 values alike."""
        return np.asarray(self._bits.random_raw(-(-count // 4))).view(np.int16)[:count]

    def word(self) -> int:
        """64 random bits."""
        return int(self._bits.random_raw())

    def noise(self, count: int) -> tuple[Tensor, float]:
        """(whole numbers from −2^15 to 2^15 − 1 in float32, one number in [0, 1)): their sum over 2^16 is uniform."""
        return torch.from_numpy(self.integers(count)).to(torch.float32), (self.word() >> 11) * 2.0**-53

    def state(self) -> dict[str, Tensor]:
        """Position in the stream, as a tensor that a checkpoint can hold."""
        text = json.dumps(self._bits.state["state"])
        return {"dither": torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue where `state` was taken. Raises ValueError when it cannot be one."""
        try:
            words = json.loads(bytes(state["dither"].tolist()))
            state_now = self._bits.state
            state_now["state"] = {"state": int(words["state"]), "inc": int(words["inc"])}
            self._bits.state = state_now
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no state of a codec's random stream: {error}") from None


class Dithered:
    """A codec of fixed size whose only state is its random stream."""

    fixed_size = True
    unbiased = True
    grain = 1

    def __init__(self, name: str, dither: Dither) -> None:
        self.name = name
        self._dither = dither

    def state(self) -> dict[str, Tensor]:
        """Position in the random stream."""
        return self._dither.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self._dither.load_state(state)


def flat(values: Tensor) -> Tensor:
    """`values` as a contiguous float32 vector on the CPU, copied only if they are not one already."""
    return values.detach().to("cpu", torch.float32).contiguous()
