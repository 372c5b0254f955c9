"""For all tests: no deadline of Hypothesis, one Docker engine, one image, and measured figures at the end."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import docker, images
from tests.support.patience import LOOKED_AGAIN

# Rich fixes its width by these when a console is made; tests say how wide theirs is.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)

# How long an example takes to make or to try is the machine's affair, and no test of ours judges it.
settings.register_profile("gannet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gannet")

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_NOTES: list[str] = []


def note(text: str) -> None:
    """Show a measured figure when the session ends."""
    _NOTES.append(text)


def _processor_times() -> tuple[int, int]:
    """All time of all processors since the machine started, and how much of it they were idle, in ticks."""
    user, nice, system, idle, waiting, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return user + nice + system + idle + waiting + sum(rest), idle + waiting


_BEGUN = (time.monotonic(), *_processor_times())


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.Engine]:
    """A Docker engine with Compose v2."""
    with docker.any_engine() as found:
        if found is None:
            # CI installs it: there, what is missing is an error
            (pytest.fail if "CI" in os.environ else pytest.skip)(
                "no Docker engine answers, and only root with dockerd can start one"
            )
        yield found


@pytest.fixture(scope="session")
def gannet_image(engine: docker.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[images.BuiltImage]:
    """The image of compose/Dockerfile."""
    with images.gannet_image(engine, tmp_path_factory.mktemp("image")) as built:
        note(str(built))
        yield built


@pytest.fixture(scope="session")
def prometheus_image(engine: docker.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The Prometheus that compose.yaml names, or one under its name."""
    with images.prometheus_image(engine, tmp_path_factory.mktemp("prometheus")) as tag:
        yield tag


def pytest_configure() -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        # One thread a worker, also of what it starts: the other workers need the other processors.
        os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))


def _why_skipped(report: pytest.TestReport) -> str:
    _, _, why = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, str(report.longrepr))
    return why.removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for text in _NOTES:
        terminalreporter.write_line(text)
    for test, count in sorted(Counter(LOOKED_AGAIN).items()):
        terminalreporter.write_line(f"looked again {count} times, since a look was disturbed or wrong: {test}")
    left_out = Counter(_why_skipped(report) for report in terminalreporter.stats.get("skipped", ()))
    for why, count in sorted(left_out.items()):
        terminalreporter.write_line(f"{count} tests were left out: {why}", yellow=True, bold=True)
    begun_s, all_before, idle_before = _BEGUN
    everything, idle = _processor_times()
    share = (idle - idle_before) / max(1, everything - all_before)
    terminalreporter.write_line(
        f"the {os.cpu_count()} processors were idle for {share:.0%} of {time.monotonic() - begun_s:.0f} s"
    )
