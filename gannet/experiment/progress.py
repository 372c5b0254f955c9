"""Live progress on the terminal: one row a node with step, losses, waiting share and goodput.

On a terminal a rich table is kept up to date; elsewhere an occasional line reports the same, so that logs stay
readable.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from torch import Tensor

from gannet.console import one_line, plain_table
from gannet.fabrics.job import ISLANDS, LEFT_EARLY, NODE_JOINED, NODE_LOST, NODE_RETURNED
from gannet.ledger.records import Summary
from gannet.netem.measure.certificate import Certificate
from gannet.node.training.meter import StepStats
from gannet.spec.run_spec import RunSpec

_WINDOW_STEPS = 50
_LOG_EVERY_S = 10.0
_BAD_WINDOWS_SHOWN = 3
_SILENT_LINKS_SHOWN = 8


@dataclass
class _NodeView:
    """The figures of a row, over the last steps."""

    recent: deque[StepStats] = field(default_factory=lambda: deque(maxlen=_WINDOW_STEPS))

    def row(self, rank: int) -> list[str]:
        if not self.recent:
            return [str(rank), "–", "–", "–", "–", "–"]
        last, steps = self.recent[-1], self.recent
        span_s = sum(s.compute_s + s.wait_s + s.other_s for s in steps)
        known: dict[str, float] = {}
        for stats in steps:
            known |= stats.loss  # players may take turns: keep the last loss of each
        losses = "  ".join(f"{short} {known[name]:.2f}" for name, short in initials(known).items())
        return [
            str(rank),
            str(last.step),
            losses,
            f"{1000 * span_s / len(steps):.0f} ms",
            f"{100 * sum(s.wait_s for s in steps) / max(span_s, 1e-9):.0f}%",
            f"{sum(s.interface_bytes for s in steps) * 8 / max(span_s, 1e-9) / 1e6:.2f} Mbit/s",
        ]


def initials(names: Iterable[str]) -> dict[str, str]:
    """Names in order, each shortened to its shortest distinct prefix: "generator" is G."""
    ordered = sorted(names)
    lengths = {
        name: next(
            (n for n in range(1, len(name)) if sum(other[:n] == name[:n] for other in ordered) == 1), len(name)
        )
        for name in ordered
    }
    return {name: name[: lengths[name]].capitalize() for name in ordered}


class LiveDisplay:
    """A Display (see gannet.experiment.sinks) on a rich console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._nodes: dict[int, _NodeView] = {}
        self._spec: RunSpec | None = None
        self._heading = ""
        self._phase = ""
        self._bad_windows = self._silent_links = 0
        self._last_log_s = 0.0

    def begin(self, spec: RunSpec, number: int, of: int) -> None:
        self._spec = spec
        self._nodes = {rank: _NodeView() for rank in range(spec.nodes)}
        self._heading = f"[{number}/{of}] {spec.title} · seed {spec.seed} · {one_line(spec.links.describe())}"
        self._phase = "setting up"
        self._bad_windows = self._silent_links = 0
        if self._console.is_terminal:
            self._live = Live(self._render(), console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        else:
            self._console.print(self._heading, markup=False)

    def named(self, run: str) -> None:
        """Ignored: the name is for metrics."""

    def end(self, summary: Summary) -> None:
        """Print the one permanent line of a finished run."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._console.print(self._heading, markup=False)
        style = "green" if summary.status == "finished" and summary.trusted else "yellow"
        step = summary.step_s.mean or 0.0
        line = Text("  ").append(summary.status, style)
        line.append(f": {summary.steps} steps in {summary.seconds or 0.0:.1f} s, {1000 * step:.0f} ms a step")
        if summary.reason:
            line.append(f" ({summary.reason})")
        if not summary.trusted:
            line.append("\n  untrusted: " + "; ".join(summary.reasons or ["the run did not finish"]), "yellow")
        self._console.print(line)

    def close(self) -> None:
        """Restore the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def phase(self, text: str) -> None:
        """Show the stage of the set-up."""
        self._phase = text
        if self._live is None and text:
            self._console.print(f"  {text}", style="dim", markup=False)
        self._refresh()

    def step(self, rank: int, stats: StepStats) -> None:
        """Show a node's step."""
        self._nodes[rank].recent.append(stats)
        if self._live is None and time.monotonic() - self._last_log_s > _LOG_EVERY_S:
            self._last_log_s = time.monotonic()
            row = self._nodes[rank].row(rank)
            text = f"  {stats.t_s:6.1f} s  node {row[0]}  step {row[1]}  {row[2]}  {row[3]} a step  waiting {row[4]}"
            self._console.print(text, markup=False)
        self._refresh()

    def checkpoint(self, rank: int, step: int, data: bytes) -> None:
        """Checkpoints are not shown."""

    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        """Snapshots are not shown."""
        return False

    def links(self, line: dict[str, Any]) -> None:
        """Show what becomes of nodes, links and agents, but no samples, and the first few of what may come often."""
        if line.get("event") == "links":
            self._console.print(f"  links at {line['t_s']:.1f} s: {line['detail']}", markup=False)
        elif line.get("event") in (NODE_JOINED, NODE_RETURNED, ISLANDS, LEFT_EARLY):
            self._console.print(f"  at {line['t_s']:.1f} s: {line['detail']}", style="green", markup=False)
        elif line.get("event") == NODE_LOST:
            self._console.print(f"  at {line['t_s']:.1f} s: {line['detail']}", style="red", markup=False)
        elif line.get("event") == "silent-link":
            self._silent_links += 1
            if self._silent_links <= _SILENT_LINKS_SHOWN:
                last = "" if self._silent_links < _SILENT_LINKS_SHOWN else " (any others are in links.jsonl)"
                text = f"  at {line['t_s']:.1f} s: {line['detail']}{last}"
                self._console.print(text, style="yellow", markup=False)
        elif line.get("event") in ("agent-lost", "agent-restarted", "strangers"):
            lost = line["event"] == "agent-lost"
            what = f"node {line['node']} has lost its link agent ({line['detail']})" if lost else line["detail"]
            self._console.print(f"  at {line['t_s']:.1f} s: {what}", style="yellow", markup=False)
        elif line.get("event") == "bad-window":
            self._bad_windows += 1
            if self._bad_windows <= _BAD_WINDOWS_SHOWN:
                when = f"{line['from_s']:.1f} to {line['to_s']:.1f} s"
                last = "" if self._bad_windows < _BAD_WINDOWS_SHOWN else " (any others are in links.jsonl)"
                text = f"  links of node {line['node']} out of tolerance, {when}: {line['what']}{last}"
                self._console.print(text, style="yellow", markup=False)

    def refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None:
        """Print a line for every refusal."""
        self._console.print(
            f"  node {receiver} refused a message from node {sender}: {verdict} ({detail})",
            style="yellow",
            markup=False,
        )

    def certificate(self, certificate: Certificate) -> None:
        """Show before training which links miss their profile; later findings are in the last line of the run."""
        if self._phase and not certificate.trusted:
            for reason in certificate.reasons:
                self._console.print(f"  untrusted links: {reason}", style="yellow", markup=False)

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._render())

    def _render(self) -> Group:
        table = plain_table()
        for heading in ("node", "step", "losses", "a step", "waiting", "sent"):
            table.add_column(heading, justify="right" if heading != "losses" else "left")
        for rank, view in self._nodes.items():
            table.add_row(*view.row(rank))
        progress = Text("  " + (self._phase or self._progress()), "dim")
        return Group(Text(self._heading, "bold"), progress, table)

    def _progress(self) -> str:
        recent = [view.recent[-1] for view in self._nodes.values() if view.recent]
        if not recent or self._spec is None:
            return "training"
        stop, parts = self._spec.stop, []
        if stop.seconds is not None:
            parts.append(f"{max(s.t_s for s in recent):.0f} of {stop.seconds:.0f} s")
        if stop.steps is not None:
            parts.append(f"{min(s.step for s in recent)} of {stop.steps} steps")
        return "training: " + ", ".join(parts)
