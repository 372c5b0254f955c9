"""The topologies that a spec can name: `ring`, or a mapping with a name and parameters.

`ring` and `{name: ring}` are the same; what has parameters may be named alone where all have defaults.
Importing this module imports neither numpy nor torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union, get_args

from pydantic import BeforeValidator, Field, PlainSerializer, TypeAdapter

from gannet.node.settings import by_name
from gannet.node.topologies.base import BaseTopology
from gannet.node.topologies.custom.config import PythonTopologyConfig
from gannet.node.topologies.exponential import ExponentialTopology, OnePeerExponentialTopology
from gannet.node.topologies.from_file import FileTopology
from gannet.node.topologies.graphs import (
    CompleteTopology,
    ErdosRenyiTopology,
    HypercubeTopology,
    RingTopology,
    StarTopology,
    TorusTopology,
)
from gannet.node.topologies.random_ring import RandomRingTopology
from gannet.node.topologies.setting import TopologySetting

TOPOLOGIES: tuple[type[TopologySetting], ...] = (
    RingTopology, TorusTopology, CompleteTopology, StarTopology, HypercubeTopology, ExponentialTopology,
    OnePeerExponentialTopology, BaseTopology, RandomRingTopology, ErdosRenyiTopology, FileTopology,
    PythonTopologyConfig,
)  # fmt: skip

_BY_NAME = {name: kind for kind in TOPOLOGIES for name in get_args(kind.model_fields["name"].annotation)}
TAGS = frozenset(_BY_NAME)
# All that can be had by a name alone.
NAMES: tuple[str, ...] = tuple(
    name
    for name, kind in _BY_NAME.items()
    if kind.shipped and not any(field.is_required() for field in kind.model_fields.values())
)


def _shortest(choice: TopologySetting) -> Any:
    return choice.model_dump() if len(type(choice).model_fields) > 1 else choice.name


if TYPE_CHECKING:
    TopologyConfig: TypeAlias = TopologySetting
else:
    _Tagged = Annotated[Union[TOPOLOGIES], Field(discriminator="name")]  # noqa: UP007
    TopologyConfig = Annotated[_Tagged, BeforeValidator(by_name), PlainSerializer(_shortest)]

_ADAPTER: TypeAdapter[TopologySetting] = TypeAdapter(TopologyConfig)


def topology_config(value: Any) -> TopologySetting:
    """A checked choice from a name, a mapping or a choice. Raises ValueError for an unknown name."""
    if isinstance(value, str) and value not in NAMES:
        raise ValueError(
            f"unknown topology {value!r}: choose one of {', '.join(NAMES)}, or file with a path, or one of your own: "
            "{name: python, file: my_topology.py}"
        )
    return _ADAPTER.validate_python(value)
