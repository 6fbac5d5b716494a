"""Verbs that turn answers into claims: import, preregister, analyze, power."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.command_line.options import (
    ANALYSE,
    Database,
    Pilot,
    Seed,
    StudyFolder,
    app,
    complete_from,
    terminal_reporter,
)
from benchmark.command_line.reporting import Told, reporting
from benchmark.commands import spell_command

if TYPE_CHECKING:
    from benchmark.workflow.answers import Imported


@reporting(app, "analyze", ANALYSE)
def analyze(
    source: Annotated[Path, typer.Argument(help="Read this study, import, or Parquet or CSV file.")],
    out: Annotated[Path | None, typer.Option(help="Write the report to this folder.")] = None,
    smallest_effect: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Declare a smallest effect: parameters=0.03."),
    ] = None,
    rules: Annotated[str, typer.Option(help="Exclude by these rules, with commas, or by 'none'.")] = "",
    models: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Read parameters, training_images, top1 here.")
    ] = None,
    lapse: Annotated[
        float | None, typer.Option(help="Set the lapse rate; else catch trials tell it.", min=0, max=0.4)
    ] = None,
    mean: Annotated[
        str,
        typer.Option(help="Take means over units or over answers.", autocompletion=complete_from("units", "answers")),
    ] = "units",
    quick: Annotated[bool, typer.Option("--quick", help="Skip the mixed model and the grid of exclusions.")] = False,
    seed: Annotated[int | None, typer.Option(help="Seed bootstraps and permutations with this.")] = None,
    database: Database = "",
    pilot: Pilot = False,
) -> Told:
    """Write a report: estimates, tests, figures, verdicts.

    It reads a study, a folder that an import wrote, or a file of responses. Without --rules, a study's own exclusion
    rules apply. --smallest-effect may be repeated: PREDICTOR=VALUE, as a proportion per unit of the slope.
    """
    from benchmark import workflow
    from benchmark.command_line import facts
    from benchmark.command_line.tables import print_report

    named = None if not rules else () if rules == "none" else tuple(name.strip() for name in rules.split(","))
    report, written = workflow.analyze(
        source, out, rules=named, smallest_effect=_effects(smallest_effect or []), models=models, lapse=lapse,
        mean=mean, quick=quick, seed=seed, database=database, pilot=pilot, reporter=terminal_reporter(),
    )  # fmt: skip
    return Told(lambda: facts.report_facts(report, written), lambda: print_report(report, written))


def _effects(given: list[str]) -> dict[str, float]:
    """Read declared smallest effects."""
    effects = {}
    for text in given:
        name, sign, value = text.partition("=")
        try:
            effects[name.strip()] = float(value)
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is not PREDICTOR=VALUE, as in 'parameters=0.03'", param_hint="--smallest-effect"
            ) from None
        if not sign:
            raise typer.BadParameter(f"{text!r} lacks a value", param_hint="--smallest-effect")
    return effects


@reporting(app, "power", ANALYSE)
def power(
    design: Annotated[
        Path | None, typer.Argument(help="Read this design, experiment or study; else the 2023 study.")
    ] = None,
    goal: Annotated[
        str,
        typer.Option(
            help="Detect slope, equivalence, difference, condition or width.",
            autocompletion=complete_from("slope", "equivalence", "difference", "condition", "width"),
        ),
    ] = "slope",
    effect: Annotated[float | None, typer.Option(help="Assume this true effect, as a proportion.")] = None,
    bound: Annotated[float | None, typer.Option(help="Set the equivalence margin, or the width wanted.")] = None,
    wanted: Annotated[float, typer.Option("--power", help="Ask for this power.", min=0.05, max=0.99)] = 0.8,
    budget: Annotated[float | None, typer.Option(metavar="USD", help="Spend this much in the best way.", min=0)] = None,
    aim: Annotated[str, typer.Option(help="Optimise a mean, difference or slope, with --budget.")] = "mean",
    until: Annotated[
        float | None, typer.Option(metavar="WIDTH", help="Count the sessions needed for such intervals.")
    ] = None,
    simulations: Annotated[int, typer.Option(help="Simulate so many studies.", min=50, max=1_000_000)] = 1000,
    seed: Seed = 0,
    database: Database = "",
) -> Told:
    """Compute power, best allocation and sessions needed.

    Without --budget or --until, it simulates the design and prints what it can detect. --effect is per decade of
    parameters if the goal is a slope. --budget finds the best numbers of units, people and models. --until counts how
    many more sessions a study with answers needs.
    """
    from benchmark import workflow
    from benchmark.command_line import facts
    from benchmark.command_line.tables import print_assessment, print_optimum, print_outlook

    if until is not None:
        if design is None:
            raise typer.BadParameter("name the study or the answers", param_hint="DESIGN")
        outlook = workflow.forecast_sessions(design, until, database=database)
        return Told(lambda: facts.outlook_facts(outlook), lambda: print_outlook(outlook))
    if budget is not None:
        optimum = workflow.optimize_design(design, budget, aim)
        return Told(lambda: facts.optimum_facts(optimum), lambda: print_optimum(optimum))
    assessment = workflow.assess_power(
        design, goal, effect=effect, bound=bound, power=wanted, simulations=simulations, seed=seed,
        reporter=terminal_reporter(),
    )  # fmt: skip
    return Told(lambda: facts.power_facts(assessment), lambda: print_assessment(assessment))


@reporting(app, "preregister", ANALYSE)
def preregister(
    study: StudyFolder,
    plan: Annotated[Path | None, typer.Option(help="Freeze this plan; without one, draft a plan.")] = None,
    amend: Annotated[bool, typer.Option("--amend", help="Freeze an amendment beside the earlier plan.")] = False,
    database: Database = "",
) -> Told:
    """Draft or freeze the plan of a study's analysis.

    The plan says design, exclusions, smallest effects, families and stopping rule. The draft has blanks to fill; a
    frozen plan has a hash and a date.
    """
    from benchmark import workflow

    if plan is None:
        draft = workflow.draft_plan(study)
        command = spell_command("preregister", study, "--plan", draft)
        return Told(lambda: {"draft": draft}, lambda: print(f"Fill the blanks of {draft}, then:\n  {command}"))
    frozen = workflow.freeze_plan(study, plan, amend=amend, database=database)

    def show() -> None:
        print(f"Frozen on {frozen.frozen_at:%Y-%m-%d %H:%M} UTC with {frozen.answers:,} answers in: {frozen.path}")
        print(f"Hash, to be noted elsewhere: {frozen.hash}")

    names = ("hash", "frozen_at", "answers", "people", "sessions", "amends", "path")
    return Told(lambda: {name: getattr(frozen, name) for name in names}, show)


@reporting(app, "import-csv", ANALYSE)
def import_csv(
    files: Annotated[list[Path], typer.Argument(help="Read these tables, folders or patterns.")],
    mapping: Annotated[Path, typer.Option(metavar="TOML", help="Map columns and values by this file.")],
    out: Annotated[Path, typer.Option(help="Write the import to this folder.")] = Path("imported"),
) -> Told:
    """Import a table of answers by a mapping file.

    vimi new NAME --story analyse writes a mapping to start from; docs/importing.md explains all that it may say.
    """
    from benchmark.workflow import import_table

    return _tell_import(import_table(files, mapping, out), out)


@reporting(app, "import-imi", ANALYSE)
def import_imi(
    path: Annotated[Path, typer.Argument(help="Read the 2023 release, or one of its CSV files.")],
    out: Annotated[Path, typer.Option(help="Write the import to this folder.")] = Path("imi"),
    table: Annotated[
        str,
        typer.Option(
            help="Import the table main, all or lower_quality.",
            autocompletion=complete_from("main", "all", "lower_quality"),
        ),
    ] = "main",
) -> Told:
    """Import people's answers from the 2023 release."""
    from benchmark.workflow import import_release

    return _tell_import(import_release(path, out, table), out)


def _tell_import(done: Imported, out: Path) -> Told:
    """Tell what an import has read."""
    from benchmark.command_line import facts
    from benchmark.command_line.tables import print_import

    parts = (done.description, done.answers, done.sessions, out)
    return Told(lambda: facts.import_facts(*parts), lambda: print_import(*parts))
