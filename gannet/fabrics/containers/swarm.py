"""The swarm fabric, seen from a manager: deploy a stack for one comparison, follow it, remove it.

Like gannet.fabrics.containers.compose, over the machines of a Docker Swarm. The controller is placed on this machine,
so that its results land in the comparison's folder here; the nodes go wherever the swarm has room.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from gannet.fabrics.containers.compose import ORDER, settings_for
from gannet.fabrics.credentials import ROLES, fresh_secret
from gannet.fabrics.entrance import bundles
from gannet.fabrics.signals import ignore_signals, terminated_as_interrupted

FILE = Path(__file__).parents[3] / "compose" / "stack.yaml"
IMAGE = "gannet:0.1.0"
_START_S = 180.0  # for the controller's container to start; the image may have to be pulled first
_LEAVE_S = 120.0  # for scoring and reporting what was measured, after Ctrl-C
_GONE_S = 90.0
_POLL_S = 0.5
_LOOK_S = 5.0
_REFUSALS = 4  # of one task's placement in a row: not a transient problem


class _Docker:
    """The docker command with one environment."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def try_(self, *words: str, timeout_s: float = 60.0, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run it, with `given` as standard input."""
        argv = ["docker", *words]
        try:
            return subprocess.run(
                argv, env=self.environment, input=given, capture_output=True, text=True, timeout=timeout_s
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"`docker {' '.join(words[:2])}` has not answered for {timeout_s:.0f} s") from None

    def __call__(self, *words: str, timeout_s: float = 60.0, given: str = "") -> str:
        done = self.try_(*words, timeout_s=timeout_s, given=given)
        if done.returncode:
            said = done.stderr.strip() or done.stdout.strip()
            raise RuntimeError(f"`docker {' '.join(words[:2])}` failed: {said[-2000:]}")
        return done.stdout.strip()


def run_swarm(spec_text: str, folder: Path, nodes: int, say: Callable[[str], None]) -> int:
    """Run a comparison over a swarm; returns the controller's exit status, 130 after Ctrl-C.

    `folder`: where results go; it exists, on this machine, which is a manager. `say` receives each line that the
    cluster prints. The stack gets a new name and is removed with its networks, whatever happens. Raises RuntimeError
    with one clear message when this machine or another one cannot take part.
    """
    docker = _Docker(dict(os.environ))
    here = check_swarm(docker)
    image = pinned_image(docker, _image())
    stack = f"gannet-{secrets.token_hex(3)}"
    order = folder / ORDER
    docker.environment |= {
        **settings_for(folder, nodes),
        "GANNET_IMAGE": image,
        "GANNET_SECRETS": stack,
        "GANNET_PLACEMENT": f"node.id == {here}",
        "GANNET_DASHBOARDS": "0",
    }
    machines = docker("node", "ls", "--format", "{{.Status}} {{.Availability}}").splitlines().count("Ready Active")
    say(f"stack {stack}: {nodes} nodes over {machines} machine{'s' if machines != 1 else ''}")
    try:
        with terminated_as_interrupted():
            order.write_text(spec_text, encoding="utf-8")
            _make_secrets(docker, stack)
            docker("stack", "deploy", "--resolve-image", "never", "--with-registry-auth", "-c", str(FILE), stack)
            container = _controller(docker, stack)
            name = docker("inspect", "-f", "{{.Name}}", container).lstrip("/")
            say(f"links can be changed while it runs: docker exec {name} gannet net show")

            def tell(line: str) -> None:
                say(re.sub(r"/runs(?=/|$)", lambda _: str(folder), line))

            return _follow(docker, stack, container, tell)
    finally:
        with ignore_signals():  # a second Ctrl-C must not leave half a cluster behind
            _keep_logs(docker, stack, folder)
            remove(docker, stack, say)
            order.unlink(missing_ok=True)


def _make_secrets(docker: _Docker, stack: str) -> None:
    """New secrets of the swarm, which are removed with the stack, by standard input: each role's secret, key and
    certificate.
    """
    made = {role: fresh_secret() for role in ROLES}
    for role, identity in bundles.fresh().items():
        made[f"{bundles.ROLES[role]}-tls"] = identity.bundle.decode("ascii")
    for name, text in made.items():
        docker(
            "secret", "create", "--label", f"com.docker.stack.namespace={stack}", f"{stack}-{name}", "-", given=text
        )


