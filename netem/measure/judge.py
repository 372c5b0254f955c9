"""Compares probe results with the plan of a link. Pure; see gannet.netem.measure.intervals for the methods.

A figure is out of tolerance when its whole confidence interval lies outside what gannet.netem.measure.tolerances
allows around the plan. So a link that is as planned is condemned with a probability of at most 1 − confidence per
figure, and a wrong one passes only if the sample cannot tell it from a right one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite, sqrt
from statistics import stdev
from typing import Any

from gannet.netem.links import jitter
from gannet.netem.links.plan import FRAME_BYTES, PathPlan
from gannet.netem.measure.certificate import EdgeResult
from gannet.netem.measure.intervals import (
    burst_inflation,
    burst_packets,
    mean_interval,
    quantile,
    quantile_interval,
    share_is_plausible,
    wilson_interval,
)
from gannet.netem.measure.probe_plan import draw_s
from gannet.netem.measure.tolerances import TOLERANCES, Tolerances

# Corrupt packets arrive if no checksum covers the flipped bit (Ethernet's addresses in a small frame).
_CORRUPT_CAUGHT = 0.8
# The length of loss bursts is geometric only where the bad state loses everything.
_BURST_SLACK = 0.15
_LEAST_BURSTS = 5
# A train must have this many frames in flight while one skips the delay, or there is nothing to overtake.
_OVERTAKEN_FRAMES = 3
# The extremes are shown; a few dozen delays can miss those bounds only upwards, so the quartiles are judged too.
_JUDGED_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Order:
    """The plan of a directed link: `path` there and `back` on the opposite link.

    `two_clocks`: its ends do not share a clock. Then a delay is the round trip less the planned way back, and two
    opposite links whose faults cancel out go unnoticed. `gentle`: a train loses nothing to queues.
    """

    expected: EdgeResult
    path: PathPlan
    back: PathPlan
    two_clocks: bool = False
    gentle: bool = True
    echo_interval_s: float = inf


def path_quantile_ms(path: PathPlan, share: float, spread: float = 1.0) -> float:
    """The planned quantile of a path's one-way delay; `spread` scales the jitter. No delay is below zero."""
    jitter_ms = spread * path.jitter_ms
    return max(0.0, path.delay_ms + jitter_ms * jitter.quantile(path.jitter_distribution, share))


def judge_edge(
    order: Order,
    echoes: Mapping[str, Any],
    train: Mapping[str, Any],
    confidence: float | None = None,
    tolerances: Tolerances = TOLERANCES,
    load: Mapping[str, Any] | None = None,
) -> EdgeResult:
    """Compare the answers of measure_delay and measure_rate (gannet.netem.agent.probe) with a link's plan.

    `confidence`: of the judging intervals; by default that of a first look. `load`: the answer for a train that took
    half of the link's rate for `load_s`.
    """
    confidence = tolerances.loss_confidence if confidence is None else confidence
    result, reasons = _judge_delay(order, echoes, confidence, tolerances)
    if load is not None:
        result, more = _judge_load(order, result, echoes, load, confidence, tolerances)
        reasons += more
    result, more = _judge_rate(order, result, train, confidence, tolerances)
    reasons += more
    result, more = _judge_fates(order, result, echoes, train, confidence, tolerances)
    reasons += more
    return replace(result, ok=not reasons, reasons=tuple(reasons), from_round_trip=order.two_clocks)


def one_way_delays_ms(order: Order, echoes: Mapping[str, Any]) -> list[float]:
    """Sorted one-way delays of the echoes that did not skip the delay, ms.

    With two clocks they spread as the arrival stamps do, around the median round trip less the planned way back.
    """
    shift_ms = _clocks_apart_ms(order, echoes)
    return _not_skipped(order, [delay_ms + shift_ms for delay_ms in echoes["one_way_ms"]])


def _clocks_apart_ms(order: Order, echoes: Mapping[str, Any]) -> float:
    """What to add to one-way delays for the difference of two clocks."""
    if not order.two_clocks or not echoes["rtt_ms"]:
        return 0.0
    middle_ms = quantile(sorted(echoes["rtt_ms"]), 0.5) - path_quantile_ms(order.back, 0.5)
    return middle_ms - quantile(sorted(echoes["one_way_ms"]), 0.5)


