"""A codec of one's own: it travels with the spec, its declared size is what is counted, its mistakes are reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.experiment.checks import check_plugins
from gannet.experiment.job import job_of
from gannet.ledger.reader import read_run
from gannet.node.codecs import build_codec
from gannet.node.codecs.custom.config import PythonCodecConfig
from gannet.node.config import NodeConfig
from gannet.node.plugins import PluginError, with_source
from gannet.node.traffic.exchange import exchange_traffic
from gannet.spec.load import SpecError, resolve
from gannet.spec.run_spec import ComparisonSpec
from tests.support.runs import play

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "my_codec.py"
HALVES = """
import torch
from gannet import Codec

class Halves(Codec):
    unbiased = True
    raw_below = 0
    def wire_bytes(self, count):
        return 2 * count
    def encode(self, values):
        return values.to(torch.float16).numpy().tobytes()
    def decode(self, payload):
        return torch.frombuffer(bytearray(payload), dtype=torch.float16).float() if payload else torch.zeros(0)
"""


def spec_with(folder: Path, text: str, **more: Any) -> ComparisonSpec:
    (folder / "mine.py").write_text(text, encoding="utf-8")
    raw = {
        "fabric": "virtual", "pace_ms": 10, "nodes": 2, "task": {"name": "game"}, "stop": {"steps": 3}, "score": None,
        "algorithm": {"name": "cp-oadam", "average": "gradients"}, "codec": {"name": "python", "file": "mine.py"},
        **more,
    }  # fmt: skip
    return resolve(raw, str(folder / "spec.yaml"))


def codec_of(text: str, **settings: Any) -> PythonCodecConfig:
    raw = {"name": "python", "file": "mine.py", "settings": settings}
    return PythonCodecConfig.model_validate(with_source(raw, text))


def test_the_example_runs_from_the_command_line_and_saves_what_it_says(tmp_path: Path) -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 40
    sets = ["stop.steps=6", "snapshot_every=3", "score.points=2", "task.samples=100"]
    argv = ["compare", str(EXAMPLE.with_suffix(".yaml")), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*argv, *(word for text in sets for word in ("--set", text))])
    torch.set_num_threads(1)
    assert done.exit_code == 0, done.output
    ternary, exact = (read_run(tmp_path / "run" / arm / "seed-1") for arm in ("ternary", "exact"))
    assert ternary.summary.codec == "my_codec.py"
    # Two bits for 32, but for the headers.
    assert ternary.summary.bytes_codec is not None and exact.summary.bytes_codec is not None
    assert 1 / 16 <= ternary.summary.bytes_codec / exact.summary.bytes_codec < 1 / 14
    folder = tmp_path / "run" / "ternary" / "seed-1"
    assert (folder / "my_codec.py").read_text(encoding="utf-8") == EXAMPLE.read_text(encoding="utf-8")
    recorded = yaml.safe_load((folder / "spec.yaml").read_text(encoding="utf-8"))
    assert recorded["codec"]["source"] == EXAMPLE.read_text(encoding="utf-8")


def test_it_travels_as_json_and_trains_as_the_shipped_one_of_the_same_arithmetic(tmp_path: Path) -> None:
    """fp16 written by hand: the same bits at every step, the same bytes, the same deadline and lower bound."""
    own = spec_with(tmp_path, HALVES).arms["run"]
    (tmp_path / "mine.py").unlink()
    config = job_of(own).config
    assert NodeConfig.model_validate_json(config.model_dump_json()) == config
    twin = own.model_copy(update={"codec": "fp16"})
    states = [play(job_of(each))[0].states(3) for each in (own, twin)]
    assert np.array_equal(*states)
    assert exchange_traffic(job_of(own).config, 2, 128) == exchange_traffic(job_of(twin).config, 2, 128)
    assert job_of(own).config.exchange == job_of(twin).config.exchange


def test_nodes_with_other_texts_do_not_understand_each_other() -> None:
    one, two = build_codec(codec_of(HALVES)), build_codec(codec_of(HALVES + "\n"))
    assert one.name != two.name and one.name == build_codec(codec_of(HALVES), 3, 1).name
    assert codec_of(HALVES, a=1).identity != codec_of(HALVES).identity


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import torch\nimport no_such_module\n", r"mine\.py:2: ModuleNotFoundError"),
        ("x = 1\n", r"mine\.py:1: there is no codec in it: define a class derived from gannet\."),
        (HALVES.replace("    unbiased = True\n", ""), r"mine\.py: Halves does not say whether it is biased"),
        (HALVES.replace("return 2 * count", "return 2.0 * count"), r"mine\.py: wire_bytes\(9\) is a whole number"),
        (HALVES.replace("return 2 * count", "return 3 * count"), r"encode gave 18 bytes for 9 values, and wire_b"),
        (HALVES.replace(".tobytes()", ".data"), r"mine\.py: encode gave memoryview: return bytes"),
        (HALVES.replace(".float() if", ".double() if"), r"decode gave torch\.float64 of shape \(9,\), not a flat"),
        (HALVES.replace("values.to(", "valves.to("), r"mine\.py:11: NameError: name 'valves'"),
        (HALVES.replace("raw_below = 0", "grain = 0"), r"mine\.py: grain is a whole number from 1, not 0"),
        (HALVES.replace("raw_below = 0", "variance = -1"), r"mine\.py: variance is a number from 0, or None"),
        (
            HALVES + "def build(settings):\n    return Halves\n",
            r"mine\.py:14: build\(settings\) cannot be called with",
        ),
    ],
)
def test_a_file_that_makes_no_codec_is_one_error_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(PluginError, match=words) as error:
        check_plugins(spec_with(tmp_path, text))
    assert "\n" not in str(error.value)


def test_methods_refuse_it_by_what_it_declares(tmp_path: Path) -> None:
    biased = HALVES.replace("unbiased = True", "unbiased = False")
    with pytest.raises(SpecError, match=r"in arm run: codec mine\.py is biased and needs an error memory"):
        check_plugins(spec_with(tmp_path, biased))
    gossip = {"name": "dp-oadam"}
    with pytest.raises(SpecError, match=r"in arm run: codec mine\.py quantizes gradients, and dp-oadam exchanges"):
        check_plugins(spec_with(tmp_path, HALVES, algorithm=gossip))
    check_plugins(spec_with(tmp_path, HALVES.replace("raw_below = 0", "casts = True"), algorithm=gossip))


def test_mistakes_in_the_spec_are_reported_with_their_field(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"codec: unknown filed .did you mean file..; allowed: name, file, entry"):
        spec_with(tmp_path, HALVES, codec={"name": "python", "filed": "mine.py"})
    with pytest.raises(SpecError, match=r"codec: .*a python codec is either a file \(file: my_codec\.py\)"):
        spec_with(tmp_path, HALVES, codec={"name": "python"})
    with pytest.raises(SpecError, match=r"codec: mine\.py:2: .*this is not Python"):
        spec_with(tmp_path, "x = 1\ny = (\n")


def test_an_installed_entry_point_is_a_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brought_codec.py").write_text(HALVES, encoding="utf-8")
    info = tmp_path / "brought_codec-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought-codec\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gannet.codecs]\nhalves = brought_codec:Halves\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    codec = build_codec(PythonCodecConfig(name="python", entry="halves"))
    assert codec.wire_bytes(5) == 10 and json.loads(codec.name)[1] == "halves"


def test_a_resumed_codec_continues_its_stream() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    x = torch.linspace(-1, 1, 50)
    first = build_codec(codec_of(text), 3, 1)
    first.encode(x)
    state = first.state()
    following = [bytes(first.encode(x)) for _ in range(3)]
    again = build_codec(codec_of(text), 9, 0)
    again.load_state(state)
    assert [bytes(again.encode(x)) for _ in range(3)] == following
    assert bytes(build_codec(codec_of(text), 3, 2).encode(x)) != bytes(build_codec(codec_of(text), 3, 1).encode(x))
