"""Hosting a study: serving it, simulated people, recruitment, payment, backup, export: jobs that join the packages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.progress import Reporter, default_reporter
from benchmark.simulation_settings import SimulationSettings
from benchmark.study import Study

if TYPE_CHECKING:
    from webapp.backup import Backup, Restored
    from webapp.export import Export
    from webapp.hosting import Hosting
    from webapp.payment import Payroll
    from webapp.recruitment import Briefing
    from webapp.simulation import Simulation
    from webapp.submissions import Reconciliation


def simulate(
    study: Study | Path | str, settings: SimulationSettings | None = None, *, reporter: Reporter | None = None
) -> Simulation:
    """Let simulated people of known ability take part in a study; see :func:`webapp.simulation.simulate_study`."""
    from webapp.simulation import simulate_study

    return simulate_study(Study.open(study), settings, reporter=reporter or default_reporter())


def back_up_study(study: Study | Path | str, out: Path | str, database: str = "") -> Backup:
    """Back up the people and answers of a study while they answer; returns what is in the file.

    Parameters
    ----------
    study
        The study, or its folder.
    out
        The file to write.
    database
        URL of the database, if it is not the study's own nor the one that ``VIMI_DATABASE`` names.
    """
    from webapp.backup import back_up

    return back_up(Study.open(study), out, database)


def restore_study(
    study: Study | Path | str, backup: Path | str, database: str = "", *, replace: bool = False
) -> Restored:
    """Put a backup back.

    Parameters
    ----------
    study
        The study, or its folder.
    backup
        A file that :func:`back_up_study` made, from either kind of database.
    database
        URL of the database, if it is not the study's own nor the one that ``VIMI_DATABASE`` names.
    replace
        Replace what the database holds of this study; it is backed up first.
    """
    from webapp.backup import restore

    return restore(Study.open(study), backup, database, replace=replace)


def hash_password(password: str) -> str:
    """Return the hash of the experimenter's password, for ``VIMI_ADMIN_HASH``."""
    from webapp import admission

    return admission.hash_password(password)


def serve_study(
    study: Study | Path | str,
    database: str = "",
    *,
    address: str = "127.0.0.1",
    port: int = 8501,
    hosts: Sequence[str] = (),
    behind_proxy: bool = False,
    pilot: bool = False,
    preview: bool = False,
    plain: bool = False,
    bots: bool = False,
    new_key: bool = False,
    leaderboard: Sequence[Path | str] = (),
    processes: int = 0,
) -> None:
    """Put the forced-choice task of a study on the web, until the process is stopped.

    Parameters
    ----------
    study
        A built study, or its folder.
    database
        URL of the database, if it is not the study's own nor the one that ``VIMI_DATABASE`` names.
    address, port
        Where to listen.
    hosts
        Host names under which people reach the server; any, if none is given.
    behind_proxy
        Everybody comes through a proxy that names groups of addresses in ``X-Vimi-Group``.
    pilot
        Keep answers apart as those of a pilot.
    preview
        Only look: every page can be reached, and what is answered is thrown away.
    plain
        Draw trials with plain buttons instead of the component.
    bots
        Let simulated people take part over HTTP.
    new_key
        Recognise people with the key as it is now, although it was another one before, and is lost.
    leaderboard
        Folders of result files to show on a page ``/leaderboard``, ``released`` for those that come with vimi; without
        any there is no such page.
    processes
        How many processes serve; 0 leaves it to the machine. A preview is served by one.
    """
    import tempfile

    from webapp.admission import environment_hash
    from webapp.assignment import refuse_mixing
    from webapp.hosting import check_key, check_texts, open_hosting
    from webapp.processes import choose_processes
    from webapp.server import run_server

    study = Study.open(study)
    study.stage_outputs("trials")
    study.take_texts_over()
    result_files = None
    if leaderboard:
        from benchmark.workflow.leaderboard import result_folders
        from webapp.result_files import ResultFiles

        result_files = ResultFiles(result_folders(leaderboard))
    environment_hash()  # one that is none would fail before the first participant
    with tempfile.TemporaryDirectory() as folder:
        if preview:
            database = f"sqlite:///{Path(folder) / 'preview.sqlite'}"
        hosting = open_hosting(
            study, database, pilot=pilot, preview=preview, plain=plain, bots=bots, result_files=result_files
        )
        check_texts(hosting)
        refuse_mixing(hosting)
        check_key(hosting, accept=new_key)
        count = 1 if preview else choose_processes(processes)
        run_server(hosting, address=address, port=port, hosts=hosts, behind_proxy=behind_proxy, processes=count)


