"""The pictures of a result file: each unit's first task, small, all units of a condition in one sheet."""

from __future__ import annotations

import base64
import io
import warnings
from typing import TYPE_CHECKING

from PIL import Image

from analysis.leaderboard.result import Result, Sheet
from benchmark.errors import LeaderboardError
from benchmark.progress import Reporter
from benchmark.study import Study
from benchmark.tasks import assemble_tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

SIDE = 48
"""Width and height of a picture on a sheet, in pixels."""
QUALITY = 60
LARGEST_SIDE = 16_383
"""What WebP can hold."""
MOST_PIXELS = 2**25
"""Of a sheet that is opened at all: twice what the largest sheet of a study has."""


def paint_sheets(study: Study, result: Result, reporter: Reporter | None = None) -> tuple[Sheet, ...]:
    """Return a sheet for every condition: the first task of every unit, in the order of the file's units."""
    tasks = assemble_tasks(study.stimuli())
    tasks = tasks[tasks["model"] == result.model.name]
    first = tasks.sort_values(["difficulty", "task"], kind="stable").drop_duplicates(
        ["condition", "layer", "basis", "index", "aggregator"]
    )
    sheets = []
    with (reporter or Reporter()).task(f"Pictures of {result.model.name}", len(first)) as advance:
        for condition, part in first.groupby("condition", sort=True):
            known = {(row["layer"], row["basis"], row["index"], row["aggregator"]): row for _, row in part.iterrows()}
            units, rows = [], []
            for number, unit in enumerate(result.units):
                row = known.get((unit.layer, unit.basis, unit.index, unit.aggregator))
                if row is not None:
                    units.append(number)
                    rows.append([*row["references_max"], *row["references_min"], row["query_max"], row["query_min"]])
            sheets.append(_paint(study, str(condition), units, rows))
            advance(len(part))
    return tuple(sheets)


def _paint(study: Study, condition: str, units: Sequence[int], rows: Sequence[Sequence[str]]) -> Sheet:
    columns = max(map(len, rows))
    side = min(SIDE, LARGEST_SIDE // len(rows), LARGEST_SIDE // columns)
    sheet = Image.new("RGB", (columns * side, len(rows) * side), (128, 128, 128))
    for down, pictures in enumerate(rows):
        for right, picture in enumerate(pictures):
            small = Image.fromarray(study.image(picture)).resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(small, (right * side, down * side))
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=QUALITY, method=6)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Sheet(condition=condition, columns=columns, side=side, units=tuple(units), webp=text)


def open_sheet(sheet: Sheet) -> Image.Image:
    """Return a sheet's picture.

    Raises
    ------
    LeaderboardError
        If it is no WebP of the size that the sheet says, or larger than any sheet.
    """
    expected = (sheet.columns * sheet.side, len(sheet.units) * sheet.side)
    try:
        if expected[0] * expected[1] > MOST_PIXELS:
            raise ValueError(f"{expected[0]:,} x {expected[1]:,} pixels are more than a sheet may have")
        with warnings.catch_warnings():
            # A picture that says it is far larger than its sheet is turned away before it is decoded.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(base64.b64decode(sheet.webp, validate=True)), formats=["WEBP"])
        if image.size != expected:
            raise ValueError(f"{image.size} pixels instead of {expected}")
        return image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise LeaderboardError(f"A sheet of pictures ({sheet.condition}) can't be read: {error}") from None
