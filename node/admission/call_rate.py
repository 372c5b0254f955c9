"""How many calls a second are taken from each peer: a token bucket for each, in bounded memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_PEERS = 4096


class PeerRates:
    """One token bucket a peer: `burst` tokens at first, `rate` more a second, one for each call. Thread-safe.

    At most `peers` buckets are kept. Where there are more, the one that was not used for the longest is forgotten: it
    is full again at the next call, so a forgotten peer has at most one burst more.
    """

    def __init__(
        self,
        rate: float,
        burst: float,
        clock: Callable[[], float] = time.monotonic,
        peers: int = _MOST_PEERS,
    ) -> None:
        self._rate, self._burst, self._clock, self._peers = rate, burst, clock, peers
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when they were counted
        self._lock = threading.Lock()

    def take(self, peer: str, share: int = 1) -> bool:
        """Take a token of this peer's; False: it has none left. `share`: how many callers share the peer's name."""
        with self._lock:
            now, most = self._clock(), self._burst * share
            tokens, at = self._buckets.pop(peer, (most, now))
            tokens = min(most, tokens + (now - at) * self._rate * share)
            taken = tokens >= 1.0
            self._buckets[peer] = (tokens - 1.0 if taken else tokens, now)
            if len(self._buckets) > self._peers:
                self._buckets.popitem(last=False)
            return taken
