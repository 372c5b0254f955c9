"""What is installed: one package, whole, the same from the tree and from the source distribution."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "import sys, setuptools.build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"


def build(kind: str, tree: Path, to: Path) -> Path:
    """The file that setuptools makes of a tree: kind build_wheel or build_sdist."""
    to.mkdir()
    subprocess.run([sys.executable, "-P", "-c", BUILD, kind, str(to)], cwd=tree, check=True, capture_output=True)
    (made,) = to.iterdir()
    return made


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, links and all, since building leaves files behind."""
    copy = tmp_path_factory.mktemp("sources") / "tree"
    unbuilt = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("gannet", "node", "netem"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=unbuilt)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("build_wheel", tree, tmp_path_factory.mktemp("wheel") / "out")


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_is_gannet_alone_and_whole(wheel: Path, tree: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(set(names)) == len(names)
    installed = {name for name in names if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in installed} == {"gannet"}
    sources = {
        str((Path(folder) / name).relative_to(tree))
        for folder, _, below in os.walk(tree / "gannet", followlinks=True)
        for name in below
    }
    assert installed == sources
    for kind in ("yaml", "csv", "safetensors", "j2", "css", "js"):  # and of data there is some of each
        assert any(name.endswith(f".{kind}") for name in installed), kind


def test_the_wheel_of_the_source_distribution_is_the_same(wheel: Path, tree: Path, tmp_path: Path) -> None:
    sdist = build("build_sdist", tree, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert contents(build("build_wheel", unpacked, tmp_path / "wheel")) == contents(wheel)


def test_what_is_installed_works_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    for file in files("proto-plus") or []:  # as in an environment where Google's clients are
        if file.suffix == ".py":
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), target / file)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, cwd=tmp_path)

    def python(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(target), "COLUMNS": "160"}
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert python("-c", "import gannet; print(gannet.__file__)").strip() == str(target / "gannet" / "__init__.py")
    assert "compare" in python("-m", "gannet", "--help")
    assert "--controller" in python("-m", "gannet.node", "--help")
    assert "lte" in python("-m", "gannet", "net", "profiles")
    assert "demo" in python("-m", "gannet", "specs")
    google = """
import gannet.node.wire.control_pb2, gannet.fabrics.links.operator_pb2, proto
class Point(proto.Message):
    x = proto.Field(proto.INT32, number=1)
print(proto.__file__, Point.deserialize(Point.serialize(Point(x=3))).x)
"""
    assert python("-c", google).split() == [str(target / "proto" / "__init__.py"), "3"]
