"""KDGAN on MNIST with few labels, compared with its baselines: the table of the paper, with paired differences.

    python bench/kdgan.py --data mnist.npz              # 100 and 1,000 labels, 5 seeds, on two processors
    python bench/kdgan.py --data mnist.npz --quick      # small networks, 100 labels, 2 seeds: does it run?
    python bench/kdgan.py --data ~/mnist                # a folder with the idx files, as torchvision keeps them
    python bench/kdgan.py                              # quick, on the embedded Fashion-MNIST images

All methods of a seed begin at the same pretrained classifier, teacher and discriminator, see the same labelled images
and the same minibatches of them, augmented alike, and make as many steps of the classifier with the same optimizer.
The npz file holds train_images, train_labels, test_images, test_labels; the test images decide nothing but the best.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from scipy import stats
from torch import Tensor

from gannet.node.data.config import DataConfig
from gannet.node.data.datasets import load_split
from gannet.node.data.shard import Shard
from gannet.node.tasks.base import Gradient
from gannet.node.tasks.kdgan.config import PLAYERS, KdganConfig
from gannet.node.tasks.kdgan.task import KdganTask

RESULTS = Path(__file__).parent / "results"
PAPER = {
    "mimic": {100: 67.35, 1000: 93.78},
    "distn": {100: 68.34, 1000: 93.97},
    "nagan": {100: 64.90, 1000: 93.60},
    "kdgan": {100: 77.95, 1000: 96.42},
}
METHODS = ("kdgan", "distn", "mimic", "nagan", "classifier")
NAMES = {
    "pretrained": "classifier, pretrained",
    "classifier": "classifier, trained on",
    "mimic": "MIMIC",
    "distn": "DISTN",
    "nagan": "NaGAN",
    "kdgan": "KDGAN",
    "collapse": "KDGAN, γ = 100",
}
POINTS = 10
SETTINGS = ("alpha", "beta", "gamma", "distillation", "samples", "discriminator_steps")
BETAS = {"pretraining": (0.9, 0.999), "play": (0.0, 0.999)}  # momentum makes the game turn; all methods go without
KEPT = (*SETTINGS, "rates", "batch")  # what all blocks of a table have in common
STEPS = {"pretrain": {100: 300, 1000: 1000}, "rounds": {100: 1000, 1000: 2000}}
FIRST_SEED = 2  # seed 1 served to choose the settings


@dataclass(frozen=True)
class Job:
    """One seed with `labels` labels: pretraining, then every method from there."""

    data: str | None
    labels: int
    seed: int
    augment: str
    pretrain: int
    rounds: int
    batch: int
    small: bool
    methods: tuple[str, ...]
    rates: tuple[float, ...]  # of classifier, teacher, discriminator
    settings: tuple[tuple[str, Any], ...]

    def config(self, method: str) -> KdganConfig:
        """That method's settings; they differ in nothing but the method, and γ where it is to collapse."""
        play: dict[str, Any] = {
            "method": "kdgan" if method == "collapse" else method, "labels": self.labels, "augment": self.augment,
            "pretrain_steps": self.pretrain, "gumbel_steps": 6 * self.rounds, **dict(self.settings),
        }  # fmt: skip
        if method == "collapse":
            play["gamma"] = 100.0
        if self.small:
            play |= {"filters": 16, "features": 256}
        return KdganConfig(name="kdgan", **play)


class Adam:
    """Plain Adam for the players that move, on x in place; `part` scales the rates."""

    def __init__(self, task: KdganTask, x: Tensor, rates: tuple[float, ...], stage: str) -> None:
        self._of = {}
        for player, where in task.players.items():
            rate = rates[PLAYERS["kdgan"].index(player)]
            values = x[where].detach().requires_grad_()
            self._of[player] = (
                where,
                values,
                rate,
                torch.optim.Adam([values], lr=rate, betas=BETAS[stage], fused=True),
            )

    def step(self, gradient: Gradient, part: float = 1.0) -> None:
        for player in gradient.active:
            where, values, rate, adam = self._of[player]
            values.grad = gradient.field[where]
            adam.param_groups[0]["lr"] = rate * part
            adam.step()


@cache
def splits(source: str | None) -> tuple[Shard, Shard]:
    """Training and test split, from an npz file or a folder of idx files; embedded ones without."""
    if source is None:
        return load_split(DataConfig()), load_split(DataConfig(), train=False)
    path = Path(source).expanduser()
    if path.is_dir():
        config = DataConfig(name="mnist", root=str(path))
        return load_split(config), load_split(config, train=False)
    with np.load(path) as arrays:
        train, test = (
            Shard(
                torch.from_numpy(arrays[f"{split}_images"]).unsqueeze(1),
                torch.from_numpy(arrays[f"{split}_labels"].astype(np.int64)),
            )
            for split in ("train", "test")
        )
    return train, test


