"""The parts that all dashboards are built from: queries and panels in one style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import heatmap as heatmap_builders
from grafana_foundation_sdk.builders import nodegraph as nodegraph_builders
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries, trend
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard, heatmap
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="prometheus")
RUN = 'run=~"$run",arm=~"$arm"'
NODE = RUN + ',node=~"$node"'
LINK = RUN + ',src=~"$node"'
"""Label matchers of the dashboard's variables, for metrics of a run, of its nodes, and of its links (by sender)."""

GREEN, YELLOW, RED, BLUE, GREY = "green", "#EAB839", "red", "blue", "#808080"
Steps = Sequence[tuple[float | None, str]]
"""Thresholds: the colour from each value on; the first has no value."""


@dataclass(frozen=True)
class Query:
    """An expression and its series' names. `now`: one value per series, at the end of the dashboard's time range."""

    expr: str
    legend: str = ""
    now: bool = False

    def target(self, number: int, form: PromQueryFormat) -> prometheus.Dataquery:
        target = prometheus.Dataquery().expr(self.expr).ref_id(chr(ord("A") + number)).format(form).datasource(SOURCE)
        if self.legend:
            target = target.legend_format(self.legend)
        return target.instant() if self.now else target.range()


def pick(metric: str, where: str = RUN, more: str = "") -> str:
    """A metric's series as selected by the variables; `more`: further matchers."""
    return f"{metric}{{{where}{',' if more else ''}{more}}}"


def by(how: str, labels: str, expr: str) -> str:
    """An aggregation that keeps these labels."""
    return f"{how} by ({labels}) ({expr})"


def rate(selector: str) -> str:
    """Per second, over the shortest interval that the dashboard's resolution allows."""
    return f"rate({selector}[$__rate_interval])"


def over(how: str, selector: str) -> str:
    """One value for the dashboard's whole time range: its max, min or last."""
    return f"{how}_over_time({selector}[$__range])"


def last(selector: str) -> str:
    """The last value within the dashboard's time range, so that ended runs are still shown."""
    return over("last", selector)


class _Panel(Protocol):
    """The methods that the SDK's panel builders share."""

    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def datasource(self, datasource: dashboard.DataSourceRef) -> Self: ...
    def span(self, w: int) -> Self: ...
    def height(self, h: int) -> Self: ...
    def unit(self, unit: str) -> Self: ...
    def with_target(self, target: prometheus.Dataquery) -> Self: ...
    def with_override(
        self, matcher: dashboard.MatcherConfig, properties: list[dashboard.DynamicConfigValue]
    ) -> Self: ...


P = TypeVar("P", bound=_Panel)


def _dress(
    panel: P,
    words: tuple[str, str],
    unit: str,
    queries: Sequence[Query],
    size: tuple[int, int],
    form: PromQueryFormat = PromQueryFormat.TIME_SERIES,
) -> P:
    title, description = words
    panel = panel.title(title).description(description).datasource(SOURCE).unit(unit).span(size[0]).height(size[1])
    for number, query in enumerate(queries):
        panel = panel.with_target(query.target(number, form))
    return panel


def _thresholds(steps: Steps) -> build.ThresholdsConfig:
    models = [dashboard.Threshold(value, colour) for value, colour in steps]
    return build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(models)


def _legend(calcs: Sequence[str] = ("lastNotNull",)) -> common_builders.VizLegendOptions:
    legend = common_builders.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM)
    return legend.display_mode(common.LegendDisplayMode.LIST).calcs(list(calcs))


def _tooltip() -> common_builders.VizTooltipOptions:
    tooltip = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    return tooltip.sort(common.SortOrder.DESCENDING)


def override(matcher: str, match: str, **properties: Any) -> tuple[dashboard.MatcherConfig, list[Any]]:
    """Properties of the fields that match; double underscores stand for dots in their names."""
    values = [dashboard.DynamicConfigValue(key.replace("__", "."), value) for key, value in properties.items()]
    return dashboard.MatcherConfig(matcher, match), values


def _transformation(id_val: str, **options: Any) -> dashboard.DataTransformerConfig:
    return dashboard.DataTransformerConfig(id_val=id_val, options=options)


