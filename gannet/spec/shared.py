"""The `links.shared:` part of a spec: links inside the network that several pairs of nodes pass together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import StrictStr, model_validator

from gannet.netem.links.pairs.shared import SharedLink
from gannet.netem.links.profile import parse_rate_bps
from gannet.netem.links.yaml_files import short
from gannet.node.tasks.config import Settings
from gannet.spec.schedule import Edges


class SharedSpec(Settings):
    """A rate that several links share: {rate: 60Mbit, pairs: ["0>2", "1>2"]}.

    {rate: 60Mbit, from: [0, 1], to: [2, 3]} are the pairs of each node in `from` with each other one in `to`.
    """

    rate: StrictStr
    pairs: Edges

    @model_validator(mode="before")
    @classmethod
    def _between_groups(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or not {"from", "to"} & value.keys():
            return value
        given = dict(value)
        if given.get("pairs") is not None:
            raise ValueError("pairs, and from and to, say the same thing twice: keep one")
        groups = []
        for side in ("from", "to"):
            nodes = given.pop(side, None)
            nodes = [nodes] if isinstance(nodes, int) and not isinstance(nodes, bool) else nodes
            whole = isinstance(nodes, list | tuple) and all(isinstance(n, int) and n >= 0 for n in nodes)
            if not whole or not nodes:
                raise ValueError(f"{side}: {short(nodes)} are no nodes: write from: [0, 1], to: [2, 3]")
            if len(set(nodes)) < len(nodes):
                raise ValueError(f"{side}: {short(nodes)}: a node is there twice")
            groups.append(nodes)
        return {**given, "pairs": [(a, b) for a in groups[0] for b in groups[1] if a != b]}

    @model_validator(mode="after")
    def _check(self) -> SharedSpec:
        if parse_rate_bps(self.rate) is None:
            raise ValueError(f"rate: {self.rate} limits nothing: give a rate, or leave the link out")
        if wrong := self.link.misfit():
            raise ValueError(wrong)
        return self

    @property
    def link(self) -> SharedLink:
        """The link that it describes."""
        return SharedLink.model_validate({"rate_bps": self.rate, "pairs": self.pairs})
