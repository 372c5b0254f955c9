"""`gannet net up` and `gannet net exec`: real networks, programs of others on them, and what is left behind."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from gannet.fabrics.links.operator_server import live_folder
from tests.support.gannet import ORDINARY_USER, processes, start
from tests.support.patience import wait_until
from tests.support.up import NET, Up, environment, up

pytestmark = pytest.mark.real("links")

RATE_BPS = 8_000_000
PROFILE = "rate: 8Mbit\ndelay_ms: 5\n"
# What a TCP segment (with timestamps) carries of the frame that the token buckets count.
TCP_SHARE = 1448 / 1514


def profile(folder: Path) -> str:
    path = folder / "mine.yaml"
    path.write_text(PROFILE)
    return str(path)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Three nodes, measured."""
    folder = tmp_path_factory.mktemp("up")
    with up(folder / "state", profile(folder), "-n", "3") as network:
        yield network


def tcp_bps(network: Up, sender: int, receiver: int, *, seconds: int = 5) -> float:
    """Goodput as iperf3 sees it, server and client both inside by `exec`; the median of tenths of that time.

    A moment in which the machine stands still is in few of them.
    """
    often = ["-i", str(seconds / 10)]
    server = network.start(str(sender), "--", "iperf3", "-s", "-1", "--forceflush", *often, stdout=subprocess.PIPE)
    assert server.stdout is not None and server.stdout.readline()  # it listens
    address = network.net("exec", str(sender), "--", "sh", "-c", "echo $GANNET_ADDRESS").stdout.strip()
    # Reversed, for it is the client whose words are JSON, and the receiver who knows.
    client = ["iperf3", "-c", address, "-R", "-l", "4K", "-O", "1", "-t", str(seconds), *often, "-J"]
    done = network.net("exec", str(receiver), "--", *client)
    server.communicate(timeout=240)
    intervals = [interval["sum"] for interval in json.loads(done.stdout)["intervals"]]
    return float(median(found["bits_per_second"] for found in intervals if not found["omitted"]))


def test_it_says_what_it_measured_and_where_the_nodes_are(three: Up) -> None:
    said = "\n".join(three.said)
    assert (
        "6 of 6 links match their profile" in said or "wrong" in said
    )  # a crowded machine may miss, and then says so
    assert all(f"{a} → {b}" in said for a in range(3) for b in range(3) if a != b)
    assert "node 2: 10.77.0.4" in said and "gannet net exec 0 -- iperf3 -c 10.77.0.3" in said


def test_iperf3_sees_the_rate_of_the_profile(three: Up) -> None:
    assert 0.8 * RATE_BPS * TCP_SHARE < tcp_bps(three, 0, 1) < 1.05 * RATE_BPS * TCP_SHARE


def test_the_exit_status_is_the_programs(three: Up) -> None:
    for status in (0, 1, 42, 255):
        assert three.net("exec", "0", "--", "sh", "-c", f"exit {status}").returncode == status


MISTAKES = [
    (["9", "--", "true"], 125, "there is no node 9: its nodes are 0 to 2"),
    (["0", "--", "no-such-program"], 127, "no-such-program: command not found"),
    (["0", "--", "/no/such/program"], 127, "/no/such/program: No such file or directory"),
    (["0", "--", "/tmp"], 126, "/tmp: Is a directory"),
    (["0", "--", "/etc/passwd"], 126, "/etc/passwd: Permission denied"),
    (["0"], 2, "Missing argument"),
    (["x", "--", "true"], 2, "Invalid value"),
]


def test_mistakes_are_said_once(three: Up) -> None:
    for arguments, status, said in MISTAKES:
        done = three.net("exec", *arguments)
        assert done.returncode == status and said in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr and done.stdout == ""


