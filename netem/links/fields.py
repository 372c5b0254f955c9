"""The figures of a path, each declared once: its meaning, and how the rest of the package treats it.

A figure that a profile and a plan share is one line of PathFigures. Profile files and their schema, the combination
of two ends into a path, ramps, `gannet net profiles`, what the virtual fabric refuses and what an engine refuses
follow from its LinkField; engines carry it out and certificates measure it. Plain dataclasses, since link agents
import this and no pydantic. docs/extending.md walks through a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import hypot, sqrt
from typing import Annotated, Any, get_type_hints

# An Ethernet frame at an MTU of 1500 as the kernel's shapers count it: header included, checksum not. And how many
# bits of such frames there are for each bit of the IP packets in them.
FRAME_BYTES = 1514
FRAMES_OF_IP = Fraction(FRAME_BYTES, 1500)


def survival(p_percent: float, q_percent: float) -> float:
    """The loss of a path whose ends each let the square root of their survival pass: 1 − √((1−p)(1−q)), per cent.

    Rounded to a packet in 10¹¹.
    """
    if p_percent == q_percent == 0:
        return 0.0
    passed = sqrt(max(0.0, 1 - p_percent / 100)) * sqrt(max(0.0, 1 - q_percent / 100))
    return round(100 * (1 - passed), 9)


def root_mean_square(a: float, b: float) -> float:
    """√((a² + b²) / 2): spreads of independent delays, half of each."""
    return a if a == b else hypot(a, b) / sqrt(2)


@dataclass(frozen=True, eq=False)
class LinkField:
    """The declaration of one figure, which is 0 where nothing is configured.

    `help`: for the schema of profile files. `combine`: the path's figure from those of its ends, None where
    gannet.netem.links.plan.path_plan has a rule of its own. From 0 to `most`, which is allowed unless `below`.
    `fate`: the figure is the share of packets, in per cent, that meet this fate; each packet is then one TCP segment,
    and tables show the share and this word. `ramped`: a ramp passes through intermediate values. `needs`: figures
    without all of which it means nothing, with `because` in the error. `cannot`: by engine, why that engine does not
    carry it out.
    """

    help: str
    combine: Callable[[float, float], float] | None
    most: float = 100
    below: bool = False
    fate: str = ""
    ramped: bool = True
    needs: tuple[str, ...] = ()
    because: str = ""
    cannot: Mapping[str, str] = field(default_factory=dict)

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """How LinkProfile checks the figure (pydantic calls this on annotations)."""
        return {**handler(source), "strict": True, "ge": 0, "lt" if self.below else "le": self.most}

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], Any]) -> Any:
        """The figure in the schema of profile files."""
        return {**handler(schema), "description": self.help}


@dataclass(frozen=True, kw_only=True)
class PathFigures:
    """The figures that profiles and plans share."""

    jitter_ms: Annotated[
        float,
        LinkField(
            "Spread of the delay, ms: half-width when uniform, else the standard deviation.",
            root_mean_square,
            most=60_000,
        ),
    ] = 0.0
    jitter_correlation_percent: Annotated[
        float,
        LinkField(
            "How much the delay of a packet follows that of the one before, per cent.",
            None,
            below=True,
            needs=("jitter_ms",),
            because="a jitter_ms to correlate",
            # tabledist() in net/sched/sch_netem.c takes the remainder of the correlated number, which is not.
            cannot={"netem": "sch_netem draws every jitter afresh whatever correlation it is given"},
        ),
    ] = 0.0
    loss_percent: Annotated[float, LinkField("Packets lost at random, per cent; 100 is a cut.", None)] = 0.0
    reorder_percent: Annotated[
        float,
        LinkField(
            "Packets that skip the delay, per cent.",
            survival,
            fate="reordered",
            needs=("delay_ms", "down_delay_ms", "up_delay_ms"),
            because="a delay: reordered packets are those that skip it",
        ),
    ] = 0.0
    duplicate_percent: Annotated[
        float, LinkField("Packets that arrive twice, per cent.", survival, fate="doubled")
    ] = 0.0
    corrupt_percent: Annotated[
        float, LinkField("Packets that arrive with one bit flipped, per cent.", survival, fate="corrupt")
    ] = 0.0


LINK_FIELDS: Mapping[str, LinkField] = {
    name: declared
    for name, hint in get_type_hints(PathFigures, include_extras=True).items()
    for declared in hint.__metadata__
}
# The fates of single packets other than loss, which may be given as bursts.
FATES: Mapping[str, LinkField] = {name: declared for name, declared in LINK_FIELDS.items() if declared.fate}
