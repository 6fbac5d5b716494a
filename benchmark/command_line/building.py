"""Verbs that build studies, let machines answer and show what was made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.command_line.options import Address, Device, EngineName, StudyFolder, app, terminal_reporter
from benchmark.commands import spell_command

if TYPE_CHECKING:
    from benchmark.experiment import Experiment
    from benchmark.study import Study


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the study.")] = Path("demo"), device: Device = "auto"
) -> None:
    """Run the main job on three real models and real photographs, in minutes."""
    from benchmark.command_line.tables import print_scores
    from benchmark.workflow import run_demo

    made = run_demo(out, device=device, reporter=terminal_reporter())
    print_scores(made.scores, made.study)
    print(f"\nFigure   {made.figure}\nTrial    {made.trial}\nGallery  {made.gallery}")
    print(
        f"\nOpen {made.gallery} in a browser; then write an experiment of your own, starting from "
        f"{out / 'experiment.toml'}, and run:\n  vimi build EXPERIMENT.toml --out STUDY --dry-run\n"
        f"To do the task that people would do, run:\n  {spell_command('serve', out, '--preview')}"
    )


@app.command()
def build(
    experiment: Annotated[Path, typer.Argument(help="The experiment file.")],
    out: Annotated[Path, typer.Option(help="Folder of the study.")] = Path("study"),
    stage: Annotated[
        str, typer.Option(help="Build up to: units, activations, exemplars, visualizations, trials.")
    ] = "",
    device: Device = "auto",
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out files that are no readable picture, and count them.")
    ] = False,
    twin: Annotated[
        bool, typer.Option("--twin", help="Build the random-weight twin of every model too, whatever the file says.")
    ] = False,
    extend: Annotated[
        bool,
        typer.Option(
            "--extend", help="Add the file's new models, conditions and difficulties to the study in the folder."
        ),
    ] = False,
    anchor: Annotated[
        str, typer.Option(help="With --extend: the old model that people judge again, if not the first.")
    ] = "",
    engine: EngineName = "local",
    address: Address = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would take.")] = False,
) -> None:
    """Build a study from an experiment file, go on building it, or extend it."""
    from benchmark import workflow
    from benchmark.command_line.tables import print_forecast, print_study
    from benchmark.experiment import read_experiment

    described = read_experiment(experiment)
    if twin:
        described = described.with_twins()
    if dry_run:
        print_forecast(workflow.forecast(described, device=device, reporter=terminal_reporter()))
        if extend:
            print("This is what the whole experiment takes; an extension makes only what the study lacks.")
        return
    study = workflow.build(
        described, out, stage=stage or None, device=device, skip_unreadable=skip_unreadable, extend=extend,
        anchor=anchor, engine=engine, address=address, reporter=terminal_reporter(),
    )  # fmt: skip
    print_study(study)
    if extend:
        _print_waves(study, described)


def _print_waves(study: Study, described: Experiment) -> None:
    """Print the waves of a study that is being extended."""
    from benchmark.waves import read_waves

    if described.hash != study.manifest["experiment"]:
        print("The extension is not finished, and the study is as it was: leave --stage out to go on.")
        return
    for wave in read_waves(study.manifest):
        repeated = f"; judged again: {wave.anchor}" if wave.anchor else ""
        print(f"Wave {wave.number}: {', '.join(cell.name for cell in wave.cells)}{repeated}")
    print("Servers that are running hand out the new sessions once they are restarted.")


@app.command()
def observe(
    study: StudyFolder,
    observer: Annotated[
        list[str],
        typer.Option(help="random, oracle, label, lowlevel, features:CARD, lpips, dreamsim; may be repeated."),
    ],
    references: Annotated[str, typer.Option(help="Sides to show: both, max, min, none; several with commas.")] = "both",
    shuffle_references: Annotated[
        bool,
        typer.Option("--shuffle-references", help="Deal references at random: a check that answers are then chance."),
    ] = False,
    device: Device = "auto",
    engine: EngineName = "local",
    address: Address = "",
) -> None:
    """Let machine observers answer the tasks of a study."""
    from benchmark.command_line.tables import print_scores
    from benchmark.study import Study
    from benchmark.workflow import observe_study_together, score_study

    opened = Study.open(study)
    kinds = tuple(part.strip() for part in references.split(","))
    observe_study_together(
        opened, observer, references=kinds, shuffle_references=shuffle_references,  # type: ignore[arg-type]
        device=device, engine=engine, address=address, reporter=terminal_reporter(),
    )  # fmt: skip
    print_scores(score_study(opened), opened)


@app.command()
def gallery(study: StudyFolder) -> None:
    """Write a static page with a card for every unit."""
    from benchmark.workflow import make_gallery

    print(make_gallery(study, terminal_reporter()))
