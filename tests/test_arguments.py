"""Somebody who gives a function another kind of thing is told what it takes, and what makes it."""

from __future__ import annotations

from typing import Any

import pytest

from analysis import (
    describe_power,
    estimate_proportions,
    fit_scaling,
    judgements,
    noise_ceiling,
    simulate_dataset,
    simulate_power,
    smallest_detectable,
)
from analysis.power.simulation import Layout, Population
from benchmark.errors import AnalysisError


@pytest.mark.parametrize("ask", [describe_power, simulate_power, smallest_detectable])
def test_a_goal_is_no_design(ask: Any) -> None:
    with pytest.raises(AnalysisError, match=r"design must be of type Design, not str. .*find_design\(\)"):
        ask("slope")


def test_a_number_is_no_reliability() -> None:
    with pytest.raises(AnalysisError, match=r"reliability must be of type Estimate, not float"):
        noise_ceiling(0.65)  # type: ignore[arg-type]


def test_proportions_are_no_table_of_means() -> None:
    layout = Layout(models=4, units=4, sessions=2, trials=8)
    data = simulate_dataset(layout, Population(), seed=1)
    found = estimate_proportions(judgements(data.responses), by=("model", "condition"))
    with pytest.raises(AnalysisError, match=r"means must be of type DataFrame, not .*tabulate_means"):
        fit_scaling(found, data.models)


def test_a_data_set_is_no_table_of_responses() -> None:
    data = simulate_dataset(Layout(models=2, units=2, sessions=2, trials=4), Population(), seed=1)
    with pytest.raises(AnalysisError, match=r"responses must be of type DataFrame, not Dataset. .*data\.responses"):
        judgements(data)  # type: ignore[arg-type]
