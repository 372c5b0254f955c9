"""For all tests: no deadline of Hypothesis; one Docker engine and one build of the image; who runs beside whom."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import docker, images, sharing

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
_BEGUN = (time.monotonic(), *sharing.processor_times())
_WORKER = "PYTEST_XDIST_WORKER" in os.environ


def note(text: str) -> None:
    """Show a measured figure when the session ends."""
    _NOTES.append(text)


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.Engine]:
    """A Docker engine with Compose v2."""
    with docker.any_engine() as found:
        if found is None:
            pytest.skip("no Docker engine answers, and only root with dockerd can start one")
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
    if _WORKER:
        # One thread a worker, also of what it starts: the other workers need the other processors.
        os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
        sharing.begin_own_group()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around xdist, which reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Real tests of a kind run one after the other, in one worker (`--dist loadgroup`)."""
    grouped = [(item, mark.args[0]) for item in items if (mark := item.get_closest_marker("real"))]
    for item, kind in grouped:
        item.add_marker(pytest.mark.xdist_group(kind))
    yield
    if _WORKER and config.getvalue("loadgroup"):
        for item, kind in grouped:
            if not item.nodeid.endswith(f"@{kind}"):
                raise pytest.UsageError(
                    f"{item.nodeid}: pytest-xdist does not keep the tests of a group together with this pytest "
                    "(findings/xdist-groups.sh): install pytest below 9.2"
                )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that measure links or time come before all others, which fill what they leave over."""
    if _WORKER:
        mark = item.get_closest_marker("real")
        sharing.make_way(mark.args[0] if mark else None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _WORKER:
        session.config.workeroutput["notes"] = _NOTES  # type: ignore[attr-defined]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a worker has noted is shown by the session; a worker that died has no output."""
    _NOTES.extend(getattr(node, "workeroutput", {}).get("notes", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for text in _NOTES:
        terminalreporter.write_line(text)
    begun_s, all_before, idle_before = _BEGUN
    everything, idle = sharing.processor_times()
    share = (idle - idle_before) / max(1, everything - all_before)
    terminalreporter.write_line(
        f"the {os.cpu_count()} processors were idle for {share:.0%} of {time.monotonic() - begun_s:.0f} s"
    )
