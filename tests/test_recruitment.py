"""From a recruiter's link to its completion code, and what happens to people who leave there without a word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from benchmark.command_line import app
from benchmark.database import people, sessions
from benchmark.errors import HostingError
from benchmark.experiment import RecruitmentSettings
from benchmark.study import Study
from tests.hosted import Clock, host, make_hosted_study
from webapp import participation
from webapp.answering import Answer, current_trial, record_answer
from webapp.assignment import cell_states
from webapp.hosting import Hosting
from webapp.mock_recruiter import MockRecruiter
from webapp.participation import Device, Participant, agree, arrive, check_device, look_up
from webapp.recruitment import (
    OUTCOMES,
    RECRUITERS,
    Visitor,
    brief,
    completion_code,
    read_link,
    return_address,
)
from webapp.store import payments
from webapp.submissions import (
    PROLIFIC_TOKEN,
    Reconciliation,
    Submission,
    fetch_prolific_submissions,
    read_prolific_export,
    reconcile,
)

FILLED = dict.fromkeys(("ethics_approval", "controller", "contact", "retention", "pool_licence"), "stated")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_hosted_study(
        tmp_path_factory.mktemp("recruitment") / "study", recruitment={"recruiter": "prolific", **FILLED}
    )


@pytest.fixture
def hosting(study: Study, tmp_path: Path) -> Hosting:
    return host(study, f"sqlite:///{tmp_path / 'people.sqlite'}", bots=False)


@pytest.fixture
def recruiter() -> Iterator[MockRecruiter]:
    with MockRecruiter("http://127.0.0.1:1") as made:
        yield made


def come(hosting: Hosting, link: str) -> Participant | None:
    """Follow a link; returns the participant if they were let in."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    return arrive(hosting, read_link(hosting.recruiter, query)).participant


def go_on(hosting: Hosting, participant: Participant, to: str) -> Participant:
    """Go on to the practice, the main trials or the end, answering rightly."""
    token = participant.token
    check_device(hosting, token, Device(1280, 800))
    agree(hosting, token)
    participation.answer_colour_vision(hosting, token, "normal")
    participation.finish_instructions(hosting, token)
    assert isinstance(hosting.clock, Clock)
    while to != "practice":
        trial = current_trial(hosting, token)
        known = look_up(hosting, token)
        assert known is not None
        if trial is None or known.phase == to:
            return known
        hosting.clock.pass_by(5)
        answer(hosting, participant, trial.trial, right=True)
    found = look_up(hosting, token)
    assert found is not None
    return found


def answer(hosting: Hosting, participant: Participant, trial: str, right: bool) -> None:
    """Answer a trial; bright pictures are the maximal ones, but a test may ask for the wrong position."""
    shown = current_trial(hosting, participant.token)
    assert shown is not None
    upper_is_max = is_bright(hosting, shown.upper)
    position = "upper" if upper_is_max == right else "lower"
    record_answer(hosting, Answer(participant=participant.token, trial=trial, position=position, confidence=2))  # type: ignore[arg-type]


def is_bright(hosting: Hosting, name: str) -> bool:
    """Whether a picture shows what stands for the maximal side in the study made by hand."""
    return float(hosting.study.image(name).mean()) > 125


def row_of(hosting: Hosting, participant: Participant) -> Any:
    with hosting.database.reading() as connection:
        return connection.execute(sa.select(people).where(people.c.id == participant.id)).one()


# -------------------------------------------------------------------- links


