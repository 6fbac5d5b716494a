from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import analysis
from analysis.comparison.ranks import rank_models, rank_values
from analysis.power.simulation import Layout, Population, simulate_judgements
from benchmark.errors import AnalysisError

PUBLISHED = Path(analysis.__file__).parent / "data" / "imi_2023.csv"
WORDS = "these models, new units and people; layer-uniform"


def sets_of(values: np.ndarray, errors: np.ndarray, seed: int = 0) -> dict[str, tuple[float, float]]:
    names = [f"m{k}" for k in range(len(values))]
    return {own.model: (own.rank.low, own.rank.high) for own in rank_values(names, values, errors**2, estimand=WORDS)}


@pytest.mark.parametrize(
    "truth",
    [np.zeros(6), np.array([0, 0, 0, 0.5, 0.5, 3.0]), np.arange(6) * 1.5, np.arange(6) * 6.0],
    ids=["all alike", "groups", "steps", "far apart"],
)
@pytest.mark.parametrize("shared", [0.0, 0.7], ids=["independent", "correlated"])
def test_all_sets_hold_the_true_ranks_together(truth: np.ndarray, shared: float) -> None:
    rng = np.random.default_rng(5)
    errors = np.array([1.0, 0.5, 1.5, 1.0, 0.8, 1.2])
    covariance = np.outer(errors, errors) * (shared + (1 - shared) * np.eye(6))
    root = np.linalg.cholesky(covariance)
    # A tie may be broken either way: the true rank is then any from the best to the worst of the tied.
    best = 1 + (truth[None, :] > truth[:, None]).sum(axis=1)
    worst = 6 - (truth[None, :] < truth[:, None]).sum(axis=1)
    held, widths, repeats = 0, [], 80
    for _ in range(repeats):
        ranks = rank_values(list("abcdef"), truth + root @ rng.standard_normal(6), covariance, estimand=WORDS)
        own = {one.model: one.rank for one in ranks}
        held += all(own[name].low <= best[k] and worst[k] <= own[name].high for k, name in enumerate("abcdef"))
        widths += [one.high - one.low for one in own.values()]
    assert held / repeats >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / repeats)
    if truth[-1] == 30:
        assert np.mean(widths) < 0.5  # and they are no wider than need be


def test_the_sets_hold_the_ranks_of_simulated_models() -> None:
    layout = Layout(models=4, units=25, sessions=70, trials=20, crossed=True)
    held, told_apart = 0, 0
    for seed in range(40):
        table = simulate_judgements(
            layout, Population(model=0.0, slope=1.0), seed=seed, predictor=np.array([0.0, 0.0, 0.6, 2.0])
        )
        ranks = {own.model: own.rank for own in rank_models(table)}
        truth = {"model-3": (1, 1), "model-2": (2, 2), "model-1": (3, 4), "model-0": (3, 4)}
        held += all(ranks[name].low <= low and high <= ranks[name].high for name, (low, high) in truth.items())
        told_apart += ranks["model-3"].high < 4
    assert held >= 35 and told_apart > 13


def test_certain_differences_settle_every_rank() -> None:
    found = sets_of(np.array([0.9, 0.7, 0.8]), np.full(3, 0.001))
    assert found == {"m0": (1, 1), "m2": (2, 2), "m1": (3, 3)}
    assert sets_of(np.array([0.81, 0.8, 0.79]), np.full(3, 0.5)) == dict.fromkeys(("m0", "m1", "m2"), (1, 3))


def test_steps_find_more_than_one_test_of_all_pairs() -> None:
    # c stands out so far that its pairs leave the family; then a and b are distinguished by what is left.
    assert sets_of(np.array([3.25, 0.0, 400.0]), np.ones(3))["m0"] == (2, 2)
    single = 3.25 / np.sqrt(2)
    assert norm.ppf(0.95) < single < 2.34  # six pairs of three means need 2.34: Tukey's studentized range / sqrt(2)


