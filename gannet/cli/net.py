"""`gannet net`: shows the links of a live run and changes them while it trains."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from gannet.cli import net_profiles
from gannet.cli.network_files import net_export, net_import, net_traces
from gannet.console import Terminal, errors, fail, milliseconds, one_line, plain_table, rate
from gannet.netem.links.profile import LinkProfile, ProfileError, load_profile
from gannet.netem.links.trace import TraceError
from gannet.netem.links.trace_files import load_trace
from gannet.netem.measure.certificate import Certificate

if TYPE_CHECKING:
    from gannet.fabrics.links.operator_client import OperatorClient
    from gannet.fabrics.links.operator_pb2 import NodeLinks

net = typer.Typer(
    name="net",
    help="Show and change the links of a live run: profiles, partitions, schedules. "
    "Changes take effect at once, are acknowledged by every node, and are recorded in the run folder.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog="Exit status: 0 done, 1 a node differs from the order or did not answer, 2 the command was wrong.",
)
net_profiles.register(net)
net_traces.register(net)
net_export.register(net)
net_import.register(net)
console = Terminal()

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_LOOPS_S = 3600.0  # as `gannet net up` lets a schedule loop
_MOST_UPCOMING = 12
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}

ControllerOption = Annotated[
    str | None,
    typer.Option(
        "--controller",
        metavar="ADDRESS",
        help="Host:port or unix:/path of the controller; default: [bold]GANNET_OPERATOR[/bold], the live run of "
        "this machine, or the cluster at 127.0.0.1:7701 ([bold]GANNET_PORT[/bold]).",
    ),
]
ForOption = Annotated[
    str | None,
    typer.Option("--for", metavar="TIME", help="Undo it after this time, for example 30s, 500ms or 2m."),
]
LINK_HELP = "A:B is the links from A to B and from B to A; 'A>B' is the one from A to B (quote the >). Repeatable."


@net.command()
def show(controller: ControllerOption = None) -> None:
    """Show the links applied on every node (as reported by the kernel) and scheduled changes."""
    with _controller(controller) as client:
        shown = client.show()
    console.print(f"{shown.run} at {shown.t_s:.1f} s: {one_line(shown.state)}", markup=False, soft_wrap=True)
    console.print(_nodes_table(shown.nodes))
    for node in (node for node in shown.nodes if node.strangers):
        dropped = "1 packet" if node.strangers == 1 else f"{node.strangers} packets"
        console.print(f"node {node.rank} has dropped {dropped} from addresses that no node has", style="yellow")
    for change in shown.upcoming[:_MOST_UPCOMING]:
        console.print(f"in {change.in_s:.1f} s: {one_line(change.what)}", markup=False, soft_wrap=True)
    if rest := shown.upcoming[_MOST_UPCOMING:]:
        last_s = max(change.in_s for change in rest)
        console.print(f"and {len(rest)} more changes, the last in {last_s:.1f} s", markup=False)
    _exit_unless_all(shown.nodes)


@net.command(epilog="Examples: [bold]gannet net apply 3g-slow --node 2 --for 30s[/bold], "
             "[bold]gannet net apply lte --link 0:3[/bold]")  # fmt: skip
def apply(
    profile: Annotated[str, typer.Argument(help="A profile by name (see profiles), or the path of a .yaml file.")],
    node: Annotated[list[int] | None, typer.Option("--node", metavar="N", help="Only this node. Repeatable.")] = None,
    link: Annotated[
        list[str] | None,
        typer.Option(
            "--link",
            metavar="A:B",
            help=f"Only this link: its delay, jitter and loss, and a rate of its own. {LINK_HELP}",
        ),
    ] = None,
    for_: ForOption = None,
    controller: ControllerOption = None,
) -> None:
    """Apply a link profile to all nodes (replacing all other profiles), or only to the given nodes or links.

    Partitions stay in place.
    """
    chosen, for_s = _profile(profile), _seconds(for_)
    links = [{"source": a, "target": b} for text in link or () for a, b in _links(text)]
    if wrong := [rank for rank in node or () if rank < 0]:
        fail(f"--node {wrong[0]}: nodes are numbered from 0")
    order = {"profile_json": chosen.model_dump_json(), "nodes": node or [], "links": links}
    _change(controller, for_s, apply=order)


@net.command()
def clear(for_: ForOption = None, controller: ControllerOption = None) -> None:
    """Remove all link profiles and partitions: links are unshaped everywhere."""
    _change(controller, _seconds(for_), clear={})


@net.command(epilog="Examples: [bold]gannet net partition 0,1:2,3[/bold]; [bold]gannet net partition 2[/bold] "
             "isolates node 2")  # fmt: skip
def partition(
    groups: Annotated[str, typer.Argument(help="Nodes by commas, groups by colons.", metavar="GROUPS")],
    for_: ForOption = None,
    controller: ControllerOption = None,
) -> None:
    """Cut every link between two groups, both ways, for all packets. Links within a group stay unchanged.

    Nodes that are not named form one more group. A partition replaces the one before.
    """
    cut = [[_rank(rank, f"partition {groups}") for rank in group.split(",")] for group in groups.split(":")]
    _change(controller, _seconds(for_), partition={"groups": [{"nodes": group} for group in cut]})


@net.command(epilog="Example: [bold]gannet net isolate 2 --for 30s[/bold]")
def isolate(
    nodes: Annotated[list[int], typer.Argument(help="Nodes that neither hear nor are heard.", metavar="NODE...")],
    for_: ForOption = None,
    controller: ControllerOption = None,
) -> None:
    """Cut every link of the given nodes, both ways, in addition to earlier cuts."""
    if wrong := [rank for rank in nodes if rank < 0]:
        fail(f"{wrong[0]}: nodes are numbered from 0")
    _change(controller, _seconds(for_), isolate={"nodes": nodes})


@net.command(epilog="Example: [bold]gannet net replay lte-drive --node 2[/bold]")
def replay(
    trace: Annotated[str, typer.Argument(help="A shipped trace, or a file: CSV, or Mahimahi's.")],
    node: Annotated[list[int] | None, typer.Option("--node", metavar="N", help="Only this node. Repeatable.")] = None,
    for_: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help="So long, over and over; default: once, then undo it; a trace that loops by itself, as Mahimahi's "
            "do, an hour, and permanently where it never changes.",
        ),
    ] = None,
    controller: ControllerOption = None,
) -> None:
    """Replay a trace (rates, delay, loss, outages) on the access links of the given nodes, or of all."""
    for_s = _seconds(for_)
    try:
        chosen = load_trace(trace)
    except TraceError as error:
        fail(str(error))
    if wrong := [rank for rank in node or () if rank < 0]:
        fail(f"--node {wrong[0]}: nodes are numbered from 0")
    order = {"name": chosen.name, "csv": chosen.to_csv(), "nodes": node or []}
    if for_s is None and not (chosen.loop and chosen.is_constant):
        for_s = _LOOPS_S if chosen.loop else chosen.length_s
    _change(controller, for_s, replay=order)


@net.command()
def heal(controller: ControllerOption = None) -> None:
    """End the partition; profiles stay. TCP notices when it next tries, which may be as long as the cut lasted."""
    _change(controller, None, heal={})


@net.command()
def verify(
    link: Annotated[
        list[str] | None, typer.Option("--link", metavar="A:B", help=f"Only this link. {LINK_HELP}")
    ] = None,
    controller: ControllerOption = None,
) -> None:
    """Measure delays and losses by small echoes during training, and read rates back from every kernel.

    Training shares the links, so echoes may wait in queues: no echo may be faster than configured, nor slower than
    full queues explain, and none may pass a link that is cut.
    """
    links = [pair for text in link or () for pair in _links(text)]
    with _controller(controller) as client:
        certificate = Certificate.from_json(json.loads(client.verify(links).certificate_json))
    table = plain_table("link", "rate", "ordered", "median", "sure to", "5% to 95%", "round trip", "loss", "")
    for edge in certificate.edges:
        table.add_row(
            f"{edge.src} → {edge.dst}",
            rate(edge.expected_rate_bps),
            _delay(edge.expected_delay_ms, edge.expected_jitter_ms),
            milliseconds(edge.delay_p50_ms),
            _half_width(edge.delay_interval_ms),
            "–" if edge.delay_p5_ms is None else f"{edge.delay_p5_ms:.1f} to {milliseconds(edge.delay_p95_ms)}",
            milliseconds(edge.rtt_p50_ms),
            "cut" if edge.expected_loss_percent == 100 else f"{edge.expected_loss_percent:.4g}%",
            "[green]ok[/green]" if edge.ok else "[red]wrong[/red]",
        )
    console.print(table)
    for reason in certificate.reasons:
        console.print(reason, style="red", markup=False)
    raise typer.Exit(0 if certificate.trusted else 1)


def _half_width(interval: tuple[float, float] | None) -> str:
    """Half the width of the 95% interval of the median."""
    return "–" if interval is None else f"± {(interval[1] - interval[0]) / 2:.2f} ms"


def _change(controller: str | None, for_s: float | None, **operation: Any) -> None:
    with _controller(controller) as client:
        changed = client.change(for_s, **operation)
    until = f" for {for_s:g} s" if for_s else ""
    state = one_line(changed.state)
    console.print(f"{changed.run} at {changed.t_s:.1f} s: {state}{until}", markup=False, soft_wrap=True)
    console.print(_nodes_table(changed.nodes))
    _exit_unless_all(changed.nodes)


def _nodes_table(nodes: Sequence[NodeLinks]) -> Table:
    table = plain_table("node", "down", "up", "arrives from", "read back after", "")
    for node in nodes:
        caps = [rate(getattr(node, f"{way}_bps") if node.HasField(f"{way}_bps") else None) for way in ("down", "up")]
        if node.gone:
            table.add_row(str(node.rank), "–", "–", "–", "–", "[red]lost[/red]")
        elif node.error:
            table.add_row(str(node.rank), "?", "?", "?", "–", "[red]no answer[/red]")
        else:
            verdict = "[red]differs[/red]" if node.differences else "[green]applied[/green]"
            table.add_row(str(node.rank), *caps, _arrivals(node), f"{1000 * node.seconds:.0f} ms", verdict)
    return table


def _arrivals(node: NodeLinks) -> str:
    """Equal paths share a line: "0,1: 25 ms ± 2 ms, loss 1%"."""
    alike: dict[str, list[int]] = {}
    for path in node.paths:
        parts = [_delay(path.delay_ms, path.jitter_ms)]
        if path.HasField("rate_bps"):
            parts.append(rate(path.rate_bps))
        if path.loss_percent:
            parts.append(f"loss {path.loss_percent:g}%")
        alike.setdefault("cut" if path.loss_percent >= 100 else ", ".join(parts), []).append(path.source)
    return "\n".join(f"{','.join(map(str, ranks))}: {what}" for what, ranks in alike.items()) or "no delay"


def _exit_unless_all(nodes: Sequence[NodeLinks]) -> None:
    """Exit with status 1, naming the nodes that differ, have not answered, or were lost."""
    wrong = [node for node in nodes if node.gone or node.error or node.differences]
    for node in wrong:
        errors.print(f"node {node.rank}: {node.error or '; '.join(node.differences)}", style="red", markup=False)
    if wrong:
        raise typer.Exit(1)


@contextmanager
def _controller(address: str | None) -> Iterator[OperatorClient]:
    """A connection to the controller; an error on it becomes one message, and exit status 1 or 2."""
    from gannet.fabrics.containers.operators_secret import operators_identity, operators_secret
    from gannet.fabrics.credentials import CredentialError
    from gannet.fabrics.links.operator_client import NoController, OperatorClient, Refused, find_controller

    try:
        address = address or find_controller()
        with OperatorClient(address, operators_secret(address), operators_identity(address)) as client:
            yield client
    except CredentialError as error:
        fail(str(error), 1)
    except NoController as error:
        fail(f"{error}\nstart a run (gannet run, docker compose up), or say where it is: --controller ADDRESS", 1)
    except Refused as error:
        fail(str(error), 2 if error.usage else 1)


def _profile(name: str) -> LinkProfile:
    try:
        return load_profile(name)
    except ProfileError as error:
        fail(str(error))


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _UNIT_S[match[2]] if match else 0.0
    if not seconds > 0:
        fail(f"--for {text}: a time above 0, such as 30s, 500ms or 2m")
    return seconds


def _links(text: str) -> list[tuple[int, int]]:
    """The directed links that "A:B" (both ways) or "A>B" names."""
    ends = re.split("[:>]", text)
    if len(ends) != 2:
        fail(f"--link {text}: write A:B for both directions, or 'A>B' for one")
    a, b = (_rank(end, f"--link {text}") for end in ends)
    return [(a, b)] if ">" in text else [(a, b), (b, a)]


def _rank(text: str, where: str) -> int:
    if not re.fullmatch(r"\s*\d{1,6}\s*", text):
        fail(f"{where}: {text!r} is no node's number")
    return int(text)


def _delay(delay_ms: float, jitter_ms: float) -> str:
    return f"{delay_ms:g}" + (f" ± {jitter_ms:g}" if jitter_ms else "") + " ms"
