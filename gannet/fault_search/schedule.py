"""A schedule: one small run and all that befalls it, a pure function of its seed (and of the method, where given).

Half of the schedules are harmless: messages come late, twice or over a second connection, nodes stand still for less
than anybody's patience. They must change nothing at all. The others may cost a run messages and nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from random import Random
from typing import Any

from gannet.fabrics.job import Job, LinkChange
from gannet.fabrics.virtual.faults import (
    AtAwait,
    Corrupt,
    DamageOne,
    Drop,
    Duplicate,
    Fault,
    Hold,
    Kill,
    Pause,
    Return,
)
from gannet.fault_search.damage import WAYS, Damaged
from gannet.fault_search.kick_task import IMAGE_SIDE
from gannet.fault_search.variants import methods, on_loss_of, settings_of
from gannet.netem.links.plan import Edge
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.node.config import NodeConfig
from gannet.node.players.config import check_returns, parts_of
from gannet.node.topologies.topology import Topology
from gannet.node.traffic.exchange import exchange_edges

PACE_MS = 10.0
PATIENCE_S, ROUND_DEADLINE_S = 1.0, 2.0
# All delays of a harmless schedule together: no wait of its nodes may exhaust anybody's patience.
_HARMLESS_S = 0.6 * PATIENCE_S


@dataclass(frozen=True)
class Cut:
    """These directed links carry nothing from `at_s` on, for `for_s` seconds."""

    at_s: float
    for_s: float
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class Slow:
    """All links have this delay from `at_s` on, for `for_s` seconds."""

    at_s: float
    for_s: float
    delay_ms: float


Event = Fault | Cut | Slow


@dataclass(frozen=True)
class Schedule:
    """`settings`: fields of the NodeConfig. `steps` or `stop_s`: where the run ends."""

    seed: int
    method: str
    world: int
    settings: dict[str, Any]
    rate_bps: int | None
    delay_ms: float
    jitter_ms: float
    steps: int | None
    stop_s: float | None
    return_after_s: float | None
    harmless: bool
    events: tuple[Event, ...]

    @cached_property
    def config(self) -> NodeConfig:
        limits = {"chunk_deadline_s": 0.5, "patience_s": PATIENCE_S, "round_deadline_s": ROUND_DEADLINE_S}
        fixed = {
            "run": f"fault-search-{self.seed}",
            "seed": self.seed,
            "optimizer": {"learning_rate": 0.25, "beta1": 0.0},
            "data": {"image_size": IMAGE_SIDE},
            "batch": 1,
            "pace_ms": PACE_MS,
            "snapshot_every": 1,
            "max_steps": self.steps,
        }
        exchange = {**limits, "liveness_s": 5.0, "turn_s": 0.5, **self.settings.get("exchange", {})}
        config = NodeConfig.model_validate({**fixed, **self.settings, "exchange": exchange})
        parts = parts_of(config).values() or [config]
        resumable = not any(part.algorithm.traits.not_resumable for part in parts)
        return config.model_copy(update={"checkpoint_every": 1}) if resumable else config

    @property
    def calm(self) -> Schedule:
        """The same run without anything that befalls it."""
        return replace(self, events=(), return_after_s=None)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The events that are faults of nodes and messages."""
        return tuple(event for event in self.events if not isinstance(event, Cut | Slow))

    def job(self) -> Job:
        """The run, with the changes of its links."""
        base = LinkState(profile=self._profile(self.delay_ms))
        spans = [event for event in self.events if isinstance(event, Cut | Slow)]
        moments = sorted({at_s for span in spans for at_s in (span.at_s, span.at_s + span.for_s)})
        changes = tuple(LinkChange(at_s, self._links(spans, at_s)) for at_s in moments)
        return Job(
            self.config,
            self.world,
            base,
            changes,
            stop_s=self.stop_s,
            seed=self.seed,
            return_after_s=self.return_after_s,
        )

    def _links(self, spans: list[Cut | Slow], at_s: float) -> LinkState:
        lasting = [span for span in spans if span.at_s <= at_s < span.at_s + span.for_s]
        delay_ms = max([self.delay_ms, *(span.delay_ms for span in lasting if isinstance(span, Slow))])
        cut = frozenset(edge for span in lasting if isinstance(span, Cut) for edge in span.edges)
        return LinkState(profile=self._profile(delay_ms), cut=cut)

    def _profile(self, delay_ms: float) -> LinkProfile:
        rate = "unlimited" if self.rate_bps is None else f"{self.rate_bps}bit"
        figures = {"rate": rate, "delay_ms": delay_ms, "jitter_ms": self.jitter_ms}
        return LinkProfile.model_validate({"name": f"{delay_ms:g} ms", **figures})

    def kinds(self) -> Counter[str]:
        """How many events of each kind."""
        return Counter(kind_of(event) for event in self.events)

    def lines(self) -> Iterator[str]:
        """The whole schedule, readable."""
        end = f"{self.steps} steps" if self.steps is not None else f"{self.stop_s:g} s"
        rate = "no rate limit" if self.rate_bps is None else f"{self.rate_bps / 1e6:g} Mbit/s"
        yield f"seed {self.seed}: {self.method}, {self.world} nodes, {end}, {rate}, {self.delay_ms:g} ms"
        yield f"  settings: {self.settings}"
        if self.jitter_ms:
            yield f"  jitter: {self.jitter_ms:g} ms"
        if self.return_after_s is not None:
            yield f"  lost nodes come back after {self.return_after_s:g} s"
        yield from (f"  {event}" for event in self.events)


