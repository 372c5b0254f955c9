"""`gannet.run` and `gannet.compare`: experiments from a script or a notebook, on every fabric.

Each starts the `gannet` command as a child process and reads the folder that it leaves. The namespaces fabric must be
entered before a program has threads, which a notebook always has; and training sets torch's threads and random state,
which belong to the caller here.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gannet.experiment.folders import new_folder
from gannet.ledger.reader import Comparison, Run, read_comparison
from gannet.netem import yaml12
from gannet.spec.load import load_spec
from gannet.spec.run_spec import ComparisonSpec
from gannet.spec.select import one_run, some_arms

_COMMAND = Path(__file__).parents[1] / "cli" / "from_python.py"

AnySpec = str | Path | Mapping[str, Any] | ComparisonSpec


class RunError(RuntimeError):
    """A run could not be started, or did not finish; `folder` holds its results so far."""

    def __init__(self, message: str, folder: Path) -> None:
        super().__init__(message)
        self.folder = folder


def run(
    spec: AnySpec,
    *,
    arm: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
) -> Run:
    """Train one run, score it, write its report, and return what it left.

    `spec`: from `load_spec`, or what `load_spec` takes. `arm` must be given where the spec has several; `seed` is by
    default the spec's first. `out`: a folder that does not exist or is empty; default runs/<name>-<time>. `quiet`:
    do not print progress. Raises SpecError, FileExistsError and RunError, also for a run that could not be scored;
    KeyboardInterrupt once the run has stopped.
    """
    return _execute(one_run(_loaded(spec), arm, seed), out, quiet).runs[0]


def compare(
    spec: AnySpec, *, arms: Sequence[str] | None = None, out: str | Path | None = None, quiet: bool = False
) -> Comparison:
    """Train every arm with every seed, score and report, and return what they left.

    `arms`: only these. All else as in `run`; RunError when one of the runs did not finish.
    """
    whole = _loaded(spec)
    return _execute(whole if arms is None else some_arms(whole, arms), out, quiet)


def _loaded(spec: AnySpec) -> ComparisonSpec:
    return spec if isinstance(spec, ComparisonSpec) else load_spec(spec)


def _execute(spec: ComparisonSpec, out: str | Path | None, quiet: bool) -> Comparison:
    folder = new_folder(out, spec.name)
    with tempfile.TemporaryDirectory(prefix="gannet-") as place:
        file = Path(place) / "spec.yaml"
        file.write_text(yaml12.dump(spec.whole()), encoding="utf-8")
        status, printed = _command(["compare", str(file), "--out", str(folder)], quiet)
    error = _error_in(printed) or (f"the command ended with status {status}" if status else "")
    if not any(folder.glob("*/seed-*")):  # no run was started
        with suppress(OSError):
            folder.rmdir()  # unless there is something in it
        raise RunError(error, folder)
    found = read_comparison(folder)
    expected = len(spec.arms) * len(spec.seeds)
    failed = [
        f"{each.arm}, seed {each.seed}: {each.summary.status}: {each.summary.reason or 'no reason was recorded'}"
        for each in found.runs
        if not each.finished
    ]
    failed += [
        f"{each.arm}, seed {each.seed}: could not be scored: {each.summary.score_fault}"
        for each in found.runs
        if each.summary.score_fault
    ]
    if status or failed or len(found.runs) < expected:
        finished = sum(each.finished for each in found.runs)
        head = f"{finished} of {expected} runs finished in {folder}"
        raise RunError("\n".join([head, *failed, *([error] if error else [])]), folder)
    return found


def _command(arguments: Sequence[str], quiet: bool) -> tuple[int, list[str]]:
    """(exit status, lines printed) of the `gannet` command.

    It runs in a separate session, so that Ctrl-C reaches only this process, which passes it on once and waits.
    """
    environment = {"COLUMNS": str(shutil.get_terminal_size((120, 24)).columns), **os.environ}
    argv = [sys.executable, "-P", str(_COMMAND), str(os.getpid()), *arguments]
    printed: list[str] = []
    interrupted: KeyboardInterrupt | None = None
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        while True:
            try:
                for line in process.stdout:
                    printed.append(line.rstrip("\n"))
                    if not quiet:
                        print(printed[-1], flush=True)
                process.wait()
                break
            except KeyboardInterrupt as error:
                process.send_signal(signal.SIGINT if interrupted is None else signal.SIGTERM)
                interrupted = error
            except BaseException:
                process.kill()
                raise
    if interrupted is not None:
        raise interrupted
    return process.returncode, printed


def _error_in(printed: Sequence[str]) -> str:
    """The command's last error, which begins with its name and may have several lines."""
    starts = [number for number, line in enumerate(printed) if line.startswith("gannet: ")]
    return "\n".join(printed[starts[-1] :]).removeprefix("gannet: ") if starts else ""
