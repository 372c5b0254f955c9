"""What takes bytes from outside: each target returns or refuses with its own error. Anything else is a fault.

Some compare with another reader as well: protobuf's for chunks, a codec's own length for payloads.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from google.protobuf.message import DecodeError, Message

from gannet.fabrics.containers.hello import answer_of
from gannet.fabrics.containers.hello import wrong_with as wrong_hello
from gannet.fabrics.session.reports import wrong_with
from gannet.ledger.files import LedgerError, models, read_yaml
from gannet.ledger.records import LinkEvent, LinkSample, Score, Step, Summary
from gannet.netem.formats.base import FormatError, Options
from gannet.netem.formats.registry import import_file
from gannet.netem.links.matrix_files import MatrixError
from gannet.netem.links.profile import ProfileError, load_profile
from gannet.netem.links.regions import load_matrix
from gannet.netem.links.trace import TraceError
from gannet.netem.links.trace_files import load_trace
from gannet.node.codecs import NAMES, build_codec
from gannet.node.exchange.chunk_wire import pack, unpack
from gannet.node.exchange.mailbox import Header, Mailbox, Refusal
from gannet.node.topologies.from_file import parse as parse_topology
from gannet.node.training.effects import Tag
from gannet.node.wire import control_pb2, exchange_pb2
from gannet.spec.load import SpecError, load_spec
from tests.netem.formats.graphs import examples

WORLD = 4
_VALUES = 64
_MEMORY = "/dev/shm"
_CODECS = [build_codec(name) for name in (*NAMES, "qsgd-4bit,bucket=16,scale=l2", "top-k,ratio=0.4", "sign,bucket=8")]
_MOST_VALUES = 1 << 20  # that a payload of the codecs may claim here: more only costs time


@dataclass(frozen=True)
class Target:
    """`take` returns or raises one of `refusals`; `seeds` are valid inputs to begin from."""

    take: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]

    def refuses(self, data: bytes) -> bool:
        """Whether this input is refused; what else is raised is a fault."""
        try:
            self.take(data)
        except self.refusals as refusal:
            assert str(refusal) or isinstance(refusal, DecodeError), "a refusal without a reason"
            return True
        return False


def chunk(data: bytes) -> None:
    """A message of the exchange is what protobuf reads in it."""
    try:
        theirs = exchange_pb2.Chunk.FromString(data)
    except DecodeError:
        theirs = None
    try:
        ours = unpack(data)
    except DecodeError:
        assert theirs is None, "refused, though protobuf reads it"
        raise
    assert theirs is not None, "read, though protobuf refuses it"
    assert ours.data == theirs.data
    assert (ours.header is None) == (not theirs.HasField("header"))
    assert ours.header is None or ours.header == theirs.header
    again = unpack(pack(ours.data, ours.header))
    assert again.data == ours.data


def payload(data: bytes) -> None:
    """The first byte chooses the codec of the rest. What is finite can be decoded, and has its values' length."""
    codec, body = _CODECS[data[0] % len(_CODECS) if data else 0], memoryview(bytearray(data[1:]))
    claimed = int.from_bytes(body[:4], "little")
    if codec.name not in ("fp32", "fp16", "bf16") and claimed > _MOST_VALUES:
        return
    if not codec.finite(body):
        return
    values = codec.decode(body)
    assert bool(torch.isfinite(values).all())
    assert len(body) <= codec.wire_bytes(len(values)), "longer than the codec writes"
    assert not codec.fixed_size or codec.wire_bytes(len(values)) == len(body)


def message(data: bytes) -> None:
    """A header of the exchange, and 256 bytes of payload, at a mailbox: used only if it is for the round."""
    header = exchange_pb2.Header.FromString(data[:-256])
    codec = build_codec("fp32")
    box = Mailbox("run", 0, WORLD, 7, codec, codec.wire_bytes(_VALUES), 4)
    box.enter_round(1)
    read = Header(
        header.run, header.sender, Tag(header.round, header.segment, header.player), header.schema, header.bytes,
        header.crc32, header.again,
    )  # fmt: skip
    box.put(read, memoryview(bytearray(data[-256:])))
    assert header.run == "run" and 0 < header.sender < WORLD and header.schema == 7


def report(data: bytes) -> None:
    """What a node says to the controller."""
    read = control_pb2.Report.FromString(data)
    wrong = wrong_with(read, WORLD)
    assert wrong is None or wrong.strip()


def agent(data: bytes) -> None:
    """What a link agent says to the controller."""
    read = control_pb2.AgentWord.FromString(data)
    if read.WhichOneof("kind") == "hello":
        wrong = wrong_hello(read.hello)
        assert wrong is None or wrong.strip()
    else:
        answer_of(read.answer.json)


def records(data: bytes) -> None:
    """A run folder's lines and its spec, as the report reads them."""
    with _file(data, ".jsonl") as path:
        for model in (Step, LinkSample, LinkEvent, Score, Summary):
            try:
                list(models(path, model, [], cut_allowed=True))
            except LedgerError as error:
                assert str(error)
        read_yaml(path)


def by_path(read: Callable[[Path], object], suffix: str) -> Callable[[bytes], object]:
    """A reader of files, given the content."""

    def take(data: bytes) -> object:
        with _file(data, suffix) as path:
            return read(path)

    return take


