"""What became of people at their recruiter: read from Prolific's export or interface, and brought home.

Prolific sends a replacement at once when somebody returns a study or runs out of time, and tells the host nothing.
Reading its list of submissions ends the sessions of those who left, so that their slots are free for the replacements
instead of after some time of silence.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import sqlalchemy as sa

from benchmark.database import people
from benchmark.errors import HostingError
from webapp.assignment import end_session, own_rows
from webapp.hosting import Hosting
from webapp.recruitment import hash_identifier

PROLIFIC_TOKEN = "PROLIFIC_TOKEN"
"""Environment variable with the token of Prolific's interface."""

PROLIFIC_ADDRESS = "https://api.prolific.com"

SECONDS = 30
"""How long an answer of the interface is waited for."""

LARGEST_PAGE = 20_000_000
"""Bytes of a page of submissions that are read."""

PAGE_SIZE = 100
MOST_PAGES = 1000

State = Literal["active", "finished", "returned", "timed out", "rejected", "screened out", "left out"]

_STATES: dict[str, State] = {
    "reserved": "active",
    "active": "active",
    "awaiting review": "finished",
    "approved": "finished",
    "partially approved": "finished",
    "returned": "returned",
    "timed out": "timed out",
    "rejected": "rejected",
    "screened out": "screened out",
}
_LEFT: dict[State, str] = {"returned": "returned", "timed out": "timed out"}
"""States in which somebody has left, with the outcome that they get here."""

_COLUMNS = {"submission": ("submission id", "submission_id", "session_id"), "state": ("status",)}


@dataclass(frozen=True)
class Submission:
    """A participation, as the recruiter knows it.

    Attributes
    ----------
    id
        Its identifier, the same as in the link.
    state
        What became of it; ``left out`` if its status says nothing that could be acted on.
    status
        The recruiter's own word, where the submission is left out.
    """

    id: str
    state: State
    status: str = ""


@dataclass
class Reconciliation:
    """What reading a recruiter's list has changed, and what does not fit together.

    Attributes
    ----------
    returned, timed_out
        People whose session was ended now.
    unchanged
        People whom the list says nothing new about.
    strangers
        Submissions of people who never came here.
    finished_here_only
        Pseudonyms of people who finished here, but returned, ran out of time or were rejected there: they are paid
        for a session, so look at them by hand.
    finished_there_only
        Pseudonyms of people who handed in there without having finished here.
    left_out
        Submissions whose status is a passing one, or unknown here, by that status: nothing was done about them.
    """

    returned: int = 0
    timed_out: int = 0
    unchanged: int = 0
    strangers: int = 0
    finished_here_only: list[str] = field(default_factory=list)
    finished_there_only: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read_submission(name: str, status: str) -> Submission:
    """Return a submission with what its status means.

    A status that is passing (Prolific says PROCESSING while it moves money) or unknown is left out and counted:
    guessing could end somebody's session, and refusing the whole list would keep the others' slots.
    """
    state = _STATES.get(re.sub(r"[\s_-]+", " ", status.strip().casefold()))
    if state is None:
        return Submission(name, "left out", status.strip()[:40] or "(none)")
    return Submission(name, state)


def _check_statuses(found: list[Submission], where: str) -> list[Submission]:
    """Return submissions, of which one at least has a status that is known.

    Raises
    ------
    HostingError
        If none has: what was read is then something else than statuses.
    """
    if found and all(one.state == "left out" for one in found):
        words = ", ".join(dict.fromkeys(one.status for one in found[:5]))
        raise HostingError(
            f"{where}: no submission has a status that vimi knows; found {words}. Known: {', '.join(_STATES)}. If all "
            "are being processed, wait a minute and run this again."
        )
    return found


