from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from benchmark import schemas
from benchmark.cache import VARIABLE
from benchmark.errors import NameNotFound, ObserverError
from benchmark.experiment import Experiment
from benchmark.model_card import ModelCard
from benchmark.model_sources import load_card
from benchmark.model_zoo import Model, load_model
from benchmark.observers import OBSERVERS, create_observer, perceptual
from benchmark.observers.base import Kinship, Observer, Presentation, SimilarityObserver
from benchmark.observers.embedding import embed_study_pictures, resized
from benchmark.observers.lowlevel import FEATURES, describe
from benchmark.observers.perceptual import DreamSimObserver
from benchmark.observers.reference_points import LabelObserver, OracleObserver
from benchmark.responses import observe
from benchmark.study import Study
from benchmark.tasks import TASK_COLUMNS, assemble_tasks, present, task_names
from benchmark.units import PLANTED
from benchmark.workflow import observe_study
from stimuli.bundled import PHOTOGRAPHS, BundledPool
from stimuli.image_store import store_picture
from stimuli.pictures import canonical_crop, to_pixels
from stimuli.planted import DETECTORS, paint
from stimuli.planted import scores as planted_scores
from tests.hand_made import REFERENCES, exemplar_stimuli, make_stimuli

MODEL = "efficientnet_lite0"
FEATURES_OBSERVER = "features:efficientnet_lite1"
MACHINES = ["random", "oracle", "label", "lowlevel", FEATURES_OBSERVER]
SIMILARITY = ["lowlevel", FEATURES_OBSERVER]
LAYERS = ("blocks.3.2.conv_pwl", "blocks.5.2.conv_pwl")
ENOUGH = 8_000
"""Trials after which a share of .50 has a standard error of .0056: .02 are more than three of them."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Real photographs, real units of a real network and the planted units, put together by plain sorting."""
    made = Study.create(
        tmp_path_factory.mktemp("observed") / "study",
        Experiment.model_validate({"seed": 5, "models": [{"card": MODEL}]}),
    )
    photographs = BundledPool()
    entries = [(80 * n + 4 * crop, name) for n, name in enumerate(sorted(PHOTOGRAPHS)[::2]) for crop in range(6)]
    crops = [canonical_crop(photographs.original(place), 112) for place, _ in entries]
    pool = pd.DataFrame(
        {"picture": [store_picture(made, to_pixels(crop)) for crop in crops], "label": [group for _, group in entries]}
    )
    model = load_model(load_card(MODEL))
    seen: dict[str, list[torch.Tensor]] = {layer: [] for layer in LAYERS}
    for layer in LAYERS:
        model.module.get_submodule(layer).register_forward_hook(
            lambda _, inputs, output, layer=layer: seen[layer].append(output.mean((2, 3)))
        )
    batch = torch.from_numpy(np.stack([resized(to_pixels(crop), model.card.input) for crop in crops]))
    with torch.inference_mode():
        for part in batch.split(25):
            model.module(model.prepare(part))
    rows = []
    for layer in LAYERS:
        activations = torch.cat(seen[layer]).numpy()
        for index in range(15):
            rows += exemplar_stimuli(MODEL, layer, index, activations[:, index], pool, 3, "references")
    planted = np.stack([planted_scores(crop) for crop in crops])
    for number, detector in enumerate(DETECTORS):
        rows += exemplar_stimuli(PLANTED, detector.layer, detector.index, planted[:, number], pool, 3, "queries")
    schemas.STIMULI.write(pd.DataFrame(rows), made.stimuli_path)
    made.finish_stage("units", "by hand", {})
    made.finish_stage("exemplars", "by hand", {"stimuli": "by hand"})
    blank = pool.assign(source="", group="", width=1, height=1, perceptual_hash=0)
    schemas.POOL.write(blank, made.root / "pool.parquet")
    made.update_manifest(models={MODEL: facts_of(model.card, model.weights_hash)})
    return made


def facts_of(card: ModelCard, weights_hash: str) -> dict[str, object]:
    return {"card": card.model_dump(mode="json"), "weights_hash": weights_hash, "parameters": 1, "twin": card.twin}


@pytest.fixture(scope="module")
def observers(study: Study) -> dict[str, Observer]:
    return {name: create_observer(name, study) for name in MACHINES}


@pytest.fixture(scope="module")
def answers(study: Study, observers: dict[str, Observer]) -> dict[str, pd.DataFrame]:
    """Everybody's answers to every task of the study."""
    return {name: observe(study, observer) for name, observer in observers.items()}


@pytest.fixture(scope="module")
def many_tasks(study: Study) -> pd.DataFrame:
    """Many tasks about the study's own pictures, whose queries and references are picked at random."""
    stimuli = study.stimuli()
    tasks = assemble_tasks(stimuli)
    pictures = np.array(stimuli["picture"].unique().tolist())
    generator = np.random.default_rng(0)
    many = tasks.iloc[generator.integers(0, len(tasks), ENOUGH)].reset_index(drop=True)
    picked = np.array([generator.permutation(len(pictures))[: 2 * REFERENCES + 2] for _ in range(ENOUGH)])
    names = pictures[picked]
    return many.assign(
        task=range(ENOUGH),
        query_max=names[:, 0],
        query_min=names[:, 1],
        references_max=names[:, 2 : 2 + REFERENCES].tolist(),
        references_min=names[:, 2 + REFERENCES :].tolist(),
    )


