"""The strip of generated images, as data URIs: a row for each arm, a column for each time.

The columns are points in training time, the same for all arms. An arm that had ended by then shows its last images.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from gannet.ledger.reader import Image
from gannet.report import formatting as words
from gannet.report.results import ArmResult, Results

# Fractions of the longest arm's time. Learning is fastest early on, so the columns are closer together there.
FRACTIONS = (0.125, 0.25, 0.5)


@dataclass(frozen=True)
class Cell:
    """One image: its data URI, and the step and time at which it was generated."""

    source: str
    caption: str


@dataclass(frozen=True)
class Strip:
    """Column headings and, for each arm with images, its cells (None: no image by then)."""

    headings: tuple[str, ...]
    rows: tuple[tuple[ArmResult, int, tuple[Cell | None, ...]], ...]


def strip(results: Results) -> Strip | None:
    """The images of one run per arm (its first counted seed); None when no run has images."""
    chosen = [(arm, arm.shown.seed, arm.shown.images) for arm in results.arms if arm.shown and arm.shown.images]
    if not chosen:
        return None
    if any(image.t_s is None for _, _, images in chosen for image in images):
        return _by_step(chosen)
    end_s = max(images[-1].t_s or 0.0 for _, _, images in chosen)
    moments = [fraction * end_s for fraction in FRACTIONS]
    headings = [f"by {words.seconds(float(f'{moment:.2g}'))}" for moment in moments]
    rows = [(arm, seed, [*(_last(images, moment) for moment in moments), images[-1]]) for arm, seed, images in chosen]
    return Strip(
        (*headings, "at the end"),
        tuple((arm, seed, tuple(_cell(image) for image in picked)) for arm, seed, picked in rows),
    )


def _by_step(chosen: list[tuple[ArmResult, int, tuple[Image, ...]]]) -> Strip:
    """For images without times: evenly spaced ones of each run."""
    columns = len(FRACTIONS) + 1
    rows = []
    for arm, seed, images in chosen:
        places = [round(i * (len(images) - 1) / (columns - 1)) for i in range(columns)]
        rows.append((arm, seed, tuple(_cell(images[place]) for place in places)))
    return Strip(("first", *([""] * (columns - 2)), "at the end"), tuple(rows))


def _last(images: tuple[Image, ...], moment: float) -> Image | None:
    drawn = [image for image in images if (image.t_s or 0.0) <= moment * (1 + 1e-9)]
    return drawn[-1] if drawn else None


def _cell(image: Image | None) -> Cell | None:
    if image is None:
        return None
    data = base64.b64encode(image.path.read_bytes()).decode("ascii")
    when = f", {words.seconds(image.t_s)}" if image.t_s is not None else ""
    return Cell(f"data:image/png;base64,{data}", f"step {image.step:,}{when}")
