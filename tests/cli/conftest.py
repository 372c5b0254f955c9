"""A live network of four nodes with real agents, which `gannet net` finds as it finds a run of this user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gannet.fabrics.links.live_links import LiveLinks
from gannet.fabrics.links.operator_server import Operator, local_socket
from tests.support.live import LiveLab, live_lab, live_links


@pytest.fixture(scope="module")
def shared() -> Iterator[LiveLab]:
    with live_lab() as lab:
        yield lab


@pytest.fixture
def live(shared: LiveLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveLinks]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    operator = Operator()
    operator.serve([local_socket()])
    with live_links(shared) as links:
        operator.attach("cluster/gossip/seed-1", links)
        yield links
        operator.close()
