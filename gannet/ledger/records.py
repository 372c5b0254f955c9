"""The records of a run folder, one type for each kind of file or line, shared by writer and readers.

Figures of training and of the links are declared where they are measured (StepStats, EdgeResult, FanResult) and taken
from there. Readers ignore unknown fields, so that run folders can grow, and check the others; a field added later has
a default, for folders without it. Numbers that training may drive to NaN or infinity arrive as None in scores, and as
they are in losses.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from gannet.netem.measure.certificate import Certificate as MeasuredCertificate
from gannet.netem.measure.certificate import EdgeResult, FanResult
from gannet.node.training.meter import Bytes, Seconds, StepStats


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Diverging = Annotated[float | None, BeforeValidator(_finite_or_none)]


class Record(BaseModel):
    """Common settings: read-only, and unknown fields are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")


@dataclass(frozen=True)
class Step(StepStats):
    """One step of one node (a line of steps.jsonl): the figures that its training loop measured."""

    node: int = field(kw_only=True)


class LinkSample(Record):
    """A node's link counters at one moment (a line of links.jsonl): bytes are totals of frames with their headers
    since the links were first applied, drops since its queues were built; lateness (how long past its due time the
    engine released packets) covers the time since the last line."""

    t_s: Seconds
    node: int
    tx_bytes: Bytes = 0
    rx_bytes: Bytes = 0
    dropped: Bytes = 0
    backlog_bytes: Bytes = 0
    late_p50_ms: Diverging = None
    late_p99_ms: Diverging = None
    late_max_ms: Diverging = None
    released: Bytes = 0


class LinkEvent(Record):
    """Something that happened to the links during training (a line of links.jsonl with an "event")."""

    t_s: Seconds
    event: str
    detail: str = ""


class BadWindow(Record):
    """An interval in which a node's links deviated from their profile (a line of links.jsonl)."""

    node: int
    from_s: Seconds
    to_s: Seconds
    what: str = ""


class NodeScore(Record):
    """The quality of one node's own model, scored as their mean is: the same noise, and as many images."""

    node: int
    score: Diverging = None
    classes_found: Diverging = None
    more: dict[str, Diverging] = {}
    fault: str = ""


class Score(Record):
    """The quality of one snapshot, scored off the clock; `bytes` is the payload sent by all nodes until then.

    `more`: further scores by name; the line has a list of their names, and each as a separate field. `features`: the
    network they were taken on. `fault`: why there is no score though the model is finite. `basis`: what else the
    score was taken against, the data or the task's own measure, by name. `classes`: the share of the images by class.
    `consensus`: each player's consensus distance, in the line a separate field. `node_models`: each node's own model,
    where the spec asks for it.
    """

    step: int
    t_s: Seconds
    bytes: Bytes
    score: Diverging = None
    score_name: str = "score"
    better: Literal["lower", "higher"] = "lower"
    of: str = "average"
    samples: int | None = None
    features: str = ""
    fault: str = ""
    basis: dict[str, Any] = {}
    more: dict[str, Diverging] = {}
    classes: dict[str, float] | None = None
    classes_found: Diverging = None
    consensus: dict[str, Diverging] = {}
    node_models: tuple[NodeScore, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, line: Any) -> Any:
        if not isinstance(line, dict):
            return line
        prefix = "consensus_"
        apart = {key.removeprefix(prefix): value for key, value in line.items() if key.startswith(prefix)}
        names = line.get("more")
        more = {"more": {name: line.get(name) for name in names}} if isinstance(names, list) else {}
        return line | {"consensus": apart} | more


class Certificate(Record):
    """The results of the probes before training and of the link monitor during it (certificate.json).

    `model`: nothing was measured. Links and fans are the results of gannet.netem.measure. `unseen`: what of the plan
    was not measured, in words.
    """

    trusted: bool
    reasons: tuple[str, ...] = ()
    model: bool = False
    edges: tuple[EdgeResult, ...] = ()
    fans: tuple[FanResult, ...] = ()
    tolerances: dict[str, float] = {}
    seconds: float | None = None
    unseen: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: MeasuredCertificate, model: bool) -> Certificate:
        """The record of a certificate in its present state."""
        return cls(
            trusted=found.trusted,
            reasons=tuple(found.reasons),
            model=model,
            edges=tuple(found.edges),
            fans=tuple(found.fans),
            tolerances=asdict(found.tolerances),
            seconds=found.seconds,
            unseen=tuple(found.unseen),
        )


class StepTime(Record):
    """Durations of steps, seconds, over all nodes and steps."""

    median: float | None = None
    mean: float | None = None
    p95: float | None = None


