"""Writes the report: one HTML file that contains its plots, images, styles and scripts, and loads nothing.

`write_report` is for a comparison, `write_run_report` for a single run. All text from files is escaped: by jinja2
in the page and by `figures.label` inside plots. A content security policy allows only the page's own two scripts.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from gannet.ledger.atomic import whole_file
from gannet.ledger.reader import Arm, Comparison, Run
from gannet.report import formatting as words
from gannet.report import link_plots, link_tables, node_scores, player_plots, plots, sentences
from gannet.report import score_tables as all_scores
from gannet.report import tables as page
from gannet.report.figures import ARM_COLOURS, Figure
from gannet.report.images import strip
from gannet.report.link_timeline import planned
from gannet.report.results import Results, measure
from gannet.report.verdicts import conclude

UNIT_AFTER_NUMBER = re.compile(r"(?<=\d) (?=(?:ms|s|min|h|[kMGT]?B|[kMG]?bit/s)\b)")
TEMPLATES = files("gannet.report") / "templates"


def write_report(comparison: Comparison) -> Path:
    """Write report.html into a comparison's folder and return its path."""
    return _write(comparison.folder / "report.html", comparison_page(measure(comparison)))


def write_run_report(run: Run) -> Path:
    """Write report.html into the folder of one run and return its path."""
    title = f"{run.label}, seed {run.seed}"
    comparison = Comparison(run.folder, title, "", run.spec_text, (Arm(run.arm, (run,)),))
    return _write(run.folder / "report.html", run_page(measure(comparison)))


def comparison_page(results: Results) -> str:
    conclusion = conclude(results)
    figures = {
        "quality-seconds": plots.quality(results, "seconds"),
        "quality-bytes": plots.quality(results, "bytes"),
        "step-time": plots.step_time(results),
    }
    return _page(
        results,
        figures,
        kind="comparison",
        headline=sentences.headline(results, conclusion),
        further=sentences.further(results, conclusion),
    )


def run_page(results: Results) -> str:
    """The HTML text of a single run's report; `results` has one arm with one run."""
    run = results.comparison.runs[0]
    results = replace(results, target=None)  # a target only serves to compare arms
    figures = {
        "quality-seconds": plots.quality(results, "seconds"),
        "quality-bytes": plots.quality(results, "bytes"),
        "step-time": plots.step_time_by_node(run),
    }
    return _page(results, figures, kind="run", headline=sentences.run_sentences(results, run), further=[])


def _page(results: Results, figures: dict[str, Figure | None], **content: Any) -> str:
    conclusion = conclude(results)
    figures |= {"losses": player_plots.losses(results), "consensus": player_plots.consensus(results)}
    figures["deviation"] = link_plots.deviation(results)
    figures |= {"node-scores": node_scores.at_the_end(results), "node-scores-time": node_scores.over_time(results)}
    figures |= {"more-scores": all_scores.over_time(results), "classes": all_scores.class_shares(results)}
    activity = []
    for arm in results.arms:
        drawn_of = {f"planned-{arm.index}": planned(arm), f"activity-{arm.index}": link_plots.activity(results, arm)}
        if any(drawn_of.values()) and arm.shown is not None:
            figures |= drawn_of
            activity.append((f"activity-{arm.index}", arm, arm.shown))
    drawn = {key: _embedded_json(figure) for key, figure in figures.items() if figure is not None}
    scripts = [Markup(get_plotlyjs().replace("\r\n", "\n").replace("\r", "\n")), Markup(_asset("report.js"))]
    return _environment().get_template("report.html.j2").render(
        results=results,
        comparison=results.comparison,
        created=page.readable_time(results.comparison.created),
        conclusion=conclusion,
        notes=sentences.notes(results),
        goal=sentences.goal(results),
        rows=page.arm_rows(results, conclusion),
        scores=all_scores.all_scores(results),
        spreads=node_scores.spreads(results),
        spread_columns=node_scores.COLUMNS,
        run_columns=page.RUN_COLUMNS,
        facts=page.run_facts(results),
        links=[link_tables.link_tables(run) for run in results.comparison.runs],
        tolerances=link_tables.tolerance_rows(_run_tolerances(results)),
        environments=page.environment_facts(results),
        strip=strip(results),
        figures=drawn,
        activity=activity,
        style=Markup(_asset("report.css")),
        scripts=scripts,
        policy=_policy(scripts),
        words=words,
        arm_colours=ARM_COLOURS,
        **content,
    )  # fmt: skip


def _run_tolerances(results: Results) -> dict[str, float] | None:
    """The tolerances that the first certificate with any was judged by; None: those of this version."""
    certificates = (run.certificate for run in results.comparison.runs if run.certificate is not None)
    return next((found.tolerances for found in certificates if found.tolerances), None)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A number and its unit stay on one line. The text is escaped afterwards, by autoescape.
    environment.filters["glue"] = lambda text: UNIT_AFTER_NUMBER.sub("\N{NO-BREAK SPACE}", text)
    environment.filters["thousands"] = lambda count: f"{count:,}"
    return environment


@cache
def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _embedded_json(figure: Figure) -> Markup:
    """A figure as JSON that is safe inside a <script> element: without "<", ">" and "&"."""
    text = json.dumps(figure, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _policy(scripts: list[Markup]) -> str:
    """A content security policy that allows only these scripts and fetches nothing."""
    hashes = (base64.b64encode(hashlib.sha256(str(script).encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _write(path: Path, text: str) -> Path:
    """Write atomically: a reader never sees half a report."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
    return path
