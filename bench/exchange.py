"""Duration of each collective over shaped links, compared with the lower bound and with gloo.

Measures the exchange that training uses (dp-oadam's gossip round on a ring, cp-oadam's server average and
ring all-reduce) and torch.distributed's gloo all-reduce of the same vector: one process per node, on the
same links, in alternation. Links are emulated by the project's agents and measured first.

    python bench/exchange.py                        # 10 and 100 Mbit/s, 25 ms one way, 4 nodes, 0.99 MB
    python bench/exchange.py --rates 1000 --delay-ms 5 --repeat 9
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from statistics import median
from typing import Any

from support.pages import RESULTS, leave, table

from gannet.fabrics.namespaces import sandbox

METHODS = {
    "gossip": "gossip round, ring",
    "server": "server average",
    "ring": "ring all-reduce",
    "gloo": "gloo all-reduce",
}


def main() -> None:
    """Measure at every rate, print the tables and write them to bench/results."""
    options = parse()
    sandbox.enter()  # before torch starts a thread
    # Both talk of addresses without names and of connections that end, which is as it should be here.
    os.environ |= {"GRPC_VERBOSITY": "ERROR", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    from rich.console import Console

    from gannet.netem.preflight import choose_engine

    console = Console(highlight=False)
    console.width = max(console.width, 112)  # the table's
    begin: dict[str, Any] = {"engine": choose_engine(options.engine), "load_before": os.getloadavg()[0]}
    agents = build_network(options.nodes)
    rates = [measure_rate(options, rate, begin["engine"], agents, console) for rate in options.rates]
    for agent in agents:
        agent.close()
    check_rates(rates)
    result = {
        **begin,
        "load_after": os.getloadavg()[0],
        "cpus": os.cpu_count(),
        "options": {"nodes": options.nodes, "values": options.values, "delay_ms": options.delay_ms,
                    "repeat": options.repeat},
        "rates": rates,
    }  # fmt: skip
    show(result, console)
    leave(options.out, "exchange", result, markdown(result))


def parse() -> argparse.Namespace:
    """The command line; mistakes end the program with one message."""
    parser = parser_of(__doc__, "exchange", repeat=7)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--exchange", type=override, nargs="*", metavar="KEY=NUMBER",
                        help="override limits of the exchange, for example segment_bytes=16384")  # fmt: skip
    parser.add_argument("--engine", choices=["auto", "netem", "nfqueue"], default="auto")
    return parsed(parser, least_repeat=1)


def parser_of(about: str | None, name: str, repeat: int) -> argparse.ArgumentParser:
    """What every benchmark of exchanges takes; `name`: of its results."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[10, 100], help="link rates, Mbit/s")
    parser.add_argument("--delay-ms", type=float, default=25, help="one-way delay of every link")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--values", type=int, default=247_500, help="length of the float32 vector")
    parser.add_argument("--repeat", type=int, default=repeat, help="rounds of each at each rate")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"folder for {name}.json and {name}.md")
    return parser


def parsed(parser: argparse.ArgumentParser, least_repeat: int) -> argparse.Namespace:
    """The command line; mistakes end the program with one message."""
    options = parser.parse_args()
    few = options.nodes < 2 or options.values < options.nodes or options.repeat < least_repeat
    if few or min(options.rates) <= 0:
        parser.error(
            f"needs --nodes of at least 2, no fewer --values than nodes, --repeat of at least {least_repeat}, and "
            "--rates above 0"
        )
    options.out = options.out.absolute()
    return options


def override(text: str) -> tuple[str, float]:
    """KEY=NUMBER of the command line."""
    key, _, value = text.partition("=")
    return key, float(value)


def build_network(world: int) -> list[Any]:
    """A namespace for each node on one bridge, as the namespaces fabric makes them; returns their agents."""
    from gannet.fabrics import addresses as layout
    from gannet.fabrics.namespaces.ip import ip
    from gannet.netem.agent.client import AgentClient

    ip(layout.build_hub())
    ip([command for rank in range(world) for command in layout.build_node(rank)])
    names = [layout.node_namespace(rank) for rank in range(world)]
    return [AgentClient.spawn(("nsenter", f"--net=/run/netns/{name}", "--"), f"agent of {name}") for name in names]


