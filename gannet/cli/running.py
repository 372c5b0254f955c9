"""Shared by the commands that train: loading a spec, running it where its fabric requires, and errors as messages."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
import yaml
from typer.core import TyperGroup

from gannet.console import Terminal, fail, os_error_text
from gannet.experiment.folders import new_folder
from gannet.fabrics.kind import Launch
from gannet.fabrics.namespaces import sandbox
from gannet.fabrics.signals import terminated_as_interrupted
from gannet.ledger.full_disk import FULL
from gannet.ledger.lock import held, results_of
from gannet.netem import yaml12
from gannet.spec.load import SpecError, load_spec
from gannet.spec.run_spec import ComparisonSpec
from gannet.trackers.base import check_kinds

if TYPE_CHECKING:
    from gannet.experiment.resume import ResumePlan

log = logging.getLogger(__name__)
console = Terminal()


def load(spec: str, overrides: Sequence[str] | None, fabric: str | None) -> ComparisonSpec:
    with errors_as_messages():
        return load_spec(spec, [*(overrides or ()), *([f"fabric={fabric}"] if fabric else [])])


def folder_for(out: Path | None, name: str) -> Path:
    with errors_as_messages():
        folder = new_folder(out, name)
        if out is None:
            sandbox.own_as_caller(folder)
        return folder


def tracker_kinds(log: Sequence[str] | None, option: str = "--log") -> tuple[str, ...]:
    """The trackers asked for, each once, all of which are installed; names may be separated by commas too."""
    kinds = tuple(dict.fromkeys(name.strip() for each in log or () for name in each.split(",")))
    with errors_as_messages():
        check_kinds(kinds, option)
    return kinds


def print_dry_run(comparison: ComparisonSpec) -> None:
    from gannet.experiment.dry_run import dry_run

    with errors_as_messages():
        dry_run(comparison, console)


def execute_spec(
    comparison: ComparisonSpec, folder: Path, plan: ResumePlan | None = None, trackers: Sequence[str] = ()
) -> None:
    """Run on the fabric of its arms (in containers, or here), and end the command with the run's status.

    `trackers`: kinds of experiment trackers to log to; runs in containers are logged once they have ended. With a
    `plan`, the caller is `alone_in` its folder.
    """
    kinds = {arm.fabric: arm.fabric_kind for arm in comparison.arms.values()}
    with errors_as_messages(), _without_empty(folder), held(folder) if plan is None else nullcontext():
        if plan is not None and not all(kind.resumable for kind in kinds.values()):
            fail(f"{folder}: runs on containers cannot be resumed yet; run the spec again")
        launched = next((kind.launch for kind in kinds.values() if kind.launch is not None), None)
        if launched is not None:
            if len(kinds) > 1:
                fail(
                    f"the arms name {' and '.join(sorted(kinds))}: a comparison on containers has one fabric for "
                    "all arms"
                )
            status = _execute_in_containers(comparison, folder, launched)
            if trackers:
                from gannet.ledger.reader import read_comparison
                from gannet.trackers.display import log_folder

                log_folder(read_comparison(folder).runs, trackers, folder, _tell_of_tracker)
        else:
            if any(kind.needs_sandbox for kind in kinds.values()):
                sandbox.enter()  # before anything starts a thread
            from gannet.experiment.compare import execute
            from gannet.trackers.display import Trackers

            logged = Trackers(trackers, folder, _tell_of_tracker, sandbox.inside()) if trackers else None
            try:
                with terminated_as_interrupted() as came:  # a scheduler's SIGTERM too; what was measured is reported
                    finished = execute(comparison, folder, console, plan=plan, trackers=logged)
                status = 0 if finished else 130 if came else 1
            except OSError as error:
                if error.errno not in FULL:
                    raise
                fail(
                    f"{os_error_text(error)}. `gannet report {folder}` shows what was measured; `gannet resume "
                    f"{folder}` continues runs whose spec has checkpoint_every, and makes those that had not begun",
                    1,
                )
    raise typer.Exit(status)


def _tell_of_tracker(text: str) -> None:
    console.print(text, style="dim" if text.startswith("logged") else "yellow", markup=False, soft_wrap=True)


def _execute_in_containers(comparison: ComparisonSpec, folder: Path, launch: Launch) -> int:
    from gannet.experiment.checks import check_plugins
    from gannet.scores.comparable import check_comparable
    from gannet.trained.start import carried

    check_plugins(comparison)
    check_comparable(comparison)
    folder.mkdir(parents=True, exist_ok=True)
    comparison = carried(comparison, folder)
    nodes = max(arm.nodes for arm in comparison.arms.values())
    text = yaml12.dump(comparison.whole())
    try:
        status = launch(text, folder, nodes, lambda line: console.print(line, markup=False, soft_wrap=True))
    finally:
        sandbox.own_as_caller(folder)
    if (folder / "report.html").exists():
        console.print(f"report: {folder / 'report.html'}", markup=False)
    return status


@contextmanager
def _without_empty(folder: Path) -> Iterator[None]:
    """Where nothing was begun, leave no empty folder."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            folder.rmdir()  # which one with something in it refuses
        raise


def alone_in(folder: Path) -> AbstractContextManager[None]:
    """While no other command trains or scores in that folder of results. What is no folder is left to the command.

    Raises FolderBusy.
    """
    return held(results_of(folder)) if folder.is_dir() else nullcontext()


class Commands(TyperGroup):
    """A group of commands, none of which ends with a traceback for what a user or the system did."""

    def invoke(self, ctx: Any) -> Any:
        """See click."""
        with errors_as_messages():
            return super().invoke(ctx)


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Turn errors that a user can fix into one message, with exit status 2 (1 for a failed run)."""
    try:
        yield
    except (typer.Exit, typer.Abort):  # a RuntimeError whose message is printed already
        raise
    except (SpecError, sandbox.SandboxError, yaml.YAMLError, ValueError) as error:
        fail(str(error))
    except OSError as error:
        if error.errno == errno.EPIPE:  # nobody reads on: click ends without a word
            raise
        log.debug("the system refused something", exc_info=True)
        fail(os_error_text(error))
    except RuntimeError as error:
        fail(str(error), 1)
    except KeyboardInterrupt:
        fail("interrupted", 130)
