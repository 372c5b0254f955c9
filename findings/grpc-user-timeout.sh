#!/usr/bin/env bash
# grpcio 1.85.3 on Linux: every connection that a server accepts has a TCP_USER_TIMEOUT of 20 s that nobody asked for.
# One would guess that gRPC leaves TCP's own patience (15 minutes and more) alone unless keepalive is configured, and
# the same on both ends. The client's socket is left alone; the accepted one has 20 s, so that a link that is cut for
# longer while the server sends kills the connection and all its streams. grpc.keepalive_timeout_ms alone changes the
# accepted end only; with grpc.keepalive_time_ms it changes both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet grpcio==1.85.3
cat > timeouts.py <<'PY'
import os
import socket
from concurrent.futures import ThreadPoolExecutor

import grpc

def timeouts_ms(port):
    """TCP_USER_TIMEOUT of this process's connections: {"client": ms, "server": ms}."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as each:
                here, there = each.getsockname(), each.getpeername()
                end = "server" if here[1] == port else "client" if there[1] == port else None
                if end:
                    found[end] = each.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        except (OSError, IndexError, TypeError):
            continue
    return found

def measure(options):
    server = grpc.server(ThreadPoolExecutor(1), options=options)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[*options, ("grpc.use_local_subchannel_pool", 1)]) as channel:
        grpc.channel_ready_future(channel).result(10)
        found = timeouts_ms(port)
    server.stop(None).wait()
    return found

timeout = ("grpc.keepalive_timeout_ms", 60_000)
cases = {
    "no options": ([], {"client": 0, "server": 20_000}),
    "keepalive_timeout_ms=60000": ([timeout], {"client": 0, "server": 60_000}),
    "and keepalive_time_ms=3600000": ([timeout, ("grpc.keepalive_time_ms", 3_600_000)], {"client": 60_000, "server": 60_000}),
}
wrong = False
for name, (options, expected) in cases.items():
    found = measure(options)
    print(f"{name}: TCP_USER_TIMEOUT in ms {found}")
    wrong |= found != expected
assert not wrong, "other values than described"
PY
venv/bin/python timeouts.py
echo "as described"
