"""Fixtures of the link tests: a laboratory, and the engines that work on this machine."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

import pytest

from gannet.netem.preflight import check_engine
from gannet.netem.sandbox import Sandbox
from gannet.netem.shaping.commands import ENGINE_NAMES
from tests.netem.link_lab import WIDE_ADDRESSES, Lab


@pytest.fixture(scope="session")
def shared_lab() -> Iterator[Lab]:
    with Sandbox() as sandbox:
        lab = Lab(sandbox)
        yield lab
        lab.close()


@pytest.fixture
def lab(shared_lab: Lab) -> Iterator[Lab]:
    yield shared_lab
    shared_lab.clear()


@pytest.fixture
def wide_lab() -> Iterator[Lab]:
    """Nine nodes."""
    with Sandbox() as sandbox:
        lab = Lab(sandbox, WIDE_ADDRESSES)
        yield lab
        lab.clear()
        lab.close()


@functools.cache
def usable_engines() -> list[str]:
    wanted = os.environ.get("GANNET_TEST_ENGINE")
    return [name for name in ENGINE_NAMES if wanted in (None, name) and check_engine(name).usable]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of a lab and an `engine` run with every engine that works on this machine."""
    if "engine" in metafunc.fixturenames and {"lab", "wide_lab", "pair"} & set(metafunc.fixturenames):
        metafunc.parametrize("engine", usable_engines())
