"""`gannet codec check`: finds common mistakes in a user's codec before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gannet.cli.findings import print_findings
from gannet.cli.own_files import specs_with
from gannet.console import Terminal, fail
from gannet.node.codecs.custom.config import PythonCodecConfig
from gannet.spec.load import SpecError

codec = typer.Typer(name="codec", help="Check codecs of your own.", no_args_is_help=True)


@codec.callback()
def _codec() -> None:
    pass  # makes `check` a subcommand; the help stands above


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
    console, found = Terminal(), 0
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
    arms = specs_with(file, "codec", "a", settings, {"algorithm": {"name": "local"}})
    parts = [part for spec in arms.values() for part in spec.methods]
    found = list(dict.fromkeys(part.codec for part in parts if isinstance(part.codec, PythonCodecConfig)))
    if not found:
        raise ValueError(f"{file}: no codec of your own in it, such as codec: {{name: python, file: my_codec.py}}")
    return found
