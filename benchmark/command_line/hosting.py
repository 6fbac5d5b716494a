"""Verbs for whoever hosts a study: people, payment, export, backup."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.command_line.options import Database, StudyFolder, app, terminal_reporter

if TYPE_CHECKING:
    pass


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
    from benchmark.command_line.tables import print_simulation

    print_simulation(
        workflow.simulate(
            study, participants, seed=seed, dropout=dropout, inattentive=inattentive, interval=interval,
            until_full=until_full, pilot=pilot, database=database, http=http, workers=workers, speed=speed,
            reporter=terminal_reporter(),
        )
    )  # fmt: skip


@app.command()
def serve(
    study: StudyFolder,
    database: Database = "",
    address: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of the machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8501,
    host: Annotated[
        list[str] | None, typer.Option(help="Name under which people reach the server; others are refused.")
    ] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="Believe the X-Vimi-Group of a proxy all come through.")
    ] = False,
    pilot: Annotated[bool, typer.Option("--pilot", help="Keep answers apart as those of a pilot.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Look at every page; nothing is recorded.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Draw trials with plain buttons.")] = False,
    bots: Annotated[bool, typer.Option("--bots", help="Let simulated people take part over HTTP.")] = False,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Go on with another VIMI_SECRET than before, because that one is lost.")
    ] = False,
    leaderboard: Annotated[
        list[str] | None,
        typer.Option(
            help="Show the result files of this folder on a page /leaderboard, to anybody; 'released' for those that "
            "come with vimi; may be repeated."
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=0, max=64, help="Processes that serve; one for each core, up to 2, if 0.")
    ] = 0,
) -> None:
    """Put the forced-choice task on the web."""
    from benchmark.command_line.tables import print_opening
    from benchmark.study import Study
    from benchmark.workflow import serve_study

    opened = Study.open(study)
    print_opening(opened, address, port, pilot=pilot, preview=preview, bots=bots, leaderboard=bool(leaderboard))
    serve_study(
        opened, database, address=address, port=port, hosts=host or (), behind_proxy=behind_proxy, pilot=pilot,
        preview=preview, plain=plain, bots=bots, new_key=new_key, leaderboard=leaderboard or (),
        processes=processes,
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
    from benchmark.command_line.tables import print_briefing, print_reconciliation

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
    from benchmark.command_line.tables import print_payroll

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
        reporter=terminal_reporter(),
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
