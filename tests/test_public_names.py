"""The public names of ``analysis``: each resolves, is documented, and stands in the docs; and the data dictionary."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest

import analysis
from analysis import (
    MixedModel,
    calibrate,
    compare_intervals,
    compare_models,
    detect,
    estimate_proportions,
    estimate_reliability,
    exclude,
    fit_scaling,
    judgements,
    measure_confidence,
    published_means,
    published_models,
    rank_models,
    run_multiverse,
    score_machines,
    sessions_until,
    simulate_dataset,
    tabulate_means,
)
from analysis.agreement import MACHINE_COLUMNS, machine_answers
from analysis.judgement_table import COLUMNS
from analysis.power import Layout, Population
from analysis.simulated_dataset import SimulatedObserver
from benchmark import schemas
from benchmark.errors import AnalysisError

ROOT = Path(__file__).resolve().parent.parent
STUB = (ROOT / "analysis" / "__init__.pyi").read_text(encoding="utf-8")
BOTH = ("natural", "synthetic")


def groups() -> list[tuple[str, list[str]]]:
    """Return the headings of the stub, and the names under each."""
    parts = [part.partition("\n") for part in re.split(r"^# ", STUB, flags=re.M)[1:]]
    return [
        (
            title,
            [alias.name for node in ast.parse(body).body if isinstance(node, ast.ImportFrom) for alias in node.names],
        )
        for title, _, body in parts
    ]


CHAPTERS = dict(groups())["Chapters"]


# ---------------------------------------------------------------- names


def test_names_are_listed_once_and_every_one_has_a_question() -> None:
    named = [name for _, names in groups() for name in names]
    assert len(set(named)) == len(named) and set(named) == set(analysis.__all__)
    assert all(question.endswith("?") for question, _ in groups() if question != "Chapters")
    assert len(named) - len(CHAPTERS) <= 75


def test_every_name_resolves_and_says_what_it_is() -> None:
    for name in analysis.__all__:
        found = getattr(analysis, name)
        if inspect.isclass(found) or inspect.isfunction(found) or inspect.ismodule(found):
            # A dataclass without a docstring would get its signature for one.
            assert inspect.getdoc(found) and not str(inspect.getdoc(found)).startswith(f"{name}("), name
        else:
            assert name.isupper(), name


def test_no_name_is_both_a_module_and_something_else() -> None:
    modules = {path.stem for path in (ROOT / "analysis").iterdir()}
    assert modules & set(analysis.__all__) == set(CHAPTERS)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_what_a_chapter_lists_is_there_and_nowhere_else(chapter: str) -> None:
    module = importlib.import_module(f"analysis.{chapter}")
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        found = getattr(module, name)
        # Unions of literals have no docstring.
        assert name.isupper() or inspect.getdoc(found) or get_args(found), name
        others = [importlib.import_module(f"analysis.{other}") for other in CHAPTERS if other != chapter]
        elsewhere = [other.__name__ for other in others if name in other.__all__]
        assert not elsewhere or name.isupper(), (name, elsewhere)


def test_a_name_that_moved_to_a_chapter_is_found_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match="from analysis.figures import plot_ranks"):
        found = analysis.plot_ranks
    assert found is importlib.import_module("analysis.figures").plot_ranks


def test_an_unknown_name_is_an_error_as_in_any_module() -> None:
    with pytest.raises(AttributeError, match="analyse_everything"):
        _ = analysis.analyse_everything  # type: ignore[attr-defined]
    assert set(analysis.__all__) <= set(dir(analysis))


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_loads_nothing_else() -> None:
    code = "import sys, analysis; print(sorted(n for n in sys.modules if n.partition('.')[0] in {names}))"
    assert run(code.replace("{names}", "('numpy', 'pandas', 'scipy', 'matplotlib', 'benchmark')")) == "[]"
    assert run("import sys, analysis; print(sorted(n for n in sys.modules if n.startswith('analysis.')))") == "[]"


# ---------------------------------------------------------------- docs


def sections(file: str, marks: str) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield each section of a page under a heading of this depth, with the cells of its table's rows."""
    text = (ROOT / "docs" / file).read_text(encoding="utf-8")
    for part in re.split(rf"^{marks} ", text, flags=re.M)[1:]:
        title, _, body = part.partition("\n")
        rows = [line for line in re.split(r"^#+ ", body, flags=re.M)[0].splitlines() if line.startswith("| `")]
        yield title, [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows]


