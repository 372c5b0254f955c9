"""The frame around the panels of every dashboard: variables, annotations, links to the other dashboards, ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from dashboards.parts import SOURCE, pick

Row = tuple[str, Sequence[Builder[dashboard.Panel]]]
"""A heading and the panels below it."""


class _TimedAnnotation(dashboard.AnnotationQuery):
    """An annotation whose time is the query's value, in milliseconds: the SDK's model lacks these fields."""

    def __init__(self, title: str, text: str, **fields: Any) -> None:
        super().__init__(**fields)
        self._more = {"titleFormat": title, "textFormat": text, "useValueForTime": True, "step": "2s"}

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), **self._more}


class _Annotation(Builder[dashboard.AnnotationQuery]):
    def __init__(self, model: dashboard.AnnotationQuery) -> None:
        self._model = model

    def build(self) -> dashboard.AnnotationQuery:
        return self._model


def frame(uid: str, title: str, description: str, rows: Sequence[Row]) -> dashboard.Dashboard:
    """A dashboard: rows of panels, numbered in order."""
    board = build.Dashboard(title).uid(uid).description(description).tags(["gannet"]).readonly()
    board = board.timezone("browser").time("now-15m", "now").refresh("5s")
    board = board.tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    for name, label, query in (
        ("run", "Run", "label_values(gannet_run_info, run)"),
        ("arm", "Arm", 'label_values(gannet_run_info{run=~"$run"}, arm)'),
        ("node", "Node", f"label_values({pick('gannet_steps_total')}, node)"),
    ):
        board = board.with_variable(_variable(name, label, query))
    board = board.annotation(
        _Annotation(
            _TimedAnnotation(
                "Links changed by {{by}}: {{operation}}",
                "{{detail}} ({{arm}})",
                name="Link changes",
                datasource=SOURCE,
                enable=True,
                icon_color="orange",
                expr=f"{pick('gannet_link_change_timestamp_seconds')} * 1000",
            )
        )
    )
    others = build.DashboardLink("Gannet").type(dashboard.DashboardLinkType.DASHBOARDS).tags(["gannet"])
    board = board.link(others.as_dropdown(False).include_vars(True).keep_time(True))
    number = 0
    for heading, panels in rows:
        number += 1
        board = board.with_row(build.Row(heading).id(number))
        for panel in panels:
            number += 1
            board = board.with_panel(_Numbered(panel, number))
    return board.build()


class _Numbered(Builder[dashboard.Panel]):
    def __init__(self, panel: Builder[dashboard.Panel], number: int) -> None:
        self._panel, self._number = panel, number

    def build(self) -> dashboard.Panel:
        model = self._panel.build()
        model.id_val = self._number
        return model


def _variable(name: str, label: str, query: str) -> build.QueryVariable:
    everything = dashboard.VariableOption(selected=True, text=["All"], value=["$__all"])
    variable = build.QueryVariable(name).label(label).datasource(SOURCE)
    variable = variable.query({"query": query, "refId": f"variable-{name}"})
    variable = variable.multi(True).include_all(True).all_value(".*").current(everything)
    return variable.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(
        dashboard.VariableSort.NUMERICAL_ASC if name == "node" else dashboard.VariableSort.ALPHABETICAL_DESC
    )


def text(model: dashboard.Dashboard) -> str:
    """The dashboard's JSON as committed."""
    return json.dumps(model, cls=JSONEncoder, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
