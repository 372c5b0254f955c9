"""Cost of a step of each task: time at 1 and 2 threads, memory, FLOPs, bytes; layouts and torch.compile as ratios.

    python bench/tasks.py                       # all: some ten minutes on two cores
    python bench/tasks.py --tasks small dcgan --no-compile

Every figure comes from a separate process: the median time of a gradient (one of the generator and the critic
together) after two for warm-up, and the peak memory of the process in excess of its memory before the task was
built. FLOPs, bytes of messages and parameters are those of `gannet task show`, for four nodes that gossip on a ring.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from support.pages import RESULTS, leave, table

CIFAR = {"name": "cifar10", "root": "."}  # not read
RESNET = {"architecture": "resnet", "latent": 128, "width": 128}
TASKS: dict[str, dict[str, Any]] = {
    "game": {"task": {"name": "game"}},
    "small": {"task": {"loss": "wgan-gp"}, "batch": 16},
    "small, hinge": {"task": {"loss": "hinge"}, "batch": 16},
    "dcgan": {"task": {"architecture": "dcgan", "loss": "non-saturating", "width": 64}, "data": CIFAR, "batch": 16},
    "WGAN-GP's resnet": {"task": {**RESNET, "loss": "wgan-gp"}, "data": CIFAR, "batch": 4},
    "SNGAN's resnet": {"task": {**RESNET, "loss": "hinge", "generator_width": 256}, "data": CIFAR, "batch": 4},
    "sagan": {"task": {"architecture": "sagan", "loss": "hinge", "width": 64}, "data": CIFAR, "batch": 4},
}
LONGEST_S = 300  # for one figure, compiling included
HEADINGS = ("task", "batch", "parameters", "MB a step", "GFLOP", "MB memory", "ms, 1 thread", "ms, 2 threads",
            "1 ÷ 2 threads", "GFLOP/s", "channels first ÷ last", "eager ÷ compiled")  # fmt: skip


def spec_of(name: str) -> Any:
    """The task as a run has it."""
    from gannet.spec.run_spec import RunSpec

    base = {"nodes": 4, "links": "datacenter", "algorithm": {"name": "dp-oadam"}, "stop": {"steps": 1}}
    return RunSpec.model_validate(base | TASKS[name])


def measure_here(name: str, threads: int, variant: str, seconds: float) -> dict[str, Any]:
    """Median milliseconds of a gradient and the memory it took, in this process."""
    import torch

    from gannet.node.data.shard import Shard
    from gannet.node.tasks import build_task, needs_data
    from gannet.node.tasks.gan.architectures import layers

    torch.set_num_threads(threads)
    spec = spec_of(name)
    if variant == "channels first":
        layers.MEMORY_FORMAT = torch.contiguous_format
    shard = None
    if needs_data(spec.task):
        images = torch.randint(0, 256, (256, *spec.data.image_shape), dtype=torch.uint8)
        shard = Shard(images, torch.arange(256) % 10)
    forget_peak()
    before = peak_mb()
    task: Any = build_task(spec.task, shard, 0, 4, 1, spec.batch)
    x = task.initial()
    begin = time.perf_counter()
    if variant == "compiled":
        task.generator, task.critic = (torch.compile(network) for network in (task.generator, task.critic))
    for _ in range(2):
        task.gradient(x)
    ready_s = time.perf_counter() - begin
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        begin = time.perf_counter()
        task.gradient(x)
        times.append(time.perf_counter() - begin)
    return {"ms": 1000 * median(times), "calls": len(times), "memory_mb": peak_mb() - before, "ready_s": ready_s}


def peak_mb() -> float:
    """The most resident memory since `forget_peak`, MB of 10^6 bytes. (getrusage's is inherited over fork.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def forget_peak() -> None:
    """Let the peak begin at what is resident now; see proc(5), clear_refs."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(name: str, threads: int, variant: str, seconds: float) -> dict[str, Any]:
    """measure_here in a separate process; {"why"} where the variant does not work."""
    argv = [sys.executable, __file__, "--one", name, str(threads), variant, str(seconds)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        return {"why": f"not ready after {LONGEST_S} s"}
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        if variant == "as shipped":
            raise SystemExit(f"{name} failed:\n{done.stderr}")
        return {"why": lines[-1][:200] if lines else "it ended without a word"}
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def row(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of a task."""
    from gannet.experiment.task_cost import cost_of

    spec = spec_of(name)
    cost = cost_of(spec)
    found: dict[str, Any] = {
        "task": name, "batch": spec.batch, "parameters": cost.parameters, "bytes_a_step": cost.sent_bytes,
        "flops": cost.flops,
    }  # fmt: skip
    for threads in (1, 2):
        found[f"threads {threads}"] = measure(name, threads, "as shipped", options.seconds)
    architecture = getattr(spec.task, "architecture", "")
    if architecture not in ("", "small"):
        found["channels first"] = measure(name, 1, "channels first", options.seconds)
    if options.compile and architecture and spec.task.loss != "wgan-gp":
        found["compiled"] = measure(name, 1, "compiled", options.seconds)
    return found


def markdown(result: dict[str, Any]) -> str:
    """The table of bench/results/tasks.md."""
    rows = []
    for found in result["tasks"]:
        one, two = found["threads 1"], found["threads 2"]
        rows.append((
            found["task"], str(found["batch"]), f"{found['parameters']:,}", f"{found['bytes_a_step'] / 1e6:.3f}",
            f"{found['flops'] / 1e9:.3g}", f"{one['memory_mb']:.0f}", f"{one['ms']:.3g}", f"{two['ms']:.3g}",
            f"{one['ms'] / two['ms']:.2f}", f"{found['flops'] / one['ms'] / 1e6:.3g}",
            ratio(found.get("channels first"), one), ratio(one, found.get("compiled")),
        ))  # fmt: skip
    caption = (
        f"{result['cpus']} CPUs, torch {result['torch']}, load {result['load_before']:.1f} before and "
        f"{result['load_after']:.1f} after."
    )
    return f"{table(HEADINGS, rows, words=('task',))}\n\n{caption}\n"


def ratio(over: dict[str, Any] | None, under: dict[str, Any] | None) -> str:
    """Ratio of two times, at one thread."""
    if over is None or under is None:
        return "–"
    return "fails" if "why" in over or "why" in under else f"{over['ms'] / under['ms']:.2f}"


def main() -> None:
    """Measure the tasks, print the table and write it to bench/results."""
    if len(sys.argv) > 1 and sys.argv[1] == "--one":
        name, threads, variant, seconds = sys.argv[2:]
        print(json.dumps(measure_here(name, int(threads), variant, float(seconds))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seconds", type=float, default=3, help="that each figure is measured for, at least")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave out torch.compile")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for tasks.json and tasks.md")
    options = parser.parse_args()
    from importlib.metadata import version

    load_before = os.getloadavg()[0]
    rows = []
    for name in options.tasks:
        rows.append(row(name, options))
        print(f"{name}: {rows[-1]['threads 1']['ms']:.3g} ms at 1 thread", flush=True)
    result = {
        "load_before": load_before, "load_after": os.getloadavg()[0], "cpus": os.cpu_count(),
        "torch": version("torch"), "tasks": rows,
    }  # fmt: skip
    print(markdown(result))
    leave(options.out, "tasks", result, markdown(result))


if __name__ == "__main__":
    main()
