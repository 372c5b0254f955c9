#!/usr/bin/env bash
# grpcio 1.85.3, grpc.aio: a client that dies in the middle of its stream looks to a busy server as if it had finished.
# One would guess that `async for message in request_iterator` raises when the connection breaks, so that a loop that
# ends means that the client has sent all it wanted. The loop ends either way; the call is cancelled only afterwards, at
# a later await, and where the event loop was busy meanwhile what stands directly behind the loop runs first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet grpcio==1.85.3
cat > client.py <<'PY'
import os, signal, sys, threading, grpc
def messages():
    yield b"first of three"
    yield b"second of three"
    threading.Event().wait()
channel = grpc.insecure_channel(sys.argv[1])
channel.stream_unary("/test/Collect")(messages())
PY
cat > server.py <<'PY'
import asyncio, subprocess, sys, time, grpc, grpc.aio
said = []
def be_busy():
    client.kill()
    client.wait()
    time.sleep(1)  # the event loop does other work while gRPC's core sees the connection break
async def collect(requests, context):
    count = 0
    async for _ in requests:
        count += 1
        if count == 2:
            asyncio.get_running_loop().call_later(0.5, be_busy)
    said.append(f"the loop ended after {count} of 3 messages, without an error")
    try:
        await asyncio.sleep(5)
        said.append("and the call was not cancelled")
    except asyncio.CancelledError:
        said.append("the call was cancelled at the next await")
        raise
    finally:
        done.set()
    return b""
async def main():
    global client, done
    done = asyncio.Event()
    server = grpc.aio.server()
    handler = grpc.stream_unary_rpc_method_handler(collect)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test", {"Collect": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = subprocess.Popen([sys.executable, "client.py", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
    await asyncio.wait_for(done.wait(), 60)
    await server.stop(0)
asyncio.run(main())
print("\n".join(said))
PY
venv/bin/python server.py 2>/dev/null | tee seen.txt
grep -q "^the loop ended after 2 of 3 messages, without an error$" seen.txt
grep -q "^the call was cancelled at the next await$" seen.txt
