"""Sends Prometheus the queries that Grafana would send for every panel, and lists the panels that would be empty.

`python -m dashboards.check URL [SECONDS]` checks the dashboards' JSON files next to this one over the last SECONDS
(900), and exits with status 1 if a query has no data. Needs only Python.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
_VALUES = re.compile(r"label_values\((?:(?P<selector>.+),\s*)?(?P<label>\w+)\)")
_METRIC = re.compile(r"\b(?:[a-z]+:)?gannet_[a-z0-9_]+(?::[a-z0-9_]+)?")
_SMALLEST_STEP_S, _POINTS = 2.0, 300


@dataclass(frozen=True)
class Question:
    """One query as Grafana sends it. `kind`: "range", "now" (at the end), or "values" (of a variable)."""

    where: str
    kind: str
    expr: str


@dataclass(frozen=True)
class Answer:
    """The answer: the number of series (or values of a variable) with data, or an error."""

    question: Question
    found: int
    error: str = ""


def load(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """The committed dashboards, by file name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels except row headings."""
    for panel in dashboard["panels"]:
        yield from panel.get("panels", [])
        if panel["type"] != "row":
            yield panel


def questions(dashboards: dict[str, dict[str, Any]]) -> Iterator[Question]:
    """Every query of panels, variables and annotations."""
    for name, dashboard in dashboards.items():
        for variable in dashboard["templating"]["list"]:
            yield Question(f"{name}: variable {variable['name']}", "values", variable["query"]["query"])
        for annotation in dashboard["annotations"]["list"]:
            yield Question(f"{name}: annotation {annotation['name']}", "range", annotation["expr"])
        for panel in panels(dashboard):
            for target in panel["targets"]:
                kind = "now" if target.get("instant") else "range"
                yield Question(f"{name}: {panel['title']} ({target['refId']})", kind, target["expr"])


def metrics_in(expr: str) -> set[str]:
    """Names of this project's metrics and recorded series in an expression."""
    return set(_METRIC.findall(expr))


def ask_all(
    url: str, start_s: float, end_s: float, dashboards: dict[str, dict[str, Any]] | None = None
) -> list[Answer]:
    """Send all queries, with every variable at "All", over an interval (Unix seconds)."""
    return [_ask(url, question, start_s, end_s) for question in questions(dashboards or load())]


def empty(answers: list[Answer]) -> list[str]:
    """The queries without data, and why."""
    return [f"{a.question.where}: {a.error or 'no data'}: {a.question.expr}" for a in answers if not a.found]


def _ask(url: str, question: Question, start_s: float, end_s: float) -> Answer:
    expr, span_s = question.expr, end_s - start_s
    step_s = max(_SMALLEST_STEP_S, span_s / _POINTS)
    for name, value in (
        ("$__rate_interval", f"{math.ceil(max(4 * _SMALLEST_STEP_S, step_s + _SMALLEST_STEP_S))}s"),
        ("$__range", f"{math.ceil(span_s)}s"),
        ("$__interval", f"{math.ceil(step_s)}s"),
        ("$run", ".*"),
        ("$arm", ".*"),
        ("$node", ".*"),
    ):
        expr = expr.replace(name, value)
    try:
        if question.kind == "values":
            return Answer(question, len(_values(url, expr, start_s, end_s)))
        if question.kind == "now":
            result = request(url, "query", query=expr, time=f"{end_s:.3f}")["result"]
            numbers = [[series["value"]] for series in result]
        else:
            times = {"start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:.3f}"}
            numbers = [series["values"] for series in request(url, "query_range", query=expr, **times)["result"]]
    except (OSError, ValueError) as error:
        return Answer(question, 0, str(error))
    return Answer(question, sum(any(value != "NaN" for _, value in series) for series in numbers))


def _values(url: str, expr: str, start_s: float, end_s: float) -> list[str]:
    parsed = _VALUES.fullmatch(expr)
    if parsed is None:
        raise ValueError(f"not understood: {expr}")
    arguments = {"start": f"{start_s:.3f}", "end": f"{end_s:.3f}"}
    if parsed["selector"]:
        arguments["match[]"] = parsed["selector"]
    found: list[str] = request(url, f"label/{parsed['label']}/values", **arguments)
    return found


def request(url: str, what: str, **arguments: str) -> Any:
    """The `data` of an answer of Prometheus' HTTP API. Raises OSError and ValueError."""
    query = urllib.parse.urlencode(arguments)
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/api/v1/{what}?{query}", timeout=30) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        raise ValueError(error.read().decode(errors="replace")) from error


def main() -> int:
    """Print the queries without data."""
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    now_s, span_s = time.time(), float(sys.argv[2]) if len(sys.argv) > 2 else 900.0
    answers = ask_all(sys.argv[1], now_s - span_s, now_s)
    missing = empty(answers)
    print("\n".join([f"{len(answers) - len(missing)} of {len(answers)} queries have data", *missing]))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
