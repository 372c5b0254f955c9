"""What a run's scores depend on besides its model, and whether two runs' scores may be compared.

A Fréchet distance on 100 images is above one on 3,000, one to other data is another distance, and a distance to a
saddle point is none of these. So runs are ranked only next to runs that are scored alike; a comparison's `common`
yardstick is that of most of its arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gannet.ledger.reader import Run
from gannet.report.formatting import listing
from gannet.scores.names import Better

SHA256 = "data.sha256"


@dataclass(frozen=True)
class Yardstick:
    """samples: the number of generated images. basis: see Score.basis; what is not in it is not known."""

    score_name: str
    better: Better
    samples: int | None
    basis: dict[str, Any]

    def differences(self, other: Yardstick) -> tuple[str, ...]:
        """What distinguishes this one from `other`, in words that follow "is scored"; empty: they are alike."""
        if (self.score_name, self.better) != (other.score_name, other.better):
            return (f"by its {self.score_name} instead of its {other.score_name}",)
        found = []
        if self.samples != other.samples:
            found.append(f"on {_count(self.samples)} generated images instead of {_count(other.samples)}")
        known = [key for key in self.basis if key in other.basis]
        unlike = [key for key in known if self.basis[key] != other.basis[key]]
        if unlike == [SHA256]:
            return (*found, f"against other images of {self.basis.get('data.name', 'its data')}")
        return (
            *found,
            *(f"with {key} {self.basis[key]} instead of {other.basis[key]}" for key in unlike if key != SHA256),
        )

    def alike(self, other: Yardstick) -> bool:
        return not self.differences(other)


def yardstick(run: Run) -> Yardstick | None:
    """That of the run's scores of the averaged model; None if it has none."""
    score = next((score for score in reversed(run.scores) if score.of == "average"), None)
    if score is None:
        return None
    return Yardstick(score.score_name, score.better, score.samples, score.basis or _known(run))


def common(arms: Sequence[Sequence[Yardstick]]) -> Yardstick | None:
    """Of each arm's yardsticks, the one that most arms share, the first of them if several do; None without any."""
    each = [found for arm in arms for found in arm]

    def shared(found: Yardstick) -> int:
        return sum(any(other.alike(found) for other in arm) for arm in arms)

    return max(each, key=shared, default=None)


def told(differences: Sequence[str]) -> str:
    """ "scored on 3,000 generated images instead of 100" """
    return f"scored {listing(list(dict.fromkeys(differences)))}"


def _known(run: Run) -> dict[str, Any]:
    """The basis of scores that do not say theirs, those of version 0.1.0, as far as the rest of the folder tells."""
    task, data = run.spec.get("task"), run.environment.data or {}
    known = {"task.name": task.get("name")} if isinstance(task, dict) else {}
    known |= {"data.name": data.get("name"), SHA256: data.get("sha256")}
    return {key: value for key, value in known.items() if value is not None}


def _count(samples: int | None) -> str:
    return "an unknown number of" if samples is None else f"{samples:,}"
