"""Writes made-up ledgers that look like real ones: curves that fall, links that nearly keep their order, a
run that is untrusted, one that died. Tests of the report read these instead of training."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from gannet.ledger.records import LowerBound, Step, StepTime, Summary, TopologyFacts, to_json
from gannet.netem.measure.certificate import EdgeResult

SCORE_NAME = "Fréchet distance (FashionNet features)"
CREATED = "2026-03-14T09:26:53+00:00"
Paint = Callable[[random.Random, float], Image.Image]


@dataclass
class RunPlan:
    """One run to be made up. Scores fall from `start` towards `floor` with half-life `half_life` steps."""

    arm: str
    label: str
    seed: int
    algorithm: str = "dp-oadam"
    topology: str = "ring"
    spectral_gap: float | None = 2 / 3
    nodes: int = 4
    hidden_s: float = 0.0
    steps: int = 120
    every: int = 12
    compute_s: float = 0.15
    wait_s: float = 0.2
    other_s: float = 0.02
    bound_s: float | None = 0.33
    payload_bytes: tuple[int, ...] = (200_000,) * 4
    start: float = 380.0
    floor: float = 40.0
    half_life: float = 22.0
    noise: float = 0.0
    consensus: float = 1.5
    late_ms: float = 0.2
    rate_bps: float = 10e6
    delay_ms: float = 25.0
    bad_edges: dict[tuple[int, int], float] = field(default_factory=dict)
    status: str = "finished"
    reason: str | None = None
    stop_at: int | None = None
    trusted: bool = True
    reasons: tuple[str, ...] = ()
    model: bool = False
    images: bool = True
    summary: bool = True


def write_run(folder: Path, plan: RunPlan, paint: Paint | None = None) -> Path:
    """Write one run's folder and return it."""
    folder.mkdir(parents=True)
    chance = random.Random(f"{plan.arm}/{plan.seed}")
    last = plan.stop_at or plan.steps
    _write_json(folder / "environment.json", environment())
    (folder / "spec.yaml").write_text(f"name: {json.dumps(plan.label)}\nseed: {plan.seed}\nnodes: {plan.nodes}\n")
    _write_json(folder / "certificate.json", certificate(plan, chance))
    steps, ends = _steps(plan, last, chance)
    _write_lines(folder / "steps.jsonl", steps)
    scores = _scores(plan, last, ends, chance)
    _write_lines(folder / "scores.jsonl", scores)
    _write_lines(folder / "links.jsonl", _links(plan, ends[last], chance))
    if plan.images:
        (folder / "images").mkdir()
        for score in scores:
            quality = min(1.0, max(0.0, (plan.start - score["score"]) / (plan.start - plan.floor)))
            picture = (paint or paint_grid)(random.Random(7), quality)
            picture.save(folder / "images" / f"step-{score['step']:06d}.png", optimize=True)
    if plan.summary:
        _write_json(folder / "summary.json", _summary(plan, last, ends[last], steps, scores))
    return folder


def write_comparison(folder: Path, plans: list[RunPlan], name: str = "demo", paint: Paint | None = None) -> Path:
    """Write a comparison folder with a run for each plan and return it."""
    folder.mkdir(parents=True)
    arms = list(dict.fromkeys(plan.arm for plan in plans))
    body = "".join(f"  {json.dumps(arm, ensure_ascii=False)}: {{}}\n" for arm in arms)
    (folder / "spec.yaml").write_text(
        f"name: {json.dumps(name, ensure_ascii=False)}\n"
        f"task: {{name: hinge-gan}}\nnodes: 4\nlinks: demo-10mbit\narms:\n{body}"
    )
    _write_json(folder / "comparison.json", {"created": CREATED})
    for plan in plans:
        write_run(folder / plan.arm / f"seed-{plan.seed}", plan, paint)
    return folder


