"""The links of a live run: applies them, changes them, and watches them through their agents.

Changes come from the spec's schedule and from operators (gannet.fabrics.links.operator_server), on any threads. They
are carried out one by one, each at all agents at once, and acknowledged with what each reads back from the kernel.
The steps of a trace or a ramp come too fast for that: only agents that they concern get them; their end is read back.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from gannet.fabrics.job import LinkAgent, LinkChange, NodeInterface
from gannet.fabrics.links.agent_pool import Acknowledgement, AgentPool
from gannet.fabrics.links.core_links import CoreLinks
from gannet.fabrics.links.echoes import Echoes
from gannet.fabrics.links.link_events import Configured, Series, largest_shrinking_ms, upcoming
from gannet.fabrics.links.monitor import Lines, LinkMonitor
from gannet.fabrics.links.outlook import LinksBusy, Outlook
from gannet.fabrics.links.restarts import Restarts
from gannet.fabrics.links.step_sender import StepSender
from gannet.netem.agent.client import AgentError
from gannet.netem.links.plan import Edge, InterfacePlan
from gannet.netem.links.stack import Stack, in_one
from gannet.netem.links.state import Change, Journal, LinkState, difference
from gannet.netem.measure.certificate import Certificate
from gannet.netem.measure.certify import check_links

_READING_S = 1.0
_STOP_S = 20.0


class LiveLinks:
    """The links of one run. `agents[i]` holds the links of the node at `interfaces[i]`; `seed` fixes their losses.

    `edges`: the directed links that training uses. `lines` takes lines for the run folder; an exception among them
    means that the links are no longer watched. `plans`: the present plans, by rank. `rank_of`: by address. `core`: as
    in AgentPool. `stack`: pinned settings of every node's TCP and interface; `applied_stack`: its reports.
    """

    def __init__(
        self,
        agents: Sequence[LinkAgent],
        interfaces: Sequence[NodeInterface],
        links: LinkState,
        changes: Sequence[LinkChange],
        engine: str,
        seed: int,
        edges: Iterable[Edge],
        stack: Stack | None = None,
        core: CoreLinks | None = None,
    ) -> None:
        by_rank = {interface.rank: (interface, agent) for interface, agent in zip(interfaces, agents, strict=True)}
        if sorted(by_rank) != list(range(len(agents))):
            raise ValueError(f"{len(agents)} agents, but interfaces of ranks {sorted(by_rank)}")
        self._interfaces = [by_rank[rank][0] for rank in range(len(agents))]
        self._pool = AgentPool([by_rank[rank][1] for rank in range(len(agents))], self._lose, core)
        self._engine, self._seed, self._edges = engine, seed, sorted(set(edges))
        self._stack = stack or Stack()
        self._schedule = deque(sorted(changes, key=lambda change: change.at_s))
        self._scheduled = links  # the present state of the schedule
        self._steps_left = Counter(change.name for change in changes)
        self.rank_of = {interface.address: interface.rank for interface in self._interfaces}
        self.lines: Lines = queue.SimpleQueue()
        self._hardware: dict[str, str] = {}  # Ethernet addresses by IPv4 address, once the agents have been asked
        self.plans = self._plan(links)
        self.applied_stack: dict[str, Any] = {}
        self._journal = Journal(links)
        self._ends: list[tuple[float, str]] = []  # of temporary changes: when (monotonic s), and which
        self._changing = threading.Lock()
        self._reasons: list[str] = []
        self._series: dict[str, Series] = {}  # traces and ramps under way, by name
        self._steps = StepSender(self._pool, engine, self._now_s, self._reasons.append)
        self._configured = Configured(self.rank_of, self._edges)
        self._monitor = LinkMonitor(self._pool, self.rank_of, self._edges, self.lines, self._now_s)
        self._echoes = Echoes(self._pool, list(self.rank_of), self._edges)
        self._restarts = Restarts(self._pool, engine, self._stack, self._echoes, self.lines, self._now_s)
        self._clocks: dict[int, str] = {}
        self._begin_s: float | None = None
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="live-links", daemon=True)

    def apply(self) -> None:
        """Apply the first plans at all agents at once, and pin their stacks. RuntimeError: which node could not."""
        with self._changing:
            devices = {interface.rank: {"device": interface.device} for interface in self._interfaces}
            for rank, answer in self._ask_or_raise("interface", devices.__getitem__).items():
                self._hardware[self._interfaces[rank].address] = answer["hardware"]
            self.plans = self._plan(self._journal.state)
            answers = self._pool.apply(self._engine, self.plans)
            for done in answers:
                if not done.ok:
                    raise RuntimeError(f"links of node {done.rank}: {done.error or done.complaint}")
            self._steps.applied(self.plans, answers)
            self.applied_stack = in_one(self._ask_or_raise("stack", lambda rank: self._stack.model_dump()))
            serve = self._ask_or_raise("probe_serve", lambda rank: {"address": self._interfaces[rank].address})
            self._clocks = {rank: answer["clock"] for rank, answer in serve.items()}

    def start(self, t_s: float = 0.0) -> None:
        """Start the training clock at `t_s`: count, watch, and carry out the schedule from here."""
        with self._changing:
            self._begin_s = time.monotonic() - t_s
            self._monitor.begin(self._clocks)
            self._echoes.follow(self.plans)
            self._tell_configured()
            self._thread.start()

    def stop(self) -> None:
        """End after a last reading; changes are refused from then on. A second call is harmless."""
        with self._changing:
            first, self._stopping = not self._stopping, True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        if first:
            self._echoes.stop()
            self._pool.close()

    def reasons(self) -> list[str]:
        """Reasons to distrust the links of this run: changes by hand, lost agents, and bad readings."""
        return [*self._reasons, *self._steps.reasons(), *self._monitor.reasons()]

    # For operators, from any thread.

    @property
    def world(self) -> int:
        """The number of nodes."""
        return len(self._pool)

    def change(
        self,
        operation: str,
        alter: Change,
        for_s: float | None = None,
        steps: Sequence[tuple[float, Change]] = (),
        trial: Change | None = None,
    ) -> Outlook:
        """Apply `alter` to the present state, for some time or permanently; `operation` names it in the run folder.

        `steps`: (seconds from now, the change that then replaces it), for a trace. `trial`: a stricter `alter`, tried
        first. Raises LinksBusy outside training, and ValueError for an invalid change; nothing has changed then.
        """
        with self._changing:
            if self._begin_s is None or self._stopping:
                raise LinksBusy("the run is not training: links can be changed from its first step to its last")
            before, now_s = self._journal.state, time.monotonic()
            self._plan((trial or alter)(before))  # raises what is wrong with it before anything is changed
            until_s = inf
            if for_s is not None:
                operation, until_s = f"{operation} for {for_s:g} s", now_s + for_s
                self._ends.append((until_s, operation))
            after = self._journal.add(alter, until_s, [(now_s + in_s, step) for in_s, step in steps])
            overridden = self._journal.drop_overridden()
            for entry in [entry for entry in self._ends if entry[0] in overridden]:
                self._ends.remove(entry)
                self._tell_series(entry[1], last=True)
                self._series.pop(entry[1], None)
            if after != before or steps:
                self._reasons.append(f"links were changed by hand at {self._now_s():.1f} s: {operation}")
            if steps:
                self._series[operation] = self._begun(operation, "operator")
            nodes = self._apply("operator", operation)
            self._wake.set()
            return Outlook(self._journal.state, self._now_s(), nodes)

    def show(self) -> Outlook:
        """The applied links, read back from every agent, and the scheduled changes."""
        with self._changing:
            if self._stopping:
                raise LinksBusy("the run is over")
            nodes, now_s, t_s = self._pool.read_back(), time.monotonic(), self._now_s()
            ends = [(until_s - now_s, operation) for until_s, operation in sorted(self._ends)]
            return Outlook(self._journal.state, t_s, nodes, ends, upcoming(self._schedule, self._series, t_s))

    def verify(self, edges: Iterable[Edge] | None = None) -> Certificate:
        """Read back all nodes and echo over `edges` (default: the links that training uses) while training continues.

        Raises ValueError for a link that does not exist. See gannet.netem.measure.certify.check_links for what is
        checked.
        """
        with self._changing:
            if self._begin_s is None or self._stopping:
                raise LinksBusy("the run is not training: links are measured before it, and can be from now on")
            plans, clients = self.plans, self._pool.present()
            broken = {**self._pool.core_complaints(), **self._pool.gone}
        wanted, ranks = self._edges if edges is None else sorted(set(edges)), range(self.world)
        if wrong := [(a, b) for a, b in wanted if a == b or a not in ranks or b not in ranks]:
            raise ValueError(f"{wrong[0][0]}>{wrong[0][1]} is no link between nodes 0 to {self.world - 1}")
        certificate = check_links(clients, plans, [edge for edge in wanted if set(edge) <= clients.keys()])
        for rank, why in broken.items():
            certificate.add_reason(f"node {rank}: {why}")
        if self.plans != plans:
            certificate.add_reason("the links were changed while they were being measured: ask again")
        return certificate

    # Applying changes, with _changing held.

    def _plan(self, state: LinkState) -> tuple[InterfacePlan, ...]:
        addresses, devices = ([getattr(i, name) for i in self._interfaces] for name in ("address", "device"))
        return tuple(replace(plan, hardware=self._hardware) for plan in state.plans(addresses, devices, self._seed))

    def _ask_or_raise(self, op: str, arguments: Callable[[int], dict[str, Any]]) -> dict[int, dict[str, Any]]:
        answers: dict[int, dict[str, Any]] = {}
        for rank, answer in self._pool.ask_all(op, arguments).items():
            if isinstance(answer, AgentError):
                raise answer
            answers[rank] = answer
        return answers

    def _apply(self, by: str, operation: str, **more: Any) -> list[Acknowledgement]:
        """Apply the journal's state at all agents, read it back, and record it in the run folder with `more`.

        What an operator changes applies at once. Where a schedule shrinks a delay, packets keep their order, and
        those in flight hold up later ones.
        """
        self._steps.finish_steps()
        before, self.plans = self.plans, self._plan(self._journal.state)
        if by == "schedule" and (shrinks_ms := largest_shrinking_ms(before, self.plans)) > 0:
            more["pauses_ms"] = shrinks_ms
        done = self._pool.apply(self._engine, self.plans, release=by == "operator")
        self._steps.applied(self.plans, done)
        self._tell_change(by, operation, seconds=max((a.seconds for a in done), default=0.0), **more)
        t_s = self._now_s()
        for missed in (a for a in done if not a.ok):
            self._reasons.append(
                f"node {missed.rank}: links were not applied as configured at {t_s:.1f} s: {missed.complaint}"
            )
        self._tell_configured()
        self._echoes.follow(self.plans)
        return done

    def _tell_change(self, by: str, operation: str, **more: Any) -> None:
        line = {"event": "links", "detail": self._journal.state.describe(), "by": by, "operation": operation}
        self.lines.put({"t_s": self._now_s(), **line, **more})

    def _change_by_itself(self) -> None:
        """Carry out what is due: of the schedule, and the steps and ends of temporary changes."""
        while self._schedule and self._now_s() >= self._schedule[0].at_s:
            self._next_of_schedule()
        now_s, due_s = time.monotonic(), self._journal.next_end_s()
        if self._journal.end_by(now_s):
            ended = [operation for until_s, operation in self._ends if until_s <= now_s]
            self._ends = [entry for entry in self._ends if entry[0] > now_s]
            if ended:
                for operation in ended:
                    self._tell_series(operation, last=True)
                    self._series.pop(operation, None)
                self._apply("operator", f"end of {', '.join(ended)}")
            else:
                assert self._begin_s is not None
                self._step([s for s in self._series.values() if s.by == "operator"], due_s - self._begin_s, 0)

    def _next_of_schedule(self) -> None:
        """Carry out the next change, or the last due step of a series: earlier due steps are skipped."""
        change, skipped = self._schedule.popleft(), 0
        name, now_s = change.name, self._now_s()
        while name and self._schedule and self._schedule[0].name == name and self._schedule[0].at_s <= now_s:
            change, skipped = self._schedule.popleft(), skipped + 1
        self._steps_left[name] -= 1 + skipped
        self._journal.add(difference(self._scheduled, change.links))
        self._scheduled = change.links
        if not name:
            self._apply("schedule", "apply")
            return
        begins = name not in self._series
        series = self._series.setdefault(name, self._begun(name, "schedule"))
        self._step([series], change.at_s, skipped)
        if begins:
            self._tell_change("schedule", name, seconds=self._now_s() - change.at_s)
        if not self._steps_left[name]:
            self._tell_series(name, last=True)
            del self._series[name]
            # Each step was acknowledged; now it is read back whether all is applied as configured.
            told = {"steps": series.steps, "skipped": series.skipped, "late_max_ms": 1000 * series.late_max_s}
            self._apply("schedule", f"end of {name}", **told)

    def _begun(self, name: str, by: str) -> Series:
        return Series(name, by, self._now_s(), self.rank_of, self._edges)

    def _step(self, series: Sequence[Series], at_s: float, skipped: int) -> None:
        """Send the step to the agents that it concerns; return when they have it or the next step is due."""
        self.plans = self._plan(self._journal.state)
        changed = self._steps.send(self.plans, self._next_change_s)
        for one in series:
            one.add(at_s, self._now_s(), skipped, changed)
            self._tell_series(one.name)
        self._tell_configured(step=True)
        self._echoes.follow(self.plans, roughly=True)

    # Lines for the run folder.

    def _tell_series(self, name: str, last: bool = False) -> None:
        if name in self._series and (line := self._series[name].line(self._now_s(), last)):
            self.lines.put(line)

    def _tell_configured(self, step: bool = False) -> None:
        for line in self._configured.lines(self.plans, self._now_s(), step):
            self.lines.put(line)

    # The thread.

    def _watch(self) -> None:
        try:
            next_reading_s = _READING_S
            while not self._stopping:
                change_s = self._next_change_s()
                if self._now_s() >= change_s:
                    with self._changing:
                        if not self._stopping:
                            self._change_by_itself()
                if self._now_s() >= next_reading_s:
                    self._read()
                    next_reading_s = max(next_reading_s + _READING_S, self._now_s())
                elif self._now_s() < change_s:
                    self._wake.wait(min(change_s, next_reading_s) - self._now_s())
                    self._wake.clear()
            for name in list(self._series):
                self._tell_series(name, last=True)
            self._monitor.finish()
        except Exception as error:
            self.lines.put(error)

    def _now_s(self) -> float:
        return 0.0 if self._begin_s is None else time.monotonic() - self._begin_s

    def _next_change_s(self) -> float:
        """When the schedule's next change, or a temporary change's end or next step, is due (training clock)."""
        scheduled_s = self._schedule[0].at_s if self._schedule else inf
        return min(scheduled_s, self._journal.next_end_s() - (self._begin_s or 0.0))

    def _read(self) -> None:
        self._monitor.read()
        if self._series or self._pool.gone:
            with self._changing:
                if not self._stopping:
                    self._restarts.restart(self.plans)
                    # Agents that were busy with an earlier step of a series have had time for it.
                    self._steps.send(self.plans, self._next_change_s)

    def _lose(self, rank: int, why: str) -> None:
        self._reasons.append(f"node {rank}: its link agent was lost at {self._now_s():.1f} s: {why}")
        self.lines.put({"t_s": self._now_s(), "event": "agent-lost", "node": rank, "detail": why})
