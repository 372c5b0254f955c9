"""The images that the container tests need: ours, built as a user builds it, and others where no registry is.

Without a registry, the base image comes from debootstrap and Prometheus from Debian's package of it, under the names
that our files ask for; what is made so is removed from an engine that is not ours.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.support.docker import DockerError, Engine, cache_folder

ROOT = Path(__file__).parents[2]
FILE = ROOT / "compose" / "compose.yaml"
BASE = "debian:bookworm-slim"
_DEBIAN = "http://deb.debian.org/debian"
_SUITES = (
    f"deb {_DEBIAN} bookworm main\n"
    f"deb {_DEBIAN} bookworm-updates main\n"
    "deb http://deb.debian.org/debian-security bookworm-security main\n"
)
_STAND_IN = f"""\
FROM {BASE}
RUN apt-get update -q && apt-get install -y -q --no-install-recommends prometheus busybox && \\
    ln -s /bin/busybox /usr/local/bin/wget && \\
    install -d -o nobody -g nogroup /prometheus && rm -rf /var/lib/apt/lists/*
USER nobody
WORKDIR /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
"""


@dataclass(frozen=True)
class BuiltImage:
    """Our image. `seconds`: what the build took with a base image at hand; `size`: bytes, as the engine counts."""

    tag: str
    seconds: float
    size: int
    torch_index: str

    def __str__(self) -> str:
        index = self.torch_index or "the usual index"
        return f"image {self.tag}: {self.size / 1e9:.2f} GB, built in {self.seconds:.0f} s, torch from {index}"


@contextlib.contextmanager
def gannet_image(engine: Engine, scratch: Path) -> Iterator[BuiltImage]:
    """Build our image with Compose, for the session."""
    tag = "gannet:0.1.0" if engine.private else f"gannet-test:{os.getpid()}"
    with base_image(engine, scratch):
        index, environment = _torch_index(), {"GANNET_IMAGE": tag, **_pip_settings()}
        override = scratch / "build.yaml"
        # The machine's own network: a private engine routes nothing.
        proxies = {name: value for name, value in os.environ.items() if re.fullmatch(r"(?i)(https?|no)_proxy", name)}
        build = {"network": "host", "args": proxies}
        override.write_text(yaml.safe_dump({"services": {"controller": {"build": build}}}))
        begun = time.monotonic()
        engine.docker(
            "compose", "--progress", "plain", "-f", str(FILE), "-f", str(override), "build",
            timeout_s=1800, TORCH_INDEX=index, **environment,
        )  # fmt: skip
        size = int(engine.docker("image", "inspect", "-f", "{{.Size}}", tag))
        try:
            yield BuiltImage(tag, time.monotonic() - begun, size, index)
        finally:
            if not engine.private:
                engine.docker("image", "rm", tag)


@contextlib.contextmanager
def base_image(engine: Engine, scratch: Path) -> Iterator[str]:
    """The base image of our Dockerfile."""
    made = not engine.pulled(BASE)
    if made:
        engine.docker("import", str(_base_system(scratch)), BASE)
    try:
        yield BASE
    finally:
        if made and not engine.private:
            engine.docker("image", "rm", BASE)


@contextlib.contextmanager
def prometheus_image(engine: Engine, scratch: Path) -> Iterator[str]:
    """The Prometheus that compose.yaml names, or Debian's under that name."""
    tag = str(yaml.safe_load(FILE.read_text())["services"]["prometheus"]["image"])
    made = not engine.pulled(tag)
    if made:
        context = scratch / "prometheus"
        context.mkdir()
        (context / "Dockerfile").write_text(_STAND_IN)
        with base_image(engine, scratch):
            argv = ("build", "--network=host", "-t", tag, str(context))
            engine.docker(*argv, timeout_s=600, DOCKER_BUILDKIT="0")  # 1 would want a plugin that may not be here
    try:
        yield tag
    finally:
        if made and not engine.private:
            engine.docker("image", "rm", tag)


def _base_system(scratch: Path) -> Path:
    """A tar of Debian's smallest system, kept for later sessions."""
    kept = cache_folder() / "bookworm.tar"
    if kept.exists():
        return kept
    if os.geteuid() or not shutil.which("debootstrap"):
        raise DockerError(f"cannot pull {BASE}; making it takes root and debootstrap")
    system = scratch / "bookworm"
    _run("debootstrap", "--variant=minbase", "bookworm", str(system), _DEBIAN)
    (system / "etc/apt/sources.list").write_text(_SUITES)
    for waste in (
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
        "var/cache/apt/archives",
        "var/lib/apt/lists",
    ):
        shutil.rmtree(system / waste)
        (system / waste).mkdir()
    (system / "var/cache/apt/archives/partial").mkdir()
    unfinished = kept.with_name(f"{kept.name}.{os.getpid()}")
    _run("tar", "-C", str(system), "-cf", str(unfinished), ".")
    shutil.rmtree(system)
    return unfinished.rename(kept)


def _torch_index() -> str:
    """The environment's TORCH_INDEX, else the Dockerfile's where it can be reached, else the usual index."""
    if (given := os.environ.get("TORCH_INDEX")) is not None:
        return given
    default = re.search(r"^ARG TORCH_INDEX=(\S+)$", (ROOT / "compose/Dockerfile").read_text(), re.MULTILINE)
    assert default is not None
    try:
        with urllib.request.urlopen(f"{default[1]}/torch/", timeout=15):
            return default[1]
    except OSError:
        return ""


def _pip_settings() -> dict[str, str]:
    """What this machine's pip is configured with, as far as it means something inside a build."""

    def setting(name: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "config", "get", f"global.{name}"], capture_output=True, text=True
        )
        return os.environ.get(f"PIP_{name.upper().replace('-', '_')}", "") or done.stdout.strip()

    def urls(name: str) -> str:
        return " ".join(word for word in setting(name).split() if word.startswith(("http://", "https://")))

    settings = {
        "PIP_INDEX_URL": urls("index-url"),
        "PIP_EXTRA_INDEX_URL": urls("extra-index-url"),
        "PIP_FIND_LINKS": urls("find-links"),
        "PIP_TRUSTED_HOST": setting("trusted-host"),
    }
    return settings | ({"GANNET_CA": cert} if (cert := setting("cert")) else {})


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {(done.stdout + done.stderr)[-2000:]}"
