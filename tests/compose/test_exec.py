"""`gannet net exec` into containers: found by Compose's labels, entered by `docker exec`.

The containers are a project of their own with the services, networks and limits of compose.yaml, and nothing of
Gannet in them: what is looked for is how they are found, and what passes in and out.
"""

from __future__ import annotations

import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.compose_cluster import wait_until
from tests.support.docker import Engine
from tests.support.images import base_image
from tests.support.ports import free_ports
from tests.support.up import NET, environment

pytestmark = [pytest.mark.real("containers"), pytest.mark.timeout(600)]

_NUMBER = secrets.randbelow(200)
MESH, MGMT = f"10.{20 + _NUMBER}.91.0/24", f"10.{20 + _NUMBER}.92.0/24"


class Containers:
    """Two nodes and a controller, asleep."""

    def __init__(self, engine: Engine, port: str, state: Path, file: Path) -> None:
        self.engine, self.port, self.state = engine, port, state
        self.base = ("compose", "-p", f"gannet-test-{secrets.token_hex(3)}", "-f", str(file))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`gannet net exec ARGUMENTS`, running."""
        docker = {name: value for name, value in self.engine.environment.items() if name.startswith("DOCKER")}
        variables = environment(self.state, **docker) | {"GANNET_PORT": self.port}
        pipe = subprocess.PIPE
        argv = [*NET, "exec", *arguments]
        return subprocess.Popen(argv, env=variables, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def exec(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        process = self.start(*arguments)
        said, complained = process.communicate(stdin, timeout=180)
        return process.returncode, said, complained


@pytest.fixture(scope="module")
def containers(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    folder = tmp_path_factory.mktemp("exec")
    (port,) = free_ports(1)
    with base_image(engine, folder) as image:
        common = {
            "image": image, "command": ["sleep", "infinity"], "init": True, "read_only": True, "user": "root",
            "tmpfs": ["/run:mode=1777", "/tmp:mode=1777"], "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
        }  # fmt: skip
        node = {**common, "networks": ["mesh", "mgmt"], "environment": {"GANNET_MESH_SUBNET": MESH}}
        controller = {**common, "networks": ["mgmt"], "ports": [f"127.0.0.1:{port}:7001"]}
        nets = {name: {"ipam": {"config": [{"subnet": net}]}} for name, net in (("mesh", MESH), ("mgmt", MGMT))}
        file = folder / "compose.yaml"
        file.write_text(yaml.safe_dump({"services": {"node": node, "controller": controller}, "networks": nets}))
        found = Containers(engine, str(port), folder / "state", file)
        try:
            engine.docker(*found.base, "up", "-d", "--scale", "node=2")
            yield found
        finally:
            engine.docker(*found.base, "down", "-v", "--timeout", "1")


def test_ranks_follow_mesh_addresses_and_streams_and_status_pass(containers: Containers) -> None:
    seen = {}
    for rank in ("0", "1"):
        script = (
            'echo "$GANNET_NODE $GANNET_NODES $GANNET_ADDRESS $GANNET_PEERS"; cat; hostname -I; echo e >&2; exit 3'
        )
        status, said, complained = containers.exec(rank, "--", "sh", "-c", script, stdin="through\n")
        assert (status, complained) == (3, "e\n"), (said, complained)
        told, through, own = said.splitlines()
        number, count, address, peer = told.split()
        assert (number, count, through) == (rank, "2", "through") and address in own.split()
        seen[rank] = (address, peer)
    assert seen["0"] == seen["1"][::-1]
    assert int(seen["0"][0].split(".")[-1]) < int(seen["1"][0].split(".")[-1])


def test_the_controller_may_be_named(containers: Containers) -> None:
    address = f"127.0.0.1:{containers.port}"
    assert containers.exec("0", "--controller", address, "--", "true") == (0, "", "")


def test_mistakes(containers: Containers) -> None:
    status, said, complained = containers.exec("5", "--", "true")
    assert status == 125 and "there is no node 5" in complained and said == ""
    status, said, complained = containers.exec("0", "--", "no-such-program")
    assert status == 127 and "no-such-program" in complained and said == ""


def asleep(containers: Containers, seconds: str) -> bool:
    """Whether a `sleep` of so long is among the processes of node 0."""
    script = f"cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep {seconds[0]}[{seconds[1]}]{seconds[2:]}'"
    return containers.exec("0", "--", "sh", "-c", script)[1].strip() != "0"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_ends_the_caller_ends_the_program(containers: Containers, number: int) -> None:
    seconds = f"98{int(number):02d}"
    process = containers.start("0", "--", "sleep", seconds)
    try:
        wait_until("the program runs", lambda: asleep(containers, seconds), 240)
        process.send_signal(number)
        assert process.wait(180) == 128 + number
        wait_until("it has ended", lambda: not asleep(containers, seconds), 240)
    finally:
        process.kill()
        process.communicate()


def test_the_program_has_what_the_container_has(containers: Containers) -> None:
    """No capability here; more is to be had from Docker alone, and said so."""
    status, said, _ = containers.exec("0", "--", "grep", "CapEff", "/proc/self/status")
    assert status == 0 and int(said.split()[1], 16) == 0
    status, _, complained = containers.exec("--root", "0", "--", "true")
    assert status == 125 and "docker exec --privileged" in complained
