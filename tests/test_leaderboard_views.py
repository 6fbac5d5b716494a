"""The leaderboard in the terminal and on its page: the numbers are those of the table, wherever they stand."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from analysis.intervals import means
from analysis.leaderboard.making import make_published_results
from analysis.leaderboard.result import Result, write_result
from analysis.leaderboard.standings import Leaderboard, build_leaderboard
from benchmark.command_line import app, leaderboard_tables
from benchmark.command_line.leaderboard_tables import fit_columns, print_leaderboard, print_validity, write_rows
from benchmark.errors import LeaderboardError
from benchmark.plumbing import PLUMBING
from benchmark.study import Study
from tests.hosted import host, make_hosted_study
from tests.leaderboards import SEER, made_up_result
from webapp.result_files import ResultFiles
from webapp.screens import leaderboard as page_of
from webapp.server import SCRIPT, serve_hosting


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Bootstraps of few resamples: how good intervals are is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(means, "RESAMPLES", 300)
        yield


@pytest.fixture(scope="module")
def results() -> list[Result]:
    made_up = [
        made_up_result("one", score=0.9, people={"study": 0.9}, units=30),
        made_up_result("two", score=0.8, people={"study": 0.75}, units=30, seed=1, family="other"),
        made_up_result("[bold]three[/]", score=0.85, units=20, seed=2),
        made_up_result("<b>crops</b>", notes=(PLUMBING,), pool="crops", units=20, seed=3),
    ]
    rules = made_up[0].protocol.rules
    fewer = made_up[0].protocol.model_copy(update={"rules": {**rules, "units": {**rules["units"], "used": 30}}})
    ranked = [result.model_copy(update={"protocol": fewer}).sealed() for result in made_up[:3]]
    return [*ranked, made_up[3], *make_published_results()]


@pytest.fixture(scope="module")
def board(results: list[Result]) -> Leaderboard:
    return build_leaderboard(results)


@pytest.fixture(scope="module")
def folder(results: list[Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    for result in results:
        write_result(result, root)
    return root


def every_number(board: Leaderboard) -> list[str]:
    """Return the numbers that every view must show, as they are written."""
    return [
        text
        for table in board
        for row in table.rows
        for own in row.standings
        for text in (str(own.headline), str(own.score), own.spelled_rank)
    ]


# -------------------------------------------------------------------- the terminal


def printed(board: Leaderboard, monkeypatch: pytest.MonkeyPatch, width: int = 140, *, terminal: bool = False) -> str:
    """Return what is printed, on a terminal of a width or into a file."""
    console = Console(
        file=io.StringIO(),
        force_terminal=terminal,
        width=width,
        highlight=False,
        color_system="standard" if terminal else None,
    )
    monkeypatch.setattr(leaderboard_tables, "open_console", lambda: console)
    print_leaderboard(board)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    return re.sub(r"\x1b\[[0-9;]*m", "", said) if terminal else said


def test_the_terminal_shows_the_numbers_of_the_table(board: Leaderboard, monkeypatch: pytest.MonkeyPatch) -> None:
    said = printed(board, monkeypatch)
    assert all(number in said for number in every_number(board))
    assert "\x1b" not in said
    for table in board:
        for row in table.rows:
            own = row.standings[0]
            line = next(line for line in said.splitlines() if f" {row.name} " in line and str(own.headline) in line)
            assert line.startswith(own.spelled_rank)


def test_what_measures_nothing_comes_last_and_says_so_first(
    board: Leaderboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = printed(board, monkeypatch)
    plumbing = said.index("Plumbing check, not a measurement")
    assert said.index("imi2023") < plumbing and said.index("on photographs") < plumbing
    after = said[plumbing:]
    assert after.index("nothing about the models") < after.index("<b>crops</b>")
    assert re.search(r"^– \(1, 2\) +<b>crops</b>", after, re.MULTILINE)
    assert f"Not ranked: (1) {PLUMBING}; (2) fewer than 84 units" in after
    assert "[bold]three[/]" in said  # what a file says is never taken for markup


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_columns_are_left_out_and_numbers_never_cut(
    board: Leaderboard, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    said = printed(board, monkeypatch, width, terminal=True)
    assert max(map(len, said.splitlines())) <= width
    assert all(str(own.headline) in said for table in board for row in table.rows for own in row.standings)
    if width <= 80:
        assert "Left out for want of room" in said and "trained - twin" in said
    if width == 200:
        assert "Left out" not in said


def test_what_is_told_from_random_does_not_depend_on_which_rows_are_shown(board: Leaderboard) -> None:
    for table in board:
        for row in table.rows:
            assert row.models == len(table.rows)
            alone = replace(table, rows=(row,))
            for section, whole in ((own, other) for own in alone.sections for other in table.sections):
                if (section.kind, section.observer) != (whole.kind, whole.observer):
                    continue
                columns = {column.name for column in section.columns} & {column.name for column in whole.columns}
                place = [shown.name for shown in whole.rows].index(row.name)
                for name in columns & {"trained - twin"}:
                    assert section.column(name).cells[0] == whole.column(name).cells[place]


def test_the_least_important_columns_go_first() -> None:
    columns = [("rank", 8, 0), ("model", 20, 0), ("family", 10, 2), ("score", 17, 1)]
    assert fit_columns(columns, 61) == ["rank", "model", "family", "score"]
    assert fit_columns(columns, 60) == ["rank", "model", "score"]
    assert fit_columns(columns, 40) == fit_columns(columns, 3) == ["rank", "model"]


def test_a_wide_column_does_not_take_narrow_ones_with_it() -> None:
    columns = [("rank", 8, 0), ("model", 20, 0), ("trained - twin", 40, 1), ("score", 17, 2), ("family", 30, 3)]
    assert fit_columns(columns, 60) == ["rank", "model", "score"]


def test_csv_and_json_are_the_frame_at_full_precision(board: Leaderboard) -> None:
    frame = board.frame()
    read = list(csv.DictReader(io.StringIO(write_rows(board, "csv"))))
    assert list(read[0]) == list(frame) and len(read) == len(frame)
    for name in ("headline", "score_low", "excess_high", "noise_ceiling"):
        assert [float(row[name] or "nan") for row in read] == pytest.approx(frame[name].tolist(), abs=0, nan_ok=True)
    rows = json.loads(write_rows(board, "json"))
    assert [row["headline"] for row in rows] == frame["headline"].tolist()
    assert all(row["rank"] is None for row in rows if PLUMBING in row["notes"])
    with pytest.raises(LeaderboardError, match="format 'yaml'"):
        print_leaderboard(board, "yaml")


def test_a_row_with_its_whole_panel(board: Leaderboard, capsys: pytest.CaptureFixture[str]) -> None:
    table = next(table for table in board if table.pool.name == "photographs")
    row = next(row for row in table.rows if row.name == "one")
    print_validity(table, row)
    said = " ".join(capsys.readouterr().out.split())
    for own in row.standings:
        assert all(str(estimate) in said for _, estimate, _ in own.named_numbers)
    assert all(" ".join(check.sentence.split()) in said for check in row.checks)


def test_the_verb_shows_files(folder: Path) -> None:
    done = CliRunner().invoke(app, ["leaderboard", "show", "--results", str(folder), "--protocol", "imi2023"])
    assert done.exit_code == 0, done.output
    assert ".880 [.854, .900]" in done.output and "photographs" not in done.output
    done = CliRunner().invoke(app, ["leaderboard", "show", "--results", str(folder), "--format", "json"])
    assert len(json.loads(done.output)) == len(build_leaderboard_of(folder).frame())


def build_leaderboard_of(folder: Path) -> Leaderboard:
    return ResultFiles([folder]).read().leaderboard


# -------------------------------------------------------------------- the page


def script() -> None:
    from webapp.screens import leaderboard

    leaderboard.show_leaderboard_page(leaderboard.tested)  # type: ignore[attr-defined]


@pytest.fixture
def page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setattr(page_of, "tested", ResultFiles([folder]), raising=False)
    opened = AppTest.from_function(script, default_timeout=300).run()
    assert not opened.exception
    return opened


def bodies(page: AppTest) -> list[str]:
    """Return what the page says, piece by piece, without its styles."""
    return [body for element in page.get("html") if not (body := element.proto.body).startswith("<style>")]


def cells(page: AppTest) -> list[list[str]]:
    """Return the rows of the page's tables, panels left out."""
    rows = re.findall(r"<tr(?: class=\"above\")?>(<td.*?)</tr>", " ".join(bodies(page)))
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]