@pytest.mark.parametrize(
    ("recruiter", "parameters", "expected"),
    [
        ("prolific", {"PROLIFIC_PID": "a1", "STUDY_ID": "s1", "SESSION_ID": "b1"}, Visitor("a1", "b1", "s1")),
        ("prolific", {"PROLIFIC_PID": "a1", "SESSION_ID": "b1"}, Visitor("a1", "b1")),
        ("prolific", {"PROLIFIC_PID": "a1"}, None),
        ("prolific", {}, None),
        ("prolific", {"PROLIFIC_PID": "{{%PROLIFIC_PID%}}", "SESSION_ID": "{{%SESSION_ID%}}"}, None),
        ("prolific", {"PROLIFIC_PID": "a" * 201, "SESSION_ID": "b1"}, None),
        ("prolific", {"PROLIFIC_PID": "=1+1", "SESSION_ID": "b1"}, None),
        ("prolific", {"PROLIFIC_PID": "a\n1", "SESSION_ID": "b1"}, None),
        ("prolific", {"PROLIFIC_PID": "<script>", "SESSION_ID": "b1"}, None),
        ("mturk", {"workerId": "W1", "assignmentId": "A1", "hitId": "H1"}, Visitor("W1", "A1", "H1")),
        ("mturk", {"workerId": "W1", "assignmentId": "ASSIGNMENT_ID_NOT_AVAILABLE", "hitId": "H1"}, None),
        ("mturk", {"assignmentId": "ASSIGNMENT_ID_NOT_AVAILABLE", "hitId": "H1"}, None),
        ("sona", {"id": "12345"}, Visitor("12345")),
        ("sona", {"id": "%SURVEY_CODE%"}, None),
        ("open", {"id": "1"}, None),
    ],
)
def test_a_link_names_a_person_or_nobody(recruiter: str, parameters: dict[str, str], expected: Visitor | None) -> None:
    assert read_link(RECRUITERS[recruiter], parameters) == expected


@pytest.mark.parametrize("recruiter", sorted(RECRUITERS))
def test_the_link_to_paste_is_the_one_that_is_read(recruiter: str) -> None:
    said = brief(RecruitmentSettings(recruiter=recruiter), "s", "https://vimi.example/")  # type: ignore[arg-type]
    assert said.link.startswith("https://vimi.example/")
    assert said.unfilled == list(FILLED)
    assert set(said.codes) == set(said.meanings) == set(OUTCOMES)
    query = parse_qs(urlsplit(said.link).query)
    needed = {"prolific": {"PROLIFIC_PID", "STUDY_ID", "SESSION_ID"}, "sona": {"id"}}
    assert set(query) == needed.get(recruiter, set())
    assert read_link(RECRUITERS[recruiter], dict.fromkeys(query, "X1")) or recruiter in ("open", "mturk")


def test_every_outcome_has_a_code_of_its_own_that_the_experiment_may_set() -> None:
    settings = RecruitmentSettings.model_validate({"codes": {"failed_practice": "RETURN-ME"}})
    codes = {outcome: completion_code(settings, "study", outcome) for outcome in OUTCOMES}
    assert len(set(codes.values())) == len(OUTCOMES)
    assert codes["failed practice"] == "RETURN-ME"
    assert codes["complete"] != completion_code(settings, "another study", "complete")


@pytest.mark.parametrize(
    ("settings", "outcome", "expected"),
    [
        ({"recruiter": "prolific"}, "complete", "https://app.prolific.com/submissions/complete?cc=C%261"),
        ({"recruiter": "prolific"}, "no consent", "https://app.prolific.com/submissions/complete?cc=C%261"),
        ({"recruiter": "mturk"}, "complete", ""),
        ({"recruiter": "sona", "return_url": "https://x.example/c?survey_code={participant}"}, "complete",
         "https://x.example/c?survey_code=P%2F1"),
        ({"recruiter": "sona", "return_url": "https://x.example/c?survey_code={participant}"}, "no consent", ""),
        ({"recruiter": "open", "return_url": "https://x.example/{submission}/{study}?c={code}"}, "full",
         "https://x.example/S1/T1?c=C%261"),
    ],
)  # fmt: skip
def test_people_go_back_with_their_code_and_credit_is_for_those_who_finished(
    settings: dict[str, str], outcome: Any, expected: str
) -> None:
    read = RecruitmentSettings.model_validate(settings)
    assert return_address(read, "C&1", Visitor("P/1", "S1", "T1"), "pseudonym", outcome) == expected


@pytest.mark.parametrize("url", ["http://elsewhere.example/", "javascript:alert(1)", "https://a b", "//x"])
def test_people_are_never_sent_anywhere_in_the_clear(url: str) -> None:
    with pytest.raises(ValueError, match="return_url"):
        RecruitmentSettings(return_url=url)


# -------------------------------------------------------------------- once


