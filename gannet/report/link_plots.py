"""The plots of links: measured against configured, and link activity during training."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from gannet.ledger.reader import Run
from gannet.ledger.records import LinkSample
from gannet.netem.measure.certificate import TOLERANCES, EdgeResult
from gannet.report import formatting as words
from gannet.report.figures import UNTRUSTED, Figure, arm_colour, axis, label, layout, panel_title
from gannet.report.results import ArmResult, Results

JITTER = 0.28


def deviation(results: Results) -> Figure | None:
    """Measured minus configured for every directed link: rate on the left, one-way delay on the right; a row per
    run."""
    runs = [run for run in results.comparison.runs if run.certificate is not None and not run.certificate.model]
    points = [
        (row + offset, side, value, edge, run)
        for row, run in enumerate(runs)
        for edge, offset in _spread_out(run)
        for side, value in ((0, rate_deviation_percent(edge)), (1, delay_deviation_ms(edge)))
        if value is not None
    ]
    if not points:
        return None
    traces = []
    for ok, name, colour, symbol in (
        (True, "within tolerance", "@ok", "circle"),
        (False, "outside tolerance", "@bad", "x"),
    ):
        for side in (0, 1):
            chosen = [point for point in points if point[1] == side and point[3].ok == ok]
            if not chosen and side == 1:
                continue
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": name,
                    "legendgroup": name,
                    "showlegend": side == 0,
                    "x": [float(f"{value:.4g}") for _, _, value, _, _ in chosen],
                    "y": [height for height, *_ in chosen],
                    "customdata": [_edge_text(edge, side) for _, side, _, edge, _ in chosen],
                    "marker": {"color": f"{colour}/0.85", "symbol": symbol, "size": 9},
                    "xaxis": "x2" if side else "x",
                    "yaxis": "y2" if side else "y",
                    "hovertemplate": "%{customdata}<extra></extra>",
                }
            )
    names = [f"{label(run.label, 26)}<br>seed {run.seed}" + ("" if run.trusted else f" {UNTRUSTED}") for run in runs]
    rows = list(range(len(runs)))
    settings = {
        "xaxis": axis("measured − configured (% of rate)", domain=[0, 0.47], **_around_zero(points, 0, 6.0)),
        "xaxis2": axis("measured − configured (ms)", domain=[0.53, 1], anchor="y2", **_around_zero(points, 1, 1.2)),
        "yaxis": axis(
            "", tickvals=rows, ticktext=names, range=[len(runs) - 0.5, -0.5], showgrid=False, zeroline=False
        ),
        "yaxis2": axis(
            "",
            tickvals=rows,
            ticktext=[""] * len(rows),
            range=[len(runs) - 0.5, -0.5],
            anchor="x2",
            showgrid=False,
            zeroline=False,
        ),
        "shapes": [band for row, run in enumerate(runs) for band in _allowed(row, run)],
        "annotations": [panel_title("Goodput", 0), panel_title("One-way delay", 0.53)],
    }
    figure: Figure = {"data": traces, "layout": layout(150 + 56 * len(runs), **settings)}
    figure["layout"]["margin"]["t"] = 64
    figure["layout"]["legend"] |= {"y": 1, "yref": "container", "yanchor": "top"}
    return figure


def rate_deviation_percent(edge: EdgeResult) -> float | None:
    """Measured goodput minus the configured rate, in percent of that rate; None if either is missing."""
    if not edge.expected_rate_bps or edge.measured_rate_bps is None:
        return None
    return 100.0 * (edge.measured_rate_bps / edge.expected_rate_bps - 1.0)


def delay_deviation_ms(edge: EdgeResult) -> float | None:
    """Median measured one-way delay minus the configured one, in ms; None if either is missing."""
    if edge.expected_delay_ms is None or edge.delay_p50_ms is None:
        return None
    return edge.delay_p50_ms - edge.expected_delay_ms


def activity(results: Results, arm: ArmResult) -> Figure | None:
    """One arm's links over time, a line per node: rate sent, packets dropped, lateness of the link engine."""
    run = arm.shown
    if run is None or not run.links:
        return None
    limits = _limits(results)
    traces: list[dict[str, Any]] = []
    nodes = sorted({sample.node for sample in run.links})
    for place, node in enumerate(nodes):
        samples = [sample for sample in run.links if sample.node == node]
        # Nodes of an arm share its colour, paler for higher ranks: arms are compared, not nodes.
        colour = f"{arm_colour(arm.index)}/{1.0 - 0.65 * place / max(1, len(nodes) - 1):.2f}"
        for number, (points, unit) in enumerate(
            ((sent_rates(samples), "Mbit/s"), (drop_rates(samples), "packets/s"), (lateness(samples), "ms")),
            start=1,
        ):
            suffix = "" if number == 1 else str(number)
            traces.append(
                {"type": "scatter", "mode": "lines", "x": [round(t, 3) for t, _ in points],
                 "y": [float(f"{y:.4g}") for _, y in points], "name": f"node {node}", "showlegend": False,
                 "line": {"color": colour, "width": 1.6, "dash": "solid" if run.trusted else "dash"},
                 "xaxis": f"x{suffix}", "yaxis": f"y{suffix}",
                 "hovertemplate": f"node {node}: %{{y:.4~g}} {unit} at %{{x:.1f}} s<extra></extra>"}
            )  # fmt: skip
    domains = ([0, 0.28], [0.36, 0.64], [0.72, 1])
    titles = ("Sent (Mbit/s)", "Dropped (packets/s)", "Engine lateness, p99 (ms)")
    settings: dict[str, Any] = {"annotations": [], "shapes": []}
    for number, (domain, title, top) in enumerate(zip(domains, titles, limits, strict=True), start=1):
        suffix = "" if number == 1 else str(number)
        settings[f"xaxis{suffix}"] = axis(
            "time (s)", domain=domain, anchor=f"y{suffix}", rangemode="tozero", nticks=5
        )
        settings[f"yaxis{suffix}"] = axis("", anchor=f"x{suffix}", range=[0, top * 1.1], nticks=4)
        settings["annotations"].append(panel_title(title, domain[0]))
    uplinks = {rate for node in nodes if (rate := uplink_bps(run, node)) is not None}
    for rate_bps in sorted(uplinks):
        settings["shapes"].append(
            {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": rate_bps / 1e6,
             "y1": rate_bps / 1e6, "line": {"color": "@muted", "width": 1, "dash": "dot"}}
        )  # fmt: skip
    for event in (event for event in run.events if event.event != "strangers"):
        for suffix in ("", "2", "3"):
            settings["shapes"].append(
                {
                    "type": "line",
                    "xref": f"x{suffix}",
                    "x0": event.t_s,
                    "x1": event.t_s,
                    "yref": f"y{suffix} domain",
                    "y0": 0,
                    "y1": 1,
                    "line": {"color": "@bad", "width": 1, "dash": "dot"},
                }
            )
    figure: Figure = {"data": traces, "layout": layout(210, **settings)}
    figure["layout"]["margin"] = {"l": 44, "r": 8, "t": 30, "b": 44}
    return figure


