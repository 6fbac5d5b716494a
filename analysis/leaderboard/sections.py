"""A table of the leaderboard for reading: one section per observer, with formatted cells.

The terminal and the page of the web app show the same cells, and leave out columns in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from analysis.intervals.means import differs_from_zero
from analysis.leaderboard.scores import PEOPLE

if TYPE_CHECKING:
    import pandas as pd

    from analysis.leaderboard.standings import Row, Standing, StandingsTable

NOTHING = "–"
"""What stands in a cell that has nothing to say."""

_WHAT = {
    "excess": "excess over the low-level observer, the headline of a machine",
    "score": "proportion correct",
}
_HEADLINES = {"excess": "excess", "score": "proportion correct"}


@dataclass(frozen=True)
class SectionColumn:
    """A column of a section.

    Attributes
    ----------
    name
        What stands above it.
    cells
        One text a row.
    left_out
        When it is left out for want of room: the highest number first, 0 for never.
    is_number
        Whether it is set to the right.
    """

    name: str
    cells: tuple[str, ...]
    left_out: int = 0
    is_number: bool = True


@dataclass(frozen=True)
class LeaderboardSection:
    """The rows of a table by one observer.

    Attributes
    ----------
    kind, observer
        Who answered.
    who, what
        The same in words, and what is shown of it.
    rows, standings
        The rows and how they stand, the highest rank first; rows without a rank come last.
    columns
        Those that say anything of any row.
    reasons
        Footnotes: why rows are not ranked, in the order of their numbers, from 1 on.
    """

    kind: str
    observer: str
    who: str
    what: str
    rows: tuple[Row, ...]
    standings: tuple[Standing, ...]
    columns: tuple[SectionColumn, ...]
    reasons: tuple[str, ...]

    def readable(self) -> pd.DataFrame:
        """Return the cells, one column each."""
        import pandas as pd

        return pd.DataFrame({column.name: column.cells for column in self.columns})

    @property
    def not_ranked(self) -> str:
        """Why rows are not ranked, in a sentence; only where there are reasons."""
        reasons = "; ".join(f"({place}) {reason}" for place, reason in enumerate(self.reasons, start=1))
        return f"Not ranked: {reasons}."

    def column(self, name: str) -> SectionColumn:
        """Return a column by its name."""
        return next(column for column in self.columns if column.name == name)


def lay_out_sections(table: StandingsTable) -> tuple[LeaderboardSection, ...]:
    """Return a table by each of its observers, people first."""
    return tuple(_section(table, kind, observer) for kind, observer in table.observers)


def section_html(section: LeaderboardSection) -> str:
    """Return a section as the markup that a notebook shows."""
    below = f"<p>{escape(section.not_ranked)}</p>" if section.reasons else ""
    table = section.readable().to_html(index=False)
    return f"<p>By <b>{escape(section.who)}</b>: {escape(section.what)}.</p>{table}{below}"


def section_text(section: LeaderboardSection) -> str:
    """Return a section as it is printed."""
    lines = [f"By {section.who}: {section.what}.", section.readable().to_string(index=False)]
    return "\n".join([*lines, section.not_ranked] if section.reasons else lines)


def spell_observer(kind: str, observer: str) -> str:
    """Return who answered, in words: a machine observer by its name."""
    return {"human": PEOPLE, "simulated": f"simulated {PEOPLE}"}.get(kind, observer)


def _section(table: StandingsTable, kind: str, observer: str) -> LeaderboardSection:
    pairs = [(row, own) for row in table.rows if (own := row.standing(kind, observer)) is not None]
    # By this observer's own headline: the rows of a table are in the order of its first observer.
    pairs.sort(key=lambda pair: (pair[1].rank is None, -pair[1].headline.value, pair[0].name))
    reasons = tuple(dict.fromkeys(_shared(reason) for _, own in pairs for reason in own.missing))
    number = {reason: place for place, reason in enumerate(reasons, start=1)}
    first = pairs[0][1]
    columns = [
        SectionColumn(name, tuple(write(row, own) for row, own in pairs), left_out, is_number)
        for name, write, left_out, is_number in _columns(first.quantity, number)
    ]
    return LeaderboardSection(
        kind=kind,
        observer=observer,
        who=spell_observer(kind, observer),
        what=_describe(pairs),
        rows=tuple(row for row, _ in pairs),
        standings=tuple(own for _, own in pairs),
        columns=tuple(column for column in columns if any(cell != NOTHING for cell in column.cells)),
        reasons=reasons,
    )


def _columns(quantity: str, number: dict[str, int]) -> list[tuple[str, Callable[[Row, Standing], str], int, bool]]:
    """Return name, writer, when it is left out, and whether it is a number, of every column."""
    return [
        ("rank", lambda row, own: _rank_or_notes(own, number), 0, False),
        ("groups", lambda row, own: own.groups or NOTHING, 2, False),
        ("model", lambda row, own: row.name, 0, False),
        (_HEADLINES[quantity], lambda row, own: str(own.headline), 0, True),
        ("score", lambda row, own: NOTHING if own.quantity == "score" else str(own.score), 3, True),
        ("trained - twin", lambda row, own: _beside_twin(own, row.models), 1, True),
        ("noise ceiling", lambda row, own: _named(own, "noise_ceiling"), 4, True),
        ("units", lambda row, own: f"{own.units:,}", 5, True),
        ("answers", lambda row, own: f"{own.answers:,}", 6, True),
        ("parameters", lambda row, own: _count(row.model.parameters), 7, True),
        (
            "training images",
            lambda row, own: _count(row.model.training.images if row.model.training else None),
            8,
            True,
        ),
        ("accuracy", lambda row, own: f"{row.model.accuracy.top1:g} %" if row.model.accuracy else NOTHING, 9, True),
        ("family", lambda row, own: row.model.family, 10, False),
    ]


def _describe(pairs: Sequence[tuple[Row, Standing]]) -> str:
    """Say what standings show, what their intervals generalise to, and how they were computed."""
    first = pairs[0][1]
    # By whom is said elsewhere.
    speaks_for = first.headline.estimand.partition("; by ")[0]
    about = f" for {speaks_for}" if speaks_for else ""
    said = f"{_WHAT[first.quantity]}; {100 * first.headline.level:g} % intervals{about}"
    if first.observer_kind in ("human", "simulated"):
        return said
    methods: dict[str, list[str]] = {}
    for row, own in pairs:
        methods.setdefault(own.headline.method, []).append(row.name)
    made = [method + (f" ({', '.join(names)})" if len(methods) > 1 else "") for method, names in methods.items()]
    anew = [row.name for row, _ in pairs if row.is_computed_anew] if first.observer_kind == "machine" else []
    if anew:
        made.append(
            f"recomputed from the files' counts for {', '.join(anew)}, because these files hold intervals of an older "
            "method"
        )
    return f"{said}; {'; '.join(made)}"


def _rank_or_notes(standing: Standing, number: dict[str, int]) -> str:
    """Write a rank; of a row without one, the numbers of the footnotes that say why."""
    if standing.rank is not None:
        return standing.spelled_rank
    notes = ", ".join(map(str, sorted({number[_shared(reason)] for reason in standing.missing})))
    return f"{NOTHING} ({notes})" if notes else NOTHING


def _shared(reason: str) -> str:
    """Return a reason as many rows share it: ``83 of 84 units`` becomes ``fewer than 84 units``."""
    return re.sub(r"^[\d,]+ of ([\d,]+ .*?)( at least)?$", r"fewer than \1", reason)


def _named(standing: Standing, name: str) -> str:
    estimate = (standing.quantities or {}).get(name)
    return str(estimate) if estimate is not None else NOTHING


def _beside_twin(standing: Standing, models: int) -> str:
    """Write trained minus twin, marked unless it is significantly above 0.

    "Surely" is said of all models of the table together.
    """
    difference = (standing.quantities or {}).get("trained_minus_twin")
    if difference is None:
        return NOTHING
    if differs_from_zero(difference, models):
        return str(difference) if difference.value > 0 else f"{difference}, worse than random"
    return f"{difference}, like random"


def _count(number: int | None) -> str:
    """Write a large number shortly: ``25.6 M``."""
    for size, unit in ((10**9, " B"), (10**6, " M"), (10**3, " k")):
        if number and number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number) if number else NOTHING
