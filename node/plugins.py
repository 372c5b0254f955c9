"""User-defined Python: a file named in the spec, or an installed entry point.

`PythonSource` is its description in a spec. The file's text is sent with the configuration, so that every node runs
the same text; reading a spec checks that it is Python, and runs none of it. `load_module` runs the text in a fresh
module at each build, as it would run in a separate process, so that nodes which share a process share nothing. Errors
in it are reported with file and line. Imports no torch.
"""

from __future__ import annotations

import inspect
import json
import linecache
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import wraps
from hashlib import sha256
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, ClassVar, Literal, NamedTuple, ParamSpec, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from gannet.node.mistakes import message_of
from gannet.node.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


USER_ERRORS = (Exception, SystemExit)
"""What a user's code may raise. One that calls sys.exit would else end the command without a word."""


class PluginError(ValueError):
    """A user's Python that cannot be used; the message says where and why."""


class Finding(NamedTuple):
    """A mistake that a check of a user's file found: its name, what is wrong, how to fix it."""

    name: str
    what: str
    fix: str


class PluginMistake(ValueError):
    """A mistake that one of our base classes finds in a user's class; the message says what to change."""


def fingerprint(source: str) -> str:
    """SHA-256 of a file's text, in hex."""
    return sha256(source.encode()).hexdigest()


