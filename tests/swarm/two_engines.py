"""Two private Docker engines in two network namespaces, joined by one veth pair into one swarm.

    namespace …-a  manager 192.0.2.1 ── veth ── 192.0.2.2 worker  namespace …-b

Each has a host name and, by a time namespace, a monotonic clock of its own, as two machines have. Nothing else
of the machine is touched: no engine that runs already, no bridge, no firewall rule of the root namespace.
Both engines end with `close()`, or with this process.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

_PATIENCE_S = 180.0


def wait_until(what: str, true: Callable[[], bool], patience_s: float = _PATIENCE_S) -> None:
    """Poll until `true()`; AssertionError that says what never came."""
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end, f"waited {patience_s:.0f} s in vain until {what}"
        time.sleep(0.2)


def _root(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip()[-500:]}"


def _name_servers() -> set[str]:
    lines = [line.split() for line in Path("/etc/resolv.conf").read_text().splitlines()]
    servers = {words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"}
    return {server for server in servers if ":" not in server and not server.startswith("127.")}


class Engine:
    """One dockerd with its own data, socket and network namespace."""

    def __init__(self, name: str, namespace: str, address: str, folder: Path, boot_s: int) -> None:
        self.boot_s = boot_s  # by how much its monotonic clock is ahead of this machine's
        self.name, self.namespace, self.address, self.folder = name, namespace, address, folder
        self.host = f"unix://{folder}/docker.sock"
        self.data = folder / "data"
        self.cgroup = f"/{folder.parent.name}-{name}"
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """What makes a `docker` command speak to this engine and to nothing else."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
        return {**kept, "DOCKER_HOST": self.host, "DOCKER_CONFIG": str(self.folder / "config")}

    def docker(self, *arguments: str, check: bool = True, timeout_s: float = 120.0) -> str:
        """Standard output of a docker command, stripped."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.environment(), capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout.strip()

    def start(self) -> None:
        """Start and wait until it answers."""
        (self.folder / "config").mkdir(parents=True, exist_ok=True)
        settings = self.folder / "daemon.json"
        settings.write_text("{}")
        # nsenter and not `ip netns exec`, which would mount a /sys without the control groups. A host name of its
        # own is what the swarm calls the machine.
        with (self.folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "setpriv", "--pdeathsig", "TERM", "nsenter", f"--net=/run/netns/{self.namespace}",
                    "unshare", "--uts", "--time", "--monotonic", str(self.boot_s),
                    "sh", "-c", 'hostname "$0" && exec "$@"', self.name,
                    "dockerd", "--config-file", str(settings), "--data-root", str(self.data),
                    "--exec-root", str(self.folder / "exec"), "--pidfile", str(self.folder / "dockerd.pid"),
                    "--host", self.host, "--cgroup-parent", self.cgroup, "--bridge=none", "--userland-proxy=false",
                    "--shutdown-timeout=5", "--log-level=warn",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

        def answers() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"dockerd ended:\n{self.log()}"
            return self.docker("version", "--format", "{{.Server.Version}}", check=False) != ""

        wait_until(f"the engine of {self.namespace} answers", answers)

    def log(self) -> str:
        """The end of what dockerd wrote."""
        return "\n".join((self.folder / "dockerd.log").read_text(errors="replace").splitlines()[-30:])

    def containers(self) -> list[str]:
        """Names of all containers, ended ones too."""
        return self.docker("ps", "-a", "--format", "{{.Names}}").split()

    def in_network_of(self, container: str, *argv: str) -> str:
        """Run one of this machine's own commands in a container's network namespace."""
        pid = self.docker("inspect", "--format", "{{.State.Pid}}", container)
        done = subprocess.run(["nsenter", "-t", pid, "-n", *argv], capture_output=True, text=True, check=True)
        return done.stdout

    def stop(self) -> None:
        """End dockerd, what it runs, and what it mounted."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if mount.startswith(f"{self.folder}/")]):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        for hierarchy in Path("/sys/fs/cgroup").glob(f"**{self.cgroup}"):
            with contextlib.suppress(OSError):
                hierarchy.rmdir()