def labels_of(study: Study) -> dict[str, str]:
    stimuli = study.stimuli()
    return dict(zip(stimuli["picture"], stimuli["label"]))


def share_correct(upper: NDArray[np.float64], top: NDArray[np.bool_]) -> float:
    """Return the proportion correct, a fair coin deciding what the observer leaves open."""
    right = np.where(top, upper, 1 - upper)
    return float(((right > 0.5) + 0.5 * (right == 0.5)).mean())


# ------------------------------------------------------------------------------------------------ chance and truth


@pytest.mark.parametrize("name", MACHINES)
def test_every_observer_is_at_chance_on_shuffled_references(
    name: str, study: Study, observers: dict[str, Observer], many_tasks: pd.DataFrame
) -> None:
    trials, top = present(many_tasks, seed=1, labels=labels_of(study))
    upper = observers[name].answer(trials.shuffle_references(1))
    assert abs(share_correct(upper, top) - 0.5) < 0.02
    assert abs(np.where(top, upper, 1 - upper).mean() - 0.5) < 0.02


@pytest.mark.parametrize("name", MACHINES)
def test_real_tasks_with_shuffled_references_leave_every_observer_at_chance(
    name: str, study: Study, observers: dict[str, Observer]
) -> None:
    tasks = assemble_tasks(study.stimuli())
    trials, top = present(tasks, seed=1, labels=labels_of(study))
    rows = np.tile(np.arange(len(tasks)), ENOUGH // len(tasks))
    upper = observers[name].answer(trials.part(rows).shuffle_references(2))
    assert abs(share_correct(upper, top[rows]) - 0.5) < 0.02


def test_shuffling_deals_the_same_references_to_the_two_sides_with_their_activations(study: Study) -> None:
    trials, _ = present(assemble_tasks(study.stimuli()))
    dealt = trials.shuffle_references(3)
    both, dealt_both = (np.concatenate([t.references_max, t.references_min], axis=1) for t in (trials, dealt))
    active, dealt_active = (np.concatenate([t.activations_max, t.activations_min], axis=1) for t in (trials, dealt))
    pairs, dealt_pairs = (
        [sorted(zip(*rows)) for rows in zip(a.tolist(), b.tolist())]
        for a, b in ((both, active), (dealt_both, dealt_active))
    )
    assert pairs == dealt_pairs
    assert np.array_equal(trials.queries, dealt.queries)
    moved = [set(a) != set(b) for a, b in zip(trials.references_max.tolist(), dealt.references_max.tolist())]
    # Of the 20 ways to deal six references to a side of three, one leaves the sides as they were.
    assert abs(np.mean(moved) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / len(moved))


def test_the_oracle_is_always_right_on_natural_trials(answers: dict[str, pd.DataFrame]) -> None:
    assert answers["oracle"]["correct"].all()
    assert set(answers["oracle"]["probability"]) == {1.0}


def test_the_oracle_is_right_in_a_built_study_but_for_units_whose_queries_are_equal(tiny_study: Study) -> None:
    answers = observe(tiny_study, OracleObserver())
    natural = answers[(answers["condition"] == "natural") & (answers["model"] != PLANTED)]
    assert len(natural) == 3 * 8 * 3
    assert natural["correct"].all()


@pytest.mark.parametrize("references", ["max", "min"])
def test_the_oracle_is_right_with_one_side_of_references(study: Study, references: str) -> None:
    tasks = assemble_tasks(study.stimuli())
    trials, top = present(tasks[tasks["model"] == MODEL], references=references)
    assert share_correct(OracleObserver().answer(trials), top) == 1.0


@pytest.mark.parametrize("references", ["max", "min"])
def test_the_oracle_guesses_where_the_one_side_shown_is_dealt_at_random(study: Study, references: str) -> None:
    trials, top = present(assemble_tasks(study.stimuli()), references=references)
    rows = np.tile(np.arange(len(top)), ENOUGH // len(top))
    upper = OracleObserver().answer(trials.part(rows).shuffle_references(2))
    assert np.isin(upper, (0.0, 0.5, 1.0)).all()
    assert abs(share_correct(upper, top[rows]) - 0.5) < 0.02


def test_the_random_observer_is_at_chance_because_a_coin_decides(study: Study, observers: dict[str, Observer]) -> None:
    stimuli = pd.concat([make_stimuli(f"model{n}", units=40, tasks=4) for n in range(4)])
    answers = observe(study, observers["random"], stimuli=schemas.STIMULI.conform(stimuli))
    assert set(answers["probability"]) == {0.5}
    assert abs(answers["correct"].mean() - 0.5) < 4 * math.sqrt(0.25 / len(answers))


# ------------------------------------------------------------------------------------------------ what each one knows


def labelled_trial(queries: tuple[str, str], side_max: tuple[str, ...], side_min: tuple[str, ...]) -> Presentation:
    """Return a trial with one picture for each label given."""
    labels = (*queries, *side_max, *side_min)
    places = np.arange(len(labels), dtype=np.int64)
    k = len(side_max)
    return Presentation(
        tuple(f"picture{place}" for place in places),
        places[None, :2],
        places[None, 2 : 2 + k],
        places[None, 2 + k :],
        np.array([[-7.0, 7.0]]),
        np.full((1, k), np.nan),
        np.full((1, len(side_min)), np.nan),
        labels,
    )


@pytest.mark.parametrize(
    ("queries", "side_max", "side_min", "answer"),
    [
        (("cat", "dog"), ("cat", "cat"), ("dog", "dog"), 1.0),
        (("dog", "cat"), ("cat", "cat"), ("dog", "dog"), 0.0),
        (("cat", "dog"), ("cat", "bird"), ("fish", "fish"), 1.0),
        (("cat", "dog"), ("bird", "fish"), ("cat", "fish"), 0.0),
        (("cat", "cat"), ("cat", "cat"), ("dog", "dog"), 0.5),
        (("cat", "dog"), ("bird", "fish"), ("fish", "bird"), 0.5),
        (("", ""), ("", ""), ("dog", "dog"), 0.5),
        (("", "dog"), ("", ""), ("bird", ""), 0.5),
    ],
)
def test_the_label_observer_chooses_the_query_whose_class_is_commoner_on_the_maximal_side(
    queries: tuple[str, str], side_max: tuple[str, ...], side_min: tuple[str, ...], answer: float
) -> None:
    assert LabelObserver().answer(labelled_trial(queries, side_max, side_min)).tolist() == [answer]


def test_the_label_observer_knows_labels_and_nothing_else(study: Study) -> None:
    tasks = assemble_tasks(study.stimuli())
    trials, _ = present(tasks, labels=labels_of(study))
    blind = replace(
        trials,
        pictures=tuple(f"{n}" for n in range(len(trials.pictures))),
        query_activations=-trials.query_activations,
        activations_max=trials.activations_min,
        activations_min=trials.activations_max,
    )
    assert np.array_equal(LabelObserver().answer(trials), LabelObserver().answer(blind))
    unlabelled = replace(trials, labels=("",) * len(trials.pictures))
    assert set(LabelObserver().answer(unlabelled)) == {0.5}
    assert set(LabelObserver().answer(replace(trials, labels=()))) == {0.5}


def test_only_the_oracle_reads_activations(study: Study, observers: dict[str, Observer]) -> None:
    trials, _ = present(assemble_tasks(study.stimuli()), labels=labels_of(study))
    blind = replace(
        trials,
        query_activations=np.full_like(trials.query_activations, np.nan),
        activations_max=np.full_like(trials.activations_max, np.nan),
        activations_min=np.full_like(trials.activations_min, np.nan),
    )
    for name in MACHINES:
        if name != "oracle":
            assert np.array_equal(observers[name].answer(trials), observers[name].answer(blind))


def planted_share(answers: pd.DataFrame, *layers: str) -> float:
    return float(answers[(answers["model"] == PLANTED) & answers["layer"].isin(layers)]["correct"].mean())


def test_the_low_level_observer_solves_planted_units_of_colour_and_texture(
    study: Study, observers: dict[str, Observer]
) -> None:
    rows = []
    for number, detector in enumerate(DETECTORS):
        painted = [paint(detector, sign, n, 64, 1) for sign in (1, -1) for n in range(8)]
        pool = pd.DataFrame({"picture": [store_picture(study, pixels) for pixels in painted], "label": None})
        activations = np.array([planted_scores(Image.fromarray(pixels))[number] for pixels in painted])
        rows += exemplar_stimuli("painted", detector.layer, detector.index, activations, pool, 2, "references")
    answers = observe(study, observers["lowlevel"], stimuli=schemas.STIMULI.conform(pd.DataFrame(rows)))
    shares = answers.groupby(["layer", "index"])["correct"].mean()
    assert shares[["colour", "texture"]].to_list() == [1.0] * 5


def test_among_photographs_the_low_level_observer_solves_most_planted_tasks(answers: dict[str, pd.DataFrame]) -> None:
    assert planted_share(answers["lowlevel"], "colour", "texture") > 0.75


def test_the_low_level_observer_reduces_a_picture_to_its_dozen_numbers(study: Study) -> None:
    assert len(FEATURES) == len(set(FEATURES)) == 12
    pictures = tuple(study.stimuli()["picture"].unique()[:20])
    embedded = create_observer("lowlevel", study).embed(pictures)  # type: ignore[attr-defined]
    assert embedded.shape == (20, 12)
    assert np.allclose(embedded.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(embedded.std(axis=0), 1, atol=1e-4)


def test_the_dozen_numbers_are_what_they_are_called() -> None:
    y, x = np.mgrid[0:128, 0:128] / 128

    def numbers(grey: NDArray[np.float64], tint: tuple[float, float, float] = (1, 1, 1)) -> dict[str, float]:
        picture = np.rint(np.clip(grey[..., None] * tint, 0, 1) * 255).astype(np.uint8)
        return dict(zip(FEATURES, describe(picture)))

    red = numbers(np.full((128, 128), 0.5), (1.0, 0.2, 0.4))
    assert [red[f"mean {name}"] for name in ("red", "green", "blue")] == pytest.approx([0.5, 0.1, 0.2], abs=0.003)
    assert [red[f"contrast of {name}"] for name in ("red", "green", "blue")] == pytest.approx([0, 0, 0], abs=1e-6)
    across, down = (numbers(0.5 + 0.4 * np.sin(2 * math.pi * 12 * axis)) for axis in (x, y))
    assert across["share of horizontal frequencies"] > 0.95 > 0.05 > down["share of horizontal frequencies"]
    assert numbers(0.5 + 0.4 * np.sin(2 * math.pi * 9 * (x + y)))["share of diagonal frequencies"] > 0.95
    bands = ("energy, coarse", "energy, medium", "energy, fine", "energy, finest")
    for cycles, band in ((2, bands[0]), (5, bands[1]), (12, bands[2]), (24, bands[3])):
        found = numbers(0.5 + 0.4 * np.sin(2 * math.pi * cycles * x))
        assert max(bands, key=lambda name: found[name]) == band


def test_the_low_level_observer_is_blind_to_what_its_numbers_leave_out(study: Study) -> None:
    picture = study.image(study.stimuli()["picture"][0])[:64, :64]
    # Upside down, a picture keeps its colours and its spectrum.
    assert describe(picture[::-1, ::-1]) == pytest.approx(describe(picture), abs=1e-6)


def test_the_features_observer_solves_planted_units_of_colour_and_texture(answers: dict[str, pd.DataFrame]) -> None:
    assert planted_share(answers[FEATURES_OBSERVER], "colour", "texture") >= 0.7


def test_the_features_observer_understands_real_units_of_another_network(answers: dict[str, pd.DataFrame]) -> None:
    own = {name: table[table["model"] == MODEL] for name, table in answers.items()}
    assert len(own[FEATURES_OBSERVER]) == 90
    assert own[FEATURES_OBSERVER]["correct"].mean() > 0.7
    assert own[FEATURES_OBSERVER]["probability"].mean() > 0.5


# ------------------------------------------------------------------------------------------------ the score


class Given(SimilarityObserver):
    """Compares pictures by rows that a test gives."""

    def __init__(self, vectors: NDArray[np.floating], temperature: float | None = None) -> None:
        self.name = "given"
        self.vectors = np.asarray(vectors, dtype=np.float32)
        if temperature is not None:
            self.temperature = temperature

    def embed(self, pictures: tuple[str, ...]) -> NDArray[np.float32]:
        return self.vectors


def made_presentation(vectors: int, trials: int, k: int, generator: np.random.Generator) -> Presentation:
    def active(columns: int) -> NDArray[np.float64]:
        return np.full((trials, columns), np.nan)

    return Presentation(
        tuple(str(n) for n in range(vectors)),
        generator.integers(0, vectors, (trials, 2)),
        generator.integers(0, vectors, (trials, k)),
        generator.integers(0, vectors, (trials, k)),
        active(2),
        active(k),
        active(k),
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([None, 0.05, 1.0]))
@settings(max_examples=25, deadline=None)
def test_the_machine_score_is_the_formula_with_its_temperature(seed: int, k: int, temperature: float | None) -> None:
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(12, 4)) * generator.uniform(0.1, 30, size=(12, 1))
    trials = made_presentation(12, 6, k, generator)
    found = Given(vectors, temperature).answer(trials)

    def cosine(a: int, b: int) -> float:
        return float(vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b]))

    for n in range(6):
        difference = [
            np.mean([cosine(query, e) for e in trials.references_max[n]])
            - np.mean([cosine(query, e) for e in trials.references_min[n]])
            for query in trials.queries[n]
        ]
        expected = 1 / (1 + math.exp(-(difference[0] - difference[1]) / (temperature or 0.16)))
        assert found[n] == pytest.approx(expected, abs=2e-5)


