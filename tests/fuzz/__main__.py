"""Fuzz what reads input from outside, guided by the code that an input reaches (atheris; `make fuzz` installs it).

    python -m tests.fuzz                       # every target in turn, 100,000 inputs each
    python -m tests.fuzz chunk payload --runs 1000000

An input that is neither read nor refused, takes more than ten seconds or more than 2 GiB ends the target; it is left
in a file that --replay takes. Each target runs in a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

_LONGEST_INPUT_BYTES = 4096


def main() -> int:
    """Status 1 if any target failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("targets", nargs="*", help="default: all")
    parser.add_argument("--runs", type=int, default=100_000, help="inputs of each target")
    parser.add_argument("--seconds", type=int, default=0, help="of each target, at most; 0: no limit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=Path, help="take this one input instead")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        fuzz(options.targets[0], options.runs, options.seconds, options.seed)
        return 0
    from tests.fuzz.targets import TARGETS

    if unknown := [name for name in options.targets if name not in TARGETS]:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    if options.replay is not None:
        if len(options.targets) != 1:
            parser.error("--replay needs one target")
        refused = TARGETS[options.targets[0]].refuses(options.replay.read_bytes())
        print("refused" if refused else "read")
        return 0
    failed = []
    for name in options.targets or TARGETS:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", name, "--alone"]
        command += [f"--runs={options.runs}", f"--seconds={options.seconds}", f"--seed={options.seed}"]
        if subprocess.run(command).returncode != 0:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "no input was neither read nor refused")
    return 1 if failed else 0


def fuzz(name: str, runs: int, seconds: int, seed: int) -> None:
    """Does not return: libFuzzer ends the process."""
    atheris = import_module("atheris")
    with atheris.instrument_imports(include=["gannet"]):
        from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    with tempfile.TemporaryDirectory(prefix="gannet-fuzz-") as folder:
        for number, data in enumerate(target.seeds):
            (Path(folder) / f"seed-{number}").write_bytes(data)
        arguments = [f"-runs={runs}", f"-max_total_time={seconds}", f"-seed={seed}", "-timeout=10"]
        arguments += ["-rss_limit_mb=2048", f"-max_len={_LONGEST_INPUT_BYTES}", "-print_final_stats=1", folder]
        atheris.Setup([sys.argv[0], *arguments], lambda data: target.refuses(data) and None)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
