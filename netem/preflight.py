"""Finds out what this machine can do by doing it, in a throwaway sandbox that leaves nothing behind.

A kernel that lists a module may still refuse it, and a container that runs as root may own nothing; so every
ingredient of an engine is tried by itself, which identifies the culprit and its remedy, and then two nodes with a
small plan exchange packets and the delay is checked.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from gannet.netem.agent.client import AgentClient, AgentError
from gannet.netem.links.fields import LINK_FIELDS
from gannet.netem.links.plan import InterfacePlan, PathPlan
from gannet.netem.process import complaint
from gannet.netem.sandbox import Sandbox, SandboxError
from gannet.netem.shaping.commands import ENGINE_NAMES, EngineName

if TYPE_CHECKING:
    from gannet.netem.links.profile import LinkProfile

_DELAY_MS = 20.0
_ADDRESSES = ("10.99.0.1", "10.99.0.2")


@dataclass(frozen=True)
class EngineReport:
    """Whether something works here; if not, the system's reason and a remedy."""

    name: str
    usable: bool
    reason: str
    fix: str = ""


class EngineUnavailable(RuntimeError):
    """No engine can be used; the message holds reasons and remedies."""


@dataclass(frozen=True)
class _Ingredient:
    """A command to try, in which ~ is a space inside a word, and the remedy where it fails."""

    trial: str
    fix: str

    @property
    def words(self) -> list[str]:
        return [word.replace("~", " ") for word in self.trial.split()]


_DUMMY = "try0"
_SHAPING = (
    _Ingredient(f"ip link add {_DUMMY} type veth peer name try1", "modprobe veth"),
    _Ingredient("ip link add ifb-preflight type ifb", "modprobe ifb (a kernel with CONFIG_IFB)"),
    _Ingredient(
        f"tc qdisc add dev {_DUMMY} root handle 3: tbf rate 1mbit burst 1514 limit 1514",
        "apt-get install iproute2; modprobe sch_tbf (a kernel with CONFIG_NET_SCH_TBF)",
    ),
    _Ingredient(
        f"tc qdisc add dev {_DUMMY} parent 3:1 handle 1: htb default 1",
        "apt-get install iproute2; modprobe sch_htb (a kernel with CONFIG_NET_SCH_HTB)",
    ),
    _Ingredient(f"tc class add dev {_DUMMY} parent 1: classid 1:1 htb rate 1mbit quantum 1514", "modprobe sch_htb"),
    _Ingredient(f"tc qdisc add dev {_DUMMY} parent 1:1 handle 2: bfifo limit 15140", "modprobe sch_fifo"),
    _Ingredient(f"tc qdisc add dev {_DUMMY} handle ffff: ingress", "modprobe sch_ingress"),
    _Ingredient(
        f"tc filter add dev {_DUMMY} parent ffff: protocol all prio 2 u32 match u32 0 0"
        " action mirred egress redirect dev ifb-preflight",
        "modprobe -a cls_u32 act_mirred",
    ),
    _Ingredient(
        f"tc filter add dev {_DUMMY} parent ffff: protocol all prio 1 bpf da bytecode 1,6~0~0~4294967295,",
        "modprobe cls_bpf (a kernel with CONFIG_NET_CLS_BPF)",
    ),
)
_INGREDIENTS: dict[EngineName, tuple[_Ingredient, ...]] = {
    "netem": (
        *_SHAPING,
        _Ingredient("tc qdisc add dev ifb-preflight root handle 1: htb", "modprobe sch_htb"),
        _Ingredient("tc class add dev ifb-preflight parent 1: classid 1:1 htb rate 1mbit", "modprobe sch_htb"),
        _Ingredient(
            "tc qdisc add dev ifb-preflight parent 1:1 netem delay 1ms",
            "modprobe sch_netem (Ubuntu: apt-get install linux-modules-extra-$(uname -r)); or engine nfqueue",
        ),
    ),
    "nfqueue": (
        *_SHAPING,
        _Ingredient("iptables -w -t mangle -S PREROUTING", "apt-get install iptables"),
        _Ingredient(
            "iptables -w -t mangle -A PREROUTING -i lo -j NFQUEUE --queue-num 1",
            "modprobe -a nfnetlink_queue xt_NFQUEUE (a kernel with CONFIG_NETFILTER_NETLINK_QUEUE)",
        ),
    ),
}


