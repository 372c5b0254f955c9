"""A step's figures cross the wire whole, whatever figures there are."""

from __future__ import annotations

import math
from dataclasses import fields

from gannet.node.training.meter import StepStats
from gannet.node.wire import control_pb2
from gannet.node.wire.step import from_message, to_message

STATS = StepStats(7, 1.5, {"generator": 0.25, "discriminator": -3.0}, 0.5, 0.25, 0.75, 2**40, 2**41, 2**42, (1, 3))


def test_every_figure_has_a_field_of_the_contract_and_every_field_a_figure() -> None:
    figures = {figure.name for figure in fields(StepStats)}
    assert figures == set(control_pb2.Step.DESCRIPTOR.fields_by_name), "StepStats and message Step of control.proto"


def test_figures_come_back_as_they_were() -> None:
    sent = to_message(STATS).SerializeToString()
    message = control_pb2.Step.FromString(sent)
    back = from_message(message)
    del message  # nothing of it may be a view
    assert back == STATS
    assert isinstance(back.loss, dict) and isinstance(back.missing, tuple)


def test_a_loss_that_diverged_crosses_too() -> None:
    back = from_message(to_message(StepStats(1, 0.5, {"generator": math.nan, "discriminator": math.inf})))
    assert math.isnan(back.loss["generator"]) and math.isinf(back.loss["discriminator"])
