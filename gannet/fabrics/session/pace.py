"""How fast a node may report to its controller: faster, it waits, and what it sends stays at its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from gannet.node.wire import control_pb2

# A node reports each of its steps, which take more than a millisecond, and a few things more.
REPORTS_PER_S, REPORTS_AT_ONCE = 2000.0, 10_000
_BYTES = 4096  # a larger report counts as several


async def paced(
    reports: AsyncIterator[control_pb2.Report],
    clock: Callable[[], float] | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[control_pb2.Report]:
    """Pass a node's reports on. One that has sent REPORTS_AT_ONCE more than its rate allows is not read from for as
    long as that takes; HTTP/2 then keeps it from sending more than a window.
    """
    now = clock or asyncio.get_running_loop().time
    due_s = 0.0  # when all that came would have been sent at the rate allowed
    async for report in reports:
        yield report
        due_s = max(due_s, now()) + max(1.0, report.ByteSize() / _BYTES) / REPORTS_PER_S
        ahead_s = due_s - now() - REPORTS_AT_ONCE / REPORTS_PER_S
        if ahead_s > 0:
            await sleep(ahead_s)
