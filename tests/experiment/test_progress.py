"""What the terminal says of a node while it trains: every player's loss, by letters that tell them apart."""

from __future__ import annotations

import io

from rich.console import Console

from gannet.experiment.progress import LiveDisplay, initials
from gannet.node.training.meter import StepStats
from gannet.spec.run_spec import RunSpec


def test_players_are_told_apart_by_as_few_letters_as_will_do() -> None:
    assert initials(["generator", "discriminator"]) == {"discriminator": "D", "generator": "G"}
    assert initials(["teacher", "discriminator", "classifier"]) == {
        "classifier": "C", "discriminator": "D", "teacher": "T",
    }  # fmt: skip
    assert initials(["decoder", "discriminator", "encoder"]) == {
        "decoder": "De", "discriminator": "Di", "encoder": "E",
    }  # fmt: skip
    assert initials(["left", "left_hand"]) == {"left": "Left", "left_hand": "Left_"}


def stats(step: int, **losses: float) -> StepStats:
    return StepStats(
        step=step, t_s=step / 10, loss=losses, compute_s=0.1, wait_s=0.0, other_s=0.0,
        codec_bytes=0, grpc_bytes=0, interface_bytes=0, missing=(),
    )  # fmt: skip


def test_of_players_that_move_in_turn_each_has_its_last_loss() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    display = LiveDisplay(console)
    spec = RunSpec.model_validate(
        {"name": "k", "nodes": 1, "task": {"name": "kdgan"}, "algorithm": {"name": "local"}, "stop": {"steps": 9}}
    )
    display.begin(spec, 1, 1)
    for number, (player, loss) in enumerate((("teacher", 0.5), ("classifier", 2.25), ("teacher", 0.75)), start=1):
        display.step(0, stats(number, **{player: loss}))
    display.close()
    assert isinstance(console.file, io.StringIO)
    assert "C 2.25  T 0.75" in console.file.getvalue()
