"""Writes a single plot into a file of its own: a self-contained page, or an image."""

from __future__ import annotations

from pathlib import Path

from gannet.report.figures import Figure


def check_target(out: Path, option: str = "--out") -> None:
    """Raise ValueError, before anything is computed, for a file that cannot be written as a drawing."""
    if out.suffix not in (".html", ".svg", ".png"):
        raise ValueError(f"{option} {out}: draws .html, .svg or .png")
    if not out.parent.is_dir():
        raise ValueError(f"{option} {out}: there is no folder {out.parent}")


def write_figure(figure: Figure, out: Path) -> None:
    """Write a plotly figure (plain colours, no tokens) as .html, .svg or .png, by the file's suffix.

    Raises RuntimeError where images cannot be made on this machine.
    """
    import plotly.graph_objects as go

    made = go.Figure(figure)
    if out.suffix == ".html":
        made.write_html(out, include_plotlyjs=True, full_html=True)
        return
    try:
        made.write_image(out)
    except Exception as error:  # no kaleido, no browser, or one that does not start: all kinds of errors
        reason = str(error).strip().split("\n")[0]
        raise RuntimeError(
            f"{out.suffix} needs kaleido and a Chrome browser, which did not work "
            f"({type(error).__name__}: {reason}); an .html file needs neither"
        ) from error
