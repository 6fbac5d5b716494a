"""What verbs share: the application, common options, the bar that shows progress."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from benchmark.progress import Reporter

app = typer.Typer(
    name="vimi",
    help="Measure how well people, and machine observers in their place, understand units of vision models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

Device = Annotated[str, typer.Option(help="Where networks run: auto, cpu, cuda.")]
EngineName = Annotated[
    str, typer.Option("--engine", help="Who does the work: local (this process), ray (a cluster, or all cores here).")
]
Address = Annotated[
    str,
    typer.Option(
        help="With --engine ray: HOST:PORT of the cluster's head, ray://HOST:PORT from outside of it, auto for the one "
        "on this machine. Without it, Ray is started here."
    ),
]
StudyFolder = Annotated[Path, typer.Argument(help="Folder of the study.")]
Database = Annotated[
    str, typer.Option(help="URL of the database: sqlite:///FILE or postgresql://…; VIMI_DATABASE, or the study's own.")
]


def terminal_reporter() -> Reporter:
    """Return a reporter that shows progress: bars in a terminal, lines in a log."""
    from benchmark.progress import choose_reporter

    return choose_reporter()