def realistic_plans(seeds: tuple[int, ...] = (1, 2), broken: bool = True) -> list[RunPlan]:
    """Gossip, server and ring all-reduce on equal terms; with `broken`, one run untrusted and one that
    failed."""
    plans = []
    for seed in seeds:
        drift = 1 + 0.06 * math.sin(2.1 * seed)
        plans += [
            RunPlan(
                "dp-oadam",
                "DP-OAdam on a ring",
                seed,
                half_life=23 * drift,
                noise=1.5,
                payload_bytes=(395_000,) * 4,
                wait_s=0.19,
                bound_s=0.34,
                consensus=1.9,
            ),
            RunPlan(
                "cp-server",
                "Central averaging, server",
                seed,
                algorithm="cp-oadam",
                topology="star",
                spectral_gap=None,
                half_life=21 * drift,
                noise=1.5,
                floor=37,
                payload_bytes=(592_500, 197_500, 197_500, 197_500),
                wait_s=0.87,
                bound_s=1.0,
                consensus=0.0,
            ),
            RunPlan(
                "cp-ring",
                "Central averaging, ring all-reduce",
                seed,
                algorithm="cp-oadam",
                topology="ring",
                spectral_gap=None,
                half_life=21 * drift,
                noise=1.5,
                floor=37,
                payload_bytes=(296_250,) * 4,
                wait_s=0.36,
                bound_s=0.39,
                consensus=0.0,
            ),
        ]
    plans.sort(key=lambda plan: ("dp-oadam", "cp-server", "cp-ring").index(plan.arm))
    if broken:
        untrusted = next(plan for plan in plans if plan.arm == "cp-ring" and plan.seed == seeds[-1])
        untrusted.trusted, untrusted.late_ms = False, 6.5
        untrusted.reasons = (
            "link 2 → 3: rate 8.1 Mbit/s instead of 10 Mbit/s (± 5%)",
            "engine late: p99 6.5 ms",
        )
        untrusted.bad_edges = {(2, 3): 0.81}
        failed = next(plan for plan in plans if plan.arm == "cp-server" and plan.seed == seeds[-1])
        failed.status, failed.stop_at, failed.trusted = "failed", 52, True
        failed.reason = "node 3 left without a word after step 52"
    return plans


def environment() -> dict[str, Any]:
    return {
        "host": {"cpus": 2, "model": "AMD EPYC 7B13", "kernel": "6.18.0", "memory_gb": 24},
        "versions": {"python": "3.11.2", "torch": "2.14.1", "gannet-testbed": "0.1.0"},
        "engine": "nfqueue",
        "stack": {"congestion_control": "cubic", "slow_start_after_idle": False, "mtu": {"0": 1450, "1": 1500}},
    }


def certificate(plan: RunPlan, chance: random.Random) -> dict[str, Any]:
    edges = []
    for src in range(plan.nodes):
        for dst in range(plan.nodes):
            if src == dst:
                continue
            edge: dict[str, Any] = {
                "src": src,
                "dst": dst,
                "expected_rate_bps": plan.rate_bps,
                "measured_rate_bps": None,
                "expected_delay_ms": plan.delay_ms,
                "expected_jitter_ms": 0.0,
                "delay_p50_ms": None,
                "delay_p95_ms": None,
                "rtt_p50_ms": None,
                "expected_loss_percent": 0.0,
                "loss_percent": None,
                "ok": True,
                "reasons": [],
            }
            if not plan.model:
                factor = plan.bad_edges.get((src, dst), chance.uniform(0.985, 1.004))
                delay_ms = plan.delay_ms + chance.uniform(0.12, 0.45)
                edge |= {"measured_rate_bps": plan.rate_bps * factor, "delay_p50_ms": delay_ms,
                         "delay_p95_ms": delay_ms + chance.uniform(0.1, 0.4), "rtt_p50_ms": 2 * delay_ms,
                         "loss_percent": 0.0, "delay_p5_ms": delay_ms - 0.1, "delay_deviation_ms": 0.08,
                         "delay_interval_ms": [delay_ms - 0.03, delay_ms + 0.03],
                         "rate_interval_bps": [plan.rate_bps * (factor - 0.003), plan.rate_bps * (factor + 0.003)],
                         "loss_interval_percent": [0.0, 0.35], "reordered_percent": 0.0,
                         "duplicate_percent": 0.0}  # fmt: skip
            if (src, dst) in plan.bad_edges:
                edge |= {"ok": False, "reasons": ["rate 8.1 Mbit/s instead of 10 Mbit/s (± 5%)"]}
            edges.append(asdict(EdgeResult(**edge)))
    return {
        "trusted": plan.trusted,
        "reasons": list(plan.reasons),
        "model": plan.model,
        "edges": edges,
        "fans": [] if plan.model else [_fan(plan, node) for node in range(plan.nodes)],
        "tolerances": {"rate_share": 0.05},
        "seconds": None if plan.model else 5.25,
    }


