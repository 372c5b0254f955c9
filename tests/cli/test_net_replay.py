"""`gannet net isolate` and `gannet net replay`, with real agents behind, judged by datagrams and by the kernel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gannet.fabrics.links.live_links import LiveLinks
from tests.support.gannet import net
from tests.support.live import LiveLab, lines, wait_for_line

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.real("links")


def uplink_bps(lab: LiveLab, rank: int) -> float:
    """The cap of a node's uplink as tc prints it."""
    shown = "".join(lab.sandbox.run(f"tc {what} show dev mesh0", f"node{rank}") for what in ("class", "qdisc"))
    found = re.search(r"(?:ceil|tbf .* rate) ([0-9.]+)([KMG]?)bit", shown)
    assert found is not None, shown
    return float(found[1]) * {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}[found[2]]


def test_an_isolated_node_neither_hears_nor_is_heard(live: LiveLinks, shared: LiveLab) -> None:
    done = net("isolate", "2", "--for", "20m")
    assert done.returncode == 0, done.stderr
    assert "swift, partition 0,1,3 | 2 for 1200 s" in done.stdout
    assert shared.arrived(0, 2) == shared.arrived(2, 3) == []
    assert len(shared.arrived(0, 1)) == 99
    done = net("isolate", "3")  # what is cut stays so
    assert done.returncode == 0 and shared.arrived(0, 2) == shared.arrived(3, 2) == shared.arrived(0, 3) == []
    assert "end of isolate 2 for 1200 s" in net("show").stdout
    assert net("heal").returncode == 0
    assert len(shared.arrived(0, 2)) == 99


def test_a_trace_is_replayed_at_one_node_and_undone(live: LiveLinks, shared: LiveLab, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("# duration_s: 40\ntime_s,down,up\n0,3Mbit,3Mbit\n0.4,5Mbit,4Mbit\n")
    done = net("replay", str(path), "--node", "1", "--for", "6s")
    assert done.returncode == 0, done.stderr
    assert "swift, node 1: mine for 6 s" in done.stdout
    # Half of the six seconds may have gone by before the command has ended: ask for the end, then look.
    line = wait_for_line(live, event="links", operation="end of replay mine at node 1 for 6 s")
    assert line["detail"] == "swift" and line["by"] == "operator" and line["t_s"] >= 6
    assert uplink_bps(shared, 1) == 20e6
    assert any("replay mine at node 1" in reason for reason in live.reasons())

    done = net("replay", str(path), "--node", "1", "--for", "10m")
    assert done.returncode == 0, done.stderr
    until = {4e6}
    for _ in range(200):  # the second step has come, or comes
        if uplink_bps(shared, 1) in until:
            break
    assert uplink_bps(shared, 1) == 4e6 and uplink_bps(shared, 0) == uplink_bps(shared, 2) == 20e6
    assert net("clear").returncode == 0  # what is made later wins
    assert lines(live, "agent-lost") == []


MISTAKES = [
    (["isolate"], "Missing argument"),
    (["isolate", "7"], "node 7 does not exist: the nodes are 0 to 3"),
    (["isolate", "x"], "Invalid value"),
    (["replay", "lte-drvie"], "did you mean lte-drive"),
    (["replay", "nowhere.csv"], "no trace file at nowhere.csv"),
    (["replay", "lte-drive", "--node", "7"], "node 7 does not exist: the nodes are 0 to 3"),
    (["replay", "lte-drive", "--node", "-1"], "numbered from 0"),
    (["replay", "lte-drive", "--for", "soon"], "--for soon: a time above 0"),
]


def test_mistakes_are_said_once_and_change_nothing(live: LiveLinks) -> None:
    for arguments, said in MISTAKES:
        done = net(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert said in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr and done.stdout == ""
    assert live.show().state.describe() == "swift"
