"""What many nodes cost on the virtual fabric: processor time and memory of whole runs of a small game.

    python bench/virtual.py
    python bench/virtual.py --against ../gannet-0.1.0       # a second checkout, run in turn with this one
    python bench/virtual.py --cases "1,000 nodes, gossip"   # only these

Every run is a process of its own; its imports count as well. Runs of two checkouts alternate, and the bits of their
snapshots and the figures of their steps are compared by a checksum.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from support.pages import RESULTS, leave, table

if TYPE_CHECKING:
    from torch import Tensor

GOSSIP = {"algorithm": {"name": "dp-oadam"}, "topology": "ring"}
ONE_PEER = {"algorithm": {"name": "dp-oadam"}, "topology": "one-peer-exponential"}
RING = {"algorithm": {"name": "cp-oadam", "collective": "ring"}}
# What is run, with how many nodes, for how many steps.
CASES: dict[str, tuple[dict[str, Any], int, int]] = {
    "1,000 nodes, gossip": (GOSSIP, 1000, 50),
    "1,000 nodes, one-peer gossip": (ONE_PEER, 1000, 50),
    "256 nodes, ring all-reduce": (RING, 256, 5),
}
SETTINGS = {"run": "bench", "pace_ms": 10, "task": {"name": "game", "noise": 0.1, "spread": 0.5}}
LINK = {"rate": "10Mbit", "delay_ms": 25}
HEADINGS = ("run", "steps", "CPU s", "µs a step of a node", "MB", "CPU s before", "÷ before", "bits")


class Digest:
    """A sink that only forms a checksum of what it is told."""

    def __init__(self) -> None:
        self.sum = sha256()

    def phase(self, text: str) -> None:
        """Nothing of the run."""

    def step(self, rank: int, stats: Any) -> None:
        """A step's figures."""
        self.sum.update(f"{rank} {stats}".encode())

    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        """The bits of x; the run continues."""
        self.sum.update(f"{rank} {step} {t_s} {codec_bytes}".encode() + x.numpy().tobytes())
        return False

    def checkpoint(self, rank: int, step: int, data: bytes) -> None:
        """Its bits."""
        self.sum.update(data)

    def links(self, line: dict[str, Any]) -> None:
        """What happened to links and nodes."""
        self.sum.update(repr(line).encode())

    def refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None:
        """A message that was refused."""
        self.sum.update(f"{sender} {receiver} {verdict} {detail}".encode())

    def certificate(self, certificate: Any) -> None:
        """The plan's figures."""


def run_here(name: str) -> dict[str, Any]:
    """One run in this process, with whichever gannet is first on the path."""
    import torch

    from gannet.fabrics.job import Job
    from gannet.fabrics.virtual.fabric import run_virtual
    from gannet.netem.links.profile import LinkProfile
    from gannet.netem.links.state import LinkState
    from gannet.node.config import NodeConfig

    torch.set_num_threads(1)
    chosen, nodes, steps = CASES[name]
    config = NodeConfig.model_validate(SETTINGS | chosen | {"max_steps": steps, "snapshot_every": steps})
    digest = Digest()
    outcome = run_virtual(Job(config, nodes, LinkState(profile=LinkProfile.model_validate(LINK))), digest)
    if outcome.status != "finished":
        raise SystemExit(f"{name}: {outcome.reason}")
    peak_kb = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    return {"cpu_s": time.process_time(), "memory_mb": int(peak_kb) * 1024 / 1e6, "bits": digest.sum.hexdigest()[:16]}


def run(name: str, checkout: Path) -> dict[str, Any]:
    """run_here in a process of its own, with that checkout's gannet."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, __file__, "--one", name]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{name}, {checkout}:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(name: str, checkouts: list[Path], repeat: int) -> dict[str, Any]:
    """Medians of a case with each of the checkouts, in turn."""
    runs: list[list[dict[str, Any]]] = [[] for _ in checkouts]
    for _ in range(repeat):
        for place, checkout in enumerate(checkouts):
            runs[place].append(run(name, checkout))
    bits = {each["bits"] for every in runs for each in every}
    found: dict[str, Any] = {
        "run": name,
        "nodes": CASES[name][1],
        "steps": CASES[name][2],
        "same_bits": len(bits) == 1,
    }
    for key, every in zip(("now", "before"), runs, strict=False):
        found[key] = {figure: median(each[figure] for each in every) for figure in ("cpu_s", "memory_mb")}
    return found


def markdown(result: dict[str, Any]) -> str:
    """The page: a table."""
    rows = []
    for found in result["runs"]:
        now, before = found["now"], found.get("before")
        rows.append((
            found["run"], str(found["steps"]), f"{now['cpu_s']:.1f}",
            f"{1e6 * now['cpu_s'] / found['nodes'] / found['steps']:.0f}", f"{now['memory_mb']:.0f}",
            f"{before['cpu_s']:.1f}" if before else "–", f"{now['cpu_s'] / before['cpu_s']:.2f}" if before else "–",
            "same" if found["same_bits"] else "DIFFERENT",
        ))  # fmt: skip
    load = f"load {result['load_before']:.1f} before and {result['load_after']:.1f} after"
    return f"{table(HEADINGS, rows, words=('run', 'bits'))}\n\nMedians of {result['repeat']}; {load}.\n"


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--against", type=Path, help="the root of another checkout, run in turn with this one")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each case; default: 1")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where virtual.json and virtual.md are written")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_here(options.one)))
        return
    checkouts = [Path(__file__).resolve().parents[1], *([options.against.resolve()] if options.against else [])]
    load = os.getloadavg()[0]
    runs = [measure(name, checkouts, options.repeat) for name in options.cases]
    result = {"runs": runs, "repeat": options.repeat, "load_before": load, "load_after": os.getloadavg()[0]}
    page = markdown(result)
    print(page)
    leave(options.out, "virtual", result, page)


if __name__ == "__main__":
    main()
