"""Mistakes in a spec are told in the words of the file; a choice without settings can be a name alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.spec.load import SpecError, resolve
from gannet.spec.run_spec import RunSpec

VALID: dict[str, Any] = {
    "nodes": 2,
    "task": {"name": "game"},
    "algorithm": {"name": "dp-oadam"},
    "stop": {"steps": 10},
}
JARGON = re.compile(r"Input should|instance of|\btag\b|discriminator '|unable to|function-|Field required|dictionary")
SCALARS: Any = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, "x", "", "gan", "ring"]))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "x", "0", "0>1"]), inner),
    max_leaves=4,
)


def _said(**fields: Any) -> str:
    with pytest.raises(SpecError) as error:
        resolve({**VALID, **fields}, "my.yaml")
    return str(error.value)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(RunSpec.model_fields)), VALUES, st.sampled_from([None, *sorted(RunSpec.model_fields)]))
def test_whatever_a_field_holds_it_is_taken_or_refused_in_plain_words(
    field: str, value: Any, within: str | None
) -> None:
    spec = {**VALID, field: value}
    if within is not None and isinstance(spec.get(within), dict):
        spec[within] = {**spec[within], field: value}
    try:
        resolve(spec, "my.yaml")
    except SpecError as error:
        said = str(error)
        assert said.startswith("my.yaml: ") and ("links" in said or not JARGON.search(said)), (
            said
        )  # gannet.netem has its own words


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"nodes": "two"}, "my.yaml: nodes: a whole number is wanted (got 'two')"),
        ({"nodes": 2.5}, "my.yaml: nodes: a whole number is wanted (got 2.5)"),
        ({"nodes": 0}, "my.yaml: nodes: must be at least 1 (got 0)"),
        ({"optimizer": {"learning_rate": -1}}, "my.yaml: optimizer.learning_rate: must be more than 0 (got -1)"),
        ({"stop": 5}, "my.yaml: stop: a mapping such as {key: value} is wanted (got 5)"),
        ({"codec": 5}, "my.yaml: codec: text is wanted, or a mapping such as {key: value} is wanted (got 5)"),
        ({"algorithm": {"every": 4}}, "my.yaml: algorithm: say which one is wanted: give its name"),
        ({"links": {"schedule": 5}}, "my.yaml: links.schedule: a list is wanted (got 5)"),
        ({"data": {"sharding": "idd"}, "task": "gan"}, "must be 'iid', 'dirichlet' or 'class' (did you mean iid?)"),
        ({"algorithm": "dposgg"}, "my.yaml: algorithm: unknown name 'dposgg' (did you mean dposg?); known: "),
        ({"task": "gam"}, "my.yaml: task: unknown name 'gam' (did you mean game?); known: gan, game, "),
        ({"algorithm": {"name": "dp-oadam", "evry": 4}}, "unknown evry (did you mean every?); allowed: name, every"),
        ({"nodez": 4}, "my.yaml: unknown nodez (did you mean nodes?); allowed: "),
    ],
)
def test_a_mistake_says_what_is_wanted_and_what_may_have_been_meant(fields: dict[str, Any], said: str) -> None:
    assert said in _said(**fields)


def test_a_name_alone_is_the_choice_without_settings() -> None:
    short = {**VALID, "task": "game", "algorithm": "dp-oadam", "topology": "ring"}
    assert resolve(short, "my.yaml") == resolve(VALID, "my.yaml")
    assert resolve({**VALID, "task": "gan", "data": "fashion-mnist-mini"}, "my.yaml") == resolve(
        {**VALID, "task": {}}, "my.yaml"
    )


def test_an_arm_adds_settings_to_a_name() -> None:
    spec = {
        **VALID,
        "algorithm": "dp-oadam",
        "arms": {"rare": {"algorithm": {"every": 8}}, "other": {"algorithm": "dposg"}},
    }
    arms = resolve(spec, "my.yaml", ["arms.other.algorithm.rounds=2"]).arms
    assert arms["rare"].algorithm.model_dump()["every"] == 8 and arms["rare"].algorithm.name == "dp-oadam"
    assert arms["other"].algorithm.name == "dposg" and arms["other"].algorithm.model_dump()["rounds"] == 2
