"""docs/links.md against the code: every example in it is taken, and it tells every field and name that there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from gannet.netem.links.profile import SHORTHANDS, GilbertElliott, LinkProfile, load_profile
from gannet.netem.links.regions import list_matrices
from gannet.netem.links.trace_csv import parse_csv
from gannet.netem.links.trace_files import list_traces
from gannet.spec.links import LinksSpec

TEXT = (Path(__file__).parents[2] / "docs" / "links.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
SPECS = [yaml.safe_load(block)["links"] for kind, block in BLOCKS if kind == "yaml" and block.startswith("links:")]


def test_there_are_examples() -> None:
    assert len(SPECS) == 6


@pytest.mark.parametrize("example", SPECS, ids=lambda example: next(reversed(example)))
def test_examples_of_links_are_taken(example: dict[str, object]) -> None:
    links = LinksSpec.model_validate(example)
    world = len(links.regions.nodes) if links.regions else len(links.delays_ms or ()) or 4
    state, changes = links.over_time(world, 600)
    assert state.plans([f"10.77.1.{rank + 1}" for rank in range(world)], ["mesh0"] * world, seed=0)
    assert bool(changes) == ("schedule" in example)


def test_the_example_of_a_profile_is_taken(tmp_path: Path) -> None:
    (block,) = (block for _, block in BLOCKS if block.startswith("# yaml-language-server"))
    (tmp_path / "mine.yaml").write_text(block, encoding="utf-8")
    shipped = load_profile("starlink")
    mine = load_profile(tmp_path / "mine.yaml")
    assert (mine.down_bps, mine.up_bps, mine.delay_ms) == (shipped.down_bps, shipped.up_bps, shipped.delay_ms)
    assert mine.gilbert_elliott == shipped.gilbert_elliott


def test_the_example_of_a_trace_is_taken() -> None:
    (block,) = (block for _, block in BLOCKS if "time_s," in block)
    assert parse_csv(block, "example").duration_s == 60


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in LinkProfile.model_fields if not name.endswith("_bps")),
        *GilbertElliott.model_fields,
        *SHORTHANDS,
        *list_matrices(),
        *list_traces(),
    ],
)
def test_it_tells_everything_that_there_is(name: str) -> None:
    assert f"`{name}" in TEXT
