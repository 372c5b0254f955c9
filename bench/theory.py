"""Two papers' theorems compared with this project's code: DPOSG on a Minty game, QSVRG on convex sums.

    python bench/theory.py                          # about a minute; needs no namespaces
    python bench/theory.py --iterations 2000 --page theory.html

DPOSG runs on the virtual fabric as any job does. Its theorem bounds (1/N) Σ E‖g(z̄_k)‖² once there are enough gossip
rounds t; measured are that mean against N, against the samples mM and against t, and how far the nodes' mixed
parameters lie apart, against ρ^t. For QSVRG: f − f* by epochs compared with 0.9^p, and the bits of an epoch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from support import pages
from support.theory_plots import write_page
from torch import Tensor

from gannet.fabrics.job import Job
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.node.codecs.qsvrg import epoch_bits, qsvrg
from gannet.node.config import NodeConfig
from gannet.node.tasks.base import Gradient
from gannet.node.tasks.games.convex import FiniteSum, LogisticRegression, Ridge
from gannet.node.tasks.games.minty import MintyGame
from gannet.node.topologies.rates import second_eigenvalue
from gannet.node.topologies.topology import Topology
from gannet.node.training.dposg_theorem import rounds_needed, stationarity_bound

RATE = 0.05  # η, a tenth of 1/L
DIMENSION = 16  # of u and of v
START = 12.0  # ‖x_0 − x*‖: values of about 2, where the game is neither convex nor concave
NOISE = 2.0  # σ
STRONG = 60.0  # σ that throws single nodes where the game is not monotone
SAMPLES = [(1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (1, 4), (2, 4), (4, 4)]  # (M, m)
GRAPHS = [("ring", 4, 1), ("ring", 4, 2), ("torus", 9, 1), ("torus", 9, 2), ("torus", 9, 4), ("hypercube", 8, 1),
          ("hypercube", 8, 2), ("hypercube", 8, 4)]  # fmt: skip
SETTLED = 0.5  # of a run, the part from which the nodes' distance is taken


class Watched(MintyGame):
    """The game, remembering Z_0, Z_1, … and the noisy gradients there."""

    def __init__(self, rank: int, batch: int, start: float, noise: float, seed: int) -> None:
        super().__init__(rank, DIMENSION, noise=noise, batch=batch, start=start, seed=seed)
        self.visited: list[Tensor] = []
        self.gradients: list[Tensor] = []

    def gradient(self, x: Tensor) -> Gradient:
        g = super().gradient(x)
        self.visited.append(x)
        self.gradients.append(g.field)
        return g


class Silence:
    """A Sink that keeps nothing: the tasks remember what is wanted."""

    def phase(self, text: str) -> None: ...
    def step(self, rank: int, stats: Any) -> None: ...
    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        return False

    def checkpoint(self, rank: int, step: int, data: bytes) -> None: ...
    def links(self, line: dict[str, Any]) -> None: ...
    def refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None:
        raise RuntimeError(f"node {receiver} refused a message of node {sender}: {verdict}, {detail}")

    def certificate(self, certificate: Any) -> None: ...


@dataclass
class Run:
    """One DPOSG run. `squares`: ‖g(z̄_k)‖², k = 1..N.

    `apart`, `gradients_apart`: root mean square distance from the nodes' mean of X_{k−1} W^t and of η ĝ(Z_k), over
    the settled part of the run. `diameter`: twice the largest ‖z‖. `largest_gradient`: the largest ‖g(z)‖.
    """

    topology: str
    workers: int
    batch: int
    rounds: int
    rounds_needed: float
    rho: float
    start: float
    noise: float
    diameter: float
    largest_gradient: float
    lipschitz: float
    squares: list[float]
    apart: float
    gradients_apart: float

    def mean_square(self, iterations: int | None = None) -> float:
        """(1/N) Σ ‖g(z̄_k)‖²."""
        return float(np.mean(self.squares[:iterations]))

    def bound(self, iterations: int | None = None) -> float:
        """The theorem's bound, with D as it was in the run."""
        n = len(self.squares) if iterations is None else iterations
        return stationarity_bound(
            n, self.workers, self.batch, RATE, self.noise, self.start, self.diameter, self.lipschitz
        )

    def line(self) -> dict[str, Any]:
        """Its record in the results."""
        kept = {key: value for key, value in asdict(self).items() if key != "squares"}
        return kept | {"iterations": len(self.squares), "mean_square": self.mean_square(), "bound": self.bound()}


