"""Writing a report: the page, and beside it every figure, the data behind it, every table and every estimate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analysis.report.document import Report
from analysis.report.page import flat, render_page
from analysis.results import Record
from benchmark.errors import StudyError
from benchmark.storage import write_json, write_text

PAGE = "report.html"
MANIFEST = "manifest.json"
KIND = "vimi report"


@dataclass(frozen=True)
class Written(Record):
    """Where a report lies.

    Attributes
    ----------
    page
        The page to open.
    folder
        The folder with everything else.
    figures, tables, estimates
        How many there are.
    """

    page: Path
    folder: Path
    figures: int
    tables: int
    estimates: int


def write_report(report: Report, folder: Path | str) -> Written:
    """Write a report into a folder, over an earlier report in it.

    ``report.html`` holds everything; ``figures/`` has each figure as SVG and its data as CSV, ``tables/`` each table
    as CSV, ``estimates.csv`` each estimate with its method, n and estimand, ``manifest.json`` versions and hashes.

    Raises
    ------
    StudyError
        If the folder holds something else than an earlier report.
    """
    folder = Path(folder)
    if folder.is_file():
        raise StudyError(f"{folder} is a file; a report needs a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / PAGE).is_file():
        raise StudyError(f"{folder} holds something other than a report; name an empty folder with --out.")
    figures = [(section, figure) for section in report.sections for figure in section.figures]
    tables = [(section, table) for section in report.sections for table in section.tables]
    for part in ("figures", "tables"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for stale in (folder / part).iterdir():
            if stale.suffix in (".csv", ".svg"):
                stale.unlink()
    for section, figure in figures:
        stem = folder / "figures" / f"{section.name}-{figure.name}"
        write_text(stem.with_suffix(".svg"), figure.svg)
        write_text(stem.with_suffix(".csv"), flat(figure.data).to_csv(index=False, lineterminator="\n"))
    for section, table in tables:
        path = folder / "tables" / f"{section.name}-{table.name}.csv"
        write_text(path, flat(table.frame).to_csv(index=False, lineterminator="\n"))
    estimates = report.estimates()
    write_text(folder / "estimates.csv", estimates.to_csv(index=False, lineterminator="\n"))
    write_json(folder / MANIFEST, {"kind": KIND, **report.manifest})
    write_text(folder / PAGE, render_page(report))
    return Written(folder / PAGE, folder, len(figures), len(tables), len(estimates))