def test_the_same_link_goes_on_and_another_submission_of_the_same_person_is_refused(
    hosting: Hosting, recruiter: MockRecruiter
) -> None:
    first = recruiter.invite()
    one, again = come(hosting, first.link), come(hosting, first.link)
    assert one is not None and again is not None
    assert one.id == again.id
    second = recruiter.invite(first.person)
    assert second.id != first.id
    visitor = Visitor(second.person, second.id, recruiter.study)
    assert arrive(hosting, visitor).refusal == "already took part"


def test_nobody_comes_in_without_a_link_or_before_the_study_is_described(hosting: Hosting, tmp_path: Path) -> None:
    assert arrive(hosting, None).refusal == "no link"
    bare = make_hosted_study(tmp_path / "bare", recruitment={"recruiter": "prolific"})
    closed = host(bare, f"sqlite:///{tmp_path / 'bare.sqlite'}", bots=False)
    assert arrive(closed, Visitor("a", "b")).refusal == "closed"


@pytest.mark.parametrize(("once", "refusal"), [("lab", "already took part"), ("study", None)])
def test_a_laboratory_may_let_a_person_take_part_once_in_all_its_studies(
    hosting: Hosting, tmp_path: Path, once: str, refusal: str | None
) -> None:
    participant = arrive(hosting, Visitor("person", "first")).participant
    assert participant is not None
    go_on(hosting, participant, "trials")
    other = make_hosted_study(tmp_path / "other", seed=6, recruitment={"recruiter": "prolific", "once": once, **FILLED})
    beside = host(other, str(hosting.database.url), bots=False, clock=hosting.clock)
    assert beside.identity != hosting.identity
    assert arrive(beside, Visitor("person", "second")).refusal == refusal
    assert arrive(beside, Visitor("somebody", "third")).refusal is None


def test_who_saw_the_trials_in_the_pilot_does_not_take_part_in_the_study(study: Study, hosting: Hosting) -> None:
    pilot = host(study, str(hosting.database.url), bots=False, pilot=True, clock=hosting.clock)
    piloted = arrive(pilot, Visitor("person", "first")).participant
    looked = arrive(pilot, Visitor("who left at once", "second")).participant
    assert piloted is not None and looked is not None
    go_on(pilot, piloted, "trials")
    assert arrive(hosting, Visitor("person", "third")).refusal == "already took part"
    assert arrive(hosting, Visitor("who left at once", "fourth")).refusal is None
    other = arrive(hosting, Visitor("another", "fifth")).participant
    assert other is not None
    go_on(hosting, other, "trials")
    assert arrive(pilot, Visitor("another", "sixth")).refusal is None
    # The study's server takes the receipts of the pilot, too: the pilot's may be gone.
    assert participation.withdraw(hosting, piloted.receipt) == 5
    assert arrive(hosting, Visitor("person", "seventh")).refusal == "already took part"


def test_withdrawing_does_not_let_a_person_take_part_in_the_next_study(hosting: Hosting, tmp_path: Path) -> None:
    participant = arrive(hosting, Visitor("person", "first")).participant
    assert participant is not None
    go_on(hosting, participant, "trials")
    assert participation.withdraw(hosting, participant.receipt)
    other = make_hosted_study(
        tmp_path / "other", seed=6, recruitment={"recruiter": "prolific", "once": "lab", **FILLED}
    )
    beside = host(other, str(hosting.database.url), bots=False)
    assert arrive(beside, Visitor("person", "second")).refusal == "already took part"


def test_only_keyed_hashes_stand_beside_the_answers(hosting: Hosting) -> None:
    participant = arrive(hosting, Visitor("raw-person", "raw-submission")).participant
    assert participant is not None
    with hosting.database.reading() as connection:
        row = connection.execute(sa.select(people)).one()
        kept = connection.execute(sa.select(payments)).one()
    assert "raw" not in " ".join(map(str, row))
    assert (kept.recruiter_id, kept.submission_id) == ("raw-person", "raw-submission")


# -------------------------------------------------------------------- people who leave at the recruiter


