"""A run whose players are exchanged each in its own way, from the spec to the report, on the virtual clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from gannet.experiment.runner import begin_comparison, run_one
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.ledger.records import PlayerFacts
from gannet.report import read_comparison
from gannet.report.results import measure
from gannet.report.tables import describe_arm
from gannet.spec.load import resolve

SPEC = {
    "fabric": "virtual",
    "pace_ms": 20,
    "nodes": 4,
    "task": {"name": "game", "dimension": 500},
    "algorithm": {"name": "dp-oadam"},
    "links": {"profile": {"rate": "1Mbit", "delay_ms": 10}},
    "stop": {"steps": 20},
    "score": None,
    "arms": {
        "own": {
            "players": {
                "generator": {"algorithm": {"name": "cp-oadam", "every": 10}, "codec": "fp16"},
                "discriminator": {"algorithm": {"name": "choco"}, "codec": "qsgd-4bit,raw_below=0"},
            }
        },
        "one left alone": {"players": {"generator": {"algorithm": {"name": "local"}}}},
        "whole": {},
    },
}


def test_from_the_spec_to_the_report(tmp_path: Path) -> None:
    comparison = resolve(SPEC, "players.yaml")
    begin_comparison(comparison, tmp_path)
    summaries = {}
    for name, spec in comparison.arms.items():
        folder = tmp_path / name / "seed-1"
        folder.mkdir(parents=True)
        summaries[name] = run_one(spec, folder, run_virtual)
    for name, summary in summaries.items():
        assert summary.status == "finished" and summary.trusted, (name, summary.reasons)
        bound, step_s = summary.lower_bound_s.total_s, summary.step_s.mean
        assert 0 < bound <= step_s
    own, alone = summaries["own"].players, summaries["one left alone"].players
    # A server of 4 nodes: 3 copies up and 3 down of 500 values of 2 bytes, at every tenth step.
    assert own["generator"] == PlayerFacts(
        algorithm="cp-oadam", every=10, topology=None, codec="fp16", bytes_per_step=6 * 500 * 2 / 10
    )
    # A ring of 4 nodes: two copies each of 4 bits a value and a scale for each bucket.
    assert own["discriminator"].topology == "ring" and 8 * 250 < own["discriminator"].bytes_per_step < 8 * 270
    total = sum(facts.bytes_per_step for facts in own.values())
    assert summaries["own"].bytes_codec == pytest.approx(20 * total)
    assert alone["generator"].bytes_per_step == 0
    assert summaries["one left alone"].bytes_codec == 20 * alone["discriminator"].bytes_per_step
    assert summaries["whole"].players == {}
    assert summaries["whole"].bytes_codec == 2 * summaries["one left alone"].bytes_codec
    assert summaries["one left alone"].topology is None and summaries["whole"].topology.name == "ring"
    said = {arm.name: describe_arm(arm) for arm in measure(read_comparison(tmp_path)).arms}
    first, second = said["own"].split(" · ")
    assert first == "generator: cp-oadam every 10 steps, fp16, 600 B per step"
    assert second.startswith("discriminator: choco, ring, qsgd-4bit,raw_below=0, 2.")
    assert said["one left alone"] == "generator: local · discriminator: dp-oadam, ring, fp32, 16 kB per step"
    assert said["whole"] == "dp-oadam · ring, spectral gap 0.667 · fp32"