def series(
    words: tuple[str, str],
    unit: str,
    *queries: Query,
    width: int = 12,
    height: int = 8,
    stacked: bool = False,
    log: bool = False,
    low: float | None = 0,
    high: float | None = None,
    thresholds: Steps = (),
    expected: str = "",
) -> Builder[dashboard.Panel]:
    """Curves over time. `expected`: series whose name matches this regular expression are drawn as dashed steps."""
    panel = _dress(timeseries.Panel(), words, unit, queries, (width, height)).legend(_legend()).tooltip(_tooltip())
    panel = panel.line_width(1.5).fill_opacity(0).show_points(common.VisibilityMode.AUTO).span_nulls(60_000)
    if log:
        panel = panel.scale_distribution(
            common_builders.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
        )
    elif low is not None:
        panel = panel.axis_soft_min(low)
    if high is not None:
        panel = panel.max(high)
    if stacked:
        mode = common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A")
        panel = panel.fill_opacity(60).line_width(0).stacking(mode)
    if thresholds:
        style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED)
        panel = panel.thresholds(_thresholds(thresholds)).thresholds_style(style)
    if expected:
        dashes = {"fill": "dash", "dash": [8, 6]}
        panel = panel.with_override(
            *override("byRegexp", f"/{expected}/", custom__lineStyle=dashes, custom__lineInterpolation="stepAfter")
        )
    return panel


def figure(
    words: tuple[str, str],
    unit: str,
    query: Query,
    thresholds: Steps = ((None, BLUE),),
    texts: dict[str, tuple[str, str]] | None = None,
    width: int = 4,
    decimals: int | None = None,
) -> Builder[dashboard.Panel]:
    """The last value of each series. `texts`: words and colours for values."""
    panel = _dress(stat.Panel(), words, unit, [query], (width, 4)).thresholds(_thresholds(thresholds))
    panel = panel.color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
    panel = panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    panel = panel.color_mode(common.BigValueColorMode.VALUE).graph_mode(common.BigValueGraphMode.AREA)
    panel = panel.text_mode(common.BigValueTextMode.AUTO)
    if decimals is not None:
        panel = panel.decimals(decimals)
    if texts:
        panel = panel.mappings([_value_map(texts)]).graph_mode(common.BigValueGraphMode.NONE)
    return panel


def _value_map(texts: dict[str, tuple[str, str]]) -> dashboard.ValueMap:
    results = {
        value: dashboard.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(texts.items())
    }
    return dashboard.ValueMap(options=results)


def timeline(
    words: tuple[str, str], query: Query, texts: dict[str, tuple[str, str]], width: int = 12, height: int = 6
) -> Builder[dashboard.Panel]:
    """States over time."""
    panel = _dress(statetimeline.Panel(), words, "none", [query], (width, height)).mappings([_value_map(texts)])
    panel = panel.color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
    panel = panel.thresholds(_thresholds([(None, GREY)])).merge_values(True).row_height(0.8).line_width(0)
    return panel.legend(_legend(())).show_value(common.VisibilityMode.AUTO).fill_opacity(80)


