"""That mixed models find the truth, on a small design; ``docs/recovery.md`` has the full table."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from analysis.mixed_model import MixedModel
from analysis.power.simulation import Layout, Population, simulate_judgements
from tests.recovery.mixed_model import STUDIES, recover, tabulate

LAYOUT = Layout(models=8, units=24, tasks=6, sessions=20, trials=36)
TRUTH = Population(intercept=0.9, slope=0.5, model=0.35, unit=0.9, participant=0.5)
STUDIES_FITTED = 10


@cache
def fits(method: str, studies: int = STUDIES_FITTED):
    predictor = np.linspace(-1, 1, LAYOUT.models)
    model = MixedModel("predictor", ("unit", "participant", "model"), method=method)
    return [model.fit(simulate_judgements(LAYOUT, TRUTH, seed=seed, predictor=predictor)) for seed in range(studies)]


def test_default_finds_the_truth():
    found = np.array([np.concatenate([fit.coefficients, fit.sds]) for fit in fits("default")])
    truth = np.array([TRUTH.intercept, TRUTH.slope, TRUTH.unit, TRUTH.participant, TRUTH.model])
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    # Bias below 10 %, as far as so few studies can tell.
    assert (np.abs(found.mean(axis=0) - truth) < 0.1 * truth + 2 * error).all()
    # The two that are well determined, on their own.
    assert found[:, 2].mean() == pytest.approx(TRUTH.unit, rel=0.06)
    assert found[:, 3].mean() == pytest.approx(TRUTH.participant, rel=0.10)


def test_intervals_hold_the_truth():
    held = []
    for fit in fits("default"):
        estimates = {**fit.fixed, **fit.standard_deviations}
        truth = dict(zip(estimates, (TRUTH.intercept, TRUTH.slope, TRUTH.unit, TRUTH.participant, TRUTH.model)))
        held.extend(estimates[name].low <= truth[name] <= estimates[name].high for name in estimates)
    assert 0.89 < np.mean(held) <= 1


def test_maximum_likelihood_finds_too_little():
    """Few models take degrees of freedom from the between-model SD; Laplace's approximation shrinks the people's."""
    default, joint, parity = (
        np.array([fit.sds for fit in made]) for made in (fits("default")[:5], fits("joint", 5), fits("parity", 5))
    )
    assert joint[:, 2].mean() < 0.9 * default[:, 2].mean()
    assert joint[:, 1].mean() < 0.92 * default[:, 1].mean()
    assert parity[:, 1].mean() < 0.96 * default[:, 1].mean()


def test_probit_lapses_and_tasks():
    layout = Layout(models=6, units=16, tasks=4, sessions=40, trials=32, crossed=True)
    truth = Population(intercept=0.7, unit=0.6, task=0.4, participant=0.4, model=0.2, lapse=0.03, link="probit")
    model = MixedModel("1", ("unit", "task", "participant"), link="probit", lapse=0.03)
    found = np.array([model.fit(simulate_judgements(layout, truth, seed=seed)).sds for seed in range(6)])
    expected = np.array([np.hypot(truth.unit, 0.1), truth.task, truth.participant])
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - expected) < 0.1 * expected + 2.5 * error).all()


def test_the_script_of_the_full_table():
    import pandas as pd

    records = pd.DataFrame([record for seed in range(2) for record in recover("small", seed, STUDIES["small"].methods)])
    table = tabulate(records, "small")
    assert set(table["method"]) == set(STUDIES["small"].methods)
    assert (table["studies"] == 2).all()
    assert set(table["name"]) == set(STUDIES["small"].truth)
