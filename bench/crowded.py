"""Whether links keep their delays while trainers crowd the processors: one-way delays with and without them.

    python bench/crowded.py [--nodes 8] [--trainers 8] [--profile demo-10mbit] [--engine auto] [--seconds 10]

A ring of nodes with shaped links. Trainers are processes of normal priority that multiply matrices without a pause,
as many as there are nodes: on two cores each gets a quarter of one. Echoes (gannet.netem.agent.probe) cross every
link all the while. The link engine and the process that timestamps arrivals have priority over trainers
(gannet.netem.process.raise_priority); what that is worth shows as the delay's quantiles, the engine's own lateness,
and its wait for a processor.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table
from support.shaped import shaped

from gannet.netem.agent.client import AgentClient
from gannet.netem.links.plan import InterfacePlan
from gannet.netem.links.profile import load_profile
from gannet.netem.measure.certificate import TOLERANCES
from gannet.netem.measure.intervals import quantile
from gannet.netem.preflight import choose_engine

ECHOES_PER_S = 50  # over each link
# The multiplication ends in a line, so that its trainer is known to be at work.
TRAINER = """
import numpy
a = numpy.random.default_rng(0).standard_normal((400, 400), dtype=numpy.float32)
a @ a
print("at work", flush=True)
while True:
    a @ a
"""


@contextmanager
def trainers(count: int) -> Iterator[None]:
    """`count` processes that compute without a pause, one thread each."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    argv = [sys.executable, "-c", TRAINER]
    running = [subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment) for _ in range(count)]
    try:
        for process in running:
            assert process.stdout is not None and process.stdout.readline()
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def measure(agents: list[AgentClient], plans: list[InterfacePlan], seconds: float) -> dict[str, Any]:
    """Echo over every link of the ring; quantiles of all one-way delays and what the engines report."""
    world = len(agents)
    before = [agent.request("counters") for agent in agents]  # lateness counts from here

    def probe(rank: int) -> list[float]:
        answer = agents[rank].request(
            "probe",
            timeout_s=60 + seconds,
            kind="delays",
            source=plans[rank].address,
            targets=[plans[(rank + step) % world].address for step in (1, world - 1)],
            count=round(seconds * ECHOES_PER_S),
            interval_s=1 / ECHOES_PER_S,
            wait_s=2.0,
        )
        return [delay for target in answer["targets"].values() for delay in target["one_way_ms"]]

    with ThreadPoolExecutor(world) as pool:
        delays = sorted(delay for found in pool.map(probe, range(world)) for delay in found)
    after = [agent.request("counters") for agent in agents]
    released, late = (
        sum(now.get(name, 0) - then.get(name, 0) for then, now in zip(before, after, strict=True))
        for name in ("released", "late")
    )
    return {
        "echoes": len(delays),
        "p50_ms": quantile(delays, 0.5),
        "p95_ms": quantile(delays, 0.95),
        "p99_ms": quantile(delays, 0.99),
        "max_ms": delays[-1],
        "late_p99_ms": max(now.get("late_p99_ms", 0.0) for now in after),
        "late_max_ms": max(now.get("late_max_ms", 0.0) for now in after),
        "late_share": late / max(1, released),
        "run_queue_max_ms": max(now.get("run_queue_max_ms", 0.0) for now in after),
        "priority": after[0].get("priority", "in the kernel"),
    }


def crowded(nodes: int, busy: int, profile: str, engine: str, seconds: float) -> dict[str, dict[str, Any]]:
    """The same measurement without trainers, with them, and without them again."""
    with shaped(nodes, profile, engine) as (agents, plans):
        found = {"no trainers": measure(agents, plans, seconds)}
        with trainers(busy):
            time.sleep(1.0)  # until the scheduler has shared the processors out
            found[f"{busy} trainers"] = measure(agents, plans, seconds)
        found["no trainers again"] = measure(agents, plans, seconds)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Delays of links while trainers crowd the processors.")
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--trainers", type=int, default=8)
    parser.add_argument("--profile", default="demo-10mbit")
    parser.add_argument("--engine", choices=["auto", "netem", "nfqueue"], default="auto")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    engine = choose_engine(options.engine)
    load = os.getloadavg()[0]
    found = crowded(options.nodes, options.trainers, options.profile, engine, options.seconds)
    planned_ms = load_profile(options.profile).delay_ms
    allowed_ms = max(TOLERANCES.delay_ms, TOLERANCES.delay_share * planned_ms)
    title = f"One-way delay of {options.profile} ({planned_ms:g} ms), ring of {options.nodes}, engine {engine}"
    priority = found["no trainers"]["priority"]
    table = Table(title=f"{title} ({priority}), {os.cpu_count()} CPUs, load before {load:.1f}", title_justify="left")
    headings = (
        "",
        "echoes",
        "median",
        "95%",
        "99%",
        "most",
        "engine late, p99",
        "most",
        "over 1 ms",
        "longest wait",
        "",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, row in found.items():
        within = abs(row["p50_ms"] - planned_ms) <= allowed_ms and row["late_share"] <= TOLERANCES.late_packets_share
        table.add_row(
            name,
            str(row["echoes"]),
            *(f"{row[key]:.2f} ms" for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms", "late_p99_ms", "late_max_ms")),
            f"{row['late_share']:.2%}",
            f"{row['run_queue_max_ms']:.2f} ms",
            "within tolerance" if within else "OUTSIDE TOLERANCE",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
