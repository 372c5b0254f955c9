"""Reads the weights that a spec's `start_from` names, and compares them with the task's layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from gannet.ledger.atomic import whole_file
from gannet.ledger.records import StartFacts
from gannet.node.layout import BUFFERS, TensorSpec
from gannet.node.players.parts import players_in, specs_of
from gannet.node.tasks import build_sampler
from gannet.node.training.start import StartWeights
from gannet.spec.run_spec import ComparisonSpec, RunSpec
from gannet.spec.start import StartSource, StartSpec
from gannet.trained.model import read_trained

_COUNTER = "num_batches_tracked"  # of a torch BatchNorm, which is no part of x
_PARALLEL = "module."
_NAMED = 4

FOLDER = "start-weights"
"""The folder, in a comparison's own, of the weights that travel to a cluster with its spec."""


class StartError(ValueError):
    """Weights that a run cannot begin from; the message says why."""


def start_of(spec: RunSpec) -> StartWeights | None:
    """The weights that the run begins from, by names of its task's layout; None where its task draws all.

    Raises StartError for weights that do not fit, with what differs, and as their run or file is read.
    """
    return None if spec.start_from is None else _begun(spec, spec.start_from)[0]


def recorded_start(spec: RunSpec) -> dict[str, StartFacts]:
    """What a run's environment.json says of it, by its field there."""
    if spec.start_from is None:
        return {}
    weights, sources = _begun(spec, spec.start_from)
    words = ", ".join(f"{player}: {source}" if player else source for player, source in sources.items())
    players = tuple(spec.start_from.players) or ("all",)
    return {"start": StartFacts(source=words, players=players, sha256=weights.sha256)}


def _begun(spec: RunSpec, start: StartSpec) -> tuple[StartWeights, dict[str, str]]:
    """(the weights, by player where they were)."""
    layout = build_sampler(spec.task, spec.data).layout
    taken: dict[str, Tensor] = {}
    sources: dict[str, str] = {}
    for player, source in start.sources.items():
        where = f"start_from.players.{player}" if player else "start_from"
        if player and player not in players_in(layout):
            raise StartError(f"{where}: this task has {', '.join(players_in(layout))}")
        found, sources[player] = _read(source, where)
        taken |= _fitting(_named(found, layout, player), layout, player, sources[player], where)
    return StartWeights(taken), sources


def carried(comparison: ComparisonSpec, folder: Path) -> ComparisonSpec:
    """The comparison with its weights written to files in `folder`, which its arms name relative to it.

    So they reach machines that have the folder and nothing else. Raises as start_of.
    """
    arms = {}
    for name, arm in comparison.arms.items():
        if (weights := start_of(arm)) is not None and arm.start_from is not None:
            to = Path(FOLDER) / f"{weights.sha256[:16]}.safetensors"
            (folder / FOLDER).mkdir(parents=True, exist_ok=True)
            with whole_file(folder / to) as partial:
                partial.write_bytes(save(weights.tensors))
            source = StartSource(file=str(to))
            players = dict.fromkeys(arm.start_from.players, source)
            arm = arm.model_copy(update={"start_from": StartSpec(players=players) if players else
                                         StartSpec(file=str(to))})  # fmt: skip
        arms[name] = arm
    return comparison.model_copy(update={"arms": arms})


def _read(source: StartSource, where: str) -> tuple[dict[str, Any], str]:
    """(values by name, where they were in words)."""
    place = Path(source.run or source.file or "")
    if source.run is not None:
        found, step = _of_run(str(place), str(source.step), where, _state(place))
        return found, f"step {step} of {place}"
    if not place.is_file():
        raise StartError(f"{where}: {place}: no such file, nor a run's folder")
    return _of_file(str(place), where, _state(place)), str(place)


@lru_cache(maxsize=4)
def _of_run(folder: str, step: str, where: str, state: tuple[Any, ...]) -> tuple[dict[str, Any], int]:
    try:
        trained = read_trained(Path(folder), step)
    except (ValueError, FileNotFoundError) as error:
        raise StartError(f"{where}: {str(error).replace('--step ', 'step ')}") from None
    return {spec.name: trained.x[spec.place].view(spec.shape) for spec in trained.task.layout}, trained.step


