"""What robust mixing costs where all are honest, and what it saves where one node of eight is not.

Time: one mix of DCGAN's parameters with 2, 4 and 7 peers, by each rule, in one thread, in alternation; compared with
the mean. Distance: DPOSG's and DP-OAdam's farthest honest node from the solution of a game, over a torus on the
virtual fabric, each rule with the same seeds; compared with the mean where all are honest.

    python bench/robust.py
    python bench/robust.py --repeat 30 --seeds 5 --steps 600
"""

from __future__ import annotations

import argparse
import os
import time
import zlib
from dataclasses import replace
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from support.pages import RESULTS, leave, table
from torch import Tensor

from gannet.experiment.exploded import Exploded
from gannet.experiment.job import job_of
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.fabrics.virtual.faults import Corrupt
from gannet.node.data.config import DataConfig
from gannet.node.exchange.mailbox import Header
from gannet.node.mixing.base import MixingRule
from gannet.node.mixing.registry import NAMES, MixingConfig
from gannet.node.tasks import build_sampler
from gannet.node.tasks.config import TaskConfig
from gannet.spec.load import resolve

NODES, LIAR = 8, 5
PEERS = (2, 4, 7)
RULES: TypeAdapter[MixingRule] = TypeAdapter(MixingConfig)


def mix_s(rule: MixingRule, vectors: list[Tensor]) -> float:
    """Processor time of one mix of equal weights, seconds: other load on the machine does not count."""
    weight, begin = 1 / len(vectors), time.process_time()
    mix = rule.begin(vectors[0], weight)
    for values in vectors[1:]:
        mix.add(values, weight)
    mix.result()
    return time.process_time() - begin


def times(size: int, repeat: int) -> list[dict[str, Any]]:
    """A row for each rule and number of peers; `ratio`: the median of those to the mean of the same repetition."""
    rules = {name: RULES.validate_python(name) for name in NAMES}
    rows = []
    for peers in PEERS:
        stream = torch.Generator().manual_seed(peers)
        vectors = [torch.randn(size, generator=stream) for _ in range(peers + 1)]
        found: dict[str, list[float]] = {name: [] for name in rules}
        for _ in range(repeat + 1):
            for name, rule in rules.items():
                found[name].append(mix_s(rule, vectors))
        for name, taken in found.items():
            ratio = median(a / b for a, b in zip(taken[1:], found["mean"][1:], strict=True))
            rows.append({"peers": peers, "rule": name, "ms": 1000 * median(taken[1:]), "ratio": ratio})
    return rows


def large(header: Header, payload: memoryview) -> tuple[Header, memoryview]:
    """1000 times what node LIAR has, in a message that is well formed."""
    with np.errstate(over="ignore"):
        values = np.nan_to_num(1000 * np.frombuffer(payload, dtype="<f4")).astype("<f4")
    return replace(header, crc32=zlib.crc32(values.tobytes())), memoryview(values.tobytes())


class Last(Exploded):
    """Keeps every node's parameters after the last step as well."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.x: dict[int, np.ndarray] = {}

    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        self.x[rank] = x.double().numpy()
        return super().snapshot(rank, step, t_s, codec_bytes, x)


def distance(algorithm: str, rule: str, seed: int, steps: int, lies: bool) -> tuple[float, bool]:
    """(the farthest honest node's distance from the solution, which is 0, and whether its figures are trusted)."""
    optimizer = {"learning_rate": 0.05, "beta1": 0.5, "beta2": 0.9}
    spec = resolve(
        {"fabric": "virtual", "pace_ms": 10, "nodes": NODES, "seed": seed, "score": None, "topology": "torus",
         "task": {"name": "minty", "noise": 2.0}, "optimizer": optimizer, "algorithm": {"name": algorithm},
         "mixing": rule, "stop": {"steps": steps}, "snapshot_every": steps},
        "robust",
    ).arms["run"]  # fmt: skip
    job = job_of(spec)
    sink = Last(spec, job)
    outcome = run_virtual(job, sink, [Corrupt(LIAR, 0.0, large)] if lies else [])
    if outcome.status != "finished":
        return float("inf"), False
    return max(float(np.linalg.norm(x)) for rank, x in sink.x.items() if rank != LIAR), not sink.reasons


def distances(seeds: int, steps: int) -> list[dict[str, Any]]:
    """A row for each method and rule; ratios are geometric means over seeds of those to the honest mean."""
    rows = []
    for algorithm in ("dp-oadam", "dposg"):
        honest = [distance(algorithm, "mean", seed, steps, False)[0] for seed in range(1, seeds + 1)]
        for rule in NAMES:
            row: dict[str, Any] = {"algorithm": algorithm, "rule": rule}
            for lies, name in ((False, "honest"), (True, "one_liar")):
                found = [distance(algorithm, rule, seed, steps, lies) for seed in range(1, seeds + 1)]
                row[name] = geometric_mean([far for far, _ in found])
                row[f"{name}_ratio"] = geometric_mean([far / at for (far, _), at in zip(found, honest, strict=True)])
                row[f"{name}_trusted"] = all(trusted for _, trusted in found)
            rows.append(row)
            print(row, flush=True)
    return rows


def page(size: int, result: dict[str, Any]) -> str:
    words = ("rule", "method", "trusted")
    of_times = [
        [row["rule"], str(row["peers"]), f"{row['ms']:.1f}", f"{row['ratio']:.2f}"] for row in result["times"]
    ]
    of_distances = [
        [row["algorithm"], row["rule"], f"{row['honest']:.3g}", f"{row['honest_ratio']:.2f}",
         f"{row['one_liar']:.3g}", f"{row['one_liar_ratio']:.3g}", "yes" if row["one_liar_trusted"] else "no"]
        for row in result["distances"]
    ]  # fmt: skip
    headings = ("method", "rule", "honest", "÷ mean", "one liar", "÷ honest mean", "trusted")
    return (
        f"# Robust mixing\n\nOne mix of DCGAN's {size:,} parameters, processor time ({result['load']}):\n\n"
        f"{table(('rule', 'peers', 'ms', '÷ mean'), of_times, words)}\n\n"
        f"Distance of the farthest honest node of {NODES} from the solution of a game after {result['steps']} steps "
        f"over a torus, {result['seeds']} seeds; the liar sends 1000 times its parameters, and `trusted` is what a "
        f"run with it says of itself:\n\n{table(headings, of_distances, words)}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=50, help="mixes of each rule")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="of the game")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for robust.json and robust.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    size = build_sampler(TaskConfig(architecture="dcgan"), DataConfig()).size
    result = {
        "load": f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors when it began",
        "parameters": size,
        "steps": arguments.steps,
        "seeds": arguments.seeds,
        "times": times(size, arguments.repeat),
        "distances": distances(arguments.seeds, arguments.steps),
    }
    leave(arguments.out, "robust", result, page(size, result))


if __name__ == "__main__":
    main()
