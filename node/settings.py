"""The base of everything that a spec file can hold."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """A frozen model whose unknown fields are refused with the list of the known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, values: Any) -> Any:
        if isinstance(values, dict):
            unknown = sorted(str(key) for key in values if key not in cls.model_fields)
            if unknown:
                raise ValueError(f"unknown {', '.join(unknown)}; allowed: {', '.join(cls.model_fields)}")
        return values


class NoSettings(Settings):
    """Settings of a choice that has none."""