def machine_interpretability(embeddings: NDArray[np.float64], trials: Presentation, alpha: float | None) -> float:
    """Return the Machine Interpretability Score of a unit, as the authors' open code defines it.

    Of every task: mean cosine similarity of each query to each explanation; how much more each query is like the
    positive one; the difference of both. The score is the mean over tasks of sigmoid(alpha x difference); without an
    alpha, the share of tasks with a difference above 0. Source of the definition: klindtlab/MachInterp (MIT),
    ``calc_MIS``; written anew.
    """
    scaled = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    alike = scaled @ scaled.T
    (plus, minus), positive, negative = trials.queries.T, trials.references_max, trials.references_min
    delta = [
        alike[query[:, None], positive].mean(axis=1) - alike[query[:, None], negative].mean(axis=1)
        for query in (plus, minus)
    ]
    difference = delta[0] - delta[1]
    if alpha is None:
        return float((difference > 0).mean())
    return float((1 / (1 + np.exp(-alpha * difference))).mean())


@pytest.mark.parametrize("alpha", [0.16, 1.0, 1 / 0.16])
def test_equal_embeddings_give_the_scores_of_the_open_implementation(alpha: float) -> None:
    """20 tasks of 9 references in 1,792 dimensions, as published; its factor alpha is one over our temperature."""
    generator = np.random.default_rng(17)
    # Pictures of two groups, so that tasks have an answer.
    centre = generator.normal(size=(2, 1792))
    vectors = np.float32(np.repeat(centre, 60, axis=0) + 2 * generator.normal(size=(120, 1792))).astype(np.float64)
    for _ in range(5):
        top, bottom = (np.array([generator.permutation(60)[:10] for _ in range(20)]) + start for start in (0, 60))
        drawn = made_presentation(120, 20, 9, generator)
        trials = replace(
            drawn, queries=np.stack([top[:, 9], bottom[:, 9]], axis=1), references_max=top[:, :9],
            references_min=bottom[:, :9],
        )  # fmt: skip
        probability = Given(vectors, 1 / alpha).answer(trials)
        assert probability.mean() == pytest.approx(machine_interpretability(vectors, trials, alpha), abs=1e-6)
        assert (probability > 0.5).mean() == machine_interpretability(vectors, trials, None)


