"""The spec: everything that a run is, in one YAML file, checked before anything starts.

A spec without `arms` is one run. `arms` are named overrides of it, which make it a comparison: each
arm is the spec with its override merged in, run once for each seed. Every mistake is reported with the
field's path, what it got and what it allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from gannet.fabrics.job import LinkChange
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.node.codecs.names import CodecName
from gannet.node.config import OptimizerConfig
from gannet.node.methods.registry import (
    ALGORITHM_NAMES,
    AlgorithmConfig,
    check_checkpoints,
    check_pace,
    check_task,
    check_topology,
)
from gannet.node.players.config import PlayerConfig, check_methods, parts_of
from gannet.node.tasks import needs_data
from gannet.node.tasks.config import (
    TASK_NAMES,
    DataConfig,
    PythonTaskConfig,
    Settings,
    TaskConfig,
    TaskSetting,
    check_data,
)
from gannet.node.topologies.config import TAGS, FixedTopology, TopologyConfig
from gannet.spec.links import LinksSpec, unmodelled
from gannet.spec.overrides import merge, nest, parse
from gannet.spec.score import ScoreSpec
from gannet.spec.task_source import TaskFileMissing, with_text

SPEC_FOLDER = files("gannet.spec") / "shipped"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+ -]{0,63}")


class SpecError(Exception):
    """A spec that cannot be run; the message lists every mistake, one a line."""


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
            raise ValueError("a score may never be reached: give steps or seconds as well")
        return self


class RunSpec(Settings):
    """One run: one arm, one seed."""

    name: str = "run"
    arm: str = "run"
    label: str = ""
    fabric: Literal["namespaces", "virtual", "compose", "swarm"] = "namespaces"
    engine: Literal["auto", "netem", "nfqueue"] = "auto"
    nodes: Annotated[int, Field(ge=1, le=1024)] = 4
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    task: TaskSetting = TaskConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    algorithm: AlgorithmConfig
    topology: TopologyConfig = FixedTopology(name="ring")
    codec: CodecName = "fp32"
    players: dict[str, PlayerConfig] = Field(default_factory=dict)
    links: LinksSpec = Field(default_factory=LinksSpec)
    batch: PositiveInt = 16
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    threads: PositiveInt = 1
    pace_ms: PositiveFloat | None = None
    node_pace_ms: dict[int, PositiveFloat] = Field(default_factory=dict)
    stop: StopSpec
    snapshot_every: PositiveInt = 50
    checkpoint_every: PositiveInt | None = None
    score: ScoreSpec | None = ScoreSpec()

    @field_validator("name", "arm")
    @classmethod
    def _folder_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("a name becomes a folder: up to 64 letters, digits, spaces and ._+- only")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> RunSpec:
        if not needs_data(self.task) and "data" in self.model_fields_set:
            raise ValueError(f"data: task {self.task.name} has no data set: leave out data")
        check_methods(self)
        check_pace(self.algorithm, self.pace_ms, self.node_pace_ms, self.nodes)
        check_task(self.task, self.algorithm)
        check_checkpoints(self.checkpoint_every, self.algorithm)
        if self.checkpoint_every is not None and self.fabric in ("compose", "swarm"):
            raise ValueError(
                f"checkpoint_every: `gannet resume` does not know fabric {self.fabric} yet: leave it out, or use "
                "fabric: namespaces or virtual"
            )
        check_data(self.task, self.data)
        if self.fabric == "virtual" and self.algorithm.name == "ddp":
            raise ValueError(
                "algorithm ddp runs PyTorch's own gloo, which the virtual fabric does not model: use "
                "fabric: namespaces, or algorithm cp-oadam with collective: ring, average: gradients, as many bytes"
            )
        links, changes = self.links_over_time
        if self.fabric == "virtual":
            for state in (links, *(change.links for change in changes)):
                if what := unmodelled(state):
                    raise ValueError(
                        f"links: the virtual fabric models rate and delay only, and {what}; use fabric: namespaces"
                    )
        if self.fabric == "virtual" and self.pace_ms is None:
            raise ValueError(
                "the virtual fabric's clock must know how long a gradient takes: set pace_ms, for example 40"
            )
        from gannet.node.topologies.topology import Topology

        for name, part in (parts_of(self) or {"": self}).items():
            try:
                topology = Topology(part.topology, self.nodes)  # a hypercube has 2^k nodes, a file as many as it has
                check_topology(topology, part.algorithm)
            except ValueError as error:
                raise ValueError(f"players.{name}: {error}" if name in self.players else str(error)) from None
        return self

    @model_serializer(mode="wrap")
    def _without_unused_data(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Data that a task does not read are not written down: they could not be read back."""
        fields: dict[str, Any] = whole(self)
        unasked = isinstance(self.task, PythonTaskConfig) and "data" not in self.model_fields_set
        if unasked or not needs_data(self.task):
            fields.pop("data", None)
        return fields

    @property
    def methods(self) -> list[RunSpec]:
        """This run, or where players are exchanged each in its own way, each player's as a run of its own."""
        return list(parts_of(self).values()) or [self]

    def say(self, what: Callable[[RunSpec], object]) -> str:
        """A setting for people: "fp32", or where players have their own "generator fp32, discriminator fp16"."""
        parts = parts_of(self)
        return ", ".join(f"{player or 'others'} {what(part)}" for player, part in parts.items()) or str(what(self))

    @cached_property
    def links_over_time(self) -> tuple[LinkState, tuple[LinkChange, ...]]:
        """The links as the run begins, and their changes. Raises ValueError for a schedule that does not fit."""
        return self.links.over_time(self.nodes, self.stop.seconds)

    @property
    def profiles(self) -> list[LinkProfile]:
        """Every profile that its links ever have."""
        links, changes = self.links_over_time
        states = (links, *(change.links for change in changes))
        return [
            profile for state in states for profile in (state.profile, *state.nodes.values(), *state.edges.values())
        ]

    @property
    def title(self) -> str:
        """The arm's label for people."""
        return self.label or self.arm


