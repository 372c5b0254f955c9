"""What a controller writes down while nodes train, so that one that is started again can take the run up.

A file of JSON lines, for its owner alone, which is there while a run of containers trains: who has joined, when
training began, and every report but the steps, which are in the run folder already. Reports are acknowledged once
they are written. It has no key, only what shows that a key is the right one.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from gannet.fabrics.recovery.past import Past, Recovery
from gannet.ledger.full_disk import FullDisk, LineFile
from gannet.netem.process import clock_name
from gannet.node.wire import control_pb2

if TYPE_CHECKING:
    from gannet.fabrics.job import Job, Outcome


class Diary:
    """Appends to the file at `path`; None: nothing is written. Who has written the run's summary removes it.

    `taken_up`: another controller has begun it. The last line may have been cut short then.
    """

    def __init__(self, path: Path | None, taken_up: bool = False) -> None:
        self._file: LineFile | None = None
        self._last_step: int | None = None
        if path is not None:
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            os.ftruncate(number, path.read_bytes().rfind(b"\n") + 1 if taken_up else 0)
            os.close(number)
            self._file = LineFile(path, FullDisk(path.parent))

    def joined(self, rank: int, verifier: str) -> None:
        """A process has this rank."""
        self._write({"joined": rank, "verifier": verifier})

    def report(self, rank: int, report: control_pb2.Report) -> None:
        """A report that is no step."""
        if self._file is not None:
            self._write({"rank": rank, "report": MessageToDict(report, preserving_proto_field_name=True)})

    def began(self, job: Job, outcome: Outcome) -> None:
        """Training is about to begin."""
        if self._file is None or job.recovery is None:
            return
        moment = {"t_s": job.begin_s, "monotonic_s": time.monotonic(), "clock": clock_name(), "time_s": time.time()}
        facts = {"environment": outcome.environment, "setup_s": outcome.setup_s}
        self._write({"began": moment, "cluster": job.recovery.cluster, "run": job.config.run, "facts": facts})
        os.fsync(self._file.fileno())

    def last_step(self, step: int | None) -> None:
        """The step after which all leave, once it has been named."""
        if step is not None and step != self._last_step:
            self._last_step = step
            self._write({"last_step": step})

    def stopping(self) -> None:
        """The run is to end."""
        self._write({"stopping": True})

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")


def diary_of(recovery: Recovery | None) -> Diary:
    """The diary of a run; of one that no controller can take up, one that nothing is written to."""
    return Diary(None) if recovery is None else Diary(recovery.diary, taken_up=recovery.past is not None)


def read_past(path: Path) -> Past | None:
    """The run that a diary tells of; None where its training had not begun. Raises ValueError for no diary."""
    past: Past | None = None
    verifiers: dict[int, str] = {}
    numbers: dict[int, int] = {}
    ready: dict[int, control_pb2.Ready] = {}
    reports: list[tuple[int, control_pb2.Report]] = []
    for text in path.read_bytes().splitlines(keepends=True):
        if not text.endswith(b"\n"):
            break  # the controller ended in the middle of it: it is not acknowledged
        try:
            line = json.loads(text)
            match line:
                case {"joined": int(rank), "verifier": str(verifier)}:
                    verifiers[rank], numbers[rank] = verifier, 0
                case {"rank": int(rank), "report": dict(told)}:
                    report = ParseDict(told, control_pb2.Report())
                    numbers[rank] = report.number
                    if report.HasField("ready"):
                        ready[rank] = report.ready
                    reports.append((rank, report))
                case {"began": dict(moment), "cluster": str(cluster), "run": str(run), "facts": dict(facts)}:
                    past = Past(run, cluster, facts, moment, verifiers, numbers, ready, reports)
                case {"stopping": True} if past is not None:
                    past.stopping = True
                case {"last_step": int(step)} if past is not None:
                    past.last_step = step
                case _:
                    raise ValueError("a line of no known kind")
        except (ValueError, KeyError, ParseError, RecursionError) as error:
            raise ValueError(f"{path}: {error}") from None
    return past
