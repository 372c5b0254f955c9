"""`gannet task`: about the tasks that can be trained."""

from __future__ import annotations

import typer

from experiment.task_check import add_check

app = typer.Typer(name="task", help="What can be trained; check a task of your own.", no_args_is_help=True)
add_check(app)
