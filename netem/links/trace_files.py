"""Loads a trace by name or path, in CSV (trace_csv) or in Mahimahi's format (trace_mahimahi), by the file's suffix.

Mahimahi's files `NAME.down` and `NAME.up` are the two directions of one trace; a `.trace` file is both at once.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from gannet.netem.links.trace import Trace, TraceError
from gannet.netem.links.trace_csv import parse_csv
from gannet.netem.links.trace_mahimahi import parse_mahimahi
from gannet.netem.regular import check_regular

TRACE_FOLDER = Path(__file__).parents[1] / "traces"
_LARGEST_FILE_BYTES = 64 * 2**20
_MAHIMAHI_SUFFIXES = (".down", ".up", ".trace")


def list_traces() -> list[str]:
    """Names of the shipped traces, sorted."""
    return sorted({path.stem for path in TRACE_FOLDER.iterdir() if path.suffix in (".csv", *_MAHIMAHI_SUFFIXES)})


def load_trace(name_or_path: str | Path, bin_ms: int = 100) -> Trace:
    """A shipped trace by name, or any by the path of a file whose name ends in .csv, .down, .up or .trace.

    Mahimahi's files are counted in bins of `bin_ms`. Raises TraceError.
    """
    text = str(name_or_path)
    if not text.endswith((".csv", *_MAHIMAHI_SUFFIXES)):
        if text not in list_traces():
            close = get_close_matches(text, list_traces(), n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            known = ", ".join(list_traces())
            raise TraceError(
                f"no trace named {text!r}: {hint}known: {known}, or a file .csv, or of Mahimahi .down, .up, .trace"
            )
        shipped = TRACE_FOLDER / f"{text}.csv"
        text = str(shipped if shipped.is_file() else shipped.with_suffix(".down"))
    path = Path(text)
    if path.suffix == ".csv":
        return parse_csv(_read(path), path.stem, str(path))
    other = {".down": ".up", ".up": ".down"}.get(path.suffix)
    files = {path.suffix: _read(path)}
    if other is not None and path.with_suffix(other).is_file():
        files[other] = _read(path.with_suffix(other))
    down, up = files.get(".trace", files.get(".down")), files.get(".trace", files.get(".up"))
    return parse_mahimahi(down, up, path.stem, str(path), bin_ms)


def _read(path: Path) -> str:
    try:
        size = check_regular(path).stat().st_size
        text = path.read_text(encoding="utf-8") if size <= _LARGEST_FILE_BYTES else ""
    except FileNotFoundError:
        raise TraceError(f"no trace file at {path}") from None
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: not a text file: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # not a valid path
        raise TraceError(f"{str(path)!r}: {error}") from None
    if size > _LARGEST_FILE_BYTES:
        raise TraceError(f"{path}: {size} bytes; {_LARGEST_FILE_BYTES} at most")
    return text