@pytest.mark.parametrize("way", ["export", "interface"])
def test_who_left_at_the_recruiter_gives_the_slot_back_and_who_finished_stays(
    hosting: Hosting, recruiter: MockRecruiter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    invited = [recruiter.invite() for _ in range(6)]
    returned, late, working, finished, regretting, sneaking = invited
    came = {one.id: come(hosting, one.link) for one in invited}
    assert all(came.values())
    for one in (returned, late, working, regretting):
        go_on(hosting, came[one.id], "trials" if one is not regretting else "comments")  # type: ignore[arg-type]
    go_on(hosting, came[finished.id], "comments")  # type: ignore[arg-type]
    recruiter.invite()  # never came
    recruiter.leave(returned.id)
    recruiter.leave(late.id, "TIMED-OUT")
    recruiter.leave(regretting.id)
    recruiter.complete(finished.id, hosting.code("complete"))
    recruiter.complete(sneaking.id, "GUESSED")
    if way == "export":
        (tmp_path / "export.csv").write_text(recruiter.export(), encoding="utf-8-sig")
        listed = read_prolific_export(tmp_path / "export.csv")
    else:
        monkeypatch.setenv(PROLIFIC_TOKEN, "mock")
        monkeypatch.setattr("webapp.submissions.PAGE_SIZE", 3)
        listed = fetch_prolific_submissions(recruiter.study, recruiter.url)
    assert len(listed) == 7
    with hosting.database.reading() as connection:
        before = sum(state.leased for state in cell_states(connection, hosting))
    found = reconcile(hosting, listed)
    assert found == Reconciliation(
        returned=1, timed_out=1, unchanged=2, strangers=1,
        finished_here_only=[came[regretting.id].pseudonym],  # type: ignore[union-attr]
        finished_there_only=[came[sneaking.id].pseudonym],  # type: ignore[union-attr]
    )  # fmt: skip
    with hosting.database.reading() as connection:
        assert sum(state.leased for state in cell_states(connection, hosting)) == before - 2
        held = connection.execute(
            sa.select(sessions.c.status, sessions.c.holds).where(
                sessions.c.participant.in_([came[one.id].id for one in (returned, late)])  # type: ignore[union-attr]
            )
        ).fetchall()
    assert sorted(tuple(row) for row in held) == [("returned", False), ("timed out", False)]
    assert row_of(hosting, came[returned.id]).outcome == "returned"  # type: ignore[arg-type]
    assert row_of(hosting, came[late.id]).outcome == "timed out"  # type: ignore[arg-type]
    assert row_of(hosting, came[working.id]).phase == "trials"  # type: ignore[arg-type]
    assert row_of(hosting, came[regretting.id]).outcome == "complete"  # type: ignore[arg-type]
    again = reconcile(hosting, listed)
    assert (again.returned, again.timed_out, again.unchanged) == (0, 0, 4)
    assert current_trial(hosting, came[returned.id].token) is None  # type: ignore[union-attr]
    assert come(hosting, returned.link).phase == "end"  # type: ignore[union-attr]


def test_people_of_the_pilot_are_left_alone(study: Study, hosting: Hosting) -> None:
    pilot = host(study, str(hosting.database.url), bots=False, pilot=True)
    participant = arrive(pilot, Visitor("a", "b")).participant
    assert participant is not None
    assert reconcile(hosting, [Submission("b", "returned")]).strangers == 1
    assert row_of(pilot, participant).outcome is None
    assert reconcile(pilot, [Submission("b", "returned")]).returned == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't be read: No such file"),
        (b"a,b\n1,2\n", "is not an export from Prolific: it needs the columns"),
        (b"", "is empty. In Prolific"),
        (b"\xef\xbb\xbf", "is empty. In Prolific"),
        (b"\xef\xbb\xbfsep=;\n", "has none"),
        (b"Submission id,Status\n1,VANISHED\n", "no submission has a status that vimi knows; found VANISHED"),
        (b"Submission id,Status\n1\n", r"no submission has a status that vimi knows; found \(none\)"),
        (b"\xff\xfe\x00", "not a CSV file in UTF-8"),
    ],
)
def test_a_file_that_is_no_export_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "export.csv").write_bytes(content)
    with pytest.raises(HostingError, match=words):
        read_prolific_export(tmp_path / "export.csv")


