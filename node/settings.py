"""The base of everything that a spec file can hold."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from gannet.node.mistakes import hint


class Settings(BaseModel):
    """A frozen model whose unknown fields are refused with the list of the known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, values: Any) -> Any:
        if isinstance(values, dict):
            unknown = sorted(str(key) for key in values if key not in cls.model_fields)
            if unknown:
                named = ", ".join(f"{name}{hint(name, cls.model_fields)}" for name in unknown)
                raise ValueError(f"unknown {named}; allowed: {', '.join(cls.model_fields)}")
        return values


def by_name(value: Any) -> Any:
    """A name alone means the mapping with that name, in a field whose value says by `name` what it is."""
    return {"name": value} if isinstance(value, str) else value


class TaskSettings(Settings):
    """The settings of a task, and what they declare to those who know no task by its name."""

    @property
    def measured_by(self) -> dict[str, Any]:
        """What a score that the task takes itself depends on, besides its data; scores compare where it is equal."""
        return {}

    @property
    def first_acts(self) -> dict[str, tuple[int, str]]:
        """Settings that do nothing in a run that ends early: by name, the step at which they first act, and how."""
        return {}

    @property
    def unused(self) -> tuple[str, ...]:
        """Notes on settings that are set and do nothing next to the others."""
        return ()


class NoSettings(Settings):
    """Settings of a choice that has none."""
