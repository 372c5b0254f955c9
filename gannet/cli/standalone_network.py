"""`gannet net up`: a network to run other programs in, described by a profile or a spec's `links`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from gannet.console import milliseconds, one_line, plain_table, rate
from gannet.fabrics import addresses as layout
from gannet.fabrics.namespaces import sandbox
from gannet.netem import yaml12
from gannet.netem.links.profile import list_profiles
from gannet.netem.regular import check_regular
from gannet.spec.load import SpecError, load_spec, resolve, shipped_specs
from gannet.spec.run_spec import RunSpec

if TYPE_CHECKING:  # grpc comes with it, and a sandbox is entered with one thread
    from gannet.fabrics.namespaces.standalone import BareNetwork, Network
    from gannet.netem.measure.certificate import Certificate

_MOST_ROWS = 24
_LEAST_PAUSE_MS = 1000
# Required in a spec but unused by a network without training; looping schedules run until `stop`.
_IDLE = {"algorithm": {"name": "local"}, "stop": {"seconds": 3600}}
_SPEC_KEYS = {"links", "algorithm", "arms", "nodes"}


def spec_of(source: str | None, nodes: int | None, overrides: Sequence[str], arm: str | None) -> RunSpec:
    """The spec that sets nodes, links, engine and seed: a spec's arm, or one made from a profile alone.

    Raises SpecError and ProfileError.
    """
    sets = [*overrides, *([f"nodes={nodes}"] if nodes is not None else [])]
    if source is None or _is_profile(source):
        comparison = resolve({"links": source or "unshaped", **_IDLE}, source or "unshaped", sets)
    else:
        comparison = load_spec(source, sets, base=None if _trains(source) else _IDLE)
    arms = comparison.arms
    if arm is not None and arm not in arms:
        raise SpecError(f"{source} has no arm {arm!r}; it has {', '.join(arms)}")
    chosen = arms[arm] if arm else next(iter(arms.values()))
    alike = {(each.nodes, each.engine, each.links.model_dump_json()) for each in arms.values()}
    if arm is None and len(alike) > 1:
        raise SpecError(f"the arms of {source} differ in their links: choose one with --arm ({', '.join(arms)})")
    return chosen.model_copy(update={"name": comparison.name, "seed": comparison.seeds[0]})


def _is_profile(source: str) -> bool:
    """Whether `source` names a profile: a shipped one, or a file without keys that only a spec has."""
    if not source.endswith((".yaml", ".yml")):
        return source in list_profiles() or source not in shipped_specs()
    try:
        data = yaml12.load(check_regular(Path(source)).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return True  # load_profile reports the error
    return not (isinstance(data, dict) and _SPEC_KEYS & data.keys())


def _trains(source: str) -> bool:
    """Whether a spec describes training; a spec with links alone is accepted as well."""
    if source in shipped_specs():
        return True
    data = yaml12.load(Path(source).read_text(encoding="utf-8"))
    return "algorithm" in data or "arms" in data


def hold(spec: RunSpec, certify: bool, console: Console) -> None:
    """Keep the network up until Ctrl-C or SIGTERM. Enters a new sandbox, and never leaves it."""
    sandbox.enter()  # before anything starts a thread
    from gannet.fabrics.namespaces.standalone import BareNetwork, Network
    from gannet.netem.preflight import choose_engine

    try:
        network = Network(
            spec.name,
            spec.nodes,
            choose_engine(spec.engine, spec.profiles),
            *spec.links_over_time,
            spec.seed,
            spec.links.stack,
        )
        _say(
            console,
            f"bringing up {network.world} nodes: {one_line(network.links.describe())} (engine {network.engine})",
        )
        with BareNetwork(network) as bare:
            _open(bare, network, certify, console)
        for reason in bare.reasons():
            _say(console, f"noted: {reason}")
    except KeyboardInterrupt:
        pass  # it was not up yet
    _say(console, "taken down")


def _open(bare: BareNetwork, network: Network, certify: bool, console: Console) -> None:
    if certify and network.edges:
        others = len(network.pairs) - len(network.edges)
        more = f", and {others} others by a few echoes" if others else ""
        _say(console, f"measuring {len(network.edges)} links{more}")
        _show(bare.certify(), console)
    address = bare.open()
    _say(console, f"up: {bare.run}; Ctrl-C takes it down. In another terminal:")
    for line in examples(network.world, address):
        _say(console, f"  {line}")
    bare.hold(lambda news: _tell(news, console))


def examples(world: int, address: str) -> list[str]:
    """Lines to copy: the nodes' addresses, and iperf3 between the first two."""
    nodes = [f"# node {rank}: {layout.mesh_address(rank)}" for rank in range(min(world, 8))]
    if world > 8:
        nodes.append(f"# … node {world - 1}: {layout.mesh_address(world - 1)}")
    if world > 1:
        nodes += [
            "gannet net exec 1 -- iperf3 -s -1 &",
            f"gannet net exec 0 -- iperf3 -c {layout.mesh_address(1)}",
        ]
    return [*nodes, "gannet net show", f"# with several networks up: --controller {shlex.quote(address)}"]