def _fan(plan: RunPlan, node: int) -> dict[str, Any]:
    return {"node": node, "direction": "in", "peers": [peer for peer in range(plan.nodes) if peer != node],
            "expected_rate_bps": plan.rate_bps, "measured_rate_bps": 0.99 * plan.rate_bps,
            "rate_interval_bps": [0.98 * plan.rate_bps, plan.rate_bps], "ok": True, "reasons": []}  # fmt: skip


def _steps(plan: RunPlan, last: int, chance: random.Random) -> tuple[list[dict[str, Any]], dict[int, float]]:
    lines, ends, now = [], {0: 0.0}, 0.0
    for step in range(1, last + 1):
        compute_s = plan.compute_s * chance.uniform(0.97, 1.06)
        wait_s, other_s = plan.wait_s * chance.uniform(0.94, 1.08), plan.other_s
        now += compute_s + wait_s + other_s
        ends[step] = now
        for node in range(plan.nodes):
            payload = plan.payload_bytes[node % len(plan.payload_bytes)]
            step_line = Step(
                node=node,
                step=step,
                t_s=round(now, 5),
                loss={"generator": 1.2 + chance.gauss(0, 0.1), "discriminator": 0.8 + chance.gauss(0, 0.1)},
                compute_s=compute_s,
                wait_s=wait_s,
                other_s=other_s,
                codec_bytes=payload,
                grpc_bytes=payload + 300,
                interface_bytes=int(payload * 1.05),
            )
            lines.append({**to_json(step_line), "of a later version": 2})
    return lines, ends


def _scores(plan: RunPlan, last: int, ends: dict[int, float], chance: random.Random) -> list[dict[str, Any]]:
    lines = []
    for step in range(0, last + 1, plan.every):
        fall = 0.5 ** (step / plan.half_life)
        noise = chance.gauss(0, plan.noise) if step else 0.0
        apart = plan.consensus * (1 - math.exp(-step / 25)) * (1 - 0.3 * step / plan.steps)
        lines.append(
            {
                "step": step,
                "t_s": round(ends[step], 5),
                "bytes": step * sum(plan.payload_bytes),
                "score": plan.floor + (plan.start - plan.floor) * fall + noise,
                "score_name": SCORE_NAME,
                "of": "average",
                "samples": 1000,
                "features": "FashionNet",
                **_more(fall),
                "more": list(_more(fall)),
                "classes": _classes(fall),
                "classes_found": 0.9 if step else 0.1,
                "consensus_generator": apart,
                "consensus_discriminator": 1.7 * apart,
            }
        )
    return lines


def _more(fall: float) -> dict[str, float]:
    """The other scores as `fall` goes from 1 to 0."""
    return {
        "kid": 0.02 + 2.4 * fall,
        "inception-score": 9.1 - 7 * fall,
        "precision": 0.78 * (1 - fall),
        "recall": 0.52 * (1 - fall) ** 2,
        "coverage": 0.61 * (1 - fall) ** 1.5,
    }


def _classes(fall: float) -> dict[str, float]:
    """All bags at first; at the end there are still no sandals."""
    names = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    shares = dict.fromkeys(names, (1 - fall) / 9)
    return shares | {"sandal": 0.0, "bag": (1 - fall) / 9 + fall}


