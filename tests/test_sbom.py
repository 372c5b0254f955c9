"""`make sbom`: what is installed, as a list that other tools read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_it_names_every_installed_package_with_its_version(tmp_path: Path) -> None:
    """The Makefile's own command, of this interpreter's packages, against their metadata."""
    command = next(line.strip() for line in (ROOT / "Makefile").read_text().splitlines() if "cyclonedx-py" in line)
    program, *arguments = command.replace("build/sbom.json", str(tmp_path / "sbom.json")).split()
    assert program == "$(BIN)/cyclonedx-py" and arguments.pop() == "$(BIN)/python"
    subprocess.run([sys.executable, "-m", "cyclonedx_py", *arguments, sys.executable], cwd=ROOT, check=True)
    bill = json.loads((tmp_path / "sbom.json").read_text())
    assert bill["bomFormat"] == "CycloneDX" and bill["metadata"]["component"]["name"] == "gannet-testbed"

    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()  # PEP 503

    listed = {(plain(part["name"]), part["version"]) for part in [*bill["components"], bill["metadata"]["component"]]}
    installed = {(plain(each.name), each.version) for each in distributions()}
    missing = {each for each in installed if each not in listed and each[0] != "gannet-testbed"}
    assert len(installed) > 100 and missing == set()
