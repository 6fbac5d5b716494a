"""The task in a real browser: Debian's Chromium, driven by mouse and by keyboard."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import TimeoutError

from benchmark.database import Database, answers, people, sessions
from benchmark.responses import read_responses
from benchmark.study import Study
from tests.hosted import host, make_hosted_study, walk_to_practice
from tests.servers import Server, running

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)")

SIZE = {"width": 1280, "height": 800}
OPEN = '.scene[data-state="open"]'
VERDICT = '.scene[data-state="verdict"]'


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    study = make_hosted_study(tmp_path_factory.mktemp("browser") / "study", session=SESSION)
    with running(study.root, "--pilot") as made:
        yield made


SESSION = {"main_trials": 6, "catch_trials": 2, "responses_per_unit": 30}


class Visit:
    """Somebody at a browser, who sees which picture is brighter: in these studies that is the right one."""

    def __init__(
        self, browser: Any, server: Server, link: str = "/", size: dict[str, int] | None = None, **options: Any
    ):
        self.server = server
        self.context = browser.new_context(viewport=size or SIZE, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)
        self.foreign: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", self._request)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(server.url + link)

    @classmethod
    def at_practice(cls, browser: Any, server: Server, **options: Any) -> Visit:
        """Let somebody open the link of a person who has come as far as the practice: tests of trials begin there."""
        hosting = host(Study.open(server.study), pilot=True, bots=False, clock=time.time)
        try:
            person = walk_to_practice(hosting)
        finally:
            hosting.database.close()
        visit = cls(browser, server, f"/?p={person.token}", **options)
        visit.press("Start the practice")
        return visit

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.server.url, "data:", "blob:", self.server.url.replace("http", "ws"))):
            self.foreign.append(request.url)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name).click()

    def to_practice(self) -> None:
        self.to_instructions()
        self.press("Start the practice")

    def to_instructions(self, last: str = "Practice") -> None:
        self.press("I have read this")
        self.page.get_by_text("As far as I know").click()
        self.page.get_by_text("The lower one").click()
        for heading in ("The two groups", "Your choice", "Good to know", last):
            self.go_on(heading)

    def go_on(self, heading: str, keyboard: bool = False) -> None:
        """Press Continue until the page with a heading is there: a button of the last page may still be in sight."""
        wanted = self.page.get_by_role("heading", name=heading, exact=True)
        for _ in range(8):
            button = self.page.get_by_role("button", name="Continue", disabled=False).last
            # A slow page may come after the wait for it was given up: then there is nothing left to press.
            wanted.or_(button).last.wait_for()
            if wanted.is_visible():
                return
            if keyboard:
                button.focus()
                self.page.keyboard.press("Enter")
            else:
                button.click()
            try:
                wanted.wait_for(timeout=3000)
            except TimeoutError:
                continue
            return
        raise AssertionError(f"There is no page {heading!r}.")

    @property
    def token(self) -> str:
        return str(self.page.evaluate("new URL(location).searchParams.get('p')"))

    def position(self, right: bool = True) -> str:
        """Return where the bright query is."""
        light = self.page.evaluate(
            """() => ["upper", "lower"].map((position) => {
              const image = document.querySelector("[data-testid=stBidiComponentRegular], body")
                && deep(`.query.${position} img`);
              const canvas = document.createElement("canvas");
              canvas.width = canvas.height = 8;
              const context = canvas.getContext("2d");
              context.drawImage(image, 0, 0, 8, 8);
              return context.getImageData(0, 0, 8, 8).data.reduce((sum, value) => sum + value, 0);
              function deep(selector, root = document) {
                const found = root.querySelector(selector);
                if (found) return found;
                for (const node of root.querySelectorAll("*")) {
                  const below = node.shadowRoot && deep(selector, node.shadowRoot);
                  if (below) return below;
                }
                return null;
              }
            })"""
        )
        return "upper" if (light[0] > light[1]) == right else "lower"

    def open(self) -> None:
        self.page.locator(OPEN).wait_for()

    def button(self, position: str, confidence: int = 3) -> Any:
        return self.page.locator(f'.answer[data-position="{position}"][data-confidence="{confidence}"]')

    def answer(self, right: bool = True, keyboard: bool = False) -> None:
        self.open()
        position = self.position(right)
        if keyboard:
            self.page.keyboard.press("e" if position == "upper" else "d")
        else:
            self.button(position).click()
        self.page.locator(VERDICT).wait_for()
        if keyboard:
            self.page.keyboard.press("Enter")
        else:
            self.page.get_by_role("button", name="Continue").click()

    def until(self, met: Callable[[], Any], seconds: float = 120) -> None:
        """Wait until something holds that only the server's side can tell, however slow the machine is."""
        end = time.monotonic() + seconds
        while not met():
            assert time.monotonic() < end, "What was waited for did not come."
            self.page.wait_for_timeout(50)  # playwright's own time: its events are handled meanwhile

    def rest(self) -> None:
        """Wait until the page's script has run and all its pictures are there."""
        self.page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
        self.page.wait_for_function("[...document.images].every((image) => image.complete && image.naturalWidth)")

    def stored(self) -> pd.DataFrame:
        database = Database(f"sqlite:///{self.server.study / 'study.sqlite'}")
        with database.reading() as connection:
            query = sa.select(answers).join(people, people.c.id == answers.c.participant)
            rows = connection.execute(query.where(people.c.token == self.token).order_by(answers.c.id)).mappings().all()
        database.close()
        return pd.DataFrame([dict(row) for row in rows])

    def close(self) -> None:
        self.context.close()