@contextmanager
def _file(data: bytes, suffix: str) -> Iterator[Path]:
    """A file of that content, in memory where the machine has such a folder, gone afterwards."""
    with tempfile.NamedTemporaryFile(suffix=suffix, dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None) as file:
        file.write(data)
        file.flush()
        yield Path(file.name)


def topology(data: bytes) -> None:
    """An edge list or a matrix."""
    parse_topology(data.decode("utf-8", errors="replace"), "the file")


def _shipped(folder: str, suffix: str) -> tuple[bytes, ...]:
    found = sorted(each for each in files("gannet").joinpath(folder).iterdir() if each.name.endswith(suffix))
    assert found, folder
    return tuple(each.read_bytes() for each in found if each.is_file())


def _wire(*messages: Message) -> tuple[bytes, ...]:
    return tuple(each.SerializeToString(deterministic=True) for each in messages)


_HEADER = exchange_pb2.Header(run="run", sender=1, round=1, schema=7, bytes=256, crc32=0x0D968558)
_STEP = {
    "step": 1,
    "t_s": 0.5,
    "compute_s": 0.1,
    "wait_s": 0.2,
    "codec_bytes": 10,
    "grpc_bytes": 12,
    "losses": {"d": 1},
}
_OPTIONS = (Options(), Options(round_trip=True, unit="ms"), Options(unit="Mbit"), Options(round_trip=False))
_GRAPHS = (examples.SHADOW, examples.CROSS_SILO, examples.ZOO, examples.SNDLIB, examples.KOLLAPS % "",
           examples.SIMGRID, examples.CORE, examples.MINIEDIT)  # fmt: skip
_UNASKED = (
    b"0\n1\n1\n2\n5\n9\n",
    b'[{"duration_ms": 500, "bandwidth_kbps": 1200, "latency_ms": 40}]',
    b"apiVersion: chaos-mesh.org/v1alpha1\nkind: NetworkChaos\nmetadata: {name: x}\nspec:\n  action: delay\n"
    b"  delay: {latency: 10ms, jitter: 1ms, correlation: '25'}\n",
    *(text.encode() for text in _GRAPHS),
)
_IMPORTS = (
    *(b"\0" + text for text in _UNASKED),
    b'\1{"0-1": 10.0, "0-2": 20, "1-2": 30}',
    b'\3{"eth0": {"outgoing": {"protocol=ip": {"delay": "10.0ms", "rate": "5Mbps"}}, "incoming": {}}}',
    b"\1RTT,a,b\na,0,2\nb,3,0\n",
    b"\x020.5\t1.25\n1.0\t3.5\n1.5\t0.25\n",
)


def imported(data: bytes) -> None:
    """A network's or a link's file. The first byte chooses what the caller says of it."""
    with _file(data[1:], ".txt") as path:
        import_file(path, _OPTIONS[data[0] % len(_OPTIONS) if data else 0])


TARGETS: Mapping[str, Target] = {
    "chunk": Target(chunk, (DecodeError,), (pack(memoryview(b"abcd" * 64), _HEADER), pack(memoryview(b"x" * 300)))),
    "payload": Target(
        payload,
        (ValueError,),
        tuple(bytes([n]) + bytes(codec.encode(torch.linspace(-1, 1, _VALUES))) for n, codec in enumerate(_CODECS)),
    ),
    "message": Target(message, (DecodeError, Refusal), (_wire(_HEADER)[0] + bytes(256),)),
    "report": Target(
        report,
        (DecodeError,),
        _wire(
            control_pb2.Report(step=control_pb2.Step(step=1, t_s=0.5, missing=[2])),
            control_pb2.Report(ready=control_pb2.Ready(mesh_address="10.0.0.1:80", parameters=10)),
            control_pb2.Report(waiting=control_pb2.Waiting(source=1)),
            control_pb2.Report(finished=control_pb2.Finished(codec_bytes=3)),
        ),
    ),
    "agent": Target(
        agent,
        (DecodeError, ValueError),
        _wire(
            control_pb2.AgentWord(
                hello=control_pb2.AgentHello(host="node-1", mesh_device="eth1", mesh_address="10.0.0.2")
            ),
            control_pb2.AgentWord(answer=control_pb2.AgentAnswer(json='{"id": 1, "ok": {}}')),
        ),
    ),
    "records": Target(records, (LedgerError,), (json.dumps(_STEP).encode() + b"\n",)),
    "spec": Target(by_path(load_spec, ".yaml"), (SpecError,), _shipped("spec/shipped", ".yaml")),
    "profile": Target(by_path(load_profile, ".yaml"), (ProfileError,), _shipped("netem/profiles", ".yaml")),
    "trace": Target(by_path(load_trace, ".csv"), (TraceError, ProfileError), _shipped("netem/traces", ".csv")),
    "matrix": Target(by_path(load_matrix, ".csv"), (MatrixError, ProfileError), (b"# delays_ms\n0,1\n2,0\n",)),
    "topology": Target(topology, (ValueError,), (b"0 1\n1 2\n2 0\n", b"0.5 0.5\n0.5 0.5\n")),
    "import": Target(imported, (FormatError,), _IMPORTS),
}
