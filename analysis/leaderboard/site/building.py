"""Building the site: every page, picture and figure, the numbers as files, and the result files themselves."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from analysis.leaderboard.result import Result, write_result
from analysis.leaderboard.site.addresses import model_address
from analysis.leaderboard.site.exhibits import Exhibit, gather_models, gather_units
from analysis.leaderboard.site.folder import SiteFolder, new_site
from analysis.leaderboard.site.pages import Pages
from analysis.leaderboard.site.plots import Plot, describe_scaling, plot_sizes
from analysis.leaderboard.site.tiles import Strip, cut_sheet
from analysis.leaderboard.standings import Leaderboard, Row, StandingsTable, build_leaderboard
from benchmark.errors import LeaderboardError
from benchmark.estimate import Estimate
from benchmark.progress import Reporter

FORMAT = 1
"""Version of the layout of ``leaderboard.json``."""


def build_site(
    leaderboard: Leaderboard | Iterable[Result], out: Path | str, *, reporter: Reporter | None = None
) -> Path:
    """Write the leaderboard as a static site, and return its first page.

    ``index.html`` has the tables, ``models/`` a page for every model, ``units/`` one for every unit, at addresses made
    of their names alone. ``leaderboard.csv`` and ``leaderboard.json`` have the numbers at full precision, ``results/``
    the result files that they were made from.

    Parameters
    ----------
    leaderboard
        The leaderboard, or the results to make it of.
    out
        Folder of the site. An earlier site in it is replaced, once the new one is whole.
    reporter
        Shows progress.

    Raises
    ------
    LeaderboardError
        If there are no results, one's content is not that of its hash, its pictures can't be read, or the folder
        holds anything but an earlier site.
    StudyLocked
        If another process builds the same site.
    StorageError
        If the disk is full or can't be written.
    """
    if not isinstance(leaderboard, Leaderboard):
        leaderboard = build_leaderboard(leaderboard)
    if not leaderboard.tables:
        raise LeaderboardError("There are no results to show. Add a model: vimi leaderboard add MODEL")
    reporter = reporter or Reporter()
    models = gather_models(leaderboard)
    for model in models:
        for result in model.results:
            _check_result(result)
    groups = _groups(leaderboard.tables)
    units = {model.name: gather_units(model) for model in models}
    total = len(groups) + sum(1 + len(own) for own in units.values())
    with new_site(Path(out)) as site, reporter.task("Site of the leaderboard", total) as advance:
        pages = Pages(site, leaderboard)
        _write_numbers(leaderboard, site)
        scalings = []
        for group in groups:
            scalings.append(describe_scaling(group, site))
            advance(1)
        pages.write_index([(group, own) for group, own in zip(groups, scalings)])
        for model in models:
            for result in model.results:
                _copy_result(result, site)
            strips = {exhibit.place: _cut(exhibit, site) for exhibit in model.exhibits}
            pages.write_model(model, units[model.name], strips, _size_plots(model.rows, site))
            advance(1)
            for unit in units[model.name]:
                pages.write_unit(unit, model, units[model.name], strips)
                advance(1)
        pages.write_style()
    return Path(out) / "index.html"


def _groups(tables: Sequence[StandingsTable]) -> list[list[StandingsTable]]:
    """Return the tables of one protocol, pool and difficulty together: they share a section, and its figures."""
    groups: dict[tuple[Any, ...], list[StandingsTable]] = {}
    for table in tables:
        key = (table.is_plumbing_check, table.protocol.identity, table.pool.identity, table.difficulty)
        groups.setdefault(key, []).append(table)
    return list(groups.values())


def _check_result(result: Result) -> None:
    """Check that a result is what its hash says, and that its file stays within the site."""
    if not result.is_sealed:
        raise LeaderboardError(
            f"The content of {result.label} does not match its hash {result.hash[:8]!r}: it was changed after it was "
            "written. Check it with vimi leaderboard verify, and leave it out."
        )
    parts = PurePosixPath(result.place.as_posix()).parts
    if len(parts) != 4 or any(part in (".", "..") for part in parts) or result.place.is_absolute():
        raise LeaderboardError(f"{result.model.name}: {result.model.weights!r} is not a valid hash of weights.")


def _copy_result(result: Result, site: SiteFolder) -> None:
    path = write_result(result, site.root / "results")
    site.files[path.relative_to(site.root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()


def _cut(exhibit: Exhibit, site: SiteFolder) -> dict[str, dict[int, Strip]]:
    """Return the strips of an exhibit's units, by condition and by the number of the unit."""
    found = {}
    for condition in exhibit.conditions:
        sheet = exhibit.sheet(condition)
        found[condition] = cut_sheet(*sheet, site) if sheet else {}
    return found


def _size_plots(rows: Sequence[tuple[StandingsTable, Row]], site: SiteFolder) -> list[Plot | None]:
    return [
        plot_sizes(row.results, table.condition, table.difficulty, "; ".join(row.notes), site) for table, row in rows
    ]


# -------------------------------------------------------------------- numbers


def _write_numbers(leaderboard: Leaderboard, site: SiteFolder) -> None:
    """Write the numbers of all tables at full precision."""
    site.write("leaderboard.csv", leaderboard.frame().to_csv(index=False, lineterminator="\n"))
    content = {"format": FORMAT, "tables": [_table(table) for table in leaderboard]}
    site.write("leaderboard.json", json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _table(table: StandingsTable) -> dict[str, Any]:
    return {
        "title": table.title,
        "protocol": table.protocol.identity,
        "pool": table.pool.name,
        "pool_identity": table.pool.identity,
        "condition": table.condition,
        "difficulty": table.difficulty,
        "method": table.method,
        "notes": list(table.notes),
        "rows": [_row(row) for row in table.rows],
    }


def _row(row: Row) -> dict[str, Any]:
    model = row.model
    return {
        "model": row.name,
        "kind": model.kind,
        "family": model.family,
        "parameters": model.parameters,
        "training": model.training.model_dump(mode="json") if model.training else None,
        "accuracy": model.accuracy.model_dump(mode="json") if model.accuracy else None,
        "weights": model.weights,
        "pool_seen_in_training": row.pool.seen_in_training,
        "stimuli": row.stimuli.hash if row.stimuli else "",
        "notes": list(row.notes),
        "page": model_address(model.name),
        "files": [f"results/{result.place.as_posix()}" for result in row.results],
        "standings": [
            {
                "observer_kind": own.observer_kind,
                "observer": own.observer,
                "headline_quantity": own.quantity,
                "headline": _estimate(own.headline),
                "score": _estimate(own.score),
                "rank": _estimate(own.rank),
                "groups": own.groups.split(),
                "unranked_because": list(own.missing),
                "units": own.units,
                "answers": own.answers,
                "quantities": {name: _estimate(value) for name, value in (own.quantities or {}).items()},
            }
            for own in row.standings
        ],
        "checks": [
            {
                "name": check.name, "verdict": check.verdict, "sentence": check.sentence, "observer": check.observer,
                "estimate": _estimate(check.estimate),
            }
            for check in row.checks
        ],
    }  # fmt: skip


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    """Return an estimate as JSON can say it: infinite ends become words, NaN becomes missing."""
    if estimate is None:
        return None
    return {name: _plain(value) for name, value in estimate.as_dict().items()}


def _plain(value: float | int | str) -> float | int | str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
