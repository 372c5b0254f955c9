"""Logs: every line has time, level, run and rank, in both forms; GANNET_LOG and --log-level choose what is logged."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from gannet.logs import LogSetting, LogSettingError, log_setting

# Logs on every level, before and after run and rank are known, and a traceback.
PROGRAM = """
import logging, sys, warnings
from gannet import logs
from gannet.node.log_labels import label

logs.configure("info", *sys.argv[1:])
log = logging.getLogger("gannet.some.module")
log.info("not of a run yet: %d", 7)
label("demo/gossip/seed-1/x", 2)
for level in ("debug", "info", "warning", "error"):
    getattr(log, level)("%s ü", level)
logging.getLogger("their.library").debug("noise")
try:
    {}["missing"]
except KeyError:
    log.exception("two\\nlines")
warnings.warn("old")
"""
# An HTTP/2 peer says GOAWAY, as one that ends its process does; gRPC's core writes a line on it by itself.
GOAWAY = r"""
import socket, struct, threading
from gannet import logs

logs.configure("info")
import grpc

listening = socket.create_server(("127.0.0.1", 0))
address = "127.0.0.1:%d" % listening.getsockname()[1]

def peer():
    connection, _ = listening.accept()
    listening.close()
    connection.recv(4096)
    connection.sendall(b"\0\0\0\4" + bytes(5))  # SETTINGS, empty
    connection.sendall(b"\0\0\x0c\7" + bytes(5) + struct.pack(">II", 0, 2) + b"gone")
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(4096):
        pass

threading.Thread(target=peer, daemon=True).start()
try:
    options = [("grpc.enable_retries", 0)]
    # Short, since grpcio 1.85.3 sometimes spins until then, and its memory grows.
    grpc.insecure_channel(address, options).unary_unary("/some/method")(b"", timeout=3)
except grpc.RpcError:  # UNAVAILABLE, or INTERNAL, as the peer says
    pass
"""
LINE = re.compile(r"(\S+) (DEBUG|INFO|WARNING|ERROR) run=(\S+) rank=(\S+) ([\w.]+): (.*)")


def logged(setting: str | None = None, *arguments: str, program: str = PROGRAM, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GANNET_LOG", "GRPC_V"))}
    environment |= variables
    environment |= {} if setting is None else {"GANNET_LOG": setting}
    argv = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def lines(text: str) -> list[tuple[str, ...]]:
    """Time, level, run, rank, logger and message of each line; every line must have them all."""
    found = [LINE.fullmatch(line) for line in text.splitlines()]
    assert found and all(found), text
    return [match.groups() for match in found if match]


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def levels(text: str) -> list[str]:
    return [level for _, level, _, _, name, message in lines(text) if name == "gannet.some.module" and "ü" in message]


def age_s(time: str) -> float:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    return (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()


def test_each_line_says_when_how_grave_and_of_which_run_and_rank() -> None:
    found = lines(logged())
    assert all(0 <= age_s(time) < 60 for time, *_ in found)
    assert found[0][1:] == ("INFO", "-", "-", "gannet.some.module", "not of a run yet: 7")
    assert {line[2:4] for line in found[1:]} == {("demo/gossip/seed-1/x", "2")}
    raised = [message for _, level, _, _, _, message in found if level == "ERROR"][1:]
    assert (
        raised[:3] == ["two", "lines", "Traceback (most recent call last):"] and raised[-1] == "KeyError: 'missing'"
    )
    assert any("UserWarning: old" in message for *_, message in found)


def test_json_lines_have_the_same_and_the_exception() -> None:
    found = objects(logged("info,json"))
    assert all({"time", "level", "logger", "run", "rank", "message"} <= line.keys() for line in found)
    assert all(0 <= age_s(line["time"]) < 60 for line in found)
    first, *others = found
    assert (first["run"], first["rank"], first["message"]) == (None, None, "not of a run yet: 7")
    assert all((line["run"], line["rank"]) == ("demo/gossip/seed-1/x", 2) for line in others)
    assert [line["level"] for line in others] == ["info", "warning", "error", "error", "warning"]
    raised = others[3]
    assert raised["message"] == "two\nlines" and raised["exception"].endswith("KeyError: 'missing'")
    assert "exception" not in first


@pytest.mark.parametrize(
    ("setting", "arguments", "expected"),
    [
        (None, (), ["INFO", "WARNING", "ERROR"]),
        ("", (), ["INFO", "WARNING", "ERROR"]),
        ("debug", (), ["DEBUG", "INFO", "WARNING", "ERROR"]),
        (" Error ", (), ["ERROR"]),
        ("debug", ("warning",), ["WARNING", "ERROR"]),
    ],
)
def test_levels_filter_and_an_option_comes_before_the_variable(
    setting: str | None, arguments: tuple[str, ...], expected: list[str]
) -> None:
    text = logged(setting, *arguments)
    assert levels(text) == expected and "noise" not in text


def test_the_option_keeps_the_form_and_is_handed_on() -> None:
    program = """
