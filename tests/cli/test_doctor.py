"""What `gannet doctor` says, held against a trial of the kernel by plain tc."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from gannet.cli.doctor import Finding, engine_used
from gannet.cli.main import app
from gannet.netem.sandbox import Sandbox, SandboxError


def kernel_has_netem() -> bool:
    with Sandbox() as sandbox:
        try:
            sandbox.run("tc qdisc add dev lo root netem delay 1ms")
        except SandboxError:
            return False
    return True


@pytest.mark.real("links")
def test_the_engine_that_is_said_is_the_one_that_this_kernel_can_carry() -> None:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["doctor"])
    assert done.exit_code == 0, done.output
    said = f"use engine {'netem' if kernel_has_netem() else 'nfqueue, since netem does not work here'}"
    assert said in " ".join(done.output.split())


@pytest.mark.real("links")
def test_what_tc_does_not_know_is_said_without_its_usage() -> None:
    with Sandbox() as sandbox:
        with pytest.raises(SandboxError) as refused:
            sandbox.run("tc qdisc add dev lo root netem delay 1ms no-such-option 1")
        assert str(refused.value).endswith('What is "no-such-option"?')
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["doctor"]).output
    assert "PACKETS" not in shown and "Usage" not in shown


@pytest.mark.parametrize(
    ("netem", "nfqueue", "said"),
    [
        (True, True, "engine netem, which delays packets in the kernel; nfqueue is used only"),
        (True, False, "engine netem, which delays packets in the kernel."),
        (False, True, "use engine nfqueue, since netem does not work here (no such qdisc)."),
        (False, False, "No link engine works here"),
    ],
)
def test_why_is_said_too(netem: bool, nfqueue: bool, said: str) -> None:
    findings = [
        Finding("engine netem", netem, "no such qdisc\nat all"),
        Finding("engine nfqueue", nfqueue, "no rule"),
        Finding("GPU", True, "one"),
    ]
    assert said in engine_used(findings)
