"""`gannet net up` and `gannet net exec` as people use them: processes, with what they say and how they end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NET = [sys.executable, "-m", "gannet", "net"]


def environment(state: Path, **more: str) -> dict[str, str]:
    """That of a user whose networks are noted in `state`, and who has said nothing to Gannet before."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GANNET_")}
    return {
        **clean,
        "XDG_STATE_HOME": str(state),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
        "GANNET_PORT": "1",
        **more,
    }


@dataclass
class Up:
    """A network that is up. `said`: its words until then, line by line; `address`: of its operators' door."""

    process: subprocess.Popen[str]
    state: Path
    said: list[str]
    prefix: Sequence[str]

    @property
    def address(self) -> str:
        return self.said[-1].split()[-1]

    def net(self, *arguments: str, stdin: str | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
        """`gannet net ARGUMENTS --controller …` to its end."""
        argv = [*self.prefix, *NET, arguments[0], "--controller", self.address, *arguments[1:]]
        return subprocess.run(
            argv, env=environment(self.state), input=stdin, capture_output=True, text=True, timeout=240, **more
        )

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        """`gannet net exec ARGUMENTS`, running."""
        argv = [*self.prefix, *NET, "exec", "--controller", self.address, *arguments]
        return subprocess.Popen(argv, env=environment(self.state), text=True, **more)

    def end(self, number: int) -> tuple[int, str]:
        """Send the command a signal; its exit status, and what else it said."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=240)
        return self.process.returncode, said


@contextmanager
def up(state: Path, *arguments: str, prefix: Sequence[str] = ()) -> Iterator[Up]:
    """`PREFIX gannet net up ARGUMENTS`, up; killed in the end where it has not ended by then."""
    process = subprocess.Popen(
        [*prefix, *NET, "up", *arguments],
        env=environment(state),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        said: list[str] = []
        while not said or "--controller" not in said[-1]:
            line = process.stdout.readline()
            assert line, f"it ended: {said}"
            said.append(line.rstrip("\n"))
        yield Up(process, state, said, prefix)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