def test_the_score_of_one_trial_computed_by_hand() -> None:
    # The upper query is the maximal references' direction, the lower one that of the minimal ones.
    vectors = np.array([[2.0, 0.0], [0.0, 5.0], [1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    trials = Presentation(
        tuple("abcdef"), np.array([[0, 1]]), np.array([[2, 3]]), np.array([[4, 5]]),
        np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 2)),
    )  # fmt: skip
    upper = 1 - math.sqrt(0.5) / 2
    lower = 0 - (1 + math.sqrt(0.5)) / 2
    assert Given(vectors).answer(trials)[0] == pytest.approx(1 / (1 + math.exp(-(upper - lower) / 0.16)), abs=1e-6)


@cache
def many_vectors() -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)


def test_trials_that_are_compared_in_several_chunks_get_the_answers_that_they_get_alone() -> None:
    trials = made_presentation(50, 20_000, 2, np.random.default_rng(2))
    observer = Given(many_vectors())
    together = observer.answer(trials)
    for start in (0, 8190, 16_380, 19_990):
        rows = slice(start, start + 10)
        assert together[rows] == pytest.approx(observer.answer(trials.part(rows)), abs=1e-6)


def test_a_side_that_is_not_shown_contributes_nothing() -> None:
    trials = made_presentation(50, 40, 3, np.random.default_rng(3))
    vectors = many_vectors() / np.linalg.norm(many_vectors(), axis=1, keepdims=True)
    only = Given(many_vectors()).answer(replace(trials, references_min=np.full((40, 3), -1)))
    means = vectors[trials.references_max].mean(axis=1)
    evidence = ((vectors[trials.queries[:, 0]] - vectors[trials.queries[:, 1]]) * means).sum(axis=1)
    assert only == pytest.approx(1 / (1 + np.exp(-evidence / 0.16)), abs=1e-5)


