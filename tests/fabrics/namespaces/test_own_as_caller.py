"""Under sudo the results become the calling user's: all of them, and nothing that they only point to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gannet.fabrics.namespaces.sandbox import own_as_caller

USER = 4321

pytestmark = [
    pytest.mark.real("links"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away"),
]


def test_what_links_point_to_stays_its_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", str(USER))
    monkeypatch.setenv("SUDO_GID", str(USER))
    monkeypatch.delenv("GANNET_SANDBOX", raising=False)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "below").mkdir(parents=True)
    for name in ("file", "twin", "below/file"):
        (elsewhere / name).touch()
    results = tmp_path / "runs" / "some"
    (results / "run" / "seed-1").mkdir(parents=True)
    (results / "run" / "seed-1" / "steps.jsonl").touch()
    (results / "to-file").symlink_to(elsewhere / "file")
    (results / "to-folder").symlink_to(elsewhere)
    (results / "run" / "up").symlink_to("../../../elsewhere")
    (results / "nowhere").symlink_to(tmp_path / "missing")
    (results / "twin").hardlink_to(elsewhere / "twin")
    own_as_caller(results)

    def owner(path: Path) -> int:
        return path.stat(follow_symlinks=False).st_uid

    ours = {path for path in [results.parent, results, *results.rglob("*")] if path.name != "twin"}
    assert {owner(path) for path in ours} == {USER} and len(ours) == 9
    assert {owner(path) for path in [elsewhere, *elsewhere.rglob("*")]} == {0}
    assert owner(tmp_path) == 0
    os.chown(results, 0, 0)
    (tmp_path / "link").symlink_to(elsewhere)
    own_as_caller(tmp_path / "link")
    assert owner(tmp_path / "link") == USER and {owner(path) for path in [elsewhere, *elsewhere.rglob("*")]} == {0}
