"""The characteristics of a link: a named, frozen LinkProfile, read from a small YAML file.

A profile describes the path between two nodes that both have it: rates of the access link in each
direction, delay of one direction, jitter, loss, and the buffer in front of the bottleneck. Delays
are always one way, never a round trip. A shipped profile names the source of its figures and lists
what had to be assumed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictStr,
    ValidationError,
    model_validator,
)

from gannet.netem.links.fields import FATES, FRAMES_OF_IP, LINK_FIELDS, PathFigures
from gannet.netem.links.jitter import misfit
from gannet.netem.links.yaml_files import DocumentError, complaint, printable, read_mapping, short

PROFILE_FOLDER = Path(__file__).parents[1] / "profiles"
# The variable that lists the folders of a user's own profiles; ./profiles when it is not set.
USER_FOLDERS_VARIABLE = "GANNET_PROFILES"

SLOWEST_BPS, FASTEST_BPS = 1_000, 100 * 10**9
FASTEST_FRAMES_BPS = int(FASTEST_BPS * FRAMES_OF_IP)
RATE_MAX_LENGTH = 40
_UNITS_BPS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_RATE = re.compile(
    r"[ \t\r\n]*([0-9]*\.?[0-9]+)[ \t\r\n]*([a-z]+)(/s)?([ \t\r\n]+ip)?[ \t\r\n]*", re.IGNORECASE | re.ASCII
)
# The second is how tables show it.
UNLIMITED = ("unlimited", "no cap")
# One value for both directions, so that a symmetric profile stays short.
SHORTHANDS = {
    "rate": ("down_bps", "up_bps"),
    "down": ("down_bps",),
    "up": ("up_bps",),
    "delay_ms": ("down_delay_ms", "up_delay_ms"),
}

BUFFER_FIELDS = ("buffer_ms", "buffer_bytes", "buffer_packets")

JitterDistribution = Literal["uniform", "normal", "pareto"]
# Whether jittered packets stay in order, or each draws a delay of its own and may overtake others.
JitterOrder = Literal["keep", "reorder"]
# How the buffer in front of a rate limit is served: first in, first out, or an active queue management of Linux.
QueueDiscipline = Literal["fifo", "codel", "fq_codel", "sfq"]
DownQueue = Literal["per-source", "shared"]


class ProfileError(ValueError):
    """A missing or invalid profile; the message says where and what to do."""


def parse_rate_bps(value: object) -> int | None:
    """`10Mbit` or `10 Mbit/s` → 10_000_000 bit/s; a bare integer is bit/s already.

    A rate counts Ethernet frames. `10Mbit IP` counts the IP packets in them: what full frames then take is returned.
    `unlimited`, `no cap` or null → None.
    """
    if value is None or value in UNLIMITED:
        return None
    if (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    match = _RATE.fullmatch(value) if isinstance(value, str) and len(value) <= RATE_MAX_LENGTH else None
    unit = _UNITS_BPS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{short(value)} is not a rate: write 10Mbit (bit, kbit, Mbit or Gbit) or unlimited")
    exact = Fraction(match[1]) * unit
    if not SLOWEST_BPS <= exact <= FASTEST_BPS:
        raise ValueError(f"{short(value)} is out of range: a rate is from 1kbit to 100Gbit")
    return round(exact * FRAMES_OF_IP if match[4] else exact)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


RateBps = Annotated[
    Annotated[int, Field(strict=True, ge=SLOWEST_BPS, le=FASTEST_FRAMES_BPS)] | None, BeforeValidator(parse_rate_bps)
]
Bytes = Annotated[int, Field(strict=True, ge=1514, le=2**31)]
Packets = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Milliseconds = Annotated[float, Field(strict=True, ge=0, le=60_000)]
Percent = Annotated[float, Field(strict=True, ge=0, le=100)]
Share = Annotated[float, Field(strict=True, gt=0, le=100)]


class GilbertElliott(BaseModel):
    """Bursty loss: a Markov chain of a good and a bad state, which each packet advances, with a loss of its own each.

    Gilbert 1960, Elliott 1963; figures as in `tc netem loss gemodel` (p, r, 1-h, 1-k): of the packets met in the
    good state, `loss_in_good_percent` are lost, and `good_to_bad_percent` are the last of it; likewise the bad.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    good_to_bad_percent: Share
    """Of the packets met in the good state, how many are its last; per cent."""
    bad_to_good_percent: Share
    """Of the packets met in the bad state, how many are its last; per cent. A burst lasts 100 / this packets."""
    loss_in_bad_percent: Percent = 100.0
    """Loss of the packets met in the bad state, per cent."""
    loss_in_good_percent: Percent = 0.0
    """Loss of the packets met in the good state, per cent."""

    @property
    def loss_percent(self) -> float:
        """The share of packets lost in the long run: (r·good + p·bad) / (p + r)."""
        p, r = self.good_to_bad_percent, self.bad_to_good_percent
        return min(100.0, (r * self.loss_in_good_percent + p * self.loss_in_bad_percent) / (p + r))

    @property
    def bad_packets(self) -> float:
        """Packets that a stay in the bad state lasts on average: 1 / r."""
        return 100 / self.bad_to_good_percent

    def thinned(self, share: float) -> GilbertElliott:
        """The same states, in which only `share` (0…1) of the lost packets are lost."""
        return self.model_copy(
            update={
                "loss_in_bad_percent": self.loss_in_bad_percent * share,
                "loss_in_good_percent": self.loss_in_good_percent * share,
            }
        )


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A profile's name, description and sources."""

    name: Annotated[
        StrictStr,
        Field(min_length=1, description="What tables and run folders call it; a file's own name when left out."),
    ] = "custom"
    source: Annotated[StrictStr, Field(description="Where the figures come from.")] = ""
    assumed: Annotated[
        tuple[StrictStr, ...],
        Field(description="Figures that the source does not give, and what was put in their place."),
    ] = ()


