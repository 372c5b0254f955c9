"""Capabilities given up stay given up, as the kernel tells of it, for the process and for what it starts."""

from __future__ import annotations

import os
import subprocess
import sys

_CODE = """
import subprocess
from gannet.fabrics.containers.capabilities import keep_only
keep_only(*[{kept}])
print(open("/proc/self/status").read())
print(subprocess.check_output(["cat", "/proc/self/status"], text=True))
"""


def capabilities_after(kept: str) -> list[dict[str, str]]:
    """/proc/PID/status of a process that kept these, and of one that it started."""
    done = subprocess.run([sys.executable, "-c", _CODE.format(kept=kept)], capture_output=True, text=True, check=True)
    texts = done.stdout.strip().split("\n\n")
    return [{k: v.strip() for k, _, v in (line.partition(":") for line in text.splitlines())} for text in texts]


def test_nothing_is_left_of_what_was_given_up() -> None:
    for status in capabilities_after(""):
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapInh"], 16) == 0
        assert status["NoNewPrivs"] == "1"


def test_what_is_kept_is_all_there_is() -> None:
    mine = 1 << 5 if os.geteuid() == 0 else 0  # an ordinary user has no capability to keep
    kept = "5" if mine else ""
    itself, child = capabilities_after(kept)
    assert int(itself["CapEff"], 16) == mine
    assert int(child["CapEff"], 16) & ~mine == 0
