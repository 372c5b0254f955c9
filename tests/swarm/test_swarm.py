"""Two machines, as far as one can be two: nodes on both train over the overlay network between them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gannet.fabrics.containers.swarm import FILE as STACK
from gannet.fabrics.containers.swarm import run_swarm
from gannet.fabrics.credentials import ROLES
from gannet.fabrics.entrance.bundles import ROLES as CERTIFIED
from tests.support import docker
from tests.support.gannet import start
from tests.support.images import BuiltImage
from tests.swarm.two_engines import Engine, TwoEngines, wait_until

# A test that is run alone builds the image in its own time.
pytestmark = [pytest.mark.real("containers"), pytest.mark.timeout(1200)]
FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=240).read().decode())"
OWNER = 4321  # nobody that this machine knows
SPEC: dict[str, Any] = {
    "nodes": 4,
    "links": "demo-10mbit",
    "algorithm": {"name": "dp-oadam", "every": 2},
    "topology": "ring",
    "pace_ms": 150,
    "snapshot_every": 20,
    "stop": {"seconds": 12},
}


def node_containers(engine: Engine) -> list[str]:
    return [name for name in engine.containers() if "_node." in name]


def has_steps(ledger: Path) -> bool:
    return ledger.exists() and ledger.stat().st_size > 0


def remains(swarm: TwoEngines) -> dict[str, list[str]]:
    """What a stack could leave behind."""
    of_stacks = ("--filter", "label=com.docker.stack.namespace")
    found = {
        kind: swarm.a.docker(kind, "ls", "-q", *of_stacks).split()
        for kind in ("service", "network", "config", "secret")
    }
    found |= {engine.name: engine.containers() for engine in (swarm.a, swarm.b)}
    found |= {f"volumes of {e.name}": e.docker("volume", "ls", "-q", *of_stacks).split() for e in (swarm.a, swarm.b)}
    return {what: names for what, names in found.items() if names}


@pytest.fixture
def manager(swarm: TwoEngines, gannet_image: BuiltImage, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEngines]:
    """Commands speak to the manager, and after the test nothing is left on either machine."""
    for name, value in {**swarm.a.environment(), "GANNET_IMAGE": gannet_image.tag}.items():
        monkeypatch.setenv(name, value)
    yield swarm
    # A worker removes its containers a moment after the manager knows that they have ended.
    wait_until("nothing is left", lambda: remains(swarm) == {})


def test_containers_of_both_machines_share_one_network_that_tc_shapes(manager: TwoEngines) -> None:
    a, b = manager.a, manager.b
    tag = os.environ["GANNET_IMAGE"]
    identity = a.docker("image", "inspect", "-f", "{{.Id}}", tag)
    assert b.docker("image", "inspect", "-f", "{{.Id}}", tag) == identity
    labels = ("--label", "com.docker.stack.namespace=tiny")
    a.docker("network", "create", "-d", "overlay", "--attachable", *labels, "tiny")
    try:
        a.docker(
            "service", "create", "-d", "-q", "--name", "tiny", "--mode", "global", "--network", "tiny", *labels,
            "--endpoint-mode", "dnsrr", "--no-healthcheck", "--user", "root", "--no-resolve-image",
            identity, "iperf3", "-s", "-p", "5201",
        )  # fmt: skip
        running = ("ps", "-q", "--filter", "status=running")
        wait_until("one runs on each", lambda: all(len(e.docker(*running).split()) == 1 for e in (a, b)))
        (here,), (there,) = a.containers(), b.containers()
        ask = ("inspect", "-f", "{{.NetworkSettings.Networks.tiny.IPAddress}}")
        device = next(
            link["ifname"]
            for link in json.loads(a.in_network_of(here, "ip", "-j", "-4", "addr"))
            if any(address.get("local") == a.docker(*ask, here) for address in link["addr_info"])
        )
        a.in_network_of(here, "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", "20mbit", "burst", "15k",
                        "latency", "50ms")  # fmt: skip
        client = ("iperf3", "-c", b.docker(*ask, there), "-p", "5201", "-t", "3", "-J")
        received = json.loads(a.docker("exec", here, *client))["end"]["sum_received"]["bits_per_second"]
        assert 4e6 < received < 20e6  # a machine that stands still in these three seconds carries less, never more
    finally:
        a.docker("service", "rm", "tiny")
        wait_until("they have ended", lambda: not a.containers() + b.containers())
        a.docker("network", "rm", "tiny")


def test_nodes_on_two_machines_train_over_the_overlay(manager: TwoEngines, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    os.chown(out, OWNER, OWNER)
    carried = manager.wire_bytes()
    process = start(tmp_path, ["run", "--fabric", "swarm"], **SPEC)
    try:
        steps = out / "run" / "seed-1" / "steps.jsonl"
        wait_until("it trains", lambda: process.poll() is not None or has_steps(steps), 400)
        assert process.poll() is None, process.communicate()[0]
        homes = look_inside(manager)
        output, _ = process.communicate(timeout=180)
    finally:
        process.send_signal(signal.SIGTERM)  # had it not ended, it would clear up
        process.wait(400)
    assert process.returncode == 0, output

    run = out / "run" / "seed-1"
    lines = [json.loads(line) for line in steps.read_text().splitlines()]
    taken = Counter(line["node"] for line in lines)
    assert set(taken) == {0, 1, 2, 3} and min(taken.values()) > 10
    assert (out / "report.html").exists() and f"report: {out / 'report.html'}" in output
    assert {path.stat().st_uid for path in run.rglob("*")} == {OWNER}
    assert len(set((out / "logs" / "nodes.log").read_text().split("|")[0].split("@")[1:])) == 1

    # The certificate: every link as ordered, also between the machines, whose clocks differ by 5000 s.
    hosts = json.loads((run / "environment.json").read_text())["containers"]
    home = {int(rank): homes[host] for rank, host in hosts.items()}
    assert Counter(home.values()) == {"gannet-a": 2, "gannet-b": 2}
    certificate = json.loads((run / "certificate.json").read_text())
    assert len(certificate["edges"]) == 8
    for edge in certificate["edges"]:
        assert edge["from_round_trip"] is (home[edge["src"]] != home[edge["dst"]])
        # A machine that stands still makes round trips longer and none shorter.
        assert edge["rtt_p50_ms"] > 2 * edge["expected_delay_ms"] - 1
    # A busy machine may have disturbed both looks at a link or two, or starved the run; then it says so and no more.
    amiss = [edge for edge in certificate["edges"] if not edge["ok"]]
    assert len(amiss) <= 2, amiss
    excused = ("too long", "starved", "peers at once", *(f"{edge['src']} → {edge['dst']}: " for edge in amiss))
    assert all(any(word in reason for word in excused) for reason in certificate["reasons"]), certificate["reasons"]

    # What nodes sent to the other machine did cross the wire between them.
    across = Counter(edge["src"] for edge in certificate["edges"] if home[edge["src"]] != home[edge["dst"]])
    sent = sum(line["codec_bytes"] * across[line["node"]] / 2 for line in lines)
    assert sent > 10**5
    assert manager.wire_bytes() - carried > sent


def rate_limits(engine: TwoEngines | Engine, container: str) -> str:
    """What tc says of the classes of all its interfaces."""
    links = json.loads(engine.in_network_of(container, "ip", "-j", "link"))
    return "".join(engine.in_network_of(container, "tc", "class", "show", "dev", link["ifname"]) for link in links)


def look_inside(swarm: TwoEngines) -> dict[str, str]:
    """Check the containers of a run that trains; returns on which machine each is, by host name."""
    homes: dict[str, str] = {}
    for engine in (swarm.a, swarm.b):
        names = node_containers(engine)
        assert len(names) == 2
        for name in names:
            homes[engine.docker("inspect", "-f", "{{.Config.Hostname}}", name)] = engine.name
            assert "rate 10Mbit" in rate_limits(engine, name)
            privileges = [status_of(pid) for pid in trainers(engine, name)]
            assert privileges and all(each == ("1000", "0", "1") for each in privileges)
            refused = subprocess.run(
                ["docker", "exec", "-u", "root", name, "touch", "/opt/x"],
                env=engine.environment(), capture_output=True, text=True,
            )  # fmt: skip
            assert "Read-only file system" in refused.stderr
            published = engine.docker("port", name)
            assert published == ""
    (controller,) = [name for name in swarm.a.containers() if "_controller." in name]
    shown = swarm.a.docker("exec", controller, "gannet", "net", "show")
    assert shown.count("applied") == 4
    return homes


def trainers(engine: Engine, container: str) -> list[int]:
    """Processes of a node's container that train, as this machine numbers them."""
    top = engine.docker("top", container, "-eo", "pid,args").splitlines()[1:]
    return [int(line.split()[0]) for line in top if " -m gannet.node " in line]


