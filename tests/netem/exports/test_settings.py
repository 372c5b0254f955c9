"""Settings for tc, tcconfig and containerlab, against the plan and against what a shell makes of the scripts."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.netem.exports import containerlab, tc_script, tcconfig
from gannet.netem.exports.formats import FORMATS
from gannet.netem.exports.paths import ExportError
from gannet.netem.links.plan import InterfacePlan
from gannet.netem.links.profile import GilbertElliott, LinkProfile
from gannet.netem.links.state import LinkState
from gannet.netem.shaping.commands import apply_commands, clear_commands

ADDRESSES = ["10.9.0.1", "10.9.0.2", "10.9.0.3"]
SHARES = st.integers(0, 99_999).map(lambda thousandths: thousandths / 1000)


@st.composite
def profiles(draw: st.DrawFn) -> LinkProfile:
    """One way each by itself, to the microsecond, and rates to kbit/s: as every format can hold."""
    delay_ms = draw(st.integers(0, 500_000)) / 1000
    jitter_ms = round(delay_ms * draw(st.sampled_from([0, 0.25])), 3)
    return LinkProfile(
        name="drawn",
        down_bps=draw(st.none() | st.integers(8, 10**7).map(lambda kbit: 1000 * kbit)),
        up_bps=draw(st.none() | st.integers(8, 10**7).map(lambda kbit: 1000 * kbit)),
        up_delay_ms=delay_ms,
        down_delay_ms=delay_ms,
        jitter_ms=jitter_ms,
        jitter_order="reorder" if jitter_ms else "keep",
        loss_percent=draw(SHARES),
        corrupt_percent=draw(SHARES),
    )


def plans(*nodes: LinkProfile) -> tuple[InterfacePlan, ...]:
    state = LinkState(nodes=dict(enumerate(nodes)), profile=nodes[0])
    return state.plans(ADDRESSES[: len(nodes)], ["eth0"] * len(nodes), 1)


def least(*rates: int | None) -> int | None:
    return min((rate for rate in rates if rate is not None), default=None)


@settings(deadline=None, max_examples=50)
@given(profiles())
def test_tcconfig_has_every_path_of_three_equal_nodes(profile: LinkProfile) -> None:
    done = tcconfig.export_network(plans(profile, profile, profile))
    for rank in range(3):
        (rules,) = json.loads(done.files[f"node-{rank}.json"]).values()
        assert rules["incoming"] == {}
        expected = {
            "delay": profile.up_delay_ms,
            "delay-distro": profile.jitter_ms,
            "loss": profile.loss_percent,
            "corrupt": profile.corrupt_percent,
            "rate": least(profile.up_bps, profile.down_bps),
        }
        peers = [f"dst_network={address}/32, protocol=ip" for n, address in enumerate(ADDRESSES) if n != rank]
        wanted = {peer: {key: value for key, value in expected.items() if value} for peer in peers}
        units = {"delay": "ms", "delay-distro": "ms", "loss": "%", "corrupt": "%", "rate": "bps"}
        found = {
            peer: {key: float(text.removesuffix(units[key])) for key, text in rule.items()}
            for peer, rule in rules["outgoing"].items()
        }
        assert {*found} == {peer for peer, rule in wanted.items() if rule}
        for peer in found:
            assert found[peer] == pytest.approx(wanted[peer], rel=1e-9)


@settings(deadline=None, max_examples=50)
@given(profiles())
def test_containerlab_has_every_path_in_json_and_in_its_script(profile: LinkProfile) -> None:
    done = containerlab.export_network(plans(profile, profile, profile))
    told = json.loads(done.files["netem.json"])
    rate_bps = least(profile.up_bps, profile.down_bps)
    assert {*told} == {"node0", "node1", "node2"}
    for settings_ in told.values():
        assert [each["interface"] for each in settings_] == ["eth1", "eth2"]
        for each in settings_:
            delay, jitter = (float(each[name].removesuffix("ms") or 0) for name in ("delay", "jitter"))
            assert (delay, jitter) == pytest.approx((profile.up_delay_ms, profile.jitter_ms))
            assert each["rate"] == (rate_bps or 0) / 1000
            assert each["packet_loss"] == pytest.approx(profile.loss_percent)
            assert each["corruption"] == pytest.approx(profile.corrupt_percent)
    lines = [shlex.split(line) for line in done.files["netem.sh"].partition("\nfi\n")[2].splitlines()]
    keys = {"--delay": "delay", "--jitter": "jitter", "--loss": "packet_loss", "--rate": "rate",
            "--corruption": "corruption"}  # fmt: skip
    for words in lines:
        options = dict(zip(words[4:-1:2], words[5:-1:2], strict=True))
        setting = next(s for s in told[options.pop("-n")] if s["interface"] == options["-i"])
        assert options.pop("-i") == setting["interface"]
        assert {keys[option]: text for option, text in options.items()} == {
            key: str(value) for key, value in setting.items() if value and key != "interface"
        }
    assert len(lines) == 6


def recorded(tmp_path: Path, script: str, *arguments: str) -> list[tuple[list[str], str]]:
    """What a shell runs of a script: (words, standard input) of every command of tc, ip and iptables."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    record = 'printf "%s\\n" "$(basename "$0") $*" >> "$LOG"; cat >> "$LOG"; echo "== end" >> "$LOG"\n'
    for name in ("tc", "ip", "iptables", "iptables-restore"):
        (programs / name).write_text(f"#!/bin/sh\n{record}")
        (programs / name).chmod(0o755)
    (tmp_path / "script.sh").write_text(script)
    log = tmp_path / "log"
    log.write_text("")
    variables = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "LOG": str(log)}
    subprocess.run(
        ["sh", str(tmp_path / "script.sh"), *arguments], check=True, env=variables, stdin=subprocess.DEVNULL
    )
    calls = log.read_text().split("== end\n")[:-1]
    return [(call.partition("\n")[0].split(), call.partition("\n")[2]) for call in calls]


