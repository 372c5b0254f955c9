"""Watches a real run with a real Prometheus, makes trouble on the way, and asks what the dashboards ask.

`python -m tests.dashboards.observe FOLDER` enters a sandbox, trains two arms on the namespaces fabric, lets
Prometheus scrape nodes and controller as compose/prometheus/prometheus.yml has it (but for DNS, which a sandbox
has not), changes links by schedule, sends messages that must be refused, kills a node, and writes what it found to
FOLDER/found.json. Prometheus' storage stays in FOLDER/storage.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from gannet.fabrics import addresses as layout
from gannet.fabrics.namespaces import sandbox
from tests.support.gannet import node_process

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "compose" / "prometheus"
URL = "http://127.0.0.1:9090"
NODES = 4
FAST, SLOW = {"rate": "20Mbit", "delay_ms": 10}, {"rate": "4Mbit", "delay_ms": 40}
CHANGE_S, STRANGER_S, KILL_S = 10.0, 13.0, 15.0
SPEC: dict[str, Any] = {
    "name": "observed",
    "nodes": NODES,
    "links": {"profile": FAST, "schedule": [{"at_s": CHANGE_S, "profile": SLOW}]},
    "task": {"loss": "hinge", "width": 8},
    "batch": 4,
    "pace_ms": 60,
    "stop": {"seconds": 25},
    "snapshot_every": 20,
    "score": None,
    "algorithm": {"name": "dp-oadam", "every": 2},
    "arms": {
        "gossip": {},
        "all-reduce": {"algorithm": {"name": "cp-oadam", "collective": "ring", "every": 2}, "stop": {"seconds": 10}},
    },
}


class Trouble:
    """A Display that does its worst to the first arm at given times of training."""

    def __init__(self) -> None:
        self._due: list[tuple[float, Callable[[], None]]] = [(STRANGER_S, send_as_stranger), (KILL_S, kill_last_node)]

    def step(self, rank: int, stats: Any) -> None:
        while self._due and stats.t_s > self._due[0][0]:
            threading.Thread(target=self._due.pop(0)[1], daemon=True).start()

    def snapshot(self, *news: Any) -> bool:
        return False

    def checkpoint(self, *news: Any) -> None: ...
    def begin(self, *news: Any) -> None: ...
    def named(self, run: str) -> None: ...
    def end(self, summary: dict[str, Any]) -> None: ...
    def phase(self, text: str) -> None: ...
    def links(self, line: dict[str, Any]) -> None: ...
    def refused(self, *news: Any) -> None: ...
    def certificate(self, certificate: Any) -> None: ...


def send_as_stranger() -> None:
    """From node 1's place, segments of another run for node 0."""
    target = f"{layout.mesh_address(0)}:{layout.MESH_PORT}"
    inside = ["nsenter", f"--net=/run/netns/{layout.node_namespace(1)}", "--"]
    subprocess.run([*inside, sys.executable, "-m", "tests.dashboards.observe", "stranger", target], check=True)


def stranger(target: str) -> None:
    """Send five segments that no node of this run has made."""
    import grpc

    from gannet.node.wire import exchange_pb2, exchange_pb2_grpc

    payload = b"none of yours"
    chunks = [
        exchange_pb2.Chunk(
            header=exchange_pb2.Header(
                run="another", sender=1, round=1, segment=segment, bytes=len(payload), crc32=zlib.crc32(payload)
            ),
            data=payload,
        )
        for segment in range(5)
    ]
    with grpc.insecure_channel(target) as channel:
        receipts = list(exchange_pb2_grpc.ExchangeStub(channel).Deliver(iter(chunks), timeout=20))
    assert [receipt.verdict for receipt in receipts] == [exchange_pb2.WRONG_RUN] * 5


def kill_last_node() -> None:
    """The last node ends without a word."""
    os.kill(node_process("", NODES - 1), signal.SIGKILL)


