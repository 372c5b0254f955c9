"""`gannet net` as people and scripts use it: a process, its words and its exit status, with real agents behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gannet.fabrics.links.live_links import LiveLinks
from gannet.netem.links.profile import list_profiles
from tests.support.gannet import net
from tests.support.live import LiveLab

pytestmark = pytest.mark.real("links")

ROOT = Path(__file__).parents[2]


def rows(text: str) -> dict[str, str]:
    """The rows of a table of nodes, by node."""
    return {line.split()[0]: " ".join(line.split()) for line in text.splitlines() if line[:1].isdigit()}


def test_profiles_need_no_controller() -> None:
    done = net("profiles")
    assert done.returncode == 0
    assert {line.split()[0] for line in done.stdout.splitlines()[1:]} == set(list_profiles())
    assert "2g 35 kbit/s 32 kbit/s 650 ms – – 100 ms fifo WebPageTest connectivity.ini –" in rows(done.stdout)["2g"]


def test_show_tells_of_packets_from_addresses_that_no_node_has(live: LiveLinks, shared: LiveLab) -> None:
    """As many as were sent, by the sender's count; a frame to a permanent neighbour needs no answer."""
    assert "dropped" not in net("show").stdout
    shared.sandbox.run("ip address add 10.77.1.99/32 dev mesh0", "node0")
    try:
        send = (
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('10.77.1.99', 0)); "
            f"[s.sendto(b'', ('{shared.addresses[1]}', 9)) for _ in range(25)]"
        )
        shared.sandbox.run([sys.executable, "-c", send], "node0")
    finally:
        shared.sandbox.run("ip address del 10.77.1.99/32 dev mesh0", "node0")
    done = net("show")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if "dropped" in line]
    assert said == ["node 1 has dropped 25 packets from addresses that no node has"]


def test_a_session(live: LiveLinks, shared: LiveLab, tmp_path: Path) -> None:
    done = net("apply", "3g-slow", "--node", "2")
    assert done.returncode == 0, done.stderr
    assert "cluster/gossip/seed-1 at" in done.stdout and "swift, node 2: 3g-slow" in done.stdout
    assert rows(done.stdout)["2"].startswith("2 780 kbit/s 330 kbit/s 0,1,3: 52.5 ms")
    assert all(row.endswith("applied") for row in rows(done.stdout).values()) and len(rows(done.stdout)) == 4

    own = tmp_path / "mine.yaml"
    own.write_text("rate: 3Mbit\ndelay_ms: 12\nloss_percent: 1\n")
    done = net("apply", str(own), "--link", "0:1", "--link", "2>3")
    assert done.returncode == 0 and "0→1: mine, 1→0: mine, 2→3: mine" in done.stdout
    assert "0: 12 ms, 3 Mbit/s, loss 1%" in done.stdout

    done = net("partition", "0,1:2,3", "--for", "20m")
    assert done.returncode == 0 and "partition 0,1 | 2,3 for 1200 s" in done.stdout
    assert "2,3: cut" in done.stdout
    assert shared.arrived(0, 2) == []
    done = net("show")
    assert done.returncode == 0 and "end of partition 0,1:2,3 for 1200 s" in done.stdout
    done = net("verify", "--link", "0:2", "--link", "1>0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["loss", "ok", "ok", "ok"]
    assert done.stdout.count(" cut ") == 2

    assert net("heal").returncode == 0
    assert len(shared.arrived(0, 2)) == 99
    done = net("clear")
    assert done.returncode == 0 and "unshaped" in done.stdout
    assert [" ".join(row.split()[1:7]) for row in rows(done.stdout).values()] == 4 * ["no cap no cap no delay"]


def test_a_node_that_differs_is_named_and_fails_the_command(live: LiveLinks, shared: LiveLab) -> None:
    """Whatever can be repaired is; an interface that is gone cannot."""
    shared.sandbox.run("ip link set mesh0 netns switch", "node3")
    try:
        for verb in ("show", "verify"):
            done = net(verb)
            assert done.returncode == 1
            assert "node 3: no interface mesh0 in this network namespace" in done.stdout + done.stderr
        assert "differs" in net("show").stdout
    finally:
        shared.sandbox.run("ip link set mesh0 netns node3", "switch")
    assert net("apply", "lte").returncode == 0
    assert net("show").returncode == 0


MISTAKES = [
    (["apply", "3g-slwo"], 2, "did you mean 3g-slow"),
    (["apply", "nowhere.yaml"], 2, "no file at nowhere.yaml"),
    (["apply", "lte", "--node", "7"], 2, "node 7, but the nodes are 0 to 3"),
    (["apply", "lte", "--node", "x"], 2, "Invalid value for '--node'"),
    (["apply", "lte", "--node", "-1"], 2, "numbered from 0"),
    (["apply", "lte", "--link", "0-3"], 2, "write A:B for both directions"),
    (["apply", "lte", "--link", "0:x"], 2, "'x' is no node's number"),
    (["apply", "lte", "--link", "1:1"], 2, "itself"),
    (["apply", "lte", "--for", "soon"], 2, "--for soon: a time above 0, such as 30s"),
    (["apply", "lte", "--for", "0s"], 2, "--for 0s: a time above 0"),
    (["partition", "0,1,2,3"], 2, "all nodes on one side"),
    (["partition", "0,1:1,2"], 2, "names node 1 twice"),
    (["partition", "0,,1"], 2, "'' is no node's number"),
    (["verify", "--link", "0:9"], 2, "0>9 is no link between nodes 0 to 3"),
    (["heal", "--controller", "127.0.0.1:1"], 1, "no controller answers at 127.0.0.1:1"),
    (["show", "--controller", "unix:/nowhere.sock"], 1, "no controller answers at unix:/nowhere.sock"),
]


def test_mistakes_are_said_once_and_change_nothing(live: LiveLinks) -> None:
    for arguments, status, said in MISTAKES:
        done = net(*arguments)
        assert done.returncode == status, (arguments, done.stderr)
        assert said in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr and done.stdout == ""
    assert live.show().state.describe() == "swift"


def test_without_a_run_it_says_what_to_do(tmp_path: Path) -> None:
    done = net("show", XDG_STATE_HOME=str(tmp_path), GANNET_PORT="1")
    assert done.returncode == 1
    assert "no controller answers at 127.0.0.1:1" in done.stderr and "--controller" in done.stderr