def kind_of(event: Event) -> str:
    """The name of a kind of event in tables."""
    match event:
        case AtAwait(fault=fault):
            return f"{kind_of(fault)} at an await"
        case Kill():
            return "kill"
        case Return():
            return "return"
        case Pause():
            return "pause"
        case Corrupt():
            return "corrupt sender"
        case DamageOne():
            return "corrupt message"
        case Drop(again_s=None):
            return "lost message"
        case Drop():
            return "broken stream"
        case Duplicate(again=True):
            return "duplicate"
        case Duplicate():
            return "replay"
        case Hold():
            return "reordering"
        case Cut():
            return "cut"
        case Slow():
            return "delay"
    raise TypeError(f"no event: {event!r}")


def draw(seed: int, method: str | None = None) -> Schedule:
    """The schedule of that seed."""
    random = Random(f"fault search {seed}")
    chosen = random.choice(methods())
    method = chosen if method is None else method
    world = random.choice((3, 4, 4, 5, 5, 6, 8))
    delay_ms, jitter_ms = random.choice(((1.0, 0.0), (5.0, 0.0), (25.0, 0.0), (10.0, 8.0)))
    steps = random.randint(8, 24)
    lasts_s = steps * (PACE_MS + 2 * delay_ms) / 1000
    by_time = random.random() < 0.25
    settings = _settings(method, world, random)
    bare = Schedule(
        seed=seed,
        method=method,
        world=world,
        settings=settings | on_loss_of(method, settings, Random(f"on loss {seed}")),
        rate_bps=random.choice((None, 200_000, 10_000_000)),
        delay_ms=delay_ms,
        jitter_ms=jitter_ms,
        steps=None if by_time else steps,
        stop_s=round(lasts_s, 3) if by_time else None,
        return_after_s=None,
        harmless=random.random() < 0.4,
        events=(),
    )
    if bare.harmless:
        return replace(bare, events=tuple(_harmless(bare, lasts_s, random)))
    returns = _returns(bare)
    after_s = random.choice((None, 0.0, 0.1, 0.5)) if returns else None
    return replace(bare, return_after_s=after_s, events=tuple(_harmful(bare, lasts_s, returns, random)))


def _settings(method: str, world: int, random: Random) -> dict[str, Any]:
    """Settings that fit that many nodes."""
    while True:
        settings = settings_of(method, random)
        exchange: dict[str, Any] = {"segment_bytes": random.choice((8, 32, 65536))}
        if random.random() < 0.5:
            exchange["pipe_bytes"] = 16
        settings["exchange"] = exchange
        try:
            config = NodeConfig.model_validate({"run": "drawn", "data": {"image_size": IMAGE_SIDE}, **settings})
            for part in parts_of(config, ("generator", "discriminator")).values() or [config]:
                part.algorithm.traits.check_topology(Topology(part.topology, world))
        except ValueError:  # a hypercube of five nodes, two minibatches for two workers
            continue
        return settings


