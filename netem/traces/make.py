"""Makes the shipped traces: `python -m gannet.netem.traces.make [FOLDER]`. Seeded, so that the files are the same
every time.

They are models, not recordings; the sources of their figures are given with each.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from math import exp, log
from pathlib import Path
from random import Random

from gannet.netem.links.trace_files import TRACE_FOLDER


def _wander(random: Random, steps: int, memory: float, deviation: float) -> Iterator[float]:
    """A stationary autoregressive walk around 0: standard deviation as given, `memory` from one step to the next."""
    value = random.gauss(0, deviation)
    for _ in range(steps):
        yield value
        value = memory * value + random.gauss(0, deviation * (1 - memory**2) ** 0.5)


def lte_drive() -> str:
    """Two minutes of a car in an LTE network: rates that wander by a factor of three, two handovers and a tunnel.

    Rates are log-normal around 12 Mbit/s down and 4 up, with a memory of some ten seconds; delay rises where the rate
    falls, as the base station shares its time (the shape of van der Hooft et al. 2016, 4G bandwidth logs of Ghent).
    """
    random, step_s, steps = Random("lte-drive"), 0.5, 240
    lines = [
        "# source: model of a drive through an LTE network, made by gannet.netem.traces.make",
        f"# duration_s: {step_s * steps:g}",
        "time_s,down_bps,up_bps,delay_ms",
    ]
    walks = zip(_wander(random, steps, 0.95, 0.6), _wander(random, steps, 0.95, 0.45), strict=True)
    for step, (down, up) in enumerate(walks):
        at_s = step * step_s
        down_bps, up_bps = 12e6 * exp(down), 4e6 * exp(up + 0.3 * down)
        delay_ms = 30 + 8 * max(0.0, -log(down_bps / 12e6)) + random.uniform(0, 4)
        if 71 <= at_s < 74:  # the tunnel: nothing passes
            down_bps = up_bps = 0.0
        elif at_s in (32.0, 101.5):  # a handover: half a second at the edge of both cells
            down_bps, up_bps, delay_ms = 0.08 * down_bps, 0.08 * up_bps, delay_ms + 40
        lines.append(f"{at_s:g},{_rounded(down_bps)},{_rounded(up_bps)},{delay_ms:.0f}")
    return "\n".join(lines) + "\n"


def starlink() -> str:
    """Two minutes of a satellite terminal: every 15 s another path, another delay and rate, and a moment of loss.

    The 15 s are those of Starlink's scheduler (Michel et al., IMC 2022; Mohan et al., WWW 2024); rates and delays are
    around those of the profile starlink. Around each change of path 200 ms lose a fifth of their packets; else one in
    500 is lost.
    """
    random, slots = Random("starlink"), 8
    lines = [
        "# source: model of a Starlink terminal with reconfigurations every 15 s, made by gannet.netem.traces.make",
        f"# duration_s: {15 * slots}",
        "time_s,down_bps,up_bps,delay_ms,loss_percent",
    ]
    for slot in range(slots):
        path_bps, path_ms = 150e6 * exp(random.gauss(0, 0.3)), random.uniform(20, 32)
        for step, share in enumerate(_wander(random, 15, 0.8, 0.15)):
            at_s, delay_ms = float(15 * slot + step), path_ms + random.uniform(-1.5, 1.5)
            down_bps, up_bps = path_bps * exp(share), 0.13 * path_bps * exp(share / 2)
            if step == 0:
                lines.append(f"{at_s:g},{_rounded(0.3 * down_bps)},{_rounded(0.3 * up_bps)},{delay_ms + 15:.1f},20")
                at_s += 0.2
            lines.append(f"{at_s:g},{_rounded(down_bps)},{_rounded(up_bps)},{delay_ms:.1f},0.2")
    return "\n".join(lines) + "\n"


def lte_walk(way: str) -> str:
    """Thirty seconds on foot in an LTE network, for Mahimahi: some 5 Mbit/s down and 1.5 up, out for 1.2 s."""
    random, length_ms, mean_bps = Random(f"lte-walk {way}"), 30_000, {"down": 5e6, "up": 1.5e6}[way]
    lines, due = [], 0.0
    for slot, wander in enumerate(_wander(random, length_ms // 250, 0.93, 0.5)):
        rate_bps = 0.0 if 18_000 <= 250 * slot < 19_200 else mean_bps * exp(wander)
        for ms in range(250 * slot, 250 * (slot + 1)):
            if 18_000 <= ms < 19_200:
                continue
            due += rate_bps / 1000 / (1500 * 8)
            lines += [str(ms + 1)] * int(due)
            due -= int(due)
    return "\n".join([*lines, str(length_ms)]) + "\n"


def _rounded(rate_bps: float) -> int:
    """Three figures of a rate, at least 1 kbit/s unless nothing passes."""
    if rate_bps < 1000:
        return 0
    unit: int = 10 ** (len(str(int(rate_bps))) - 3)
    return round(rate_bps / unit) * unit


def files() -> dict[str, str]:
    """Every shipped trace file: its name and text."""
    return {
        "lte-drive.csv": lte_drive(),
        "starlink.csv": starlink(),
        "lte-walk.down": lte_walk("down"),
        "lte-walk.up": lte_walk("up"),
    }


def main() -> None:
    """Write them."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else TRACE_FOLDER
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
