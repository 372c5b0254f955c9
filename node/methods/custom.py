"""User-defined algorithms: a Python file named in the spec, or an installed entry point (see docs)."""

from __future__ import annotations

from functools import cached_property, partial
from typing import ClassVar, Literal

from pydantic import ValidationError

from gannet.node.methods.base import Algorithm, AlgorithmSetting, Method, load
from gannet.node.mistakes import message_of
from gannet.node.plugins import (
    USER_ERRORS,
    PluginError,
    PythonSource,
    entry_point,
    load_module,
    only_subclass_in,
    told,
)


class PythonAlgorithmConfig(PythonSource, AlgorithmSetting):
    """A user-defined algorithm: a class derived from gannet.node.methods.base.Method, with a `run`."""

    what: ClassVar[str] = "algorithm"
    group: ClassVar[str] = "gannet.algorithms"
    shipped: ClassVar[bool] = False

    name: Literal["python"]

    @cached_property
    def traits(self) -> Method:
        """The user's method. Runs the file on first use. Raises PluginError."""
        return self._make()

    def build(self) -> Algorithm:
        """Build from a separate module, as in a separate process: nodes that share a process share nothing."""
        return partial(load("gannet.node.algorithms.custom:checked"), self._make().build(), self.title)

    def _make(self) -> Method:
        kind = self._kind()
        if not kind.model_fields["name"].is_required() or kind.model_fields["name"].annotation is not str:
            raise PluginError(
                f"{self.title}: {kind.__name__} has a `name`, which is what the spec calls it: remove it"
            )
        allowed = [name for name in kind.model_fields if name != "name"]
        if unknown := sorted(set(self.settings) - set(allowed)):
            known = ", ".join(allowed) or "none"
            raise PluginError(f"algorithm.settings: unknown {', '.join(unknown)}; {self.title} allows {known}")
        try:
            return kind.model_validate({"name": self.title, **self.settings})
        except ValidationError as error:
            item = error.errors()[0]
            where = ".".join(map(str, ("algorithm", "settings", *item["loc"])))
            raise PluginError(f"{where}: {message_of(item)} (got {item['input']!r}); see {self.title}") from None
        except USER_ERRORS as error:
            raise PluginError(told(error, self.title)) from error

    def _kind(self) -> type[Method]:
        if self.entry is None:
            return only_subclass_in(load_module(self), Method, "algorithm")
        found = entry_point(self.group, self.entry, "algorithm.entry")
        if not (isinstance(found, type) and issubclass(found, Method)):
            raise PluginError(
                f"algorithm.entry: {self.entry} is no class derived from {Method.__module__}.{Method.__qualname__}"
            )
        return found
