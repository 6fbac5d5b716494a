"""The session slots of a study, as the host assigns them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd

from benchmark.errors import HostingError
from benchmark.study import Study
from benchmark.tasks import assemble_tasks
from benchmark.trials import SessionCell, study_cells

Row = dict[str, Any]
"""A row of the table of trials."""

ROUNDS_KEPT = 1000
"""Rounds of practice that are kept once they are drawn; whoever practises asks for theirs at every page and answer."""


@dataclass(frozen=True)
class CellPlan:
    """A cell: what it asks about, and how many slots were planned."""

    cell: SessionCell
    planned: int

    @property
    def name(self) -> str:
        """Its name."""
        return self.cell.name

    @property
    def condition(self) -> str:
        """The condition whose references it shows."""
        return str(self.cell.tasks["condition"].iloc[0])

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """Names of the planned slots, in order."""
        return tuple(self.cell.slot(number) for number in range(self.planned))


class _Cells(dict[str, CellPlan]):
    """Cells by name."""

    def __missing__(self, name: str) -> CellPlan:
        # A study that is extended while it is hosted has cells that an older server has never seen.
        raise HostingError(
            f"This server does not know the cell {name!r}: the study was extended after the server started. Restart "
            "the server."
        )


class SessionSlots:
    """The slots of all cells, planned ones and those behind the plan.

    Parameters
    ----------
    study
        A study with trials.
    """

    def __init__(self, study: Study) -> None:
        tasks = assemble_tasks(study.stimuli())
        trials = study.trials()
        planned = trials.groupby("session", sort=False).size().index
        counts = pd.Series([name.rpartition("-")[0] for name in planned]).value_counts()
        self.cells = _Cells(
            (cell.name, CellPlan(cell, int(counts.get(cell.name, 0)))) for cell in study_cells(study, tasks)
        )
        self._rows = {
            str(name): _asked(part.to_dict("records")) for name, part in trials.groupby("session", sort=False)
        }
        self._practice = lru_cache(ROUNDS_KEPT)(self._draw_practice)
        self.queries = frozenset(tasks["query_max"]) | frozenset(tasks["query_min"])
        """Pictures that serve as a query anywhere."""
        self.pictures = self.queries | _members(tasks["references_max"]) | _members(tasks["references_min"])
        """All pictures that any trial may show."""

    def slots(self, cell: str, opened: Collection[str] = ()) -> list[str]:
        """Return the slots that must be filled: the planned ones, and those behind them that were ever opened."""
        planned = self.cells[cell].slots
        return [*planned, *sorted(set(opened).difference(planned))]

    def next_slot(self, cell: str, opened: Collection[str]) -> str:
        """Return the first slot behind the plan that was never opened."""
        plan = self.cells[cell]
        number = plan.planned
        while plan.cell.slot(number) in opened:
            number += 1
        return plan.cell.slot(number)

    def trials(self, slot: str) -> list[Row]:
        """Return the main and catch trials of a slot, in order; they are everybody's, and not to be changed."""
        if slot not in self._rows:
            cell, _, number = slot.rpartition("-")
            self._rows[slot] = _asked(self.cells[cell].cell.session(int(number)))
        return self._rows[slot]

    def practice(self, cell: str, number: int) -> list[Row]:
        """Return a round of practice; it is not to be changed."""
        return self._practice(cell, number)

    def _draw_practice(self, cell: str, number: int) -> list[Row]:
        return [_plain(row) for row in self.cells[cell].cell.practice(number)]

    def main_trials(self, slot: str) -> pd.DataFrame:
        """Return the main trials of a slot as a table."""
        return pd.DataFrame([row for row in self.trials(slot) if row["kind"] == "main"])


def _members(lists: pd.Series) -> frozenset[str]:
    """Return all names in a column of lists."""
    return frozenset(np.concatenate([np.asarray(names, dtype=object) for names in lists]).tolist())


def _asked(rows: Iterable[Row]) -> list[Row]:
    """Return the main and catch trials of a slot, with plain numbers."""
    return [_plain(row) for row in rows if row["kind"] != "practice"]


def _plain(row: Row) -> Row:
    """Return a row with Python numbers instead of numpy's, which no database driver knows."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}


def place_pictures(trial: Row) -> tuple[list[str], list[str], str, str]:
    """Return the pictures of a trial by place: left, right, upper, lower."""
    sides = {
        side: list(trial[f"references_{side}"]) if trial["references"] in ("both", side) else []
        for side in ("min", "max")
    }
    upper, lower = ("max", "min") if trial["query_top"] == "max" else ("min", "max")
    return sides["min"], sides["max"], trial[f"query_{upper}"], trial[f"query_{lower}"]
