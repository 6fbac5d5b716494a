"""From answers to claims: importing, preregistering, analysing, planning: jobs that join the packages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from benchmark.errors import AnalysisError, NameNotFound
from benchmark.progress import Reporter, default_reporter

if TYPE_CHECKING:
    from analysis.dataset import Dataset, Description
    from analysis.power import Assessment, Optimum
    from analysis.power.forecast import Forecast
    from analysis.preregistration import Preregistration
    from analysis.report import Report, Written


def import_release(path: Path | str, out: Path | str, table: str = "main") -> Imported:
    """Import the human answers of the 2023 release into a folder that ``analyze`` reads.

    Parameters
    ----------
    path
        The release, its folder ``human_responses`` or one of its CSV files.
    out
        Folder to write.
    table
        ``main``, ``all`` or ``lower_quality``: which table of a folder.

    Raises
    ------
    ImportFailure
        If there is no such table, or its rows are not as the release has them.
    """
    from analysis.importing.imi import Table, import_imi

    dataset = import_imi(path, table=_one_of(Table, "table of the release", table))
    dataset.write(out)
    return _imported(dataset)


def _one_of(names: Any, what: str, given: str) -> Any:
    """Return a name that is among those of a literal type."""
    if given not in get_args(names):
        raise NameNotFound(what, given, get_args(names))
    return given


def import_table(files: Path | str | Sequence[Path | str], mapping: Path | str, out: Path | str) -> Imported:
    """Import a laboratory's own table, as its mapping describes it, into a folder that ``analyze`` reads.

    Raises
    ------
    ImportFailure
        If something is not as the mapping says.
    DocumentError
        If the mapping itself is wrong.
    """
    from analysis.importing.tables import import_csv

    dataset = import_csv(files, mapping)
    dataset.write(out)
    return _imported(dataset)


@dataclass(frozen=True)
class Imported:
    """What an import has read: a description, and how many answers and sessions there are."""

    description: Description
    answers: int
    sessions: int


def _imported(dataset: Dataset) -> Imported:
    from analysis.dataset import describe

    return Imported(describe(dataset), len(dataset.responses), int(dataset.responses["session"].nunique()))


def analyze(
    source: Path | str,
    out: Path | str | None = None,
    *,
    rules: Sequence[str] | None = None,
    smallest_effect: Mapping[str, float] | None = None,
    models: Path | str | None = None,
    lapse: float | None = None,
    mean: str = "units",
    quick: bool = False,
    seed: int | None = None,
    database: str = "",
    pilot: bool = False,
    reporter: Reporter | None = None,
) -> tuple[Report, Written]:
    """Analyse a study, an import or a table of responses, and write the report.

    What is given here goes before what a frozen plan of the study says; the report lists it as a deviation.

    Parameters
    ----------
    source
        A study's folder, a folder that an import wrote, or a Parquet or CSV file of responses.
    out
        Folder of the report.
    rules
        Names of exclusion rules with the paper's numbers; the study's own, or the paper's five, if None.
    smallest_effect
        By predictor, the smallest effect of interest.
    models
        CSV file with what is known of the models.
    lapse
        Lapse rate; from catch trials if None.
    mean
        What counts alike in a mean: ``units`` (the mean over units, as in the 2023 paper) or ``answers`` (the share of
        all answers).
    quick
        Leave out the mixed model and the grid of exclusions.
    seed
        Of all that is random.
    database
        URL of the study's database, where it is not the study's own.
    pilot
        Analyse the pilot's answers.
    reporter
        Shows progress.
    """
    from analysis.exclusions import named_rule
    from analysis.proportions import Mean
    from analysis.report import analyze as analyze_answers
    from analysis.report import settings_for, study_at

    path = Path(source)
    settings = settings_for(study_at(path))
    changes: dict[str, Any] = {"thorough": not quick, "mean": _one_of(Mean, "mean", mean)}
    if rules is not None:
        own = {rule.name: rule for rule in settings.rules}
        changes["rules"] = tuple(own[name] if name in own else named_rule(name) for name in rules)
    if smallest_effect:
        from analysis.scaling.predictors import find_predictor

        for name, value in smallest_effect.items():
            find_predictor(name)
            if not value > 0:
                raise AnalysisError(f"The smallest effect of {name} is {value:g}; it must be above 0.")
        changes["smallest_effect"] = {**settings.smallest_effect, **smallest_effect}
    if lapse is not None:
        changes["lapse"] = lapse
    if seed is not None:
        changes["seed"] = seed
    return analyze_answers(
        path, out, settings=replace(settings, **changes), database=database, pilot=pilot, models=models,
        reporter=reporter or default_reporter(),
    )  # fmt: skip


def draft_plan(study: Path | str, out: Path | str | None = None) -> Path:
    """Draft the plan of a study's analysis, with blanks that must be filled; returns its file."""
    from analysis.preregistration import write_plan_template

    return write_plan_template(study, out)


def freeze_plan(study: Path | str, plan: Path | str, *, amend: bool = False, database: str = "") -> Preregistration:
    """Freeze a plan into a study's folder, with hash and date.

    Raises
    ------
    DocumentError
        If the plan has blanks or mistakes.
    AnalysisError
        If it is not about this study, or one was frozen before.
    """
    from analysis.preregistration import preregister

    return preregister(study, plan, amend=amend, database=database)


def assess_power(
    design: Path | str | None = None,
    goal: str = "slope",
    *,
    effect: float | None = None,
    bound: float | None = None,
    power: float = 0.8,
    simulations: int = 1000,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Assessment:
    """Simulate a design, and say what it can see.

    Parameters
    ----------
    design
        A design's TOML file, an experiment file, or a study's folder; the 2023 study if None.
    goal
        ``slope``, ``equivalence``, ``difference``, ``condition`` or ``width``.
    effect
        The true effect, as a proportion (per decade, for slopes).
    bound
        The margin of equivalence, or the width that is wanted.
    power
        The power that is wanted.
    simulations
        Simulated studies.
    seed
        Of the simulation.
    reporter
        Shows progress.
    """
    from analysis.power import Goal, describe_power, find_design

    return describe_power(
        find_design(design), _one_of(Goal, "goal", goal), effect=effect, bound=bound, power=power,
        simulations=simulations, seed=seed, reporter=reporter or default_reporter(),
    )  # fmt: skip


def optimize_design(design: Path | str | None, budget: float | None, aim: str = "mean") -> Optimum:
    """Say how a budget is best spent on units, participants and models.

    Parameters
    ----------
    design
        As in ``assess_power``.
    budget
        In USD; what the design costs if None.
    aim
        ``mean``, ``difference`` or ``slope``: whose standard error is to be smallest.
    """
    from analysis.power import find_design, optimize
    from analysis.power.optimization import Aim

    return optimize(find_design(design), budget, _one_of(Aim, "aim", aim))


def forecast_sessions(source: Path | str, width: float = 0.02, *, database: str = "") -> Forecast:
    """Say how many more sessions it takes until every model's interval is as narrow as asked.

    Parameters
    ----------
    source
        A study's folder, an import, or a table of responses.
    width
        Width of the interval: .02 is one point on either side.
    database
        URL of the study's database, where it is not the study's own.
    """
    from analysis.dataset import read_dataset
    from analysis.power import sessions_until
    from analysis.report import Material, settings_for, study_at

    path = Path(source)
    return sessions_until(Material(read_dataset(path, database), settings_for(study_at(path))).headline, width)
