"""The leaderboard as a page, where the host asks for it: the tables of the terminal, with filters and validity panels.

No page of a participant links here, and nothing on it comes from the study that is being hosted.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import streamlit as st

from analysis.leaderboard.sections import LeaderboardSection, SectionColumn
from analysis.leaderboard.standings import Leaderboard, Row, StandingsTable
from analysis.leaderboard.validity import WORST_FIRST, ValidityCheck
from benchmark.plumbing import PLUMBING, SHOWN
from webapp.result_files import ResultFiles
from webapp.screens.pieces import escape, write_banner, write_heading, write_note

ANY = "all"
"""What a filter says that lets everything through."""

MOST_PANELS = 80
"""Rows up to which each has its validity panel below it; of more, only those of the model that is chosen have."""

_STYLE = "".join(
    (Path(__file__).parent / name).read_text(encoding="utf-8") for name in ("experimenter.css", "leaderboard.css")
)

_PILLS = {"holds": "on", "warns": "warns", "fails": "off", "unknown": "plain"}


def show_leaderboard_page(files: ResultFiles) -> None:
    """Show the page."""
    st.html(f"<style>{_STYLE}</style>")
    with st.container(key="sheet"):
        st.html('<div class="v-head"><h1>Leaderboard</h1></div>')
        write_note(
            "How well people and machines understand single units of vision models. Each table has one protocol, one "
            "pool and one kind of references, and ranks by one observer. People and machines are never averaged."
        )
        shown = files.read()
        if shown.left_out:
            write_banner(
                "Left out, because they are not result files or were changed after they were written: "
                f"{', '.join(sorted(set(shown.left_out)))}."
            )
        if shown.problem:
            write_banner(shown.problem)
        elif not shown.leaderboard.tables:
            write_note("There are no results yet.")
        else:
            _show(shown.leaderboard)


def _show(leaderboard: Leaderboard) -> None:
    chosen, model = _choose(leaderboard)
    if not chosen.tables:
        write_note("No row has all of these properties.")
    rows = sum(len(section.rows) for table in chosen for section in table.sections)
    panels = bool(model) or rows <= MOST_PANELS
    if not panels:
        write_note("Choose a model to see its validity panel.")
    for table in chosen:
        _show_table(table, panels)


def _choose(leaderboard: Leaderboard) -> tuple[Leaderboard, str]:
    """Let the visitor choose; return what is left, and the model that was chosen."""
    rows = [row for table in leaderboard for row in table.rows]
    options: dict[str, set[str]] = {
        "protocol": {table.protocol.identity for table in leaderboard},
        "condition": {table.condition for table in leaderboard},
        "observer": {observer for table in leaderboard for _, observer in table.observers},
        "family": {row.model.family for row in rows},
        "model": {row.model.name for row in rows},
    }
    chosen: dict[str, str] = {}
    for place, (name, known) in zip(st.columns(len(options)), options.items()):
        with place:
            given = st.selectbox(name.capitalize(), [ANY, *sorted(known)], key=f"leaderboard_{name}")
        # A file may have gone since the visitor chose.
        chosen[name] = given if given in known else ""
    return leaderboard.choose(**chosen), chosen["model"]


def _show_table(table: StandingsTable, panels: bool) -> None:
    write_heading(table.title)
    sources = dict.fromkeys(result.source for row in table.rows for result in row.results if result.source)
    for source in sources:
        write_note(f"Imported: {source}")
    for note in table.notes:
        more = f": {SHOWN}" if note == PLUMBING else ""
        write_banner(f"{note[:1].upper()}{note[1:]}{more}.")
    for section in table.sections:
        _show_section(section, panels)


def _show_section(section: LeaderboardSection, panels: bool) -> None:
    reasons = "; ".join(f"({number}) {reason}" for number, reason in enumerate(section.reasons, start=1))
    below = f'<p class="v-note">Not ranked: {escape(reasons)}.</p>' if reasons else ""
    head = "".join(f'<th scope="col"{_style(column)}>{escape(column.name)}</th>' for column in section.columns)
    body = "".join(_draw_row(section, number, panels) for number in range(len(section.rows)))
    st.html(
        f'<p class="v-by">By <b>{escape(section.who)}</b>: {escape(section.what)}.</p>'
        f'<div class="v-scroll"><table class="v-table v-board"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{below}"
    )


def _draw_row(section: LeaderboardSection, number: int, panels: bool) -> str:
    row, own = section.rows[number], section.standings[number]
    cells = "".join(f"<td{_style(column)}>{escape(column.cells[number])}</td>" for column in section.columns)
    if not panels:
        return f"<tr>{cells}</tr>"
    # Of machines' checks, those of this observer; people's row has those that speak of no machine.
    checks = [check for check in row.checks if check.observer in ("", own.observer, "label")]
    panel = f'<td colspan="{len(section.columns)}">{_draw_panel(row, checks)}</td>'
    return f'<tr class="above">{cells}</tr><tr class="panel">{panel}</tr>'


def _draw_panel(row: Row, checks: list[ValidityCheck]) -> str:
    """Return the validity panel of a row, folded."""
    counted = Counter(check.verdict for check in checks)
    summary = ", ".join(f"{counted[verdict]} {verdict}" for verdict in WORST_FIRST if counted[verdict])
    lines = "".join(
        f'<li><span class="v-pill {_PILLS[check.verdict]}">{check.verdict}</span> <b>{escape(check.name)}</b> '
        f"{escape(check.sentence)}</li>"
        for check in checks
    )
    return (
        f"<details><summary>Validity of {escape(row.name)}: {summary}</summary>"
        f"<p>{escape(row.description)}</p><ul>{lines}</ul></details>"
    )


def _style(column: SectionColumn) -> str:
    """Return the class of a column's cells: numbers to the right, the headline in bold."""
    names = ["number"] * column.is_number + ["headline"] * (column.is_number and not column.left_out)
    return f' class="{" ".join(names)}"' if names else ""
