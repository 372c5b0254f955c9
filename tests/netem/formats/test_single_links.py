"""Formats of one link: told apart by content, written by the command; whatever a file holds, no traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.netem.formats.base import FormatError, Options, Source
from gannet.netem.formats.registry import FORMATS, import_file, recognised
from gannet.netem.formats.single_links import SINGLE_LINKS
from gannet.netem.links.profile import load_profile
from gannet.netem.links.trace_files import load_trace
from tests.netem.formats.single_link_files import FILES, SAID

OPTIONS = {"name": "--name", "round_trip": "--round-trip"}


def test_every_format_of_one_link_is_tried() -> None:
    assert {each.name for each in SINGLE_LINKS} == FILES.keys()


@pytest.mark.parametrize("name", FILES)
def test_each_is_recognised_by_its_content_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gml"
    path.write_text(FILES[name])
    source = Source(path)
    assert recognised(source).name == name
    assert [each.name for each in FORMATS if each in SINGLE_LINKS and each.recognises(source)] == [name]


@pytest.mark.parametrize("name", FILES)
def test_the_command_says_what_it_understood_and_writes_what_others_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(FILES[name])
    said: list[str] = []
    for option, value in SAID.get(name, {}).items():
        said += [OPTIONS[option]] if value is True else [OPTIONS[option], str(value)]
    kind = import_file(path, Options(**SAID.get(name, {}))).kind
    out = tmp_path / ("out.csv" if kind == "trace" else "out.yaml")
    done = CliRunner().invoke(app, ["net", "import", str(path), *said, "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert name in done.output
    assert load_trace(out) if kind == "trace" else load_profile(out)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(FILES)),
    cut=st.integers(0, 2000),
    edits=st.lists(
        st.tuples(
            st.integers(0, 2000),
            st.sampled_from(
                [
                    b"9" * 30,
                    b"1e308",
                    b"-1",
                    b"nan",
                    b"[" * 3000,
                    b"{",
                    b'"',
                    b"\n",
                    b",",
                    b"\xff",
                    b"null",
                    b"0",
                    b" ",
                ]
            ),
        ),
        max_size=4,
    ),
)
def test_whatever_a_file_holds_there_is_one_error_or_a_result(
    name: str, cut: int, edits: list[tuple[int, bytes]], tmp_path: Path
) -> None:
    data = FILES[name].encode()
    for at, new in edits:
        at %= len(data) + 1
        data = data[:at] + new + data[at + len(new) % 7 :]
    data = data[: max(len(data) - cut, 0)] if cut < 500 else data
    path = tmp_path / "fuzzed"
    path.write_bytes(data)
    said: dict[str, Any] = SAID.get(name, {})
    for options in (Options(**said), Options(**said, format=name)):
        try:
            found = import_file(path, options)
        except FormatError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
        else:
            assert found.content


def test_one_endless_line_and_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for data in (b"1 2\n" * 3 + b"7" * 1_000_000, b"\0" * 100, b"", b"\n\n\n"):
        path.write_bytes(data)
        for options in (Options(), Options(format="cooked trace (Pensieve)")):
            with pytest.raises(FormatError):
                import_file(path, options)


def test_a_file_that_is_said_to_be_in_another_format_is_one_error_or_a_result(tmp_path: Path) -> None:
    """--format is believed: its reader meets headings and fields that are not its own."""
    path = tmp_path / "x"
    for text in (*FILES.values(), "9" * 30 + "".join(FILES["LENS latencies"][10:]), "a,b\n1,2\n", "{}", "[]", "<a/>"):
        path.write_text(text)
        for each in FORMATS:
            try:
                found = import_file(path, Options(**SAID.get(each.name, {}), format=each.name))
            except FormatError as error:
                assert str(path) in str(error) and "\n" not in str(error)
            else:
                assert found.content
