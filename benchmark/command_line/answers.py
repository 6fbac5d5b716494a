"""Verbs that turn answers into claims: import, preregister, analyze, power."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.command_line.options import Database, StudyFolder, app, terminal_reporter
from benchmark.commands import spell_command

Source = Annotated[
    Path, typer.Argument(help="A study, a folder that an import wrote, or a Parquet or CSV file of responses.")
]


@app.command("import-imi")
def import_imi(
    path: Annotated[Path, typer.Argument(help="The 2023 release, or one of its CSV files.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("imi"),
    table: Annotated[str, typer.Option(help="main, all or lower_quality.")] = "main",
) -> None:
    """Import people's answers of the 2023 release."""
    from benchmark.command_line.tables import print_import
    from benchmark.workflow import import_release

    done = import_release(path, out, table)
    print_import(done.description, done.answers, done.sessions, out)


@app.command("import-csv")
def import_csv(
    files: Annotated[list[Path], typer.Argument(help="A table, several, a folder of them or a pattern.")],
    mapping: Annotated[Path, typer.Option(help="TOML file that says what its columns and values mean.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("imported"),
) -> None:
    """Import another laboratory's table, as a mapping describes it."""
    from benchmark.command_line.tables import print_import
    from benchmark.workflow import import_table

    done = import_table(files, mapping, out)
    print_import(done.description, done.answers, done.sessions, out)


@app.command()
def preregister(
    study: StudyFolder,
    plan: Annotated[
        Path | None, typer.Option(help="The plan to freeze; without one, a plan with blanks is drafted.")
    ] = None,
    amend: Annotated[bool, typer.Option("--amend", help="Freeze an amendment beside the earlier plan.")] = False,
    database: Database = "",
) -> None:
    """Freeze design, exclusions, smallest effects, families and stopping rule, with hash and date."""
    from benchmark import workflow

    if plan is None:
        draft = workflow.draft_plan(study)
        print(f"Fill the blanks of {draft}, then:\n  {spell_command('preregister', study, '--plan', draft)}")
        return
    frozen = workflow.freeze_plan(study, plan, amend=amend, database=database)
    print(f"Frozen on {frozen.frozen_at:%Y-%m-%d %H:%M} UTC with {frozen.answers:,} answers in: {frozen.path}")
    print(f"Hash, to be noted elsewhere: {frozen.hash}")


@app.command()
def analyze(
    source: Source,
    out: Annotated[Path | None, typer.Option(help="Folder of the report.")] = None,
    smallest_effect: Annotated[
        list[str] | None,
        typer.Option(
            help="PREDICTOR=VALUE, as a proportion per unit of the slope: 'parameters=0.03'; may be repeated."
        ),
    ] = None,
    rules: Annotated[
        str, typer.Option(help="Exclusion rules by name, with commas between, or 'none'; else the study's own.")
    ] = "",
    models: Annotated[
        Path | None, typer.Option(help="CSV file with parameters, training_images, top1 of models.")
    ] = None,
    lapse: Annotated[float | None, typer.Option(help="Lapse rate; else from catch trials.", min=0, max=0.4)] = None,
    mean: Annotated[str, typer.Option(help="Take means over units or over answers.")] = "units",
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out the mixed model and the grid of exclusions.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Of bootstraps and permutations.")] = None,
    database: Database = "",
    pilot: Annotated[bool, typer.Option("--pilot", help="The pilot's answers instead of the study's.")] = False,
) -> None:
    """Write a report of what answers mean: estimates, tests, figures, verdicts."""
    from benchmark import workflow
    from benchmark.command_line.tables import print_report

    named = None if not rules else () if rules == "none" else tuple(name.strip() for name in rules.split(","))
    report, written = workflow.analyze(
        source, out, rules=named, smallest_effect=_effects(smallest_effect or []), models=models, lapse=lapse,
        mean=mean, quick=quick, seed=seed, database=database, pilot=pilot, reporter=terminal_reporter(),
    )  # fmt: skip
    print_report(report, written)


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


@app.command()
def power(
    design: Annotated[
        Path | None, typer.Argument(help="A design or experiment file, or a study; else the study of 2023.")
    ] = None,
    goal: Annotated[str, typer.Option(help="slope, equivalence, difference, condition or width.")] = "slope",
    effect: Annotated[
        float | None, typer.Option(help="True effect, as a proportion (per decade of parameters, for slopes).")
    ] = None,
    bound: Annotated[float | None, typer.Option(help="Margin of equivalence, or the width wanted.")] = None,
    wanted: Annotated[float, typer.Option("--power", help="The power that is wanted.", min=0.05, max=0.99)] = 0.8,
    budget: Annotated[
        float | None, typer.Option(help="USD to spend: say how many units, people and models are best.", min=0)
    ] = None,
    aim: Annotated[str, typer.Option(help="With --budget: mean, difference or slope.")] = "mean",
    until: Annotated[
        float | None, typer.Option(help="Width of an interval: how many more sessions would the answers so far need?")
    ] = None,
    simulations: Annotated[int, typer.Option(help="Simulated studies.", min=50, max=1_000_000)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 0,
    database: Database = "",
) -> None:
    """Say what a design can see, how money is best spent on it, or how many more sessions are needed."""
    from benchmark import workflow
    from benchmark.command_line.tables import print_assessment, print_optimum, print_outlook

    if until is not None:
        if design is None:
            raise typer.BadParameter("name the study or the answers", param_hint="DESIGN")
        print_outlook(workflow.forecast_sessions(design, until, database=database))
        return
    if budget is not None:
        print_optimum(workflow.optimize_design(design, budget, aim))
        return
    print_assessment(
        workflow.assess_power(
            design, goal, effect=effect, bound=bound, power=wanted, simulations=simulations, seed=seed,
            reporter=terminal_reporter(),
        )
    )  # fmt: skip
