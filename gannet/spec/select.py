"""Selects the runs of a spec: one arm with one seed, or some of its arms; for the command line and for Python."""

from __future__ import annotations

from collections.abc import Sequence

from gannet.spec.load import SEEDS, SpecError
from gannet.spec.run_spec import ComparisonSpec


def one_run(spec: ComparisonSpec, arm: str | None = None, seed: int | None = None) -> ComparisonSpec:
    """`spec` with one arm and one seed, by default its first. Raises SpecError."""
    if arm is None and len(spec.arms) > 1:
        raise SpecError(f"{spec.name} has several arms: choose one ({', '.join(spec.arms)}), or compare them")
    chosen = some_arms(spec, list(spec.arms) if arm is None else [arm])
    if seed is not None and not 0 <= seed < SEEDS:
        raise SpecError(f"seed {seed}: a whole number from 0 to {SEEDS - 1}")
    return chosen.model_copy(update={"seeds": spec.seeds[:1] if seed is None else (seed,)})


def some_arms(spec: ComparisonSpec, names: Sequence[str]) -> ComparisonSpec:
    """`spec` with these arms only, in its own order. Raises SpecError for one that it lacks, or that comes twice."""
    if unknown := [name for name in names if name not in spec.arms]:
        raise SpecError(f"{spec.name} has no arm {unknown[0]!r}; it has {', '.join(spec.arms)}")
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise SpecError(f"arm {twice[0]!r} is chosen twice: name each arm once")
    if not names:
        raise SpecError(f"no arm of {spec.name} is chosen; it has {', '.join(spec.arms)}")
    return spec.model_copy(update={"arms": {name: arm for name, arm in spec.arms.items() if name in names}})
