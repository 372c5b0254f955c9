"""An average over all nodes that survives losses: those who are left agree on where they are, and form it again.

The fabric tells all nodes of losses in one order. So the number of losses that a node knows, its epoch, names a set
of lost nodes, the same on all, and messages carry it in their round's number: no two nodes average different sets.
A loss ends every wait. The survivors tell each other how many averages they have; two of them differ by one at most,
since an average needs a contribution of everyone who is in it. Those who lack the latest are sent it, as float32, and
where none has it, all begin it again. A node leaves when it knows that no other needs its latest average.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import torch
from torch import Tensor

from gannet.node.methods.segments import Segment, server_segments
from gannet.node.training.effects import EPOCH_ROUNDS, RAW_SEGMENT, Losses, MembersChanged, PeerLost, Tag
from gannet.node.training.peers import CollectiveFailed, Peers

Average = Callable[[Peers, Tensor, int, Sequence[int]], Awaitable[Tensor]]

_HALF = 1 << 20  # a count travels as two float32 numbers, each exact


class Reforming:
    """One node's averages by `collective` (peers, x, raw, members), and its part in forming them again."""

    def __init__(self, peers: Peers, collective: Average) -> None:
        self._peers, self._collective = peers, collective
        self._made, self._latest = 0, torch.empty(0)
        self._epoch, self._members = 0, list(range(peers.world))

    async def mean(self, x: Tensor, raw: int = 0) -> Tensor:
        """Mean of x, a flat float32 tensor, over the nodes that are left; its last `raw` values go as float32.

        Raises CollectiveFailed where a node that is there does not answer.
        """
        due = self._made + 1
        while self._made < due:
            try:
                await self._settle(len(x))
                if self._made < due:
                    self._latest = await self._collective(self._peers, x, raw, self._members)
                    self._made += 1
            except MembersChanged:
                continue
        return self._latest

    async def leave(self) -> None:
        """Wait until every other node has as many averages as this one; a node that has left counts as lost."""
        while True:
            try:
                await self._settle(len(self._latest))
                await self._counts(Tag(self._peers.next_round(), RAW_SEGMENT))
                return
            except MembersChanged:
                continue

    async def _settle(self, count: int) -> None:
        """After a loss, bring all who are left to the same number of averages, of `count` values each."""
        lost = await Losses()
        if len(lost) == self._epoch:
            return
        epoch = len(lost)
        members = [rank for rank in range(self._peers.world) if rank not in lost]
        self._members, begin = members, epoch * EPOCH_ROUNDS
        made = await self._counts(Tag(begin, RAW_SEGMENT))
        latest = max(made.values())
        behind = [rank for rank in members if made[rank] < latest]
        if behind:
            await self._hand_on(begin + 1, min(rank for rank in members if made[rank] == latest), behind, count)
            self._made = latest
        self._peers.round, self._epoch = begin + 1, epoch

    async def _counts(self, tag: Tag) -> dict[int, int]:
        """The number of averages that each node has."""
        made, others = {self._peers.rank: self._made}, [rank for rank in self._members if rank != self._peers.rank]
        payload = self._peers.encode(torch.tensor([*map(float, divmod(self._made, _HALF))]), tag)
        for rank in others:
            await self._peers.send(rank, tag, payload)
        for rank in others:
            high, low = (await self._from(rank, tag, 2)).tolist()
            made[rank] = int(high) * _HALF + int(low)
        return made

    async def _hand_on(self, number: int, giver: int, behind: Sequence[int], count: int) -> None:
        """Have the nodes that are behind take the giver's latest average."""
        peers = self._peers
        segments = [Segment(each.place, True) for each in self._segments(count)]
        if peers.rank == giver:
            for position, segment in enumerate(segments):
                tag = segment.tag(number, position)
                payload = peers.encode(self._latest[segment.place], tag)
                for rank in behind:
                    await peers.send(rank, tag, payload, position == len(segments) - 1)
        elif peers.rank in behind:
            latest = torch.empty(count)
            for position, segment in enumerate(segments):
                length = segment.place.stop - segment.place.start
                latest[segment.place] = await self._from(giver, segment.tag(number, position), length)
            self._latest = latest

    def _segments(self, count: int) -> list[Segment]:
        """No longer than any payload of a run may be, with a codec that packs closely too."""
        peers = self._peers
        longest = max(8, min(peers.segment_bytes, peers.codec.wire_bytes(count)))
        return server_segments(peers.raw_codec, longest, count)

    async def _from(self, rank: int, tag: Tag, count: int) -> Tensor:
        try:
            return await self._peers.receive(rank, tag, count)
        except MembersChanged:
            raise
        except PeerLost as lost:
            raise CollectiveFailed(
                f"the nodes that are left cannot form their average again without rank {rank} ({lost.reason})"
            ) from lost