def _returns(schedule: Schedule) -> bool:
    if schedule.config.on_loss in ("reform", "stop"):
        return False
    try:
        check_returns(schedule.config)
    except ValueError:
        return False
    return True


def _edges(schedule: Schedule) -> list[Edge]:
    """Directed links that carry messages while no node is lost; without any, all."""
    pairs = permutations(range(schedule.world), 2)
    config = schedule.config.model_copy(update={"on_loss": None})
    return [(a, b) for a, b in exchange_edges(config, schedule.world) or pairs]


def _harmless(schedule: Schedule, lasts_s: float, random: Random) -> Iterator[Event]:
    left_s, edges = _HARMLESS_S, _edges(schedule)
    for _ in range(random.randint(1, 8)):
        source, to = random.choice(edges)
        at_s = round(random.uniform(0, lasts_s), 4)
        later_s = round(random.uniform(0, left_s / 2), 4)
        kind = random.choice(("drop", "hold", "again", "replay", "pause", "await", "slow"))
        match kind:
            case "drop":
                yield Drop(source, to, at_s, again_s=later_s)
            case "hold":
                yield Hold(source, to, at_s, later_s)
            case "again" | "replay":
                yield Duplicate(source, to, at_s, later_s, again=kind == "again")
                continue
            case "pause":
                yield Pause(source, at_s, later_s)
            case "await":
                yield AtAwait(source, _await(schedule, random), Pause(source, 0.0, later_s))
            case "slow":
                yield Slow(at_s, later_s, schedule.delay_ms + 1000 * min(later_s, 0.03))
        left_s -= later_s


def _harmful(schedule: Schedule, lasts_s: float, returns: bool, random: Random) -> Iterator[Event]:
    config = schedule.config
    codecs = tuple(str(part.codec) for part in parts_of(config, ("generator", "discriminator")).values())
    codecs = codecs or (str(config.codec),)
    ways = [way for way in WAYS if not (config.asynchronous and "of a round" in way)]
    harmful = ("kill", "kill", "await", "await", "pause", "lose", "damage", "damage", "corrupt", "cut", "return")
    edges = _edges(schedule)
    for number in range(random.randint(1, 7)):
        source, to = random.choice(edges)
        at_s = round(random.uniform(0, lasts_s), 4)
        match random.choice(harmful) if number == 0 or random.random() < 0.7 else "harmless":
            case "kill":
                yield Kill(source, at_s, notice_s=random.choice((0.0, 0.0, 0.05, 0.4)))
            case "await":
                at = Kill(source, 0.0, notice_s=random.choice((0.0, 0.0, 0.05, 0.4)))
                yield AtAwait(source, _await(schedule, random), at)
            case "pause":
                yield Pause(source, at_s, round(random.uniform(0, 3 * PATIENCE_S), 3))
            case "lose":
                yield Drop(source, to, at_s, again_s=None)
            case "damage":
                yield DamageOne(source, to, at_s, Damaged(random.choice(ways), codecs))
            case "corrupt":
                yield Corrupt(source, at_s, Damaged(random.choice(ways), codecs))
            case "cut":
                yield _cut(schedule, at_s, random)
            case "return" if returns:
                yield Return(source, at_s)
            case _:
                yield from list(_harmless(schedule, lasts_s, random))[:2]


def _await(schedule: Schedule, random: Random) -> int:
    """An await of the run: early ones as often as late ones, relative to their number."""
    return int(2 ** random.uniform(0, 8))


def _cut(schedule: Schedule, at_s: float, random: Random) -> Cut:
    ranks = random.sample(range(schedule.world), schedule.world)
    split = random.randint(1, schedule.world - 1)
    there: list[Edge] = [(a, b) for a in ranks[:split] for b in ranks[split:]]
    both = [edge for a, b in there for edge in ((a, b), (b, a))]
    edges = random.choice((both, both, there, [random.choice(there)]))  # a partition, one way, a single link
    return Cut(at_s, round(random.uniform(0.01, 2 * ROUND_DEADLINE_S), 3), tuple(edges))