@pytest.mark.parametrize("name", MACHINES)
def test_swapping_the_upper_and_the_lower_query_gives_one_minus_the_probability(
    name: str, study: Study, observers: dict[str, Observer]
) -> None:
    trials, _ = present(assemble_tasks(study.stimuli()), labels=labels_of(study))
    swapped = replace(
        trials, queries=trials.queries[:, ::-1].copy(), query_activations=trials.query_activations[:, ::-1].copy()
    )
    assert observers[name].answer(swapped) == pytest.approx(1 - observers[name].answer(trials), abs=1e-6)


@pytest.mark.parametrize("name", MACHINES)
def test_without_references_every_observer_has_no_idea_and_a_coin_decides(
    name: str, study: Study, observers: dict[str, Observer]
) -> None:
    answers = observe(study, observers[name], references=("none",))
    assert set(answers["probability"]) == {0.5}
    assert set(answers["references"]) == {"none"}
    assert abs(answers["correct"].mean() - 0.5) < 4 * math.sqrt(0.25 / len(answers))


def test_each_observer_has_a_coin_of_its_own(study: Study, observers: dict[str, Observer]) -> None:
    choices = [observe(study, observers[name], references=("none",))["choice"].tolist() for name in SIMILARITY]
    assert choices[0] != choices[1]


@pytest.mark.parametrize("name", MACHINES)
def test_choice_and_correctness_follow_from_the_probability(name: str, answers: dict[str, pd.DataFrame]) -> None:
    table = answers[name]
    assert ((table["choice"] == "max") == table["correct"]).all()
    decided = table[table["probability"] != 0.5]
    assert ((decided["probability"] > 0.5) == decided["correct"]).all()
    assert table["probability"].between(0, 1).all()


def test_an_answer_that_is_no_number_is_an_error_that_names_the_task(study: Study) -> None:
    class Overflowing(Observer):
        name = "overflowing"

        def answer(self, trials: Presentation) -> NDArray[np.float64]:
            upper = np.full(len(trials), 0.7)
            upper[3:] = np.nan
            return upper

    tasks = assemble_tasks(study.stimuli())
    with pytest.raises(ObserverError) as caught:
        observe(study, Overflowing())
    assert "overflowing" in str(caught.value)
    assert task_names(tasks)[3] in str(caught.value)
    assert f"{len(tasks) - 3} of {len(tasks)}" in str(caught.value)


# ------------------------------------------------------------------------------------------------ the table


@pytest.mark.parametrize("name", MACHINES)
def test_answers_fill_the_table_of_responses_with_each_distinct_task_once_in_canonical_order(
    name: str, study: Study, answers: dict[str, pd.DataFrame]
) -> None:
    table = answers[name]
    assert list(table.columns) == schemas.RESPONSES.names
    tasks = assemble_tasks(study.stimuli())
    pd.testing.assert_frame_equal(table[TASK_COLUMNS], tasks[TASK_COLUMNS])
    assert table["response_id"].is_unique
    assert table["trial"].tolist() == task_names(tasks)
    assert set(table["observer"]) == {name}
    assert set(table["observer_kind"]) == {"machine"}
    assert ((table["kind"] == "catch") == (table["model"] == PLANTED)).all()
    assert set(table["session_status"]) == {"complete"}
    for _, session in table.groupby("session"):
        assert session["trial_index"].tolist() == list(range(len(session)))
    assert set(table["protocol"]) == {study.protocol.identity}
    assert set(table["stimuli_hash"]) == {study.stimuli_hash}
    assert table["rt_ms"].isna().all() and table["confidence"].isna().all()
    own = table["model"] == MODEL
    assert set(table.loc[own, "weights_hash"]) == {study.manifest["models"][MODEL]["weights_hash"]}


