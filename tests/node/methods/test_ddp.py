"""PyTorch's DDP as a baseline: its means against NumPy, its bytes against the kernel's count, its end.

Real gloo between real processes on the loopback; whole runs are in tests/fabrics/namespaces/test_ddp_runs.py.
"""

from __future__ import annotations

import socket
import threading
import time
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gannet.fabrics.virtual.fabric import run_virtual
from gannet.node.config import ExchangeConfig, NodeConfig
from gannet.node.exchange.blocking_mailbox import RunAborted
from gannet.node.layout import BUFFERS, TensorSpec
from gannet.node.methods.ddp import DdpConfig, Vector, ring_sent_bytes, vectors_of
from gannet.node.traffic.exchange import exchange_edges, exchange_traffic
from gannet.node.training.peers import CollectiveFailed
from tests.reference.powersgd_reference import PowerSGD
from tests.support.gloo_world import free_address, in_a_world, received_bytes
from tests.support.runs import Memory, virtual_job

if TYPE_CHECKING:
    from gannet.node.process.torch_ddp import DdpMean

STEPS = 6
CONVOLUTION, BIAS = (24, 10, 3, 3), (50,)
LAYOUT = (
    TensorSpec("generator.convolution", CONVOLUTION, 0, "generator"),
    TensorSpec("discriminator.bias", BIAS, 2160, "discriminator"),
    TensorSpec("generator.running_mean", (9,), 2210, BUFFERS),
)
BOTH = ("generator", "discriminator")
HEADER_BYTES = 48  # gloo's, of every message


def settings(**changes: Any) -> DdpConfig:
    return DdpConfig.model_validate({"name": "ddp", **changes})


def gradient(rank: int, step: int) -> np.ndarray:
    """A matrix of falling spectrum, as gradients have, and a vector; nodes agree in part."""
    random, common = np.random.default_rng([rank, step]), np.random.default_rng([step])
    n, m = CONVOLUTION[0], prod(CONVOLUTION[1:])
    matrix = sum(
        0.5**k * np.outer(common.standard_normal(n), common.standard_normal(m) + random.standard_normal(m))
        for k in range(8)
    )
    return np.concatenate([matrix.ravel(), random.standard_normal(BIAS[0])]).astype(np.float32)


def member(rank: int, world: int, address: str, config: DdpConfig) -> tuple[DdpMean, list[tuple[int, int]]]:
    """A node that has joined, and where it writes whom it waits for, at which step."""
    from gannet.node.process.torch_ddp import DdpMean  # only in processes that have imported it already

    waits: list[tuple[int, int]] = []
    mean = DdpMean(config, LAYOUT, rank, world, ExchangeConfig(), lambda *wait: waits.append(wait))
    mean.join(address, "lo")
    return mean, waits


def train(rank: int, world: int, addresses: dict[str, str]) -> dict[str, tuple[list[Any], list[int]]]:
    """By hook: the means of all steps, and what each step brought in, bytes."""
    return {hook: train_with(rank, world, address, CONFIGS[hook]) for hook, address in addresses.items()}


def train_with(rank: int, world: int, address: str, config: DdpConfig) -> tuple[list[Any], list[int]]:
    mean, _ = member(rank, world, address, config)
    port = int(address.rpartition(":")[2])
    means, counts = [], []
    mean.settle()
    begin = received_bytes(port)
    mean.settle()
    settling = received_bytes(port) - begin
    for step in range(STEPS):
        begin = received_bytes(port)
        field, buffers = mean.average(torch.from_numpy(gradient(rank, step)), torch.full((9,), float(rank)), BOTH)
        mean.settle()
        counts.append(received_bytes(port) - begin - settling)
        means.append((field.numpy(), buffers.numpy()))
    mean.close()
    return means, counts


CONFIGS = {
    "none": settings(),
    "fp16": settings(hook="fp16"),
    "powersgd": settings(hook="powersgd", start_powersgd_iter=3),
    "powersgd-4": settings(hook="powersgd", powersgd_rank=4),
}