import os, subprocess, sys
from gannet import logs
logs.configure("warning", "error")
child = "import json, logging.config, os; logging.config.dictConfig(json.loads(os.environ['GANNET_LOGGING']))"
child += "; logging.getLogger('gannet').warning('no'); logging.getLogger('gannet').error('yes')"
here = {**os.environ, **logs.for_child("info", "mine", 3)}
subprocess.run([sys.executable, "-c", child], env=here, check=True)
assert os.environ["GANNET_LOG"] == "error,json"
"""
    (line,) = objects(logged("json", program=program))
    assert (line["level"], line["run"], line["rank"], line["message"]) == ("error", "mine", 3, "yes")


@pytest.mark.parametrize("setting", ["debug", "info,json"])
def test_grpc_writes_no_lines_of_its_own_form_unless_asked(setting: str) -> None:
    assert logged(setting, program=GOAWAY) == ""
    assert "Got goaway" in logged(setting, program=GOAWAY, GRPC_VERBOSITY="INFO")


@pytest.mark.parametrize("text", ["loud", "info,xml", "json,info", "info,json,json", "info;json", ","])
def test_a_setting_that_means_nothing_is_one_clear_error(text: str) -> None:
    with pytest.raises(LogSettingError, match=re.escape(f"GANNET_LOG={text}: write a level (debug, info")):
        log_setting({"GANNET_LOG": text})


def test_settings() -> None:
    assert log_setting({}) == LogSetting(None, False)
    assert log_setting({"GANNET_LOG": "json"}) == LogSetting(None, True)
    assert log_setting({"GANNET_LOG": "Info, JSON"}).text() == "info,json"


def test_the_command_refuses_what_it_cannot_log_by() -> None:
    argv = [sys.executable, "-m", "gannet", "specs"]
    done = subprocess.run(argv, env={**os.environ, "GANNET_LOG": "loud"}, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert done.stderr.startswith(
        "gannet: GANNET_LOG=loud: write a level (debug, info, warning, error), json, or both"
    )
    done = subprocess.run([*argv[:3], "--log-level", "loud", "specs"], capture_output=True, text=True)
    assert done.returncode == 2 and "'loud' is not one of 'debug', 'info', 'warning', 'error'" in " ".join(
        done.stderr.replace("│", " ").split()
    )


def test_logs_come_above_a_live_display_and_leave_it_whole() -> None:
    """On a terminal rich redraws the display after each line; a file that standard error goes to gets lines alone."""
    program = """
import io, logging, sys
from rich.console import Console
from rich.live import Live
from gannet import logs

class Terminal(io.StringIO):
    def isatty(self):
        return True

logs.configure("info")
log, plain = logging.getLogger("gannet.some.module"), sys.stderr
console = Console(file=Terminal(), force_terminal=True, width=200, highlight=False)
with Live("the display", console=console, auto_refresh=False) as live:
    log.info("to a file")
    sys.stderr = type(sys.stderr)(console, Terminal())
    log.info("to the terminal")
shown = console.file.getvalue()
before, _, after = shown.partition("to the terminal")
assert "to a file" not in shown and "run=- rank=-" in before.splitlines()[-1], shown
assert "the display" in after and not before.endswith("the display"), shown
"""
    assert [message for *_, message in lines(logged(program=program))] == ["to a file"]
