"""The static site of the leaderboard: its numbers, addresses and links, hostile names, and how it takes its place."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
from collections.abc import Sequence
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.leaderboard.making import make_published_results
from analysis.leaderboard.result import Result, Sheet, read_result
from analysis.leaderboard.site import build_site, model_address, unit_address
from analysis.leaderboard.site.addresses import safe_part
from analysis.leaderboard.site.folder import MANIFEST, SiteFolder
from analysis.leaderboard.standings import Leaderboard, build_leaderboard
from benchmark.errors import LeaderboardError, StudyLocked
from benchmark.plumbing import PLUMBING
from benchmark.storage import only_process
from benchmark.units import Unit
from tests.leaderboards import SEER, TASKS, made_up_result

CHROMIUM = shutil.which("chromium")
HOSTILE = "../../x/<script>alert(1)</script>"
LAYER = '"><img src=x onerror=alert(2)>/..'
VOID = {"meta", "link", "img", "br", "wbr", "input", "hr"}


def with_pictures(result: Result, **changes: Any) -> Result:
    """Return a result with a sheet of two references a side."""
    noise = np.random.default_rng(5).integers(0, 255, (8 * len(result.units), 8 * 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "WEBP", quality=60)
    sheet = {
        "condition": "natural", "columns": 6, "side": 8, "units": tuple(range(len(result.units))),
        "webp": base64.b64encode(buffer.getvalue()).decode(), **changes,
    }  # fmt: skip
    return result.model_copy(update={"pictures": (Sheet.model_validate(sheet),)}).sealed()


def hostile_result(units: int = 5) -> Result:
    """Return a plumbing check whose model and first layer have names that want to break out."""
    result = made_up_result(
        HOSTILE, units=units, notes=(PLUMBING,), family="<b>family", pool="crops", flags={1: "dead"}
    )
    named = tuple(
        facts.model_copy(update={"layer": LAYER, "basis": "a/b", "aggregator": "cls"}) if k == 0 else facts
        for k, facts in enumerate(result.units)
    )
    return with_pictures(result.model_copy(update={"units": named}))


@pytest.fixture(scope="module")
def board() -> Leaderboard:
    own = [
        made_up_result("able", score=0.92, people={"one": 0.9}),
        made_up_result("middling", score=0.8, people={"one": 0.8}, seed=1),
        made_up_result("noise", score=0.6, units=6, kind="untrained", twin=None, seed=2),
    ]
    return build_leaderboard([*own, hostile_result(), *make_published_results()])


@pytest.fixture(scope="module")
def site(board: Leaderboard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("leaderboard") / "site"
    assert build_site(board, out) == out / "index.html"
    return out


class Page(HTMLParser):
    """What stands on a page: places, links, and the text within each element that has a place or an observer."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.places: list[str] = []
        self.links: list[str] = []
        self.scripts = 0
        self.open: list[tuple[str, str]] = []
        self.within: dict[str, list[str]] = {}
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open, f"{path} leaves {self.open} open"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        assert not any(name.startswith("on") for name in found), "a handler came in with a name"
        self.scripts += tag == "script"
        self.places += [found["id"] or ""] if "id" in found else []
        self.links += [found[name] or "" for name in ("href", "src") if name in found]
        if tag not in VOID and not (self.open and self.open[-1][0] == "svg" and tag != "svg"):
            self.open.append((tag, found.get("id") or found.get("data-observer") or ""))

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1][0] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        key = " ".join(place for _, place in self.open if place)
        self.within.setdefault(key, []).append(data)

    def text(self, *places: str) -> str:
        """Return the text within all elements that have these places."""
        parts = [part for key, own in self.within.items() if all(place in key for place in places) for part in own]
        return re.sub(r"\s+", " ", " ".join(parts))