def heat(words: tuple[str, str], unit: str, query: Query, width: int = 12) -> Builder[dashboard.Panel]:
    """A histogram over time."""
    panel = _dress(heatmap_builders.Panel(), words, unit, [query], (width, 8), PromQueryFormat.HEATMAP)
    color = heatmap_builders.HeatmapColorOptions().mode(heatmap.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    axis = heatmap_builders.YAxisConfig().unit(unit)
    linear = common_builders.ScaleDistributionConfig().type(common.ScaleDistribution.LINEAR)
    panel = panel.scale_distribution(linear)
    return panel.calculate(False).color(color).y_axis(axis).cell_gap(1).show_legend().show_tooltip()


def matrix(
    words: tuple[str, str], unit: str, expr: str, thresholds: Steps, width: int = 8, decimals: int = 1
) -> Builder[dashboard.Panel]:
    """Sender by receiver, one coloured cell per link: the mean over the runs shown."""
    query = Query(by("avg", "src, dst", expr), now=True)
    panel = _dress(table.Panel(), words, unit, [query], (width, 8), PromQueryFormat.TABLE)
    panel = panel.thresholds(_thresholds(thresholds)).decimals(decimals).show_header(True)
    for transformation in (
        _transformation("sortBy", sort=[{"field": "dst"}]),  # columns appear in order of first occurrence
        _transformation("groupingToMatrix", **_matrix("src", "dst")),
        _transformation("sortBy", sort=[{"field": "src\\dst"}]),
    ):
        panel = panel.with_transformation(transformation)
    coloured = override("byType", "number", custom__cellOptions={"type": "color-background", "mode": "basic"})
    named = override("byName", "src\\dst", displayName="from \\ to", custom__width=90)
    return panel.with_override(*coloured).with_override(*named)


def _matrix(row: str, column: str) -> dict[str, str]:
    return {"rowField": row, "columnField": column, "valueField": "Value"}


def rows(
    words: tuple[str, str],
    queries: dict[str, Query],
    labels: dict[str, str],
    units: dict[str, str],
    width: int = 24,
    height: int = 8,
) -> Builder[dashboard.Panel]:
    """A table with a row for each set of `labels` (label: heading) and a column for each query (heading: query).

    A query without a heading is used for its labels only.
    """
    panel = _dress(table.Panel(), words, "none", list(queries.values()), (width, height), PromQueryFormat.TABLE)
    panel = panel.show_header(True)
    panel = panel.with_transformation(_transformation("merge"))
    names = [f"Value #{chr(ord('A') + n)}" for n in range(len(queries))] if len(queries) > 1 else ["Value"]
    columns = {**labels, **dict(zip(names, queries, strict=True))}
    organize = {
        "indexByName": {name: index for index, name in enumerate(columns)},
        "renameByName": columns,
        "excludeByName": dict.fromkeys(["Time", *(name for name, heading in columns.items() if not heading)], True),
    }
    panel = panel.with_transformation(_transformation("organize", **organize))
    for heading, unit in units.items():
        panel = panel.with_override(*override("byName", heading, unit=unit))
    return panel


def against_training_time(words: tuple[str, str], unit: str, expr: str, width: int = 24) -> Builder[dashboard.Panel]:
    """Curves over seconds of training, one per arm, for values whose label training_s is the time."""
    query = Query(by("min", "arm, training_s", last(expr)), now=True)
    panel = _dress(trend.Panel(), words, unit, [query], (width, 9), PromQueryFormat.TABLE)
    axis = "training_s\\arm"
    for transformation in (
        _transformation("groupingToMatrix", **_matrix("training_s", "arm"), emptyValue="null"),
        _transformation("convertFieldType", conversions=[{"targetField": axis, "destinationType": "number"}]),
        _transformation("sortBy", sort=[{"field": axis}]),
    ):
        panel = panel.with_transformation(transformation)
    panel = panel.x_field(axis).span_nulls(True).line_width(2).show_points(common.VisibilityMode.ALWAYS)
    named = override("byName", axis, unit="s", custom__axisLabel="training time")
    return panel.legend(_legend(("min",))).tooltip(_tooltip()).with_override(*named)


def graph(words: tuple[str, str], expr: str, unit: str, width: int = 8) -> Builder[dashboard.Panel]:
    """Nodes and the links between them; `expr` has the labels arm, src and dst."""
    labelled = f'label_join({expr}, "source", " ", "arm", "src")'
    labelled = f'label_join({labelled}, "target", " ", "arm", "dst")'
    labelled = f'label_join({labelled}, "id", " → ", "source", "target")'
    query = Query(by("avg", "id, source, target", labelled), now=True)
    panel = _dress(nodegraph_builders.Panel(), words, unit, [query], (width, 8), PromQueryFormat.TABLE)
    # The panel looks for fields by their original names, which renaming does not change, so a new field is made.
    main = {"mode": "reduceRow", "reduce": {"reducer": "sum"}, "timeSeries": False, "replaceFields": False}
    panel = panel.with_transformation(_transformation("calculateField", **main, alias="mainstat"))
    options = nodegraph_builders.NodeOptions().main_stat_unit(unit)
    return panel.nodes(options).edges(nodegraph_builders.EdgeOptions().main_stat_unit(unit))
