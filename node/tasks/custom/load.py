"""Builds a task from somebody's Python: the text that came with the configuration, or an installed entry point.

The text runs in a fresh module at each build, as it would in a process of its own, so that nodes which share a
process share nothing. Whatever goes wrong in it is told with its file and line.
"""

from __future__ import annotations

import inspect
import linecache
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

from gannet.node.tasks.base import Task
from gannet.node.tasks.custom.base import Context, OwnTask, TaskMistake
from gannet.node.tasks.custom.config import ENTRY_POINTS, PythonTaskConfig

_MODULE = "gannet_own_task"
_CALLED = ("initial", "gradient", "generate", "evaluate")
P = ParamSpec("P")
T = TypeVar("T")


class TaskFileError(ValueError):
    """A task's file that cannot be used; the message says where and why."""


def build_own(config: PythonTaskConfig, context: Context) -> Task:
    """The task that the file or entry point makes. Raises TaskFileError."""
    builder = _builder(config)
    try:
        task: Task = builder(dict(config.settings), context)
    except TaskFileError:
        raise
    except Exception as error:
        raise TaskFileError(told(error, config.title)) from error
    wanted = ("layout", "players", "buffers", "size", "initial", "gradient", "state", "load_state", "generate")
    if missing := [name for name in wanted if not hasattr(task, name)]:
        raise TaskFileError(
            f"{config.title}: build gave {type(task).__name__}, which is no task: it has no {', '.join(missing)}; "
            "derive it from gannet.node.tasks.custom.base.OwnTask"
        )
    for name in _CALLED:
        if (method := getattr(task, name, None)) is not None:
            with suppress(AttributeError):  # an object whose attributes are fixed tells without its line
                setattr(task, name, _telling(method, config.title))
    return task


def _telling(method: Callable[P, T], title: str) -> Callable[P, T]:
    """The method, whose errors say in which line of the file they came up: a node says no more than an error does."""

    @wraps(method)
    def telling(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except (TaskFileError, TaskMistake):  # they say it already
            raise
        except Exception as error:
            raise TaskFileError(told(error, title)) from error

    return telling


def told(error: BaseException, file: str) -> str:
    """The error in one line, with the innermost line of the file that it came through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f"{file}:{lines[-1]}" if lines else file
    first = (str(error) or "no message").replace("\n", "; ")
    return f"{where}: {first}" if isinstance(error, TaskMistake) else f"{where}: {type(error).__name__}: {first}"


def _builder(config: PythonTaskConfig) -> Callable[[dict[str, Any], Context], Any]:
    """What makes the task: `build`, or the one class derived from OwnTask."""
    if config.entry is not None:
        return _checked(_entry(config.entry), config.title)
    module = _module(config)
    if (build := getattr(module, "build", None)) is not None:
        return _checked(build, config.title)
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, OwnTask) and value.__module__ == module.__name__
    ]
    leaves = [kind for kind in own if not any(other is not kind and issubclass(other, kind) for other in own)]
    if not leaves:
        raise TaskFileError(
            f"{config.title}:1: there is no task in it: define a class derived from "
            "gannet.node.tasks.custom.base.OwnTask, or a function build(settings, context)"
        )
    if len(leaves) > 1:
        names = " and ".join(kind.__name__ for kind in leaves)
        raise TaskFileError(f"{config.title}: {names} are tasks both: say which by build(settings, context)")
    return leaves[0]


def _entry(name: str) -> Any:
    found = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise TaskFileError(
            f"task.entry: no entry point {name!r} of group {ENTRY_POINTS} is installed here; installed: {known}"
        )
    try:
        return found[name].load()
    except Exception as error:
        raise TaskFileError(f"task.entry: {name} ({found[name].value}): {type(error).__name__}: {error}") from error


def _module(config: PythonTaskConfig) -> ModuleType:
    source, file = config.source or "", config.title
    module = ModuleType(_MODULE)
    module.__file__ = file
    # Tracebacks show the text's lines, and dataclasses find their module.
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    sys.modules[_MODULE] = module
    try:
        exec(compile(source, file, "exec", dont_inherit=True), module.__dict__)
    except Exception as error:
        raise TaskFileError(told(error, file)) from error
    return module


def _checked(build: Any, title: str) -> Callable[[dict[str, Any], Context], Any]:
    """`build`, if it can be called as build(settings, context)."""
    if not callable(build):
        raise TaskFileError(f"{title}: build is of type {type(build).__name__}: define build(settings, context)")
    code = getattr(build, "__code__", None)
    where = f"{title}:{code.co_firstlineno}" if code is not None and code.co_filename == title else title
    try:
        signature = inspect.signature(build)
    except ValueError:  # a builtin's is not known
        return build  # type: ignore[no-any-return]
    try:
        signature.bind({}, Context())
    except TypeError:
        raise TaskFileError(
            f"{where}: {getattr(build, '__name__', 'build')}{signature} cannot be called with two values: "
            "it must be build(settings, context)"
        ) from None
    return build  # type: ignore[no-any-return]
