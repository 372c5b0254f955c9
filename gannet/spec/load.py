"""Reads spec files: finds them, applies overrides, resolves arms, and explains mistakes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from gannet.netem import yaml12
from gannet.node.methods.registry import ALGORITHM_NAMES
from gannet.node.mistakes import message_of
from gannet.node.mixing.registry import NAMES as RULES
from gannet.node.tasks.config import TASK_NAMES, Settings
from gannet.node.topologies.registry import TAGS
from gannet.spec.nearby import with_nearby_files
from gannet.spec.overrides import merge, nest
from gannet.spec.python_source import SourceMissing, chosen_files, with_texts
from gannet.spec.run_spec import SPEC_FOLDER, ComparisonSpec, RunSpec
from gannet.spec.start import with_start

SEEDS = 2**31
Overrides = Mapping[str, Any] | Sequence[str]

# Names that pydantic puts into the place of an error where a field may be of several kinds.
_ALGORITHM_TAGS = frozenset(ALGORITHM_NAMES)
_KINDS = frozenset({"str", "int", "float", "bool", "list", "dict"})
_TAGS_OF = {
    "topology": frozenset(TAGS),
    "players": frozenset({*TAGS, *RULES}),
    "mixing": frozenset(RULES),
    "task": frozenset(TASK_NAMES),
}


class SpecError(Exception):
    """A spec that cannot be run; the message lists every mistake, one a line."""


def shipped_specs() -> list[str]:
    """Names of the specs in gannet/spec/shipped/."""
    return sorted(Path(item.name).stem for item in SPEC_FOLDER.iterdir() if item.name.endswith(".yaml"))


def load_spec(
    source: str | Path | Mapping[str, Any], overrides: Overrides = (), base: Mapping[str, Any] | None = None
) -> ComparisonSpec:
    """Read a spec by path, a shipped one by name, or one that is a mapping already.

    `overrides`: values by dotted key, {"algorithm.every": 4}, or in command-line form, ["algorithm.every=4"]. They
    take precedence over the file and its arms; `base` replaces fields of the file, but not of its arms. Raises
    SpecError with every mistake.
    """
    if isinstance(source, Mapping):
        return resolve({**source, **(base or {})}, "spec", overrides)
    text, where = _read(str(source))
    try:
        raw = yaml12.load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{where}: not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise SpecError(f"{where}: a spec is a mapping such as `nodes: 4`, not {type(raw).__name__}")
    return resolve({**raw, **(base or {})}, where, overrides)


def resolve(raw: Mapping[str, Any], where: str, overrides: Overrides = ()) -> ComparisonSpec:
    """A checked ComparisonSpec from a parsed spec; `where` names it in errors."""
    sets = override_pairs(overrides)
    base = dict(raw)
    for key, value in sets:
        head, _, rest = key.partition(".")
        if head == "arms" and rest.split(".")[0] not in (base.get("arms") or {}):
            known = ", ".join(base.get("arms") or {}) or "none"
            raise SpecError(f"--set {key}: {where} has no such arm; it has {known}")
        if head in ("seed", "seeds"):  # two names of one setting: the command line takes precedence
            base.pop("seed", None)
            base.pop("seeds", None)
        base = merge(base, nest(key, value))
    arms = base.pop("arms", None)
    seeds = _seeds(base, where)
    if arms is None:
        arms = {"run": {}}
    if not isinstance(arms, dict) or not arms:
        raise SpecError(f"{where}: arms: give at least one named override, for example `gossip: {{codec: fp16}}`")
    name = str(base.get("name", Path(where).stem))
    resolved: dict[str, RunSpec] = {}
    mistakes: list[str] = []
    for arm, override in arms.items():
        if override is not None and not isinstance(override, dict):
            mistakes.append(f"arms.{arm}: an arm is a mapping of overrides, got {override!r}")
            continue
        if fixed := sorted({"seed", "seeds", "name", "arm", "arms"} & set(override or {})):
            mistakes.append(f"arms.{arm}.{fixed[0]}: belongs to the whole comparison, not to an arm")
            continue
        merged = merge(base, override or {})
        for key, value in sets:
            if key.split(".")[0] not in ("arms", "seed", "seeds", "name"):
                merged = merge(merged, nest(key, value))
        merged |= {"name": name, "arm": str(arm), "seed": seeds[0]}
        prefix = "" if list(arms) == ["run"] else f"in arm {arm}: "
        try:
            chosen = chosen_files((key.removeprefix(f"arms.{arm}."), value) for key, value in sets)
            folder = Path(where).parent
            resolved[str(arm)] = RunSpec.model_validate(
                with_start(with_texts(with_nearby_files(merged, folder), folder, chosen), folder)
            )
        except ValidationError as error:
            mistakes += [prefix + line for line in explain(error)]
        except SourceMissing as error:
            mistakes.append(f"{prefix}{error}")
    if mistakes:
        raise SpecError("\n".join(f"{where}: {line}" for line in dict.fromkeys(_common(mistakes, arms))))
    return ComparisonSpec(name=name, seeds=tuple(seeds), arms=resolved)


def explain(error: ValidationError) -> list[str]:
    """One line per mistake: the field's path, what is wrong or allowed, and the value."""
    told: dict[tuple[str, str], list[str]] = {}
    for item in error.errors():
        tags = _ALGORITHM_TAGS | _TAGS_OF.get(str(item["loc"][0]) if item["loc"] else "", frozenset())
        parts = [str(part) for part in item["loc"] if part not in tags]
        path = ".".join(part for part in parts if part not in _KINDS and "[" not in part)
        got = item["input"]
        shown = "" if isinstance(got, (dict, Settings)) else f" (got {got!r})"
        told.setdefault((path, shown), []).append(message_of(item))
    return [
        f"{path}: {', or '.join(whats)}{shown}" if path else f"{', or '.join(whats)}{shown}"
        for (path, shown), whats in told.items()
    ]