def test_published_means_have_ranks() -> None:
    table = pd.read_csv(PUBLISHED).dropna(subset=["natural"])
    error = (table["natural_high"] - table["natural_low"]).to_numpy() / (2 * 1.96)
    ranks = rank_values(
        table["model"].tolist(), table["natural"].to_numpy(), error**2, estimand="these models", count=84
    )
    assert {own.model for own in ranks.models[:2]} == {"clip_resnet50", "googlenet"} and ranks.models[
        -1
    ].model == "convnext_b"
    own = {one.model: one for one in ranks}
    assert own["googlenet"].rank.low == 1 and own["googlenet"].rank.high < 9
    assert "convnext_b" in own["googlenet"].worse and "googlenet" in own["convnext_b"].better
    assert own["resnet50"].rank.high - own["resnet50"].rank.low >= 4
    assert own["googlenet"].rank.n == 84
    assert "of 36 pairs of models are distinguishable" in ranks.sentence()


def test_groups_are_the_longest_runs_that_nothing_tells_apart() -> None:
    ranks = rank_values(list("abcd"), np.array([0.0, 1.0, 2.0, 10.0]), np.full(4, 0.1), estimand=WORDS)
    assert ranks.groups == (("d",), ("c", "b"), ("b", "a")) or ranks.groups == (("d",), ("c",), ("b",), ("a",))
    wide = rank_values(list("abcd"), np.array([0.0, 1.0, 2.0, 10.0]), np.full(4, 0.3), estimand=WORDS)
    assert wide.groups == (("d",), ("c", "b"), ("b", "a"))
    for found in (ranks, wide):
        apart = {(own.model, other) for own in found for other in (*own.better, *own.worse)}
        for group in found.groups:
            assert not any((one, other) in apart for one in group for other in group)
        for one, other in pairwise(found.groups):
            assert not set(one) <= set(other) and not set(other) <= set(one)
    assert wide.frame()["groups"].tolist() == ["a", "b", "b c", "c"]


def test_order_and_names_do_not_matter() -> None:
    table = simulate_judgements(Layout(models=4, units=15, sessions=15, trials=15), Population(model=1.0), seed=2)
    one = rank_models(table)
    other = table.sample(frac=1, random_state=1).astype({"model": str})
    other["model"] = other["model"].map({"model-0": "z", "model-1": "b", "model-2": "y", "model-3": "a"})
    two = rank_models(other)
    assert [(own.rank.low, own.rank.high) for own in one] == [(own.rank.low, own.rank.high) for own in two]


def test_a_rank_says_what_it_is() -> None:
    table = simulate_judgements(Layout(models=3, units=15, sessions=15, trials=15), Population(), seed=2)
    own = rank_models(table).models[0].rank
    assert own.estimand == WORDS and own.unit == "rank" and own.n == 15
    assert own.method.startswith("simultaneous confidence sets for the ranks of 3 models")


def test_ties_share_a_rank() -> None:
    ranks = rank_values(list("abc"), np.array([0.5, 0.5, 0.1]), np.full(3, 0.01), estimand=WORDS)
    assert [own.rank.value for own in ranks] == [1, 1, 3]


@pytest.mark.parametrize(
    ("names", "values", "variances", "words"),
    [
        (["a"], [1.0], [1.0], "at least two different names"),
        (["a", "a"], [1.0, 2.0], [1.0, 1.0], "different names"),
        (["a", "b"], [1.0, np.nan], [1.0, 1.0], "missing or infinite"),
        (["a", "b"], [1.0, 2.0], [0.0, 0.0], "no sampling error"),
        (["a", "b"], [1.0, 2.0, 3.0], [1.0, 1.0], "as many values"),
    ],
)
def test_what_can_not_be_ranked_is_said(
    names: list[str], values: list[float], variances: list[float], words: str
) -> None:
    with pytest.raises(AnalysisError, match=words):
        rank_values(names, np.array(values), np.array(variances), estimand=WORDS)