def serious(page: Any) -> list[str]:
    """Return what axe finds serious or worse."""
    return [problem for problem in every_finding(page) if problem.startswith(("serious", "critical"))]


def every_finding(page: Any) -> list[str]:
    """Return whatever axe finds."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{problem['impact']} {problem['id']}: {problem['nodes'][0]['html'][:200]}" for problem in found]


def test_a_whole_session_by_mouse(chromium: Any, server: Server) -> None:
    visit = Visit(chromium, server)
    visit.page.get_by_role("button", name="I have read this").wait_for()
    assert serious(visit.page) == []
    visit.to_practice()
    visit.page.locator(".scene").wait_for()
    decoded = visit.page.locator(".scene img").evaluate_all(
        "all => all.map((image) => image.complete && image.naturalWidth)"
    )
    assert len(decoded) == 8 and all(decoded)
    visit.open()
    assert serious(visit.page) == []
    for _ in range(5):
        visit.answer()
    visit.press("Start")
    for _ in range(8):
        visit.answer()
    visit.page.get_by_role("heading", name="Your comments").or_(visit.page.locator("textarea")).first.wait_for()
    assert serious(visit.page) == []
    visit.page.locator("textarea").fill("<img src=x onerror=alert(1)>")
    visit.press("Finish")
    visit.page.get_by_text("8 of 8").wait_for()
    assert serious(visit.page) == []
    stored = visit.stored()
    assert len(stored) == 13 and stored["correct"].all() and set(stored["input"]) == {"pointer"}
    assert (stored["rt_ms"] >= 1400).all() and (stored["rt_ms"] <= stored["server_ms"] + 1).all()
    assert (stored["onset_delay_ms"] >= 0).all() and stored["visible"].all() and stored["focused"].all()
    assert stored["trace"].str.contains("offset_x").all()
    assert visit.foreign == [] and visit.complaints == []
    responses = read_responses(Study.open(server.study), pilot=True)
    assert {"main": 6, "catch": 2, "practice": 5}.items() <= responses[
        responses["observer"] == responses["observer"].iloc[0]
    ]["kind"].value_counts().to_dict().items()
    visit.page.reload()
    visit.page.get_by_text("8 of 8").wait_for()
    visit.close()


def test_by_keyboard_alone_with_early_and_held_keys(chromium: Any, server: Server) -> None:
    visit = Visit(chromium, server)
    page = visit.page
    page.get_by_role("button", name="I have read this").focus()
    page.keyboard.press("Enter")
    page.get_by_text("As far as I know").wait_for()
    page.locator("input[type=radio]").first.focus()
    page.keyboard.press("Space")
    page.locator("input[type=radio]").nth(4).focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("document.querySelectorAll('input[type=radio]:checked').length == 2")
    for heading in ("The two groups", "Your choice", "Good to know", "Practice"):
        visit.go_on(heading, keyboard=True)
    page.get_by_role("button", name="Start the practice").focus()
    page.keyboard.press("Enter")
    page.locator('.scene[data-state="locked"]').wait_for()
    page.keyboard.press("q")
    page.keyboard.press("a")
    for _ in range(2):
        visit.answer(keyboard=True)
    # A key that is held down answers one trial, and does not run through those that follow.
    visit.open()
    page.keyboard.down("a")
    for _ in range(20):
        page.keyboard.down("a")
    page.locator(VERDICT).wait_for()
    page.keyboard.press("Enter")
    page.locator('.scene[data-state="locked"]').wait_for()
    while visit.page.locator(OPEN).count() == 0:  # until the next trial would take an answer, and a while longer
        page.keyboard.down("a")
    for _ in range(20):
        page.keyboard.down("a")
    assert visit.page.locator(OPEN).count() == 1 and len(visit.stored()) == 3
    page.keyboard.up("a")
    # Focus goes through the six buttons in reading order, and Space presses the one that has it.
    visit.open()
    names = []
    for _ in range(6):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate(
                """() => {
                  let here = document.activeElement;
                  while (here.shadowRoot) here = here.shadowRoot.activeElement;
                  return here.getAttribute("aria-label");
                }"""
            )
        )
    assert [name.split(",")[0] for name in names] == ["Upper picture"] * 3 + ["Lower picture"] * 3
    page.keyboard.press("Space")
    page.locator(VERDICT).wait_for()
    stored = visit.stored()
    assert stored["input"].tolist() == ["keyboard", "keyboard", "keyboard", "button"]
    assert stored["early_inputs"].iloc[0] == 2 and visit.complaints == []
    visit.close()


@pytest.mark.parametrize("apart", [0, 30, 150, 1000, 3000])
def test_a_double_click_is_one_answer(chromium: Any, server: Server, apart: int) -> None:
    visit = Visit.at_practice(chromium, server)
    visit.open()
    box = visit.button("upper").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    visit.page.mouse.click(x, y)
    visit.page.wait_for_timeout(apart)
    visit.page.mouse.click(x, y)
    # Whatever the second click did, it was done when it fell; the verdict comes after the answer was acknowledged.
    visit.page.locator(VERDICT).wait_for()
    assert len(visit.stored()) == 1
    visit.close()


@pytest.mark.parametrize("apart", [0, 150, 1000])
def test_a_double_click_on_plain_buttons_is_one_answer(chromium: Any, plain_server: Server, apart: int) -> None:
    visit = Visit(chromium, plain_server)
    visit.press("Continue")
    visit.to_practice()
    visit.page.get_by_text("1 of 5").wait_for()
    visit.rest()  # pictures that arrive late would move the buttons
    button = visit.page.get_by_role("button", name="sure", exact=True).first
    if apart == 0:
        # Both in one task of the page: on a loaded machine a mouse that clicks twice may wait for seconds in between.
        button.evaluate("button => { button.click(); button.click(); }")
    else:
        box = button.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        visit.page.mouse.click(x, y)
        visit.page.wait_for_timeout(apart)
        visit.page.mouse.click(x, y)
    visit.until(lambda: len(visit.stored()))
    visit.rest()
    stored = visit.stored()
    # The second click may fall on the next trial's button, once that is drawn; never twice on one trial.
    assert 1 <= len(stored) <= 2 and stored["trial"].is_unique
    if apart == 0:
        assert len(stored) == 1
    visit.close()


@pytest.fixture(scope="module")
def plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    study = make_hosted_study(tmp_path_factory.mktemp("plain") / "study", session=SESSION)
    with running(study.root, "--pilot", "--plain") as made:
        yield made


def test_reload_second_tab_and_second_device_go_on_at_the_right_trial(chromium: Any, server: Server) -> None:
    visit = Visit.at_practice(chromium, server)
    visit.answer()
    visit.open()
    link = visit.page.url
    visit.page.reload()
    visit.open()
    visit.page.get_by_text("Practice · 2 of 5").wait_for()
    tab = visit.context.new_page()
    tab.goto(link)
    tab.locator(OPEN).wait_for()
    tab.get_by_text("Practice · 2 of 5").wait_for()
    visit.answer()
    # The tab still shows the trial that is answered: its answer is not stored, and it goes on with the next one.
    tab.locator(f'.answer[data-position="{visit.position(right=False)}"][data-confidence="1"]').click()
    tab.get_by_text("Practice · 3 of 5").wait_for()
    assert len(visit.stored()) == 2
    device = Visit(chromium, server, link.replace(server.url, ""), size={"width": 1920, "height": 1080})
    device.open()
    device.page.get_by_text("Practice · 3 of 5").wait_for()
    device.close()
    visit.close()


def test_an_answer_that_can_not_be_sent_waits_and_is_sent_again(chromium: Any, server: Server) -> None:
    visit = Visit.at_practice(chromium, server)
    visit.open()
    visit.page.route("**/api/answer", lambda route: route.abort())
    visit.button("upper").click()
    visit.page.get_by_text("Your answer is kept").wait_for()
    assert len(visit.stored()) == 0
    kept = visit.page.evaluate("Object.keys(localStorage).filter((name) => name.startsWith('vimi-answer-')).length")
    assert kept == 1
    visit.page.unroute("**/api/answer")
    visit.page.get_by_role("button", name="Continue").click()
    visit.page.get_by_text("Practice · 2 of 5").wait_for()
    visit.open()
    assert len(visit.stored()) == 1
    # A reload amid the sending: a beacon, or the page that comes next, takes the answer along.
    visit.page.route("**/api/answer", lambda route: route.abort())
    visit.button("upper").click()
    visit.page.get_by_text("Your answer is kept").wait_for()
    visit.page.reload()
    visit.page.unroute("**/api/answer")
    visit.page.get_by_text("Practice · 3 of 5").wait_for()
    assert len(visit.stored()) == 2
    assert (
        visit.page.evaluate("Object.keys(localStorage).filter((name) => name.startsWith('vimi-answer-')).length") == 0
    )
    visit.close()


def test_a_press_that_began_too_early_is_no_answer(chromium: Any, server: Server) -> None:
    visit = Visit.at_practice(chromium, server)
    visit.page.locator('.scene[data-state="locked"]').wait_for()
    box = visit.button("upper").bounding_box()
    visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visit.page.mouse.down()
    visit.open()
    visit.page.mouse.up()
    # Two frames later the release has been handled; an answer would have left the open state.
    visit.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert visit.page.locator(OPEN).is_visible() and len(visit.stored()) == 0
    visit.answer()
    stored = visit.stored()
    assert stored["input"].tolist() == ["pointer"] and stored["early_inputs"].tolist() == [1]
    assert stored["rt_ms"].item() >= 1500
    visit.close()


def test_a_trial_that_was_seen_before_has_no_reaction_time(chromium: Any, server: Server) -> None:
    visit = Visit.at_practice(chromium, server)
    visit.answer()
    visit.open()
    visit.page.reload()
    visit.answer()
    visit.answer()
    stored = visit.stored()
    assert stored["rt_ms"].isna().tolist() == [False, True, False]
    assert ["again" in trace for trace in stored["trace"]] == [False, True, False]
    visit.close()


def test_who_was_silent_before_an_open_page_goes_on_at_the_practice(chromium: Any, server: Server) -> None:
    visit = Visit.at_practice(chromium, server)
    visit.answer()
    visit.open()
    database = Database(f"sqlite:///{server.study / 'study.sqlite'}")
    with database.writing() as connection:
        own = sa.select(people.c.id).where(people.c.token == visit.token).scalar_subquery()
        connection.execute(
            sessions.update().where(sessions.c.participant == own).values(seen_at=sessions.c.seen_at - 7200)
        )
    database.close()
    visit.answer()  # it is kept in the session that it belongs to, and that session is over
    visit.press("Start the practice")
    visit.open()
    visit.page.get_by_text("Practice · 1 of 5").wait_for()
    assert len(visit.stored()) == 2
    visit.close()


def test_a_small_window_is_turned_away_politely_and_may_grow(chromium: Any, server: Server) -> None:
    visit = Visit(chromium, server, size={"width": 900, "height": 590})
    visit.page.get_by_role("heading", name="Please enlarge").wait_for()
    visit.page.get_by_text("900 × 590").wait_for()
    visit.page.locator("code").first.wait_for()
    visit.page.set_viewport_size({"width": 940, "height": 600})
    visit.page.get_by_role("button", name="I have read this").wait_for()
    visit.close()


def test_a_trial_never_starts_with_a_missing_picture(chromium: Any, server: Server) -> None:
    visit = Visit(chromium, server)
    first: set[str] = set()

    def lose(route: Any) -> None:
        """Let the pictures of the first trial through, and no other."""
        names = route.request.url.split("/")[-1].split("?")[0]
        if not first or names in first:
            first.add(names)
            route.continue_()
        else:
            route.abort()

    visit.page.route("**/pictures/**", lose)
    visit.to_practice()
    visit.answer()
    visit.page.get_by_text("could not be loaded").wait_for()
    assert visit.page.locator(".scene").count() == 0
    visit.page.unroute("**/pictures/**")
    visit.press("Try again")
    visit.open()
    visit.page.get_by_text("Practice · 2 of 5").wait_for()
    visit.close()


@pytest.mark.parametrize("size", [(940, 600), (1280, 800), (1920, 1080)])
def test_everything_is_in_sight_and_legible_at_twice_the_text_size(
    chromium: Any, server: Server, size: tuple[int, int]
) -> None:
    visit = Visit.at_practice(chromium, server, size={"width": size[0], "height": size[1]}, reduced_motion="reduce")
    visit.open()
    fits = "() => document.documentElement.scrollWidth <= window.innerWidth + 1"
    assert visit.page.evaluate(fits)
    for box in (part.bounding_box() for part in visit.page.locator(".scene img, .answer").all()):
        assert box["x"] >= 0 and box["y"] >= 0
        assert box["x"] + box["width"] <= size[0] + 1 and box["y"] + box["height"] <= size[1] + 1
    moving = visit.page.locator(".answer").evaluate_all(
        "all => all.map((button) => getComputedStyle(button).transitionDuration)"
    )
    assert set(moving) == {"0s"}
    before = visit.page.locator(".question").evaluate("part => getComputedStyle(part).fontSize")
    visit.page.add_style_tag(content="html { font-size: 200% !important; }")
    size_now = visit.page.locator(".question")
    visit.until(lambda: size_now.evaluate("part => getComputedStyle(part).fontSize") != before)
    clipped = visit.page.locator(".answer, .head > *, .foot > *, .group h2").evaluate_all(
        "all => all.filter((part) => getComputedStyle(part).display != 'inline')"
        ".filter((part) => part.scrollWidth > part.clientWidth + 1).map((part) => part.className)"
    )
    assert clipped == [] and visit.page.locator(".answer").count() == 6
    overlaps = visit.page.locator(".answer, .question, .progress").evaluate_all(
        """all => {
          const boxes = all.map((part) => part.getBoundingClientRect());
          const meet = (a, b) =>
            a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
          return boxes.flatMap((a, place) => boxes.slice(place + 1).filter((b) => meet(a, b))).length;
        }"""
    )
    assert overlaps == 0
    visit.close()


ARABIC = "اختر الصورة التي تنتمي إلى المجموعة اليمنى وقل إلى أي حد أنت متأكد من ذلك"
LONG = "Straßenverkehrszulassungsordnungsänderungsantragsformular"


@pytest.fixture(scope="module")
def arabic_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A study with texts of its own, from the right and with words that are longer than a column."""
    study = make_hosted_study(
        tmp_path_factory.mktemp("arabic") / "study", references=9, session=SESSION, texts={"language": "ar"},
        stimuli={"conditions": ["natural"], "references": 9, "tasks": 3},
    )  # fmt: skip
    own = study.root / "texts" / "ar"
    own.mkdir(parents=True)
    (own / "practice.md").write_text(f"# {ARABIC}\n\n{ARABIC}: {LONG}\n\n- {ARABIC}\n- {LONG}", encoding="utf-8")
    labels = {
        "trial_question": ARABIC, "trial_left": "المجموعة اليسرى", "trial_right": f"المجموعة {LONG}",
        "trial_confidence_1": "غير متأكد إطلاقا", "trial_confidence_2": "متأكد إلى حد ما",
        "trial_confidence_3": LONG[:32],
        "trial_progress": "{number} من {of}", "start_practice": LONG, "copy": ARABIC[:30],
    }  # fmt: skip
    lines = [f"{name} = {json.dumps(text, ensure_ascii=False)}" for name, text in labels.items()]
    (own / "labels.toml").write_text("\n".join(["[labels]", *lines]), encoding="utf-8")
    with running(study.root, "--pilot") as made:
        yield made


