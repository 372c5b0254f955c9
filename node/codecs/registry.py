"""The codecs that a spec can name, in any of three ways: `qsgd-4bit`, `qsgd-4bit,bucket=128`, or a mapping.

All ways of naming a shipped codec give one canonical text, which is what a run's configuration, its schema hash and
its report hold. Imports neither torch nor numpy.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, ValidationError

from gannet.node.codecs.base import CodecConfig
from gannet.node.codecs.cast import CastConfig
from gannet.node.codecs.custom.config import PythonCodecConfig
from gannet.node.codecs.natural import NaturalConfig
from gannet.node.codecs.qsgd import QsgdConfig
from gannet.node.codecs.sign import SignConfig
from gannet.node.codecs.sparse import RandomKConfig, TopKConfig
from gannet.node.mistakes import message_of

AnyCodecConfig = CodecConfig | PythonCodecConfig
PYTHON = "python"

CODECS: tuple[type[CodecConfig], ...] = (
    CastConfig, QsgdConfig, TopKConfig, RandomKConfig, SignConfig, NaturalConfig,
)  # fmt: skip

# One ready-made name of every kind; parameters follow a comma, as in "qsgd-4bit,bucket=128".
NAMES: tuple[str, ...] = tuple(name for codec in CODECS for name in codec.forms)

_BY_NAME = {name: codec for codec in CODECS for name in get_args(codec.model_fields["name"].annotation)}


def names_of(*, casts: bool) -> str:
    """The ready-made names for a message: of those that cast, or of the unbiased ones that do not."""
    names = [name for codec in CODECS if codec.casts == casts and codec.unbiased for name in codec.forms]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def codec_config(codec: CodecSetting | dict[str, Any]) -> AnyCodecConfig:
    """The settings that a text or a mapping stands for. Raises ValueError, one line, for what names no codec."""
    if isinstance(codec, PythonCodecConfig):
        return codec
    given = _fields(codec) if isinstance(codec, str) else codec
    name = str(given.get("name"))
    if name == PYTHON and isinstance(codec, dict):
        return _python(codec)
    if name not in _BY_NAME:
        raise ValueError(
            f"unknown codec {codec!r}: choose one of {', '.join(NAMES)}, or one of your own: "
            "{name: python, file: my_codec.py}"
        )
    try:
        return _BY_NAME[name].model_validate(given)
    except ValidationError as error:
        item = error.errors()[0]
        where = ".".join(str(part) for part in item["loc"])
        raise ValueError(f"codec {codec!r}: {where + ': ' if where else ''}{message_of(item)}") from None


def _python(given: dict[str, Any]) -> PythonCodecConfig:
    try:
        return PythonCodecConfig.model_validate(given)
    except ValidationError as error:
        item = error.errors()[0]
        where = ".".join(str(part) for part in item["loc"])
        raise ValueError(f"{where + ': ' if where else ''}{message_of(item)}") from None


def _fields(text: str) -> dict[str, Any]:
    head, *parameters = (part.strip() for part in text.split(","))
    fields: dict[str, Any] = {"name": head}
    if named := re.fullmatch(r"(.+)-(\d+)bit", head):
        fields = {"name": named[1], "bits": int(named[2])}
    for parameter in parameters:
        key, equals, value = (part.strip() for part in parameter.partition("="))
        if not equals or key in fields:
            raise ValueError(f"codec {text!r}: write NAME,KEY=VALUE,... and each key once, not {parameter!r}")
        fields[key] = int(value) if value.isdecimal() else value
    return fields


def _canonical(value: Any) -> Any:
    if not isinstance(value, (str, dict)):
        return value
    config = codec_config(value)
    return config.text if isinstance(config, CodecConfig) else config


# A codec in a spec: the text of a shipped codec, or the source of a user-defined one.
CodecSetting = Annotated[str | PythonCodecConfig, BeforeValidator(_canonical)]
