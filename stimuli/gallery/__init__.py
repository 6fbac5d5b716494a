"""The gallery: static pages to be looked at from the file system: a card for every unit, grids, visualisations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from benchmark.hashing import hash_settings
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
IN_GRID = 4
"""Pictures of a unit that the grid shows."""
RANGE = (0.0, 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0)
"""Shares of the pool below the examples that show a unit's whole range."""


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram, in the coordinates of the drawing, and the band that it belongs to."""

    x: float
    width: float
    height: float
    band: str


@dataclass(frozen=True)
class Example:
    """A picture of the pool, its activation, the per cent of pictures below it, and its place in the drawing."""

    picture: str
    activation: float
    below: float
    x: float


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
    pool = study.pool()
    windows = study.protocol.windows(len(pool), study.experiment.stimuli.difficulties)
    stored = pool["picture"].isin(set(stimuli.loc[stimuli["condition"] == "natural", "picture"])).to_numpy()
    summaries: list[dict[str, Any]] = []
    with (reporter or Reporter()).task("Gallery", len(pages)) as advance:
        for name in pages:
            columns = _columns(study, name)
            cards = list(_cards(tasks[tasks["model"] == name], stimuli, responses, statistics, units, columns, windows))
            for card in cards:
                column = columns.get(card["unit"])
                card["range"] = [] if column is None else examples(column, pool["picture"].to_numpy(), stored)
            made = [card for card in cards if card["sets"]]
            views = [
                ("cards", ""),
                ("units by layer", "grid/"),
                *([("visualisations", "visualizations/")] if made else []),
            ]
            own = {**common, "model": name, "views": views}
            sorts = _sorts(cards)
            page = environment.get_template("model.html").render(**own, cards=cards, sorts=sorts)
            write_text(folder / f"{name}.html", page)
            page = environment.get_template("grid.html").render(**own, cards=cards, sorts=sorts)
            write_text(folder / "grid" / f"{name}.html", page)
            if made:
                page = environment.get_template("visualizations.html").render(
                    **own, cards=made, sorts=_sorts(made), made=_how(study, name)
                )
                write_text(folder / "visualizations" / f"{name}.html", page)
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
    for name in ("style.css", "gallery.js"):
        write_text(folder / name, environment.get_template(name).render())
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
    grouped = dict(iter(tasks.groupby(UNIT_COLUMNS, sort=True)))
    depths = {key: float(units.loc[key, "depth"]) if key in units.index else 0.0 for key in grouped}
    layers = sorted({(depths[key], key[UNIT_COLUMNS.index("layer")]) for key in grouped})
    places = {place: number for number, place in enumerate(layers)}

    def place_of(key: tuple[Any, ...]) -> tuple[int, int]:
        return places[depths[key], key[UNIT_COLUMNS.index("layer")]], int(key[UNIT_COLUMNS.index("index")])

    for key in sorted(grouped, key=place_of):
        own = grouped[key]
        (unit,) = read_units(own.head(1))
        facts = statistics.loc[key].to_dict() if key in statistics.index else {}
        drawn = units.loc[key].to_dict() if key in units.index else {}
        column = columns.get(unit)
        rows = list(_rows(own))
        quality = _quality(made[key]) if key in made else []
        scores = _scores(answers[key]) if key in answers else []
        sets = _sets(made[key]) if key in made else []
        flags = [] if all(side["accepted"] for side in quality) else ["not accepted"]
        yield {
            "unit": unit,
            "anchor": f"{unit.layer}-{unit.index}",
            "place": place_of(key)[0],
            "words": " ".join([f"{unit.layer} / {unit.index}", drawn.get("kind", ""), facts.get("flag", ""), *flags]),
            "order": _order(drawn, facts, quality, scores),
            "facts": facts,
            "drawn": drawn,
            "rows": rows,
            "strongest": _strongest(rows),
            "made": dict(sets)["max"][:IN_GRID] if sets else [],
            "sets": sets,
            "histogram": histogram(column, windows) if column is not None else [],
            "quality": quality,
            "scores": scores,
        }


def _strongest(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return natural pictures that a unit responds to most, the strongest reference of each task first."""
    tasks = next((row["tasks"] for row in rows if row["condition"] == "natural"), rows[0]["tasks"])
    first = [names[0] for names in (task["max"] for task in tasks) if len(names)]
    return list(dict.fromkeys([*first, *(name for task in tasks for name in task["max"])]))[:IN_GRID]


def _sets(rows: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Return the synthetic pictures of each side, the strongest first."""
    return [
        (side, rows[rows["side"] == side].sort_values("position", kind="stable")["picture"].tolist())
        for side in ("max", "min")
        if (rows["side"] == side).any()
    ]


def _order(
    drawn: dict[str, Any], facts: dict[str, Any], quality: list[dict[str, Any]], scores: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the numbers that units can be sorted by; see :func:`_sorts`."""
    order: dict[str, Any] = {"draw": drawn["draw"]} if "draw" in drawn else {}
    for key, name in (("range", "range_over_deviation"), ("gap", "query_gap")):
        if name in facts:
            order[key] = round(float(facts[name]), 4)
    if quality:
        order["made"] = round(min(side["weakest"] for side in quality), 4)
        order["alike"] = round(max(side["alike"] for side in quality), 4)
    for score in scores:
        order[_score_key(score)] = round(score["right"] / score["count"], 4)
    return order


def _score_key(score: dict[str, Any]) -> str:
    return "score-" + hash_settings([score["condition"], score["observer"]])[:8]


def _sorts(cards: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return what units can be sorted by: the attribute and direction, and its name."""
    named = {
        "draw up": "order of drawing", "range down": "range / standard deviation", "gap down": "gap between queries",
        "made up": "weakest synthetic set first", "alike down": "most alike synthetic set first",
    }  # fmt: skip
    for card in cards:
        for score in card["scores"]:
            named[f"{_score_key(score)} up"] = f"hardest for {score['observer']}, {score['condition']}"
    known = {key for card in cards for key in card["order"]}
    return [(key, name) for key, name in named.items() if key.split()[0] in known]


def _how(study: Study, model: str) -> str:
    """Say how the synthetic pictures of a model were made."""
    settings = study.experiment.visualization
    canvas = study.manifest["stages"].get("visualizations", {}).get("canvases", {}).get(model, settings.canvas)
    size = f", optimised at {canvas} px" if isinstance(canvas, int) else ""
    return f"preset {settings.preset}{size}, at most {settings.most_steps:,} steps"


def examples(
    column: NDArray[np.float32], pictures: NDArray[Any], stored: NDArray[np.bool_], shares: Sequence[float] = RANGE
) -> list[Example]:
    """Return pictures from all over a unit's range: at each share, the nearest in rank of those that the study holds.

    Parameters
    ----------
    column
        Shape (pictures,): the unit's activations.
    pictures
        Shape (pictures,): their names.
    stored
        Shape (pictures,): which of them lie in the study's folder.
    shares
        Shares of the pool below the examples, ascending.
    """
    order = np.argsort(column, kind="stable")
    ranks = np.flatnonzero(stored[order])
    if not len(ranks):
        return []
    low, high = float(column[order[0]]), float(column[order[-1]])
    chosen = dict.fromkeys(int(ranks[np.abs(ranks - share * (len(order) - 1)).argmin()]) for share in shares)
    return [
        Example(
            str(pictures[order[rank]]),
            float(column[order[rank]]),
            100 * rank / max(len(order) - 1, 1),
            round(100 * (float(column[order[rank]]) - low) / ((high - low) or 1.0), 3),
        )
        for rank in chosen
    ]


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
