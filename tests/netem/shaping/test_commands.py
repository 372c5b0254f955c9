"""The exact commands for typical plans and every shipped profile, held against golden files (see make_golden.py)."""

from __future__ import annotations

import re
from dataclasses import replace
from random import Random

import pytest

from gannet.netem.links.jitter import deviation, quantile, sampler
from gannet.netem.links.plan import BurstPlan, InterfacePlan, PathPlan
from gannet.netem.shaping.commands import (
    ENGINE_NAMES,
    EngineName,
    apply_commands,
    ifb_name,
)
from gannet.netem.shaping.rules import chain_name, queue_rules, source_numbers
from gannet.netem.shaping.tc import netem_cannot, netem_loss, wire_limit_packets
from tests.netem.shaping.make_golden import GOLDEN, IDEAL, MANY, RATES, SLOW, UNCAPPED, golden
from tests.netem.statistic import lag_1, mean_deviation


def test_commands_are_those_of_the_golden_files() -> None:
    kept = {str(file.relative_to(GOLDEN).with_suffix("")): file.read_text() for file in GOLDEN.rglob("*.txt")}
    assert golden() == kept, "if this is meant: python tests/netem/shaping/make_golden.py"


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_changing_nothing_does_nothing(engine: EngineName) -> None:
    for plan in (SLOW, UNCAPPED, IDEAL, MANY):
        assert apply_commands(plan, engine, apply_commands(plan, engine)[1])[0] == []


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_no_change_takes_anything_away(engine: EngineName) -> None:
    """What is removed while packets flow leaves a moment without it."""
    plans = [SLOW, UNCAPPED, IDEAL, MANY, RATES, SLOW, IDEAL]
    before = apply_commands(SLOW, engine)[1]
    for plan in plans:
        commands, before = apply_commands(plan, engine, before)
        assert not [line for command in commands for line in str(command).splitlines() if " del " in line]


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_changes_of_rates_alone_need_no_program(engine: EngineName) -> None:
    [command] = apply_commands(RATES, engine, apply_commands(SLOW, engine)[1])[0]
    assert command.changes and len(command.changes) == len((command.stdin or "").splitlines())


def test_where_netem_takes_a_seed_every_path_that_draws_has_its_own() -> None:
    paths = {
        "10.77.1.11": PathPlan(25),
        "10.77.1.12": PathPlan(5, jitter_ms=1, jitter_order="reorder"),
        "10.77.1.13": PathPlan(loss_percent=1),
    }
    plan = replace(SLOW, paths=paths, seed=3)

    def seeds(plan: InterfacePlan) -> list[str]:
        text = "".join(str(command) for command in apply_commands(plan, "netem", seeded=True)[0])
        assert text.count(" netem ") == 3
        return re.findall(r" seed (\d+)", text)

    found = [seeds(plan), seeds(replace(plan, seed=4)), seeds(replace(plan, address="10.77.1.9"))]
    assert all(len(of) == 2 and max(map(int, of)) < 2**64 for of in found)
    assert len({seed for of in found for seed in of}) == 6 and seeds(plan) == found[0]
    # Nothing is said again, and a change of one path leaves the other's stream alone.
    before = apply_commands(plan, "netem", seeded=True)[1]
    assert apply_commands(plan, "netem", before, seeded=True)[0] == []
    changed = replace(plan, paths={**paths, "10.77.1.13": PathPlan(loss_percent=2)})
    [command] = apply_commands(changed, "netem", before, seeded=True)[0]
    assert re.findall(r" seed (\d+)", str(command)) == found[0][1:]
    assert "seed" not in "".join(str(command) for command in apply_commands(plan, "netem")[0])


def test_many_sources_are_looked_up_in_two_steps() -> None:
    rules = queue_rules(replace(MANY, paths={f"10.77.1.{n}": PathPlan(delay_ms=1) for n in range(1, 65)}))
    chains = [rule.split()[1] for rule in rules.values()]
    assert max(chains.count(chain) for chain in chains) == 4
    assert len(set(chains)) == 16


def test_random_loss_and_bursts_together_are_one_chain() -> None:
    bursts = BurstPlan(1, 30, 90, 0.1)
    both = netem_loss(PathPlan(loss_percent=10, bursts=bursts))
    assert isinstance(both, BurstPlan)
    assert both.loss_percent == pytest.approx(PathPlan(loss_percent=10, bursts=bursts).any_loss_percent)
    assert netem_loss(PathPlan(loss_percent=100, bursts=bursts)) == 100
    assert "jitter" in netem_cannot(
        replace(SLOW, paths={"10.77.1.11": PathPlan(9, "normal", jitter_ms=1, jitter_correlation_percent=20)})
    )


@pytest.mark.parametrize("distribution", ["uniform", "normal", "pareto"])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_draws_have_the_moments_that_they_are_said_to_have(distribution: str, correlation: float) -> None:
    draw = sampler(distribution, correlation, Random(3))
    values = [draw() for _ in range(200_000)]
    mean, spread = mean_deviation(values)
    assert mean == pytest.approx(0, abs=0.03)
    assert spread == pytest.approx(deviation(distribution), rel=0.03)
    assert lag_1(values) == pytest.approx(correlation, abs=0.02)
    for share in (0.1, 0.5, 0.9):
        below = sum(value < quantile(distribution, share) for value in values) / len(values)
        assert below == pytest.approx(share, abs=0.02)


def test_names_fit_an_interface_and_a_chain() -> None:
    for device in ("mesh0", "eth0", "a-device-of-15b"):
        assert len(ifb_name(device)) <= 15
        assert len(chain_name(device)) <= 28
    assert ifb_name("a-device-of-15b") != ifb_name("a-device-of-15c")


def test_numbers_stay_with_their_source_and_never_collide() -> None:
    assert source_numbers(SLOW) == {"10.77.1.11": 0x10B, "10.77.1.12": 0x10C}
    for clash in ("10.78.1.11", "10.77.255.250"):
        with pytest.raises(ValueError, match="one /16 network"):
            source_numbers(replace(SLOW, paths={**SLOW.paths, clash: PathPlan(delay_ms=1)}))


def test_a_delay_line_holds_all_that_its_link_can_carry() -> None:
    path = PathPlan(delay_ms=300)
    assert wire_limit_packets(100_000_000, path) >= 2 * 100e6 * 0.3 / (8 * 1514)
    assert wire_limit_packets(1000, path) == wire_limit_packets(10**9, path)
    assert wire_limit_packets(None, path) == 1_000_000
