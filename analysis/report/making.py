"""From a data set to its report: the sections in order, and the facts at the top."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.dataset import Dataset, read_dataset
from analysis.estimands import spell_estimand
from analysis.exclusions import AUTHENTIC, protocol_rules
from analysis.figures.words import number
from analysis.judgement_table import PEOPLE, about_trained
from analysis.preregistration import preregistrations
from analysis.proportions import Mean, ProportionCell
from analysis.report.document import Finding, Report, Section
from analysis.report.material import Material, ReportSettings
from analysis.report.sections.answers import describe_answers
from analysis.report.sections.machine_scaling import MachineScaling, machine_verdicts, scale_machines
from analysis.report.sections.machines import compare_with_people, machine_names, score_observers
from analysis.report.sections.mixed_model import describe_mixed_model, mixed_model_rung
from analysis.report.sections.people import compare_people
from analysis.report.sections.psychophysics import check_controls, describe_confidence, describe_difficulty
from analysis.report.sections.registration import compare_with_registration
from analysis.report.sections.reliability import describe_reliability, look_ahead
from analysis.report.sections.robustness import vary_choices
from analysis.report.sections.scaling import describe_scaling, verdict_findings
from analysis.report.sections.scores import MEANS, compare, score_models
from analysis.report.writing import Written, write_report
from analysis.scaling import ScalingStudy, fit_scaling, tabulate_means
from benchmark import __version__
from benchmark.errors import AnalysisError
from benchmark.progress import Reporter
from benchmark.schemas import PERSON
from benchmark.study import Study, package_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


FEW_CELLS = 8
"""With more models and conditions, their means are no headline."""


def make_report(
    dataset: Dataset,
    settings: ReportSettings | None = None,
    *,
    study: Study | None = None,
    reporter: Reporter | None = None,
) -> Report:
    """Analyse a data set.

    Parameters
    ----------
    dataset
        The data set.
    settings
        What to do.
    study
        The study that the answers come from, if they do.
    reporter
        Shows progress.

    Returns
    -------
    The report. What the data can't carry is said in it, section by section.

    Raises
    ------
    AnalysisError
        If there is no answer at all to analyse.
    """
    material = Material(dataset, settings or ReportSettings(), study, reporter or Reporter())
    machines = bool(machine_names(material.responses))
    if not material.has_people and not machines:
        raise AnalysisError(
            f"{dataset.name} has no main answers left to analyse: {material.exclusion.sentence()} Relax the rules "
            "with --rules, or collect answers first."
        )
    steps: list[tuple[str, Callable[[], Section]]] = [("answers", lambda: describe_answers(material))]
    scaling: list[ScalingStudy] = []
    if material.has_people:
        steps += [
            ("scores", lambda: score_models(material)),
            ("differences", lambda: compare(material)),
            ("scaling", lambda: _scale(material, scaling)),
            ("mixed model", lambda: describe_mixed_model(material)),
            ("robustness", lambda: vary_choices(material, scaling[0] if scaling else None)),
            ("controls", lambda: check_controls(material)),
            ("difficulty", lambda: describe_difficulty(material)),
            ("confidence", lambda: describe_confidence(material)),
            ("reliability", lambda: describe_reliability(material)),
            ("outlook", lambda: look_ahead(material)),
        ]
        if any(str(name).startswith(PERSON) for name in material.responses.columns):
            steps.append(("groups of people", lambda: compare_people(material)))
    machine_scaling: list[MachineScaling] = []
    if machines:
        steps.append(("machines", lambda: score_observers(material)))
        steps.append(("machine scaling", lambda: scale_machines(material, machine_scaling)))
    if machines and material.has_people:
        steps.append(("agreement", lambda: compare_with_people(material)))
    steps.append(("registration", lambda: compare_with_registration(material, scaling[0] if scaling else None)))
    sections = []
    seconds = {}
    for name, make in steps:
        began = time.perf_counter()
        with material.reporter.task(name, 1) as advance:
            sections.append(make())
            advance(1)
        seconds[name] = round(time.perf_counter() - began, 1)
    return Report(
        title=dataset.name,
        facts=_facts(material),
        notes=tuple(dataset.notes),
        headline=_headline(material, sections, scaling[0] if scaling else None, machine_scaling),
        sections=tuple(sections),
        manifest={**_manifest(material), "seconds": seconds},
    )


def analyze(
    source: Path | str,
    out: Path | str | None = None,
    *,
    settings: ReportSettings | None = None,
    database: str = "",
    pilot: bool = False,
    models: Path | str | None = None,
    reporter: Reporter | None = None,
) -> tuple[Report, Written]:
    """Analyse a study, an import or a table of responses, and write the report.

    Parameters
    ----------
    source
        A study's folder, a folder that an import wrote, or a Parquet or CSV file of responses.
    out
        Folder of the report; else ``results/report`` in a study, and ``report`` beside other answers.
    settings
        What to do.
    database
        URL of the study's database, where it is not the study's own.
    pilot
        Analyse the pilot's answers instead of the study's.
    models
        CSV file with what is known of the models.
    reporter
        Shows progress.

    Returns
    -------
    The report, and where it was written.
    """
    path = Path(source)
    dataset = read_dataset(path, database, pilot=pilot, models=models)
    study = study_at(path)
    report = make_report(dataset, settings or settings_for(study), study=study, reporter=reporter)
    folder = Path(out) if out is not None else _beside(path)
    return report, write_report(report, folder)


def study_at(path: Path) -> Study | None:
    """Return the study in a folder; None where answers come from elsewhere."""
    return Study.open(path) if (path / "experiment.toml").is_file() else None


def _beside(path: Path) -> Path:
    """Return where a report goes if nothing else is said."""
    if path.is_file():
        return path.with_name(f"{path.name.partition('.')[0]}-report")
    return path / "results" / "report" if (path / "experiment.toml").is_file() else path / "report"


def settings_for(study: Study | None, seed: int = 0) -> ReportSettings:
    """Return the settings that a study's frozen plan asks for; without one, those of its protocol.

    Raises
    ------
    AnalysisError
        If the plan was edited after it was frozen.
    """
    if study is None:
        return ReportSettings(seed=seed)
    rules = {rule.name: rule for rule in (*protocol_rules(study.protocol), AUTHENTIC)}
    plans = preregistrations(study)
    if not plans:
        return ReportSettings(rules=protocol_rules(study.protocol), seed=seed)
    plan = plans[-1].plan
    return ReportSettings(
        rules=tuple(rules[name] for name in plan.exclusions.rules),
        drawing=plan.estimand.drawing,
        predictors=plan.scaling.predictors,
        smallest_effect={name: value for name, value in plan.margins().items() if value is not None},
        families=plan.families(),
        rung=plan.scaling.rung,
        registration=plans[-1],
        seed=plan.analysis.seed,
    )


def _scale(material: Material, made: list[ScalingStudy]) -> Section:
    """Fit the slopes, keep them for the headline, and return their section."""
    settings = material.settings
    rung = mixed_model_rung(material) if settings.thorough else None
    means = tabulate_means(material.proportions)
    study = fit_scaling(
        means,
        material.dataset.models,
        predictors=settings.predictors,
        conditions=material.conditions,
        families=settings.families,
        smallest_effect=settings.smallest_effect,
        mixed_model=rung,
        rung=settings.rung,
        drawing=settings.drawing,
        seed=settings.seed,
    )
    made.append(study)
    return describe_scaling(study, means, material.dataset.models)


def _headline(
    material: Material, sections: list[Section], study: ScalingStudy | None, machines: Sequence[MachineScaling]
) -> tuple[Finding, ...]:
    """Return what answers the questions of the study: verdicts on scaling, or what stands first instead."""
    found = verdict_findings(study) if study else [one for own in machines for one in machine_verdicts(own)]
    carried = [finding for finding in found if finding.kind != "refused"]
    if not material.has_people:
        scores = next((section for section in sections if section.name == "machines"), None)
        return (*carried, *(scores.findings if scores else ()), *(() if carried else found[:1]))
    if carried:
        return tuple(carried)
    if len(material.proportions) <= FEW_CELLS:
        who = _who(material)
        return (*(_spell_cell(cell, material.settings.mean, who) for cell in material.proportions), *found[:1])
    first = [finding for section in sections if section.name == "differences" for finding in section.findings]
    return (*first, *found[:1])


def _spell_cell(cell: ProportionCell, mean: Mean, who: str) -> Finding:
    """Say how well a model's units are understood, by the mean that was asked for, with the other one beside it."""
    subject = f"{cell.names['model']}, {cell.names['condition']} references: "
    share = number(cell.right / cell.answers)
    if mean == "units":
        said = f"{who} answer {cell.estimate} of a unit's trials correctly, averaged over units"
        beside = f"Over all answers, each counted once, it is {share} ({cell.right:,} of {cell.answers:,})"
    else:
        said = f"{cell.estimate} of the answers of {who} are correct"
        beside = f"{cell.right:,} of {cell.answers:,} answers, each counted once"
    return Finding(
        subject + said + ".",
        f"{beside}; {_count(cell.people, 'person', 'people')}, {_count(cell.units, 'unit', 'units')}; chance is .5.",
    )


