"""`gannet net import`: formats recognised by content, what is asked for, and files that specs and plans take."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.netem import yaml12
from gannet.netem.formats.base import Source
from gannet.netem.formats.registry import recognised
from gannet.netem.links.regions import load_matrix
from gannet.spec.links import LinksSpec
from gannet.spec.load import load_spec
from tests.netem.formats.graphs import examples
from tests.netem.formats.matrices.test_matrices import MARKDOWN, PLANETLAB

FILES = {
    "Shadow GML": examples.SHADOW,
    "cross-silo underlay GML": examples.CROSS_SILO,
    "Topology Zoo GraphML and GML": examples.ZOO,
    "SNDlib XML": examples.SNDLIB,
    "Kollaps XML": examples.KOLLAPS % examples.KOLLAPS_EVENTS,
    "SimGrid XML": examples.SIMGRID,
    "CORE XML": examples.CORE,
    "MiniEdit JSON": examples.MINIEDIT,
    "latencies as JSON": '{"0-1": 10.0, "0-2": 20, "1-2": 30}',
    "latencies as Markdown": MARKDOWN,
    "latencies as CSV": "RTT (ms),a,b\na,1,2\nb,3,4\n",
    "a matrix of numbers": PLANETLAB,
}
ASKED = {"latencies as JSON": ["--round-trip"], "a matrix of numbers": ["--round-trip", "--unit", "ms"]}


def told(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["net", "import", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_recognised_by_its_content_and_written(name: str, tmp_path: Path) -> None:
    file = tmp_path / "network.dat"
    file.write_text(FILES[name])
    assert recognised(Source(file)).name == name
    out = tmp_path / "out.yaml"
    status, output = told(str(file), *ASKED.get(name, []), "-o", str(out))
    assert status == 0, output
    assert output.splitlines()[0] == name
    read = yaml12.load(out.read_text())
    if "links" in read:
        LinksSpec.model_validate(read["links"]).over_time(read["nodes"], 100)
    else:
        load_matrix(out)


@pytest.mark.parametrize("name", ASKED)
def test_what_a_file_does_not_say_is_asked_for(name: str, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text(FILES[name])
    status, output = told(str(file))
    assert status == 2 and "--round-trip or --one-way" in " ".join(output.split())


def test_what_a_format_says_itself_is_not_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text(examples.SHADOW)
    for words in (["--round-trip"], ["--unit", "ms"]):
        status, output = told(str(file), *words)
        assert status == 2 and "leave out" in " ".join(output.split())
    status, output = told(str(file), "--round-trip", "--one-way")
    assert status == 2 and "exclude each other" in output


def test_chosen_nodes_in_their_order(tmp_path: Path) -> None:
    file, out = tmp_path / "x", tmp_path / "out.yaml"
    file.write_text(examples.CROSS_SILO)
    assert told(str(file), "--nodes", "Cairo,Oslo", "-o", str(out))[0] == 0
    assert "# node 0: Cairo\n# node 1: Oslo\n" in out.read_text()
    links = LinksSpec.model_validate(yaml12.load(out.read_text())["links"])
    assert links.state.edges[0, 1].delay_ms == pytest.approx(38.85)


def test_a_large_network_has_its_matrices_in_a_file_of_their_own(tmp_path: Path) -> None:
    nodes = " ".join(f"node [ id {n} ]" for n in range(40))
    edges = " ".join(f'edge [ source {n} target {n + 1} latency "2 ms" packet_loss 0.01 ]' for n in range(39))
    file, out = tmp_path / "x", tmp_path / "out.yaml"
    file.write_text(f"graph [ {nodes} {edges} ]")
    status, output = told(str(file), "-o", str(out))
    assert status == 0 and "out.matrix.yaml" in output
    links = load_spec(out, base={"task": "game", "algorithm": "local", "stop": {"steps": 1}}).arms["run"].links
    assert links.state.edges[0, 39].delay_ms == 78
    assert links.state.edges[5, 7].loss_percent == pytest.approx(100 * (1 - 0.99**2))


def test_a_file_gets_the_suffix_by_which_it_is_read_again(tmp_path: Path) -> None:
    trace, network = tmp_path / "trace", tmp_path / "network"
    trace.write_text("0\n1\n5\n9\n")
    network.write_text(examples.CROSS_SILO)
    for file, name, other in ((trace, "a.down", ".csv"), (trace, "a.yaml", ".csv"), (network, "a.csv", ".yaml")):
        status, output = told(str(file), "-o", str(tmp_path / name))
        assert status == 2 and f"is a {other} file, so give -o such a name" in output
        assert not (tmp_path / name).exists()


def test_files_that_are_none_of_these(tmp_path: Path) -> None:
    for text in (
        "",
        "  \n",
        "hello\n",
        "{}",
        "[1, 2",
        "<a/>",
        "<a>",
        "| a |\n|---|\n| b |\n",
        '{"a": NaN}',
        "1 2\n3 4\n",
    ):
        file = tmp_path / "x"
        file.write_text(text)
        status, output = told(str(file))
        assert status == 2, text
        assert str(file) in output.replace("\n", "")
    file.write_bytes(b"\0\1\2")
    assert told(str(file))[0] == 2
    assert told(str(tmp_path / "missing"))[0] == 2
    assert told(str(tmp_path))[0] == 2


def test_names_that_cannot_be_written_to(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(examples.SHADOW)
    for out in (str(tmp_path / "out.csv"), str(tmp_path / "no" / "out.yaml"), str(file)):
        status, output = told(str(file), "-o", out)
        assert status == 2 and len(output.replace("\n", "")) > 20
    assert file.read_text() == examples.SHADOW
