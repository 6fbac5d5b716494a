"""Progress: bars in a terminal, lines in a log or a notebook, nothing for code that is called from Python.

A library call says nothing unless it is given a reporter; verbs and the calls that people make in notebooks choose
the one that fits where they run (``choose_reporter``).
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Advance = Callable[[int], None]

_LINE_SECONDS = 15.0
"""The time between two lines about one task in a log."""

SILENT_SECONDS = 2.0
"""How long a terminal stays silent before it says that work is going on."""


class SignOfLife:
    """Shows in a terminal that a command is at work, whenever nothing has been said for two seconds.

    Loading torch takes seconds, and so does some work that has no steps to count. The sign goes as soon as there is
    something to say.

    Parameters
    ----------
    what
        The command.
    console
        Where to show it.
    """

    def __init__(self, what: str, console: Console) -> None:
        self._what, self._console = what, console
        self.speaking = 0
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._shown: Progress | None = None

    @property
    def is_shown(self) -> bool:
        """Whether it is shown at this moment."""
        return self._shown is not None

    def wait(self) -> None:
        """Show it after two seconds of silence."""
        self.hide()
        with self._lock:
            self._timer = threading.Timer(SILENT_SECONDS, self.show)
            self._timer.daemon = True
            self._timer.start()

    def show(self) -> None:
        """Show it now."""
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        with self._lock:
            if self._timer is None:
                return  # it was hidden while its time ran out
            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
            self._shown = Progress(*columns, console=self._console, transient=True)
            self._shown.add_task(f"{self._what} is working", total=None)
            self._shown.start()

    def hide(self) -> None:
        """Hide it, and don't show it any more."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._shown is not None:
                self._shown.stop()
            self._timer = self._shown = None


_sign: SignOfLife | None = None
"""The sign of the command that is running."""


@contextmanager
def signs_of_life(what: str, console: Console | None = None) -> Iterator[None]:
    """Show in a terminal that a command is at work, as long as it runs and says nothing; elsewhere, do nothing.

    Parameters
    ----------
    what
        The command, ``vimi observe``.
    console
        Where to show it: the error stream if not given.
    """
    global _sign
    if console is None:
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console

        console = Console(stderr=True)
    _sign = SignOfLife(what, console)
    _sign.wait()
    try:
        yield
    finally:
        _sign.hide()
        _sign = None


@contextmanager
def _speaking() -> Iterator[None]:
    """Hide the sign of life while something is said or a bar is shown, and wait for silence again behind it."""
    sign = _sign
    if sign is None:
        yield
        return
    sign.hide()
    sign.speaking += 1
    try:
        yield
    finally:
        sign.speaking -= 1
        if sign is _sign and not sign.speaking:  # what is said while a bar is shown does not end the bar
            sign.wait()


class Reporter:
    """Reports nothing: the default reporter of functions."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Announce work of ``total`` steps; yields a function to call with the steps just done."""
        yield lambda count: None

    def say(self, text: str) -> None:
        """Say something in passing."""


class TerminalReporter(Reporter):
    """Shows a progress bar for every task, and leaves a line with its duration behind."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self.console = console or Console(stderr=True)

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Show a progress bar."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        # What is done, and since when, is never cut: the title and the bar are narrower in a narrow terminal.
        wide = self.console.width >= 80
        columns = (
            TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(min_width=38 if wide else None, max_width=max(12, self.console.width - 42)),
            ),
            BarColumn(bar_width=16 if wide else 6),
            TextColumn("{task.completed:>6,.0f}/{task.total:,.0f}"),
            TimeElapsedColumn(),
        )
        with _speaking(), Progress(*columns, console=self.console, transient=False) as progress:
            bar = progress.add_task(title, total=total)
            yield lambda count: progress.advance(bar, count)

    def say(self, text: str) -> None:
        """Print a line; it may hold a path or a command, so nothing is wrapped."""
        with _speaking():
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)


class LineReporter(Reporter):
    """Writes lines: for logs of batch systems, pipes and notebooks, where a bar can't be drawn.

    Every task leaves a line at its end. A long one gets a line every 15 seconds before: how much is done, for how long
    it has been running, and how long the rest will take at that speed.

    Parameters
    ----------
    stream
        Where to write; the error stream of this moment if not given, so that a notebook's own stream is found.
    clock
        Seconds that only grow.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Write how far the work is, now and then."""
        began = self._clock()
        done, last = 0, began

        def advance(count: int) -> None:
            nonlocal done, last
            done += count
            now = self._clock()
            if now - last >= _LINE_SECONDS and done < total:
                last = now
                rest = f", about {spell_duration((now - began) * (total - done) / done)} left" if done else ""
                self.say(f"{title}: {done:,} of {total:,}, {spell_duration(now - began)}{rest}")

        yield advance
        self.say(f"{title}: {done:,} of {total:,}, {spell_duration(self._clock() - began)}")

    def say(self, text: str) -> None:
        """Write a line."""
        print(text, file=self._stream or sys.stderr, flush=True)


def choose_reporter() -> Reporter:
    """Return bars where the error stream is a terminal, and lines elsewhere: in a log, a pipe or a notebook."""
    terminal = TerminalReporter()
    return terminal if terminal.console.is_terminal and not terminal.console.is_jupyter else LineReporter()


def in_notebook() -> bool:
    """Say whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def default_reporter() -> Reporter:
    """Return the default reporter of long calls: lines in a notebook, silence in a script."""
    return LineReporter(sys.stdout) if in_notebook() else Reporter()


def spell_duration(seconds: float) -> str:
    """Write a duration as people do: ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
