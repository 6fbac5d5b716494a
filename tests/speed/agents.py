"""How often agents in a real browser are noticed, and people are taken for agents. Run by hand:

    python -m tests.speed.agents --each 6

An agent looks at screenshots of a trial, lets a machine observer decide, and clicks, as language models that work a
browser do. Its kinds differ in how it acts. People are simulated in the same browser: a hand's way to the button, a
press somewhere on it, reaction times with a long tail, a comment that is typed. Nobody's browser admits to automation,
so that only what they do is judged. Prints, for each kind, the share of sessions that fail the rules "authenticity"
and "agent", with 95 % intervals (Wilson), and which signs were seen.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import TimeoutError
from rich.console import Console
from rich.table import Table

from analysis.exclusions import AUTHENTIC, SessionFacts, named_rule
from analysis.intervals.wilson import interval_of_count
from benchmark.database import people
from benchmark.observers.base import Presentation, SimilarityObserver
from tests.hosted import host, make_hosted_study
from tests.servers import Server, running
from tests.speed.networks import right_position
from webapp.hosting import Hosting

BROWSER = ("--no-sandbox", "--disable-gpu", "--disable-background-networking",
           "--disable-blink-features=AutomationControlled")  # fmt: skip
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
SIGNED = {
    "Signature-Agent": '"https://agent.example"',
    "Signature-Input": 'sig1=("@authority" "signature-agent");tag="web-bot-auth"',
    "Signature": "sig1=:AAAA:",
}
COMMENT = "I looked at the colours of the pictures and at how bright they were; that was easy most of the time."


class Thumbnails(SimilarityObserver):
    """An observer that compares small copies of what is on the screen."""

    name = "thumbnails"

    def __init__(self, pictures: Sequence[Image.Image]) -> None:
        small = [np.asarray(picture.convert("RGB").resize((8, 8)), dtype=np.float32) for picture in pictures]
        self._rows = np.stack([pixels.ravel() for pixels in small]) - 128

    def embed(self, pictures: tuple[str, ...]) -> NDArray[np.float32]:
        """Return the thumbnails."""
        return np.asarray(self._rows, dtype=np.float32)


def look(page: Any) -> str:
    """Return where an observer that sees the screen expects the right query."""
    boxes = page.evaluate(
        """() => {
          const found = (root) => {
            for (const node of root.querySelectorAll("*")) {
              if (node.matches(".scene")) return node;
              const below = node.shadowRoot && found(node.shadowRoot);
              if (below) return below;
            }
          };
          const scene = found(document);
          const boxes = (selector) => [...scene.querySelectorAll(selector)].map((one) => {
            const box = one.getBoundingClientRect();
            return [box.left, box.top, box.right, box.bottom].map(Math.round);
          });
          return [boxes(".query img"), boxes(".group.right img"), boxes(".group.left img")];
        }"""
    )
    screen = Image.open(io.BytesIO(page.screenshot()))
    parts = [screen.crop(tuple(box)) for group in boxes for box in group]
    sides = [len(group) for group in boxes]
    places = np.split(np.arange(len(parts)), np.cumsum(sides)[:-1])
    shown = [places[k] if len(places[k]) else np.array([-1]) for k in (1, 2)]
    nothing = np.zeros((1, 2))
    trial = Presentation(
        tuple(map(str, range(len(parts)))), places[0][None], shown[0][None], shown[1][None], nothing, nothing, nothing
    )
    return "upper" if Thumbnails(parts).answer(trial)[0] > 0.5 else "lower"


@dataclass
class Kind:
    """How somebody acts at the browser."""

    name: str
    press: Callable[[Any, Any, np.random.Generator], None]
    write: Callable[[Any], None]
    person: bool = False
    obeys: bool = False
    headers: dict[str, str] = field(default_factory=dict)


def middle(page: Any, button: Any, draws: np.random.Generator) -> None:
    """Click as drivers of browsers do: at once, in the middle."""
    button.click()


def by_script(page: Any, button: Any, draws: np.random.Generator) -> None:
    """Call the button's click from a script."""
    button.evaluate("button => button.click()")


