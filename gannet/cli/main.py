"""The `gannet` command. Each subcommand checks its input, then hands over to the package that does the work."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from gannet import logs
from gannet.certs.command import certs
from gannet.cli import net_up_exec as net_nodes  # noqa: F401  (commands of `net`)
from gannet.cli.algorithm import algorithm
from gannet.cli.codec import codec
from gannet.cli.net import net
from gannet.cli.run_folders import add_run_folders
from gannet.cli.running import (
    Commands,
    alone_in,
    console,
    errors_as_messages,
    execute_spec,
    folder_for,
    load,
    print_dry_run,
    tracker_kinds,
)
from gannet.cli.task import task
from gannet.cli.topology import add_topology
from gannet.console import Terminal, fail
from gannet.fabrics import sandbox_registry as registry
from gannet.fabrics.registry import fabric_names
from gannet.fault_search.command import add_fault_search
from gannet.scores.names import METRICS
from gannet.spec.load import shipped_specs
from gannet.spec.select import one_run, some_arms
from gannet.version import version

app = typer.Typer(
    name="gannet",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(net)
app.add_typer(task)
app.add_typer(algorithm)
app.add_typer(codec)
app.add_typer(certs)
add_topology(app)
add_run_folders(app)
add_fault_search(app)
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a field of the spec, e.g. --set nodes=8 --set algorithm.every=4."
    ),
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder for the results; default: runs/NAME-TIME.")]
FabricOption = Annotated[
    str | None, typer.Option("--fabric", help=f"One of {', '.join(fabric_names())}; default: the spec's.")
]
StepOption = Annotated[str, typer.Option(help="The snapshot: a step, last, or best, the one with the best score.")]
LogOption = Annotated[
    list[str] | None,
    typer.Option("--log", metavar="TRACKER", help="Log to tensorboard, wandb or mlflow as well; may be repeated."),
]
NodeOption = Annotated[int | None, typer.Option(help="This node's own model instead of the mean of all.")]
DryOption = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be run and what it costs; train nothing.")
]
SPEC_HELP = "A spec file (.yaml), or the name of a shipped spec (see `gannet specs`)."


def _print_version(wanted: bool) -> None:
    if wanted:
        console.print(f"gannet {version()}", markup=False)
        raise typer.Exit()


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
    log_level: Annotated[
        logs.Level | None,
        typer.Option(
            help="Log from this level up, in all processes of a run; default: GANNET_LOG, else warning, and info for "
            "nodes and link agents (logs/ in the results).",
        ),
    ] = None,
) -> None:
    """Train GANs over slow, far and lossy networks, decentralized and centralized, and see which wins."""
    try:
        logs.configure("warning", log_level)
    except logs.LogSettingError as error:
        fail(str(error))


@app.command(epilog="Example: [bold]gannet run my.yaml --arm gossip --seed 2 --set links=3g-slow[/bold]")
def run(
    spec: Annotated[str, typer.Argument(help=SPEC_HELP)],
    arm: Annotated[str | None, typer.Option(help="The arm to train; required if the spec has several.")] = None,
    seed: Annotated[int | None, typer.Option(help="The seed; default: the first of the spec.")] = None,
    set_: SetOption = None,
    out: OutOption = None,
    fabric: FabricOption = None,
    dry: DryOption = False,
    log: LogOption = None,
) -> None:
    """Train one run and write its report."""
    kinds = tracker_kinds(log)
    comparison = load(spec, set_, fabric)
    with errors_as_messages():
        single = one_run(comparison, arm, seed)
    print_dry_run(single) if dry else execute_spec(single, folder_for(out, comparison.name), trackers=kinds)


@app.command(epilog="Example: [bold]gannet compare demo --set stop.seconds=30 --set seeds='[1, 2, 3]'[/bold]")
def compare(
    spec: Annotated[str, typer.Argument(help=SPEC_HELP)],
    arms: Annotated[str | None, typer.Option(help="Only these arms, separated by commas; default: all.")] = None,
    set_: SetOption = None,
    out: OutOption = None,
    fabric: FabricOption = None,
    dry: DryOption = False,
    log: LogOption = None,
) -> None:
    """Train every arm with every seed on equal terms, and report which wins, by how much, and how sure that is."""
    kinds = tracker_kinds(log)
    comparison = load(spec, set_, fabric)
    if arms is not None:
        with errors_as_messages():
            comparison = some_arms(comparison, [name.strip() for name in arms.split(",")])
    print_dry_run(comparison) if dry else execute_spec(comparison, folder_for(out, comparison.name), trackers=kinds)


@app.command(epilog="Example: [bold]gannet resume runs/demo-20260102-120000[/bold]")
def resume(
    folder: Annotated[Path, typer.Argument(help="The folder of an interrupted comparison or run.")],
    allow_changes: Annotated[
        bool,
        typer.Option(
            "--allow-changes",
            help="Resume although data, versions or the processor are others than before; the report then says so.",
        ),
    ] = False,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="stop.KEY=VALUE",
            help="A later end, e.g. --set stop.steps=900: finished runs continue too.",
        ),
    ] = None,
) -> None:
    """Resume from the latest checkpoint (checkpoint_every in the spec), bit for bit as if never interrupted."""
    from gannet.experiment.resume import resume_plan

    with errors_as_messages(), alone_in(folder):
        plan = resume_plan(folder, allow_changes, stop or ())
        execute_spec(plan.comparison, plan.folder, plan)


@app.command()
def demo(set_: SetOption = None, out: OutOption = None) -> None:
    """Run the comparison of the README: gossip, server and all-reduce over 10 Mbit/s, 25 ms links."""
    comparison = load("demo", set_, None)
    execute_spec(comparison, folder_for(out, comparison.name))


@app.command(epilog="Example: [bold]gannet report runs/demo-20260102-120000[/bold]")
def report(
    folder: Annotated[Path, typer.Argument(help="The folder of a comparison or of a single run.")],
    rescore: Annotated[bool, typer.Option(help="Re-score the snapshots first.")] = False,
) -> None:
    """Write the report of a finished comparison or run again."""
    from gannet.experiment.compare import report_on, score_again

    with errors_as_messages(), alone_in(folder) if rescore else nullcontext():
        faults = score_again(folder, console) if rescore else 0
        path = report_on(folder, console)
        if path.parent != folder:
            console.print(f"report: {path}", markup=False)
    raise typer.Exit(1 if faults else 0)


@app.command(epilog="Example: [bold]gannet score runs/demo-20260102-120000 --samples 10000 --device cuda:1[/bold]")
def score(
    folder: Annotated[Path, typer.Argument(help="The folder of a comparison or of a single run.")],
    samples: Annotated[int | None, typer.Option(help="Images for each snapshot; default: as in the spec.")] = None,
    metrics: Annotated[
        str | None, typer.Option(help=f"Separated by commas, of {', '.join(METRICS)}; default: as in the spec.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="auto, fashionnet, inception or efficientnet-lite0; default: as in the spec.")
    ] = None,
    points: Annotated[
        int | None, typer.Option(help="Number of snapshots to score in each run; default: as in the spec.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; default: as in the spec.")] = None,
    node_models: Annotated[
        str | None,
        typer.Option(help="none, last or all: snapshots at which each node's own model is scored too."),
    ] = None,
) -> None:
    """Re-score a finished run or comparison, with other settings if wanted, and write its report again."""
    from gannet.experiment.compare import report_on, score_again

    given = {"samples": samples, "features": features, "points": points, "device": device}
    given["node_models"] = node_models
    wishes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if metrics is not None:
        wishes["metrics"] = [name.strip() for name in metrics.split(",")]
    with errors_as_messages(), alone_in(folder):
        faults = score_again(folder, console, wishes)
        path = report_on(folder, console)
        if path.parent != folder:
            console.print(f"report: {path}", markup=False)
    raise typer.Exit(1 if faults else 0)


@app.command(epilog="Example: [bold]gannet export runs/kdgan-…/kdgan/seed-1 --to classifier.onnx[/bold]")
def export(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.")],
    to: Annotated[Path, typer.Option(help="The file to write: .safetensors or .onnx.")],
    player: Annotated[
        str | None, typer.Option(help="The player whose network is written; default: classifier or generator.")
    ] = None,
    step: StepOption = "last",
    node: NodeOption = None,
) -> None:
    """Write a trained network (the mean of the nodes at a snapshot) to a file."""
    with errors_as_messages():
        from gannet.trained.export import export as write

        console.print(str(write(folder, to, player, step, node)), markup=False, soft_wrap=True)


@app.command(
    epilog="Example: [bold]gannet sample runs/demo-…/gossip/seed-1 -n 100 --step best --to hundred.png[/bold]"
)
def sample(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.")],
    to: Annotated[Path, typer.Option(help="The .png file to write.")] = Path("sample.png"),
    count: Annotated[int, typer.Option("-n", help="Number of images.")] = 64,
    label: Annotated[int | None, typer.Option("--class", help="Only images of this class; default: all.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same images.")] = 1,
    step: StepOption = "last",
    node: NodeOption = None,
) -> None:
    """Make pictures with a trained generator (the mean of the nodes at a snapshot)."""
    with errors_as_messages():
        from gannet.trained.sample import sample as write

        console.print(str(write(folder, to, count, label, seed, step, node)), markup=False, soft_wrap=True)


@app.command()
def clean() -> None:
    """Remove processes and namespaces left behind by a killed run."""
    with errors_as_messages():
        done = registry.clean()
    for item in done:
        words = {
            "running": "still running, left alone",
            "ended": "its processes and namespaces were removed",
            "gone": "nothing was left of it; its entry is removed",
        }
        console.print(f"{item.entry.command} (pid {item.entry.outer.pid}): {words[item.state]}", markup=False)
    if not done:
        console.print("nothing to clean: no run has left anything behind")


@app.command()
def doctor() -> None:
    """Check what this machine can do (link engines, namespaces, Docker, GPU) and show how to fix what it cannot."""
    from gannet.cli.doctor import engine_used, examine, table

    findings = examine()
    console.print(table(findings))
    console.print(engine_used(findings), markup=False)
    if not any(finding.ok and finding.name.startswith("engine") for finding in findings):
        raise typer.Exit(1)


@app.command()
def specs() -> None:
    """List the shipped specs."""
    for name in shipped_specs():
        console.print(name)


@app.command(hidden=True)
def serve(
    spec: Annotated[str, typer.Argument(help=SPEC_HELP)] = "cluster",
    out: Annotated[
        str, typer.Option(help="Folder for the results; with / at its end, a new folder in it.")
    ] = "/runs/",
) -> None:
    """Run a spec over the node containers that join: the command of the controller's container."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    # On `docker compose stop` or Ctrl-C on the host, report the measurements made so far. Installed before the slow
    # imports, since the first process of a container ignores signals without a handler; SIGINT too, since a container
    # engine started in the background passes on its ignored SIGINT.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)
    from gannet.experiment.serve import serve as run_served

    # A log has no width, and 80 columns would break every line of it.
    wide = console if console.is_terminal else Terminal(width=132)
    with errors_as_messages():
        finished = run_served(spec, out, os.environ, wide)
    raise typer.Exit(0 if finished else 1)


def main() -> None:
    """Entry point of the `gannet` command."""
    # A user namespace is entered with one thread, and OpenBLAS starts more as soon as NumPy is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    app(prog_name="gannet")


if __name__ == "__main__":
    main()