def _not_skipped(order: Order, one_way_ms: Sequence[float]) -> list[float]:
    least_ms = order.path.delay_ms / 2 if order.path.reorder_percent else -inf
    return sorted(delay_ms for delay_ms in one_way_ms if delay_ms >= least_ms)


def allowed_delay_ms(order: Order, tolerances: Tolerances = TOLERANCES) -> float:
    """The allowed deviation of a link's median delay from its plan, ms."""
    paths = (order.path, order.back) if order.two_clocks else (order.path,)
    return sum(
        max(tolerances.delay_ms, tolerances.delay_share * path.delay_ms) + tolerances.jitter_share * path.jitter_ms
        for path in paths
    )


def _judge_delay(
    order: Order, echoes: Mapping[str, Any], confidence: float, tolerances: Tolerances
) -> tuple[EdgeResult, list[str]]:
    one_way_ms = one_way_delays_ms(order, echoes)
    if not one_way_ms:
        survival = passing_share(order.path) * passing_share(order.back)
        unlikely = (1 - survival) ** echoes["sent"] <= 1 - confidence
        return order.expected, [f"none of {echoes['sent']} delay probes came back"] if unlikely else []
    path, allowed_ms = order.path, allowed_delay_ms(order, tolerances)
    correlation = path.jitter_correlation_percent / 100
    # Correlated neighbours carry less information, and they also spread less.
    worth = (1 - correlation) / (1 + correlation)

    def counted(share: float) -> float:
        """Echoes that come too soon for another delay do not tell more."""
        apart_s = draw_s(path, share)
        return min(worth, order.echo_interval_s / apart_s) if apart_s else worth

    found = {share: quantile(one_way_ms, share) for share in _JUDGED_QUANTILES}
    outside = []
    for share in found:
        low_ms, high_ms = quantile_interval(one_way_ms, share, confidence, counted(share))
        planned = sorted(path_quantile_ms(path, share, spread) for spread in (1.0, sqrt(worth)))
        tail_ms = tolerances.tail_ms if share > 0.5 else 0.0
        if high_ms < planned[0] - allowed_ms or low_ms > planned[1] + allowed_ms + tail_ms:
            outside.append(share)
    reasons = []
    how = ", by the round trip" if order.two_clocks else ""
    if 0.5 in outside:
        planned_ms = path_quantile_ms(path, 0.5)
        reasons = [f"one-way delay {found[0.5]:.2f} ms{how}, not {planned_ms:g} ms (± {allowed_ms:.2g} ms)"]
    elif outside:
        ends = " to ".join(f"{path_quantile_ms(path, share):.4g}" for share in (0.05, 0.95))
        reasons = [f"9 of 10 delays from {found[0.05]:.2f} to {found[0.95]:.2f} ms{how}, not {ends} ms"]
    interval = quantile_interval(one_way_ms, 0.5, 0.95, counted(0.5))
    measured = replace(
        order.expected,
        delay_p5_ms=found[0.05],
        delay_p50_ms=found[0.5],
        delay_p95_ms=found[0.95],
        delay_deviation_ms=stdev(one_way_ms) if len(one_way_ms) > 1 else None,
        delay_interval_ms=interval if all(map(isfinite, interval)) else None,
        delay_samples=len(one_way_ms),
        rtt_p50_ms=quantile(sorted(echoes["rtt_ms"]), 0.5),
    )
    return measured, reasons


