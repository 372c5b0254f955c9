"""`gannet codec check`: finds common mistakes in a user's codec before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gannet.cli.findings import print_findings
from gannet.console import fail
from gannet.node.codecs.custom.config import PythonCodecConfig
from gannet.spec.load import SpecError, load_spec, resolve
from gannet.spec.run_spec import RunSpec

codec = typer.Typer(name="codec", help="Codecs of your own.", no_args_is_help=True)


@codec.callback()
def _codec() -> None:
    """Check your own codecs."""


@codec.command(epilog="Example: [bold]gannet codec check my_codec.py --settings levels=4[/bold]")
def check(
    file: Annotated[Path, typer.Argument(help="A codec's .py file; or a spec's .yaml, for the codecs of its arms.")],
    settings: Annotated[
        list[str] | None, typer.Option("--settings", metavar="KEY=VALUE", help="A setting of the codec.")
    ] = None,
) -> None:
    """Look for common mistakes in a codec: sizes, memory, random numbers, NaN, bias.

    Exit status: 0 if none was found, 1 otherwise.
    """
    console, found = Console(highlight=False), 0
    try:
        codecs = codecs_of(file, settings or [])
        import torch

        from gannet.node.codecs.custom.check import check as findings_of

        torch.set_num_threads(1)  # the vectors are short
        for each in codecs:
            found += print_findings(console, str(each), findings_of(each.build))
    except (SpecError, ValueError, FileNotFoundError) as error:
        fail(str(error), 1)
    raise typer.Exit(1 if found else 0)


def codecs_of(file: Path, settings: Sequence[str]) -> list[PythonCodecConfig]:
    """The codec in a .py file, or each different one of a spec. Raises ValueError where there is none."""
    if file.suffix in (".yaml", ".yml"):
        if settings:
            raise ValueError("--settings: a spec has its codec's settings itself; change them there")
        parts = [part for spec in load_spec(file).arms.values() for part in spec.methods]
    else:
        parts = _around(file, settings)
    found = list(dict.fromkeys(part.codec for part in parts if isinstance(part.codec, PythonCodecConfig)))
    if not found:
        raise ValueError(f"{file}: no codec of your own in it, such as codec: {{name: python, file: my_codec.py}}")
    return found


def _around(file: Path, settings: Sequence[str]) -> list[RunSpec]:
    """A spec that uses this file."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; give a codec's .py file, or a spec's .yaml")
    if bad := [text for text in settings if "=" not in text]:
        raise ValueError(f"--settings {bad[0]}: write key=value")
    raw = {
        "codec": {"name": "python", "file": file.name},
        "algorithm": {"name": "local"},
        "stop": {"steps": 1},
    }
    return list(resolve(raw, str(file), [f"codec.settings.{text}" for text in settings]).arms.values())
