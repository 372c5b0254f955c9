"""The plot of links as measured takes time in proportion to the links: 174 nodes have 30,102."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

from gannet.ledger.reader import Comparison, read_comparison
from gannet.report.link_plots import deviation
from gannet.report.results import measure

ROOT = Path(__file__).parents[2]


def with_edges(comparison: Comparison, count: int) -> Comparison:
    run = comparison.runs[0]
    assert run.certificate is not None and not run.certificate.model
    first = run.certificate.edges[0]
    edges = tuple(replace(first, src=number) for number in range(count))
    changed = replace(run, certificate=run.certificate.model_copy(update={"edges": edges}))
    return replace(comparison, arms=(replace(comparison.arms[0], runs=(changed,)),))


def test_many_links_take_time_in_proportion(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tests" / "ledger" / "run-0.1.0", tmp_path / "run")
    recorded = read_comparison(tmp_path / "run")

    def seconds(count: int) -> float:
        """Of this process, which a busy machine does not add to; the least of a few."""
        results, spent_s = measure(with_edges(recorded, count)), []
        for _ in range(3):
            begin_s = time.process_time()
            figure = deviation(results)
            spent_s.append(time.process_time() - begin_s)
        assert figure is not None and sum(len(trace["x"]) for trace in figure["data"]) == 2 * count
        return min(spent_s)

    assert seconds(8000) < 30 * seconds(800)  # where each link looks for itself among all, it is 100
