from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stimuli.pool_sizes as pool_sizes
from analysis import score_pool_sizes
from analysis.figures import plot_pool_sizes
from analysis.machines import pool_size_changes
from benchmark.errors import AnalysisError, ObserverError, PoolTooSmall, StudyError, StudyMismatch
from benchmark.hashing import hash_pixels, picture_keys
from benchmark.observers import OBSERVERS
from benchmark.plumbing import PLUMBING
from benchmark.pool_sizes import PoolSize, fitting_difficulties, halved_sizes, made_sizes
from benchmark.protocol import Protocol, load_protocol
from benchmark.randomness import tie_keys
from benchmark.responses import machine_responses, observe
from benchmark.storage import write_json
from benchmark.study import Study
from benchmark.units import UNIT_COLUMNS, Unit
from benchmark.workflow import observe_pool_sizes, stored_pool_sizes
from stimuli.order_statistics import content_ties, place_ties
from stimuli.pool_sizes import Ranking, make_pool_sizes, part_of_pool

OBSERVED = ["lowlevel", "oracle"]


def copy_of(study: Study, folder: Path) -> Study:
    return Study(shutil.copytree(study.root, folder / "copy"))


@pytest.fixture(scope="module")
def made(tiny_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A copy of the tiny study with its smaller pools, which tests only read."""
    study = copy_of(tiny_study, tmp_path_factory.mktemp("pool sizes"))
    make_pool_sizes(study)
    return study


def files_below(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


# ---------------------------------------------------------------- parts of a pool


def test_smaller_pools_lie_within_larger_ones_and_no_order_of_the_folder_matters() -> None:
    generator = np.random.default_rng(0)
    pictures = [hash_pixels(generator.integers(0, 255, (2, 2, 3), dtype=np.uint8)) for _ in range(200)]
    parts = {size: {pictures[place] for place in part_of_pool(pictures, size, 5)} for size in (200, 100, 37, 1)}
    assert [len(part) for part in parts.values()] == list(parts)
    assert parts[1] < parts[37] < parts[100] < parts[200]
    shuffled = [pictures[place] for place in generator.permutation(200)]
    assert {shuffled[place] for place in part_of_pool(shuffled, 37, 5)} == parts[37]
    assert (np.diff(part_of_pool(shuffled, 37, 5)) > 0).all()
    assert {pictures[place] for place in part_of_pool(pictures, 37, 6)} != parts[37]


def test_sizes_are_halved_as_long_as_the_windows_fit(made: Study) -> None:
    smallest = made.protocol.smallest_pool()
    assert halved_sizes(made) == [60, 30]
    assert 30 >= smallest > 15
    assert [view.size for view in make_pool_sizes(made)] == [60, 30]


def test_of_several_difficulties_those_stay_that_fit() -> None:
    protocol = load_protocol("vimi1")
    every = ("easy", "medium", "hard", "very_hard")
    smallest = protocol.smallest_pool(every)
    assert fitting_difficulties(protocol, smallest, every) == every
    assert fitting_difficulties(protocol, smallest - 1, every) == ("easy", "hard", "very_hard")
    assert fitting_difficulties(protocol, 400, every) == ("easy",)
    assert fitting_difficulties(protocol, 399, every) == ()


# ---------------------------------------------------------------- exemplars


def make_ranking(ties: str, *, order: np.ndarray[Any, Any] | None = None) -> tuple[Ranking, pd.DataFrame]:
    """Return three units with many ties over a pool of 120 pictures in 60 groups, in some order."""
    generator = np.random.default_rng(3)
    pictures = [hash_pixels(generator.integers(0, 255, (2, 2, 3), dtype=np.uint8)) for _ in range(120)]
    columns = generator.integers(-9, 9, (3, 120)).astype(np.float32)
    columns[2] = generator.normal(size=120)
    pool = pd.DataFrame({"picture": pictures, "label": None, "group": [f"g{n // 2}" for n in range(120)]})
    order = np.arange(120) if order is None else order
    pool, columns = pool.iloc[order].reset_index(drop=True), np.ascontiguousarray(columns[:, order])
    units = tuple(Unit("m", "l", n) for n in range(3))
    keys = np.array([unit.key(9) for unit in units], dtype=np.uint64)
    kept = content_ties(keys, picture_keys(list(pool["picture"]))) if ties == "content" else place_ties
    return Ranking(units, columns, np.arange(3), kept), pool


def rules(ties: str, size: int) -> Protocol:
    changes = {"tasks": {"references_per_side": 3, "per_unit": 4, "ties": ties}}
    return load_protocol("vimi1").override(changes).for_pool(size)


def chosen_rows(ranking: Ranking, pool: pd.DataFrame, ties: str, size: int) -> pd.DataFrame:
    places = part_of_pool(list(pool["picture"]), size, 9)
    return pd.DataFrame([row for rows in ranking.rows(pool, places, rules(ties, size), ("easy",), 9) for row in rows])


@pytest.mark.parametrize("ties", ["content", "place"])
@pytest.mark.parametrize("size", [120, 61, 33])
def test_windows_are_those_of_the_ranking_of_the_smaller_pool(ties: str, size: int) -> None:
    ranking, pool = make_ranking(ties)
    rows = chosen_rows(ranking, pool, ties, size)
    inside = part_of_pool(list(pool["picture"]), size, 9).tolist()
    for unit, column in zip(ranking.units, ranking.columns):
        keys = tie_keys(unit.key(9), picture_keys(list(pool["picture"]))).tolist() if ties == "content" else range(120)
        ranking_now = sorted((float(column[place]), keys[place], place) for place in inside)
        ascending = [pool["picture"][place] for _, _, place in ranking_now]
        own = rows[rows["index"] == unit.index]
        for side, ranked in (("min", ascending), ("max", ascending[::-1])):
            part = own[own["side"] == side]
            references, queries = part[part["role"] == "reference"], part[part["role"] == "query"]
            assert set(references["picture"]) == set(ranked[:12])
            assert set(queries["picture"]) == set(ranked[12:16])
            assert [ranked[rank] for rank in part["rank"]] == list(part["picture"])
            # One stratum of four consecutive ranks for each position.
            assert (references["rank"] // 4 == references["position"]).all()
        assert (own["method"] == rules(ties, size).identity).all()


def test_groups_are_kept_apart_within_tasks_of_a_smaller_pool() -> None:
    ranking, pool = make_ranking("content")
    rows = chosen_rows(ranking, pool, "content", 90)
    twice = rows.duplicated(["index", "task", "group"], keep=False)
    ungrouped = chosen_rows(ranking, pool.assign(group=pool["picture"]), "content", 90)
    ungrouped["group"] = ungrouped["picture"].map(pool.set_index("picture")["group"])
    assert ungrouped.duplicated(["index", "task", "group"]).any()  # else the pool would not show anything
    assert not twice.any() and not rows["group_repeated"].any()


def test_the_order_of_the_folder_changes_nothing_in_a_smaller_pool() -> None:
    first = chosen_rows(*make_ranking("content"), "content", 50)
    order = np.random.default_rng(8).permutation(120)
    other = chosen_rows(*make_ranking("content", order=order), "content", 50)
    pd.testing.assert_frame_equal(first, other)


def test_over_the_whole_pool_the_stimuli_are_those_of_the_study(made: Study) -> None:
    own = made.stimuli()
    natural = own[(own["condition"] == "natural") & own["model"].isin(made.manifest["models"])].reset_index(drop=True)
    assert len(natural) and natural["model"].str.endswith("-twin").any()
    whole, half = PoolSize(made.root, 60), PoolSize(made.root, 30)
    pd.testing.assert_frame_equal(whole.stimuli(), natural)
    assert whole.protocol.identity == made.protocol.identity
    smaller = half.stimuli()
    assert set(smaller[UNIT_COLUMNS].itertuples(index=False, name=None)) == set(
        natural[UNIT_COLUMNS].itertuples(index=False, name=None)
    )
    inside = part_of_pool(list(made.pool()["picture"]), 30, made.experiment.seed)
    assert set(smaller["picture"]) <= set(made.pool()["picture"].iloc[inside])
    assert smaller["rank"].max() < 15
    assert set(smaller["method"]) == {half.protocol.identity} != {made.protocol.identity}
    facts = half.facts
    assert facts["protocol"] == half.protocol.identity and facts["difficulties"] == ["easy"]
    assert facts["share_of_pictures_repeating_a_group"] == round(float(smaller["group_repeated"].mean()), 6)
    assert (PLUMBING in facts["notes"]) == made.is_plumbing_check or smaller["group_repeated"].mean() > 0.01


# ---------------------------------------------------------------- resuming


def test_what_is_there_is_not_made_again_and_what_is_missing_or_broken_is(
    made: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = copy_of(made, tmp_path)
    before = files_below(study.root)
    with monkeypatch.context() as patch:
        patch.setattr(pool_sizes, "Materials", None)  # no model is loaded
        make_pool_sizes(study)
    assert files_below(study.root) == before
    half = PoolSize(study.root, 30)
    picture = study.image_path(half.stimuli()["picture"].iloc[0])
    pixels = picture.read_bytes()
    picture.unlink()
    (study.root / "pool_sizes" / "60" / ".manifest.json.abc.tmp").write_text("half")
    half.facts_path.write_text("{")
    make_pool_sizes(study)
    after = files_below(study.root)
    assert picture.read_bytes() == pixels
    assert {name: content for name, (_, content) in after.items()} == {n: content for n, (_, content) in before.items()}


def test_a_killed_call_keeps_the_sizes_that_it_finished(
    made: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = copy_of(made, tmp_path)
    shutil.rmtree(study.root / "pool_sizes")
    store = pool_sizes.exemplar_rows

    def killed(unit: Unit, chosen: Any, column: Any, pool: pd.DataFrame, method: str) -> Any:
        if len(pool) == 30:
            raise KeyboardInterrupt
        return store(unit, chosen, column, pool, method)

    with monkeypatch.context() as patch:
        patch.setattr(pool_sizes, "exemplar_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            make_pool_sizes(study)
    whole = PoolSize(study.root, 60)
    written = whole.stimuli_path.stat().st_mtime_ns
    assert PoolSize(study.root, 30).facts == {}
    with pytest.raises(StudyError, match="no stimuli yet"):
        _ = PoolSize(study.root, 30).stimuli_hash
    make_pool_sizes(study)
    assert whole.stimuli_path.stat().st_mtime_ns == written
    assert PoolSize(study.root, 30).stimuli_hash == PoolSize(made.root, 30).stimuli_hash


def test_what_does_not_fit_is_refused_in_words(made: Study, tmp_path: Path) -> None:
    for size in (61, 0):
        with pytest.raises(StudyError, match="60 pictures"):
            make_pool_sizes(made, [size])
    with pytest.raises(PoolTooSmall, match="smallest pool that works has 24"):
        make_pool_sizes(made, [60, 23])
    with pytest.raises(StudyError, match="at least one"):
        make_pool_sizes(made, [])
    with pytest.raises(ObserverError, match="at least one"):
        observe_pool_sizes(made, [])
    study = copy_of(made, tmp_path)
    header = study.activations(min(study.manifest["models"])) / "header.json"
    header.write_text(header.read_text().replace('"weights": "', '"weights": "0'))
    with pytest.raises(StudyMismatch, match="different weights"):
        make_pool_sizes(study, [40])


# ---------------------------------------------------------------- observing


def test_answers_over_smaller_pools_stay_among_themselves(
    made: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = copy_of(made, tmp_path)
    asked: list[str] = []
    for name in OBSERVED:
        factory = OBSERVERS[name]

        def counted(*arguments: Any, name: str = name, factory: Any = factory) -> Any:
            asked.append(name)
            return factory(*arguments)

        monkeypatch.setitem(OBSERVERS._items, name, counted)
    responses = observe_pool_sizes(study, OBSERVED)
    assert asked == OBSERVED  # each was made once
    assert not (study.root / "responses").exists()
    assert machine_responses(study).empty
    assert set(responses["kind"]) == {"main"} and set(responses["condition"]) == {"natural"}
    by_size = responses.groupby("pool_size")["protocol"].unique()
    assert {int(size): list(names) for size, names in by_size.items()} == {
        60: [study.protocol.identity],
        30: [PoolSize(study.root, 30).protocol.identity],
    }
    assert responses["response_id"].is_unique
    assert study.stimuli_hash not in set(responses["stimuli_hash"])
    # Over the whole pool, observers answer as they answer the study, whatever they standardise over.
    lowlevel = observe(study, OBSERVERS["lowlevel"](study, "", "cpu", None))
    natural = lowlevel[(lowlevel["condition"] == "natural") & (lowlevel["kind"] == "main")].reset_index(drop=True)
    whole = responses[(responses["pool_size"] == 60) & (responses["observer"] == "lowlevel")].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        natural[["trial", "correct", "probability"]], whole[["trial", "correct", "probability"]]
    )
    assert responses.loc[responses["observer"] == "oracle", "correct"].all()
    # What is stored is what was returned, and answering again replaces it.
    observe_pool_sizes(study, ["lowlevel"], [30])
    stored = stored_pool_sizes(study)
    order = ["pool_size", "observer", "trial"]
    pd.testing.assert_frame_equal(
        stored.sort_values(order, ignore_index=True).drop(columns="answered_at"),
        responses.sort_values(order, ignore_index=True).drop(columns="answered_at"),
    )
    # Of stimuli that are not those of the present study, answers do not count.
    facts = PoolSize(study.root, 30).facts
    write_json(PoolSize(study.root, 30).facts_path, {**facts, "inputs": "others"})
    assert [view.size for view in made_sizes(study)] == [60]
    assert set(stored_pool_sizes(study)["pool_size"]) == {60}
    empty = stored_pool_sizes(made)
    assert empty.empty and "pool_size" in empty
    curves = score_pool_sizes(responses, study.statistics())
    assert [(curve.model, curve.observer) for curve in curves] == [
        (model, "oracle") for model in sorted(study.asked_models)
    ]
    assert all(curve.sizes == (60, 30) for curve in curves)


# ---------------------------------------------------------------- estimates


def planted_responses(sizes: tuple[int, ...] = (800, 400, 200), units: int = 40, tasks: int = 100) -> pd.DataFrame:
    """Return answers whose units lose .08 a halving (with .06 between units), controls .03 and the twin nothing."""
    generator = np.random.default_rng(11)
    rows = []
    for unit in range(units):
        own = generator.normal(0, 0.06, size=len(sizes))
        for halving, size in enumerate(sizes):
            truth = {
                ("m", "seer"): 0.9 - 0.08 * halving + own[halving],
                ("m", "lowlevel"): 0.8 - 0.03 * halving + own[halving] / 2,
                ("m-twin", "seer"): 0.75 + generator.normal(0, 0.06),
            }
            for (model, observer), share in truth.items():
                right = round(tasks * min(max(share, 0), 1))
                rows += [
                    (model, observer, size, unit, task, task < right, 0.9 if task < right else 0.1)
                    for task in range(tasks)
                ]
    table = pd.DataFrame(rows, columns=["model", "observer", "pool_size", "index", "task", "correct", "probability"])
    return table.assign(
        observer_kind="machine", kind="main", layer="l", basis="neuron", aggregator="mean", condition="natural",
        difficulty="easy", references="both", related=False, protocol="vimi1+" + table["pool_size"].astype(str),
    )  # fmt: skip


def test_a_planted_trend_is_found_again() -> None:
    responses = planted_responses()
    (curve,) = score_pool_sizes(responses, seed=1)
    assert curve.sizes == (800, 400, 200)
    assert [point.protocol for point in curve.points] == ["vimi1+800", "vimi1+400", "vimi1+200"]
    slope = curve.per_halving
    assert slope is not None and slope.per_halving and slope.halvings == 2
    assert slope.excess is not None and slope.twin is not None and slope.trained_minus_twin is not None
    for estimate, truth in (
        (slope.score, -0.08),
        (slope.excess, -0.05),
        (slope.twin, 0.0),
        (slope.trained_minus_twin, -0.08),
    ):
        assert estimate.low < truth < estimate.high
        assert estimate.high - estimate.low < 0.05
        assert estimate.n == 40
    # By hand: least squares of each unit on halvings, averaged; with three even sizes, half of last minus first.
    seer = responses[(responses["model"] == "m") & (responses["observer"] == "seer")]
    means = seer.groupby(["index", "pool_size"])["correct"].mean().unstack()
    assert slope.score.value == pytest.approx(((means[200] - means[800]) / 2).mean())
    assert [(step.larger, step.smaller) for step in curve.steps] == [(800, 400), (400, 200)]
    assert curve.steps[1].score.value == pytest.approx((means[200] - means[400]).mean())
    # Paired by unit: what units have in common over sizes does not widen the interval.
    assert curve.steps[0].excess is not None and curve.steps[0].excess.excludes_zero


def test_sentences_say_which_way_and_by_how_much() -> None:
    (curve,) = score_pool_sizes(planted_responses(), seed=1)
    fall = -curve.steps[0].score.value
    first, *_, slope, excess = curve.sentences
    assert first.startswith("Halving the pool from 800 to 400 pictures lowers the score of m (natural, by seer) by .")
    assert f"{fall:.3f}"[1:] in first
    assert slope.startswith("From 800 to 200 pictures, each halving of the pool lowers the score of m")
    assert "lowers the excess over low-level" in excess
    assert curve.per_halving is not None
    assert "does not change the twin's score of m by an amount told from 0" in curve.per_halving.sentence("m", "twin")
    same = planted_responses((800,))
    (level,) = score_pool_sizes(pd.concat([same, same.assign(pool_size=400)]), seed=1)
    assert level.sentences[0].endswith("changes the score of m (natural, by seer) by .000, the same in every unit.")
    turned = planted_responses()
    turned["pool_size"] = turned["pool_size"].map({800: 200, 400: 400, 200: 3200})
    (rising,) = score_pool_sizes(turned, seed=1)
    assert rising.sentences[0].startswith("Taking the pool from 3,200 to 400 pictures raises the score of m")


def test_one_size_has_a_score_and_nothing_to_compare() -> None:
    (curve,) = score_pool_sizes(planted_responses((800,)))
    assert curve.steps == () and curve.per_halving is None and curve.sentences == ()
    assert set(curve.frame()["pool_size"]) == {800}
    assert pool_size_changes([curve]).empty
    plot_pool_sizes(curve.frame())


def test_answers_that_do_not_say_their_pool_or_mix_protocols_are_refused() -> None:
    responses = planted_responses((800, 400), 3, 4)
    with pytest.raises(AnalysisError, match="pool_size"):
        score_pool_sizes(responses.drop(columns="pool_size"))
    with pytest.raises(AnalysisError, match="different protocols"):
        score_pool_sizes(responses.assign(pool_size=800))


# ---------------------------------------------------------------- the figure


def test_the_figure_shows_every_series_at_every_size() -> None:
    curves = score_pool_sizes(planted_responses(), seed=1)
    table = curves.frame()
    (axis,) = plot_pool_sizes(table, note="a note")
    assert axis.get_xscale() == "log"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["800", "400", "200"]
    drawn = [line for line in axis.lines if len(line.get_xdata()) == 3]
    assert len(drawn) == 3
    trained = next(line for line in drawn if line.get_marker() == "o")
    assert list(trained.get_xdata()) == pytest.approx([200, 400, 800])
    score = table[table["quantity"] == "score"].sort_values("pool_size")
    assert list(trained.get_ydata()) == pytest.approx(list(score["value"]))
    changes = pool_size_changes(curves)
    assert list(changes.loc[changes["quantity"] == "score", "per_halving"]) == [False, False, True]
    with pytest.raises(AnalysisError, match="no row of the quantity 'score'"):
        plot_pool_sizes(table[table["quantity"] == "twin"])
    with pytest.raises(AnalysisError, match="one condition at a time"):
        plot_pool_sizes(pd.concat([table, table.assign(condition="synthetic")]))
