"""The link certificate: for every directed link the configured and the measured figures, and whether to trust it.

Records only. gannet.netem.measure.certify drives the probes, gannet.netem.measure.judge compares their results with
the plan by the one table of tolerances (gannet.netem.measure.tolerances), gannet.netem.measure.bad_intervals judges
the engine's reports during the run, and a Certificate collects the verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from gannet.netem.links.plan import InterfacePlan, PathPlan, path_rate_bps
from gannet.netem.measure.bad_intervals import BadWindow, bad_windows, clock_drift_ppm, drift_reasons, run_reasons
from gannet.netem.measure.tolerances import TOLERANCES, Tolerances

__all__ = [
    "TOLERANCES",
    "BadWindow",
    "Certificate",
    "EdgeResult",
    "FanResult",
    "Tolerances",
    "bad_windows",
    "clock_drift_ppm",
    "drift_reasons",
    "expected_edge",
    "run_reasons",
]

Interval = tuple[float, float]


@dataclass(frozen=True)
class EdgeResult:
    """One directed link: expected by the plan, measured by the probes. None: no cap, or not measured.

    Intervals are at 95%, see gannet.netem.measure.intervals for their methods. Fields with a default were added
    later: certificates of older runs lack them.
    """

    src: int
    dst: int
    expected_rate_bps: float | None
    measured_rate_bps: float | None
    expected_delay_ms: float
    expected_jitter_ms: float
    delay_p50_ms: float | None
    delay_p95_ms: float | None
    rtt_p50_ms: float | None
    expected_loss_percent: float
    loss_percent: float | None
    ok: bool = True
    reasons: tuple[str, ...] = ()
    # Between two machines one-way delay cannot be measured: this is the round trip less the planned way back.
    from_round_trip: bool = False
    delay_p5_ms: float | None = None
    delay_deviation_ms: float | None = None
    delay_interval_ms: Interval | None = None  # of the median
    delay_samples: int = 0
    rate_interval_bps: Interval | None = None
    loss_interval_percent: Interval | None = None
    loss_samples: int = 0
    expected_burst_packets: float | None = None
    burst_packets: float | None = None  # mean length of a run of lost packets
    expected_reorder_percent: float = 0.0
    reordered_percent: float | None = None  # packets that overtook an earlier one
    expected_duplicate_percent: float = 0.0
    duplicate_percent: float | None = None
    expected_corrupt_percent: float = 0.0  # arrives corrupted; a checksum turns it into a loss
    loaded_delay_p50_ms: float | None = None  # while full frames took half of the link's rate


@dataclass(frozen=True)
class FanResult:
    """One node and all its peers at once: `in` through its downlink, `out` through its uplink."""

    node: int
    direction: str
    peers: tuple[int, ...]
    expected_rate_bps: float
    measured_rate_bps: float | None
    rate_interval_bps: Interval | None = None
    ok: bool = True
    reasons: tuple[str, ...] = ()


@dataclass
class Certificate:
    """Verdicts on all links of a run. `trusted` is false as soon as there is one reason against it."""

    edges: list[EdgeResult] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    fans: list[FanResult] = field(default_factory=list)
    tolerances: Tolerances = TOLERANCES
    seconds: float | None = None  # duration of the measurement
    unseen: list[str] = field(default_factory=list)  # what of the plan was not measured, in words

    @property
    def trusted(self) -> bool:
        """Whether every link matched its plan, as far as is known."""
        return not self.reasons

    def add_edge(self, result: EdgeResult) -> None:
        """Record a link, and withdraw trust if it missed its plan."""
        self.edges.append(result)
        for reason in result.reasons:
            self.add_reason(f"link {result.src} → {result.dst}: {reason}")

    def add_fan(self, result: FanResult) -> None:
        """Record the throughput of one node and all its peers at once, and withdraw trust if it missed the plan."""
        self.fans.append(result)
        what = "into" if result.direction == "in" else "out of"
        for reason in result.reasons:
            self.add_reason(f"{len(result.peers)} peers at once {what} node {result.node}: {reason}")

    def add_reason(self, reason: str) -> None:
        """Withdraw trust, for something found during the run; repeating a reason changes nothing."""
        if reason not in self.reasons:
            self.reasons.append(reason)

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON values."""
        return {
            "trusted": self.trusted,
            "reasons": list(self.reasons),
            "edges": [asdict(edge) for edge in self.edges],
            "fans": [asdict(fan) for fan in self.fans],
            "tolerances": asdict(self.tolerances),
            "seconds": self.seconds,
            "unseen": list(self.unseen),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Certificate:
        """The inverse of to_json; also reads what earlier versions wrote, whose missing figures stay unknown."""
        return cls(
            [EdgeResult(**_tuples(edge)) for edge in data["edges"]],
            list(data["reasons"]),
            [FanResult(**_tuples(fan)) for fan in data.get("fans", ())],
            Tolerances(**_known(data.get("tolerances", {}))),
            data.get("seconds"),
            list(data.get("unseen", ())),
        )


def _tuples(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}


def _known(tolerances: Mapping[str, Any]) -> dict[str, Any]:
    names = {entry.name for entry in fields(Tolerances)}
    return {name: value for name, value in tolerances.items() if name in names}


def expected_edge(plans: Sequence[InterfacePlan], source: int, target: int) -> EdgeResult:
    """A link as planned, with nothing measured yet (which is what a modelled fabric records)."""
    path = plans[target].paths.get(plans[source].address, PathPlan())
    return EdgeResult(
        src=source,
        dst=target,
        expected_rate_bps=path_rate_bps(plans, source, target),
        measured_rate_bps=None,
        expected_delay_ms=path.delay_ms,
        expected_jitter_ms=path.jitter_ms,
        delay_p50_ms=None,
        delay_p95_ms=None,
        rtt_p50_ms=None,
        expected_loss_percent=path.any_loss_percent,
        loss_percent=None,
        expected_reorder_percent=path.reorder_percent,
        expected_duplicate_percent=path.duplicate_percent,
        expected_corrupt_percent=path.corrupt_percent,
    )