def measure_rate(
    options: argparse.Namespace, rate_mbps: float, engine: str, agents: list[Any], console: Any
) -> dict[str, Any]:
    """Apply and certify the links, start the processes, run rounds in alternation, end the processes."""
    from support import exchange_nodes

    from gannet.fabrics import addresses as layout
    from gannet.fabrics.links.agent_pool import AgentPool
    from gannet.fabrics.links.monitor import link_line
    from gannet.fabrics.session.deadlines import exchange_config
    from gannet.netem.links.plan import network_plan
    from gannet.netem.links.profile import LinkProfile
    from gannet.netem.links.stack import Stack
    from gannet.netem.measure.certificate import run_reasons
    from gannet.netem.measure.certify import measure_links

    world, rate_bps, delay_ms = options.nodes, round(rate_mbps * 1e6), options.delay_ms
    profile = LinkProfile(up_bps=rate_bps, down_bps=rate_bps, up_delay_ms=delay_ms, down_delay_ms=delay_ms)
    addresses = [layout.mesh_address(rank) for rank in range(world)]
    plans = network_plan(profile, {}, {}, addresses, layout.MESH_DEVICE)
    pool = AgentPool(agents, on_lost=lambda rank, why: None)
    for done in pool.apply(engine, plans):
        if not done.ok:
            raise RuntimeError(f"links of node {done.rank}: {done.complaint}")
    pool.close()
    for agent in agents:
        agent.request("stack", **Stack().model_dump())
    traffic = {name: traffic_of(name, world, options.values) for name in options.methods}
    edges = sorted({edge for carried in traffic.values() for edge in carried.edges})
    certificate = measure_links(dict(enumerate(agents)), plans, edges)

    exchange = exchange_config(4 * options.values, world, rate_bps, delay_ms, loss_percent=0.0, compute_s=5.0)
    if options.exchange:
        exchange = exchange.model_validate(exchange.model_dump() | dict(options.exchange))
    sides = {
        name: exchange_nodes.start([
            exchange_nodes.Setup(name, rank, world, options.values, traffic[name].edges, exchange, tls, names)
            for rank, (tls, names) in enumerate(credentials_of(name, world))
        ])
        for name in options.methods
    }  # fmt: skip
    rounds: dict[str, list[Any]] = {name: [] for name in options.methods}
    for agent in agents:
        agent.request("counters")  # lateness counts from here
    for number in range(options.repeat + 1):
        for name in options.methods:
            answers = exchange_nodes.measure(sides[name])
            if number:  # the first round of each opens TCP's and HTTP/2's windows
                rounds[name].append(answers)
            time.sleep(0.1)
    counters = [agent.request("counters") for agent in agents]
    for node in (node for nodes in sides.values() for node in nodes):
        node.end()
    for reason in run_reasons(dict(enumerate(counters))):
        certificate.add_reason(reason)
    verdict = "trusted" if certificate.trusted else f"UNTRUSTED: {'; '.join(certificate.reasons)}"
    console.print(f"{rate_mbps:g} Mbit/s, {delay_ms:g} ms one way: links {verdict}", soft_wrap=True)
    return {
        "rate_mbps": rate_mbps,
        "exchange": exchange.model_dump(),
        "certificate": certificate.to_json(),
        "links": [link_line(counted) for counted in counters],
        "methods": {
            name: summarise(name, rounds[name], traffic[name], plans, rounds.get("gloo")) for name in options.methods
        },
    }


def credentials_of(method: str, world: int) -> list[tuple[Any, tuple[str, ...]]]:
    """For each rank, its credentials and the names of all certificates; nothing for a method without encryption."""
    from datetime import timedelta

    from support.exchange_nodes import TLS

    from gannet.certs.run_authority import RunAuthority
    from gannet.node.exchange.tls import NodeKey

    if not method.endswith(TLS):
        return [(None, ())] * world
    authority, keys = RunAuthority("bench", timedelta(days=1)), [NodeKey() for _ in range(world)]
    certified = [authority.certify(rank, key.request()) for rank, key in enumerate(keys)]
    names = tuple(name for name, _ in certified)
    return [
        (key.credentials(certificate, authority.certificate), names)
        for key, (_, certificate) in zip(keys, certified, strict=True)
    ]


def traffic_of(method: str, world: int, values: int) -> Any:
    """Bytes from each sender to each receiver; gloo's ring carries the same as ours."""
    from gannet.node.config import NodeConfig
    from gannet.node.traffic.exchange import exchange_traffic

    collective = "server" if method.startswith("server") else "ring"
    algorithm = (
        {"name": "dp-oadam"} if method.startswith("gossip") else {"name": "cp-oadam", "collective": collective}
    )
    config = NodeConfig.model_validate({"run": "bench", "algorithm": algorithm, "topology": "ring"})
    return exchange_traffic(config, world, values)


