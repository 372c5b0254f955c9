"""A map of the method that reaches the score first, by links and number of nodes, and a check of its accuracy.

The map is predicted: steps to the score (a noisy min-max game with a different part at every node, on the virtual
fabric) times seconds a step (messages of the default GAN's size and its pace, on the virtual fabric, on each link).
With --real a sample of its cells is run for a few steps on the namespaces fabric and compared with the prediction.

    python bench/crossover.py                     # the map: 1 to 1000 Mbit/s, 1 to 300 ms, 4 to 256 nodes
    python bench/crossover.py --quick             # its corners, at 4 and 16 nodes: half a minute
    python bench/crossover.py --methods choco     # only these again, the others unchanged
    python bench/crossover.py --real              # predicted and measured, at 4 and 8 nodes: six minutes
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from support import pages

from gannet.fabrics.namespaces import sandbox

RATES_MBPS, DELAYS_MS, NODES = (1.0, 10.0, 100.0, 1000.0), (1.0, 25.0, 100.0, 300.0), (4, 8, 16, 64, 256)
# (nodes, Mbit/s, ms one way), and how many steps of each method are run.
SAMPLE = (((4, 10.0, 25.0), 6), ((4, 100.0, 1.0), 20), ((4, 100.0, 25.0), 20), ((8, 10.0, 25.0), 6))
WARM_STEPS = 1  # of the sample, which do not count


def main() -> None:
    """Predict the map, or run the sample; each keeps what the other has left in bench/results/crossover.json."""
    options = parse()
    if options.real:
        sandbox.enter()  # before torch starts a thread
        os.environ |= {"GRPC_VERBOSITY": "ERROR"}
    from rich.console import Console
    from support import crossover_page

    console = Console(highlight=False)
    path = options.out / "crossover.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    if options.real:
        result["sample"] = measure(options, console)
    else:
        merge(result, predict(options, console))
    crossover_page.show(result, console)
    pages.leave(options.out, "crossover", result, crossover_page.markdown(result))
    if "map" in result:
        crossover_page.write_html(result, options.out / "crossover.html")
        print(f"wrote {options.out / 'crossover.html'}")


def parse() -> argparse.Namespace:
    """The command line; mistakes end the program with one message."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", choices=NODES, help="only these; the others stay as they are")
    parser.add_argument("--methods", nargs="+", help="only these; results of the others are kept")
    parser.add_argument(
        "--quick", action="store_true", help="corners of the map at 4 and 16 nodes, or two real cells"
    )
    parser.add_argument(
        "--real", action="store_true", help="run a sample on the namespaces fabric instead of the map"
    )
    parser.add_argument("--engine", choices=["auto", "netem", "nfqueue"], default="auto")
    parser.add_argument("--out", type=Path, default=pages.RESULTS, help="folder for crossover.json, .md and .html")
    options = parser.parse_args()
    options.out = options.out.absolute()
    return options


def predict(options: argparse.Namespace, console: Any) -> dict[str, Any]:
    """The map: for every number of nodes the methods' steps, and their seconds a step on every link."""
    import torch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from support import crossover_cells as cells

    torch.set_num_threads(1)
    chosen = {name: cells.METHODS[name] for name in options.methods or cells.METHODS}
    nodes = options.nodes or ((4, 16) if options.quick else NODES)
    rates, delays = (r[:: len(r) - 1] if options.quick else r for r in (RATES_MBPS, DELAYS_MS))
    links = [(rate, delay) for rate in rates for delay in delays]
    table = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for world in nodes:
            bar = progress.add_task(f"{world} nodes", total=len(chosen) * (1 + len(links)))
            steps: dict[str, int | None] = {}
            for name, method in chosen.items():
                twin = method.same_steps_as
                if twin is not None and world > 16:
                    steps[name] = cells.steps_to_score(twin, world)
                else:
                    steps[name] = cells.steps_to_score(name, world) if world <= method.most_nodes else None
                progress.advance(bar)
            for rate, delay in links:
                step_s: dict[str, float] = {}
                for name, of in steps.items():
                    if of is not None and cells.METHODS[name].same_step_s_as is None:
                        step_s[name] = cells.predicted_step_s(name, world, rate, delay)
                    progress.advance(bar)
                table.append({"nodes": world, "rate_mbps": rate, "delay_ms": delay, "steps": steps, "step_s": step_s})
    settings = {"pace_ms": cells.PACE_MS, "values": cells.GAN_VALUES, "score": cells.SCORE, "game": cells.GAME,
                "optimizer": cells.OPTIMIZER, "steps_limit": cells.STEPS_LIMIT}  # fmt: skip
    labels = {name: method.label for name, method in cells.METHODS.items()}
    return {"settings": settings, "labels": labels, "map": table}