@dataclass(frozen=True)
class LowerBound:
    """The minimum duration of a gradient step, seconds, averaged over the steps from one exchange to the next.

    Computing, and bytes ÷ rate + delay on the busiest node; see gannet.experiment.bounds.
    """

    compute_s: float
    transfer_s: float
    delay_s: float
    total_s: float


class TopologyFacts(Record):
    """The topology of exchanges, and how fast it mixes."""

    name: str = ""
    spectral_gap: float | None = None


class PlayerFacts(Record):
    """How one player was exchanged, where players have own methods; bytes per step of all nodes, as computed."""

    algorithm: str
    every: int = 1
    topology: str | None = None
    codec: str
    mixing: str | None = None
    bytes_per_step: float = 0.0


class Summary(Record):
    """A run in one object (summary.json). Seconds and bytes; `compute_s` to `hidden_s` are means of a node's step."""

    arm: str | None = None
    label: str | None = None
    seed: int | None = None
    status: Literal["finished", "failed", "stopped"]
    reason: str | None = None
    nodes: int | None = None
    algorithm: str | None = None
    codec: str | None = None
    mixing: str | None = None  # the rule, where it is not the mean
    players: dict[str, PlayerFacts] = {}
    links: str | None = None
    topology: TopologyFacts | None = None
    parameters: int | None = None
    steps: int = 0
    resumed_after: tuple[int, ...] | None = None  # the steps after which it resumed from checkpoints
    seconds: float | None = None
    setup_s: float | None = None
    step_s: StepTime = StepTime()
    compute_s: float | None = None
    wait_s: float | None = None
    other_s: float | None = None
    hidden_s: float | None = None
    lower_bound_s: LowerBound | None = None
    bytes_codec: int | None = None
    bytes_grpc: int | None = None
    bytes_interface: int | None = None
    missing_messages: int = 0
    refused: dict[str, int] = {}
    memory_mb: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()  # on settings that did nothing
    trusted: bool = False
    reasons: tuple[str, ...] = ()
    final_score: Diverging = None
    best_score: Diverging = None
    score_name: str | None = None
    score_shortfalls: tuple[str, ...] = ()
    score_fault: str = ""  # why it, or some of its snapshots, could not be scored


class Continuation(Record):
    """A run continued from checkpoints (a line of resumed.jsonl): after which step, and when.

    `reasons_before`: the reasons until then to distrust the run's links. `changes`: what its bits depend on and was
    not as before, which the user allowed. `passed_over`: why later sets of checkpoints could not be used.
    """

    step: int
    t_s: Seconds
    written: str
    reasons_before: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()

    def reasons(self) -> list[str]:
        """Why a run that has such a part is not trusted, in words."""
        before = [f"before step {self.step}: {reason}" for reason in self.reasons_before]
        return before + [f"resumed after step {self.step}, not as it began: {change}" for change in self.changes]


class Shards(Record):
    """How the training data are distributed (shards.json): by node, the number of its images of each label."""

    labels_by_node: tuple[dict[str, int], ...]


class Host(Record):
    """The machine that a run was driven from."""

    model_config = ConfigDict(extra="allow")

    cpus: int | None = None
    cpu: str | None = None
    kernel: str | None = None
    memory_gb: float | None = None


class StartFacts(Record):
    """The weights that a run began from, if its task did not draw them all: `players` ("all") from `source`.

    `sha256`: see gannet.node.training.start.StartWeights.
    """

    source: str
    players: tuple[str, ...]
    sha256: str


class Environment(Record):
    """The machine and the versions that a run depends on (environment.json), and its fabric's additions."""

    model_config = ConfigDict(extra="allow")

    host: Host = Host()
    versions: dict[str, str] = {}
    written: str | None = None
    engine: str | None = None
    encrypted: bool | None = None  # whether nodes reached each other by mutual TLS
    stack: dict[str, Any] | None = None
    fabric: str = ""
    data: dict[str, Any] | None = None
    origin: dict[str, str] = {}  # what its bits depend on: see gannet.ledger.origin
    start: StartFacts | None = None

    def facts(self) -> dict[str, Any]:
        """The recorded facts, as plain values."""
        return to_json(self, recorded=True)


def to_json(record: Any, recorded: bool = False) -> dict[str, Any]:
    """A record as plain JSON values, which validate to an equal record. `recorded`: only fields that were given."""
    if isinstance(record, BaseModel):
        return record.model_dump(mode="json", exclude_unset=recorded)
    return asdict(record)
