"""The command line's help: grouped, short, imperative, never cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from benchmark.command_line import app
from benchmark.command_line.options import LONGEST_HELP, PANELS, panel_of, walk_verbs
from benchmark.command_line.reporting import REPORTING
from tests.test_command_line import vimi

VERBS = dict(walk_verbs(typer.main.get_command(app)))

IMPERATIVES = """
    Accept Add Ask Assume Back Believe Build Check Compare Compute Count Deal Declare Delete Detect Draft Draw End
    Exclude Export Fetch Forecast Freeze Host Import Include Install Keep Leave Let List Listen Live Load Make Map
    Measure Name Optimise Overwrite Print Read Recompute Repeat Replace Restore Run Score Seed Send Serve Set Show
    Simulate Skip Spend Start Stop Store Take Test Tell Use Verify Work Write
"""
"""Verbs that a help line may begin with."""


def help_lines() -> Iterator[tuple[str, str, str]]:
    """Yield every help line: of the command, of groups, verbs, options and arguments; with its verb and its option."""
    group: Any = typer.main.get_command(app)
    groups = {name: command for name, command in group.commands.items() if name not in VERBS}
    for verb, command in {"": group, **groups, **VERBS}.items():
        yield verb, "", (command.help or "").partition("\n")[0]
        for parameter in command.get_params(typer.Context(command)):
            yield verb, parameter.opts[0], parameter.help or ""


ODD = re.compile(r"\b(there is|whoever|that which|by itself|at all|so far as)\b", re.I)


def wrong_with(line: str, longest: int = LONGEST_HELP) -> list[str]:
    """Return what is wrong with a help line."""
    faults = {
        "empty": not line,
        "too long": len(line) > longest,
        "no imperative": line.split(" ")[0].strip(",") not in IMPERATIVES.split(),
        "no sentence": not line.endswith("."),
        "not plain": bool(ODD.search(line)),
    }
    return [fault for fault, found in faults.items() if found]


def test_every_help_line_is_a_short_imperative() -> None:
    lines = list(help_lines())
    assert len(lines) > 200
    assert {(verb, own): wrong for verb, own, line in lines if (wrong := wrong_with(line))} == {}


def test_a_long_or_roundabout_help_line_is_found() -> None:
    assert wrong_with("Of all that is random about them.") == ["no imperative"]
    assert wrong_with("Say what a design can see, how money is best spent on it, or how many more") != []


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")


def test_no_help_is_cut_at_80_columns() -> None:
    """Every line stands in the help whole; it may go on in the next line, under its beginning."""
    lines = list(help_lines())
    for verb in ("", "models", "leaderboard", *VERBS):
        said = vimi(*verb.split(), "--help").out
        assert max(map(len, said.splitlines())) <= 80 and "…" not in said, said
        flat = " ".join(said.split())
        for other, parameter, line in lines:
            is_below = other in VERBS and not parameter and other.startswith(f"{verb} ".lstrip())
            if other == verb or is_below:
                assert line in flat, (verb, other, parameter)


def test_the_help_lists_every_verb_once_in_its_group() -> None:
    said = vimi("--help").out
    sections = re.findall(r"^(\w+):$", said, re.MULTILINE)
    assert sections == ["Options", *PANELS]
    for path, command in VERBS.items():
        assert panel_of(command) in PANELS, path
        line = (command.help or "").partition("\n")[0]
        assert re.findall(rf"^  {re.escape(path)} +(.*)$", said, re.MULTILINE) == [line], path


def test_every_verb_reports_but_those_that_serve_or_ask() -> None:
    assert set(VERBS) - REPORTING == {"serve", "password"}
    for path in REPORTING:
        assert any("--json" in parameter.opts for parameter in VERBS[path].params), path
