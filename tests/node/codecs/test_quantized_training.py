"""Codecs with loss inside the collectives and in training: what is averaged, what it costs, where it is refused."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gannet.node.algorithms.collectives import ring_all_reduce, server_average
from gannet.node.codecs import build_codec
from gannet.node.codecs.registry import codec_config
from gannet.node.codecs.split import Split
from gannet.node.config import NodeConfig
from gannet.node.layout import BUFFERS, TensorSpec
from gannet.node.methods.segments import ring_segments, server_segments
from gannet.node.traffic.exchange import exchange_traffic
from gannet.node.training.effects import RAW_SEGMENT, Receive, Send
from gannet.node.training.peers import Peers
from gannet.spec.load import SpecError, resolve
from tests.support.games import BilinearGame
from tests.support.runs import play, virtual_job

COLLECTIVES = {"server": server_average, "ring": ring_all_reduce}
LOSSY = ["qsgd-2bit", "qsgd-4bit", "qsgd-8bit", "qsgd-4bit,scale=l2", "natural-8bit", "natural-9bit",
         "random-k,ratio=0.5"]  # fmt: skip


def average(
    collective: str, vectors: list[Tensor], codec: str, seed: int = 0, segment_bytes: int = 4096, raw: int = 0
) -> tuple[list[Tensor], list[Peers], int]:
    """One round without a fabric: (each node's mean, its Peers, bytes of raw parts), messages delivered as sent."""
    world = len(vectors)
    nodes = [Peers(rank, world, build_codec(codec, seed, rank), segment_bytes) for rank in range(world)]
    rounds: dict[int, Coroutine[Any, Any, Tensor]] = {
        rank: COLLECTIVES[collective](nodes[rank], x, raw=raw) for rank, x in enumerate(vectors)
    }
    messages: dict[Any, memoryview] = {}
    waiting: dict[int, Any] = dict.fromkeys(rounds)
    means: dict[int, Tensor] = {}
    raw_bytes = 0
    while rounds:
        for rank in list(rounds):
            if waiting[rank] is not None and waiting[rank] not in messages:
                continue
            answer = messages.pop(waiting[rank]) if waiting[rank] is not None else None
            waiting[rank] = None
            try:
                while True:
                    effect = rounds[rank].send(answer)
                    answer = None
                    if isinstance(effect, Receive):
                        waiting[rank] = (effect.source, rank, effect.tag)
                        break
                    assert isinstance(effect, Send)
                    messages[rank, effect.to, effect.tag] = effect.payload
                    raw_bytes += len(effect.payload) if effect.tag.segment & RAW_SEGMENT else 0
            except StopIteration as done:
                means[rank] = done.value
                del rounds[rank]
    assert not messages
    return [means[rank] for rank in range(world)], nodes, raw_bytes


def normal(world: int, count: int, seed: int = 1) -> list[Tensor]:
    return list(torch.randn(world, count, generator=torch.Generator().manual_seed(seed)))


@given(
    collective=st.sampled_from(sorted(COLLECTIVES)),
    codec=st.sampled_from([*LOSSY, "fp16", "fp32"]),
    world=st.integers(2, 6),
    count=st.one_of(st.integers(0, 40), st.integers(500, 3000)),
    raw=st.integers(0, 40),
    segment_bytes=st.sampled_from([64, 300, 4096]),
)
def test_every_node_has_the_same_mean_and_the_bytes_are_foretold(
    collective: str, codec: str, world: int, count: int, raw: int, segment_bytes: int
) -> None:
    """Same bits on all nodes; raw values exact; bytes as exchange_traffic says before anything is sent."""
    raw = min(raw, count)
    vectors = normal(world, count)
    means, nodes, raw_bytes = average(collective, vectors, codec, segment_bytes=segment_bytes, raw=raw)
    assert all(torch.equal(mean, means[0]) for mean in means)
    exact = torch.stack(vectors).double().mean(dim=0)
    np.testing.assert_allclose(means[0][count - raw :], exact[count - raw :], atol=1e-6)
    if codec in ("fp16", "fp32"):
        np.testing.assert_allclose(means[0], exact, atol=1e-2)
    config = NodeConfig.model_validate(
        {
            "run": "test",
            "algorithm": {"name": "cp-oadam", "collective": collective, "average": "gradients"},
            "codec": codec,
            "exchange": {"segment_bytes": segment_bytes},
        }
    )
    traffic = exchange_traffic(config, world, count, raw)
    assert tuple(peers.codec_bytes for peers in nodes) == traffic.sent and sum(traffic.sent) == sum(traffic.received)
    copies = 2 * (world - 1)  # of each value, over a star as around a ring
    assert raw_bytes == 4 * raw * copies


@given(
    st.sampled_from(LOSSY), st.integers(1, 9), st.integers(0, 5000), st.integers(0, 300), st.sampled_from([64, 1000])
)
def test_pieces_cover_the_vector_in_whole_buckets(
    name: str, world: int, count: int, raw: int, segment_bytes: int
) -> None:
    codec, raw = build_codec(name), min(raw, count)
    shares = ring_segments(codec, segment_bytes, world, count, raw)
    assert len({len(share) for share in shares}) == 1
    for segments in (
        server_segments(codec, segment_bytes, count, raw),
        [segment for share in shares for segment in share],
    ):
        places = sorted((segment.place.start, segment.place.stop) for segment in segments)
        assert [place for a, b in places for place in range(a, b)] == list(range(count))
        assert all(
            segment.raw == (segment.place.start >= count - raw)
            for segment in segments
            if segment.place.stop > segment.place.start
        )
        for segment in segments:
            size = segment.place.stop - segment.place.start
            assert segment.wire_bytes(codec) <= segment_bytes or size <= max(1, codec.grain)
    if name.startswith("qsgd"):  # as many bytes in segments as in one
        whole = sum(segment.wire_bytes(codec) for segment in server_segments(codec, segment_bytes, count, raw))
        assert whole == codec.wire_bytes(count - raw) + 4 * raw


def noise_of(x: Tensor) -> float:
    """E‖Q(x) − x‖² of 4 bits, one bucket: Σ (scale/s)² p(1 − p), p what is above a level."""
    unit = float(x.abs().max()) / 7
    up = (x.double().abs() / unit) % 1
    return float(unit**2 * (up * (1 - up)).sum())


@pytest.mark.parametrize("collective", sorted(COLLECTIVES))
def test_no_bias_and_the_noise_that_hops_add(collective: str) -> None:
    """Unbiased, and as noisy as its hops: a star's error is that of M vectors and of the mean; a ring's is that of
    all partial sums (of 1 to M − 1 vectors) and of the mean, which with agreeing gradients grows as M/3."""
    world, repeats, bucket = 6, 150, 64
    count, name = bucket * world, f"qsgd-4bit,bucket={bucket}"
    common, own = normal(1, count)[0], normal(world, count, seed=2)
    vectors = [common + 0.7 * x for x in own]
    mean = torch.stack(vectors).mean(dim=0)
    means = [average(collective, vectors, name, seed)[0][0] for seed in range(repeats)]
    errors = torch.stack(means).double().numpy() - mean.double().numpy()
    expected = 0.0
    for share in range(world):  # a bucket each, and in the ring that of rank `share` at first
        part = slice(bucket * share, bucket * (share + 1))
        around = [vectors[(share + hop) % world][part] for hop in range(world)]
        sums = [torch.stack(around[:hop]).sum(dim=0) for hop in range(1, world)]
        sent = sums if collective == "ring" else [x[part] for x in vectors[1:]]
        expected += sum(noise_of(x) for x in sent) / world**2 + noise_of(mean[part])
    assert (errors**2).sum(axis=1).mean() == pytest.approx(expected, rel=0.12)
    random = errors.std(axis=0) > 1e-3  # not the largest of a bucket
    z = errors.mean(axis=0)[random] / errors.std(axis=0)[random] * math.sqrt(repeats)
    assert random.mean() > 0.9 and 0.7 < (z**2).mean() < 1.4


def final_distance(codec: str, collective: str = "server", world: int = 4, steps: int = 400) -> float:
    """How far the mean of x is from the saddle point, averaged over the last 100 steps."""
    algorithm = {"name": "cp-oadam", "collective": collective, "average": "gradients"}
    optimizer = {"learning_rate": 0.05, "beta1": 0.5, "beta2": 0.9}
    job = virtual_job(algorithm, world, steps, codec=codec, optimizer=optimizer)
    memory, outcome = play(job, [BilinearGame(rank, 300, noise=0.02) for rank in range(world)])
    assert outcome.status == "finished", outcome.reason
    assert not memory.refusals
    states = [memory.states(step) for step in range(steps - 99, steps + 1)]
    assert all((state == state[0]).all() for state in states)
    return float(np.mean([np.linalg.norm(state[0]) for state in states]))


@pytest.fixture(scope="module")
def exact_distance() -> float:
    begin = float(BilinearGame(0, 300).initial().norm())
    distance = final_distance("fp32")
    assert distance < 0.45 * begin
    return distance


@pytest.mark.slow
@pytest.mark.parametrize("collective", sorted(COLLECTIVES))
@pytest.mark.parametrize("codec", ["qsgd-4bit,raw_below=0", "qsgd-8bit,raw_below=0", "natural-8bit,raw_below=0"])
def test_quantized_gradients_train_as_exact_ones(codec: str, collective: str, exact_distance: float) -> None:
    assert final_distance(codec, collective) < 1.15 * exact_distance


def test_small_tensors_and_running_statistics_travel_as_they_are() -> None:
    layout = [
        TensorSpec("g.w", (100, 100), 0, "generator"), TensorSpec("g.b", (100,), 10_000, "generator"),
        TensorSpec("d.b", (9_999,), 10_100, "discriminator"), TensorSpec("d.w", (20_000,), 20_099, "discriminator"),
        TensorSpec("mean", (12_000,), 40_099, BUFFERS),
    ]  # fmt: skip
    x = torch.arange(52_099.0)
    split = Split(layout, "qsgd-4bit")
    packed = split.pack(x)
    assert split.raw == 100 + 9_999 + 12_000
    assert torch.equal(packed[: -split.raw], torch.cat([x[:10_000], x[20_099:40_099]]))
    assert torch.equal(packed[-split.raw :], torch.cat([x[10_000:20_099], x[40_099:]]))
    assert torch.equal(split.unpack(packed), x)
    everything = Split(layout, "qsgd-4bit,raw_below=0")
    assert everything.raw == 12_000 and torch.equal(everything.unpack(everything.pack(x)), x)
    exact = Split(layout, "fp16")
    assert exact.raw == 0 and exact.pack(x) is x and exact.unpack(x) is x


def test_a_game_of_small_tensors_trains_to_the_bit_as_with_float32() -> None:
    def run(codec: str, collective: str) -> np.ndarray:
        algorithm = {"name": "cp-oadam", "collective": collective, "average": "gradients"}
        memory, _ = play(virtual_job(algorithm, 3, 6, codec=codec), [BilinearGame(rank, 50) for rank in range(3)])
        return memory.states(6)

    for collective in COLLECTIVES:
        np.testing.assert_array_equal(run("qsgd-2bit", collective), run("fp32", collective))


def test_equal_seeds_give_equal_bits_on_other_links() -> None:
    """Invariant 1, with rounding at random: links say when payloads come, never what is in them."""
    found = defaultdict(list)
    for seed in (1, 1, 2):
        for link in ({"rate": "10Mbit", "delay_ms": 25}, {"rate": "1Mbit", "delay_ms": 80}):
            algorithm = {"name": "cp-oadam", "collective": "ring", "average": "gradients"}
            job = virtual_job(algorithm, 3, 5, link, codec="qsgd-4bit,raw_below=0", seed=seed)
            found[seed].append(play(job, [BilinearGame(rank, 400) for rank in range(3)])[0].states(5))
    assert all((states == found[1][0]).all() for states in found[1])
    assert (found[1][0] != found[2][0]).any()


@pytest.mark.parametrize(
    ("algorithm", "codec", "words"),
    [
        ({"name": "dp-oadam"}, "qsgd-4bit", ["qsgd-4bit", "dp-oadam exchanges parameters", "cp-oadam", "fp16"]),
        ({"name": "dposg"}, "top-k", ["top-k", "dposg exchanges parameters"]),
        ({"name": "cp-oadam"}, "sign", ["sign", "average: gradients"]),
        ({"name": "cp-oadam", "average": "gradients"}, "sign", ["sign is biased", "error memory", "qsgd-4bit"]),
        ({"name": "cp-oadam", "average": "gradients", "collective": "ring"}, "top-k,ratio=0.5", ["is biased"]),
    ],
)  # fmt: skip
def test_what_a_codec_would_ruin_is_refused(algorithm: dict[str, Any], codec: str, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        NodeConfig.model_validate({"run": "test", "algorithm": algorithm, "codec": codec})
    assert [word for word in words if word not in str(error.value)] == []


@pytest.mark.parametrize("codec", ["fp16", "qsgd-4bit", {"name": "qsgd", "bits": 8}, "random-k", "natural-9bit"])
def test_what_fits_is_taken(codec: Any) -> None:
    for collective in COLLECTIVES:
        algorithm = {"name": "cp-oadam", "average": "gradients", "collective": collective}
        config = NodeConfig.model_validate({"run": "test", "algorithm": algorithm, "codec": codec})
        assert config.codec == codec_config(codec).text
        assert NodeConfig.model_validate_json(config.model_dump_json()) == config


def test_a_spec_says_so_before_anything_starts() -> None:
    spec = {
        "algorithm": {"name": "cp-oadam", "average": "gradients"},
        "stop": {"steps": 5},
        "codec": {"name": "qsgd"},
    }
    arms = {"a": {}, "b": {"codec": "qsgd-2bit,bucket=512"}, "c": {"codec": "fp16"}}
    comparison = resolve({**spec, "arms": arms}, "my.yaml")
    assert [arm.codec for arm in comparison.arms.values()] == ["qsgd-4bit", "qsgd-2bit,bucket=512", "fp16"]
    with pytest.raises(SpecError, match=r"in arm d: codec qsgd-4bit quantizes gradients, and dposg exchanges"):
        resolve({**spec, "arms": arms | {"d": {"algorithm": {"name": "dposg"}}}}, "my.yaml")
