"""Each player's place among the others: its codec and its rounds, and both in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gannet.node.codecs import build_codec
from gannet.node.config import NodeConfig
from gannet.node.training.peers import Peers


class PlayersPeers:
    """Peers of each of the players in `segments`, who share what `whole` is missing; empty where there are none.

    No two players of a run round with the same random numbers.
    """

    def __init__(self, segments: Mapping[str, NodeConfig], whole: Peers) -> None:
        self.of: dict[str, Peers] = {}
        for number, (player, config) in enumerate(segments.items()):
            codec = build_codec(config.codec, config.seed, number * whole.world + whole.rank)
            peers = Peers(whole.rank, whole.world, codec, config.exchange.segment_bytes, missing=whole.missing)
            self.of[player] = peers

    def state(self) -> dict[str, Tensor]:
        """Rounds, and where each codec is in its stream."""
        rounds = torch.tensor([peers.round for peers in self.of.values()], dtype=torch.int64)
        codecs = {
            f"{player}.{name}": value
            for player, peers in self.of.items()
            for name, value in peers.codec.state().items()
        }
        return {"rounds": rounds, **codecs}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Back to a `state`."""
        for (player, peers), number in zip(self.of.items(), state["rounds"].tolist(), strict=True):
            peers.round = number
            own = {name: value for name, value in state.items() if name.startswith(f"{player}.")}
            peers.codec.load_state({name.removeprefix(f"{player}."): value for name, value in own.items()})
