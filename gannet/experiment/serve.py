"""`gannet serve`: the controller's container. Waits for the nodes, runs a spec over them, and leaves the run folders.

All settings come from the environment, which compose and swarm set in the same way; see compose/compose.yaml.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from rich.console import Console

from gannet.experiment.compare import execute
from gannet.experiment.folders import fresh_folder
from gannet.experiment.take_up import left_behind
from gannet.fabrics.containers.fabric import CONTROLLER_GRACE_S, ContainersFabric, cluster_of
from gannet.fabrics.credentials import CredentialError, Credentials
from gannet.fabrics.entrance.bundles import LEAST, read_identity
from gannet.fabrics.recovery.mark import marked
from gannet.ledger.lock import FolderBusy, held
from gannet.spec.load import load_spec

RESULTS = Path("/runs")
_ALIVE = Path("/run/gannet/alive")
_BEAT_S = 2.0
_SETTLED_S = 3.0
_JOIN_S = 300.0  # for node containers to start, import torch and join
_METRICS_PORT = 9400


class ServeError(RuntimeError):
    """The cluster cannot serve this spec; the message says what to do."""


def serve(source: str, out: str, environment: Mapping[str, str], console: Console) -> bool:
    """Run a spec over the nodes that join. True: every run finished. Raises SpecError and ServeError.

    `out`: the folder for the results; with a slash at its end, a new one named by spec and time is made in it.
    """
    try:
        credentials = Credentials.read()  # files of root
        identity = read_identity("controller", least=LEAST)
    except CredentialError as error:
        raise ServeError(f"{error}; compose/compose.yaml and docs/swarm.md make them") from None
    give_up_root(RESULTS)
    _beat()
    overrides = [line for line in environment.get("GANNET_SET", "").splitlines() if line.strip()]
    fabric = environment.get("GANNET_FABRIC") or "compose"
    overrides.append(f"fabric={fabric}")
    load_spec(source, overrides)  # report mistakes before waiting for nodes
    from gannet.metrics.run_metrics import MetricsSink  # imports torch: after the spec is known to be good

    with (
        ContainersFabric(credentials, identity, fabric) as containers,
        closing(MetricsSink(quality=True)) as metrics,
        ExitStack() as stack,
    ):
        metrics.serve("0.0.0.0", _METRICS_PORT)
        cluster = cluster_of(credentials.trainer)
        try:
            plan = left_behind(_folders(out), CONTROLLER_GRACE_S, cluster)
        except FolderBusy as error:
            raise ServeError(str(error)) from None
        if plan is not None:
            console.print(f"taking up what a controller has left; results in {plan.folder}", markup=False)
            comparison, folder = plan.comparison, plan.folder
        else:
            comparison = load_spec(source, overrides, {"nodes": _nodes(containers, environment, console)})
            folder = fresh_folder(Path(out), _slug(comparison.name)) if out.endswith("/") else Path(out)
            console.print(f"{comparison.runs()[0].nodes} nodes; results in {folder}", markup=False)
        with suppress(FolderBusy):  # the command on the host that started these containers may hold it
            stack.enter_context(held(folder))
        stack.enter_context(marked(folder, cluster))
        return execute(comparison, folder, console, {fabric: containers}, [metrics], plan)


def _folders(out: str) -> list[Path]:
    """Where a run of an earlier process of this controller may be."""
    return sorted(Path(out).glob("*/"), reverse=True) if out.endswith("/") else [Path(out)]


def _nodes(containers: ContainersFabric, environment: Mapping[str, str], console: Console) -> int:
    """The number of nodes of the runs."""
    wanted = environment.get("GANNET_NODES", "")
    if wanted and not (wanted.isdigit() and int(wanted) > 0):
        raise ServeError(f"GANNET_NODES={wanted}: a number of nodes from 1, or nothing to take all there are")
    name = environment.get("GANNET_NODE_NAME") or "node"
    if wanted:
        return int(wanted)
    return count_nodes(lambda: addresses_of(name), lambda: len(containers.membership.members()), console)


def count_nodes(
    listed: Callable[[], int], joined: Callable[[], int], console: Console, timeout_s: float = _JOIN_S
) -> int:
    """The number of node containers, once all that are listed have joined and no more come."""
    end = time.monotonic() + timeout_s
    last, since, shown = 0, time.monotonic(), -1
    while time.monotonic() < end:
        now = listed()
        here = joined()
        if now != last or here < now or not now:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > _SETTLED_S:
            return now
        if here != shown:
            console.print(f"  {here} of {now} node containers have joined", style="dim", markup=False)
            shown = here
        time.sleep(0.25)
    raise ServeError(
        f"after {timeout_s:.0f} s {joined()} of {listed()} node containers have joined: look at "
        "`docker compose logs node`, or set GANNET_NODES to the number that you want"
    )


def addresses_of(name: str) -> int:
    """The number of IPv4 addresses of a service's name in the container network's DNS; 0 while it has none."""
    try:
        return len({info[4][0] for info in socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)})
    except socket.gaierror:
        return 0


def give_up_root(results: Path) -> None:
    """Become the owner of the results' folder, so that files written there belong to the user who started the run."""
    if os.geteuid() != 0:
        return
    if not results.is_dir():
        raise ServeError(f"{results} is not mounted: results would be lost; mount a folder there")
    _ALIVE.parent.mkdir(parents=True, exist_ok=True)
    _ALIVE.parent.chmod(0o1777)  # changing its owner would need another capability
    owner = results.stat()
    os.setgroups([])
    os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
    os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)
    os.environ["HOME"] = "/tmp"


def _beat() -> None:
    """Show the health check that this process is alive."""

    def beat() -> None:
        while True:
            _ALIVE.parent.mkdir(parents=True, exist_ok=True)
            _ALIVE.touch()
            time.sleep(_BEAT_S)

    threading.Thread(target=beat, name="alive", daemon=True).start()


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name)
