"""Accuracy and cost of emulated links: this project's engines compared with common alternatives.

    python bench/links.py                   # engine nfqueue and a Python prototype
    python bench/links.py --engine netem    # engine netem and plain tc, where the kernel has sch_netem
    python bench/links.py --vm              # the same anywhere, in a machine that qemu emulates
    python bench/links.py --only apply --nodes 16

One table each: `links` (goodput by iperf3 and one-way delay by a plain echo, against the configured values; the
maximum, on unlimited links; processor time of engine processes, of the kernel's softirq and of the whole machine),
`peers` (the same with 2 to 64 peers in the plan), `rates` (what it costs that each of their paths has a rate of its
own, or that all share one) and `apply` (seconds until a plan is applied and read back at 16
nodes). Mininet's own test suite allows ±20% of rate and delay.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from support import pages
from support.in_vm import said_in_vm
from support.links_lab import (
    DEVICE,
    PAYLOAD_BYTES,
    Carried,
    Engine,
    Lab,
    Nothing,
    OneSharedLink,
    PairRates,
    PlainNetem,
    PlainPeers,
    Prototype,
    carry,
    plain_netem,
    plans_of,
)

from gannet.fabrics.links.agent_pool import AgentPool
from gannet.netem.agent.client import AgentClient
from gannet.netem.preflight import EngineUnavailable, choose_engine
from gannet.netem.sandbox import Sandbox

PARTS = ("links", "peers", "rates", "apply")
# Share of TCP's payload, with timestamps, in a frame of 1514 bytes as shapers count it.
TCP_SHARE = 1448 / 1514
MININET_SHARE = 0.20
# Rate in Mbit/s (None: no limit, the ceiling) and one-way delay in ms.
LINKS: list[tuple[float | None, float]] = [(1, 100), (10, 25), (100, 10), (500, 5), (None, 5)]
_PEERS_BPS, _PEERS_DELAY_MS = "50M", 10.0
_RATES_BPS, _RATES_LOOKS = 100_000_000, 3
_EMULATED = ("QEMU TCG CPU", "QEMU Virtual CPU")  # as /proc/cpuinfo names processors that qemu emulates


def main() -> None:
    """Measure, print the tables and write them to bench/results."""
    options = parse()
    console = Console(highlight=False, stderr=options.json)
    console.width = max(console.width, 172)
    if options.vm:
        result = said_in_vm(__file__, [*(word for word in sys.argv[1:] if word != "--vm"), "--engine", "netem"])
    else:
        result = measure(options, console)
    if options.json:
        print(json.dumps(result))
        return
    show(result, console)
    name = "links" if result["engine"] == "nfqueue" else f"links-{result['engine']}"
    pages.leave(options.out, name, result, markdown(result))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.allow_abbrev = False  # `--vm` is taken off the command line by name
    parser.add_argument("--engine", choices=["auto", "netem", "nfqueue"], default="auto")
    parser.add_argument("--vm", action="store_true", help="engine netem under Debian's kernel, emulated by qemu")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help="which tables")
    parser.add_argument("--rates", type=float, nargs="+", help="Mbit/s of the table `links`; 0 is the ceiling")
    parser.add_argument("--seconds", type=int, default=5, help="of each iperf3")
    parser.add_argument("--peers", type=int, nargs="+", default=[2, 8, 16, 32, 64])
    parser.add_argument("--nodes", type=int, default=16, help="of the table `apply`")
    parser.add_argument("--repeat", type=int, default=5, help="changes of each kind in the table `apply`")
    parser.add_argument("--out", type=Path, default=pages.RESULTS, help="folder for links.json and links.md")
    parser.add_argument("--json", action="store_true", help="nothing but the figures, as one line, to stdout")
    options = parser.parse_args()
    if options.vm and options.engine == "nfqueue":
        parser.error("--vm is for engine netem: the other runs without it")
    if unknown := set(options.rates or ()) - {rate_mbps or 0 for rate_mbps, _ in LINKS}:
        parser.error(f"--rates: {unknown.pop():g} is not among {', '.join(f'{rate or 0:g}' for rate, _ in LINKS)}")
    if min([options.seconds, options.repeat, options.nodes - 1, *(peers - 1 for peers in options.peers)]) < 1:
        parser.error("needs --seconds and --repeat above 0, --nodes and --peers of at least 2")
    options.out = options.out.absolute()
    return options


def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All tables that are wanted."""
    try:
        engine = choose_engine(options.engine)
    except EngineUnavailable as error:
        raise SystemExit(f"{error}; or --vm, for engine netem in an emulated machine") from error
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "links": lambda: links(engine, options, console),
        "peers": lambda: peers(engine, options, console),
        "rates": lambda: rates(engine, options, console),
        "apply": lambda: apply(engine, options, console),
    }
    begin: dict[str, Any] = {"engine": engine, "kernel": os.uname().release, "cpus": os.cpu_count()}
    begin |= {"emulated": any(map(Path("/proc/cpuinfo").read_text().__contains__, _EMULATED))}
    begin |= {"seconds": options.seconds, "nodes": options.nodes, "load_before": os.getloadavg()[0]}
    found = {name: parts[name]() for name in PARTS if name in options.only}
    return {**begin, "load_after": os.getloadavg()[0], **found}


