"""A dry run: the plan of a comparison, from its spec alone; it needs no data, GPU, links or nodes.

It refuses what a run refuses, unless only data, a device or a feature network tell.

Every network is built and one gradient of each arm taken, both in shapes only, so that a spec whose task cannot work
fails here and not on a GPU that the user has waited for.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from gannet.console import one_line
from gannet.experiment.checks import as_lines, missing_device, mistakes_of_spec
from gannet.experiment.task_cost import NOTES, Cost, cost_of, cost_table
from gannet.netem.traces.figures import summary as trace_summary
from gannet.scores.comparable import unlike_arms
from gannet.spec.load import SpecError
from gannet.spec.notes import comparison_notes
from gannet.spec.run_spec import ComparisonSpec, RunSpec


def dry_run(comparison: ComparisonSpec, console: Console) -> None:
    """Print the plan, and what a device here lacks for it.

    Raises SpecError with all that a run would refuse, but what only data or a device tell.
    """
    once = comparison.model_copy(update={"seeds": comparison.seeds[:1]}).runs()
    mistakes = as_lines(mistakes_of_spec(once), once)
    if unlike := unlike_arms(comparison):
        mistakes = f"{unlike}\n{mistakes}".strip()
    if mistakes:
        raise SpecError(mistakes)
    runs = len(comparison.arms) * len(comparison.seeds)
    console.print(
        f"{comparison.name}: {runs} {'run' if runs == 1 else 'runs'}, seeds {', '.join(map(str, comparison.seeds))}; "
        "dry run, nothing is trained",
        markup=False,
    )
    costs = {arm: (spec, cost_of(spec)) for arm, spec in comparison.arms.items()}
    console.print()
    console.print(cost_table(costs))
    console.print()
    for arm, (spec, cost) in costs.items():
        for line in lines(spec, cost):
            console.print(f"{arm}: {line}" if len(costs) > 1 else line, markup=False, soft_wrap=True)
    for note in (*dict.fromkeys(filter(None, map(missing_device, once))), *comparison_notes(comparison)):
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    console.print()
    console.print(NOTES, style="dim", markup=False)


def lines(spec: RunSpec, cost: Cost) -> Iterator[str]:
    """The arm's runs, a line each."""
    yield (
        f"{spec.nodes} {'node' if spec.nodes == 1 else 'nodes'} on fabric {spec.fabric}, device {spec.device}, "
        f"algorithm {spec.say(lambda part: part.algorithm.title)}, codec {spec.say(lambda part: part.codec)}, "
        f"links {one_line(spec.links.describe())}"
    )
    for rank, at_s in sorted(spec.join_at_s.items()):
        yield f"node {rank} joins at {at_s:g} s of training with a neighbour's state, and sends less than the others"
    for trace in dict.fromkeys(entry.played for entry in spec.links.schedule if entry.trace):
        yield f"trace {trace.name}: {trace_summary(trace)}"
    o = spec.optimizer
    rates = f"learning rate {o.learning_rate:g}" + (
        f" ({o.learning_rate_discriminator:g} of the discriminator)" if o.learning_rate_discriminator else ""
    )
    if o.decay_steps:
        rates += f", down to 0 in {o.decay_steps:,} steps"
    yield f"{rates}, β {o.beta1:g} and {o.beta2:g}, batch {spec.batch} a node, {spec.batch * spec.nodes} in all"
    if spec.start_from is not None:
        yield f"begins from {spec.start_from.title}"
    critic_steps = getattr(spec.task, "critic_steps", 1)
    if spec.stop.steps is not None:
        moves = f" ({spec.stop.steps // critic_steps:,} of the generator)" if critic_steps > 1 else ""
        yield (
            f"ends after {spec.stop.steps:,} steps{moves}: {spec.stop.steps * cost.flops / 1e15:.3g} PFLOP and "
            f"{cost.sent_in(spec.stop.steps) / 1e9:.3g} GB sent, each node"
        )
    if spec.stop.seconds is not None:
        yield f"ends after {spec.stop.seconds:g} s of training"