def by_coordinates(page: Any, button: Any, draws: np.random.Generator) -> None:
    """Click where a model that sees the screen says: near the middle, without a way there."""
    box = button.bounding_box()
    x, y = box["x"] + box["width"] * draws.normal(0.5, 0.06), box["y"] + box["height"] * draws.normal(0.5, 0.08)
    page.mouse.click(float(x), float(y))


def by_hand(page: Any, button: Any, draws: np.random.Generator) -> None:
    """Move as a hand does: fast in the middle of the way, slow at its ends, a little bent, sampled every 10 ms."""
    box = button.bounding_box()
    start = draws.uniform((300, 200), (980, 600)) if not hasattr(page, "_hand") else np.array(page._hand)
    share = np.clip(draws.normal(0.5, 0.17, 2), 0.08, 0.92)
    end = np.array([box["x"], box["y"]]) + share * np.array([box["width"], box["height"]])
    steps = int(draws.integers(18, 45))
    bend = draws.normal(0, 0.08, 2) * np.linalg.norm(end - start)
    for step in range(1, steps + 1):
        t = step / steps
        along = 10 * t**3 - 15 * t**4 + 6 * t**5
        x, y = start + along * (end - start) + np.sin(np.pi * along) * bend + draws.normal(0, 0.6, 2)
        page.mouse.move(float(x), float(y))
        time.sleep(0.01)
    page.mouse.down()
    time.sleep(float(draws.uniform(0.05, 0.12)))
    page.mouse.up()
    page._hand = (float(x), float(y))


def filled(page: Any) -> None:
    """Put the whole comment into the field at once."""
    page.locator("textarea").fill(COMMENT)


def typed(page: Any) -> None:
    """Type the comment."""
    page.locator("textarea").click()
    page.keyboard.type(COMMENT, delay=70)


def fast_typed(page: Any) -> None:
    """Send the comment key by key, without a pause."""
    page.locator("textarea").press_sequentially(COMMENT)


KINDS = (
    Kind("person", by_hand, typed, person=True),
    Kind("agent that clicks with a driver", middle, filled),
    Kind("agent that names coordinates", by_coordinates, fast_typed),
    Kind("agent that runs scripts, and obeys the page", by_script, filled, obeys=True),
    Kind("agent that signs its requests, with a hand's way", by_hand, typed, headers=SIGNED),
    Kind("agent with a hand's way", by_hand, typed),
)


