"""Messages of compressed gossip: vectors through a codec scaled to a contraction, small tensors uncompressed.

CHOCO and DeepSqueeze require ‖C(v) − v‖² ≤ (1 − δ) ‖v‖² with δ > 0. An unbiased codec with relative variance
ω ≥ 1 is no such contraction, but Q(v)/(1 + ω) is, with δ = 1/(1 + ω) (Koloskova, Stich, Jaggi 2019, section 3.4).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gannet.node.codecs import Codec
from gannet.node.codecs.feedback import ErrorFeedback
from gannet.node.codecs.registry import codec_config
from gannet.node.codecs.split import Split
from gannet.node.topologies.topology import Neighbourhood
from gannet.node.training.effects import RAW_SEGMENT, Tag
from gannet.node.training.worker import Worker


class Contraction:
    """A codec whose values come back damped."""

    def __init__(self, codec: Codec, damping: float) -> None:
        self._codec, self.damping = codec, damping
        self.name, self.grain, self.fixed_size, self.unbiased = codec.name, codec.grain, codec.fixed_size, False
        self.wire_bytes, self.encode, self.finite = codec.wire_bytes, codec.encode, codec.finite
        self.state, self.load_state = codec.state, codec.load_state

    def decode(self, payload: memoryview) -> Tensor:
        """C(v)."""
        return self._codec.decode(payload) * self.damping if self.damping != 1 else self._codec.decode(payload)


class Channel:
    """Sends C(v) to a round's neighbours and decodes it as they do, bit for bit."""

    def __init__(self, worker: Worker) -> None:
        name = worker.config.codec
        self._peers, self._split = worker.peers, Split(worker.task.layout, name)
        self._coarse, self._raw = worker.task.size - self._split.raw, self._split.raw
        self.codec = Contraction(worker.peers.codec, codec_config(name).traits.damping)
        self.coarse_count = self._coarse

    async def send(
        self, number: int, v: Tensor, here: Neighbourhood, feedback: ErrorFeedback | None = None
    ) -> Tensor:
        """Send C(v) to the round's neighbours and return it; `feedback`'s memory, if given, is added to v first."""
        packed = self._split.pack(v)
        coarse = packed[: self._coarse] if feedback is None else feedback.corrected(packed[: self._coarse])
        payloads: list[tuple[Tag, memoryview]] = []
        if self._coarse:
            payloads.append((Tag(number, 0), self._peers.encode(coarse)))
        if self._raw:
            payloads.append((Tag(number, 1 | RAW_SEGMENT), self._peers.raw_codec.encode(packed[self._coarse :])))
        for to in sorted(here.outgoing, key=lambda to: (to - self._peers.rank) % self._peers.world):
            for tag, payload in payloads:
                await self._peers.send(to, tag, payload, last=tag == payloads[-1][0])
        # Decoded only after everything is sent: the result is needed once the neighbours' messages have arrived.
        values = [(self._peers.raw_codec if tag.segment else self.codec).decode(payload) for tag, payload in payloads]
        if feedback is not None and self._coarse:
            feedback.remember(coarse, values[0])
        return self._split.unpack(torch.cat(values))

    async def receive(self, number: int, source: int) -> Tensor:
        """C(v) of a neighbour, or PeerLost."""
        segments = []
        if self._coarse:
            values = await self._peers.receive(source, Tag(number, 0), self._coarse)
            segments.append(values * self.codec.damping if self.codec.damping != 1 else values)
        if self._raw:
            segments.append(await self._peers.receive(source, Tag(number, 1 | RAW_SEGMENT), self._raw))
        return self._split.unpack(torch.cat(segments))
