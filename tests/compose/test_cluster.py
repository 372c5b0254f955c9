"""A real cluster of four node containers, played through once: up, trained, links changed, a node killed, down.

Each test looks at one thing of what was seen. Times are compared with formulas of the links, from one side: a
crowded machine makes a step longer, never shorter.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from gannet.fabrics.entrance.bundles import ROLES as CERTIFIED
from tests.compose.intruder import Intrusion, intrude, showing
from tests.conftest import note
from tests.support.compose_cluster import ComposeCluster, wait_until
from tests.support.docker import Engine
from tests.support.images import ROOT, BuiltImage

pytestmark = [pytest.mark.real("containers"), pytest.mark.timeout(1200)]

NODES = 4
FAST = {"rate": "20Mbit", "delay_ms": 5}
SLOW = {"name": "slow", "rate": "4Mbit", "delay_ms": 60}
SPEC: dict[str, Any] = {
    "name": "short", "nodes": NODES, "links": {"profile": FAST}, "task": {"loss": "hinge", "width": 8}, "batch": 8,
    "pace_ms": 100, "stop": {"seconds": 120}, "snapshot_every": 1000, "score": None,
    "algorithm": {"name": "dp-oadam"}, "topology": "ring",
    "arms": {
        "first": {"label": "First"},
        "second": {"label": "Second", "stop": {"seconds": 8}},
        "third": {"label": "Third"},  # stopped early
    },
}  # fmt: skip


@dataclass
class Seen:
    """What the play left."""

    cluster: ComposeCluster
    owner: int
    health: dict[str, str] = field(default_factory=dict)
    processes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    round_trip_s: list[float] = field(default_factory=list)
    changed_at_s: float = 0.0
    applied_at_s: float = 0.0
    applied: subprocess.CompletedProcess[str] | None = None
    refused: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)
    intrusion: Intrusion | None = None
    showing: list[str] = field(default_factory=list)
    shown: str = ""
    targets: list[dict[str, Any]] = field(default_factory=list)
    steps_counted: list[dict[str, Any]] = field(default_factory=list)
    mgmt: set[str] = field(default_factory=set)
    killed: str = ""
    killed_rank: int = -1
    killed_at_s: float = 0.0
    killed_by_s: float = 0.0
    restarts: int = 0
    status: int = -1
    leftovers: dict[str, Any] = field(default_factory=dict)


def clock_s(cluster: ComposeCluster, arm: str = "first") -> float:
    """The training clock by the ledger, seconds."""
    return max((line["t_s"] for line in cluster.lines(arm, "steps.jsonl")), default=0.0)


def net(cluster: ComposeCluster, *words: str, secret: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`gannet net …` on the host, which finds the secret by Docker unless a file is named."""
    argv = [sys.executable, "-m", "gannet", "net", *words, "--controller", f"127.0.0.1:{cluster.port}"]
    named = {} if secret is None else {"GANNET_TOKEN_FILE": str(secret)}
    environment = {**os.environ, **cluster.engine.environment, **named, "COLUMNS": "160"}
    return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def seen(
    engine: Engine, gannet_image: BuiltImage, prometheus_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("cluster")
    owner = 4321 if os.geteuid() == 0 else os.geteuid()
    cluster = ComposeCluster(engine, gannet_image.tag, folder, SPEC, owner)
    seen = Seen(cluster, owner)
    try:
        play(cluster, seen, folder)
    except BaseException:
        print(cluster.compose("logs", "--no-color", "--tail", "60"))
        raise
    finally:
        cluster.compose("down", "-v", "--timeout", "10")
    seen.leftovers = cluster.leftovers()
    yield seen


def health(cluster: ComposeCluster, name: str) -> str:
    """What Docker's checks have found; "" while none has."""
    status = cluster.inspect(name)["State"]["Health"]["Status"]
    return "" if status == "starting" else str(status)


def play(cluster: ComposeCluster, seen: Seen, folder: Path) -> None:
    begun = time.monotonic()
    cluster.compose("up", "-d", "--no-build", "--pull", "never", "controller", "node", "prometheus")
    wait_until("the first training step", lambda: clock_s(cluster) > 0, 400)
    note(f"from `docker compose up` to the first training step of {NODES} nodes: {time.monotonic() - begun:.0f} s")
    nodes = cluster.containers("node")
    (controller,) = cluster.containers("controller")
    wait_until("ten seconds of training", lambda: clock_s(cluster) > 10, 400)

    for name in [*nodes, controller]:
        seen.health[name] = wait_until("it is healthy, or not", lambda name=name: health(cluster, name), 400)  # type: ignore[misc]
        seen.processes[name] = cluster.processes(name)
        for path in ("/written", "/opt/gannet/written", "/usr/bin/written"):
            try:
                cluster.engine.docker("exec", "-u", "root", name, "touch", path)
                seen.writes.append(f"{name}:{path}")
            except AssertionError as error:
                assert "Read-only file system" in str(error)
    seen.mgmt = {cluster.address(name, "mgmt") for name in nodes}
    seen.targets = wait_until(
        "Prometheus has found all nodes",
        lambda: targets if len(targets := cluster.query('up{job="node"} == 1')) == NODES else None,
        400,
    )
    seen.steps_counted = cluster.query("gannet_steps_total")

    seen.round_trip_s.append(cluster.round_trip_s(nodes[0], nodes[1]))
    profile = folder / "slow.yaml"
    profile.write_text(yaml.safe_dump(SLOW))
    seen.intrusion = intrude(cluster, nodes[0], nodes[1])
    for role, secret in [*seen.intrusion.secrets.items(), ("guess", "a-guess-of-the-secret")]:
        if role != "operator":
            (file := folder / f"{role}-secret").write_text(secret)
            seen.refused[role] = net(cluster, "apply", str(profile), secret=file)
    seen.changed_at_s = clock_s(cluster)
    seen.applied = net(cluster, "apply", str(profile))
    seen.applied_at_s = clock_s(cluster)
    seen.shown = cluster.compose("exec", "-T", "controller", "gannet", "net", "show")
    wait_until("steps over slow links", lambda: clock_s(cluster) > seen.applied_at_s + 12, 400)
    seen.round_trip_s.append(cluster.round_trip_s(nodes[0], nodes[1]))

    seen.killed = nodes[2]
    host = cluster.inspect(seen.killed)["Config"]["Hostname"]
    (member,) = [
        p
        for p in seen.processes[seen.killed]
        if p["command"].startswith("python -m gannet.fabrics.containers.node_container")
    ]
    seen.killed_at_s = clock_s(cluster)
    cluster.engine.docker("exec", "-u", "root", seen.killed, "sh", "-c", f"kill -9 {member['pid']}")
    seen.killed_by_s = clock_s(cluster)
    wait_until("Docker starts it again", lambda: cluster.inspect(seen.killed)["RestartCount"], 400)
    wait_until("the third arm trains", lambda: clock_s(cluster, "third") > 1, 400)
    cluster.compose("stop", "controller")
    seen.status = int(cluster.engine.docker("wait", controller, timeout_s=300))
    seen.restarts = cluster.inspect(seen.killed)["RestartCount"]
    seen.showing = showing(
        cluster, seen.intrusion.secrets | {f"{role} key": key for role, key in seen.intrusion.keys.items()}
    )
    containers = yaml.safe_load((cluster.ledger("first") / "environment.json").read_text())["containers"]
    (seen.killed_rank,) = [int(rank) for rank, name in containers.items() if name == host]


def trainers(seen: Seen) -> list[dict[str, Any]]:
    """The training processes of all nodes: the one that stays, and its forks."""
    return [p for ps in seen.processes.values() for p in ps if " -m gannet.node --stay" in p["command"]]


def test_every_container_is_healthy(seen: Seen) -> None:
    assert set(seen.health.values()) == {"healthy"} and len(seen.health) == NODES + 1


def test_training_holds_no_capability_and_can_gain_none(seen: Seen) -> None:
    found = trainers(seen)
    assert len(found) >= NODES
    for process in found:
        assert process["Uid"].split() == ["1000"] * 4 and process["Gid"].split() == ["1000"] * 4, process
        held = {int(process[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        assert held == {0} and process["NoNewPrivs"] == "1", process


def test_no_other_process_holds_more_than_the_compose_file_gives(seen: Seen) -> None:
    setuid_setgid = 1 << 7 | 1 << 6
    node = setuid_setgid | 1 << 12 | 1 << 23 | 1 << 8 | 1 << 5  # NET_ADMIN, SYS_NICE, SETPCAP, KILL
    for name, processes in seen.processes.items():
        allowed = node if "-node-" in name else setuid_setgid
        for process in processes:
            if process["command"].split()[:2] == ["runc", "init"]:  # Docker's own, before it becomes a health check
                continue
            assert int(process["CapBnd"], 16) & ~allowed == 0 and process["NoNewPrivs"] == "1", process


def test_the_link_agent_alone_holds_net_admin(seen: Seen) -> None:
    net_admin, sys_nice, kill = 1 << 12, 1 << 23, 1 << 5
    held = {"gannet.netem.agent.server": net_admin | sys_nice, "gannet.fabrics.containers.node_container": kill}
    for name, processes in seen.processes.items():
        if "-node-" in name:
            for module, capabilities in held.items():
                (found,) = [
                    p for p in processes if p["command"].strip().endswith(f" {module}") and "init" not in p["command"]
                ]
                assert int(found["CapEff"], 16) == int(found["CapPrm"], 16) == capabilities, (module, found)


def test_the_controller_has_given_up_root(seen: Seen) -> None:
    (name,) = [name for name in seen.processes if "-controller-" in name]
    (serving,) = [p for p in seen.processes[name] if "gannet serve" in p["command"]]
    assert serving["Uid"].split() == [str(seen.owner)] * 4
    assert int(serving["CapEff"], 16) == int(serving["CapPrm"], 16) == 0


def test_root_file_systems_are_read_only(seen: Seen) -> None:
    assert seen.writes == []


def test_a_profile_applied_while_training_changes_round_trips_as_ordered(seen: Seen) -> None:
    assert seen.applied is not None and seen.applied.returncode == 0, seen.applied
    before, after = seen.round_trip_s
    assert before >= 2 * FAST["delay_ms"] / 1e3  # type: ignore[operator]
    assert before < 2 * SLOW["delay_ms"] / 1e3 <= after  # type: ignore[operator]


def test_a_profile_applied_while_training_changes_steps_as_its_rate_says(seen: Seen) -> None:
    lines = [line for line in seen.cluster.lines("first", "steps.jsonl") if line["wait_s"] is not None]

    def steps_s(begin: float, end: float) -> list[float]:
        times = {n: [x["t_s"] for x in lines if x["node"] == n and begin < x["t_s"] < end] for n in range(NODES)}
        return [b - a for t in times.values() for a, b in itertools.pairwise(t)]

    before = min(steps_s(1.0, seen.changed_at_s))  # a busy machine makes many a step longer than slow links do
    after = statistics.median(steps_s(seen.applied_at_s + 4.0, seen.killed_at_s))
    sent = statistics.median(line["interface_bytes"] for line in lines)
    least = sent * 8 / 4e6  # what the new rate needs for a step's bytes, whatever else a step takes
    assert before < least <= after * 1.05, (before, least, after)  # HTB lets a burst pass


def test_no_other_credential_changes_links(seen: Seen) -> None:
    assert set(seen.refused) == {"trainer", "agent", "node", "other", "guess"}
    for role, done in seen.refused.items():
        assert done.returncode == 1 and "not the operators' credential" in done.stderr, (role, done)


def test_a_tasks_code_cannot_read_the_secrets(seen: Seen) -> None:
    """Neither in files nor in the container's other processes, nor anywhere that another user could look."""
    assert seen.intrusion is not None
    read, secrets = seen.intrusion.read, seen.intrusion.secrets
    assert len(set(secrets.values())) == 5 and all(len(secret) >= 64 for secret in secrets.values())
    assert read["user"] == 1000 and len(read["texts"]) > 2
    assert read["found"] == []
    keys = seen.intrusion.keys
    assert set(keys) == set(CERTIFIED) and all(len(key) == 64 for key in keys.values())
    assert not any(secret in text for secret in [*secrets.values(), *keys.values()] for text in read["texts"])


def test_a_tasks_code_is_its_own_node_and_nothing_else(seen: Seen) -> None:
    """Its credential is taken, if only to hear that an empty message is no hello; operators' port it cannot reach."""
    assert seen.intrusion is not None
    refused = {"Membership/Serve": "UNAUTHENTICATED", "Operator/Show": "UNAVAILABLE"}
    assert seen.intrusion.own == {"Controller/Attend": "INVALID_ARGUMENT", **refused}
    assert seen.intrusion.another == {"Controller/Attend": "UNAUTHENTICATED", **refused}


def test_calls_in_the_clear_are_refused_even_with_a_credential(seen: Seen) -> None:
    assert seen.intrusion is not None
    refused = dict.fromkeys(("Controller/Attend", "Membership/Serve"), "UNAUTHENTICATED")
    assert seen.intrusion.in_the_clear == {**refused, "Operator/Show": "UNAVAILABLE"}


def test_no_secret_is_in_containers_image_logs_or_results(seen: Seen) -> None:
    assert seen.showing == []


def test_links_are_shown_inside_the_controllers_container(seen: Seen) -> None:
    assert seen.shown.count("4 Mbit/s") == 2 * NODES and "60 ms" in seen.shown


def test_the_change_is_in_the_ledger(seen: Seen) -> None:
    lines = seen.cluster.lines("first", "links.jsonl")
    changes = [line for line in lines if line.get("event") == "links" and line.get("by") == "operator"]
    assert [line["operation"].split()[0] for line in changes] == ["apply"]
    configured = [line for line in lines if line.get("event") == "configured"]
    assert {line["up_bps"] for line in configured} == {20_000_000, 4_000_000}


def test_prometheus_found_every_node_by_dns(seen: Seen) -> None:
    assert {target["metric"]["instance"] for target in seen.targets} == {f"{address}:9400" for address in seen.mgmt}
    counted = [(series["metric"]["instance"], float(series["value"][1])) for series in seen.steps_counted]
    assert {instance for instance, _ in counted} == {f"{address}:9400" for address in seen.mgmt}
    assert all(steps > 0 for _, steps in counted)


def test_a_killed_node_is_missed_by_the_run_and_back_in_the_next(seen: Seen) -> None:
    assert seen.restarts >= 1
    first = seen.cluster.lines("first", "steps.jsonl")
    last = {node: max(line["t_s"] for line in first if line["node"] == node) for node in range(NODES)}
    assert last[seen.killed_rank] < seen.killed_by_s + 2  # the last lines may have been on their way
    others = [t for node, t in last.items() if node != seen.killed_rank]
    assert min(others) > last[seen.killed_rank] + 5  # they went on without it
    lost = [line for line in seen.cluster.lines("first", "links.jsonl") if line.get("event") == "agent-lost"]
    assert [line["node"] for line in lost] == [seen.killed_rank]
    second = seen.cluster.lines("second", "steps.jsonl")
    assert {line["node"] for line in second} == set(range(NODES))
    assert not any(line["missing"] for line in second)


def test_a_cluster_that_is_stopped_reports_on_what_it_has(seen: Seen) -> None:
    assert seen.status == 1  # not every run has finished
    ends = {
        arm: json.loads((seen.cluster.ledger(arm) / "summary.json").read_text())["status"] for arm in SPEC["arms"]
    }
    assert ends == {"first": "finished", "second": "finished", "third": "stopped"}
    assert len(list(seen.cluster.runs.rglob("report.html"))) == 1


def test_results_belong_to_the_caller(seen: Seen) -> None:
    results = list(seen.cluster.runs.rglob("*"))
    assert len(results) > 10
    assert {(path.stat().st_uid, path.stat().st_gid) for path in results} == {
        (seen.owner, seen.cluster.runs.stat().st_gid)
    }


def test_down_leaves_nothing(seen: Seen) -> None:
    assert seen.leftovers == {"containers": [], "networks": [], "volumes": []}
