"""The formats of one link: traces, and settings."""

from __future__ import annotations

from gannet.netem.formats.settings import browsers, emulators, faults, speed_tests
from gannet.netem.formats.traces import cellular, cooked, documents, mahimahi, starlink

WITH_TIME = (mahimahi, starlink, cellular.Ucc, cellular.Mtu, documents.Sabre, documents.Iperf3, cooked)
"""Those that become traces, whose figures may be averaged over bins."""
WITH_NAMES = (
    emulators.Containerlab,
    faults.Toxiproxy,
    emulators.Tcconfig,
    browsers.Atc,
    emulators.TcQdisc,
    browsers.Connectivity,
    browsers.Throttle,
)
"""Those that may hold several links, of which one is chosen by its name."""
SINGLE_LINKS = (*WITH_TIME, *WITH_NAMES, faults.ChaosMesh, speed_tests)
