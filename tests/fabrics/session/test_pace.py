"""A node's reports are passed on as fast as it may send them, all of them and in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gannet.fabrics.session.pace import REPORTS_AT_ONCE, REPORTS_PER_S, paced
from gannet.node.wire import control_pb2


def passed(count: int, every_s: float, reason_bytes: int = 0) -> tuple[list[int], float]:
    """The steps in order of what was passed on, and when the last one was; one is sent every so often."""
    now_s = 0.0
    steps = []

    async def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    async def sent() -> AsyncIterator[control_pb2.Report]:
        nonlocal now_s
        for number in range(count):
            now_s = max(now_s, number * every_s)
            yield control_pb2.Report(failed=control_pb2.Failed(step=number, reason="x" * reason_bytes))

    async def read() -> None:
        async for report in paced(sent(), lambda: now_s, sleep):
            steps.append(report.failed.step)

    asyncio.run(read())
    return steps, now_s


def test_a_node_that_steps_every_millisecond_never_waits() -> None:
    steps, end_s = passed(50_000, 1e-3)
    assert steps == list(range(50_000)) and end_s == pytest.approx(49.999)


@pytest.mark.parametrize("count", [REPORTS_AT_ONCE, 30_000])
def test_a_flood_takes_as_long_as_the_rate_says(count: int) -> None:
    steps, end_s = passed(count, 0.0)
    assert steps == list(range(count))
    assert end_s == pytest.approx((count - REPORTS_AT_ONCE) / REPORTS_PER_S)


def test_long_reports_count_by_their_bytes() -> None:
    """A thousand of a mebibyte each: as many as a quarter of a million of 4 KiB."""
    _, end_s = passed(1000, 0.0, 1 << 20)
    assert end_s == pytest.approx((1000 * 256 - REPORTS_AT_ONCE) / REPORTS_PER_S, rel=1e-3)
