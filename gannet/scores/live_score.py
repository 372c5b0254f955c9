"""A quality score from a small sample during training, in a process that runs only when a processor is idle.

A process and not a thread: a thread of idle priority would hold Python's lock while it waits for a processor, and so
block the controller. The child, which gannet.netem.child starts, reads requests, each a JSON line followed by as many
raw bytes as the line's `bytes` says, and answers each with a JSON line.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from torch import Tensor

from gannet import logs
from gannet.netem.child import Answers, Child
from gannet.spec.run_spec import RunSpec

SAMPLES = 300
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Proxy:
    """The score of a snapshot: comparable within one run, and with runs of the same sample size."""

    value: float
    name: str
    classes_found: float | None


class QualityWatch:
    """Scores the latest snapshot that it was offered, one at a time; those offered in the meantime are skipped."""

    def __init__(self, samples: int = SAMPLES) -> None:
        self._samples = samples
        self._child = Child(
            "the quality score's process", "gannet.scores.live_score", variables=logs.for_child("warning")
        )
        self._slot: queue.Queue[tuple[Tensor, Callable[[Proxy], None]] | None] = queue.Queue(1)
        self._lock = threading.Lock()
        self._ready = False
        threading.Thread(target=self._work, name="quality", daemon=True).start()

    def begin(self, spec: RunSpec) -> None:
        """Load what this run's score needs, before its clock starts, so that nothing has to be loaded during
        training."""
        features = spec.score.features if spec.score else "auto"
        order = {
            "data": spec.data.model_dump(mode="json"),
            "task": spec.task.model_dump(mode="json"),
            "samples": self._samples,
            "features": features,
        }
        with self._lock:
            self._ready = False
            try:
                self._ask(order)
                self._ready = True
            except RuntimeError as error:
                log.warning("no quality score during training: %s", error)

    def offer(self, x: Tensor, tell: Callable[[Proxy], None]) -> None:
        """Score the generator in x (flat float32) when there is time; `tell` is called from another thread."""
        with suppress(queue.Empty):
            self._slot.get_nowait()  # superseded by the newer one
        with suppress(queue.Full):
            self._slot.put_nowait((x, tell))

    def close(self) -> None:
        self._child.process.kill()
        self._child.process.wait()

    def _work(self) -> None:
        while (item := self._slot.get()) is not None:
            x, tell = item
            with self._lock:
                if not self._ready:
                    continue
                body = x.detach().cpu().contiguous().numpy().astype("<f4").tobytes()
                try:
                    answer = self._ask({"bytes": len(body)}, body)
                except RuntimeError as error:  # a model that has diverged has no score
                    log.warning("a snapshot was not scored: %s", error)
                    continue
            tell(Proxy(answer["value"], answer["name"], answer["classes_found"]))

    def _ask(self, order: dict[str, Any], body: bytes = b"") -> dict[str, Any]:
        answer = self._child.ask(order, body)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


def answer_all(requests: IO[bytes], answers: Answers) -> None:
    """Answer requests until there are no more."""
    import torch
    from pydantic import TypeAdapter

    from gannet.node.data.config import DataConfig
    from gannet.node.tasks import build_sampler
    from gannet.node.tasks.config import TaskSetting
    from gannet.scores.scorer import AnyScorer, scorer_for

    scorers: dict[str, AnyScorer] = {}
    scorer: AnyScorer | None = None
    for line in requests:
        order = json.loads(line)
        body = requests.read(order.get("bytes", 0))
        try:
            if "data" in order:
                key = json.dumps([order["task"], order["data"], order["features"]], sort_keys=True)
                data = DataConfig.model_validate(order["data"])
                task: TaskSetting = TypeAdapter(TaskSetting).validate_python(order["task"])
                if key not in scorers:
                    scorers[key] = scorer_for(task, data, order["samples"], features=order["features"])
                scorer = scorers[key]
                sampler = build_sampler(task, data)
                answer: dict[str, Any] = {"name": scorer.name}
                # From here on, use only idle processor time.
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            elif scorer is None:
                raise ValueError("no run was announced before this snapshot")
            else:
                x = torch.frombuffer(bytearray(body), dtype=torch.float32)
                score, _ = scorer.judge(sampler, x)
                answer = {"value": score.value, "name": score.name, "classes_found": score.classes_found}
        except Exception as error:
            answer = {"error": str(error) or type(error).__name__}
        answers(answer)


def main(answers: Answers) -> None:
    """Answer the process that started this one, on one thread."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the controller, which ends this process
    torch.set_num_threads(1)
    answer_all(sys.stdin.buffer, answers)