def test_only_the_network_is_another(three: Up, tmp_path: Path) -> None:
    """User, files, folder and standard streams are the caller's; variables tell of the network."""
    script = (
        'id -u; pwd; cat; touch here; echo "$GANNET_NODE $GANNET_NODES $GANNET_ADDRESS: $GANNET_PEERS"; echo e >&2'
    )
    done = three.net("exec", "1", "--", "sh", "-c", script, stdin="through\n", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    seen = [str(os.getuid()), str(tmp_path), "through", "1 3 10.77.0.3: 10.77.0.2 10.77.0.4"]
    assert done.stdout.splitlines() == seen and done.stderr == "e\n"
    assert (tmp_path / "here").stat().st_uid == os.getuid()
    links = json.loads(three.net("exec", "1", "--", "ip", "-j", "address", "show", "mesh0").stdout)
    assert [entry["local"] for entry in links[0]["addr_info"] if entry["family"] == "inet"] == ["10.77.0.3"]


def test_a_node_has_a_name_and_no_way_beside_the_mesh(three: Up) -> None:
    script = "hostname; hostname -I; hostname -i; getent hosts node2; getent hosts localhost"
    done = three.net("exec", "1", "--", "sh", "-c", f"{script}; ip -o -6 address show scope link; ip route")
    name, addresses, resolved, peer, local, *rest = done.stdout.splitlines()
    assert (name, addresses.strip(), resolved.strip()) == ("node1", "10.77.0.3", "10.77.0.3"), done
    assert peer.split() == ["10.77.0.4", "node2"] and local.split()[1] == "localhost"
    assert sorted({line.split("dev ")[1].split()[0] for line in rest}) == ["mesh0"] and len(rest) == 2, rest
    assert list(Path(tempfile.gettempdir()).glob("gannet-hosts-*")) == []
    assert "node1" not in Path("/etc/hosts").read_text() and socket.gethostname() != "node1"


OUTSIDE = """
import errno, socket, time
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.connect(("8.8.8.8", 80))
print(asking.getsockname()[0])
begin = time.monotonic()
with socket.socket() as leaving:
    print(errno.errorcode[leaving.connect_ex(("8.8.8.8", 80))])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as naming:
    print(errno.errorcode[naming.connect_ex(("8.8.8.8", 53))])
print(time.monotonic() - begin < 2)
"""
HEAR = """
import socket, struct
socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
for sock, port in zip(socks, (5001, 5002)):
    sock.bind(("", port))
group = struct.pack("=4sI", socket.inet_aton("239.1.2.3"), 0)
socks[0].setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
print("listening", flush=True)
for sock in socks:
    data, (address, _) = sock.recvfrom(100)
    print(data.decode(), address, flush=True)
"""
SHOUT = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
sock.sendto(b"multicast", ("239.1.2.3", 5001))
sock.sendto(b"broadcast", ("255.255.255.255", 5002))
"""


def test_a_program_learns_its_address_as_on_any_host(three: Up) -> None:
    """By a UDP socket that it connects to the internet; and what really leaves gets an error at once."""
    done = three.net("exec", "1", "--", sys.executable, "-c", OUTSIDE)
    assert done.stdout.split() == ["10.77.0.3", "ENETUNREACH", "ENETUNREACH", "True"], done


def test_multicast_and_broadcast_take_the_mesh_without_being_told(three: Up) -> None:
    hearing = three.start("2", "--", sys.executable, "-c", HEAR, stdout=subprocess.PIPE)
    assert hearing.stdout is not None and hearing.stdout.readline() == "listening\n"
    assert three.net("exec", "0", "--", sys.executable, "-c", SHOUT).returncode == 0
    assert hearing.communicate(timeout=240)[0].splitlines() == ["multicast 10.77.0.2", "broadcast 10.77.0.2"]


GLOO = """
import os, torch, torch.distributed as distributed
rank = int(os.environ["GANNET_NODE"])
distributed.init_process_group("gloo", init_method="tcp://node0:29500", rank=rank, world_size=3)
values = torch.full((100_000,), float(rank))
distributed.all_reduce(values)
print(values[0].item())
"""


def test_gloo_finds_the_mesh_by_itself(three: Up) -> None:
    """Without GLOO_SOCKET_IFNAME it takes the address of the host's name, and where that is not its own, loopback."""

    def sent_bytes() -> int:
        shown = json.loads(three.net("exec", "2", "--", "ip", "-j", "-s", "link", "show", "mesh0").stdout)
        return int(shown[0]["stats64"]["tx"]["bytes"])

    before = sent_bytes()
    ranks = [three.start(str(n), "--", sys.executable, "-c", GLOO, stdout=subprocess.PIPE) for n in range(3)]
    assert [rank.communicate(timeout=400)[0] for rank in ranks] == 3 * ["3.0\n"]
    assert sent_bytes() - before > 400_000


def test_a_terminal_stays_a_terminal(three: Up) -> None:
    controller, terminal = pty.openpty()
    process = three.start("0", "--", "sh", "-c", "tty && stty size", stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    assert process.wait(240) == 0
    said = os.read(controller, 4096).decode()
    os.close(controller)
    assert said.startswith("/dev/pts/")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_signals_reach_the_program_and_it_ends_with_its_caller(three: Up, number: int) -> None:
    """The program is the process that was started: nothing in between could outlive it or swallow a signal."""
    process = three.start("0", "--", "sh", "-c", "echo $$; exec sleep 600", stdout=subprocess.PIPE)
    assert process.stdout is not None and int(process.stdout.readline()) == process.pid
    process.send_signal(number)
    assert process.wait(240) == -number
    process.stdout.close()


def test_it_answers_operators_as_a_run_does(three: Up) -> None:
    applied = three.net("apply", "lte", "--node", "2")
    assert applied.returncode == 0 and "mine, node 2: lte" in applied.stdout, applied.stderr
    cut = three.net("partition", "0:1,2")
    assert cut.returncode == 0, cut.stderr
    reach = ["exec", "0", "--", sys.executable, "-c", "import socket; socket.create_connection(('10.77.0.3', 1), 6)"]
    assert "timed out" in three.net(*reach).stderr
    assert three.net("heal").returncode == 0
    assert "refused" in three.net(*reach).stderr  # whoever refuses has been reached
    assert three.net("verify", "--link", "0:1").returncode == 0
    assert three.net("clear").returncode == 0
    shown = three.net("show")
    assert shown.returncode == 0 and "unshaped" in shown.stdout


def left(state: Path) -> list[object]:
    """Processes, sockets and notes of networks of this user."""
    return [*processes(str(state)), *(path for path in state.rglob("*") if path.is_file() or path.is_socket())]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_takes_everything_down_at_the_end(tmp_path: Path, number: int) -> None:
    state = tmp_path / "state"
    with up(state, profile(tmp_path), "-n", "2", "--no-certify") as network:
        assert left(state)
        status, said = network.end(number)
    assert status == 0 and said.endswith("taken down\n"), said
    wait_until("nothing of it is left", lambda: not left(state))


def test_ctrl_c_twice_and_to_the_whole_group_ends_it_as_well(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with up(state, profile(tmp_path), "-n", "2", "--no-certify") as network:
        os.killpg(network.process.pid, signal.SIGINT)
        time.sleep(0.05)
        status, said = network.end(signal.SIGINT)
    assert status == 0 and said.endswith("taken down\n"), said
    wait_until("nothing of it is left", lambda: not left(state))


def test_two_networks_stand_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state"
    with (
        up(state, profile(tmp_path), "-n", "2", "--no-certify") as one,
        up(state, "unshaped", "-n", "3", "--no-certify") as other,
    ):
        unsaid = subprocess.run(
            [*NET, "exec", "0", "--", "true"], env=environment(state), capture_output=True, text=True, timeout=240
        )
        assert unsaid.returncode == 125 and "2 runs are live" in unsaid.stderr
        assert one.address in unsaid.stderr and other.address in unsaid.stderr
        count = ["exec", "1", "--", "sh", "-c", "echo $GANNET_NODES"]
        assert [network.net(*count).stdout for network in (one, other)] == ["2\n", "3\n"]
        assert one.net("apply", "lte").returncode == 0
        assert "unshaped" in other.net("show").stdout
        assert one.end(signal.SIGINT)[0] == 0
        said = subprocess.run(
            [*NET, "exec", "2", "--", "echo", "still"], env=environment(state), capture_output=True, text=True
        )
        assert said.stdout == "still\n", said.stderr  # the one that is left is meant
        monkeypatch.setenv("XDG_STATE_HOME", str(state))
        assert [f"unix:{path}" for path in live_folder().glob("*.sock")] == [other.address]
        assert other.end(signal.SIGTERM)[0] == 0
    assert left(state) == []


@pytest.fixture
def ordinary() -> Iterator[tuple[str, ...]]:
    """What to put before a command so that an ordinary user's machine is where it runs: no capability anywhere."""
    with subprocess.Popen([*ORDINARY_USER, "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE) as machine:
        assert machine.stdout is not None and machine.stdout.readline()
        yield ("nsenter", f"--user=/proc/{machine.pid}/ns/user", "--preserve-credentials", "--")
        machine.kill()


def test_an_ordinary_user_has_one_too_and_stays_who_it_is(tmp_path: Path, ordinary: tuple[str, ...]) -> None:
    """The network is in a user namespace, and programs enter it as the user that called."""
    with up(tmp_path / "state", profile(tmp_path), "-n", "2", "--no-certify", prefix=ordinary) as network:
        script = "id -u; ip -br address show mesh0; hostname; getent hosts node0; touch made"
        done = network.net("exec", "1", "--", "sh", "-c", script, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[0] == "1000" and "10.77.0.3/16" in done.stdout
        assert "\nnode1\n" in done.stdout and "10.77.0.2       node0" in done.stdout
        assert (tmp_path / "made").stat().st_uid == os.getuid()
        change = ["ip", "link", "set", "lo", "mtu", "1400"]  # only root of the network may
        assert network.net("exec", "1", "--", *change).returncode != 0
        assert network.net("exec", "--root", "1", "--", *change).returncode == 0
        assert network.net("exec", "--root", "1", "--", "id", "-u").stdout == "0\n"
        assert 0 < tcp_bps(network, 0, 1) < 1.2 * RATE_BPS
        assert network.end(signal.SIGTERM)[0] == 0
    assert left(tmp_path / "state") == []


def test_links_of_a_spec_change_on_its_schedule(tmp_path: Path) -> None:
    spec = tmp_path / "links.yaml"
    spec.write_text("nodes: 2\nlinks:\n  profile: lte\n  schedule: [{at_s: 1, profile: unshaped, nodes: [1]}]\n")
    with up(tmp_path / "state", str(spec), "--no-certify", "--set", "links.profile=5g") as network:
        assert "bringing up 2 nodes: 5g" in network.said[0]
        end = time.monotonic() + 240
        while (
            "node 1: unshaped" not in network.net("show").stdout.partition("\n")[0]
        ):  # further down is what will come
            assert time.monotonic() < end
            time.sleep(0.2)
        _, said = network.end(signal.SIGINT)
    assert "5g, node 1: unshaped (schedule: " in said


WRONG = [
    (["3g-slwo"], "did you mean 3g-slow"),
    (["nowhere.yaml"], "nowhere.yaml"),
    (["lte", "-n", "0"], "nodes"),
    (["lte", "--set", "links"], "--set links: write key=value"),
    (["lte", "--set", "links.nodes={7: lte}"], "node 7"),
    (["demo", "--set", "arms.server.links=lte"], "choose one with --arm (gossip, server, all-reduce)"),
    (["demo", "--arm", "nobody"], "has no arm 'nobody'"),
]


def test_what_makes_no_sense_is_refused_before_anything_starts(tmp_path: Path) -> None:
    for arguments, said in WRONG:
        done = subprocess.run(
            [*NET, "up", *arguments], env=environment(tmp_path), capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 2 and said in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr and done.stdout == ""


def test_without_a_network_exec_says_so(tmp_path: Path) -> None:
    without = environment(tmp_path, PATH="/usr/sbin:/sbin")  # and without docker
    argv = [*NET, "exec", "0", "--", "true"]
    for extra in ([], ["--controller", "unix:/nowhere.sock"]):
        done = subprocess.run(
            [*argv[:-3], *extra, *argv[-3:]], env=without, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 125, done.stderr
        assert ("nothing is up" if not extra else "no network is up at unix:/nowhere.sock") in done.stderr


def test_programs_enter_a_run_that_trains(tmp_path: Path) -> None:
    process = start(tmp_path, ["run"], stop={"steps": 100_000})
    state = tmp_path / "state"
    try:
        script = "echo $GANNET_ADDRESS of $GANNET_NODES; hostname -I; ip address show mesh0"
        argv = [*NET, "exec", "2", "--", "sh", "-c", script]
        end = time.monotonic() + 240
        while (done := subprocess.run(argv, env=environment(state), capture_output=True, text=True)).returncode:
            assert time.monotonic() < end, done.stderr
            time.sleep(0.5)
        assert done.stdout.startswith("10.77.0.4 of 3\n10.77.0.4 \n") and "inet 10.77.0.4/16" in done.stdout
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=400)
