"""The pictures of the site: each unit's first task as one small strip, cut out of its result file's sheet.

A strip is one file of some kilobytes, so a unit's page loads one file for each condition, and a list of units loads
those that come into view. It is named by the hash of its pixels; pages show its parts one by one.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from analysis.leaderboard.pictures import open_sheet
from analysis.leaderboard.result import Result, Sheet
from analysis.leaderboard.site.folder import SiteFolder
from benchmark.errors import LeaderboardError
from benchmark.hashing import hash_pixels

QUALITY = 80
"""Of WebP. The sheet was compressed more than this: little is lost a second time."""

MOST_COLUMNS = 200
"""More pictures than any task has."""


@dataclass(frozen=True)
class Strip:
    """The pictures of a unit's first task, side by side in one file.

    Attributes
    ----------
    address
        Of the file, below the site.
    columns
        Pictures in it: maximal references, as many minimal ones, the maximal query and the minimal one.
    side
        Width and height of one of them, in pixels.
    """

    address: str
    columns: int
    side: int

    @property
    def references(self) -> int:
        """References a side."""
        return (self.columns - 2) // 2

    def place(self, number: int, shown: int = 1) -> str:
        """Return ``object-position`` for a box that shows some pictures of the strip, from a given one on."""
        left = self.columns - shown
        return f"{round(100 * number / left, 4) if left else 0:g}% 0"


def cut_sheet(result: Result, sheet: Sheet, site: SiteFolder) -> dict[int, Strip]:
    """Write the strips of a sheet, and return them by the number of their unit.

    Raises
    ------
    LeaderboardError
        If the sheet can't be read, or is not laid out as sheets are.
    """
    if sheet.columns > MOST_COLUMNS or sheet.columns < 4 or sheet.columns % 2:
        raise LeaderboardError(
            f"{result.place}: the sheet of {sheet.condition} pictures has {sheet.columns} columns. A sheet needs "
            "equally many maximal and minimal references, and two queries."
        )
    try:
        picture = open_sheet(sheet)
    except LeaderboardError as error:
        raise LeaderboardError(f"{result.place}: {error}") from None
    strips = {}
    for row, unit in enumerate(sheet.units):
        strip = picture.crop((0, row * sheet.side, sheet.columns * sheet.side, (row + 1) * sheet.side))
        name = hash_pixels(np.asarray(strip))
        buffer = io.BytesIO()
        strip.save(buffer, "WEBP", quality=QUALITY, method=4)
        strips[unit] = Strip(
            site.write(f"pictures/{name[:2]}/{name}.webp", buffer.getvalue()), sheet.columns, sheet.side
        )
    return strips