def summarise(name: str, rounds: list[Any], traffic: Any, plans: Any, gloo: list[Any] | None) -> dict[str, Any]:
    """Times of the slowest node in each round, against the bound and against the neighbouring gloo round."""
    from gannet.experiment.bounds import lower_bound

    check(name, rounds)
    times = [max(answer["s"] for answer in answers) for answers in rounds]
    bound = lower_bound(traffic, plans, compute_s=0.0, exchanges_per_step=1, overlap=False)
    busiest_bytes = max(max(traffic.sent), max(traffic.received))
    summary: dict[str, Any] = {
        "seconds": times,
        "median_s": median(times),
        "bound_s": bound.total_s,
        "bound_transfer_s": bound.transfer_s,
        "bound_delay_s": bound.delay_s,
        "to_bound": median(times) / bound.total_s,
        "bytes_of_busiest": busiest_bytes,
        "goodput_mbps": busiest_bytes * 8e-6 / median(times),
        "cpu_s": median(max(answer["cpu_s"] for answer in answers) for answers in rounds),
        "crc32": [answer["crc32"] for answer in rounds[0]],
    }
    if gloo is not None:
        beside = [max(answer["s"] for answer in answers) for answers in gloo]
        summary["to_gloo"] = median(a / b for a, b in zip(times, beside, strict=True))
    return summary


def check(name: str, rounds: list[Any]) -> None:
    """Rounds of one vector must give the same bits every time, and an average the same bits on every node."""
    results = {tuple(answer["crc32"] for answer in answers) for answers in rounds}
    alike = name.startswith(("gossip", "gloo")) or len({answer["crc32"] for answer in rounds[0]}) == 1
    if len(results) != 1 or not alike:
        raise RuntimeError(f"{name}: results differ between rounds or nodes: {results}")


def check_rates(rates: list[dict[str, Any]]) -> None:
    """The project's collectives must give the same bits whatever the links and the segments' sizes."""
    for name in set(rates[0]["methods"]) - {"gloo"}:
        if any(rate["methods"][name]["crc32"] != rates[0]["methods"][name]["crc32"] for rate in rates):
            raise RuntimeError(f"{name}: results differ between rates")


def rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table's lines as text: both tables are made of these."""
    lines: list[tuple[str, ...]] = []
    for rate in result["rates"]:
        for name, m in rate["methods"].items():
            spread = f"{m['median_s']:.3f} ({min(m['seconds']):.3f}–{max(m['seconds']):.3f})"
            to_gloo = f"{m['to_gloo']:.2f}" if "to_gloo" in m and name != "gloo" else "–"
            lines.append((
                f"{rate['rate_mbps']:g}", METHODS[name], spread, f"{m['bound_s']:.3f}", f"{m['to_bound']:.2f}",
                to_gloo, f"{m['goodput_mbps']:.1f}", f"{m['cpu_s']:.3f}",
                "yes" if rate["certificate"]["trusted"] else "NO",
            ))  # fmt: skip
    return lines


HEADINGS = ("Mbit/s", "collective", "median s (min–max)", "bound s", "÷ bound", "÷ gloo", "goodput", "CPU s",
            "trusted")  # fmt: skip


def caption(result: dict[str, Any]) -> str:
    """The conditions that the figures hold for."""
    o = result["options"]
    return (
        f"{o['nodes']} nodes, {4e-6 * o['values']:.2f} MB float32, {o['delay_ms']:g} ms one way, "
        f"{o['repeat']} rounds in alternation, engine {result['engine']}, {result['cpus']} CPUs, "
        f"load {result['load_before']:.1f} before and {result['load_after']:.1f} after. "
        "Goodput: Mbit/s of the busiest node's bytes; CPU: of its process, a round."
    )


def show(result: dict[str, Any], console: Any) -> None:
    """The table on the terminal."""
    from rich.table import Table

    shown = Table(title="Exchange over shaped links", caption=caption(result))
    for heading in HEADINGS:
        shown.add_column(heading, justify="left" if heading == "collective" else "right", no_wrap=True)
    for row in rows(result):
        shown.add_row(*row)
    console.print(shown)


def markdown(result: dict[str, Any]) -> str:
    """The same table for a document."""
    return f"{table(HEADINGS, rows(result))}\n\n{caption(result)}\n"


if __name__ == "__main__":
    main()
