"""Tables of the command line in a narrow terminal: no word is broken, nothing is cut without saying so."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from benchmark.command_line.tables import _table, print_table
from benchmark.progress import TerminalReporter, spell_duration

ROWS = [("wide_resnet50", "68.9 M", "imagenet-1k (1.28 M)", "81.6"), ("clip_vit_b32", "87.8 M", "laion-2b (2 B)", "–")]


def printed(width: int) -> str:
    stream = io.StringIO()
    table = _table("card", "parameters", "trained on", "top-1", right=("parameters",))
    for row in ROWS:
        table.add_row(*row)
    print_table(Console(file=stream, width=width, force_terminal=True, color_system=None), table)
    return stream.getvalue()


@pytest.mark.parametrize("width", [25, 45, 60, 80])
def test_no_word_of_a_table_is_broken_in_a_narrow_terminal(width: int) -> None:
    said = printed(width)
    assert max(len(line.rstrip()) for line in said.splitlines()) <= width and "…" not in said
    words = [
        word for row in (("card", "parameters", "trained on", "top-1"), *ROWS) for text in row for word in text.split()
    ]
    assert set(words) <= set(said.split())


def test_a_narrow_bar_still_says_what_is_done_and_since_when() -> None:
    stream = io.StringIO()
    reporter = TerminalReporter(Console(file=stream, width=50, force_terminal=True, color_system=None))
    with reporter.task("A title that is longer than what a narrow terminal has room for", 3000) as advance:
        advance(3000)
    assert "3,000/3,000" in stream.getvalue() and "0:00:0" in stream.getvalue() and "…" not in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_are_spelled_in_one_way(seconds: float, words: str) -> None:
    assert spell_duration(seconds) == words
