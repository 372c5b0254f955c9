"""`python -m gannet.fabrics.containers.node_container`: the first process of a node's container. It trains nothing
and measures nothing.

It starts the link agent, which keeps NET_ADMIN and SYS_NICE of the container's capabilities and no other, and passes
its JSON lines on to the controller over the management network; and it starts the training process as an ordinary
user without a single capability. Then it gives up its own capabilities, except those needed to end the children. Both
live as long as the container; when one of them ends, so does the container, and its restart policy decides.

It reads the secrets of both, which are files of root, and their keys and certificates for TLS with the controller.
The training process gets a credential that is good for this container's name only (gannet.fabrics.credentials) and
its role's key, the link agent itself nothing: its connection is this process's. Certificates are renewed as it runs.

All other settings come from the environment, see compose/compose.yaml.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import grpc
import psutil

from gannet import logs
from gannet.fabrics import addresses as layout
from gannet.fabrics.containers.capabilities import CAP_KILL, keep_only
from gannet.fabrics.containers.hello import MOST_COMPLAINT
from gannet.fabrics.containers.management import keep_to_the_controller
from gannet.fabrics.containers.renewals import Handing, Newest
from gannet.fabrics.credentials import CredentialError, node_credential, read_secret, secret_file
from gannet.fabrics.job import LinkAgent
from gannet.netem.agent.client import AgentClient, AgentError, launch
from gannet.netem.preflight import engines_here
from gannet.node.process.controller_client import KEEPALIVE, until_reachable
from gannet.node.wire import control_pb2, control_pb2_grpc
from gannet.node.wire.metadata import CREDENTIAL

log = logging.getLogger("gannet.fabrics.containers.node_container")

_ALIVE = Path("/run/gannet/alive")
_BEAT_S = 2.0
_CONNECT_S = 30.0
_TRAINER = "gannet"
_PRIVILEGES_DROPPED = (
    "setpriv", f"--reuid={_TRAINER}", f"--regid={_TRAINER}", "--clear-groups", "--bounding-set=-all",
    "--inh-caps=-all", "--no-new-privs", "--",
)  # fmt: skip
_LINKS_ONLY = ("setpriv", "--bounding-set=-all,+net_admin,+sys_nice", "--inh-caps=-all", "--no-new-privs", "--")


class MemberError(Exception):
    """The container is not set up as a node's container; the message says what to change."""


def interface_in(subnet: str) -> tuple[str, str]:
    """Device and IPv4 address of this container in a network: their order is not reliable, subnets are."""
    network = ipaddress.ip_network(subnet)
    for device, addresses in sorted(psutil.net_if_addrs().items()):
        for address in addresses:
            # The service's virtual address on a swarm overlay is a /32 next to the container's own.
            own = address.family is socket.AF_INET and address.netmask != "255.255.255.255"
            if own and ipaddress.ip_address(address.address) in network:
                return device, address.address
    raise MemberError(f"no interface of this container is in {subnet}: attach it to both networks of compose.yaml")


class Relay:
    """Relays between the agent's pipe and the connection to the controller, which it reopens whenever it breaks."""

    def __init__(
        self, agent: LinkAgent, hello: control_pb2.AgentHello, secret: str, newest: Newest, controller: str
    ) -> None:
        self._agent, self._hello, self._newest, self._controller = agent, hello, newest, controller
        self._metadata = ((CREDENTIAL, secret),)
        self._told = ""
        # A probe takes seconds. Neither a change of links nor other peers' probes, which may have to run at the same
        # time (gannet.netem.measure.probe_plan.fans), must wait for it: the agent answers out of order.
        self._pool = ThreadPoolExecutor(128, "agent")

    def run(self) -> NoReturn:
        """Serve the controller; never returns."""
        while True:
            try:
                self._serve()
                log.info("the controller closed the link agent's connection")
            except grpc.FutureTimeoutError:
                pass  # it has gone again
            except grpc.RpcError as error:
                told = f"{error.details()} ({error.code().name})"
                if (
                    error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
                    and told != self._told
                ):
                    self._told = told  # it is refused again every second
                    log.warning("the controller: %s", told)
            # Links outlive a controller, so that a run's last messages are still shaped; the next run replaces them.
            time.sleep(1.0)

    def _serve(self) -> None:
        until_reachable(self._controller, self._newest)
        identity = self._newest()
        words: queue.SimpleQueue[control_pb2.AgentWord | None] = queue.SimpleQueue()
        words.put(control_pb2.AgentWord(hello=self._hello))
        options = [("grpc.max_reconnect_backoff_ms", 1000), *KEEPALIVE, *identity.options()]
        with grpc.secure_channel(self._controller, identity.channel(), options=options) as channel:
            grpc.channel_ready_future(channel).result(_CONNECT_S)
            stub = control_pb2_grpc.MembershipStub(channel)
            outgoing: Iterator[control_pb2.AgentWord] = iter(words.get, None)
            try:
                for order in stub.Serve(outgoing, metadata=self._metadata):
                    self._pool.submit(self._answer, json.loads(order.json), words)
            finally:
                words.put(None)

    def _answer(self, order: dict[str, Any], words: queue.SimpleQueue[control_pb2.AgentWord | None]) -> None:
        number, op, timeout_s = order.pop("id"), order.pop("op"), order.pop("timeout_s", 30.0)
        try:
            found = {} if op == "ping" else self._agent.request(op, timeout_s=timeout_s, **order)
            answer = {"id": number, "ok": found}
        except AgentError as error:
            answer = {"id": number, "error": str(error)}
        words.put(control_pb2.AgentWord(answer=control_pb2.AgentAnswer(json=json.dumps(answer))))


