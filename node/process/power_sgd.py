"""PyTorch's PowerSGD for players that take turns: who sits out a step keeps its error memory and its Q.

PyTorch's hook takes all of a bucket for moving. A player that sits out has a gradient of zero there: its error memory
would go into a mean that no player uses, and its Q would become zero and stay so, as P = M Q and Q = Mᵀ P do from
then on. The same happens to a matrix whose gradient is zero in the first compressed step, in training with one
player too: a column of Q that is zero is drawn again at random, as PowerGossip draws one after a difference of zero.

The zeros of a player that sits out are sent, as those of the other hooks and of DDP's unused parameters are.
"""

# Without `from __future__ import annotations`: DDP compares the annotations of a hook, which must not be strings.

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook

# Keeps PowerSGD from 0 ÷ 0 where a column of a gradient is all zero (PowerSGDState's own advice).
_ORTHOGONALIZATION_EPSILON = 1e-8


class _Place(NamedTuple):
    """Where a parameter's values lie in the bucket, and where its Q, of `columns` × r, lies among all Qs."""

    values: slice
    q: slice
    columns: int


class PowerSgd:
    """The hook and its state, for a module with one bucket; `parameters`: the module's, in order."""

    def __init__(self, rank: int, start: int, parameters: Sequence[nn.Parameter]) -> None:
        self._state = powerSGD_hook.PowerSGDState(
            None,
            matrix_approximation_rank=rank,
            start_powerSGD_iter=start,
            orthogonalization_epsilon=_ORTHOGONALIZATION_EPSILON,
        )
        self._numbers = {id(parameter): number for number, parameter in enumerate(parameters)}
        self._places: dict[int, _Place] = {}  # by the parameter's number
        self._bucket = 0
        # One seed for all nodes, which have the same Qs to the bit and so draw the same ones again.
        self._random = torch.Generator().manual_seed(0)

    def hook(self, _: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
        """For `DistributedDataParallel.register_comm_hook`."""
        self._bucket = bucket.index()
        self._places = self._lay_out(bucket.parameters())
        return powerSGD_hook.powerSGD_hook(self._state, bucket)

    def begin(self) -> None:
        """Count steps from here: those before were no training."""
        self._state.iter = 0

    def state(self) -> dict[str, Tensor]:
        """The steps counted so far, the random stream, and from the first compressed step on the memories.

        The hook's own random numbers are left out: it draws one for the first Q, and none where there is a Q.
        """
        memories = {name: memory[self._bucket] for name, memory in self._memories().items() if self._bucket in memory}
        return {"iter": torch.tensor(self._state.iter), "random": self._random.get_state(), **memories}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue where `state` was taken, after a first pass with the module's final bucket.

        Raises KeyError where an entry is missing, ValueError where a memory has another length.
        """
        iteration, random = int(state.pop("iter")), state.pop("random")
        lengths = {
            "error": max(place.values.stop for place in self._places.values()),
            "q": max(place.q.stop for place in self._places.values()),
        }
        if state:
            for name, memory in self._memories().items():
                if name in lengths and state[name].numel() != lengths[name]:
                    raise ValueError(f"PowerSGD's {name} has {state[name].numel()} values, not {lengths[name]}")
                memory[self._bucket] = state.pop(name)
        self._random.set_state(random)
        self._state.iter = iteration

    def _memories(self) -> dict[str, dict[int, Tensor]]:
        """By the bucket's number: what was not sent, and the matrices, whose P is only room for the next one."""
        state = self._state
        return {"error": state.error_dict, "p": state.p_memory_dict, "q": state.q_memory_dict}

    @contextmanager
    def passing_over(self, idle: Collection[int]) -> Iterator[None]:
        """While DDP averages one step's gradients: the parameters with these numbers do not move, and are zero."""
        errors, qs = self._state.error_dict, self._state.q_memory_dict
        places = [self._places[number] for number in idle] if self._bucket in errors else []
        kept = [
            (place, errors[self._bucket][place.values].clone(), qs[self._bucket][place.q].clone()) for place in places
        ]
        for place in places:
            errors[self._bucket][place.values] = 0
        yield
        for place, error, q in kept:
            errors[self._bucket][place.values], qs[self._bucket][place.q] = error, q
        if self._bucket in qs:
            self._draw_lost(qs[self._bucket])

    def _draw_lost(self, qs: Tensor) -> None:
        for place in self._places.values():
            if place.columns:
                q = qs[place.q].view(place.columns, -1)
                lost = ~q.any(dim=0)
                if bool(lost.any()):
                    q[:, lost] = torch.randn(place.columns, int(lost.sum()), generator=self._random)

    def _lay_out(self, parameters: Sequence[Tensor]) -> dict[int, _Place]:
        """As PyTorch's hook does: in the bucket's order, Qs of matrices of one shape after each other."""
        found: dict[int, _Place] = {}
        by_shape: dict[tuple[int, int], list[tuple[int, int]]] = {}
        begin = 0
        for parameter in parameters:
            number, end = self._numbers[id(parameter)], begin + parameter.numel()
            n, m = parameter.shape[0], parameter.numel() // parameter.shape[0]
            r = min(n, m, self._state.matrix_approximation_rank)
            found[number] = _Place(slice(begin, end), slice(0, 0), 0)
            if (n + m) * r * self._state.min_compression_rate < n * m:
                by_shape.setdefault((n, m), []).append((number, r))
            begin = end
        begin = 0
        for (_, m), matrices in by_shape.items():
            for number, r in matrices:
                found[number] = _Place(found[number].values, slice(begin, begin := begin + m * r), m)
        return found