def _who(material: Material) -> str:
    """Return who answered: people, simulated people, or both."""
    own = material.responses
    kinds = set(own.loc[own["observer_kind"].isin(PEOPLE) & (own["kind"] == "main"), "observer_kind"])
    return (
        "people" if kinds == {"human"} else "simulated people" if kinds == {"simulated"} else "people (some simulated)"
    )


def _count(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"


def _facts(material: Material) -> tuple[tuple[str, str], ...]:
    own = material.responses
    people = own[own["observer_kind"].isin(PEOPLE) & (own["kind"] == "main")]
    facts = [("Data set", material.dataset.name), ("Protocol", material.dataset.protocol)]
    if len(people):
        table = material.headline
        kind = _who(material)
        facts += [
            ("Answers that count", f"{material.exclusion.kept:,}, of main and repeated trials"),
            ("Headline numbers", f"{len(table):,} of them: main, {material.difficulty}, both sides shown"),
            ("By", f"{table['participant'].nunique():,} {kind}"),
            (
                "About",
                f"{_count(table['unit'].nunique(), 'unit', 'units')} of "
                f"{_count(table['model'].nunique(), 'model', 'models')}",
            ),
            ("Estimand", spell_estimand("new units and people", material.settings.drawing)),
            ("Mean", MEANS[material.settings.mean].removeprefix("as the ")),
        ]
    machines = machine_names(own)
    if machines:
        asked = own[own["observer"].isin(machines) & (own["kind"] == "main") & about_trained(own)]
        facts.append(("Machine observers", ", ".join(machines)))
        facts.append(("Machine answers", f"{len(asked):,}, {_count(asked['model'].nunique(), 'model', 'models')}"))
    effects = material.settings.smallest_effect
    spelled = ", ".join(f"{name} {value:g}" for name, value in effects.items())
    facts.append(("Smallest effect of interest", spelled or "none declared"))
    return tuple(facts)


def _manifest(material: Material) -> dict[str, Any]:
    settings, dataset = material.settings, material.dataset
    return {
        "vimi": __version__,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": package_versions(),
        "seed": settings.seed,
        "settings": {
            "rules": {rule.name: rule.meaning for rule in settings.rules},
            "drawing": settings.drawing,
            "mean": settings.mean,
            "predictors": list(settings.predictors),
            "smallest_effect": dict(settings.smallest_effect),
            "families": {name: [list(test) for test in tests] for name, tests in (settings.families or {}).items()},
            "lapse": settings.lapse,
            "thorough": settings.thorough,
            "rung": settings.rung,
            "registration": settings.registration.hash if settings.registration else "",
        },
        "sources": dict(dataset.sources),
        "origin": dict(dataset.origin),
    }
