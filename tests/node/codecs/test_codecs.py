"""Every codec: exact sizes, what comes back, bad payloads refused, and no bias where none is promised."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gannet.node.codecs import NAMES, build_codec
from gannet.node.codecs.elias import EliasQsgd
from gannet.node.codecs.feedback import ErrorFeedback
from gannet.node.codecs.registry import codec_config

CASTS = ("fp32", "fp16", "bf16")
FORMS = (
    *NAMES, "qsgd-2bit,bucket=8", "qsgd-4bit,bucket=16,scale=l2", "qsgd-8bit,bucket=24", "top-k,ratio=0.4",
    "random-k,ratio=1", "sign,bucket=8",
)  # fmt: skip
UNBIASED = tuple(name for name in FORMS if codec_config(name).unbiased and name not in CASTS)
# How long long vectors take to draw on a busy machine says nothing of codecs.
patient = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
counts = st.one_of(st.integers(0, 70), st.sampled_from([127, 128, 129, 511, 512, 513, 1024, 1300]))
vectors = counts.flatmap(lambda n: arrays(np.float32, n, elements=st.floats(-1e4, 1e4, width=32)))


@patient
@given(st.sampled_from(FORMS), vectors, st.integers(0, 2**31))
def test_size_is_known_and_values_come_back(name: str, values: np.ndarray, seed: int) -> None:
    codec = build_codec(name, seed)
    payload = codec.encode(torch.from_numpy(values))
    assert len(payload) == codec.wire_bytes(len(values))
    back = codec.decode(memoryview(bytes(payload))).numpy()
    assert back.dtype == np.float32 and back.shape == values.shape and codec.finite(memoryview(bytes(payload)))
    check_values(name, values, back)


def check_values(name: str, values: np.ndarray, back: np.ndarray) -> None:
    """Each value is where its codec may put it."""
    config, exact = codec_config(name), values.astype(np.float64)
    match config.name:
        case "fp32":
            np.testing.assert_array_equal(back, values)
        case "fp16":
            np.testing.assert_array_equal(back, values.astype(np.float16).astype(np.float32))  # IEEE rounding
        case "bf16":
            np.testing.assert_allclose(back, values, rtol=2**-8, atol=1e-38)  # 8 bits of significand
        case "natural":
            # Below a normal number there is only zero, and in 8 bits far below the largest too.
            real = np.abs(exact) >= max(2.0**-126, np.abs(exact).max(initial=0) * 2.0**-120)
            ratio = np.abs(back[real]) / np.abs(exact[real])
            assert ((ratio > 0.5) & (ratio <= 2)).all() and (np.frexp(np.abs(back[real]))[0] == 0.5).all()
            np.testing.assert_array_equal(np.sign(back[real]), np.sign(values[real]))
        case "top-k":
            k = int(np.ceil(len(values) * config.ratio))
            chosen = back != 0
            np.testing.assert_array_equal(back[chosen], values[chosen])
            assert chosen.sum() == min(k, (values != 0).sum())
            assert not chosen.any() or np.abs(values[~chosen]).max(initial=0) <= np.abs(values[chosen]).min()
        case "random-k":
            k = int(np.ceil(len(values) * config.ratio))
            assert (back != 0).sum() <= k
            runs = {np.float32(len(values) // max(1, k)), np.float32(-(-len(values) // max(1, k)))}
            assert all(back[i] in {values[i] * run for run in runs} for i in np.nonzero(back)[0])
        case _:  # a scale for every bucket
            for begin in range(0, len(values), config.bucket):
                part = exact[begin : begin + config.bucket]
                if config.name == "sign":
                    magnitude = np.abs(part).mean()
                    expected = np.where(np.signbit(part), -magnitude, magnitude)
                    np.testing.assert_allclose(back[begin : begin + len(part)], expected, rtol=1e-6, atol=1e-44)
                    continue
                s = 2 ** (config.bits - 1) - 1
                scale = np.abs(part).max() if config.scale == "max" else np.sqrt((part**2).sum())
                error = np.abs(back[begin : begin + len(part)] - part)
                assert error.max() <= max(scale / s * (1 + 1e-3), 2.0**-100)


@pytest.mark.parametrize(
    ("name", "count", "size"),
    [
        ("qsgd-2bit", 1 << 20, 2.25), ("qsgd-4bit", 1 << 20, 4.0625), ("qsgd-8bit", 1 << 20, 8.0625),
        ("natural-9bit", 1 << 20, 9), ("natural-8bit", 1 << 20, 8 + 8 / (1 << 20)), ("fp16", 999, 16),
        ("sign", 1 << 20, 1 + 32 / 512 + 32 / (1 << 20)),
        ("top-k,ratio=0.01", 100_000, (32 + 64 * 1000) / 100_000),  # places of 4 bytes each are shorter
        ("top-k,ratio=0.25", 100_000, (32 + 100_000 + 32 * 25_000) / 100_000),  # than a bit a value, or not
        ("random-k,ratio=0.1", 100_000, (96 + 32 * 10_000) / 100_000),
    ],
)  # fmt: skip
def test_bits_a_value(name: str, count: int, size: float) -> None:
    codec = build_codec(name)
    assert 8 * codec.wire_bytes(count) / count == size
    assert len(codec.encode(torch.randn(count, generator=torch.Generator().manual_seed(1)))) == codec.wire_bytes(
        count
    )


@pytest.mark.parametrize("name", FORMS)
def test_a_body_does_not_alias_the_parameters(name: str) -> None:
    codec, x = build_codec(name), torch.ones(40)
    payload = codec.encode(x)
    before = bytes(payload)
    x.zero_()
    assert bytes(payload) == before and codec.decode(payload).any()


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("count", [1, 3, 700])
def test_not_finite_is_seen(name: str, bad: float, count: int) -> None:
    codec, x = build_codec(name), torch.ones(count)
    x[count // 2] = bad
    payload = codec.encode(x)
    assert len(payload) == codec.wire_bytes(count) and not codec.finite(payload)
    if name not in CASTS and not name.endswith("-k") and "-k," not in name:
        with pytest.raises(ValueError, match=r"finite|NaN"):
            codec.decode(payload)


@pytest.mark.parametrize("name", FORMS)
def test_zeros_stay_zeros(name: str) -> None:
    assert not build_codec(name).decode(build_codec(name).encode(torch.zeros(1000))).any()


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16", "qsgd-2bit", "qsgd-4bit", "qsgd-8bit", "top-k", "random-k",
                                  "sign"])  # fmt: skip
def test_half_a_value_is_no_body(name: str) -> None:
    with pytest.raises(ValueError, match="no whole number"):
        build_codec(name).decode(memoryview(b"\0\0\0"))


@patient
@given(st.sampled_from(FORMS), st.binary(max_size=600), st.data())
def test_any_bytes_are_refused_or_are_values(name: str, payload: bytes, data: st.DataObject) -> None:
    """What `finite` lets pass `decode` can read, as finite values; all else is a ValueError, never a crash."""
    codec = build_codec(name)
    if data.draw(st.booleans()):  # a true payload, damaged
        whole = bytearray(codec.encode(torch.randn(data.draw(counts), generator=torch.Generator().manual_seed(1))))
        for _ in range(data.draw(st.integers(0, 3))):
            if whole:
                whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        payload = bytes(whole[: len(whole) - data.draw(st.integers(0, 2))])
    claimed = int.from_bytes(payload[:4], "little")
    assume(name in CASTS or claimed < 1 << 24 or len(payload) != codec.wire_bytes(claimed))
    try:
        finite = codec.finite(memoryview(payload))
    except ValueError:
        with pytest.raises(ValueError):
            codec.decode(memoryview(payload))
        return
    if finite:
        values = codec.decode(memoryview(payload))
        assert torch.isfinite(values).all() and codec.wire_bytes(len(values)) == len(payload)


def variances(name: str, x: np.ndarray) -> np.ndarray:
    """The variance of each value that comes back, by the codec's definition; shape of x."""
    config = codec_config(name)
    if config.name == "natural":  # between two powers of two
        high = 2.0 ** np.ceil(np.log2(np.abs(x)))
        return (np.abs(x) - high / 2) * (high - np.abs(x))
    if config.name == "random-k":
        return (round(1 / config.ratio) - 1) * x**2
    result = []
    for begin in range(0, len(x), config.bucket):
        part = x[begin : begin + config.bucket]
        s = 2 ** (config.bits - 1) - 1
        scale = np.abs(part).max() if config.scale == "max" else np.sqrt((part**2).sum())
        up = np.abs(part) * s / scale % 1
        result.append((scale / s) ** 2 * up * (1 - up))
    return np.concatenate(result)


