"""Tests of the settings that every estimator takes."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import analysis
from analysis.power import Layout, Population
from analysis.settings import Settings, choose
from analysis.simulated_dataset import SimulatedObserver
from benchmark.errors import AnalysisError

DATA = analysis.simulate_dataset(
    Layout(models=5, units=10, tasks=4, sessions=8, trials=40, conditions=("natural", "synthetic")),
    Population(model=0.4, unit=1.0),
    seed=1,
    observers=[SimulatedObserver("lowlevel", skill=0.5), SimulatedObserver("features:made")],
)
PEOPLE = analysis.judgements(DATA.responses)
MACHINE = analysis.agreement.machine_answers(DATA.responses, "features:made")

ESTIMATORS: dict[str, Callable[..., Any]] = {
    "estimate_proportions": lambda **s: analysis.estimate_proportions(PEOPLE, **s),
    "estimate_proportions, bootstrap": lambda **s: analysis.estimate_proportions(
        PEOPLE, interval="two-way bootstrap", **s
    ),
    "compare_intervals": lambda **s: analysis.compare_intervals(PEOPLE[PEOPLE["model"] == "model-0"], **s),
    "compare_models": lambda **s: analysis.compare_models(PEOPLE, condition="natural", **s),
    "compare_conditions": lambda **s: analysis.compare_conditions(PEOPLE, **s),
    "estimate_reliability": lambda **s: analysis.estimate_reliability(PEOPLE, **s),
    "reliability_curve": lambda **s: analysis.reliability_curve(PEOPLE, answers=[4], **s),
    "accuracy_ceiling": lambda **s: analysis.reliability.accuracy_ceiling(PEOPLE, **s),
    "score_machines": lambda **s: analysis.score_machines(DATA.responses, **s),
    "unit_agreement": lambda **s: analysis.unit_agreement(PEOPLE, MACHINE, **s),
    "model_agreement": lambda **s: analysis.model_agreement(PEOPLE, MACHINE, **s),
    "error_consistency": lambda **s: analysis.error_consistency(PEOPLE, MACHINE, **s),
    "score_forecasts": lambda **s: analysis.agreement.score_forecasts(PEOPLE, MACHINE, **s),
    "calibrate": lambda **s: analysis.calibrate(PEOPLE, MACHINE, **s),
    "reaction_times": lambda **s: analysis.reaction_times(PEOPLE, **s),
    "learning_curve": lambda **s: analysis.learning_curve(PEOPLE, **s),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_higher_level_gives_wider_intervals_that_say_so(name: str) -> None:
    estimator = ESTIMATORS[name]
    common: Settings = {"resamples": 200, "seed": 1}
    narrow, usual, wide = (_intervals(estimator(**common, level=level)) for level in (0.5, 0.95, 0.99))
    assert len(narrow) == len(usual) == len(wide) > 0
    told = (narrow["low"] > -np.inf) & np.isfinite(wide["high"] - wide["low"])
    for inner, outer in ((narrow, usual), (usual, wide)):
        assert (inner["low"] >= outer["low"] - 1e-12).all() and (inner["high"] <= outer["high"] + 1e-12).all()
    assert ((narrow["high"] - narrow["low"])[told] < (wide["high"] - wide["low"])[told]).mean() > 0.8
    np.testing.assert_array_equal(narrow["value"], wide["value"])
    if "level" in usual:
        assert set(narrow["level"]) == {0.5} and set(wide["level"]) == {0.99}


def _intervals(found: Any) -> Any:
    """Return all intervals of a result: value, low and high, and the level if it is said."""
    import pandas as pd

    frame = found.frame()
    if {"value", "low", "high"} <= set(frame.columns):
        return frame
    parts = []
    for column in frame.columns:
        for name in (column, column.removesuffix("_value")):
            if {f"{name}_low", f"{name}_high"} <= set(frame.columns) and column in (name, f"{name}_value"):
                parts.append(frame[[column, f"{name}_low", f"{name}_high"]].set_axis(["value", "low", "high"], axis=1))
    return pd.concat(parts, ignore_index=True).dropna()


def test_one_object_serves_all_estimators() -> None:
    settings = Settings(level=0.9, seed=3, resamples=200)
    for estimator in ESTIMATORS.values():
        assert len(estimator(**settings).frame())


def test_every_estimator_takes_the_settings_in_the_same_words() -> None:
    """No public function has ``level``, ``resamples`` or ``seed`` beside the settings, but those that simulate."""
    beside = set()
    for chapter in CHAPTERS:
        module = import_module(f"analysis.{chapter}")
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.isfunction(found):
                words = set(inspect.signature(found).parameters)
                beside |= {f"{chapter}.{name}"} if words & {"level", "resamples"} else set()
    assert beside == {"proportions.follow_mean"}


CHAPTERS = (
    "agreement",
    "comparison",
    "machines",
    "proportions",
    "reliability",
    "psychophysics",
    "scaling",
    "multiverse",
)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"level": 95}, "between 0 and 1, such as 0.95; got 95"),
        ({"level": 1.0}, "between 0 and 1"),
        ({"resamples": 0}, "resamples is a whole number from 1 on; got 0"),
        ({"resamples": 10.5}, "resamples is a whole number"),
        ({"seed": -1}, "seed is a whole number from 0 on"),
        ({"seed": True}, "seed is a whole number"),
        ({"threads": 0}, "threads is a whole number"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(AnalysisError, match=words):
        analysis.estimate_proportions(PEOPLE, **wrong)


def test_an_unknown_setting_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TypeError, match="no setting 'alpha'; the settings are level, resamples, seed, threads"):
        analysis.estimate_proportions(PEOPLE, alpha=0.05)  # type: ignore[call-arg]


def test_what_is_left_out_is_the_estimators_own() -> None:
    assert choose({}) == choose({"level": 0.95, "resamples": 2000, "seed": 0, "threads": None})
    assert choose({}, resamples=500).resamples == 500
    assert choose({"resamples": np.int64(7)}, resamples=500).resamples == 7


def test_slopes_say_that_their_verdicts_have_one_level() -> None:
    with pytest.raises(AnalysisError, match=r"level=0\.9 is not possible here"):
        analysis.fit_scaling(analysis.published_means(), analysis.published_models(), level=0.9)


def test_threads_hold_linear_algebra_while_an_estimator_runs() -> None:
    from threadpoolctl import threadpool_info

    from analysis.threads import threaded

    def counts(**settings: object) -> set[int]:
        return {own["num_threads"] for own in threadpool_info() if own["user_api"] == "blas"}

    before = counts()
    assert threaded(counts)(threads=1) == {1} and threaded(counts)() == counts() == before
    with pytest.raises(AnalysisError, match="threads is a whole number"):
        analysis.estimate_proportions(PEOPLE, threads=-2)
    assert (
        analysis.estimate_proportions(PEOPLE, threads=1).frame().equals(analysis.estimate_proportions(PEOPLE).frame())
    )


def test_every_estimator_is_held_to_its_threads() -> None:
    import ast
    from pathlib import Path

    for path in Path(analysis.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.args.kwarg and node.args.kwarg.annotation is not None:
                taken = ast.unparse(node.args.kwarg.annotation) == "Unpack[Settings]"
                held = "threaded" in [ast.unparse(own) for own in node.decorator_list]
                assert taken == held, (path, node.name)
