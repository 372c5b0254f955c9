"""Mahimahi's files against integrals of the rates, and against our own reader of them."""

from __future__ import annotations

from bisect import bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.netem.exports.mahimahi import constant, export_network, export_trace
from gannet.netem.exports.paths import ExportError
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.netem.links.trace import Trace, TracePoint, Track
from gannet.netem.links.trace_mahimahi import parse_mahimahi
from gannet.netem.traces.figures import steps_of

FRAME_BITS = 8 * 1514


def numbers(text: str) -> list[int]:
    times = [int(line) for line in text.splitlines()]
    assert times == sorted(times) and times[-1] > 0
    return times


@pytest.mark.parametrize(("frames_bps", "expected"), [(FRAME_BITS * 1000, "1\n"), (FRAME_BITS * 500, "2\n"),
                                                      (FRAME_BITS * 1500, "1\n2\n2\n")])  # fmt: skip
def test_rates_of_whole_packets_are_the_shortest_files(frames_bps: int, expected: str) -> None:
    assert constant(frames_bps) == expected


@settings(deadline=None, max_examples=40)
@given(st.integers(30_000, 50_000_000))
def test_a_constant_rate_to_within_a_packet_of_its_length(rate_bps: int) -> None:
    times = numbers(constant(rate_bps))
    assert times[-1] <= 60_000
    assert abs(len(times) - rate_bps * times[-1] / 1000 / FRAME_BITS) <= 1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 3000), st.sampled_from([0, 50_000, 1_234_567, 30_000_000])), min_size=1))
def test_as_many_packets_have_passed_at_every_moment_as_the_rates_say(steps: list[tuple[int, int]]) -> None:
    begins = [sum(for_ms for for_ms, _ in steps[:n]) for n in range(len(steps) + 1)]
    points = tuple(TracePoint(at / 1000, down_bps=rate) for at, (_, rate) in zip(begins, steps, strict=False))
    trace = Trace("t", "", points, begins[-1] / 1000)
    bits = [sum(for_ms * rate / 1000 for for_ms, rate in steps[:n]) for n in range(len(steps) + 1)]
    if bits[-1] < FRAME_BITS:
        with pytest.raises(ExportError, match="not one packet passes"):
            export_trace(trace)
        return
    times = numbers(export_trace(trace).files["t.down"])
    assert times[-1] == begins[-1]
    for at_ms, expected in zip(begins[:-1], bits, strict=False):
        late = at_ms >= times[-2] if len(times) > 1 else True  # the last packet waits for the end
        assert abs(bisect_right(times, at_ms) - expected / FRAME_BITS) <= 1.11 + late


BINS = st.lists(st.one_of(st.integers(2, 90), st.just(0)), min_size=1, max_size=60)


@settings(deadline=None, max_examples=80)
@given(BINS, BINS)
def test_what_was_written_is_read_again(down: list[int], up: list[int]) -> None:
    """Packets in each bin of 100 ms; a zero is an outage of 600 ms. One packet alone would not show its bin."""

    def track(packets: list[int], field: str) -> Track:
        points, at_ms = [], 0
        for count in [*packets, 2]:  # a file ends with a packet, and an outage with one at its end
            rate_bps = round(count * FRAME_BITS * 10)
            points.append(TracePoint(at_ms / 1000, **{field: rate_bps}))
            at_ms += 100 if count else 600
        return Track(tuple(points), at_ms / 1000)

    first, second = track(down, "down_bps"), track(up, "up_bps")
    if first.duration_s == second.duration_s:
        return
    trace = Trace("t", "", first.points, first.duration_s, loop=True, outages="keep", up=second)
    done = export_trace(trace)
    assert done.notes == ()
    again = parse_mahimahi(done.files["t.down"], done.files["t.up"], "t")
    for field, wanted in (("down_bps", first), ("up_bps", second)):
        found = again.up if again.up is not None and field == "up_bps" else again.tracks[0]
        steps = steps_of(found, field)
        if len(wanted.points) > 1:
            assert steps == steps_of(wanted, field)
        else:  # of a constant direction the length means nothing
            assert [rate for _, _, rate in steps] == [rate for _, _, rate in steps_of(wanted, field)]


def test_nodes_get_both_files_and_a_command() -> None:
    links = LinkState(profile=LinkProfile(name="x", down_bps=12_112_000, up_bps=1_211_200, up_delay_ms=40,
                                          down_delay_ms=40, loss_percent=1))  # fmt: skip
    done = export_network(links.plans(["10.0.0.1", "10.0.0.2"], ["eth0"] * 2, 1))
    assert sorted(done.files) == [f"node-{n}.{end}" for n in (0, 1) for end in ("down", "sh", "up")]
    assert done.files["node-0.down"] == "1\n" and done.files["node-0.up"] == "10\n"
    assert done.files["node-0.sh"].splitlines()[-1] == (
        'exec mm-delay 40 mm-loss uplink 0.01 mm-loss downlink 0.01 mm-link "$here/node-0.up" "$here/node-0.down" '
        "--uplink-queue=droptail --uplink-queue-args=bytes=15140 "
        '--downlink-queue=droptail --downlink-queue-args=bytes=151400 -- "$@"'
    )
    assert done.notes == ()


def test_links_that_differ_by_peer_are_refused_and_so_is_no_rate() -> None:
    slow, far = LinkProfile(name="s", down_bps=10**6, up_bps=10**6), LinkProfile(name="f", up_delay_ms=90)
    three = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    with pytest.raises(ExportError, match="links of node 0 differ by peer"):
        export_network(LinkState(profile=slow, edges={(1, 0): far}).plans(three, ["eth0"] * 3, 1))
    with pytest.raises(ExportError, match="node 0 has no limit of its up rate"):
        export_network(LinkState(profile=far).plans(three, ["eth0"] * 3, 1))
