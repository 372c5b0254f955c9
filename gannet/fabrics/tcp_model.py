"""The overhead of TCP, TLS and gRPC on a payload: the model that plans and the virtual fabric share."""

from __future__ import annotations

# TCP over IPv4 over Ethernet with time stamps: 1448 payload bytes travel in a frame of 1514.
FRAME_OVERHEAD = 1514 / 1448

# Linux acknowledges as soon as it has more than a full segment (RFC 9293, section 3.8.6.3): every second frame, or
# every packet that holds more; in a frame of 66 bytes. A node's acknowledgements leave through its uplink, next to
# its messages; in all exchanges here it receives about as much as it sends, and at about the same time.
ACK_BYTES, ACKED_FRAMES = 66, 2
SEGMENT_OVERHEAD_BYTES = 150

# A record of TLS 1.3 has a header of 5 bytes, a tag of 16 and a type of 1 (RFC 8446, section 5.2), and holds up
# to 16 KiB. gRPC's hold 12 kB of a large message on average (grpcio 1.85.3, tests/node/exchange/test_tls.py).
TLS_RECORD_BYTES, TLS_RECORD_HOLDS_BYTES = 22, 12_000


def frame_bytes(payload_bytes: float, segments: int, encrypted: bool = False) -> float:
    """Link capacity that a payload takes, in bytes: frames of up to `segments` TCP segments, and acknowledgements;
    with `encrypted`, in TLS records.
    """
    if encrypted:
        payload_bytes *= 1 + TLS_RECORD_BYTES / TLS_RECORD_HOLDS_BYTES
    acknowledged = 1 + ACK_BYTES / (1514 * max(ACKED_FRAMES, segments))
    return (payload_bytes * FRAME_OVERHEAD + SEGMENT_OVERHEAD_BYTES) * acknowledged
