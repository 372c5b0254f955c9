"""How far links may be from their plan: the one table that certificates judge by and reports print."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerances:
    """Shares are of what was planned, confidences those of two-sided intervals.

    A figure is out of tolerance when its whole confidence interval lies farther from the plan than this table allows.
    A link that is out of tolerance at `loss_confidence` is measured again, longer, and judged at `second_confidence`.
    """

    rate_share: float = 0.05
    fan_share: float = 0.05
    delay_ms: float = 1.0
    delay_share: float = 0.02
    jitter_share: float = 0.15
    tail_ms: float = 3.0
    loss_confidence: float = 0.99
    second_confidence: float = 0.999
    reorder_share: float = 0.005
    late_packets_share: float = 0.01
    window_late_share: float = 0.05
    window_run_queue_share: float = 0.25
    window_time_share: float = 0.1
    clock_drift_ppm: float = 200.0

    def rows(self) -> list[tuple[str, str]]:
        """(figure, allowed deviation from the plan) as docs and reports print them."""
        looks = f"{self.loss_confidence:.0%} interval, then {self.second_confidence:.1%} in a second, longer look"
        delay = f"± {self.delay_ms:g} ms or {self.delay_share:.0%}, whichever is more"
        jitter = f"{self.jitter_share:.0%} of the jitter"
        return [
            ("rate of a link", f"± {self.rate_share:.0%}"),
            ("rate of all peers at once", f"± {self.fan_share:.0%}"),
            ("median one-way delay", f"{delay}, and {jitter}"),
            ("its quartiles under load", f"as the median; {self.tail_ms:g} ms more, upwards"),
            (
                "5th, 25th, 75th and 95th percentile of delay",
                f"as the median; the upper two {self.tail_ms:g} ms more, upwards",
            ),
            ("loss, length of loss bursts, duplicates", f"the {looks}"),
            ("reordered packets", f"{self.reorder_share:.1%} in addition to the {looks}"),
            ("packets held over 1 ms too long", f"{self.late_packets_share:.0%} of a run"),
            ("the same in one second", f"{self.window_late_share:.0%}, else the second is a bad window"),
            (
                "time that the engine waits for a CPU",
                f"{self.window_run_queue_share:.0%} of a second, else it is a bad window",
            ),
            ("bad windows", f"{self.window_time_share:.0%} of a run"),
            ("clocks of nodes against the controller's", f"± {self.clock_drift_ppm:g} ppm"),
        ]


TOLERANCES = Tolerances()