def merge(result: dict[str, Any], new: dict[str, Any]) -> None:
    """Merge new predictions with existing ones made with the same settings, and determine the winner of every
    cell."""
    from support import crossover_cells as cells

    def place(cell: dict[str, Any]) -> tuple[float, ...]:
        return cell["nodes"], cell["rate_mbps"], cell["delay_ms"]

    known = {place(cell): cell for cell in result.get("map", []) if result.get("settings") == new["settings"]}
    for cell in new["map"]:
        old = known.setdefault(place(cell), {**cell, "steps": {}, "step_s": {}})
        for what in ("steps", "step_s"):
            found = {**old[what], **cell[what]}
            old[what] = {name: found[name] for name in cells.METHODS if name in found}
        for name in old["steps"]:
            if (twin := cells.METHODS[name].same_step_s_as) is not None:
                if twin not in old["step_s"]:
                    raise SystemExit(f"--methods: {name} takes its seconds a step from {twin}: name that too")
                old["step_s"][name] = old["step_s"][twin]
    for cell in known.values():
        cell["seconds"] = {
            name: of * cell["step_s"][name] if of is not None else None for name, of in cell["steps"].items()
        }
        cell["winner"], cell["lead"] = cells.winners(cell["seconds"])
    result.update(new, map=[known[key] for key in sorted(known)])


def measure(options: argparse.Namespace, console: Any) -> dict[str, Any]:
    """The sample's cells on the namespaces fabric, compared with predictions of the virtual one."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from support import crossover_cells as cells

    from gannet.fabrics.namespaces.fabric import NamespacesFabric
    from gannet.netem.preflight import choose_engine

    engine = choose_engine(options.engine)
    sample = [(cell, steps) for cell, steps in SAMPLE if not options.nodes or cell[0] in options.nodes]
    sample = sample[:2] if options.quick else sample
    runs = [(cell, steps, name) for cell, steps in sample for name, of in cells.METHODS.items() if of.every == 1]
    begin = {"engine": engine, "cpus": os.cpu_count(), "load_before": os.getloadavg()[0]}
    found = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console) as progress,
        tempfile.TemporaryDirectory() as folder,
        NamespacesFabric(Path(folder), engine) as fabric,
    ):
        bar = progress.add_task("", total=len(runs))
        for (world, rate, delay), steps, name in runs:
            progress.update(bar, description=f"{world} nodes, {rate:g} Mbit/s, {delay:g} ms: {name}")
            watch = cells.Watch(world)
            outcome = fabric(cells.timing_job(name, world, rate, delay, steps), watch)
            if outcome.status == "stopped":  # by the user: what there is stays
                break
            if outcome.status != "finished" or outcome.lost:
                raise RuntimeError(f"{name} on {world} nodes: {outcome.reason or outcome.lost}")
            assert outcome.certificate is not None
            busy_s = sum(watch.busy_s) / len(watch.busy_s)  # all that a node does itself, the gradient and the rest
            measured = watch.step_s(WARM_STEPS)
            predicted = cells.predicted_step_s(name, world, rate, delay, round(1000 * busy_s, 1))
            found.append(
                {"nodes": world, "rate_mbps": rate, "delay_ms": delay, "method": name, "steps": steps,
                 "measured_s": measured, "predicted_s": predicted, "error": predicted / measured - 1,
                 "busy_s": busy_s, "ends_s": watch.ends_s(),
                 "trusted": outcome.certificate.trusted, "reasons": outcome.certificate.reasons}
            )  # fmt: skip
            progress.console.print(f"{progress.tasks[0].description}: {measured:.3f} s, predicted {predicted:.3f} s")
            progress.advance(bar)
    labels = {name: method.label for name, method in cells.METHODS.items()}
    return {**begin, "load_after": os.getloadavg()[0], "labels": labels, "cells": found}


if __name__ == "__main__":
    main()
