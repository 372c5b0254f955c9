"""What the user reads when a node fails: which rank, how it ended, and the last lines of its log."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.gannet import ROOT, Ran, gannet

pytestmark = pytest.mark.real("links")

EXAMPLE = ROOT / "docs" / "examples" / "my_task.py"
# Losses are asked for once before training, then once a step.
BREAK = """\
        self.asked = getattr(self, "asked", -1) + 1
        if self.context.rank == 1 and self.asked == 3:
            log.warning("so far, so good")
            {act}
"""
LOSSES = "    def losses(self, batch: Batch) -> dict[str, Tensor]:\n"
SETTINGS: dict[str, Any] = {
    "nodes": 2,
    "task": {"name": "python", "file": EXAMPLE.name, "settings": {"width": 8}},
    "data": {"name": "fashion-mnist-mini"},
    "algorithm": {"name": "dp-oadam", "every": 1},
    "stop": {"steps": 20},
}
LINE = r"\d{4}-\d\d-\d\dT[\d:.]+Z [A-Z]+ run=quick/run/seed-1/\S+ rank=1 [\w.]+: "


def run(folder: Path, act: str, *options: str, log: str = "", **more: Any) -> Ran:
    """Train a task of one's own in whose third step rank 1 does `act`."""
    text = EXAMPLE.read_text(encoding="utf-8")
    text = text.replace("import torch\n", "import logging\nimport os\nimport signal\n\nimport torch\n", 1)
    text = text.replace("\n\nclass Choices", '\nlog = logging.getLogger("my_task")\n\n\nclass Choices', 1)
    text = text.replace(LOSSES, LOSSES + BREAK.format(act=act), 1)
    (folder / EXAMPLE.name).write_text(text, encoding="utf-8")
    return gannet(folder, [*options, "run"], ("env", f"GANNET_LOG={log}"), **SETTINGS, **more)


@pytest.mark.parametrize(
    ("act", "how"),
    [
        ("os._exit(7)", "its process ended with status 7"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "its process was killed by SIGKILL"),
    ],
)
def test_of_a_node_whose_process_ends_one_reads_how_and_its_last_lines(tmp_path: Path, act: str, how: str) -> None:
    ran = run(tmp_path, act)
    assert ran.status == 0, ran.output  # the other one trains on
    log = tmp_path / "out" / "logs" / "node-1.log"
    lost = re.search(rf"WARNING run=\S+ rank=- \S+: node 1 is lost: {how}; see {log}\n(.*\n)+?  \w+: 20", ran.output)
    assert lost, ran.output
    assert re.search(rf"the last lines of {log}:\n(    {LINE}.*\n)+    {LINE}so far, so good\n", lost[0]), lost[0]
    assert ran.summary()["reason"] == f"lost node 1: {how}; see {log}"


def test_a_run_that_is_to_stop_at_a_loss_names_node_step_and_reason(tmp_path: Path) -> None:
    ran = run(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)", on_loss="stop")
    assert ran.status == 1, ran.output
    how = re.escape(f"its process was killed by SIGKILL; see {tmp_path / 'out' / 'logs' / 'node-1.log'}")
    # The report of a step may die with its node.
    step = max((line["step"] for line in ran.steps() if line["node"] == 1), default=0)
    assert step <= 2
    reason = rf"node 1 was lost after its step {step}: {how}; the run ends with it \(on_loss: stop\)"
    assert re.fullmatch(reason, ran.summary()["reason"]), ran.output


def test_of_a_node_that_raises_one_reads_the_error_and_the_end_of_its_traceback(tmp_path: Path) -> None:
    ran = run(tmp_path, 'raise ValueError("no more")')
    assert ran.status == 1, ran.output
    failed = re.search(r"ERROR run=\S+ rank=- \S+: node 1 failed after step 2: (.*)\n", ran.output)
    assert failed and re.fullmatch(r"my_task\.py:\d+: ValueError: no more", failed[1]), ran.output
    quoted = re.findall(rf"^    {LINE}.*$", ran.output, re.MULTILINE)
    assert len(quoted) == 10 and quoted[-1].endswith(failed[1]), ran.output
    assert quoted == [f"    {line}" for line in (tmp_path / "out/logs/node-1.log").read_text().splitlines()[-10:]]


def test_level_and_form_reach_every_node(tmp_path: Path) -> None:
    ran = run(tmp_path, "pass", "--log-level", "debug", log="info,json")
    assert ran.status == 0, ran.output
    for rank in (0, 1):
        text = (tmp_path / "out" / "logs" / f"node-{rank}.log").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert {line["rank"] for line in lines} == {rank}
        assert all(line["run"].startswith("quick/run/seed-1/") for line in lines)
        assert "snapshot after step 3" in [line["message"] for line in lines if line["level"] == "debug"]
        text = (tmp_path / "out" / "logs" / f"agent-{rank}.log").read_text()
        applied = [
            line for line in map(json.loads, text.splitlines()) if "applies links to 1 peers" in line["message"]
        ]
        assert applied and all(line["rank"] == rank for line in applied), text
    of_ours = [json.loads(line) for line in ran.output.splitlines() if line.startswith("{")]
    told = {line["message"]: line["run"] for line in of_ours}
    assert {told.get("training starts"), told.get("finished")} == {line["run"] for line in lines}, ran.output
