"""The players' parts of the flat vector: each player's parameters, and the running statistics of its network.

Running statistics lie at the vector's end, and their `player` names no player; their names begin with the player
whose network they are in, as in "generator.norm1.running_mean".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

import torch
from torch import Tensor

from gannet.node.layout import BUFFERS, TensorSpec
from gannet.node.tasks.base import AnyTask, Gradient


def players_in(layout: Sequence[TensorSpec]) -> tuple[str, ...]:
    """Names of the players, in the order of the vector."""
    return tuple(dict.fromkeys(spec.player for spec in layout if spec.player != BUFFERS))


def specs_of(layout: Sequence[TensorSpec], player: str) -> list[TensorSpec]:
    """The tensors of that player's part, where they lie in the whole vector; its buffers last.

    Raises ValueError for a layout with buffers that cannot be assigned to a player.
    """
    everybody = players_in(layout)
    for spec in layout:
        if spec.player == BUFFERS and _owner(spec) not in everybody:
            raise ValueError(
                f"players: the task's buffer {spec.name!r} belongs to no player, so players cannot be exchanged "
                f"its own way: let its name begin with its player's ({', '.join(p + '.' for p in everybody)})"
            )
    own = [spec for spec in layout if spec.player == player]
    return own + [spec for spec in layout if spec.player == BUFFERS and _owner(spec) == player]


def layout_of(layout: Sequence[TensorSpec], player: str) -> tuple[TensorSpec, ...]:
    """The layout of that player's part, as a vector that begins at 0."""
    specs: list[TensorSpec] = []
    start = 0
    for spec in specs_of(layout, player):
        specs.append(spec._replace(start=start))
        start = specs[-1].place.stop
    return tuple(specs)


def _owner(spec: TensorSpec) -> str:
    return spec.name.partition(".")[0]


class PartTask:
    """One player's part of a task, as a task that an algorithm can be given; its gradients the driver asks for."""

    def __init__(self, whole: AnyTask, player: str) -> None:
        self._whole, self._player = whole, player
        self._specs = specs_of(whole.layout, player)
        self.layout = layout_of(whole.layout, player)
        self.size = self.layout[-1].place.stop
        parameters = sum(spec.place.stop - spec.start for spec in self.layout if spec.player != BUFFERS)
        self.players = {player: slice(0, parameters)}
        self.buffers = slice(parameters, self.size)

    def of(self, x: Tensor) -> Tensor:
        """This part of the whole vector, as a new tensor."""
        return torch.cat([x[spec.place] for spec in self._specs])

    def put(self, x: Tensor, part: Tensor) -> None:
        """Write this part into the whole vector."""
        for spec, own in zip(self._specs, self.layout, strict=True):
            x[spec.place] = part[own.place]

    def of_gradient(self, g: Gradient) -> Gradient:
        """This part of a gradient of the whole task; its losses are those of all players."""
        buffers = None
        if g.buffers is not None:
            begin = self._whole.buffers.start
            places = [
                slice(spec.start - begin, spec.place.stop - begin) for spec in self._specs if spec.player == BUFFERS
            ]
            buffers = torch.cat([g.buffers[:0], *(g.buffers[place] for place in places)])
        active = (self._player,) if self._player in g.active else ()
        return Gradient(g.field[self._whole.players[self._player]], active, buffers, g.losses)

    def initial(self) -> Tensor:
        """This part of x_0."""
        return self.of(self._whole.initial())

    def state(self) -> dict[str, Tensor]:
        """Nothing: position and schedule are the whole task's."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to continue from."""

    def gradient(self, x: Tensor) -> NoReturn:
        """A player's gradient depends on the other players too: see gannet.node.algorithms.by_player."""
        raise TypeError(f"the gradient of {self._player} alone is not defined")

    def generate(self, x: Tensor, n: int, seed: int) -> NoReturn:
        """As gradient."""
        raise TypeError(f"{self._player} alone generates nothing")
