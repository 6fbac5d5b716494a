"""Plans: blanks, freezing, edits, amendments, deviations and the checklist, on a study made by hand."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.exclusions import protocol_rules
from analysis.preregistration import (
    BLANK,
    ITEMS,
    UNKNOWN,
    Conduct,
    Preregistration,
    describe_conduct,
    fill_checklist,
    list_deviations,
    preregister,
    preregistrations,
    read_plan,
    read_preregistration,
    write_plan_template,
)
from analysis.published import published_means, published_models
from analysis.scaling import fit_scaling, models_from_study
from benchmark import schemas
from benchmark.errors import AnalysisError, DocumentError, NameNotFound
from benchmark.estimate import Estimate
from benchmark.responses import read_responses
from benchmark.study import Study
from tests.answered import fallible, take_part
from tests.hosted import host, make_hosted_study

FILLED = {
    'title = "FILL IN"': 'title = "Does size help?"',
    'authors = "FILL IN"': 'authors = "A. Author"',
    'hypotheses = "FILL IN"': 'hypotheses = "Larger models are no easier to read."',
    'primary = "FILL IN"': 'primary = "slope on log10 parameters, natural"',
    '"training images" = "FILL IN"': '"training images" = "none"',
    'parameters = "FILL IN"': "parameters = 0.03",
    'accuracy = "FILL IN"': 'accuracy = "none"',
    'rule = "FILL IN"': 'rule = "all sessions"',
    'method = "FILL IN"': 'method = "least squares on model means"',
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a study, built once: tests get copies."""
    return make_hosted_study(tmp_path_factory.mktemp("built") / "study").root


@pytest.fixture
def study(built: Path, tmp_path: Path) -> Study:
    return Study.open(shutil.copytree(built, tmp_path / "study"))


def fill(study: Study, **changes: str) -> Path:
    """Draft a plan and fill its blanks; ``changes`` are replaced in the text, what by what."""
    path = write_plan_template(study, study.root / f"plan-{len(list(study.root.glob('plan*')))}.toml")
    text = path.read_text(encoding="utf-8")
    for blank, filled in FILLED.items():
        assert blank in text
        text = text.replace(blank, filled)
    for old, new in changes.values() if changes else ():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return path


def add_people(study: Study, kind: str = "human") -> pd.DataFrame:
    """Let one simulated person take part, and file the answers as a person's."""
    hosting = host(study)
    take_part(hosting, fallible(0))
    answers = read_responses(study)
    own = answers[answers["observer_kind"] == "simulated"].assign(observer_kind=kind)
    schemas.RESPONSES.write(own, study.root / "responses" / "people.parquet")
    return own


