"""The spec: the complete description of a run, in one YAML file, checked before anything starts.

A spec without `arms` is one run. `arms` are named overrides of it, which make it a comparison: each arm is the spec
with its override merged in, run once for each seed. Every mistake is reported with the field's path, its value and
what it allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from gannet.fabrics.job import LinkChange
from gannet.fabrics.kind import FabricKind
from gannet.fabrics.not_finite import OnNotFinite
from gannet.fabrics.registry import fabric_kind, fabric_names
from gannet.netem.links.pairs.shared import unplaceable
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.node.config import NodeConfig, TrainingSettings
from gannet.node.players.config import check_returns, parts_of
from gannet.node.plugins import PluginError, PythonSource
from gannet.node.tasks import needs_data
from gannet.node.tasks.config import PythonTaskConfig, Settings
from gannet.spec.joins import check_connected, check_joins
from gannet.spec.links import LinksSpec, unmodelled
from gannet.spec.python_source import FIELDS
from gannet.spec.score import ScoreSpec
from gannet.spec.start import StartSpec

SPEC_FOLDER = files("gannet.spec") / "shipped"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+ -]{0,63}")
TAKEN = ("spec.yaml", "logs", "comparison.json", "report.html", "order.yaml", "start-weights")
"""Files and folders of a comparison, next to the folders of its arms."""

_HEAD = ("name", "arm", "label", "fabric", "engine", "nodes")  # of a spec as it is written to a file


def is_folder_name(name: str) -> bool:
    """Whether a run or an arm may be called so."""
    return _NAME.fullmatch(name) is not None


class StopSpec(Settings):
    """When a run ends: the first of these to be reached. Seconds are of the training clock."""

    steps: PositiveInt | None = None
    seconds: PositiveFloat | None = None
    score: PositiveFloat | None = None

    @model_validator(mode="after")
    def _at_least_one(self) -> StopSpec:
        if self.steps is None and self.seconds is None and self.score is None:
            raise ValueError("a run needs an end: give steps, seconds or score")
        if self.score is not None and self.steps is None and self.seconds is None:
            raise ValueError("a score may never be reached: give steps or seconds too")
        return self


class RunSpec(TrainingSettings):
    """One run: one arm, one seed. How it trains is in TrainingSettings, which the nodes receive as well."""

    name: str = "run"
    label: str = ""
    fabric: str = "namespaces"
    engine: Literal["auto", "netem", "nfqueue"] = "auto"
    nodes: Annotated[int, Field(ge=1, le=1024)] = 4
    links: LinksSpec = Field(default_factory=LinksSpec)
    start_from: StartSpec | None = None
    encrypt: bool | None = None
    return_after_s: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] | None = None
    join_at_s: dict[int, PositiveFloat] = Field(default_factory=dict)
    on_not_finite: OnNotFinite = "leave"
    stop: StopSpec
    score: ScoreSpec | None = ScoreSpec()

    @field_validator("fabric")
    @classmethod
    def _declared(cls, value: str) -> str:
        *others, last = (repr(name) for name in fabric_names())
        if value not in fabric_names():
            expected = f"{', '.join(others)} or {last}"
            raise PydanticCustomError("fabric", "must be {expected}", {"expected": expected})
        fabric_kind(value)  # a fabric from another package may be broken
        return value

    @field_validator("arm")
    @classmethod
    def _no_file_of_the_comparison(cls, value: str) -> str:
        if value in TAKEN:
            raise ValueError(f"an arm's name becomes a folder next to {', '.join(TAKEN)}: choose another")
        return value

    @field_validator("name", "arm")
    @classmethod
    def _folder_name(cls, value: str) -> str:
        if not is_folder_name(value):
            raise ValueError("a name becomes a folder: up to 64 letters, digits, spaces and ._+- only")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> RunSpec:
        if not needs_data(self.task) and "data" in self.model_fields_set:
            raise ValueError(f"data: task {self.task.name} has no data set: leave out data")
        self._check_node_pace()
        if self.checkpoint_every is not None and not self.fabric_kind.resumable:
            raise ValueError(
                f"checkpoint_every: runs on fabric {self.fabric} cannot be resumed yet: leave it out, or use "
                "fabric: namespaces or virtual"
            )
        check_joins(self.join_at_s, self.nodes, self.stop.seconds)
        if self.join_at_s and not self.fabric_kind.late_joins:
            raise ValueError(
                f"join_at_s: no node can join a run under way on fabric {self.fabric} yet: leave it out, or use "
                "fabric: namespaces or virtual"
            )
        if self.join_at_s and self.on_loss in ("reform", "stop"):
            raise ValueError(
                f"on_loss: {self.on_loss}: no node can join such a run: leave out join_at_s, or use on_loss: continue"
            )
        if self._returns and not self.fabric_kind.revives:
            raise ValueError(
                f"{self._returns}: a lost node cannot be started again on fabric {self.fabric} yet: leave it out, or "
                "use fabric: namespaces or virtual"
            )
        if self._returns and self.on_loss in ("reform", "stop"):
            raise ValueError(
                f"on_loss: {self.on_loss}: no lost node can come back to such a run: leave out {self._returns}, "
                "or use on_loss: continue"
            )
        if self.encrypt and not self.fabric_kind.can_encrypt:
            raise ValueError(
                f"encrypt: fabric {self.fabric} cannot encrypt messages: leave it out, or use fabric: namespaces, "
                "compose or swarm"
            )
        modelled = self.fabric_kind.modelled
        links, changes = self.links_over_time
        if modelled:
            for state in (links, *(change.links for change in changes)):
                if what := unmodelled(state):
                    raise ValueError(
                        f"links: the {self.fabric} fabric models rate, delay and jitter in order only, and {what}; "
                        "use fabric: namespaces"
                    )
        elif what := unplaceable(links.shared, self.fabric_kind.reaches_core):
            raise ValueError(f"links.shared.{what}")
        if modelled and self.pace_ms is None:
            raise ValueError(
                f"the {self.fabric} fabric's clock must know how long a gradient takes: set pace_ms, for example 40"
            )
        return self

    def check_algorithms(self, custom: bool = False) -> None:
        from gannet.node.topologies.topology import Topology

        super().check_algorithms(custom)
        method = self.algorithm.traits
        method.check_pace(self.pace_ms)
        if self._returns or self.join_at_s:
            check_returns(self)
        if self.encrypt:
            method.check_encrypted()
        if self.fabric_kind.modelled:
            method.check_modelled()
        self.check_node_models()
        if self.join_at_s:
            check_connected(NodeConfig(run="check", **self.training()), self.nodes, self.join_at_s)
        for name, part in (parts_of(self) or {"": self}).items():
            if not (custom or part.topology.shipped):
                continue
            try:
                topology = Topology(part.topology, self.nodes)  # a hypercube has 2^k nodes, a file a fixed number
                part.algorithm.traits.check_topology(topology)
                part.algorithm.traits.check_mixing(part.mixing, topology)
            except PluginError:
                raise
            except ValueError as error:
                raise ValueError(f"players.{name}: {error}" if name in self.players else str(error)) from None

    def check_node_models(self) -> None:
        """Raise ValueError where nodes have no models of their own to score."""
        if self.score is None or self.score.node_models == "none":
            return
        if self.algorithm.traits.worker_player is not None:
            raise ValueError(
                f"score.node_models: with {self.algorithm.title} nodes have no models of their own: what is scored "
                "is on node 0 alone; leave it out"
            )

    @property
    def _returns(self) -> str:
        """The setting that has nodes come back, if one has."""
        if self.return_after_s is not None:
            return "return_after_s"
        return "on_not_finite: reset" if self.on_not_finite == "reset" else ""

    def _check_node_pace(self) -> None:
        if self.node_pace_ms and self.pace_ms is None:
            raise ValueError("node_pace_ms: says whose pace is another than pace_ms: set pace_ms, for example 50")
        if strange := sorted(rank for rank in self.node_pace_ms if not 0 <= rank < self.nodes):
            raise ValueError(f"node_pace_ms.{strange[0]}: there is no such node; nodes are 0 to {self.nodes - 1}")

    @model_serializer(mode="wrap")
    def _as_a_file(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The run's identity comes first. Data that a task does not read are left out: they cannot be read back."""
        fields: dict[str, Any] = whole(self)
        fields = {name: fields[name] for name in _HEAD if name in fields} | fields
        unasked = isinstance(self.task, PythonTaskConfig) and "data" not in self.model_fields_set
        if unasked or not needs_data(self.task):
            fields.pop("data", None)
        return fields

    @property
    def fabric_kind(self) -> FabricKind:
        """Its fabric's abilities and needs."""
        return fabric_kind(self.fabric)

    @property
    def encrypted(self) -> bool:
        """Whether nodes reach each other by mutual TLS: as asked, or as its fabric does it where the method can."""
        if self.encrypt is None:
            return self.fabric_kind.encrypts and not self.algorithm.traits.not_encrypted
        return self.encrypt

    @property
    def methods(self) -> list[RunSpec]:
        """This run, or, where players have own methods, one run per player."""
        return list(parts_of(self).values()) or [self]

    @property
    def python_files(self) -> dict[str, str]:
        """The texts of a user's own files, by unique names."""
        found: dict[str, str] = {}
        for part in (self, *self.methods):
            for own in (getattr(part, field) for field in FIELDS):
                if isinstance(own, PythonSource) and own.source is not None and own.source not in found.values():
                    name = Path(own.title).name
                    while name in found:
                        name = f"{own.what}-{name}"
                    found[name] = own.source
        return found

    def say(self, what: Callable[[RunSpec], object]) -> str:
        """A setting in words: "fp32", or where players have their own "generator fp32, discriminator fp16"."""
        parts = parts_of(self)
        return ", ".join(f"{player or 'others'} {what(part)}" for player, part in parts.items()) or str(what(self))

    @cached_property
    def links_over_time(self) -> tuple[LinkState, tuple[LinkChange, ...]]:
        """The links at the beginning of the run, and their changes. Raises ValueError for an invalid schedule."""
        return self.links.over_time(self.nodes, self.stop.seconds)

    @property
    def profiles(self) -> list[LinkProfile]:
        """Every profile that its links use at any time."""
        links, changes = self.links_over_time
        states = (links, *(change.links for change in changes))
        return [
            profile for state in states for profile in (state.profile, *state.nodes.values(), *state.edges.values())
        ]

    @property
    def title(self) -> str:
        return self.label or self.arm


class ComparisonSpec(Settings):
    """Several arms on equal terms: the same tasks, data, links and seeds but for what an arm overrides."""

    name: str
    seeds: tuple[int, ...]
    arms: dict[str, RunSpec]

    def whole(self) -> dict[str, Any]:
        """This comparison as a spec file holds it, every field of every arm spelled out, profiles too."""
        arms = {name: arm.model_dump(mode="json", exclude={"name", "seed", "arm"}) for name, arm in self.arms.items()}
        return {"name": self.name, "seeds": list(self.seeds), "arms": arms}

    def runs(self) -> list[RunSpec]:
        """Every run, seed by seed, so that an interrupted comparison has complete seeds."""
        return [arm.model_copy(update={"seed": seed}) for seed in self.seeds for arm in self.arms.values()]