def pages_of(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


# -------------------------------------------------------------------- numbers


def test_numbers_are_those_of_the_leaderboard(board: Leaderboard, site: Path) -> None:
    page = Page(site / "index.html")
    places = [place for place in page.places if re.match(r"(natural|synthetic)-easy", place)]
    compared = 0
    for table, place in zip(board, places, strict=True):
        for section in table.sections:
            text = page.text(place, section.who)
            for row, own in zip(section.rows, section.standings):
                numbers = [own.headline, *([own.score] if own.quantity == "excess" else [])]
                numbers += [n for name, n in (own.quantities or {}).items() if name == "trained_minus_twin"]
                own_page = Page(site / model_address(row.model.name)).text("standings")
                for number in numbers:
                    assert str(number) in text and str(number) in own_page
                    compared += 1
                if own.rank is not None:
                    assert own.spelled_rank in text and own.spelled_rank in own_page
                for reason in own.missing:
                    assert reason in own_page
            for reason in section.reasons:
                assert reason in text
    assert compared > 25
    frame = pd.read_csv(site / "leaderboard.csv")
    pd.testing.assert_frame_equal(
        frame[["model", "headline", "headline_low", "rank", "units"]],
        board.frame()[["model", "headline", "headline_low", "rank", "units"]],
        check_dtype=False,
    )
    tables = json.loads((site / "leaderboard.json").read_text())["tables"]
    assert [len(table["rows"]) for table in tables] == [len(table.rows) for table in board]
    standing = tables[0]["rows"][0]["standings"][0]
    assert standing["headline"] == pytest.approx(board.tables[0].rows[0].standings[0].headline.as_dict())


def test_a_unit_page_has_the_counts_of_the_file(board: Leaderboard, site: Path) -> None:
    results = {result.model.name: result for result in board.results}
    for name, numbers in (("able", (0, 40, 83)), (HOSTILE, (0, 1, 4))):
        result = results[name]
        for number in numbers:
            facts = result.units[number]
            unit = Unit(name, facts.layer, facts.index, facts.basis, facts.aggregator)  # type: ignore[arg-type]
            text = re.sub(r"<[^>]+>", " ", (site / unit_address(unit)).read_text(encoding="utf-8"))
            shown = sorted(re.findall(r"(\d+) of (\d+)(?! units)", text))
            expected = [(counts.right[number], counts.answered[number]) for counts in result.machines]
            for people in result.people:
                own = [k for k, place in enumerate(people.unit) if place == number]
                expected.append((sum(people.right[k] for k in own), sum(people.answered[k] for k in own)))
                assert f"{len(own)} people" in text
            assert shown == sorted((str(right), str(answered)) for right, answered in expected)
            assert all(answered in (TASKS, 30) for _, answered in expected)
    dead = (site / unit_address(Unit(HOSTILE, "layer1", 1))).read_text(encoding="utf-8")
    assert "It is dead" in dead and "counts in no score" in dead


def test_the_answer_that_is_revealed_is_the_right_one(board: Leaderboard, site: Path) -> None:
    answers = set()
    (result,) = (result for result in board.results if result.model.name == HOSTILE)
    for facts in result.units:
        unit = Unit(HOSTILE, facts.layer, facts.index, facts.basis, facts.aggregator)  # type: ignore[arg-type]
        text = (site / unit_address(unit)).read_text(encoding="utf-8")
        tiles = re.findall(r'object-position: ([\d.]+)% 0" alt="(\w+) query"', text)
        # Six pictures: references, the maximal query at four fifths of the way, the minimal one at the end.
        shown = {place: {"80": "maximal", "100": "minimal"}[position] for position, place in tiles}
        assert sorted(shown) == ["lower", "upper"]
        answer = re.search(r"<p>The (upper|lower) one.</p>", text)
        assert answer is not None and shown[answer[1]] == "maximal"
        answers.add(answer[1])
        strip = re.search(r'src="\.\./\.\./\.\./(pictures/[^"]+)"', text)
        assert strip is not None
        with Image.open(site / strip[1]) as picture:
            assert picture.size == (48, 8)
    assert answers == {"upper", "lower"}


def test_slopes_are_given_where_models_carry_them_and_refused_elsewhere(site: Path) -> None:
    page = Page(site / "index.html")
    published = page.text("scaling-imi2023")
    assert "whether interpretability changes with parameters is undecided" in published
    assert "one model (clip_resnet50) against six" in published
    assert "a slope needs at least 4" in page.text("scaling-vimi1-photographs")
    assert "this is a plumbing check" in page.text("scaling-vimi1-crops")
    assert list((site / "figures").glob("scaling-imi2023-*.svg"))


def test_plumbing_checks_and_controls_stand_apart(site: Path) -> None:
    for path in pages_of(site):
        says = PLUMBING in path.read_text(encoding="utf-8")
        belongs = "script" in str(path.relative_to(site)) or path.name in ("index.html", "files.html")
        assert says == belongs, path
    text = (site / "index.html").read_text(encoding="utf-8")
    banner = text.index('id="plumbing-checks"')
    page = Page(site / "index.html")
    for group in re.finditer(r'<section class="group( apart)?" id="(tables-[^"]+)"', text):
        assert (group.start() > banner) == bool(group[1]) == (PLUMBING in page.text(group[2]))
    apart = text.index("Controls, not ranked")
    assert text.index('href="models/able.html"') < apart < text.index('href="models/noise.html"')


# -------------------------------------------------------------------- addresses and links


def test_every_link_leads_somewhere_within_the_site(site: Path) -> None:
    pages = {path: Page(path) for path in pages_of(site)}
    checked = 0
    for path, page in pages.items():
        assert len(set(page.places)) == len(page.places), f"{path} has a place twice"
        for link in page.links:
            assert "://" not in link and not link.startswith(("/", "data:", "javascript:")), link
            address, place = urldefrag(link)
            target = (path.parent / unquote(address)).resolve() if address else path
            assert target.is_relative_to(site.resolve()) and target.is_file(), (path, link)
            if place:
                found = pages.get(target) or pages[site / target.relative_to(site.resolve())]
                assert place in found.places, (path, link)
            checked += 1
    assert checked > 1000


def test_addresses_are_made_of_names_alone(board: Leaderboard, site: Path, tmp_path: Path) -> None:
    assert model_address("resnet50") == "models/resnet50.html"
    assert unit_address(Unit("vit_b32", "blocks.3.mlp.fc1", 17)) == "units/vit_b32/blocks.3.mlp.fc1/17.html"
    assert unit_address(Unit("net@random", "layer3.2", 17, "topk-4096", "cls")) == (
        "units/net@random/layer3.2@topk-4096/17-cls.html"
    )
    # Whatever else is on the leaderboard, a model's pages and tables keep their addresses.
    few = [result for result in board.results if result.model.name == HOSTILE]
    build_site(few, tmp_path / "few")
    addresses = {path.relative_to(tmp_path / "few").as_posix() for path in pages_of(tmp_path / "few")}
    assert addresses <= {path.relative_to(site).as_posix() for path in pages_of(site)} and len(addresses) == 8
    places = set(Page(tmp_path / "few" / "index.html").places)
    assert {place for place in places if "-" in place} <= set(Page(site / "index.html").places)


NAMES = [
    "../x", "a/b", "a~2Fb", "..", ".", "", ".git", "con", "CON", "con.tar", "Conv", "conv", "cONV", "a b", "<script>",
    "ü", "x" * 400, "x" * 400 + "y", "end.", "a\\b", "a:b", "null\0", "?q#f", "~~", "A", "a",
]  # fmt: skip


def test_any_name_is_a_safe_part_of_a_path() -> None:
    parts = [safe_part(name) for name in NAMES]
    for part in parts:
        assert re.fullmatch(r"[A-Za-z0-9._~+=-]+", part) and len(part) < 130
        assert part[0] != "." and part[-1] != "." and not re.match(r"(con|nul|aux|prn)(\.|$)", part, re.IGNORECASE)
    # Different also where a file system knows no capital letters.
    assert len({part.lower() for part in parts}) == len(NAMES)


@pytest.mark.parametrize("address", ["../x.html", "/x.html", "a/../../x", "a\\b", ""])
def test_nothing_is_written_outside_of_the_site(tmp_path: Path, address: str) -> None:
    (tmp_path / "site").mkdir()
    with pytest.raises(LeaderboardError, match="not an address"):
        SiteFolder(tmp_path / "site").write(address, "x")


def test_two_hundred_rows_stay_below_300_kilobytes(site: Path) -> None:
    """With so many rows, what warns is not told on this page: titles are left out."""
    text = re.sub(r' title="[^"]*"', "", (site / "index.html").read_text(encoding="utf-8"))
    rows = [row for row in re.findall(r"<tr data-family.*?</tr>", text, re.DOTALL) if HOSTILE not in unescape(row)]
    frame = len(text) - sum(map(len, rows))
    assert len(rows) > 10 and frame < 40_000
    assert 20_000 + 200 * sum(map(len, rows)) / len(rows) < 300_000


def test_names_of_contributed_files_are_only_text(site: Path) -> None:
    for path in pages_of(site):
        page = Page(path)
        assert page.scripts == (0 if "units" in path.relative_to(site).parts or path.name == "files.html" else 1)
    text = (site / model_address(HOSTILE)).read_text(encoding="utf-8")
    assert HOSTILE in unescape(text) and HOSTILE not in text and LAYER in unescape(text)
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in unescape(text)


# -------------------------------------------------------------------- files


def test_everything_can_be_verified_from_the_site(board: Leaderboard, site: Path) -> None:
    files = [read_result(path) for path in sorted((site / "results").rglob("*.json"))]
    assert {result.hash for result in files} == {result.hash for result in board.results}
    assert all((site / "results" / result.place).is_file() and result.is_sealed for result in files)
    manifest = json.loads((site / MANIFEST).read_text())
    found = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()} - {MANIFEST}
    assert set(manifest["files"]) == found
    for address, digest in list(manifest["files"].items())[::20]:
        assert hashlib.sha256((site / address).read_bytes()).hexdigest() == digest
    heaviest = max(pages_of(site), key=lambda path: path.stat().st_size)
    assert heaviest.stat().st_size < 500_000


