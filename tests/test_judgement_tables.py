"""What estimators refuse in place of a table of judgements."""

import pytest

from analysis import MixedModel, estimate_proportions, simulate_dataset
from analysis.power import Layout, Population
from benchmark.errors import AnalysisError


def test_responses_and_data_sets_are_no_judgements() -> None:
    """Practice, catch trials and machines would be fitted without a word."""
    dataset = simulate_dataset(Layout(models=1, units=4, sessions=4, trials=8), Population(), seed=1)
    for estimate in (MixedModel("1", ("unit", "participant")).fit, estimate_proportions):
        with pytest.raises(AnalysisError, match=r"judgements\((dataset\.)?responses\) makes"):
            estimate(dataset.responses)
        with pytest.raises(AnalysisError, match=r"not a Dataset.*judgements\(dataset\.responses\) makes one"):
            estimate(dataset)  # type: ignore[arg-type]