def names_of(rows: list[list[str]]) -> list[str]:
    return [row[0].strip("`") for row in rows]


def test_the_page_of_public_names_lists_exactly_them() -> None:
    page = {title: names_of(rows) for title, rows in sections("public_names.md", "##")}
    assert page == dict(groups())
    for _, rows in sections("public_names.md", "##"):
        assert all(len(row) == 2 and len(row[1]) > 10 for row in rows)


DICTIONARY = dict(sections("data_dictionary.md", "###"))


@pytest.mark.parametrize(("title", "schema"), [("Responses", schemas.RESPONSES), ("Sessions", schemas.SESSIONS)])
def test_the_dictionary_has_the_columns_of_a_schema_as_the_schema_has_them(title: str, schema: schemas.Schema) -> None:
    wanted = [
        [f"`{c.name}`", c.kind, "may be" if c.nullable else "never", ", ".join(c.values), c.meaning]
        for c in schema.columns
    ]
    assert DICTIONARY[title] == wanted


@pytest.mark.parametrize(("title", "columns"), [("Judgements", COLUMNS), ("Machine answers", MACHINE_COLUMNS)])
def test_the_dictionary_has_the_columns_that_analyses_start_from(title: str, columns: dict[str, str]) -> None:
    assert [(row[0].strip("`"), row[2]) for row in DICTIONARY[title]] == list(columns.items())


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    """One table of every kind that the dictionary describes."""
    known = published_models()
    dataset = simulate_dataset(
        Layout(
            models=2, units=20, tasks=2, conditions=("natural", "synthetic"), sessions=10, trials=20, catch_trials=5
        ),
        Population(lapse=0.02),
        models=known[known["model"].isin(["googlenet", "resnet50"])].reset_index(drop=True),
        observers=[SimulatedObserver("similarity", twin_skill=1.0)],
        seed=1,
    )
    kept = exclude(dataset.responses, dataset.sessions)
    people = judgements(kept.responses)
    machine = machine_answers(dataset.responses, "similarity")
    natural = people[people["condition"] == "natural"]
    proportions = estimate_proportions(people)
    scaling = fit_scaling(published_means(), published_models(), predictors=["parameters"])
    slope = scaling.result("natural", "parameters")
    return {
        "Units": dataset.units,
        "Models": dataset.models,
        "Machine answers": machine,
        "`Proportions.frame()`": proportions.frame(),
        "`Intervals.frame()`": compare_intervals(natural[natural["model"] == "resnet50"]).frame(),
        "`Comparison.frame()`": compare_models(people, condition="natural").frame(),
        "`Ranks.frame()`": rank_models(people, condition="natural").frame(),
        "`Multiverse.frame()`": run_multiverse(dataset.responses, dataset.sessions, most=4).frame(),
        "`tabulate_means()`, `published_means()`": tabulate_means(proportions),
        "`ScalingStudy.frame()`": scaling.frame(),
        "`ScalingResult.points`": slope.points,  # type: ignore[union-attr]
        "`ScalingResult.ladder()`": slope.ladder(),  # type: ignore[union-attr]
        "`MixedModelFit.frame()`": MixedModel(random=("unit", "participant")).fit(natural).frame(),
        "`Exclusion.report`": kept.report,
        "`Reliability.frame()`": estimate_reliability(natural, splits=20, resamples=20).frame(),
        "`Detection.frame()`": detect(natural).frame(),
        "`Metacognition.frame()`": measure_confidence(natural, resamples=20).frame(),
        "`MachineScore.frame()`": score_machines(dataset.responses).frame(),
        "`Calibration.bins`": calibrate(people, machine, resamples=20)[0].bins,
        "`Forecast.frame()`": sessions_until(natural, 0.1).frame(),
    }