# Needed by some profiles only: without it the engines work, and such a profile is refused (except for a missing
# seed).
_EXTRAS = {
    f"queue {kind}": _Ingredient(f"tc qdisc add dev lo root {kind}", f"modprobe sch_{kind}; or queue: fifo")
    for kind in ("codel", "fq_codel", "sfq")
} | {
    "duplicates": _Ingredient(
        "iptables -w -A INPUT -i lo -m statistic --mode random --probability 0.5 -j TEE --gateway 127.0.0.2",
        "apt-get install iptables; modprobe -a xt_TEE xt_statistic; or no duplicate_percent",
    ),
    "seed of netem": _Ingredient(
        "tc qdisc add dev lo root netem delay 1ms seed 1",
        "Linux and iproute2 6.6 or later; or engine nfqueue, which always draws from the run's seed",
    ),
}


def preflight() -> list[EngineReport]:
    """Check namespaces as root (when root) and rootless, each engine as it would be used here, and extras."""
    reports = [check_namespaces(rootless) for rootless in ((False, True) if os.geteuid() == 0 else (True,))]
    return reports + [check_engine(name) for name in ENGINE_NAMES] + check_extras()


def check_extras(rootless: bool | None = None) -> list[EngineReport]:
    """Check what only some profiles need: a bottleneck's queue disciplines, duplicates, and netem's own seed."""
    reports = []
    for name, ingredient in _EXTRAS.items():
        try:
            with Sandbox(rootless) as sandbox:
                sandbox.run(ingredient.trial)
        except (SandboxError, OSError, subprocess.TimeoutExpired) as error:
            reports.append(EngineReport(name, False, str(error), ingredient.fix))
        else:
            reports.append(EngineReport(name, True, f"`{ingredient.trial}` works", ""))
    return reports


def choose_engine(wanted: str = "auto", profiles: Iterable[LinkProfile] = ()) -> EngineName:
    """The engine to use: the wanted one, or with `auto` netem where the kernel has it, else nfqueue.

    `profiles` are those that it must carry out: some figures are beyond engine netem. Raises EngineUnavailable with
    reasons and remedies.
    """
    names = [name for name in ENGINE_NAMES if wanted in ("auto", name)]
    if not names:
        raise EngineUnavailable(f"no link engine {wanted!r}: choose one of auto, {', '.join(ENGINE_NAMES)}")
    beyond = sorted({f"{what} of {profile.name}" for profile in profiles for what in _beyond_netem(profile)})
    if beyond:
        names = [name for name in names if name != "netem"]
        if not names:
            fix = "choose engine auto or nfqueue, or another profile"
            raise EngineUnavailable(f"engine netem cannot do {', '.join(beyond)}: {fix}")
    reports = []
    for name in names:
        report = check_engine(name)
        if report.usable:
            return name
        reports.append(report)
    words = [f"{report.name} does not work here: {report.reason} (fix: {report.fix})" for report in reports]
    raise EngineUnavailable("; ".join(words))


def _beyond_netem(profile: LinkProfile) -> list[str]:
    figures = [
        name for name, declared in LINK_FIELDS.items() if "netem" in declared.cannot and getattr(profile, name)
    ]
    return [*figures, *(["down_queue: shared"] if profile.down_queue == "shared" else [])]


def check_namespaces(rootless: bool | None = None) -> EngineReport:
    """Whether this user can make network namespaces joined by a bridge."""
    rootless = os.geteuid() != 0 if rootless is None else rootless
    name = "namespaces, rootless" if rootless else "namespaces, as root"
    try:
        with Sandbox(rootless) as sandbox:
            sandbox.add_network(_ADDRESSES)
    except FileNotFoundError as error:
        missing = f"{error.filename} is not installed"
        return EngineReport(name, False, missing, "apt-get install util-linux iproute2")
    except (SandboxError, OSError, subprocess.TimeoutExpired) as error:
        return EngineReport(name, False, str(error), _namespace_fix(rootless))
    return EngineReport(name, True, "made two namespaces on a bridge, and removed them")


