"""The golden command lists: what each case of test_commands.py and each shipped profile amounts to.

`python tests/netem/shaping/make_golden.py` rewrites them after an intended change to the commands or to a
profile; test_commands.py holds them. The lists of profiles leave out the clearing at their head, which is in
golden/clear.txt.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gannet.netem.links.pairs.shared_limit import SharedLimit
from gannet.netem.links.plan import BurstPlan, InterfacePlan, PathLimit, PathPlan, network_plan
from gannet.netem.links.profile import list_profiles, load_profile
from gannet.netem.shaping.commands import ENGINE_NAMES, EngineName, apply_commands, clear_commands
from gannet.netem.shaping.tc import netem_cannot

GOLDEN = Path(__file__).parent / "golden"

SLOW = InterfacePlan(
    device="mesh0",
    address="10.77.1.10",
    up_bps=1_000_000,
    down_bps=8_000_000,
    buffer_bytes_up=15_140,
    buffer_bytes_down=100_000,
    paths={
        "10.77.1.11": PathPlan(delay_ms=25),
        "10.77.1.12": PathPlan(delay_ms=40, jitter_ms=5, jitter_distribution="normal", loss_percent=0.5),
        "10.77.1.13": PathPlan(),
    },
)
SHARED = replace(SLOW, down_queue="shared")
UNCAPPED = replace(SLOW, up_bps=None, down_bps=None, segments=40)
IDEAL = replace(UNCAPPED, paths={})
FASTER = replace(SLOW, up_bps=2_000_000, paths={"10.77.1.12": PathPlan(delay_ms=10)})
RATES = replace(SLOW, up_bps=2_000_000, down_bps=3_000_000, buffer_bytes_down=37_500)
REORDERED, UNIFORM = (
    replace(SLOW, paths={**SLOW.paths, "10.77.1.12": PathPlan(40, kind, jitter_ms=5, jitter_order="reorder")})
    for kind in ("normal", "uniform")
)
CALM = replace(SLOW, paths={**SLOW.paths, "10.77.1.12": PathPlan(40)})
FULL = replace(
    SLOW,
    buffer_packets_up=30,
    buffer_packets_down=30,
    paths={
        "10.77.1.11": PathPlan(
            25,
            "pareto",
            BurstPlan(1, 30, 90, 0.1),
            jitter_ms=2,
            loss_percent=1,
            reorder_percent=2,
            duplicate_percent=3,
            corrupt_percent=0.5,
        ),
        "10.77.1.12": PathPlan(loss_percent=100.0, bursts=BurstPlan(1, 30)),
    },
)
MANY = replace(SLOW, paths={f"10.77.1.{n}": PathPlan(delay_ms=5, duplicate_percent=1) for n in range(11, 23)})

LIMITED, UNCAPPED_LIMITED = (
    replace(plan, limits={"10.77.1.12": PathLimit(500_000, 15_140), "10.77.1.13": PathLimit(2_000_000, 0, 30)})
    for plan in (SLOW, UNCAPPED)
)
LIMITED_TOO = replace(SLOW, limits={"10.77.1.12": PathLimit(700_000, 15_140)})

INNER, INNER_SLOWER = (
    replace(
        LIMITED,
        shared_in=(SharedLimit(0, rate_bps, 15_140, ("10.77.1.11", "10.77.1.12"), 2, "receiver"),),
        shared_out=(SharedLimit(1, 800_000, 15_140, ("10.77.1.12", "10.77.1.13"), 2, "sender"),),
    )
    for rate_bps in (3_000_000, 1_000_000)
)

CASES: dict[str, tuple[InterfacePlan, InterfacePlan | None]] = {
    "slow": (SLOW, None),
    "uncapped": (UNCAPPED, None),
    "ideal": (IDEAL, None),
    "full": (FULL, None),
    "many": (MANY, None),
    "codel": (replace(SLOW, queue="codel"), None),
    "fq_codel": (replace(SLOW, queue="fq_codel", buffer_packets_up=20, buffer_packets_down=40), None),
    "sfq": (replace(SLOW, queue="sfq"), None),
    "slow-to-faster": (FASTER, SLOW),
    "slow-to-uncapped": (UNCAPPED, SLOW),
    "uncapped-to-slow": (SLOW, UNCAPPED),
    "rates-only": (RATES, SLOW),
    "reordered": (REORDERED, None),
    "to-uniform-jitter": (UNIFORM, REORDERED),
    "kept-to-reordered": (REORDERED, SLOW),
    "reordered-to-kept": (SLOW, REORDERED),
    "kept-to-calm": (CALM, SLOW),
    "calm-to-kept": (SLOW, CALM),
    "slow-to-full": (FULL, SLOW),
    "codel-to-fifo": (SLOW, replace(SLOW, queue="codel")),
    "shared": (SHARED, None),
    "shared-to-per-source": (SLOW, SHARED),
    "per-source-to-shared": (SHARED, SLOW),
    "limited": (LIMITED, None),
    "uncapped-limited": (UNCAPPED_LIMITED, None),
    "slow-to-limited": (LIMITED, SLOW),
    "limited-to-limited-too": (LIMITED_TOO, LIMITED),
    "limited-to-slow": (SLOW, LIMITED),
    "uncapped-to-limited": (UNCAPPED_LIMITED, UNCAPPED),
    "inner": (INNER, None),
    "inner-to-slower": (INNER_SLOWER, INNER),
    "inner-to-slow": (SLOW, INNER),
    "slow-to-inner": (INNER, SLOW),
}


def case_text(case: str, engine: EngineName) -> str:
    """The commands of a case."""
    plan, previous = CASES[case]
    if engine == "netem" and netem_cannot(plan):
        return f"refused: {netem_cannot(plan)}\n"
    before = previous and apply_commands(previous, engine)[1]
    return "".join(f"{command}\n" for command in apply_commands(plan, engine, before)[0])


def profile_text(name: str, engine: EngineName) -> str:
    """The commands for the first of three nodes that have this profile."""
    profile = load_profile(name)
    plan = network_plan(profile, {}, {}, [f"10.77.1.{10 + n}" for n in range(3)], "mesh0")[0]
    if engine == "netem" and netem_cannot(plan):
        return f"refused: {netem_cannot(plan)}\n"
    commands = apply_commands(plan, engine)[0][len(clear_commands("mesh0")) :]
    return "".join(f"{command}\n" for command in commands)


def golden() -> dict[str, str]:
    """All golden files by name."""
    texts = {"clear": "".join(f"{command}\n" for command in clear_commands("mesh0"))}
    for engine in ENGINE_NAMES:
        texts |= {f"{engine}-{case}": case_text(case, engine) for case in CASES}
        texts |= {f"profiles/{engine}-{name}": profile_text(name, engine) for name in list_profiles()}
    return texts


def main() -> None:
    """Write all, and remove what no case or profile stands behind any more."""
    texts = golden()
    (GOLDEN / "profiles").mkdir(parents=True, exist_ok=True)
    for file in GOLDEN.rglob("*.txt"):
        if str(file.relative_to(GOLDEN).with_suffix("")) not in texts:
            file.unlink()
    for name, text in texts.items():
        (GOLDEN / f"{name}.txt").write_text(text)


if __name__ == "__main__":
    main()