def links(engine: str, options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Every contestant on every link, side by side."""
    rows: list[Carried] = []
    with Sandbox() as sandbox:
        lab = Lab(sandbox, 2)
        ours = Engine(lab, engine)
        # The prototype needs NFQUEUE and plain netem needs sch_netem, so each engine has its own counterpart.
        beside: Nothing = Prototype(lab) if engine == "nfqueue" else PlainNetem(lab)
        for rate_mbps, delay_ms in LINKS:
            if options.rates and (rate_mbps or 0) not in options.rates:
                continue
            rate_bps = None if rate_mbps is None else round(rate_mbps * 1e6)
            for who in (ours, beside, Nothing(lab)):
                console.print(f"{who.name}: {rate_mbps or 'unlimited'} Mbit/s, {delay_ms:g} ms", markup=False)
                flows = 4 if rate_bps is None or rate_bps > 100e6 else 1
                load = ["-P", str(flows), "-O", "1"]
                if rate_bps is not None and who.name == Nothing.name:
                    load += ["-b", str(round(TCP_SHARE * rate_bps / flows))]  # nothing else holds it back
                rows.append(carry(who, rate_bps, delay_ms, load, options.seconds))
        ours.close()
    return [row.to_json() for row in rows]


def peers(engine: str, options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """A plan of more and more peers, and always the same load, from the peer that is last in it."""
    rows = []
    load = ["-u", "-b", _PEERS_BPS, "-l", str(PAYLOAD_BYTES)]
    for count in options.peers:
        console.print(f"{count} peers", markup=False)
        with Sandbox() as sandbox:
            lab = Lab(sandbox, count + 1)
            ours = Engine(lab, engine)
            for who in (ours, *([PlainPeers(lab), Nothing(lab)] if engine == "netem" else [])):
                carried = carry(who, None, _PEERS_DELAY_MS, load, options.seconds, sender=count)
                rows.append({"peers": count, **carried.to_json()})
            ours.close()
    return rows


def rates(engine: str, options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """The same load, with nodes' rates alone, with one for each pair, and with a link that all share, in turns."""
    rows = []
    cost = "us_per_packet" if engine == "nfqueue" else "us_per_frame"
    load = ["-u", "-b", _PEERS_BPS, "-l", str(PAYLOAD_BYTES)]
    for count in options.peers:
        console.print(f"{count} peers with rates", markup=False)
        with Sandbox() as sandbox:
            lab = Lab(sandbox, count + 1)
            kinds = [Engine(lab, engine), PairRates(lab, engine), OneSharedLink(lab, engine)]
            looks: dict[str, list[dict[str, Any]]] = {who.name: [] for who in kinds}
            for _ in range(_RATES_LOOKS):
                for who in kinds:
                    carried = carry(who, _RATES_BPS, _PEERS_DELAY_MS, load, options.seconds, sender=count)
                    looks[who.name].append(carried.to_json())
            for who in kinds:
                who.close()
            rows += [{"peers": count, "cost": cost, **_middle(found, cost)} for found in looks.values()]
    return rows


def _middle(looks: list[dict[str, Any]], cost: str) -> dict[str, Any]:
    """The look with the median cost."""
    return sorted(looks, key=lambda look: float(look[cost]))[len(looks) // 2]


def rates_rows(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table `rates` as text, with costs against those of as many peers with the nodes' rates alone."""
    first = {row["peers"]: row[row["cost"]] for row in reversed(rows)}
    return [
        (
            str(row["peers"]), row["who"], f"{row['goodput_bps'] / 1e6:.1f}", f"{row['one_way_ms']:.2f}",
            f"{row[row['cost']]:.1f}", f"{row[row['cost']] / first[row['peers']]:.2f}",
        )
        for row in rows
    ]  # fmt: skip


def apply(engine: str, options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Seconds from the order to the last node's read-back, all nodes at once, as a run does it."""
    world = options.nodes
    console.print(f"plans of {world} nodes", markup=False)
    took: dict[str, list[float]] = {"fresh": [], "everything changes": [], "only rates change": []}
    with Sandbox() as sandbox:
        Lab(sandbox, world)  # builds the network; no node sends
        if engine == "netem":
            took["plain tc, one netem a node"] = plain_apply(sandbox, options)
        agents = [AgentClient.spawn(sandbox.prefix(f"node{rank}"), f"node {rank}") for rank in range(world)]
        pool = AgentPool(agents, lambda rank, why: None)

        def order(what: str, rate_bps: int, delay_ms: float) -> None:
            begin = time.monotonic()
            for done in pool.apply(engine, plans_of(world, rate_bps, delay_ms)):
                if not done.ok:
                    raise RuntimeError(f"node {done.rank}: {done.complaint}")
            took[what].append(time.monotonic() - begin)

        for number in range(options.repeat):
            for agent in agents:
                agent.request("clear")
            order("fresh", 10_000_000, 25)
            order("everything changes", 20_000_000 + number, 5 + number)
            order("only rates change", 15_000_000 + number, 5 + number)
        pool.close()
        for agent in agents:
            agent.close()
    return [{"what": what, "seconds": seconds, "median_s": median(seconds)} for what, seconds in took.items()]


def plain_apply(sandbox: Sandbox, options: argparse.Namespace) -> list[float]:
    """Seconds of the one tc command that gives a node the same rate and delay to all, at all nodes at once."""
    took = []
    for number in range(options.repeat):
        command = plain_netem(10_000_000 + number, 25 + number).split()
        begin = time.monotonic()
        running = [subprocess.Popen([*sandbox.prefix(f"node{rank}"), *command]) for rank in range(options.nodes)]
        statuses = [process.wait() for process in running]
        if any(statuses):
            raise RuntimeError(f"{' '.join(command)} failed")
        took.append(time.monotonic() - begin)
    for rank in range(options.nodes):
        sandbox.run(f"tc qdisc del dev {DEVICE} root", f"node{rank}")
    return took


def links_rows(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table `links` as text; ÷ compares the same link's first contestant, which is the engine, with each."""
    first = {(row["rate_bps"], row["delay_ms"]): row for row in reversed(rows)}
    lines: list[tuple[str, ...]] = []
    for row in rows:
        rate_bps, ours = row["rate_bps"], first[row["rate_bps"], row["delay_ms"]]
        off = row["one_way_ms"] - (0 if row["who"] == Nothing.name else row["delay_ms"])
        nominal = "–" if rate_bps is None or row["who"] == Nothing.name else f"{100 * off_rate(row):+.1f}%"
        beside = "–" if row is ours else f"{ours['goodput_bps'] / row['goodput_bps']:.2f}"
        cost = "–" if row is ours else f"{ours['us_per_frame'] / row['us_per_frame']:.2f}"
        lines.append((
            "no limit" if rate_bps is None else f"{rate_bps / 1e6:g}", f"{row['delay_ms']:g}", row["who"],
            f"{row['goodput_bps'] / 1e6:.2f}", nominal, beside, f"{row['one_way_ms']:.2f}", f"{off:+.2f}",
            f"{100 * row['processes_share']:.0f}%", f"{100 * row['softirq_share']:.0f}%",
            f"{row['us_per_packet']:.1f}", f"{100 * row['machine_share']:.0f}%", f"{row['us_per_frame']:.1f}", cost,
        ))  # fmt: skip
    return lines


def off_rate(row: dict[str, Any]) -> float:
    """Relative deviation of goodput from the TCP payload rate that the configured rate allows."""
    return float(row["goodput_bps"] / (TCP_SHARE * row["rate_bps"]) - 1)


def peers_rows(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table `peers` as text, with costs against those of the same contestant with the fewest peers.

    Every datagram is a frame. The cost of engine netem shows in the whole machine's time only.
    """
    cost = "us_per_packet" if rows[0]["who"] == "engine nfqueue" else "us_per_frame"
    first = {row["who"]: row[cost] for row in reversed(rows)}
    return [
        (
            str(row["peers"]), row["who"], f"{row['goodput_bps'] / 1e6:.1f}", f"{row['one_way_ms']:.2f}",
            f"{row[cost]:.1f}", f"{row[cost] / first[row['who']]:.2f}",
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
         "softirq", "µs a packet", "machine", "µs a frame", "cost ÷ its"),
        links_rows,
    ),
    "peers": (("peers", "links by", "Mbit/s", "one way ms", "µs a packet", "÷ fewest"), peers_rows),
    "rates": (("peers", "links by", "Mbit/s", "one way ms", "µs a packet", "÷ nodes' rates alone"), rates_rows),
    "apply": (("plan", "median s (min–max)"), apply_rows),
}  # fmt: skip


def caption(result: dict[str, Any]) -> str:
    """The conditions that the figures hold for."""
    ours = [row for row in result.get("links", ()) if row["who"].startswith("engine")]
    rates = [abs(off_rate(row)) for row in ours if row["rate_bps"] is not None]
    delays = [abs(row["one_way_ms"] / row["delay_ms"] - 1) for row in ours]
    worst = f"; the engine's worst are {100 * max(rates):.1f}% and {100 * max(delays):.1f}%" if rates else ""
    machine = ", emulated (its clock counts instructions: compare ratios)" if result["emulated"] else ""
    return (
        f"Engine {result['engine']}, kernel {result['kernel']}{machine}, {result['cpus']} CPUs, load "
        f"{result['load_before']:.1f} before and {result['load_after']:.1f} after; iperf3 of {result['seconds']} s; "
        "shares of one processor, both ends together, softirq and machine of the whole machine; plans of "
        f"{result['nodes']} nodes. Mininet's tests allow ±{100 * MININET_SHARE:.0f}% of rate and delay{worst}."
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
        text.append(pages.table(headings, rows(result[name])))
    return "\n\n".join([*text, caption(result)]) + "\n"


if __name__ == "__main__":
    main()