def dposg(
    topology: str, workers: int, iterations: int, rounds: int | None = None, batch: int = 1, start: float = START,
    noise: float = NOISE, seed: int = 0,
) -> Run:  # fmt: skip
    """Run it; `rounds` None: as many as the theorem asks for, with G guessed as ‖g‖ at the start and half of it."""
    games = [Watched(rank, batch, start, noise, seed) for rank in range(workers)]
    rho = second_eigenvalue(Topology(topology, workers).mixing_matrix())
    guess = 1.5 * float(games[0].field(games[0].initial()).norm()) + noise
    chosen = rounds if rounds is not None else max(1, ceil(rounds_needed(rho, workers, batch, guess, noise)))
    config = NodeConfig.model_validate({
        "run": "theory", "algorithm": {"name": "dposg", "rounds": chosen}, "topology": topology,
        "optimizer": {"learning_rate": RATE}, "pace_ms": 1, "max_steps": iterations, "snapshot_every": iterations,
    })  # fmt: skip
    links = LinkState(profile=LinkProfile.model_validate({"rate": "100Mbit", "delay_ms": 1}))
    outcome = run_virtual(Job(config, workers, links), Silence(), tasks=games)
    if outcome.status != "finished":
        raise RuntimeError(f"{topology} of {workers}: {outcome.reason}")
    z = torch.stack([torch.stack(game.visited) for game in games], dim=1)  # (N + 1, workers, values)
    moves = RATE * torch.stack([torch.stack(game.gradients) for game in games], dim=1)
    mixed = z[1:] + moves[:-1]  # Z_k = X_{k−1} W^t − η ĝ(Z_{k−1})
    true = torch.stack([games[0].field(mean) for mean in z.mean(dim=1)])
    every = torch.stack([games[0].field(one) for one in z.flatten(0, 1)])
    largest, settled = float(every.norm(dim=1).max()), int(SETTLED * iterations)
    return Run(
        topology, workers, batch, chosen, rounds_needed(rho, workers, batch, largest, noise), rho, start, noise,
        2 * float(z.norm(dim=2).max()), largest, games[0].lipschitz, (true[1:].norm(dim=1) ** 2).tolist(),
        spread(mixed[settled:]), spread(moves[settled:]),
    )  # fmt: skip


def spread(values: Tensor) -> float:
    """Root mean square distance from the nodes' mean of values (steps, nodes, size)."""
    away = values.double() - values.double().mean(dim=1, keepdim=True)
    return float((away**2).sum(dim=2).mean().sqrt())


