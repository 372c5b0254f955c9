"""Small files of the formats of one link, by the name of their format, and what has to be said to import them."""

from __future__ import annotations

import json
from typing import Any

PING = "Timestamp,State,PINGAVG,DL_bitrate,UL_bitrate,Speed\n"
QDISC = [
    {"kind": "noqueue", "handle": "0:", "dev": "lo", "root": True, "refcnt": 2, "options": {}},
    {
        "kind": "netem",
        "handle": "1:",
        "dev": "eth0",
        "root": True,
        "refcnt": 2,
        "options": {
            "limit": 1000,
            "delay": {"delay": 0.05, "jitter": 0.005, "correlation": 0.25},
            "loss-random": {"loss": 0.01, "correlation": 0},
            "rate": {"rate": 1_250_000, "packetoverhead": 0, "cellsize": 0, "celloverhead": 0},
            "ecn": False,
            "gap": 0,
        },
    },
]
FILES = {
    "Mahimahi": "0\n10\n20\n20\n1000\n",
    "cooked trace (Pensieve)": "7.0\t9\n8.0\t2\n10.0\t5\n10.5\t0\n",
    "Sabre network": json.dumps(
        [
            {"duration_ms": 2000, "bandwidth_kbps": 4000, "latency_ms": 80},
            {"duration_ms": 6000, "bandwidth_kbps": 800, "latency_ms": 20},
        ]
    ),
    "iperf3 report": json.dumps(
        {
            "start": {"test_start": {"reverse": 1}},
            "intervals": [
                {"sum": {"start": 0, "end": 1, "bits_per_second": 5e6, "omitted": True}},
                {"sum": {"start": 0, "end": 1, "bits_per_second": 8e6, "omitted": False}},
                {"sum": {"start": 1, "end": 3, "bits_per_second": 2e6, "omitted": False}},
            ],
        }
    ),
    "UCC 4G/5G log": PING
    + "2019.12.14_10.16.30,D,-,1000,100,0\n2019.12.14_10.16.30,D,60,3000,300,0\n"
    + "2019.12.14_10.16.31,I,40,0,-,1\n2019.12.14_10.16.34,D,-,5000,500,1\n",
    "MTU 5G log": "TIME,RATE(MBit/s)\nWed Dec 15 16:04:38 UTC 2021,12.5\nWed Dec 15 16:04:39 UTC 2021,30\n",
    "LENS latencies": "timestamp,rtt\n1700000000.00,40\n1700000000.05,60\n1700000000.10,-1\n1700000000.15,30\n",
    "speed tests": "test,downlink_Mbps,uplink_Mbps,latency_ms\n1,100,10,30\n2,50,20,50\n",
    "WebPageTest connectivity": '[Slow]\nlabel="Slow (400 ms RTT)"\nbwIn=400000\nbwOut=200000\nlatency=400\nplr=0\n'
    '[Cable]\nlabel="Cable"\nbwIn=5000000\nbwOut=1000000\nlatency=28\nplr=1\n',
    "ATC profile": json.dumps(
        {
            "name": "Far",
            "content": {
                "down": {"rate": "240", "delay": {"delay": "400", "jitter": 0}, "loss": {"percentage": "3"}},
                "up": {"rate": "200", "delay": {"delay": "440", "jitter": 0}, "loss": {"percentage": "1"}},
            },
        }
    ),
    "throttle presets": "module.exports = {\n  '3g': { up: 768, down: 1600, rtt: 150 },\n"
    "  cable: { up: 1000, down: 5000, rtt: 28 }\n};\n",
    "Toxiproxy": json.dumps(
        {
            "redis": {
                "name": "redis",
                "toxics": [
                    {
                        "type": "latency",
                        "stream": "downstream",
                        "toxicity": 1,
                        "attributes": {"latency": 90, "jitter": 9},
                    },
                    {"type": "bandwidth", "stream": "upstream", "toxicity": 0.5, "attributes": {"rate": 100}},
                    {"type": "slicer", "stream": "upstream", "toxicity": 1, "attributes": {}},
                ],
            }
        }
    ),
    "tcconfig": json.dumps(
        {
            "eth0": {
                "outgoing": {
                    "protocol=ip": {"filter_id": "800::800", "delay": "10.0ms", "loss": "0.01%", "rate": "250Kbps"}
                },
                "incoming": {},
            }
        }
    ),
    "tc -j qdisc": json.dumps(QDISC),
    "containerlab netem": json.dumps(
        {
            "clab-x": [
                {
                    "interface": "eth1",
                    "delay": "1s",
                    "jitter": "5ms",
                    "packet_loss": 0.1,
                    "rate": 64,
                    "corruption": 0,
                },
                {"interface": "eth2", "delay": "", "jitter": "", "packet_loss": 2, "rate": 0, "corruption": 0},
            ]
        }
    ),
    "Chaos Mesh NetworkChaos": """apiVersion: chaos-mesh.org/v1alpha1
kind: NetworkChaos
metadata: {name: slow}
spec:
  action: netem
  mode: all
  delay: {latency: "80ms", jitter: "20ms", correlation: "10"}
  loss: {loss: "5", correlation: "30"}
  bandwidth: {rate: "100kbps", limit: 20971520, buffer: 10000}
  duration: "1m30s"
""",
}
SAID: dict[str, dict[str, Any]] = {
    "WebPageTest connectivity": {"name": "Cable"},
    "throttle presets": {"name": "3g"},
    "tcconfig": {"round_trip": True},
    "containerlab netem": {"name": "clab-x:eth1"},
}