class LinkProfile(BaseModel, PathFigures, Origin, frozen=True):  # fields in the order of files: Origin's first
    """A link between two nodes that both have this profile.

    In YAML `down: 10Mbit`, `up: 1Mbit` stand for `down_bps`, `up_bps`; `rate` sets both rates and
    `delay_ms` both delays. A rate of None is no cap. `down_delay_ms` and `up_delay_ms` are one-way
    delays: a path takes half of its sender's `up_delay_ms` and half of its receiver's `down_delay_ms`.
    `jitter_ms` is the half-width of a uniform spread, or the standard deviation of a normal or a Pareto
    one (α = 3). With `jitter_order` keep the delay wanders in time and packets stay in order, but for
    `reorder_percent` of them, which skip the delay. With reorder each packet draws a delay of its own and overtakes
    those that drew more; `jitter_correlation_percent` is how much each draw follows the one before.
    Loss is random (`loss_percent`) or comes in bursts (`gilbert_elliott`). Duplicates arrive right behind
    their originals; a corrupt packet has one bit flipped, which a checksum finds.
    The buffer in front of each rate limit holds `buffer_ms` (the time that it takes to drain, 100 when nothing
    is said), `buffer_bytes` or `buffer_packets`, and `queue` is how it is served. Where several nodes send to one,
    `down_queue` says whether they share its buffer or take turns.
    """

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    down_bps: RateBps = None
    """Rate at which a node receives, bit/s."""
    up_bps: RateBps = None
    """Rate at which a node sends, bit/s."""
    down_delay_ms: Milliseconds = 0.0
    """One-way delay of what a node receives, ms."""
    up_delay_ms: Milliseconds = 0.0
    """One-way delay of what a node sends, ms."""
    jitter_distribution: JitterDistribution = "uniform"
    """How the delay spreads."""
    jitter_order: JitterOrder = "keep"
    """keep: the delay wanders in time and packets stay in order; reorder: each packet draws a delay of its own."""
    gilbert_elliott: GilbertElliott | None = None
    """Loss in bursts, in place of random loss."""
    buffer_ms: Annotated[float, Field(strict=True, gt=0, le=60_000)] | None = None
    """Buffer in front of each rate limit: the time that it takes to drain, ms (100 when nothing is said)."""
    buffer_bytes: Annotated[Bytes, BeforeValidator(_whole)] | None = None
    """Buffer in front of each rate limit, bytes."""
    buffer_packets: Annotated[Packets, BeforeValidator(_whole)] | None = None
    """Buffer in front of each rate limit, packets."""
    queue: QueueDiscipline = "fifo"
    """How the buffer is served."""
    down_queue: DownQueue = "per-source"
    """Buffer of what a node receives: one for each node that sends to it, in turns, or one shared by all."""

    @model_validator(mode="after")
    def _say_things_once(self) -> LinkProfile:
        buffers = [name for name in BUFFER_FIELDS if getattr(self, name) is not None]
        if len(buffers) > 1:
            raise ValueError(f"{' and '.join(buffers)} say the same thing twice: keep one")
        if self.gilbert_elliott is not None and self.loss_percent > 0:
            raise ValueError("loss_percent and gilbert_elliott exclude each other: bursts have a loss of their own")
        for name, declared in LINK_FIELDS.items():
            if declared.needs and getattr(self, name) > 0 and not any(getattr(self, need) for need in declared.needs):
                raise ValueError(f"{name} needs {declared.because}")
        if self.jitter_order == "reorder" and not self.jitter_ms:
            raise ValueError("jitter_order: reorder needs a jitter_ms by which packets overtake each other")
        if self.jitter_correlation_percent and self.jitter_order != "reorder":
            raise ValueError(
                "jitter_correlation_percent is of jitter that each packet draws by itself, so it needs "
                "jitter_order: reorder; in order (jitter_order: keep) delays follow each other in time anyway"
            )
        if wrong := misfit(self.jitter_distribution, self.delay_ms, self.jitter_ms):
            raise ValueError(f"jitter_ms: {wrong}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _expand_shorthands(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        expanded: dict[str, Any] = dict(data)
        for shorthand, fields in SHORTHANDS.items():
            if shorthand not in expanded:
                continue
            value = expanded.pop(shorthand)
            if shorthand != "delay_ms" and isinstance(value, int | float) and not isinstance(value, bool):
                raise ValueError(f"{shorthand}: {value} has no unit: write {value:g}bit or {value:g}Mbit")
            for name in fields:
                if name in expanded:
                    raise ValueError(f"{shorthand} and {name} say the same thing twice: keep one")
                expanded[name] = value
        return expanded

    @property
    def delay_ms(self) -> float:
        """One-way delay between two nodes of this profile."""
        return (self.up_delay_ms + self.down_delay_ms) / 2

    @property
    def path_bps(self) -> int | None:
        """The rate of a path between two nodes of this profile, bit/s; None: no cap."""
        return min((rate for rate in (self.up_bps, self.down_bps) if rate is not None), default=None)

    @property
    def has_buffer(self) -> bool:
        """Whether it says how large the buffer is."""
        return any(getattr(self, name) is not None for name in BUFFER_FIELDS)

    @property
    def takes_packets_singly(self) -> bool:
        """Whether it counts packets, or treats some differently from others: each must then be one TCP segment."""
        some = self.mean_loss_percent > 0 or any(getattr(self, name) > 0 for name in FATES)
        return some or self.buffer_packets is not None or self.queue != "fifo"

    @property
    def mean_loss_percent(self) -> float:
        """Loss in the long run, random or in bursts."""
        return self.loss_percent if self.gilbert_elliott is None else self.gilbert_elliott.loss_percent


PROFILE_FIELDS = frozenset({*LinkProfile.model_fields, *SHORTHANDS})
"""The names by which a profile's fields are given, short ones too."""


def list_profiles() -> list[str]:
    """Names of the shipped profiles, sorted."""
    return sorted(path.stem for path in PROFILE_FOLDER.glob("*.yaml"))


def user_profiles() -> dict[str, Path]:
    """The user's own profiles by name: from the folders that GANNET_PROFILES lists, colons between, else ./profiles.

    Where two folders have a name, the first one counts.
    """
    named = os.environ.get(USER_FOLDERS_VARIABLE, "profiles").split(os.pathsep)
    folders = [folder for name in named if name and (folder := Path(name)).resolve() != PROFILE_FOLDER.resolve()]
    files = [path for folder in reversed(folders) for path in sorted(folder.glob("*.y*ml"))]
    return {path.stem: path for path in files if path.suffix in (".yaml", ".yml")}


def load_profile(name_or_path: str | Path) -> LinkProfile:
    """Read a profile by name, shipped or of the user's own (see user_profiles), or by the path of its YAML file.

    Raises ProfileError: no such profile, two of one name, or a field that is wrong (which one, what it got).
    """
    path = _find(str(name_or_path))
    try:
        data = read_mapping(path, "rate: 10Mbit")
    except DocumentError as error:
        raise ProfileError(str(error)) from error
    profile = profile_of({"name": path.stem, **data}, f"{path}: ")
    return profile.model_copy(update=dict(profile))  # a file says everything: what it leaves out is the default


def profile_of(data: Mapping[str, Any], where: str = "") -> LinkProfile:
    """The profile of these fields. Raises ProfileError with each wrong one as it is written there, after `where`."""
    try:
        return LinkProfile.model_validate(data)
    except ValidationError as error:
        told = dict.fromkeys(_complaint(each, data) for each in error.errors())
        raise ProfileError(where + "; ".join(told)) from error


def _find(text: str) -> Path:
    if text.endswith((".yaml", ".yml")):
        return Path(text)
    own, shipped = user_profiles(), list_profiles()
    if text in own and text in shipped:
        raise ProfileError(
            f"{own[text]} has the name of a shipped profile, and a run must not depend on the folder that it is "
            f"started from: rename the file, or say {own[text]}"
        )
    if text in own:
        return own[text]
    if text in shipped:
        return PROFILE_FOLDER / f"{text}.yaml"
    known = [*shipped, *own]
    close = get_close_matches(text, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ProfileError(f"no profile named {short(text)}: {hint}known: {', '.join(known)}, or a .yaml file")


def _complaint(error: Any, data: Mapping[str, Any]) -> str:
    """One mistake in the file's terms: the field as it is written there, what is wrong, and the value."""
    where = [str(part) for part in error["loc"] if part not in ("int", "float")]
    if not where:
        return str(error["msg"]).removeprefix("Value error, ")
    if where[0] not in data:  # given by a shorthand
        where[0] = next(
            (name for name, fields in SHORTHANDS.items() if where[0] in fields and name in data), where[0]
        )
    field = printable(".".join(where))
    if error["type"] == "extra_forbidden":
        model: type[BaseModel] = GilbertElliott if where[0] == "gilbert_elliott" else LinkProfile
        known = [*model.model_fields, *(SHORTHANDS if model is LinkProfile else ())]
        close = get_close_matches(where[-1], known, n=1)
        return f"{short(field)} is no field: " + (
            f"did you mean {close[0]}?" if close else "known: " + ", ".join(known)
        )
    if error["type"] == "missing":
        return f"{field} is missing"
    message, got = printable(complaint(error)), short(error["input"])
    return f"{field}: {message}" + ("" if message.startswith(got) else f" (got {got})")
