"""Keeps a run's certificate up to date while it trains, so that no end of the run can lose a reason to distrust it.

Reasons arise from changes by hand, lost agents and the monitor's readings. The certificate is recorded again when
there are other ones than before, at the latest before the next checkpoint: a run that resumes from that finds every
reason that concerns the steps it keeps.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from gannet.netem.measure.certificate import Certificate

_LOOK_EVERY_S = 1.0
_LOOK_SHARE = 0.05  # of the time at most: long runs have long lists of readings
_FIGURES = re.compile(r"\d+(\.\d+)?")


class Findings:
    """`measured`: the certificate before training. `reasons`: those of the links so far; `record` keeps them."""

    def __init__(
        self, measured: Certificate, reasons: Callable[[], Sequence[str]], record: Callable[[Certificate], None]
    ) -> None:
        self._measured, self._reasons, self._record = measured, reasons, record
        self._told: list[str] = []
        self._next_s = 0.0

    def look(self, at_once: bool = False) -> None:
        """Record the reasons if there are others than before; looks once a second, or `at_once`.

        Reasons that differ only in their figures, such as a count of late packets, are recorded at the end.
        """
        begin_s = time.monotonic()
        if not at_once and begin_s < self._next_s:
            return
        certificate = self.certificate()
        kinds = sorted(_FIGURES.sub("", reason) for reason in certificate.reasons)
        if kinds != self._told:
            self._told = kinds
            self._record(certificate)
        took_s = time.monotonic() - begin_s
        self._next_s = begin_s + max(_LOOK_EVERY_S, took_s / _LOOK_SHARE)

    def certificate(self) -> Certificate:
        """The certificate with all reasons so far."""
        whole = replace(self._measured, reasons=list(self._measured.reasons))
        for reason in self._reasons():
            whole.add_reason(reason)
        return whole
