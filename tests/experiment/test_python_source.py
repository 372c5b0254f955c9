"""The texts of a user's Python files in a spec: which fields get one, and when a file is read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gannet.node.plugins import fingerprint
from gannet.spec.python_source import FIELDS, SourceMissing, chosen_files, with_texts

TEXTS = {"one.py": "x = 1\n", "two.py": "# ø\ny = 2\n"}
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just({"name": "fp32"}))
named = st.builds(lambda file: {"name": "python", "file": file, "settings": {"a": 1}}, st.sampled_from(list(TEXTS)))
owners = st.dictionaries(st.sampled_from([*FIELDS, "nodes", "links"]), plain | named)
specs = st.builds(
    lambda whole, players: {**whole, **({} if players is None else {"players": players})},
    owners,
    st.none() | st.dictionaries(st.sampled_from(["generator", "critic"]), owners | plain),
)


def folder_with_texts(folder: Path) -> Path:
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@given(spec=specs)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_named_file_gets_its_text_and_nothing_else_changes(spec: dict[str, Any], tmp_path: Path) -> None:
    whole = with_texts(spec, folder_with_texts(tmp_path))

    def same(before: Any, after: Any, is_field: bool) -> None:
        if is_field and isinstance(before, dict) and before.get("name") == "python":
            text = TEXTS[before["file"]]
            assert after == {**before, "source": text, "sha256": fingerprint(text)}
        else:
            assert after == before

    assert whole.keys() == spec.keys()
    for name, value in spec.items():
        if name != "players":
            same(value, whole[name], name in FIELDS)
    for player, own in (spec.get("players") or {}).items():
        if not isinstance(own, dict):
            assert whole["players"][player] == own
            continue
        assert whole["players"][player].keys() == own.keys()
        for name, value in own.items():
            same(value, whole["players"][player][name], name in FIELDS)
    for name in TEXTS:
        (tmp_path / name).write_text("changed = True\n")
    assert with_texts(whole, tmp_path) == whole  # a recorded text stays, whatever the file is now


def test_a_file_that_the_command_line_names_is_read_again(tmp_path: Path) -> None:
    folder_with_texts(tmp_path)
    recorded = with_texts({"codec": {"name": "python", "file": "one.py"}}, tmp_path)
    (tmp_path / "one.py").write_text("x = 3\n")
    for override in (("codec.file", "one.py"), ("codec", {"name": "python", "file": "one.py"})):
        again = with_texts(recorded, tmp_path, chosen_files([override]))
        assert again["codec"]["source"] == "x = 3\n" and again["codec"]["sha256"] == fingerprint("x = 3\n")
    assert with_texts(recorded, tmp_path, chosen_files([("codec.settings", {"a": 1})])) == recorded
    assert chosen_files([("players", {"critic": {"codec": {"file": "x.py"}}})]) == {"players.critic.codec.file"}


@pytest.mark.parametrize("field", FIELDS)
def test_a_file_that_is_not_there_is_reported_with_its_field(field: str, tmp_path: Path) -> None:
    value = {"name": "python", "file": "none.py"}
    with pytest.raises(SourceMissing, match=rf"^{field}\.file: .*none\.py: no such file; the path is relative"):
        with_texts({field: value}, tmp_path)
    with pytest.raises(SourceMissing, match=rf"^players\.critic\.{field}\.file: .*none\.py: no such file"):
        with_texts({"players": {"critic": {field: value}}}, tmp_path)