def test_long_words_and_texts_from_the_right_leave_everything_in_sight(chromium: Any, arabic_server: Server) -> None:
    size = {"width": 940, "height": 600}
    visit = Visit(chromium, arabic_server, size=size)
    page = visit.page
    visit.to_instructions(last=ARABIC)
    visit.rest()
    fits = "() => document.documentElement.scrollWidth <= window.innerWidth + 1"
    assert page.evaluate(fits) and serious(page) == []
    items = page.locator('[class*="st-key-card"] li').evaluate_all(
        "all => all.map((one) => getComputedStyle(one).direction)"
    )
    assert items == ["rtl", "rtl"]
    inside = page.locator('[class*="st-key-card"] :is(p, li, h1, button)').evaluate_all(
        """all => { const card = document.querySelector('[class*="st-key-card"]').getBoundingClientRect();
        return all.every((one) => one.getBoundingClientRect().right <= card.right + 1
          && one.getBoundingClientRect().left >= card.left - 1); }"""
    )
    assert inside
    page.get_by_role("button", name=LONG).click()
    visit.open()
    assert page.evaluate(fits)
    boxes = [part.bounding_box() for part in page.locator(".scene img, .answer, .group h2").all()]
    for box in boxes:
        assert box["x"] >= 0 and box["x"] + box["width"] <= size["width"] + 1
        assert box["y"] >= 0 and box["y"] + box["height"] <= size["height"] + 1
    over = page.locator(".answer, .group h2, .grid, .query img, .question").evaluate_all(
        """all => {
          const boxes = all.map((part) => part.getBoundingClientRect());
          const meet = (a, b) =>
            a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
          return boxes.flatMap((a, place) => boxes.slice(place + 1).filter((b) => meet(a, b))).length;
        }"""
    )
    assert over == 0
    left, right = (page.locator(f".group.{side}").bounding_box() for side in ("left", "right"))
    assert left["x"] < right["x"], "groups keep their sides"
    visit.close()


