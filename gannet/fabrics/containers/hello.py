"""What a link agent's first message and its answers have to be, before anything of them is used."""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Address
from typing import Any

from gannet.fabrics.session.reports import shown
from gannet.node.wire import control_pb2

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})")
_DEVICE = re.compile(r"[^\s/:\x00-\x20\x7f]{1,15}")  # IFNAMSIZ, less the final zero
_BOOT_ID = re.compile(r"[0-9a-f-]{0,64}")
_ENGINES = re.compile(r"([a-z]{1,16}(,[a-z]{1,16}){0,7})?")
MOST_COMPLAINT = 8192


def wrong_with(hello: control_pb2.AgentHello) -> str | None:
    """Why an agent's hello is refused; None: it is not."""
    for name, form, meaning in (
        ("host", _HOST, "a host name"),
        ("mesh_device", _DEVICE, "the name of a network device"),
        ("boot_id", _BOOT_ID, "a kernel's boot id"),
        ("engines", _ENGINES, "names of link engines"),
    ):
        if not form.fullmatch(text := getattr(hello, name)):
            return f"{name} is {shown(text)}, not {meaning}"
    try:
        address = IPv4Address(hello.mesh_address)
    except ValueError:
        return f"mesh_address is {shown(hello.mesh_address)}, not an IPv4 address"
    if address.is_multicast or address.is_unspecified or address.is_reserved:
        return f"mesh_address is {address}, which no interface has"
    if len(hello.complaint) > MOST_COMPLAINT:
        return f"complaint has {len(hello.complaint)} characters, limit {MOST_COMPLAINT}"
    return None


def answer_of(text: str) -> dict[str, Any]:
    """An agent's answer: `id`, and either `ok` or `error`. Raises ValueError."""
    try:
        said = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not (isinstance(said, dict) and type(said.get("id")) is int):
        raise ValueError("no JSON object with an id")
    if isinstance(said.get("ok"), dict) == isinstance(said.get("error"), str):
        raise ValueError("neither an ok, which is an object, nor an error, which is a text, or both")
    return said
