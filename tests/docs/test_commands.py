"""The README's commands and Python are run, as they stand; those of docs/ are ones that `gannet` understands.

A command of the README is run here, or `ELSEWHERE` names the test that runs it: one that is in neither fails.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gannet.cli.main import app
from tests.support.up import Up, environment, up

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
IN_CONTAINER = "docker compose exec controller "

SMALL = ["--set", "fabric=virtual", "--set", "stop.steps=4", "--set", "snapshot_every=2", "--set", "score=null"]
FEW = [*SMALL, "--set", "nodes=2"]

# What is added to a command to make it small.
HERE = {
    "gannet demo": FEW,
    "gannet compare demo --set links=datacenter": FEW,
    "gannet compare demo --set links=3g-fast --set stop.seconds=120": FEW,
    "gannet compare demo --set codec=fp16": FEW,
    "gannet compare demo --set seeds='[1, 2, 3]'": FEW,
    "gannet compare demo --arms gossip,server": FEW,
    "gannet compare demo --fabric virtual": FEW[2:],
    "gannet compare uneven.yaml --dry-run": [],
    "gannet compare uneven.yaml": SMALL,
    "gannet runs": ["."],
    "gannet specs": [],
    "gannet init first.yaml": [],
}
ELSEWHERE = {
    "gannet doctor": "cli/test_doctor.py::test_the_engine_that_is_said_is_the_one_that_this_kernel_can_carry",
    "docker compose up": "compose/test_cluster.py::test_every_container_is_healthy",
    "docker compose up --scale node=8": "compose/test_exec.py::"
    "test_ranks_follow_mesh_addresses_and_streams_and_status_pass",
    "gannet compare demo --fabric compose": "compose/test_fabric.py::"
    "test_a_comparison_runs_on_containers_and_leaves_only_its_results",
    "gannet net up lte -n 3": "docs/test_commands.py::test_commands_on_a_live_network_do_what_they_say",
}
BY_HAND = {
    "make demo": [".venv/bin/gannet demo"],
    "make test": [
        r'.venv/bin/python -m pytest -n \d+ .*-m "not real and not emulated"',
        "chrt --idle 0 .venv/bin/python -m pytest -m emulated ",
        ".venv/bin/python -m pytest -m real ",
    ],
}


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str, kind: str = "bash") -> list[str]:
    """Command lines of the page's blocks, without comments."""
    lines = [line for block in blocks(text, kind) for line in block.splitlines()]
    return [command for line in lines if (command := re.sub(r"(^|\s)#.*", "", line).strip())]


IN_README = commands(README)
LIVE = [
    line.removeprefix(IN_CONTAINER) for line in IN_README if re.match(rf"({IN_CONTAINER})?gannet net (?!up )", line)
]


def test_the_readme_is_short_and_each_of_its_commands_is_run_by_a_test() -> None:
    assert len(README.splitlines()) < 200
    known = [*HERE, *ELSEWHERE, *BY_HAND, "source .venv/bin/activate"]
    unknown = [line for line in IN_README if line not in known and line.removeprefix(IN_CONTAINER) not in LIVE]
    assert unknown == []
    assert [line for line in known if line not in IN_README] == []
    for where in ELSEWHERE.values():
        file, _, test = where.partition("::")
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), where


@pytest.mark.parametrize("command", HERE)
def test_a_command_of_the_readme_works(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (spec,) = (block for block in blocks(README, "yaml") if block.startswith("name: uneven"))
    Path("uneven.yaml").write_text(spec, encoding="utf-8")
    done = CliRunner(env={"COLUMNS": "160"}).invoke(app, [*shlex.split(command)[1:], *HERE[command]])
    assert done.exit_code == 0, done.output
    trains = "demo" in command or command.endswith("uneven.yaml")
    assert len(list(Path().glob("runs/*/report.html"))) == trains
    if "seeds" in command:
        assert len(list(Path().glob("runs/*/gossip/seed-*"))) == 3


@pytest.mark.parametrize("command", BY_HAND)
def test_make_runs_what_the_readme_says(command: str) -> None:
    done = subprocess.run([*command.split(), "-n"], cwd=ROOT, capture_output=True, text=True, check=True)
    for pattern in BY_HAND[command]:
        assert re.search(pattern, done.stdout)


def test_the_environment_is_activated_as_the_readme_says(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=tmp_path, check=True)
    line = "source .venv/bin/activate && command -v python"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / ".venv" / "bin" / "python")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`gannet net up lte`, with a fourth node for the partition of the README's cluster."""
    with up(tmp_path_factory.mktemp("up") / "state", "lte", "-n", "4") as found:
        yield found


@pytest.mark.real("links")
def test_commands_on_a_live_network_do_what_they_say(network: Up, tmp_path: Path) -> None:
    """All lines of the README that are for a network that is up, typed one after the other."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "gannet").write_text(f'#!/bin/sh\nexec {sys.executable} -m gannet "$@"\n')
    (binaries / "gannet").chmod(0o755)
    (binaries / "python").symlink_to(sys.executable)
    (tmp_path / "my_training.py").write_text(
        "import os\nprint(os.environ['GANNET_NODE'], os.environ['GANNET_NODES'])\n"
    )
    variables = environment(network.state, PATH=f"{binaries}:{os.environ['PATH']}")
    assert len(LIVE) == 8
    for line in LIVE:
        if "iperf3 -s" in line:
            server = subprocess.Popen(
                ["bash", "-c", f"{line} --forceflush"], cwd=tmp_path, env=variables, stdout=subprocess.PIPE
            )
            assert server.stdout is not None and server.stdout.readline()  # it listens
            continue
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        if "iperf3 -c" in line:
            server.communicate(timeout=240)
            assert "receiver" in done.stdout
        if "my_training" in line:
            assert done.stdout.split() == ["0", "4"]


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks(README, "python"))
def test_the_python_of_the_readme_runs(block: str, tmp_path: Path) -> None:
    run_python(block, tmp_path)


def run_python(text: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks((ROOT / "docs" / "api.md").read_text(encoding="utf-8"), "python"))
def test_the_python_of_the_api_page_runs(block: str, tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    run_python(block, tmp_path)


def gannet_lines(page: Path) -> list[str]:
    """Lines that begin with `gannet` in any block of a page, fenced or indented."""
    text = page.read_text(encoding="utf-8")
    fenced = [line for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.M | re.S) for line in block.splitlines()]
    every = [*fenced, *re.findall(r"^ {4}(gannet .*)$", text, re.MULTILINE)]
    lines = [re.sub(r"\s#.*", "", line.removeprefix(IN_CONTAINER)).strip() for line in every]
    return [line for line in lines if line.startswith("gannet ") and "…" not in line]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_pages_are_understood(page: Path) -> None:
    for line in gannet_lines(page):
        command, arguments = typer.main.get_command(app), shlex.split(line)[1:]
        while (below := getattr(command, "commands", None)) is not None:
            assert arguments and arguments[0] in below, line
            command, arguments = below[arguments[0]], arguments[1:]
        with command.make_context("gannet", arguments):
            pass


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert re.match(r"https?:", target) or (page.parent / target).exists(), target