def picture_of(page: Any, part: Any) -> NDArray[np.int16]:
    """Return what the screen shows of a part and of 12 pixels around it."""
    box = part.bounding_box()
    around = {"x": box["x"] - 12, "y": box["y"] - 12, "width": box["width"] + 24, "height": box["height"] + 24}
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=around))).convert("L")).astype(np.int16)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_choices_and_focus_are_seen_in_forced_colours(chromium: Any, server: Server, scheme: str) -> None:
    """What is chosen and where the focus is must change pixels, and not by a shade."""
    visit = Visit(chromium, server, forced_colors="active", color_scheme=scheme, reduced_motion="reduce")
    page = visit.page

    def changes(part: Any, act: Callable[[], Any]) -> int:
        """Return how many pixels an act makes clearly lighter or darker."""
        before = picture_of(page, part)
        act()
        visit.rest()
        after = picture_of(page, part)
        return int((np.abs(after - before) > 60).sum()) if after.shape == before.shape else after.size

    agree = page.get_by_role("button", name="I have read this")
    agree.wait_for()
    visit.rest()
    page.keyboard.press("Tab")
    agree.scroll_into_view_if_needed()
    assert changes(agree, lambda: agree.focus()) > 200
    page.keyboard.press("Enter")
    option = page.get_by_text("As far as I know")
    option.wait_for()
    visit.rest()
    assert changes(page.locator('[data-testid="stRadioOption"]').first, option.click) > 100
    page.get_by_text("The lower one").click()
    for heading in ("The two groups", "Your choice", "Good to know", "Practice"):
        visit.go_on(heading)
    visit.press("Start the practice")
    visit.open()
    chosen = visit.button("lower" if visit.position() == "upper" else "upper", 1)
    other = visit.button("upper" if chosen.get_attribute("data-position") == "lower" else "lower", 2)
    page.keyboard.press("Tab")
    assert changes(other, other.focus) > 200
    query = page.locator(f".query.{chosen.get_attribute('data-position')} img")
    before = picture_of(page, query)
    assert changes(chosen, lambda: (chosen.click(), page.locator(VERDICT).wait_for())) > 100
    assert int((np.abs(picture_of(page, query) - before) > 60).sum()) > 500, "the mark of a wrong choice"
    assert page.locator(".task").evaluate("task => getComputedStyle(task).backgroundColor") == "rgb(128, 128, 128)"
    visit.close()


