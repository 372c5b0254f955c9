"""Deadlines of an exchange, computed from the links that it must cross."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from math import inf, sqrt

from gannet.fabrics.tcp_model import frame_bytes
from gannet.netem.links.plan import InterfacePlan
from gannet.node.algorithms.collectives import SEGMENTS_AHEAD
from gannet.node.config import ExchangeConfig

# How much slower than the plan a link may be before a silent peer counts as dead: TCP recovers losses and shares
# queues, and a false alarm costs a peer, while a late one costs only seconds.
_PATIENCE = 5.0
_CUT_PATIENCE = 2.0  # TCP, whose timer doubles, may take as long as a cut lasted to notice that it has ended
LONGEST_BACKOFF_S = 120.0  # TCP_RTO_MAX of Linux
_LIVE_ROUND_S = 600.0  # how long an operator may cut links before nodes give each other up
# By rate (below so many bit/s): each message has a cost of its own, so that few are sent where bytes are cheap.
_CHUNKS = ((5e7, 1 << 16), (5e8, 1 << 18), (inf, 1 << 20))
_CHUNK_S = 0.05  # a chunk takes at most this long on its link, so that control and acknowledgements get in

# A node reports that it is ready by this much more than a round trip in advance: handling messages takes time.
_TURN_SLACK_S = 0.01

# A node's cost of handling one more segment, in seconds of work that the link does not hide.
_SEGMENT_COST_S = 2e-4
_SMALLEST_SEGMENT_BYTES, _LARGEST_SEGMENT_BYTES = 10240, 1 << 20


def exchange_config(
    message_bytes: int,
    world: int,
    rate_bps: float | None,
    delay_ms: float,
    loss_percent: float,
    compute_s: float,
    cut_s: float = 0.0,
) -> ExchangeConfig:
    """Limits for messages of `message_bytes` among `world` nodes.

    `rate_bps`, `delay_ms` (one way, jitter included) and `loss_percent` are those of the worst link the run will see;
    `compute_s` is the longest that a peer may be busy with gradients between two exchanges. `cut_s`: for how long
    links may be cut during an exchange. No peer is judged during a cut, so patience does not grow with it.
    """
    rate, delay_s = rate_bps or 1e10, delay_ms / 1000
    chunk = next(size for up_to_bps, size in _CHUNKS if rate < up_to_bps)
    chunk = int(max(8192, min(chunk, rate / 8 * _CHUNK_S)))
    # The busiest node of any method (the star's server) carries world − 1 copies each way.
    bits, flight_s = _exchange_bits(message_bytes, world), 4 * world * delay_s
    wait_s = _CUT_PATIENCE * cut_s
    patience_s = 10 + compute_s + _PATIENCE * (bits / lossy_rate_bps(rate, delay_s, loss_percent) + flight_s)
    return ExchangeConfig(
        chunk_bytes=chunk,
        segment_bytes=segment_bytes(message_bytes, world, rate, delay_s),
        chunk_deadline_s=1.5 * patience_s + wait_s,
        patience_s=patience_s,
        round_deadline_s=2 * patience_s + wait_s,
        liveness_s=4 * patience_s + 2 * wait_s,
    )


def _exchange_bits(message_bytes: int, world: int) -> int:
    return 2 * world * message_bytes * 8


def limits_of(plans: Iterable[InterfacePlan], message_bytes: int, world: int, compute_s: float) -> ExchangeConfig:
    """The limits for the worst link among these plans. A cut link does not count: it says nothing about how long a
    message takes.
    """
    rate_bps, delay_ms, loss_percent = _worst(plans)
    return exchange_config(message_bytes, world, rate_bps, delay_ms, loss_percent, compute_s)


def _worst(plans: Iterable[InterfacePlan]) -> tuple[float, float, float]:
    """The slowest rate (bit/s), the longest delay with its jitter (ms), and the most loss (percent), cuts aside."""
    plans = list(plans)
    rates = [rate for plan in plans for rate in plan.rates_bps()]
    paths = [path for plan in plans for path in plan.paths.values()]
    delay_ms = max((path.delay_ms + path.jitter_ms for path in paths), default=0.0)
    losses = (path.any_loss_percent for path in paths if path.loss_percent < 100)
    return min(rates, default=1e10), delay_ms, max(losses, default=0.0)


def with_turns(
    limits: ExchangeConfig,
    states: Iterable[tuple[float, Sequence[InterfacePlan]]],
    message_bytes: int,
    compute_s: float,
    encrypted: bool = False,
) -> ExchangeConfig:
    """The limits, and how gossip on graphs that change takes turns (see gannet.node.exchange.turn_rule); `states` as
    in limits_over_time.

    A message that the fastest link can send within twice the longest delay does not wait for its turn: waiting for
    the news would cost more than the turn saves. A turn is given up when the slowest link has had time for two
    messages, and well before any peer that waits for a held message would lose patience.
    """
    pipe_bytes, turn_s = 0.0, 0.0
    for _, plans in states:
        rate_bps, delay_ms, loss_percent = _worst(plans)
        up_bps = max(1e10 if plan.up_bps is None else plan.up_bps for plan in plans)
        down_bps = max(1e10 if plan.down_bps is None else plan.down_bps for plan in plans)
        delay_s = delay_ms / 1000
        frames = min(up_bps, down_bps) / 8 * (2 * delay_s + _TURN_SLACK_S)
        pipe_bytes = max(pipe_bytes, frames * 1e6 / frame_bytes(1e6, 1, encrypted))
        message_s = 8 * message_bytes / lossy_rate_bps(rate_bps, delay_s, loss_percent)
        turn_s = max(turn_s, compute_s + 2 * (message_s + 2 * delay_s))
    turn_s = min(turn_s, limits.patience_s / 2)
    return limits.model_copy(update={"pipe_bytes": max(1, int(pipe_bytes)), "turn_s": max(turn_s, 0.001)})


def is_cut(plans: Iterable[InterfacePlan]) -> bool:
    """Whether any link carries nothing: it is cut, or held in an outage."""
    return any(
        plan.up_held or plan.down_held or any(path.loss_percent == 100 for path in plan.paths.values())
        for plan in plans
    )


def limits_over_time(
    states: Sequence[tuple[float, Sequence[InterfacePlan]]], message_bytes: int, world: int, compute_s: float
) -> ExchangeConfig:
    """The limits where links change on schedule; `states`: from when (s), and the plans that then apply.

    The limits allow for the longest exchange, whenever it begins: a link that is slow for a moment delays it by a
    moment. The last state is permanent.
    """
    if len(states) == 1:
        return limits_of(states[0][1], message_bytes, world, compute_s)
    every = [_worst(plans) for _, plans in states]
    times = [at_s for at_s, _ in states]
    rates = [lossy_rate_bps(rate, delay_ms / 1000, loss_percent) for rate, delay_ms, loss_percent in every]
    cut = [is_cut(plans) for _, plans in states]
    bits = _exchange_bits(message_bytes, world)
    open_s = longest_transfer_s(times, rates, bits)
    running = [0.0 if down else rate for rate, down in zip(rates, [*cut[:-1], False], strict=True)]
    cut_s = longest_transfer_s(times, running, bits) - open_s
    delay_ms = max(delay_ms for _, delay_ms, _ in every)
    rate = min(1e10, bits / open_s) if open_s > 0 else 1e10
    return exchange_config(message_bytes, world, rate, delay_ms, 0.0, compute_s, max(0.0, cut_s))


def longest_transfer_s(times_s: Sequence[float], rates_bps: Sequence[float], bits: float) -> float:
    """The longest transfer of these bits, whenever it begins; `rates_bps[i]` from `times_s[i]` on, the last > 0.

    The longest transfer begins or ends where a rate changes: in between, its duration changes linearly.
    """
    carried = [0.0]
    for number in range(1, len(times_s)):
        carried.append(carried[-1] + rates_bps[number - 1] * (times_s[number] - times_s[number - 1]))

    def when(total: float, late: bool) -> float:
        """The first moment, or the last, at which `total` bits have been carried."""
        place = (bisect_right if late else bisect_left)(carried, total)
        if place < len(carried) and carried[place] == total:
            return times_s[place]
        place = max(0, place - 1)
        return times_s[place] + (total - carried[place]) / rates_bps[place] if rates_bps[place] else times_s[place]

    longest_s = 0.0
    for begin_s, before in zip(times_s, carried, strict=True):
        longest_s = max(longest_s, when(before + bits, late=False) - begin_s)
        if before >= bits:
            longest_s = max(longest_s, begin_s - when(before - bits, late=True))
    return longest_s


def with_room_for_operators(limits: ExchangeConfig) -> ExchangeConfig:
    """The limits where links may be changed by hand, to slower ones than any in the spec, or cut for a while.

    `patience_s` stays, since it only says when a node's peers begin to suspect it; whether it hangs is judged by the
    applied links (see gannet.fabrics.session.session).
    """
    return limits.model_copy(
        update={
            "chunk_deadline_s": max(limits.chunk_deadline_s, _LIVE_ROUND_S / 2),
            "round_deadline_s": max(limits.round_deadline_s, _LIVE_ROUND_S),
            "liveness_s": max(limits.liveness_s, 1.5 * _LIVE_ROUND_S),
        }
    )


def lossy_rate_bps(rate_bps: float, delay_s: float, loss_percent: float) -> float:
    """TCP's throughput over a link that loses packets: MSS · √1.5 ÷ (RTT · √p) (Mathis et al. 1997), bit/s."""
    if loss_percent <= 0 or delay_s <= 0:
        return rate_bps
    return min(rate_bps, 8 * 1448 * sqrt(1.5) / (2 * delay_s * sqrt(loss_percent / 100)))


def segment_bytes(message_bytes: int, world: int, rate_bps: float, delay_s: float) -> int:
    """Size of the segments that collectives cut a message of `message_bytes` into.

    The last segment travels alone, so small segments are better, but each segment costs work: the sum s ÷ rate + cost
    · message ÷ s is least at s = √(cost · message · rate). However, SEGMENTS_AHEAD segments, three being handled and
    the others in flight, must fill a worker's share of the path to a server and back.
    """
    bytes_per_s = rate_bps / 8
    best = sqrt(_SEGMENT_COST_S * message_bytes * bytes_per_s)
    filling = bytes_per_s * 2 * delay_s / max(1, world - 1) / (SEGMENTS_AHEAD - 3)
    return int(min(_LARGEST_SEGMENT_BYTES, max(_SMALLEST_SEGMENT_BYTES, best, filling)))