def _image() -> str:
    return os.environ.get("GANNET_IMAGE") or IMAGE


def check_swarm(docker: _Docker) -> str:
    """Return this machine's id in its swarm. Raises RuntimeError that says what to install, start or run."""
    if not FILE.is_file():
        raise RuntimeError(f"{FILE} is not there: the swarm fabric works from a clone of the repository")
    if shutil.which("docker", path=docker.environment.get("PATH")) is None:
        raise RuntimeError(
            "docker is not installed: https://docs.docker.com/engine/install/, or use fabric: namespaces"
        )
    host = docker.environment.get("DOCKER_HOST") or docker.try_(
        "context", "inspect", "-f", "{{.Endpoints.docker.Host}}"
    ).stdout.strip()  # fmt: skip
    if host and not host.startswith("unix://"):
        raise RuntimeError(f"docker speaks to {host}, where results would stay: run this on a manager of the swarm")
    asked = docker.try_("info", "--format", "{{json .Swarm}}")
    if asked.returncode or not asked.stdout.strip().startswith("{"):
        said = (asked.stderr.strip() or asked.stdout.strip()).splitlines()
        advice = "start the engine (systemctl start docker), or join its group (usermod -aG docker)"
        raise RuntimeError(f"the Docker engine does not answer ({said[-1] if said else 'it says nothing'}): {advice}")
    swarm = json.loads(asked.stdout)
    if swarm.get("Error"):
        raise RuntimeError(f"this machine's swarm is not well: {swarm['Error']}")
    if swarm.get("LocalNodeState") != "active":
        raise RuntimeError(
            "this machine is in no swarm: `docker swarm init` here, on the others what it prints; see docs/swarm.md"
        )
    if not swarm.get("ControlAvailable"):
        managers = ", ".join(str(manager["Addr"]).split(":")[0] for manager in swarm.get("RemoteManagers") or ())
        raise RuntimeError(
            f"this machine is a worker of its swarm: run this on a manager ({managers}), "
            "or `docker node promote` it there"
        )
    if docker("node", "inspect", "self", "--format", "{{.Spec.Availability}}") != "active":
        raise RuntimeError("this machine takes no tasks: docker node update --availability active self")
    return str(swarm["NodeID"])


def pinned_image(docker: _Docker, name: str) -> str:
    """The image pinned for all machines: a registry's by digest, a local one by id.

    Given an id, a swarm never asks a registry, which on a machine without the Internet takes 20 s per task, and never
    takes another image of the same name.
    """
    found = docker.try_("image", "inspect", "--format", "{{json .}}", name)
    if found.returncode:
        raise RuntimeError(
            f"there is no image {name} on this machine: `docker compose build controller`, then bring it to the "
            "other machines (docs/swarm.md); or GANNET_IMAGE=NAME for another one"
        )
    described = json.loads(found.stdout)
    registry = name.split("/")[0]
    from_registry = "/" in name and (registry == "localhost" or "." in registry or ":" in registry)
    digests = [str(digest) for digest in described.get("RepoDigests") or ()]
    return digests[0] if from_registry and digests else str(described["Id"])


def _controller(docker: _Docker, stack: str) -> str:
    """The id of the controller's container, once it exists."""
    end = time.monotonic() + _START_S
    wanted = f"label=com.docker.swarm.service.name={stack}_controller"
    while not (found := docker("ps", "-a", "-q", "--no-trunc", "--filter", wanted, "--filter", "status=running",
                               "--filter", "status=exited").split()):  # fmt: skip
        _placed(docker, stack)
        if time.monotonic() > end:
            said = "; ".join(
                dict.fromkeys(f"{task.name}: {task.state} {task.error}" for task in _tasks(docker, stack))
            )
            raise RuntimeError(f"the controller's container is not there after {_START_S:.0f} s ({said})")
        time.sleep(_POLL_S)
    return found[0]


