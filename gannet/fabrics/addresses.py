"""The layout of the namespaces fabric: addresses, names and the commands that build it. Pure.

    sandbox namespace ── mgmt bridge 10.78.0.1 ── mgmt0 of every node      (control, metrics: never shaped)
    namespace "mesh"  ── mesh bridge ──────────── mesh0 of every node      (messages: shaped in the node)
    namespace "nodeR" ── mesh0 10.77.x.y, mgmt0 10.78.x.y                  (`gannet net up`: no mgmt0)

The mesh bridge has a namespace of its own, so that no firewall rule of the host applies to its frames.
Management and mesh differ by subnet.
"""

from __future__ import annotations

MESH_DEVICE = "mesh0"
MGMT_DEVICE = "mgmt0"
MESH_NAMESPACE = "mesh"
CONTROLLER_ADDRESS = "10.78.0.1"
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


def node_namespace(rank: int) -> str:
    """Name of a node's network namespace."""
    return f"node{rank}"


def mesh_address(rank: int) -> str:
    """IPv4 address of a node on the shaped network."""
    return f"10.77.{rank // _PER_SUBNET}.{rank % _PER_SUBNET + 2}"


def mgmt_address(rank: int) -> str:
    """IPv4 address of a node on the management network."""
    return f"10.78.{rank // _PER_SUBNET}.{rank % _PER_SUBNET + 2}"


def build_hub() -> list[list[str]]:
    """`ip` commands for both bridges and their namespaces."""
    bridge = ["type", "bridge", "forward_delay", "0", "stp_state", "0", "mcast_snooping", "0",
              "ageing_time", str(100 * _AGEING_S)]  # fmt: skip
    return [
        ["link", "set", "lo", "up"],
        ["link", "add", "mgmt", *bridge],
        ["addr", "add", f"{CONTROLLER_ADDRESS}/16", "dev", "mgmt"],
        ["link", "set", "mgmt", "up"],
        ["netns", "add", MESH_NAMESPACE],
        ["-n", MESH_NAMESPACE, "link", "add", "mesh", *bridge],
        ["-n", MESH_NAMESPACE, "link", "set", "mesh", "up"],
    ]


def build_node(rank: int, management: bool = True) -> list[list[str]]:
    """`ip` commands for one node's namespace and its interfaces.

    The mesh comes first, for programs that take a host's first address. It has no IPv6: links are of IPv4.
    """
    name, mesh_port, mgmt_port = node_namespace(rank), f"mesh{rank}", f"mgmt{rank}"
    mesh = [
        ["netns", "add", name],
        ["link", "add", mesh_port, "netns", MESH_NAMESPACE, "type", "veth", "peer", "name", MESH_DEVICE,
         "netns", name],
        ["-n", MESH_NAMESPACE, "link", "set", mesh_port, "master", "mesh", "up"],
        ["-n", name, "link", "set", "lo", "up"],
        ["-n", name, "addr", "add", f"{mesh_address(rank)}/16", "dev", MESH_DEVICE],
        # By a command of its own: `up` takes effect first, and gives the interface an IPv6 address.
        ["-n", name, "link", "set", MESH_DEVICE, "addrgenmode", "none"],
        ["-n", name, "link", "set", MESH_DEVICE, "up"],
    ]  # fmt: skip
    mgmt = [
        ["link", "add", mgmt_port, "type", "veth", "peer", "name", MGMT_DEVICE, "netns", name],
        ["link", "set", mgmt_port, "master", "mgmt", "up"],
        ["-n", name, "addr", "add", f"{mgmt_address(rank)}/16", "dev", MGMT_DEVICE],
        ["-n", name, "link", "set", MGMT_DEVICE, "up"],
    ]  # fmt: skip
    return mesh + mgmt if management else mesh


def remove_node(rank: int) -> list[list[str]]:
    """`ip` commands that undo build_node. Interfaces first: the kernel removes those of a deleted namespace only
    later.
    """
    return [
        ["link", "del", f"mgmt{rank}"],
        ["-n", MESH_NAMESPACE, "link", "del", f"mesh{rank}"],
        ["netns", "del", node_namespace(rank)],
    ]