@pytest.mark.parametrize("name", UNBIASED)
def test_no_bias_the_right_variance_and_independent_ranks(name: str) -> None:
    """z-tests of 1,000 payloads with the standard deviations of the definition; equal seeds, so equal outcomes."""
    repeats, n = 1000, 200
    vector = torch.randn(n, generator=torch.Generator().manual_seed(3)) * torch.logspace(-1, 0, n)
    x = vector.numpy().astype(np.float64)

    def errors(rank: int) -> np.ndarray:
        codec = build_codec(name, 7, rank)
        return np.stack([codec.decode(codec.encode(vector)).numpy() for _ in range(repeats)]) - x

    mine, theirs, variance = errors(0), errors(1), variances(name, x)
    fixed = variance < 1e-6 * x**2  # the largest of a bucket is its scale
    np.testing.assert_allclose(mine.mean(axis=0)[fixed], 0, atol=1e-4 * np.abs(x).max())
    if fixed.all():
        assert name == "random-k,ratio=1"
        return
    mine, theirs = mine[:, ~fixed] / np.sqrt(variance[~fixed]), theirs[:, ~fixed] / np.sqrt(variance[~fixed])
    z = mine.sum(axis=0) / np.sqrt(repeats)
    assert abs(z.sum()) < 5 * np.sqrt(len(z)) and 0.6 < (z**2).mean() < 1.6
    assert (mine**2).mean() == pytest.approx(1, abs=0.1)
    assert abs((mine * theirs).sum()) < 5 * np.sqrt(mine.size)