def _follow(docker: _Docker, stack: str, container: str, say: Callable[[str], None]) -> int:
    """Pass on the controller's output until it ends, and watch that all nodes are placed."""

    def listen(lines: Iterator[str]) -> None:
        for line in lines:
            say(line.rstrip("\n"))

    log = subprocess.Popen(
        ["docker", "logs", "-f", container],
        env=docker.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert log.stdout is not None
    ear = threading.Thread(target=listen, args=(iter(log.stdout),), name="log", daemon=True)
    ear.start()
    placed = False
    try:
        while log.poll() is None:
            placed = placed or _placed(docker, stack)
            with suppress(subprocess.TimeoutExpired):
                log.wait(_LOOK_S)
        ear.join(5.0)
        return int(docker("wait", container))
    except KeyboardInterrupt:
        say("interrupted: the cluster ends its run and reports on what it has")
        docker.try_("kill", "--signal", "INT", container)
        with suppress(subprocess.TimeoutExpired):
            log.wait(_LEAVE_S)
        return 130
    finally:
        log.kill()
        log.wait()
        ear.join(5.0)


class _Task:
    """One task of the stack, as `docker stack ps` lists it."""

    def __init__(self, line: str) -> None:
        self.name, self.machine, self.state, self.error = line.split("\t", 3)


def _tasks(docker: _Docker, stack: str) -> list[_Task]:
    columns = "{{.Name}}\t{{.Node}}\t{{.CurrentState}}\t{{.Error}}"
    try:
        listed = docker.try_("stack", "ps", "--no-trunc", "--format", columns, stack)
    except RuntimeError:
        return []  # a busy manager will answer next time
    if listed.returncode:
        return []
    return [_Task(line) for line in listed.stdout.splitlines() if line.count("\t") >= 3]


def _placed(docker: _Docker, stack: str) -> bool:
    """Whether all nodes run. Raises RuntimeError with the reason and a remedy if a task can never run."""
    tasks = _tasks(docker, stack)
    refused = [task for task in tasks if task.state.startswith("Rejected")]
    missing = sorted({task.machine for task in refused if "No such image" in task.error})
    if missing:
        raise RuntimeError(
            f"the image that this machine has is not on {', '.join(missing)}: "
            f"docker save {_image()} | ssh {missing[0]} docker load, or have it in a registry (docs/swarm.md)"
        )
    for task in refused:
        again = sum(other.name == task.name for other in refused)
        if again >= _REFUSALS or task.name.startswith(f"{stack}_controller."):
            raise RuntimeError(f"{task.machine} cannot run {task.name}: {task.error}")
    running = [task for task in tasks if task.name.startswith(f"{stack}_node.") and task.state.startswith("Running")]
    return len(running) == int(docker.environment["GANNET_NODES"])


def _keep_logs(docker: _Docker, stack: str, folder: Path) -> None:
    """Keep the nodes' logs with the results."""
    with suppress(RuntimeError, OSError):
        said = docker.try_("service", "logs", "--no-trunc", f"{stack}_node", timeout_s=20.0)
        (folder / "logs").mkdir(exist_ok=True)
        (folder / "logs" / "nodes.log").write_text(said.stdout + said.stderr, encoding="utf-8")


def remove(docker: _Docker, stack: str, say: Callable[[str], None]) -> None:
    """Remove a stack and wait until nothing of it is left; reports what cannot be removed."""
    left = "its services"
    end = time.monotonic() + _GONE_S
    with suppress(RuntimeError):
        docker.try_("stack", "rm", stack)
        while (left := _left(docker, stack)) and time.monotonic() < end:
            time.sleep(_POLL_S)
            if "network" in left and "task" not in left:
                docker.try_("stack", "rm", stack)  # a network that was still in use stays after the first attempt
    if left:
        say(f"could not remove everything ({left} remain): docker stack rm {stack}")


def _left(docker: _Docker, stack: str) -> str:
    of_stack = ("-q", "--filter", f"label=com.docker.stack.namespace={stack}")
    # Asking for a stack's tasks is an error once it has none.
    there = {"tasks": "\n".join(task.name for task in _tasks(docker, stack))}
    there |= {f"{kind}s": docker(kind, "ls", *of_stack) for kind in ("service", "network", "config", "secret")}
    there["containers"] = docker("ps", "-a", *of_stack)
    return ", ".join(kind for kind, names in there.items() if names)