def _common(mistakes: list[str], arms: Mapping[str, Any]) -> list[str]:
    """Report a mistake in the base, which every arm repeats, once."""
    plain = [re.sub(r"^in arm .*?: ", "", line) for line in mistakes]
    return [
        text if len(arms) > 1 and plain.count(text) == len(arms) else line
        for text, line in zip(plain, mistakes, strict=True)
    ]


def _read(source: str) -> tuple[str, str]:
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise SpecError(f"{source}: {'this is a folder: give a .yaml file' if path.is_dir() else 'no such file'}")
        try:
            return path.read_text(encoding="utf-8"), source
        except UnicodeDecodeError as error:
            raise SpecError(f"{source}: not text in UTF-8: {error}") from None
    shipped = SPEC_FOLDER / f"{source}.yaml"
    if source not in shipped_specs():
        known = ", ".join(shipped_specs())
        raise SpecError(f"{source}: neither a .yaml file nor a shipped spec; shipped: {known}")
    return shipped.read_text(encoding="utf-8"), f"{source}.yaml"


def _seeds(base: dict[str, Any], where: str) -> list[int]:
    seeds = base.pop("seeds", None)
    single = base.pop("seed", None)
    if seeds is not None and single is not None:
        raise SpecError(f"{where}: seeds: `seed` is the same setting: keep one of them")
    if seeds is None:
        seeds = [1 if single is None else single]
    valid = isinstance(seeds, list) and bool(seeds)
    if not valid or any(isinstance(s, bool) or not isinstance(s, int) or not 0 <= s < SEEDS for s in seeds):
        raise SpecError(
            f"{where}: seeds: a list of whole numbers from 0 to {SEEDS - 1}, for example [1, 2, 3] (got {seeds!r})"
        )
    if len(set(seeds)) != len(seeds):
        raise SpecError(f"{where}: seeds: each seed once (got {seeds!r}); runs with equal seeds are equal")
    return list(seeds)


def override_pairs(overrides: Overrides) -> list[tuple[str, Any]]:
    if isinstance(overrides, Mapping):
        return [(str(key), value) for key, value in overrides.items()]
    if isinstance(overrides, str):
        raise SpecError(f'overrides: give a mapping such as {{"nodes": 8}}, or a list of texts (got {overrides!r})')
    return [_parse_override(text) for text in overrides]


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise SpecError(f"--set {text}: write key=value, for example --set algorithm.every=4")
    try:
        return key.strip(), yaml12.load(value)
    except yaml.YAMLError as error:
        raise SpecError(f"--set {text}: the value is not YAML: {error}") from None
