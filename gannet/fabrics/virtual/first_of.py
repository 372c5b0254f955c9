"""A virtual node waits for whichever of several parcels comes first; see node.training.effects.ReceiveFirst."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from gannet.node.training.effects import PeerLost, Tag

Key = tuple[int, Tag]  # from whom, and what
Parcel = memoryview | PeerLost
Expect = Callable[[int, Tag, Callable[[Parcel], None]], None]


class FirstOf:
    """What a node has asked for, until it is told: each parcel is expected once, from when it was first asked for."""

    def __init__(self, expect: Expect) -> None:
        self._expect = expect
        self._came: dict[Key, Parcel | None] = {}
        self._wanted: Sequence[Key] = ()
        self._tell: Callable[[int, Parcel], None] | None = None

    def first(self, wanted: Sequence[Key], tell: Callable[[int, Parcel], None]) -> None:
        """Call `tell` with the number of the first that is there and what has come, now or as soon as one is."""
        for key in wanted:
            if key not in self._came:
                self._came[key] = None
                self._expect(*key, partial(self._keep, key))
        self._wanted, self._tell = wanted, tell
        self._look()

    def _keep(self, key: Key, parcel: Parcel) -> None:
        self._came[key] = parcel
        self._look()

    def _look(self) -> None:
        for number, key in enumerate(self._wanted if self._tell else ()):
            if (parcel := self._came[key]) is not None:
                assert self._tell is not None
                tell, self._tell = self._tell, None
                del self._came[key]
                tell(number, parcel)
                return
