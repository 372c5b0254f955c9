"""The operator API server: serves proto/operator.proto for the active run, so that `gannet net` can change its links.

It lives as long as a fabric. Runs are attached to it and detached, and between them it answers that none is active.
"""

from __future__ import annotations

import json
import secrets
import tempfile
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import wraps
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import grpc
from pydantic import ValidationError

from gannet.fabrics import sandbox_registry as registry
from gannet.fabrics.credentials import gate
from gannet.fabrics.entrance.entrance import Entrance
from gannet.fabrics.links import operator_pb2, operator_pb2_grpc
from gannet.fabrics.links.agent_pool import Acknowledgement
from gannet.fabrics.links.live_links import LiveLinks
from gannet.fabrics.links.outlook import LinksBusy
from gannet.netem.agent.client import AgentError
from gannet.netem.links.edge_profiles import buffer_misfit, edge_misfit
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.replay import replay_now
from gannet.netem.links.schedule import places
from gannet.netem.links.state import Change, LinkState, links_of
from gannet.netem.links.trace_csv import parse_csv
from gannet.node.admission.identity import Identity

_REFUSAL = (
    "this is not the operators' credential of this cluster: run gannet net in the controller's container, or name a "
    "file that has it by GANNET_TOKEN_FILE (docs/compose.md)"
)
_MOST_STREAMS = 16  # of one connection
LONGEST_FOR_S = 365 * 86400.0
_SOCKET_PATH_BYTES = 107  # sun_path of unix(7), without its final zero

_Reply = TypeVar("_Reply")


def live_folder() -> Path:
    """The folder of the sockets of this user's live runs."""
    folder = registry.state_folder().parent / "live"
    if len(str(folder / "0123456789.sock").encode()) > _SOCKET_PATH_BYTES:
        folder = Path(tempfile.gettempdir()) / f"gannet-{zlib.crc32(str(folder).encode()):08x}"
    return folder


def local_socket() -> str:
    """A fresh address for `serve`, for this user alone. (Named without a pid: a sandbox has its own pids.)"""
    folder = live_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return f"unix:{folder / secrets.token_hex(5)}.sock"


def _answers(method: Callable[[Any, Any], _Reply]) -> Callable[[Any, Any, grpc.ServicerContext], _Reply]:
    """Translate errors into gRPC statuses."""

    @wraps(method)
    def answer(self: Operator, request: Any, context: grpc.ServicerContext) -> _Reply:
        try:
            return method(self, request)
        except (LinksBusy, AgentError) as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "profile"
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"profile: {where}: {first['msg']}")
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        raise AssertionError("abort raises")

    return answer


class Operator(operator_pb2_grpc.OperatorServicer):
    """Serves operators until `close`: those that present the `secret` of that role (gannet.fabrics.credentials).

    None: no secret, and no address but sockets, which are files that only this user can open. `identity`: have
    operators connect by mutual TLS, but for those sockets.
    """

    def __init__(self, secret: str | None = None, identity: Identity | None = None) -> None:
        self._secret, self._entrance = secret, Entrance("operator", identity)
        self._lock = threading.Lock()
        self._run: tuple[str, LiveLinks] | None = None
        self._sockets: list[Path] = []
        self._server: grpc.Server | None = None

    def serve(self, addresses: Sequence[str]) -> list[str]:
        """Serve on "host:port" (port 0: any) and "unix:/path"; returns the addresses with their ports.

        Raises RuntimeError where an address cannot be bound, and ValueError where there is no secret and others than
        this user could reach it. Start no fork server after this.
        """
        if self._secret is None and (open_to_others := [a for a in addresses if not a.startswith("unix:")]):
            raise ValueError(f"the operator API is not served at {', '.join(open_to_others)} without a secret")
        guards = [] if self._secret is None else [gate(self._secret, _REFUSAL)]
        options = [("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", _MOST_STREAMS)]
        self._server = grpc.server(ThreadPoolExecutor(8, "operator"), interceptors=guards, options=options)
        operator_pb2_grpc.add_OperatorServicer_to_server(self, self._server)
        served = []
        for address in addresses:
            served.append(self._entrance.add(self._server, address))
            if address.startswith("unix:"):
                path = Path(address.removeprefix("unix:"))
                path.chmod(0o600)
                self._sockets.append(path)
        self._server.start()
        return served

    def attach(self, run: str, live: LiveLinks) -> None:
        """Serve this run's links from now on."""
        with self._lock:
            self._run = (run, live)

    def detach(self) -> None:
        """End the service of the present run."""
        with self._lock:
            self._run = None

    def close(self) -> None:
        """Stop serving, and remove the sockets."""
        if self._server is not None:
            self._server.stop(0.5).wait()
        self._entrance.close()
        for path in self._sockets:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _attached(self) -> tuple[str, LiveLinks]:
        with self._lock:
            if self._run is None:
                raise LinksBusy("no run is training now: its links can be seen and changed while it does")
            return self._run

    @_answers
    def Show(self, request: operator_pb2.ShowRequest) -> operator_pb2.Shown:
        """The applied links, and the scheduled changes."""
        run, live = self._attached()
        outlook = live.show()
        upcoming = [(in_s, f"end of {what}") for in_s, what in outlook.ends]
        upcoming += [(in_s, f"schedule: {what}") for in_s, what in outlook.schedule]
        return operator_pb2.Shown(
            run=run,
            t_s=outlook.t_s,
            state=outlook.state.describe(),
            nodes=[node_links(done, live) for done in outlook.nodes],
            upcoming=[operator_pb2.Upcoming(in_s=in_s, what=what) for in_s, what in sorted(upcoming)],
        )

    @_answers
    def Change(self, request: operator_pb2.ChangeRequest) -> operator_pb2.Changed:
        """Carry out one change, acknowledged by every agent."""
        run, live = self._attached()
        if not 0 <= request.for_s <= LONGEST_FOR_S:
            raise ValueError(
                f"for_s is {request.for_s:g}: it must be seconds, up to a year, or 0 for a permanent change"
            )
        operation, alter, steps, trial = change_of(request, live.world)
        change = live.change(operation, alter, request.for_s or None, steps, trial)
        return operator_pb2.Changed(
            run=run,
            t_s=change.t_s,
            state=change.state.describe(),
            nodes=[node_links(done, live) for done in change.nodes],
        )

    @_answers
    def Verify(self, request: operator_pb2.VerifyRequest) -> operator_pb2.Verified:
        """Measure the links as they are now."""
        run, live = self._attached()
        certificate = live.verify([(link.source, link.target) for link in request.links] or None)
        return operator_pb2.Verified(run=run, certificate_json=json.dumps(certificate.to_json()))