PHASES = (
    ("colour vision", {}), ("instructions", {}), ("practice", {}), ("trials", {}), ("comments", {}), ("debriefing", {}),
    *(("end", {"outcome": one}) for one in ("complete", "failed practice", "full", "no consent", "screened out")),
)  # fmt: skip


def test_axe_finds_nothing_on_any_page(chromium: Any, server: Server) -> None:
    visit = Visit(chromium, server, size={"width": 940, "height": 600})
    visit.page.get_by_role("button", name="I have read this").wait_for()
    database = Database(f"sqlite:///{server.study / 'study.sqlite'}")
    found = {}
    for phase, values in PHASES:
        with database.writing() as connection:
            changed = people.update().where(people.c.token == visit.token)
            connection.execute(changed.values(phase=phase, consented_at=1.0, cell="natural-easy", **values))
        visit.page.reload()
        visit.page.locator('[class*="st-key-card"]').wait_for()
        visit.rest()
        found[phase, *values.values()] = every_finding(visit.page)
    database.close()
    for path in ("/withdraw", "/nothing"):
        visit.page.goto(server.url + path)
        visit.page.locator('[data-testid="stApp"]').wait_for()
        visit.rest()
        found[path,] = every_finding(visit.page)
    assert {name: problems for name, problems in found.items() if problems} == {}
    visit.close()


