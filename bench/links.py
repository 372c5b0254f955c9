"""What emulated links are worth and what they cost: this project's engines beside what one would do without it.

    python bench/links.py                   # engine nfqueue beside a Python prototype
    python bench/links.py --engine netem    # engine netem beside plain tc, where the kernel has sch_netem
    python bench/links.py --only apply --nodes 16

One table each: `links` (goodput by iperf3 and one-way delay by a plain echo, against what was ordered; the ceiling,
unlimited links; processor time of engine processes and of the kernel's softirq), `peers` (the same with 2 to 64 peers
in the plan) and `apply` (seconds until a plan is in force and read back at 16 nodes). Mininet's own test suite
allows ±20% of rate and delay.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from support.links_lab import Carried, Engine, Lab, Nothing, PlainNetem, Prototype, carry, plans_of

from cluster.crew import Crew
from netem.agent_client import AgentClient
from netem.preflight import choose_engine
from netem.sandbox import Sandbox

RESULTS = Path(__file__).parent / "results"
PARTS = ("links", "peers", "apply")
# Of a frame of 1514 bytes, as shapers count it, TCP's payload with timestamps.
TCP_SHARE = 1448 / 1514
MININET_SHARE = 0.20
# Rate in Mbit/s (None: no limit, the ceiling) and one-way delay in ms.
LINKS: list[tuple[float | None, float]] = [(1, 100), (10, 25), (100, 10), (500, 5), (None, 5)]
_PEERS_BPS, _PEERS_DELAY_MS = "50M", 10.0


def main() -> None:
    """Measure, print the tables and write them to bench/results."""
    options = parse()
    console = Console(highlight=False)
    console.width = max(console.width, 136)
    result = measure(options, console)
    show(result, console)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "links.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / "links.md").write_text(markdown(result))
    console.print(f"wrote {options.out / 'links'}.json and .md", soft_wrap=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["auto", "netem", "nfqueue"], default="auto")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help="which tables")
    parser.add_argument("--seconds", type=int, default=5, help="of each iperf3")
    parser.add_argument("--peers", type=int, nargs="+", default=[2, 8, 16, 32, 64])
    parser.add_argument("--nodes", type=int, default=16, help="of the table `apply`")
    parser.add_argument("--repeat", type=int, default=5, help="changes of each kind in the table `apply`")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for links.json and links.md")
    options = parser.parse_args()
    if min([options.seconds, options.repeat, options.nodes - 1, *(peers - 1 for peers in options.peers)]) < 1:
        parser.error("needs --seconds and --repeat above 0, --nodes and --peers of at least 2")
    options.out = options.out.absolute()
    return options


def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All tables that are wanted."""
    engine = choose_engine(options.engine)
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "links": lambda: links(engine, options, console),
        "peers": lambda: peers(engine, options, console),
        "apply": lambda: apply(engine, options, console),
    }
    begin = {"engine": engine, "kernel": os.uname().release, "cpus": os.cpu_count()}
    begin |= {"seconds": options.seconds, "nodes": options.nodes, "load_before": os.getloadavg()[0]}
    found = {name: parts[name]() for name in PARTS if name in options.only}
    return {**begin, "load_after": os.getloadavg()[0], **found}


