"""The `start_from:` part of a spec: weights that a run begins from, instead of those that the seed draws."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, model_validator

from gannet.node.tasks.config import Settings


class StartSource(Settings):
    """Where weights are: a snapshot of another run, the mean of its nodes, or a file."""

    run: Annotated[str | None, Field(description="the folder of a run")] = None
    step: Annotated[
        NonNegativeInt | Literal["last", "best"], Field(description="which of its snapshots: a step, last or best")
    ] = "last"
    file: Annotated[
        str | None, Field(description="a .safetensors file, or a state dict that torch.save has written")
    ] = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        self._check_source()
        return self

    def _check_source(self) -> None:
        if (self.run is None) == (self.file is None):
            raise ValueError("weights are either in a run (run: its folder) or in a file (file: its path)")
        if self.file is not None and self.step != "last":
            raise ValueError("step belongs to run: leave it out where file is given")

    @property
    def title(self) -> str:
        """ "step 40 of runs/demo/gossip/seed-1" """
        if self.run is None:
            return str(self.file)
        return f"{f'step {self.step}' if isinstance(self.step, int) else f'the {self.step} snapshot'} of {self.run}"


class StartSpec(StartSource):
    """The weights of all players, or of some: the other players, by name, begin as usual."""

    players: dict[str, StartSource] = Field(
        default_factory=dict, description="of these players alone, each from a run or a file"
    )

    def _check_source(self) -> None:
        if not self.players:
            super()._check_source()
        elif self.run is not None or self.file is not None or self.step != "last":
            raise ValueError("players: each has its own run or file; leave out those for all players")

    @property
    def title(self) -> str:
        """The sources in words."""
        if not self.players:
            return super().title
        return ", ".join(f"{player}: {source.title}" for player, source in self.players.items())

    @property
    def sources(self) -> dict[str, StartSource]:
        """By player, or under "" for all players."""
        return dict(self.players) or {"": self}


def with_start(spec: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The spec with the paths of its `start_from` made absolute: they are relative to the spec's folder.

    A path alone is a run if it is a folder, else a file.
    """
    found = spec.get("start_from")
    if found is None:
        return dict(spec)
    whole = _source(found, folder)
    if isinstance(whole, dict) and isinstance(whole.get("players"), Mapping):
        whole["players"] = {name: _source(source, folder) for name, source in whole["players"].items()}
    return {**spec, "start_from": whole}


def _source(value: Any, folder: Path) -> Any:
    if isinstance(value, str):
        place = _absolute(value, folder)
        return {"run" if Path(place).is_dir() else "file": place}
    if not isinstance(value, Mapping):
        return value  # the model says what it wants
    return {
        key: _absolute(given, folder) if key in ("run", "file") and isinstance(given, str) else given
        for key, given in value.items()
    }


def _absolute(path: str, folder: Path) -> str:
    return str((folder / Path(path).expanduser()).absolute())
