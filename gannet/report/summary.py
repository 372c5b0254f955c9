"""The comparison for machines and terminals: comparison.json and a rich table."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gannet.ledger.atomic import whole_file
from gannet.ledger.reader import Comparison
from gannet.report import formatting as words
from gannet.report import sentences
from gannet.report import tables as page
from gannet.report.figures import UNTRUSTED
from gannet.report.results import ArmResult, measure
from gannet.report.score_tables import Column, columns, final_estimates
from gannet.report.statistics import Estimate
from gannet.report.verdicts import Verdict, conclude

FORMAT = 1


def comparison_table(comparison: Comparison) -> Table:
    """The summary table of a comparison, for the terminal. Untrusted arms say so in their last column."""
    results = measure(comparison)
    conclusion = conclude(results)
    target = words.number(results.target.level, 4) if results.target is not None else "target"
    table = Table(
        title=escape(comparison.name),
        title_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 0, 0, 1),  # narrow: it must fit into a terminal of 80 columns
    )
    table.add_column("arm", min_width=14)
    for heading in (
        sentences.short_score_name(results.score_name),
        f"time to\n{target}",
        "step\ntime",
        "bytes\nper step",
        "waiting",
    ):
        table.add_column(escape(heading), justify="right")
    table.add_column("trusted", min_width=11)
    for row in page.arm_rows(results, conclusion):
        cells = (row.score, row.seconds, row.step, row.step_bytes, row.waiting)
        table.add_row(Text(row.arm.label), *(_cell(cell) for cell in cells), _trust(row.arm))
    return table


def conclusion_text(comparison: Comparison) -> Group:
    """The conclusion for the terminal: trust, the sentences and the notes."""
    results = measure(comparison)
    conclusion = conclude(results)
    style = {"trusted": "bold green", "partly trusted": "bold yellow", "untrusted": "bold red"}[conclusion.trust]
    claim, *rest = sentences.headline(results, conclusion)
    lines = [
        Text.assemble((f"{conclusion.trust}", style), f": {conclusion.trust_reason}"),
        Text.assemble((claim, "bold"), " ", " ".join(rest)),
        *(Text(text) for _, text in sentences.further(results, conclusion)),
        *(Text(f"· {note}", style="dim") for note in sentences.notes(results)),
    ]
    return Group(*lines)


def _cell(number: page.Number) -> Text:
    text = Text(number.text, style="bold" if number.leads else "")
    return text.append(f"\n{number.below}", style="dim") if number.below else text


def _trust(arm: ArmResult) -> Text:
    seeds = f"\n{len(arm.counted)} of {words.plural(len(arm.arm.runs), 'seed')}"
    if not arm.counted:
        return Text("no finished run", style="red")
    if not arm.trusted:
        return Text(f"{UNTRUSTED}\n{words.plural(len(arm.distrust), 'reason')}, below", style="red")
    aside = f"\n{words.plural(len(arm.set_aside), 'run')} set aside {UNTRUSTED}" if arm.set_aside else ""
    return Text.assemble(("yes", "green"), (seeds, "dim"), (aside, "red"))


def summarise(comparison: Comparison) -> dict[str, Any]:
    """The contents of comparison.json. The keys are stable; `format` increases when a meaning changes.

    format, name, created; conclusion (the headline sentence); sentences {time, bytes, quality}; notes [text]; trust
    ("trusted" | "partly trusted" | "untrusted"), trust_reason, trusted (true only for "trusted"); score {name,
    better}; target {level, reached_by, left_out} or null; verdicts {time, bytes, quality}: {leader (arm name or
    null), leader_trusted, confidence ("shown" | "indication" | "not shown" | "none"), contrasts [{first, other, kind
    ("ratio" | "difference"), effect, low, high, standing}]}, where a ratio is other ÷ first and a difference is how
    much better first is; arms [{name, label, trusted, reasons, counted (seeds), set_aside (seeds), unfinished
    (seeds), scored_otherwise (how, in words, and its scores are not ranked; or null), final_score (null if scored
    otherwise), final_scores {name of each score: estimate}, seconds_to_target, bytes_to_target, reached, at_most,
    step_s (mean), step_p95_s, bytes_per_step, waiting_share, lower_bound_s, hidden_s, runs [summary.json as
    it is]}]. An estimate is {mean, spread (standard deviation), stderr, low, high (95% t interval of the mean), n} or
    null.
    """
    results = measure(comparison)
    conclusion = conclude(results)
    verdicts = {"time": conclusion.time, "bytes": conclusion.bytes, "quality": conclusion.quality}
    target = results.target
    summary = {
        "format": FORMAT,
        "name": results.comparison.name,
        "created": results.comparison.created,
        "conclusion": " ".join(sentences.headline(results, conclusion)),
        "sentences": {key: sentences.sentence(results, verdict) for key, verdict in verdicts.items()},
        "notes": sentences.notes(results),
        "trust": conclusion.trust,
        "trust_reason": conclusion.trust_reason,
        "trusted": conclusion.trust == "trusted",
        "score": {"name": results.score_name, "better": results.better},
        "target": None
        if target is None
        else {
            "level": target.level,
            "reached_by": list(target.reached_by),
            "left_out": list(target.left_out),
        },
        "verdicts": {key: _verdict(verdict) for key, verdict in verdicts.items()},
        "arms": [_arm(arm, columns(results)) for arm in results.arms],
    }
    cleaned = _finite(summary)
    assert isinstance(cleaned, dict)
    return cleaned


def write_summary(comparison: Comparison) -> Path:
    """Write comparison.json into the comparison folder and return its path."""
    path = comparison.folder / "comparison.json"
    text = json.dumps(summarise(comparison), indent=2, ensure_ascii=False, allow_nan=False)
    with whole_file(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    return path


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "leader": verdict.leader.name if verdict.leader is not None else None,
        "leader_trusted": verdict.leader is not None and verdict.leader.trusted,
        "confidence": verdict.confidence,
        "contrasts": [
            {
                "first": contrast.first.name,
                "other": contrast.other.name,
                "kind": contrast.effect.kind,
                "effect": contrast.effect.value,
                "low": contrast.effect.low,
                "high": contrast.effect.high,
                "standing": contrast.standing,
            }
            for contrast in verdict.contrasts
        ],
    }


def _arm(arm: ArmResult, scores: Sequence[Column]) -> dict[str, Any]:
    return {
        "name": arm.name,
        "label": arm.label,
        "trusted": arm.trusted,
        "reasons": list(arm.distrust),
        "counted": [run.seed for run in arm.counted],
        "set_aside": [run.seed for run in arm.set_aside],
        "unfinished": [run.seed for run in arm.unfinished],
        "scored_otherwise": arm.apart or None,
        "final_score": _estimate(arm.final_score),
        "final_scores": {
            column.title: _estimate(found) for column, found in zip(scores, final_estimates(arm, scores), strict=True)
        },
        "seconds_to_target": _estimate(arm.seconds_to_target),
        "bytes_to_target": _estimate(arm.bytes_to_target),
        "reached": arm.reached,
        "at_most": arm.at_most,
        "step_s": arm.step_s,
        "step_p95_s": arm.step_p95_s,
        "bytes_per_step": arm.bytes_per_step,
        "waiting_share": arm.cost.waiting_share if arm.cost is not None else None,
        "lower_bound_s": arm.cost.bound_s if arm.cost is not None else None,
        "hidden_s": arm.cost.hidden_s if arm.cost is not None else None,
        "runs": [run.summary_raw for run in arm.arm.runs],
    }


def _estimate(found: Estimate | None) -> dict[str, Any] | None:
    if found is None:
        return None
    keys = ("mean", "spread", "stderr", "low", "high", "n")
    return {key: getattr(found, key) for key in keys}


def _finite(content: Any) -> Any:
    """The same structure with None for numbers that JSON cannot represent (a diverged run may have recorded NaN)."""
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