def sent_rates(samples: list[LinkSample]) -> list[tuple[float, float]]:
    """(s, Mbit/s sent since the sample before), from the totals of one node."""
    return [
        (b.t_s, 8e-6 * (b.tx_bytes - a.tx_bytes) / (b.t_s - a.t_s)) for a, b in pairwise(samples) if b.t_s > a.t_s
    ]


def drop_rates(samples: list[LinkSample]) -> list[tuple[float, float]]:
    """(s, packets dropped per second since the sample before), from the totals of one node.

    Totals restart at zero when a change of links creates new queues.
    """
    return [
        (b.t_s, (b.dropped - a.dropped if b.dropped >= a.dropped else b.dropped) / (b.t_s - a.t_s))
        for a, b in pairwise(samples)
        if b.t_s > a.t_s
    ]


def lateness(samples: list[LinkSample]) -> list[tuple[float, float]]:
    """(s, 99th percentile in ms of how late the engine released packets)."""
    return [(sample.t_s, sample.late_p99_ms) for sample in samples if sample.late_p99_ms is not None]


def uplink_bps(run: Run, node: int) -> float | None:
    """A node's configured uplink rate: that of its fastest outgoing link (a slower peer limits only its own link)."""
    edges = run.certificate.edges if run.certificate is not None else ()
    rates = [edge.expected_rate_bps for edge in edges if edge.src == node]
    known = [rate for rate in rates if rate is not None]
    return max(known) if known and len(known) == len(rates) else None


