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
    from benchmark.experiment import Experiment
    from benchmark.progress import TerminalReporter
    from benchmark.study import Study

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
Database = Annotated[
    str, typer.Option(help="URL of the database: sqlite:///FILE or postgresql://…; VIMI_DATABASE, or the study's own.")
]

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
        f"{out / 'experiment.toml'}, and run: vimi build EXPERIMENT.toml --out STUDY --dry-run\n"
        f"To do the task that people would do, run: vimi serve {out} --preview"
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would take.")] = False,
) -> None:
    """Build a study from an experiment file, go on building it, or extend it."""
    from benchmark import workflow
    from benchmark.experiment import read_experiment
    from benchmark.report import print_forecast, print_study

    described = read_experiment(experiment)
    if twin:
        described = described.with_twins()
    if dry_run:
        print_forecast(workflow.forecast(described, device=device, reporter=_reporter()))
        if extend:
            print("This is what the whole experiment takes; an extension makes only what the study lacks.")
        return
    study = workflow.build(
        described, out, stage=stage or None, device=device, skip_unreadable=skip_unreadable, extend=extend,
        anchor=anchor, reporter=_reporter(),
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
def simulate(
    study: StudyFolder,
    participants: Annotated[int, typer.Option(min=1, help="How many simulated people come.")] = 50,
    seed: Annotated[int, typer.Option(help="Of all that is random about them.")] = 0,
    dropout: Annotated[float, typer.Option(min=0, max=1, help="Share who leave at a random moment.")] = 0.3,
    inattentive: Annotated[float, typer.Option(min=0, max=1, help="Share who always press the same button.")] = 0.05,
    interval: Annotated[float, typer.Option(min=0, help="Mean seconds between two arrivals.")] = 60.0,
    until_full: Annotated[
        bool, typer.Option("--until-full", help="Nobody comes any more once every slot is filled.")
    ] = False,
    pilot: Annotated[bool, typer.Option("--pilot", help="Take part in the pilot.")] = False,
    database: Annotated[
        str, typer.Option(help="Database URL; else simulation.sqlite in the study's folder, and with --http none.")
    ] = "",
    http: Annotated[str, typer.Option(help="Address of a server that was started with --bots.")] = "",
    workers: Annotated[int, typer.Option(min=1, max=256, help="With --http: bots that act at the same moment.")] = 16,
    speed: Annotated[float, typer.Option(min=0.1, help="With --http: how much faster than people bots live.")] = 1.0,
) -> None:
    """Let simulated people of known ability take part, and compare what they give with what is true."""
    from benchmark import workflow
    from benchmark.report import print_simulation

    print_simulation(
        workflow.simulate(
            study, participants, seed=seed, dropout=dropout, inattentive=inattentive, interval=interval,
            until_full=until_full, pilot=pilot, database=database, http=http, workers=workers, speed=speed,
            reporter=_reporter(),
        )
    )  # fmt: skip


@app.command()
def gallery(study: StudyFolder) -> None:
    """Write a static page with a card for every unit."""
    from benchmark.workflow import make_gallery

    print(make_gallery(study, _reporter()))


@app.command()
def serve(
    study: StudyFolder,
    database: Database = "",
    address: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of the machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8501,
    host: Annotated[
        list[str] | None, typer.Option(help="Name under which people reach the server; others are refused.")
    ] = None,
    pilot: Annotated[bool, typer.Option("--pilot", help="Keep answers apart as those of a pilot.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Look at every page; nothing is recorded.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Draw trials with plain buttons.")] = False,
    bots: Annotated[bool, typer.Option("--bots", help="Let simulated people take part over HTTP.")] = False,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Go on with another VIMI_SECRET than before, because that one is lost.")
    ] = False,
) -> None:
    """Put the forced-choice task on the web."""
    from benchmark.report import print_opening
    from benchmark.study import Study
    from benchmark.workflow import serve_study

    opened = Study.open(study)
    print_opening(opened, address, port, pilot=pilot, preview=preview, bots=bots)
    serve_study(
        opened, database, address=address, port=port, hosts=host or (), pilot=pilot, preview=preview, plain=plain,
        bots=bots, new_key=new_key,
    )  # fmt: skip


