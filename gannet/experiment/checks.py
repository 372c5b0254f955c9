"""What is found out about all runs before the first starts, so that no mistake costs one.

A user's own Python code is built once, data are read, shards planned, scores' needs looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from gannet.console import plain_table
from gannet.experiment.job import job_of
from gannet.experiment.resume import resumed_job
from gannet.fabrics.virtual.link_model import check_modelled
from gannet.ledger.data_fingerprint import data_of, labels_held
from gannet.node.codecs import build_codec
from gannet.node.codecs.registry import codec_config
from gannet.node.plugins import USER_ERRORS, PluginError
from gannet.node.tasks import build_sampler
from gannet.node.tasks.config import PythonTaskConfig, check_labels
from gannet.node.tasks.custom.base import Task
from gannet.scores.networks.networks import FeaturesMissing
from gannet.scores.score_run import in_words
from gannet.scores.scorer import check_scoring, check_wish, present
from gannet.spec.load import SpecError
from gannet.spec.run_spec import ComparisonSpec, RunSpec

_MOST_SHOWN = 16


def check_plugins(comparison: ComparisonSpec) -> None:
    """Build each arm's plugins. Raises PluginError or SpecError, with file and line or with the field."""
    for name, spec in comparison.arms.items():
        _check_task(name, spec)
        _check_codecs(spec)
        _check_topologies(spec)
        _check_methods(name, spec)


def mistakes_in(
    runs: Sequence[RunSpec], resumed: Mapping[tuple[str, int], Path] | None = None
) -> dict[tuple[str, int], tuple[str, ...]]:
    """By (arm, seed), what would end the run: of those that have mistakes. `resumed`: folders with checkpoints."""
    of_arms: dict[str, tuple[str, ...]] = {}
    of_arm = (_check_plugins, _check_device, _check_score, _check_data, _check_job)
    found = {}
    for spec in runs:
        if spec.arm not in of_arms:
            of_arms[spec.arm] = tuple(_mistakes(spec, of_arm))
        place = (resumed or {}).get((spec.arm, spec.seed))
        checks = [_check_shards] if place is None else [partial(_check_checkpoints, place)]
        mistakes = of_arms[spec.arm] or tuple(_mistakes(spec, checks))
        if mistakes:
            found[spec.arm, spec.seed] = mistakes
    return found


def mistakes_of_spec(runs: Sequence[RunSpec]) -> dict[tuple[str, int], tuple[str, ...]]:
    """As `mistakes_in`, as far as neither data nor a device nor a feature network is needed to know."""
    each = {(spec.arm, spec.seed): tuple(_mistakes(spec, (_check_plugins, _check_wish, _check_job))) for spec in runs}
    return {run: mistakes for run, mistakes in each.items() if mistakes}


def as_lines(mistakes: Mapping[tuple[str, int], tuple[str, ...]], runs: Sequence[RunSpec]) -> str:
    """Mistakes as lines, each with the arms and seeds that have it unless all have."""
    everyone = {(spec.arm, spec.seed): spec for spec in runs}
    seeds = {arm: {seed for other, seed in everyone if other == arm} for arm, _ in everyone}
    lines = []
    for text in dict.fromkeys(text for found in mistakes.values() for text in found):
        where = [run for run in everyone if text in mistakes.get(run, ())]
        by_arm = {arm: {seed for other, seed in where if other == arm} for arm, _ in where}
        listed = {arm: f"seed {', '.join(map(str, sorted(have)))}" for arm, have in by_arm.items()}
        if len(where) == len(everyone):
            lines.append(text)
        elif len(by_arm) == len(seeds) and len(set(listed.values())) == 1:
            lines.append(f"with {next(iter(listed.values()))}: {text}")
        else:
            arms = [f"arm {arm}" + ("" if have == seeds[arm] else f", {listed[arm]}") for arm, have in by_arm.items()]
            lines.append(f"in {'; '.join(arms)}: {text}")
    return "\n".join(lines)


