"""Four nodes with real agents for the tests of a file, and links in force on them for one test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gannet.fabrics.links.live_links import LiveLinks
from tests.support.live import LiveLab, live_lab, live_links


@pytest.fixture(scope="module")
def shared() -> Iterator[LiveLab]:
    with live_lab() as lab:
        yield lab


@pytest.fixture
def live(shared: LiveLab) -> Iterator[LiveLinks]:
    with live_links(shared) as links:
        yield links