@app.command()
def recruitment(
    study: StudyFolder,
    database: Database = "",
    address: Annotated[str, typer.Option(help="Where people reach the server.")] = "https://YOUR.SERVER",
    prolific_export: Annotated[
        Path | None, typer.Option(help="CSV export of Prolific: end the sessions of people who left there.")
    ] = None,
    prolific_api: Annotated[
        str, typer.Option(help="The same from Prolific's interface: its study's ID; the token is in PROLIFIC_TOKEN.")
    ] = "",
    prolific_address: Annotated[str, typer.Option(help="Where that interface is, for dry runs.")] = "",
    every: Annotated[float, typer.Option(help="Ask the interface again after so many seconds.", min=0)] = 0,
    pilot: Annotated[bool, typer.Option("--pilot", help="People of the pilot.")] = False,
) -> None:
    """Say what to enter at the recruiter, or read from it who has left."""
    from time import sleep

    from benchmark import workflow
    from benchmark.report import print_briefing, print_reconciliation

    if prolific_export is None and not prolific_api:
        print_briefing(workflow.brief_recruitment(study, address, database))
        return
    while True:
        print_reconciliation(
            workflow.reconcile_submissions(
                study, database, prolific_export=prolific_export, prolific_api=prolific_api,
                prolific_address=prolific_address, pilot=pilot,
            )
        )  # fmt: skip
        if not (every and prolific_api):
            return
        sleep(every)


@app.command()
def payments(
    study: StudyFolder,
    out: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
    form: Annotated[str, typer.Option(help="general, prolific-approve or prolific-bonus.")] = "general",
    forget: Annotated[
        bool, typer.Option("--forget", help="Delete the recruiter's identifiers of everybody, for good.")
    ] = False,
    database: Database = "",
    pilot: Annotated[bool, typer.Option("--pilot", help="People of the pilot.")] = False,
) -> None:
    """Say who is paid what, or delete the recruiter's identifiers once everybody is paid."""
    from benchmark import workflow
    from benchmark.report import print_payroll

    if forget:
        if out is not None:
            raise typer.BadParameter("write the file first, then forget", param_hint="--forget")
        print(f"{workflow.forget_identifiers(study, database)} identifiers deleted; everything else is as it was.")
        return
    payroll, named = workflow.pay(study, out, form=form, database=database, pilot=pilot)
    print_payroll(payroll)
    if out is not None:
        print(f"{out}: {named} people")


@app.command()
def export(
    study: StudyFolder,
    format: Annotated[
        str, typer.Option(help="Answers: csv, parquet, psych-ds, bids. Trials: jspsych, psychopy.")
    ] = "csv",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write, else exports/FORMAT of the study; new, or an earlier export.")
    ] = None,
    database: Database = "",
    pilot: Annotated[bool, typer.Option("--pilot", help="The pilot's answers instead of the study's.")] = False,
    usable_only: Annotated[
        bool, typer.Option("--usable-only", help="Leave out sessions that fail an exclusion rule of the protocol.")
    ] = False,
    comments: Annotated[
        bool, typer.Option("--comments", help="Add people's free texts; what they wrote may say who they are.")
    ] = False,
    traces: Annotated[
        bool, typer.Option("--traces", help="Add what the browser noted of each answer besides: pointer, early input.")
    ] = False,
) -> None:
    """Write answers for others to read, with a codebook, or trials for laboratories that host elsewhere."""
    from benchmark.workflow import export_study

    made = export_study(
        study, format, out, database=database, pilot=pilot, usable_only=usable_only, comments=comments, traces=traces,
        reporter=_reporter(),
    )  # fmt: skip
    print(", ".join(f"{name}: {rows} rows" for name, rows in made.rows.items()))
    print(f"{made.files} files in {made.folder}; what every column means is in {made.folder / 'codebook.md'}")


@app.command()
def backup(
    study: StudyFolder,
    out: Annotated[Path, typer.Option(help="The file to write; an older backup there is replaced.")],
    database: Database = "",
) -> None:
    """Back up people and their answers while they answer, from either kind of database into one file."""
    from benchmark.workflow import back_up_study

    made = back_up_study(study, out, database)
    print(f"{made.path}: {made.counts['people']:,} people and {made.counts['answers']:,} answers, checked")


@app.command()
def restore(
    study: StudyFolder,
    file: Annotated[Path, typer.Argument(help="A file that vimi backup made.")],
    database: Database = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace what the database holds of the study, after a backup of it.")
    ] = False,
) -> None:
    """Put a backup back, into either kind of database."""
    from benchmark.workflow import restore_study

    done = restore_study(study, file, database, replace=replace)
    counts = done.backup.counts
    print(f"Restored {counts['people']:,} people and {counts['answers']:,} answers")
    if done.withdrawn:
        print(f"{done.withdrawn:,} people had withdrawn since; their answers were deleted again")
    if done.kept:
        print(f"What was there before is in {done.kept}")
    for note in done.notes:
        print(f"Note: {note}")


@app.command()
def password() -> None:
    """Ask for the experimenter's password twice, and print the hash to put into VIMI_ADMIN_HASH."""
    from benchmark.workflow import hash_password

    given = typer.prompt("Password", hide_input=True, confirmation_prompt="Once more", err=True)
    hashed = hash_password(given)
    print("Set this where the server starts; without it there is no page /admin:", file=sys.stderr)
    print(f"VIMI_ADMIN_HASH='{hashed}'")


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
