from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from scipy.stats import t as student

from analysis.intervals.means import differs_from_zero, estimate_mean, p_of_mean
from analysis.machines.performance import MachineScore, MachineScores, observer_check, score_machines, unit_means
from benchmark import schemas
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate
from benchmark.units import PLANTED, UNIT_COLUMNS
from tests.hand_made import answer_rows

SEER = "features:seer"
PROPORTION = "proportion correct"


def together(*parts: pd.DataFrame) -> pd.DataFrame:
    return schemas.concatenate(parts, schemas.RESPONSES)


def units_with(shares: list[tuple[int, int]]) -> list[tuple[int, bool]]:
    """Return answers of units: one pair (right, wrong) for each."""
    return [(n, k < right) for n, (right, wrong) in enumerate(shares) for k in range(right + wrong)]


def only(scores: list[MachineScore]) -> MachineScore:
    assert len(scores) == 1
    return scores[0]


# ------------------------------------------------------------------------------------------------ intervals


@pytest.mark.parametrize("shape", ["even", "skewed", "few values"])
def test_the_interval_is_the_bias_corrected_and_accelerated_bootstrap(shape: str) -> None:
    generator = np.random.default_rng(4)
    data = {
        "even": generator.normal(0.7, 0.1, 60),
        "skewed": generator.beta(9, 1, 40),
        "few values": generator.integers(0, 4, 84) / 3,
    }[shape]
    found = estimate_mean(data, unit=PROPORTION, seed=1, interval="bca")
    expected = bootstrap((data,), np.mean, n_resamples=40_000, method="BCa", rng=np.random.default_rng(99))
    # Means of few values lie on a grid, and an end may fall on either side of a gap.
    gap = 1 / (3 * len(data)) if shape == "few values" else 0.0
    tolerance = 0.1 * data.std() / math.sqrt(len(data)) + 1.01 * gap
    assert found.value == pytest.approx(data.mean())
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=tolerance)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=tolerance)
    assert found.n == len(data)
    assert found.method == "BCa bootstrap over units"
    assert found.unit == PROPORTION


def test_the_interval_of_skewed_units_leans_as_the_correction_says_it_must() -> None:
    # Long tail below: the corrected interval reaches further down than up.
    data = np.random.default_rng(5).beta(9, 1, 40)
    found = estimate_mean(data, unit=PROPORTION)
    assert found.value - found.low > found.high - found.value


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(6)
    covered = 0
    studies = 200
    for number in range(studies):
        # Units differ in how easy they are (mean .8), and each is asked about 20 times.
        ease = generator.beta(8, 2, 40)
        shares = generator.binomial(20, ease) / 20
        found = estimate_mean(shares, unit=PROPORTION, seed=number)
        covered += found.low <= 0.8 <= found.high
    assert 0.90 <= covered / studies <= 0.99


def test_an_interval_over_a_few_answers_of_many_units_covers_the_truth_too() -> None:
    generator = np.random.default_rng(7)
    covered = sum(
        (found := estimate_mean(generator.binomial(3, generator.beta(6, 2, 60)) / 3, unit=PROPORTION)).low
        <= 0.75
        <= found.high
        for _ in range(200)
    )
    assert 0.90 <= covered / 200 <= 0.99


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_the_value_lies_in_its_interval_and_the_interval_among_the_units(units: list[float]) -> None:
    found = estimate_mean(np.array(units), unit=PROPORTION)
    assert found.low <= found.value <= found.high
    assert found.low >= 0 and found.high <= 1 + 1e-12
    if len(set(units)) > 1:
        asked_for = estimate_mean(np.array(units), unit=PROPORTION, interval="bca")
        assert min(units) <= asked_for.low <= asked_for.value <= asked_for.high <= max(units)


@pytest.mark.parametrize("count", [6, 16, 84])
def test_few_units_are_covered_as_often_as_many(count: int) -> None:
    """Scores near the ceiling, excess over a control, and trained minus twin; 20 tasks a unit, 600 studies each."""
    generator = np.random.default_rng([31, count])
    shape = (600, count)
    right = generator.binomial(20, generator.beta(7, 1.45, shape)) / 20
    control = generator.binomial(20, generator.beta(6, 4, shape)) / 20
    gained = generator.random(shape) < 0.25
    skewed = np.where(gained, generator.binomial(20, generator.beta(8, 1, shape)) / 20, control)
    again = generator.binomial(20, generator.beta(6, 4, shape)) / 20
    cases = [
        (right, 7 / 8.45, PROPORTION),
        (right - control, 7 / 8.45 - 0.6, "difference of proportions correct"),
        (skewed - again, 0.25 * (8 / 9 - 0.6), "difference of proportions correct"),
    ]
    for values, truth, unit in cases:
        ends = [estimate_mean(row, unit=unit) for row in values]
        covered = np.mean([own.low <= truth <= own.high for own in ends])
        assert 0.92 <= covered <= 0.975, (unit, covered)


