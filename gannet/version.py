"""Gannet's version: of the checkout that runs, else of the installed distribution."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "gannet-testbed"


def version() -> str:
    """For example "0.1.0"; "unknown" for a copy of the package alone."""
    project = Path(__file__).parents[1] / "pyproject.toml"
    if project.is_file():  # another version may be installed as well
        table = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
        if table.get("name") == DISTRIBUTION:
            return str(table["version"])
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"
