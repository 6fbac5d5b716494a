"""The participant's pages, driven without a browser: plain buttons, the same functions behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from benchmark.database import Database, answers, people, sessions
from benchmark.hashing import hash_bytes
from benchmark.responses import read_responses
from tests.hosted import host, make_hosted_study
from webapp import server
from webapp.hosting import Hosting
from webapp.layout import Row
from webapp.participation import look_up
from webapp.wording import Wording

FILLED = {
    "ethics_approval": "E-1", "controller": "A university", "contact": "lab@example.org", "retention": "ten years",
    "pool_licence": "CC0",
}  # fmt: skip


@pytest.fixture
def hosting(tmp_path: Path) -> Iterator[Hosting]:
    made = host(make_hosted_study(tmp_path / "study", recruitment=FILLED), plain=True, bots=False)
    server.serve_hosting(made)
    yield made
    server._served = None
    made.database.close()


def open_page(**parameters: str) -> AppTest:
    page = AppTest.from_file(str(server.SCRIPT), default_timeout=300)
    for name, value in parameters.items():
        page.query_params[name] = value
    return page.run()


def press(page: AppTest, key: str) -> AppTest:
    found = [button for button in page.button if button.key == key]
    assert found, (key, [button.key for button in page.button], [text.value[:60] for text in page.markdown])
    return found[0].click().run()


def text(page: AppTest) -> str:
    return "\n".join(part.value for part in [*page.markdown, *page.warning, *page.error, *page.code])


def go_to_practice(page: AppTest) -> AppTest:
    page = press(press(page, "arrive"), "agree")
    page.radio[0].set_value("normal")
    page.radio[1].set_value("lower")
    page = press(page.run(), "vision")
    for number in range(2):
        page = press(page, f"page-{number}")
    return press(page, "instructed")


def trial_now(hosting: Hosting, token: str) -> Row:
    """Return the row of the trial that a participant is at."""
    from webapp.answering import name_current_trial

    known = look_up(hosting, token)
    assert known is not None
    name = name_current_trial(hosting, known.id)
    assert name is not None
    slot = name.rpartition("/")[0]
    if "-practice-" in slot:
        cell, _, number = slot.partition("-practice-")
        trials = hosting.layout.practice(cell, int(number))
    else:
        trials = hosting.layout.trials(slot)
    return next(row for row in trials if row["trial"] == name)


def answer_here(page: AppTest, hosting: Hosting, right: bool = True) -> AppTest:
    token = page.session_state["token"]
    top = trial_now(hosting, token)["query_top"] == "max"
    position = "upper" if top == right else "lower"
    key = next(button.key for button in page.button if button.key and button.key.endswith(f"-{position}-2"))
    return press(page, key)


def test_a_whole_session_from_arrival_to_code(hosting: Hosting) -> None:
    page = go_to_practice(open_page())
    assert not page.exception
    token = page.session_state["token"]
    page = press(page, "begin-practice-0")
    for _ in range(5):
        page = answer_here(page, hosting)
    page = press(page, "begin-trials-1")
    for _ in range(8):
        page = answer_here(page, hosting)
    page.text_area[0].set_value("It was fine. <script>alert(1)</script>")
    page = press(page, "commented")
    assert "8 of 8" in text(page).replace("**", "") and hosting.code("complete") in text(page)
    known = look_up(hosting, token)
    assert known is not None and known.outcome == "complete" and known.phase == "debriefing"
    assert known.receipt in text(page)
    stored = read_responses(hosting.study)
    assert len(stored) == 13 and stored["correct"].all() and (stored["observer_kind"] == "human").all()
    assert (stored["consent_hash"] == hosting.consent_hash).all() and stored["rt_ms"].isna().all()
    assert not page.exception


def test_a_reload_goes_on_at_the_same_trial(hosting: Hosting) -> None:
    page = press(go_to_practice(open_page()), "begin-practice-0")
    page = answer_here(answer_here(page, hosting), hosting)
    token = page.session_state["token"]
    before = trial_now(hosting, token)["trial"]
    again = press(open_page(p=token), "arrive")
    assert trial_now(hosting, token)["trial"] == before
    answer_here(again, hosting)
    assert len(read_responses(hosting.study)) == 3


def test_an_old_page_can_not_answer_a_trial_twice(hosting: Hosting) -> None:
    page = press(go_to_practice(open_page()), "begin-practice-0")
    token = page.session_state["token"]
    old = press(open_page(p=token), "arrive")
    old = press(old, "begin-practice-0") if any(b.key == "begin-practice-0" for b in old.button) else old
    answer_here(page, hosting)
    key = next(button.key for button in old.button if button.key and button.key.endswith("-upper-1"))
    press(old, key)
    assert len(read_responses(hosting.study)) == 1


def test_three_failed_rounds_of_practice_end_in_a_polite_page_with_a_code_of_its_own(hosting: Hosting) -> None:
    page = go_to_practice(open_page())
    for attempt in range(3):
        page = press(page, f"begin-practice-{attempt}")
        for place in range(5):
            page = answer_here(page, hosting, right=place != 2)
    known = look_up(hosting, page.session_state["token"])
    assert known is not None and known.outcome == "failed practice"
    assert hosting.code("failed practice") in text(page) and hosting.code("complete") not in text(page)
    assert len(read_responses(hosting.study)) == 15
    with hosting.database.reading() as connection:
        held = connection.execute(sa.select(sessions.c.holds, sessions.c.slot)).one()
        trials = connection.execute(sa.select(answers.c.trial)).scalars().all()
    assert not held.holds and held.slot is None and len(set(trials)) == 15


def test_who_does_not_agree_leaves_with_a_code(hosting: Hosting) -> None:
    page = press(press(open_page(), "arrive"), "decline")
    assert hosting.code("no consent") in text(page)
    with hosting.database.reading() as connection:
        row = connection.execute(sa.select(people)).one()
    assert row.consent_hash is None and row.cell is None


def test_a_link_that_names_nobody_real_starts_anew_and_runs_no_script(hosting: Hosting) -> None:
    page = press(open_page(p="<script>alert(1)</script>"), "arrive")
    assert "<script>" not in text(page) and page.session_state["token"] != "<script>alert(1)</script>"


def test_nobody_chooses_the_token_of_whoever_follows_a_link(hosting: Hosting) -> None:
    chosen = "chosen-by-an-attacker-0123"
    page = press(open_page(p=chosen), "arrive")
    assert page.session_state["token"] != chosen and look_up(hosting, chosen) is None
    again = press(open_page(p=page.session_state["token"]), "arrive")
    assert again.session_state["token"] == page.session_state["token"]


def test_the_hash_of_the_consent_is_that_of_the_text_that_was_shown(hosting: Hosting) -> None:
    own = hosting.study.root / "texts" / "en" / "consent.md"
    own.parent.mkdir(parents=True)
    own.write_text("# First version\n", encoding="utf-8")
    hosting.wording = Wording("en", hosting.study.root / "texts")
    pages = []
    for version in ("# First version\n", "# Second version\n"):
        own.write_text(version, encoding="utf-8")
        pages.append((press(open_page(), "arrive"), hash_bytes(version.encode())))
    own.write_text("# Third version, which nobody has read\n", encoding="utf-8")
    for page, shown in pages:
        page = press(page, "agree")
        with hosting.database.reading() as connection:
            query = sa.select(people.c.consent_hash).where(people.c.token == page.session_state["token"])
            assert connection.execute(query).scalar_one() == shown


def test_people_are_told_what_to_do_though_the_database_is_gone(
    hosting: Hosting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import streamlit

    said: list[str] = []
    handlers: dict[str, Callable[[Exception], bool]] = {}
    monkeypatch.setattr(streamlit, "App", lambda script, on_script_error, **rest: handlers.update(it=on_script_error))
    monkeypatch.setattr(streamlit, "error", said.append)
    server.make_app(hosting)
    hosting.database = Database("postgresql://nobody@/nothing?host=/nowhere")
    assert handlers["it"](RuntimeError("a page failed"))
    assert said == [hosting.wording.label("page_problem")] and "a page failed" in capsys.readouterr().out


def test_nobody_comes_in_before_the_fields_are_filled(tmp_path: Path) -> None:
    made = host(make_hosted_study(tmp_path / "study"), plain=True, bots=False)
    server.serve_hosting(made)
    page = press(open_page(), "arrive")
    assert not [button for button in page.button if button.key == "agree"]
    with made.database.reading() as connection:
        assert connection.execute(sa.select(people)).first() is None
    server._served = None
    made.database.close()


def test_receipt_codes_delete_answers(hosting: Hosting) -> None:
    page = press(go_to_practice(open_page()), "begin-practice-0")
    page = answer_here(page, hosting)
    known = look_up(hosting, page.session_state["token"])
    assert known is not None

    def withdrawal(receipt: str) -> str:
        def script(receipt: str) -> None:
            from webapp.screens.withdrawal import show_withdrawal_page
            from webapp.server import served

            show_withdrawal_page(served())

        screen = AppTest.from_function(script, args=(receipt,), default_timeout=300).run()
        screen.text_input[0].set_value(receipt)
        screen = screen.button[0].click().run()
        return "\n".join(part.value for part in [*screen.error, *screen.success])

    assert "No participant" in withdrawal("WRONG-WRONG-WRONG-WRONG")
    assert len(read_responses(hosting.study)) == 1
    assert "Answers deleted: 1" in withdrawal(known.receipt.lower())
    assert len(read_responses(hosting.study)) == 0
    with hosting.database.reading() as connection:
        row = connection.execute(sa.select(people)).one()
    assert row.outcome == "withdrawn" and row.comments is None and row.evidence is None


def test_a_failed_quiz_means_reading_again_and_sends_nobody_away(tmp_path: Path) -> None:
    study = make_hosted_study(tmp_path / "study", recruitment=FILLED, hosting={"quiz": True, "visual_trap": False})
    made = host(study, plain=True, bots=False)
    server.serve_hosting(made)
    page = press(press(open_page(), "arrive"), "agree")
    page.radio[0].set_value("unsure")
    page = press(page.run(), "vision")
    for number in range(2):
        page = press(page, f"page-{number}")
    page = press(page, "instructed")
    questions = made.wording.quiz()
    for right in (False, True):
        for radio, question in zip(page.radio, questions):
            radio.set_value(question.answer if right else next(o for o in question.options if o != question.answer))
        page = page.button[0].click().run()
        known = look_up(made, page.session_state["token"])
        assert known is not None and known.phase == ("practice" if right else "quiz")
    assert known.quiz_attempts == 2
    server._served = None
    made.database.close()