def few_results() -> list[Result]:
    return [hostile_result(3), made_up_result("plain", units=3)]


def test_rebuilding_gives_the_same_bytes_and_takes_the_old_place(tmp_path: Path) -> None:
    results = few_results()
    first = build_site(results, tmp_path / "one").parent
    build_site(results[:1], tmp_path / "two")
    assert not (tmp_path / "two" / "models" / "plain.html").exists()
    second = build_site(results, tmp_path / "two").parent
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def strip_of_noise(columns: int, side: int) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (columns * side, 3 * side)).save(buffer, "WEBP")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"side": 5_000_000}, "more than a sheet"),
        ({"columns": 5}, "5 columns"),
        ({"columns": 2_000_000, "side": 1}, "2000000 columns"),
        ({"webp": "AAAA"}, "can't be read"),
        ({"webp": strip_of_noise(6, 9)}, "instead of"),
    ],
)
def test_hostile_pictures_are_refused_and_leave_the_old_site_alone(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    out = tmp_path / "site"
    out.mkdir()
    (out / MANIFEST).write_text(json.dumps({"kind": "leaderboard of vimi", "files": {"index.html": ""}}))
    (out / "index.html").write_text("the old one")
    bad = with_pictures(made_up_result("bad", units=3), **changes)
    with pytest.raises(LeaderboardError, match=words):
        build_site([bad], out)
    assert (out / "index.html").read_text() == "the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_what_was_changed_after_it_was_written_is_refused(tmp_path: Path) -> None:
    result = made_up_result("plain", units=3)
    better = result.model_copy(update={"model": result.model.model_copy(update={"title": "better"})})
    with pytest.raises(LeaderboardError, match="does not match its hash"):
        build_site([better], tmp_path / "site")
    with pytest.raises(LeaderboardError, match="no results"):
        build_site([], tmp_path / "site")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    results = few_results()[1:]
    out = tmp_path / "site"
    out.mkdir()
    (out / "thesis.txt").write_text("all of it")
    with pytest.raises(LeaderboardError, match="something other"):
        build_site(results, out)
    assert (out / "thesis.txt").read_text() == "all of it"
    (out / "thesis.txt").unlink()
    build_site(results, out)
    (out / ".git").mkdir()
    (out / ".git" / "HEAD").write_text("ref")
    with pytest.raises(LeaderboardError, match=r"holds \.git/HEAD"):
        build_site(results, out)
    assert (out / "index.html").is_file() and (out / ".git" / "HEAD").is_file()
    for other in (tmp_path / "file", tmp_path / "link"):
        if other.name == "file":
            other.write_text("x")
        else:
            other.symlink_to(out, target_is_directory=True)
        with pytest.raises(LeaderboardError, match="a folder of its own"):
            build_site(results, other)


def test_a_killed_build_is_recovered_from_and_two_do_not_meet(tmp_path: Path) -> None:
    results = few_results()[1:]
    out = build_site(results, tmp_path / "site").parent
    beside = tmp_path / ".site.unfinished"
    # Killed between the two renamings: the old site lies beside its place.
    beside.mkdir()
    out.rename(beside / "old")
    (beside / "new").mkdir()
    (beside / "new" / "half.html").write_text("<p>")
    with only_process(beside), pytest.raises(StudyLocked):
        build_site(results, out)
    unsealed = results[0].model_copy(update={"source": "changed"})
    with pytest.raises(LeaderboardError):
        build_site([with_pictures(unsealed, webp="AAAA")], out)
    assert (out / "index.html").is_file()
    build_site(results, out)
    assert (out / "index.html").is_file() and not beside.exists() and not (out / "half.html").exists()


# -------------------------------------------------------------------- in a browser


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)")
def test_pages_in_a_browser(site: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    unit = unit_address(Unit(HOSTILE, "layer1", 1))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            for address, width, scheme in (
                ("index.html", 1280, "light"), ("index.html", 400, "dark"), (model_address(HOSTILE), 400, "light"),
                (unit, 1280, "dark"),
            ):  # fmt: skip
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
                errors: list[str] = []
                page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
                page.on("console", lambda message, errors=errors: errors.append(message.text))
                page.goto((site / address).as_uri())
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (address, width)
                assert not errors
                found = Axe().run(page).response["violations"]
                serious = [problem for problem in found if problem["impact"] in ("serious", "critical")]
                assert not serious, serious
                if address == "index.html":
                    check_filters(page, site)
                elif address == model_address(HOSTILE):
                    check_sorting(page)
                page.close()
        finally:
            browser.close()


def check_filters(page: Any, site: Path) -> None:
    """Check that filters work by address and by hand, and that marks say what was found."""

    def shown() -> Sequence[str]:
        found: list[str] = page.locator("tr[data-family]:visible .name").all_inner_texts()
        return found

    everything = len(shown())
    page.goto((site / "index.html").as_uri() + "#condition=synthetic&family=resnet")
    page.wait_for_function("document.getElementById('shown').textContent")
    assert set(shown()) == {"clip_resnet50", "resnet50", "resnet50_l2", "wide_resnet50"}
    page.locator("select[name=condition]").select_option("")
    page.locator("select[name=family]").select_option("")
    page.locator("select[name=observer]").select_option(SEER)
    assert set(shown()) == {"able", "middling", "noise", HOSTILE} and page.url.endswith("#observer=features%3Aseer")
    page.locator("select[name=observer]").select_option("")
    assert len(shown()) == everything
    page.locator("a.said.warns").first.focus()
    assert page.locator(".tip").inner_text()


def check_sorting(page: Any) -> None:
    """Check that the list of units can be sorted by score, both ways, and back."""

    def column(number: int) -> list[str]:
        found: list[str] = page.locator(f"table.units tbody tr > :nth-child({number})").all_inner_texts()
        return found

    units = column(1)
    button = page.get_by_role("button", name=SEER)
    button.click()
    rising = column(5)
    assert [int(text.split()[0]) for text in rising] == sorted(int(text.split()[0]) for text in rising)
    button.click()
    assert column(5) == rising[::-1] and button.locator("..").get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="Unit").click()
    assert column(1) == units
