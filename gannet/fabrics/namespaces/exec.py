"""Finds a node of a live network from outside, and runs programs in its network namespace.

A program in a namespace replaces the calling process, so terminal, signals, exit status and standard streams are its
own. It differs from its caller only in the network that it sees, with the names of its nodes: `node0`, `node1`, … are
in its /etc/hosts, and its own is its host name, which leads libraries that ask for it (PyTorch's gloo) to the mesh.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import struct
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from gannet.fabrics import addresses as layout
from gannet.fabrics.exec_errors import NoNode, NoProgram

# As in shells: 126, a program that cannot be started, and 127, one that does not exist.
CANNOT_START, NOT_FOUND = 126, 127
# A file that is removed stays mounted. Without `hostname` a program still has the nodes' names.
_NAMED = """mount --bind "$1" /etc/hosts; rm -f "$1"; hostname "$2" 2>/dev/null; shift 2; exec "$@\""""
_HOSTS = Path("/etc/hosts")
_NODE = re.compile(layout.node_namespace(0).replace("0", r"(\d+)"))


@dataclass(frozen=True)
class NodePlace:
    """A node's network namespace as another process sees it, and all nodes' mesh addresses by rank.

    `owner`: a process of the sandbox. `user_namespace`: to be entered first, where an ordinary user made the network.
    """

    rank: int
    owner: int
    addresses: tuple[str, ...]
    user_namespace: bool

    @property
    def path(self) -> str:
        """The path of the namespace, seen through the sandbox's own mounts."""
        return f"/proc/{self.owner}/root/run/netns/{layout.node_namespace(self.rank)}"


def find_place(address: str, rank: int) -> NodePlace:
    """Find node `rank` in the network whose operator API is at `address` ("unix:/path").

    Raises NoNode.
    """
    owner = _owner(address.removeprefix("unix:"))
    try:
        names = [entry.name for entry in Path(f"/proc/{owner}/root/run/netns").iterdir()]
        inner, own = (Path(f"/proc/{process}/ns/user").stat().st_ino for process in (owner, "self"))
    except PermissionError:
        raise NoNode(
            f"the network at {address} belongs to another user: enter it as that user, or with sudo"
        ) from None
    except OSError as error:
        raise NoNode(f"the network at {address} is none of namespaces, or has just ended ({error})") from None
    ranks = sorted(int(match[1]) for match in map(_NODE.fullmatch, names) if match)
    if rank not in ranks:
        have = f"its nodes are 0 to {ranks[-1]}" if ranks else "it has no node yet"
        raise NoNode(f"there is no node {rank}: {have}")
    addresses = tuple(layout.mesh_address(each) for each in ranks)
    # Root of the machine may enter any network directly; the owner of a user namespace must enter that first.
    return NodePlace(rank, owner, addresses, user_namespace=inner != own and os.geteuid() != 0)


def variables(rank: int, addresses: Sequence[str]) -> dict[str, str]:
    """Environment variables that describe the network to a program in a node."""
    peers = [address for other, address in enumerate(addresses) if other != rank]
    return {
        "GANNET_NODE": str(rank),
        "GANNET_NODES": str(len(addresses)),
        "GANNET_ADDRESS": addresses[rank],
        "GANNET_PEERS": " ".join(peers),
    }


def hosts_file(own_rank: int, addresses: Sequence[str], machine: str, own_name: str) -> str:
    """The text of /etc/hosts in a node: all nodes by name, and what `machine`, this machine's, says of other names.

    `own_name`: of this machine, which in the node means the node.
    """
    names = [layout.node_namespace(rank) for rank in range(len(addresses))]
    lines = [
        f"{address} {name}" + (f" {own_name}" if rank == own_rank and own_name not in names else "")
        for rank, (address, name) in enumerate(zip(addresses, names, strict=True))
    ]
    for line in machine.splitlines():
        address, *known = line.partition("#")[0].split() or [""]
        if kept := [name for name in known if name not in (*names, own_name)]:
            lines.append(" ".join([address, *kept]))
    return "\n".join(lines) + "\n"


def write_hosts_file(rank: int, addresses: Sequence[str], file: Path) -> Path | None:
    """Write a node's /etc/hosts to `file`; None where this machine has none, over which to mount it."""
    if not _HOSTS.is_file():
        return None
    text = hosts_file(rank, addresses, _HOSTS.read_text(errors="replace"), socket.gethostname())
    file.write_text(text, encoding="utf-8")
    file.chmod(0o644)
    return file


def command_in(
    place: NodePlace, command: Sequence[str], as_root: bool = False, hosts: Path | None = None
) -> list[str]:
    """The command line that runs `command` in a node's network.

    Where an ordinary user made the network, `as_root` makes the program root there (of the network, and of nothing
    else), as ping and ip need it; otherwise it keeps its user. `hosts`: a file that takes the place of /etc/hosts, in
    mounts of the program's own, and is removed.
    """
    enter = ["nsenter", f"--net={place.path}"]
    if place.user_namespace:
        enter += [f"--user=/proc/{place.owner}/ns/user", "--preserve-credentials"]
        if not as_root:
            back = ["unshare", "--user", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}"]
            command = [*back, "--", *command]
    if hosts is not None:
        own = ["unshare", "--mount", "--uts", "--propagation", "slave", "--"]
        command = [*own, "sh", "-c", _NAMED, "sh", str(hosts), layout.node_namespace(place.rank), *command]
    return [*enter, "--", *command]


def become(
    place: NodePlace, command: Sequence[str], environment: Mapping[str, str], as_root: bool = False
) -> NoReturn:
    """Replace this process by `command` in a node's network. Raises NoProgram, and NoNode without nsenter."""
    check_program(command[0], environment.get("PATH"))
    handle, name = tempfile.mkstemp(prefix="gannet-hosts-")
    os.close(handle)
    hosts = write_hosts_file(place.rank, place.addresses, Path(name))
    if hosts is None:
        Path(name).unlink()
    argv = command_in(place, command, as_root, hosts)
    try:
        os.execvpe(argv[0], argv, {**environment, **variables(place.rank, place.addresses)})
    except FileNotFoundError:
        raise NoNode("nsenter is not installed: apt-get install util-linux") from None


def check_program(name: str, path: str | None) -> None:
    """Raise NoProgram, before anything is entered, if there is no such program."""
    if shutil.which(name, path=path) is not None:
        return
    if "/" not in name:
        raise NoProgram(f"{name}: command not found", NOT_FOUND)
    if not Path(name).exists():
        raise NoProgram(f"{name}: {os.strerror(errno.ENOENT)}", NOT_FOUND)
    reason = errno.EISDIR if Path(name).is_dir() else errno.EACCES
    raise NoProgram(f"{name}: {os.strerror(reason)}", CANNOT_START)


def _owner(path: str) -> int:
    """The pid of the process that serves a socket, as seen by this process (SO_PEERCRED of unix(7))."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.settimeout(3.0)
            probe.connect(path)
        except OSError as error:
            raise NoNode(f"no network is up at unix:{path} ({error.strerror or error})") from None
        pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if pid <= 0:
        raise NoNode(f"the network at unix:{path} is not of this machine's processes: run the command where it is up")
    return int(pid)
