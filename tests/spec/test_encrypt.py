"""`encrypt`: what a spec asks for takes effect or is refused, and what a fabric does by default is said."""

from __future__ import annotations

from typing import Any

import pytest

from gannet.spec.load import SpecError, load_spec
from gannet.spec.notes import idle_settings
from gannet.spec.run_spec import RunSpec

BASE: dict[str, Any] = {"stop": {"steps": 5}, "pace_ms": 10, "algorithm": {"name": "dp-oadam"}}
DDP = {"algorithm": {"name": "ddp"}}


def spec(**changes: Any) -> RunSpec:
    return RunSpec.model_validate({**BASE, **changes})


@pytest.mark.parametrize(
    ("fabric", "asked", "encrypted"),
    [
        ("namespaces", None, False),
        ("namespaces", True, True),
        ("namespaces", False, False),
        ("compose", None, True),
        ("compose", False, False),
        ("swarm", None, True),
        ("virtual", None, False),
        ("virtual", False, False),
    ],
)
def test_each_fabric_encrypts_as_asked_or_by_default(fabric: str, asked: bool | None, encrypted: bool) -> None:
    found = spec(fabric=fabric, encrypt=asked)
    assert found.encrypted is encrypted
    assert RunSpec.model_validate(found.model_dump(mode="json")).encrypted is encrypted
    assert not any("encrypt" in note for note in idle_settings(found))


def test_a_model_of_links_cannot_encrypt() -> None:
    with pytest.raises(ValueError, match="encrypt: fabric virtual cannot encrypt messages: leave it out"):
        spec(fabric="virtual", encrypt=True)


@pytest.mark.parametrize("fabric", ["namespaces", "compose"])
def test_ddp_cannot_be_asked_to_encrypt(fabric: str) -> None:
    with pytest.raises(
        ValueError, match=r"encrypt: algorithm ddp runs PyTorch's own gloo.*not encrypted: leave it out"
    ):
        spec(fabric=fabric, encrypt=True, **DDP)


def test_by_default_ddp_is_run_without_and_the_reader_is_told() -> None:
    found = spec(fabric="compose", **DDP)
    assert not found.encrypted
    (note,) = [note for note in idle_settings(found) if note.startswith("encrypt:")]
    assert "not encrypted" in note and "gloo" in note and "compose" in note
    assert not any("encrypt" in note for note in idle_settings(spec(fabric="namespaces", **DDP)))
    assert not any("encrypt" in note for note in idle_settings(spec(fabric="compose", encrypt=False, **DDP)))


def test_where_nothing_is_sent_nothing_is_encrypted() -> None:
    notes = idle_settings(spec(encrypt=True, algorithm={"name": "local"}))
    assert [note for note in notes if note.startswith("encrypt: does nothing")]


def test_arms_may_differ_in_it_and_a_mistake_names_its_arm(tmp_path: Any) -> None:
    file = tmp_path / "two.yaml"
    text = "name: two\nstop: {steps: 5}\nalgorithm: {name: dp-oadam}\narms:\n  plain: {}\n  tls: {encrypt: %s}\n"
    file.write_text(text % "yes")
    assert [arm.encrypted for arm in load_spec(str(file)).arms.values()] == [False, True]
    file.write_text(text % "maybe")
    with pytest.raises(SpecError, match=r"tls.*encrypt"):
        load_spec(str(file))