def test_a_probability_in_the_table_is_that_of_the_maximal_query(study: Study) -> None:
    observer = create_observer("lowlevel", study)
    tasks = assemble_tasks(study.stimuli())
    trials, top = present(tasks, seed=study.experiment.seed)
    upper = observer.answer(trials)
    table = observe(study, observer)
    assert table["probability"].to_numpy() == pytest.approx(np.where(top, upper, 1 - upper))
    assert ((table["query_top"] == "max").to_numpy() == top).all()


def test_several_kinds_of_references_are_several_sets_of_answers(study: Study) -> None:
    table = observe(study, create_observer("lowlevel", study), references=("both", "max", "none", "both"))
    count = len(assemble_tasks(study.stimuli()))
    assert table["references"].value_counts().to_dict() == {"both": count, "max": count, "none": count}
    assert table["response_id"].is_unique


def test_answers_on_shuffled_references_are_called_so(study: Study) -> None:
    table = observe(study, create_observer("oracle", study), shuffle_references=True)
    assert set(table["observer"]) == {"oracle:shuffled"}
    assert 0.2 < table["correct"].mean() < 0.8


@pytest.mark.parametrize("name", MACHINES)
def test_the_same_observer_gives_the_same_answers_again(
    name: str, study: Study, answers: dict[str, pd.DataFrame]
) -> None:
    again = observe(study, create_observer(name, study))
    pd.testing.assert_frame_equal(
        again.drop(columns="answered_at"), answers[name].drop(columns="answered_at"), check_exact=True
    )


# ------------------------------------------------------------------------------------------------ kinship


class Relative(Observer):
    """Answers nothing; only what it is made of matters."""

    name = "relative"

    def __init__(self, kinship: Kinship = Kinship(), weights_hash: str = "") -> None:  # noqa: B008
        self.kinship, self.weights_hash = kinship, weights_hash

    def answer(self, trials: Presentation) -> NDArray[np.float64]:
        return np.full(len(trials), 0.5)


@pytest.fixture(scope="module")
def own_observer(study: Study) -> Observer:
    """The observer made of the very network whose units the study is about."""
    return create_observer(f"features:{MODEL}", study)


def test_a_feature_observer_never_observes_its_own_network(study: Study, own_observer: Observer) -> None:
    with pytest.raises(ObserverError, match=r"features:efficientnet_lite0 is the only model.*a model can't observe"):
        observe(study, own_observer)


def test_no_network_observes_itself_under_another_name(study: Study, own_observer: Observer) -> None:
    stimuli = study.stimuli()
    copied, stranger = (
        stimuli[stimuli["model"] == MODEL].assign(model=name) for name in ("lite0_renamed", "a_stranger")
    )
    together = schemas.concatenate([stimuli, copied, stranger], schemas.STIMULI)
    observer = Relative(weights_hash=own_observer.weights_hash)
    known = study.manifest["models"]
    card = load_card(MODEL)
    study.update_manifest(
        models={
            **known,
            "lite0_renamed": facts_of(card.model_copy(update={"name": "lite0_renamed"}), observer.weights_hash),
            "a_stranger": facts_of(card.model_copy(update={"name": "a_stranger"}), "other weights"),
        }
    )
    try:
        answers = observe(study, observer, stimuli=together)
    finally:
        study.update_manifest(models=known)
    assert set(answers["model"]) == {"a_stranger", PLANTED}


def test_an_observer_without_a_network_observes_every_model(study: Study) -> None:
    assert set(observe(study, create_observer("lowlevel", study))["model"]) == {MODEL, PLANTED}


def test_a_real_relative_is_marked_and_an_observer_without_training_is_not(answers: dict[str, pd.DataFrame]) -> None:
    table = answers[FEATURES_OBSERVER]
    assert table.groupby("model")["related"].unique().map(list).to_dict() == {MODEL: [True], PLANTED: [False]}
    assert not answers["lowlevel"]["related"].any()


@pytest.mark.parametrize(
    ("kinship", "relatives"),
    [
        (Kinship(), set()),
        (Kinship(families=frozenset({"resnet"})), {"trained", "twin"}),
        (Kinship(families=frozenset({"vision_transformer"})), {"vit"}),
        (Kinship(data=frozenset({"stripes"})), {"trained"}),
        (Kinship(frozenset({"vision_transformer"}), frozenset({"stripes", "other"})), {"trained", "vit"}),
        (Kinship(frozenset({"convnext"}), frozenset({"imagenet-1k"})), set()),
    ],
)
def test_relatives_share_a_family_or_training_data(tiny_study: Study, kinship: Kinship, relatives: set[str]) -> None:
    trained, twin, vit = tiny_study.manifest["models"]
    table = observe(tiny_study, Relative(kinship))
    marked = set(table.loc[table["related"], "model"])
    assert marked == {{"trained": trained, "twin": twin, "vit": vit}[name] for name in relatives}
    assert set(table["model"]) == {trained, twin, vit, PLANTED}


