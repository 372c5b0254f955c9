"""The mixing rules that a spec can name: `trimmed-mean`, or a mapping with a name and parameters.

Importing this module imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union, get_args

from pydantic import BeforeValidator, Field, PlainSerializer

from gannet.node.mixing.base import MixingRule
from gannet.node.mixing.clip import ClipRule
from gannet.node.mixing.mean import MeanRule
from gannet.node.mixing.trimmed import MedianRule, TrimmedMeanRule
from gannet.node.settings import by_name

RULES: tuple[type[MixingRule], ...] = (MeanRule, TrimmedMeanRule, MedianRule, ClipRule)
NAMES: tuple[str, ...] = tuple(name for rule in RULES for name in get_args(rule.model_fields["name"].annotation))


def _shortest(rule: MixingRule) -> Any:
    return rule.model_dump(exclude_none=True) if len(type(rule).model_fields) > 1 else rule.name


if TYPE_CHECKING:
    MixingConfig: TypeAlias = MixingRule
else:
    _Tagged = Annotated[Union[RULES], Field(discriminator="name")]  # noqa: UP007
    MixingConfig = Annotated[_Tagged, BeforeValidator(by_name), PlainSerializer(_shortest)]