def test_the_interval_is_halls_written_out() -> None:
    data = np.random.default_rng(5).beta(9, 1, 16)
    found = estimate_mean(data, unit=PROPORTION)
    assert found.method == "Student's t over units, corrected for skewness (Hall)"
    root, error = math.sqrt(16), data.std(ddof=1) / math.sqrt(16)
    skewness = ((data - data.mean()) ** 3).mean() / data.std(ddof=1) ** 3

    def hall(true_mean: float) -> float:
        ratio = (data.mean() - true_mean) / error
        return float(
            ratio + skewness * ratio**2 / (3 * root) + skewness**2 * ratio**3 / (27 * 16) + skewness / (6 * root)
        )

    bound = float(student.ppf(0.975, 15))
    assert hall(found.low) == pytest.approx(bound) and hall(found.high) == pytest.approx(-bound)
    assert found.value - found.low > found.high - found.value, "it leans to where the tail is"
    # Without skewness it is Student's t.
    even = np.array([0.2, 0.4, 0.5, 0.6, 0.8])
    plain = estimate_mean(even, unit=PROPORTION)
    half = float(student.ppf(0.975, 4)) * even.std(ddof=1) / math.sqrt(5)
    assert (plain.low, plain.high) == pytest.approx((0.5 - half, 0.5 + half))


