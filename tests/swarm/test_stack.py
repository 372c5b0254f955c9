"""stack.yaml says what compose.yaml says, as far as a swarm understands it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gannet.fabrics.credentials import ROLES
from gannet.fabrics.entrance.bundles import ROLES as CERTIFIED

pytestmark = pytest.mark.real("containers")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "compose"
_LARGEST_CONFIG_BYTES = 500 << 10  # a swarm's own limit


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "stack.yaml").read_text())
    return found


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return found


@pytest.mark.parametrize("name", ["controller", "node", "prometheus", "grafana"])
def test_a_service_is_the_one_of_compose(stack: dict[str, Any], compose: dict[str, Any], name: str) -> None:
    there, here = stack["services"][name], compose["services"][name]
    for same in ("image", "command", "cap_drop", "cap_add", "read_only", "init", "user", "logging"):
        assert there.get(same) == here.get(same), same
    assert list(there["networks"]) == list(here["networks"])  # Compose's have priorities, which a stack knows no more
    assert {key: int(value) for key, value in there.get("sysctls", {}).items()} == here.get("sysctls", {})
    assert there["deploy"]["endpoint_mode"] == "dnsrr"
    limits = there["deploy"]["resources"]["limits"]
    assert limits["memory"] == here["mem_limit"]
    assert (limits.get("cpus"), limits.get("pids")) == (here.get("cpus"), here.get("pids_limit"))
    assert not {"ports", "security_opt", "privileged", "tmpfs", "restart", "build"} & there.keys()
    mounts = {volume["target"]: volume for volume in there.get("volumes", [])}
    assert {target for target, volume in mounts.items() if volume["type"] == "tmpfs"} == {
        line.split(":")[0] for line in here["tmpfs"]
    }
    assert "docker.sock" not in str(there)


def test_nodes_and_controller_are_told_the_same(stack: dict[str, Any], compose: dict[str, Any]) -> None:
    differ = {"GANNET_FABRIC", "GANNET_NODE_NAME", "GANNET_NODES"}
    for name in ("controller", "node"):
        there, here = (file["services"][name]["environment"] for file in (stack, compose))
        kept = [{key: value for key, value in each.items() if key not in differ} for each in (there, here)]
        assert kept[0] == kept[1]
    subnets = {name: network["ipam"]["config"] for name, network in stack["networks"].items()}
    assert subnets == {name: network["ipam"]["config"] for name, network in compose["networks"].items()}
    assert stack["networks"]["mesh"]["internal"] is True
    assert all("encrypted" not in network.get("driver_opts", {}) for network in stack["networks"].values())


def test_services_have_the_secrets_that_they_have_in_compose(stack: dict[str, Any], compose: dict[str, Any]) -> None:
    """Files of root, of secrets that are made before the stack is."""
    for name in ("controller", "node", "prometheus", "grafana"):
        placed = {secret["target"]: secret for secret in stack["services"][name].get("secrets", [])}
        folders = {
            volume["source"].removesuffix("-secret"): volume["target"]
            for volume in compose["services"][name].get("volumes", [])
            if volume["target"].startswith("/credentials/")
        }
        wanted = {(role, f"{folder}/token") for role, folder in folders.items() if role in ROLES}
        # The controller calls no other role's port, but for `gannet net` in its container.
        own = [role for role in folders if name != "controller" or role in ("controller", "operator")]
        wanted |= {(f"{CERTIFIED[role]}-tls", f"{folders[role]}/tls.pem") for role in own}
        assert {(each["source"], target) for target, each in placed.items()} == wanted
        assert all(each["mode"] == 0o400 and not {"uid", "gid"} & each.keys() for each in placed.values())
    every = [*ROLES, *(f"{name}-tls" for name in CERTIFIED.values())]
    assert stack["secrets"] == {
        name: {"external": True, "name": f"${{GANNET_SECRETS:-gannet}}-{name}"} for name in every
    }


def test_every_file_of_prometheus_and_grafana_travels_as_a_config(stack: dict[str, Any]) -> None:
    files = {name: (FOLDER / config["file"]).resolve() for name, config in stack["configs"].items()}
    placed: dict[str, Path] = {}
    for service in stack["services"].values():
        placed |= {config["target"]: files.pop(config["source"]) for config in service.get("configs", [])}
    assert files == {}
    assert all(path.stat().st_size < _LARGEST_CONFIG_BYTES for path in placed.values())
    wanted = {"/etc/prometheus/prometheus.yml": FOLDER / "prometheus" / "prometheus.swarm.yml"}
    for target, folder, pattern in (
        ("/etc/prometheus/rules", FOLDER / "prometheus" / "rules", "*.yml"),
        ("/etc/grafana", FOLDER / "grafana", "**/*.*"),
        ("/etc/grafana/dashboards", ROOT / "dashboards", "*.json"),
    ):
        wanted |= {f"{target}/{path.relative_to(folder)}": path for path in folder.glob(pattern)}
    assert placed == wanted


def test_settings_are_written_as_a_stack_reads_them() -> None:
    """`docker stack deploy` knows ${NAME:-default} and ${NAME}, and fails on ${NAME:+value}."""
    text = (FOLDER / "stack.yaml").read_text()
    assert re.findall(r"\$\{\w+(?!\w)(?!:-)(?!\})", text) == []
    assert len(re.findall(r"\$\{", text)) > 20
