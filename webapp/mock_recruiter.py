"""A recruiter that exists on this machine only: it plays Prolific's side in tests and dry runs, without an account.

It hands out links with a person, a study and a submission, takes the completion code, lets people return or run out
of time, and lists the submissions in the words of Prolific's interface and of its export. By hand::

    python -m webapp.mock_recruiter http://localhost:8501

and open the page that it names.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
from dataclasses import dataclass
from functools import partial
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Annotated
from urllib.parse import parse_qs, urlencode, urlsplit

import typer

RETURN_PATH = "/submissions/complete"
LARGEST_PAGE = 100


@dataclass
class MockSubmission:
    """A participation at the mock recruiter.

    Attributes
    ----------
    id, person
        Its identifier, and the participant's.
    link
        Where the participant is sent.
    status
        In Prolific's words.
    code
        The completion code that came back.
    """

    id: str
    person: str
    link: str
    status: str = "ACTIVE"
    code: str = ""


class MockRecruiter:
    """A recruiter on this machine; a context manager that serves while it is open.

    Parameters
    ----------
    address
        Where the hosted study is.
    port
        Where the recruiter listens; any free port if 0.
    token
        What its interface asks for.
    """

    def __init__(self, address: str, port: int = 0, token: str = "mock") -> None:
        self.address = address.rstrip("/")
        self.token = token
        self.study = secrets.token_hex(12)
        self.submissions: dict[str, MockSubmission] = {}
        self._lock = Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, self))
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> MockRecruiter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where the recruiter is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def return_url(self) -> str:
        """The value of ``[recruitment] return_url`` that sends participants back here."""
        return f"{self.url}{RETURN_PATH}?cc={{code}}&submission={{submission}}"

    def invite(self, person: str = "") -> MockSubmission:
        """Let a person take part: a new one, or one who is known already and tries again."""
        with self._lock:
            person, name = person or secrets.token_hex(12), secrets.token_hex(12)
            query = urlencode({"PROLIFIC_PID": person, "STUDY_ID": self.study, "SESSION_ID": name})
            made = self.submissions[name] = MockSubmission(name, person, f"{self.address}/?{query}")
            return made

    def complete(self, submission: str, code: str) -> bool:
        """Take a completion code; returns whether the submission was still open."""
        with self._lock:
            known = self.submissions.get(submission)
            if known is None or known.status != "ACTIVE":
                return False
            known.status, known.code = "AWAITING REVIEW", code
            return True

    def leave(self, submission: str, status: str = "RETURNED") -> bool:
        """Let a participant return, or run out of time (``TIMED-OUT``), without notice to the hosted study."""
        with self._lock:
            known = self.submissions.get(submission)
            if known is None or known.status != "ACTIVE" or status not in ("RETURNED", "TIMED-OUT"):
                return False
            known.status = status
            return True

    def export(self) -> str:
        """Return the CSV table that Prolific would export."""
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["Submission id", "Participant id", "Status", "Completion code"])
        writer.writerows([one.id, one.person, one.status, one.code] for one in list(self.submissions.values()))
        return table.getvalue()

    def page(self, number: int, size: int) -> dict[str, object]:
        """Return a page of submissions as Prolific's interface would."""
        every = list(self.submissions.values())
        shown = every[(number - 1) * size : number * size]
        following = None
        if number * size < len(every):
            query = urlencode({"study": self.study, "page": number + 1, "page_size": size})
            following = f"{self.url}/api/v1/submissions/?{query}"
        return {
            "results": [
                {"id": one.id, "participant_id": one.person, "status": one.status, "study_code": one.code or None}
                for one in shown
            ],
            "_links": {"next": {"href": following, "title": "Next"}},
            "meta": {"count": len(every)},
        }


class _Handler(BaseHTTPRequestHandler):
    """Answers what a browser or vimi asks the mock recruiter."""

    def __init__(self, recruiter: MockRecruiter, *arguments: object) -> None:
        self.recruiter = recruiter
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Show pages, redirect people, list submissions."""
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/":
            self._reply(200, _overview(self.recruiter), "text/html; charset=utf-8")
        elif parts.path == "/participate":
            self._send_to(self.recruiter.invite(query.get("person", "")).link)
        elif parts.path == RETURN_PATH:
            taken = self.recruiter.complete(query.get("submission", ""), query.get("cc", ""))
            words = "Thank you, your submission is complete." if taken else "This submission is not open."
            self._reply(200 if taken else 409, words)
        elif parts.path == "/export.csv":
            self._reply(200, self.recruiter.export(), "text/csv; charset=utf-8")
        elif parts.path == "/api/v1/submissions/":
            self._list(query)
        else:
            self._reply(404, "There is nothing here.")

    def do_POST(self) -> None:
        """Let a participant return or run out of time."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        self.recruiter.leave(query.get("submission", ""), query.get("status", ""))
        self._send_to("/")

    def _list(self, query: dict[str, str]) -> None:
        if self.headers.get("Authorization") != f"Token {self.recruiter.token}":
            self._reply(401, "{}", "application/json")
        elif query.get("study") != self.recruiter.study:
            self._reply(404, "{}", "application/json")
        else:
            size = min(int(query.get("page_size", 20)), LARGEST_PAGE)
            self._reply(200, json.dumps(self.recruiter.page(int(query.get("page", 1)), size)), "application/json")

    def _reply(self, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_to(self, address: str) -> None:
        self.send_response(303)
        self.send_header("Location", address)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *values: object) -> None:
        """Keep quiet."""


def _overview(recruiter: MockRecruiter) -> str:
    """Return the page from which a dry run starts."""
    rows = "".join(
        f"<tr><td>{one.id}<td>{escape(one.person)}<td>{one.status}<td>{escape(one.code)}"
        + "".join(
            f'<td><form method="post" action="/leave?submission={one.id}&amp;status={status}"><button>{words}</button>'
            "</form>"
            for status, words in (("RETURNED", "return"), ("TIMED-OUT", "time out"))
            if one.status == "ACTIVE"
        )
        for one in list(recruiter.submissions.values())
    )
    return (
        "<!doctype html><meta charset=utf-8><title>Mock recruiter</title><h1>Mock recruiter</h1>"
        f"<p>Study {recruiter.study} at {escape(recruiter.address)}</p>"
        '<p><a href="/participate" target="_blank">Take part as somebody new</a> · <a href="/export.csv">Export</a></p>'
        f"<table><tr><th>Submission<th>Person<th>Status<th>Code{rows}</table>"
    )


def main(
    address: Annotated[str, typer.Argument(help="Where the hosted study is.")] = "http://localhost:8501",
    port: Annotated[int, typer.Option(help="Where the mock recruiter listens.")] = 8600,
) -> None:
    """Play the recruiter for a dry run, until stopped with Ctrl-C."""
    with MockRecruiter(address, port) as recruiter:
        print(
            f'Mock recruiter: {recruiter.url}\n\nIn the experiment:\n[recruitment]\nrecruiter = "prolific"\n'
            f'return_url = "{recruiter.return_url}"\n\nWhat became of people: PROLIFIC_TOKEN={recruiter.token} vimi '
            f"recruitment STUDY --prolific-api {recruiter.study} --prolific-address {recruiter.url}\n\n"
            "Stop with Ctrl-C."
        )
        try:
            recruiter._thread.join()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    typer.run(main)
