"""Marks every log record of this process with the run and the rank that it concerns."""

from __future__ import annotations

import logging
from typing import Any

_labels: dict[str, str | int | None] = {}
_make_record = logging.getLogRecordFactory()


def label(run: str | None = None, rank: int | None = None) -> None:
    """From now on every log record has these as `run` and `rank`; None: not known, or of no node."""
    _labels.update(run=run, rank=rank)
    logging.setLogRecordFactory(_labelled)


def _labelled(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = _make_record(*args, **kwargs)
    record.__dict__.update(_labels)
    return record