def test_the_dictionary_has_every_column_of_every_table(tables: dict[str, pd.DataFrame]) -> None:
    described = set(DICTIONARY) - {"Responses", "Sessions", "Judgements", "Estimate", "estimates.csv"}
    assert described == set(tables)
    for title, table in tables.items():
        rows = DICTIONARY[title]
        spread = [row[0].strip("`") for row in rows if row[1] == "estimate"]
        ends = {f"{name}_{end}" for name in spread for end in ("low", "high")}
        assert set(names_of(rows)) == set(table.columns) - ends, title
        assert ends <= set(table.columns), title


def test_the_dictionary_has_what_an_estimate_carries() -> None:
    fields = list(analysis.Estimate.__dataclass_fields__)
    assert names_of(DICTIONARY["Estimate"]) == fields
    assert names_of(DICTIONARY["estimates.csv"]) == ["section", "table", "of", "quantity", *fields]


# ---------------------------------------------------------------- simulated data sets


def simulated(seed: int = 3, **settings: object) -> analysis.Dataset:
    layout = Layout(models=2, units=30, tasks=2, sessions=40, trials=30, catch_trials=5)
    return simulate_dataset(layout, Population(intercept=1.0, unit=1.0), seed=seed, **settings)  # type: ignore[arg-type]


def test_a_simulated_data_set_says_so_and_can_be_written_and_read(tmp_path: Path) -> None:
    dataset = simulated()
    assert any("simulated" in note for note in dataset.notes)
    assert set(dataset.responses["observer_kind"]) == {"simulated"}
    again = analysis.read_dataset(dataset.write(tmp_path / "study"))
    # Times are missing throughout, and what is missing has no resolution to keep.
    pd.testing.assert_frame_equal(again.responses, dataset.responses, check_dtype=False)
    assert again.notes == dataset.notes
    pd.testing.assert_frame_equal(simulated().responses, dataset.responses)
    assert not simulated(4).responses["correct"].equals(dataset.responses["correct"])


@pytest.mark.parametrize("likeness", [-0.8, 0.0, 0.9])
def test_a_simulated_observer_finds_units_hard_as_people_do_as_far_as_it_is_told_to(likeness: float) -> None:
    observer = SimulatedObserver("machine", likeness=likeness, spread=2.0)
    dataset = simulated(observers=[observer], further_units=50)
    people = judgements(dataset.responses).groupby("unit", observed=True)["correct"].mean()
    answers = machine_answers(dataset.responses, "machine")
    machine = answers.groupby("unit", observed=True)["probability"].mean()
    assert len(machine) == 2 * (30 + 50)
    found = people.corr(machine.reindex(people.index))
    assert abs(found - 0.8 * likeness) < 0.3
    assert ((answers["probability"] > 0.5) == (answers["correct"] == 1)).all()


def test_what_can_t_be_simulated_is_refused() -> None:
    with pytest.raises(AnalysisError, match="likeness"):
        simulated(observers=[SimulatedObserver("machine", likeness=1.5)])
    with pytest.raises(AnalysisError, match="same name"):
        simulated(observers=[SimulatedObserver("machine"), SimulatedObserver("machine")])
    with pytest.raises(AnalysisError, match="2 models"):
        simulated(models=pd.DataFrame({"model": ["one"]}))
    with pytest.raises(AnalysisError, match="needs the column model"):
        simulated(models=pd.DataFrame({"model": ["one", "two"], "size": [1, 2]}))