Steps = tuple[tuple[float, Change], ...]


def change_of(request: operator_pb2.ChangeRequest, world: int) -> tuple[str, Change, Steps, Change]:
    """(a request's operation as the run folder names it, its change of a state, its later steps, the change to try).

    Steps: (in how many seconds, the change that then takes its place). What is tried raises what is wrong with any
    of them. Raises ValueError.
    """
    if request.WhichOneof("operation") != "replay":
        words, alter = _lasting(request, world)
        return words, alter, (), alter
    replay, nodes = request.replay, sorted(set(request.replay.nodes))
    trace = parse_csv(replay.csv, replay.name or "trace")
    if not request.for_s and not trace.is_constant:
        raise ValueError("for_s is 0: a trace that changes is replayed for a time")
    steps, trial = replay_now(trace, world, nodes or None, request.for_s or inf)
    return f"replay {replay.name}{places(nodes, None)}", steps[0][1], steps[1:], trial


def _lasting(request: operator_pb2.ChangeRequest, world: int) -> tuple[str, Change]:
    match request.WhichOneof("operation"):
        case "apply":
            profile = LinkProfile.model_validate_json(request.apply.profile_json)
            nodes = sorted(set(request.apply.nodes))
            edges = sorted({(link.source, link.target) for link in request.apply.links})
            where = [*(f"node {rank}" for rank in nodes), *(f"{a}→{b}" for a, b in edges)]
            if wrong := edge_misfit(profile) if edges else buffer_misfit(profile):
                raise ValueError(f"{profile.name}: {wrong}")
            words = f"apply {profile.name}" + (f" at {', '.join(where)}" if where else "")
            return words, lambda state: state.apply(profile, nodes, edges)
        case "clear":
            return "clear", lambda state: LinkState()
        case "partition":
            groups = [list(group.nodes) for group in request.partition.groups]
            words = ":".join(",".join(map(str, group)) for group in groups)
            return f"partition {words}", lambda state: state.partition(groups, world)
        case "heal":
            return "heal", LinkState.heal
        case "isolate":
            cut = links_of(request.isolate.nodes, world)
            if not cut:
                raise ValueError("isolate names no node that has a link")
            return f"isolate {','.join(map(str, sorted(set(request.isolate.nodes))))}", lambda state: state.sever(cut)
        case _:
            raise ValueError("a change needs an operation: apply, clear, partition, heal, isolate or replay")


_SHOWN = ("delay_ms", "jitter_ms", "loss_percent")


def node_links(done: Acknowledgement, live: LiveLinks) -> operator_pb2.NodeLinks:
    """An acknowledgement as a protobuf message."""
    found = done.applied
    return operator_pb2.NodeLinks(
        rank=done.rank,
        seconds=done.seconds,
        engine=found.get("engine") or "",
        up_bps=found.get("up_bps"),
        down_bps=found.get("down_bps"),
        paths=_paths(found.get("paths", {}), found.get("limits", {}), live),
        differences=done.differences,
        error=done.error,
        gone=done.gone,
        strangers=found.get("strangers", 0),
    )


def _paths(
    paths: Mapping[str, dict[str, Any]], limits: Mapping[str, dict[str, Any] | None], live: LiveLinks
) -> list[operator_pb2.Path]:
    """What was read back of each source: its path, and the limit of its rate."""
    found = []
    for address in sorted({*paths, *limits}, key=lambda address: live.rank_of.get(address, -1)):
        if address in live.rank_of:
            figures = {field: paths.get(address, {}).get(field, 0.0) for field in _SHOWN}
            limit = limits.get(address)
            rate_bps = limit["rate_bps"] if limit else None
            found.append(operator_pb2.Path(source=live.rank_of[address], rate_bps=rate_bps, **figures))
    return found
