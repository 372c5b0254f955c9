"""The formats of one link: traces, and settings."""

from __future__ import annotations

from gannet.netem.formats.settings import browsers, emulators, faults, speed_tests
from gannet.netem.formats.traces import cellular, cooked, documents, mahimahi, starlink

SINGLE_LINKS = (
    mahimahi,
    starlink,
    cellular.Ucc,
    cellular.Mtu,
    documents.Sabre,
    documents.Iperf3,
    cooked,
    emulators.Containerlab,
    faults.Toxiproxy,
    emulators.Tcconfig,
    browsers.Atc,
    emulators.TcQdisc,
    browsers.Connectivity,
    browsers.Throttle,
    faults.ChaosMesh,
    speed_tests,
)
