"""What the command line prints of the leaderboard: tables, validity panels, verifications; rows as CSV or JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table as Grid

from benchmark.command_line.tables import open_console
from benchmark.errors import LeaderboardError
from benchmark.plumbing import PLUMBING, SHOWN

if TYPE_CHECKING:
    from analysis.leaderboard.sections import LeaderboardSection, SectionColumn
    from analysis.leaderboard.standings import Leaderboard, Row, Standing, StandingsTable
    from analysis.leaderboard.verification import Verification, Verifications

FORMATS = ("table", "csv", "json")
"""How the leaderboard can be printed."""

GAP = 2
"""Blanks between two columns."""

ROOM_FOR_WORDS = 24
"""Characters that a column of words needs; with fewer, the words stand below."""

MOST_SHOWN = 10
"""Differences of a result file that are spelled out; the others are counted."""


def print_leaderboard(leaderboard: Leaderboard, form: str = "table") -> None:
    """Print the leaderboard.

    As ``table``, each table of the leaderboard by itself, and in it the rows by each observer, since ranks hold
    within one observer alone. In a terminal, columns that do not fit are left out and named. These stay as long as
    there is room for them, in this order: trained minus twin, groups, score, noise ceiling, units, answers, parameters,
    training images, accuracy, family. Numbers are never cut. Into a file or a pipe go all of them. As ``csv`` or
    ``json``, the rows at full precision.

    Raises
    ------
    LeaderboardError
        If there is no such format.
    """
    if form not in FORMATS:
        raise LeaderboardError(f"Unknown format {form!r}. The leaderboard can be printed as: {', '.join(FORMATS)}.")
    if form != "table":
        sys.stdout.write(write_rows(leaderboard, form))
        return
    console = open_console()
    if not leaderboard.tables:
        console.print("The leaderboard has no rows.")
    left_out: list[str] = []
    for table in leaderboard:
        _print_table(console, table, left_out)
    if left_out:
        names = ", ".join(dict.fromkeys(left_out))
        console.print(
            f"[dim]Left out for want of room, in some tables: {names}. A wider terminal or --format csv has them.[/]"
        )


def write_rows(leaderboard: Leaderboard, form: str) -> str:
    """Return the rows of the leaderboard as CSV or JSON, at full precision; infinite numbers become words."""
    frame = leaderboard.frame()
    if form == "csv":
        return str(frame.to_csv(index=False, lineterminator="\n"))
    rows = [{name: _for_json(value) for name, value in row.items()} for row in frame.to_dict("records")]
    return json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _for_json(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


# -------------------------------------------------------------------- tables


def _print_table(console: Console, table: StandingsTable, left_out: list[str]) -> None:
    console.print(f"[bold]{_text(table.title)}[/]")
    for source in dict.fromkeys(result.source for row in table.rows for result in row.results if result.source):
        console.print(f"Imported: {_text(source)}")
    _print_notes(console, table.notes)
    for section in table.sections:
        _print_section(console, section, left_out)
    console.print()


def _print_notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        more = f": {SHOWN}" if note == PLUMBING else ""
        console.print(f"[bold red]{_text(note[:1].upper() + note[1:])}[/]{more}.")


def _print_section(console: Console, section: LeaderboardSection, left_out: list[str]) -> None:
    """Print the rows by one observer."""
    columns = section.columns
    needed = sum(map(_width, columns)) + GAP * len(columns)
    if not console.is_terminal:
        console.width = max(console.width, needed)
    elif needed > console.width:
        # Words after a number take a line of their own, before a column is left out for them.
        columns = tuple(
            replace(column, cells=tuple(cell.replace("], ", "],\n") for cell in column.cells)) for column in columns
        )
        kept = fit_columns([(column.name, _width(column), column.left_out) for column in columns], console.width)
        left_out += [column.name for column in columns if column.name not in kept]
        columns = tuple(column for column in columns if column.name in kept)
    grid = Grid(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for column in columns:
        # Only names may take a second line: numbers are never cut.
        foldable = column.name in ("model", "family")
        grid.add_column(
            column.name, justify="right" if column.is_number else "left", no_wrap=not foldable, overflow="fold"
        )
    for cells in zip(*(column.cells for column in columns)):
        grid.add_row(*("\n".join(map(_text, cell.split("\n"))) for cell in cells))
    console.print(f"\nBy [bold]{_text(section.who)}[/]: {_text(section.what)}.")
    console.print(grid)
    if section.reasons:
        spelled = "; ".join(f"({number}) {reason}" for number, reason in enumerate(section.reasons, start=1))
        console.print(f"[dim]Not ranked: {_text(spelled)}.[/]")


def _width(column: SectionColumn) -> int:
    return max(len(line) for text in (column.name, *column.cells) for line in text.split("\n"))


def fit_columns(columns: Sequence[tuple[str, int, int]], width: int) -> list[str]:
    """Return the names of the columns that fit into a width: the first to stay are the last to be left out.

    Parameters
    ----------
    columns
        Name, width, and when it is left out: the highest number first, 0 for never.
    width
        Of the terminal, in characters.
    """
    kept = {name for name, _, order in columns if not order}
    room = width - sum(wide + GAP for name, wide, _ in columns if name in kept) + GAP
    for name, wide, order in sorted(columns, key=lambda column: column[2]):
        if order and wide + GAP <= room:
            kept.add(name)
            room -= wide + GAP
    return [name for name, _, _ in columns if name in kept]


def _text(text: object) -> str:
    """Return a text of a result file as the terminal may show it: no markup of rich's, nothing that can't be seen."""
    return escape("".join(character if character.isprintable() else "\ufffd" for character in str(text)))


# -------------------------------------------------------------------- one row


def print_validity(table: StandingsTable, row: Row) -> None:
    """Print how a model stands in a table by every observer, and its validity panel, in sentences."""
    console = open_console()
    console.print(f"[bold]{_text(row.name)}[/] in {_text(table.title)}")
    _print_notes(console, row.notes)
    console.print(_text(row.description))
    for section in replace(table, rows=(row,)).sections:
        own = section.standings[0]
        console.print(f"\nBy [bold]{_text(section.who)}[/]: {_text(section.what)}.")
        _print_numbers(console, own)
        console.print(f"{own.units:,} units, {own.answers:,} answers.")
        if own.missing:
            console.print(f"Not ranked: {_text('; '.join(own.missing))}.")
    console.print("\n[bold]What the score may mean[/]")
    for check in row.checks:
        style = {"holds": "green", "warns": "yellow", "fails": "bold red"}.get(check.verdict, "dim")
        console.print(f"[{style}]{check.verdict:<8}[/] {_text(check.name)}")
        console.print(Padding(_text(check.sentence), (0, 0, 0, 9)))
    console.print()


def _print_numbers(console: Console, own: Standing) -> None:
    """Print every number of a standing with what it means: beside it, or below it where there is little room."""
    rows = [("rank", own.spelled_rank, f"groups {own.groups}" if own.groups else "")]
    rows += [(_text(name), str(estimate), meaning) for name, estimate, meaning in own.named_numbers]
    taken = sum(max(len(row[column]) for row in rows) + GAP for column in (0, 1))
    beside = console.width - taken >= ROOM_FOR_WORDS
    grid = Grid(box=None, pad_edge=False, show_header=False, padding=(0, GAP, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    if beside:
        grid.add_column(style="dim")
        for row in rows:
            grid.add_row(*row)
        console.print(grid)
        return
    for name, number, meaning in rows:
        console.print(f"{name}  {number}")
        if meaning:
            console.print(Padding(meaning, (0, 0, 0, 4)), style="dim")


# -------------------------------------------------------------------- verification


def print_verification(outcome: Verifications) -> None:
    """Print what verifying result files has found: everything of one file; of several, what does not hold."""
    console = open_console()
    files = list(outcome)
    for verification in files:
        _print_one(console, verification, whole=len(files) == 1)
    if len(files) > 1:
        failed = sum(not own.holds for own in files)
        console.print(f"\n{len(files):,} files: {len(files) - failed:,} hold, {failed:,} do not.")
    for sentence in dict.fromkeys(own.left_open for own in files if own.left_open):
        console.print(f"\n{_text(sentence)}")


def _print_one(console: Console, verification: Verification, *, whole: bool) -> None:
    word = "[green]holds[/]" if verification.holds else "[bold red]does not hold[/]"
    what = f" ({_text(verification.result.label)})" if verification.result is not None else ""
    console.print(f"{_text(verification.path)}{what}: {word}", soft_wrap=True)
    for own in verification.inspections:
        if not (whole or not own.holds):
            continue
        mark = "[green]holds[/]" if own.holds else "[bold red]fails[/]"
        grid = Grid(box=None, pad_edge=False, show_header=False, padding=(0, GAP, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, min_width=_longest_name(verification))
        grid.add_column(overflow="fold")
        grid.add_row(f"  {mark}", _text(own.name), _text(own.sentence))
        for difference in own.differences[:MOST_SHOWN]:
            grid.add_row("", "", f"- {_text(difference)}")
        if len(own.differences) > MOST_SHOWN:
            grid.add_row("", "", f"… and {len(own.differences) - MOST_SHOWN:,} more")
        console.print(grid)


def _longest_name(verification: Verification) -> int:
    return max(len(own.name) for own in verification.inspections)
