"""A server's end of a TLS connection over asyncio streams.

asyncio's own end drops the alert by which a handshake that fails tells the other end why (Python 3.11).
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

READ_BYTES = 1 << 16


class TlsStream:
    """One connection; `first`: what was read of it already."""

    def __init__(
        self,
        context: ssl.SSLContext,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        first: bytes,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._incoming.write(first)
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self) -> list[str]:
        """Finish the handshake; returns the URIs that the caller's certificate names. Raises ssl.SSLError."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except ssl.SSLError:
                await self._flush()  # the alert
                raise
            else:
                await self._flush()
                names: Any = (self._tls.getpeercert() or {}).get("subjectAltName", ())
                return [value for kind, value in names if kind == "URI"]

    async def read(self) -> bytes:
        """What has come, up to READ_BYTES; empty at the end. Raises ssl.SSLError."""
        while True:
            try:
                data = self._tls.read(READ_BYTES)
            except ssl.SSLWantReadError:
                await self._feed()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            else:
                return data

    async def write(self, data: bytes) -> None:
        """Send all of it, once the other end takes it."""
        self._tls.write(data)
        await self._flush()

    async def _feed(self) -> None:
        if data := await self._reader.read(READ_BYTES):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            self._writer.write(data)
            await self._writer.drain()
