"""How reliable unit scores are, and what more answers would bring."""

from __future__ import annotations

import pandas as pd

from analysis.figures import plot_reliability_curve, plot_unit_distribution
from analysis.power.forecast import sessions_until
from analysis.proportions import estimate_proportions
from analysis.reliability import estimate_reliability, learning_curve
from analysis.report.document import Section
from analysis.report.material import Draft, Material

WIDTH = 0.02
"""Width of an interval of one point on either side."""


def describe_reliability(material: Material) -> Section:
    """Return the section on reliability of unit scores."""
    draft = Draft("reliability")
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
            "Split halves are stepped up by Spearman and Brown. The noise ceiling is the highest correlation that any "
            "automated score can show with these unit scores.",
        )  # fmt: skip
    with draft.trying("reliability against answers per unit"):
        curves = learning_curve(table, seed=seed)
        points = pd.concat([curve.table() for curve in curves], ignore_index=True)
        draft.draw(
            "curve", "Reliability against answers per unit", plot_reliability_curve(points), points,
            "Predicted by Spearman and Brown, and observed by subsampling where units have twice as many answers.",
        )  # fmt: skip
    with draft.trying("units"):
        cells = estimate_proportions(table, ("model", "condition", "unit"), interval="answers")
        rows = cells.table()
        draft.tabulate(
            "units", "Proportion correct by unit",
            [{**cell.names, "proportion correct": cell.estimate, "answers": cell.answers} for cell in cells],
            folded=True,
        )  # fmt: skip
        draft.draw("units", "Units of each model", plot_unit_distribution(rows), rows)
    return draft.section(
        "How reliable are the scores of single units?",
        "How well the mean of a unit's answers would agree with the mean of as many new ones.",
    )


def look_ahead(material: Material) -> Section:
    """Return the section on what more sessions would bring."""
    draft = Draft("outlook")
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
        "How many more sessions?", "What it would take until each mean is known to one point on either side."
    )
