"""Whether the arms of a spec can be compared: what they are ranked by must be the same for all."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from gannet.node.plugins import PluginError
from gannet.node.tasks import build_sampler
from gannet.scores.basis import basis_of, scores_itself
from gannet.scores.networks.networks import resolved
from gannet.spec.load import SpecError
from gannet.spec.run_spec import ComparisonSpec, RunSpec


def check_comparable(comparison: ComparisonSpec) -> None:
    """Raise SpecError for `unlike_arms`."""
    if unlike := unlike_arms(comparison):
        raise SpecError(unlike)


def unlike_arms(comparison: ComparisonSpec) -> str:
    """How arms are scored differently, whose scores would be ranked though they say different things; empty: alike.

    Arms without scores are not ranked, and may differ.
    """
    each = {}
    for name, arm in comparison.arms.items():
        if arm.score is not None:
            with suppress(PluginError):  # a user's own code that cannot be built has a message of its own
                each[name] = _scored_by(arm)
    if len({found["task.name"] for found in each.values()}) > 1:
        each = {name: {"task.name": found["task.name"]} for name, found in each.items()}
    differ = []
    for field in dict.fromkeys(field for found in each.values() for field in found):
        values = {name: found.get(field) for name, found in each.items()}
        if len({repr(value) for value in values.values()}) > 1:
            differ.append(f"{field}: " + ", ".join(f"{value} in {name}" for name, value in values.items()))
    if not differ:
        return ""
    return (
        f"{comparison.name}: arms are scored differently, so their scores cannot be ranked: {'; '.join(differ)}. "
        "Give all arms the same, run each by itself (gannet run SPEC --arm ARM), or set score: null"
    )


def _scored_by(arm: RunSpec) -> dict[str, Any]:
    """All that the scores of an arm depend on besides its model, by fields of the spec."""
    sampler = build_sampler(arm.task, arm.data)
    found = basis_of(arm.task, arm.data, sampler)
    if arm.data.from_npz or arm.data.name == "image-folder":  # by their names the others are the same anywhere
        found["data.root"] = arm.data.root
    if not scores_itself(arm.task, sampler) and arm.score is not None:
        found["score.samples"] = arm.score.samples
        found["score.features"] = resolved(arm.data, arm.score.features)
    return found
