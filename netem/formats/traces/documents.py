"""Traces in JSON: networks of Sabre (Spiteri et al. 2018), and what iperf3 -J measured."""

from __future__ import annotations

from typing import Any

from gannet.netem.formats.base import FormatError, Imported, Options, Source
from gannet.netem.formats.traces.intervals import OF_PAYLOAD, Intervals
from gannet.netem.links.yaml_files import short


def finite(value: Any, where: str) -> float:
    """A number of JSON. Raises FormatError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
        raise FormatError(f"{where}: {short(value)} is no number")
    return float(value)


class Sabre:
    """A list of {duration_ms, bandwidth_kbps, latency_ms}, over and over; the latency is a round trip."""

    name = "Sabre network"
    reads = ("bin_ms",)

    @staticmethod
    def recognises(source: Source) -> bool:
        """Whether it is JSON with a bandwidth_kbps and a duration_ms."""
        return source.is_json and '"bandwidth_kbps"' in source.head and '"duration_ms"' in source.head

    @staticmethod
    def read(source: Source, options: Options) -> Imported:
        """Rates downwards, and half of each latency each way (all of it with --one-way)."""
        if options.unit is not None:
            raise FormatError(f"its fields have their units: leave out --unit {options.unit}")
        periods = source.json
        if not isinstance(periods, list) or not periods:
            raise FormatError("a list of periods was expected: [{duration_ms, bandwidth_kbps, latency_ms}, …]")
        share = 1.0 if options.round_trip is False else 0.5
        found, unread = Intervals(("down_bps", "delay_ms"), options.bin_ms), dict[str, None]()
        for count, period in enumerate(periods):
            where = f"period {count}"
            if not isinstance(period, dict) or {"duration_ms", "bandwidth_kbps"} - period.keys():
                raise FormatError(f"{where}: duration_ms and bandwidth_kbps were expected")
            unread |= dict.fromkeys(period.keys() - {"duration_ms", "bandwidth_kbps", "latency_ms"})
            latency_ms = period.get("latency_ms")
            found.add(
                finite(period["duration_ms"], f"{where}: duration_ms") / 1000,
                where,
                down_bps=finite(period["bandwidth_kbps"], f"{where}: bandwidth_kbps") * 1000,
                delay_ms=None if latency_ms is None else share * finite(latency_ms, f"{where}: latency_ms"),
            )
        said = "taken as one way, as you say" if share == 1 else "a request's round trip, halved"
        dropped = [f"field {each}, which is not known" for each in sorted(unread)]
        return found.imported(source, Sabre.name, ["direction: down", f"latency: {said}"], dropped, loop=True)


class Iperf3:
    """The report of iperf3 -J: what passed in each interval."""

    name = "iperf3 report"
    reads = ("bin_ms",)

    @staticmethod
    def recognises(source: Source) -> bool:
        """Whether it is JSON with intervals of bits_per_second."""
        return source.is_json and '"intervals"' in source.head and '"bits_per_second"' in source.head

    @staticmethod
    def read(source: Source, options: Options) -> Imported:
        """What passed, upwards; with -R downwards, and with --bidir both."""
        if options.unit is not None or options.round_trip is not None:
            raise FormatError("it has no latencies, and says its units: leave out --unit, --round-trip, --one-way")
        report = source.json
        intervals = report.get("intervals") if isinstance(report, dict) else None
        if not isinstance(intervals, list):
            raise FormatError("intervals: a list was expected")
        start = report.get("start")
        test = start.get("test_start", {}) if isinstance(start, dict) else {}
        reverse = isinstance(test, dict) and test.get("reverse") == 1
        first, second = ("down_bps", "up_bps") if reverse else ("up_bps", "down_bps")
        found, omitted, both = Intervals(("down_bps", "up_bps"), options.bin_ms), 0, False
        for count, interval in enumerate(intervals):
            where = f"interval {count}"
            total = interval.get("sum") if isinstance(interval, dict) else None
            if not isinstance(total, dict):
                raise FormatError(f"{where}: has no sum")
            if total.get("omitted") is True:
                omitted += 1
                continue
            begin_s, end_s = (finite(total.get(key), f"{where}: {key}") for key in ("start", "end"))
            figures = {first: finite(total.get("bits_per_second"), f"{where}: bits_per_second")}
            if isinstance(other := interval.get("sum_bidir_reverse"), dict):
                both = True
                figures[second] = finite(other.get("bits_per_second"), f"{where}: sum_bidir_reverse")
            found.add(end_s - begin_s, where, **figures)
        way = "both" if both else "down (reverse)" if reverse else "up, from client to server"
        dropped = [OF_PAYLOAD, "retransmissions, round trips and processor time of the report"]
        if omitted:
            dropped.append(f"{omitted} intervals at the beginning, which iperf3 has omitted (-O)")
        if not both:
            del found.sums[second]
            found.fields = (first,)
        return found.imported(source, Iperf3.name, [f"direction: {way}"], dropped)
