"""The layout of the namespaces fabric: addresses, names and the commands that build it. Pure.

    namespace "mesh"  ── mesh bridge ── mesh0 of every node      (messages: shaped in the node)
    namespace "nodeR" ── mesh0 10.77.x.y
    sandbox namespace ── control by a Unix socket, each node's metrics at 127.78.x.y      (never shaped)

The mesh bridge has a namespace of its own, so that no firewall rule of the host applies to its frames. No network but
the mesh leads out of a node's namespace: a Unix socket is a file and belongs to none, and the socket that serves a
node's metrics is made in the sandbox's namespace before the node enters its own.
"""

from __future__ import annotations

MESH_DEVICE = "mesh0"
MESH_NAMESPACE = "mesh"
MESH_PORT = 7700
METRICS_PORT = 9400
# The controller's endpoints, at which containerized nodes join.
CONTROL_PORT = 7000
OPERATOR_PORT = 7001
AGENTS_PORT = 7002
_PER_SUBNET = 250
# A bridge floods all its ports with what is for an address that it has not heard of for so long. Nodes have fixed
# addresses and, without ARP, may be silent.
_AGEING_S = 1_000_000
_OUTSIDE_TABLE = "77"


def node_namespace(rank: int) -> str:
    """Name of a node's network namespace."""
    return f"node{rank}"


def mesh_port(rank: int) -> str:
    """Name of a node's port of the mesh bridge."""
    return f"mesh{rank}"


def mesh_address(rank: int) -> str:
    """IPv4 address of a node on the shaped network."""
    return f"10.77.{rank // _PER_SUBNET}.{rank % _PER_SUBNET + 2}"


def metrics_address(rank: int) -> str:
    """Loopback address of the sandbox's namespace at which a node's metrics are."""
    return f"127.78.{rank // _PER_SUBNET}.{rank % _PER_SUBNET + 2}"


def build_hub() -> list[list[str]]:
    """`ip` commands for the bridge and its namespace."""
    bridge = ["type", "bridge", "forward_delay", "0", "stp_state", "0", "mcast_snooping", "0",
              "ageing_time", str(100 * _AGEING_S)]  # fmt: skip
    return [
        ["link", "set", "lo", "up"],
        ["netns", "add", MESH_NAMESPACE],
        ["-n", MESH_NAMESPACE, "link", "add", "mesh", *bridge],
        ["-n", MESH_NAMESPACE, "link", "set", "mesh", "up"],
    ]


def build_node(rank: int) -> list[list[str]]:
    """`ip` commands for one node's namespace and its interface, which has no IPv6: links are of IPv4."""
    name, port = node_namespace(rank), mesh_port(rank)
    return [
        ["netns", "add", name],
        ["link", "add", port, "netns", MESH_NAMESPACE, "type", "veth", "peer", "name", MESH_DEVICE,
         "netns", name],
        ["-n", MESH_NAMESPACE, "link", "set", port, "master", "mesh", "up"],
        ["-n", name, "link", "set", "lo", "up"],
        ["-n", name, "addr", "add", f"{mesh_address(rank)}/16", "dev", MESH_DEVICE],
        # By a command of its own: `up` takes effect first, and gives the interface an IPv6 address.
        ["-n", name, "link", "set", MESH_DEVICE, "addrgenmode", "none"],
        ["-n", name, "link", "set", MESH_DEVICE, "up"],
    ]  # fmt: skip


def build_outside(rank: int) -> list[list[str]]:
    """`ip` commands that show a node a way out of the mesh, which leads nowhere; a kernel may lack the rules.

    Programs find their own address by connecting a UDP socket to an address of the internet, which sends nothing but
    needs a route. All other protocols, and names' servers, get an error at once. A gateway that no node is: all
    addresses outside are one neighbour, of the 1024 that the namespaces of a kernel share. Multicast and broadcast
    take the mesh, as on a host with one interface.
    """
    name, mesh = node_namespace(rank), ["dev", MESH_DEVICE, "src", mesh_address(rank)]
    return [
        ["-n", name, "route", "add", "224.0.0.0/4", "dev", MESH_DEVICE],
        ["-n", name, "route", "add", "broadcast", "255.255.255.255", "dev", MESH_DEVICE],
        ["-n", name, "route", "add", "default", "via", "10.77.255.254", *mesh, "table", _OUTSIDE_TABLE],
        ["-n", name, "rule", "add", "pref", "40000", "ipproto", "udp", "dport", "53", "unreachable"],
        ["-n", name, "rule", "add", "pref", "40001", "ipproto", "udp", "lookup", _OUTSIDE_TABLE],
    ]


def remove_node(rank: int) -> list[list[str]]:
    """`ip` commands that undo build_node. Interfaces first: the kernel removes those of a deleted namespace only
    later.
    """
    return [
        ["-n", MESH_NAMESPACE, "link", "del", mesh_port(rank)],
        ["netns", "del", node_namespace(rank)],
    ]
