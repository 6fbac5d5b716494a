"""The figures of the site: scores against what models are, against the size of the pool, and over units.

Slopes come from :func:`analysis.fit_scaling`, with its refusals; only rows that are ranked carry one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from analysis.figures import (
    figure_as_svg,
    plot_machine_scores,
    plot_pool_sizes,
    plot_scaling,
    why_no_regression,
)
from analysis.leaderboard.result import Result
from analysis.leaderboard.scores import CONTROLS, with_todays_intervals
from analysis.leaderboard.site.addresses import anchor
from analysis.leaderboard.site.folder import SiteFolder
from analysis.leaderboard.standings import Row, Standing, StandingsTable
from analysis.machines.performance import MachineScore
from analysis.report.document import Finding
from analysis.report.sections.scaling import verdict_findings
from analysis.scaling import PREDICTORS, Refusal, fit_scaling, predictor_values, scaling_points
from analysis.scaling.predictors import LEAST_MODELS
from benchmark.estimate import Estimate

WIDE = 1.959963984540054
"""Half the width of a 95 % interval in standard errors."""

BINS = 10
MOST_STEPS = 20
"""Units with the same number of answers, up to this one, have a bar for each count."""


Tallies = Sequence[tuple[int, int]]
"""Right answers and answers, unit by unit."""


@dataclass(frozen=True)
class Plot:
    """A figure as a file of the site.

    Attributes
    ----------
    address
        Of the file, below the site.
    title
        What it shows: the text for those who can't see it.
    width, height
        In CSS pixels.
    """

    address: str
    title: str
    width: int
    height: int


@dataclass(frozen=True)
class Scaling:
    """One observer's scores against properties of models, over the tables of one protocol and pool.

    Attributes
    ----------
    name
        For a place on the page.
    heading
        Whose numbers, and which.
    plots
        The figures, if there are any.
    findings
        Verdicts on slopes, and refusals.
    said
        Why there is no figure or no slope, where that is the case.
    """

    name: str
    heading: str
    plots: tuple[Plot, ...]
    findings: tuple[Finding, ...]
    said: tuple[str, ...]


def write_figure(site: SiteFolder, name: str, axes: Any, title: str) -> Plot:
    """Write a figure as an SVG file of its own."""
    text = figure_as_svg(axes, name, title)
    head = text[: text.index(">")]
    width, height = (int(head.split(f'{side}="')[1].split('"')[0]) for side in (" width", " height"))
    return Plot(site.write(f"figures/{name}.svg", text), title, width, height)


# ------------------------------------------------------------ what models are


def describe_scaling(tables: Sequence[StandingsTable], site: SiteFolder) -> list[Scaling]:
    """Plot the scores of some tables against what models are, observer by observer.

    Parameters
    ----------
    tables
        Tables of one protocol, pool and difficulty: they differ in what was shown.
    site
        Where figures are written.
    """
    keys = dict.fromkeys(key for table in tables for key in table.observers)
    return [_scaling_of(tables, kind, observer, site) for kind, observer in keys if kind != "simulated"]


def _scaling_of(tables: Sequence[StandingsTable], kind: str, observer: str, site: SiteFolder) -> Scaling:
    standings = [
        (_condition(table, tables), row, own)
        for table in tables
        for row in table.rows
        if (own := row.standing(kind, observer)) is not None
    ]
    first = tables[0]
    name = anchor(
        "scaling", first.protocol.identity, first.pool.name, first.difficulty, observer, of=[first.pool.identity, kind]
    )  # fmt: skip
    quantity = standings[0][2].quantity
    by = {"published": "the people of the publication", "human": "people"}.get(kind, observer)
    heading = f"Answered by {by}"
    note = "; ".join(dict.fromkeys(note for table in tables for note in table.notes))
    plots: list[Plot] = []
    said: list[str] = []
    findings: tuple[Finding, ...] = ()
    ranked = [(condition, row, own) for condition, row, own in standings if own.rank is not None]
    if kind == "machine":
        drawn = [(c, row, own) for c, row, own in standings if row.model.parameters and row.model.kind == "trained"]
        if len({row.name for _, row, _ in drawn}) > 1:
            plots.append(_machine_plot(drawn, first.difficulty, note, name, site))
    if len({row.name for _, row, _ in ranked}) >= LEAST_MODELS:
        plot, findings, unknown = _slopes(ranked, quantity, note, name, site)
        plots += plot
        if quantity == "excess":
            said.append("Slopes are those of the excess over the low-level observer.")
        if unknown:
            said.append(f"No slope, because unknown for these models: {', '.join(unknown)}.")
    else:
        sizes = {row.name: row.model.parameters for _, row, _ in standings}
        if plots and (reason := why_no_regression(sizes)):
            said.append(reason)
        count = len({row.name for _, row, _ in ranked})
        why = (
            "this is a plumbing check" if any(table.is_plumbing_check for table in tables)
            else f"{count} ranked models, but a slope needs at least {LEAST_MODELS}"
        )  # fmt: skip
        said.append(f"No slope is given: {why}.")
    return Scaling(name, heading, tuple(plots), findings, tuple(said))


def _condition(table: StandingsTable, tables: Sequence[StandingsTable]) -> str:
    """Return what was shown, with the visualiser's settings where they tell two tables apart."""
    alike = [other for other in tables if other.condition == table.condition]
    return f"{table.condition} ({table.method})" if len(alike) > 1 else table.condition


