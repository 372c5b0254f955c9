"""Logging of every process of a run: time, level, run and rank on each line, for people or as JSON lines.

GANNET_LOG chooses a level, or a level and JSON ("info,json"); `--log-level` overrides the level. A process of this
package calls `configure`. gannet.node and gannet.netem import nothing from here: their processes hand GANNET_LOGGING,
which `for_child` makes, to logging.config.dictConfig.
"""

from __future__ import annotations

import json
import logging
import logging.config
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, Any

from gannet.plain_text import harmless

VARIABLE = "GANNET_LOG"
_FOR_CHILDREN = "GANNET_LOGGING"
_GRPC_LEVEL = "GRPC_VERBOSITY"
_QUOTED = re.compile(r"\s+\d{4}-\d\d-\d\dT[\d:.]+Z [A-Z]+ run=")


class Level(StrEnum):
    """Levels, from the most talkative."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogSettingError(ValueError):
    """GANNET_LOG cannot be understood; the message says what to write."""


@dataclass(frozen=True)
class LogSetting:
    """What GANNET_LOG asks for. `level` None: each process has its own default."""

    level: str | None = None
    as_json: bool = False

    def text(self) -> str:
        """As GANNET_LOG has it."""
        return ",".join([*([self.level] if self.level else []), *(["json"] if self.as_json else [])])


def log_setting(environment: Mapping[str, str] = os.environ) -> LogSetting:
    """The setting in GANNET_LOG; unset or empty: the defaults. Raises LogSettingError."""
    text = environment.get(VARIABLE, "")
    words = [word.strip().lower() for word in text.split(",")] if text.strip() else []
    level = words.pop(0) if words and words[0] in list(Level) else None
    if words not in ([], ["json"]):
        raise LogSettingError(
            f"{VARIABLE}={text}: write a level ({', '.join(Level)}), json, or both, for example info,json"
        )
    return LogSetting(level, bool(words))


def configure(default: str, level: str | None = None) -> None:
    """Have this process log to standard error, from `level` up if given, else from GANNET_LOG's or `default`.

    A `level` is passed on to child processes in GANNET_LOG. Raises LogSettingError.
    """
    setting = log_setting()
    if level is not None:
        setting = LogSetting(level, setting.as_json)
        os.environ[VARIABLE] = setting.text()
    os.environ.update(_of_grpc(setting))
    logging.config.dictConfig(_configuration(setting, default))
    logging.captureWarnings(True)


def for_child(default: str, run: str | None = None, rank: int | None = None) -> dict[str, str]:
    """Environment for a process of gannet.node or gannet.netem, to log as this one. Raises LogSettingError."""
    setting = log_setting()
    return {_FOR_CHILDREN: json.dumps(_configuration(setting, default, run, rank)), **_of_grpc(setting)}


def _of_grpc(setting: LogSetting) -> dict[str, str]:
    """What keeps gRPC's core quiet unless the user wants to hear it: it writes lines of its own form past logging.

    Without it even a peer's closed connection, expected at the end of each run, is a line.
    """
    return {_GRPC_LEVEL: os.environ.get(_GRPC_LEVEL, "NONE" if setting.as_json else "ERROR")}


def _configuration(
    setting: LogSetting, default: str, run: str | None = None, rank: int | None = None
) -> dict[str, Any]:
    level = setting.level or default
    form = JsonFormatter if setting.as_json else LineFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"gannet": {"()": f"{__name__}.{form.__name__}", "run": run, "rank": rank}},
        "handlers": {"stderr": {"()": f"{__name__}.{StderrHandler.__name__}", "formatter": "gannet"}},
        "loggers": {"gannet": {"level": level.upper()}},
        # The debug lines of asyncio, matplotlib and others would bury ours.
        "root": {"level": "INFO" if level == "debug" else level.upper(), "handlers": ["stderr"]},
    }


class LineFormatter(logging.Formatter):
    """`2026-11-30T10:00:00.123Z WARNING run=demo/gossip/seed-1/… rank=2 gannet.node.exchange.sender: …`

    Each line of a traceback begins in the same way, so that a search finds all of it; lines quoted from another log
    have such a beginning already. `run` and `rank` are of records without their own (see gannet.node.log_labels).
    """

    def __init__(self, run: str | None = None, rank: int | None = None) -> None:
        super().__init__()
        self.run, self.rank = run, rank

    def labels(self, record: logging.LogRecord) -> tuple[str | None, int | None]:
        """The record's run and rank, None where not known."""
        run, rank = getattr(record, "run", None), getattr(record, "rank", None)
        return self.run if run is None else run, self.rank if rank is None else rank

    def format(self, record: logging.LogRecord) -> str:
        run, rank = self.labels(record)
        begin = (
            f"{_rfc3339(record.created)} {record.levelname} run={run or '-'} rank={'-' if rank is None else rank} "
            f"{record.name}: "
        )
        lines = [harmless(line) for line in super().format(record).splitlines()] or [""]
        return "\n".join(line if _QUOTED.match(line) else begin + line for line in lines)


class JsonFormatter(LineFormatter):
    """One JSON object a line: time, level, logger, run, rank, message and, where there is one, exception."""

    def format(self, record: logging.LogRecord) -> str:
        run, rank = self.labels(record)
        line = {
            "time": _rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "run": run,
            "rank": rank,
            "message": record.getMessage().rstrip("\n"),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _rfc3339(created_s: float) -> str:
    """UTC, with milliseconds."""
    whole, ms = divmod(int(created_s * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{ms:03d}Z"


class StderrHandler(logging.StreamHandler[IO[str]]):
    """Writes to what sys.stderr is at the time: rich replaces it while a live display is on, to print above that."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> IO[str]:  # type: ignore[override]
        """Standard error; its file where it is none of the terminal on which rich has its display."""
        file: IO[str] | None = getattr(sys.stderr, "rich_proxied_file", None)
        return file if file is not None and not file.isatty() else sys.stderr