def read_prolific_export(path: Path | str) -> list[Submission]:
    """Read the submissions of Prolific's CSV export, as downloaded or saved again by a spreadsheet.

    Raises
    ------
    HostingError
        If the file is missing or is no such export.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a CSV file in UTF-8"
        raise HostingError(f"{path} can't be read: {reason}.") from None
    if not text.strip():
        raise HostingError(f"{path} is empty. In Prolific, choose the study, then Download > CSV, and read that file.")
    lines = text.splitlines(keepends=True)
    said = re.fullmatch(r'"?sep=(.)"?\s*', lines[0], re.IGNORECASE)  # spreadsheets say so to one another
    lines = lines[1:] if said else lines
    delimiters = [said[1]] if said else [",", ";", "\t"]
    try:
        for delimiter in delimiters:
            rows = csv.DictReader(lines, strict=True, delimiter=delimiter)
            names = {re.sub(r"\s+", " ", name.strip().casefold()): name for name in rows.fieldnames or ()}
            columns = {key: next((names[n] for n in known if n in names), "") for key, known in _COLUMNS.items()}
            if all(columns.values()):
                found = [
                    read_submission((row[columns["submission"]] or "").strip(), row[columns["state"]] or "")
                    for row in rows
                ]
                return _check_statuses(found, str(path))
        header = ", ".join(next(csv.reader(lines[:1], delimiter=delimiters[0]), []) or ["none"])
    except csv.Error:
        raise HostingError(f"{path} can't be read: it is not a CSV file in UTF-8.") from None
    raise HostingError(
        f"{path} is not an export from Prolific: it needs the columns 'Submission id' and 'Status', and has {header}. "
        "In Prolific, choose the study, then Download > CSV."
    )


def fetch_prolific_submissions(study: str, address: str = PROLIFIC_ADDRESS) -> list[Submission]:
    """Ask Prolific's interface for all submissions of a study.

    Parameters
    ----------
    study
        The study's identifier at Prolific.
    address
        Where the interface is, for tests; encrypted, or on this machine.

    Raises
    ------
    HostingError
        If there is no token, or the interface can't be reached or does not answer as expected. No message holds
        the token.
    """
    token = os.environ.get(PROLIFIC_TOKEN, "").strip()
    if not token:
        raise HostingError(
            f"{PROLIFIC_TOKEN} is not set. Create a token in Prolific under Settings > API tokens and put it into "
            "that environment variable, or use the CSV export."
        )
    _check_address(address)
    found: dict[str, Submission] = {}
    for number in range(1, MOST_PAGES + 1):
        query = urlencode({"study": study, "page_size": PAGE_SIZE, "page": number})
        values = _fetch(f"{address.rstrip('/')}/api/v1/submissions/?{query}", token)
        before = len(found)
        try:
            for row in values["results"]:
                name = str(row["id"])
                found[name] = read_submission(name, str(row["status"]))
            # Only whether there is a next page is believed: its address could be anybody's, and the token goes along.
            more = values["_links"]["next"]["href"] if "_links" in values else len(found) > before
        except (KeyError, TypeError):
            raise HostingError(
                f"{urlsplit(address).netloc} does not answer like Prolific's API; use the CSV export."
            ) from None
        if not more:
            return _check_statuses(list(found.values()), f"The list of {urlsplit(address).netloc}")
    raise HostingError(f"Prolific lists more than {MOST_PAGES} pages of submissions; use the CSV export.")


class _NoRedirects(HTTPRedirectHandler):
    """Refuses redirects: the token would go with the request."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        return None


def _check_address(address: str) -> None:
    """Check that the token would be sent encrypted."""
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1")):
        raise HostingError(
            f"vimi sends the token only over an encrypted connection: {address} must begin with https://."
        )


def _fetch(page: str, token: str) -> Any:
    """Return a page of the interface."""
    host = urlsplit(page).netloc
    request = Request(page, headers={"Authorization": f"Token {token}"})  # noqa: S310  _check_address has looked at it
    try:
        with build_opener(_NoRedirects).open(request, timeout=SECONDS) as reply:
            body = reply.read(LARGEST_PAGE + 1)
    except HTTPError as error:
        error.close()
        reasons = {401: f"it rejects the token in {PROLIFIC_TOKEN}", 404: "there is no such study"}
        reasons |= {403: "the token may not see this study", 429: "too many requests; wait a minute"}
        raise HostingError(f"{host} refused: {reasons.get(error.code, f'status {error.code}')}.") from None
    except (URLError, TimeoutError, HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise HostingError(f"{host} can't be reached: {reason}. Run the same command again.") from None
    if len(body) > LARGEST_PAGE:
        raise HostingError(f"{host} sent a page of more than {LARGEST_PAGE // 1_000_000} MB; use the CSV export.")
    try:
        return json.loads(body)
    except ValueError:
        raise HostingError(f"{host} did not answer with JSON; use the CSV export.") from None


def reconcile(hosting: Hosting, submissions: Iterable[Submission]) -> Reconciliation:
    """End the sessions of people who left at the recruiter, and give their slots back.

    Whoever finished here stays as they are, whatever the recruiter says. Doing it again changes nothing.
    """
    result = Reconciliation()
    done: Counter[str] = Counter()
    listed = list(submissions)
    result.left_out.update(one.status for one in listed if one.state == "left out")
    states = {hash_identifier(hosting.keys["people"], "submission", one.id): one.state for one in listed if one.id}
    with hosting.database.writing() as connection:
        known = connection.execute(sa.select(people).where(own_rows(hosting, people)).order_by(people.c.id)).fetchall()
        for row in known:
            state = states.pop(row.submission, None)
            if state is None or state == "left out":
                continue
            finished = row.finished_at is not None
            outcome = _LEFT.get(state)
            if finished and state in ("returned", "timed out", "rejected"):
                result.finished_here_only.append(row.pseudonym)
            elif not finished and state == "finished":
                result.finished_there_only.append(row.pseudonym)
            elif not finished and outcome is not None and row.phase != "end":
                end_session(connection, hosting, row.id, outcome)
                connection.execute(
                    people.update()
                    .where(people.c.id == row.id)
                    .values(phase="end", outcome=outcome, ended_at=hosting.clock())
                )
                done[outcome] += 1
            else:
                result.unchanged += 1
    result.returned, result.timed_out, result.strangers = done["returned"], done["timed out"], len(states)
    return result
