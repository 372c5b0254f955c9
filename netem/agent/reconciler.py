"""Keeps a plan applied: changes that other programs make to the interface, its queues, routes or rules are undone.

The kernel announces most changes at once (gannet.netem.agent.netlink_events). It does not announce some (legacy
iptables, how many segments a packet may hold, /proc/sys), so these are polled. Requests hold a lock while they change
anything and then discard the kernel's events about it, so that they are never taken for another program's changes. A
repair rebuilds everything, as for an interface whose state is unknown. The interval from the event, or from when all
was last known to be right, until the repair is reported: the links were not as configured in it.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from gannet.netem.agent.netlink_events import NetlinkEvents
from gannet.netem.agent.read_back import ERRORS, Differences, must_exist, read_interface
from gannet.netem.agent.sysctls import Sysctls, restore_name
from gannet.netem.engines.base import Engine, EngineError
from gannet.netem.engines.process_exit import clear, ending, has_ended
from gannet.netem.links.plan import InterfacePlan
from gannet.netem.shaping.commands import ifb_name

log = logging.getLogger(__name__)

_LOOK_S = 5.0  # between checks of what the kernel does not announce
_RETRY_S = 1.0  # after a repair that failed
# A program that undoes every repair at once must not keep a processor busy.
_RUSH, _RUSH_S = 10, 10.0


@dataclass(frozen=True)
class _Broken:
    """A deviation from the configuration: since when, what differs, and why a repair failed."""

    since_s: float
    what: str
    error: str
    links: bool = True  # False: the stack alone

    @property
    def words(self) -> str:
        return self.what if self.error in self.what else f"{self.what}: {self.error}"


class Reconciler:
    """One interface's links: the engine that enforces them, and the requested plan and stack.

    Any thread may call it; a caller that uses `engine` must hold `lock`.
    """

    def __init__(self, engines: Mapping[str, type[Engine]]) -> None:
        self.lock = threading.RLock()
        self.engine: Engine | None = None
        self.plan: InterfacePlan | None = None
        self._engines = engines
        self._sysctls: Sysctls | None = None
        self._broken: _Broken | None = None
        self._repairs: list[dict[str, Any]] = []
        self._devices: dict[int, str] = {}
        self._right_s = 0.0  # when all was last known to be as configured
        self._look_s = 0.0  # when to look next
        self._unread = False  # whether something was applied and not read back since
        self._events: NetlinkEvents | None = None
        self._wake = socket.socketpair()
        self._ending = False
        self._thread = threading.Thread(target=self._watch, name="reconciler", daemon=True)

    # Orders.

    def apply(self, engine: str, plan: InterfacePlan, check: bool = True, release: bool = False) -> None:
        """Apply a plan; a change of engine clears the old one first.

        A plan that is applied already is left untouched, and with `check` read back and repaired if necessary.
        """
        if engine not in self._engines:
            raise EngineError(f"no engine {engine!r}: choose one of {', '.join(self._engines)}")
        with self.lock:
            self.hear()
            must_exist(plan.device)
            if self.engine is not None and self.engine.name != engine:
                self._clear_links()
            elif self.plan == plan:
                if check or self._broken:
                    self._mend()
                return
            self._change(engine, plan, release)

    def pin(self, **stack: Any) -> dict[str, Any]:
        """Set TCP and the interface as a gannet.netem.links.stack.Stack says, while the plan holds; returns the
        applied settings.
        """
        with self.lock:
            if self.plan is None:
                raise EngineError("no plan is applied: apply one first")
            self.hear()
            if self._sysctls is not None:
                self._sysctls.undo()
            self._sysctls = Sysctls(self.plan.device, self.plan.address, **stack)
            self._settle()
            return self._sysctls.report()

    def hear(self, closely: bool = False) -> None:
        """Repair what the kernel has announced, before a request changes the plan; `closely`: also read all back."""
        with self.lock:
            if self._events is None or self.plan is None:
                return
            self._look(only_events=True)
            if closely and self._broken is None:
                wrong, _ = self._read()
                if wrong.links or wrong.stack:
                    self._repair(monotonic(), wrong)

    def clear(self) -> None:
        """Remove what was applied."""
        with self.lock:
            self._clear_links()

    def close(self) -> None:
        """Remove what was applied, and stop watching."""
        # An engine's process ends with the thread that started it, which after a repair is the reconciler's.
        try:
            self.clear()
        finally:
            self._ending = True
            self._wake_up()
            if self._thread.is_alive():
                self._thread.join()
            if self._events is not None:
                self._events.close()

    # State.

    def read_back(self) -> dict[str, Any]:
        """The applied rates, buffers and paths, and `differences` from what was configured, in words."""
        with self.lock:
            if self.engine is None or self.plan is None:
                return {"engine": None, "differences": []}
            wrong, found = self._read()
            differences = [*wrong.links, *wrong.stack]
            if self._broken is not None and self._broken.error not in differences:
                differences.append(self._broken.error)
            return {"engine": self.engine.name, **found, "differences": differences}

    def take_repairs(self) -> list[dict[str, Any]]:
        """Repairs since the last call: from when to when the links were wrong (CLOCK_MONOTONIC), and how."""
        with self.lock:
            told, self._repairs = self._repairs, []
            return told

    @property
    def broken(self) -> dict[str, Any] | None:
        """A deviation that is not repaired yet: since when, and why the last attempt failed; None: there is none."""
        broken = self._broken
        return {"since_s": broken.since_s, "what": broken.words} if broken else None

    # With the lock held.

    def _change(self, engine: str, plan: InterfacePlan, release: bool) -> None:
        first, broken = self.plan is None, self._broken
        self.engine = self.engine or self._engines[engine]()
        self._listen()
        before_s, trouble = monotonic(), ""
        try:
            try:
                self.engine.apply(plan, release)
            except EngineError as error:  # perhaps what it builds upon was removed just before
                if first:
                    raise
                trouble = str(error)
                self.engine.forget()
                self.engine.apply(plan)
        except ValueError:  # an invalid plan: the one before is still applied
            raise
        except ERRORS as error:
            if first:
                self._clear_links()
            else:
                self._take_back(plan, before_s, error)
            raise
        log.info("engine %s applies links to %d peers on %s", engine, len(plan.paths), plan.device)
        self.plan, self._look_s = plan, self._look_s if self.plan else monotonic() + _LOOK_S
        if first:
            self._wake_up()
        if broken is not None and broken.links:
            self._repaired(broken.since_s, broken.what)
        elif trouble:
            self._repaired(before_s, trouble)
        self._settle()

    def _take_back(self, plan: InterfacePlan, since_s: float, error: Exception) -> None:
        """After a failed request: apply the previous plan again, if possible."""
        assert self.engine is not None and self.plan is not None
        what, since_s = "a change could not be applied", self._broken.since_s if self._broken else since_s
        try:
            self.engine.forget()
            self.engine.apply(self.plan)
        except ERRORS:  # neither works: the requested plan is retried until it does
            self.plan = plan
            self._broken = self._broken or _Broken(since_s, what, str(error))
            self._wake_up()
        else:
            self._repaired(since_s, f"{what}: {error}")
            self._settle()

    def _clear_links(self) -> None:
        pinned, engine = self._sysctls, self.engine
        self._sysctls = self.engine = self.plan = self._broken = None
        self._repairs = []  # repairs of removed links do not concern new ones
        if pinned is not None:
            with suppress(*ERRORS):  # the interface is gone
                pinned.undo()
        try:
            if engine is not None:
                clear(engine)
        finally:
            self._settle()

    def _read(self, all_of_it: bool = True) -> tuple[Differences, dict[str, Any]]:
        assert self.engine is not None and self.plan is not None
        return read_interface(self.engine, self.plan, self._sysctls, all_of_it)

    def _settle(self) -> None:
        """Take everything as configured now, and discard the kernel's events up to here."""
        self._devices = {}
        if self.plan is not None:
            for name in (self.plan.device, ifb_name(self.plan.device)):
                with suppress(OSError):
                    self._devices[socket.if_nametoindex(name)] = name
        self._right_s, self._unread = monotonic(), True
        if self._events is not None:
            self._events.ignore(getattr(self.engine, "port_id", 0))
            self._events.take(self._devices)

    def _mend(self) -> None:
        """Read back, and repair what is wrong; EngineError where that fails."""
        wrong, _ = self._read()
        if self._broken or wrong.links or wrong.stack:
            self._repair(self._right_s, wrong)
        if self._broken is not None:
            raise EngineError(self._broken.words)

    def _repair(self, since_s: float, wrong: Differences) -> None:
        assert self.engine is not None and self.plan is not None
        links, what = bool(wrong.links), "; ".join([*wrong.links, *wrong.stack][:3])
        if self._broken is not None:
            since_s, what, links = self._broken.since_s, self._broken.what, links or self._broken.links
        try:
            for index in (index for index, name in self._devices.items() if name == self.plan.device):
                restore_name(self.plan.device, index)
            must_exist(self.plan.device)
            if links:
                if has_ended(self.engine):
                    clear(self.engine)
                    self.engine = type(self.engine)()
                self.engine.forget()
                self.engine.apply(self.plan)
            if self._sysctls is not None:
                self._sysctls.pin()
        except ERRORS as error:
            if self._broken is None:
                log.error("links cannot be repaired: %s: %s", what, error)
            self._broken = _Broken(since_s, what, str(error), links)
            return
        self._repaired(since_s, what)
        self._settle()

    def _repaired(self, since_s: float, what: str) -> None:
        self._broken = None
        log.warning("links repaired: %s", what)
        self._repairs.append({"since_s": since_s, "until_s": monotonic(), "what": what})

    def _look(self, only_events: bool = False) -> None:
        """Read the kernel's events, check what it does not announce when that is due, and repair."""
        assert self._events is not None
        broken = self._broken
        notice = self._events.take({} if broken and broken.links else self._devices)
        if self.engine is None or self.plan is None:
            return
        since_s, wrong = monotonic(), Differences()
        if broken and broken.links:
            if only_events and not notice.others:
                return
            wrong = Differences([broken.what])
        elif notice.queues:
            wrong = Differences(list(notice.queues))
        elif has_ended(self.engine):
            wrong = Differences(["the delay process ended"])
        elif notice.others or (broken and not only_events):
            wrong, _ = self._read()
        elif not only_events and since_s >= self._look_s:
            since_s, (wrong, _) = self._right_s, self._read(all_of_it=self._unread)
            self._unread = False
        else:
            return
        if wrong.links or wrong.stack:
            self._repair(since_s, wrong)
        elif broken:
            self._repaired(broken.since_s, broken.what)
        self._look_s = monotonic() + _LOOK_S
        if self._broken is None:
            self._right_s = monotonic()

    # The thread.

    def _listen(self) -> None:
        if self._events is None:
            self._events = NetlinkEvents()
            self._thread.start()

    def _wake_up(self) -> None:
        self._wake[1].send(b"x")

    def _watch(self) -> None:
        assert self._events is not None
        recent_s: list[float] = []
        while not self._ending:
            with self.lock:
                idle_s = None if self.plan is None else max(0.0, self._look_s - monotonic())
                idle_s = _RETRY_S if self._broken else idle_s
                worker = ending(self.engine)
            files: list[Any] = [
                self._wake[0],
                *self._events.files,
                *([] if worker is None or self._broken else [worker]),
            ]
            ready = select.select(files, [], [], idle_s)[0]
            if worker is not None:
                os.close(worker)
            if self._wake[0] in ready:
                self._wake[0].recv(64)
            if self._ending:
                return
            with self.lock:
                before = len(self._repairs)
                self._look()
                if len(self._repairs) > before:
                    recent_s.append(monotonic())
            recent_s = [at_s for at_s in recent_s if monotonic() - at_s < _RUSH_S]
            if len(recent_s) >= _RUSH:
                select.select([self._wake[0]], [], [], _RETRY_S)
