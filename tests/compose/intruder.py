"""What a task's code can reach from inside a node's container: programs run there as the training process's user."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gannet.fabrics.credentials import ROLES, node_credential, secret_file
from gannet.fabrics.entrance.bundles import ROLES as CERTIFIED
from gannet.fabrics.entrance.bundles import identity_file
from tests.support.compose_cluster import ComposeCluster

# What this user can read of the secrets' folder, and of every process: environment, arguments, open files, memory.
_READ = """
import json, os, pathlib
found, texts = [], []
for folder, _, names in os.walk("/credentials"):
    found += [f"{folder}/{name}" for name in names if os.access(f"{folder}/{name}", os.R_OK)]
for entry in pathlib.Path("/proc").iterdir():
    if entry.name.isdigit() and int(entry.name) != os.getpid():
        for name in ("environ", "cmdline"):
            try:
                texts.append((entry / name).read_text(errors="replace"))
            except OSError:
                pass
        if entry.stat().st_uid != os.getuid():
            for name in ("mem", "environ", "fd"):
                try:
                    os.listdir(entry / name) if name == "fd" else open(entry / name).close()
                    found.append(str(entry / name))
                except OSError:
                    pass
print(json.dumps({"user": os.getuid(), "found": found, "texts": texts}))
"""
# How one call of each service ends, with the credential and the identity that came by standard input.
_CALL = """
import json, sys, grpc
from gannet.node.admission.identity import Identity
handed, ended = json.load(sys.stdin), {}
credential, bundle = handed["credential"], handed["bundle"]
own = Identity.parse(bundle.encode(), "node", "what was handed over") if bundle else None
for name, port in (("Controller/Attend", 7000), ("Membership/Serve", 7002), ("Operator/Show", 7001)):
    package = "operator" if port == 7001 else "control"
    where = f"controller:{port}"
    opened = grpc.secure_channel(where, own.channel(), own.options()) if own else grpc.insecure_channel(where)
    with opened as channel:
        method = f"/gannet.{package}.v1.{name}"
        stub = channel.unary_unary(method) if port == 7001 else channel.stream_stream(method)
        try:
            answer = stub(b"" if port == 7001 else iter([b""]), metadata=(("gannet-token", credential),), timeout=20)
            ended[name] = str(answer if port == 7001 else list(answer))
        except grpc.RpcError as error:
            ended[name] = error.code().name
print(json.dumps(ended))
"""


@dataclass
class Intrusion:
    """What was tried in a cluster that trains, and what came of it."""

    secrets: dict[str, str]
    read: dict[str, Any]
    keys: dict[str, str]  # a line of each role's private key
    own: dict[str, str]
    another: dict[str, str]
    in_the_clear: dict[str, str]


def intrude(cluster: ComposeCluster, node: str, other: str) -> Intrusion:
    """Read and call as user 1000 in the container `node`; `other` is another one."""
    docker = cluster.engine.docker
    (controller,) = cluster.containers("controller")
    secrets = {role: docker("exec", "-u", "root", controller, "cat", str(secret_file(role))) for role in ROLES}
    names = [cluster.inspect(name)["Config"]["Hostname"] for name in (node, other)]
    mine, others = (node_credential(secrets["trainer"], name) for name in names)
    inside = ("exec", "-i", "-u", "1000", node, "python", "-c")
    read = json.loads(docker(*inside, _READ))
    bundles = {role: docker("exec", "-u", "root", controller, "cat", str(identity_file(role))) for role in CERTIFIED}
    keys = {role: bundle.splitlines()[1] for role, bundle in bundles.items()}

    def called(credential: str, bundle: str) -> dict[str, str]:
        ended: dict[str, str] = json.loads(
            docker(*inside, _CALL, given=json.dumps({"credential": credential, "bundle": bundle}))
        )
        return ended

    own = called(mine, bundles["trainer"])  # which a task's code has: it runs in the training process
    another = called(f"{names[1]}:{mine.rpartition(':')[2]}", bundles["trainer"])
    return Intrusion({**secrets, "node": mine, "other": others}, read, keys, own, another, called(mine, ""))


def showing(cluster: ComposeCluster, secrets: dict[str, str]) -> list[str]:
    """Where one of the secrets can be seen: in what Docker tells of containers and image, in logs, in results."""
    docker = cluster.engine.docker
    names = [name for service in ("credentials", "controller", "node") for name in cluster.containers(service)]
    places = {f"inspect {name}": json.dumps(cluster.inspect(name)) for name in names}
    live = [name for name in names if cluster.inspect(name)["State"]["Running"]]
    places |= {f"arguments in {name}": json.dumps(cluster.processes(name)) for name in live}
    image = cluster.inspect(names[-1])["Image"]
    places["image"] = docker("history", "--no-trunc", image) + docker("image", "inspect", image)
    places["logs"] = cluster.compose("logs", "--no-color")
    places |= {str(path): path.read_bytes().decode("latin-1") for path in _files(cluster.runs)}
    macs = [text.rpartition(":")[2] for text in secrets.values()]
    return [place for place, text in places.items() if any(mac in text for mac in macs)]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
