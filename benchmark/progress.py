"""Progress bars, and the quiet stand-in for code that is called from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]


class Reporter:
    """Tells nobody: the default wherever a function takes a reporter."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Announce work of ``total`` steps; yields a function to call with the steps just done."""
        yield lambda count: None

    def say(self, text: str) -> None:
        """Say something in passing."""


class TerminalReporter(Reporter):
    """Shows a progress bar for every task, and leaves a line with its duration behind."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True)

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Show a progress bar."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        columns = (
            TextColumn("{task.description}", markup=False, table_column=Column(min_width=38)),
            BarColumn(bar_width=16),
            TextColumn("{task.completed:>6,.0f}/{task.total:,.0f}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=False) as progress:
            bar = progress.add_task(title, total=total)
            yield lambda count: progress.advance(bar, count)

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, highlight=False)
