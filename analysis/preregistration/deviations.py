"""What was done otherwise than planned: every difference between a frozen plan and the analysis, one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from analysis.estimands import Drawing, Scope
from analysis.judgement_table import about_trained
from analysis.preregistration.freezing import Preregistration
from analysis.results import Record, ShownAsText
from analysis.scaling.families import Test
from analysis.scaling.results import Rung
from benchmark.estimate import Estimate


@dataclass(frozen=True)
class Conduct(Record):
    """What was done; None where it is unknown, or where there was no such analysis.

    Attributes
    ----------
    models, conditions, difficulties
        What people's main answers are about.
    protocols, experiment
        Identities of the protocols of these answers, and hash of the experiment.
    exclusions
        Names of the rules that were applied.
    sessions
        Finished sessions that count.
    first_answer, last_answer
        When the first and the last of these answers were given.
    widest
        Width of the widest interval of a model.
    scope, drawing, predictors, rung, families, smallest_effect, seed
        Settings of the analysis.
    """

    models: tuple[str, ...]
    conditions: tuple[str, ...]
    difficulties: tuple[str, ...]
    protocols: tuple[str, ...]
    experiment: str
    exclusions: tuple[str, ...]
    sessions: int
    first_answer: datetime | None = None
    last_answer: datetime | None = None
    widest: float | None = None
    scope: Scope | None = None
    drawing: Drawing | None = None
    predictors: tuple[str, ...] | None = None
    rung: Rung | None = None
    families: Mapping[str, Sequence[Test]] | None = None
    smallest_effect: Mapping[str, float | None] | None = None
    seed: int | None = None


def describe_conduct(
    responses: pd.DataFrame,
    experiment: str,
    exclusions: Iterable[str],
    *,
    estimates: Iterable[Estimate] = (),
    scope: Scope | None = None,
    drawing: Drawing | None = None,
    predictors: Sequence[str] | None = None,
    rung: Rung | None = None,
    families: Mapping[str, Sequence[Test]] | None = None,
    smallest_effect: Mapping[str, float | None] | None = None,
    seed: int | None = None,
) -> Conduct:
    """Return what was done, from the answers that were analysed and the settings of the analysis.

    Parameters
    ----------
    responses
        Table of responses after exclusions; only people's main answers are looked at.
    experiment
        Hash of the experiment: ``study.manifest["experiment"]``.
    exclusions
        Names of the rules that were applied.
    estimates
        The models' proportions, for the width of the widest.
    scope, drawing, predictors, rung, families, smallest_effect, seed
        As in :class:`Conduct`.
    """
    own = responses[(responses["kind"] == "main") & (responses["observer_kind"] != "machine")]
    own = own[about_trained(own)]
    times = own["answered_at"].dropna()
    widths = [estimate.high - estimate.low for estimate in estimates]
    return Conduct(
        models=tuple(sorted(own["model"].unique())),
        conditions=tuple(sorted(own["condition"].unique())),
        difficulties=tuple(sorted(own["difficulty"].unique())),
        protocols=tuple(sorted(own["protocol"].unique())),
        experiment=experiment,
        exclusions=tuple(exclusions),
        sessions=int(own["session"].nunique()),
        first_answer=times.min().to_pydatetime() if len(times) else None,
        last_answer=times.max().to_pydatetime() if len(times) else None,
        widest=max(widths) if widths else None,
        scope=scope,
        drawing=drawing,
        predictors=None if predictors is None else tuple(predictors),
        rung=rung,
        families=families,
        smallest_effect=smallest_effect,
        seed=seed,
    )


@dataclass(frozen=True)
class Deviation(ShownAsText):
    """One difference between plan and analysis.

    Attributes
    ----------
    topic
        What it is about.
    planned, done
        What was planned, and what was done.
    """

    topic: str
    planned: str
    done: str

    def __str__(self) -> str:
        return f"{self.topic}: planned {self.planned}; done {self.done}."


def list_deviations(preregistration: Preregistration, conduct: Conduct) -> list[Deviation]:
    """Return every difference between a frozen plan and what was done, in the order of the plan.

    A setting that is None in ``conduct`` counts as "not done" where the plan asks for the analysis.
    """
    plan = preregistration.plan
    found: list[Deviation] = []

    def compare(topic: str, planned: str, done: str) -> None:
        if planned != done:
            found.append(Deviation(topic, planned, done))

    if preregistration.answers:
        found.append(
            Deviation(
                "time of registration", "before any answer",
                f"after {preregistration.answers:,} answers of {preregistration.people} people",
            )
        )  # fmt: skip
    if preregistration.amends:
        found.append(Deviation("amendment", f"the plan {preregistration.amends}", f"the plan {preregistration.hash}"))
    for topic, wanted, had in (
        ("models", plan.design.models, conduct.models),
        ("conditions", plan.design.conditions, conduct.conditions),
        ("difficulties", plan.design.difficulties, conduct.difficulties),
        ("exclusion rules", plan.exclusions.rules, conduct.exclusions),
        ("predictors", plan.scaling.predictors, conduct.predictors),
    ):
        compare(topic, _names(wanted), _names(had))
    compare("protocol", plan.design.protocol, _names(conduct.protocols))
    compare("experiment", plan.design.experiment, conduct.experiment or "unknown")
    found += _stopping(preregistration, conduct)
    compare("scope of the estimand", plan.estimand.scope, conduct.scope or "not stated")
    compare("drawing of the estimand", plan.estimand.drawing, conduct.drawing or "not stated")
    if plan.scaling.predictors:
        compare("rung of the verdicts", plan.scaling.rung, conduct.rung or "no regression")
        families = None if conduct.families is None else {_family(tests) for tests in conduct.families.values()}
        planned = {_family(tests) for tests in plan.families().values()}
        if families != planned:
            done = "none" if families is None else "; ".join(sorted(families))
            found.append(Deviation("families of tests", "; ".join(sorted(planned)), done))
    used = dict(conduct.smallest_effect or {})
    for predictor, margin in plan.margins().items():
        compare(f"smallest effect of {predictor}", _margin(margin), _margin(used.pop(predictor, None)))
    for predictor, extra in sorted(used.items()):
        compare(f"smallest effect of {predictor}", "no such predictor", _margin(extra))
    compare("seed", str(plan.analysis.seed), "none" if conduct.seed is None else str(conduct.seed))
    return found


def _stopping(preregistration: Preregistration, conduct: Conduct) -> list[Deviation]:
    """Compare how data collection ended with the stopping rule."""
    plan = preregistration.plan
    rule, planned = plan.stopping, plan.design.sessions
    done = f"{conduct.sessions:,} sessions"
    if conduct.sessions > planned:
        return [Deviation("stopping", f"at most {planned:,} sessions", f"{done}: more than planned")]
    if conduct.sessions == planned:
        return []
    if rule.rule == "all sessions":
        return [Deviation("stopping", f"all {planned:,} sessions", f"{done}: stopped early")]
    if rule.rule == "width":
        wanted = f"{planned:,} sessions, or intervals at most {rule.width:g} wide"
        if conduct.widest is None:
            return [Deviation("stopping", wanted, f"{done}, and the width of the intervals is not known")]
        if conduct.widest > (rule.width or 0.0):
            return [Deviation("stopping", wanted, f"{done}, and an interval {conduct.widest:.3f} wide: stopped early")]
        return []
    wanted = f"{planned:,} sessions, or the end of {rule.last_day}"
    if conduct.last_answer is None:
        return [Deviation("stopping", wanted, f"{done}, and the time of the last answer is not known")]
    if str(conduct.last_answer.date()) != rule.last_day:
        return [Deviation("stopping", wanted, f"{done}, the last one on {conduct.last_answer.date()}")]
    return []


def _names(names: Any) -> str:
    return ", ".join(sorted(names)) if names else "none"


def _family(tests: Iterable[Test]) -> str:
    """Spell a family by its tests: two families with the same tests are the same, whatever they are called."""
    return " + ".join(sorted(f"{condition} on {predictor}" for condition, predictor in tests))


def _margin(margin: float | None) -> str:
    return "none" if margin is None else f"{margin:g}"