def start_trainer(mesh: str, mesh_device: str, mgmt: str, controller: str) -> subprocess.Popen[bytes]:
    """Start the training process as an ordinary user, without capabilities and without a way to gain any.

    It waits for its credential (gannet.fabrics.containers.renewals.Handing).
    """
    argv = [
        *_PRIVILEGES_DROPPED, sys.executable, "-P", "-m", "gannet.node", "--stay",
        "--controller", f"{controller}:{layout.CONTROL_PORT}", "--mesh", f"{mesh}:{layout.MESH_PORT}",
        "--mesh-device", mesh_device, "--metrics", f"{mgmt}:{layout.METRICS_PORT}",
    ]  # fmt: skip
    environment = {**os.environ, "HOME": "/tmp", "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
    environment["MALLOC_TRIM_THRESHOLD_"] = str(
        10**9
    )  # as in gannet.fabrics.namespaces.fork_client: keep a step's memory
    return subprocess.Popen(argv, stdin=subprocess.PIPE, env=environment)


def _needed(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise MemberError(f"{name} is not set: start this container by compose/compose.yaml, or as it does")
    return value


def main() -> int:
    """Run until a child ends or a signal comes; the children end with it."""
    try:
        logs.configure("info")
    except logs.LogSettingError as error:
        sys.stderr.write(f"gannet: {error}\n")
        return 2
    try:
        controller = _needed("GANNET_CONTROLLER").partition(":")[0]
        mesh_subnet = _needed("GANNET_MESH_SUBNET")
        device, mesh = interface_in(mesh_subnet)
        mgmt_subnet = _needed("GANNET_MGMT_SUBNET")
        mgmt_device, mgmt = interface_in(mgmt_subnet)
        of_trainers, of_agents = (read_secret(secret_file(role)) for role in ("trainer", "agent"))
        trainers_own, agents_own = Newest("trainer"), Newest("agent")
    except (MemberError, CredentialError, ValueError, OSError) as error:
        log.error("%s", error)
        return 2
    host = socket.gethostname()
    log.info("container %s, mesh %s on %s", host, mesh, device)
    working, complaint = engines_here()
    # Before an ordinary user's process could: all users may write to /run, but a file in it belongs to its creator.
    _ALIVE.parent.mkdir(mode=0o755, exist_ok=True)
    Path("/run/xtables.lock").touch(mode=0o600)
    if wrong := keep_to_the_controller(mgmt_device, mgmt_subnet):
        log.warning("programs in this node can reach other nodes by %s, which is not shaped: %s", mgmt_device, wrong)
    os.environ |= logs.for_child("info")
    agent_process = launch(_LINKS_ONLY, f"link agent of {host}")
    trainer = start_trainer(mesh, device, mgmt, controller)
    handing = Handing(trainer, node_credential(of_trainers, host), trainers_own)
    handing.hand()
    keep_only(CAP_KILL)  # while this is the only thread
    agent = AgentClient(agent_process)
    hello = control_pb2.AgentHello(
        host=host, mesh_device=device, mesh_address=mesh,
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        engines=",".join(working), complaint=complaint[:MOST_COMPLAINT],
    )  # fmt: skip
    relay = Relay(agent, hello, of_agents, agents_own, f"{controller}:{layout.AGENTS_PORT}")
    threading.Thread(target=relay.run, daemon=True).start()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    children: dict[str, subprocess.Popen[bytes]] = {"the training process": trainer, "the link agent": agent.process}
    dead: str | None = None
    while not ended.wait(_BEAT_S):
        dead = next((name for name, child in children.items() if child.poll() is not None), None)
        if dead:
            log.error("%s ended with status %d", dead, children[dead].returncode)
            break
        handing.hand()
        _ALIVE.touch()
    trainer.terminate()
    agent.close(3.0)
    try:
        trainer.wait(3.0)
    except subprocess.TimeoutExpired:
        trainer.kill()
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
