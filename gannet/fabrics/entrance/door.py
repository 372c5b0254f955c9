"""The door of one of a controller's services: it takes connections, has both ends prove who they are, and passes what
they say on to gRPC, on a socket that is a file of this user.

gRPC itself neither says why a handshake failed, nor limits how many connections or handshakes one peer begins.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gannet.fabrics.entrance.refuser import Refuser
from gannet.fabrics.entrance.tls_stream import READ_BYTES, TlsStream
from gannet.node.admission.call_rate import PeerRates
from gannet.node.admission.identity import Identity, named, told, why_not

log = logging.getLogger(__name__)

NOT_ENCRYPTED = "connections to this controller are by TLS 1.3, and this one is not encrypted: an older version?"
_TLS_HANDSHAKE = 0x16  # the first byte of every TLS connection: RFC 8446, section 5.1
_REFUSAL_S = 10.0  # for a caller that is refused to hear why
_TOLD_REFUSALS = 1000  # peers of which is remembered what was logged last
_BACKLOG = 512


@dataclass(frozen=True)
class Limits:
    """What one peer, an IP address, may have of a door.

    `rate`, `burst`: connections a second, and at once. `connections`: open ones. `handshake_s`: for it to prove who
    it is; until then it counts among the `unproven` of all peers.
    """

    rate: float = 10.0
    burst: float = 60.0
    connections: int = 64
    handshake_s: float = 10.0
    unproven: int = 256


class Door:
    """Serves on one address until `close`, callers of one role of a cluster (gannet.certs.folder.ROLES) only.

    `behind`: the socket at which gRPC serves.
    """

    def __init__(self, identity: Identity, role: str, behind: Path, limits: Limits | None = None) -> None:
        self._context, self._role, self._behind = identity.context(server=True), role, behind
        self._cluster = identity.names[0]
        self._limits = limits or Limits()
        self._rates = PeerRates(self._limits.rate, self._limits.burst)
        self._name = secrets.token_hex(4)  # of this end's sockets
        self._refuser = Refuser(behind.parent)
        self._open: Counter[str] = Counter()  # by peer
        self._unproven = 0
        self._logged: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"door-{role}", daemon=True)

    def open(self, address: str) -> str:
        """Take connections at host:port (port 0: any); returns the address with its port. Raises OSError."""
        host, _, port = address.rpartition(":")
        listener = socket.create_server((host.strip("[]"), int(port)), backlog=_BACKLOG)
        self._thread.start()
        self._call(self._listen(listener))
        return f"{host}:{listener.getsockname()[1]}"

    def close(self) -> None:
        """End all connections."""
        if self._thread.is_alive():
            self._call(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5.0)
        self._refuser.close()

    def _call(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30.0)

    async def _listen(self, listener: socket.socket) -> None:
        self._server = await asyncio.start_server(self._take, sock=listener, limit=READ_BYTES, start_serving=True)

    async def _end(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        host, port = writer.get_extra_info("peername")[:2]
        self._open[host] += 1
        try:
            if wrong := self._too_much(host):
                self._refused(host, wrong)
                return
            await self._serve(reader, writer, host, port)
        except (OSError, ssl.SSLError, EOFError):
            pass  # the connection broke
        except asyncio.CancelledError:
            pass  # this door is closed
        finally:
            self._open[host] -= 1
            if not self._open[host]:
                del self._open[host]
            self._tasks.discard(task)
            writer.transport.abort() if task.cancelling() else writer.close()

    def _too_much(self, host: str) -> str:
        if not self._rates.take(host):
            return f"it begins more than {self._limits.rate:g} connections a second"
        if self._open[host] > self._limits.connections:
            return f"it has {self._limits.connections} connections open"
        if self._unproven >= self._limits.unproven:
            return f"{self._unproven} callers have not shown who they are yet"
        return ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
        stream, why = None, ""
        self._unproven += 1
        try:
            async with asyncio.timeout(self._limits.handshake_s):
                if not (first := await reader.read(READ_BYTES)):
                    return  # a look whether anything listens
                if first[0] == _TLS_HANDSHAKE:
                    stream = TlsStream(self._context, reader, writer, first)
                    why = self._wrong_with(await stream.handshake())
                else:
                    why = NOT_ENCRYPTED
        except TimeoutError:
            self._refused(host, f"it has not shown who it is within {self._limits.handshake_s:g} s")
            return
        except ssl.SSLError as error:
            self._refused(host, f"the TLS handshake failed: {_seen(error)}")
            return
        finally:
            self._unproven -= 1
        if why:
            self._refused(host, why)
        behind = self._refuser.socket(why) if why else self._behind
        inner_reader, inner_writer = await self._connect(behind, host, port)

        async def plain() -> bytes:
            return await reader.read(READ_BYTES)

        async def answer(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        async def ask(data: bytes) -> None:
            inner_writer.write(data)
            await inner_writer.drain()

        async def asked() -> bytes:
            return await inner_reader.read(READ_BYTES)

        try:
            if stream is None:
                await ask(first)
            both = (
                asyncio.ensure_future(_pass_on(stream.read if stream else plain, ask)),
                asyncio.ensure_future(_pass_on(asked, stream.write if stream else answer)),
            )
            try:
                await asyncio.wait(both, timeout=_REFUSAL_S if why else None, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in both:
                    each.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        finally:
            inner_writer.close()

    def _wrong_with(self, uris: list[str]) -> str:
        try:
            cluster, role = named(uris)
        except ValueError as error:
            return str(error)
        if cluster != self._cluster:
            return f"this certificate is of the cluster {cluster}, not {self._cluster}"
        return "" if role == self._role else f"this certificate is of the role {role}, not {self._role}"

    async def _connect(self, path: Path, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To gRPC, which sees this end's name as its peer's: the caller's address at its end."""
        own = socket.socket(socket.AF_UNIX)
        try:
            own.setblocking(False)
            own.bind(f"\0gannet-{self._name}/{host}:{port}")
            await self._loop.sock_connect(own, str(path))
            return await asyncio.open_unix_connection(sock=own, limit=READ_BYTES)
        except BaseException:
            own.close()
            raise

    def _refused(self, host: str, why: str) -> None:
        if self._logged.get(host) != why:  # one that is refused tries again
            if len(self._logged) >= _TOLD_REFUSALS:
                self._logged.clear()
            self._logged[host] = why
            log.warning("a connection from %s to the port of the role %s is refused: %s", host, self._role, why)


async def _pass_on(read: Callable[[], Awaitable[bytes]], write: Callable[[bytes], Awaitable[None]]) -> None:
    with suppress(OSError, ssl.SSLError):
        while data := await read():
            await write(data)


def _seen(error: ssl.SSLError) -> str:
    """Why this end's handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the caller's certificate is not believed: {why_not(error)}"
    if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "the caller has no certificate"
    if error.reason in ("TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_EXPIRED"):
        return "the caller does not believe this controller's certificate"
    return told(error)