def _tell(news: dict[str, Any], console: Console) -> None:
    """Print one event of the run folder in words; link samples are left out, unknown kinds are shown unchanged."""
    event, at = news.get("event"), f"{news.get('t_s', 0.0):.1f} s: "
    if event in (None, "configured"):
        return
    if event == "strangers":
        _say(console, f"{at}{news['detail']} (docs/links.md: what passes)")
        return
    if event == "links":
        _say(console, f"{at}{one_line(news['detail'])} ({news['by']}: {news['operation']})")
        if news.get("pauses_ms", 0) >= _LEAST_PAUSE_MS:
            paused = "a delay has shrunk, and packets keep their order: for up to"
            _say(console, f"{at}{paused} {news['pauses_ms']:g} ms only packets sent earlier arrive on that link")
    elif event == "series":
        _say(console, at + _series_words(news))
    else:
        rest = ", ".join(f"{key} {value}" for key, value in news.items() if key not in ("event", "t_s"))
        _say(console, f"{at}{event}: {rest}")


def _series_words(news: dict[str, Any]) -> str:
    """A line of steps of a trace or ramp in one phrase: how many, where, and between which figures."""
    words = [f"{one_line(news['name'])}: {len(news['at_s'])} steps"]
    nodes = news["nodes"].values()
    for field, name, unit, size in (
        ("down_bps", "down", "Mbit/s", 1e6), ("up_bps", "up", "Mbit/s", 1e6), ("delay_ms", "one way", "ms", 1.0),
    ):  # fmt: skip
        if found := [value / size for node in nodes for value in node.get(field, ()) if value is not None]:
            low, high = f"{min(found):.4g}", f"{max(found):.4g}"
            words.append(f"{name} {low} {unit}" if low == high else f"{name} {low} to {high} {unit}")
    return ", ".join([*words, f"{max(news['late_ms'], default=0.0):g} ms late at most"])


def _show(certificate: Certificate, console: Console) -> None:
    """Print the configured and measured values of every link; with many links, only of those out of tolerance."""
    table = plain_table("link", "rate", "measured", "one way", "median", "95%", "loss", "measured", "", no_wrap=True)
    edges = certificate.edges
    shown = edges if len(edges) <= _MOST_ROWS else [edge for edge in edges if not edge.ok]
    for edge in shown:
        table.add_row(
            f"{edge.src} → {edge.dst}",
            rate(edge.expected_rate_bps),
            rate(edge.measured_rate_bps, "–"),
            f"{edge.expected_delay_ms:g} ms",
            milliseconds(edge.delay_p50_ms),
            milliseconds(edge.delay_p95_ms),
            f"{edge.expected_loss_percent:.3g}%",
            "–" if edge.loss_percent is None else f"{edge.loss_percent:.3g}%",
            "[green]ok[/green]" if edge.ok else "[red]wrong[/red]",
        )
    if shown:
        console.print(table)
    good = sum(edge.ok for edge in edges)
    console.print(
        f"{good} of {len(edges)} links match their profile",
        style="green" if certificate.trusted else "red",
        markup=False,
    )
    for unseen in certificate.unseen:
        console.print(f"not measured: {unseen}", markup=False)
    for reason in certificate.reasons:
        console.print(reason, style="red", markup=False, soft_wrap=True)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