def _machine_plot(
    standings: Sequence[tuple[str, Row, Standing]], difficulty: str, note: str, name: str, site: SiteFolder
) -> Plot:
    scores = [
        _as_machine_score(row, own, condition, difficulty) for condition, row, own in standings
    ]  # fmt: skip
    parameters = {row.name: int(row.model.parameters or 0) for _, row, _ in standings}
    title = (
        f"Proportion correct by {standings[0][2].observer} against parameters, with the low-level observer and the "
        "random-weight twin beside each model"
    )
    return write_figure(site, f"{name}-machine", plot_machine_scores(scores, parameters, note), title)


def _as_machine_score(row: Row, standing: Standing, condition: str, difficulty: str) -> MachineScore:
    found = standing.quantities or {}
    return MachineScore(
        model=row.name, condition=condition, difficulty=difficulty, references="both", observer=standing.observer,
        protocol="", related=False, kept_apart=0, score=standing.score, mis=found.get("mis"),
        low_level=found.get("low_level"), excess=found.get("excess"), twin=found.get("twin"),
        trained_minus_twin=found.get("trained_minus_twin"),
    )  # fmt: skip


def _slopes(
    standings: Sequence[tuple[str, Row, Standing]], quantity: str, note: str, name: str, site: SiteFolder
) -> tuple[list[Plot], tuple[Finding, ...], list[str]]:
    """Return the figure of slopes, what may be said of them, and which predictors are not known."""
    means = pd.DataFrame(
        [
            {
                "model": row.name, "condition": condition, "value": own.headline.value,
                "standard_error": (own.headline.high - own.headline.low) / (2 * WIDE), "answers": own.answers,
                "low": own.headline.low, "high": own.headline.high,
            }
            for condition, row, own in standings
        ]
    )  # fmt: skip
    models = pd.DataFrame(
        [
            {
                "model": row.name,
                "family": row.model.family,
                "parameters": float(row.model.parameters) if row.model.parameters else np.nan,
                "training_images": float(row.model.training.images) if row.model.training else np.nan,
                "top1": row.model.accuracy.top1 / 100 if row.model.accuracy else np.nan,
            }
            for row in {row.name: row for _, row, _ in standings}.values()
        ]
    )
    wanted = ("parameters", "training images", "accuracy")
    known = [name for name in wanted if len(predictor_values(models, name))]
    unknown = [name for name in wanted if name not in known]
    if not known:
        return [], (), unknown
    study = fit_scaling(means, models, predictors=known)
    findings = tuple(verdict_findings(study))
    points = []
    for result in study:
        own = means[(means["condition"] == result.condition)].merge(models[["model", "family"]], on="model")
        own = own.assign(x=own["model"].map(predictor_values(models, result.predictor))).dropna(subset=["x"])
        points.append(
            own[["model", "family", "condition", "x", "value", "low", "high"]].assign(
                predictor=result.predictor, label=PREDICTORS[result.predictor].label
            )
        )
    _, fits, bands = scaling_points(study)
    label = "excess over the low-level observer" if quantity == "excess" else "proportion correct"
    axes = plot_scaling(
        pd.concat(points, ignore_index=True), fits, bands if len(bands) else None, value_label=label, note=note
    )
    carried = sum(not isinstance(result, Refusal) for result in study)
    title = (
        f"{label[0].upper()}{label[1:]} against {', '.join(known)}, one panel for each kind of references; "
        f"{carried} of {len(fits)} panels have a line"
    )
    return [write_figure(site, name, axes, title)], findings, unknown


