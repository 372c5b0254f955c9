"""Protobuf messages of any content, as hypothesis makes them: fields of their types, with the values that hurt."""

from __future__ import annotations

import math
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

_F = FieldDescriptor
_ADDRESSES = ["10.1.0.2:7700", "10.1.0.2", "10.1.0.2/24", "256.1.1.1:1", "host:7700", "[::1]:1", ":", "1.2.3.4:99999",
              "1.2.3.4:²", "0.0.0.0", "255.255.255.255"]  # fmt: skip
_TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from([*_ADDRESSES, "", "netem", "nfqueue,netem", "eth0", "a", "\x1b[2J", "../../x", "{}", "NaN"]),
    st.sampled_from(["x" * 1_000_000, "[" * 100_000]),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "ok", "error", "x"]), inner),
    max_leaves=6,
)
_NUMBERS = [0, 1, 2, 3, 7, 1 << 31, (1 << 32) - 1, 1 << 53, (1 << 64) - 1]
_DOUBLES = st.sampled_from([0.0, -0.0, -1.0, 1.5, 1e308, math.inf, -math.inf, math.nan])


def _value(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type == _F.TYPE_MESSAGE:
        return messages(field.message_type)
    if field.type == _F.TYPE_STRING:
        return _TEXTS
    if field.type == _F.TYPE_BYTES:
        return st.binary(max_size=64)
    if field.type == _F.TYPE_BOOL:
        return st.booleans()
    if field.type == _F.TYPE_DOUBLE:
        return _DOUBLES
    bits = 32 if field.type in (_F.TYPE_UINT32, _F.TYPE_FIXED32, _F.TYPE_SINT32) else 64
    return st.sampled_from([number for number in _NUMBERS if number < 1 << bits])


@st.composite
def messages(draw: st.DrawFn, of: Descriptor) -> Message:
    """A message of this type. Of a oneof, one field at most is set."""
    message = GetMessageClass(of)()
    chosen = {oneof.name: draw(st.sampled_from([None, *oneof.fields])) for oneof in of.oneofs}
    for field in of.fields:
        if field.containing_oneof is not None and chosen[field.containing_oneof.name] is not field:
            continue
        if field.type == _F.TYPE_MESSAGE and field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name
            pairs = st.dictionaries(_value(entry["key"]), _value(entry["value"]), max_size=3)
            getattr(message, field.name).update(draw(pairs))
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(_value(field), max_size=4)))
        elif field.type == _F.TYPE_MESSAGE:
            getattr(message, field.name).CopyFrom(draw(_value(field)))
        elif field.containing_oneof is not None or draw(st.booleans()):
            setattr(message, field.name, draw(_value(field)))
    return message


def json_texts() -> st.SearchStrategy[str]:
    """JSON texts of any shape, near an agent's answers."""
    import json

    return st.one_of(_JSON.map(json.dumps), _TEXTS)
