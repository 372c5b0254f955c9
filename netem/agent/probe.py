"""Measures paths from user space, as training will use them: one-way delay by UDP echo, rate by a UDP train.

The network namespaces of one machine share CLOCK_MONOTONIC, so a packet's one-way delay is its arrival
stamp minus its departure stamp. (`ping` would not do: the kernel stamps its replies before the ingress
queues.) Two machines have two clocks: there, only round trips mean anything (see gannet.netem.measure.certify). The
rate is that of frames as they cross the link: at an MTU of 1500, a full UDP packet is 1472 bytes of payload, 8 of
UDP, 20 of IP and 14 of Ethernet, 1514 in all, which is what the kernel's token buckets count; a TCP stream over the
same link carries 1448 bytes of payload per frame, 95.6% of the rate measured here.

The answering side records every arrival, so that losses, duplicates and reordering on the way there can be told apart
from those on the way back (see gannet.netem.agent.arrivals).
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from array import array
from collections.abc import Sequence
from contextlib import suppress
from struct import Struct
from time import monotonic_ns
from typing import Any

from gannet.netem.agent.arrivals import arrival_report
from gannet.netem.child import Answers
from gannet.netem.process import die_with_parent, precise_timers, raise_priority, widen_receive_buffer

PORT = 7711
_UDP_IP_BYTES, _ETHERNET_BYTES = 28, 14
_IP_MTU = 14
_SOL_UDP, _UDP_SEGMENT, _UDP_GRO = 17, 103, 104
_BUFFER_BYTES = 16 << 20
ECHO, REPLY, _TRAIN, _REPORT = 1, 2, 3, 4
# kind, run, sequence number, then: departure ns (of a report: packets sent), arrival ns (of a train: payload bytes;
# of a report: ns of a bin, or 0).
HEADER = Struct("!BxxxIIQQ")
_ARRIVALS_KEPT = 300_000
# A report, or the request for it, may be lost as well: the request is repeated at this interval until time is up.
_ATTEMPTS = 12
# A train that was held up catches up by at most this many packets, or it would overflow a queue.
_CATCH_UP = 8
# A train's one-way delays are reported as so many quantiles, evenly spaced, the extremes among them.
_DELAYS_TOLD = 41


def _socket(address: str, port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    widen_receive_buffer(sock, _BUFFER_BYTES)
    sock.bind((address, port))
    return sock


class _Account:
    """The arrivals of the probes that this server has seen, by run; the oldest are forgotten."""

    def __init__(self) -> None:
        # Payload bytes of a frame, ns, numbers, ns on the way.
        self.runs: dict[int, tuple[int, array[int], array[int], array[int]]] = {}
        self.kept = 0
        self._said: tuple[tuple[int, int, int, int], dict[str, Any]] | None = None

    def add(self, run: int, payload_bytes: int, at_ns: int, number: int, left_ns: int) -> None:
        found = self.runs.get(run)
        if found is None:
            found = self.runs[run] = (payload_bytes, array("q"), array("q"), array("q"))
        found[1].append(at_ns)
        found[2].append(number)
        found[3].append(at_ns - left_ns)
        self.kept += 1
        while self.kept > _ARRIVALS_KEPT and len(self.runs) > 1:
            self.kept -= len(self.runs.pop(next(iter(self.runs)))[1])

    def report(self, run: int, sent: int, bin_ns: int) -> dict[str, Any]:
        payload_bytes, times_ns, numbers, ways_ns = self.runs.get(run, (0, *3 * (array("q"),)))
        asked = run, sent, bin_ns, len(numbers)
        if self._said is None or self._said[0] != asked:  # a peer that has had no answer asks again
            frame_bytes = payload_bytes + _UDP_IP_BYTES + _ETHERNET_BYTES
            ordered, last = sorted(ways_ns), len(ways_ns) - 1
            told = min(_DELAYS_TOLD, len(ordered))
            ways_ms = [ordered[round(n * last / max(1, told - 1))] / 1e6 for n in range(told)]
            report = arrival_report(times_ns, numbers, sent, frame_bytes, bin_ns or None)
            self._said = asked, {**report, "one_way_ms": ways_ms}
        return self._said[1]


def serve(sock: socket.socket) -> None:
    """Answer echoes with arrival stamps, and requests for a report of what arrived; never returns."""
    sock.setsockopt(_SOL_UDP, _UDP_GRO, 1)
    buffer = bytearray(1 << 16)
    account = _Account()
    while True:
        size, sender = sock.recvfrom_into(buffer)
        now_ns = monotonic_ns()
        if size < HEADER.size:
            continue
        kind, run, number, first, second = HEADER.unpack_from(buffer)
        answer = b""
        if kind == _TRAIN:
            payload_bytes = max(HEADER.size, second)
            for offset in range(0, size - HEADER.size + 1, payload_bytes):  # GRO may have joined several
                account.add(run, payload_bytes, now_ns, HEADER.unpack_from(buffer, offset)[2], first)
        elif kind == ECHO:
            answer = HEADER.pack(REPLY, run, number, first, now_ns)
            account.add(run, HEADER.size, now_ns, number, first)
        elif kind == _REPORT:
            answer = HEADER.pack(_REPORT, run, number, 0, 0) + json.dumps(account.report(run, first, second)).encode()
        if answer:
            with suppress(OSError):  # no way back: the asker will notice
                sock.sendto(answer, sender)


def measure_delays(
    source: str, targets: Sequence[str], count: int, interval_s: float, wait_s: float, port: int = PORT
) -> dict[str, Any]:
    """Echo `count` small packets to each target, `interval_s` apart; wait for the last replies at most `wait_s`.

    Returns for each target's address `sent`, lists of equal length `one_way_ms` (there) and `rtt_ms` (there and
    back) of the packets that came back, and, unless its report was lost, what arrival_report says of the way there.
    """
    run = int.from_bytes(os.urandom(4))
    found: dict[str, dict[str, Any]] = {target: {"sent": count, "one_way_ms": [], "rtt_ms": []} for target in targets}
    replies, sent, total = set[tuple[str, int]](), 0, count * len(targets)
    gap_ns, wait_ns = interval_s * 1e9 / max(1, len(targets)), round(wait_s * 1e9)
    with _socket(source) as sock:
        start_ns = monotonic_ns()
        end_ns = start_ns + round(total * gap_ns) + wait_ns
        while len(replies) < total and (now_ns := monotonic_ns()) < end_ns:
            next_ns = start_ns + round(sent * gap_ns) if sent < total else end_ns
            if now_ns >= next_ns:
                number, place = divmod(sent, len(targets))
                with suppress(BlockingIOError, ConnectionError):
                    sock.sendto(HEADER.pack(ECHO, run, number, monotonic_ns(), 0), (targets[place], port))
                sent += 1
                continue
            if not select.select([sock], [], [], (next_ns - now_ns) / 1e9)[0]:
                continue
            data, (peer, _) = sock.recvfrom(2048)
            now_ns = monotonic_ns()
            kind, of_run, number, departure_ns, arrival_ns = HEADER.unpack_from(data)
            if kind == REPLY and of_run == run and (peer, number) not in replies and peer in found:
                replies.add((peer, number))
                found[peer]["rtt_ms"].append((now_ns - departure_ns) / 1e6)
                found[peer]["one_way_ms"].append((arrival_ns - departure_ns) / 1e6)
        # Where no echo came back, no report will.
        asked = {target for target in targets if found[target]["rtt_ms"]}
        for target, report in _ask(sock, run, {(target, port) for target in asked}, count, 0, wait_s).items():
            found[target] |= {key: report[key] for key in ("received", "duplicates", "overtakers", "bursts")}
    return {"targets": found}


def measure_delay(
    source: str, target: str, count: int, interval_s: float, wait_s: float, port: int = PORT
) -> dict[str, Any]:
    """measure_delays for a single target."""
    found: dict[str, Any] = measure_delays(source, [target], count, interval_s, wait_s, port)["targets"][target]
    return found


def measure_rate(
    source: str,
    target: str,
    packets: int,
    pace_bps: float | None,
    segments: int,
    wait_s: float,
    settle_s: float = 0.0,
    bin_ms: float = 0.0,
    port: int = PORT,
) -> dict[str, Any]:
    """Send about `packets` full frames at `pace_bps` (None: as fast as possible) and ask what arrived.

    A frame is as large as the device's MTU lets it be: an overlay network's is smaller than Ethernet's. `segments`
    frames leave together, which fast links need (and their plan allows, see InterfacePlan.segments). The request for
    the report queues behind the train, so that the answer covers all of it; where packets may skip the queue, the
    request waits `settle_s` first. Returns `sent`, `frame_bytes`, `offered_bps` (the rate at which the train left),
    `one_way_ms` (quantiles of the frames' delays) and the fields of arrival_report, which say that nothing arrived
    when no report comes back within `wait_s`.
    """
    run = int.from_bytes(os.urandom(4))
    with _socket(source) as sock:
        sock.connect((target, port))
        mtu = sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)
        payload_bytes, frame_bytes = mtu - _UDP_IP_BYTES, mtu + _ETHERNET_BYTES
        payload = bytearray(payload_bytes * segments)
        if segments > 1:
            sock.setsockopt(_SOL_UDP, _UDP_SEGMENT, payload_bytes)
        interval_ns = 8e9 * frame_bytes * segments / pace_bps if pace_bps else 0.0
        begin_ns = start_ns = monotonic_ns()
        sent = -(-packets // segments) * segments
        for number in range(0, sent, segments):
            early_ns = start_ns + number // segments * interval_ns - monotonic_ns()
            if early_ns > 0:
                select.select([], [], [], early_ns / 1e9)
            else:
                start_ns -= min(0, round(early_ns + _CATCH_UP * interval_ns))
            left_ns = monotonic_ns()
            for place in range(segments):
                HEADER.pack_into(payload, place * payload_bytes, _TRAIN, run, number + place, left_ns, payload_bytes)
            sock.send(payload)
        spent_s = max(1e-9, (monotonic_ns() - begin_ns) / 1e9)
        if settle_s:
            select.select([], [], [], settle_s)
        reports = _ask(sock, run, {(target, port)}, sent, round(bin_ms * 1e6), wait_s)
    report = reports.get(target) or arrival_report([], [], sent, frame_bytes, round(bin_ms * 1e6) or None)
    offered_bps = 8 * frame_bytes * (sent - segments) / spent_s
    return {"sent": sent, "frame_bytes": frame_bytes, "offered_bps": offered_bps, "one_way_ms": [], **report}


def _ask(
    sock: socket.socket, run: int, targets: set[tuple[str, int]], sent: int, bin_ns: int, wait_s: float
) -> dict[str, dict[str, Any]]:
    """Reports by address, of the targets that answer within `wait_s`."""
    reports: dict[str, dict[str, Any]] = {}
    pending = set(targets)
    for attempt in range(_ATTEMPTS):
        for target in sorted(pending):
            with suppress(BlockingIOError, ConnectionError):
                sock.sendto(HEADER.pack(_REPORT, run, attempt, sent, bin_ns), target)
        until_ns = monotonic_ns() + round(wait_s / _ATTEMPTS * 1e9)
        while pending and select.select([sock], [], [], max(0.0, (until_ns - monotonic_ns()) / 1e9))[0]:
            try:
                data, sender = sock.recvfrom(1 << 16)
            except ConnectionError:  # no server there
                continue
            kind, of_run, *_ = HEADER.unpack_from(data)
            if kind == _REPORT and of_run == run and sender in pending:
                pending.discard(sender)
                reports[sender[0]] = json.loads(data[HEADER.size :])
        if not pending:
            break
    return reports


def main(answers: Answers) -> None:
    """Serve on the address in argv[2] for as long as the process argv[1] lives."""
    die_with_parent(int(sys.argv[1]))
    precise_timers()
    # A probe must not measure its own waiting for a CPU, nor hold up what it measures.
    raise_priority(5)
    with _socket(sys.argv[2], PORT) as sock:
        answers({"address": sys.argv[2], "port": PORT})
        serve(sock)