def _judge_load(
    order: Order,
    result: EdgeResult,
    echoes: Mapping[str, Any],
    load: Mapping[str, Any],
    confidence: float,
    tolerances: Tolerances,
) -> tuple[EdgeResult, list[str]]:
    """Judge the delays of full frames at half of the link's rate: they must be those of echoes on the idle link.

    So many frames more than the machine has time for may be late, in the upper tail and elsewhere.
    """
    shift_ms = _clocks_apart_ms(order, echoes)
    one_way_ms = _not_skipped(order, [delay_ms + shift_ms for delay_ms in load["one_way_ms"]])
    if not one_way_ms:
        return result, []  # how many are lost is judged by others
    path = order.path
    allowed_ms, found_ms, outside = allowed_delay_ms(order, tolerances), quantile(one_way_ms, 0.5), []
    for share in (0.25, 0.5, 0.75):
        draws = min(load["received"], load["load_s"] / (draw_s(path, share) or 1e-9))
        worth = min(1.0, draws / len(one_way_ms))
        low_ms, high_ms = quantile_interval(one_way_ms, share, confidence, worth)
        planned_ms = path_quantile_ms(path, share)
        if high_ms < planned_ms - allowed_ms or low_ms > planned_ms + allowed_ms + tolerances.tail_ms:
            outside.append(share)
    reasons = []
    how = "under load, by the round trip" if order.two_clocks else "under load"
    if 0.5 in outside:
        planned_ms = path_quantile_ms(path, 0.5)
        reasons = [f"one-way delay {found_ms:.2f} ms {how}, not {planned_ms:g} ms (± {allowed_ms:.2g} ms)"]
    elif outside:
        ends = " to ".join(f"{path_quantile_ms(path, share):.4g}" for share in (0.25, 0.75))
        found = " to ".join(f"{quantile(one_way_ms, share):.2f}" for share in (0.25, 0.75))
        reasons = [f"half of the delays from {found} ms {how}, not {ends} ms"]
    return replace(result, loaded_delay_p50_ms=found_ms), reasons


def _judge_rate(
    order: Order, result: EdgeResult, train: Mapping[str, Any], confidence: float, tolerances: Tolerances
) -> tuple[EdgeResult, list[str]]:
    """Judge the rate. Losses thin a train out after the bottleneck, so its rate is divided by the planned survival.

    Bursts of loss come and go by chance within one train: there the rate is that within the runs without a loss.
    """
    passing, bursty = passing_share(order.path), order.path.bursts is not None
    scale = 1.0 if bursty else 1 / max(1e-9, passing)
    found = train["run_rate_bps"] if bursty else train["rate_bps"]
    measured_bps = found and found * scale
    # Blocks hold equally many frames, so their durations are averaged, not their rates: the block after a momentary
    # delay makes up for it, and its rate has no bound. Scaled to the rate, the half-width is the same share of it.
    times_s = [1 / rate for rate in train.get("rates_bps", ())]
    interval = None
    if measured_bps and not bursty and (found_s := mean_interval(times_s)) is not None:
        half_bps = measured_bps * (found_s[1] - found_s[0]) / sum(found_s)
        interval = (max(0.0, measured_bps - half_bps), measured_bps + half_bps)
    result = replace(result, measured_rate_bps=measured_bps, rate_interval_bps=interval)
    planned_bps, reasons = order.expected.expected_rate_bps, []
    if planned_bps is not None and passing > 0:
        if measured_bps is None:
            if (1 - passing) ** train["sent"] <= 1 - confidence:
                reasons.append(f"{train['received']} of {train['sent']} packets arrived: too few to measure a rate")
        else:
            wide_s = mean_interval(times_s, 0.99)
            unsure = 0.0 if wide_s is None else (wide_s[1] - wide_s[0]) / sum(wide_s)
            found_amiss = rate_reasons(measured_bps, planned_bps, unsure, tolerances.rate_share)
            offered_bps = train.get("offered_bps", inf)
            if found_amiss and measured_bps < planned_bps and offered_bps < (1 - tolerances.rate_share) * planned_bps:
                found_amiss = [f"{found_amiss[0]}; the sender offered {offered_bps / 1e6:.4g}: it had too little CPU"]
            reasons += found_amiss
    return result, reasons


def rate_reasons(measured_bps: float, planned_bps: float, unsure: float, allowed: float) -> list[str]:
    """The complaint about a rate; its uncertainty, as a share, counts in its favour, but never more than allowed."""
    if abs(measured_bps / planned_bps - 1) <= allowed + min(allowed, unsure):
        return []
    return [f"rate {measured_bps / 1e6:.4g} Mbit/s, not {planned_bps / 1e6:.4g} Mbit/s (± {allowed:.0%})"]


