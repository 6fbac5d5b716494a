"""The gallery: a static page with a card for every unit, to be looked at from the file system."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from benchmark.progress import Reporter
from benchmark.protocol import Windows
from benchmark.responses import machine_responses
from benchmark.storage import write_text
from benchmark.study import Study
from benchmark.tasks import assemble_tasks
from benchmark.units import PLANTED, UNIT_COLUMNS, Unit, read_units
from stimuli.activations import read_activations

BINS = 48
MOST_TASKS = 6
"""Tasks of a unit that its card shows."""


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram, in the coordinates of the drawing, and the band that it belongs to."""

    x: float
    width: float
    height: float
    band: str


Summary = Sequence[tuple[str, str, str, str, str]]
"""Model, condition, observer, score and excess over the low-level observer, each with its interval."""


def build_gallery(study: Study, scores: Summary = (), reporter: Reporter | None = None) -> Path:
    """Write the gallery of a study; returns the page to open.

    Pictures are not copied: the pages point into the study's own folder, so the gallery moves with it.

    Parameters
    ----------
    study
        A study whose exemplars have been chosen.
    scores
        What observers' answers amount to.
    reporter
        Shows progress.
    """
    stimuli = study.stimuli()
    tasks = assemble_tasks(stimuli)
    responses = machine_responses(study)
    statistics = study.statistics().set_index(UNIT_COLUMNS)
    units = study.units().set_index(UNIT_COLUMNS)
    folder = study.root / "gallery"
    environment = Environment(
        loader=PackageLoader("stimuli", "gallery"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    names = [name for name in study.manifest["models"] if name in set(tasks["model"])]
    pages = [*names, *([PLANTED] if PLANTED in set(tasks["model"]) else [])]
    common = {"study": study.root.name, "protocol": study.protocol, "notes": study.manifest["notes"], "pages": pages}
    windows = study.protocol.windows(len(study.pool()), study.experiment.stimuli.difficulties)
    summaries: list[dict[str, Any]] = []
    with (reporter or Reporter()).task("Gallery", len(pages)) as advance:
        for name in pages:
            columns = _columns(study, name)
            cards = list(_cards(tasks[tasks["model"] == name], stimuli, responses, statistics, units, columns, windows))
            page = environment.get_template("model.html").render(**common, model=name, cards=cards)
            write_text(folder / f"{name}.html", page)
            summaries.append(
                {
                    "name": name,
                    "facts": study.manifest["models"].get(name, {}),
                    "units": len(cards),
                    "cover": [card["rows"][0]["tasks"][0]["max"][0] for card in cards[:12]],
                    "scores": [row[1:] for row in scores if row[0] == name],
                }
            )
            advance(1)
    index = environment.get_template("index.html").render(**common, models=summaries, pool=study.manifest["pool"])
    write_text(folder / "index.html", index)
    style = environment.get_template("style.css").render()
    write_text(folder / "style.css", style)
    return folder / "index.html"


def _columns(study: Study, model: str) -> dict[Unit, NDArray[np.float32]]:
    """Return the activations of a model's sampled units."""
    if model == PLANTED:
        return {}
    measured = read_activations(study.activations(model))
    return {unit: measured.columns[number] for number, unit in enumerate(measured.units)}


def _cards(
    tasks: pd.DataFrame,
    stimuli: pd.DataFrame,
    responses: pd.DataFrame,
    statistics: pd.DataFrame,
    units: pd.DataFrame,
    columns: dict[Unit, NDArray[np.float32]],
    windows: Windows,
) -> Iterator[dict[str, Any]]:
    """Yield what each unit's card shows."""
    model = str(tasks["model"].iloc[0])
    own_answers = responses[responses["model"] == model]
    own_stimuli = stimuli[(stimuli["model"] == model) & (stimuli["condition"] != "natural")]
    answers = dict(iter(own_answers.groupby(UNIT_COLUMNS, sort=False)))
    made = dict(iter(own_stimuli.groupby(UNIT_COLUMNS, sort=False)))
    for key, own in tasks.groupby(UNIT_COLUMNS, sort=True):
        (unit,) = read_units(own.head(1))
        facts = statistics.loc[key].to_dict() if key in statistics.index else {}
        drawn = units.loc[key].to_dict() if key in units.index else {}
        column = columns.get(unit)
        yield {
            "unit": unit,
            "anchor": f"{unit.layer}-{unit.index}",
            "facts": facts,
            "drawn": drawn,
            "rows": list(_rows(own)),
            "histogram": histogram(column, windows) if column is not None else [],
            "quality": _quality(made[key]) if key in made else [],
            "scores": _scores(answers[key]) if key in answers else [],
        }


def _rows(tasks: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the pictures of a unit's conditions and difficulties: some tasks each."""
    for (condition, difficulty), part in tasks.groupby(["condition", "difficulty"], sort=True):
        yield {
            "condition": condition,
            "difficulty": difficulty.replace("_", " "),
            "tasks": [
                {
                    "number": int(task["task"]),
                    "max": task["references_max"],
                    "min": task["references_min"],
                    "query_max": task["query_max"],
                    "query_min": task["query_min"],
                }
                for _, task in part.head(MOST_TASKS).iterrows()
            ],
        }


def histogram(column: NDArray[np.float32], windows: Windows, bins: int = BINS) -> list[Bar]:
    """Return the bars of a unit's activations; bars are split where a band of the protocol begins.

    Parameters
    ----------
    column
        Shape (pictures,): the unit's activations.
    windows
        Where references and queries come from.
    bins
        Number of bins.

    Returns
    -------
    Bars in a drawing 100 wide and 100 high.
    """
    ranked = np.sort(column.astype(np.float64))
    low, high = float(ranked[0]), float(ranked[-1])
    spread = high - low or 1.0
    edges = np.linspace(low, high, bins + 1)
    size = len(ranked)
    bands = np.full(size, "middle", dtype=object)
    for window in windows.queries.values():
        bands[window.start : window.stop] = "query-min"
        bands[size - window.stop : size - window.start] = "query-max"
    bands[: windows.references.stop] = "min"
    bands[size - windows.references.stop :] = "max"
    index = np.clip(np.searchsorted(edges, ranked, side="right") - 1, 0, bins - 1)
    tallest = np.bincount(index, minlength=bins).max()
    bars: list[Bar] = []
    for number in range(bins):
        members = bands[index == number]
        left = 100 * (edges[number] - low) / spread
        width = 100 / bins
        for band in ("min", "query-min", "middle", "query-max", "max"):
            # Within a bin, bands stand side by side in proportion to how many pictures they hold.
            share = float((members == band).mean()) if len(members) else 0.0
            if share:
                height = 100 * len(members) / tallest
                bars.append(Bar(round(left, 3), round(width * share, 3), round(height, 3), band))
                left += width * share
    return bars


def _quality(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the quality of a unit's synthetic sets."""
    result = []
    for side, part in rows.groupby("side", sort=True):
        if part["over_best"].isna().all():
            continue
        result.append(
            {
                "side": side,
                "accepted": bool(part["accepted"].fillna(False).all()),
                "weakest": float(part["over_best"].min()),
                "strongest": float(part["over_best"].max()),
                "alike": float(part["diversity_loss"].iloc[0]),
                "steps": int(part["steps"].iloc[0]),
            }
        )
    return result


def _scores(answers: pd.DataFrame) -> list[dict[str, Any]]:
    """Return how many of a unit's tasks each observer got right."""
    grouped = answers.groupby(["condition", "observer"], sort=True)["correct"]
    return [
        {"condition": condition, "observer": observer, "right": int(values.sum()), "count": len(values)}
        for (condition, observer), values in grouped
    ]
