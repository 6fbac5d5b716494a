"""What to do next in a folder: what vimi recognises there, and the commands that fit.

Only the standard library is loaded, and no more than a few small files are read, so that the answer comes at once.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import tomllib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.commands import observe_command, spell_command

LARGEST_READ = 20_000_000
"""Bytes of a file that is looked into; anything larger is passed over."""

MOST_ENTRIES = 500
"""Entries of a folder that are looked at."""

MOST_COMMANDS = 3
"""Commands that are named at once."""

STAGES = 5
"""Stages of a whole build."""


@dataclass(frozen=True)
class Step:
    """A command that fits, and what it is for."""

    why: str
    command: str


@dataclass(frozen=True)
class Found:
    """Something that vimi recognises.

    Attributes
    ----------
    what
        What it is, in words.
    steps
        What to do with it, the most useful first.
    """

    what: str
    steps: tuple[Step, ...]


def look_around(folder: Path | str = ".") -> list[Found]:
    """Return what vimi recognises in a folder and one level below, what is furthest on first.

    Parameters
    ----------
    folder
        The folder; commands name paths as they are typed there.
    """
    root = Path(folder)
    entries = sorted(_entries(root))
    places = [root, *(path for path in entries if path.is_dir() and not path.name.startswith("."))]
    documents = {path: _read(path) for path in entries if path.suffix == ".toml" and path.is_file()}
    manifests = {place: _read(place / "manifest.json") for place in places}
    return [
        *(_study(place, root, manifest) for place, manifest in manifests.items() if "stages" in manifest),
        *(_answers(place, root, manifest) for place, manifest in manifests.items() if _holds_answers(place, manifest)),
        *(_results(place, root) for place, manifest in manifests.items() if _holds_results(place, manifest)),
        *(_mapping(path, root, entries) for path, document in documents.items() if "columns" in document),
        *_experiments(documents, manifests, root),
        *(_model(path.name) for path in documents if "input" in documents[path] and "title" in documents[path]),
        *(_model(f"{path.stem}:make") for path in entries if path.suffix == ".py" and _makes_model(path)),
    ]


def first_steps() -> tuple[Step, ...]:
    """Return what to do where nothing is yet."""
    return (
        Step("See the whole path on a small study, in minutes:", spell_command("demo")),
        Step(
            "Start your own: --story build, host, analyse or leaderboard:",
            spell_command("new", "my_study", "--story", "build"),
        ),
        Step("Check that the installation is whole:", spell_command("doctor")),
    )


def next_steps(found: list[Found]) -> tuple[Step, ...]:
    """Return the two or three commands that fit what was found."""
    if not found:
        return first_steps()
    steps = list(found[0].steps)
    if len(steps) < MOST_COMMANDS and len(found) > 1:
        steps += found[1].steps[:1]
    return tuple(steps[:MOST_COMMANDS])


def _entries(root: Path) -> Iterator[Path]:
    try:
        with os.scandir(root) as listing:
            for _, entry in zip(range(MOST_ENTRIES), listing):
                yield root / entry.name
    except OSError:
        return


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON or TOML document; empty if it is none, can't be read or is too large."""
    try:
        if path.stat().st_size > LARGEST_READ:
            return {}
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _type(path: Path, root: Path) -> str:
    """Return a path as it is typed in the folder."""
    return str(path.relative_to(root)) if root == Path() else str(path)


# -------------------------------------------------------------------- studies


def _study(place: Path, root: Path, manifest: dict[str, Any]) -> Found:
    name = _type(place, root)
    stages = manifest["stages"]
    if len(stages) < STAGES or "trials" not in stages:
        build = spell_command("build", place / "experiment.toml", "--out", name)
        return Found(
            f"{name}, a study that is not built to its end",
            (Step("Go on building; what is finished is kept:", build),),
        )
    machines = any((place / "responses").glob("*.parquet"))
    people = _count_answers(place / "study.sqlite")
    preview = Step("Look at every page that participants see:", spell_command("serve", name, "--preview"))
    gallery = Step("Look at its units in a browser:", spell_command("gallery", name))
    if people:
        return Found(
            f"{name}, a study with {people:,} answers by people",
            (
                Step("Write a report of what the answers say:", spell_command("analyze", name)),
                Step("Count the sessions still needed:", spell_command("power", name, "--until", "0.05")),
                Step("Hand out the answers with a codebook:", spell_command("export", name)),
            ),
        )
    if machines:
        return Found(
            f"{name}, a study that machine observers have answered",
            (
                Step("Write a report of what the answers say:", spell_command("analyze", name)),
                preview,
                Step("Add it to the leaderboard:", spell_command("leaderboard", "add", "--study", name)),
            ),
        )
    observe = observe_command(name, manifest.get("models", ()))
    return Found(
        f"{name}, a built study without answers",
        (Step("Let machine observers answer:", observe), preview, gallery),
    )


