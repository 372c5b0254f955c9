"""The `links.regions:` part of a spec: the region of each node, and delays, losses and rates between regions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from gannet.netem.links.pairs.rates import load_region_rates
from gannet.netem.links.regions import LinkMatrix, load_matrix, region_edges
from gannet.netem.links.yaml_files import short
from gannet.node.tasks.config import Settings


def _matrix(value: Any) -> Any:
    return load_matrix(value) if isinstance(value, str) else value


def _with_rates(given: Mapping[str, Any], rates: Any) -> LinkMatrix:
    """The matrix of `regions` with these rates: by pair of regions, or the path of a file."""
    matrix = _matrix(given.get("matrix", "aws"))
    matrix = matrix if isinstance(matrix, LinkMatrix) else LinkMatrix.model_validate(matrix)
    if isinstance(rates, str):
        return matrix.with_rates(load_region_rates(rates))
    example = 'write {"us-east-1>eu-west-1": 100Mbit}, or the path of a file'
    if not isinstance(rates, Mapping):
        raise ValueError(f"rates: by pair of regions: {example}")
    nodes = given.get("nodes")
    at = list(nodes) if isinstance(nodes, list | tuple) else []
    pairs: dict[tuple[str, str], str | None] = {}
    for text, rate in rates.items():
        ends = tuple(end.strip() for end in str(text).split(">"))
        if len(ends) != 2:
            raise ValueError(f"rates: {short(text)} is no pair of regions: {example}")
        if not isinstance(rate, str):
            raise ValueError(f"rates: {short(text)}: {short(rate)} has no unit: write 10Mbit, or unlimited")
        if ends[1] not in at or at.count(ends[0]) <= (ends[0] == ends[1]):
            raise ValueError(f"rates: {short(text)} is of no two nodes: their regions are {', '.join(map(str, at))}")
        if ends in pairs:
            raise ValueError(f"rates: {short(text)} is there twice: keep one")
        pairs[ends[0], ends[1]] = rate
    return matrix.with_rates(pairs)


class RegionsSpec(Settings):
    """The region of every node, by rank, and the matrix of links between them: shipped, or the path of a file.

    `delays` or `round_trips` in the place of `matrix` names a file that does not say which of them it has. `rates`
    adds a rate for each link between two regions: {"us-east-1>eu-west-1": 100Mbit}, or the path of a file of them.
    """

    matrix: Annotated[LinkMatrix, BeforeValidator(_matrix)] = Field(default_factory=lambda: load_matrix("aws"))
    nodes: Annotated[tuple[str, ...], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _said_here(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        given = dict(value)
        named = [name for name in ("matrix", "delays", "round_trips") if given.get(name) is not None]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} say the same thing twice: keep one")
        for name in ("delays", "round_trips"):
            if isinstance(path := given.pop(name, None), str):
                given["matrix"] = load_matrix(path, f"{name}_ms")
            elif path is not None:
                raise ValueError(f"{name}: the path of a file; a matrix itself stands under matrix")
        if (rates := given.pop("rates", None)) is not None:
            given["matrix"] = _with_rates(given, rates)
        return given

    @model_validator(mode="after")
    def _has_them(self) -> RegionsSpec:
        region_edges(self.nodes, self.matrix)
        return self
