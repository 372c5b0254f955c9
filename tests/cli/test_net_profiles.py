"""`gannet net profiles` and `gannet net schema` as people and scripts use them: words, streams, exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

from gannet.netem.links.profile import list_profiles
from gannet.netem.links.regions import list_matrices

ROOT = Path(__file__).parents[2]


def net(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "gannet", "net", *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GANNET_")}
    variables = {**clean, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(argv, cwd=cwd, env=variables, capture_output=True, text=True, timeout=120)


def rows(text: str) -> dict[str, str]:
    """The rows of the table, by profile, blanks folded."""
    return {line.split()[0]: " ".join(line.split()) for line in text.splitlines()[1:]}


def test_a_pipe_gets_a_line_for_each_profile_with_everything_it_says() -> None:
    done = net("profiles", COLUMNS="60")
    assert done.returncode == 0 and done.stderr == ""
    table = rows(done.stdout)
    assert set(table) == set(list_profiles())
    assert table["edge"].startswith("edge 240 kbit/s 200 kbit/s ↓ 400 ↑ 440 ms – – 100 ms fifo Augmented Traffic")
    starlink = table["starlink"]
    assert "150 Mbit/s 20 Mbit/s 25 ms ± 5 ms normal 1% in bursts of 8 100 ms fifo APNIC" in starlink
    assert "; length of the bursts (8 packets on average)" in starlink


def test_the_users_own_stand_among_the_shipped_and_broken_ones_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "attic.yaml").write_text(
        "rate: 1Mbit\ndelay_ms: 20\nreorder_percent: 2\nduplicate_percent: 0.5\nqueue: codel\nbuffer_packets: 50\n"
        "source: '[bold]measured[/bold]'\n"
    )
    done = net("profiles", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert rows(done.stdout)["attic"] == (
        "attic 1 Mbit/s 1 Mbit/s 20 ms – 2% reordered, 0.5% doubled 50 packets codel "
        "profiles/attic.yaml: [bold]measured[/bold] –"
    )
    (folder / "barn.yaml").write_text("rate: 1MB\n")
    done = net("profiles", GANNET_PROFILES=str(folder))
    assert done.returncode == 1 and "barn.yaml: rate: '1MB' is not a rate: write 10Mbit" in done.stderr
    assert {"attic", "2g"} <= set(rows(done.stdout)) and "barn" not in rows(done.stdout)


def test_one_profile_in_full() -> None:
    done = net("profiles", "starlink", COLUMNS="100")
    assert done.returncode == 0
    assert rows(done.stdout)["up"] == "up 20 Mbit/s" and "up rate (20 Mbit/s)" in done.stdout
    wrong = net("profiles", "starling")
    assert wrong.returncode == 2 and "did you mean starlink?" in wrong.stderr and not wrong.stdout


def test_the_schema_comes_out_as_json_and_judges_files(tmp_path: Path) -> None:
    printed = net("schema")
    assert printed.returncode == 0
    done = net("schema", "--out", str(tmp_path / "schema.json"))
    assert done.returncode == 0 and done.stdout == ""
    assert (tmp_path / "schema.json").read_text() == printed.stdout
    judge = Draft202012Validator(json.loads(printed.stdout))
    assert judge.is_valid(yaml.safe_load("rate: 10Mbit\ndelay_ms: 25\n"))
    assert not judge.is_valid(yaml.safe_load("rate: 10MB\ndelay_ms: 25\n"))
    nowhere = net("schema", "--out", str(tmp_path / "no" / "where.json"))
    assert nowhere.returncode == 2 and "No such file or directory" in nowhere.stderr


def test_matrices_are_listed_and_shown_cell_by_cell(tmp_path: Path) -> None:
    listed = rows(net("regions").stdout)
    assert set(listed) == set(list_matrices()) and "cloudping.co" in listed["aws"]
    shown = rows(net("regions", "aws-2017", COLUMNS="60").stdout)
    assert shown["us-east-1"].startswith("us-east-1 0.25 36.37 43.49 40.27 ")
    (tmp_path / "own.yaml").write_text("delays_ms: [[0, 5], [null, 0]]\nlosses_percent: [[0, 1.5], [0, 0]]\n")
    own = rows(net("regions", str(tmp_path / "own.yaml")).stdout)
    assert own == {"0": "0 – 5 1.5%", "1": "1 – –"}
    heading = net("regions", "aws-2017").stdout.splitlines()[0]
    assert heading.startswith("one way, ms")
    (tmp_path / "own.csv").write_text("0,10\n20,0\n")
    file = str(tmp_path / "own.csv")
    unsaid = net("regions", file)
    assert unsaid.returncode == 2 and "--one-way or --round-trips" in " ".join(unsaid.stderr.split())
    assert rows(net("regions", file, "--round-trips").stdout) == {"0": "0 – 5", "1": "1 10 –"}
    assert rows(net("regions", file, "--one-way").stdout) == {"0": "0 – 10", "1": "1 20 –"}
    assert net("regions", file, "--one-way", "--round-trips").returncode == 2
    assert net("regions", "aws", "--one-way").returncode == 2
    wrong = net("regions", "awz")
    assert wrong.returncode == 2 and "did you mean aws?" in wrong.stderr


def test_a_matrix_of_regions_shows_its_rates(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "regions: [near, far]\ndelays_ms: [[1, 40], [50, 2]]\nrates: [[30Mbit, null], [2Mbit, unlimited]]\n"
    )
    (tmp_path / "rates.csv").write_text("rates_mbit,near,far\nnear,30,3\nfar,2,\n")
    for file, heading, near, far in (
        ("own.yaml", "one way, ms", "1 30Mbit 40", "50 2Mbit 2"), ("rates.csv", "rate", "30Mbit 3Mbit", "2Mbit –"),
    ):  # fmt: skip
        done = net("regions", file, cwd=tmp_path)
        assert done.returncode == 0 and done.stdout.startswith(heading)
        assert [" ".join(line.split()) for line in done.stdout.splitlines()[-2:]] == [f"near {near}", f"far {far}"]
