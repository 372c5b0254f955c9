"""Engine netem under a kernel that has sch_netem, whatever the kernel of this machine has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.emulated

ROOT = Path(__file__).parents[3]
VM = ROOT / "tests/netem/vm/netem-vm"

# What tells a right netem plan from a wrong one. The rest passes as well, and would take another six minutes: see
# CONTRIBUTING.md for the whole suite.
CHOSEN = {
    "test_conformance": [
        "test_rate_of_datagrams[netem-1]",
        "test_rate_of_tcp[netem-10]",
        "test_fan_in_shares_the_downlink[netem]",
        "test_one_way_delay[netem-1]",
        "test_one_way_delay[netem-25]",
        "test_one_way_delay[netem-600]",
        "test_each_source_has_its_own_path[netem]",
        "test_random_loss[netem]",
        "test_lost_in_bursts[netem]",
        "test_reordered_duplicated_corrupted[netem]",
        "test_jitter[netem-0]",
        "test_jitter[netem-60]",
    ],
    "test_fan_in": [
        "test_constant_senders_take_turns[netem]",
        "test_a_light_sender_next_to_a_flood[netem-per-source]",
        "test_a_light_sender_next_to_a_flood[netem-shared]",
    ],
    "test_jitter": [
        "test_jitter_in_order_is_as_planned_at_every_rate[netem-2000]",
        "test_reordered_jitter_is_drawn_for_each_packet[netem]",
        "test_order_that_is_kept_again_loses_nothing[netem]",
    ],
    "test_path_rates": ["test_rates_come_change_and_go_in_place[netem]"],
    "test_shared": ["test_shared_links_come_change_and_go[netem]"],
    "exported_scripts": [
        "test_delays_and_rates_come_and_go",
        "test_losses_come_in_bursts",
        "test_duplicates_come_by_iptables",
    ],
    "test_conformance_changes": [
        "test_every_field_reads_back[netem]",
        "test_a_managed_queue_is_there_or_named_as_missing[netem-codel]",
        "test_a_managed_queue_is_there_or_named_as_missing[netem-fq_codel]",
        "test_a_managed_queue_is_there_or_named_as_missing[netem-sfq]",
        "test_no_moment_of_a_change_is_unshaped[netem]",
        "test_counters_of_each_source[netem]",
        "test_plans_change_live_without_losing_packets[netem]",
        "test_a_cut_path_carries_nothing_and_a_healed_one_everything[netem]",
    ],
}


@pytest.mark.timeout(4 * 3600)  # some eight minutes, unless the kernel must be fetched first or the host is busy
def test_engine_netem_conforms_under_debians_kernel() -> None:
    tests = [f"tests/netem/engines/{file}.py::{name}" for file, names in CHOSEN.items() for name in names]
    plugins = ["-p", "pytest_timeout", "-p", "no:cacheprovider"]
    environment = ["PYTEST_DISABLE_PLUGIN_AUTOLOAD=1", "PYTHONDONTWRITEBYTECODE=1", "GANNET_TEST_ENGINE=netem"]
    environment += ["GANNET_TEST_EMULATED=1"]
    command = ["env", *environment, sys.executable, "-m", "pytest", *plugins, *tests]
    done = subprocess.run([VM, "--", *command], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(tests)} passed" in done.stdout


@pytest.mark.timeout(4 * 3600)  # about a minute, unless the kernel must be fetched first or the host is busy
def test_the_bench_of_links_measures_engine_netem_on_any_machine(tmp_path: Path) -> None:
    small = ["--only", "links", "apply", "--rates", "10", "--seconds", "1", "--nodes", "2", "--repeat", "1"]
    command = [sys.executable, "bench/links.py", "--vm", *small, "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "links-netem.json").read_text())
    assert found["engine"] == "netem" and found["emulated"]
    assert [row["who"] for row in found["links"]] == ["engine netem", "plain tc netem", "no emulation"]
    assert all(row["goodput_bps"] > 0 and row["us_per_frame"] > 0 for row in found["links"])
    assert all(row["goodput_bps"] <= 10e6 and row["one_way_ms"] >= row["delay_ms"] for row in found["links"][:2])
    assert {row["what"]: len(row["seconds"]) for row in found["apply"]} == {
        "fresh": 1, "everything changes": 1, "only rates change": 1, "plain tc, one netem a node": 1,
    }  # fmt: skip
    assert (tmp_path / "links-netem.md").read_text().count("engine netem") == 1