@pytest.fixture(scope="module")
def trained() -> dict[int, list[Any]]:
    """What the members of worlds of one and of three nodes have, by rank."""
    worlds = {world: in_a_world(world, train, {hook: free_address() for hook in CONFIGS}) for world in (1, 3)}
    assert all(isinstance(result, dict) for results in worlds.values() for result in results), worlds
    return worlds


def expected_means(hook: str, world: int) -> list[np.ndarray]:
    """The mathematics in NumPy."""
    gradients = [[gradient(rank, step) for rank in range(world)] for step in range(STEPS)]
    exact = [np.mean(each, axis=0, dtype=np.float64) for each in gradients]
    config = CONFIGS[hook]
    if config.hook != "powersgd":
        return exact
    n, m = CONVOLUTION[0], prod(CONVOLUTION[1:])
    torch.manual_seed(np.random.RandomState(0).randint(1_000_000_000))  # PowerSGDState's and the hook's choice
    compress = PowerSGD(world, (n, m), torch.randn(m, config.rank).numpy())
    for step in range(config.start, STEPS):
        exact[step][: n * m] = compress([g[: n * m].reshape(n, m) for g in gradients[step]]).ravel()
    return exact


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("hook", CONFIGS)
def test_the_means_are_those_of_the_mathematics(trained: dict[int, list[Any]], world: int, hook: str) -> None:
    results = [result[hook] for result in trained[world]]
    tolerance = {"none": 1e-6, "fp16": 2e-3}.get(hook, 1e-4)
    for step, mean in enumerate(expected_means(hook, world)):
        for means, _ in results:
            np.testing.assert_array_equal(means[step][0], results[0][0][step][0])  # the same bits on every node
            np.testing.assert_allclose(means[step][1], (world - 1) / 2, rtol=1e-6)
        error = np.linalg.norm(results[0][0][step][0] - mean) / np.linalg.norm(mean)
        assert error < tolerance, (step, error)
    if hook == "fp16":
        sent = results[0][0][0][0]
        np.testing.assert_array_equal(sent, sent.astype(np.float16))


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("hook", CONFIGS)
def test_every_byte_is_foretold(trained: dict[int, list[Any]], world: int, hook: str) -> None:
    """By the kernel's count of what came in: the formula for the next rank, and whole headers, three a segment."""
    for rank, result in enumerate(trained[world]):
        for step, count in enumerate(result[hook][1]):
            vectors = vectors_of(CONFIGS[hook], LAYOUT, step)
            payloads = sum(ring_sent_bytes(*vector, (rank + 1) % world, world) for vector in vectors)
            headers, cut = divmod(count - payloads, HEADER_BYTES)
            segments = 2 * 2 * (world - 1) * len(vectors)
            assert cut == 0 and segments / 2 <= headers <= 3 * segments + 6


def test_powersgd_sends_matrices_of_its_rank_and_small_tensors_whole() -> None:
    config = settings(hook="powersgd", powersgd_rank=2)
    statistics = Vector(9, 4)
    assert vectors_of(config, LAYOUT, 1) == [Vector(2160 + 50, 4), statistics]
    assert vectors_of(config, LAYOUT, 2) == [Vector(50, 4), Vector(24 * 2, 4), Vector(90 * 2, 4), statistics]
    # At rank 10, P and Q are more than half of the matrix: 10 (24 + 90) > 24 · 90 ÷ 2.
    whole = vectors_of(settings(hook="powersgd", powersgd_rank=10), LAYOUT, 2)
    assert whole == [Vector(2210, 4), Vector(0, 4), Vector(0, 4), statistics]