class TwoEngines:
    """The two engines: `a` is the swarm's manager, `b` a worker."""

    def __init__(self, images: Path | None = None) -> None:
        """`images`: the data folder of an engine of our own, whose images both shall have from the start.

        Layers are immutable, so both get hard links: as good as `docker load`, and a hundred times faster for an
        image of 6 GB. The index of images is copied, since engines write to it.
        """
        self._images = images
        # Links do not cross file systems, and /tmp may be memory.
        self.folder = Path(tempfile.mkdtemp(prefix="gannet-swarm-", dir=images.parent if images else "/var/tmp"))
        mark = f"gs{os.getpid()}"
        self.a = Engine("gannet-a", f"{mark}-a", "192.0.2.1", self.folder / "a", 0)
        self.b = Engine("gannet-b", f"{mark}-b", "192.0.2.2", self.folder / "b", 5000)
        self._close = contextlib.ExitStack()

    def __enter__(self) -> TwoEngines:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def load(self, environment: Mapping[str, str], tag: str) -> None:
        """Give both an image of an engine that is not ours, as a user would."""
        for engine in (self.a, self.b):
            save = subprocess.Popen(["docker", "save", tag], env=dict(environment), stdout=subprocess.PIPE)
            load = subprocess.run(["docker", "load", "-q"], env=engine.environment(), stdin=save.stdout, check=False)
            assert (save.wait(), load.returncode) == (0, 0)

    def wire_bytes(self) -> int:
        """What the wire between the two machines has carried, both ways, as the kernel counts it."""
        pattern = ["ip", "-n", self.a.namespace, "-s", "-j", "link", "show", "wire"]
        (found,) = json.loads(subprocess.run(pattern, capture_output=True, text=True, check=True).stdout)
        return int(found["stats64"]["rx"]["bytes"]) + int(found["stats64"]["tx"]["bytes"])

    def _share(self, engine: Engine, images: Path) -> None:
        # A running engine mounts its data folder over itself, and links do not cross mounts: go without that.
        link = 'umount -l "$0" 2>/dev/null; cp -al "$0/overlay2" "$1"'
        engine.data.mkdir()
        _root("unshare", "--mount", "sh", "-c", link, str(images), str(engine.data / "overlay2"))
        _root("cp", "-a", str(images / "image"), str(engine.data / "image"))
        shutil.rmtree(engine.data / "image" / "overlay2" / "layerdb" / "mounts", ignore_errors=True)

    def _start(self) -> None:
        for engine in (self.a, self.b):
            _root("ip", "netns", "add", engine.namespace)
            self._close.callback(subprocess.run, ["ip", "netns", "del", engine.namespace], check=False)
            _root("ip", "-n", engine.namespace, "link", "set", "lo", "up")
        a, b = self.a.namespace, self.b.namespace
        _root("ip", "-n", a, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", b)
        for engine, other in ((self.a, self.b), (self.b, self.a)):
            _root("ip", "-n", engine.namespace, "addr", "add", f"{engine.address}/24", "dev", "wire")
            _root("ip", "-n", engine.namespace, "link", "set", "wire", "up")
            _root("ip", "-n", engine.namespace, "route", "add", "default", "via", other.address)
            # No registry can be asked from here: let that be known at once and not after 20 s.
            for server in _name_servers():
                _root("ip", "-n", engine.namespace, "route", "add", "unreachable", server)
        for engine in (self.a, self.b):
            engine.folder.mkdir()
            if self._images:
                self._share(engine, self._images)
            self._close.callback(engine.stop)
            engine.start()
        self.a.docker("swarm", "init", "--advertise-addr", self.a.address)
        token = self.a.docker("swarm", "join-token", "-q", "worker")
        self.b.docker("swarm", "join", "--advertise-addr", self.b.address, "--token", token, f"{self.a.address}:2377")
        states = ("node", "ls", "--format", "{{.Status}}")
        wait_until("both are ready", lambda: self.a.docker(*states).split() == ["Ready", "Ready"])

    def close(self) -> None:
        """Take everything down and remove the folder."""
        self._close.close()
        shutil.rmtree(self.folder)
