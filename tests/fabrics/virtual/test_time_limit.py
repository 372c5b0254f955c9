"""Limits of processor time and of the wall clock: what they end, and that one around another holds again."""

from __future__ import annotations

import signal
import time

import pytest

from gannet.fabrics.virtual.time_limit import time_limit


class Struck(Exception):
    pass


class StruckWithin(Exception):
    pass


def test_code_that_computes_is_ended_by_the_processors_clock() -> None:
    with pytest.raises(Struck), time_limit(0.05, "processor", Struck):
        while True:
            pass


def test_code_that_waits_is_ended_by_the_wall_clock_alone() -> None:
    with pytest.raises(Struck), time_limit(0.05, "wall", Struck), time_limit(30, "processor", StruckWithin):
        while True:
            time.sleep(60)


def test_a_limit_around_another_of_the_same_clock_holds_again() -> None:
    with pytest.raises(Struck), time_limit(0.5, "processor", Struck):
        with pytest.raises(StruckWithin), time_limit(0.05, "processor", StruckWithin):
            while True:
                pass
        with time_limit(30, "processor", StruckWithin):
            pass
        while True:
            pass


def test_nothing_is_left_of_a_limit() -> None:
    before = signal.getsignal(signal.SIGVTALRM), signal.getitimer(signal.ITIMER_VIRTUAL)
    with time_limit(1000, "processor", Struck):
        assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 0
    assert (signal.getsignal(signal.SIGVTALRM), signal.getitimer(signal.ITIMER_VIRTUAL)) == before
