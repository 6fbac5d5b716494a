"""Verbs that build studies, let machines answer and show what was made."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.command_line.options import (
    BUILD,
    Address,
    Device,
    EngineName,
    StudyFolder,
    app,
    complete_from,
    terminal_reporter,
)
from benchmark.command_line.reporting import Told, reporting
from benchmark.commands import spell_command

if TYPE_CHECKING:
    from benchmark.experiment import Experiment
    from benchmark.study import Study


@reporting(app, "new", BUILD)
def new(
    name: Annotated[Path, typer.Argument(help="Write this new folder.")],
    story: Annotated[
        str,
        typer.Option(
            help="Start to build, host, analyse, or add to the leaderboard.",
            autocompletion=complete_from("build", "host", "analyse", "leaderboard"),
        ),
    ] = "build",
    language: Annotated[
        str, typer.Option(help="Write participants' texts in this language.", autocompletion=complete_from("en", "de"))
    ] = "en",
) -> Told:
    """Write a new folder with files that you can use at once.

    The stories are build (a study), host (an experiment with people, with a consent text to fill), analyse (a mapping
    for a table of answers) and leaderboard (a model of your own). Each folder has a README with the commands that come
    next. Nothing is overwritten.
    """
    from benchmark.workflow.starting import start

    started = start(name, story, language)

    def show() -> None:
        print(f"Wrote {started.folder}: " + ", ".join(map(str, started.files)))
        for file, what in started.fill_in.items():
            print(f"Fill in {file}: {what}.")
        print("Next:")
        for command in (shlex.join(["cd", str(started.folder)]), *started.next):
            print(f"  {command}")

    return Told(lambda: {"started": started}, show)


@reporting(app, "demo", BUILD)
def demo(
    out: Annotated[Path, typer.Option(help="Write the study to this folder.")] = Path("demo"), device: Device = "auto"
) -> Told:
    """Build a small study of three real models, in minutes.

    Three machine observers answer it. The result is a table, a figure, a trial and a gallery. The pictures are crops of
    a few photographs, so the numbers show that everything works; they measure nothing.
    """
    from benchmark.command_line import facts
    from benchmark.command_line.tables import print_scores
    from benchmark.workflow import run_demo

    made = run_demo(out, device=device, reporter=terminal_reporter())

    def show() -> None:
        print_scores(made.scores, made.study)
        print(f"\nFigure   {made.figure}\nTrial    {made.trial}\nGallery  {made.gallery}")
        print(
            f"\nOpen {made.gallery} in a browser. Then write an experiment of your own:\n"
            f"  {spell_command('new', 'my_study', '--story', 'build')}\n"
            f"To do the task that people would do, run:\n  {spell_command('serve', out, '--preview')}"
        )

    places = {"figure": made.figure, "trial": made.trial, "gallery": made.gallery}
    return Told(lambda: facts.score_facts(made.scores, made.study) | places, show)


@reporting(app, "build", BUILD)
def build(
    experiment: Annotated[Path, typer.Argument(help="Read this experiment file.")],
    out: Annotated[Path, typer.Option(help="Write the study to this folder.")] = Path("study"),
    stage: Annotated[
        str,
        typer.Option(
            help="Stop after this stage, such as exemplars.",
            autocompletion=complete_from("units", "activations", "exemplars", "visualizations", "trials"),
        ),
    ] = "",
    device: Device = "auto",
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Skip and count files that are no readable picture.")
    ] = False,
    twin: Annotated[bool, typer.Option("--twin", help="Build the random-weight twin of every model, too.")] = False,
    extend: Annotated[bool, typer.Option("--extend", help="Add what the file has and the study lacks.")] = False,
    anchor: Annotated[str, typer.Option(help="Repeat this old model when you extend; else the first.")] = "",
    engine: EngineName = "local",
    address: Address = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Forecast time, disk and cost; build nothing.")] = False,
) -> Told:
    """Build a study from an experiment file, or resume it.

    The stages are units, activations, exemplars, visualizations and trials. An interrupted build goes on where it
    stopped when you run the same command again.

    With --extend, the study in the folder gets the new models, conditions and difficulties of the file. Old trials and
    answers stay as they are. People judge one old model again, so that old and new answers can be compared; --anchor
    chooses which.

    With --engine ray, workers of a Ray cluster measure activations and make synthetic pictures. --address is HOST:PORT
    of its head, ray://HOST:PORT from outside, or auto for the cluster on this machine.
    """
    from benchmark import workflow
    from benchmark.command_line import facts
    from benchmark.command_line.tables import print_forecast, print_study
    from benchmark.experiment import read_experiment

    described = read_experiment(experiment)
    if twin:
        described = described.with_twins()
    if dry_run:
        forecast = workflow.forecast(described, device=device, reporter=terminal_reporter())

        def show_forecast() -> None:
            print_forecast(forecast)
            if extend:
                print("This is what the whole experiment takes; an extension makes only what the study lacks.")

        return Told(lambda: facts.forecast_facts(forecast), show_forecast)
    study = workflow.build(
        described, out, stage=stage or None, device=device, skip_unreadable=skip_unreadable, extend=extend,
        anchor=anchor, engine=engine, address=address, reporter=terminal_reporter(),
    )  # fmt: skip

    def show() -> None:
        print_study(study)
        if extend:
            _print_waves(study, described)

    return Told(lambda: facts.study_facts(study) | {"waves": facts.wave_facts(study)}, show)


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


@reporting(app, "observe", BUILD)
def observe(
    study: StudyFolder,
    observer: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="Let this observer answer; repeat for several.",
            autocompletion=complete_from("random", "oracle", "label", "lowlevel", "lpips", "dreamsim"),
        ),
    ],
    references: Annotated[str, typer.Option(help="Show these sides: both, max, min, none, or several.")] = "both",
    shuffle_references: Annotated[
        bool, typer.Option("--shuffle-references", help="Deal references at random: answers must be at chance.")
    ] = False,
    device: Device = "auto",
    engine: EngineName = "local",
    address: Address = "",
) -> Told:
    """Let machine observers answer the trials of a study.

    Observers are random, oracle, label, lowlevel (colour and spectrum, the control), features:CARD (the last layer of a
    network), lpips and dreamsim. Several sides are separated by commas: both,none.
    """
    from benchmark.command_line import facts
    from benchmark.command_line.tables import print_scores
    from benchmark.study import Study
    from benchmark.workflow import observe_study_together, score_study

    opened = Study.open(study)
    kinds = tuple(part.strip() for part in references.split(","))
    observe_study_together(
        opened, observer, references=kinds, shuffle_references=shuffle_references,  # type: ignore[arg-type]
        device=device, engine=engine, address=address, reporter=terminal_reporter(),
    )  # fmt: skip
    scores = score_study(opened)
    return Told(lambda: facts.score_facts(scores, opened), lambda: print_scores(scores, opened))


@reporting(app, "gallery", BUILD)
def gallery(study: StudyFolder) -> Told:
    """Write a static page with a card for every unit."""
    from benchmark.workflow import make_gallery

    page = make_gallery(study, terminal_reporter())
    return Told(lambda: {"page": page}, lambda: print(page))