def _count_answers(path: Path) -> int:
    """Count people's answers in a study's own database; 0 if it can't be read without waiting."""
    if not path.is_file():
        return 0
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=0.1)) as connection:
            return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
    except sqlite3.Error:
        return 0


def _experiments(
    documents: dict[Path, dict[str, Any]], manifests: dict[Path, dict[str, Any]], root: Path
) -> Iterator[Found]:
    """Find experiments of which no study is here yet: one with the same models."""
    studies = [place for place, manifest in manifests.items() if "stages" in manifest]
    built = [_cards(_read(place / "experiment.toml")) for place in studies]
    for path, document in documents.items():
        if _cards(document) and "columns" not in document and _cards(document) not in built:
            name, out = _type(path, root), _type(root / ("study" if not studies else f"{path.stem}_study"), root)
            dry_run = spell_command("build", name, "--out", out, "--dry-run")
            yield Found(
                f"{name}, an experiment",
                (
                    Step("Forecast time, disk and cost:", dry_run),
                    Step("Build it:", spell_command("build", name, "--out", out)),
                ),
            )


def _cards(document: dict[str, Any]) -> list[str]:
    """Return the names of the models of an experiment; none if it is none."""
    models = document.get("models")
    return [str(own.get("card")) for own in models if isinstance(own, dict)] if isinstance(models, list) else []


# -------------------------------------------------------------------- answers, results, models

_TABLES = ("responses.parquet", "responses.csv")


def _holds_answers(place: Path, manifest: dict[str, Any]) -> bool:
    return "stages" not in manifest and any((place / name).is_file() for name in _TABLES)


def _answers(place: Path, root: Path, manifest: dict[str, Any]) -> Found:
    is_import = "sources" in manifest
    table = next(place / name for name in _TABLES if (place / name).is_file())
    source = _type(place if is_import else table, root)
    return Found(
        f"{source}, {'imported answers' if is_import else 'a table of answers'}",
        (
            Step("Write a report of what the answers say:", spell_command("analyze", source)),
            Step("The same without what takes minutes:", spell_command("analyze", source, "--quick")),
            Step("Count the sessions still needed:", spell_command("power", source, "--until", "0.05")),
        ),
    )


def _mapping(path: Path, root: Path, entries: list[Path]) -> Found:
    tables = [own for own in entries if own.suffix in (".csv", ".tsv", ".json", ".parquet") and own.is_file()]
    answers = sorted(tables, key=lambda own: own.stem not in ("answers", "responses"))
    name = _type(answers[0], root) if answers else "ANSWERS.csv"
    out = _type(root / "imported", root)
    command = spell_command("import-csv", name, "--mapping", _type(path, root), "--out", out)
    return Found(
        f"{_type(path, root)}, a mapping of a table of answers",
        (Step("Import the table:", command), Step("Then write a report:", spell_command("analyze", out))),
    )


def _holds_results(place: Path, manifest: dict[str, Any]) -> bool:
    folder = place / "results"
    return "stages" not in manifest and folder.is_dir() and next(folder.glob("*/*/*/*.json"), None) is not None


def _results(place: Path, root: Path) -> Found:
    folder = _type(place / "results", root)
    return Found(
        f"{folder}, result files of a leaderboard",
        (
            Step(
                "See them among the released ones:",
                spell_command("leaderboard", "show", "--results", "released", "--results", folder),
            ),
            Step("Recompute every number in them:", spell_command("leaderboard", "verify", folder)),
            Step("Make pages to look at:", spell_command("leaderboard", "build", "--results", folder)),
        ),
    )


def _makes_model(path: Path) -> bool:
    try:
        return path.stat().st_size < 200_000 and bool(re.search(r"^def make\(", path.read_text("utf-8"), re.MULTILINE))
    except (OSError, ValueError):
        return False


def _model(name: str) -> Found:
    return Found(
        f"{name}, a model of yours",
        (
            Step("Test in seconds whether it can be studied:", spell_command("models", "check", name)),
            Step("Add it to the leaderboard:", spell_command("leaderboard", "add", name)),
        ),
    )
