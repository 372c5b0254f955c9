"""What every mixing rule declares of itself: its name and parameters in a spec, what it needs, and its mathematics.

Importing this package imports no torch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from gannet.node.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


class Mix(Protocol):
    """One mix under way: messages are added in ascending order of their senders' ranks."""

    def add(self, values: Tensor, weight: float) -> None:
        """Take in a peer's values (flat float32), which the rule may keep until `result`, and their mixing weight."""
        ...

    def result(self) -> Tensor:
        """What the node continues with, a new flat float32 tensor."""
        ...


class MixingRule(Settings):
    """What a spec's `mixing:` holds; its fields besides the name are the rule's parameters."""

    robust: ClassVar[bool] = True
    """Whether a bad peer's values are bounded or left out."""

    by_coordinate: ClassVar[bool] = True
    """Whether each coordinate is mixed by itself, so that a vector can be mixed segment by segment."""

    name: str

    @property
    def least_peers(self) -> int:
        """The peers that a node must hear from in a round, for the rule to keep its promise."""
        return 1

    @abstractmethod
    def begin(self, own: Tensor, weight: float) -> Mix:
        """Begin a mix with the node's own values and their weight; all weights of a mix sum to 1."""

    def equally(self, own: Tensor, others: Sequence[Tensor]) -> Tensor:
        """The mix of a server's own values with those that its workers sent, all of one weight.

        Where fewer came than `least_peers`, the server's own values take the place of the missing ones.
        """
        came = [*others, *[own] * (self.least_peers - len(others))]
        weight = 1 / (1 + len(came))
        mix = self.begin(own, weight)
        for values in came:
            mix.add(values, weight)
        return mix.result()

    def __str__(self) -> str:
        words = ", ".join(f"{key} {value}" for key, value in self if key != "name" and value is not None)
        return f"{self.name} ({words})" if words else self.name