@pytest.mark.parametrize("name", UNBIASED)
def test_seeds_states_and_ranks_decide_the_bodies(name: str) -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(1))
    codec, same = build_codec(name, 5, 2), build_codec(name, 5, 2)
    first = [bytes(codec.encode(x)) for _ in range(3)]
    assert first == [bytes(same.encode(x)) for _ in range(3)] and len(set(first)) == 3
    for seed, rank in ((5, 3), (6, 2)):
        assert bytes(build_codec(name, seed, rank).encode(x)) not in first
    again = build_codec(name)
    again.load_state(codec.state())
    assert bytes(again.encode(x)) == bytes(codec.encode(x))
    with pytest.raises(ValueError, match="random stream"):
        again.load_state({})


NAMINGS = [
    ("qsgd,bits=4", "qsgd-4bit"), ("qsgd-4bit,bucket=512,scale=max", "qsgd-4bit"), ("qsgd", "qsgd-4bit"),
    ({"name": "qsgd", "bits": 2}, "qsgd-2bit"), ("qsgd-2bit,bucket=512", "qsgd-2bit,bucket=512"),
    ({"name": "qsgd", "bits": 8, "bucket": 64, "scale": "l2"}, "qsgd-8bit,bucket=64,scale=l2"),
    ("natural", "natural-8bit"), ("top-k, ratio=0.01", "top-k"), ("top-k,ratio=5e-3", "top-k,ratio=0.005"),
    ("qsgd-4bit,raw_below=0", "qsgd-4bit,raw_below=0"), ("fp16", "fp16"), ({"name": "sign"}, "sign"),
]  # fmt: skip


@pytest.mark.parametrize(("given_as", "canonical"), NAMINGS, ids=str)
def test_all_ways_of_naming_a_codec_give_one_text(given_as: str | dict[str, object], canonical: str) -> None:
    config = codec_config(given_as)
    assert config.text == canonical and codec_config(config.text) == config
    assert build_codec(canonical).name == canonical


