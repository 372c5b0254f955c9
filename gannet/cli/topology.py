"""`gannet topology`: compares and draws the graphs that nodes gossip over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table

from gannet.console import Terminal, fail
from gannet.node.mistakes import message_of
from gannet.node.topologies.registry import NAMES, topology_config
from gannet.node.topologies.setting import TopologySetting
from gannet.spec.load import SpecError, load_spec, resolve

if TYPE_CHECKING:
    from gannet.node.topologies.rates import Figures
    from gannet.node.topologies.topology import Matrix, Topology

console = Terminal()

_NODES = 16
_LARGEST_PICTURE = 128  # nodes; beyond it a terminal is too narrow
_LARGEST_SHADED = 32
_SHADES = "░▒▓█"
_NOTES = """\
period, exact: rounds until the graph repeats; until every node holds the exact average
degree: the most peers that a node sends to in a round
edges: directed edges in a round / in all rounds together
ρ: max(|λ2|, |λM|) of a round's W
rate: factor by which a round shrinks disagreement in the long run; gap: 1 − rate
copies: copies of the model that a node sends in a round (that the busiest node sends)"""

NameArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME...",
        help=f"{', '.join(NAMES)}, with parameters as in [bold]base:degree=2[/bold] or "
        "[bold]erdos-renyi:p=0.5,seed=3[/bold]; a file with an edge list or a weight matrix; a .py file with a "
        "topology of your own, with settings as in [bold]my_topology.py:hop=3[/bold]; or a spec's .yaml, for those "
        "of its arms.",
    ),
]


def topology(
    names: NameArgument,
    nodes: Annotated[
        int | None,
        typer.Option(
            "--nodes",
            "-n",
            min=1,
            max=1024,
            help=f"Number of nodes; default: {_NODES}, or what a file or spec says.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Draw into this file: .html, .svg or .png.")
    ] = None,
) -> None:
    """Compare topologies: degree, spectral gap, rounds to consensus, copies sent; and draw them."""
    try:
        named = [found for name in names for found in choices_of(name)]
        choices = [choice for choice, _ in named]
        if out is not None:
            from gannet.report.figure_files import check_target

            check_target(out)
        world = nodes or next((size for _, size in named if size), _NODES)
        graphs = build(choices, world)
        _show(graphs, world)
        if out is not None:
            from gannet.cli.topology_plots import write

            write(graphs, out)
            console.print(f"drawn: {out}", markup=False, soft_wrap=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        fail((f"{where}: " if where else "") + message_of(first))
    except (SpecError, ValueError, OSError) as error:
        fail(str(error))
    except RuntimeError as error:
        fail(str(error), 1)


def choices_of(text: str) -> list[tuple[TopologySetting, int | None]]:
    """The topologies that an argument names, each with its number of nodes if the argument gives one."""
    name, _, rest = text.partition(":")
    if name.endswith(".py"):
        sets = [f"topology.settings.{pair}" for pair in rest.split(",") if pair]
        if wrong := [pair for pair in rest.split(",") if pair and "=" not in pair]:
            raise ValueError(f"{text}: write FILE.py:KEY=VALUE, for example my_topology.py:hop=3 (got {wrong[0]!r})")
        own = {"name": "python", "file": Path(name).name}
        raw = {"topology": own, "algorithm": {"name": "local"}, "stop": {"steps": 1}}
        return [(spec.topology, None) for spec in resolve(raw, name, sets).arms.values()]
    if text.endswith((".yaml", ".yml")):
        parts = [part for spec in load_spec(text).arms.values() for part in spec.methods]
        return list(dict.fromkeys((part.topology, part.nodes) for part in parts))
    choice = choice_of(text)
    return [(choice, choice.own_size)]


def choice_of(text: str) -> TopologySetting:
    """The topology given by NAME, NAME:KEY=VALUE,… or a path. Raises ValueError for any other text."""
    name, colon, rest = text.partition(":")
    if name not in NAMES and (Path(text).is_file() or "/" in text or Path(text).suffix):
        return topology_config({"name": "file", "path": text})
    if not colon:
        return topology_config(name)
    if name not in NAMES:
        topology_config(name)  # its error lists the names
    pairs = [pair.partition("=") for pair in rest.split(",")]
    if wrong := [key for key, equals, value in pairs if not (key and equals and value)]:
        raise ValueError(f"{text}: write NAME:KEY=VALUE, for example base:degree=2 (got {wrong[0]!r})")
    return topology_config({"name": name, **{key.strip(): value.strip() for key, _, value in pairs}})


def build(choices: list[TopologySetting], world: int) -> list[Topology]:
    """The topologies over `world` nodes."""
    from gannet.node.topologies.topology import Topology

    return [Topology(choice, world) for choice in choices]


def table(rows: list[Figures]) -> Table:
    """One row a topology."""
    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    made.add_column("topology", overflow="fold")
    for heading in ("period", "degree", "edges", "exact", "ρ", "gap", "rate", "copies"):
        made.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        ever = f"/{row.edges_ever}" if row.period != 1 else ""
        made.add_row(
            row.name,
            {None: "random", 1: "–"}.get(row.period, str(row.period)),
            str(row.degree),
            f"{row.edges:.1f}".removesuffix(".0") + ever,
            "never" if row.exact_after is None else str(row.exact_after),
            f"{row.rho:.4f}",
            f"{row.spectral_gap:.4f}" if row.spectral_gap >= 1e-3 else f"{row.spectral_gap:.1e}",
            f"{row.consensus_rate:.4f}",
            _count(row.copies) + (f" ({_count(row.copies_busiest)})" if row.copies_busiest > row.copies else ""),
        )
    return made


def _count(copies: float) -> str:
    return f"{copies:.3g}" if copies < 100 else f"{copies:.0f}"


def picture(weights: Matrix) -> list[str]:
    """W as lines of text: darker is heavier; for many nodes only the nonzero entries, two rows a line."""
    if len(weights) <= _LARGEST_SHADED:
        steps = weights / weights.max() * len(_SHADES)
        return ["".join("· " if s == 0 else 2 * _SHADES[max(0, round(float(s)) - 1)] for s in row) for row in steps]
    some = weights > 0
    return [
        "".join(" ▀▄█"[int(some[i, j]) + 2 * int(i + 1 < len(some) and some[i + 1, j])] for j in range(len(some)))
        for i in range(0, len(some), 2)
    ]


def pictures(graph: Topology, width: int) -> list[str]:
    """The first rounds side by side, as many as fit; headed by their numbers where there are several."""
    period = graph.period or graph.world
    first = picture(graph.mixing_matrix(1))
    if graph.period == 1:
        return first
    across = max(len(first[0]), len("round 10"))
    count = max(1, min(period, (width + 3) // (across + 3)))
    more = f"   … {period - count} more" if graph.period and period > count else ""
    columns = [[f"round {number}", *picture(graph.mixing_matrix(number))] for number in range(1, count + 1)]
    heads, *lines = ("   ".join(part.ljust(across) for part in parts) for parts in zip(*columns, strict=True))
    return [heads + more, *lines]


def _show(graphs: list[Topology], world: int) -> None:
    from gannet.node.topologies.rates import figures

    console.print(f"{world} nodes", style="bold")
    console.print(table([figures(graph) for graph in graphs]))
    console.print()
    if len(graphs) == 1 and 1 < world <= _LARGEST_PICTURE:
        console.print("W: row i, the weights that node i gives to each node", style="dim")
        for line in pictures(graphs[0], console.width):
            console.print(line, markup=False, no_wrap=True, crop=False, overflow="ignore")
        console.print()
    console.print(_NOTES, style="dim", markup=False)


def add_topology(app: typer.Typer) -> Any:
    """Put the command into `app`."""
    return app.command(
        epilog="Example: [bold]gannet topology ring exponential base:degree=2 -n 16 --out graphs.html[/bold]"
    )(topology)
