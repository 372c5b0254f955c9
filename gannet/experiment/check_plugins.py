"""Builds a spec's own Python code once before anything starts, so that a mistake in it costs no run."""

from __future__ import annotations

import torch

from gannet.node.codecs import build_codec
from gannet.node.codecs.registry import codec_config
from gannet.node.plugins import PluginError
from gannet.node.tasks import build_sampler
from gannet.node.tasks.config import PythonTaskConfig
from gannet.node.tasks.custom.base import Task
from gannet.spec.load import SpecError
from gannet.spec.run_spec import ComparisonSpec, RunSpec


def check_plugins(comparison: ComparisonSpec) -> None:
    """Build each arm's plugins. Raises PluginError or SpecError, with file and line or with the field."""
    for name, spec in comparison.arms.items():
        _check_task(name, spec)
        _check_codecs(spec)
        _check_topologies(spec)
        _check_methods(name, spec)


def _check_task(arm: str, spec: RunSpec) -> None:
    if not isinstance(spec.task, PythonTaskConfig):
        return
    task = build_sampler(spec.task, spec.data)
    if not isinstance(task, Task):
        return
    if not task.uses_data and "data" in spec.model_fields_set:
        raise SpecError(f"in arm {arm}: data: {spec.task.title} has no data set: leave out data")
    if spec.score is not None and type(task).measure is Task.measure:
        raise SpecError(
            f"in arm {arm}: score: {spec.task.title} has no measure() to score by: write it, or give score: null"
        )


def _check_codecs(spec: RunSpec) -> None:
    """Check that a user's codecs can pack and unpack a few values."""
    own = [part.codec for part in spec.methods if not codec_config(part.codec).shipped]
    for setting in own:
        codec, values = build_codec(setting), torch.linspace(-1, 1, 9)
        payload = codec.encode(values)
        if not codec.finite(payload) or len(codec.decode(payload)) != len(values):
            raise PluginError(
                f"{setting}: 9 values in [-1, 1] do not come back as 9 finite ones: see gannet codec check"
            )


def _check_topologies(spec: RunSpec) -> None:
    """Check that a user's topologies give the same weights each time, as every node builds them for itself."""
    for setting in (part.topology for part in spec.methods if not part.topology.shipped):
        one, again = (setting.schedule(spec.nodes) for _ in range(2))
        numbers = range(1, 1 + (one.period or 1))
        if one.period != again.period or any(one.at(number) != again.at(number) for number in numbers):
            raise PluginError(
                f"{setting}: built twice, it gives other weights: nodes would not agree on who mixes with whom; give "
                "random numbers a seed, as in numpy.random.default_rng(1)"
            )


def _check_methods(arm: str, spec: RunSpec) -> None:
    """Check that methods fit the run, where they, their codecs or their topologies are a user's own."""
    if all(
        part.algorithm.shipped and codec_config(part.codec).shipped and part.topology.shipped for part in spec.methods
    ):
        return
    try:
        spec.check_algorithms(custom=True)
    except PluginError:
        raise
    except ValueError as error:
        raise SpecError(f"in arm {arm}: {error}") from None
