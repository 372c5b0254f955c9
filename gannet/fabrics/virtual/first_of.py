"""A virtual node waits for the first of several messages; see gannet.node.training.effects.ReceiveFirst."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from gannet.node.training.effects import PeerLost, Tag

Key = tuple[int, Tag]  # from whom, and what
Message = memoryview | PeerLost
Expect = Callable[[int, Tag, Callable[[Message], None]], None]


class FirstOf:
    """A node's outstanding requests: each message is expected once, from the first request on."""

    def __init__(self, expect: Expect) -> None:
        self._expect = expect
        self._came: dict[Key, Message | None] = {}
        self._wanted: Sequence[Key] = ()
        self._tell: Callable[[int, Message], None] | None = None

    def first(self, wanted: Sequence[Key], tell: Callable[[int, Message], None]) -> None:
        """Call `tell` with the index and content of the first message to arrive, now or as soon as one does."""
        for key in wanted:
            if key not in self._came:
                self._came[key] = None
                self._expect(*key, partial(self._keep, key))
        self._wanted, self._tell = wanted, tell
        self._look()

    def _keep(self, key: Key, message: Message) -> None:
        self._came[key] = message
        self._look()

    def _look(self) -> None:
        for number, key in enumerate(self._wanted if self._tell else ()):
            if (message := self._came[key]) is not None:
                assert self._tell is not None
                tell, self._tell = self._tell, None
                del self._came[key]
                tell(number, message)
                return