@pytest.mark.parametrize("duplicated", [0.0, 2.0])
def test_a_shell_runs_the_commands_of_engine_netem(tmp_path: Path, duplicated: float) -> None:
    profile = LinkProfile(
        name="x", down_bps=10**7, up_bps=2 * 10**6, up_delay_ms=20, down_delay_ms=20, duplicate_percent=duplicated,
        gilbert_elliott=GilbertElliott(good_to_bad_percent=1, bad_to_good_percent=20),
    )  # fmt: skip
    network = plans(profile, profile, profile)
    done = tc_script.export_network(network)
    for rank, plan in enumerate(network):
        commands = apply_commands(plan, "netem")[0][len(clear_commands(plan.device)) :]
        wanted = [(list(command.argv), command.stdin or "") for command in commands]
        ran = recorded(tmp_path, done.files[f"node-{rank}.sh"])
        assert ran[-len(wanted) :] == wanted
        removed = recorded(tmp_path, done.files[f"node-{rank}.sh"], "clear")
        assert ran[: -len(wanted)] == removed
        text = "".join(stdin for _, stdin in removed)
        assert {"qdisc del dev eth0 root", "qdisc del dev eth0 ingress", "link del dev ifb-eth0"} <= {
            *text.splitlines()
        }
        assert "neigh" not in text
        assert any(words[0].startswith("iptables") for words, _ in removed) == bool(duplicated)


def test_what_tc_cannot_do_is_refused() -> None:
    profile = LinkProfile(name="x", down_bps=10**7, down_queue="shared")
    with pytest.raises(ExportError, match="tc cannot do this: down_queue: shared"):
        tc_script.export_network(plans(profile, profile))


NOT_HELD: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "bursts": (
        {"gilbert_elliott": GilbertElliott(good_to_bad_percent=1, bad_to_good_percent=20)},
        dict.fromkeys(("tcconfig", "containerlab", "mahimahi"), "gilbert_elliott"),
    ),
    "order": ({"jitter_ms": 5.0}, {"tcconfig": "jitter_order", "containerlab": "jitter_order", "tc": "jitter_ms"}),
    "normal": (
        {"jitter_ms": 5.0, "jitter_distribution": "normal", "jitter_order": "reorder"},
        {"containerlab": "jitter_distribution", "mahimahi": "jitter_ms"},
    ),
    "uniform": ({"jitter_ms": 5.0, "jitter_order": "reorder"}, {"tcconfig": "jitter_distribution"}),
    "reorder": ({"reorder_percent": 3.0}, {"containerlab": "reorder_percent", "mahimahi": "reorder_percent"}),
    "duplicate": ({"duplicate_percent": 3.0}, {"containerlab": "duplicate_percent", "tc": "iptables"}),
    "queue": ({"queue": "codel"}, {"tcconfig": "queues", "containerlab": "queues"}),
}


@pytest.mark.parametrize("case", NOT_HELD)
def test_what_a_format_does_not_hold_is_said(case: str) -> None:
    fields, formats = NOT_HELD[case]
    base: dict[str, Any] = {"down_bps": 10**7, "up_bps": 10**7, "up_delay_ms": 20.0, "down_delay_ms": 20.0}
    without, with_it = (LinkProfile(name="x", **base, **more) for more in ({}, fields))
    for form, word in formats.items():
        told = "\n".join(FORMATS[form](plans(with_it, with_it)).notes)
        assert re.search(word, told), (form, told)
        before = "\n".join(FORMATS[form](plans(without, without)).notes)
        assert told != before


def test_three_nodes_that_share_their_access_links_are_said() -> None:
    profile = LinkProfile(name="x", down_bps=10**7)
    for form in ("tcconfig", "containerlab"):
        two, three = FORMATS[form](plans(profile, profile)), FORMATS[form](plans(profile, profile, profile))
        assert "rates of access links" not in " ".join(two.notes)
        assert "rates of access links" in " ".join(three.notes)
