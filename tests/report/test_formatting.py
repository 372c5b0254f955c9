"""Numbers as a reader sees them."""

import pytest

from gannet.report import formatting as words
from gannet.report.figures import byte_unit, label, legend_name, log_ticks
from gannet.report.tables import readable_time


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (words.number(58.0), "58"),
        (words.number(0.6667), "0.667"),
        (words.number(1234.5), "1,234"),
        (words.number(-7.125), "−7.12"),
        (words.number(2.5e9), "2.50e+09"),
        (words.number(None), "–"),
        (words.number(float("nan")), "–"),
        (words.seconds(0.0421), "42.1 ms"),
        (words.seconds(41.26), "41.3 s"),
        (words.seconds(860.0), "14 min 20 s"),
        (words.seconds(0.0), "0 s"),
        (words.size(999.7), "1 kB"),
        (words.size(1_580_000), "1.58 MB"),
        (words.rate(10e6), "10 Mbit/s"),
        (words.rate(None), "unlimited"),
        (words.percent(0.534), "53%"),
        (words.percent(0.012), "1.2%"),
        (words.times(1.4148), "1.41×"),
        (words.times(1.9999), "2.0×"),
        (words.times(1.0012), "1.0012×"),
        (words.times(14.2), "14×"),
        (words.listing(["a", "b", "c"]), "a, b and c"),
        (words.plural(1, "run"), "1 run"),
        (readable_time("2026-03-14T09:26:53+00:00"), "14 March 2026, 09:26 UTC"),
        (readable_time("yesterday"), "yesterday"),
        (label("<b>&"), "&lt;b&gt;&amp;"),
        (legend_name("word " * 20, " ⚠ untrusted"), "word word word word word word word word … ⚠ untrusted"),
    ],
)
def test_written(written: str, expected: str) -> None:
    assert written == expected


def test_axes() -> None:
    assert byte_unit(2.5e6) == (1e6, "MB") and byte_unit(12.0) == (1.0, "B")
    assert log_ticks(45, 400) == [40, 60, 80, 100, 200, 300, 400]
    assert log_ticks(1, 100) == [1, 2, 5, 10, 20, 50, 100]