def check_engine(engine: EngineName, rootless: bool | None = None) -> EngineReport:
    """Whether an engine works for this user: its ingredients one by one, then all together."""
    namespaces = check_namespaces(rootless)
    if not namespaces.usable:
        return EngineReport(engine, False, namespaces.reason, namespaces.fix)
    try:
        with Sandbox(rootless) as sandbox:
            for ingredient in _INGREDIENTS[engine]:
                try:
                    sandbox.run(ingredient.words)
                except SandboxError as error:
                    return EngineReport(engine, False, str(error), ingredient.fix)
            sandbox.add_network(_ADDRESSES)
            return _try_delay(engine, sandbox)
    except (SandboxError, AgentError, OSError, subprocess.TimeoutExpired) as error:
        return EngineReport(engine, False, str(error), "report this with the output of `gannet doctor`")


def engines_here() -> tuple[list[EngineName], str]:
    """Engines whose ingredients work in the present network namespace, and what the others lack.

    For containers, which may shape their own interfaces but not make namespaces. Works on throwaway devices,
    and removes them.
    """
    working: list[EngineName] = []
    complaints = []
    for name in ENGINE_NAMES:
        complaint = _lacking_here(name)
        if complaint:
            complaints.append(f"{name}: {complaint}")
        else:
            working.append(name)
    return working, "; ".join(complaints)


def _lacking_here(engine: EngineName) -> str:
    try:
        for ingredient in _INGREDIENTS[engine]:
            # A rule on the loopback device would swallow other programs' packets there.
            argv = [_DUMMY if word == "lo" else word for word in ingredient.words]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
            if done.returncode:
                return f"`{' '.join(argv)}`: {complaint(done)} (fix: {ingredient.fix})"
        return ""
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    finally:
        undo = (
            f"ip link del {_DUMMY}",
            "ip link del ifb-preflight",
            f"iptables -w -t mangle -D PREROUTING -i {_DUMMY} -j NFQUEUE --queue-num 1",
        )
        for command in undo:
            with suppress(OSError, subprocess.TimeoutExpired):  # a device that was never made cannot be removed
                subprocess.run(command.split(), capture_output=True, timeout=30)


def _try_delay(engine: EngineName, sandbox: Sandbox) -> EngineReport:
    sender, receiver = _ADDRESSES
    paths = {sender: PathPlan(delay_ms=_DELAY_MS)}
    plan = InterfacePlan("mesh0", receiver, 10_000_000, 10_000_000, 125_000, 125_000, paths)
    with (
        AgentClient.spawn(sandbox.prefix("node0"), "node0") as node0,
        AgentClient.spawn(sandbox.prefix("node1"), "node1") as node1,
    ):
        node1.request("apply", engine=engine, plan=plan.to_json())
        node1.request("probe_serve", address=receiver)
        answer = node0.request(
            "probe", kind="delay", source=sender, target=receiver, count=10, interval_s=0.01, wait_s=2.0
        )
        priority = node1.request("counters").get("priority", "in the kernel")
    if not answer["one_way_ms"]:
        return EngineReport(engine, False, "packets do not arrive", "look at the kernel's log (dmesg)")
    got_ms = median(answer["one_way_ms"])
    reason = f"{_DELAY_MS:g} ms of delay measured as {got_ms:.1f} ms (priority: {priority})"
    # The certificate judges whether links are accurate under load; here packets must only be delayed.
    usable = _DELAY_MS - 1 <= got_ms <= 2 * _DELAY_MS
    return EngineReport(engine, usable, reason, "" if usable else "free this machine's CPUs and try again")


def _namespace_fix(rootless: bool) -> str:
    if not rootless:
        return "in a container: run it with --privileged; else run as an ordinary user (rootless)"
    for setting, refusal, remedy in (
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("user/max_user_namespaces", "0", "10000"),
    ):
        file = Path("/proc/sys") / setting
        if file.exists() and file.read_text().strip() == refusal:
            return f"sudo sysctl -w {setting.replace('/', '.')}={remedy}, or run as root"
    return "run as root, or allow user namespaces (in a container: --security-opt seccomp=unconfined)"
