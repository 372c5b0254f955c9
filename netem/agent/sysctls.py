"""Applies a gannet.netem.links.stack.Stack: pins TCP's and the shaped interface's settings in this network namespace.

At a round trip of 100 ms and 1% loss, CUBIC carries 3.3 Mbit/s and BBR hundreds of times as much. Congestion
control is set on the interface's route, which both ends of a connection take it from: the sysctl of a namespace
takes only what the host lists as allowed. How many segments of TCP one packet may hold (GSO, TSO) follows from a
plan's rates, so the engines set it (gannet.netem.shaping.commands); here it is only read.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

_IPV4 = "net/ipv4"
# Read only, for the record: what the kernel made of the machine's memory, and options of TCP that matter.
_RECORDED = ("tcp_rmem", "tcp_wmem", "tcp_ecn", "tcp_sack", "tcp_timestamps", "tcp_window_scaling", "tcp_autocorking")
_SIOCETHTOOL = 0x8946
_OFFLOADS = {"tso": 0x1E, "gso": 0x23, "gro": 0x2B}  # ETHTOOL_GTSO, _GGSO, _GGRO of linux/ethtool.h
_USUAL_MTU = 1500


class StackError(OSError):
    """A setting that a run wants cannot be applied here; the message names it, the present value, and a remedy."""


class Sysctls:
    """A stack applied at one interface of this network namespace, until `undo`."""

    def __init__(
        self, device: str, address: str, congestion_control: str, slow_start_after_idle: bool, mtu: int | None
    ) -> None:
        """Sets everything; for the settings see gannet.netem.links.stack.Stack. Raises StackError for what cannot be
        set.
        """
        self.device, self._address, self._congestion_control = device, address, congestion_control
        # What one connection has learned about a path must not influence the next.
        self._sysctls = {
            f"{_IPV4}/tcp_slow_start_after_idle": str(int(slow_start_after_idle)),
            f"{_IPV4}/tcp_no_metrics_save": "1",
        }
        self._prefix_length = _prefix_length(device, address)
        if self._prefix_length is None:
            raise StackError(f"{device} does not have the address {address}")
        own_mtu: int = link_settings(device)["mtu"]
        if mtu is not None and mtu > own_mtu:
            raise StackError(f"mtu of {device} is {own_mtu}, not {mtu}: the network beneath carries no more")
        self._own_mtu, self._mtu = own_mtu, mtu or min(own_mtu, _USUAL_MTU)
        try:
            self.pin()
        except OSError:
            self.undo()
            raise

    def pin(self) -> None:
        """Set what differs. Raises StackError for what cannot be set."""
        link = link_settings(self.device)
        if link["mtu"] != self._mtu:
            _ip("link", "set", "dev", self.device, "mtu", str(self._mtu))
        if link["master"]:
            _ip("link", "set", "dev", self.device, "nomaster")
        if _prefix_length(self.device, self._address) is None:
            _ip("address", "add", f"{self._address}/{self._prefix_length}", "dev", self.device)
        if not link["up"]:
            _ip("link", "set", "dev", self.device, "up")
        wanted, routes = self._congestion_control, self._routes()
        if not routes:
            raise StackError(f"no route leads to the network of {self.device}: has it no address, or is it down?")
        for route in routes:
            if _congestion_control(route) != wanted:
                fixed = ("proto", "kernel", "scope", "link", "src", self._address, "congctl", wanted)
                _ip("route", "replace", route["dst"], "dev", self.device, *fixed)
        for name, value in self._sysctls.items():
            _write_sysctl(name, value)

    def sysctl_differences(self) -> list[str]:
        """Settings of /proc/sys that are no longer as pinned, in words; the kernel does not announce such changes."""
        return [
            f"{name.replace('/', '.')} is {found}, not {value}"
            for name, value in self._sysctls.items()
            if (found := _sysctl(name)) != value
        ]

    def differences(self, link: dict[str, Any]) -> list[str]:
        """Settings that are no longer as pinned, in words; `link`: from link_settings."""
        found = [] if link["mtu"] == self._mtu else [f"mtu is {link['mtu']}, not {self._mtu}"]
        if link["master"]:  # what a bridge takes arrives by the bridge, past the links
            found.append(f"{self.device} belongs to {link['master']}")
        if not link["up"]:
            found.append(f"{self.device} is down")
        if _prefix_length(self.device, self._address) is None:
            found.append(f"{self.device} has lost its address {self._address}")
        wanted, routes = self._congestion_control, self._routes()
        if not routes:
            found.append(f"no route leads to the network of {self.device}")
        used = {_congestion_control(route) for route in routes} - {wanted}
        found += [f"congestion_control is {name}, not {wanted}" for name in sorted(used)]
        return found + self.sysctl_differences()

    def report(self) -> dict[str, Any]:
        """The applied settings, and the others of TCP and the interface that belong in a run's record."""
        settings = link_settings(self.device)
        link = {name: value for name, value in settings.items() if name not in ("hardware", "master", "up")}
        return {
            "congestion_control": ",".join(sorted({_congestion_control(route) for route in self._routes()})),
            "slow_start_after_idle": _sysctl(f"{_IPV4}/tcp_slow_start_after_idle") == "1",
            **link,
            **offloads(self.device),
            **{name: _sysctl(f"{_IPV4}/{name}") for name in ("tcp_no_metrics_save", *_RECORDED)},
        }

    def undo(self) -> None:
        """Give the interface its own MTU again; the other settings mean nothing without the links."""
        if self._own_mtu != self._mtu:
            _ip("link", "set", "dev", self.device, "mtu", str(self._own_mtu))

    def _routes(self) -> list[dict[str, Any]]:
        """Routes to the network that the interface's own address is in."""
        routes: list[dict[str, Any]] = json.loads(_ip("-j", "-4", "-d", "route", "show", "dev", self.device) or "[]")
        return [r for r in routes if r.get("scope") == "link" and r.get("prefsrc") == self._address]