def test_a_draft_knows_the_study_and_leaves_decisions_blank(study: Study) -> None:
    path = write_plan_template(study)
    assert path == study.root / "plan.toml"
    with pytest.raises(DocumentError, match="please fill in") as caught:
        read_plan(path)
    for blank in ("title", "smallest_effect.parameters", "stopping.rule", "estimand.primary"):
        assert blank in str(caught.value)
    with pytest.raises(DocumentError, match="exists, and vimi does not overwrite it"):
        write_plan_template(study)
    plan = read_plan(fill(study))
    assert plan.design.experiment == study.experiment.hash
    assert plan.design.protocol == study.protocol.identity
    assert plan.exclusions.rules == tuple(rule.name for rule in protocol_rules(study.protocol))
    assert plan.margins() == {"parameters": 0.03, "training images": None, "accuracy": None}
    assert sum(map(len, plan.families().values())) == 3 * len(plan.design.conditions)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("parameters = 0.03\n", "", r"lacks 'parameters'"),
        ("parameters = 0.03", "parameters = 0", "greater than 0"),
        ("parameters = 0.03", "parameters = 0.03\nsize = 0.03", "'size', which is not among the predictors"),
        ("parameters = 0.03", 'parameters = "some"', "parameters"),
        ('rule = "all sessions"', 'rule = "width"', "takes width"),
        ('rule = "all sessions"', 'rule = "date"\nlast_day = "soon"', "last_day"),
        ('rule = "all sessions"', 'rule = "when significant"', "rule"),
        ('rung = "robust"', 'rung = "least square"', "rung"),
        ('title = "Does size help?"', 'title = "x"\ntitel = "y"', "Did you mean 'title'"),
        ('"parameters",\n    "training', '"parametres",\n    "training', "there is no predictor"),
        ('        "accuracy",', '        "parameters",', "more than one family"),
    ],
)  # fmt: skip
def test_plans_that_contradict_themselves_are_refused(study: Study, old: str, new: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        read_plan(fill(study, change=(old, new)))


def test_freezing_keeps_content_hash_date_and_the_state_of_the_study(study: Study) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    plan = fill(study)
    frozen = preregister(study.root, plan)
    assert frozen.path == study.root / "preregistration.json"
    assert before <= frozen.frozen_at <= datetime.now(UTC)
    assert (frozen.answers, frozen.people, frozen.sessions, frozen.amends) == (0, 0, 0, "")
    assert "before any answer" in str(frozen)
    assert frozen.plan == read_plan(plan)
    assert read_preregistration(frozen.path, frozen.hash) == frozen
    assert len(frozen.hash) == 32
    with pytest.raises(AnalysisError, match="not the plan that was noted"):
        read_preregistration(frozen.path, "0" * 32)


LAST_RELEASE = {
    "format": 1, "vimi": "0.1.0", "frozen_at": "2026-03-02T09:00:00+00:00",
    "state": {"answers": 0, "people": 0, "sessions": 0, "simulated_answers": 0}, "amends": "",
    "plan": {
        "title": "Does size help?", "authors": "A. Author", "hypotheses": "Larger models are no easier to read.",
        "design": {
            "models": ["one", "two", "three"], "conditions": ["natural"], "difficulties": ["easy"],
            "units_per_model": 84, "sessions": 189, "main_trials": 40, "protocol": "imi2023",
            "experiment": "0123456789abcdef",
        },
        "exclusions": {"rules": ["catch trials"], "note": ""},
        "estimand": {"scope": "new models", "drawing": "layer-uniform", "primary": "slope on log10 parameters"},
        "scaling": {"predictors": ["parameters"], "rung": "robust", "families": []},
        "smallest_effect": {"parameters": 0.03},
        "stopping": {"rule": "width", "width": 0.06, "last_day": None, "note": ""},
        "analysis": {"seed": 3, "method": "least squares on model means"},
    },
    "hash": "8f42e0c1c4ce35b577352bc2e0e002ab",
}  # fmt: skip
"""A frozen plan as the file has it."""


def test_a_plan_frozen_by_the_last_release_still_reads(tmp_path: Path) -> None:
    (tmp_path / "preregistration.json").write_text(json.dumps(LAST_RELEASE), encoding="utf-8")
    frozen = read_preregistration(tmp_path / "preregistration.json", str(LAST_RELEASE["hash"]))
    assert frozen.plan.model_dump(mode="json") == LAST_RELEASE["plan"]
    assert frozen.plan.margins() == {"parameters": 0.03} and frozen.plan.stopping.width == 0.06


def test_answers_that_are_in_are_counted_and_said(study: Study) -> None:
    answers = add_people(study)
    frozen = preregister(study, fill(study))
    assert frozen.answers == (answers["kind"] == "main").sum() > 0
    assert frozen.people == frozen.sessions == 1
    assert frozen.simulated_answers > 0, "simulated people are counted apart"
    assert f"after {frozen.answers} answers of 1 people" in str(frozen)


def _change_margin(values: dict[str, Any]) -> None:
    values["plan"]["smallest_effect"]["parameters"] = 0.3


def _change_date(values: dict[str, Any]) -> None:
    values["frozen_at"] = "2020-01-01T00:00:00+00:00"


def _change_state(values: dict[str, Any]) -> None:
    values["state"]["answers"] = 7


@pytest.mark.parametrize("edit", [_change_margin, _change_date, _change_state])
def test_edits_are_detected(study: Study, edit: Callable[[dict[str, Any]], None]) -> None:
    frozen = preregister(study, fill(study))
    values = json.loads(frozen.path.read_text(encoding="utf-8"))
    edit(values)
    frozen.path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(AnalysisError, match="was edited after it was frozen"):
        read_preregistration(frozen.path)
    with pytest.raises(AnalysisError, match="was edited"):
        preregistrations(study)


def test_another_spelling_of_the_same_content_is_no_edit(study: Study) -> None:
    frozen = preregister(study, fill(study))
    values = json.loads(frozen.path.read_text(encoding="utf-8"))
    frozen.path.write_text(json.dumps(dict(reversed(values.items())), indent=7), encoding="utf-8")
    assert read_preregistration(frozen.path) == frozen


def test_what_is_no_frozen_plan_is_said(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="can't be read"):
        read_preregistration(tmp_path / "missing.json")
    for text, message in (("{", "can't be read"), ("[]", "not a frozen plan"), ('{"format": 9}', "not a frozen plan")):
        (tmp_path / "x.json").write_text(text, encoding="utf-8")
        with pytest.raises(AnalysisError, match=message):
            read_preregistration(tmp_path / "x.json")


def test_a_plan_is_frozen_once_and_amended_openly(study: Study) -> None:
    plan = fill(study)
    with pytest.raises(AnalysisError, match="no frozen plan to amend"):
        preregister(study, plan, amend=True)
    first = preregister(study, plan)
    with pytest.raises(AnalysisError, match="is already frozen"):
        preregister(study, plan)
    second = preregister(study, fill(study, change=("parameters = 0.03", "parameters = 0.05")), amend=True)
    assert second.amends == first.hash and second.path.name == "preregistration-2.json"
    assert preregistrations(study) == [first, second]
    first.path.unlink()
    second.path.rename(first.path)
    with pytest.raises(AnalysisError, match="does not amend the plan before it"):
        preregistrations(study)


def test_a_plan_about_another_study_is_refused(study: Study) -> None:
    hash_of_another = (f'experiment = "{study.experiment.hash}"', 'experiment = "0123"')
    with pytest.raises(AnalysisError, match="experiment: the plan says 0123"):
        preregister(study, fill(study, change=hash_of_another))
    with pytest.raises(AnalysisError, match=r"no rule 'catches'.*catch"):
        preregister(study, fill(study, change=('"catch"', '"catches"')))
    assert preregistrations(study) == []


def as_planned(frozen: Preregistration) -> Conduct:
    plan = frozen.plan
    return Conduct(
        models=plan.design.models, conditions=plan.design.conditions, difficulties=plan.design.difficulties,
        protocols=(plan.design.protocol,), experiment=plan.design.experiment, exclusions=plan.exclusions.rules,
        sessions=plan.design.sessions, scope=plan.estimand.scope, drawing=plan.estimand.drawing,
        predictors=plan.scaling.predictors, rung=plan.scaling.rung, families=plan.families(),
        smallest_effect=plan.margins(), seed=plan.analysis.seed, first_answer=datetime(2026, 1, 2, tzinfo=UTC),
        last_answer=datetime(2026, 1, 3, tzinfo=UTC), widest=0.05,
    )  # fmt: skip


def test_every_departure_is_a_deviation_and_nothing_else_is(study: Study) -> None:
    frozen = preregister(study, fill(study))
    done = as_planned(frozen)
    assert list_deviations(frozen, done) == []
    assert list_deviations(frozen, replace(done, families={"another name": next(iter(done.families.values()))})) == []  # type: ignore[union-attr]
    slopes = next(iter(frozen.plan.families().values()))
    departures: dict[str, dict[str, Any]] = {
        "models": {"models": done.models[1:]},
        "conditions": {"conditions": ("natural", "hard")},
        "difficulties": {"difficulties": ("easy", "hard")},
        "exclusion rules": {"exclusions": done.exclusions[:-1]},
        "predictors": {"predictors": done.predictors[:-1]},  # type: ignore[index]
        "protocol": {"protocols": ("imi2023",)},
        "experiment": {"experiment": "0123"},
        "stopping": {"sessions": done.sessions - 1},
        "scope of the estimand": {"scope": "new units and people"},
        "drawing of the estimand": {"drawing": "unit-uniform"},
        "rung of the verdicts": {"rung": "meta-regression"},
        "families of tests": {"families": {"one": slopes[:1], "rest": slopes[1:]}},
        "smallest effect of parameters": {"smallest_effect": {"parameters": 0.05}},
        "smallest effect of accuracy": {"smallest_effect": {"parameters": 0.03, "accuracy": 0.01}},
        "smallest effect of year": {"smallest_effect": {"parameters": 0.03, "year": 0.01}},
        "seed": {"seed": done.seed + 1},  # type: ignore[operator]
    }
    for topic, change in departures.items():
        assert [deviation.topic for deviation in list_deviations(frozen, replace(done, **change))] == [topic]
    more = list_deviations(frozen, replace(done, sessions=done.sessions + 1))
    assert "more than planned" in str(more[0])
    early = list_deviations(frozen, replace(done, sessions=done.sessions - 1))
    assert "stopped early" in str(early[0]) and f"planned all {done.sessions:,} sessions" in str(early[0])
    nothing = replace(
        done, scope=None, drawing=None, predictors=None, rung=None, families=None, smallest_effect=None, seed=None
    )
    assert len(list_deviations(frozen, nothing)) == 7


def test_late_and_amended_plans_are_deviations_by_themselves(study: Study) -> None:
    add_people(study)
    first = preregister(study, fill(study))
    assert [d.topic for d in list_deviations(first, as_planned(first))] == ["time of registration"]
    second = preregister(study, fill(study), amend=True)
    assert {d.topic for d in list_deviations(second, as_planned(second))} == {"time of registration", "amendment"}


@pytest.mark.parametrize(
    ("rule", "change", "said"),
    [
        ('rule = "width"\nwidth = 0.06', {"widest": 0.05}, None),
        ('rule = "width"\nwidth = 0.06', {"widest": 0.07}, "0.070 wide: stopped early"),
        ('rule = "width"\nwidth = 0.06', {"widest": None}, "not known"),
        ('rule = "date"\nlast_day = "2026-01-03"', {}, None),
        ('rule = "date"\nlast_day = "2026-01-05"', {}, "the last one on 2026-01-03"),
        ('rule = "date"\nlast_day = "2026-01-05"', {"last_answer": None}, "not known"),
    ],
)
def test_stopping_rules(study: Study, rule: str, change: dict[str, Any], said: str | None) -> None:
    frozen = preregister(study, fill(study, change=('rule = "all sessions"', rule)))
    done = as_planned(frozen)
    found = list_deviations(frozen, replace(done, sessions=done.sessions - 1, **change))
    assert (found == []) if said is None else (len(found) == 1 and said in str(found[0]))


def test_conduct_is_read_from_the_answers(study: Study) -> None:
    answers = add_people(study)
    estimates = [Estimate(0.8, 0.7, 0.9, "", 9, ""), Estimate(0.8, 0.79, 0.81, "", 9, "")]
    conduct = describe_conduct(answers, study.experiment.hash, ["complete"], estimates=estimates, seed=3)
    main = answers[answers["kind"] == "main"]
    assert conduct.models == tuple(sorted(main["model"].unique()))
    assert "planted" not in conduct.models
    assert conduct.protocols == (study.protocol.identity,)
    assert conduct.sessions == 1 and conduct.seed == 3
    assert conduct.widest == pytest.approx(0.2)
    assert conduct.first_answer is not None and conduct.first_answer <= conduct.last_answer  # type: ignore[operator]
    empty = describe_conduct(schemas.RESPONSES.empty(), "", [])
    assert empty.sessions == 0 and empty.models == () and empty.widest is None


def test_an_empty_checklist_knows_nothing_and_says_so() -> None:
    checklist = fill_checklist()
    assert [item.name for item in checklist.items] == list(ITEMS)
    assert set(checklist.unknown) == set(ITEMS) - {"registration", "deviations"}
    assert checklist.answer("registration") == "no plan was frozen"
    assert checklist.answer("ethics") == UNKNOWN
    with pytest.raises(NameNotFound):
        checklist.answer("ethnics")


def test_the_checklist_is_filled_from_the_data(study: Study) -> None:
    answers = add_people(study)
    frozen = preregister(study, fill(study))
    deviations = list_deviations(frozen, replace(as_planned(frozen), sessions=1))
    scaling = fit_scaling(published_means(), published_models())
    excluded = pd.DataFrame({"rule": ["catch"], "meaning": ["x"], "fail": [2], "fail only this": [1]})
    checklist = fill_checklist(
        study=study, responses=answers, excluded=excluded, sessions=5, preregistration=frozen, deviations=deviations,
        scaling=scaling, seed=4, answers={"ethics": "Board 7, no. 12", "data": " "},
    )  # fmt: skip
    catch = answers[answers["kind"] == "catch"]["correct"]
    main = answers[answers["kind"] == "main"]
    assert checklist.answer("ethics") == "Board 7, no. 12"
    assert checklist.answer("data") == UNKNOWN
    assert checklist.answer("lapse").startswith(f"{int(catch.sum())} of {len(catch)} right")
    assert checklist.answer("answers").startswith(f"{len(main)};")
    assert checklist.answer("people").startswith("1 in 1 sessions")
    assert checklist.answer("exclusions") == "catch: 2 left out; of 5 sessions"
    assert "stopped early" in checklist.answer("stopping") and "stopped early" in checklist.answer("deviations")
    assert "Holm over 6 tests" in checklist.answer("multiplicity")
    assert "9 models, not the 22,680 answers" in checklist.answer("effective sample size")
    assert "one model (clip_resnet50) against six" in checklist.answer("effective sample size")
    assert checklist.answer("estimand").startswith("new models")
    assert checklist.answer("seeds") == f"experiment {study.experiment.seed}, analysis 4"
    assert checklist.answer("protocol").startswith(study.protocol.identity)
    assert "parameters: 0.03; training images: none, on purpose" in checklist.answer("smallest effect")
    assert frozen.hash in checklist.answer("registration")
    table = checklist.frame()
    assert len(table) == len(ITEMS) and (table["answer"] != "").all()
    assert checklist.markdown().count("\n") == len(ITEMS) + 2
    assert "nan" not in checklist.markdown()
    with pytest.raises(NameNotFound):
        fill_checklist(answers={"ethnics": "yes"})


def test_simulated_people_are_called_so(study: Study) -> None:
    answers = add_people(study, kind="simulated")
    assert "simulated, not people" in fill_checklist(responses=answers).answer("people")


def test_a_studys_manifest_makes_the_table_of_models(study: Study) -> None:
    table = models_from_study(study)
    assert (table["parameters"] == 1_000_000).all()
    assert table["model"].tolist() == list(study.manifest["models"])


def test_freezing_needs_no_torch(study: Study) -> None:
    path = fill(study)
    code = (
        "import sys; from analysis.preregistration import preregister; "
        f"preregister({str(study.root)!r}, {str(path)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
    assert BLANK not in (study.root / "preregistration.json").read_text(encoding="utf-8")
