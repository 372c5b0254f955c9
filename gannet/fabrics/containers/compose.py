"""The compose fabric, seen from the host: start a cluster for one comparison, follow it, take it down.

The comparison itself runs in the controller's container (see gannet.experiment.serve); its results land in the
comparison's folder, which is mounted there.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path

from gannet.fabrics.signals import ignore_signals, terminated_as_interrupted

FILE = Path(__file__).parents[3] / "compose" / "compose.yaml"
ORDER = "order.yaml"  # the spec as the controller reads it, in the results' folder while the run lasts
DEFAULT_PORT = 7701
_LEAVE_S = 120  # for scoring and reporting what was measured, after Ctrl-C


def run_compose(spec_text: str, folder: Path, nodes: int, say: Callable[[str], None]) -> int:
    """Run a comparison on containers of this machine; returns the controller's exit status.

    `folder`: where results go; it exists. `say` receives each line that the cluster prints. The cluster gets a new
    name and is removed with its networks and volumes, whatever happens. Raises RuntimeError with one clear message
    when Docker cannot be used.
    """
    check_docker()
    project = f"gannet-{secrets.token_hex(3)}"
    order = folder / ORDER
    order.write_text(spec_text, encoding="utf-8")
    environment = {**os.environ, **settings_for(folder, nodes), "GANNET_PORT": str(free_port(DEFAULT_PORT))}
    base = ["docker", "compose", "-p", project, "-f", str(FILE)]

    def compose(*words: str, check: bool = True) -> str:
        done = subprocess.run([*base, *words], env=environment, capture_output=True, text=True)
        if check and done.returncode:
            raise RuntimeError(f"docker compose {words[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    say(f"project {project}: {nodes} nodes (the first time, the image is built: some minutes)")
    try:
        with terminated_as_interrupted():
            up = ["up", "-d", "--no-color", "--scale", f"node={nodes}", "controller", "node"]
            started = subprocess.run([*base, *up], env=environment, capture_output=True, text=True)
            if started.returncode:
                raise RuntimeError(f"docker compose up failed: {started.stderr.strip()[-2000:]}")
            container = compose("ps", "-a", "-q", "controller").strip()
            name = subprocess.run(["docker", "inspect", "-f", "{{.Name}}", container], capture_output=True, text=True)
            say(f"links can be changed while it runs: docker exec {name.stdout.strip().lstrip('/')} gannet net show")
            try:
                follow(["docker", "logs", "-f", container], say, str(folder))
            except KeyboardInterrupt:
                say("interrupted: the cluster ends its run and reports on what it has")
                subprocess.run(["docker", "kill", "--signal", "INT", container], capture_output=True)
                with suppress(subprocess.TimeoutExpired):
                    subprocess.run(["docker", "wait", container], capture_output=True, timeout=_LEAVE_S)
                return 130
            ended = subprocess.run(["docker", "wait", container], capture_output=True, text=True)
            return int(ended.stdout or 1)
    finally:
        with ignore_signals():
            with suppress(OSError):  # a full disk must not prevent the cluster's removal
                (folder / "logs").mkdir(exist_ok=True)
                said = compose("logs", "--no-color", "node", check=False)
                (folder / "logs" / "nodes.log").write_text(said, encoding="utf-8")
            remove = [*base, "down", "-v", "--remove-orphans", "--timeout", "10"]
            down = subprocess.run(remove, env=environment, capture_output=True, text=True)
            order.unlink(missing_ok=True)
            if down.returncode:
                say(f"could not remove everything ({down.stderr.strip()}): docker compose -p {project} down -v")


def settings_for(folder: Path, nodes: int) -> dict[str, str]:
    """Settings of both compose.yaml and stack.yaml for one comparison, whose results go to `folder`."""
    return {
        "GANNET_SPEC": f"/runs/{ORDER}",
        "GANNET_OUT": ".",
        "GANNET_SET": "",
        "GANNET_RUNS": str(folder),
        "GANNET_NODES": str(nodes),
        # Separate networks, so that several clusters can run at once.
        **free_subnets(),
    }


def check_docker() -> None:
    """Check that `docker compose` works here. Raises RuntimeError that says what to install or to start."""
    if not FILE.is_file():
        raise RuntimeError(f"{FILE} is not there: the compose fabric works from a clone of the repository")
    if shutil.which("docker") is None:
        raise RuntimeError(
            "docker is not installed: https://docs.docker.com/engine/install/, or use fabric: namespaces"
        )
    for words, fix in (
        (["docker", "version"], "start the engine (systemctl start docker), or join its group (usermod -aG docker)"),
        (["docker", "compose", "version"], "install Compose v2 (apt-get install docker-compose-plugin)"),
    ):
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"`{' '.join(words)}` failed: {done.stderr.strip()}; {fix}")


def follow(command: Sequence[str], say: Callable[[str], None], folder: str) -> None:
    """Pass on a command's output until it ends, with the path of the results' folder translated to the host's."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                say(line.rstrip("\n").replace("/runs/", f"{folder}/"))
        except BaseException:
            process.kill()
            raise


def free_port(wanted: int) -> int:
    """`wanted` if no program listens on it on loopback, else any port that is free now."""
    for port in (wanted, 0):
        with socket.socket() as sock, suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            return int(sock.getsockname()[1])
    raise RuntimeError("no free port on 127.0.0.1")


def free_subnets() -> dict[str, str]:
    """Subnets for mesh and management that none of the engine's networks overlaps, as variables of compose.yaml."""
    listed = subprocess.run(["docker", "network", "ls", "-q"], capture_output=True, text=True).stdout.split()
    ask = ["docker", "network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", *listed]
    subnets = subprocess.run(ask, capture_output=True, text=True).stdout.split() if listed else []
    taken = [IPv4Network(subnet, strict=False) for subnet in subnets if ":" not in subnet]
    for number in range(177, 250, 2):
        both = [IPv4Network(f"10.{number + i}.0.0/16") for i in range(2)]
        if not any(network.overlaps(other) for network in both for other in taken):
            return {"GANNET_MESH_SUBNET": str(both[0]), "GANNET_MGMT_SUBNET": str(both[1])}
    raise RuntimeError("no free 10.x.0.0/16 networks are left: remove unused ones with docker network prune")
