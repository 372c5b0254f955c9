"""Cost of the certificate: seconds to measure all links of 4, 8 and 16 nodes, in a ring and in a complete graph.

    python bench/certificate.py [--nodes 4 8 16] [--profile demo-10mbit] [--engine auto] [--repeat 1]

Builds the network in a sandbox as the link tests do, applies the profile and measures it as a run does before
training: delays of all links, a train over each, every node with all its peers at once. The target is less than 20 s
for 16 nodes in a complete graph, on two cores. Lateness is the share of packets in that time that the link engine
released more than 1 ms late.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table
from support.shaped import shaped

from gannet.netem.links.plan import Edge
from gannet.netem.measure.certificate import Certificate
from gannet.netem.measure.certify import measure_links
from gannet.netem.preflight import choose_engine

TARGET_S = 20.0


@dataclass(frozen=True)
class Measured:
    """One certificate and the machine's load during it."""

    seconds: float
    links: int
    certificate: Certificate
    late_share: float
    cpu_s: float


def topologies(nodes: int) -> dict[str, list[Edge]]:
    """The directed links of a ring and of a complete graph."""
    ring = sorted({(a, (a + step) % nodes) for a in range(nodes) for step in (1, nodes - 1)})
    return {"ring": ring, "complete": list(permutations(range(nodes), 2))}


def measure(nodes: int, profile: str, engine: str, edges: list[Edge]) -> Measured:
    """Build the network, apply the links, certify them."""
    with shaped(nodes, profile, engine) as (agents, plans):
        before = [agent.request("counters") for agent in agents]
        idle_s = idle_seconds()
        certificate = measure_links(dict(enumerate(agents)), plans, edges)
        assert certificate.seconds is not None
        spent_s = (os.cpu_count() or 1) * certificate.seconds - (idle_seconds() - idle_s)
        after = [agent.request("counters") for agent in agents]
        released, late = (
            sum(now.get(name, 0) - then.get(name, 0) for then, now in zip(before, after, strict=True))
            for name in ("released", "late")
        )
    return Measured(certificate.seconds, len(edges), certificate, late / max(1, released), spent_s)


def idle_seconds() -> float:
    """CPU seconds that this machine has idled (or waited for disks) since it runs, all CPUs together."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Seconds that the certificate takes.")
    parser.add_argument("--nodes", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--profile", default="demo-10mbit")
    parser.add_argument("--engine", choices=["auto", "netem", "nfqueue"], default="auto")
    parser.add_argument("--topologies", nargs="+", default=["ring", "complete"], choices=["ring", "complete"])
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args()
    engine, console = choose_engine(options.engine), Console()
    title = f"Certificate of {options.profile}, engine {engine}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    table = Table(title=title, title_justify="left")
    headings = ("nodes", "links", "fans", "seconds", "of 20 s", "CPU", "widest delay ±", "widest rate ±", "late", "")
    for heading in headings:
        table.add_column(heading, justify="right")
    for nodes in options.nodes:
        for name in options.topologies:
            edges = topologies(nodes)[name]
            runs = [measure(nodes, options.profile, engine, edges) for _ in range(options.repeat)]
            seconds = median(run.seconds for run in runs)
            worst = runs[0].certificate
            delays = [(b - a) / 2 for e in worst.edges if e.delay_interval_ms for a, b in [e.delay_interval_ms]]
            rates = [
                (b - a) / 2 / e.expected_rate_bps
                for e in worst.edges
                if e.rate_interval_bps and e.expected_rate_bps
                for a, b in [e.rate_interval_bps]
            ]
            table.add_row(
                f"{nodes} {name}",
                str(len(edges)),
                str(len(worst.fans)),
                f"{seconds:.1f}",
                f"{seconds / TARGET_S:.2f}",
                f"{median(run.cpu_s for run in runs) / seconds:.0%}",
                f"{max(delays):.2f} ms" if delays else "–",
                f"{max(rates):.1%}" if rates else "–",
                f"{max(run.late_share for run in runs):.2%}",
                "trusted" if all(run.certificate.trusted for run in runs) else "UNTRUSTED",
            )
            for run in runs:
                for reason in run.certificate.reasons[:5]:
                    console.print(f"{nodes} {name}: {reason}", style="red", markup=False)
    console.print(table)


if __name__ == "__main__":
    main()
