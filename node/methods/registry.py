"""The methods that a spec can name: one module each in this folder.

A module of this folder that defines an AlgorithmSetting with a new `name` adds a method; nothing else lists
them.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, TypeAlias, Union, get_args

from pydantic import BeforeValidator, Field

import gannet.node.methods
from gannet.node.methods.base import AlgorithmSetting, Method, load
from gannet.node.settings import by_name


def _discover() -> dict[str, type[AlgorithmSetting]]:
    """By the name that a spec gives them, in the order of their modules' names."""
    found: dict[str, type[AlgorithmSetting]] = {}
    for module in iter_modules(gannet.node.methods.__path__, f"{gannet.node.methods.__name__}."):
        for value in vars(import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, AlgorithmSetting) and value.__module__ == module.name:
                for name in get_args(value.model_fields["name"].annotation):
                    found[name] = value
    return found


_SETTINGS = _discover()
ALGORITHM_NAMES = tuple(_SETTINGS)
METHODS: dict[str, type[Method]] = {name: of for name, of in _SETTINGS.items() if issubclass(of, Method)}

if TYPE_CHECKING:
    AlgorithmConfig: TypeAlias = AlgorithmSetting
else:
    _Tagged = Annotated[Union[tuple(_SETTINGS.values())], Field(discriminator="name")]  # noqa: UP007
    AlgorithmConfig = Annotated[_Tagged, BeforeValidator(by_name)]


def import_algorithms() -> None:
    """Import the algorithms of all methods, for a process whose forks are nodes."""
    for method in METHODS.values():
        load(method.coroutine)
