"""Optimizers on one flat parameter vector, all players at once; the optimistic ones are for games.

The vector field g(x) = [∇_u F, −∇_v F] makes descent right for both players, so one update serves
generator and discriminator. Each player keeps its own step count, because with `critic_steps` > 1 the
generator sits out some steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from gannet.node.config import OptimizerConfig
from gannet.node.tasks.base import AnyTask, Gradient


class _PlayerState:
    """OAdam's state of one player: its slice, its moments, its last scaled direction."""

    def __init__(self, where: slice, learning_rate: float, like: Tensor) -> None:
        self.where = where
        self.learning_rate = learning_rate
        self.count = 0
        self.moment = torch.zeros_like(like[where])
        self.square = torch.zeros_like(self.moment)
        self.previous = torch.zeros_like(self.moment)

    def state(self) -> dict[str, Tensor]:
        return {
            "count": torch.tensor(self.count),
            "moment": self.moment,
            "square": self.square,
            "previous": self.previous,
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.count = int(state["count"])
        for name in ("moment", "square", "previous"):
            if state[name].shape != self.moment.shape:
                raise ValueError(f"{name} of shape {tuple(state[name].shape)}, here {tuple(self.moment.shape)}")
        self.moment, self.square, self.previous = state["moment"], state["square"], state["previous"]


# (d_t, d_{t−1}): the parameters move by −2 d_t + d_{t−1}; by −d_t where there is no d_{t−1}.
Directions = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Move:
    """A step that only lacks its parameters: for each player that moves, its slice and its directions."""

    directions: list[tuple[slice, Directions]]
    gradient: Gradient


class _PerPlayer(ABC):
    """One update, applied to each player whose turn it is; checkpoints hold its state as `player.entry`."""

    def __init__(self, task: AnyTask, config: OptimizerConfig, like: Tensor) -> None:
        self._config = config
        self._players = {
            name: _PlayerState(where, config.rate_of(name), like) for name, where in task.players.items()
        }
        self._task = task
        self._made = 0  # steps, whichever player moved
        self._whole = self._together(like)

    def step(self, x: Tensor, gradient: Gradient) -> Tensor:
        """New flat parameters; `x` (flat float32) is left as it was."""
        return self.move(x, self.prepare(gradient))

    def prepare(self, gradient: Gradient) -> Move:
        """The part of a step that needs no parameters, so that it can be done while messages are in flight."""
        decay = self._config.decay(self._made)
        self._made += 1
        players = [self._players[name] for name in gradient.active]
        if (whole := self._whole) is not None:
            if gradient.active == tuple(self._players):
                rate = whole.learning_rate * decay
                return Move([(whole.where, self._directions(gradient.field[whole.where], rate, whole))], gradient)
            self._separate()
        directions = [
            (p.where, self._directions(gradient.field[p.where], p.learning_rate * decay, p)) for p in players
        ]
        return Move(directions, gradient)

    def move(self, x: Tensor, move: Move) -> Tensor:
        """New flat parameters from x (flat float32), which is left as it was, and what `prepare` made."""
        new = x.clone()
        for where, (now, before) in move.directions:
            if before is None:
                new[where].sub_(now)
            else:
                new[where].sub_(now, alpha=2).add_(before)
        return with_buffers(new, self._task, move.gradient)

    def _together(self, like: Tensor) -> _PlayerState | None:
        """One state for all players, as long as they move together: half the operations, and the same bits."""
        places = [p.where for p in self._players.values()]
        adjacent = all(one.stop == other.start for one, other in pairwise(places))
        if not adjacent or len({p.learning_rate for p in self._players.values()}) != 1:
            return None
        rate = self._config.rate_of(next(iter(self._players)))
        return _PlayerState(slice(places[0].start, places[-1].stop), rate, like)

    def _separate(self) -> None:
        """From now on each player has a state of its own, a part of what all had together."""
        self._share()
        self._whole = None

    def _share(self) -> None:
        """Have the players' states show what they have together."""
        if (whole := self._whole) is None:
            return
        for p in self._players.values():
            part = slice(p.where.start - whole.where.start, p.where.stop - whole.where.start)
            p.count, p.previous = whole.count, whole.previous[part]
            p.moment, p.square = whole.moment[part], whole.square[part]

    @abstractmethod
    def _directions(self, g: Tensor, rate: float, p: _PlayerState) -> Directions:
        """The directions of a player's gradient; `rate` is η, decay included."""

    def state(self) -> dict[str, Tensor]:
        """See gannet.node.training.checkpoint.Keeps."""
        self._share()
        states = {name: p.state() for name, p in self._players.items()}
        own = {f"{name}.{entry}": value for name, state in states.items() for entry, value in state.items()}
        return {"made": torch.tensor(self._made), **own}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See gannet.node.training.checkpoint.Keeps."""
        self._made = int(state["made"])
        self._separate()
        for name, p in self._players.items():
            p.load_state({entry: state[f"{name}.{entry}"] for entry in p.state()})


class OAdam(_PerPlayer):
    """Optimistic Adam (Daskalakis et al., "Training GANs with Optimism", as in their code).

    With ŝ_t = η √(1−β2^t) / (1−β1^t):
    θ_t = θ_{t−1} − 2 ŝ_t m_t/(√v_t+ε) + ŝ_{t−1} m_{t−1}/(√v_{t−1}+ε).
    """

    def _directions(self, g: Tensor, rate: float, p: _PlayerState) -> Directions:
        return _after_the_last(_adam_direction(g, rate, p, self._config), p)


class Adam(_PerPlayer):
    """Adam (Kingma & Ba 2015, the form before section 2.1): θ_t = θ_{t−1} − ŝ_t m_t/(√v_t+ε), ŝ_t as in OAdam."""

    def _directions(self, g: Tensor, rate: float, p: _PlayerState) -> Directions:
        return _adam_direction(g, rate, p, self._config), None


class OptimisticSG(_PerPlayer):
    """Optimistic stochastic gradient: θ_t = θ_{t−1} − 2η g_t + η g_{t−1} (g_0 = 0)."""

    def _directions(self, g: Tensor, rate: float, p: _PlayerState) -> Directions:
        return _after_the_last(g * rate, p)


def _after_the_last(direction: Tensor, p: _PlayerState) -> Directions:
    """(d_t, d_{t−1}), and d_t is remembered."""
    before, p.previous = p.previous, direction
    return direction, before


def _adam_direction(g: Tensor, rate: float, p: _PlayerState, c: OptimizerConfig) -> Tensor:
    """ŝ_t m_t/(√v_t+ε) once this gradient is in the moments."""
    p.count += 1
    p.moment.mul_(c.beta1).add_(g, alpha=1 - c.beta1)
    p.square.mul_(c.beta2).addcmul_(g, g, value=1 - c.beta2)
    scale = rate * (1 - c.beta2**p.count) ** 0.5 / (1 - c.beta1**p.count)
    direction = p.square.sqrt().add_(c.epsilon)
    return torch.div(p.moment, direction, out=direction).mul_(scale)


class LastGradient:
    """The gradient that the next step reuses, as a checkpoint holds it: of each player, that of its own last move."""

    def __init__(self, task: AnyTask) -> None:
        self._where = task.players
        self._players = list(task.players)
        self.g: Gradient | None = None

    @property
    def gradient(self) -> Gradient:
        """What `update` has made; its losses are the last step's."""
        assert self.g is not None, "no gradient yet"
        return self.g

    def update(self, g: Gradient) -> None:
        """Take in a new gradient: players that sat it out keep theirs."""
        kept = [name for name in self.g.active if name not in g.active] if self.g is not None else []
        if self.g is not None and kept:
            field = g.field.clone()
            for name in kept:
                field[self._where[name]] = self.g.field[self._where[name]]
            g = g._replace(field=field, active=(*kept, *g.active))
        self.g = g

    def state(self) -> dict[str, Tensor]:
        """Field, active players, and buffers if there are any."""
        if self.g is None:
            return {}
        active = torch.tensor([self._players.index(player) for player in self.g.active], dtype=torch.int64)
        buffers = {} if self.g.buffers is None else {"buffers": self.g.buffers}
        return {"field": self.g.field, "active": active, **buffers}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore a `state`; losses are not part of it, as they have been reported."""
        active = tuple(self._players[number] for number in state["active"].tolist())
        self.g = Gradient(state["field"], active, state.get("buffers"), {})


def with_buffers(x: Tensor, task: AnyTask, gradient: Gradient) -> Tensor:
    """Put the buffers that the forward pass left (running statistics) into x's tail; returns x."""
    if gradient.buffers is not None:
        x[task.buffers] = gradient.buffers
    return x


OPTIMIZERS: dict[str, type[OAdam | OptimisticSG | Adam]] = {
    "oadam": OAdam,
    "optimistic-sg": OptimisticSG,
    "adam": Adam,
}
