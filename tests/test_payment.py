"""Who is paid: whoever finished, whatever their answers are worth; and how the identifiers are forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from benchmark.command_line import app
from benchmark.database import read_answers, sessions
from benchmark.errors import HostingError, NameNotFound
from benchmark.study import Study
from tests.hosted import host, make_hosted_study
from tests.test_recruitment import FILLED, answer, go_on
from webapp.answering import current_trial
from webapp.dashboard import cost
from webapp.hosting import Hosting
from webapp.participation import Device, Participant, agree, arrive, check_device, decline, look_up, stop, withdraw
from webapp.payment import COLUMNS, Payroll, forget_identifiers, make_payroll, write_payroll
from webapp.recruitment import Visitor, brief
from webapp.store import payments


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_hosted_study(
        tmp_path_factory.mktemp("payment") / "study",
        recruitment={"recruiter": "prolific", "payment_usd": 2.5, "partial_payment_usd": 0.25, **FILLED},
    )


pytest_plugins = ["tests.databases"]


@pytest.fixture
def hosting(study: Study, database_url: str) -> Iterator[Hosting]:
    made = host(study, database_url, bots=False)
    yield made
    made.database.close()


def come(hosting: Hosting, name: str) -> Participant:
    participant = arrive(hosting, Visitor(f"person-{name}", f"submission-{name}")).participant
    assert participant is not None
    return participant


def fail_practice(hosting: Hosting, participant: Participant) -> None:
    go_on(hosting, participant, "practice")
    while (trial := current_trial(hosting, participant.token)) is not None:
        answer(hosting, participant, trial.trial, right=False)


def finish_badly(hosting: Hosting, participant: Participant) -> None:
    """Finish with every main and catch trial wrong."""
    go_on(hosting, participant, "trials")
    while (trial := current_trial(hosting, participant.token)) is not None:
        answer(hosting, participant, trial.trial, right=False)


def by_person(payroll: Payroll) -> dict[str, tuple[str, str]]:
    table = payroll.table
    return {
        name.removeprefix("person-"): (payment, amount)
        for name, payment, amount in zip(table["recruiter_id"], table["payment"], table["amount_usd"])
    }


def everybody(hosting: Hosting) -> dict[str, Participant]:
    """Let people of every fate come."""
    came = {name: come(hosting, name) for name in ("good", "bad", "failed", "left", "declined", "withdrew", "arrived")}
    go_on(hosting, came["good"], "comments")
    finish_badly(hosting, came["bad"])
    fail_practice(hosting, came["failed"])
    go_on(hosting, came["left"], "trials")
    stop(hosting, came["left"].token)
    check_device(hosting, came["declined"].token, Device(1280, 800))
    decline(hosting, came["declined"].token)
    go_on(hosting, came["withdrew"], "comments")
    assert withdraw(hosting, came["withdrew"].receipt)
    return came


EXPECTED = {
    "good": ("full", "2.50"),
    "bad": ("full", "2.50"),
    "failed": ("partial", "0.25"),
    "left": ("none", "0.00"),
    "declined": ("none", "0.00"),
    "withdrew": ("full", "2.50"),
    "arrived": ("none", "0.00"),
}


def test_whoever_finished_is_paid_whatever_the_exclusion_rules_say(hosting: Hosting, tmp_path: Path) -> None:
    came = everybody(hosting)
    with hosting.database.reading() as connection:
        usable = connection.execute(
            sa.select(sessions.c.usable, sessions.c.reasons).where(sessions.c.participant == came["bad"].id)
        ).one()
    assert usable.usable is False and "catch" in usable.reasons
    payroll = make_payroll(hosting)
    assert by_person(payroll) == EXPECTED
    assert payroll.total == Decimal("7.75")
    assert (payroll.count("full"), payroll.count("partial"), payroll.count("none")) == (3, 1, 3)
    assert payroll.note == ""

    assert write_payroll(payroll, tmp_path / "pay.csv") == 7
    read = pd.read_csv(tmp_path / "pay.csv", dtype=str)
    assert tuple(read.columns) == COLUMNS
    assert read["submission_id"].tolist() == [f"submission-{name}" for name in EXPECTED]
    assert write_payroll(payroll, tmp_path / "approve.txt", "prolific-approve") == 3
    assert (tmp_path / "approve.txt").read_text() == "person-good\nperson-bad\nperson-withdrew\n"
    assert write_payroll(payroll, tmp_path / "bonus.csv", "prolific-bonus") == 1
    assert (tmp_path / "bonus.csv").read_text() == "person-failed,0.25\n"
    with pytest.raises(NameNotFound, match="general"):
        write_payroll(payroll, tmp_path / "x", "generale")  # type: ignore[arg-type]


@pytest.mark.parametrize(("amount", "expected"), [(0.0, ("none", "0.00")), (0.4, ("partial", "0.40"))])
def test_who_finds_every_place_taken_is_paid_as_the_laboratory_says(
    tmp_path: Path, amount: float, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_hosted_study(
        tmp_path / "study",
        recruitment={"recruiter": "prolific", "payment_usd": 2.5, "full_payment_usd": amount, **FILLED},
    )
    hosting = host(study, bots=False)
    late, declined = come(hosting, "late"), come(hosting, "declined")
    for participant in (late, declined):
        check_device(hosting, participant.token, Device(1280, 800))
    monkeypatch.setattr("webapp.participation.choose_cell", lambda *_: None)
    assert agree(hosting, late.token).outcome == "full"
    decline(hosting, declined.token)
    payroll = make_payroll(hosting)
    assert by_person(payroll) == {"late": expected, "declined": ("none", "0.00")}
    assert ("full_payment_usd" in payroll.note) == (amount == 0)
    assert payroll.note == "" or payroll.note.startswith("1 person consented but found every place taken")
    assert write_payroll(payroll, tmp_path / "bonus.csv", "prolific-bonus") == bool(amount)
    assert cost(hosting).so_far == amount
    assert ("pay USD 0.40" in brief(hosting.recruitment, hosting.identity, "https://x").meanings["full"]) == bool(
        amount
    )
    hosting.database.close()


def test_forgetting_deletes_identifiers_and_nothing_else(hosting: Hosting, tmp_path: Path) -> None:
    came = everybody(hosting)
    with hosting.database.reading() as connection:
        before = read_answers(connection, hosting.identity)
    assert forget_identifiers(hosting) == 7
    assert forget_identifiers(hosting) == 0
    if hosting.database.path is not None:
        files = hosting.database.path.parent.glob(f"{hosting.database.path.name}*")
        stored = b"".join(path.read_bytes() for path in files)
        assert b"person-good" not in stored and b"submission-good" not in stored
    with hosting.database.reading() as connection:
        pd.testing.assert_frame_equal(before, read_answers(connection, hosting.identity))
    payroll = make_payroll(hosting)
    assert payroll.table["payment"].tolist() == [payment for payment, _ in EXPECTED.values()]
    assert set(payroll.table["recruiter_id"]) == {""}
    assert "identifiers of 7 of 7 people are not in the table" in payroll.note
    assert write_payroll(payroll, tmp_path / "pay.csv") == 7
    with pytest.raises(HostingError, match="The form general works without"):
        write_payroll(payroll, tmp_path / "approve.txt", "prolific-approve")
    known = arrive(hosting, Visitor("person-arrived", "submission-arrived")).participant
    assert known is not None and known.id == came["arrived"].id
    assert arrive(hosting, Visitor("person-good", "another")).refusal == "already took part"


def test_a_dropped_table_is_named_and_people_still_come_in(hosting: Hosting, tmp_path: Path) -> None:
    come(hosting, "early")
    with hosting.database.writing() as connection:
        payments.drop(connection)
    late = come(hosting, "late")
    go_on(hosting, late, "comments")
    payroll = make_payroll(hosting)
    assert "has been dropped" in payroll.note
    assert payroll.table["payment"].tolist() == ["none", "full"]
    assert forget_identifiers(hosting) == 0
    with pytest.raises(HostingError, match="has been dropped"):
        write_payroll(payroll, tmp_path / "approve.txt", "prolific-approve")


def test_identifiers_that_are_not_to_be_kept_are_not_kept(tmp_path: Path) -> None:
    study = make_hosted_study(
        tmp_path / "study", recruitment={"recruiter": "prolific", "keep_identifiers": False, **FILLED}
    )
    hosting = host(study, bots=False)
    go_on(hosting, come(hosting, "a"), "comments")
    payroll = make_payroll(hosting)
    assert payroll.count("full") == 1
    assert payroll.table["amount_usd"].tolist() == [f"{hosting.payment_usd:.2f}"]
    assert "keep_identifiers was off" in payroll.note


def test_the_pilot_and_simulated_people_are_not_on_the_payroll(study: Study, hosting: Hosting) -> None:
    url = str(hosting.database.url)
    pilot = host(study, url, bots=False, pilot=True)
    come(pilot, "pilot")
    arrive(hosting, Visitor("bot", "bot"), kind="simulated")
    come(hosting, "human")
    assert list(by_person(make_payroll(hosting))) == ["human"]
    assert list(by_person(make_payroll(pilot))) == ["pilot"]
    pilot.database.close()


def test_open_links_name_nobody(tmp_path: Path) -> None:
    hosting = host(make_hosted_study(tmp_path / "open"))
    participant = arrive(hosting, None).participant
    assert participant is not None
    go_on(hosting, participant, "comments")
    payroll = make_payroll(hosting)
    assert payroll.count("full") == 1
    assert "Open links identify nobody" in payroll.note
    assert look_up(hosting, participant.token) is not None


def test_the_verb_writes_a_file_and_forgets(hosting: Hosting, tmp_path: Path) -> None:
    go_on(hosting, come(hosting, "good"), "comments")
    command = ["payments", str(hosting.study.root), "--database", str(hosting.database.url)]
    said = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "pay.csv")])
    assert said.exit_code == 0, said.output
    assert "1 people finished and are paid in full" in said.output and "USD 2.50" in said.output
    assert (tmp_path / "pay.csv").read_text().splitlines()[1].endswith("complete,full,2.50")
    said = CliRunner().invoke(app, [*command, "--forget", "--out", str(tmp_path / "x.csv")])
    assert said.exit_code == 2
    said = CliRunner().invoke(app, [*command, "--forget"])
    assert "1 identifiers deleted" in said.output
