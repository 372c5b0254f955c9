"""Arms whose scores would say different things are refused before anything starts, by all commands that compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.scores.comparable import check_comparable
from gannet.spec.load import SpecError, load_spec, shipped_specs
from gannet.spec.select import one_run

BASE: dict[str, Any] = {
    "name": "odd",
    "fabric": "virtual",
    "nodes": 2,
    "pace_ms": 20,
    "stop": {"steps": 4},
    "algorithm": {"name": "dp-oadam"},
    "topology": "ring",
}
GAME = {"task": {"name": "game", "dimension": 4}}


def spec(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {**BASE, "arms": {"one": one, "other": other}}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({}, {"score": {"samples": 3000}}, "score.samples: 1000 in one, 3000 in other"),
        ({}, GAME, "task.name: gan in one, game in other"),
        ({}, {"data": {"name": "mnist", "root": "x"}}, "data.name: fashion-mnist-mini in one, mnist in other"),
        ({}, {"data": {"image_size": 32}}, "data.image_size: 28 in one, 32 in other"),
        (
            {"data": {"name": "image-folder", "root": "x"}},
            {"data": {"name": "image-folder", "root": "y"}},
            "data.root: x in one, y in other",
        ),
        (GAME, {"task": {"name": "game", "dimension": 8}}, "task.dimension: 4 in one, 8 in other"),
        (
            {"task": {"name": "mixture"}},
            {"task": {"name": "mixture", "modes": "grid-25"}},
            "task.modes: ring-8 in one, grid-25 in other",
        ),
    ],
)
def test_arms_that_are_scored_differently_are_refused(
    one: dict[str, Any], other: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    comparison = load_spec(spec(one, other))
    with pytest.raises(SpecError, match="arms are scored differently") as error:
        check_comparable(comparison)
    assert expected in str(error.value)
    check_comparable(one_run(comparison, "other"))  # by itself it may run
    file = tmp_path / "odd.yaml"
    file.write_text(yaml.safe_dump(spec(one, other)))
    for dry in (["--dry-run"], []):
        done = CliRunner(env={"COLUMNS": "300"}).invoke(
            app, ["compare", str(file), "--out", str(tmp_path / "o"), *dry]
        )
        assert done.exit_code == 2 and expected in done.output
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"task": {"loss": "hinge", "width": 8}, "codec": "fp16", "batch": 4}),
        ({}, {"score": {"features": "fashionnet", "points": 3, "metrics": ["kid"]}}),
        ({}, {"data": {"sharding": "dirichlet", "alpha": 0.5}}),
        ({"score": None}, GAME),
        (GAME, {"task": {"name": "game", "dimension": 4, "noise": 1.0}}),
    ],
)
def test_arms_that_differ_in_what_scores_do_not_depend_on_are_compared(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    check_comparable(load_spec(spec(one, other)))


@pytest.mark.parametrize("name", shipped_specs())
def test_the_arms_of_shipped_specs_can_be_compared(name: str) -> None:
    check_comparable(load_spec(name))
