"""Codecs as a spec names them: `qsgd-4bit`, `qsgd-4bit,bucket=128`, or {name: qsgd, bits: 4, bucket: 128}.

All ways of saying the same give one canonical text, which is what a run's configuration, its schema hash and
its report hold. Imports neither torch nor numpy.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from gannet.node.tasks.config import Settings

Bucket = Annotated[int, Field(ge=8, le=1 << 20, multiple_of=8)]
Ratio = Annotated[float, Field(gt=0, le=1)]


class _Config(Settings):
    """What every codec's parameters have in common.

    `casts`: each value rounded by itself, to nearest, so that even parameters may travel so. `unbiased`: the mean
    of what comes back is what went in.
    """

    casts: ClassVar[bool] = False
    unbiased: ClassVar[bool] = True

    name: str

    @property
    def text(self) -> str:
        """The one text for these parameters; those with their usual values are left out."""
        bits = getattr(self, "bits", None)
        usual = type(self).model_validate({"name": self.name} | ({"bits": bits} if bits else {}))
        head = f"{self.name}-{bits}bit" if bits else self.name
        others = [key for key in type(self).model_fields if key not in ("name", "bits")]
        return ",".join([head, *(f"{k}={v}" for k in others if (v := getattr(self, k)) != getattr(usual, k))])


class CastConfig(_Config):
    """Values cast to a shorter floating-point type, or sent as they are."""

    casts: ClassVar[bool] = True

    name: Literal["fp32", "fp16", "bf16"]


class _Quantizer(_Config):
    """`raw_below`: tensors of fewer elements travel as float32 where an exchange knows tensors (QSGD, section 5)."""

    raw_below: Annotated[int, Field(ge=0)] = 10_000


class QsgdConfig(_Quantizer):
    """QSGD (Alistarh et al. 2017) packed to `bits` a value with the sign: s = 1, 7 or 127 levels.

    `bucket`: values that share a scale, 128 for 2 bits and 512 else, as in the paper. `scale`: their largest
    magnitude or their L2 norm.
    """

    name: Literal["qsgd"]
    bits: Literal[2, 4, 8] = 4
    bucket: Bucket = 512
    scale: Literal["max", "l2"] = "max"

    @model_validator(mode="before")
    @classmethod
    def _bucket_of_two_bits(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("bits") == 2:
            return {"bucket": 128} | values
        return values


class NaturalConfig(_Quantizer):
    """Natural compression (Horváth et al. 2019): powers of two, 9 bits a value, or 8 with a narrower exponent."""

    name: Literal["natural"]
    bits: Literal[8, 9] = 8


class TopKConfig(_Quantizer):
    """The largest magnitudes, that share of all values; biased: needs an error memory."""

    unbiased: ClassVar[bool] = False

    name: Literal["top-k"]
    ratio: Ratio = 0.01


class RandomKConfig(_Quantizer):
    """Values picked at random, that share of all, scaled up to stay unbiased."""

    name: Literal["random-k"]
    ratio: Ratio = 0.1


class SignConfig(_Quantizer):
    """Signs, and the mean magnitude of each bucket; biased: needs an error memory."""

    unbiased: ClassVar[bool] = False

    name: Literal["sign"]
    bucket: Bucket = 512


CodecConfig = CastConfig | QsgdConfig | NaturalConfig | TopKConfig | RandomKConfig | SignConfig
_ADAPTER: TypeAdapter[CodecConfig] = TypeAdapter(Annotated[CodecConfig, Field(discriminator="name")])
_FORMS = "fp32, fp16, bf16, qsgd-2bit, qsgd-4bit, qsgd-8bit, natural-8bit, natural-9bit, top-k, random-k, sign"


def codec_config(codec: str | dict[str, Any]) -> CodecConfig:
    """The parameters that a text or a mapping names. Raises ValueError, one line, for what names none."""
    given = _fields(codec) if isinstance(codec, str) else codec
    try:
        return _ADAPTER.validate_python(given)
    except ValidationError as error:
        item = error.errors()[0]
        if item["type"].startswith("union_tag"):
            raise ValueError(f"unknown codec {codec!r}: choose one of {_FORMS}") from None
        where = ".".join(str(part) for part in item["loc"][1:])
        what = item["msg"].removeprefix("Value error, ")
        raise ValueError(f"codec {codec!r}: {where + ': ' if where else ''}{what}") from None


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
    return codec_config(value).text if isinstance(value, (str, dict)) else value


CodecName = Annotated[str, BeforeValidator(_canonical)]
