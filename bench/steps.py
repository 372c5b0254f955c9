"""Duration of a training step of each gossip arm over shaped links, compared with the lower bound.

    python bench/steps.py                           # 10 and 100 Mbit/s, 25 ms one way, 4 nodes and 2: six minutes
    python bench/steps.py --rates 10 --steps 40

Runs `gannet compare` itself on the default GAN, with an exchange at every step, and reads each run's folder: the
mean step of the slowest node once TCP's windows are open, against the run's own lower bound, max(compute, bytes ÷
rate + delay) where the exchange hides behind the gradient and compute + bytes ÷ rate + delay where it cannot.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from support.pages import RESULTS, leave, table

OVERLAPPED = {"name": "dp-oadam", "overlap": True}
ARMS: dict[str, dict[str, Any]] = {
    "ring": {"label": "ring, float32", "algorithm": OVERLAPPED},
    "ring-fp16": {"label": "ring, fp16", "algorithm": OVERLAPPED, "codec": "fp16"},
    "one-peer": {"label": "one-peer exponential, float32", "algorithm": OVERLAPPED,
                 "topology": "one-peer-exponential"},
    "one-peer-fp16": {"label": "one-peer exponential, fp16", "algorithm": OVERLAPPED, "codec": "fp16",
                      "topology": "one-peer-exponential"},
    "choco": {"label": "CHOCO on a ring, 4 bits", "algorithm": {"name": "choco"}, "codec": "qsgd-4bit"},
    "deepsqueeze": {"label": "DeepSqueeze on a ring, sign", "algorithm": {"name": "deepsqueeze"}, "codec": "sign"},
}  # fmt: skip
HEADINGS = ("nodes", "Mbit/s", "arm", "MB a step", "step s", "compute s", "bytes ÷ rate s", "delay s", "bound s",
            "÷ bound", "trusted")  # fmt: skip


def measure(world: int, rate_mbps: float, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The arms one after the other on that many nodes over such links, each with the figures of its run folder."""
    spec = {
        "name": "steps", "nodes": world, "fabric": options.fabric, "seeds": [1], "topology": "ring",
        "links": {"profile": {"rate": f"{rate_mbps:g}Mbit", "delay_ms": options.delay_ms}},
        "task": {"loss": "hinge"}, "pace_ms": options.pace_ms,
        "batch": 4,  # small: processors are to have time for all nodes, and the pace says how long a gradient takes
        "stop": {"steps": options.warm + options.steps}, "snapshot_every": 100_000,
        "algorithm": OVERLAPPED, "arms": {name: ARMS[name] for name in options.arms},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "steps.yaml", Path(folder) / "out"
        file.write_text(yaml.safe_dump(spec))
        argv = [sys.executable, "-m", "gannet", "compare", str(file), "--out", str(out)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{world} nodes at {rate_mbps:g} Mbit/s failed:\n{done.stdout}{done.stderr}")
        return [read(out / name / "seed-1", name, world, rate_mbps, options) for name in options.arms]


def read(ledger: Path, arm: str, world: int, rate_mbps: float, options: argparse.Namespace) -> dict[str, Any]:
    """The mean step of the slowest node after the warm ones, and the bound that the run's summary has."""
    summary: dict[str, Any] = json.loads((ledger / "summary.json").read_text())
    lines = [json.loads(line) for line in (ledger / "steps.jsonl").read_text().splitlines()]
    ends = {(line["node"], line["step"]): line["t_s"] for line in lines}
    first, last = options.warm, options.warm + options.steps
    step_s = max((ends[rank, last] - ends[rank, first]) / options.steps for rank in range(world))
    each_s = [max(ends[rank, k] - ends.get((rank, k - 1), 0.0) for rank in range(world))
              for k in range(1, last + 1)]  # fmt: skip
    bound = summary["lower_bound_s"]
    return {
        "nodes": world, "arm": arm, "label": ARMS[arm]["label"], "rate_mbps": rate_mbps,
        "step_s": step_s, "each_s": each_s,
        "bound": bound, "to_bound": step_s / bound["total_s"],
        "bytes_a_step": max(line["codec_bytes"] for line in lines),
        "trusted": summary["trusted"], "reasons": summary["reasons"], "parameters": summary["parameters"],
    }  # fmt: skip


def markdown(result: dict[str, Any]) -> str:
    """The table of bench/results/steps.md."""
    rows = []
    for run in result["runs"]:
        bound = run["bound"]
        rows.append((
            str(run["nodes"]), f"{run['rate_mbps']:g}", run["label"], f"{run['bytes_a_step'] / 1e6:.3f}",
            f"{run['step_s']:.3f}",
            *(f"{bound[part]:.3f}" for part in ("compute_s", "transfer_s", "delay_s", "total_s")),
            f"{run['to_bound']:.2f}", "yes" if run["trusted"] else "NO",
        ))  # fmt: skip
    o = result["options"]
    caption = (
        f"{result['runs'][0]['parameters']:,} parameters, {o['delay_ms']:g} ms one way, pace "
        f"{o['pace_ms']:g} ms, mean of {o['steps']} steps after {o['warm']}, the slowest node; fabric "
        f"{o['fabric']}, {result['cpus']} CPUs, load {result['load_before']:.1f} before and "
        f"{result['load_after']:.1f} after."
    )
    return f"{table(HEADINGS, rows, words=('arm',))}\n\n{caption}\n"


def main() -> None:
    """Run every arm at every rate, print the table and write it to bench/results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[10, 100], help="link rates, Mbit/s")
    parser.add_argument("--delay-ms", type=float, default=25, help="one-way delay of every link")
    parser.add_argument("--nodes", type=int, nargs="+", default=[4, 2])
    parser.add_argument("--pace-ms", type=float, default=50, help="how long a gradient takes")
    parser.add_argument("--steps", type=int, default=12, help="measured in each run")
    parser.add_argument("--warm", type=int, default=4, help="steps before, that open TCP's windows")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--fabric", choices=["namespaces", "virtual"], default="namespaces")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for steps.json and steps.md")
    options = parser.parse_args()
    if min(options.steps, options.warm) < 1 or min(options.nodes) < 2 or min(options.rates) <= 0:
        parser.error("needs --steps and --warm of at least 1, --nodes of at least 2 and --rates above 0")
    load_before = os.getloadavg()[0]
    runs = []
    for world in options.nodes:
        for rate in options.rates:
            runs += measure(world, rate, options)
    result = {
        "load_before": load_before, "load_after": os.getloadavg()[0], "cpus": os.cpu_count(),
        "options": {key: getattr(options, key) for key in ("delay_ms", "pace_ms", "steps", "warm", "fabric")},
        "runs": runs,
    }  # fmt: skip
    print(markdown(result))
    leave(options.out, "steps", result, markdown(result))


if __name__ == "__main__":
    main()
