"""gRPC servers that refuse every call with one reason, for callers that are not let in to a service."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import grpc


class Refuser:
    """One server for each reason, on sockets in a folder. A caller's own log then has the reason."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: dict[str, tuple[Path, grpc.Server]] = {}
        self._lock = threading.Lock()

    def socket(self, why: str) -> Path:
        """The socket of the server that gives this reason."""
        with self._lock:
            if why not in self._servers:
                path = self._folder / f"refused-{len(self._servers)}"
                options = [("grpc.max_concurrent_streams", 1), ("grpc.max_receive_message_length", 1 << 16)]
                server = grpc.server(ThreadPoolExecutor(2, "refuser"), options=options)
                server.add_generic_rpc_handlers((_Refusal(why),))
                server.add_insecure_port(f"unix:{path}")
                server.start()
                self._servers[why] = (path, server)
            return self._servers[why][0]

    def close(self) -> None:
        """End all servers."""
        with self._lock:
            for _, server in self._servers.values():
                server.stop(0)
            self._servers.clear()


class _Refusal(grpc.GenericRpcHandler):
    def __init__(self, why: str) -> None:
        self._why = why

    def service(self, details: Any) -> Any:
        def refuse(requests: Any, context: grpc.ServicerContext) -> NoReturn:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, self._why)
            raise AssertionError("abort raises")

        return grpc.stream_stream_rpc_method_handler(refuse)  # which serves calls of every kind with a refusal