def link_settings(device: str) -> dict[str, Any]:
    """MTU of a device of this namespace, and how large a packet of many segments may be.

    With them its Ethernet address (`hardware`), the bridge that it belongs to (`master`, or None), and whether it is
    `up`. Raises StackError.
    """
    shown = json.loads(_ip("-d", "-j", "link", "show", "dev", device))[0]
    names = ("mtu", "gso_max_segs", "gso_max_size", "gro_max_size")
    more = {"hardware": shown.get("address"), "master": shown.get("master"), "up": "UP" in shown["flags"]}
    return {name: shown[name] for name in names if name in shown} | more


def neighbours(device: str) -> dict[str, str]:
    """The Ethernet addresses of a device's permanent neighbours, by IPv4 address. Raises StackError."""
    shown = json.loads(_ip("-j", "-4", "neigh", "show", "dev", device, "nud", "permanent") or "[]")
    return {entry["dst"]: entry["lladdr"] for entry in shown if "lladdr" in entry}


def restore_name(device: str, index: int) -> None:
    """Give the interface of this number the name `device` again, if it has got another. Raises StackError."""
    try:
        name = socket.if_indextoname(index)
    except OSError:  # it is gone
        return
    if name != device:
        _ip("link", "set", "dev", name, "down")  # kernels before 6.2 rename no interface that is up
        _ip("link", "set", "dev", name, "name", device)
        _ip("link", "set", "dev", device, "up")


def _prefix_length(device: str, address: str) -> int | None:
    """Of an interface's own IPv4 address; None: it does not have that address."""
    shown = json.loads(_ip("-j", "-4", "address", "show", "dev", device) or "[]")
    found = [info["prefixlen"] for entry in shown for info in entry.get("addr_info", ()) if info["local"] == address]
    return found[0] if found else None


def offloads(device: str) -> dict[str, bool]:
    """Whether TSO, GSO and GRO are on, as `ethtool -k` says."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for name, command in _OFFLOADS.items():
            value = ctypes.create_string_buffer(struct.pack("=II", command, 0), 8)
            fcntl.ioctl(asking, _SIOCETHTOOL, struct.pack("16sP16x", device.encode(), ctypes.addressof(value)))
            found[name] = bool(struct.unpack("=II", value.raw)[1])
    return found


def _congestion_control(route: dict[str, Any]) -> str:
    metrics = {name: value for metric in route.get("metrics", ()) for name, value in metric.items()}
    return str(metrics.get("congestion") or _sysctl(f"{_IPV4}/tcp_congestion_control"))


def _sysctl(name: str) -> str:
    try:
        return " ".join(Path("/proc/sys", name).read_text().split())
    except FileNotFoundError:  # exists in later kernels only
        return ""


def _write_sysctl(name: str, value: str) -> None:
    if (found := _sysctl(name)) == value:
        return
    try:
        Path("/proc/sys", name).write_text(value)
    except OSError as error:
        setting = name.replace("/", ".")
        raise StackError(
            f"{setting} is {found}, not {value}, and cannot be set here ({error.strerror}): a container needs it "
            f"when it is started (compose.yaml: sysctls; docker run --sysctl {setting}={value})"
        ) from error


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30)
    if done.returncode:
        complaint = done.stderr.strip() or done.stdout.strip()
        if "congestion" in complaint:
            complaint += f"; this kernel has {_sysctl(f'{_IPV4}/tcp_available_congestion_control')}"
        raise StackError(f"`ip {' '.join(words)}`: {complaint}")
    return done.stdout
