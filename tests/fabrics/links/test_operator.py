"""The operators' door: over a socket and over TCP, with real agents behind it; who may come in, and who is found."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gannet.fabrics.entrance import bundles
from gannet.fabrics.links.live_links import LiveLinks
from gannet.fabrics.links.operator_client import NoController, OperatorClient, Refused, find_controller, local_sockets
from gannet.fabrics.links.operator_server import Operator, live_folder, local_socket
from gannet.netem.measure.certificate import Certificate
from tests.support.live import SLOW, SWIFT, WORLD, lines
from tests.support.patience import seen_right

pytestmark = pytest.mark.real("links")

SECRET = "of the operators"
APPLY_SLOW = {"profile_json": SLOW.model_dump_json()}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets of a user of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
def operator() -> Iterator[Operator]:
    door = Operator()
    yield door
    door.close()


def reach(operator: Operator) -> OperatorClient:
    return OperatorClient(operator.serve([local_socket()])[0])


def test_a_change_over_a_socket(live: LiveLinks, operator: Operator) -> None:
    operator.attach("cluster/gossip", live)
    with reach(operator) as client:
        changed = client.change(apply=APPLY_SLOW)
        shown = client.show()
        assert (changed.run, changed.state, shown.run, shown.state) == ("cluster/gossip", "slow") * 2
        for node in (*changed.nodes, *shown.nodes):
            assert (node.up_bps, node.down_bps, list(node.differences), node.error) == (4e6, 4e6, [], "")
            assert [(p.source, p.delay_ms, p.loss_percent) for p in node.paths] == [
                (rank, 40, 0) for rank in range(WORLD) if rank != node.rank
            ]
        client.change(partition={"groups": [{"nodes": [0, 1]}, {"nodes": [2, 3]}]}, for_s=300)
        shown = client.show()
        assert [p.loss_percent for p in shown.nodes[0].paths] == [0, 100, 100]
        assert [change.what for change in shown.upcoming] == ["end of partition 0,1:2,3 for 300 s"]
        assert 0 < shown.upcoming[0].in_s <= 300
        assert client.change(heal={}).state == "slow"
        cleared = client.change(clear={})
        assert cleared.state == "unshaped"
        assert not any(node.HasField("up_bps") or node.paths for node in cleared.nodes)
        certificate = seen_right(
            lambda: Certificate.from_json(json.loads(client.verify([(0, 1)]).certificate_json)),
            lambda found: found.trusted,
        )
        assert certificate.trusted and [(e.src, e.dst) for e in certificate.edges] == [(0, 1)]
    said = [line["operation"] for line in lines(live, "links")]
    assert said == ["apply slow", "partition 0,1:2,3 for 300 s", "heal", "clear"]


def test_two_operators_at_once(live: LiveLinks, operator: Operator) -> None:
    """Each is told what it ordered, in force at every node; neither hears of the other's."""
    operator.attach("run", live)
    addresses = operator.serve([local_socket(), local_socket()])
    wrong: list[Any] = []

    def operate(address: str, profile: Any) -> None:
        with OperatorClient(address) as client:
            for _ in range(6):
                changed = client.change(apply={"profile_json": profile.model_dump_json()})
                wrong.extend(n for n in changed.nodes if n.up_bps != profile.up_bps or n.differences or n.error)
                wrong.extend([] if changed.state == profile.name and len(changed.nodes) == WORLD else [changed])

    threads = [threading.Thread(target=operate, args=pair) for pair in zip(addresses, (SLOW, SWIFT), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and len(lines(live, "links")) == 12


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ({"apply": {"profile_json": "{}", "nodes": [9]}}, "node 9, but the nodes are 0 to 3"),
        ({"apply": {"profile_json": "{}", "links": [{"source": 1, "target": 1}]}}, "to itself"),
        ({"apply": {"profile_json": '{"loss_percent": 120}'}}, "profile: loss_percent: .*100"),
        ({"apply": {"profile_json": "no json"}}, "profile: "),
        ({"apply": {"profile_json": '{"delay_ms": 10, "jitter_ms": 50}'}}, "does not fit a delay of 10 ms"),
        ({"partition": {"groups": [{"nodes": [0, 1, 2, 3]}]}}, "all nodes on one side"),
        ({"clear": {}, "for_s": -1}, "for_s is -1"),
        ({"clear": {}, "for_s": float("nan")}, "for_s is nan"),
        ({}, "a change needs an operation"),
    ],
)
def test_what_makes_no_sense_changes_nothing(
    live: LiveLinks, operator: Operator, operation: dict[str, Any], said: str
) -> None:
    operator.attach("run", live)
    with reach(operator) as client:
        with pytest.raises(Refused, match=said) as refused:
            client.change(**operation)
        assert refused.value.usage and client.show().state == "swift"
    assert lines(live, "links") == []