def test_the_page_shows_the_cells_of_the_terminal(page: AppTest, board: Leaderboard) -> None:
    sections = [section for table in board for section in table.sections]
    expected = [list(row) for section in sections for row in zip(*(column.cells for column in section.columns))]
    shown = [[cell.replace("&lt;", "<").replace("&gt;", ">") for cell in row] for row in cells(page)]
    assert shown == expected
    assert all(number in " ".join(bodies(page)) for number in every_number(board))


def test_panels_and_notes_stand_where_their_numbers_do(page: AppTest, board: Leaderboard) -> None:
    text = " ".join(bodies(page))
    assert "<b>crops</b>" not in text and "&lt;b&gt;crops" in text  # what a file says is never taken for HTML
    assert text.count("<details>") == len(cells(page))
    one = next(row for table in board for row in table.rows if row.name == "one")
    for check in one.checks:
        assert page_of.escape(check.sentence) in text
    assert text.index("Plumbing check, not a measurement: these numbers") < text.index("&lt;b&gt;crops")
    assert "http" not in re.sub(r"https?://www\.w3\.org", "", text)  # nothing is loaded from elsewhere


@pytest.mark.parametrize(
    ("name", "value"),
    [("protocol", "imi2023"), ("condition", "synthetic"), ("observer", SEER), ("family", "other"), ("model", "one")],
)
def test_filters_are_those_of_the_builder(page: AppTest, results: list[Result], name: str, value: str) -> None:
    page.selectbox(key=f"leaderboard_{name}").select(value).run()
    assert not page.exception
    chosen = build_leaderboard(results, **{name: value})
    headlines = [str(own.headline) for table in chosen for section in table.sections for own in section.standings]
    assert [next(cell for cell in row if "[" in cell and "." in cell) for row in cells(page)] == headlines


