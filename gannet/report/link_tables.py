"""The tables of links: measurements of each directed link and of each node with all its peers, tolerances, TCP
settings, and intervals of training in which links deviated from their profile. Plain text; the template escapes
it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gannet.ledger.reader import Run
from gannet.netem.measure.certificate import EdgeResult, Interval
from gannet.netem.measure.tolerances import TOLERANCES, Tolerances
from gannet.report import formatting as words

WINDOWS_SHOWN = 20
_STACK_WORDS = {
    "congestion_control": "congestion control",
    "slow_start_after_idle": "slow start after idle",
    "mtu": "MTU",
    "gso_max_segs": "segments per packet (GSO)",
    "gro_max_size": "bytes merged on arrival (GRO)",
    "tso": "TSO",
}


@dataclass(frozen=True)
class Cell:
    """A table cell: a figure and, in small print below it, its interval or the configured value."""

    text: str
    below: str = ""


@dataclass(frozen=True)
class LinkTables:
    """All tables of one run's links. A row whose last cell is not "ok" is coloured."""

    run: Run
    headings: tuple[str, ...]
    links: list[tuple[Cell, ...]]
    fans: list[tuple[Cell, ...]]
    windows: list[tuple[str, str, str]]
    more_windows: int
    stack: str
    measuring: str


def link_tables(run: Run) -> LinkTables:
    """The tables of a run; empty where its folder has no data, as with earlier versions."""
    certificate = run.certificate
    edges = certificate.edges if certificate is not None else ()
    fates = any(_has_fates(edge) for edge in edges)
    fans: list[tuple[Cell, ...]] = [
        (
            Cell(f"into node {fan.node}" if fan.direction == "in" else f"out of node {fan.node}"),
            Cell(f"{len(fan.peers)}"),
            Cell(words.rate(fan.expected_rate_bps)),
            Cell(_rate(fan.measured_rate_bps), _rates(fan.rate_interval_bps)),
            Cell("ok" if fan.ok else "; ".join(fan.reasons)),
        )
        for fan in (certificate.fans if certificate is not None else ())
    ]
    windows = sorted(run.windows, key=lambda window: (window.from_s, window.node))
    seconds = certificate.seconds if certificate is not None else None
    measuring = [] if seconds is None else [f"Measuring the links took {words.seconds(seconds)}."]
    measuring += [f"Not measured: {unseen}." for unseen in (certificate.unseen if certificate is not None else ())]
    return LinkTables(
        run=run,
        headings=("link", "rate set", "measured", "delay set", "median", "5% to 95%", "round trip", "loss")
        + (("reordered, duplicated",) if fates else ())
        + ("verdict",),
        links=[_link_row(run, edge, fates) for edge in edges],
        fans=fans,
        windows=[
            (f"node {w.node}", f"{words.number(w.from_s, 4)} to {words.number(w.to_s, 4)} s", w.what)
            for w in windows[:WINDOWS_SHOWN]
        ],
        more_windows=max(0, len(windows) - WINDOWS_SHOWN),
        stack=describe_stack(run.environment.facts()),
        measuring=" ".join(measuring),
    )


def tolerance_rows(run_tolerances: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
    """The table of tolerances, (figure, tolerance): those in a run's certificate, else those of this version."""
    known = {name: value for name, value in (run_tolerances or {}).items() if hasattr(TOLERANCES, name)}
    return Tolerances(**known).rows()


def describe_stack(environment: Mapping[str, Any]) -> str:
    """The settings of TCP and of the shaped interfaces in one line; "" if the run folder has none."""
    stack = environment.get("stack")
    if not isinstance(stack, Mapping):
        stack = {name: environment[name] for name in ("congestion_control",) if name in environment}
    parts = []
    for name, value in stack.items():
        if isinstance(value, Mapping):  # differs between nodes
            value = words.listing([f"{_plain(each)} at node {rank}" for rank, each in value.items()])
        parts.append(f"{_STACK_WORDS.get(name, name.replace('_', ' '))} {_plain(value)}")
    return " · ".join(parts)


def _plain(value: Any) -> str:
    return (
        {True: "on", False: "off", None: "unset"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def _link_row(run: Run, edge: EdgeResult, fates: bool) -> tuple[Cell, ...]:
    verdict = "model" if run.model else "ok" if edge.ok else "; ".join(edge.reasons) or "outside tolerance"
    jitter = f"± {words.number(edge.expected_jitter_ms)} ms" if edge.expected_jitter_ms else ""
    spread = "–"
    if edge.delay_p95_ms is not None:
        low = "" if edge.delay_p5_ms is None else f"{words.number(edge.delay_p5_ms)} to "
        spread = f"{low}{words.number(edge.delay_p95_ms)} ms"
    under_load_ms = edge.loaded_delay_p50_ms
    loaded = "" if under_load_ms is None else f"; under load {words.number(under_load_ms)} ms"
    deviation = f"deviation {words.number(edge.delay_deviation_ms)} ms" if edge.delay_deviation_ms is not None else ""
    return (
        Cell(f"{edge.src} → {edge.dst}"),
        Cell(words.rate(edge.expected_rate_bps)),
        Cell(_rate(edge.measured_rate_bps), _rates(edge.rate_interval_bps)),
        Cell(_ms(edge.expected_delay_ms), jitter),
        Cell(_ms(edge.delay_p50_ms), _interval(edge.delay_interval_ms, "ms") + loaded),
        Cell(spread, deviation),
        Cell(_ms(edge.rtt_p50_ms)),
        Cell(_percent(edge.loss_percent), _loss_below(edge)),
        *((Cell(f"{_percent(edge.reordered_percent)}, {_percent(edge.duplicate_percent)}"),) if fates else ()),
        Cell(verdict),
    )


def _has_fates(edge: EdgeResult) -> bool:
    return any(
        (
            edge.expected_reorder_percent,
            edge.expected_duplicate_percent,
            edge.reordered_percent,
            edge.duplicate_percent,
        )
    )


def _loss_below(edge: EdgeResult) -> str:
    parts = [_interval(edge.loss_interval_percent, "%")]
    if edge.expected_loss_percent:
        parts.append(f"set: {_percent(edge.expected_loss_percent)}")
    if edge.expected_burst_packets:
        found = "" if edge.burst_packets is None else f"{words.number(edge.burst_packets)} packets, "
        parts.append(f"bursts: {found}set: {words.number(edge.expected_burst_packets)}")
    return "; ".join(part for part in parts if part)


def _interval(interval: Interval | None, unit: str) -> str:
    if interval is None:
        return ""
    low, high = (words.number(end, 4) for end in interval)
    return f"{low} to {high}{unit if unit == '%' else f' {unit}'}"


def _rates(interval: Interval | None) -> str:
    return "" if interval is None else f"{words.rate(interval[0])} to {words.rate(interval[1])}"


def _rate(value_bps: float | None) -> str:
    return "–" if value_bps is None else words.rate(value_bps)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{words.number(value)} ms"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{words.number(value)}%"
