"""The participant's pages on slow networks: how long people wait, and how much is moved. Run by hand:

    python -m tests.speed.networks

Chromium goes through a session of photographs, behind networks that it emulates itself (DevTools' throttling of every
request). Somebody reads each page for ``--read`` seconds and answers ``--think`` seconds after the buttons unlock.
Prints a table: the first page, from the start of the practice to its first trial, and from "Continue" to the next
trial being drawn, from the third trial of the main part on.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmark.database import people
from benchmark.study import Study
from stimuli.bundled import BundledPool
from tests.hosted import host, make_hosted_study
from tests.servers import Server, running
from webapp.answering import name_current_trial
from webapp.hosting import Hosting

NETWORKS: dict[str, tuple[float, float] | None] = {
    "none": None,
    "Fast 3G, 150 ms": (1.6e6, 150.0),
    "Fast 3G, 562.5 ms": (1.6e6, 562.5),
}
"""Bits a second down, and the round trip in milliseconds; up is half of down."""

SIDE = 224
REFERENCES = 9
BROWSER = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


@dataclass
class Waits:
    """What somebody waited for, in seconds, and how much was moved, in bytes."""

    first_page: float = 0.0
    practice: float = 0.0
    trials: list[float] = field(default_factory=list)
    moved: int = 0
    moved_first_page: int = 0
    rendition: str = ""


def photographs() -> Iterator[NDArray[np.uint8]]:
    """Return pictures for a study: crops of real photographs, each a little different from all others."""
    pool = BundledPool()
    generator = np.random.default_rng(0)
    for place in generator.integers(0, len(pool), size=100_000):
        pixels = np.asarray(pool.crop(int(place), SIDE).convert("RGB")).astype(np.int16)
        yield np.clip(pixels + generator.integers(0, 2, size=(1, 1, 3)), 0, 255).astype(np.uint8)


def make_study(root: Path, trials: int, slots: int = 4) -> Study:
    """Make a study of photographs: sessions of so many trials for so many people."""
    source = photographs()
    return make_hosted_study(
        root,
        references=REFERENCES,
        picture=lambda words, side: next(source),
        units={"per_model": trials},
        stimuli={"conditions": ["natural"], "references": REFERENCES, "tasks": 1},
        session={"main_trials": trials, "catch_trials": 2, "responses_per_unit": slots // 2},
    )


def right_position(hosting: Hosting, token: str) -> str:
    """Return where the right query of somebody's present trial is."""
    with hosting.database.reading() as connection:
        known = connection.execute(sa.select(people.c.id).where(people.c.token == token)).scalar_one()
    name = name_current_trial(hosting, known)
    assert name is not None
    slot = name.rpartition("/")[0]
    cell, _, number = slot.partition("-practice-")
    rows = hosting.layout.practice(cell, int(number)) if number else hosting.layout.trials(slot)
    return "upper" if next(row for row in rows if row["trial"] == name)["query_top"] == "max" else "lower"


@contextmanager
def browsing(network: tuple[float, float] | None, width: int, height: int, ratio: float) -> Iterator[tuple[Any, Waits]]:
    """Open a page of a fresh browser behind a network; what it moves is counted."""
    from playwright.sync_api import sync_playwright

    waits = Waits()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=list(BROWSER))
        page = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=ratio).new_page()
        page.set_default_timeout(180_000)
        tools = page.context.new_cdp_session(page)
        tools.send("Network.enable")

        def count(event: dict[str, Any]) -> None:
            waits.moved += int(event["encodedDataLength"])

        tools.on("Network.loadingFinished", count)
        if network is not None:
            down, latency = network
            tools.send(
                "Network.emulateNetworkConditions",
                {"offline": False, "downloadThroughput": down / 8, "uploadThroughput": down / 16, "latency": latency},
            )
        yield page, waits
        browser.close()


