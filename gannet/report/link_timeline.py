"""The plot of planned links: rates and delays over time, where the spec changes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from gannet.fabrics.job import mesh_plans
from gannet.ledger.reader import Run
from gannet.netem.links.outages import outages_as_cuts
from gannet.netem.links.plan import InterfacePlan
from gannet.report.figures import Figure, arm_colour, axis, layout, panel_title
from gannet.report.results import ArmResult
from gannet.spec.run_spec import RunSpec

# A longer series is thinned out: no plot is wider than this many pixels.
_MOST_POINTS = 2000
_PANELS = (
    ("Down (Mbit/s)", "Mbit/s down"),
    ("Up (Mbit/s)", "Mbit/s up"),
    ("One-way delay (ms)", "ms one way, incoming"),
)


def planned(arm: ArmResult) -> Figure | None:
    """Rates and mean incoming delay of every node whose links change; None if no links change.

    A node that no peer can reach has a down rate of 0; one that can reach no peer has an up rate of 0.
    """
    run = arm.shown
    if run is None:
        return None
    try:
        spec = RunSpec.model_validate(run.spec)
        links, changes = spec.links_over_time
    except ValidationError:  # a run of another version; its other plots are still drawn
        return None
    end_s = _end_s(run)
    kept = [change for change in changes if change.at_s <= end_s]
    if not kept:
        return None
    kept = kept[:: -(-len(kept) // _MOST_POINTS)]
    states = [(0.0, links), *((change.at_s, change.links) for change in kept)]
    series = [(at_s, _figures(mesh_plans(state, spec.nodes, spec.seed))) for at_s, state in states]
    ranks = [rank for rank in range(spec.nodes) if len({figures[rank] for _, figures in series}) > 1]
    traces: list[dict[str, Any]] = []
    for place, rank in enumerate(ranks):
        # As in the plot of link activity: nodes of an arm share its colour, paler for higher ranks.
        colour = f"{arm_colour(arm.index)}/{1.0 - 0.65 * place / max(1, len(ranks) - 1):.2f}"
        for number, (_, unit) in enumerate(_PANELS):
            points = [(at_s, figures[rank][number]) for at_s, figures in series]
            suffix = "" if number == 0 else str(number + 1)
            traces.append(
                {"type": "scatter", "mode": "lines", "x": [round(t, 3) for t, _ in points] + [round(end_s, 3)],
                 "y": [y for _, y in points] + [points[-1][1]], "name": f"node {rank}", "showlegend": False,
                 "line": {"color": colour, "width": 1.6, "shape": "hv"}, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}",
                 "hovertemplate": f"node {rank}: %{{y:.4~g}} {unit} from %{{x:.1f}} s<extra></extra>"}
            )  # fmt: skip
    settings: dict[str, Any] = {"annotations": []}
    for number, ((title, _), domain) in enumerate(zip(_PANELS, ([0, 0.28], [0.36, 0.64], [0.72, 1]), strict=True)):
        suffix = "" if number == 0 else str(number + 1)
        settings[f"xaxis{suffix}"] = axis("time (s)", domain=domain, anchor=f"y{suffix}", range=[0, end_s], nticks=5)
        settings[f"yaxis{suffix}"] = axis("", anchor=f"x{suffix}", rangemode="tozero", nticks=4)
        settings["annotations"].append(panel_title(title, domain[0]))
    figure: Figure = {"data": traces, "layout": layout(210, **settings)}
    figure["layout"]["margin"] = {"l": 44, "r": 8, "t": 30, "b": 44}
    return figure if traces else None


def _end_s(run: Run) -> float:
    return run.summary.seconds or max((step.t_s for step in run.steps), default=0.0)


def _figures(plans: Sequence[InterfacePlan]) -> list[tuple[float | None, float | None, float | None]]:
    """(Mbit/s down, Mbit/s up, mean incoming delay in ms) of every node; None: unlimited, or nothing can arrive."""
    found, plans = [], outages_as_cuts(plans)
    for plan in plans:
        coming = [path for path in plan.paths.values() if path.loss_percent < 100]
        reached = any(other.paths[plan.address].loss_percent < 100 for other in plans if other is not plan)
        delay_ms = sum(path.delay_ms for path in coming) / len(coming) if coming else None
        down, up = ((None if rate is None else rate / 1e6) for rate in (plan.down_bps, plan.up_bps))
        found.append(
            (down if coming else 0.0, up if reached else 0.0, None if delay_ms is None else round(delay_ms, 3))
        )
    return found
