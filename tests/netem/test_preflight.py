"""Preflight tells the truth about this machine, in ways that can be checked from outside."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gannet.netem.links.profile import LinkProfile
from gannet.netem.preflight import EngineUnavailable, check_engine, check_namespaces, choose_engine, preflight
from gannet.netem.sandbox import Sandbox, SandboxError

pytestmark = pytest.mark.real("containers")


def host_state() -> tuple[str, list[str]]:
    netns = Path("/run/netns")
    return Path("/proc/self/net/dev").read_text().count(":"), sorted(map(str, netns.glob("*")))


def test_preflight_agrees_with_a_try_by_hand_and_leaves_nothing() -> None:
    before = host_state()
    reports = {report.name: report for report in preflight()}
    assert host_state() == before
    with Sandbox() as sandbox:
        for name, trial in (
            ("netem", "tc qdisc add dev lo root netem delay 1ms"),
            ("nfqueue", "iptables -t mangle -A INPUT -j NFQUEUE"),
            ("queue codel", "tc qdisc add dev lo root codel"),
            ("queue fq_codel", "tc qdisc add dev lo root fq_codel"),
            ("queue sfq", "tc qdisc add dev lo root sfq"),
            ("duplicates", "iptables -A INPUT -j TEE --gateway 127.0.0.2"),
            ("seed of netem", "tc qdisc add dev lo root netem delay 1ms seed 1"),
        ):
            try:
                sandbox.run(trial)
                if "qdisc" in trial:
                    sandbox.run("tc qdisc del dev lo root")
                works = True
            except SandboxError:
                works = False
            assert reports[name].usable is works
            assert bool(reports[name].fix) is not works
    assert any(report.usable for name, report in reports.items() if name.startswith("namespaces"))
    assert choose_engine() in [name for name in ("netem", "nfqueue") if reports[name].usable]


def test_netem_gets_a_seed_only_where_it_tells_it() -> None:
    ask = "from gannet.netem.engines.netem import takes_seed; print(takes_seed())"
    with Sandbox() as sandbox:
        devices = sandbox.run("ip -o link")
        said = sandbox.run([sys.executable, "-c", ask]).strip()
        assert sandbox.run("ip -o link") == devices
        with suppress(SandboxError):
            sandbox.run("tc qdisc add dev lo root netem delay 1ms seed 7")
        assert said == str("seed 7" in sandbox.run("tc qdisc show dev lo"))


def test_an_engine_works_rootless_where_namespaces_do() -> None:
    if check_namespaces(rootless=True).usable:
        assert check_engine("nfqueue", rootless=True).usable


def test_missing_programs_are_named_with_their_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    report = check_engine("nfqueue")
    assert not report.usable
    assert "unshare is not installed" in report.reason
    assert report.fix == "apt-get install util-linux iproute2"

    for program in ("unshare", "nsenter", "setpriv", "sh", "mount", "mkdir", "ip", "tc", "cat"):
        path = next(
            p for folder in ("/usr/bin", "/bin", "/usr/sbin", "/sbin") if (p := Path(folder) / program).exists()
        )
        (tmp_path / program).symlink_to(path)
    report = check_engine("nfqueue")
    assert not report.usable
    assert report.fix == "apt-get install iptables"


def test_an_unknown_engine_is_refused_with_the_choices() -> None:
    with pytest.raises(EngineUnavailable, match="'magic': choose one of auto, netem, nfqueue"):
        choose_engine("magic")


@pytest.mark.parametrize(
    ("figures", "beyond"),
    [
        (
            {"delay_ms": 20, "jitter_ms": 2, "jitter_order": "reorder", "jitter_correlation_percent": 30},
            "jitter_correlation_percent of odd",
        ),
        ({"down_queue": "shared"}, "down_queue: shared of odd"),
    ],
)
def test_what_is_beyond_netem_is_for_nfqueue(figures: dict[str, Any], beyond: str) -> None:
    profile = LinkProfile(name="odd", **figures)
    assert choose_engine("auto", [profile]) == "nfqueue"
    with pytest.raises(EngineUnavailable, match=f"engine netem cannot do {beyond}: choose engine auto"):
        choose_engine("netem", [profile])
