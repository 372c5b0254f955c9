"""A TCP relay on the loopback that breaks connections where a test says so."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable


class Relay:
    """Relays connections to host:port at an address of its own.

    `break_after`: numbers of bytes; the first connection through is closed once it has carried as many towards the
    target as the first number, the next as the second, and so on; later ones stay. `before_break` is called in
    between. `cut` closes all that are open, and closes new ones at once until `heal`. `source`: the loopback address
    from which the target sees it call. `tap` is given all that passes, either way.
    """

    def __init__(
        self,
        target: str,
        break_after: tuple[int, ...] = (),
        source: str = "",
        before_break: Callable[[], None] = lambda: None,
        tap: Callable[[bytes], object] = len,
    ) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._limits = list(break_after)
        self._source, self._before_break, self._tap = source, before_break, tap
        self._open: list[socket.socket] = []
        self._down = False
        self.connections = 0
        self._listener = socket.create_server((host, 0))
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection, and let none in."""
        self._down = True
        for each in list(self._open):
            _close(each)

    def heal(self) -> None:
        """Let connections in again."""
        self._down = False

    def close(self) -> None:
        """End the relay."""
        self.cut()
        _close(self._listener)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                if self._down:
                    _close(client)
                    continue
                server = socket.create_connection(self._target, source_address=(self._source, 0))
                limit = self._limits.pop(0) if self._limits else None
                self._open += [client, server]
                threading.Thread(
                    target=_pump, args=(client, server, self._tap, limit, self._before_break), daemon=True
                ).start()
                threading.Thread(target=_pump, args=(server, client, self._tap), daemon=True).start()


def _pump(
    source: socket.socket,
    sink: socket.socket,
    tap: Callable[[bytes], object],
    limit: int | None = None,
    before_break: Callable[[], None] = lambda: None,
) -> None:
    carried = 0
    with contextlib.suppress(OSError):
        while data := source.recv(4096):
            tap(data)
            if limit is not None and carried + len(data) >= limit:
                sink.sendall(data[: limit - carried])
                before_break()
                break
            sink.sendall(data)
            carried += len(data)
    for end in (source, sink):
        _close(end)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it, which a mere close does not
    end.close()
