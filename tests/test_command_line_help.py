"""The command line's help: grouped, short, imperative, never cut."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmark import errors
from benchmark.command_line import COMPLETION
from benchmark.command_line.options import LONGEST_HELP, PANELS, app, panel_of, walk_verbs
from benchmark.command_line.reference import ENVIRONMENT, EXIT_CODES, renew
from benchmark.command_line.reporting import REPORTING
from tests.test_architecture import FILES, HEAVY, ROOT
from tests.test_command_line import vimi

VERBS = dict(walk_verbs(typer.main.get_command(app)))

IMPERATIVES = """
    Accept Add Ask Assume Back Believe Build Check Compare Compute Count Deal Declare Delete Detect Draft Draw End
    Exclude Export Fetch Fit Forecast Freeze Go Host Import Include Install Keep Learn Leave Let List Listen Live
    Load Make Map Measure Name Optimise Overwrite Print Read Recompute Repeat Replace Restore Run Score Seed Send Serve
    Set Show Sample Simulate Skip Spend Start Stop Store Take Test Tell Use Verify Work Write
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


# -------------------------------------------------------------------- the page of commands


def test_the_page_of_commands_is_the_code_s() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert renew(page) == page, "run: python -m benchmark.command_line.reference"


def subclasses(error: type[errors.VimiError]) -> Iterator[type[errors.VimiError]]:
    yield error
    for own in error.__subclasses__():
        yield from subclasses(own)


def test_every_exit_code_of_the_code_is_explained() -> None:
    raised = {own.exit_code for own in subclasses(errors.VimiError)}
    sources = [(ROOT / file).read_text(encoding="utf-8") for file in FILES if "/command_line/" in file]
    ended = {int(code) for text in sources for code in re.findall(r"(?:Exit|SystemExit|exit)\((\d+)\)", text)}
    assert ended == {1, 2}
    assert raised | ended | {0, 130} == set(EXIT_CODES)


def test_every_variable_that_vimi_reads_is_explained() -> None:
    texts = [(ROOT / file).read_text(encoding="utf-8") for file in FILES if not file.endswith("reference.py")]
    named = {name for text in texts for name in re.findall(r"\b(VIMI_[A-Z_]+|PROLIFIC_TOKEN)\b", text)}
    assert named == set(ENVIRONMENT)


# -------------------------------------------------------------------- completion


def complete(*words: str) -> list[str]:
    """Return what bash is offered for the last of some words, as long as nothing heavy is loaded for it."""
    code = (
        "import sys\nsys.argv = ['vimi']\nfrom benchmark.command_line import main\n"
        f"try:\n    main()\nfinally:\n    print('loaded:', *({HEAVY!r} & set(sys.modules)))"
    )
    asked = {
        COMPLETION: "complete_bash",
        "COMP_WORDS": " ".join(["vimi", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked}, check=True
    )
    offered, _, loaded = done.stdout.partition("loaded:")
    assert loaded.strip() == ""
    return offered.split()


def test_verbs_options_and_values_are_completed_and_nothing_heavy_is_loaded() -> None:
    assert complete("le") == ["leaderboard"]
    assert complete("build", "--dr") == ["--dry-run"]
    assert complete("models", "show", "efficientnet_lite") == [f"efficientnet_lite{n}" for n in range(3)]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not on this machine")
def test_bash_reads_the_script_and_completes(tmp_path: Path) -> None:
    """The script that a user installs, in a real bash, with the command as it is installed."""
    command = tmp_path / "vimi"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m benchmark.command_line "$@"\n')
    command.chmod(0o755)
    script = (
        f'cd "{ROOT}"; PATH="{tmp_path}:$PATH"; eval "$({COMPLETION}=source_bash vimi)"; complete -p vimi; '
        "COMP_WORDS=(vimi new x --story ''); COMP_CWORD=4; _vimi_completion vimi; echo ${COMPREPLY[*]}"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "complete -o default -F _vimi_completion vimi", "build host analyse leaderboard",
    ]  # fmt: skip


def test_values_that_are_completed_are_those_that_are_taken() -> None:
    from typing import get_args

    from analysis.power import Goal
    from benchmark.study import STAGES
    from benchmark.workflow.starting import Story
    from webapp.payment import FORMS

    taken = {
        ("build", "--stage"): STAGES, ("new", "--story"): get_args(Story), ("power", "--goal"): get_args(Goal),
        ("payments", "--form"): FORMS,
    }  # fmt: skip
    for (verb, name), values in taken.items():
        (parameter,) = (own for own in VERBS[verb].params if name in own.opts)
        offered = parameter.shell_complete(typer.Context(VERBS[verb]), "")
        assert [item.value for item in offered] == list(values), (verb, name)