class Thumbnail(torch.nn.Module):
    """Stands for DreamSim's network: it embeds with the first pixels, and counts how many pictures it saw."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.seen = 0
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return self.scale.detach() * pixels.reshape(1, -1)[:, :12]


def test_dreamsims_embeddings_are_cached_by_its_weights(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(perceptual, "find_spec", lambda _: SimpleNamespace())
    monkeypatch.setattr(perceptual, "version", lambda _: "0.2.1")

    def observer(scale: float) -> DreamSimObserver:
        package = ModuleType("dreamsim")
        read = lambda image: torch.from_numpy(np.asarray(image).copy()).float()  # noqa: E731
        package.dreamsim = lambda **settings: (Thumbnail(scale), read)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "dreamsim", package)
        return DreamSimObserver(study)

    pictures = tuple(study.stimuli()["picture"].unique()[:6])
    first = observer(1.0)
    vectors = first.embed((*pictures[:4], pictures[0]))
    assert first.model.seen == 4 and np.array_equal(vectors[0], vectors[4])
    second = observer(1.0)
    assert np.array_equal(second.embed(pictures)[:4], vectors[:4]) and second.model.seen == 2
    assert np.array_equal(observer(2.0).embed(pictures)[:4], 2 * vectors[:4]), "other weights, other embeddings"
    monkeypatch.setenv(VARIABLE, "off")
    alone = observer(1.0)
    alone.embed(pictures)
    assert alone.model.seen == 6


def test_an_observer_with_a_models_weights_leaves_that_model_out_and_observes_its_twin(tiny_study: Study) -> None:
    trained, twin, vit = tiny_study.manifest["models"]
    weights_hash = tiny_study.manifest["models"][trained]["weights_hash"]
    assert set(observe(tiny_study, Relative(weights_hash=weights_hash))["model"]) == {twin, vit, PLANTED}


def test_dreamsim_is_a_relative_of_clip_and_dino_and_of_imagenet_models() -> None:
    relatives = {
        name: DreamSimObserver.kinship.related_to(load_card(name))
        for name in ("clip_resnet50", "clip_vit_b32", "vit_b32", "resnet50", "efficientnet_lite0")
    }
    assert all(relatives.values()), relatives
    assert not DreamSimObserver.kinship.related_to(load_card("resnet50").as_twin())


# ------------------------------------------------------------------------------------------------ names and extras


@pytest.mark.parametrize(
    ("name", "near"), [("featurs:efficientnet_lite0", "features"), ("low-level", "lowlevel"), ("oracel", "oracle")]
)
def test_an_unknown_observer_suggests_the_near_name(study: Study, name: str, near: str) -> None:
    with pytest.raises(NameNotFound, match=f"no observer {name.partition(':')[0]!r}.*Did you mean {near!r}"):
        create_observer(name, study)


def test_an_unknown_card_layer_and_kind_of_references_suggest_the_near_name(study: Study) -> None:
    with pytest.raises(NameNotFound, match=r"Did you mean.*efficientnet_lite0"):
        create_observer("features:eficientnet_lite0", study)
    with pytest.raises(NameNotFound, match=r"eligible layer.*Did you mean.*blocks\.3\.2\.conv_pwl"):
        create_observer("features:efficientnet_lite0@blocks.3.2.conv_pwll", study)
    with pytest.raises(NameNotFound, match=r"kind of references 'bothe'.*Did you mean 'both'"):
        observe_study(study, "random", references=("bothe",))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["random", "oracle", "label", "lowlevel", "lpips", "dreamsim"])
def test_an_observer_without_variants_takes_nothing_behind_a_colon(study: Study, name: str) -> None:
    with pytest.raises(ObserverError, match=f"{name}.*no argument after a colon.*'efficientnet_lite0'"):
        create_observer(f"{name}:efficientnet_lite0", study)


def test_the_features_observer_needs_a_model(study: Study) -> None:
    with pytest.raises(ObserverError, match="features:CARD"):
        create_observer("features", study)


def test_the_label_observer_needs_a_pool_with_labels(study: Study) -> None:
    path = study.root / "pool.parquet"
    labelled = schemas.POOL.read(path)
    schemas.POOL.write(labelled.assign(label=None), path)
    try:
        with pytest.raises(ObserverError, match=r"needs a pool with class labels, such as imagenet:PATH"):
            create_observer("label", study)
    finally:
        schemas.POOL.write(labelled, path)


def test_all_observers_of_the_issue_are_registered() -> None:
    assert set(OBSERVERS) == {"random", "oracle", "label", "lowlevel", "features", "lpips", "dreamsim"}


@pytest.mark.parametrize("name", ["lpips", "dreamsim"])
def test_an_extra_that_is_not_installed_says_how_to_install_it(
    name: str, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perceptual, "find_spec", lambda package: None)
    with pytest.raises(ObserverError) as caught:
        create_observer(name, study)
    assert f"'{name}' needs a package that is not installed" in str(caught.value)
    assert f"uv pip install {name}" in str(caught.value)


@pytest.mark.parametrize(("name", "missing"), [("lpips", "AlexNet"), ("dreamsim", "DINO, CLIP and OpenCLIP")])
def test_an_extra_without_its_weights_says_which_and_where_they_belong(
    name: str, missing: str, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*args: object, **settings: object) -> None:
        raise OSError("<urlopen error: no network>\nand more lines")

    package = ModuleType(name)
    setattr(package, "LPIPS" if name == "lpips" else "dreamsim", unreachable)
    monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setattr(perceptual, "find_spec", lambda _: SimpleNamespace())
    with pytest.raises(ObserverError) as caught:
        create_observer(name, study)
    message = str(caught.value)
    assert missing in message
    assert "no network" in message and "and more lines" not in message
    assert "on a machine with internet access" in message
    assert Path(torch.hub.get_dir()).parent.name in message


class Distance(torch.nn.Module):
    """Stands for LPIPS's network: the mean absolute difference, and how many pairs it was asked about."""

    def __init__(self, **settings: object) -> None:
        super().__init__()
        self.pairs = 0

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        self.pairs += len(first)
        assert first.shape[1:] == (3, 64, 64) and first.min() >= -1 and first.max() <= 1
        return (first - second).abs().mean((1, 2, 3), keepdim=True)


