"""The experimenter's page: nobody enters without the password, and means stay hidden behind it."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from argon2 import PasswordHasher
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from benchmark.command_line import app
from benchmark.errors import HostingError
from benchmark.study import Study
from tests.answered import fallible, take_part
from tests.hosted import host, make_hosted_study
from webapp import admission, dashboard
from webapp.hosting import Hosting
from webapp.participation import arrive
from webapp.screens import experimenter
from webapp.store import report_problem
from webapp.visitors import SELF

PASSWORD = "correct horse battery"
HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_hosted_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def hosting(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosting]:
    monkeypatch.setenv(admission.ADMIN_HASH, HASH)
    monkeypatch.setattr(experimenter, "_gate", admission.Gate())
    hosting = host(study, f"sqlite:///{tmp_path / 'people.sqlite'}")
    monkeypatch.setattr(experimenter, "tested", hosting, raising=False)
    yield hosting
    hosting.database.close()


def script() -> None:
    from webapp.screens import experimenter

    experimenter.show_experimenter_page(experimenter.tested)  # type: ignore[attr-defined]


def open_page() -> AppTest:
    page = AppTest.from_function(script, default_timeout=300).run()
    assert not page.exception
    return page


def enter(page: AppTest, password: str = PASSWORD) -> AppTest:
    page.text_input[0].set_value(password)
    page.button[0].click().run()
    assert not page.exception
    return page


def go_to(page: AppTest, section: str) -> AppTest:
    page.session_state["section"] = section
    page.run()
    assert not page.exception
    return page


def words(page: AppTest) -> str:
    """Return all that the page says, without tags and styles."""
    bodies = [element.proto.body for element in page.get("html")]
    texts = [body for body in bodies if not body.startswith("<style>")]
    texts += [element.value for kind in ("error", "markdown") for element in page.get(kind)]
    return re.sub(r"<[^>]+>", " ", " ".join(texts))


# -------------------------------------------------------------------- the door


def test_nothing_is_shown_before_the_password(hosting: Hosting) -> None:
    take_part(hosting)
    page = open_page()
    assert "For the experimenter" in words(page)
    assert len(page.text_input) == 1 and page.text_input[0].proto.type == page.text_input[0].proto.Type.PASSWORD
    assert hosting.study.root.name not in words(page) and "finished" not in words(page)


def test_the_right_password_opens(hosting: Hosting) -> None:
    page = enter(open_page())
    assert "planned sessions filled" in words(page) and not page.text_input
    next(button for button in page.button if button.label == "Log out").click().run()
    assert "For the experimenter" in words(page)


def test_every_failure_says_the_same(hosting: Hosting) -> None:
    page = open_page()
    said = set()
    for attempt in ["wrong", "", "x" * 200, "wrong once more"]:
        said.add(enter(page, attempt).error[0].value)
        assert "planned sessions" not in words(page)
    said.add(enter(page).error[0].value)  # the right one, while everybody waits
    assert said == {experimenter.FAILED}


def test_an_idle_session_ends(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    page = enter(open_page())
    monkeypatch.setattr(experimenter, "IDLE_SECONDS", 0)
    page.run()
    assert "For the experimenter" in words(page) and "planned sessions" not in words(page)


def test_another_password_ends_the_session(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    page = enter(open_page())
    monkeypatch.setenv(admission.ADMIN_HASH, PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("another"))
    assert "For the experimenter" in words(page.run())


def test_without_a_hash_there_is_no_page(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(admission.ADMIN_HASH)
    assert admission.admin_hash() == ""
    page = open_page()
    assert words(page) == "" and not page.text_input


def test_the_hash_may_stand_in_a_secrets_file(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(admission.ADMIN_HASH)
    page = AppTest.from_function(script, default_timeout=300)
    page.secrets[admission.SECRET_NAME] = HASH
    page.run()
    assert "For the experimenter" in words(page)
    page.secrets[admission.SECRET_NAME] = "a password in plain text"
    (error,) = page.run().exception
    assert "admin_hash in the secrets file is not an Argon2 hash" in error.message


@pytest.mark.parametrize("value", ["plain", "argon2id=19=65536,t=3,p=4", "$argon2id$v=19"])
def test_what_is_no_hash_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(admission.ADMIN_HASH, value)
    with pytest.raises(HostingError, match="VIMI_ADMIN_HASH is not an Argon2 hash"):
        admission.admin_hash()


def test_the_gate_slows_down_whoever_guesses() -> None:
    now = [1000.0]
    gate = admission.Gate(lambda: now[0])
    guesser = admission.Caller("somewhere")
    waits = []
    for _ in range(12):
        assert not gate.admits("wrong", HASH, guesser)
        waits.append(gate.wait(guesser))
        assert waits[-1] == 0 or not gate.admits(PASSWORD, HASH, guesser), "Who has to wait is not let in."
        now[0] += waits[-1]
    assert waits[:4] == [0, 0, 2, 4] and waits[-1] == admission.LONGEST_WAIT
    assert gate.admits(PASSWORD, HASH, guesser) and gate.wait(guesser) == 0
    assert not gate.admits(PASSWORD, "", guesser) and not gate.admits("x" * 10_000, HASH, guesser)
    for _ in range(5):
        gate.admits("wrong", HASH, guesser)
        now[0] += gate.wait(guesser)
    now[0] += admission.FORGOTTEN_AFTER + 1
    assert gate.wait(guesser) == 0


@pytest.mark.parametrize("addresses", [1, 2000])
def test_who_guesses_does_not_lock_the_experimenter_out(addresses: int) -> None:
    """814 attempts in 242 s from one address, and as many from 2,000: who knows the password enters all the same."""
    now = [1000.0]
    gate = admission.Gate(lambda: now[0])
    known = {
        "another address": admission.Caller("elsewhere"),
        "a device that was here before": admission.Caller("address 0", "0123456789abcdef"),
        "somebody at the server": admission.Caller(SELF),
    }
    checked, admitted = 0, dict.fromkeys(known, 0)
    for number in range(814):
        now[0] += 242 / 814
        caller = admission.Caller(f"address {number % addresses}")
        free = gate.wait(caller) == 0
        assert not gate.admits("wrong", HASH, caller)
        checked += free
        if number % 10 == 0:
            for name, who in known.items():
                admitted[name] += gate.admits(PASSWORD, HASH, who)
    # However many addresses guess, only so many guesses are looked at.
    assert checked <= admission.STRANGERS_AT_ONCE + 242 * admission.STRANGERS_A_SECOND + 1
    assert admitted["a device that was here before"] == admitted["somebody at the server"] == 82
    if addresses == 1:
        assert admitted["another address"] == 82 and checked < 15
    else:
        assert admitted["another address"] > 0


def test_only_our_own_unspoilt_cookie_makes_a_device_known() -> None:
    key, now = b"k" * 32, 1_700_000_000.0
    made = admission.make_device_pass(key, HASH, now)
    device = admission.read_device_pass(made, key, HASH, now + 1)
    assert len(device) == 16 and device not in (HASH, PASSWORD)
    assert admission.read_device_pass(made, key, HASH, now + admission.DEVICE_SECONDS + 1) == ""
    assert admission.read_device_pass(made, key, HASH + "x", now) == ""
    assert admission.read_device_pass(made, b"x" * 32, HASH, now) == ""
    name, until, signature = made.split(".")
    for forged in (f"{'0' * 16}.{until}.{signature}", f"{name}.{int(until) + 1}.{signature}", "", "a.b.c", made + "0"):
        assert admission.read_device_pass(forged, key, HASH, now) == ""


def test_a_device_gets_its_cookie_once_and_is_known_by_it(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    page = enter(open_page())
    (script_tag,) = [one.proto.body for one in page.get("html") if admission.DEVICE_COOKIE in one.proto.body]
    cookie = re.search(rf'{admission.DEVICE_COOKIE}=([^;"]+)', script_tag)
    assert cookie is not None and PASSWORD not in script_tag and HASH not in script_tag
    assert not [one for one in page.run().get("html") if admission.DEVICE_COOKIE in one.proto.body]
    asked: list[admission.Caller] = []
    monkeypatch.setattr(experimenter._gate, "admits", lambda given, hashed, caller: asked.append(caller))
    monkeypatch.setattr(
        type(experimenter.st.context), "cookies", property(lambda self: {admission.DEVICE_COOKIE: cookie[1]})
    )
    enter(open_page(), "whatever")
    assert asked[0].device and not asked[0].is_stranger


def test_the_command_line_makes_a_hash() -> None:
    made = CliRunner().invoke(app, ["password"], input=f"{PASSWORD}\n{PASSWORD}\n")
    assert made.exit_code == 0 and PASSWORD not in made.output
    (line,) = (line for line in made.stdout.splitlines() if line.startswith(admission.ADMIN_HASH))
    hashed = line.partition("=")[2].strip("'")
    assert admission.Gate().admits(PASSWORD, hashed)
    short = CliRunner().invoke(app, ["password"], input="short\nshort\n")
    assert isinstance(short.exception, HostingError)


# -------------------------------------------------------------------- behind it


def test_every_section_draws_an_empty_study_and_one_with_answers(hosting: Hosting) -> None:
    page = enter(open_page())
    for section in experimenter.SECTIONS:
        go_to(page, section)
    for number in range(3):
        take_part(hosting, fallible(number))
    page = enter(open_page())
    assert [group.value for group in page.get("button_group")][1:] == ["Simulated"]
    for section in experimenter.SECTIONS:
        assert len(words(go_to(page, section))) > 100


def test_means_stay_hidden_until_the_plan_is_filled(hosting: Hosting) -> None:
    for number in range(3):
        take_part(hosting, fallible(number, 0.9))
    page = go_to(enter(open_page()), "Precision")
    assert "Means are hidden" in words(page) and not re.search(r"\.\d{3} \[", words(page))
    while not dashboard.is_complete(hosting, "simulated"):
        take_part(hosting, fallible(number := number + 1, 0.9))
    page.run()
    assert "stopping rule is met" in words(page) and re.search(r"\.\d{3} \[", words(page))


def test_recruitment_is_paused_and_resumed_with_a_second_click(hosting: Hosting) -> None:
    page = go_to(enter(open_page()), "Recruitment")
    page.button(key="change").click().run()
    assert not dashboard.is_paused(hosting), "The first click only asks."
    page.button(key="cancel").click().run()
    page.button(key="change").click().run()
    page.button(key="confirm").click().run()
    assert dashboard.is_paused(hosting) and "recruitment paused" in words(page)
    assert arrive(hosting, None).refusal == "paused"
    page.button(key="change").click().run()
    page.button(key="confirm").click().run()
    assert not dashboard.is_paused(hosting) and arrive(hosting, None).participant is not None


def test_what_browsers_sent_is_escaped(hosting: Hosting) -> None:
    with hosting.database.writing() as connection:
        report_problem(
            connection, hosting.identity, "<b>kind", trial="<img src=x>", detail='"><script>alert(1)</script>'
        )
    page = go_to(enter(open_page()), "Problems")
    sent = " ".join(element.proto.body for element in page.get("html"))
    assert "<script>" not in sent and "<img" not in sent and "<b>kind" not in sent
    assert "&lt;script&gt;" in sent and '""><' not in sent


def test_an_early_export_is_written_down(hosting: Hosting) -> None:
    take_part(hosting)
    page = go_to(enter(open_page()), "Data")
    assert all(button.disabled for button in page.get("download_button") if "payments" not in button.label.lower()
               and "backup" not in button.label.lower())  # fmt: skip
    page.checkbox(key="early").check().run()
    assert not any(button.disabled for button in page.get("download_button"))
    packed = experimenter._export(hosting, "csv")()
    names = zipfile.ZipFile(io.BytesIO(packed)).namelist()
    assert any(name.endswith("responses.csv") for name in names)
    assert [look["what"] for look in dashboard.early_looks(hosting)] == ["csv from the admin page"]
    assert "Early looks so far: 1" in words(page.run())
    assert experimenter._backup(hosting)().startswith(b"SQLite format 3")
    assert experimenter._payments(hosting)().startswith(b"pseudonym")


def test_arrivals_at_one_moment_are_drawn_too() -> None:
    from webapp.screens.charts import draw_arrivals

    moment = np.array([1.7e9 - 1.7e9 % 3600])
    assert draw_arrivals(moment, np.array([])).to_dict()["layer"]
    assert draw_arrivals(np.array([1.7e9, 1.8e9]), moment).to_dict()["layer"]
