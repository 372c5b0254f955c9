"""Every node sees its shard alone; a data set is the same from whatever file, and a damaged one is an error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gannet.experiment.runner import run_one
from gannet.ledger.data_fingerprint import data_of
from gannet.node.config import NodeConfig
from gannet.node.data import datasets
from gannet.node.data.config import DataConfig
from gannet.node.data.datasets import fingerprint, load_shard, load_split
from gannet.node.data.sharding import partition
from gannet.node.training.worker import Worker
from gannet.spec.run_spec import RunSpec

LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=150).map(np.array)


@given(LABELS, st.integers(1, 12), st.integers(1, 7), st.integers(0, 2**32))
def test_shares_by_class_are_a_partition_with_few_labels_each(
    labels: np.ndarray, world: int, few: int, seed: int
) -> None:
    classes = len(np.unique(labels))
    try:
        shares = partition(labels, world, "class", None, seed, few)
    except ValueError as error:
        too_many, too_few = few > classes, few * world < classes
        assert too_many or too_few or "without data" in str(error)
        assert not too_many or "1 to" in str(error)
        return
    assert len(shares) == world and min(map(len, shares)) > 0
    assert sorted(np.concatenate(shares)) == list(range(len(labels)))
    assert all(len(np.unique(labels[share])) <= few for share in shares)
    again = partition(labels, world, "class", None, seed, few)
    assert all(np.array_equal(one, other) for one, other in zip(shares, again, strict=True))


def test_each_label_is_split_evenly_among_its_nodes() -> None:
    labels = np.repeat(np.arange(10), 60)
    shares = partition(labels, 8, "class", None, 3, classes_per_node=3)  # 24 places: labels have 2 or 3 nodes
    held = [Counter(labels[share].tolist()) for share in shares]
    assert all(len(counts) == 3 for counts in held)
    for label in range(10):
        parts = [counts[label] for counts in held if counts[label]]
        assert parts in ([30, 30], [20, 20, 20])
    other = partition(labels, 8, "class", None, 4, classes_per_node=3)
    assert any(not np.array_equal(one, two) for one, two in zip(shares, other, strict=True))


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from([{}, {"sharding": "dirichlet", "alpha": 0.7}, {"sharding": "class", "classes_per_node": 4}]),
    st.integers(3, 6),
    st.integers(0, 1000),
)
def test_a_nodes_task_holds_its_shard_and_nothing_else(sharding: dict[str, Any], world: int, seed: int) -> None:
    """Of every node as it is built for a run: all images it can ever draw; together, each image once."""
    config = NodeConfig(run="r", seed=seed, data=sharding, task={"width": 4}, algorithm={"name": "dp-oadam"})
    shares = partition(
        load_split(config.data).labels.numpy(),
        world,
        config.data.sharding,
        config.data.alpha,
        seed,
        config.data.classes_per_node,
    )
    whole, seen = load_split(config.data).images, []
    for rank in range(world):
        task = Worker(config, rank, world).task
        held = [value for value in vars(task).values() if isinstance(value, torch.Tensor) and value.dim() == 4]
        assert len(held) == 1, "one tensor of images, and no other"
        assert torch.equal(held[0], whole[shares[rank]])
        assert held[0].untyped_storage().nbytes() == len(shares[rank]) * 28 * 28
        seen.append(held[0])
    together = Counter(image.numpy().tobytes() for part in seen for image in part)
    assert together == Counter(image.numpy().tobytes() for image in whole)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.integers(1, 12), st.integers(0, 1000))
def test_shares_are_drawn_again_until_each_is_large_enough(world: int, least: int, seed: int) -> None:
    """The first of the draws of one random stream that is good enough: rejection sampling, written out."""
    labels = np.arange(200) % 10
    found = partition(labels, world, "dirichlet", 0.1, seed, None, least)
    assert min(map(len, found)) >= least and sorted(np.concatenate(found)) == list(range(200))
    random = np.random.default_rng([seed, world])
    while True:
        drawn: list[list[int]] = [[] for _ in range(world)]
        for label in range(10):
            members = random.permutation(np.flatnonzero(labels == label))
            edges = np.cumsum(random.dirichlet([0.1] * world))[:-1] * 20
            for share, part in zip(drawn, np.split(members, np.rint(edges).astype(int)), strict=True):
                share.extend(part.tolist())
        if min(map(len, drawn)) >= least:
            break
    assert [sorted(share) for share in drawn] == [share.tolist() for share in found]


def test_what_no_draw_can_give_is_an_error() -> None:
    labels = np.arange(200) % 10
    with pytest.raises(ValueError, match="8 nodes with 26 samples each need 208, and there are 200"):
        partition(labels, 8, "dirichlet", 0.1, 1, None, 26)
    with pytest.raises(ValueError, match=r"in 1,000 draws the smallest share had at most \d+ samples, not 25"):
        partition(labels, 8, "dirichlet", 0.1, 1, None, 25)


def write_npz(path: Path, shape: tuple[int, ...] = (32, 32, 3), **changes: Any) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    arrays = {
        "train_images": random.integers(0, 256, (20, *shape), np.uint8),
        "train_labels": (np.arange(20) % 10).astype(np.uint8),
        "test_images": random.integers(0, 256, (5, *shape), np.uint8),
        "test_labels": np.arange(5).astype(np.uint8),
    }
    arrays = {name: value for name, value in (arrays | changes).items() if value is not None}
    np.savez(path, **arrays)
    return arrays


@pytest.mark.parametrize(
    ("name", "shape"), [("cifar10", (32, 32, 3)), ("mnist", (28, 28)), ("fashion-mnist", (28, 28))]
)
def test_an_npz_file_is_a_root(tmp_path: Path, name: Any, shape: tuple[int, ...]) -> None:
    arrays = write_npz(tmp_path / "set.npz", shape)
    config = DataConfig(name=name, root=str(tmp_path / "set.npz"))
    for train, split in ((True, "train"), (False, "test")):
        loaded = load_split(config, train=train)
        wanted = arrays[f"{split}_images"]
        wanted = wanted[:, None] if wanted.ndim == 3 else np.moveaxis(wanted, -1, 1)
        assert np.array_equal(loaded.images.numpy(), wanted)
        assert np.array_equal(loaded.labels.numpy(), arrays[f"{split}_labels"])
    assert sum(len(load_shard(config, rank, 4, seed=0)) for rank in range(4)) == 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": None}, "it must be a file of numpy.savez with train_images"),
        ({"train_images": np.zeros((20, 28, 28), np.uint8)}, r"cifar10 is uint8 \(n, 32, 32, 3\)"),
        ({"train_images": np.zeros((20, 32, 32, 3))}, "are float64"),
        ({"train_labels": np.zeros(19, np.uint8)}, "one integer for each of 20 images"),
        ({"train_labels": np.array([None] * 20)}, "is not a data set"),
    ],
)
def test_an_npz_file_of_something_else_is_an_error(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_npz(tmp_path / "set.npz", **changes)
    with pytest.raises(ValueError, match=message):
        load_split(DataConfig(name="cifar10", root=str(tmp_path / "set.npz")))


def test_no_file_or_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    config = DataConfig(name="cifar10", root=str(tmp_path / "set.npz"))
    with pytest.raises(FileNotFoundError, match=r"data\.root: no file"):
        load_split(config)
    (tmp_path / "set.npz").write_bytes(b"PK\3\4 and then nothing")
    with pytest.raises(ValueError, match="is not a data set"):
        load_split(config)


def test_the_embedded_set_is_held_against_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "EMBEDDED_SHA256", "0" * 64)
    datasets._embedded.cache_clear()
    with pytest.raises(ValueError, match="damaged"):
        load_split(DataConfig())
    monkeypatch.undo()
    datasets._embedded.cache_clear()
    assert len(load_split(DataConfig())) == 5000


def test_a_fingerprint_is_of_images_and_labels_and_of_no_file(tmp_path: Path) -> None:
    arrays = write_npz(tmp_path / "one.npz")
    np.savez_compressed(tmp_path / "two.npz", **arrays)
    one, two = (fingerprint(DataConfig(name="cifar10", root=str(tmp_path / f"{n}.npz"))) for n in ("one", "two"))
    assert one == two
    assert one["images"] == 20 and one["labels"] == dict.fromkeys(map(str, range(10)), 2)
    for what in ("train_images", "train_labels"):
        changed = arrays[what].copy()
        changed[3] ^= 1
        np.savez(tmp_path / "three.npz", **(arrays | {what: changed}))
        assert fingerprint(DataConfig(name="cifar10", root=str(tmp_path / "three.npz")))["sha256"] != one["sha256"]


def test_a_folders_fingerprint_is_of_its_files(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (20, 20), (9, 0, 0)).save(tmp_path / label / "0.png")
    config = DataConfig(name="image-folder", root=str(tmp_path), image_size=16)
    before = fingerprint(config)
    assert fingerprint(config) == before and before["images"] == 2
    Image.new("RGB", (20, 20), (8, 0, 0)).save(tmp_path / "b" / "0.png")
    assert fingerprint(config)["sha256"] != before["sha256"]


VIRTUAL = {
    "nodes": 2, "fabric": "virtual", "pace_ms": 10, "algorithm": {"name": "local"}, "task": {"width": 4}, "batch": 2,
    "stop": {"steps": 1},
}  # fmt: skip


def test_a_runs_ledger_says_what_it_was_trained_on(tmp_path: Path) -> None:
    import json

    from gannet.fabrics.virtual.fabric import run_virtual

    def record(name: str, **changes: Any) -> Any:
        run_one(RunSpec.model_validate(VIRTUAL | changes), tmp_path / name, run_virtual)
        return json.loads((tmp_path / name / "environment.json").read_text())["data"]

    one = record("one")
    assert one["sha256"] == fingerprint(DataConfig())["sha256"] and one["images"] == 5000
    assert record("two", data={"sharding": "dirichlet", "alpha": 5}, seed=4) == one, "who has what is in the spec"
    assert record("game", task={"name": "game"}) is None


def test_absent_data_ends_a_run_before_it_begins(tmp_path: Path) -> None:
    absent = {"name": "cifar10", "root": str(tmp_path / "absent.npz")}
    with pytest.raises(FileNotFoundError, match=r"data\.root: no file"):
        data_of(RunSpec.model_validate(VIRTUAL | {"data": absent}))
    elsewhere = data_of(RunSpec.model_validate(VIRTUAL | {"data": absent, "fabric": "swarm"}))
    assert elsewhere is not None and elsewhere["sha256"] is None and "no file" in elsewhere["why"]


DOWNLOAD = """
from gannet.node.data.datasets import load_split
from gannet.node.tasks.config import DataConfig
import sys
for name in ("mnist", "cifar10"):
    try:
        load_split(DataConfig(name=name, root=sys.argv[1], download=True))
    except FileNotFoundError as error:
        print("SAID", name, str(error).replace(chr(10), " "))
"""


def test_a_download_that_the_network_refuses_is_an_error_with_the_fix(tmp_path: Path) -> None:
    """Every request goes to a port of this machine at which nobody listens."""
    nobody = "http://127.0.0.1:9"
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= dict.fromkeys(("http_proxy", "https_proxy"), nobody)
    done = subprocess.run(
        [sys.executable, "-c", DOWNLOAD, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("SAID")]
    assert [line.split()[1] for line in said] == ["mnist", "cifar10"], done.stdout + done.stderr
    for line in said:
        assert "data.download" in line and "refused" in line and "set data.root to the folder" in line


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sharding": "class"}, "needs classes_per_node"),
        ({"classes_per_node": 2}, "belongs to sharding: class"),
        ({"sharding": "class", "classes_per_node": 2, "alpha": 1.0}, "belongs to sharding: dirichlet"),
        ({"name": "image-folder", "root": "x.npz"}, "a folder, not an .npz file"),
        ({"name": "mnist", "root": "x.npz", "download": True}, "a folder if it is to download"),
    ],
)
def test_wrong_settings_say_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataConfig.model_validate(values)