def run(job: Job) -> dict[str, Any]:
    """Accuracies (percent, of the classifier on all test images) of every method, in the order in time."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    train, test = splits(job.data)

    def task_of(method: str) -> KdganTask:
        config = job.config(method)
        return KdganTask(config, (1, 28, 28), job.seed, shard=train, batch=job.batch)

    def accuracy(task: KdganTask, x: Tensor, player: str = "classifier") -> float:
        return 100 * (task.logits(x, test.images, player).argmax(1) == test.labels).double().mean().item()

    base = task_of("kdgan")
    start = base.initial()
    adam = Adam(base, start, (1e-3, 1e-3, 1e-3), "pretraining")
    for _ in range(job.pretrain):
        adam.step(base.gradient(start))
    first = accuracy(base, start)
    curves: dict[str, list[float]] = {"pretrained": [first]}
    teachers = {"pretrained": accuracy(base, start, "teacher")}
    for method in job.methods:
        task = task_of(method)
        x = torch.cat([start[base.players[player]] for player in task.players])
        task.load_state(base.state())
        adam = Adam(task, x, job.rates, "play")
        curve, moves = [], 0
        while moves < job.rounds:
            gradient = task.gradient(x)
            adam.step(gradient, 1 - moves / job.rounds)
            if "classifier" in gradient.active:
                moves += 1
                if moves % max(1, job.rounds // POINTS) == 0:
                    curve.append(accuracy(task, x))
        curves[method] = curve
        if method in ("kdgan", "collapse"):
            teachers[method] = accuracy(task, x, "teacher")
    return {
        "labels": job.labels, "seed": job.seed, "augment": job.augment, "curves": curves, "teachers": teachers,
        "pretrain": job.pretrain, "rounds": job.rounds, "seconds": time.perf_counter() - began,
    }  # fmt: skip


def spread(values: list[float]) -> str:
    """Mean ± standard deviation over seeds."""
    sd = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.2f} ± {sd:.2f}"


def interval(differences: list[float]) -> tuple[float, float, float]:
    """Mean of paired differences and its 95% interval by Student's t."""
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return mean, float("-inf"), float("inf")
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences) / len(differences) ** 0.5
    return mean, mean - half, mean + half


def lines_of(found: list[dict[str, Any]], caption: str, mnist: bool) -> list[str]:
    """The tables in Markdown: a block for each (labels, augmentation); the paper's figures are of MNIST."""
    lines = [caption, ""]
    for labels, augment in sorted({(r["labels"], r["augment"]) for r in found}):
        block = [r for r in found if (r["labels"], r["augment"]) == (labels, augment)]
        last = {m: [r["curves"][m][-1] for r in block] for m in block[0]["curves"]}
        best = {m: [max(r["curves"][m]) for r in block] for m in block[0]["curves"]}
        steps = f"{block[0]['pretrain']:,} pretraining steps, {block[0]['rounds']:,} rounds"
        seconds = f"{statistics.median(r['seconds'] for r in block):.0f} s a seed"
        lines += [f"**{labels:,} labels, augmentation {augment}, {len(block)} seeds; {steps}; {seconds}**", ""]
        lines += ["| method | last, % | best, % | paper, % |", "| --- | --- | --- | --- |"]
        for method in (m for m in NAMES if m in last):
            paper = PAPER.get(method, {}).get(labels) if mnist else None
            lines.append(f"| {NAMES[method]} | {spread(last[method])} | {spread(best[method])} | {paper or ''} |")
        lines += ["", "| paired difference | last | best |", "| --- | --- | --- |"]
        pairs = [("kdgan", "distn"), ("distn", "pretrained"), ("kdgan", "mimic"), ("kdgan", "classifier"),
                 ("kdgan", "nagan"), ("collapse", "kdgan")]  # fmt: skip
        for one, two in pairs:
            if one in last and two in last:
                cells = []
                for values in (last, best):
                    mean, low, high = interval([a - b for a, b in zip(values[one], values[two], strict=True)])
                    cells.append(f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]")
                lines.append(f"| {NAMES[one]} − {NAMES[two]} | {' | '.join(cells)} |")
        taught = [f"{NAMES.get(m, m)} {spread([r['teachers'][m] for r in block])}" for m in block[0]["teachers"]]
        lines += ["", f"The teacher, last: {'; '.join(taught)}.", ""]
    return lines


