"""Estimates in the rows of tables, and results that show themselves as tables."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from benchmark.estimate import Estimate

if TYPE_CHECKING:
    import pandas as pd


def spread_out(name: str, estimate: Estimate | None) -> dict[str, float]:
    """Return an estimate as three entries of a row: ``name``, ``name_low``, ``name_high``; missing for None."""
    if estimate is None:
        return {name: np.nan, f"{name}_low": np.nan, f"{name}_high": np.nan}
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


class ShownAsTable:
    """A result that is shown as a table where it is printed, and where a notebook displays it.

    ``table()`` has every number at full precision; what is shown has each estimate with its interval, in words.
    """

    def frame(self) -> pd.DataFrame:
        """Return the result as people read it: every estimate written out with its interval."""
        raise NotImplementedError

    @property
    def caption(self) -> str:
        """What stands above the table: what the numbers are, and how intervals were made."""
        raise NotImplementedError

    def __str__(self) -> str:
        return f"{self.caption}\n{self.frame().to_string(index=False)}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.caption)}</p>{self.frame().to_html(index=False)}"
