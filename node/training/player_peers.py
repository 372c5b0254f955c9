"""Each player's place among the others: its codec and its rounds, and both in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gannet.node.codecs import build_codec
from gannet.node.config import NodeConfig
from gannet.node.training.peers import Peers


class PlayersPeers:
    """Peers of each player in `segments`; all share the missing ranks of `whole`. Empty where there are none.

    Each player of a run rounds with different random numbers.
    """

    def __init__(self, segments: Mapping[str, NodeConfig], whole: Peers) -> None:
        self.of: dict[str, Peers] = {}
        for number, (player, config) in enumerate(segments.items()):
            codec = build_codec(config.codec, config.seed, number * whole.world + whole.rank)
            size, missing, mixing = config.exchange.segment_bytes, whole.missing, config.mixing
            peers = Peers(whole.rank, whole.world, codec, size, missing=missing, mixing=mixing)
            self.of[player] = peers

    def state(self) -> dict[str, Tensor]:
        """Rounds, and the state of each codec's random stream."""
        rounds = torch.tensor([peers.round for peers in self.of.values()], dtype=torch.int64)
        codecs = {
            f"{player}.{name}": value
            for player, peers in self.of.items()
            for name, value in peers.codec.state().items()
        }
        return {"rounds": rounds, **codecs}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore a `state`."""
        for (player, peers), number in zip(self.of.items(), state["rounds"].tolist(), strict=True):
            peers.round = number
            own = {name: value for name, value in state.items() if name.startswith(f"{player}.")}
            peers.codec.load_state({name.removeprefix(f"{player}."): value for name, value in own.items()})
