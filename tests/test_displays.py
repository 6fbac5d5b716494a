"""What a user sees of results that the README tells them to make: in a notebook, and when they are printed."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis import (
    Layout,
    MixedModel,
    Population,
    compare_conditions,
    compare_models,
    estimate_proportions,
    fit_scaling,
    judgements,
    published_models,
    rank_models,
    simulate_dataset,
    tabulate_means,
)
from analysis.rows import ShownAsTable


@pytest.fixture(scope="module")
def results() -> dict[str, tuple[ShownAsTable, list[str]]]:
    """Return results, and what each has to show."""
    layout = Layout(models=5, units=6, sessions=4, trials=12, conditions=("natural", "a<b"))
    dataset = simulate_dataset(layout, Population(), seed=2, models=published_models().iloc[:5])
    table = judgements(dataset.responses)
    natural = table[table["condition"] == "natural"]
    proportions = estimate_proportions(table)
    scaling = fit_scaling(tabulate_means(proportions), dataset.models)
    conditions = compare_conditions(table, "natural", "a<b")
    models = compare_models(natural)
    ranks = rank_models(natural)
    fit = MixedModel("1", ("unit", "participant")).fit(natural)
    first = scaling.results[0]
    return {
        "proportions": (proportions, [str(proportions.cells[0].estimate), "new units and people"]),
        "conditions": (conditions, [str(conditions.differences[0].difference), "natural minus a<b"]),
        "models": (models, [str(models.differences[-1].simultaneous), "all pairs of 5 models"]),
        "scaling": (scaling, [first.predictor, first.verdict.kind, "rung"]),
        "ranks": (ranks, [str(ranks.models[0].rank), "ranks are certain"]),
        "fit": (fit, [str(fit.fixed["intercept"]), "log-likelihood", "participant"]),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["proportions", "conditions", "models", "scaling", "ranks", "fit"])
def test_a_result_shows_its_numbers_with_their_intervals(
    name: str, results: dict[str, tuple[ShownAsTable, list[str]]]
) -> None:
    result, wanted = results[name]
    printed, markup = str(result), result._repr_html_()
    for words in wanted:
        assert words in printed
        assert words.replace("<", "&lt;") in markup
    assert "Estimate(" not in printed and "a<b" not in markup
    frame = result.frame()
    assert isinstance(frame, pd.DataFrame) and len(frame) and markup.count("<tr") == len(frame) + 1