@given(st.lists(st.integers(-6, 9), min_size=3, max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_p_value_is_below_five_per_cent_just_where_the_interval_misses_0(counts: list[int]) -> None:
    data = np.array(counts) / 20
    found = estimate_mean(data, unit="difference of proportions correct")
    p = p_of_mean(data)
    if np.ptp(data) == 0:
        assert p == 1.0
    elif min(abs(found.low), abs(found.high)) > 1e-9:
        assert (p < 0.05) == found.excludes_zero
        assert differs_from_zero(found) == found.excludes_zero
        assert differs_from_zero(found, 1000) <= differs_from_zero(found)


def test_comparisons_with_twins_are_corrected_for_the_models() -> None:
    parts = [
        answer_rows("a", units_with([(4, 0)] * 7 + [(2, 2)] * 3)),
        answer_rows("a-twin", units_with([(3, 1), (4, 0), (2, 2), (3, 1), (4, 0)] * 2)),
    ]
    alone = only(score_machines(together(*parts)))
    assert alone.twin_tests == 1 and alone.twin_p == alone.twin_p_adjusted
    many, twins = units_with([(2, 2)] * 10), units_with([(2, 2), (3, 1)] * 5)
    others = [part for name in "bcdef" for part in (answer_rows(name, many), answer_rows(f"{name}-twin", twins))]
    every = {score.model: score for score in score_machines(together(*parts, *others))}
    assert every["a"].twin_tests == 6 and every["a"].twin_p == alone.twin_p
    given = sorted(score.twin_p or 0.0 for score in every.values())
    assert min(score.twin_p_adjusted or 0.0 for score in every.values()) == pytest.approx(min(6 * given[0], 1.0))
    for score in every.values():
        assert "after Holm over 6 comparisons with twins" in score.verdict
        told = (score.twin_p_adjusted or 0.0) < 0.05
        assert ("is indistinguishable from its random-weight twin" in score.verdict) == (not told)
    # Some differ from their twin when tested alone, and none does among six: the sentence says both.
    assert score.trained_minus_twin is not None and score.trained_minus_twin.excludes_zero
    assert "tested alone it would be told from 0" in every["b"].verdict and "worse" not in every["b"].verdict


def test_the_same_seed_gives_the_same_interval() -> None:
    data = np.random.default_rng(8).random(30)
    assert estimate_mean(data, unit=PROPORTION, seed=3) == estimate_mean(data, unit=PROPORTION, seed=3)


@pytest.mark.parametrize(("share", "count"), [(1.0, 24), (0.0, 24), (1.0, 1), (0.5, 9)])
def test_units_that_all_agree_get_wilsons_interval_for_so_many_units(share: float, count: int) -> None:
    found = estimate_mean(np.full(count, share), unit=PROPORTION)
    z = 1.959963984540054
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    assert found.value == share
    assert found.low == pytest.approx(middle - half, abs=1e-12)
    assert found.high == pytest.approx(middle + half, abs=1e-12)
    assert found.method == "Wilson interval, all units agree"
    assert found.n == count


def test_differences_that_all_agree_say_that_they_have_no_interval() -> None:
    found = estimate_mean(np.full(10, -0.25), unit="difference of proportions correct")
    assert (found.value, found.low, found.high) == (-0.25, -1.0, 1.0)
    assert found.method == "no interval: all units agree"
    assert not found.excludes_zero


def test_differences_that_only_rounding_tells_apart_all_agree() -> None:
    score, low_level = np.array([1.0, 0.4, 0.2]), np.array([0.9, 0.3, 0.1])
    data = np.tile(score - low_level, 4)
    assert 0 < np.ptp(data) < 1e-15
    found = estimate_mean(data, unit="difference of proportions correct")
    assert (found.value, found.low, found.high) == (pytest.approx(0.1), -1.0, 1.0)
    assert found.method == "no interval: all units agree"
    assert found == estimate_mean(data[::-1], unit="difference of proportions correct")


def test_no_units_are_an_error() -> None:
    with pytest.raises(ValueError, match="no units"):
        estimate_mean(np.array([]), unit=PROPORTION)


def test_units_count_alike_however_often_they_were_asked_about() -> None:
    answers = answer_rows("a", units_with([(1, 0), (0, 9)]))
    assert unit_means(answers).tolist() == [1.0, 0.0]
    score = only(score_machines(answers))
    assert score.score.value == 0.5
    assert score.score.n == 2


# ------------------------------------------------------------------------------------------------ scores


def test_a_score_holds_the_proportion_correct_and_the_mean_probability() -> None:
    answers = answer_rows("a", units_with([(3, 1), (2, 2), (4, 0)]))
    score = only(score_machines(answers))
    assert score.score.value == pytest.approx(0.75)
    # A right answer of the table made by hand has the probability .9, a wrong one .2.
    assert score.mis is not None
    assert score.mis.value == pytest.approx(0.75 * 0.9 + 0.25 * 0.2)
    assert (score.model, score.condition, score.difficulty, score.references) == ("a", "natural", "easy", "both")
    assert (score.observer, score.protocol, score.related, score.kept_apart) == (SEER, "vimi1", False, 0)
    assert score.low_level is score.excess is score.twin is score.trained_minus_twin is None


def paired_answers(spread: float) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return answers by an observer and two controls, whose units differ a lot while their differences do not."""
    generator = np.random.default_rng(9)
    right = generator.integers(2, 19, 40)
    less = [max(0, int(r) - 1 - int(generator.random() < spread)) for r in right]
    own = answer_rows("a", units_with([(int(r), 20 - int(r)) for r in right]))
    control = answer_rows("a", units_with([(r, 20 - r) for r in less]), "lowlevel")
    twin = answer_rows("a-twin", units_with([(r, 20 - r) for r in less]))
    return own, control, twin


def test_excess_and_trained_minus_twin_are_paired_by_unit() -> None:
    own, control, twin = paired_answers(0.5)
    score = only(score_machines(together(own, control, twin)))
    assert score.low_level is not None and score.excess is not None
    assert score.twin is not None and score.trained_minus_twin is not None
    differences = (unit_means(own) - unit_means(control)).to_numpy()
    for estimate in (score.excess, score.trained_minus_twin):
        assert estimate == estimate_mean(
            differences, unit="difference of proportions correct", estimand=estimate.estimand
        )
        # Unpaired, the units' own differences would swamp the effect.
        assert estimate.low > 0
        assert estimate.high - estimate.low < 0.3 * (score.score.high - score.score.low)
    assert score.low_level.value == pytest.approx(unit_means(control).mean())
    assert score.twin.value == pytest.approx(unit_means(twin).mean())


@given(st.permutations(range(12)))
@settings(max_examples=10, deadline=None)
def test_pairing_does_not_depend_on_the_order_of_the_answers(order: list[int]) -> None:
    shares = [(n % 5, 4 - n % 5) for n in range(12)]
    own = answer_rows("a", units_with(shares))
    rows = units_with([(max(0, right - 1), 4 - max(0, right - 1)) for right, _ in shares])
    blocks = [rows[4 * n : 4 * n + 4] for n in order]
    control = answer_rows("a", [row for block in blocks for row in block], "lowlevel")
    score = only(score_machines(together(own, control)))
    expected = [(right - max(0, right - 1)) / 4 for right, _ in shares]
    assert score.excess is not None
    assert score.excess == estimate_mean(
        np.array(expected), unit="difference of proportions correct", estimand=score.excess.estimand
    )


def test_differences_count_only_units_that_both_sides_have() -> None:
    own = answer_rows("a", units_with([(4, 0), (3, 1), (0, 4)]))
    twin = answer_rows("a-twin", units_with([(2, 2), (2, 2)]))
    score = only(score_machines(together(own, twin)))
    assert score.score.n == 3
    assert score.trained_minus_twin is not None
    assert score.trained_minus_twin.n == 2
    assert score.trained_minus_twin.value == pytest.approx((0.5 + 0.25) / 2)


def test_a_control_without_any_common_unit_gives_no_difference() -> None:
    own = answer_rows("a", [(0, True), (1, False)])
    control = answer_rows("a", [(5, True), (6, False)], "lowlevel")
    assert only(score_machines(together(own, control))).excess is None


def test_units_of_the_same_number_in_other_layers_are_other_units() -> None:
    answers = together(
        answer_rows("a", [(0, True)] * 3, layer="first"),
        answer_rows("a", [(0, False)], layer="second"),
        answer_rows("a", [(0, False)], layer="first", aggregator="max"),
        answer_rows("a", [(0, False)], layer="first", basis="other"),
    )
    score = only(score_machines(answers))
    assert score.score.n == 4
    assert score.score.value == 0.25


def test_controls_are_matched_by_condition_difficulty_references_and_observer() -> None:
    right, wrong = [(0, True), (1, True)], [(0, False), (1, False)]
    cells = [
        {"condition": "natural"},
        {"condition": "synthetic"},
        {"condition": "natural", "difficulty": "hard"},
        {"condition": "natural", "references": "max"},
    ]
    answers = together(
        *(answer_rows("a", right, **cell) for cell in cells),
        answer_rows("a", right, "features:other"),
        answer_rows("a", wrong, "lowlevel", condition="synthetic"),
        answer_rows("a-twin", wrong, difficulty="hard"),
    )
    scores = score_machines(answers)
    assert len(scores) == 5
    assert all(score.score.value == 1.0 for score in scores)
    with_control = [score for score in scores if score.low_level is not None]
    assert [(score.condition, score.observer) for score in with_control] == [("synthetic", SEER)]
    with_twin = [score for score in scores if score.twin is not None]
    assert [(score.difficulty, score.observer) for score in with_twin] == [("hard", SEER)]


def test_twins_the_low_level_observer_planted_units_and_people_get_no_rows() -> None:
    answers = together(
        answer_rows("a", [(0, True), (1, False)]),
        answer_rows("a-twin", [(0, True)]),
        answer_rows("a", [(0, True)], "lowlevel"),
        answer_rows(PLANTED, [(0, True)], kind="catch"),
        answer_rows("a", [(0, True)], "person", observer_kind="human"),
        answer_rows("a", [(0, True)], "pretender", observer_kind="simulated"),
    )
    assert [(score.model, score.observer) for score in score_machines(answers)] == [("a", SEER)]


def test_two_protocols_never_share_a_table() -> None:
    answers = together(
        answer_rows("a", [(0, True)], protocol="vimi1"), answer_rows("a", [(1, True)], protocol="vimi1+1234abcd")
    )
    with pytest.raises(
        AnalysisError, match=r"vimi1 and vimi1\+1234abcd, and results of different protocols can't share a table"
    ):
        score_machines(answers)


def test_the_protocol_of_peoples_answers_does_not_concern_machines() -> None:
    answers = together(
        answer_rows("a", [(0, True)]), answer_rows("a", [(0, True)], "person", observer_kind="human", protocol="other")
    )
    assert only(score_machines(answers)).protocol == "vimi1"


def test_relatives_are_marked() -> None:
    answers = together(
        answer_rows("a", [(0, True)], related=True), answer_rows("b", [(0, True)]), answer_rows("c", [(0, False)])
    )
    marked = {score.model: score.related for score in score_machines(answers)}
    assert marked == {"a": True, "b": False, "c": False}
    assert score_machines(answers).frame().set_index("model")["related"].to_dict() == marked


def statistics_of(model: str, flags: list[str], used: list[bool] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": model, "layer": "layer", "basis": "neuron", "index": range(len(flags)), "aggregator": "mean",
            "used": used or [True] * len(flags), "flag": flags,
        }
    )  # fmt: skip


def test_flagged_units_are_kept_apart_and_counted() -> None:
    answers = together(
        answer_rows("a", units_with([(4, 0), (3, 1), (0, 4), (0, 4)])),
        answer_rows("a", units_with([(2, 2), (2, 2), (4, 0), (4, 0)]), "lowlevel"),
        answer_rows("a-twin", units_with([(0, 4), (4, 0), (4, 0), (4, 0)])),
        answer_rows("b", [(2, True), (3, False)]),
    )
    statistics = pd.concat(
        [
            statistics_of("a", ["", "", "silent", "dead", "constant"], [True, True, True, True, False]),
            statistics_of("a-twin", ["silent", "", "", ""]),
            statistics_of("b", [""] * 4),
        ]
    )
    scores = {score.model: score for score in score_machines(answers, statistics)}
    assert scores["a"].score.n == 2
    assert scores["a"].score.value == pytest.approx(0.875)
    assert scores["a"].kept_apart == 2
    assert scores["a"].low_level is not None and scores["a"].low_level.value == 0.5
    assert scores["a"].excess is not None and scores["a"].excess.value == pytest.approx(0.375)
    # The twin's own flag takes the first unit out of the pairs as well.
    assert scores["a"].trained_minus_twin is not None
    assert scores["a"].trained_minus_twin.n == 1
    assert (scores["b"].score.n, scores["b"].kept_apart) == (2, 0)


def test_a_model_whose_units_are_all_flagged_gets_no_row() -> None:
    answers = answer_rows("a", [(0, True), (1, True)])
    assert score_machines(answers, statistics_of("a", ["dead", "dead"])) == []


def test_no_answers_give_no_scores() -> None:
    assert score_machines(schemas.RESPONSES.empty()) == []
    assert MachineScores([]).frame().empty


# ------------------------------------------------------------------------------------------------ words and tables


def score_with(difference: Estimate | None) -> MachineScore:
    one = Estimate(0.8, 0.7, 0.9, "", 10, PROPORTION)
    return MachineScore("a", "natural", "easy", "both", SEER, "vimi1", False, 0, one, one, None, None, None, difference)


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        ((0.1, 0.05, 0.15), "By features:seer, a (natural) is answered better than its random-weight twin"),
        ((-0.1, -0.15, -0.05), "By features:seer, a (natural) is answered worse than its random-weight twin"),
        ((0.1, -0.05, 0.15), "By features:seer, a (natural) is indistinguishable from its random-weight twin"),
        ((0.1, 0.0, 0.15), "is indistinguishable from its random-weight twin"),
    ],
)
def test_the_verdict_says_what_trained_minus_twin_means(difference: tuple[float, float, float], words: str) -> None:
    estimate = Estimate(*difference, "", 10, PROPORTION)
    verdict = score_with(estimate).verdict
    assert words in verdict
    assert str(estimate) in verdict
    assert ("includes 0" in verdict) == (not estimate.excludes_zero)


def test_without_a_twin_there_is_no_verdict() -> None:
    assert score_with(None).verdict == ""


def test_the_table_of_scores_has_every_number_with_its_interval() -> None:
    own, control, twin = paired_answers(0.5)
    scores = score_machines(together(own, control, twin, answer_rows("b", [(0, True), (1, False)])))
    table = MachineScores(scores).frame()
    assert len(table) == 2
    row = table.set_index("model").loc["a"]
    for name in ("score", "mis", "low_level", "excess", "twin", "trained_minus_twin"):
        estimate = getattr(scores[0], name)
        assert (row[name], row[f"{name}_low"], row[f"{name}_high"]) == (estimate.value, estimate.low, estimate.high)
    assert row["units"] == 40
    missing = table.set_index("model").loc["b", ["low_level", "excess", "twin_low", "trained_minus_twin_high"]]
    assert missing.isna().all()


def test_every_estimate_names_models_units_observer_and_drawing() -> None:
    rows = units_with([(4, 0), (3, 1), (2, 2)])
    table = together(answer_rows("a", rows), answer_rows("a", rows[::-1], "lowlevel"), answer_rows("a-twin", rows[:8]))
    score = only(score_machines(table))
    said = "these models, new units; layer-uniform; by "
    assert score.mis is not None
    assert score.score.estimand == score.mis.estimand == said + SEER
    assert score.twin is not None and score.twin.estimand == said + SEER
    assert score.low_level is not None and score.low_level.estimand == said + "lowlevel"
    assert score.excess is not None and score.excess.estimand == said + f"{SEER} minus lowlevel"
    assert score.trained_minus_twin is not None and score.trained_minus_twin.estimand == said + SEER


def test_unit_uniform_scores_weight_units_by_the_widths_of_their_layers() -> None:
    rows = units_with([(4, 0), (3, 1), (1, 3)])
    table = together(answer_rows("a", rows), answer_rows("a-twin", units_with([(2, 2), (2, 2), (2, 2)])))
    own = table[table["model"] == "a"][UNIT_COLUMNS].drop_duplicates().sort_values("index", ignore_index=True)
    units = own.assign(width=[10, 30, 60])
    score = only(score_machines(table, drawing="unit-uniform", units=units))
    assert score.score.value == pytest.approx(0.1 * 1.0 + 0.3 * 0.75 + 0.6 * 0.25)
    assert score.trained_minus_twin is not None
    assert score.trained_minus_twin.value == pytest.approx(score.score.value - 0.5)
    assert score.score.low < score.score.value < score.score.high
    assert "unit-uniform" in score.score.estimand
    even = only(score_machines(table, drawing="unit-uniform", units=own.assign(width=7)))
    assert even.score.value == pytest.approx(only(score_machines(table)).score.value)
    with pytest.raises(AnalysisError, match="width"):
        score_machines(table, drawing="unit-uniform", units=units.iloc[:2])
    with pytest.raises(AnalysisError, match="table of units"):
        score_machines(table, drawing="unit-uniform")


@pytest.mark.parametrize("references", ["max", "min", "none"])
def test_references_other_than_both_are_scored_against_controls_that_saw_the_same(references: str) -> None:
    rows, other = units_with([(4, 0), (3, 1), (2, 2)]), units_with([(1, 3), (2, 2), (1, 3)])
    parts = [answer_rows("a", rows), answer_rows("a", other, "lowlevel"), answer_rows("a-twin", other)]
    shown = [part.assign(references=references) for part in parts]
    for part in shown:
        part["response_id"] = part["response_id"] + references
    scores = {score.references: score for score in score_machines(together(*parts[:1], *shown))}
    assert set(scores) == {"both", references}
    assert scores["both"].excess is None and scores["both"].trained_minus_twin is None
    for estimate in (scores[references].excess, scores[references].trained_minus_twin):
        assert estimate is not None and estimate.value == pytest.approx((3 + 1 + 1) / 12)


def test_the_estimand_is_named() -> None:
    score = only(score_machines(answer_rows("a", [(0, True), (1, False)])))
    assert re.search("layer-uniform", score.score.estimand)


def test_the_observer_check_is_the_share_correct_on_planted_units() -> None:
    answers = together(
        answer_rows(PLANTED, units_with([(3, 1), (1, 3)]), kind="catch"),
        answer_rows(PLANTED, units_with([(4, 0)]), kind="catch", condition="synthetic"),
        answer_rows(PLANTED, units_with([(0, 4)]), "lowlevel", kind="catch"),
        answer_rows("a", [(0, False)] * 5),
    )
    check = observer_check(answers)
    assert len(check) == 3
    found = {(row.observer, row.condition): row.estimate for row in check.set_axis(
        ["observer", "condition", "estimate"], axis=1).itertuples()}  # fmt: skip
    assert found[SEER, "natural"].value == 0.5
    assert found[SEER, "natural"].n == 2
    assert found[SEER, "synthetic"].value == 1.0
    assert found["lowlevel", "natural"].value == 0.0


def test_the_observer_check_leaves_trials_out_that_hide_references() -> None:
    answers = together(
        answer_rows(PLANTED, units_with([(4, 0)]), kind="catch"),
        answer_rows(PLANTED, units_with([(0, 4)]), kind="catch", references="none"),
    )
    check = observer_check(answers)
    assert [estimate.value for estimate in check["planted units"]] == [1.0]


def test_unit_columns_of_a_response_name_its_unit() -> None:
    # What pairs a unit with its twin's is everything but the model.
    assert unit_means(answer_rows("a", [(0, True)])).index.names == [c for c in UNIT_COLUMNS if c != "model"]


def test_answers_without_probabilities_have_no_interpretability_score() -> None:
    answers = answer_rows("a", units_with([(3, 1), (2, 2), (4, 0)])).assign(probability=np.nan)
    score = only(score_machines(answers))
    assert score.mis is None
    assert score.score.value == pytest.approx(0.75)
    assert np.isnan(score.row()["mis"])