@pytest.mark.parametrize(
    ("word", "state"),
    [("TIMED-OUT", "timed out"), ("timed_out", "timed out"), ("Awaiting Review", "finished"), ("RESERVED", "active"),
     ("SCREENED OUT", "screened out"), ("PARTIALLY APPROVED", "finished"), ("REJECTED", "rejected")],
)  # fmt: skip
def test_words_of_the_recruiter_are_understood_in_every_spelling(tmp_path: Path, word: str, state: str) -> None:
    (tmp_path / "export.csv").write_text(f"submission_id,status,other\nx1,{word},y\n", encoding="utf-8")
    assert read_prolific_export(tmp_path / "export.csv") == [Submission("x1", state)]  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [
    "Submission id,Status\na,APPROVED\nb,RETURNED\n", "sep=;\r\nSubmission id;Status\r\na;APPROVED\r\nb;RETURNED\r\n",
    "\ufeffsep=,\nSubmission id,Status\na,APPROVED\nb,RETURNED\n", "Submission id;Status\na;APPROVED\nb;RETURNED\n",
    "Submission id\tStatus\na\tAPPROVED\nb\tRETURNED\n", '"sep=;"\nSubmission id;Status\na;APPROVED\nb;RETURNED\n',
])  # fmt: skip
def test_an_export_that_a_spreadsheet_has_saved_is_read_too(tmp_path: Path, content: str) -> None:
    (tmp_path / "export.csv").write_bytes(content.encode())
    assert read_prolific_export(tmp_path / "export.csv") == [Submission("a", "finished"), Submission("b", "returned")]


def test_a_passing_status_is_left_out_and_counted(hosting: Hosting, tmp_path: Path) -> None:
    """Prolific says PROCESSING while it moves money: nothing happens to these people, and the others are read."""
    came = {}
    for name in ("paid", "gone", "odd"):
        came[name] = arrive(hosting, Visitor(f"person-{name}", f"submission-{name}")).participant
    (tmp_path / "export.csv").write_text(
        "Submission id,Status\nsubmission-paid,PROCESSING\nsubmission-gone,RETURNED\nsubmission-odd,QUANTUM\n"
    )
    found = reconcile(hosting, read_prolific_export(tmp_path / "export.csv"))
    assert found.left_out == {"PROCESSING": 1, "QUANTUM": 1} and found.returned == 1 and found.strangers == 0
    assert [look_up(hosting, one.token).phase for one in came.values() if one] == ["device", "end", "device"]  # type: ignore[union-attr]


# -------------------------------------------------------------------- the interface


class Interface:
    """A recruiter's interface that answers as a test wants."""

    def __init__(self, status: int, body: str, headers: dict[str, str]) -> None:
        seen = self.seen = []  # type: list[str | None]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.headers.get("Authorization"))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *values: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Interface:
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, "", "rejects the token in PROLIFIC_TOKEN"),
        (404, "", "there is no such study"),
        (429, "", "too many requests"),
        (500, "", "status 500"),
        (200, "<html>", "did not answer with JSON"),
        (200, "[]", "does not answer like Prolific"),
        (200, '{"results": [{"id": 1}]}', "does not answer like Prolific"),
        (200, '{"results": [{"id": 1, "status": "ODD"}]}', "no submission has a status that vimi knows; found ODD"),
    ],
)
def test_whatever_the_interface_says_no_message_holds_the_token(
    monkeypatch: pytest.MonkeyPatch, status: int, body: str, words: str
) -> None:
    monkeypatch.setenv(PROLIFIC_TOKEN, "very-secret-token")
    with Interface(status, body, {}) as interface, pytest.raises(HostingError, match=words) as caught:
        fetch_prolific_submissions("study", interface.url)
    assert "very-secret" not in str(caught.value)


def test_the_token_is_not_carried_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROLIFIC_TOKEN, "very-secret-token")
    page = {"results": [{"id": "1", "status": "ACTIVE"}], "_links": {"next": {"href": None}}}
    with Interface(200, json.dumps(page), {}) as thief:
        with (
            Interface(302, "", {"Location": thief.url}) as redirecting,
            pytest.raises(HostingError, match="status 302"),
        ):
            fetch_prolific_submissions("study", redirecting.url)
        with pytest.raises(HostingError, match="must begin with https"):
            fetch_prolific_submissions("study", "http://elsewhere.example")
        with pytest.raises(HostingError, match="must begin with https"):
            fetch_prolific_submissions("study", "file:///etc/passwd")
        assert thief.seen == []


