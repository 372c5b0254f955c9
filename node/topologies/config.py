"""The `topology:` of a spec: a name, or a mapping with a name and parameters.

`ring` and `{name: ring}` are the same; what has parameters may be named alone where all have defaults.
Importing this module imports neither numpy nor torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PlainSerializer,
    PositiveInt,
    TypeAdapter,
    model_validator,
)

from gannet.node.tasks.config import Settings

FixedName = Literal["ring", "torus", "complete", "star", "hypercube", "exponential", "one-peer-exponential"]


class _Choice(Settings):
    def parameters(self) -> dict[str, Any]:
        """What is set besides the name, as people should see it."""
        return {key: value for key, value in self if key != "name"}

    def __str__(self) -> str:
        words = ", ".join(f"{key} {value}" for key, value in self.parameters().items())
        name = str(getattr(self, "name", ""))
        return f"{name} ({words})" if words else name


class FixedTopology(_Choice):
    """A graph that its name and the number of nodes say everything about."""

    name: FixedName


class BaseTopology(_Choice):
    """Base-(k+1) graph: `degree` is k, the most peers that a node has in a round."""

    name: Literal["base"] = "base"
    degree: PositiveInt = 1


class RandomRingTopology(_Choice):
    """A ring over a fresh permutation of the nodes in every round, drawn from `seed`."""

    name: Literal["random-ring"] = "random-ring"
    seed: NonNegativeInt = 1


class ErdosRenyiTopology(_Choice):
    """Every pair of nodes is joined with probability `p`, drawn from `seed` until the graph is connected."""

    name: Literal["erdos-renyi"] = "erdos-renyi"
    p: Annotated[float, Field(gt=0, le=1)] = 0.3
    seed: NonNegativeInt = 1


class FileTopology(_Choice):
    """An edge list or a weight matrix, see gannet.node.topologies.from_file.

    `content` is the file's own text. It is read where the spec is, and travels with it: nodes on other
    machines do not have the file, and the ledger must hold all that a run depends on.
    """

    name: Literal["file"] = "file"
    path: str
    content: str = ""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "content" in values or not isinstance(values.get("path"), str):
            return values
        try:
            return {**values, "content": Path(values["path"]).read_text(encoding="utf-8")}
        except OSError as error:
            raise ValueError(f"cannot read {values['path']}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"cannot read {values['path']}: it is no text") from None

    @model_validator(mode="after")
    def _sound(self) -> FileTopology:
        from gannet.node.topologies.from_file import parse

        parse(self.content, self.path)
        return self

    def parameters(self) -> dict[str, Any]:
        """The path without its folders."""
        return {"path": Path(self.path).name}

    def __str__(self) -> str:
        return f"file ({Path(self.path).name})"


def _name_alone(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _shortest(choice: _Choice) -> Any:
    return choice.model_dump() if len(type(choice).model_fields) > 1 else getattr(choice, "name", "")


AnyTopology = FixedTopology | BaseTopology | RandomRingTopology | ErdosRenyiTopology | FileTopology
_Tagged = Annotated[AnyTopology, Field(discriminator="name")]
TopologyConfig = Annotated[_Tagged, BeforeValidator(_name_alone), PlainSerializer(_shortest)]

FIXED_NAMES: tuple[str, ...] = get_args(FixedName)
# All that can be had by a name alone.
NAMES: tuple[str, ...] = (*FIXED_NAMES, "base", "random-ring", "erdos-renyi")
TAGS = frozenset({*NAMES, "file"})

_ADAPTER: TypeAdapter[AnyTopology] = TypeAdapter(TopologyConfig)


def topology_config(value: Any) -> AnyTopology:
    """A checked choice from a name, a mapping or a choice. Raises ValueError for an unknown name."""
    if isinstance(value, str) and value not in NAMES:
        raise ValueError(f"unknown topology {value!r}: choose one of {', '.join(NAMES)}, or file with a path")
    return _ADAPTER.validate_python(value)
