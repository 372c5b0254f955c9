"""For all tests: no deadline of Hypothesis; one Docker engine and one build of the image a session."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support import docker, images

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for text in _NOTES:
        terminalreporter.write_line(text)