def _mistakes(spec: RunSpec, checks: Sequence[Callable[[RunSpec], None]]) -> Iterator[str]:
    for check in checks:
        try:
            check(spec)
        except SpecError as error:
            yield str(error).removeprefix(f"in arm {spec.arm}: ")
        except USER_ERRORS as error:  # of a user's own code
            yield in_words(error)


def _check_plugins(spec: RunSpec) -> None:
    check_plugins(ComparisonSpec(name=spec.name, seeds=(spec.seed,), arms={spec.arm: spec}))


def missing_device(spec: RunSpec) -> str:
    """That this machine lacks the run's device, where its nodes run on this machine; empty otherwise."""
    if not spec.fabric_kind.in_containers:
        try:
            present(torch.device(spec.device))
        except ValueError as error:
            return str(error)
    return ""


def _check_device(spec: RunSpec) -> None:
    if missing := missing_device(spec):
        raise SpecError(missing)


def _check_score(spec: RunSpec) -> None:
    if spec.score is not None:  # a missing feature network must show before hours of training
        check_scoring(spec.task, spec.data, spec.score)


def _check_wish(spec: RunSpec) -> None:
    if spec.score is not None:
        with suppress(FeaturesMissing):  # another machine may have what this one lacks
            check_wish(spec.task, spec.data, spec.score.model_copy(update={"device": "cpu"}))


def _check_data(spec: RunSpec) -> None:
    data_of(spec)


def _check_job(spec: RunSpec) -> None:
    job = job_of(spec)
    if spec.fabric_kind.modelled:
        check_modelled(job)


def _check_shards(spec: RunSpec) -> None:
    if (held := labels_held(spec)) is not None:
        check_labels(spec.task, [labels for labels in held if labels])


def _check_checkpoints(place: Path, spec: RunSpec) -> None:
    resumed_job(job_of(spec), place)
    for name, text in spec.python_files.items():
        if (copy := place / name).is_file() and copy.read_text(encoding="utf-8") != text:
            raise ValueError(
                f"{copy}: edited since the run began, without effect: a run resumes with the text that it began with "
                "(in its spec.yaml); restore the file, or begin a new run"
            )


def show_data(runs: Sequence[RunSpec], console: Console) -> None:
    """Print what a user should know of the data, and where shards differ by design, who has which labels."""
    for note in dict.fromkeys(note for spec in runs for note in (data_of(spec) or {}).get("notes", ())):
        console.print(f"data: {note}", style="yellow", markup=False)
    shown = []
    for spec in runs:
        if spec.data.sharding == "iid" or (held := labels_held(spec)) is None or (spec.seed, held) in shown:
            continue
        shown.append((spec.seed, held))
        _show_labels(spec, held, console)


def _show_labels(spec: RunSpec, held: Sequence[Mapping[str, int]], console: Console) -> None:
    d, images = spec.data, [sum(labels.values()) for labels in held]
    how = f"alpha {d.alpha:g}" if d.alpha is not None else f"{d.classes_per_node} a node"
    known = sorted({label for labels in held for label in labels}, key=int)
    counts = [len(labels) for labels in held if labels]
    console.print(
        f"data: {d.sharding} sharding ({how}), seed {spec.seed}: {min(filter(None, images)):,} to {max(images):,} "
        f"images and {min(counts)} to {max(counts)} of {len(known)} labels a node",
        markup=False,
    )
    if len(held) > _MOST_SHOWN or len(known) > _MOST_SHOWN:
        console.print("      shards.json in each run's folder says which", style="dim", markup=False)
        return
    table = plain_table("  node", "images", *(f"label {label}" if label == known[0] else label for label in known))
    for column in table.columns:
        column.justify = "right"
    for rank, labels in enumerate(held):
        table.add_row(str(rank), f"{images[rank]:,}", *(f"{labels[k]:,}" if k in labels else "·" for k in known))
    console.print(table)


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
