"""The shapes of the ledger's records, as the report reads them: one pydantic model per kind of file or line.

Fields the report does not need are ignored, so a ledger may grow without breaking its readers; fields it does
need are checked. Numbers that training may drive to NaN or infinity (losses, scores) arrive as None.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Diverging = Annotated[float | None, BeforeValidator(_finite_or_none)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=0)]
Interval = tuple[float, float]


class Record(BaseModel):
    """Common settings: read-only, and unknown fields are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Step(Record):
    """One step of one node (a line of steps.jsonl); t_s is the training clock at the step's end."""

    node: int
    step: int
    t_s: Seconds
    loss: dict[str, Diverging] = {}
    compute_s: Seconds = 0.0
    wait_s: Seconds = 0.0
    other_s: Seconds = 0.0
    codec_bytes: Bytes = 0
    grpc_bytes: Bytes = 0
    interface_bytes: Bytes = 0
    missing: tuple[int, ...] = ()


class LinkSample(Record):
    """A node's link counters at one moment (a line of links.jsonl): bytes are totals since the interface
    came up, drops since its queues were built; lateness (how long past its due time the engine released
    packets) covers the time since the last line."""

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
    """A stretch of training in which a node's links were not as ordered (a line of links.jsonl)."""

    node: int
    from_s: Seconds
    to_s: Seconds
    what: str = ""


class Score(Record):
    """The quality of one snapshot, scored off the clock; `bytes` is the payload sent by all nodes until then.

    `more`: further scores by name; the line has a list of their names, and each as a field of its own. `features`:
    the network they were taken on. `classes`: the share of the images by class. `consensus`: each player's consensus
    distance, in the line a field of its own.
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
    more: dict[str, Diverging] = {}
    classes: dict[str, float] | None = None
    classes_found: Diverging = None
    consensus: dict[str, Diverging] = {}

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


class Edge(Record):
    """One directed link: what was ordered and what was measured (None: no limit, or not measured)."""

    src: int
    dst: int
    expected_rate_bps: float | None = None
    measured_rate_bps: float | None = None
    expected_delay_ms: float | None = None
    expected_jitter_ms: float = 0.0
    delay_p50_ms: float | None = None
    delay_p95_ms: float | None = None
    rtt_p50_ms: float | None = None
    expected_loss_percent: float = 0.0
    loss_percent: float | None = None
    ok: bool = True
    reasons: tuple[str, ...] = ()
    # What earlier versions did not measure. Intervals are at 95%.
    delay_p5_ms: float | None = None
    delay_deviation_ms: float | None = None
    delay_interval_ms: Interval | None = None
    rate_interval_bps: Interval | None = None
    loss_interval_percent: Interval | None = None
    expected_burst_packets: float | None = None
    burst_packets: float | None = None
    expected_reorder_percent: float = 0.0
    reordered_percent: float | None = None
    expected_duplicate_percent: float = 0.0
    duplicate_percent: float | None = None


class Fan(Record):
    """One node and all its peers at once, through its downlink (`in`) or its uplink (`out`)."""

    node: int
    direction: Literal["in", "out"]
    peers: tuple[int, ...]
    expected_rate_bps: float
    measured_rate_bps: float | None = None
    rate_interval_bps: Interval | None = None
    ok: bool = True
    reasons: tuple[str, ...] = ()


class Certificate(Record):
    """What the probes found before training and the watch found during it; `model` means nothing was
    measured."""

    trusted: bool
    reasons: tuple[str, ...] = ()
    model: bool = False
    edges: tuple[Edge, ...] = ()
    fans: tuple[Fan, ...] = ()
    tolerances: dict[str, float] = {}
    seconds: float | None = None


class StepTime(Record):
    """Seconds a step took."""

    median: float | None = None
    p95: float | None = None


class LowerBound(Record):
    """The least a step can take on the busiest node, in seconds: computing, and bytes ÷ rate + delay."""

    compute_s: float | None = None
    transfer_s: float | None = None
    delay_s: float | None = None
    total_s: float | None = None


class TopologyFacts(Record):
    """Who exchanges with whom, and how fast that mixes."""

    name: str = ""
    spectral_gap: float | None = None


class PlayerFacts(Record):
    """How one player was exchanged, where each was in its own way; bytes of all nodes a step."""

    algorithm: str
    every: int = 1
    topology: str | None = None
    codec: str
    bytes_per_step: float = 0.0


class Summary(Record):
    """A run in one object (summary.json)."""

    arm: str | None = None
    seed: int | None = None
    label: str | None = None
    status: Literal["finished", "failed", "stopped"]
    reason: str | None = None
    trusted: bool = False
    reasons: tuple[str, ...] = ()
    nodes: int | None = None
    steps: int = 0
    seconds: float | None = None
    setup_s: float | None = None
    step_s: StepTime = StepTime()
    compute_s: float | None = None
    wait_s: float | None = None
    hidden_s: float | None = None
    lower_bound_s: LowerBound | None = None
    bytes_codec: int | None = None
    bytes_grpc: int | None = None
    bytes_interface: int | None = None
    final_score: Diverging = None
    best_score: Diverging = None
    score_shortfalls: tuple[str, ...] = ()
    topology: TopologyFacts | None = None
    algorithm: str | None = None
    codec: str | None = None
    players: dict[str, PlayerFacts] = {}
    links: str | None = None
    refused: dict[str, int] = {}
    memory_mb: tuple[float, ...] = ()
