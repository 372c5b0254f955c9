"""The check of a codec of one's own: sound codecs pass, and each mistake is found by its name."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.node.codecs import NAMES, build_codec
from gannet.node.codecs.custom.base import Codec
from gannet.node.codecs.custom.check import check
from gannet.node.codecs.custom.config import PythonCodecConfig
from gannet.node.codecs.custom.load import GuardedCodec
from gannet.node.codecs.registry import codec_config

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "my_codec.py"
SOURCE = PythonCodecConfig(name="python", entry="mine")


def names(kind: type[Codec]) -> list[str]:
    torch.set_num_threads(1)
    return [finding.name for finding in check(lambda seed, rank: GuardedCodec(kind({}, seed, rank), SOURCE))]


class Sound(Codec):
    """One bit a value: ±m at random, m the largest magnitude; the count and m before."""

    unbiased = True

    def wire_bytes(self, count: int) -> int:
        return 8 + (count + 7) // 8

    def largest(self, values: Tensor) -> Tensor:
        return values.abs().max() if len(values) else torch.zeros(())

    def encode(self, values: Tensor) -> bytes:
        most = self.largest(values)
        up = torch.rand(len(values), generator=self.generator) * 2 * most < values + most
        return np.uint32(len(values)).tobytes() + most.numpy().tobytes() + np.packbits(up.numpy()).tobytes()

    def decode(self, payload: memoryview) -> Tensor:
        count, most = np.frombuffer(payload, "<u4", 1)[0], np.frombuffer(payload, "<f4", 1, offset=4)[0]
        up = np.unpackbits(np.frombuffer(payload, np.uint8, offset=8), count=count)
        return torch.from_numpy(up.astype(np.float32) * 2 - 1) * float(most)


class Half(Codec):
    """fp16, which casts."""

    unbiased, casts = True, True

    def wire_bytes(self, count: int) -> int:
        return 2 * count

    def encode(self, values: Tensor) -> bytes:
        return values.half().numpy().tobytes()

    def decode(self, payload: memoryview) -> Tensor:
        return torch.from_numpy(np.frombuffer(payload, np.float16).astype(np.float32))


class Shipped(Codec):
    """Wraps a shipped codec, which are sound all of them."""

    wrapped = "fp32"

    def __init__(self, settings: dict[str, object], seed: int, rank: int) -> None:
        super().__init__(settings, seed, rank)
        self.inner, config = build_codec(self.wrapped, seed, rank), codec_config(self.wrapped)
        self.unbiased, self.casts, self.grain = config.traits.unbiased, config.traits.casts, self.inner.grain
        self.wire_bytes, self.decode, self.finite = self.inner.wire_bytes, self.inner.decode, self.inner.finite
        self.state, self.load_state = self.inner.state, self.inner.load_state

    def encode(self, values: Tensor) -> bytes:
        return bytes(self.inner.encode(values))


@pytest.mark.parametrize("name", NAMES)
def test_shipped_codecs_pass(name: str) -> None:
    assert names(type("Wrapped", (Shipped,), {"wrapped": name})) == []


@pytest.mark.parametrize("kind", [Sound, Half], ids=lambda kind: kind.__name__)
def test_sound_codecs_pass(kind: type[Codec]) -> None:
    assert names(kind) == []


class WrongSize(Sound):
    def wire_bytes(self, count: int) -> int:
        return 8 + count // 8 + 1  # a byte too many for multiples of 8


class Shrinking(Sound):
    def wire_bytes(self, count: int) -> int:
        return super().wire_bytes(count) + 40 * (count < 100)

    def encode(self, values: Tensor) -> bytes:
        payload = super().encode(values)
        return payload + bytes(40 * (len(values) < 100))

    def decode(self, payload: memoryview) -> Tensor:
        return super().decode(payload[:-40] if np.frombuffer(payload, "<u4", 1)[0] < 100 else payload)


class Memoryview(Half):
    def encode(self, values: Tensor) -> bytes:
        return values.half().numpy().data  # type: ignore[return-value]


class WholeBytes(Sound):
    def decode(self, payload: memoryview) -> Tensor:
        up = np.unpackbits(np.frombuffer(payload, np.uint8, offset=8))
        return torch.from_numpy(up.astype(np.float32))


class Double(Half):
    def decode(self, payload: memoryview) -> Tensor:
        return super().decode(payload).double()


class NeedsOne(Sound):
    def largest(self, values: Tensor) -> Tensor:
        return values.abs().max()


class OddOnly(Sound):
    def encode(self, values: Tensor) -> bytes:
        if len(values) == 8:
            raise IndexError("too even")
        return super().encode(values)


class Grain(Sound):
    grain = 12  # twelve bits are no whole bytes


class Scales(Half):
    def encode(self, values: Tensor) -> bytes:
        return values.clamp_(-1, 1).half().numpy().tobytes()


class Storage(Half):
    def encode(self, values: Tensor) -> bytes:
        whole = torch.tensor([], dtype=torch.float32).set_(values.untyped_storage())
        return whole[: len(values)].half().numpy().tobytes()


class RandomDecode(Half):
    def decode(self, payload: memoryview) -> Tensor:
        values = super().decode(payload)
        return values + 0.001 * torch.randn(len(values), generator=self.generator)


class Remembers(Half):
    def encode(self, values: Tensor) -> bytes:
        self.scale = 2.0 if len(values) else 1.0
        return (values / 2).half().numpy().tobytes()

    def decode(self, payload: memoryview) -> Tensor:
        return super().decode(payload) * self.scale


class Aliases(Half):
    def wire_bytes(self, count: int) -> int:
        return 4 * count

    def encode(self, values: Tensor) -> bytes:
        return values.numpy().tobytes()

    def decode(self, payload: memoryview) -> Tensor:
        return torch.from_numpy(np.asarray(payload).view(np.float32))


class Parameters(Aliases):
    """Keeps what it encoded, and gives it back where the bytes are the same."""

    def encode(self, values: Tensor) -> bytes:
        self.kept = values
        return super().encode(values)

    def decode(self, payload: memoryview) -> Tensor:
        values = torch.from_numpy(np.frombuffer(payload, np.float32).copy())
        kept = getattr(self, "kept", None)
        return kept if kept is not None and torch.equal(kept, values) else values


class GlobalRandom(Sound):
    def encode(self, values: Tensor) -> bytes:
        self.generator = torch.default_generator
        return super().encode(values)

    def state(self) -> dict[str, Tensor]:
        return {}


class Clock(Sound):
    made = 0

    def __init__(self, settings: dict[str, object], seed: int, rank: int) -> None:
        super().__init__(settings, seed, rank)
        Clock.made += 1
        self.generator.manual_seed(Clock.made)


class SameStream(Sound):
    def __init__(self, settings: dict[str, object], seed: int, rank: int) -> None:
        super().__init__(settings, seed, 0)


class Forgets(Sound):
    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        pass


class HidesNan(Sound):
    def largest(self, values: Tensor) -> Tensor:
        return super().largest(values.nan_to_num(posinf=1, neginf=-1))


class RaisesOnNan(Half):
    def encode(self, values: Tensor) -> bytes:
        if not values.isfinite().all():
            raise ValueError("not finite")
        return super().encode(values)


class NeverFinite(Half):
    def finite(self, payload: memoryview) -> bool:
        return not super().finite(payload)


class NotACast(Sound):
    casts = True


class Nearest(Sound):
    """±m by the sign alone."""

    def encode(self, values: Tensor) -> bytes:
        head = super().encode(values)[:8]
        return head + np.packbits((values > 0).numpy()).tobytes()


class Shrinks(Sound):
    def decode(self, payload: memoryview) -> Tensor:
        return super().decode(payload) * 0.9


class LastIsLost(Half):
    casts = False

    def decode(self, payload: memoryview) -> Tensor:
        values = super().decode(payload)
        values[-1:] = 0 if len(values) == 64 else values[-1:]
        return values


class LowVariance(Sound):
    variance = 1.0  # of a spike among 64 values it is about 63


class Grows(Sound):
    unbiased = False  # and errors larger than the vector


MISTAKES: list[tuple[type[Codec], str]] = [
    (WrongSize, "wire-bytes"), (Shrinking, "wire-bytes"), (Memoryview, "not-bytes"), (WholeBytes, "length"),
    (Double, "length"), (NeedsOne, "empty"), (OddOnly, "encode-fails"), (Grain, "grain"), (Scales, "changes-input"),
    (Storage, "storage"), (RandomDecode, "decode-random"), (Remembers, "decode-needs-sender"),
    (Aliases, "shared-memory"), (Parameters, "shared-memory"), (GlobalRandom, "global-random"),
    (Clock, "not-repeatable"), (SameStream, "same-stream"), (Forgets, "state-incomplete"), (HidesNan, "hides-nan"),
    (RaisesOnNan, "hides-nan"), (NeverFinite, "finite"), (NotACast, "casts"), (Nearest, "biased"),
    (Shrinks, "biased"), (LastIsLost, "biased"), (LowVariance, "variance"), (Grows, "no-contraction"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), MISTAKES, ids=lambda value: getattr(value, "__name__", value))
def test_a_mistake_is_found_by_its_name(kind: type[Codec], name: str) -> None:
    assert name in names(kind)


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["codec", "check", *arguments], env={"COLUMNS": "200"})
    torch.set_num_threads(1)
    return done.exit_code, re.sub(r"\s+", " ", done.output)


def test_the_command_passes_the_example_and_names_what_is_wrong(tmp_path: Path) -> None:
    assert run(str(EXAMPLE)) == (0, "my_codec.py: no mistakes found ")
    assert run(str(EXAMPLE.with_suffix(".yaml"))) == (0, "my_codec.py: no mistakes found ")
    text = EXAMPLE.read_text(encoding="utf-8")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(text.replace("torch.rand(len(values), generator=self.generator)", "0.5"), encoding="utf-8")
    code, output = run(str(wrong))
    assert code == 1 and "biased: " in output and "confidence 1 − 1e-06" in output and "wrong.py: 1 found" in output
    wrong.write_text(text.replace("import numpy as np", "import nunpy as np"), encoding="utf-8")
    code, output = run(str(wrong))
    assert code == 1 and "wrong.py:7: ModuleNotFoundError" in output
    code, output = run(str(tmp_path / "none.py"))
    assert code == 1 and "none.py: no such file" in output
    code, output = run(str(EXAMPLE), "--settings", "width")
    assert code == 1 and "--settings width: write key=value" in output
    code, output = run(str(EXAMPLE), "--settings", "width=3")
    assert code == 1 and "my_codec.py: settings: unknown width" in output
    code, output = run(str(EXAMPLE.with_name("my_task.yaml")))
    assert code == 1 and "no codec of your own in it" in output
