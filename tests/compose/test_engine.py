"""The tests' own Docker engine leaves the machine as it found it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.docker import private_engine
from tests.support.images import BASE, base_image

pytestmark = [
    pytest.mark.real("containers"),
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("dockerd"), reason="only root with dockerd can start an engine"
    ),
]

_BUILD = f"""
services:
  built:
    image: built
    build: {{context: ., network: host, dockerfile_inline: "FROM {BASE}\\nRUN touch /built"}}
"""


def machine() -> dict[str, list[str]]:
    """What an engine could change outside its folder, in words that do not change by themselves."""

    def words(*argv: str) -> list[str]:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()

    commands = [entry / "cmdline" for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    running = []
    for command in commands:
        try:
            running.append(command.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return {
        "firewall": [line.split(" [")[0] for line in words("iptables-save") if not line.startswith("#")],
        "interfaces": sorted(line.split()[0] for line in words("ip", "-brief", "link")),
        "forwarding": words("sysctl", "-n", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"),
        "mounts": sorted(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()),
        "engines": sorted(line for line in running if "gannet-engine-" in line),
        "settings": sorted(str(path) for path in Path("/etc").glob("docker/*")),
        "folders": sorted(str(path) for path in Path("/var/tmp").glob("gannet-engine-*")),
        "control groups": sorted(str(path) for path in Path("/sys/fs/cgroup").glob("**/gannet-engine-*")),
    }


def test_a_private_engine_leaves_nothing_behind_even_with_containers_up(tmp_path: Path) -> None:
    before = machine()
    with private_engine() as engine:
        with base_image(engine, tmp_path):
            (tmp_path / "compose.yaml").write_text(_BUILD)
            engine.docker("compose", "-f", str(tmp_path / "compose.yaml"), "build")
            engine.docker("network", "create", "--subnet", "10.233.1.0/24", "left")
            run = ("run", "-d", "--init", "--network", "left", "-p", "127.0.0.1::80", "-v", "kept:/kept", BASE)
            container = engine.docker(*run, "sleep", "300")
            address = engine.docker("inspect", "-f", "{{.NetworkSettings.Networks.left.IPAddress}}", container)
            assert address == "10.233.1.2"
        during = machine()
    assert {what for what in before if before[what] != during[what]} >= {"interfaces", "mounts", "engines", "folders"}
    assert during["firewall"] == before["firewall"]
    assert machine() == before
