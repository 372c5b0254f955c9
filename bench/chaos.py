"""Nodes that are killed every few seconds and come back, compared with the same run left alone.

    python bench/chaos.py [--seconds 120] [--nodes 4] [--after 1.0] [--seed 1]

Runs gossip on the namespaces fabric with `return_after_s`, ends a random node's process with SIGKILL every 2 to 5
seconds while more than two are there, and reads the run folder: how many were lost and came back, how long that took
(the configured wait is part of it), for how long the others stood still, and how many steps were made of those that
the calm run made in the same time. Memory and open files of what lives as long as the run (controller, link agents,
fork server) are looked at every five seconds: their medians in the second and in the last tenth of the run. Scores
are those of the last snapshots.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import psutil
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

FORK_SERVER = "gannet.fabrics.namespaces.fork_server"


def spec(seconds: float, nodes: int, after_s: float) -> dict[str, Any]:
    """Small messages over links that lose a packet in two hundred."""
    return {
        "name": "chaos",
        "nodes": nodes,
        "links": {"profile": {"rate": "10Mbit", "delay_ms": 10, "loss_percent": 0.5}},
        "task": {"loss": "hinge", "width": 8},
        "batch": 4,
        "algorithm": {"name": "dp-oadam"},
        "pace_ms": 50,
        "stop": {"seconds": seconds},
        "snapshot_every": 50,
        "score": {"points": 1},
        "return_after_s": after_s,
    }


@dataclass
class Use:
    """What the processes that live as long as the run hold, by moment: MB of memory together, and open files."""

    memory_mb: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def look(self, run: psutil.Process, trains: list[int]) -> None:
        """Add the present moment."""
        memory, files = 0.0, 0
        for process in [run, *run.children(recursive=True)]:
            try:
                if process.pid not in trains:
                    memory += process.memory_info().rss / 1e6
                    files += process.num_fds()
            except psutil.NoSuchProcess:
                continue
        self.memory_mb.append(memory)
        self.files.append(files)

    def cells(self) -> tuple[str, str]:
        """Early → late, of memory and of files."""
        tenth = max(1, len(self.files) // 10)
        pairs = [(median(of[tenth : 2 * tenth] or of), median(of[-tenth:])) for of in (self.memory_mb, self.files)]
        return f"{pairs[0][0]:.0f} → {pairs[0][1]:.0f}", f"{pairs[1][0]:.0f} → {pairs[1][1]:.0f}"


def trainers(marker: str) -> list[int]:
    """Pids of the run's node processes: the fork server's children."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            ours = marker.encode() in (entry / "environ").read_bytes()
            if ours and FORK_SERVER.encode() in (entry / "cmdline").read_bytes():
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                found[int(entry.name)] = int(parent)
        except OSError:
            continue
    return [pid for pid, parent in found.items() if parent in found]


def lines(run: Path, name: str) -> list[dict[str, Any]]:
    """The lines of one of the run's files."""
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def play(folder: Path, what: dict[str, Any], kills: Random | None) -> tuple[int, Path, Use]:
    """One run, with nodes killed at random if `kills` is given: the number of kills, the run's folder, its use."""
    folder.mkdir()
    file = folder / "spec.yaml"
    file.write_text(yaml.safe_dump(what))
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
    argv = [sys.executable, "-m", "gannet", "run", str(file), "--out", str(folder / "out")]
    run, count, use = folder / "out" / "run" / "seed-1", 0, Use()
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, env=environment)
        while process.poll() is None and not ((run / "steps.jsonl").exists() and lines(run, "steps.jsonl")):
            time.sleep(0.2)
        seconds = int(what["stop"]["seconds"])
        for second in track(range(seconds), "training", transient=True):
            begin_s = time.monotonic()
            if second % 5 == 0 and process.poll() is None:
                use.look(psutil.Process(process.pid), trainers(str(folder)))
            if kills is not None and second < seconds - 8 and kills.random() < 1 / 3.5:
                there = trainers(str(folder))
                if len(there) > 2:
                    os.kill(kills.choice(there), signal.SIGKILL)
                    count += 1
            time.sleep(max(0.0, 1 - (time.monotonic() - begin_s)))
        if process.wait(300) != 0:
            raise SystemExit(f"the run failed:\n{(folder / 'output').read_text()[-2000:]}")
    return count, run, use


def score(run: Path) -> str:
    """The last score, from the run's summary."""
    found = json.loads((run / "summary.json").read_text())["final_score"]
    return "–" if found is None else f"{found:.3g}"


def away_s(events: list[dict[str, Any]]) -> list[float]:
    """Seconds from every loss to the return that followed."""
    since: dict[int, float] = {}
    found = []
    for event in events:
        if event.get("event") == "node-lost":
            since[event["node"]] = event["t_s"]
        elif event.get("event") == "node-returned":
            found.append(event["t_s"] - since.pop(event["node"]))
    return found


def still_s(steps: list[dict[str, Any]]) -> float:
    """The longest time in which not one node ended a step."""
    times = sorted(float(step["t_s"]) for step in steps)
    return max(after - before for before, after in pairwise(times))


def main() -> None:
    """Both runs, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--after", type=float, default=1.0, help="return_after_s")
    parser.add_argument("--seed", type=int, default=1, help="of the kills")
    wanted = parser.parse_args()
    what = spec(wanted.seconds, wanted.nodes, wanted.after)
    with tempfile.TemporaryDirectory() as folder:
        _, calm, calm_use = play(Path(folder) / "calm", what, None)
        kills, struck, struck_use = play(Path(folder) / "struck", what, Random(wanted.seed))
        scores = score(calm), score(struck)
        memory, files = zip(calm_use.cells(), struck_use.cells(), strict=True)
        steps, still = {}, {}
        for name, run in (("calm", calm), ("with kills", struck)):
            found = lines(run, "steps.jsonl")
            steps[name], still[name] = max(step["step"] for step in found), still_s(found)
        events = lines(struck, "links.jsonl")
        away = away_s(events)
        lost = sum(event.get("event") == "node-lost" for event in events)
    table = Table("", "calm", "with kills")
    table.add_row("kills", "0", str(kills))
    table.add_row("lost", "0", str(lost))
    table.add_row("back", "0", str(len(away)))
    table.add_row("away, median s", "–", f"{median(away):.1f}" if away else "–")
    table.add_row("away, worst s", "–", f"{max(away):.1f}" if away else "–")
    table.add_row("all stood still, longest s", *(f"{still_for:.2f}" for still_for in still.values()))
    table.add_row("steps", *map(str, steps.values()))
    table.add_row("score", *scores)
    table.add_row("memory MB", memory[0], memory[1])
    table.add_row("open files", files[0], files[1])
    Console().print(table)
    Console().print(f"steps: {steps['with kills'] / steps['calm']:.2f} of the calm run's", highlight=False)


if __name__ == "__main__":
    main()
