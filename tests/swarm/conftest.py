"""Two engines in one swarm, both with our image, for the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.docker import Engine
from tests.support.images import BuiltImage
from tests.swarm.two_engines import TwoEngines


@pytest.fixture(scope="session")
def swarm(engine: Engine, gannet_image: BuiltImage, prometheus_image: str) -> Iterator[TwoEngines]:
    """Engines `a`, the manager, and `b`, a worker; our image and Prometheus' are in both under their tags."""
    with TwoEngines(engine.data_root if engine.private else None) as both:
        if not engine.private:
            for tag in (gannet_image.tag, prometheus_image):
                both.load(engine.environment, tag)
        yield both