def test_no_menus_and_one_grey(chromium: Any, server: Server) -> None:
    visit = Visit(chromium, server, color_scheme="dark")
    visit.page.get_by_role("button", name="I have read this").wait_for()
    assert not visit.page.locator("header[data-testid=stHeader]").is_visible()
    assert not visit.page.locator("[data-testid=stMainMenu]").is_visible()
    colour = visit.page.locator("[data-testid=stApp]").evaluate("app => getComputedStyle(app).backgroundColor")
    assert colour == "rgb(128, 128, 128)"
    visit.close()


def test_traps_are_out_of_sight_and_noted_when_sprung(chromium: Any, server: Server) -> None:
    visit = Visit(chromium, server)
    visit.to_practice()  # that a browser is driven is noted at the first page
    visit.open()
    trap = visit.page.locator(".trap button")
    assert trap.bounding_box() is None or trap.evaluate(
        "button => { const box = button.getBoundingClientRect();"
        " return document.elementFromPoint(box.x + 1, box.y + 1) !== button; }"
    )
    trap.evaluate("button => button.click()")
    visit.page.keyboard.press("9")
    database = Database(f"sqlite:///{server.study / 'study.sqlite'}")

    def evidence() -> str:
        with database.reading() as connection:
            query = sa.select(people.c.evidence).where(people.c.token == visit.token)
            return str(connection.execute(query).scalar_one())

    visit.until(lambda: all(sign in evidence() for sign in ("skip button", "hidden instruction", "webdriver")))
    database.close()
    visit.close()