def test_an_interface_that_never_ends_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROLIFIC_TOKEN, "t")
    monkeypatch.setattr("webapp.submissions.MOST_PAGES", 3)
    page = {"results": [{"id": "1", "status": "ACTIVE"}], "_links": {"next": {"href": "x"}}}
    with Interface(200, json.dumps(page), {}) as interface:
        with pytest.raises(HostingError, match="more than 3 pages"):
            fetch_prolific_submissions("study", interface.url)
        assert len(interface.seen) == 3


def test_without_a_token_or_a_connection_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROLIFIC_TOKEN, raising=False)
    with pytest.raises(HostingError, match="PROLIFIC_TOKEN is not set"):
        fetch_prolific_submissions("study")
    monkeypatch.setenv(PROLIFIC_TOKEN, "t")
    with pytest.raises(HostingError, match=r"127\.0\.0\.1:9 can't be reached: .* Run the same command again"):
        fetch_prolific_submissions("study", "http://127.0.0.1:9")


# -------------------------------------------------------------------- the mock recruiter


def test_the_mock_recruiter_plays_a_browser_s_way_there_and_back(recruiter: MockRecruiter) -> None:
    opened = recruiter.invite()
    back = recruiter.return_url.replace("{code}", "CODE").replace("{submission}", opened.id)
    assert RecruitmentSettings(return_url=recruiter.return_url).return_url
    with urlopen(back) as reply:  # noqa: S310
        assert "complete" in reply.read().decode()
    assert (recruiter.submissions[opened.id].status, recruiter.submissions[opened.id].code) == (
        "AWAITING REVIEW",
        "CODE",
    )
    with urlopen(recruiter.url) as reply:  # noqa: S310
        assert "AWAITING REVIEW" in reply.read().decode()
    with urlopen(f"{recruiter.url}/export.csv") as reply:  # noqa: S310
        assert f"{opened.id},{opened.person},AWAITING REVIEW,CODE" in reply.read().decode()
    assert not recruiter.leave(opened.id)


# -------------------------------------------------------------------- the verb


def test_the_verb_prints_link_codes_and_what_is_unfilled(tmp_path: Path) -> None:
    study = make_hosted_study(tmp_path / "study", recruitment={"recruiter": "prolific", "contact": "x"})
    said = CliRunner().invoke(app, ["recruitment", str(study.root), "--address", "https://vimi.example"])
    assert said.exit_code == 0, said.output
    assert "https://vimi.example/?PROLIFIC_PID={{%PROLIFIC_PID%}}&STUDY_ID={{%STUDY_ID%}}&SESSION_ID={{" in said.output
    assert "does not work yet" in said.output
    assert "ethics_approval" in said.output and "contact" not in said.output
    hosting = host(study)
    for outcome in OUTCOMES:
        assert hosting.code(outcome) in said.output


def test_the_verb_reads_an_export_and_the_interface(
    hosting: Hosting, recruiter: MockRecruiter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = recruiter.invite(), recruiter.invite()
    for invited in (one, other):
        assert come(hosting, invited.link)
    recruiter.leave(one.id)
    (tmp_path / "export.csv").write_text(recruiter.export(), encoding="utf-8")
    command = ["recruitment", str(hosting.study.root), "--database", str(hosting.database.url)]
    said = CliRunner().invoke(app, [*command, "--prolific-export", str(tmp_path / "export.csv")])
    assert "1 returned, 0 timed out" in said.output, said.output
    recruiter.leave(other.id, "TIMED-OUT")
    monkeypatch.setenv(PROLIFIC_TOKEN, "mock")
    asked = [*command, "--prolific-api", recruiter.study, "--prolific-address", recruiter.url]
    said = CliRunner().invoke(app, asked)
    assert "0 returned, 1 timed out" in said.output, said.output


def test_a_changed_key_is_noticed_before_anybody_is_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from webapp.hosting import check_key

    study = make_hosted_study(tmp_path / "study")
    monkeypatch.setenv("VIMI_SECRET", "the laboratory's")
    check_key(host(study))
    check_key(host(study))
    monkeypatch.setenv("VIMI_SECRET", "another")
    with pytest.raises(HostingError, match="--new-key"):
        check_key(host(study))
    monkeypatch.delenv("VIMI_SECRET")
    with pytest.raises(HostingError, match="VIMI_SECRET"):
        check_key(host(study))
    check_key(host(study), accept=True)
    check_key(host(study))
