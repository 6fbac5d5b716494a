"""What is in a data set, for checking before analysis."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import pandas as pd

from analysis.dataset.data import Dataset
from analysis.results import AnalysisResult
from benchmark import schemas
from benchmark.units import unit_names


@dataclass(frozen=True, eq=False)
class Description(AnalysisResult):
    """What is in a data set, for checking before analysis.

    Attributes
    ----------
    counts
        One row for each kind of trial, model, condition, difficulty and references, and for each number of references
        and attribute of people that is known: sessions, observers, units, answers, and how many of them are right.
    first
        The first rows of the responses, their most telling columns.
    missing
        Columns of responses and sessions that hold nothing, although an analysis could use them.
    """

    name: str
    protocol: str
    counts: pd.DataFrame
    first: pd.DataFrame
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        parts = [self.caption, self.counts.to_string(index=False), "First rows:", self.first.to_string(index=False)]
        return "\n\n".join([*parts, *self._remarks])

    def _repr_html_(self) -> str:
        remarks = "".join(f"<p>{escape(remark)}</p>" for remark in self._remarks)
        return f"{super()._repr_html_()}<p>First rows:</p>{self.first.to_html(index=False)}{remarks}"

    def frame(self) -> pd.DataFrame:
        """Return the counts."""
        return self.counts

    def readable(self) -> pd.DataFrame:
        """Return the counts."""
        return self.counts

    @property
    def caption(self) -> str:
        """The data set's name and protocol."""
        return f"{self.name} (protocol {self.protocol})"

    @property
    def _remarks(self) -> list[str]:
        """What was not recorded, and what must be said."""
        missing = [f"Not recorded: {', '.join(self.missing)}."] if self.missing else []
        return missing + [f"Note: {note}." for note in self.notes]


def describe(dataset: Dataset, rows: int = 3) -> Description:
    """Return what is in a data set: what was mapped to what, with counts, and the first rows.

    Parameters
    ----------
    dataset
        The data set.
    rows
        How many of the first rows to show.
    """
    answers = dataset.responses
    keys = ["kind", "model", "condition", "difficulty", "references"]
    keys += [column.name for column in schemas.RESPONSES.columns_of(answers.columns)[len(schemas.RESPONSES.columns) :]]
    unit = unit_names(answers) if len(answers) else pd.Series(dtype="str")
    grouped = answers.assign(unit=unit).groupby(keys, sort=True, dropna=False)
    counts = grouped.agg(
        sessions=("session", "nunique"),
        observers=("observer", "nunique"),
        units=("unit", "nunique"),
        answers=("correct", "size"),
        right=("correct", "sum"),
    ).reset_index()
    shown = ["observer", "session", "trial_index", "kind", "layer", "index", "task", "query_top", "choice", "correct"]
    first = answers.head(rows)[[*shown, "confidence", "rt_ms"]]
    wanted = [(answers, ("confidence", "rt_ms", "answered_at"))]
    if len(dataset.sessions):
        wanted.append((dataset.sessions, ("total_seconds", "instruction_seconds", "practice_attempts")))
    missing = [name for table, names in wanted for name in names if table[name].isna().all()]
    missing += [
        f"{name} of models" for name in ("parameters", "training_images", "top1") if _all_missing(dataset, name)
    ]
    missing += ["depth of units"] if dataset.units["depth"].isna().all() else []
    return Description(dataset.name, dataset.protocol, counts, first, tuple(missing), dataset.notes)


def _all_missing(dataset: Dataset, fact: str) -> bool:
    return bool(dataset.models[fact].isna().all())