class Comparison(Settings):
    """Several arms on equal terms: the same tasks, data, links and seeds but for what an arm overrides."""

    name: str
    seeds: tuple[int, ...]
    arms: dict[str, RunSpec]

    def whole(self) -> dict[str, Any]:
        """This comparison as a spec file holds it, every field of every arm spelled out, profiles too."""
        arms = {name: arm.model_dump(mode="json", exclude={"name", "seed", "arm"}) for name, arm in self.arms.items()}
        return {"name": self.name, "seeds": list(self.seeds), "arms": arms}

    def runs(self) -> list[RunSpec]:
        """Every run, seed by seed, so that an interrupted comparison has whole rounds."""
        return [arm.model_copy(update={"seed": seed}) for seed in self.seeds for arm in self.arms.values()]


def shipped_specs() -> list[str]:
    """Names of the specs in gannet/spec/shipped/."""
    return sorted(Path(item.name).stem for item in SPEC_FOLDER.iterdir() if item.name.endswith(".yaml"))


def load_spec(source: str | Path, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None) -> Comparison:
    """Read a spec by path, or a shipped one by name; `overrides` are `key=value` with dotted keys.

    Overrides win over the file and its arms; `base` replaces fields of the file, but not of its arms.
    Raises SpecError with every mistake.
    """
    text, where = _read(str(source))
    try:
        raw = parse(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{where}: not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise SpecError(f"{where}: a spec is a mapping such as `nodes: 4`, not {type(raw).__name__}")
    return resolve({**raw, **(base or {})}, where, overrides)


def resolve(raw: Mapping[str, Any], where: str, overrides: Sequence[str] = ()) -> Comparison:
    """A checked Comparison from a parsed spec; `where` names it in errors."""
    sets = [_parse_override(text) for text in overrides]
    base = dict(raw)
    for key, value in sets:
        head, _, rest = key.partition(".")
        if head == "arms" and rest.split(".")[0] not in (base.get("arms") or {}):
            known = ", ".join(base.get("arms") or {}) or "none"
            raise SpecError(f"--set {key}: {where} has no such arm; it has {known}")
        if head in ("seed", "seeds"):  # two names of one thing: the command line's wins
            base.pop("seed", None)
            base.pop("seeds", None)
        base = merge(base, nest(key, value))
    arms = base.pop("arms", None)
    seeds = _seeds(base, where)
    if arms is None:
        arms = {"run": {}}
    if not isinstance(arms, dict) or not arms:
        raise SpecError(f"{where}: arms: give at least one named override, for example `gossip: {{codec: fp16}}`")
    name = str(base.get("name", Path(where).stem))
    anew = any(key == "task.file" for key, _ in sets)
    resolved: dict[str, RunSpec] = {}
    mistakes: list[str] = []
    for arm, override in arms.items():
        if override is not None and not isinstance(override, dict):
            mistakes.append(f"arms.{arm}: an arm is a mapping of overrides, got {override!r}")
            continue
        if fixed := sorted({"seed", "seeds", "name", "arm", "arms"} & set(override or {})):
            mistakes.append(f"arms.{arm}.{fixed[0]}: belongs to the whole comparison, not to an arm")
            continue
        merged = merge(base, override or {})
        for key, value in sets:
            if key.split(".")[0] not in ("arms", "seed", "seeds", "name"):
                merged = merge(merged, nest(key, value))
        merged |= {"name": name, "arm": str(arm), "seed": seeds[0]}
        prefix = "" if list(arms) == ["run"] else f"in arm {arm}: "
        try:
            merged["task"] = with_text(merged.get("task", {}), Path(where).parent, anew)
            resolved[str(arm)] = RunSpec.model_validate(merged)
        except ValidationError as error:
            mistakes += [prefix + line for line in explain(error)]
        except TaskFileMissing as error:
            mistakes.append(f"{prefix}{error}")
    if mistakes:
        raise SpecError("\n".join(f"{where}: {line}" for line in dict.fromkeys(_common(mistakes, arms))))
    return Comparison(name=name, seeds=tuple(seeds), arms=resolved)


def explain(error: ValidationError) -> list[str]:
    """One line a mistake: the field's path, what is wrong or allowed, and what it got."""
    lines = []
    for item in error.errors():
        tags = _ALGORITHM_TAGS | _TAGS_OF.get(str(item["loc"][0]) if item["loc"] else "", frozenset())
        path = ".".join(str(part) for part in item["loc"] if part not in tags)
        message = item["msg"].removeprefix("Value error, ")
        got = item["input"]
        shown = "" if isinstance(got, (dict, Settings)) else f" (got {got!r})"
        lines.append(f"{path}: {message}{shown}" if path else f"{message}{shown}")
    return lines


_ALGORITHM_TAGS = frozenset(ALGORITHM_NAMES)
_TAGS_OF = {"topology": frozenset(TAGS), "players": frozenset(TAGS), "task": frozenset(TASK_NAMES)}


def _common(mistakes: list[str], arms: Mapping[str, Any]) -> list[str]:
    """A mistake of the base would be said once for each arm: say it once."""
    plain = [re.sub(r"^in arm .*?: ", "", line) for line in mistakes]
    return [
        text if len(arms) > 1 and plain.count(text) == len(arms) else line
        for text, line in zip(plain, mistakes, strict=True)
    ]


def _read(source: str) -> tuple[str, str]:
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise SpecError(f"{source}: no such file")
        return path.read_text(encoding="utf-8"), source
    shipped = SPEC_FOLDER / f"{source}.yaml"
    if source not in shipped_specs():
        known = ", ".join(shipped_specs())
        raise SpecError(f"{source}: neither a .yaml file nor a shipped spec; shipped: {known}")
    return shipped.read_text(encoding="utf-8"), f"{source}.yaml"


def _seeds(base: dict[str, Any], where: str) -> list[int]:
    seeds = base.pop("seeds", None)
    single = base.pop("seed", None)
    if seeds is not None and single is not None:
        raise SpecError(f"{where}: seeds: `seed` says the same thing: keep one of them")
    if seeds is None:
        seeds = [1 if single is None else single]
    valid = isinstance(seeds, list) and bool(seeds)
    if not valid or any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in seeds):
        raise SpecError(f"{where}: seeds: a list of whole numbers from 0, for example [1, 2, 3] (got {seeds!r})")
    if len(set(seeds)) != len(seeds):
        raise SpecError(f"{where}: seeds: each seed once (got {seeds!r}); equal seeds give equal runs")
    return list(seeds)


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise SpecError(f"--set {text}: write key=value, for example --set algorithm.every=4")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SpecError(f"--set {text}: the value is not YAML: {error}") from None
