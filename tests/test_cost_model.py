"""The cost model finds planted costs, follows what it is asked, and knows the files that studies really write."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.errors import VimiError
from benchmark.study import Study
from stimuli.stage_costs import activation_bytes, shard_bytes
from tests.speed.cost_model import (
    BYTES,
    MANNERS,
    PARTS,
    TERMS,
    CostModel,
    Hardware,
    Measurement,
    Network,
    StudySize,
    core_seconds,
    fit_costs,
    makespan,
    model_work,
    predict_studies,
    survey_work,
)

PLANTED = {
    "decoding": (5e-4, 1e-2),
    "survey": (2e-3, 1e-2),
    "duplicates": (30.0,),
    "loading": (0.05, 0.01, 0.001),
    "forward": (1e-3, 0.02, 0.0005),
    "accelerator": (1e-5, 2e-5, 1e-6),
    "extremes": (0.015, 0.005),
    "merging": (0.03,),
    "choosing": (0.01, 0.15),
    "encoding": (5e-4, 0.05),
    "reading": (2e-3,),
    "describing": (7e-4,),
    "prefixes": (0.01, 0.002),
    "steps": (0.002, 0.05, 0.01, 0.0004),
    "trials": (0.01,),
}
"""Seconds for one of each amount of a stage."""


def planted(noise: float, names: int = 12, rows: int = 2, only: str = "") -> list[Measurement]:
    """Return measurements of work whose costs are known, with a relative error."""
    generator = np.random.default_rng(5)
    found = []
    for stage, terms in TERMS.items():
        if only and stage != only:
            continue
        for name, _ in itertools.product(range(names), range(rows)):
            count = generator.uniform(20, 400)
            amounts = {terms[0]: count} | {term: count * 10 ** generator.uniform(-1, 1.5) for term in terms[1:]}
            seconds = sum(cost * amounts[term] for cost, term in zip(PLANTED[stage], terms))
            size = 1300.0 * amounts[BYTES[stage]] if stage in BYTES else math.nan
            found.append(
                Measurement(stage, f"name {name}", amounts, seconds * math.exp(noise * generator.normal()), size)
            )
    return found


@pytest.fixture(scope="module")
def model() -> CostModel:
    return fit_costs(planted(0.02))


SMALL = Network(
    "small", 25.0, 8.0, 40.0, 112, 37760, 60416, 224, True,
    ((2, 2.0, 15.0, 0.1), (1, 4.0, 20.0, 0.2), (3, 7.0, 38.0, 0.4)),
)  # fmt: skip
STUDY = StudySize(
    20_000, 0.19, 6, 8, 100, synthetic=6, embedder=(0.8, 22.0), observers=((0.8, 22.0),), described=True
)  # fmt: skip


def machines(model: CostModel, gpus: int = 1) -> Hardware:
    return Hardware(model.stages["accelerator"], gpus=gpus)


def hours(
    model: CostModel, network: Network = SMALL, design: StudySize = STUDY, gpus: int = 1, count: int = 1
) -> float:
    return predict_studies(model, [network] * count, design, machines(model, gpus)).hours.value


# ---------------------------------------------------------------- fitting


def test_planted_coefficients_are_found(model: CostModel) -> None:
    found = model.coefficients()
    assert {stage for stage, _ in found} == set(TERMS)
    truth = [cost for stage in TERMS for cost in PLANTED[stage]]
    error = [abs(found[stage, term].value / cost - 1) for (stage, term), cost in zip(found, truth)]
    assert np.median(error) < 0.05 and max(error) < 0.5
    inside = [found[key].low <= cost <= found[key].high for key, cost in zip(found, truth)]
    assert np.mean(inside) > 0.8
    assert all(estimate.high > estimate.low >= 0 for estimate in found.values())
    for stage in BYTES:
        assert model.bytes_each[stage].value == pytest.approx(1300)


def test_without_noise_nothing_is_left_to_err() -> None:
    exact = fit_costs(planted(0.0, only="forward"))
    assert [exact.coefficients()["forward", term].value for term in TERMS["forward"]] == pytest.approx(
        PLANTED["forward"]
    )
    assert exact.held_out_errors()["forward"].high < 1e-6


def test_noise_shows_in_the_error_of_names_held_out() -> None:
    quiet, loud = (fit_costs(planted(noise, only="steps", rows=1)) for noise in (0.02, 0.3))
    assert loud.held_out_errors()["steps"].value > 3 * quiet.held_out_errors()["steps"].value
    work = {"passes": 100.0, "megapixels": 500.0, "gigaflops": 500.0, "megaelements": 500.0}
    wide, narrow = loud.predict("steps", work), quiet.predict("steps", work)
    assert (wide.high - wide.low) / wide.value > 3 * (narrow.high - narrow.low) / narrow.value
    truth = sum(cost * work[term] for cost, term in zip(PLANTED["steps"], TERMS["steps"]))
    assert wide.low < truth < wide.high


def test_one_name_alone_gives_no_interval() -> None:
    alone = fit_costs(planted(0.02, names=1, rows=4, only="reading"))
    estimate = alone.coefficients()["reading", "pictures"]
    assert (estimate.low, estimate.high, estimate.n) == (0.0, math.inf, 1) and "no interval" in estimate.method
    assert alone.held_out_errors() == {}


def test_no_coefficient_is_negative_even_where_that_would_fit_better() -> None:
    rows = [Measurement("choosing", f"{n}", {"rows": n, "megaentries": n * n}, n - 0.03 * n * n) for n in (1, 2, 4, 8)]
    assert min(estimate.value for estimate in fit_costs(rows).coefficients().values()) == 0.0


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (Measurement("cooking", "eggs", {}, 1.0), "There is no stage 'cooking'"),
        (Measurement("trials", "some", {"units": 3.0}, 0.0), "took no time"),
    ],
)
def test_what_is_no_measurement_is_refused(row: Measurement, words: str) -> None:
    with pytest.raises(VimiError, match=words):
        fit_costs([row])


# ---------------------------------------------------------------- predicting


def test_far_outside_of_what_was_measured_is_refused_or_said(model: CostModel) -> None:
    near = {"pictures": 300.0, "gigaflops": 1500.0, "megaelements": 1500.0}
    assert "EXTRAPOLATED" not in model.predict("forward", near).method
    far = {**near, "gigaflops": 300.0 * 1000}
    with pytest.raises(VimiError, match=r"1e\+03 gigaflops per picture, measured"):
        model.predict("forward", far)
    with pytest.raises(VimiError, match="pictures, measured"):
        model.predict("forward", {term: 1000 * value for term, value in near.items()})
    estimate = model.predict("forward", far, extrapolate=True)
    assert "EXTRAPOLATED: 1e+03 gigaflops per picture" in estimate.method
    assert estimate.value > model.predict("forward", near).value


def test_unknown_stages_and_amounts_are_named(model: CostModel) -> None:
    with pytest.raises(VimiError, match="'cooking' was not measured"):
        model.predict("cooking", {})
    with pytest.raises(VimiError, match="no amount 'eggs'"):
        model.predict("trials", {"eggs": 1.0})


def test_a_prediction_says_what_of_it_was_never_measured(model: CostModel) -> None:
    giant = replace(SMALL, gigaflops=3000.0)
    outside = predict_studies(model, [giant], STUDY, machines(model)).outside
    assert any(words.startswith("accelerator: 3e+03 gigaflops per picture") for words in outside)
    assert not any("3e+03" in words for words in predict_studies(model, [SMALL], STUDY, machines(model)).outside)


@pytest.mark.parametrize(
    "more",
    [
        {"pictures": 40_000},
        {"megapixels": 0.4},
        {"sampled": 16},
        {"units": 12},
        {"extremes": 200},
        {"synthetic": 6, "canvas": 300},
        {"steps": 230.0},
        {"parts": 3},
        {"observers": ((0.8, 22.0), (1.7, 50.0))},
    ],
    ids=lambda more: ", ".join(more),
)
def test_more_work_takes_longer(model: CostModel, more: dict[str, object]) -> None:
    assert hours(model, design=replace(STUDY, **more)) > hours(model)  # type: ignore[arg-type]
    less = core_seconds(model, model_work(SMALL, STUDY))
    most = core_seconds(model, model_work(SMALL, replace(STUDY, **more)))  # type: ignore[arg-type]
    assert all(most[part].value >= less[part].value for part in less)
    assert sum(part.value for part in most.values()) > sum(part.value for part in less.values())


def test_layers_columns_and_twins_cost(model: CostModel) -> None:
    wide = replace(SMALL, layers=224, columns=80_000)
    assert hours(model, wide) > hours(model)
    assert hours(model, design=replace(STUDY, copies=1)) < hours(model)
    assert hours(model, design=replace(STUDY, synthetic=0)) < hours(model)
    sizes = [
        predict_studies(model, [network], STUDY, machines(model)).bytes
        for network in (replace(SMALL, columns=1), SMALL, wide)
    ]
    assert sizes == sorted(sizes) and sizes[0] < sizes[2]


def test_synthetic_units_are_spread_over_the_layers_that_were_drawn() -> None:
    assert [layer[0] for layer in SMALL.layers_of(6)] == [2, 1, 3]
    assert sum(layer[0] for layer in SMALL.layers_of(3)) == 3
    assert SMALL.layers_of(100) == SMALL.layers_of(6) and SMALL.layers_of(0) == []


def test_accelerators_help_less_and_less_and_money_shows_it(model: CostModel) -> None:
    times, prices, busy = [], [], []
    for gpus in (1, 8, 64):
        found = predict_studies(model, [SMALL] * 4, STUDY, machines(model, gpus))
        times.append(found.hours.value)
        prices.append(found.money(2.0).value)
        busy.append(found.busy)
        assert sum(found.by_part.values()) == pytest.approx(found.hours.value) and set(found.by_part) == set(PARTS)
        assert found.hours.low <= found.hours.value <= found.hours.high
        assert found.money(2.0).value == pytest.approx(2 * gpus * found.hours.value)
        assert found.money(4.0).low == pytest.approx(2 * found.money(2.0).low)
        assert 0 < found.busy <= 1
    assert times[0] > times[1] >= times[2] > times[0] / 64
    assert prices == sorted(prices) and busy == sorted(busy, reverse=True)


def test_manners_differ_in_what_is_done_again(model: CostModel) -> None:
    found = {m: predict_studies(model, [SMALL] * 4, STUDY, machines(model, 4), m) for m in MANNERS}
    together, apart = found["one study"], found["one after the other"]
    assert apart.by_part["survey"] == pytest.approx(4 * together.by_part["survey"])
    assert apart.hours.value > together.hours.value
    alone = predict_studies(model, [SMALL], STUDY, machines(model))
    assert found["side by side"].hours.value == pytest.approx(alone.hours.value)
    twice = predict_studies(model, [SMALL], STUDY, machines(model, 4), "one after the other", times=3)
    once = predict_studies(model, [SMALL], STUDY, machines(model, 4), "one after the other")
    assert twice.hours.value == pytest.approx(3 * once.hours.value) and twice.bytes == pytest.approx(3 * once.bytes)
    assert twice.busy == pytest.approx(once.busy)
    with pytest.raises(VimiError, match="no manner 'sideways'"):
        predict_studies(model, [SMALL], STUDY, machines(model), "sideways")
    with pytest.raises(VimiError, match="studies of their own"):
        predict_studies(model, [SMALL], STUDY, machines(model), times=2)


def test_pictures_are_stored_once_for_all_networks_of_a_study() -> None:
    design = replace(STUDY, pictures=5_000, units=4, shown=100)
    stored = [
        sum(work.amounts["pictures"] for work in model_work(SMALL, design, place=place) if work.part == "storing") / 2
        for place in range(8)
    ]
    assert stored == [800.0] * 6 + [200.0, 0.0] and sum(stored) == design.stored(8) == 5_000


def test_unfilled_places_of_a_batch_are_computed_all_the_same() -> None:
    def steps(sets: int) -> float:
        work = model_work(SMALL, STUDY, sets)
        return sum(item.amounts["gigaflops"] for item in work if item.stage == "steps")

    assert steps(16) > 2 * steps(2)


def test_the_survey_compares_each_picture_with_each_other_once() -> None:
    def pairs(pictures: int) -> float:
        work = survey_work(replace(STUDY, pictures=pictures))
        return next(item.amounts["gigapairs"] for item in work if item.stage == "duplicates") * 1e9

    assert pairs(1000) == pytest.approx(1000**2)
    assert pairs(4 * 4096) == pytest.approx(4096**2 * (4 * 5 / 2))
    assert not any(item.stage == "duplicates" for item in survey_work(replace(STUDY, embedder=None)))


# ---------------------------------------------------------------- makespan


def by_hand(lengths: tuple[int, ...], workers: int) -> float:
    """Return when the last piece ends, minute by minute: each free worker takes the next one."""
    waiting, busy, minute = list(lengths), [0] * workers, 0
    while waiting or any(busy):
        for number in range(workers):
            if not busy[number] and waiting:
                busy[number] = waiting.pop(0)
        busy = [max(0, left - 1) for left in busy]
        minute += 1
    return minute


def shortest(lengths: tuple[int, ...], workers: int) -> int:
    """Return the least makespan of all ways to give pieces to workers."""
    ways = itertools.product(range(workers), repeat=len(lengths))
    return min(max(sum(x for x, w in zip(lengths, way) if w == worker) for worker in range(workers)) for way in ways)


def test_makespan_is_what_happens_and_near_the_best_that_can() -> None:
    generator = np.random.default_rng(3)
    for _ in range(25):
        lengths = tuple(int(x) for x in generator.integers(1, 9, generator.integers(1, 7)))
        workers = int(generator.integers(1, 4))
        found = makespan(lengths, workers)
        assert found == by_hand(lengths, workers)
        assert shortest(lengths, workers) <= found <= (2 - 1 / workers) * shortest(lengths, workers)


def test_makespan_of_equal_pieces_is_that_of_whoever_gets_most() -> None:
    assert makespan([2.0] * 17, 8) == 6.0
    assert makespan([2.0] * 16, 64) == 2.0
    assert makespan([], 3) == 0.0
    with pytest.raises(VimiError, match="at least one worker"):
        makespan([1.0], 0)


# ---------------------------------------------------------------- bytes


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_bytes_are_those_of_a_study(tiny_study: Study) -> None:
    pool, units = tiny_study.pool(), tiny_study.units()
    reach = tiny_study.protocol.windows(len(pool), tiny_study.experiment.stimuli.difficulties).reach
    for name in tiny_study.manifest["models"]:
        header = json.loads((tiny_study.activations(name) / "header.json").read_text())
        sampled = int((units["model"] == name).sum())
        expected = activation_bytes(len(pool), sampled, header["columns"], reach)
        written = (tiny_study.activations(name) / "activations.safetensors").stat().st_size
        assert expected <= written < expected + 600  # the names of the tensors


def test_shards_hold_extremes_of_their_own() -> None:
    whole = activation_bytes(1000, 10, 500, 100)
    assert shard_bytes(1000, 10, 500, 100, [1000]) == whole + 8 * 1000
    assert shard_bytes(1000, 10, 500, 100, [400, 600]) == whole + 8 * 1000 + 16 * 500 * 100
    # A shard of fewer pictures than extremes keeps all of them.
    assert activation_bytes(40, 10, 500, 100) == 4 * 10 * 40 + 16 * 500 * 40
