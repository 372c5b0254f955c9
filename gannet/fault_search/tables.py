"""The result of a search as tables, and a failing schedule as text."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from gannet.fault_search.schedule import draw
from gannet.fault_search.search import Found, Totals, shrunk


def by_method(totals: Totals) -> Table:
    """Schedules of each method, how they ended, and how many violated an invariant."""
    table = Table(
        "method", *("schedules", "finished", "ended with a reason", "violations"), title="Schedules by method"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for method, counted in sorted(totals.by_method.items()):
        row = (counted["schedules"], counted["finished"], counted["failed"], counted["violated"])
        table.add_row(method, *map(str, row))
    return table


def by_kind(totals: Totals) -> Table:
    """Events of each kind, and the schedules that have one."""
    table = Table("fault", "events", "schedules", title="Faults")
    for column in table.columns[1:]:
        column.justify = "right"
    for kind, count in totals.by_kind.most_common():
        table.add_row(kind, str(count), str(totals.schedules_of_kind[kind]))
    return table


def summary(totals: Totals) -> str:
    """One line."""
    return (
        f"{totals.schedules} schedules, {totals.harmless} of them harmless: {totals.lost} nodes lost, "
        f"{totals.returned} back, {len(totals.failing)} schedules violated an invariant"
    )


def command(found: Found, method: str | None) -> str:
    """The command that repeats a schedule."""
    return f"gannet fault-search --seed {found.seed}" + (f" --method {method}" if method else "")


def whole(found: Found, method: str | None) -> Iterator[str]:
    """A failing schedule: what it violated, all of it, and as little of it as still does."""
    schedule = draw(found.seed, method)
    for violation in found.violations:
        yield f"violated: {violation.invariant}"
        yield from (f"  {line}" for line in violation.found.splitlines())
    yield from schedule.lines()
    small = shrunk(schedule, found.violations[0].invariant)
    if small != schedule:
        yield f"of which these are enough, {len(small.events)} of {len(schedule.events)} events:"
        yield from small.lines()