def passing_share(path: PathPlan) -> float:
    """The share of packets that arrive whole."""
    return (1 - path.any_loss_percent / 100) * (1 - path.corrupt_percent / 100)


def _judge_fates(
    order: Order,
    result: EdgeResult,
    echoes: Mapping[str, Any],
    train: Mapping[str, Any],
    confidence: float,
    tolerances: Tolerances,
) -> tuple[EdgeResult, list[str]]:
    """Judge packets lost, duplicated or out of order, of the echoes (by the far end's account) and of the train."""
    path, reasons = order.path, []
    capped = order.expected.expected_rate_bps is not None
    counted = [echoes] if "received" in echoes else []
    gentle = [train] if capped and order.gentle else []
    sent = sum(part["sent"] for part in (*counted, *gentle))
    lost = sent - sum(part["received"] for part in (*counted, *gentle))
    open_share = 1 - path.any_loss_percent / 100
    other = 1 - path.loss_percent / 100
    inflation = burst_inflation(path.bursts, sent, other) if path.bursts is not None else 1.0
    if sent:
        low = 1 - open_share * (1 - _CORRUPT_CAUGHT * path.corrupt_percent / 100)
        if not share_is_plausible(sent, lost, low, 1 - passing_share(path), confidence, inflation):
            reasons.append(f"lost {lost} of {sent} packets, not {100 - 100 * passing_share(path):g}%")
        share = wilson_interval(lost / inflation, sent / inflation)
        result = replace(
            result,
            loss_percent=100 * lost / sent,
            loss_interval_percent=(100 * share[0], 100 * share[1]),
            loss_samples=sent,
        )
    if path.bursts is not None:
        planned = burst_packets(path.bursts, other)
        missing, bursts = train["sent"] - train["received"], train["bursts"]
        result = replace(
            result,
            expected_burst_packets=planned,
            burst_packets=missing / bursts if gentle and bursts else None,
        )
        # Each lost packet is the last of its burst with probability 1 / mean length.
        ends = (1 - _BURST_SLACK) / planned, min(1.0, (1 + _BURST_SLACK) / planned)
        told = bool(gentle) and bursts >= _LEAST_BURSTS and not path.corrupt_percent
        if told and not share_is_plausible(missing, bursts, *ends, confidence):
            reasons.append(f"bursts of {missing / bursts:.3g} lost packets on average, not {planned:.3g}")
    arrived = [part for part in (*counted, train) if part["received"]]
    unique = sum(part["received"] for part in arrived)
    if unique:
        doubled = sum(part["duplicates"] for part in arrived)
        most = path.duplicate_percent / 100
        # A copy may be lost by itself, and so may its original, depending on the engine.
        if not share_is_plausible(unique, doubled, 0.9 * most * open_share, most, confidence):
            reasons.append(f"{doubled} of {unique} packets came twice, not {path.duplicate_percent:g}%")
        result = replace(result, duplicate_percent=100 * doubled / unique)
    spaced = [(train, 8000 * FRAME_BYTES / (order.expected.expected_rate_bps or inf))]
    spaced += [(part, 1000 * order.echo_interval_s) for part in counted]
    spoken = [
        part
        for part, apart_ms in spaced
        if part["received"]
        and not path.reorders
        and (not path.reorder_percent or path.delay_ms > _OVERTAKEN_FRAMES * apart_ms > 0)
    ]
    if unique := sum(part["received"] for part in spoken):
        overtook, planned_share = sum(part["overtakers"] for part in spoken), path.reorder_percent / 100
        slack = tolerances.reorder_share + planned_share / 10
        if not share_is_plausible(
            unique, overtook, max(0.0, planned_share - slack), planned_share + slack, confidence
        ):
            reasons.append(f"{overtook} of {unique} packets overtook another, not {path.reorder_percent:g}%")
        result = replace(result, reordered_percent=100 * overtook / unique)
    return result, reasons