def test_the_lpips_observer_chooses_the_query_nearer_to_the_maximal_side_and_computes_each_pair_once(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = ModuleType("lpips")
    package.LPIPS = Distance  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lpips", package)
    monkeypatch.setattr(perceptual, "find_spec", lambda _: SimpleNamespace())
    observer = create_observer("lpips", study)
    tasks = assemble_tasks(study.stimuli())
    tasks = tasks[tasks["layer"] == "colour"]
    trials, _ = present(tasks)
    found = observer.answer(trials)
    pixels = [observer._batch(trials.pictures, np.array([n])) for n in range(len(trials.pictures))]  # type: ignore[attr-defined]

    def distance(a: int, b: int) -> float:
        return float((pixels[a] - pixels[b]).abs().mean())

    pairs = set()
    for n in range(len(trials)):
        away = [
            np.mean([distance(q, e) for e in trials.references_max[n]])
            - np.mean([distance(q, e) for e in trials.references_min[n]])
            for q in trials.queries[n]
        ]
        assert found[n] == pytest.approx(1 / (1 + math.exp((away[0] - away[1]) / observer.temperature)), abs=1e-5)  # type: ignore[attr-defined]
        for side in ("max", "min"):
            references = getattr(trials, f"references_{side}")[n].tolist()
            pairs |= {(side, column, int(trials.queries[n][column]), e) for column in (0, 1) for e in references}
    assert observer.metric.pairs == len(pairs)  # type: ignore[attr-defined]
    hidden, _ = present(tasks, references="none")
    assert set(observer.answer(hidden)) == {0.5}


# ------------------------------------------------------------------------------------------------ embeddings


def test_pictures_are_embedded_once_and_then_read_from_the_study(
    study: Study, observers: dict[str, Observer], answers: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    observer = observers[FEATURES_OBSERVER]
    pictures = tuple(study.stimuli()["picture"].unique())
    before = observer.embed(pictures)  # type: ignore[attr-defined]

    def forbidden(*args: object) -> None:
        raise AssertionError("a picture is embedded again")

    monkeypatch.setattr("benchmark.observers.embedding.embed_batch", forbidden)
    again = create_observer(FEATURES_OBSERVER, study).embed(pictures[::-1])  # type: ignore[attr-defined]
    assert np.array_equal(again[::-1], before)


@pytest.fixture(scope="module")
def convnext() -> Model:
    return load_model(load_card("timm:test_convnext"), weights="random", seed=1)


@pytest.fixture
def empty_study(study: Study, tmp_path: Path) -> Callable[[str], Study]:
    """Makes studies with the same pictures, of which nothing is embedded yet."""

    def make(name: str) -> Study:
        root = tmp_path / name
        root.mkdir()
        (root / "images").symlink_to(study.root / "images", target_is_directory=True)
        return Study(root)

    return make


def test_an_embedding_does_not_depend_on_who_shares_its_batch(
    study: Study, empty_study: Callable[[str], Study], convnext: Model
) -> None:
    pictures = tuple(study.stimuli()["picture"].unique()[:20])
    rows = embed_study_pictures(empty_study("together"), convnext, pictures)
    alone = embed_study_pictures(empty_study("alone"), convnext, pictures[7:8])
    assert np.array_equal(alone[0], rows[7])


def test_embeddings_of_one_network_with_another_input_are_kept_apart(
    study: Study, empty_study: Callable[[str], Study], convnext: Model
) -> None:
    other = empty_study("study")
    pictures = tuple(study.stimuli()["picture"].unique()[:3])
    usual = embed_study_pictures(other, convnext, pictures)
    card = convnext.card.model_copy(update={"input": convnext.card.input.model_copy(update={"size": 96})})
    assert not np.allclose(embed_study_pictures(other, replace(convnext, card=card), pictures), usual)


def test_early_layers_can_be_asked_for_and_are_other_features(study: Study) -> None:
    pictures = tuple(study.stimuli()["picture"].unique()[:5])
    early = create_observer(f"features:{MODEL}@blocks.0.0.conv_pw+blocks.1.0.conv_pw", study)
    rows = early.embed(pictures)  # type: ignore[attr-defined]
    widths = [early.model.layer_map[layer].width for layer in early.layers]  # type: ignore[attr-defined]
    assert rows.shape == (5, sum(widths))
    # Each layer counts alike: its part has unit length.
    assert np.linalg.norm(rows[:, : widths[0]], axis=1) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(rows[:, widths[0] :], axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["resnet", "vit", "convnext"])
def test_the_default_features_are_what_the_classifier_gets_to_see(
    study: Study, empty_study: Callable[[str], Study], name: str, request: pytest.FixtureRequest
) -> None:
    model: Model = request.getfixturevalue(name)
    picture = str(study.stimuli()["picture"][0])
    seen: list[torch.Tensor] = []
    handle = model.module.get_classifier().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pixels = torch.from_numpy(resized(study.image(picture), model.card.input))[None]
    with torch.inference_mode():
        model.module(model.prepare(pixels))
    handle.remove()
    expected = torch.nn.functional.normalize(seen[0].flatten(1), dim=1)[0].numpy()
    assert embed_study_pictures(empty_study("study"), model, (picture,))[0] == pytest.approx(expected, abs=1e-5)
