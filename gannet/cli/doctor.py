"""`gannet doctor`: checks the abilities of this machine, and shows how to fix those that fail."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from gannet.netem.preflight import preflight
from gannet.netem.shaping.commands import ENGINE_NAMES


@dataclass(frozen=True)
class Finding:
    """One ability: whether it works, what was seen, and the fix if it does not."""

    name: str
    ok: bool
    seen: str
    fix: str = ""


def examine() -> list[Finding]:
    """Try everything that Gannet can use on this machine."""
    links = [Finding(_link_name(r.name), r.usable, r.reason, r.fix) for r in preflight()]
    return [*links, _docker(), _gpu(), _inception()]


def table(findings: list[Finding]) -> Table:
    """The findings for the terminal."""
    result = Table(title="What this machine can do", title_justify="left", header_style="bold")
    for heading in ("", "what", "seen", "fix"):
        result.add_column(heading, overflow="fold")
    for finding in findings:
        mark = Text("yes", "green") if finding.ok else Text("no", "red")
        result.add_row(mark, Text(finding.name), Text(finding.seen), Text("" if finding.ok else finding.fix))
    return result


def engine_used(findings: list[Finding]) -> str:
    """Which link engine `engine: auto` takes here and why, in a sentence."""
    usable = [name for name in ENGINE_NAMES if any(f.ok and f.name == _link_name(name) for f in findings)]
    if not usable:
        return "No link engine works here, so fabric namespaces cannot be used: see the fixes. Fabric virtual can."
    if usable[0] == "netem":
        other = "; nfqueue is used only for jitter with a correlation" if "nfqueue" in usable else ""
        return f"Links will use engine netem, which delays packets in the kernel{other}."
    missing = next(finding.seen for finding in findings if finding.name == _link_name("netem"))
    return f"Links will use engine nfqueue, since netem does not work here ({missing.splitlines()[0]})."


def _link_name(name: str) -> str:
    return f"engine {name}" if name in ENGINE_NAMES else name


def _docker() -> Finding:
    if shutil.which("docker") is None:
        fix = "for fabric: compose, install Docker Engine (https://docs.docker.com/engine/install/)"
        return Finding("Docker", False, "no docker command", fix)
    ask = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        asked = subprocess.run(ask, capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return Finding("Docker", False, "the engine did not answer within 20 s", "check `systemctl status docker`")
    if asked.returncode:
        fix = "start the engine (systemctl start docker), or add yourself to the docker group"
        return Finding("Docker", False, "the engine does not answer", fix)
    compose = subprocess.run(["docker", "compose", "version", "--short"], capture_output=True, text=True, timeout=20)
    if compose.returncode:
        fix = "install Compose v2 (apt-get install docker-compose-plugin)"
        return Finding("Docker", False, f"engine {asked.stdout.strip()}, but no Compose v2", fix)
    return Finding("Docker", True, f"engine {asked.stdout.strip()}, Compose {compose.stdout.strip()}")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("GPU", True, torch.cuda.get_device_name(0))
    fix = "install NVIDIA's driver and a CUDA build of torch; without them train on the CPU (device: cpu)"
    return Finding("GPU", False, "torch sees no CUDA device", fix)


def _inception() -> Finding:
    from gannet.scores.networks.networks import inception_weights

    if inception_weights() is not None:
        return Finding("Inception weights", True, "scores of colour images can be FID")
    fix = "pip install torch-fidelity and let it fetch its weights; until then scores are named after other networks"
    return Finding("Inception weights", False, "not installed", fix)
