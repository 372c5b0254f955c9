"""Children of the package: where they look for modules, and what becomes of those that print."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

import gannet
from gannet.netem.agent.client import AgentClient, AgentGone
from gannet.netem.child import Child, ChildError

ECHO = """
import json
import os
import sys

import gannet

print("said while it is imported")


def main(answers):
    for line in sys.stdin:
        print("said at work")
        os.system("echo said by a program")
        order = json.loads(line)
        if order == {"op": "where"}:
            answers({"gannet": gannet.__file__, "path": sys.path, "safe": sys.flags.safe_path})
        elif "raw" in order:
            os.write(answers.fd, order["raw"].encode())
        else:
            answers(order)
"""


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A folder of a user's modules: a child, and others that may not be imported in place of ours."""
    folder = tmp_path / "modules"
    (folder / "gannet").mkdir(parents=True)
    (folder / "echo_child.py").write_text(ECHO)
    for name in ("gannet/__init__.py", "netem.py", "node.py"):
        (folder / name).write_text("raise SystemExit('the wrong module')\n")
    return folder


def start(modules: Path) -> Child:
    return Child("the echo", "echo_child", variables={"PYTHONPATH": str(modules)}, cwd="/")


@pytest.fixture
def echo(modules: Path) -> Child:
    return start(modules)


def test_a_child_finds_its_parents_gannet_and_its_users_modules(echo: Child, modules: Path) -> None:
    answer = echo.ask({"op": "where"})
    assert answer["gannet"] == gannet.__file__
    assert str(modules) in answer["path"] and answer["safe"]
    echo.close(10)


@pytest.mark.parametrize("python_path", ["", ":", ":{modules}", "{modules}::/nowhere"])
def test_the_present_folder_is_not_searched(
    modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python_path: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name in ("json.py", "threading.py"):
        (here / name).write_text("raise SystemExit('the wrong module')\n")
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", python_path.format(modules=modules))
    child = Child("the delay process", "gannet.netem.engines.nfqueue_worker", "0")
    assert child.receive() is None  # its parent is not process 0, so it says so and ends
    child.close(10)
    assert child.process.returncode == 1
    if "{modules}" in python_path:
        echo = Child("the echo", "echo_child")
        assert str(here) not in echo.ask({"op": "where"})["path"]
        echo.close(10)


def test_what_a_child_prints_is_no_answer(modules: Path, capfd: pytest.CaptureFixture[str]) -> None:
    echo = start(modules)
    assert echo.ask({"value": 1}) == {"value": 1}
    echo.close(10)
    said = capfd.readouterr()
    assert said.out == ""
    assert sorted(said.err.split("\n")) == ["", "said at work", "said by a program", "said while it is imported"]


@pytest.mark.parametrize("raw", ["mine\n", "3\n", "[1]\n", '{"value": 1\n'])
def test_what_is_no_answer_is_reported_with_its_text_and_ends_the_child(echo: Child, raw: str) -> None:
    with pytest.raises(ChildError, match=r"the echo .echo_child. printed .* instead of an answer") as failed:
        echo.ask({"raw": raw})
    assert repr(raw.strip()) in str(failed.value)
    assert echo.process.wait(240) < 0
    with pytest.raises(ChildError, match="the echo ended with status -9"):
        echo.ask({"value": 1})


def test_what_a_program_printed_before_it_ended_is_reported(tmp_path: Path) -> None:
    child = Child("the echo", "echo_child", prefix=("sh", "-c", "printf mine"))
    child.process.wait(240)
    with pytest.raises(ChildError, match="printed 'mine'"):
        child.ask({"value": "x" * 200_000})


def test_an_agent_that_prints_fails_all_its_requests_at_once() -> None:
    with AgentClient.spawn((sys.executable, "-c", "print('mine', flush=True); import time; time.sleep(60)")) as agent:
        begun = time.monotonic()
        for _ in range(2):
            with pytest.raises(
                AgentGone, match=r"agent: read_back: agent .gannet.netem.agent.server. printed 'mine'"
            ):
                agent.request("read_back", timeout_s=240)
        assert time.monotonic() - begun < 30


def test_an_agent_that_ends_says_how() -> None:
    with AgentClient.spawn(("sh", "-c", "exit 3")) as agent:
        for _ in range(2):
            with pytest.raises(AgentGone, match="agent: read_back: the agent has ended with status 3"):
                agent.request("read_back")
