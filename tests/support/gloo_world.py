"""Real processes in one gloo group on the loopback, forked from one that has imported torch already."""

from __future__ import annotations

import multiprocessing
import os
import socket
import struct
from collections.abc import Callable, Collection
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from tests.support.ports import free_ports

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["gannet.node.process.torch_ddp", "numpy", "pytest"])
_BYTES_RECEIVED = 128  # offset of tcpi_bytes_received in struct tcp_info, linux/tcp.h
_PATIENCE_S = 240.0


def free_address() -> str:
    """host:port on the loopback that no process has."""
    return f"127.0.0.1:{free_ports(1)[0]}"


def in_a_world(size: int, work: Callable[..., Any], *arguments: Any, but: Collection[int] = ()) -> list[Any]:
    """`work(rank, size, *arguments)` in a process of each rank; what they return, or an exception's text.

    Those of `but` are not waited for: they are ended with the others, and have None.
    """
    pipes = [_CONTEXT.Pipe(duplex=False) for _ in range(size)]
    processes = [
        _CONTEXT.Process(target=_serve, args=(pipe, work, rank, size, *arguments), daemon=True)
        for rank, (_, pipe) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for _, pipe in pipes:
        pipe.close()
    results: list[Any] = []
    try:
        for rank, (pipe, _) in enumerate(pipes):
            assert rank in but or pipe.poll(_PATIENCE_S), f"rank {rank} is not done"
            results.append(None if rank in but else pipe.recv())
    finally:
        for process in processes:
            process.kill()
            process.join()
    return results


def _serve(pipe: Connection, work: Callable[..., Any], rank: int, size: int, *arguments: Any) -> None:
    torch.set_num_threads(1)
    try:
        result = work(rank, size, *arguments)
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
    pipe.send(result)
    pipe.close()


def received_bytes(but_port: int) -> int:
    """What this process's TCP connections have brought in, by the kernel's count; those to or from a port apart."""
    total = 0
    for entry in sorted(Path("/proc/self/fd").iterdir()):
        with suppress(OSError):
            if not str(entry.readlink()).startswith("socket:"):
                continue
            sock = socket.socket(fileno=os.dup(int(entry.name)))
        with sock, suppress(OSError):  # some are not connected, or not of TCP
            if sock.family != socket.AF_INET or but_port in (sock.getsockname()[1], sock.getpeername()[1]):
                continue
            information = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            total += struct.unpack_from("=Q", information, _BYTES_RECEIVED)[0]
    return total
