"""What decides a run's bits besides its settings: its data, the versions of what computes, and the processor.

Each node's checkpoints have it, and environment.json; `gannet resume` compares it with what is there now.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch

from gannet.ledger.data_fingerprint import data_of
from gannet.ledger.files import read_json, validate
from gannet.ledger.records import Environment
from gannet.spec.run_spec import RunSpec
from gannet.trained.start import start_of
from gannet.version import version as gannet_version

_DATA = "data"
_START, _DRAWN = "start_from", "drawn by the seed"
_SHOWN = 16  # hexadecimal digits of a SHA-256
_SHARING = {"sharding", "alpha", "classes_per_node", "min_per_node"}


def origin_of(spec: RunSpec) -> dict[str, str]:
    """By name, what a run of `spec` that begins here and now depends on. Raises as its data are read."""
    found = {
        "gannet": gannet_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "processor": f"{processor()} ({torch.backends.cpu.get_cpu_capability()})",
    }
    if spec.device != "cpu" and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name(0)
    data = data_of(spec)
    if data is not None:
        if spec.data.name == "image-folder":  # its files are decoded and scaled by these
            found |= {"pillow": version("pillow"), "torchvision": version("torchvision")}
        found[_DATA] = _in_words(data)
    weights = start_of(spec)
    found[_START] = _DRAWN if weights is None else f"weights of SHA-256 {weights.sha256[:_SHOWN]}"
    return found


def recorded_origin(run: Path) -> dict[str, str]:
    """That of the run in a folder, as far as its environment.json says: by older versions of Gannet, its data."""
    path = run / "environment.json"
    environment = validate(Environment, read_json(path) or {}, path, None)
    if environment.origin:
        return dict(environment.origin)
    data = environment.data
    return {_DATA: _in_words(data)} if data is not None and data.get("sha256") else {}


def check_data(run: Path, spec: RunSpec) -> None:
    """Raise ValueError if the data are not those that the run in that folder was trained on, as far as is known."""
    was, data = recorded_origin(run).get(_DATA), data_of(spec)
    if was is None or data is None or data["sha256"] is None or was == _in_words(data):
        return
    raise ValueError(
        f"data: {was} when it was trained, {_in_words(data)} now: scores compare with the images that a run was "
        "trained on; restore them"
    )


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """What is not as it was, a sentence each, of all that is known of then."""
    return tuple(
        f"{name}: {was} when it began, {now.get(name, 'none')} now"
        for name, was in then.items()
        if now.get(name) != was
    )


def comparable_origin(origin: Mapping[str, str], of: RunSpec, to: RunSpec) -> dict[str, str]:
    """What two runs of a comparison must have in common: where their specs name other data or weights, not those."""
    alike = {
        _DATA: of.data.model_dump(exclude=_SHARING) == to.data.model_dump(exclude=_SHARING),
        _START: of.start_from == to.start_from,
    }
    return {name: value for name, value in origin.items() if alike.get(name, True)}


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _in_words(data: Mapping[str, object]) -> str:
    return f"{data.get('images')} images, SHA-256 {str(data.get('sha256'))[:_SHOWN]}"
