"""Checkpoints: a node's whole state at the end of a step, in one safetensors file, so that it can resume there.

A file holds x and the states of the objects that the worker keeps (task, codec, and those that the algorithm passes
to `Worker.keep`), named `owner.entry`. Its metadata name the owner; a digest over the whole file detects corruption
on disk or in transfer.
Reading one runs nothing: safetensors holds numbers and names.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

if TYPE_CHECKING:
    from gannet.node.config import NodeConfig

# Settings that may differ between a run and its continuation: none of them affects x.
_FREE = {
    "run", "arm", "pace_ms", "node_pace_ms", "snapshot_every", "checkpoint_every", "max_steps", "exchange", "origin",
    "on_loss",
}  # fmt: skip
_X = "x"
# The number of this layout of a checkpoint's file. It grows when an older Gannet could misread a newer file; files of
# before there were numbers have none, and the layout of 1. The code's own version is in the owner's `origin`.
FORMAT = 1


class CheckpointError(ValueError):
    """No checkpoint, or not one of this node; the message says what is wrong and what to do."""


class CheckpointDamaged(CheckpointError):
    """A file that was a checkpoint once, or never: an earlier one may do."""


class Keeps(Protocol):
    """An object with state that lasts from step to step."""

    def state(self) -> dict[str, Tensor]:
        """The whole state, on the CPU; the caller copies it before the next step."""
        ...

    def load_state(self, state: dict[str, Tensor], /) -> None:
        """Restore the state as `state` returned it; takes ownership of the tensors."""
        ...


@dataclass(frozen=True)
class Owner:
    """Owner of a checkpoint.

    `config`: a hash of all settings that x depends on, `settings`: of each of them by its dotted name. `origin`: what
    x depends on besides, such as the data's SHA-256, in words. `schema`: see Worker.schema.
    """

    run: str
    rank: int
    world: int
    config: str
    schema: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config: NodeConfig, rank: int, world: int, schema: str = "") -> Owner:
        """That node of a run."""
        values = config.model_dump(mode="json", exclude=_FREE)
        settings = {name: _hash(value) for name, value in _leaves(values)}
        return cls(config.run, rank, world, config_hash(config), schema, settings, dict(config.origin))

    def check(self, other: Owner, where: str) -> None:
        """Raise CheckpointError unless this node can resume from a checkpoint of `other`; `origin` may differ."""
        for name, what in (
            ("run", "another run"),
            ("rank", "another node"),
            ("world", "a run of another number of nodes"),
            ("config", "a run with other settings"),
            ("schema", "parameters that lie elsewhere"),
        ):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine and mine != theirs:
                found = f"its {name} is {theirs}, here {mine}"
                if name == "config" and other.settings:
                    names = sorted(self.settings.keys() | other.settings.keys())
                    changed = [key for key in names if self.settings.get(key) != other.settings.get(key)]
                    found = f"{', '.join(changed)} {'is' if len(changed) == 1 else 'are'} not as it began"
                raise CheckpointError(
                    f"{where}: of {what}: {found}; resume from the folder that the run itself has written, with its "
                    "spec.yaml as it was"
                )


def config_hash(config: NodeConfig) -> str:
    """Hash of the settings that x depends on; those that only set how fast or how long a node runs are left out."""
    return _hash(config.model_dump(mode="json", exclude=_FREE), size=16)


def _hash(value: object, size: int = 8) -> str:
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=size).hexdigest()


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """The settings of nested mappings, by dotted names."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


@dataclass(frozen=True)
class Checkpoint:
    """A node at the end of step `step`, at `t_s` of its training clock. `round`, `codec_bytes`: see Peers."""

    owner: Owner
    step: int
    t_s: float
    round: int
    codec_bytes: int
    tensors: dict[str, Tensor] = field(repr=False, default_factory=dict)
    format: int | None = FORMAT

    def take(self, owner: str) -> dict[str, Tensor]:
        """Remove and return the state of that owner: entries left in `tensors` at the end were never requested."""
        names = [name for name in self.tensors if name.partition(".")[0] == owner]
        return {name.partition(".")[2]: self.tensors.pop(name) for name in names}

    def without(self, owners: Collection[str]) -> Checkpoint:
        """A copy without the states of these owners."""
        kept = {name: value for name, value in self.tensors.items() if name.partition(".")[0] not in owners}
        return replace(self, tensors=kept)

    def take_x(self) -> Tensor:
        """Remove and return x."""
        return self.tensors.pop(_X)

    def pack(self) -> bytes:
        """The file's content."""
        metadata = {name: json.dumps(value) for name, value in self._facts().items()}
        return save(self.tensors, {**metadata, "digest": self._digest()})

    @classmethod
    def unpack(cls, data: bytes, where: str) -> Checkpoint:
        """Read what `pack` wrote; `where` names it in errors.

        Raises CheckpointError for a file of a later format, and CheckpointDamaged for anything else.
        """
        later = None
        try:
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
            digest = header.pop("digest")
            facts = {"format": None, **{name: json.loads(value) for name, value in header.items()}}
            if facts["format"] is not None and facts["format"] > FORMAT:
                later = (
                    f"{where}: of format {facts['format']}, which a later Gannet has written; this version reads "
                    f"up to format {FORMAT}: resume with that one"
                )
            tensors = load(data)
            owner = Owner(**facts.pop("owner"))
            # Clones: values in a file have any alignment, those of a tensor are aligned to 64 bytes.
            found = cls(owner, tensors={name: tensor.clone() for name, tensor in tensors.items()}, **facts)
        except (SafetensorError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            if later is not None:
                raise CheckpointError(later) from None
            raise CheckpointDamaged(f"{where}: not a whole checkpoint ({error})") from None
        if later is not None and replace(found, format=FORMAT)._digest() != digest:  # else that number is damaged
            raise CheckpointError(later)
        if _X not in found.tensors or found._digest() != digest:
            raise CheckpointDamaged(f"{where}: damaged, its digest does not fit")
        return found

    def _facts(self) -> dict[str, object]:
        names = ("step", "t_s", "round", "codec_bytes", *(() if self.format is None else ("format",)))
        return {"owner": asdict(self.owner), **{name: getattr(self, name) for name in names}}

    def _digest(self) -> str:
        """Digest of every fact, name, shape, type and number."""
        hashed = blake2b(json.dumps(self._facts(), sort_keys=True).encode(), digest_size=16)
        for name, tensor in sorted(self.tensors.items()):
            hashed.update(repr((name, tuple(tensor.shape), str(tensor.dtype))).encode())
            hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
        return hashed.hexdigest()


def copied(owners: Mapping[str, Keeps], x: Tensor) -> dict[str, Tensor]:
    """x and the states of all owners, as a checkpoint has them; none of it changes with the next step."""
    states = {f"{owner}.{name}": value for owner, of in owners.items() for name, value in of.state().items()}
    return {name: value.detach().cpu().clone().contiguous() for name, value in {_X: x, **states}.items()}
