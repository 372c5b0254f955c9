"""What compose.yaml and its companions promise, read as Compose reads them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from importlib.metadata import version
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gannet.fabrics.credentials import ROLES
from tests.support.docker import compose_plugin
from tests.support.images import FILE, ROOT

pytestmark = pytest.mark.real("containers")

GPU = ROOT / "compose" / "compose.gpu.yaml"
PRIVILEGES = {
    "credentials": set(),
    "controller": {"SETUID", "SETGID"},
    "node": {"NET_ADMIN", "SYS_NICE", "SETUID", "SETGID", "SETPCAP", "KILL"},
    "prometheus": set(),
    "grafana": set(),
}


def config(*arguments: str, **environment: str) -> dict[str, Any]:
    """What Compose makes of the files, with nothing of this shell's settings."""
    clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    argv = [str(compose_plugin()), *arguments, "config", "--format", "json"]
    done = subprocess.run(argv, env=clean | environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "not set" not in done.stderr and "obsolete" not in done.stderr, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = config()["services"]
    return found


def test_the_file_at_the_root_is_the_one_in_the_folder() -> None:
    plain = config("-f", str(FILE))
    assert config() == {key: value for key, value in plain.items() if not key.startswith("x-")}


def test_there_are_the_services_of_the_cluster_and_one_image_of_ours(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == set(PRIVILEGES)
    assert services["controller"]["image"] == services["node"]["image"]
    assert "build" in services["controller"] and "build" not in services["node"]  # built once


def test_images_are_pinned(services: dict[str, dict[str, Any]]) -> None:
    tags = {name: service["image"].rpartition(":")[2] for name, service in services.items()}
    assert all(re.fullmatch(r"v?\d+\.\d+\.\d+", tag) for tag in tags.values()), tags
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tags["node"] == tomllib.load(file)["project"]["version"] == version("gannet-testbed")
    assert f'image.version="{tags["node"]}"' in (ROOT / "compose" / "Dockerfile").read_text()


def test_ports_are_published_on_loopback_only(services: dict[str, dict[str, Any]]) -> None:
    ports = {(name, p["host_ip"], p["target"]) for name, s in services.items() for p in s.get("ports", [])}
    assert ports == {
        ("controller", "127.0.0.1", 7001),
        ("prometheus", "127.0.0.1", 9090),
        ("grafana", "127.0.0.1", 3000),
    }


@pytest.mark.parametrize("name", PRIVILEGES)
def test_privileges_are_the_least(services: dict[str, dict[str, Any]], name: str) -> None:
    service = services[name]
    assert service["cap_drop"] == ["ALL"]
    assert set(service.get("cap_add", [])) == PRIVILEGES[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not {"privileged", "pid", "ipc", "devices", "userns_mode"} & set(service)
    assert service.get("network_mode") == ("none" if name == "credentials" else None)
    assert int(service["mem_limit"]) > 0
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    for volume in service.get("volumes", []):
        assert "docker" not in volume["source"].removeprefix(str(ROOT)) and "sock" not in volume["source"]
        written = volume["target"] in ("/runs", "/prometheus") or (
            name == "credentials" and volume["target"].startswith("/credentials/")
        )
        assert volume.get("read_only") is True or written


def test_only_nodes_are_on_the_shaped_network(services: dict[str, dict[str, Any]]) -> None:
    attached = {name: set(s["networks"]) for name, s in services.items() if "network_mode" not in s}
    assert attached == {"controller": {"mgmt"}, "node": {"mesh", "mgmt"}, "prometheus": {"mgmt"}, "grafana": {"mgmt"}}
    networks = config()["networks"]
    assert networks["mesh"]["internal"] is True
    for name in ("mesh", "mgmt"):
        (subnet,) = networks[name]["ipam"]["config"]
        assert services["node"]["environment"][f"GANNET_{name.upper()}_SUBNET"] == subnet["subnet"]


def test_a_service_mounts_the_secrets_of_its_calls_only(services: dict[str, dict[str, Any]]) -> None:
    """Each in a volume of its own, which the service that makes them has filled before any other container starts."""
    mounted = {
        name: {
            v["target"].rpartition("/")[2]: v["source"] for v in service.get("volumes", []) if "secret" in v["source"]
        }
        for name, service in services.items()
    }
    every = {role: f"{role}-secret" for role in ROLES}
    of_node = {role: every[role] for role in ("trainer", "agent")}
    of_controller = {**every, "controller": "controller-secret"}
    makes = {**of_controller, "authority": "authority-secret"}
    assert mounted == {
        "credentials": makes, "controller": of_controller, "node": of_node, "prometheus": {}, "grafana": {}
    }  # fmt: skip
    for name in ("controller", "node"):
        assert services[name]["depends_on"]["credentials"]["condition"] == "service_completed_successfully"
    settings = [text for service in services.values() for text in service.get("environment", {})]
    assert not [name for name in settings if "TOKEN" in name or "SECRET" in name]


def test_nodes_come_back_and_a_controller_ends(services: dict[str, dict[str, Any]]) -> None:
    restart = {name: service.get("restart") for name, service in services.items()}
    assert restart["node"] == "unless-stopped" and restart["controller"] is None


def test_settings_of_the_environment_arrive() -> None:
    chosen = {
        "GANNET_NODES": "6", "GANNET_NODE_MEMORY": "1g", "GANNET_NODE_CPUS": "0.5", "GANNET_SPEC": "specs/mine.yaml",
        "GANNET_PORT": "1", "GANNET_PROMETHEUS_PORT": "2", "GANNET_GRAFANA_PORT": "3",
        "GANNET_MESH_SUBNET": "10.9.0.0/24", "GANNET_RUNS": "/elsewhere", "TORCH_INDEX": "", "GANNET_CA": "/ca.pem",
        "GANNET_LOG": "debug,json", "GANNET_CERTS": "/my/certs",
    }  # fmt: skip
    project = config(**chosen)
    services = project["services"]
    node, controller = services["node"], services["controller"]
    assert (node["scale"], node["mem_limit"], node["cpus"]) == (6, str(1 << 30), 0.5)
    assert controller["environment"]["GANNET_NODES"] == "6"
    assert "specs/mine.yaml" in controller["command"]
    assert [services[s]["ports"][0]["published"] for s in ("controller", "prometheus", "grafana")] == ["1", "2", "3"]
    assert node["environment"]["GANNET_MESH_SUBNET"] == "10.9.0.0/24"
    assert controller["environment"]["GANNET_LOG"] == node["environment"]["GANNET_LOG"] == "debug,json"
    assert "/elsewhere" in [volume["source"] for volume in controller["volumes"]]
    assert "/my/certs" in [volume["source"] for volume in services["credentials"]["volumes"]]
    assert controller["build"]["args"]["TORCH_INDEX"] == ""
    assert project["secrets"]["ca"]["file"] == "/ca.pem"


def test_every_setting_is_in_the_example_and_none_but_those() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", FILE.read_text() + GPU.read_text()))
    example = set(re.findall(r"^#([A-Z_]+)=", (FILE.parent / ".env.example").read_text(), re.MULTILINE))
    assert example <= used
    ours = {"GANNET_IMAGE", "GANNET_RUNS", "GANNET_SPECS", "GANNET_OUT"}  # for programs that start clusters
    less_common = {"GANNET_PROMETHEUS_MEMORY", "GANNET_GRAFANA_MEMORY", "GANNET_GPUS"}
    pip = {"PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_TRUSTED_HOST"}
    assert used - example == ours | less_common | pip


def test_grafana_lets_nobody_log_in_until_a_password_is_set() -> None:
    names = ("DISABLE_INITIAL_ADMIN_CREATION", "DISABLE_LOGIN_FORM", "BASIC_ENABLED", "ADMIN_PASSWORD")

    def settings(**environment: str) -> list[str]:
        found = config(**environment)["services"]["grafana"]["environment"]
        return [value for name in names for key, value in found.items() if key.endswith(name)]

    assert settings() == ["", "", "", ""]  # Grafana takes an empty one as not given: grafana.ini holds
    assert settings(GANNET_GRAFANA_PASSWORD="k") == ["false", "false", "true", "k"]
    ini = (FILE.parent / "grafana" / "grafana.ini").read_text()
    sections = {name: set(text.split("\n")) for name, text in re.findall(r"\[(.+?)\]\n([^\[]*)", ini)}
    assert "disable_initial_admin_creation = true" in sections["security"]
    assert "disable_login_form = true" in sections["auth"]
    assert "enabled = false" in sections["auth.basic"]
    assert {"enabled = true", "org_role = Viewer"} <= sections["auth.anonymous"]
    assert "password" not in ini


def test_gpu_overlay_reserves_gpus_and_builds_for_cuda() -> None:
    plain, gpu = config("-f", str(FILE)), config("-f", str(FILE), "-f", str(GPU))
    node, controller = gpu["services"]["node"], gpu["services"]["controller"]
    (device,) = node["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"], device["count"]) == ("nvidia", ["gpu"], -1)
    assert "/cu" in controller["build"]["args"]["TORCH_INDEX"]
    assert controller["image"] == node["image"] != plain["services"]["node"]["image"]
    assert controller["environment"]["GANNET_SET"] == "device=cuda"
    assert set(node["cap_add"]) == PRIVILEGES["node"] and node["cap_drop"] == ["ALL"]
    chosen = config("-f", str(FILE), "-f", str(GPU), GANNET_GPUS="2")
    assert chosen["services"]["node"]["deploy"]["resources"]["reservations"]["devices"][0]["count"] == 2


def test_the_image_pins_every_package_that_the_project_needs() -> None:
    lines = (FILE.parent / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"]["colour"]]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text


def test_folders_that_are_mounted_come_with_a_clone() -> None:
    """Docker would make a missing one as root; and what users put into them is never committed."""
    for folder in ("runs", "specs", "compose/wheels"):
        kept = (ROOT / folder / ".gitignore").read_text().split("\n")
        assert "*" in kept and "!.gitignore" in kept
        # An ignored folder would hide its .gitignore as well, and git would not keep it.
        assert f"{folder}/" not in (ROOT / ".gitignore").read_text().split("\n")


def test_prometheus_accepts_its_configuration() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", str(FILE.parent / "prometheus" / "prometheus.yml")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_build_context_holds_only_what_the_image_is_made_of() -> None:
    """A file that is not copied cannot cost a rebuild, and nothing private can slip in."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    with (ROOT / "pyproject.toml").open("rb") as file:
        rooms = tomllib.load(file)["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {f"!{room.rstrip('*')}" for room in rooms} <= set(lines)
    assert yaml.safe_load((ROOT / "compose.yaml").read_text())["include"] == ["compose/compose.yaml"]