class PythonSource(Settings):
    """The base of a spec's `{name: python, file: …}` or `{name: python, entry: …}`; see docs/own-task.md.

    An entry point has to be installed on every node, and so has whatever a file imports.
    """

    what: ClassVar[str]
    """The field of a spec that holds it: task, codec, …"""

    group: ClassVar[str]
    """The group of its entry points."""

    shipped: ClassVar[bool] = False
    """Using it runs a user's code, which reading a spec does not."""

    name: Literal["python"]
    file: str | None = Field(
        default=None, pattern=r"[^/]\.py$", description="a .py file, relative to the spec's folder"
    )
    entry: str | None = Field(default=None, description="name of an installed entry point")
    settings: dict[str, Any] = Field(default_factory=dict, description="what the file itself lets a spec choose")
    source: str | None = Field(default=None, description="the file's text; put in when a spec is read")
    sha256: str | None = Field(default=None, description="of the text; checked wherever the text arrives")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.file is None) == (self.entry is None):
            raise ValueError(
                f"a python {self.what} is either a file (file: my_{self.what}.py) or an entry point (entry: its name)"
            )
        if self.entry is not None and (self.source is not None or self.sha256 is not None):
            raise ValueError("source and sha256 belong to a file: leave them out where entry is given")
        if self.file is not None and self.source is None:
            raise ValueError(
                f"the text of {self.file} is missing: a spec file puts it in when it is read; in Python, use "
                "gannet.node.plugins.with_source"
            )
        if self.source is not None and fingerprint(self.source) != self.sha256:
            raise ValueError(
                f"the text of {self.file} is not the one that sha256 {self.sha256} belongs to: it was changed; "
                "leave out source and sha256 to take the file as it is now"
            )
        if self.source is not None:
            self._compile(self.source)
        return self

    def _compile(self, source: str) -> None:
        try:
            compile(source, str(self.file), "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:  # ValueError: null bytes
            line = getattr(error, "lineno", None) or 1
            raise ValueError(f"{self.file}:{line}: {getattr(error, 'msg', error)}; this is not Python") from None

    @property
    def title(self) -> str:
        """For messages: the file, or the entry point."""
        return str(self.file or self.entry)

    @property
    def identity(self) -> str:
        """All that decides its behaviour, as one short line: the text is represented by its SHA-256."""
        known = [self.file, self.entry, self.sha256, self.settings]
        return json.dumps(known, sort_keys=True, default=str)

    def __hash__(self) -> int:
        return hash(self.identity)  # `settings` is a dict, which has no hash

    def __str__(self) -> str:
        words = ", ".join(f"{key} {value}" for key, value in self.settings.items())
        return f"{self.title} ({words})" if words else self.title


def with_source(settings: dict[str, Any], text: str) -> dict[str, Any]:
    """The settings of a PythonSource with its file's text put in."""
    return {**settings, "source": text, "sha256": fingerprint(text)}


def load_module(source: PythonSource) -> ModuleType:
    """The file's text run in a fresh module. Raises PluginError."""
    text, file = source.source or "", source.title
    name = f"gannet_own_{source.what}"
    module = ModuleType(name)
    module.__file__ = file
    # Tracebacks show the text's lines, and dataclasses find their module.
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    sys.modules[name] = module
    try:
        exec(compile(text, file, "exec", dont_inherit=True), module.__dict__)
    except USER_ERRORS as error:
        raise PluginError(told(error, file)) from error
    return module


def only_subclass_in(module: ModuleType, base: type[T], what: str, otherwise: str = "") -> type[T]:
    """The one class in the module that is derived from `base` and that no other there is derived from.

    `what`: what such a class is, such as "task"; `otherwise`: a function that could be defined in its place, such as
    "build(settings, context)". Raises PluginError when there is no such class, or more than one.
    """
    file = module.__file__
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    leaves = [kind for kind in own if not any(other is not kind and issubclass(other, kind) for other in own)]
    if not leaves:
        function = f", or a function {otherwise}" if otherwise else ""
        raise PluginError(
            f"{file}:1: there is no {what} in it: define a class derived from gannet.{base.__name__}{function}"
        )
    if len(leaves) > 1:
        names = " and ".join(kind.__name__ for kind in leaves)
        remedy = f"say which by {otherwise}" if otherwise else "keep one of them in the file"
        raise PluginError(f"{file}: {names} are {what}s both: {remedy}")
    return leaves[0]


def entry_point(group: str, name: str, where: str) -> Any:
    """Load the installed entry point; `where`: the spec's field. Raises PluginError."""
    found = {entry.name: entry for entry in entry_points(group=group)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise PluginError(f"{where}: no entry point {name!r} of group {group} is installed here; installed: {known}")
    try:
        return found[name].load()
    except USER_ERRORS as error:
        raise PluginError(f"{where}: {name} ({found[name].value}): {type(error).__name__}: {error}") from error


def find(source: PythonSource, base: type[Any], what: str, arguments: tuple[str, ...]) -> Callable[..., Any]:
    """The plugin's builder: the entry point, the file's function `build`, or its one class derived from `base`.

    `arguments`: the names of the values that it is called with. Raises PluginError when it cannot be called so.
    """
    if source.entry is not None:
        return checked(entry_point(source.group, source.entry, f"{source.what}.entry"), source.title, arguments)
    module = load_module(source)
    if (build := getattr(module, "build", None)) is not None:
        return checked(build, source.title, arguments)
    return only_subclass_in(module, base, what, f"build({', '.join(arguments)})")


def built(source: PythonSource, base: type[Any], what: str, wanted: Iterable[str], **arguments: Any) -> Any:
    """What the plugin's builder makes of `arguments`: something with all attributes that are `wanted`.

    Raises PluginError for a builder that cannot be called so, for what it raises, and for what lacks an attribute.
    """
    make = telling(find(source, base, what, tuple(arguments)), source.title)
    found = make(*arguments.values())
    if missing := [name for name in wanted if not hasattr(found, name)]:
        raise PluginError(
            f"{source.title}: build gave {type(found).__name__}, which is no {what}: it has no {', '.join(missing)}; "
            f"derive it from gannet.{base.__name__}"
        )
    return found


def checked(build: Any, title: str, arguments: tuple[str, ...]) -> Callable[..., Any]:
    """`build`, if it can be called with `arguments` by position. Raises PluginError otherwise."""
    call = f"build({', '.join(arguments)})"
    if not callable(build):
        raise PluginError(f"{title}: build is of type {type(build).__name__}: define {call}")
    code = getattr(build, "__code__", None)
    where = f"{title}:{code.co_firstlineno}" if code is not None and code.co_filename == title else title
    try:
        signature = inspect.signature(build)
    except ValueError:  # a builtin's is not known
        return build  # type: ignore[no-any-return]
    try:
        signature.bind(*arguments)
    except TypeError:
        many = ("no", "one", "two", "three", "four")[len(arguments)]
        raise PluginError(
            f"{where}: {getattr(build, '__name__', 'build')}{signature} cannot be called with {many} "
            f"value{'s' * (len(arguments) != 1)}: it must be {call}"
        ) from None
    return build  # type: ignore[no-any-return]


def telling(method: Callable[P, T], title: str) -> Callable[P, T]:
    """The method, with errors that name their line in the file: a node reports only an error's message."""

    @wraps(method)
    def told_of(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except PluginError:  # it names the line already
            raise
        except USER_ERRORS as error:
            raise PluginError(told(error, title)) from error

    return told_of


def told(error: BaseException, file: str) -> str:
    """The error in one line, with the innermost line of the file that it came through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f"{file}:{lines[-1]}" if lines else file
    if isinstance(error, ValidationError):  # of the file's own Settings
        items = [(".".join(map(str, item["loc"])), message_of(item)) for item in error.errors()]
        return f"{where}: settings: {'; '.join(f'{path}: {what}' if path else what for path, what in items)}"
    first = (str(error) or "no message").replace("\n", "; ")
    return f"{where}: {first}" if isinstance(error, PluginMistake) else f"{where}: {type(error).__name__}: {first}"