def test_between_runs_there_is_nothing_to_change(live: LiveLinks, operator: Operator) -> None:
    with reach(operator) as client:
        for _ in range(2):
            for ask in (client.show, lambda: client.change(heal={}), lambda: client.verify([])):
                with pytest.raises(Refused, match="no run is training now") as refused:
                    ask()
                assert not refused.value.usage
            operator.attach("run", live)
            assert client.show().run == "run"
            operator.detach()


def test_nothing_but_sockets_is_served_without_a_secret(operator: Operator) -> None:
    with pytest.raises(ValueError, match=r"not served at 127\.0\.0\.1:0 without a secret"):
        operator.serve([local_socket(), "127.0.0.1:0"])


def test_a_secret_keeps_others_out(live: LiveLinks) -> None:
    operator = Operator(SECRET)
    address = operator.serve(["127.0.0.1:0"])[0]
    operator.attach("run", live)
    try:
        for secret in ("", "wrong"):
            with OperatorClient(address, secret) as client, pytest.raises(Refused, match="not the operators' cred"):
                client.change(clear={})
        with OperatorClient(address, SECRET) as client:
            assert client.show().state == "swift"
    finally:
        operator.close()


def test_an_operator_is_let_in_by_its_certificate_and_told_how_to_name_it(live: LiveLinks) -> None:
    made = bundles.fresh()
    operator = Operator(SECRET, made["controller"])
    address, local = operator.serve(["127.0.0.1:0", local_socket()])
    operator.attach("run", live)
    try:
        for where, identity in ((address, made["operator"]), (local, None), (local, made["operator"])):
            with OperatorClient(where, SECRET, identity) as client:
                assert client.show().state == "swift"
        for wrong, why in (
            (None, "not encrypted.* GANNET_CERTS names the operators' certificate"),
            (made["agent"], "this certificate is of the role agent, not operator"),
            (bundles.fresh()["operator"], "another authority issued it"),
        ):
            with OperatorClient(address, SECRET, wrong) as client, pytest.raises(Refused, match=why):
                client.change(clear={})
    finally:
        operator.close()


def test_sockets_are_this_users_alone_and_leave_with_their_run(operator: Operator) -> None:
    address = operator.serve([local_socket()])[0]
    path = Path(address.removeprefix("unix:"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert find_controller(environment={}) == address
    operator.close()
    assert not path.exists() and local_sockets() == []


def test_a_folder_too_deep_for_sockets_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ("deep" * 40)))
    address = local_socket()
    operator = Operator()
    try:
        assert operator.serve([address]) == [address] == local_sockets()
    finally:
        operator.close()
        live_folder().rmdir()


def test_which_controller_is_meant(operator: Operator) -> None:
    assert find_controller(environment={}) == "127.0.0.1:7701"
    assert find_controller(environment={"GANNET_PORT": "9000"}) == "127.0.0.1:9000"
    with pytest.raises(NoController, match="run this in the controller's container"):
        find_controller(environment={"GANNET_CONTROLLER": "controller:7000"})
    first, second = operator.serve([local_socket(), local_socket()])
    assert find_controller(environment={"GANNET_OPERATOR": "here:1"}) == "here:1"
    with pytest.raises(NoController, match="2 runs are live") as error:
        find_controller(environment={})
    assert first in str(error.value) and second in str(error.value) and "no run is training now" in str(error.value)


def test_the_socket_of_a_killed_run_is_forgotten(operator: Operator) -> None:
    script = (
        "from gannet.fabrics.links.operator_server import Operator, local_socket\nimport time\n"
        "print(Operator().serve([local_socket()]) and 'ready', flush=True)\ntime.sleep(60)"
    )
    root = str(Path(__file__).parents[3])
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root,
                          env={**os.environ, "PYTHONPATH": root}) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        assert len(local_sockets()) == 1
        process.kill()
    own = operator.serve([local_socket()])
    assert len(list(live_folder().glob("*.sock"))) == 2
    assert local_sockets() == own
    assert len(list(live_folder().glob("*.sock"))) == 1


def test_nobody_answers() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with (
            OperatorClient(address) as client,
            pytest.raises(NoController, match=f"no controller answers at {address}"),
        ):
            client.show()
