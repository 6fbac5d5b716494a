"""The command line. A verb reads its arguments, calls one public function and says what came out.

Nothing heavy is imported before a verb runs, so that ``vimi --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from benchmark import __version__
from benchmark.command_line import (  # noqa: F401  (they register their verbs)
    answers,
    building,
    dictionaries,
    hosting,
    leaderboard,
    machine,
)
from benchmark.command_line.options import app
from benchmark.errors import VimiError

_INTERRUPTED = 130

COMPLETION = "_VIMI_COMPLETE"
"""Variable by which a shell asks for completions."""

MOST_NAMED = 4
"""Things of a folder that ``vimi`` alone names."""


def main() -> None:
    """Run the command line; a user's mistake ends in a message and exit code 2, never in a traceback."""
    if not sys.argv[1:] and COMPLETION not in os.environ:
        _print_guide()  # at once: what reads options loads pydantic first
        return
    try:
        app(prog_name="vimi")
    except VimiError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            kept = "What is finished is kept: run the same command again to go on."
            print(f"\nInterrupted. {'Answers are kept.' if sys.argv[1:2] == ['serve'] else kept}", file=sys.stderr)
        raise


def _version(asked: bool) -> None:
    if asked:
        print(f"vimi {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Say what to do next in this folder, if no verb is given."""
    if context.invoked_subcommand is None:
        _print_guide()


def _print_guide() -> None:
    """Print what is in this folder, and the commands that fit."""
    from benchmark.guide import look_around, next_steps

    found = look_around()
    lines = [f"vimi {__version__}", ""]
    if found:
        more = f" and {len(found) - MOST_NAMED:,} more" if len(found) > MOST_NAMED else ""
        lines.append(f"Here: {'; '.join(own.what for own in found[:MOST_NAMED])}{more}")
    else:
        lines.append("Nothing of vimi's is in this folder yet.")
    for step in next_steps(found):
        lines += ["", step.why, f"  {step.command}"]
    lines += ["", "All verbs: vimi --help"]
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:  # `vimi | head`: nobody reads on, which is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
