"""Loads a trace by name or path: CSV (trace_csv) or Mahimahi's format (trace_mahimahi), told apart by what is in it.

Mahimahi's files `NAME.down` and `NAME.up` are the two directions of one trace; a file of any other name is both at
once. Files are read line by line or in pieces, however long they are.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

from gannet.netem.links.trace import Trace, TraceError
from gannet.netem.links.trace_csv import LONGEST_LINE, parse_csv
from gannet.netem.links.trace_mahimahi import parse_mahimahi
from gannet.netem.regular import check_regular

TRACE_FOLDER = Path(__file__).parents[1] / "traces"
_MAHIMAHI_SUFFIXES = (".down", ".up", ".trace")
_OTHER_WAY = {".down": ".up", ".up": ".down"}


def list_traces() -> list[str]:
    """Names of the shipped traces, sorted."""
    return sorted({path.stem for path in TRACE_FOLDER.iterdir() if path.suffix in (".csv", *_MAHIMAHI_SUFFIXES)})


def load_trace(name_or_path: str | Path, bin_ms: int = 100) -> Trace:
    """A shipped trace by name, or any by the path of its file.

    Mahimahi's files are counted in bins of `bin_ms`. Raises TraceError.
    """
    path = _find(str(name_or_path))
    with _opened(path) as file:
        if path.suffix == ".csv" or (path.suffix not in _MAHIMAHI_SUFFIXES and not _is_mahimahi(file, path)):
            text = io.TextIOWrapper(file, encoding="utf-8")
            try:
                return parse_csv(_lines(text), path.stem, str(path))
            finally:
                text.detach()
        other = path.with_suffix(_OTHER_WAY[path.suffix]) if path.suffix in _OTHER_WAY else None
        if other is None:
            return parse_mahimahi(file, file, path.stem, str(path), bin_ms)
        ways: dict[str, BinaryIO | None] = {path.suffix: file}
        if not other.is_file():
            return parse_mahimahi(ways.get(".down"), ways.get(".up"), path.stem, str(path), bin_ms)
        with _opened(other) as second:
            ways[other.suffix] = second
            return parse_mahimahi(ways[".down"], ways[".up"], path.stem, str(path), bin_ms)


def _find(text: str) -> Path:
    shipped = list_traces()
    if text in shipped:
        path = TRACE_FOLDER / f"{text}.csv"
        return path if path.is_file() else path.with_suffix(".down")
    path = Path(text)
    try:
        if path.suffix in (".csv", *_MAHIMAHI_SUFFIXES) or path.exists():
            return path
    except ValueError:  # not a valid path
        return path
    close = get_close_matches(text, shipped, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise TraceError(
        f"no trace named {text!r}: {hint}known: {', '.join(shipped)}, or the path of a file, CSV or Mahimahi's"
    )


def _is_mahimahi(file: BinaryIO, path: Path) -> bool:
    """Whether the first line with anything in it is a whole number; TraceError where it begins no CSV either."""
    begin = file.read(LONGEST_LINE)
    file.seek(0)
    first = next((line.strip() for line in begin.splitlines() if line.strip()), b"")
    if not first.isdigit() and not first.startswith(b"#") and b"time_s" not in first.lower():
        raise TraceError(
            f"{path}: is no trace: neither CSV with a column time_s, nor Mahimahi's whole numbers of milliseconds "
            f"(its first line is {first[:40].decode(errors='replace')!r}); "
            "gannet net import reads traces of other programs"
        )
    return first.isdigit()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with check_regular(path).open("rb") as file:
            yield file
    except TraceError:
        raise
    except FileNotFoundError:
        raise TraceError(f"no trace file at {path}") from None
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: not a text file: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # not a valid path
        raise TraceError(f"{str(path)!r}: {error}") from None


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    """The lines of a file; of one that is too long, a piece."""
    while line := text.readline(LONGEST_LINE + 2):
        yield line
