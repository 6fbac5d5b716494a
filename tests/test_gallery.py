"""The gallery: complete, self-contained, and to be opened from the file system."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.errors import StageMissing
from benchmark.plumbing import PLUMBING
from benchmark.protocol import Window, Windows
from benchmark.responses import read_responses
from benchmark.study import Study
from benchmark.tasks import assemble_tasks
from benchmark.units import PLANTED, UNIT_COLUMNS
from benchmark.workflow import build, make_gallery, observe_study, score_study
from stimuli.gallery import BINS, MOST_TASKS, RANGE, examples, histogram
from tests.experiments import small_experiment

BANDS = {"min", "query-min", "middle", "query-max", "max"}
SINGLE = {"meta", "link", "img", "br", "hr", "input", "rect"}


@dataclass
class Page(HTMLParser):
    """What a page refers to, names and says."""

    text: str
    links: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str]] = field(default_factory=list)
    articles: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self._article = ""
        self.said = ""
        self.feed(self.text)
        assert self._open == [], "every tag is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.attributes += values.items()
        if tag not in SINGLE:
            self._open.append(tag)
        if "href" in values:
            self.links.append(values["href"])
        if "src" in values:
            self.pictures.append(values["src"])
        if "id" in values:
            self.names.append(values["id"])
        if tag == "article":
            self._article = values["id"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in SINGLE:
            assert self._open.pop() == tag
        if tag == "article":
            self._article = ""

    def handle_data(self, data: str) -> None:
        self.said += data
        if self._article:
            self.articles[self._article] = self.articles.get(self._article, "") + data


def read_pages(folder: Path) -> dict[str, Page]:
    paths = sorted(folder.rglob("*.html"))
    return {path.relative_to(folder).as_posix(): Page(path.read_text(encoding="utf-8")) for path in paths}


@pytest.fixture(scope="module")
def study(tiny_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The tiny study with answers of two observers and a gallery, under a name that HTML must escape."""
    root = tmp_path_factory.mktemp("gallery") / "a <b> & 'c' \"d\" 50% #1"
    copied = Study(shutil.copytree(tiny_study.root, root))
    observe_study(copied, "lowlevel", device="cpu")
    observe_study(copied, "features:timm:test_convnext-twin", device="cpu")
    copied.add_note(PLUMBING)
    assert make_gallery(copied) == root / "gallery" / "index.html"
    return copied


@pytest.fixture(scope="module")
def pages(study: Study) -> dict[str, Page]:
    return read_pages(study.root / "gallery")


def test_there_is_a_page_for_every_model_and_for_the_planted_units(study: Study, pages: dict[str, Page]) -> None:
    names = [*study.manifest["models"], PLANTED]
    made = {*study.stimuli().query("condition == 'synthetic'")["model"]}
    assert set(pages) == {
        "index.html",
        *(f"{folder}{name}.html" for name in names for folder in ("", "grid/")),
        *(f"visualizations/{name}.html" for name in made),
    }


def test_every_link_and_picture_leads_somewhere_inside_the_study(study: Study, pages: dict[str, Page]) -> None:
    counted = 0
    gallery = study.root / "gallery"
    for own, page in pages.items():
        for address in page.links + page.pictures:
            parts = urlsplit(address)
            assert not parts.scheme, address
            assert not parts.netloc, address
            assert not parts.path.startswith("/"), address
            path = ((gallery / own).parent / unquote(parts.path)).resolve()
            if parts.path:
                assert path.is_file(), address
                assert study.root.resolve() in path.parents
            if parts.fragment:
                there = pages[path.relative_to(gallery.resolve()).as_posix()] if parts.path else page
                assert unquote(parts.fragment) in there.names
            counted += 1
    assert counted > 100


def test_no_other_host_is_asked_for_anything(study: Study) -> None:
    for path in (path for path in (study.root / "gallery").rglob("*") if path.is_file()):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(https?:|ftp:|file:)?//[\w.]", text), path.name
        assert "@import" not in text
        assert "url(" not in text