def status_of(pid: int) -> tuple[str, str, str]:
    """User, effective capabilities and whether it can gain any."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert fields["CapBnd"].strip().strip("0") == ""
    return fields["Uid"].split()[1], fields["CapEff"].strip().strip("0") or "0", fields["NoNewPrivs"].strip()


def test_ctrl_c_ends_a_run_and_leaves_its_report_and_nothing_else(manager: TwoEngines, tmp_path: Path) -> None:
    process = start(tmp_path, ["run", "--fabric", "swarm"], **{**SPEC, "nodes": 2, "stop": {"seconds": 600}})
    steps = tmp_path / "out" / "run" / "seed-1" / "steps.jsonl"
    try:
        wait_until("it trains", lambda: process.poll() is not None or has_steps(steps), 400)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=180)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(400)
    assert process.returncode == 130, output
    assert json.loads((steps.parent / "summary.json").read_text())["status"] == "stopped"


def test_a_stack_by_hand_is_watched_and_steered_from_the_manager(manager: TwoEngines, tmp_path: Path) -> None:
    """As docs/swarm.md has it: nothing is published, and the manager alone reaches every service."""
    a = manager.a
    settings = {
        "GANNET_IMAGE": a.docker("image", "inspect", "-f", "{{.Id}}", os.environ["GANNET_IMAGE"]),
        "GANNET_NODES": "2", "GANNET_RUNS": str(tmp_path), "GANNET_SECRETS": "hand",
        "GANNET_SET": "stop.seconds=600\ntask.width=8",
    }  # fmt: skip
    for role in ROLES:  # as in docs/swarm.md
        make = f"openssl rand -hex 32 | docker secret create hand-{role} -"
        subprocess.run(["sh", "-c", make], env=a.environment(), check=True, capture_output=True)
    certs = tmp_path.parent / "certs"
    subprocess.run([sys.executable, "-m", "gannet", "certs", "make", str(certs)], check=True, capture_output=True)
    for role in CERTIFIED.values():
        make = f"cat {role}-key.pem {role}.pem ca.pem | docker secret create hand-{role}-tls -"
        subprocess.run(["sh", "-c", make], env=a.environment(), cwd=certs, check=True, capture_output=True)
    deploy = ["docker", "stack", "deploy", "--resolve-image", "never", "-c", str(STACK), "hand"]
    subprocess.run(deploy, env={**a.environment(), **settings}, check=True, capture_output=True)
    on_the_manager = ["nsenter", f"--net=/run/netns/{a.namespace}"]

    def address(service: str) -> str:
        (container,) = a.docker("ps", "-q", "--no-trunc", "--filter", f"name=hand_{service}").split()
        place = f'{{{{(index .Containers "{container}").IPv4Address}}}}'
        return a.docker("network", "inspect", "docker_gwbridge", "-f", place).split("/")[0]

    def secret() -> Path:
        (container,) = a.docker("ps", "-q", "--filter", "name=hand_controller").split()
        file = tmp_path.parent / "secret"
        file.write_text(a.docker("exec", container, "cat", "/credentials/operator/token"))
        return file

    def gannet(token: Path, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [*on_the_manager, sys.executable, "-m", "gannet", "net", *words]
        place = {
            "GANNET_TOKEN_FILE": str(token),
            "GANNET_OPERATOR": f"{address('controller')}:7001",
            "GANNET_CERTS": str(certs),
        }
        environment = {**os.environ, **place}
        return subprocess.run(argv, env=environment, capture_output=True, text=True)

    def scraped() -> list[str]:
        if not a.docker("ps", "-q", "--filter", "name=hand_prometheus", "--filter", "status=running"):
            return []
        query = f"http://{address('prometheus')}:9090/api/v1/query?query=up==1"
        fetch = [*on_the_manager, sys.executable, "-c", FETCH, query]
        said = subprocess.run(fetch, capture_output=True, text=True).stdout
        return sorted(one["metric"]["job"] for one in json.loads(said)["data"]["result"]) if said else []

    try:
        # A node's metrics answer while it takes part in a run.
        wait_until("Prometheus scrapes both machines", lambda: scraped() == ["controller", "node", "node"], 400)
        # They also answer while links are certified, when nothing may change them.
        wait_until("the run trains", lambda: gannet(secret(), "show").returncode == 0, 400)
        applied = gannet(secret(), "apply", "3g-fast")
        assert applied.returncode == 0 and applied.stdout.count("applied") == 2, applied.stderr
        (tmp_path.parent / "guess").write_text("a-guess-of-the-secret")
        refused = gannet(tmp_path.parent / "guess", "apply", "dsl")
        assert refused.returncode == 1 and "not the operators' credential" in refused.stderr.replace("\n", " ")
        for engine in (manager.a, manager.b):
            (node,) = node_containers(engine)
            assert "rate 768Kbit" in rate_limits(engine, node)
    finally:
        a.docker("stack", "rm", "hand")
        wait_until("containers have ended", lambda: not a.containers() + manager.b.containers(), 400)
        a.docker("volume", "rm", "hand_prometheus")
        a.docker("secret", "rm", *(f"hand-{role}" for role in ROLES), *(f"hand-{r}-tls" for r in CERTIFIED.values()))
    (folder,) = tmp_path.glob("cluster-*")
    assert (folder / "report.html").exists()  # the controller was given the time for it


def test_an_image_that_a_machine_lacks_is_said_at_once(
    manager: TwoEngines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by a run that waits for nodes for ever."""
    recipe = tmp_path / "image"
    recipe.mkdir()
    (recipe / "Dockerfile").write_text(f"FROM {os.environ['GANNET_IMAGE']}\nLABEL only=here\n")
    manager.a.docker("build", "-q", "-t", "gannet:only-here", str(recipe))
    monkeypatch.setenv("GANNET_IMAGE", "gannet:only-here")
    with pytest.raises(
        RuntimeError, match=r"is not on gannet-b: docker save gannet:only-here \| ssh gannet-b docker load"
    ):
        run_swarm("name: x\n", tmp_path, 4, print)
    assert not (tmp_path / "order.yaml").exists()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"GANNET_IMAGE": "gannet:none"}, "no image gannet:none on this machine: `docker compose build"),
        ({"PATH": "/nowhere"}, "docker is not installed"),
        ({"DOCKER_HOST": "unix:///nowhere/docker.sock"}, "does not answer .*: start the engine"),
        ({"DOCKER_HOST": "tcp://192.0.2.9:2375"}, "speaks to tcp://192.0.2.9:2375, where results would stay"),
        ({"DOCKER_HOST": "worker"}, r"is a worker of its swarm: run this on a manager \(192.0.2.1\)"),
    ],
)
def test_what_is_missing_is_said_first(
    manager: TwoEngines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], said: str
) -> None:
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match=said):
        for name, value in environment.items():
            patch.setenv(name, manager.b.host if value == "worker" else value)
        run_swarm("name: x\n", tmp_path, 4, print)
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_a_swarm_is_told_how_to_make_one(
    engine: docker.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine.docker("info", "-f", "{{.Swarm.LocalNodeState}}") != "inactive":
        return  # the user's own engine, which has one
    for name, value in engine.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RuntimeError, match="in no swarm: `docker swarm init` here"):
        run_swarm("name: x\n", tmp_path, 4, print)