@lru_cache(maxsize=4)
def _of_file(file: str, where: str, state: tuple[Any, ...]) -> dict[str, Any]:
    try:
        if file.lower().endswith(".safetensors"):
            return dict(load_file(file))
        found = torch.load(file, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise StartError(f"{where}: {file}: this is no whole safetensors file ({error})") from None
    except OSError:
        raise
    except Exception as error:  # a damaged pickle's are of all kinds
        raise StartError(
            f"{where}: {file}: neither .safetensors nor a state dict of tensors that torch.save has written, and "
            f"other objects are not loaded ({_first_line(error)})"
        ) from None
    if not isinstance(found, Mapping):
        raise StartError(f"{where}: {file}: it holds a {type(found).__name__}; a state dict has names and tensors")
    return dict(_flat(found))


def _flat(found: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """A state dict of players' state dicts is one of "player.name"."""
    for name, value in found.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _named(found: dict[str, Any], layout: Sequence[TensorSpec], player: str) -> dict[str, Any]:
    """The values by names of the layout. What one player's module has may lack the player's name, as in an export."""
    found = {name: value for name, value in found.items() if name.rpartition(".")[2] != _COUNTER}
    if not player:
        return found
    everybody = tuple(f"{name}." for name in players_in(layout))
    if found and all(name.startswith(everybody) for name in found):  # of all players, of which one is wanted
        return {name: value for name, value in found.items() if name.startswith(f"{player}.")}
    return {f"{player}.{name}": value for name, value in found.items()}


def _fitting(
    found: dict[str, Any], layout: Sequence[TensorSpec], player: str, source: str, where: str
) -> dict[str, Tensor]:
    """The tensors, if they are those of the layout, or of one player in it. Raises StartError with what differs."""
    wanted = {spec.name: spec for spec in (specs_of(layout, player) if player else layout)}
    others = [text for name, spec in wanted.items() if name in found and (text := _difference(spec, found[name]))]
    missing = [name for name in wanted if name not in found]
    strange = [name for name in found if name not in wanted]
    if not (others or missing or strange):
        return {name: found[name] for name in wanted}
    differ = [_first_few(others, "; ")] if others else []
    differ += [f"missing: {_first_few(missing)}"] if missing else []
    differ += [f"no tensor of this task: {_first_few(strange)}"] if strange else []
    raise StartError(f"{where}: {source} does not fit this task: {'; '.join(differ)}{_hint(found, layout, player)}")


def _first_few(texts: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return between.join(texts[:_NAMED]) + more


def _difference(spec: TensorSpec, value: Any) -> str:
    name = spec.name
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return f"{name} is a {type(value).__name__}, not a dense tensor"
    if tuple(value.shape) != tuple(spec.shape):
        return f"{name} has shape {list(value.shape)}, here {list(spec.shape)}"
    if value.dtype is not torch.float32:
        return f"{name} is {str(value.dtype).removeprefix('torch.')}, here float32"
    return "" if value.isfinite().all() else f"{name} has values that are not finite"


def _hint(found: Mapping[str, Any], layout: Sequence[TensorSpec], player: str) -> str:
    """What to do, where it is plain what the file is."""
    if found and all(name.removeprefix(f"{player}.").startswith(_PARALLEL) for name in found):
        return (
            f". All names begin with {_PARALLEL}, as DistributedDataParallel has them: save its module's state dict"
        )
    if player:
        return ""
    for alone in players_in(layout):
        own = {spec.name for spec in layout if spec.player == alone}
        own |= {spec.name for spec in layout if spec.player == BUFFERS and spec.name.startswith(f"{alone}.")}
        if set(found) in (own, {name.removeprefix(f"{alone}.") for name in own}):
            return (
                f". These are the names of the {alone} alone: give start_from: {{players: {{{alone}: …}}}}, and the "
                "others begin as usual"
            )
    return ""


def _state(place: Path) -> tuple[Any, ...]:
    """Names, sizes and times of the files that decide what is read."""
    files = (
        [place] if place.is_file() else [*place.glob("snapshots/*/*"), place / "scores.jsonl", place / "spec.yaml"]
    )
    return tuple(
        (str(path), s.st_size, s.st_mtime_ns) for path in sorted(files) if path.exists() and (s := path.stat())
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