def links(engine: str, options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Every contestant on every link, side by side."""
    rows: list[Carried] = []
    with Sandbox() as sandbox:
        lab = Lab(sandbox, 2)
        ours = Engine(lab, engine)
        # The prototype needs NFQUEUE and plain netem needs sch_netem; each engine stands beside its own.
        beside: Nothing = Prototype(lab) if engine == "nfqueue" else PlainNetem(lab)
        for rate_mbps, delay_ms in LINKS:
            rate_bps = None if rate_mbps is None else round(rate_mbps * 1e6)
            for who in (ours, beside, *([Nothing(lab)] if rate_bps is None else [])):
                console.print(f"{who.name}: {rate_mbps or 'unlimited'} Mbit/s, {delay_ms:g} ms", markup=False)
                flows = ["-P", "4", "-O", "1"] if rate_bps is None or rate_bps > 100e6 else ["-O", "1"]
                rows.append(carry(who, rate_bps, delay_ms, flows, options.seconds))
        ours.close()
    return [row.to_json() for row in rows]


def peers(engine: str, options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """A plan of more and more peers, and always the same load, from the peer that is last in it."""
    rows = []
    for count in options.peers:
        console.print(f"{count} peers", markup=False)
        with Sandbox() as sandbox:
            lab = Lab(sandbox, count + 1)
            ours = Engine(lab, engine)
            load = ["-u", "-b", _PEERS_BPS, "-l", "1448"]
            carried = carry(ours, None, _PEERS_DELAY_MS, load, options.seconds, sender=count)
            rows.append({"peers": count, **carried.to_json()})
            ours.close()
    return rows


def apply(engine: str, options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Seconds from the order to the last node's read-back, all nodes at once, as a run does it."""
    world = options.nodes
    console.print(f"plans of {world} nodes", markup=False)
    took: dict[str, list[float]] = {"fresh": [], "everything changes": [], "only rates change": []}
    with Sandbox() as sandbox:
        Lab(sandbox, world)  # builds the network; nobody sends
        agents = [AgentClient.spawn(sandbox.prefix(f"node{rank}"), f"node {rank}") for rank in range(world)]
        crew = Crew(agents, lambda rank, why: None)

        def order(what: str, rate_bps: int, delay_ms: float) -> None:
            begin = time.monotonic()
            for done in crew.put_in_force(engine, plans_of(world, rate_bps, delay_ms)):
                if not done.ok:
                    raise RuntimeError(f"node {done.rank}: {done.complaint}")
            took[what].append(time.monotonic() - begin)

        for number in range(options.repeat):
            for agent in agents:
                agent.request("clear")
            order("fresh", 10_000_000, 25)
            order("everything changes", 20_000_000 + number, 5 + number)
            order("only rates change", 15_000_000 + number, 5 + number)
        crew.close()
        for agent in agents:
            agent.close()
    return [{"what": what, "seconds": seconds, "median_s": median(seconds)} for what, seconds in took.items()]


def links_rows(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table `links` as text; ÷ compares goodput with the same link's first contestant: that is the engine."""
    first = {(row["rate_bps"], row["delay_ms"]): row for row in reversed(rows)}
    lines = []
    for row in rows:
        rate_bps, ours = row["rate_bps"], first[row["rate_bps"], row["delay_ms"]]
        off = row["one_way_ms"] - (0 if row["who"] == Nothing.name else row["delay_ms"])
        nominal = "–" if rate_bps is None else f"{100 * (row['goodput_bps'] / (TCP_SHARE * rate_bps) - 1):+.1f}%"
        beside = "–" if row is ours else f"{ours['goodput_bps'] / row['goodput_bps']:.2f}"
        lines.append((
            "no limit" if rate_bps is None else f"{rate_bps / 1e6:g}", f"{row['delay_ms']:g}", row["who"],
            f"{row['goodput_bps'] / 1e6:.2f}", nominal, beside, f"{row['one_way_ms']:.2f}", f"{off:+.2f}",
            f"{100 * row['processes_share']:.0f}%", f"{100 * row['softirq_share']:.0f}%",
            f"{row['us_per_packet']:.1f}",
        ))  # fmt: skip
    return lines


def peers_rows(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table `peers` as text, with the cost of a packet against that with the fewest peers."""
    return [
        (
            str(row["peers"]), f"{row['goodput_bps'] / 1e6:.1f}", f"{row['one_way_ms']:.2f}",
            f"{row['us_per_packet']:.1f}", f"{row['us_per_packet'] / rows[0]['us_per_packet']:.2f}",
        )
        for row in rows
    ]  # fmt: skip


def apply_rows(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table `apply` as text."""
    return [
        (row["what"], f"{row['median_s']:.3f} ({min(row['seconds']):.3f}–{max(row['seconds']):.3f})") for row in rows
    ]


TABLES: dict[str, tuple[tuple[str, ...], Callable[[list[dict[str, Any]]], list[tuple[str, ...]]]]] = {
    "links": (
        ("Mbit/s", "ms", "links by", "goodput", "of TCP's share", "engine ÷ it", "one way ms", "off ms", "processes",
         "softirq", "µs a packet"),
        links_rows,
    ),
    "peers": (("peers", "Mbit/s", "one way ms", "µs a packet", "÷ fewest"), peers_rows),
    "apply": (("plan", "median s (min–max)"), apply_rows),
}  # fmt: skip


def caption(result: dict[str, Any]) -> str:
    """What the figures hold for."""
    return (
        f"Engine {result['engine']}, kernel {result['kernel']}, {result['cpus']} CPUs, load "
        f"{result['load_before']:.1f} before and {result['load_after']:.1f} after; iperf3 of {result['seconds']} s; "
        "shares of one processor, both ends together, softirq of the whole machine; plans of "
        f"{result['nodes']} nodes. Mininet's tests allow ±{100 * MININET_SHARE:.0f}% of rate and delay."
    )


def show(result: dict[str, Any], console: Console) -> None:
    """The tables on the terminal."""
    for name in (name for name in PARTS if name in result):
        headings, rows = TABLES[name]
        table = Table(title=name, caption=caption(result) if name == PARTS[0] else None)
        for heading in headings:
            table.add_column(heading, justify="left" if heading in ("links by", "plan") else "right", no_wrap=True)
        for row in rows(result[name]):
            table.add_row(*row)
        console.print(table)


def markdown(result: dict[str, Any]) -> str:
    """The same tables for a document."""
    text = []
    for name in (name for name in PARTS if name in result):
        headings, rows = TABLES[name]
        lines = [headings, tuple("---" for _ in headings), *rows(result[name])]
        text.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join([*text, caption(result)]) + "\n"


if __name__ == "__main__":
    main()