def take_part(
    server: Server, hosting: Hosting, network: tuple[float, float] | None, given: argparse.Namespace
) -> Waits:
    """Go through a whole session, and measure."""
    with browsing(network, given.width, given.height, given.ratio) as (page, waits):
        begun = time.perf_counter()
        page.goto(server.url)
        agree = page.get_by_role("button", name="I have read this")
        agree.wait_for()
        waits.first_page = time.perf_counter() - begun
        waits.moved_first_page = waits.moved
        token = page.evaluate("new URL(location).searchParams.get('p')")
        time.sleep(given.read)
        agree.click()
        page.get_by_text("As far as I know").click()
        page.get_by_text("The lower one").click()
        for heading in ("The two groups", "Your choice", "Good to know", "Practice"):
            wanted = page.get_by_role("heading", name=heading, exact=True)
            button = page.get_by_role("button", name="Continue", disabled=False).last
            button.click()
            wanted.wait_for()
            time.sleep(given.read)
        page.get_by_role("button", name="Start the practice").click()
        begun = time.perf_counter()
        for number in range(1, 6):
            answer_trial(page, hosting, token, f"Practice · {number} of 5", begun, waits, given.think)
            waits.practice = waits.trials.pop(0) if number == 1 else waits.practice
            begun = time.perf_counter()
        waits.trials.clear()
        start = page.get_by_role("button", name="Start", exact=True)
        start.wait_for()
        time.sleep(given.read)
        start.click()
        begun = time.perf_counter()
        trials = given.trials + 2
        for number in range(1, trials + 1):
            answer_trial(page, hosting, token, f"{number} of {trials}", begun, waits, given.think)
            begun = time.perf_counter()
        page.locator("textarea").wait_for()
        with hosting.database.reading() as connection:
            from benchmark.database import answers

            if "rendition" in answers.c:
                query = sa.select(answers.c.rendition).order_by(answers.c.id.desc())
                waits.rendition = str(connection.execute(query).scalars().first())
    return waits


def answer_trial(
    page: Any, hosting: Hosting, token: str, progress: str, begun: float, waits: Waits, think: float
) -> None:
    """Wait for a trial, answer it rightly, and go on."""
    page.locator(".scene .progress", has_text=progress).wait_for()
    waits.trials.append(time.perf_counter() - begun)
    page.locator('.scene[data-state="open"]').wait_for()
    time.sleep(think)
    position = right_position(hosting, token)
    page.locator(f'.answer[data-position="{position}"][data-confidence="3"]').click()
    page.locator('.scene[data-state="verdict"]').wait_for()
    page.get_by_role("button", name="Continue").click()


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments, go through a session behind each network and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument(
        "--trials", type=int, default=20, help="main trials of a session; there are 2 catch trials more"
    )
    parser.add_argument("--read", type=float, default=6.0, help="seconds for each page")
    parser.add_argument("--think", type=float, default=1.0, help="seconds from the buttons unlocking to the answer")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--ratio", type=float, default=1.0, help="device pixels to a CSS pixel")
    given = parser.parse_args(arguments)
    table = Table("network", "first page s", "MB", "practice to trial s", "next trial s: median", "p95", "max",
                  "session MB", "shown as")  # fmt: skip
    with TemporaryDirectory() as folder:
        study = make_study(Path(folder) / "study", given.trials)
        sizes = [path.stat().st_size for path in study.root.glob("images/*/*.webp")]
        console = Console(width=150)
        console.print(f"{len(sizes)} pictures of {SIDE} px, {np.mean(sizes) / 1e3:.1f} kB on average")
        with running(study.root, "--pilot") as server:
            hosting = host(study, bots=False, pilot=True)
            for name in given.networks:
                waits = take_part(server, hosting, NETWORKS[name], given)
                later = np.array(waits.trials[2:])
                table.add_row(
                    name, f"{waits.first_page:.1f}", f"{waits.moved_first_page / 1e6:.2f}", f"{waits.practice:.1f}",
                    f"{np.median(later):.2f}", f"{np.percentile(later, 95):.2f}", f"{later.max():.2f}",
                    f"{waits.moved / 1e6:.1f}", waits.rendition,
                )  # fmt: skip
        console.print(table)


if __name__ == "__main__":
    main()