def brief_recruitment(study: Study | Path | str, address: str, database: str = "") -> Briefing:
    """Say what to enter at the recruiter: the link, and the completion codes.

    Parameters
    ----------
    study
        A built study, or its folder.
    address
        Where people reach the server.
    database
        URL of the database, if it is not the study's own nor the one that ``VIMI_DATABASE`` names.
    """
    from webapp.recruitment import brief

    with _hosted(study, database) as hosting:
        return brief(hosting.recruitment, hosting.identity, address)


def reconcile_submissions(
    study: Study | Path | str,
    database: str = "",
    *,
    prolific_export: Path | None = None,
    prolific_api: str = "",
    prolific_address: str = "",
    pilot: bool = False,
) -> Reconciliation:
    """Read from the recruiter who has left, end their sessions and give their slots back.

    Parameters
    ----------
    study, database
        As in :func:`brief_recruitment`.
    prolific_export
        CSV file that Prolific exported.
    prolific_api
        Identifier of the study at Prolific, whose interface is asked with the token in ``PROLIFIC_TOKEN``.
    prolific_address
        Where that interface is, if not at Prolific: for dry runs.
    pilot
        People of the pilot.
    """
    from webapp.submissions import PROLIFIC_ADDRESS, fetch_prolific_submissions, read_prolific_export, reconcile

    found = [] if prolific_export is None else read_prolific_export(prolific_export)
    if prolific_api:
        found += fetch_prolific_submissions(prolific_api, prolific_address or PROLIFIC_ADDRESS)
    with _hosted(study, database, pilot) as hosting:
        return reconcile(hosting, found)


def pay(
    study: Study | Path | str,
    out: Path | None = None,
    *,
    form: str = "general",
    database: str = "",
    pilot: bool = False,
) -> tuple[Payroll, int]:
    """Say who is paid what, from the server's data alone, and write it to a file.

    Parameters
    ----------
    study, database
        As in :func:`brief_recruitment`.
    out
        The file to write, if any.
    form
        ``general``, ``prolific-approve`` or ``prolific-bonus``.
    pilot
        People of the pilot.

    Returns
    -------
    Who is paid what, and how many people the file names.
    """
    from webapp.payment import make_payroll, write_payroll

    with _hosted(study, database, pilot) as hosting:
        payroll = make_payroll(hosting)
    return payroll, 0 if out is None else write_payroll(payroll, out, form)  # type: ignore[arg-type]


def forget_identifiers(study: Study | Path | str, database: str = "") -> int:
    """Delete the recruiter's identifiers of everybody in a study, and nothing else; returns how many there were."""
    from webapp import payment

    with _hosted(study, database) as hosting:
        return payment.forget_identifiers(hosting)


@contextmanager
def _hosted(study: Study | Path | str, database: str, pilot: bool = False) -> Iterator[Hosting]:
    """Open a study and the database of its people for a moment."""
    from webapp.hosting import open_hosting

    hosting = open_hosting(Study.open(study), database, pilot=pilot)
    try:
        yield hosting
    finally:
        hosting.database.close()


def export_study(
    study: Study | Path | str,
    format: str,
    out: Path | str | None = None,
    *,
    database: str = "",
    pilot: bool = False,
    usable_only: bool = False,
    comments: bool = False,
    traces: bool = False,
    reporter: Reporter | None = None,
) -> Export:
    """Write a study's answers, or its trials, into a folder; see :func:`webapp.export.export_study`."""
    from webapp import export

    study = Study.open(study)
    return export.export_study(
        study, format, out, database=database, pilot=pilot, usable_only=usable_only, comments=comments, traces=traces,
        reporter=reporter or default_reporter(),
    )  # fmt: skip