def _limits(results: Results) -> tuple[float, float, float]:
    """The upper ends of the three axes, at least 1: shared by all arms, so that their plots can be compared."""
    tops = [1.0, 1.0, 1.0]
    for arm in results.arms:
        if arm.shown is None:
            continue
        by_node: dict[int, list[LinkSample]] = {}
        for sample in arm.shown.links:
            by_node.setdefault(sample.node, []).append(sample)
        for node, samples in by_node.items():
            for place, points in enumerate((sent_rates(samples), drop_rates(samples), lateness(samples))):
                tops[place] = max([tops[place], *(y for _, y in points)])
            tops[0] = max(tops[0], (uplink_bps(arm.shown, node) or 0.0) / 1e6)
    return tops[0], tops[1], tops[2]


def allowed_delay_ms(edge: EdgeResult) -> float | None:
    """How far a link's median delay may be from the configured one, in ms, by the certificate's tolerances."""
    if edge.expected_delay_ms is None:
        return None
    base_ms = max(TOLERANCES.delay_ms, TOLERANCES.delay_share * edge.expected_delay_ms)
    return base_ms + TOLERANCES.jitter_share * edge.expected_jitter_ms


def _allowed(row: int, run: Run) -> list[dict[str, Any]]:
    """The shaded bands of one run. Each link has its own tolerance of delay; the strictest is drawn."""
    edges = run.certificate.edges if run.certificate is not None else ()
    delays = [allowed for edge in edges if (allowed := allowed_delay_ms(edge)) is not None]
    halves = [(100 * TOLERANCES.rate_share, "")] if any(edge.expected_rate_bps for edge in edges) else []
    halves += [(min(delays), "2")] if delays else []
    return [
        {"type": "rect", "xref": f"x{axis_number}", "yref": f"y{axis_number}", "x0": -half, "x1": half,
         "y0": row - 0.42, "y1": row + 0.42, "fillcolor": "@ok/0.1", "line": {"width": 0}, "layer": "below"}
        for half, axis_number in halves
    ]  # fmt: skip


def _around_zero(points: list[tuple[float, int, float, EdgeResult, Run]], side: int, least: float) -> dict[str, Any]:
    """A range with zero in the middle, at least `least` wide on each side."""
    reach = 1.15 * max([least, *(abs(value) for _, at, value, _, _ in points if at == side)])
    return {"range": [-reach, reach], "zeroline": True}


def _spread_out(run: Run) -> list[tuple[EdgeResult, float]]:
    """The links, each with a fixed small vertical offset, so that equal values do not hide each other."""
    edges = run.certificate.edges if run.certificate is not None else ()
    return [(edge, JITTER * (2 * place / max(1, len(edges) - 1) - 1)) for place, edge in enumerate(edges)]


def _edge_text(edge: EdgeResult, side: int) -> str:
    if side == 0:
        what = f"{words.rate(edge.measured_rate_bps)} measured, {words.rate(edge.expected_rate_bps)} configured"
    else:
        measured, configured = words.number(edge.delay_p50_ms), words.number(edge.expected_delay_ms)
        what = f"{measured} ms measured, {configured} ms configured"
    why = "".join(f"<br>{label(reason, 60)}" for reason in edge.reasons)
    return f"node {edge.src} → node {edge.dst}: {what}{why}"