def _links(plan: RunPlan, end_s: float, chance: random.Random) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    totals = dict.fromkeys(range(plan.nodes), 0)
    dropped = dict.fromkeys(range(plan.nodes), 0)
    step_s = plan.compute_s + plan.wait_s + plan.other_s
    for second in range(1, int(end_s) + 1):
        for node in range(plan.nodes):
            payload = plan.payload_bytes[node % len(plan.payload_bytes)]
            totals[node] += int(min(plan.rate_bps / 8, payload * 1.05 / step_s) * chance.uniform(0.93, 1.02))
            dropped[node] += chance.choice((0, 0, 0, 0, 1, 2)) if node == 0 else 0
            late = plan.late_ms * chance.uniform(0.7, 1.4)
            lines.append(
                {"t_s": float(second), "node": node, "tx_bytes": totals[node], "rx_bytes": totals[node],
                 "dropped": dropped[node], "backlog_bytes": chance.randrange(30_000), "late_p50_ms": late / 4,
                 "late_p99_ms": late, "late_max_ms": 2 * late, "released": 800}
            )  # fmt: skip
    return lines


def _summary(
    plan: RunPlan, last: int, end_s: float, steps: list[dict[str, Any]], scores: list[dict[str, Any]]
) -> dict[str, Any]:
    step_s = plan.compute_s + plan.wait_s + plan.other_s
    bound = None
    if plan.bound_s is not None:
        bound = LowerBound(
            compute_s=plan.compute_s,
            transfer_s=plan.bound_s - 0.025,
            delay_s=0.025,
            total_s=plan.bound_s,
        )
    found = Summary(
        arm=plan.arm,
        label=plan.label,
        seed=plan.seed,
        status=plan.status,
        reason=plan.reason,
        nodes=plan.nodes,
        steps=last,
        seconds=end_s,
        setup_s=9.4,
        step_s=StepTime(median=step_s * 1.01, p95=step_s * 1.08),
        compute_s=plan.compute_s,
        wait_s=plan.wait_s,
        lower_bound_s=bound,
        bytes_codec=sum(s["codec_bytes"] for s in steps),
        bytes_grpc=sum(s["grpc_bytes"] for s in steps),
        bytes_interface=sum(s["interface_bytes"] for s in steps),
        final_score=scores[-1]["score"] if plan.status == "finished" else None,
        best_score=min(s["score"] for s in scores),
        trusted=plan.trusted,
        reasons=plan.reasons,
        topology=TopologyFacts(name=plan.topology, spectral_gap=plan.spectral_gap),
        algorithm=plan.algorithm,
        codec="fp32",
        links="demo-10mbit",
        refused={},
        hidden_s=plan.hidden_s,
        memory_mb=(412.0, 415.5, 409.1, 420.0)[: plan.nodes],
    )
    return to_json(found)


def paint_grid(chance: random.Random, quality: float, across: int = 8, pixels: int = 28) -> Image.Image:
    """A grid of grey shirts and bags that come out of noise as quality goes from 0 to 1."""
    grid = Image.new("L", (across * pixels, across * pixels))
    for place in range(across * across):
        tile = Image.new("L", (pixels, pixels))
        draw, shade = ImageDraw.Draw(tile), chance.randrange(120, 250)
        if place % 3:
            draw.polygon(
                [(8, 5), (20, 5), (27, 11), (23, 15), (20, 12), (20, 25), (8, 25), (8, 12), (5, 15), (1, 11)],
                shade,
            )
        else:
            draw.rectangle((4, 11, 24, 24), shade)
            draw.arc((8, 3, 20, 18), 180, 360, shade, 2)
        noise = Image.frombytes("L", (pixels, pixels), chance.randbytes(pixels * pixels))
        place_at = (place % across * pixels, place // across * pixels)
        grid.paste(Image.blend(noise, tile, min(1.0, quality)), place_at)
    return grid


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
