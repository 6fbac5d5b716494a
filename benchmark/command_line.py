"""The command line. A verb reads its arguments, calls one public function and says what came out.

Nothing heavy is imported before a verb runs, so that ``vimi --help`` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark import __version__
from benchmark.errors import VimiError

if TYPE_CHECKING:
    from benchmark.progress import TerminalReporter

app = typer.Typer(
    name="vimi",
    help="Measure how well people, and machine observers in their place, understand units of vision models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
models_app = typer.Typer(help="Models: cards, layers and weights.", no_args_is_help=False, invoke_without_command=True)
app.add_typer(models_app, name="models")

Device = Annotated[str, typer.Option(help="Where networks run: auto, cpu, cuda.")]
StudyFolder = Annotated[Path, typer.Argument(help="Folder of the study.")]

_INTERRUPTED = 130


def main() -> None:
    """Run the command line; a user's mistake ends in a message and exit code 2, never in a traceback."""
    try:
        app(prog_name="vimi")
    except VimiError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            print("\nInterrupted. What is finished is kept: run the same command again to go on.", file=sys.stderr)
        raise


def _version(asked: bool) -> None:
    if asked:
        print(f"vimi {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Options of the whole command."""


def _reporter() -> TerminalReporter:
    from benchmark.progress import TerminalReporter

    return TerminalReporter()


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the study.")] = Path("demo"), device: Device = "auto"
) -> None:
    """Run the main job on three real models and real photographs, in minutes."""
    from benchmark.report import print_scores
    from benchmark.workflow import run_demo

    made = run_demo(out, device=device, reporter=_reporter())
    print_scores(made.scores, made.study.manifest["notes"])
    print(f"\nFigure   {made.figure}\nTrial    {made.trial}\nGallery  {made.gallery}")
    print(
        f"\nOpen {made.gallery} in a browser; then write an experiment of your own, starting from "
        f"{out / 'experiment.toml'}, and run: vimi build EXPERIMENT.toml --out STUDY --dry-run"
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would take.")] = False,
) -> None:
    """Build a study from an experiment file, or go on building it."""
    from benchmark import workflow
    from benchmark.experiment import read_experiment
    from benchmark.report import print_forecast, print_study

    described = read_experiment(experiment)
    if twin:
        described = described.with_twins()
    if dry_run:
        print_forecast(workflow.forecast(described, device=device, reporter=_reporter()))
        return
    study = workflow.build(
        described, out, stage=stage or None, device=device, skip_unreadable=skip_unreadable, reporter=_reporter()
    )
    print_study(study)


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
) -> None:
    """Let machine observers answer the tasks of a study."""
    from benchmark.report import print_scores
    from benchmark.study import Study
    from benchmark.workflow import observe_study, score_study

    opened = Study.open(study)
    kinds = tuple(part.strip() for part in references.split(","))
    for name in observer:
        observe_study(
            opened, name, references=kinds, shuffle_references=shuffle_references,  # type: ignore[arg-type]
            device=device, reporter=_reporter(),
        )  # fmt: skip
    print_scores(score_study(opened), opened.manifest["notes"])


@app.command()
def gallery(study: StudyFolder) -> None:
    """Write a static page with a card for every unit."""
    from benchmark.workflow import make_gallery

    print(make_gallery(study, _reporter()))


@app.command()
def doctor() -> None:
    """Check the installation: versions, where packages are loaded from, weights, pictures."""
    from benchmark.doctor import examine
    from benchmark.report import print_findings

    findings = examine()
    print_findings(findings)
    if any(finding.state == "fail" for finding in findings):
        raise SystemExit(1)


@models_app.callback()
def models(context: typer.Context) -> None:
    """List the models that have cards."""
    if context.invoked_subcommand is None:
        from benchmark.report import print_cards

        print_cards()


@models_app.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="A card's name, timm:NAME, NAME.TAG, or a card's TOML file.")],
    weights: Annotated[str, typer.Option(help="A checkpoint to load, or 'random'.")] = "",
    layers: Annotated[bool, typer.Option("--layers", help="List every eligible layer.")] = False,
) -> None:
    """Show a model: layers, units, what it was trained on, whether its weights are on this machine."""
    from benchmark.report import print_model

    print_model(name, weights, layers)


@models_app.command("convert")
def convert_model(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint that holds more than weights.")],
    out: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
) -> None:
    """Take the weights out of a checkpoint without running any code from it."""
    from benchmark.conversion import convert_checkpoint

    print(f"{convert_checkpoint(checkpoint, out)} tensors written to {out}")


if __name__ == "__main__":
    main()