def jobs_of(options: argparse.Namespace) -> list[Job]:
    """Every seed of every block."""
    jobs = []
    for labels in options.labels:
        pretrain = options.pretrain or STEPS["pretrain"].get(labels, 1000)
        rounds = options.rounds or STEPS["rounds"].get(labels, 2000)
        for augment in options.augment:
            methods = METHODS if augment == "after-pretraining" else ("kdgan", "distn", "classifier")
            if labels == 100 and augment == "after-pretraining":
                methods = (*methods, "collapse")
            for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
                settings = tuple((name, getattr(options, name)) for name in SETTINGS)
                jobs.append(
                    Job(options.data, labels, seed, augment, pretrain, rounds, options.batch,
                        options.quick, methods, tuple(options.rates), settings)
                )  # fmt: skip
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", help="an npz file, or a folder with MNIST's idx files; without: embedded images, --quick"
    )
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pretrain", type=int, help="steps of all players on the labels; default: 300 or 1,000")
    parser.add_argument("--rounds", type=int, help="steps of the classifier after that; default: 1,000 or 2,000")
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--alpha", type=float, default=0.1)
    parser.add_argument("--beta", type=float, default=2.0)
    parser.add_argument("--gamma", type=float, default=1e-4)
    parser.add_argument("--distillation", choices=("l2", "kl"), default="kl")
    parser.add_argument("--samples", type=int, default=16, help="Gumbel samples an image")
    parser.add_argument("--discriminator-steps", type=int, default=2)
    parser.add_argument(
        "--augment", nargs="+", choices=("after-pretraining", "always"), default=["after-pretraining"]
    )
    parser.add_argument("--rates", type=float, nargs=3, default=[1e-3, 1e-3, 1e-3], metavar=("C", "T", "D"))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="small networks, two seeds, few steps")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for kdgan.json and kdgan.md")
    options = parser.parse_args()
    options.quick |= options.data is None
    options.data = options.data and str(Path(options.data).expanduser().resolve())
    if options.quick:
        options.labels, options.seeds = options.labels[:1], min(options.seeds, 2)
        options.pretrain, options.rounds = options.pretrain or 100, options.rounds or 60
    os.environ["OMP_NUM_THREADS"] = "1"
    console, jobs = Console(), jobs_of(options)
    found = [] if options.quick else earlier(options)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool, Progress(*columns) as progress:
        bar = progress.add_task("seeds", total=len(jobs))
        for future in as_completed([pool.submit(run, job) for job in jobs]):
            result = future.result()
            found.append(result)
            shown = ", ".join(f"{m} {curve[-1]:.2f}" for m, curve in result["curves"].items())
            progress.console.print(
                f"{result['labels']} labels, seed {result['seed']}, augmentation {result['augment']}: {shown}"
                f" ({result['seconds']:.0f} s)"
            )
            progress.advance(bar)
            found.sort(key=lambda r: (r["labels"], r["augment"], r["seed"]))
            lines = lines_of(found, caption(options), options.data is not None)
            if not options.quick:  # what is measured is kept, whatever happens to the rest
                kept = {name: getattr(options, name) for name in KEPT}
                options.out.mkdir(parents=True, exist_ok=True)
                (options.out / "kdgan.md").write_text("\n".join(lines))
                (options.out / "kdgan.json").write_text(json.dumps({"options": kept, "runs": found}, indent=1) + "\n")
    console.print("\n".join(lines), markup=False)


def earlier(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The runs in --out that this one does not repeat, if they were made with the same settings."""
    path = options.out / "kdgan.json"
    if not path.is_file():
        return []
    held = json.loads(path.read_text())
    if any(held["options"].get(name) != getattr(options, name) for name in KEPT):
        return []
    again = {(labels, augment) for labels in options.labels for augment in options.augment}
    return [run for run in held["runs"] if (run["labels"], run["augment"]) not in again]


def caption(o: argparse.Namespace) -> str:
    """The conditions of the measurement."""
    rates = " ".join(f"{rate:g}" for rate in o.rates)
    return (
        "Accuracy on all 10,000 test images, mean ± standard deviation over seeds; differences with 95% interval. "
        f"All methods: pretraining with Adam at 1e-3, then with β₁ = 0 and rates (C, T, D) {rates} falling to 0, "
        f"minibatches of {o.batch}. KDGAN: α {o.alpha:g}, β {o.beta:g}, γ {o.gamma:g}, loss {o.distillation}, "
        f"{o.samples} Gumbel samples, {o.discriminator_steps} steps of D a round."
    )


if __name__ == "__main__":
    main()