def test_a_study_can_be_looked_at_without_being_recorded(chromium: Any, tmp_path: Path) -> None:
    study = make_hosted_study(tmp_path / "study")
    with running(study.root, "--preview") as server:
        visit = Visit(chromium, server)
        visit.page.get_by_text("nothing is recorded").wait_for()
        visit.press("I have read this")
        visit.page.get_by_text("As far as I know").wait_for()
        visit.close()
    assert not (study.root / "study.sqlite").exists()
    assert len(read_responses(study)) == 0


# ---------------------------------------------------------------- pages around the trials


def to_comments(visit: Visit) -> None:
    """Take a visitor to the page of the comments, past the trials: they were answered elsewhere."""
    visit.page.get_by_role("button", name="I have read this").wait_for()
    database = Database(f"sqlite:///{visit.server.study / 'study.sqlite'}")
    with database.writing() as connection:
        connection.execute(people.update().where(people.c.token == visit.token).values(phase="comments"))
    database.close()
    visit.page.reload()
    visit.page.locator("textarea").wait_for()


def comment_of(visit: Visit) -> str | None:
    database = Database(f"sqlite:///{visit.server.study / 'study.sqlite'}")
    with database.reading() as connection:
        stored = connection.execute(sa.select(people.c.comments).where(people.c.token == visit.token)).scalar_one()
    database.close()
    return None if stored is None else str(stored)


