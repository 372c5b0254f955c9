"""Run folders as tables: a pandas DataFrame of each kind of record, and Parquet or CSV files of them.

pandas and pyarrow are the extra `tables`; they are imported when a table is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gannet.ledger.atomic import whole_file
from gannet.ledger.reader import Comparison, Run
from gannet.ledger.records import to_json

if TYPE_CHECKING:
    from pandas import DataFrame

FORMATS = ("parquet", "csv")


def tables(results: Run | Comparison) -> dict[str, DataFrame]:
    """`runs`, `steps`, `scores`, `node_scores`, `links`, `events`: a row for each record, with its run's `arm` and
    `seed`. `node_scores` has a row for each node's own model at each snapshot at which these were scored.

    Columns are the fields of gannet.ledger.records, in their units; a field of a nested record is `outer.inner`, a
    player's loss `loss.generator`. Raises ValueError where pandas is not installed.
    """
    _needs("pandas")
    from pandas import DataFrame

    runs = results.runs if isinstance(results, Comparison) else (results,)
    return {name: DataFrame(list(rows)) for name, rows in _rows(runs).items()}


def write_tables(results: Run | Comparison, to: Path, form: str = "parquet") -> list[Path]:
    """Write each table that has rows to a file in the folder `to`; returns the files."""
    if form == "parquet":
        _needs("pyarrow")
    made = tables(results)
    to.mkdir(parents=True, exist_ok=True)
    written = []
    for name, table in made.items():
        if len(table) == 0:
            continue
        file = to / f"{name}.{form}"
        with whole_file(file) as partial:
            if form == "parquet":
                table.to_parquet(partial, engine="pyarrow", index=False)
            else:
                table.map(_as_text).to_csv(partial, index=False)
        written.append(file)
    return written


def _rows(runs: Sequence[Run]) -> dict[str, Iterable[dict[str, Any]]]:
    def of(name: str) -> Iterator[dict[str, Any]]:
        for run in runs:
            for record in getattr(run, name):
                whole = to_json(record)
                whole.pop("node_models", None)  # a table of their own
                yield {"arm": run.arm, "seed": run.seed, **_flat(whole)}

    found: dict[str, Iterable[dict[str, Any]]] = {"runs": map(_summary, runs), "steps": of("steps")}
    found |= {"scores": of("scores"), "node_scores": _node_scores(runs)}
    return found | {name: of(name) for name in ("links", "events")}


def _node_scores(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    for run in runs:
        for at in run.scores:
            where = {"arm": run.arm, "seed": run.seed, "step": at.step, "t_s": at.t_s, "score_name": at.score_name}
            for own in at.node_models:
                yield where | _flat(to_json(own))


def _summary(run: Run) -> dict[str, Any]:
    """`trusted` and `distrust` count the certificate as well."""
    whole = _flat(to_json(run.summary)) | {"arm": run.arm, "seed": run.seed, "label": run.label}
    return whole | {"model": run.model, "trusted": run.trusted, "distrust": list(run.distrust)}


def _flat(record: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[f"{before}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat


def _as_text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def _needs(package: str) -> None:
    if find_spec(package) is None:
        raise ValueError(f"tables need {package}: pip install 'gannet-testbed[tables]'")