# ------------------------------------------------------------ size of the pool


def plot_sizes(results: Sequence[Result], condition: str, difficulty: str, note: str, site: SiteFolder) -> Plot | None:
    """Plot machines' scores of a model against the size of the pool; None where only one size was measured."""
    rows = {
        score.key: {
            "model": result.model.name, "observer": score.observer, "pool_size": score.pool_size,
            "quantity": score.quantity, "value": score.value, "low": score.low, "high": score.high,
        }
        for result in map(with_todays_intervals, results)
        for score in result.scores
        if (score.condition, score.difficulty, score.references) == (condition, difficulty, "both")
        and score.observer_kind == "machine" and score.observer not in CONTROLS
        and score.quantity in ("score", "twin", "low_level")
    }  # fmt: skip
    table = pd.DataFrame(list(rows.values()))
    if table.empty or table["pool_size"].nunique() < 2:
        return None
    first = results[0]
    name = anchor(
        "pool-size", first.model.name, first.protocol.identity, condition, difficulty,
        of=[first.pool.identity, first.model.weights, first.stimuli_hash],
    )  # fmt: skip
    title = (
        f"Proportion correct against the number of pictures in the pool, {condition} references, {difficulty} queries"
    )
    return write_figure(site, name, plot_pool_sizes(table, note=note), title)


# ------------------------------------------------------------ scores of units


def draw_distribution(own: Tallies, twin: Tallies | None = None) -> Markup:
    """Draw how the scores of units are spread, as SVG: bars for the model, an outline for its twin.

    Parameters
    ----------
    own
        The model's units that were asked about; at least one.
    twin
        The twin's units, if it has been asked about.
    """
    counts = {answered for tallies in (own, twin or []) for _, answered in tallies}
    steps = counts.pop() if len(counts) == 1 and max(counts) <= MOST_STEPS else 0
    shares = [_spread(tallies, steps) for tallies in (own, twin) if tallies]
    tallest = max(float(share.max()) for share in shares)
    bars = len(shares[0])
    width = 100 / bars
    heights = [[round(92 * float(share) / tallest, 2) for share in each] for each in shares]
    parts = [
        f'<rect x="{(number + 0.08) * width:.2f}" y="{100 - height:g}" width="{0.84 * width:.2f}" height="{height:g}"/>'
        for number, height in enumerate(heights[0])
    ]
    if len(heights) > 1:
        line = "".join(f"V{100 - height:g}H{(number + 1) * width:.2f}" for number, height in enumerate(heights[1]))
        parts.append(f'<path d="M0 100{line}V100"/>')
    head = '<svg class="spread" viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
    return Markup(f"{head}{''.join(parts)}</svg>")


def _spread(tallies: Tallies, steps: int) -> NDArray[np.float64]:
    """Return which share of units falls on each bar between 0 and 1: one a count, or bins."""
    values = np.array([right / answered for right, answered in tallies])
    if steps:
        where, bars = np.rint(values * steps), steps + 1
    else:
        where, bars = np.minimum(np.floor(values * BINS), BINS - 1), BINS
    return np.bincount(where.astype(np.int64), minlength=bars) / len(values)


# ------------------------------------------------------------ intervals


def scale_of(estimates: Iterable[Estimate]) -> tuple[float, float] | None:
    """Return the ends of a scale for the drawings of some intervals; None where there is nothing to compare."""
    ends = sorted(end for own in estimates for end in (own.low, own.high, own.value) if math.isfinite(end))
    return (ends[0], ends[-1]) if len(ends) > 3 and ends[0] < ends[-1] else None


def methods_of(estimates: Iterable[Estimate]) -> list[str]:
    """Return how intervals were computed and what they generalise to, each said once."""

    def sentences() -> Iterator[str]:
        for own in estimates:
            level = f", {100 * own.level:g} %" if "%" not in own.method and "no interval" not in own.method else ""
            yield f"{own.unit}: {own.method}{level}" + (f"; for {own.estimand}" if own.estimand else "")

    return list(dict.fromkeys(sentences()))