def test_pages_say_everything_without_the_one_script_that_they_have(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        base = "../" * name.count("/")
        assert page.tags.count("script") == 1 and f"{base}gallery.js" in page.pictures
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        # What only works with the script is hidden without it, and nothing else is.
        hidden = [tag for tag in re.findall(r"<(\w+)[^>]*\shidden[\s>]", page.text) if tag != "form"]
        assert not hidden


def test_every_unit_has_a_tile_beside_its_layers_and_a_row_of_visualisations(
    study: Study, pages: dict[str, Page]
) -> None:
    stimuli = study.stimuli()
    for name in study.manifest["models"]:
        cards, grid = pages[f"{name}.html"], pages[f"grid/{name}.html"]
        spelled = [value for key, value in cards.attributes if key == "data-unit"]
        assert spelled == [value for key, value in grid.attributes if key == "data-unit"]
        assert {value.split(" / ")[0] for value in spelled} == {v for k, v in grid.attributes if k == "data-heading"}
        depths = study.units().query("model == @name").drop_duplicates("layer").set_index("layer")["depth"]
        shown = [depths[value.split(" / ")[0]] for value in spelled]
        assert shown == sorted(shown), "as the network goes"
        made = stimuli.query("condition == 'synthetic' and model == @name")
        if len(made):
            page = pages[f"visualizations/{name}.html"]
            assert {Path(address).stem for address in page.pictures} - {"gallery"} == {*made["picture"]}


def test_what_units_are_sorted_by_is_what_their_cards_say(study: Study, pages: dict[str, Page]) -> None:
    statistics = study.statistics()
    for name in study.manifest["models"]:
        page = pages[f"{name}.html"]
        ranges = [float(value) for key, value in page.attributes if key == "data-range"]
        own = statistics[(statistics["model"] == name) & statistics["used"]]
        assert sorted(ranges) == pytest.approx(sorted(own["range_over_deviation"]), abs=1e-4)
        offered = {value.split()[0] for key, value in page.attributes if key == "value" and " " in value}
        given = {key.removeprefix("data-") for key, _ in page.attributes if key.startswith("data-")}
        assert offered and offered <= given


def test_examples_cover_the_range_with_pictures_that_the_study_holds() -> None:
    rng = np.random.default_rng(0)
    column = rng.normal(size=1000).astype(np.float32)
    pictures = np.array([f"p{n}" for n in range(1000)], dtype=object)
    stored = rng.random(1000) < 0.5
    stored[[column.argmin(), column.argmax()]] = True
    found = examples(column, pictures, stored)
    assert [example.below for example in found] == pytest.approx([100 * share for share in RANGE], abs=1)
    for example in found:
        row = int(example.picture[1:])
        assert stored[row] and example.activation == column[row]
        assert example.below == pytest.approx(100 * (column < column[row]).mean(), abs=0.11)
        assert 0 <= example.x <= 100
    assert (found[0].x, found[-1].x) == (0, 100)
    assert examples(column, pictures, np.zeros(1000, dtype=bool)) == []
    # Few pictures serve several shares, and are shown once.
    few = np.zeros(1000, dtype=bool)
    few[:2] = True
    assert len(examples(column, pictures, few)) == 2


def test_a_gallery_moves_with_its_study(study: Study, tmp_path: Path) -> None:
    moved = Path(shutil.move(shutil.copytree(study.root, tmp_path / "copy"), tmp_path / "elsewhere"))
    for name, page in read_pages(moved / "gallery").items():
        folder = (moved / "gallery" / name).parent
        assert all((folder / unquote(urlsplit(address).path)).is_file() for address in page.pictures)
        assert str(study.root) not in page.text


def test_every_used_unit_has_one_card_and_no_other_unit_has(study: Study, pages: dict[str, Page]) -> None:
    statistics = study.statistics()
    for name in study.manifest["models"]:
        used = statistics[(statistics["model"] == name) & statistics["used"]]
        expected = {f"{layer}-{index}" for layer, index in zip(used["layer"], used["index"])}
        assert pages[f"{name}.html"].names == sorted(pages[f"{name}.html"].names, key=list(expected).__contains__)
        assert set(pages[f"{name}.html"].articles) == expected
        assert len(expected) == len(used) == 8


def test_cards_show_both_sides_queries_and_synthetic_references(study: Study, pages: dict[str, Page]) -> None:
    tasks = assemble_tasks(study.stimuli())
    for name in study.manifest["models"]:
        shown = set(re.findall(r"<img[^>]*/([0-9a-f]+)\.webp\" alt=\"m", pages[f"{name}.html"].text))
        own = tasks[tasks["model"] == name]
        expected = {*own["query_max"], *own["query_min"]}
        for side in ("max", "min"):
            expected |= {picture for row in own[f"references_{side}"] for picture in row}
        assert own.groupby([*UNIT_COLUMNS, "condition"]).size().max() <= MOST_TASKS, "all of its tasks are shown"
        assert shown == expected


def test_cards_show_the_quality_of_synthetic_sets_and_which_are_not_accepted(
    study: Study, pages: dict[str, Page]
) -> None:
    stimuli = study.stimuli().query("condition == 'synthetic' and model != 'planted'")
    rejected = 0
    for (model, layer, _, index, _), own in stimuli.groupby(UNIT_COLUMNS):
        text = " ".join(pages[f"{model}.html"].articles[f"{layer}-{index}"].split())
        for side, part in own.groupby("side"):
            flag = "" if part["accepted"].all() else " not accepted"
            rejected += bool(flag)
            cells = [f"{part['over_best'].min():.2f}", f"{part['over_best'].max():.2f}"]
            cells += [f"{part['diversity_loss'].iloc[0]:.2f}", str(int(part["steps"].iloc[0]))]
            assert f"{side}{flag}{''.join(cells)}".replace(" ", "") in text.replace(" ", "")
    assert rejected


def test_cards_show_what_each_observer_got_right(study: Study, pages: dict[str, Page]) -> None:
    responses = read_responses(study)
    assert responses["observer"].nunique() == 2
    for key, own in responses[responses["model"] != PLANTED].groupby([*UNIT_COLUMNS, "condition", "observer"]):
        model, layer, _, index, _, condition, observer = key
        text = pages[f"{model}.html"].articles[f"{layer}-{index}"]
        assert re.search(rf"{re.escape(observer)}\s*{condition}\s*{own['correct'].sum()} of {len(own)}", text), (
            f"{key}: {text}"
        )


def test_the_first_page_shows_the_scores_with_their_intervals(study: Study, pages: dict[str, Page]) -> None:
    scores = score_study(study)
    assert scores
    for score in scores:
        assert str(score.score) in pages["index.html"].said
        assert score.observer in pages["index.html"].said
    for name, facts in study.manifest["models"].items():
        assert name in pages["index.html"].said
        assert f"{facts['parameters']:,} parameters" in pages["index.html"].said


def test_every_page_carries_the_notes_of_the_study(study: Study, pages: dict[str, Page]) -> None:
    assert study.manifest["notes"]
    for note in study.manifest["notes"]:
        assert all(note in page.said for page in pages.values())


def test_names_are_escaped(study: Study, pages: dict[str, Page]) -> None:
    for page in pages.values():
        assert study.root.name in page.said
        assert "b" not in page.tags or "<b>" not in page.text.split("</h1>")[0]


def test_names_of_models_may_hold_what_addresses_and_pages_must_escape(
    picture_folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "card.toml").write_text(
        'name = "odd #1 & <two>? 5%20"\ntitle = "Odd"\ntimm = "test_resnet"\nfamily = "resnet"\n'
        'weights = { source = "timm" }\ntraining = { data = ["stripes"], images = 60 }\n'
        "input = { size = 64, crop_ratio = 0.95, interpolation = 'bilinear', mean = [0.5, 0.5, 0.5], "
        "std = [0.5, 0.5, 0.5] }\n",
        encoding="utf-8",
    )
    models = [{"card": str(tmp_path / "card.toml"), "weights": "random"}]
    study = build(small_experiment(picture_folder, checkpoint, models=models), tmp_path / "study", stage="exemplars")
    make_gallery(study)
    pages = read_pages(study.root / "gallery")
    assert len(pages) == 5
    for name, page in pages.items():
        assert "odd #1 & <two>? 5%20@random" in page.said
        for address in page.links + page.pictures:
            parts = urlsplit(address)
            assert not parts.path or ((study.root / "gallery" / name).parent / unquote(parts.path)).is_file(), address


def test_a_gallery_without_answers_can_be_made_and_one_without_exemplars_is_refused(
    picture_folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    experiment = small_experiment(picture_folder, checkpoint)
    study = build(experiment, tmp_path / "study", stage="activations")
    with pytest.raises(StageMissing, match="--stage exemplars"):
        make_gallery(study)
    study = build(experiment, tmp_path / "study", stage="exemplars")
    assert make_gallery(study).is_file()


def test_bars_of_the_histograms_are_on_the_pages(study: Study, pages: dict[str, Page]) -> None:
    classes = [
        value for name, value in pages[f"{next(iter(study.manifest['models']))}.html"].attributes if name == "class"
    ]
    for band in BANDS - {"middle"}:
        assert classes.count(f"bar-{band}") >= 8, "at least one bar for each of the eight units"
    style = (study.root / "gallery" / "style.css").read_text(encoding="utf-8")
    for band in BANDS:
        assert f".bar-{band}" in style


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=20, max_size=200),
    st.integers(1, 6),
    st.integers(1, 4),
)
def test_a_histogram_marks_exactly_the_pictures_of_each_band(
    values: list[float], references: int, queries: int
) -> None:
    column = np.array(values, dtype=np.float32)
    size = len(column)
    windows = Windows(size, Window(0, references), {"easy": Window(references, queries)})
    bars = histogram(column, windows)
    area = pd.Series(0.0, index=sorted(BANDS))
    for bar in bars:
        area[bar.band] += bar.width * bar.height
        assert -1e-2 <= bar.x <= bar.x + bar.width <= 100 + 1e-2
        assert 0 < bar.height <= 100
    expected = {
        "min": references, "max": references, "query-min": queries, "query-max": queries,
        "middle": size - 2 * references - 2 * queries,
    }  # fmt: skip
    # Heights and widths are rounded to a thousandth; the highest bar has the most pictures.
    for band, count in expected.items():
        assert area[band] / area.sum() == pytest.approx(count / size, abs=2e-3)


def test_bars_of_a_histogram_lie_where_their_pictures_do() -> None:
    column = np.linspace(0, 1, 100, dtype=np.float32)
    windows = Windows(100, Window(0, 10), {"easy": Window(10, 5), "hard": Window(20, 5)})
    bars = histogram(column, windows)
    for left, right in pairwise(bars):
        assert left.x + left.width <= right.x + 2e-3
    reach = {band: (min(b.x for b in own), max(b.x + b.width for b in own)) for band in BANDS
             if (own := [bar for bar in bars if bar.band == band])}  # fmt: skip
    bin_width = 100 / BINS
    for band, (low, high) in {"min": (0, 9), "max": (90, 99), "middle": (15, 84)}.items():
        assert reach[band][0] == pytest.approx(low * 100 / 99, abs=bin_width)
        assert reach[band][1] == pytest.approx(high * 100 / 99, abs=bin_width)
    assert reach["query-min"][1] == pytest.approx(24 * 100 / 99, abs=bin_width)
