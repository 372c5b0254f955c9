"""Faults planted in the product: the search must find each, within some schedules, by its own invariant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gannet.fabrics.virtual.patience import Patience
from gannet.fault_search.schedule import draw
from gannet.fault_search.search import judge
from gannet.node.algorithms.choco import Replicas
from gannet.node.algorithms.collectives import GossipRound
from gannet.node.algorithms.sgp import PushSum
from gannet.node.exchange.mailbox import Header, Mailbox, Refusal
from gannet.node.training.effects import PeerLost

Plant = Callable[[pytest.MonkeyPatch], None]


def weights_that_are_not_renormalised(patch: pytest.MonkeyPatch) -> None:
    """A missing peer's weight goes nowhere."""

    async def finish(self: Any) -> Tensor:
        mixed: Tensor = self._x * self._neighbours.own
        for source, weight in self._neighbours.incoming.items():
            try:
                mixed.add_(await self._peers.receive(source, self._tag, len(self._x)), alpha=weight)
            except PeerLost as lost:
                self._peers.missing.add(lost.rank)
        return mixed

    patch.setattr(GossipRound, "finish", finish)


def weights_that_are_a_little_uneven(patch: pytest.MonkeyPatch) -> None:
    """Rows sum to 1, and columns do not: the mean drifts."""

    async def finish(self: Any) -> Tensor:
        mixed, own = self._x * 0, 1.0
        for source, weight in self._neighbours.incoming.items():
            uneven = weight * (0.9 if self._peers.rank == 0 else 1.0)
            try:
                values = await self._peers.receive(source, self._tag, len(self._x))
            except PeerLost as lost:
                self._peers.missing.add(lost.rank)
                values = self._x
            mixed, own = mixed.add(values, alpha=uneven), own - uneven
        return mixed.add(self._x, alpha=own)

    patch.setattr(GossipRound, "finish", finish)


def a_mailbox_that_takes_damaged_messages(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Mailbox, "_check_payload", lambda self, header, payload, crc32: None)


def a_mailbox_that_takes_any_run(patch: pytest.MonkeyPatch) -> None:
    def check_header(self: Mailbox, header: Header) -> None:
        self.check_time(header)

    patch.setattr(Mailbox, "check_header", check_header)


def a_mailbox_that_takes_what_came_before(patch: pytest.MonkeyPatch) -> None:
    """A replay that arrives late stands for the message of the next round."""

    def stale(self: Any, header: Header, detail: str) -> Refusal:
        key = (header.sender, header.tag._replace(round=self.rounds[header.tag.player] + 1))
        if key not in self._inbox and key not in self._waiting and header.bytes:
            self._inbox[key] = memoryview(bytes(header.bytes))
        return Refusal(self_verdict, detail)

    from gannet.node.exchange.mailbox import Verdict

    self_verdict = Verdict.REPEATED
    patch.setattr(Mailbox, "_stale", stale)


def a_replica_that_misses_a_difference(patch: pytest.MonkeyPatch) -> None:
    """CHOCO without `gone`: it goes on with a replica that has missed a difference."""
    was = Replicas.mix

    async def mix(self: Any, x: Tensor, gamma: float) -> Tensor:
        mixed = await was(self, x, gamma)
        self.gone.clear()
        return mixed

    patch.setattr(Replicas, "mix", mix)


def push_weights_that_do_not_travel(patch: pytest.MonkeyPatch) -> None:
    was = PushSum.round

    async def round_(self: Any, peers: Any, neighbours: Any) -> None:
        await was(self, peers, neighbours)
        self.weight = 1.0

    patch.setattr(PushSum, "round", round_)


def losses_that_no_peer_hears_of(patch: pytest.MonkeyPatch) -> None:
    """And waits without a deadline: a lost peer hangs every node that waits for it."""

    def expect(self: Any, node: Any, source: int, tag: Any, tell: Any) -> None:
        node.mailbox.expect(source, tag, tell)

    patch.setattr(Patience, "expect", expect)
    patch.setattr(Mailbox, "lose", lambda self, rank, reason: None)


def a_run_that_depends_on_more_than_its_seed(patch: pytest.MonkeyPatch) -> None:
    was = GossipRound.finish

    async def finish(self: Any) -> Tensor:
        mixed = await was(self)
        return mixed + 1e-6 * torch.rand(len(mixed)) * (mixed > 0)

    patch.setattr(GossipRound, "finish", finish)


def patience_with_each_wait_alone(patch: pytest.MonkeyPatch) -> None:
    """A node whose waits follow each other, each shorter than its patience, never says that it waits."""
    patch.setattr(Patience, "_note", lambda self, node, source: None)


PLANTED: list[tuple[Plant, str, str]] = [
    (weights_that_are_not_renormalised, "dp-oadam", "weights sum to 1"),
    (weights_that_are_a_little_uneven, "dposg", "the mean is kept while nothing is missing"),
    (a_mailbox_that_takes_damaged_messages, "dp-oadam", "nothing that is refused is used"),
    (a_mailbox_that_takes_damaged_messages, "fedgan", "nothing that is refused is used"),
    (a_mailbox_that_takes_any_run, "dp-oadam", "nothing that is refused is used"),
    (a_mailbox_that_takes_what_came_before, "dp-oadam", "what only comes late or twice changes no bit"),
    (a_replica_that_misses_a_difference, "choco", "replicas are equal at both ends"),
    (push_weights_that_do_not_travel, "sgp", "weights sum to 1"),
    (losses_that_no_peer_hears_of, "dp-oadam", "every run ends as it should, each node with the last step"),
    (patience_with_each_wait_alone, "dposg", "a node is lost only where something struck it"),
    (a_run_that_depends_on_more_than_its_seed, "dp-oadam", "a schedule has the same bits every time"),
]
WITHIN = 60


@pytest.mark.parametrize(("plant", "method", "invariant"), PLANTED)
def test_a_planted_fault_is_found(plant: Plant, method: str, invariant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for seed in range(WITHIN):
        if any(violation.invariant == invariant for violation in judge(draw(seed, method)).violations):
            return
    pytest.fail(f"{WITHIN} schedules of {method} did not find it")