def start_prometheus(folder: Path) -> subprocess.Popen[bytes]:
    """The shipped configuration, with addresses in place of names."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    places = {
        "node": [f"{layout.metrics_address(rank)}:{layout.METRICS_PORT}" for rank in range(NODES)],
        "controller": [f"127.0.0.1:{layout.METRICS_PORT}"],
    }
    for job in config["scrape_configs"]:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": places[job["job_name"]]}]
    shutil.copytree(PROMETHEUS / "rules", folder / "rules")
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    argv = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'storage'}"]
    with (folder / "prometheus.log").open("wb") as log:
        return subprocess.Popen([*argv, "--web.listen-address=127.0.0.1:9090"], stdout=log, stderr=log)


def wait_for(done: Callable[[], Any], timeout_s: float = 180.0) -> None:
    end = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > end:
            raise TimeoutError("waited in vain")
        time.sleep(0.25)


def values(expr: str) -> list[dict[str, Any]]:
    """An instant query's result; empty while Prometheus does not answer."""
    from dashboards import check

    try:
        result: list[dict[str, Any]] = check.request(URL, "query", query=expr)["result"]
    except OSError:
        return []
    return result


def observe(folder: Path) -> None:
    """Run, watch, ask, write."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    from rich.console import Console

    from dashboards import check
    from gannet.experiment.compare import execute
    from gannet.metrics.run_metrics import MetricsSink
    from gannet.spec.load import resolve

    prometheus = start_prometheus(folder)
    start_s = time.time()
    metrics = MetricsSink(quality=True)
    metrics.serve("127.0.0.1", layout.METRICS_PORT)  # nodes have addresses of their own for that port here
    finished = execute(resolve(SPEC, "observed"), folder / "out", Console(), None, [metrics, Trouble()])
    wait_for(lambda: len(values("gannet_run_state == 2")) == len(SPEC["arms"]))
    # Scored with what processor time is left over, which may be none before the runs have ended.
    wait_for(lambda: values("last_over_time(gannet_quality_score[1h])"), 240.0)
    end_s = time.time()
    answers = check.ask_all(URL, start_s, end_s)

    def ever(expr: str) -> list[dict[str, Any]]:
        times = {"start": str(start_s), "end": str(end_s), "step": "1"}
        result: list[dict[str, Any]] = check.request(URL, "query_range", query=expr, **times)["result"]
        return result

    rules = [rule for group in check.request(URL, "rules")["groups"] for rule in group["rules"]]
    arm = 'arm="gossip"'
    found = {
        "finished": finished,
        "start_s": start_s,
        "end_s": end_s,
        "asked": len(answers),
        "empty": check.empty(answers),
        "unhealthy": [f"{r['name']}: {r.get('lastError')}" for r in rules if r["health"] != "ok"],
        "recorded": {r["name"]: len(ever(r["name"])) for r in rules if r["type"] == "recording"},
        "alerts": [r["name"] for r in rules if r["type"] == "alerting"],
        "fired": sorted({series["metric"]["alertname"] for series in ever('ALERTS{alertstate="firing"}')}),
        "metrics": check.request(URL, "label/__name__/values", start=str(start_s), end=str(end_s)),
        "runs_of_nodes": sorted({s["metric"]["run"] for s in ever("gannet_steps_total")}),
        "runs_of_controller": sorted({s["metric"]["run"] for s in ever("gannet_run_info")}),
        "rtt_s": [point for s in ever(f"avg(gannet_rtt_seconds{{{arm}}})") for point in s["values"]],
        "configured_rtt_s": [
            point for s in ever(f"avg(link:gannet_configured_rtt:seconds{{{arm}}})") for point in s["values"]
        ],
        "refused": [
            float(s["value"][1])
            for s in values(f"max_over_time(gannet_reported_refusals_total{{{arm},reason='wrong_run'}}[1h])")
        ],
        "changed_s": [
            float(s["value"][1]) for s in values(f"last_over_time(gannet_link_change_timestamp_seconds{{{arm}}}[1h])")
        ],
    }
    (folder / "found.json").write_text(json.dumps(found, indent=1))
    metrics.close()
    prometheus.terminate()
    prometheus.wait()


def main() -> None:
    if sys.argv[1] == "stranger":
        stranger(sys.argv[2])
        return
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    sandbox.enter()
    observe(folder)


if __name__ == "__main__":
    main()
