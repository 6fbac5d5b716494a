"""What a report is made of: sections with findings, tables, figures, and what could not be done.

Nothing here knows how a page looks. A cell of a table may be a text, a number or an ``Estimate``; every estimate of
a report is also a row of one flat table, ``estimates.csv``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any

import pandas as pd

from benchmark.estimate import Estimate


@dataclass(frozen=True)
class Finding:
    """A sentence that the numbers support, and the reason why.

    Attributes
    ----------
    sentence
        The claim, with its number and interval.
    because
        What it rests on.
    kind
        Which kind of verdict it is, where there is a verdict table: ``improves``, ``undecided``, …
    """

    sentence: str
    because: str = ""
    kind: str = ""


@dataclass(frozen=True)
class ReportTable:
    """A table of a section.

    Attributes
    ----------
    name
        Short name, of its file too.
    title
        What it shows.
    frame
        Its rows; cells are texts, numbers or estimates.
    note
        What a reader must know to read it.
    folded
        Whether the page shows it only when asked.
    """

    name: str
    title: str
    frame: pd.DataFrame
    note: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Figure:
    """A figure of a section, drawn, with the data behind it.

    Attributes
    ----------
    name
        Short name, of its files too.
    title
        What it shows.
    svg
        The drawing.
    data
        The data behind it.
    caption
        What to see in it, and what its intervals are.
    """

    name: str
    title: str
    svg: str
    data: pd.DataFrame
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """One question, and what the answers say to it.

    Attributes
    ----------
    name
        Short name, for links.
    title
        The question.
    lead
        What is done here, and which quantity it estimates.
    findings, tables, figures
        What came out.
    cautions
        What a reader must know of the numbers above.
    absent
        What could not be done, each with its reason; the page says so instead of leaving it out.
    """

    name: str
    title: str
    lead: str = ""
    findings: tuple[Finding, ...] = ()
    tables: tuple[ReportTable, ...] = ()
    figures: tuple[Figure, ...] = ()
    cautions: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """All sections, and what they were made from.

    Attributes
    ----------
    title
        Name of the data set.
    facts
        What was analysed: pairs of a term and what it was.
    notes
        What must be said wherever these numbers appear.
    headline
        The findings that answer what the study asked.
    sections
        In the order of reading.
    manifest
        Versions, seeds, settings and hashes.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    headline: tuple[Finding, ...]
    sections: tuple[Section, ...]
    manifest: dict[str, Any] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """Return what the answers say, as a notebook shows it; the page has the rest."""
        notes = "".join(f"<p><i>{escape(note)}</i></p>" for note in self.notes)
        said = "".join(
            f"<li>{f'<b>{escape(own.kind)}</b> ' if own.kind else ''}{escape(own.sentence)}"
            f"{f'<br><small>{escape(own.because)}</small>' if own.because else ''}</li>"
            for own in self.headline
        )
        return f"<h4>{escape(self.title)}</h4>{notes}<ul>{said}</ul><p>{len(self.sections)} sections.</p>"

    def section(self, name: str) -> Section:
        """Return a section by its name.

        Raises
        ------
        KeyError
            If there is none.
        """
        return {section.name: section for section in self.sections}[name]

    @property
    def names(self) -> list[str]:
        """Names of the sections, in order."""
        return [section.name for section in self.sections]

    def estimates(self) -> pd.DataFrame:
        """Return every estimate in the report's tables, one a row, with the words that name its row."""
        rows = [row for section in self.sections for table in section.tables for row in _estimates(section, table)]
        columns = ["section", "table", "of", "quantity", *Estimate.__dataclass_fields__]
        return pd.DataFrame(rows, columns=columns)


def _estimates(section: Section, table: ReportTable) -> Iterator[dict[str, Any]]:
    """Yield the estimates of a table; texts to their left say what they are of."""
    for _, row in table.frame.iterrows():
        words = [str(cell) for cell in row if isinstance(cell, str)]
        for column, cell in row.items():
            if isinstance(cell, Estimate):
                yield {
                    "section": section.name,
                    "table": table.name,
                    "of": ", ".join(words),
                    "quantity": str(column),
                    **cell.as_dict(),
                }
