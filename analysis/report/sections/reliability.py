"""How reliable unit scores are, and what more answers would bring."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures import plot_reliability_curve, plot_unit_distribution
from analysis.power.forecast import WIDTH, sessions_until
from analysis.proportions import estimate_proportions
from analysis.reliability import estimate_reliability, reliability_curve
from analysis.reliability.curves import curve_points
from analysis.report.document import Section
from analysis.report.material import Material, SectionDraft


def describe_reliability(material: Material) -> Section:
    """Return the section on reliability of unit scores."""
    draft = SectionDraft("reliability")
    seed = material.settings.seed
    table = material.headline
    with draft.trying("reliability"):
        found = estimate_reliability(table, seed=seed)
        draft.tabulate(
            "reliability", "Reliability of unit scores",
            [
                {
                    "model": own.model,
                    "condition": own.condition,
                    "answers per unit": own.answers_per_unit,
                    "split halves of answers": own.by_answers,
                    "split halves of people": own.by_participants,
                    "intraclass": own.intraclass,
                    f"answers for {own.target:g}": own.needed,
                    "noise ceiling": own.ceiling,
                }
                for own in found
            ],
            "Split-half correlations are corrected to full length (Spearman-Brown). The noise ceiling is the highest "
            "correlation that any automated score can show with these unit scores.",
        )  # fmt: skip
    with draft.trying("reliability against answers per unit"):
        curves = reliability_curve(table, seed=seed)
        points = curve_points(curves)
        # Where halves are opposed, Spearman and Brown's formula has a pole: such a series has no curve.
        shown = points.groupby("series")["value"].transform(lambda value: np.isfinite(value).all())
        for series in dict.fromkeys(points.loc[~shown, "series"]):
            draft.lack(
                "the halves of the answers disagree too much to predict the reliability with more answers.", str(series)
            )
        points = points[shown].reset_index(drop=True)
        draft.draw(
            "curve", "Reliability against answers per unit", plot_reliability_curve(points), points,
            "Predicted (Spearman-Brown), and observed by subsampling where units have twice as many answers.",
        )  # fmt: skip
    with draft.trying("units"):
        cells = estimate_proportions(table, ("model", "condition", "unit"), interval="answers")
        rows = cells.frame()
        draft.tabulate(
            "units", "Proportion correct by unit",
            [{**cell.names, "proportion correct": cell.estimate, "answers": cell.answers} for cell in cells],
            folded=True,
        )  # fmt: skip
        rows = rows.assign(noise=_noise(rows, seed))
        draft.draw(
            "units", "Units of each model", plot_unit_distribution(rows), rows,
            "Outlined: the spread that would appear by chance alone, if all units of a model were equally easy.",
        )  # fmt: skip
    return draft.section(
        "How reliable are the scores of single units?",
        "How well the mean of a unit's answers would correlate with the mean of as many new answers.",
    )


def _noise(rows: pd.DataFrame, seed: int) -> NDArray[np.float64]:
    """Draw a score for every unit as if all units of its model and condition were alike."""
    rng = np.random.default_rng(seed)
    totals = rows.groupby(["model", "condition"])[["right", "answers"]].transform("sum")
    answers = rows["answers"].to_numpy(dtype=np.int64)
    drawn: NDArray[np.float64] = rng.binomial(answers, (totals["right"] / totals["answers"]).to_numpy()) / answers
    return drawn


def look_ahead(material: Material) -> Section:
    """Return the section on what more sessions would bring."""
    draft = SectionDraft("outlook")
    with draft.trying("more sessions"):
        forecast = sessions_until(material.headline, WIDTH)
        first, *rest = forecast.sentences
        draft.find(first, "From the variance components of the answers so far.")
        draft.tabulate(
            "sessions", "More sessions until the interval is +-1 point",
            [
                {
                    "model": own.model,
                    "condition": own.condition,
                    "sessions": own.sessions,
                    "width now": own.width_now,
                    "narrowest with these units": own.narrowest,
                    "more sessions": own.more,
                    "units needed": own.units_needed,
                    "in words": sentence,
                }
                for own, sentence in zip(forecast.outlooks, rest)
            ],
        )  # fmt: skip
        draft.absent.extend(forecast.unknown)
    return draft.section(
        "How many more sessions?", "Sessions needed until each mean has an interval of one point on either side."
    )