def test_a_choice_that_nothing_fits(page: AppTest) -> None:
    page.selectbox(key="leaderboard_protocol").select("imi2023")
    page.selectbox(key="leaderboard_observer").select(SEER).run()
    assert not cells(page) and "No row has all of these properties." in " ".join(bodies(page))


def test_files_are_read_again_when_they_change_and_only_then(
    results: list[Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_result(results[0], tmp_path)
    files = ResultFiles([tmp_path])
    first = files.read()
    assert files.read() is first and len(first.leaderboard.results) == 1
    path = write_result(results[1], tmp_path)
    assert len(files.read().leaderboard.results) == 2
    path.write_text(path.read_text().replace('"title": "two"', '"title": "better"'))
    (tmp_path / "other.json").write_text("{}")
    shown = files.read()
    assert len(shown.leaderboard.results) == 1 and set(shown.left_out) == {path.name, "other.json"}
    monkeypatch.setattr(page_of, "tested", files, raising=False)
    said = " ".join(bodies(AppTest.from_function(script, default_timeout=300).run()))
    assert path.name in said and str(tmp_path) not in said
    with pytest.raises(LeaderboardError, match="no folder"):
        ResultFiles([tmp_path / "nowhere"])


# -------------------------------------------------------------------- only where it is asked for


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_hosted_study(tmp_path_factory.mktemp("study"))


def pages_of(study: Study, database: Path, files: ResultFiles | None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the addresses of the pages that a server has."""
    import streamlit as st

    found: list[str] = []
    real = st.navigation

    def note(pages: list[st.Page], **options: object) -> object:
        found.extend(page.url_path for page in pages)
        return real(pages, **options)

    monkeypatch.setattr(st, "navigation", note)
    hosting = host(study, f"sqlite:///{database}", result_files=files)
    try:
        serve_hosting(hosting)
        opened = AppTest.from_file(str(SCRIPT), default_timeout=300).run()
        assert not opened.exception
        assert "leaderboard" not in " ".join(bodies(opened)).lower()  # no page of a participant leads there
    finally:
        serve_hosting(None)  # type: ignore[arg-type]
        hosting.database.close()
    return found


def test_there_is_no_page_unless_it_is_asked_for(
    study: Study, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VIMI_ADMIN_HASH", raising=False)
    with monkeypatch.context() as patched:
        assert "leaderboard" not in pages_of(study, tmp_path / "one.sqlite", None, patched)
    with monkeypatch.context() as patched:
        assert "leaderboard" in pages_of(study, tmp_path / "two.sqlite", ResultFiles([folder]), patched)


def test_the_verb_hands_the_folders_over(study: Study, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from webapp import server

    served: list[ResultFiles | None] = []
    monkeypatch.setattr(server, "run_server", lambda hosting, **options: served.append(hosting.result_files))
    asked = ["serve", str(study.root), "--preview"]
    done = CliRunner().invoke(app, [*asked, "--leaderboard", str(folder), "--leaderboard", "released"])
    assert done.exit_code == 0, done.output
    assert "/leaderboard" in done.output and served[0] is not None
    assert served[0].folders[0] == folder and len(served[0].folders) == 2
    done = CliRunner().invoke(app, asked)
    assert "/leaderboard" not in done.output and served[1] is None
