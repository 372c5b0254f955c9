"""Writes rates and traces in Mahimahi's format, and the command that gives a program such a link.

A line is a millisecond at which an IP packet of 1500 bytes, here a frame of 1514, may pass; the last one is the
length, after which the file starts over. The inverse of gannet.netem.links.trace_mahimahi, but for what the format
cannot hold: whole packets and whole milliseconds. A file's packets are those of its rates to within one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

from gannet.netem.exports.paths import Exported, ExportError, directed_paths, held_links, losses_of_figures
from gannet.netem.links.plan import FRAME_BYTES, InterfacePlan
from gannet.netem.links.trace import Trace, Track
from gannet.netem.traces.figures import steps_of

_PACKET_BITS = 8 * FRAME_BYTES
# A constant rate is a file of this length at most: one packet more or less is then 20 ppm of 10 Mbit/s.
_LONGEST_MS = 60_000
_MOST_LINES = 20_000_000
# Not said of a jitter that is left out as a whole.
_OF_JITTER = ("jitter_distribution", "normal", "jitter_order", "jitter_correlation_percent")


def constant(rate_bps: int, where: str = "rate") -> str:
    """A file of a constant rate of frames: the shortest that has it exactly, or 60 s of it to within a packet."""
    per_ms = Fraction(rate_bps, 1000 * _PACKET_BITS)
    length_ms = per_ms.denominator if per_ms.denominator <= _LONGEST_MS else _LONGEST_MS
    if per_ms * length_ms < 1:
        raise ExportError(f"{where}: at {rate_bps} bit/s not one packet passes in a minute")
    return _text([(0, length_ms, rate_bps)], length_ms, where)


def varying(track: Track, field: str, where: str) -> str:
    """A file of one direction of a trace, as long as the trace, to a millisecond."""
    steps = [(round(1000 * a), round(1000 * b), round(rate)) for a, b, rate in steps_of(track, field)]
    return _text(steps, round(1000 * track.duration_s), where)


def _text(steps: Sequence[tuple[int, int, int]], length_ms: int, where: str) -> str:
    packets = sum((end - begin) * rate for begin, end, rate in steps) / (1000 * _PACKET_BITS)
    if packets > _MOST_LINES:
        raise ExportError(f"{where}: {packets:.3g} lines, over {_MOST_LINES}: export a shorter or slower trace")
    if not length_ms or packets < 1:
        raise ExportError(f"{where}: not one packet passes, which Mahimahi does not accept")
    lines = [str(at_ms) for at_ms in _moments(steps)]
    # The last line is the length as well: the last packet may wait for the end of its step.
    if int(lines[-1]) > steps[-1][0]:
        lines[-1] = str(length_ms)
    elif lines[-1] != str(length_ms):
        lines.append(str(length_ms))
    return "\n".join(lines) + "\n"


def _moments(steps: Iterable[tuple[int, int, int]]) -> Iterator[int]:
    """The first millisecond by whose end each packet has passed.

    The first packet after an outage shows where that ends. Rates are rounded to a bit/s, so that the last packet of a
    step may be due a moment after it: it still passes within it.
    """
    unit = 1000 * _PACKET_BITS
    slack = unit // 10
    sent, due = 0, unit  # bits times 1000, from the beginning
    out = False
    for begin_ms, end_ms, rate_bps in steps:
        after = sent + (end_ms - begin_ms) * rate_bps
        while rate_bps and due <= after + slack:
            yield begin_ms + 1 if out else max(begin_ms + 1, min(end_ms, begin_ms - (sent - due) // rate_bps))
            out = False
            due += unit
        out = out or not rate_bps
        sent = after


def export_trace(trace: Trace) -> Exported:
    """NAME.down and NAME.up of a trace that has rates; raises ExportError for one without."""
    tracks = {"down": trace.tracks[0], "up": trace.up or trace.tracks[0]}
    present = [way for way in tracks if trace.touches(f"{way}_bps")]
    if not present:
        raise ExportError(f"{trace.name}: has no rates, and Mahimahi's files hold nothing else")
    notes = [
        f"{field} of the trace {trace.name}: left out (Mahimahi's files hold rates alone)"
        for field in ("delay_ms", "loss_percent")
        if trace.touches(field)
    ]
    notes += [] if trace.loop else [f"trace {trace.name} ends once replayed; Mahimahi starts every file over"]
    if trace.has_outage and trace.outages == "drop":
        notes.append(f"outages of the trace {trace.name} lose packets; in Mahimahi they wait in the queue")
    files = {f"{trace.name}.{way}": varying(tracks[way], f"{way}_bps", f"{trace.name} ({way})") for way in present}
    for way, track in ((way, tracks[way]) for way in present):
        packets = sum((b - a) * rate for a, b, rate in steps_of(track, f"{way}_bps")) / _PACKET_BITS
        if (extra := len(files[f"{trace.name}.{way}"].splitlines()) - int(packets + 1e-6)) > 0:
            notes.append(f"{trace.name}.{way}: {extra} packet more than the trace, since its last line is its length")
    return Exported(files, tuple(notes))


def export_network(plans: Sequence[InterfacePlan]) -> Exported:
    """For each node its uplink and downlink, and a script that runs a program behind them: `sh node-0.sh COMMAND`.

    A node there talks to the world and not to single peers: paths into a node, and out of it, must be alike. Raises
    ExportError where they are not, or where a link has no rate.
    """
    paths = list(directed_paths(plans))
    files: dict[str, str] = {}
    notes = [*held_links(plans), *losses_of_figures(paths, _OF_JITTER)]
    for rank, plan in enumerate(plans):
        for way, rate_bps in (("up", plan.up_bps), ("down", plan.down_bps)):
            if rate_bps is None:
                raise ExportError(f"node {rank} has no limit of its {way} rate, and mm-link needs one: give it one")
            files[f"node-{rank}.{way}"] = constant(rate_bps, f"node {rank}, {way}")
        into = {(path.figures.delay_ms, path.figures.any_loss_percent) for path in paths if path.dst == rank}
        out = {(path.figures.delay_ms, path.figures.any_loss_percent) for path in paths if path.src == rank}
        if plan.limits or plan.shared_in or len(into) > 1 or len(out) > 1:
            raise ExportError(
                f"links of node {rank} differ by peer, and a shell of Mahimahi has one link: export with "
                "tc or tcconfig"
            )
        [(in_ms, in_loss)], [(out_ms, out_loss)] = into or {(0.0, 0.0)}, out or {(0.0, 0.0)}
        # mm-delay holds packets of both directions, whole milliseconds.
        delay_ms = round((in_ms + out_ms) / 2)
        if in_ms != out_ms or delay_ms != in_ms:
            notes.append(
                f"node {rank}: delays of {out_ms:g} ms out and {in_ms:g} ms in become {delay_ms} ms each way"
            )
        shells = [f"mm-delay {delay_ms}"] if delay_ms else []
        shells += [f"mm-loss {way} {loss / 100:.9g}" for way, loss in (("uplink", out_loss), ("downlink", in_loss))
                   if loss]  # fmt: skip
        shells.append(f'mm-link "$here/node-{rank}.up" "$here/node-{rank}.down" {_queue(plan)}')
        lines = ["#!/bin/sh", "# Runs a command, or a shell, behind this node's links.", 'here=$(dirname "$0")']
        files[f"node-{rank}.sh"] = "\n".join([*lines, f'exec {" ".join(shells)} -- "$@"', ""])
    if any(plan.queue not in ("fifo", "codel") for plan in plans):
        notes.append("queue: Mahimahi has none of this kind here; droptail in its place")
    return Exported(files, tuple(notes))


def _queue(plan: InterfacePlan) -> str:
    words = []
    for way, size, packets in (
        ("uplink", plan.buffer_bytes_up, plan.buffer_packets_up),
        ("downlink", plan.buffer_bytes_down, plan.buffer_packets_down),
    ):
        limit = f"bytes={size}" if packets is None else f"packets={packets}"
        if plan.queue == "codel":
            limit = f"packets={max(2, size // FRAME_BYTES) if packets is None else packets},target=5,interval=100"
        kind = "codel" if plan.queue == "codel" else "droptail"
        words.append(f"--{way}-queue={kind} --{way}-queue-args={limit}")
    return " ".join(words)
