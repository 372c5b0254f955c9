"""Traces of Mahimahi, whatever their name: a line is the millisecond at which a packet of 1500 bytes may pass."""

from __future__ import annotations

from gannet.netem.formats.base import FormatError, Imported, Options, Source
from gannet.netem.formats.traces.intervals import head_lines, lines_of
from gannet.netem.links.trace import TraceError
from gannet.netem.links.trace_mahimahi import parse_mahimahi
from gannet.netem.regular import check_regular

name = "Mahimahi"
reads = ("bin_ms",)


def recognises(source: Source) -> bool:
    """Whether every line is a whole number, none below the one before."""
    lines = head_lines(source, 2000)
    if not lines or not all(line.isascii() and line.isdigit() and len(line) <= 12 for line in lines):
        return False
    times = [int(line) for line in lines]
    return times == sorted(times)


def read(source: Source, options: Options) -> Imported:
    """The trace, in both directions, with the outages that it has kept in the queue as Mahimahi does."""
    if options.round_trip is not None or options.unit is not None:
        raise FormatError(
            "it has no latencies, and its unit is the packet: leave out --round-trip, --one-way, --unit"
        )
    bin_ms = options.bin_ms or 100
    try:
        with check_regular(source.path).open("rb") as down:
            trace = parse_mahimahi(down, down, source.path.stem, str(source.path), bin_ms)
    except TraceError as error:
        raise FormatError(str(error).removeprefix(f"{source.path} ")) from None
    except OSError as error:
        raise FormatError(str(error.strerror or error)) from None
    packets = sum(1 for _ in lines_of(source))
    rates = [point.down_bps or 0 for point in trace.points]
    facts = [
        f"rows: {packets:,}, each the moment of a packet of 1500 bytes",
        f"duration: {trace.duration_s:g} s, then starts over",
        f"down and up: mean {packets * 12 / trace.duration_s:.7g} kbit/s of IP"
        if packets * 12_000 < 1e6 * trace.duration_s
        else f"down and up: mean {packets * 12_000 / trace.duration_s / 1e6:.7g} Mbit/s of IP",
        f"over bins of {bin_ms} ms: minimum {min(rates) / 1e6:.7g} Mbit/s, maximum {max(rates) / 1e6:.7g} Mbit/s of "
        "Ethernet frames, which links count",
        "one direction, which is used for both: its two files are NAME.down and NAME.up, which `gannet net replay` "
        "takes together",
    ]
    return Imported(name, "trace", trace.to_csv(), facts=facts, dropped=[f"moments of packets within {bin_ms} ms"])