@given(values=st.integers(1, 9_000_000), item=st.sampled_from([2, 4]), world=st.integers(2, 40))
def test_a_ring_sends_twice_all_but_one_share(values: int, item: int, world: int) -> None:
    sent = [ring_sent_bytes(values, item, rank, world) for rank in range(world)]
    assert sum(sent) == 2 * (world - 1) * values * item
    assert max(sent) <= 2 * values * item and ring_sent_bytes(values, item, 0, 1) == 0
    if values % (2 * world) == 0 and values * item <= 2 * world << 20:
        assert sent == [2 * (world - 1) * values * item // world] * world


def test_the_traffic_goes_around_backwards_and_follows_the_hook() -> None:
    config = NodeConfig.model_validate({"run": "test", "algorithm": {"name": "ddp", "hook": "powersgd"}})
    assert exchange_edges(config, 3) == ((0, 2), (1, 0), (2, 1)) and exchange_edges(config, 1) == ()
    traffic = exchange_traffic(config, 3, 2219, layout=LAYOUT)
    assert sum(traffic.sent) == 2 * 2 * 4 * (50 + 24 + 90 + 9)
    assert traffic.received == (traffic.sent[1], traffic.sent[2], traffic.sent[0])
    assert (traffic.hops, traffic.every, traffic.around) == (3 * 4, 1, True)
    with pytest.raises(ValueError, match="layout"):
        exchange_traffic(config, 3, 2219)


def test_the_virtual_fabric_says_that_it_cannot() -> None:
    with pytest.raises(ValueError, match=r"ddp.*gloo.*fabric: namespaces"):
        run_virtual(virtual_job({"name": "ddp"}), Memory())


def bereft(rank: int, world: int, address: str, how: str) -> tuple[str, str, float, list[tuple[int, int]]]:
    """One average of all, then rank 2 is not there any more; what the others say, and after how long."""
    mean, waits = member(rank, world, address, settings())
    mean.average(torch.from_numpy(gradient(rank, 0)), None, BOTH)
    deadline_s = 1.5 if how == "silence" else 50.0
    mean._limits = ExchangeConfig(chunk_deadline_s=0.2, patience_s=0.2, round_deadline_s=deadline_s)
    if rank == 2:
        if "death" not in how:
            time.sleep(60)
        return "", "", 0.0, []
    news = {
        "hanging": lambda: mean.lose(2, "it hangs"),
        "death": lambda: mean.lose(2, "its process ended"),
        "abort": lambda: mean.abort("by the user"),
    }

    def tell() -> None:
        while how != "death" and not waits:  # which is noticed before anyone's patience is at its end
            time.sleep(0.02)
        news[how]()

    if how in news:
        threading.Thread(target=tell, daemon=True).start()
    begin = time.monotonic()
    try:
        mean.average(torch.from_numpy(gradient(rank, 1)), None, BOTH)
    except (CollectiveFailed, RunAborted) as error:
        took_s = time.monotonic() - begin
        mean.close()
        return type(error).__name__, str(error), took_s, waits
    raise AssertionError("an average without rank 2")


@pytest.mark.parametrize(
    ("how", "kind", "says"),
    [
        ("hanging", "CollectiveFailed", "without rank 2 (it hangs); a gossip algorithm"),
        ("death", "CollectiveFailed", "without rank 2 (its process ended); a gossip algorithm"),
        ("unsaid death", "CollectiveFailed", "step 2 cannot be completed: "),
        ("silence", "CollectiveFailed", "step 2 cannot be completed: it took more than 1.5 s"),
        ("abort", "RunAborted", "by the user"),
    ],
)
def test_nobody_waits_for_ever_for_who_is_gone(how: str, kind: str, says: str) -> None:
    results = in_a_world(3, bereft, free_address(), how, but=[2])
    for rank in (0, 1):
        name, text, took_s, waits = results[rank]
        assert name == kind and says in text and took_s < 40
        if "death" in how:
            assert waits in ([], [((rank + 1) % 3, 2)])
        else:
            assert waits == [((rank + 1) % 3, 2)]


def intruder(rank: int, world: int, address: str) -> str:
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))), pytest.raises(CollectiveFailed) as failed:
        member(rank, world, address, settings())
    return str(failed.value)


def test_an_address_that_is_taken_is_named() -> None:
    address = free_address()
    (said,) = in_a_world(1, intruder, address)
    assert f"gloo's group at {address} cannot be joined: " in said and "EADDRINUSE" in said