def on_the_game(iterations: int, seed: int) -> dict[str, Any]:
    """All runs of DPOSG, one after the other."""
    long = dposg("hypercube", 8, 4 * iterations, seed=seed)
    counts = [n for n in (2**k * iterations // 16 for k in range(7)) if n]
    by_samples = [dposg("hypercube", workers, iterations, None, batch, 0.0, seed=seed) for workers, batch in SAMPLES]
    by_rounds = [dposg("ring", 8, iterations, rounds, 1, 0.0, STRONG, seed) for rounds in (1, 2, 4, 8, 16)]
    others = [dposg(graph, workers, iterations, rounds, seed=seed) for graph, workers, rounds in GRAPHS]
    return {
        "by_iterations": {
            "run": long.line(),
            "points": [{"iterations": n, "mean_square": long.mean_square(n), "bound": long.bound(n)} for n in counts],
        },
        "by_samples": [run.line() for run in by_samples],
        "by_rounds": [run.line() for run in by_rounds],
        "consensus": [run.line() for run in (*by_rounds, *others)],
    }


def on_convex_sums(seeds: int, epochs: int, workers: int = 4) -> Iterator[dict[str, Any]]:
    """QSVRG's (f − f*) ÷ (f(y_1) − f*) by epochs, the mean over seeds, and its bits an epoch."""
    for kind, size, condition in ((Ridge, 64, 10.0), (Ridge, 256, 10.0), (LogisticRegression, 256, 10.0)):
        problem: FiniteSum = kind(size, 500, condition)
        least, start = problem.value(problem.minimum()), np.zeros(size)
        begin = problem.value(start) - least
        runs = [list(islice(qsvrg(problem, start, workers, seed=seed), epochs)) for seed in range(seeds)]
        steps = ceil(20 * problem.smoothness / problem.convexity)
        yield {
            "problem": kind.__name__, "size": size, "condition": condition, "workers": workers, "steps": steps,
            "gaps": [float(np.mean([problem.value(run[p].y) - least for run in runs]) / begin)
                     for p in range(epochs)],
            "sparse_bits": float(np.mean([epoch.sparse_bits for run in runs for epoch in run])),
            "dense_bits": float(np.mean([epoch.dense_bits for run in runs for epoch in run])),
            "papers_bits": epoch_bits(size, steps),
            "float32_bits": 32.0 * size * (steps + 1),
        }  # fmt: skip


def markdown(result: dict[str, Any]) -> str:
    """The tables of bench/results/theory.md."""
    o, long, first = result["options"], result["by_iterations"], result["by_rounds"][0]
    by_n = [
        (p["iterations"], p["mean_square"], p["mean_square"] * p["iterations"], p["bound"]) for p in long["points"]
    ]
    by_samples = [
        (r["workers"], r["batch"], r["rounds"], f"{r['rounds_needed']:.1f}", r["mean_square"],
         r["mean_square"] * r["workers"] * r["batch"], r["bound"])
        for r in result["by_samples"]
    ]  # fmt: skip
    by_rounds = [(r["rounds"], contraction(r), r["mean_square"], r["bound"]) for r in result["by_rounds"]]
    consensus = [
        (r["topology"], r["workers"], r["rounds"], contraction(r), r["apart"], r["apart"] / r["gradients_apart"],
         contraction(r) / (1 - contraction(r)))
        for r in result["consensus"]
    ]  # fmt: skip
    epochs = range(1, o["epochs"] + 1)
    gaps = [(q["problem"], q["size"], q["condition"], q["steps"], *q["gaps"]) for q in result["qsvrg"]]
    bits = [
        (q["problem"], q["size"], q["sparse_bits"] / q["papers_bits"], q["dense_bits"] / q["papers_bits"],
         (q["dense_bits"] / q["size"] - 32) / q["steps"] - 32 / q["size"], q["float32_bits"] / q["dense_bits"])
        for q in result["qsvrg"]
    ]  # fmt: skip
    mean = "(1/N) Σ ‖g(z̄)‖²"
    parts = [
        f"## DPOSG on the Minty game (η = {RATE}, σ = {NOISE:g}, {2 * DIMENSION} values, L = 2)\n",
        f"From ‖x_0 − x*‖ = {START:g}, 8 workers on a hypercube, t = {long['run']['rounds']} "
        f"(the theorem asks for {long['run']['rounds_needed']:.1f}):\n",
        table(["N", mean, "N × that", "the theorem's bound"], by_n),
        f"From x*, so that noise alone is left; hypercubes, N = {o['iterations']}:\n",
        table(["M", "m", "t", "the theorem's t", mean, "mM × that", "the theorem's bound"], by_samples),
        f"From x* with σ = {STRONG:g}, 8 workers on a ring (ρ = {first['rho']:.4f}), N = {o['iterations']}; "
        f"the theorem asks for t ≥ {first['rounds_needed']:.1f}:\n",
        table(["t", "ρ^t", mean, "the theorem's bound"], by_rounds),
        "Root mean square distance of X W^t from the nodes' mean, and the same ÷ that of η ĝ, which each iteration "
        "adds:\n",
        table(["graph", "M", "t", "ρ^t", "apart", "÷ η ĝ's", "at most ρ^t/(1 − ρ^t)"], consensus),
        f"## QSVRG on convex sums ({o['seeds']} seeds, 4 processors, T = 20 L/ℓ, η = 1/(10L))\n",
        "(f(y) − f*) ÷ (f(y_1) − f*) after p epochs:\n",
        table(["sum", "n", "L/ℓ", "T", *(f"p = {p}" for p in epochs)],
              [*gaps, ("0.9^p", "", "", "", *(0.9**p for p in epochs))]),
        "Bits that a processor sends in an epoch; the paper's figure is (32 + 2.8n) T + 32n:\n",
        table(["sum", "n", "sparse code ÷ paper's", "dense code ÷ paper's", "dense bits a value", "float32 ÷ dense"],
              bits),
    ]  # fmt: skip
    return "\n".join(parts)


def contraction(run: dict[str, Any]) -> float:
    """ρ^t."""
    return float(run["rho"] ** run["rounds"])


def table(headings: list[str], rows: Sequence[tuple[Any, ...]]) -> str:
    """Markdown, with an empty line behind."""
    cells = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    return pages.table(headings, cells, words=headings[:1]) + "\n"


def main() -> None:
    """Run, print the tables, write them to bench/results and the plots to a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=200, help="N; four times as many where N is the question")
    parser.add_argument("--seeds", type=int, default=3, help="of QSVRG")
    parser.add_argument("--epochs", type=int, default=6, help="of QSVRG")
    parser.add_argument("--seed", type=int, default=0, help="of the game: A, x_0 and the noise")
    parser.add_argument("--out", type=Path, default=pages.RESULTS, help="folder for theory.json and theory.md")
    parser.add_argument("--page", type=Path, default=Path("runs/theory.html"), help="the plots, self-contained")
    options = parser.parse_args()
    if min(options.iterations, options.seeds, options.epochs) < 1:
        parser.error("needs --iterations, --seeds and --epochs of at least 1")
    torch.set_num_threads(1)
    begin = time.perf_counter()
    result = on_the_game(options.iterations, options.seed)
    result |= {
        "qsvrg": list(on_convex_sums(options.seeds, options.epochs)),
        "options": {key: getattr(options, key) for key in ("iterations", "seeds", "epochs", "seed")},
    }
    print(markdown(result))
    options.page.parent.mkdir(parents=True, exist_ok=True)
    pages.leave(options.out, "theory", result, markdown(result))
    write_page(result, options.page)
    print(f"wrote {options.page}")
    print(f"in {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
