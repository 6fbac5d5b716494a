"""Verbs for hosting a study: people, payment, export, backup."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.command_line.options import (
    HOST,
    MAINTAIN,
    Database,
    Pilot,
    StudyFolder,
    app,
    complete_from,
    takes_settings,
    terminal_reporter,
)
from benchmark.command_line.reporting import Told, reporting
from benchmark.commands import spell_command
from benchmark.simulation_settings import SimulationSettings

if TYPE_CHECKING:
    from webapp.submissions import Reconciliation


@app.command(rich_help_panel=HOST)
def serve(
    study: StudyFolder,
    database: Database = "",
    address: Annotated[str, typer.Option(help="Listen on this address; 0.0.0.0 means all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Listen on this port.", min=1, max=65535)] = 8501,
    host: Annotated[
        list[str] | None, typer.Option(help="Accept only requests to this host name; may be repeated.")
    ] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="Believe X-Vimi-Group of the proxy that all come through.")
    ] = False,
    pilot: Annotated[bool, typer.Option("--pilot", help="Keep answers apart, as those of a pilot.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show every page and record nothing.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Draw trials with plain buttons.")] = False,
    bots: Annotated[bool, typer.Option("--bots", help="Let simulated people take part over HTTP.")] = False,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Accept a new VIMI_SECRET, because the old one is lost.")
    ] = False,
    leaderboard: Annotated[
        list[str] | None,
        typer.Option(metavar="FOLDER", help="Show these results at /leaderboard; 'released' is vimi's."),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=0, max=64, help="Serve with so many processes; 0 means one a core, up to 2.")
    ] = 0,
) -> None:
    """Host the forced-choice task on the web.

    Nobody can take part before the fields of [recruitment] in the study's experiment.toml are filled, and vimi does not
    start while a text for participants has a blank ("FILL IN"). --preview shows all pages before that.

    Anybody who has the address can read /leaderboard.
    """
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


@reporting(app, "simulate", HOST)
@takes_settings(SimulationSettings)
def simulate(study: StudyFolder, settings: SimulationSettings) -> Told:
    """Let simulated people take part, and check the results.

    The simulated people have known abilities. vimi compares what their answers give with what is true.

    With --http, they take part through a running server. vimi then reads a database only if you name it.
    """
    from benchmark import workflow
    from benchmark.command_line import facts
    from benchmark.command_line.tables import print_next, print_simulation

    simulation = workflow.simulate(study, settings, reporter=terminal_reporter())

    def show() -> None:
        print_simulation(simulation)
        if len(simulation.sessions):
            chosen = ("--database", settings.database or f"sqlite:///{study / 'simulation.sqlite'}")
            print_next(spell_command("analyze", study, *chosen), spell_command("export", study, *chosen))

    return Told(lambda: facts.simulation_facts(simulation), show)


@reporting(app, "recruitment", HOST)
def recruitment(
    study: StudyFolder,
    database: Database = "",
    address: Annotated[
        str, typer.Option(metavar="URL", help="Print links to the server at this address.")
    ] = "https://YOUR.SERVER",
    prolific_export: Annotated[
        Path | None, typer.Option(metavar="CSV", help="End sessions of people who left, by this export.")
    ] = None,
    prolific_api: Annotated[
        str, typer.Option(metavar="ID", help="End them by Prolific's API; set PROLIFIC_TOKEN.")
    ] = "",
    prolific_address: Annotated[str, typer.Option(metavar="URL", help="Use this API, for dry runs.")] = "",
    every: Annotated[float, typer.Option(help="Ask the API again after so many seconds.", min=0)] = 0,
    pilot: Annotated[bool, typer.Option("--pilot", help="Use the people of the pilot.")] = False,
) -> Told:
    """Print recruiter settings, or sync returned submissions.

    Without an export or an API, it prints the link and the completion codes to enter at the recruiter. With one of
    them, it ends the sessions of people who left there, so that others can take their places.
    """
    from time import sleep

    from benchmark import workflow
    from benchmark.command_line.tables import print_briefing, print_reconciliation

    if prolific_export is None and not prolific_api:
        briefing = workflow.brief_recruitment(study, address, database)
        return Told(lambda: {"briefing": briefing}, lambda: print_briefing(briefing))

    def reconcile() -> Reconciliation:
        return workflow.reconcile_submissions(
            study, database, prolific_export=prolific_export, prolific_api=prolific_api,
            prolific_address=prolific_address, pilot=pilot,
        )  # fmt: skip

    if every and prolific_api:

        def refuse() -> dict[str, object]:
            raise typer.BadParameter(
                "--every never ends, so it prints no single JSON document; leave one of the two out",
                param_hint="--every",
            )

        def repeat() -> None:
            while True:
                print_reconciliation(reconcile())
                sleep(every)

        return Told(refuse, repeat)
    found = reconcile()
    return Told(lambda: {"reconciliation": found}, lambda: print_reconciliation(found))


@reporting(app, "payments", HOST)
def payments(
    study: StudyFolder,
    out: Annotated[Path | None, typer.Option(help="Write the list of payments to this file.")] = None,
    form: Annotated[
        str,
        typer.Option(
            help="Write it as general, prolific-approve or prolific-bonus.",
            autocompletion=complete_from("general", "prolific-approve", "prolific-bonus"),
        ),
    ] = "general",
    forget: Annotated[bool, typer.Option("--forget", help="Delete all recruiter identifiers for good.")] = False,
    database: Database = "",
    pilot: Annotated[bool, typer.Option("--pilot", help="Use the people of the pilot.")] = False,
) -> Told:
    """List who is paid what, or delete identifiers.

    Delete the recruiter's identifiers once everybody is paid. Everything else stays.
    """
    from benchmark import workflow
    from benchmark.command_line import facts
    from benchmark.command_line.tables import print_payroll

    if forget:
        if out is not None:
            raise typer.BadParameter("write the file first, then forget", param_hint="--forget")
        deleted = workflow.forget_identifiers(study, database)
        return Told(
            lambda: {"deleted": deleted},
            lambda: print(f"{deleted} identifiers deleted; everything else is as it was."),
        )
    payroll, named = workflow.pay(study, out, form=form, database=database, pilot=pilot)

    def show() -> None:
        print_payroll(payroll)
        if out is not None:
            print(f"{out}: {named} people")

    return Told(lambda: facts.payroll_facts(payroll) | {"file": out, "people_in_file": named}, show)


@reporting(app, "export", HOST)
def export(
    study: StudyFolder,
    format: Annotated[
        str,
        typer.Option(
            help="Write csv, parquet, psych-ds, bids, jspsych or psychopy.",
            autocompletion=complete_from("csv", "parquet", "psych-ds", "bids", "jspsych", "psychopy"),
        ),
    ] = "csv",
    out: Annotated[Path | None, typer.Option(help="Write to this folder, not to exports/FORMAT.")] = None,
    database: Database = "",
    pilot: Pilot = False,
    usable_only: Annotated[
        bool, typer.Option("--usable-only", help="Leave out sessions that fail an exclusion rule.")
    ] = False,
    comments: Annotated[bool, typer.Option("--comments", help="Include free texts, which may name people.")] = False,
    traces: Annotated[bool, typer.Option("--traces", help="Include pointer movements and early input.")] = False,
) -> Told:
    """Export answers with a codebook, or trials.

    Answers come as csv, parquet, psych-ds or bids; trials for laboratories that host elsewhere as jspsych or psychopy.
    The folder must be new, or an earlier export, which is replaced.
    """
    from benchmark.workflow import export_study

    made = export_study(
        study, format, out, database=database, pilot=pilot, usable_only=usable_only, comments=comments, traces=traces,
        reporter=terminal_reporter(),
    )  # fmt: skip
    codebook = made.folder / "codebook.md"

    def show() -> None:
        print(", ".join(f"{name}: {rows} rows" for name, rows in made.rows.items()))
        print(f"{made.files} files in {made.folder}; what every column means is in {codebook}")

    return Told(lambda: {"export": made, "codebook": codebook}, show)


@reporting(app, "backup", MAINTAIN)
def backup(
    study: StudyFolder,
    out: Annotated[Path, typer.Option(help="Write this file; replace an older backup there.")],
    database: Database = "",
) -> Told:
    """Back up a study's people and answers to one file.

    It works while people answer, and with either kind of database. The file holds keys and identifiers: keep it safe.
    """
    from benchmark.workflow import back_up_study

    made = back_up_study(study, out, database)
    return Told(
        lambda: {"file": made.path, **made.counts},
        lambda: print(f"{made.path}: {made.counts['people']:,} people and {made.counts['answers']:,} answers, checked"),
    )


@reporting(app, "restore", MAINTAIN)
def restore(
    study: StudyFolder,
    file: Annotated[Path, typer.Argument(help="Read this backup.")],
    database: Database = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace what the database holds, after a backup of it.")
    ] = False,
) -> Told:
    """Restore a backup into a database of either kind."""
    from benchmark.workflow import restore_study

    done = restore_study(study, file, database, replace=replace)
    counts = done.backup.counts

    def show() -> None:
        print(f"Restored {counts['people']:,} people and {counts['answers']:,} answers")
        if done.withdrawn:
            print(f"{done.withdrawn:,} people had withdrawn since; their answers were deleted again")
        if done.kept:
            print(f"What was there before is in {done.kept}")
        for note in done.notes:
            print(f"Note: {note}")

    found = {"withdrawn": done.withdrawn, "kept": done.kept, "notes": done.notes}
    return Told(lambda: {**counts, **found}, show)


@app.command(rich_help_panel=MAINTAIN)
def password() -> None:
    """Make the hash of the experimenter's password.

    It asks for the password twice and prints the line to set where the server starts.
    """
    from benchmark.workflow import hash_password

    given = typer.prompt("Password", hide_input=True, confirmation_prompt="Once more", err=True)
    hashed = hash_password(given)
    print("Set this where the server starts; without it there is no page /admin:", file=sys.stderr)
    print(f"VIMI_ADMIN_HASH='{hashed}'")
