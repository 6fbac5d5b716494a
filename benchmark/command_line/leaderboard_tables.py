"""What the command line prints of the leaderboard: tables, validity panels, verifications; rows as CSV or JSON."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table as Grid

from benchmark.command_line.tables import open_console, spell_count
from benchmark.errors import LeaderboardError
from benchmark.study import PLUMBING

if TYPE_CHECKING:
    from analysis.leaderboard.standings import Leaderboard, Row, Standing, Table
    from analysis.leaderboard.verification import Verification, Verifications
    from benchmark.estimate import Estimate

FORMATS = ("table", "csv", "json")
"""How the leaderboard can be printed."""

GAP = 2
"""Blanks between two columns."""

MOST_SHOWN = 10
"""Differences of a result file that are spelled out; the others are counted."""

NOTHING = "–"

_HEADLINES = {"excess": "excess", "score": "proportion correct"}
_PEOPLE = {"human": "people", "simulated": "simulated people", "published": "published"}


@dataclass(frozen=True)
class _Column:
    """A column: its name, what stands in it, and when it is left out (the highest first; 0 for never)."""

    name: str
    write: Callable[[Row, Standing], str]
    dropped: int = 0
    right: bool = True


def print_leaderboard(leaderboard: Leaderboard, form: str = "table") -> None:
    """Print the leaderboard.

    As ``table``, each table of the leaderboard by itself, and in it the rows by each observer, since ranks hold
    within one observer alone. In a terminal, columns that do not fit are left out and named, in this order: family,
    accuracy, training images, parameters, answers, units, noise ceiling, score, groups, trained minus twin. Numbers
    are never cut. Into a file or a pipe go all of them. As ``csv`` or ``json``, the rows at full precision.

    Raises
    ------
    LeaderboardError
        If there is no such format.
    """
    if form not in FORMATS:
        raise LeaderboardError(f"There is no format {form!r} of the leaderboard. Known: {', '.join(FORMATS)}.")
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
        console.print(f"[dim]Left out for want of room: {names}. A wider terminal or --format csv has them.[/]")


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


def _print_table(console: Console, table: Table, left_out: list[str]) -> None:
    console.print(f"[bold]{_text(table.title)}[/]")
    for source in dict.fromkeys(result.source for row in table.rows for result in row.results if result.source):
        console.print(f"Imported: {_text(source)}")
    _print_notes(console, table.notes)
    for kind, observer in table.observers:
        standings = [(row, own) for row in table.rows if (own := row.standing(kind, observer)) is not None]
        # By this observer's own headline: the rows of a table are in the order of its first observer.
        standings.sort(key=lambda pair: (pair[1].rank is None, -pair[1].headline.value, pair[0].name))
        _print_standings(console, standings, left_out)
    console.print()


def _print_notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        more = ": these numbers show that the parts work together, and nothing about the models" * (note == PLUMBING)
        console.print(f"[bold red]{_text(note[:1].upper() + note[1:])}[/]{more}.")


def _print_standings(console: Console, pairs: Sequence[tuple[Row, Standing]], left_out: list[str]) -> None:
    """Print the rows by one observer."""
    first = pairs[0][1]
    reasons = list(dict.fromkeys(_shorten(reason) for _, own in pairs for reason in own.missing))
    columns = _columns(first.quantity, {reason: number for number, reason in enumerate(reasons, start=1)})
    cells = {column.name: [column.write(row, own) for row, own in pairs] for column in columns}
    columns = [column for column in columns if any(cell != NOTHING for cell in cells[column.name])]
    widths = {column.name: max(map(len, [column.name, *cells[column.name]])) for column in columns}
    if console.is_terminal:
        kept = fit_columns([(column.name, widths[column.name], column.dropped) for column in columns], console.width)
        left_out += [column.name for column in columns if column.name not in kept]
        columns = [column for column in columns if column.name in kept]
    else:
        console.width = max(console.width, sum(widths.values()) + GAP * len(widths))
    grid = Grid(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for column in columns:
        grid.add_column(
            column.name, justify="right" if column.right else "left", no_wrap=column.name != "model", overflow="fold"
        )
    for number in range(len(pairs)):
        grid.add_row(*(_text(cells[column.name][number]) for column in columns))
    console.print(f"\n{_heading(first)}")
    console.print(grid)
    if reasons:
        spelled = "; ".join(f"({number}) {reason}" for number, reason in enumerate(reasons, start=1))
        console.print(f"[dim]Not ranked: {_text(spelled)}.[/]")


def fit_columns(columns: Sequence[tuple[str, int, int]], width: int) -> list[str]:
    """Return the names of the columns that fit into a width.

    Parameters
    ----------
    columns
        Name, width, and when it is left out: the highest number first, 0 for never.
    width
        Of the terminal, in characters.
    """
    kept = list(columns)
    while sum(wide for _, wide, _ in kept) + GAP * (len(kept) - 1) > width and any(order for _, _, order in kept):
        kept.remove(max(kept, key=lambda column: column[2]))
    return [name for name, _, _ in kept]


def _columns(quantity: str, numbers: dict[str, int]) -> list[_Column]:
    """Return the columns of a table whose headline is this quantity; ``numbers`` are those of the footnotes."""
    return [
        _Column("rank", lambda row, own: _spell_rank(own, numbers), right=False),
        _Column("groups", lambda row, own: own.groups or NOTHING, 2, right=False),
        _Column("model", lambda row, own: row.name, right=False),
        _Column(_HEADLINES[quantity], lambda row, own: str(own.headline)),
        _Column("score", lambda row, own: NOTHING if own.quantity == "score" else str(own.score), 3),
        _Column("trained - twin", lambda row, own: _quantity(own, "trained_minus_twin"), 1),
        _Column("noise ceiling", lambda row, own: _quantity(own, "noise_ceiling"), 4),
        _Column("units", lambda row, own: f"{own.units:,}", 5),
        _Column("answers", lambda row, own: f"{own.answers:,}", 6),
        _Column("parameters", lambda row, own: _count(row.model.parameters), 7),
        _Column(
            "training images", lambda row, own: _count(row.model.training.images if row.model.training else None), 8
        ),
        _Column("accuracy", lambda row, own: f"{row.model.accuracy.top1:g} %" if row.model.accuracy else NOTHING, 9),
        _Column("family", lambda row, own: row.model.family, 10, right=False),
    ]


def _heading(standing: Standing) -> str:
    """Say who answered, what is shown of it and what its intervals speak for."""
    kind = _PEOPLE.get(standing.observer_kind, "machine")
    who = _text(standing.observer) if standing.observer != "people" else kind
    what = {
        "excess": "excess over the low-level observer, the headline of a machine",
        "score": "proportion correct",
    }[standing.quantity]
    estimate = standing.headline
    # By whom stands before it already.
    about = f" for {_text(estimate.estimand.partition('; by ')[0])}" if estimate.estimand else ""
    return f"By [bold]{who}[/]: {what}; {100 * estimate.level:g} % intervals{about}."


def _spell_rank(standing: Standing, numbers: dict[str, int]) -> str:
    """Write a rank with its confidence set, in whole numbers; of a row without one, the footnotes that say why."""
    if standing.rank is not None:
        return spell_rank(standing.rank)
    notes = ", ".join(map(str, sorted({numbers[_shorten(reason)] for reason in standing.missing})))
    return f"{NOTHING} ({notes})" if notes else NOTHING


def _shorten(reason: str) -> str:
    """Return a reason as many rows share it: ``83 of 84 units`` becomes ``fewer than 84 units``."""
    return re.sub(r"^[\d,]+ of ([\d,]+ .*?)( at least)?$", r"fewer than \1", reason)


def spell_rank(rank: Estimate) -> str:
    """Write a rank with its confidence set, in whole numbers: ``1 [1, 6]``."""
    return f"{rank.value:.0f} [{rank.low:.0f}, {rank.high:.0f}]"


def _quantity(standing: Standing, name: str) -> str:
    estimate = (standing.quantities or {}).get(name)
    return str(estimate) if estimate is not None else NOTHING


def _count(number: int | None) -> str:
    return spell_count(number) if number else NOTHING


def _text(text: object) -> str:
    """Return a text of a result file as the terminal may show it: no markup of rich's, nothing that can't be seen."""
    return escape("".join(character if character.isprintable() else "\ufffd" for character in str(text)))


# -------------------------------------------------------------------- one row


def print_validity(table: Table, row: Row) -> None:
    """Print how a model stands in a table by every observer, and its validity panel, in sentences."""
    from analysis.leaderboard.scores import QUANTITIES

    console = open_console()
    model = row.model
    console.print(f"[bold]{_text(row.name)}[/] in {_text(table.title)}")
    _print_notes(console, row.notes)
    training = model.training
    facts = [
        f"{model.kind}, family {model.family}",
        f"{model.parameters:,} parameters" if model.parameters else "",
        f"trained on {' + '.join(training.data)} ({training.images:,} pictures)" if training else "",
        f"top-1 {model.accuracy.top1:g} % ({model.accuracy.measured})" if model.accuracy else "",
        f"licence {model.licence}",
        f"weights {model.weights}" if model.weights else "weights not known",
    ]
    console.print(_text("; ".join(filter(None, facts))) + ".")
    for own in row.standings:
        console.print(f"\n{_heading(own)}")
        grid = Grid(box=None, pad_edge=False, show_header=False, padding=(0, GAP, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_column(style="dim")
        rank = "–" if own.rank is None else spell_rank(own.rank)
        grid.add_row("rank", rank, f"groups {own.groups}" if own.groups else "")
        named = {own.quantity: own.headline, "score": own.score, **(own.quantities or {})}
        for name, estimate in named.items():
            grid.add_row(name.replace("_", " "), str(estimate), QUANTITIES.get(name, ""))
        console.print(grid)
        console.print(f"{own.units:,} units, {own.answers:,} answers.")
        if own.missing:
            console.print(f"Not ranked: {_text('; '.join(own.missing))}.")
    console.print("\n[bold]What the score may mean[/]")
    for check in row.checks:
        style = {"holds": "green", "warns": "yellow", "fails": "bold red"}.get(check.verdict, "dim")
        console.print(f"[{style}]{check.verdict:<8}[/] {_text(check.name)}")
        console.print(Padding(_text(check.sentence), (0, 0, 0, 9)))
    console.print()


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
