"""A spec's `mixing`: what can be used, what is refused and by which name, and where it takes effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gannet.node.methods.registry import METHODS
from gannet.spec.load import SpecError, resolve
from tests.support.games import BilinearGame
from tests.support.runs import play, virtual_job

BASE = {"fabric": "virtual", "pace_ms": 10, "task": {"name": "game"}, "score": None, "stop": {"steps": 5}, "nodes": 8}
WITH = {"trimmed-mean", "median", "clip"}


def spec(**fields: Any) -> Any:
    return resolve({**BASE, "algorithm": {"name": "dp-oadam"}, **fields}, "a spec").arms["run"]


def refusal(**fields: Any) -> str:
    with pytest.raises(SpecError) as refused:
        spec(**fields)
    assert str(refused.value).count("\n") == 0
    return str(refused.value)


CAN = {"dp-oadam": WITH, "dposg": WITH, "cp-oadam": WITH - {"clip"}, "fedgan": WITH - {"clip"}}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rule", sorted(WITH))
def test_methods_that_can_take_it_and_all_others_refuse_it_by_name(name: str, rule: str) -> None:
    fields = {"algorithm": {"name": name}, "mixing": rule}
    if name == "ddp":
        fields["fabric"] = "namespaces"
    if name == "md-gan":
        fields["task"] = {"name": "gan"}
    if rule in CAN.get(name, ()):
        assert spec(**fields).mixing.name == rule
    else:
        said = refusal(**fields)
        assert rule in said and name in said
    fields["mixing"] = "mean"
    assert spec(**fields).mixing.name == "mean"


def test_a_collective_decides() -> None:
    for name in ("cp-oadam", "diloco", "gossip-pga"):
        assert "around a ring" in refusal(algorithm={"name": name, "collective": "ring"}, mixing="median")
        spec(algorithm={"name": name, "collective": "server"}, mixing="median")
    spec(algorithm={"name": "gossip-pga", "global_every": None}, mixing="clip")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mixing": {"name": "trimmed-mean", "byzantine": 2}}, "needs 4 peers for each node in each round, and ring"),
        ({"mixing": "trimmed-mean", "topology": "star"}, "gives some only 1"),
        ({"mixing": "clip", "topology": "one-peer-exponential"}, "gives some only 1"),
        ({"mixing": "median", "nodes": 1}, "gives some only 0"),
        ({"mixing": "median", "nodes": 2, "algorithm": {"name": "fedgan"}}, "needs 2 workers and a server"),
        ({"mixing": {"name": "clip", "byzantine": 1, "radius": 1.0}}, "not both"),
        ({"mixing": {"name": "trimmed-mean", "byzantine": 0}}, "mixing.byzantine: must be more than 0"),
        ({"mixing": {"name": "median", "byzantine": 1}}, "unknown byzantine"),
        ({"mixing": "average"}, "mean, trimmed-mean, median, clip"),
        (
            {"players": {"generator": {"algorithm": {"name": "choco"}, "mixing": "median"}}},
            "players.generator: mixing",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], words: str) -> None:
    assert words in refusal(**fields)


def test_it_is_written_as_it_is_read() -> None:
    for mixing in ("median", {"name": "trimmed-mean", "byzantine": 1}, {"name": "clip", "radius": 2.0}):
        one = spec(mixing=mixing)
        assert (
            resolve(one.model_dump(mode="json", exclude={"arm", "name", "seed"}), "it").arms["run"].mixing
            == one.mixing
        )


def test_a_player_has_a_rule_of_its_own() -> None:
    """The generator by the median and the discriminator by the mean: each is as in a run by that rule alone,
    with a learning rate of next to nothing, after one round from different points.
    """

    class Apart(BilinearGame):
        def initial(self) -> Any:
            return super().initial() * (1 + self.rank)

        def __init__(self, rank: int) -> None:
            self.rank = rank
            super().__init__(rank)

    def after_one(**fields: Any) -> np.ndarray:
        job = virtual_job({"name": "dp-oadam"}, 5, 1, optimizer={"learning_rate": 1e-30}, **fields)
        memory, outcome = play(job, [Apart(rank) for rank in range(5)])
        assert outcome.status == "finished", outcome.reason
        return memory.states(1)

    median, mean = after_one(mixing="median"), after_one()
    both = after_one(players={"generator": {"mixing": "median"}})
    n = both.shape[1] // 2
    assert not np.allclose(median, mean)
    np.testing.assert_array_equal(both[:, :n], median[:, :n])
    np.testing.assert_array_equal(both[:, n:], mean[:, n:])
    x = np.stack([Apart(rank).initial().numpy() for rank in range(5)])
    ring = np.stack([np.median(x[[(i - 1) % 5, i, (i + 1) % 5]], axis=0) for i in range(5)])
    np.testing.assert_allclose(median, ring, atol=1e-6)