def take_part(browser: Any, server: Server, hosting: Hosting, kind: Kind, draws: np.random.Generator) -> dict[str, Any]:
    """Go through a session; returns the evidence, and how many answers were right."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 720}, user_agent=AGENT, extra_http_headers=kind.headers
    )
    page = context.new_page()
    page.set_default_timeout(180_000)
    page.goto(server.url)
    page.get_by_role("button", name="I have read this").click()
    token = page.evaluate("new URL(location).searchParams.get('p')")
    page.get_by_text("As far as I know").click()
    page.get_by_text("The lower one" if kind.person else "Both are the same length").click()
    page.get_by_role("button", name="Continue", disabled=False).click()
    for heading in ("Your choice", "Good to know", "Practice"):
        last = {"Your choice": "The two groups", "Good to know": "Your choice", "Practice": "Good to know"}[heading]
        page.get_by_role("heading", name=last, exact=True).wait_for()
        wanted = page.get_by_role("heading", name=heading, exact=True)
        while not wanted.is_visible():
            page.get_by_role("button", name="Continue", disabled=False).last.click()
            page.wait_for_timeout(500)
    page.get_by_role("button", name="Start the practice").click()
    start, comment = page.get_by_role("button", name="Start", exact=True), page.locator("textarea")
    opened = page.locator('.scene[data-state="open"]')
    once_more = page.get_by_role("button", name="Start the practice")
    while True:
        opened.or_(start).or_(once_more).or_(comment).first.wait_for()
        if comment.is_visible():
            break
        if start.is_visible() or once_more.is_visible():
            with suppress(TimeoutError):  # the button of a page that is just going away: the loop looks anew
                start.or_(once_more).first.click(timeout=2000)
            continue
        if not opened.is_visible():
            page.wait_for_timeout(50)
            continue  # a button of the page before was still in sight
        if kind.obeys:
            page.keyboard.press("9")
        if kind.person:
            time.sleep(max(0.15, float(draws.normal(0.5, 0.2) + draws.exponential(0.5))))
            position = right_position(hosting, token)
        else:
            position = look(page)
        confidence = int(draws.integers(1, 4))
        kind.press(page, page.locator(f'.answer[data-position="{position}"][data-confidence="{confidence}"]'), draws)
        page.locator('.scene[data-state="verdict"]').wait_for()
        page.keyboard.press("Space")
        page.locator('.scene[data-state="verdict"]').wait_for(state="detached")
    kind.write(page)
    page.wait_for_timeout(1200)
    page.get_by_role("button", name="Finish").click()
    page.get_by_text("Your completion code").wait_for()
    context.close()
    with hosting.database.reading() as connection:
        row = connection.execute(sa.select(people.c.evidence).where(people.c.token == token)).one()
    return dict(json.loads(row.evidence))


def judge(evidence: dict[str, Any], rule: Any) -> bool:
    """Return whether a session passes a rule."""
    session = pd.Series({"session": "s", "evidence": json.dumps(evidence)})
    return bool(
        rule.passes(SessionFacts(session, pd.DataFrame(columns=["session", "kind", "correct", "choice", "query_top"])))
    )


def main() -> None:
    """Read the arguments, send everybody through a study and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=6, help="sessions of each kind of agent")
    parser.add_argument("--people", type=int, default=12, help="sessions of people")
    parser.add_argument("--trials", type=int, default=6, help="main trials of a session; there are 2 catch trials more")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    table = Table("who", "sessions", "fail authenticity", "fail agent", "fail either", "signs (sessions)")
    console = Console(width=170)
    with TemporaryDirectory() as folder:
        session = {"main_trials": given.trials, "catch_trials": 2, "responses_per_unit": 60}
        study = make_hosted_study(Path(folder) / "study", session=session)
        hosting = host(study, bots=False, pilot=True)
        with running(study.root, "--pilot") as server, sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=list(BROWSER))
            for number, kind in enumerate(KINDS):
                seen = []
                for turn in range(given.people if kind.person else given.each):
                    draws = np.random.default_rng([given.seed, number, turn])
                    seen.append(take_part(browser, server, hosting, kind, draws))
                    console.print(kind.name, turn, json.dumps(seen[-1]))
                failed = [[not judge(evidence, rule) for rule in (AUTHENTIC, named_rule("agent"))] for evidence in seen]
                signs: Counter[str] = Counter()
                for evidence in seen:
                    signs.update(list(evidence.get("traps", {})) + evidence.get("automation", []))
                    signs.update(["signed"] if evidence.get("agents") else [])
                    writing = evidence.get("writing", {})
                    signs.update(["text inserted"] if writing.get("inserted", 0) >= 40 else [])
                table.add_row(
                    kind.name, str(len(seen)), *(_share(column) for column in zip(*failed)),
                    _share([any(row) for row in failed]), ", ".join(f"{name} {count}" for name, count in signs.items()),
                )  # fmt: skip
            browser.close()
    console.print(table)


def _share(failed: Sequence[bool]) -> str:
    if not failed:
        return "–"
    low, high = interval_of_count(sum(failed), len(failed), 0.95)
    return f"{sum(failed)} of {len(failed)} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