def test_a_codec_is_checked_without_numpy_or_torch() -> None:
    """Its settings stand in one file with its arithmetic, whose libraries take seconds to import."""
    code = (
        "import sys; from gannet.node.codecs.registry import NAMES, codec_config\n"
        "[codec_config(name).traits.keeps_float32(10, False) for name in NAMES]\n"
        "print([name for name in ('torch', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


MISTAKES = [
    ("fp8", "choose one of fp32"), ("qsgd-3bit", "bits"), ("qsgd-4bit,bits=8", "each key once"),
    ("qsgd-4bit,bucket=100", "multiple of 8"), ("qsgd-4bit,buckets=512", "unknown buckets"), ("fp16-4bit", "bits"),
    ("top-k,ratio=0", "more than 0"), ("sign,512", "KEY=VALUE"), ({"bits": 4}, "choose one of"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), MISTAKES, ids=str)
def test_mistakes_in_names(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        build_codec(text) if isinstance(text, str) else codec_config(text)
    assert len(str(error.value).splitlines()) == 1


@patient
@given(vectors)
def test_sizes_never_shrink_and_whole_buckets_add_up(values: np.ndarray) -> None:
    for name in FORMS:
        codec, n = build_codec(name), len(values)
        assert codec.fixed_size and codec.wire_bytes(n) <= codec.wire_bytes(n + 1)
        if name.startswith("qsgd"):
            assert codec.wire_bytes(n + 3 * codec.grain) == codec.wire_bytes(n) + codec.wire_bytes(3 * codec.grain)


class TestErrorFeedback:
    """e ← corrected − decode(encode(corrected))."""

    @pytest.mark.parametrize("name", ["top-k,ratio=0.1", "sign", "qsgd-2bit", "random-k,ratio=0.5"])
    def test_nothing_is_lost(self, name: str) -> None:
        """What was sent and what is remembered are together all that was given, after any number of payloads."""
        feedback, random = ErrorFeedback(build_codec(name), 300), np.random.default_rng(1)
        given_, sent = np.zeros(300), np.zeros(300)
        for _ in range(20):
            x = random.standard_normal(300).astype(np.float32)
            given_ += x
            sent += feedback.codec.decode(feedback.encode(torch.from_numpy(x))).numpy()
            np.testing.assert_allclose(sent + feedback.memory.numpy(), given_, atol=1e-2, rtol=1e-3)

    def test_biased_codecs_descend_only_with_it(self) -> None:
        """Karimireddy et al. 2019, section 3: sign descent from a direction that signs do not see stands still."""
        a = torch.tensor([1.0, -1.0]) + 0.5 * torch.tensor([1.0, 1.0])
        b = -torch.tensor([1.0, -1.0]) + 0.5 * torch.tensor([1.0, 1.0])

        def final(feedback: bool) -> float:
            codec, x = build_codec("top-k,ratio=0.5"), torch.tensor([1.0, 1.0])
            memory = ErrorFeedback(codec, 2)
            for k in range(400):
                direction = (a, b)[k % 2]
                g = 2 * float(direction @ x) * direction * 0.02
                x = x - codec.decode(memory.encode(g) if feedback else codec.encode(g))
            return float((a @ x) ** 2 + (b @ x) ** 2)

        assert final(feedback=True) < 1e-3 * final(feedback=False) or final(feedback=True) < 1e-6

    def test_pieces_have_their_own_places(self) -> None:
        feedback = ErrorFeedback(build_codec("top-k,ratio=0.5"), 8)
        feedback.encode(torch.tensor([4.0, 3.0, 2.0, 1.0]), start=4)
        assert feedback.memory.tolist() == [0, 0, 0, 0, 0, 0, 2, 1]
        feedback.encode(torch.tensor([4.0, 3.0, 2.0, 1.0]), start=0)
        assert feedback.memory.tolist() == [0, 0, 2, 1, 0, 0, 2, 1]
        with pytest.raises(ValueError, match="vector of 8"):
            feedback.encode(torch.ones(4), start=6)

    def test_a_checkpoint_goes_on_bit_for_bit(self) -> None:
        x = torch.randn(500, generator=torch.Generator().manual_seed(1))
        one = ErrorFeedback(build_codec("qsgd-2bit", 3, 1), 500)
        for _ in range(3):
            one.encode(x)
        two = ErrorFeedback(build_codec("qsgd-2bit"), 500)
        two.load_state(one.state())
        assert bytes(one.encode(x)) == bytes(two.encode(x)) and torch.equal(one.memory, two.memory)
        with pytest.raises(ValueError, match="error memory"):
            ErrorFeedback(build_codec("qsgd-2bit"), 499).load_state(one.state())

    def test_what_is_not_finite_is_not_remembered(self) -> None:
        feedback = ErrorFeedback(build_codec("sign"), 3)
        feedback.encode(torch.tensor([1.0, 2.0, 3.0]))
        before = feedback.memory.clone()
        feedback.encode(torch.tensor([1.0, float("nan"), 3.0]))
        assert torch.equal(feedback.memory, before)


def test_a_code_of_variable_length_is_given_to_no_exchange() -> None:
    assert not EliasQsgd(7, 512).fixed_size
    assert all(build_codec(name).fixed_size for name in NAMES)
