"""What mutual TLS costs an exchange, and so a step at most: gossip and all-reduce with it and without, alternating.

On shaped links, measured first, one process a node; the vector and the processes are those of bench/exchange.py. No
gradient hides or dilutes what is measured, so a step of training, which has both, pays less than the ratio.

    python bench/tls.py                  # 10 and 100 Mbit/s, 25 ms one way, 4 nodes, 0.99 MB
    python bench/tls.py --repeat 31
"""

from __future__ import annotations

import os
from statistics import median
from typing import Any

from exchange import METHODS, build_network, check_rates, measure_rate, parsed, parser_of
from support.pages import leave, table

from gannet.fabrics.namespaces import sandbox

PAIRS = ("gossip", "ring")
HEADINGS = (
    "Mbit/s",
    "collective",
    "plain s",
    "TLS s",
    "TLS ÷ plain (quartiles)",
    "CPU plain s",
    "CPU TLS s",
    "trusted",
)


def main() -> None:
    """Measure at every rate, print the table and write it to bench/results."""
    options = parsed(parser_of(__doc__, "tls", repeat=15), least_repeat=2)
    sandbox.enter()  # before torch starts a thread
    os.environ |= {"GRPC_VERBOSITY": "ERROR", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    from rich.console import Console
    from support.exchange_nodes import TLS

    from gannet.netem.preflight import choose_engine

    console = Console(highlight=False)
    engine, load = choose_engine("auto"), os.getloadavg()[0]
    options.methods, options.exchange = [name + kind for name in PAIRS for kind in ("", TLS)], None
    agents = build_network(options.nodes)
    rates = [measure_rate(options, rate, engine, agents, console) for rate in options.rates]
    for agent in agents:
        agent.close()
    check_same_bits(rates)
    lines = [row(rate, name, TLS) for rate in rates for name in PAIRS]
    caption = (
        f"{options.nodes} nodes, {4e-6 * options.values:.2f} MB float32, {options.delay_ms:g} ms one way, "
        f"{options.repeat} rounds of each in alternation, engine {engine}, {os.cpu_count()} CPUs, load {load:.1f} "
        f"before and {os.getloadavg()[0]:.1f} after. Ratios are of neighbouring rounds; CPU: of the busiest process, "
        "a round."
    )
    text = f"{table(HEADINGS, lines)}\n\n{caption}\n"
    console.print(text, markup=False, soft_wrap=True)
    leave(options.out, "tls", {"rates": rates, "caption": caption}, text)


def check_same_bits(rates: list[dict[str, Any]]) -> None:
    """Encrypted or not, and at every rate."""
    check_rates(rates)
    for name in PAIRS:
        if len({tuple(m["crc32"]) for key, m in rates[0]["methods"].items() if key.startswith(name)}) != 1:
            raise RuntimeError(f"{METHODS[name]}: results differ with TLS")


def row(rate: dict[str, Any], name: str, suffix: str) -> tuple[str, ...]:
    """One line of the table."""
    plain, tls = rate["methods"][name], rate["methods"][name + suffix]
    ratios = sorted(b / a for a, b in zip(plain["seconds"], tls["seconds"], strict=True))
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    return (
        f"{rate['rate_mbps']:g}", METHODS[name], f"{plain['median_s']:.3f}", f"{tls['median_s']:.3f}",
        f"{median(ratios):.3f} ({low:.3f}–{high:.3f})", f"{plain['cpu_s']:.3f}", f"{tls['cpu_s']:.3f}",
        "yes" if rate["certificate"]["trusted"] else "NO",
    )  # fmt: skip


if __name__ == "__main__":
    main()