@pytest.mark.parametrize("way", ["click", "tap", "keyboard", "script"])
def test_a_comment_is_kept_however_fast_it_is_sent(chromium: Any, server: Server, way: str) -> None:
    visit = Visit(chromium, server, has_touch=way == "tap")
    to_comments(visit)
    field, button = visit.page.locator("textarea"), visit.page.get_by_role("button", name="Finish")
    field.click()
    if way == "script":
        visit.page.evaluate(
            """() => {
              const field = document.querySelector("textarea");
              const set = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set;
              set.call(field, "said by a script");
              field.dispatchEvent(new Event("input", { bubbles: true }));
              [...document.querySelectorAll("button")].find((one) => one.textContent.includes("Finish")).click();
            }"""
        )
    else:
        visit.page.keyboard.insert_text(f"said by a {way}")
        if way == "click":
            button.click(delay=0)
        elif way == "tap":
            button.tap()
        else:
            visit.page.keyboard.press("Tab")
            visit.page.keyboard.press("Enter")
    visit.page.get_by_text("Your completion code").wait_for()
    assert comment_of(visit) == f"said by a {way}"
    visit.close()


TRANSLATE = """() => {
  // As translators do it: one half of the texts goes into <font> elements, the other half gives way to them.
  const walker = document.createTreeWalker(document.querySelector("#root"), NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) if (walker.currentNode.data.trim()) texts.push(walker.currentNode);
  texts.filter((text) => !["STYLE", "SCRIPT"].includes(text.parentNode.nodeName)).forEach((text, place) => {
    const font = document.createElement("font");
    const words = text.data;
    text.replaceWith(font);
    if (place % 2) font.append(text);
    else font.append("«" + words + "»");
  });
}"""


def test_translated_pages_go_on_and_say_what_they_should(chromium: Any, server: Server) -> None:
    visit = Visit(chromium, server)
    page = visit.page
    page.get_by_role("button", name="I have read this").wait_for()
    assert page.evaluate("[document.documentElement.lang, document.documentElement.translate]") == ["en", False]
    assert page.locator("meta[name=google][content=notranslate]").count() == 1
    page.evaluate(TRANSLATE)
    page.get_by_role("button", name="I have read this").click()
    page.get_by_text("As far as I know").click()
    page.get_by_text("The lower one").click()
    for heading in ("The two groups", "Your choice", "Good to know", "Practice"):
        page.evaluate(TRANSLATE)
        visit.go_on(heading)
    assert page.get_by_text("removeChild").count() == 0 and visit.complaints == []
    visit.press("Start the practice")
    visit.open()
    visit.close()


def test_keys_do_not_reach_a_trial_under_a_dialog(chromium: Any, server: Server) -> None:
    visit = Visit.at_practice(chromium, server)
    visit.open()
    covers = {
        "a dialog of the page": "const box = document.createElement('div'); box.setAttribute('role', 'dialog');"
        "box.style = 'position: fixed; inset: 45%'; box.textContent = 'A question'; document.body.append(box);"
        "return () => box.remove();",
        "the browser's own": "const box = document.createElement('dialog'); document.body.append(box);"
        "box.showModal(); return () => box.remove();",
        "something over the pictures": "const box = document.createElement('div');"
        "box.style = 'position: fixed; inset: 0; z-index: 9999999'; document.body.append(box);"
        "return () => box.remove();",
        "a field for text": "const box = document.createElement('input'); document.body.append(box); box.focus();"
        "return () => box.remove();",
        "a menu": "const box = document.createElement('ul'); box.setAttribute('role', 'listbox');"
        "box.style = 'position: fixed; bottom: 0'; box.textContent = 'An entry'; document.body.append(box);"
        "return () => box.remove();",
    }
    for name, script in covers.items():
        visit.page.evaluate(f"void (window.uncover = (() => {{ {script} }})())")
        for key in ("q", "d", "Enter", "Space"):
            visit.page.keyboard.press(key)
        assert visit.page.locator(OPEN).count() == 1, name
        visit.page.evaluate("() => window.uncover()")
    visit.page.keyboard.press("q")
    visit.page.locator(VERDICT).wait_for()
    assert len(visit.stored()) == 1 and '"covered": 1' in visit.stored()["trace"].iloc[0]
    visit.close()
