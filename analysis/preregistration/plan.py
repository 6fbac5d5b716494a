"""The plan of an analysis: a TOML file with a closed schema, drafted from a study, with blanks that must be filled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from analysis.estimands import Drawing, Scope
from analysis.exclusions import AUTHENTIC, protocol_rules
from analysis.scaling.families import Test, declare_families
from analysis.scaling.predictors import PREDICTORS
from analysis.scaling.results import Rung
from benchmark.documents import BLANK, Document, parse, read_toml
from benchmark.errors import AnalysisError, DocumentError, suggest
from benchmark.study import Study

Text = Annotated[str, Field(min_length=1, max_length=5000)]
Margin = Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["none"]


class DesignPlan(Document):
    """What is shown to whom.

    Attributes
    ----------
    models, conditions, difficulties
        What is compared.
    units_per_model, sessions, main_trials
        Units of each model, planned sessions of all people together, and main trials of a session.
    protocol
        Identity of the protocol.
    experiment
        Hash of the experiment.
    """

    models: tuple[str, ...] = Field(min_length=1)
    conditions: tuple[str, ...] = Field(min_length=1)
    difficulties: tuple[str, ...] = Field(min_length=1)
    units_per_model: int = Field(gt=0)
    sessions: int = Field(gt=0)
    main_trials: int = Field(gt=0)
    protocol: str
    experiment: str


class ExclusionPlan(Document):
    """Names of the exclusion rules that are applied, and anything to say about them."""

    rules: tuple[str, ...]
    note: str = ""


class EstimandPlan(Document):
    """What the estimates generalise to, and which one is primary."""

    scope: Scope
    drawing: Drawing
    primary: Text


class FamilyPlan(Document):
    """Tests that are corrected together: pairs of condition and predictor."""

    name: str = Field(min_length=1)
    tests: tuple[tuple[str, str], ...] = Field(min_length=1)


class ScalingPlan(Document):
    """The regressions: predictors, the method behind verdicts, and the families of tests."""

    predictors: tuple[str, ...]
    rung: Rung
    families: tuple[FamilyPlan, ...] = ()

    @field_validator("predictors")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in PREDICTORS:
                raise ValueError(f"there is no predictor {name!r}. {suggest(name, PREDICTORS)}")
        return value


class StoppingPlan(Document):
    """When no more answers are collected.

    Attributes
    ----------
    rule
        ``all sessions``: when every planned session is filled; ``width``: when every model's interval is at most
        ``width`` wide, or all sessions are filled; ``date``: on the day ``last_day``, or when all sessions are filled.
    width, last_day
        What the rule needs; the day as 2026-05-31.
    note
        Anything to say about it, such as looks in between.
    """

    rule: Literal["all sessions", "width", "date"]
    width: float | None = Field(default=None, gt=0, lt=1)
    last_day: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")] | None = None
    note: str = ""

    @model_validator(mode="after")
    def _complete(self) -> StoppingPlan:
        if (self.rule == "width") != (self.width is not None):
            raise ValueError("only the rule 'width' takes width")
        if (self.rule == "date") != (self.last_day is not None):
            raise ValueError("only the rule 'date' takes last_day")
        return self


class AnalysisPlan(Document):
    """How numbers are computed: the seed of everything random, and the analyses beyond the regressions."""

    seed: int = Field(ge=0)
    method: Text


class Plan(Document):
    """A plan, before it is frozen.

    Attributes
    ----------
    smallest_effect
        For every predictor the smallest effect of interest, in the unit of the slope (proportion correct per decade,
        per 10 points), or ``"none"``: there is then no verdict on equivalence or non-improvement.
    """

    title: Text
    authors: Text
    hypotheses: Text
    design: DesignPlan
    exclusions: ExclusionPlan
    estimand: EstimandPlan
    scaling: ScalingPlan
    smallest_effect: dict[str, Margin]
    stopping: StoppingPlan
    analysis: AnalysisPlan

    @model_validator(mode="after")
    def _consistent(self) -> Plan:
        for name in self.scaling.predictors:
            if name not in self.smallest_effect:
                raise ValueError(
                    f'[smallest_effect] lacks {name!r}: give the smallest effect of interest, or "none" for no verdict'
                )
        for name in self.smallest_effect:
            if name not in self.scaling.predictors:
                raise ValueError(f"[smallest_effect] names {name!r}, which is not among the predictors")
        names = [family.name for family in self.scaling.families]
        if len(set(names)) != len(names):
            raise ValueError("two families of tests have the same name")
        try:
            self.families()
        except AnalysisError as error:
            raise ValueError(str(error)) from None
        return self

    def families(self) -> dict[str, tuple[Test, ...]]:
        """Return the declared families of tests; one of all slopes if none is named."""
        named = {family.name: family.tests for family in self.scaling.families} or None
        return declare_families(self.design.conditions, self.scaling.predictors, named)

    def margins(self) -> dict[str, float | None]:
        """Return the declared smallest effects; None where none was declared on purpose."""
        return {name: None if value == "none" else float(value) for name, value in self.smallest_effect.items()}


def read_plan(path: Path | str) -> Plan:
    """Read a plan.

    Raises
    ------
    DocumentError
        If a blank is left, a key is unknown or missing, or a value is wrong; the message names all of them.
    """
    values = read_toml(path)
    blanks = sorted(set(_blanks(values)))
    if blanks:
        raise DocumentError(f"{path}: please fill in {', '.join(blanks)}.")
    return parse(Plan, values, str(path))


def _blanks(value: Any, where: str = "") -> Iterator[str]:
    """Iterate over the places of a document that still hold a blank."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _blanks(item, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for item in value:
            yield from _blanks(item, where)
    elif isinstance(value, str) and BLANK in value:
        yield where


