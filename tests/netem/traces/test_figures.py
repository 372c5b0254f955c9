"""A trace's figures against counts that know nothing of points: a value for every millisecond, and a file's lines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.netem.links.trace import Trace, TracePoint
from gannet.netem.links.trace_mahimahi import parse_mahimahi
from gannet.netem.traces.figures import PERCENTILES, figures_of, summary

STEPS = st.lists(st.tuples(st.integers(1, 400), st.sampled_from([0, 0, 10_000, 20_000, 3_000_000])), min_size=1)


def sampled(steps: list[tuple[int, int]]) -> tuple[Trace, np.ndarray]:
    """The trace of (milliseconds, rate) steps, and its rate in each millisecond."""
    values = np.repeat([rate for _, rate in steps], [for_ms for for_ms, _ in steps])
    begins = np.cumsum([0, *(for_ms for for_ms, _ in steps)])
    points = [TracePoint(at / 1000, down_bps=rate) for at, (_, rate) in zip(begins[:-1], steps, strict=True)]
    return Trace("sampled", "", tuple(points), begins[-1] / 1000), values


@settings(deadline=None)
@given(STEPS)
def test_figures_are_those_of_every_millisecond(steps: list[tuple[int, int]]) -> None:
    trace, values = sampled(steps)
    (found,) = figures_of(trace)
    assert found.spread.mean == pytest.approx(values.mean())
    assert (found.spread.least, found.spread.most) == (values.min(), values.max())
    expected = [np.percentile(values, q, method="inverted_cdf") for q in PERCENTILES]
    assert list(found.spread.percentiles) == expected
    out = "".join("x" if value == 0 else " " for value in values).split()
    assert found.outages is not None
    assert found.outages.count == len(out)
    assert found.outages.total_s == pytest.approx(sum(map(len, out)) / 1000)
    assert found.outages.longest_s == pytest.approx(max(map(len, out), default=0) / 1000)


def test_an_outage_over_the_end_of_a_loop_is_one() -> None:
    points = (TracePoint(0.0, 0), TracePoint(1.0, 10_000), TracePoint(4.0, 0))
    once, loop = Trace("t", "", points, 6.0), Trace("t", "", points, 6.0, loop=True)
    counts = [figures.outages for trace in (once, loop) for figures in figures_of(trace)]
    assert [(o and o.count, o and o.total_s, o and o.longest_s) for o in counts] == [(2, 3.0, 2.0), (1, 3.0, 3.0)]


def test_the_mean_of_a_mahimahi_file_is_its_lines() -> None:
    times = [*sorted(np.random.default_rng(7).integers(1, 9_000, 4_000).tolist()), 9_000]
    down = "".join(f"{at}\n" for at in times)
    trace = parse_mahimahi(down, "".join(f"{at}\n" for at in times if at % 3 == 0), "t")
    found = {figures.field: figures for figures in figures_of(trace)}
    up_lines = sum(at % 3 == 0 for at in times)
    assert found["down_bps"].spread.mean == pytest.approx(len(times) * 1514 * 8 / 9.0, rel=1e-6)
    assert found["up_bps"].spread.mean == pytest.approx(up_lines * 1514 * 8 / 9.0, rel=1e-6)


def test_a_summary_is_a_phrase() -> None:
    points = (TracePoint(0.0, 10_000_000, delay_ms=20.0), TracePoint(3.0, 0), TracePoint(4.0, 5_000_000))
    assert summary(Trace("t", "", points, 5.0, loop=True)) == (
        "5 s, loops, down 0 to 10 Mbit/s (mean 7), 1 outage of 1 s, delay 20 ms"
    )
