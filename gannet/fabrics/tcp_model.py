"""The overhead of TCP and gRPC on a payload: the model that plans and the virtual fabric share."""

from __future__ import annotations

# TCP over IPv4 over Ethernet with time stamps: 1448 payload bytes travel in a frame of 1514.
FRAME_OVERHEAD = 1514 / 1448

# Linux acknowledges as soon as it has more than a full segment (RFC 9293, section 3.8.6.3): every second frame, or
# every packet that holds more; in a frame of 66 bytes. A node's acknowledgements leave through its uplink, next to
# its messages; in all exchanges here it receives about as much as it sends, and at about the same time.
ACK_BYTES, ACKED_FRAMES = 66, 2
SEGMENT_OVERHEAD_BYTES = 150


def frame_bytes(payload_bytes: float, segments: int) -> float:
    """Link capacity that a payload takes, in bytes: frames of up to `segments` TCP segments, and acknowledgements."""
    acknowledged = 1 + ACK_BYTES / (1514 * max(ACKED_FRAMES, segments))
    return (payload_bytes * FRAME_OVERHEAD + SEGMENT_OVERHEAD_BYTES) * acknowledged