def check_plan(plan: Plan, study: Study) -> None:
    """Check that a plan is about a study.

    Raises
    ------
    AnalysisError
        Naming everything in which the two differ.
    """
    facts = study_design(study)
    problems = []
    for key in ("protocol", "experiment", "units_per_model", "main_trials", "models", "conditions", "difficulties"):
        planned, there = getattr(plan.design, key), facts[key]
        same = set(planned) == set(there) if isinstance(there, tuple) else planned == there
        if not same:
            problems.append(f"{key.replace('_', ' ')}: the plan says {_say(planned)}, the study has {_say(there)}")
    known = known_rules(study)
    problems += [
        f"exclusions: there is no rule {rule!r}. {suggest(rule, known)}"
        for rule in plan.exclusions.rules
        if rule not in known
    ]
    if problems:
        raise AnalysisError(
            f"The plan is not about {study.root}: {'; '.join(problems)}. Correct these, or draft a new plan."
        )


def known_rules(study: Study) -> list[str]:
    """Return the names of the exclusion rules that a plan may name."""
    return [rule.name for rule in (*protocol_rules(study.protocol), AUTHENTIC)]


def study_design(study: Study) -> dict[str, Any]:
    """Return a study's own design, under the keys of :class:`DesignPlan`."""
    experiment = study.experiment
    rules = study.protocol.rules.session
    trials = study.trials()
    return {
        "models": tuple(study.asked_models),
        "conditions": tuple(experiment.stimuli.conditions),
        "difficulties": tuple(experiment.stimuli.difficulties),
        "units_per_model": max(experiment.units_per_model(condition) for condition in experiment.stimuli.conditions),
        "sessions": int(trials["session"].nunique()),
        "main_trials": rules.main_trials,
        "protocol": study.protocol.identity,
        "experiment": str(study.manifest["experiment"]),
    }


def write_plan_template(study: Study | Path | str, path: Path | str | None = None) -> Path:
    """Draft a plan from a study.

    What the study knows is filled in; what only a person can decide is a blank, and a plan with a blank can't be
    frozen.

    Parameters
    ----------
    study
        The study, or its folder.
    path
        The file to write; ``plan.toml`` in the study's folder if not given. An existing file is never overwritten.

    Raises
    ------
    DocumentError
        If the file exists.
    """
    import tomli_w

    from benchmark.storage import write_text

    study = Study.open(study)
    target = Path(path) if path is not None else study.root / "plan.toml"
    if target.exists():
        raise DocumentError(f"{target} exists, and vimi does not overwrite it. Edit it, or give another name.")
    design = study_design(study)
    predictors = ["parameters", "training images", "accuracy"]
    values = {
        "title": BLANK,
        "authors": BLANK,
        "hypotheses": BLANK,
        "design": {key: list(value) if isinstance(value, tuple) else value for key, value in design.items()},
        "exclusions": {"rules": [rule.name for rule in protocol_rules(study.protocol)], "note": ""},
        "estimand": {"scope": "new models", "drawing": "layer-uniform", "primary": BLANK},
        "scaling": {
            "predictors": predictors,
            "rung": "robust",
            "families": [
                {"name": "all slopes", "tests": [[c, p] for c in design["conditions"] for p in predictors]}
            ],
        },
        "smallest_effect": dict.fromkeys(predictors, BLANK),
        "stopping": {"rule": BLANK, "note": ""},
        "analysis": {"seed": study.experiment.seed, "method": BLANK},
    }  # fmt: skip
    write_text(target, _GUIDE + tomli_w.dumps(values))
    return target


_GUIDE = f"""# A plan, to be frozen before the answers are looked at: vimi preregister STUDY --plan THIS.toml
# Every "{BLANK}" must be replaced.
# smallest_effect: for each predictor a number in the unit of its slope, in proportion correct: per decade of parameters
#   or training images, per 10 points of accuracy. Or "none": then nothing is said on equivalence or non-improvement.
# stopping.rule: "all sessions", "width" (with width = 0.06) or "date" (with last_day = "2026-05-31").
# scaling.rung, on which verdicts rest: "robust" (unequal and related models), "least squares", "meta-regression" or
# "mixed model".

"""


def _say(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
