"""Verifying result files: everything in one is recomputed, from its counts and from the study if that is available.

A result file carries the counts that its scores were made from, the rules that give its protocol its identity, and a
hash of its own content. Whether these agree can be found out by anyone who has the file. Whether the counts are those
of the answers that were given can't: whoever changes counts can compute scores and hash anew. Only the study tells,
and so every verification without one says what it leaves open.

What a file says is never run and never looked up: no model, observer or path that it names is loaded, apart from the
cards and protocols that ship with vimi.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.leaderboard.consistency import (
    HASH,
    Inspection,
    check_measured,
    compare_scores,
    conclude,
    every_count,
    name_cell,
    spell,
)
from analysis.leaderboard.making import make_published_results
from analysis.leaderboard.result import Result, read_result, released_folder
from analysis.leaderboard.study_comparison import compare_with_study
from benchmark.errors import LeaderboardError, suggest
from benchmark.model_card import card_names
from benchmark.progress import Reporter
from benchmark.study import Study

if TYPE_CHECKING:
    import pandas as pd

FORMULA = ("=", "+", "-", "@")
"""What a spreadsheet takes for the beginning of a formula: rows of the leaderboard leave as CSV."""

RESULTS = "results"
"""Name of the folders in which a result file must lie where its content says."""


@dataclass(frozen=True)
class Verification:
    """What verifying a file has found.

    Attributes
    ----------
    path
        The file.
    inspections
        What was looked at, in order.
    result
        What the file holds; None if it can't be read.
    study
        Folder of the study that it was compared with; empty if none.
    """

    path: Path
    inspections: tuple[Inspection, ...]
    result: Result | None = None
    study: str = ""

    @property
    def holds(self) -> bool:
        """Whether the file passes all checks."""
        return all(own.holds for own in self.inspections)

    @property
    def failures(self) -> tuple[Inspection, ...]:
        """What does not hold."""
        return tuple(own for own in self.inspections if not own.holds)

    @property
    def left_open(self) -> str:
        """What this verification can't check; empty if nothing."""
        if self.result is None:
            return ""
        if self.result.model.kind == "published":
            return (
                "A published result has no counts, so its numbers can't be recomputed. vimi compared it with the "
                "published means that come with vimi."
            )
        if self.study:
            return "vimi trusted the study: it did not recreate its answers, pictures and weights."
        return (
            "Without its study, vimi can't check the counts against the answers: someone who changes counts could "
            "recompute the scores and the hash. With --study FOLDER, vimi compares them."
        )


@dataclass(frozen=True)
class Verifications:
    """What verifying some files has found, in their order."""

    files: tuple[Verification, ...]

    def __iter__(self) -> Iterator[Verification]:
        return iter(self.files)

    @property
    def holds(self) -> bool:
        """Whether every file passes."""
        return all(own.holds for own in self.files)


def verify_result(
    path: Path | str,
    *,
    study: Study | None = None,
    pool_sizes: pd.DataFrame | None = None,
    database: str = "",
    place: bool | None = None,
    known: Sequence[Result] | None = None,
    reporter: Reporter | None = None,
) -> Verification:
    """Verify a result file.

    Parameters
    ----------
    path
        The file.
    study
        The study that it was made from, to compare the counts with.
    pool_sizes
        As for :func:`analysis.leaderboard.making.make_results`: needed if the file has counts over smaller pools and a
        study is given.
    database
        URL of the database of people's answers, if it is not the study's own.
    place
        Whether the file must lie where its content says; if not given, when it lies below a folder ``results``.
    known
        Other results, which must not contradict it; if not given, those that come with vimi.
    reporter
        Shows progress.

    Returns
    -------
    What was found; it never raises for anything that is in the file.
    """
    path = Path(path)
    read, result = _read(path)
    if result is None:
        return Verification(path, (read,))
    inspections = [read, _check_plain(path, result), _check_hash(result)]
    folder = _folder_of(path) if place is None or place else None
    if place or folder is not None:
        inspections.append(_check_place(path, result))
    if result.model.kind == "published" or result.source:
        inspections.append(_check_published(result))
    else:
        inspections += check_measured(result, reporter)
        if study is not None:
            inspections += compare_with_study(result, study, pool_sizes, database, reporter)
    others = {other.hash: other for other in (_released() if known is None else known) if other.hash != result.hash}
    inspections.append(_check_others(result, list(others.values()), known is not None))
    return Verification(path, tuple(inspections), result, str(study.root) if study is not None else "")


def verify_results(
    paths: Iterable[Path | str],
    *,
    study: Study | Path | str | None = None,
    pool_sizes: pd.DataFrame | None = None,
    database: str = "",
    place: bool | None = None,
    reporter: Reporter | None = None,
) -> Verifications:
    """Verify several result files, or all in a folder, each alone and against the others.

    Parameters
    ----------
    paths
        Files and folders.
    study, pool_sizes, database, place, reporter
        As for :func:`verify_result`. Of several files, only those about models of the study are compared with it.

    Raises
    ------
    LeaderboardError
        If a path does not exist, or a folder holds no result file.
    """
    study = None if study is None else Study.open(study)
    files = _find_files(paths)
    # Not only the files that were asked for: one may contradict, or take the place of, another beside it.
    beside = sorted({other for path in files if (folder := _folder_of(path)) for other in folder.rglob("*.json")})
    readable = {path.resolve(): result for path in (*files, *beside) if (result := _read(path)[1]) is not None}
    verifications = []
    for path in files:
        own = readable.get(path.resolve())
        others = {at: other for at, other in readable.items() if at != path.resolve()}
        about = len(files) == 1 or (study is not None and own is not None and _is_of(own, study))
        verification = verify_result(
            path, study=study if about else None, pool_sizes=pool_sizes, database=database, place=place,
            known=[*others.values(), *_released()], reporter=reporter,
        )  # fmt: skip
        twice = [at for at, other in others.items() if own is not None and other.content == own.content]
        if twice:
            once = Inspection("once", False, f"The same result is also in {twice[0]}.")
            verification = replace(verification, inspections=(*verification.inspections, once))
        verifications.append(verification)
    return Verifications(tuple(verifications))


def _find_files(paths: Iterable[Path | str]) -> list[Path]:
    """Return the result files that some paths name, each once."""
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(path.rglob("*.json"))
            if not found:
                raise LeaderboardError(f"There is no result file in {path}. Make one: vimi leaderboard add MODEL")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise LeaderboardError(f"There is no result file {path}.")
    return list(dict.fromkeys(files))


def _is_of(result: Result, study: Study) -> bool:
    """Whether a study has a result's model."""
    return result.model.name in study.manifest["models"]


def _released() -> list[Result]:
    """Return the results that come with vimi, as far as they can be read."""
    folder = released_folder()
    found = [_read(path)[1] for path in sorted(folder.rglob("*.json"))] if folder.is_dir() else []
    return [result for result in found if result is not None]


def _folder_of(path: Path) -> Path | None:
    """Return the folder of results that contains a file, or None."""
    return next((parent for parent in path.absolute().parents if parent.name == RESULTS), None)


# -------------------------------------------------------------------- the file


def _read(path: Path) -> tuple[Inspection, Result | None]:
    try:
        result = read_result(path)
    except LeaderboardError as error:
        return Inspection("file", False, str(error)), None
    except (ValueError, ArithmeticError, TypeError, AttributeError, RecursionError) as error:
        return Inspection("file", False, f"{path} is not a result file: {type(error).__name__}: {error}"), None
    size = path.stat().st_size / 2**20
    return Inspection("file", True, f"Readable, {size:.1f} MiB, and every key is known."), result


def _check_plain(path: Path, result: Result) -> Inspection:
    """Check that the file says one thing, and nothing that would show as something else than it is."""
    wrong = []
    twice: list[str] = []

    def note_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        counted = Counter(key for key, _ in pairs)
        twice.extend(key for key, count in counted.items() if count > 1)
        return dict(pairs)

    json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=note_twice)
    wrong += [f"the key {key!r} appears twice in one place" for key in dict.fromkeys(twice)]
    for place, value in _walk(result.model_dump(mode="python"), ""):
        if isinstance(value, str) and not place.endswith(".webp") and not _is_plain(value):
            wrong.append(f"{place} contains invisible characters: {value[:60]!r}")
        elif isinstance(value, str) and not place.endswith(".webp") and value.startswith(FORMULA):
            wrong.append(f"{place} begins like a formula, which a spreadsheet would compute: {value[:60]!r}")
        elif isinstance(value, float) and not math.isfinite(value) and not _may_be_infinite(place, value):
            wrong.append(f"{place} is {value}")
        elif isinstance(value, int) and abs(value) > 2**53:
            wrong.append(f"{place} is larger than any number that vimi writes")
    sentence = "Every number is finite, no key appears twice, and no text contains invisible characters."
    return conclude("text", wrong, sentence, "The file contains things that vimi never writes.")


def _walk(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield every plain value, and every key, with its place: ``scores[3].value``."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"the key of {place or 'the file'}", str(key)
            yield from _walk(item, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _walk(item, f"{place}[{number}]")
    else:
        yield place, value


def _is_plain(text: str) -> bool:
    """Whether a text shows as what it is: no control characters, nothing that changes the direction of writing."""
    return not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") for character in text)


def _may_be_infinite(place: str, value: float) -> bool:
    return bool(re.fullmatch(r"scores\[\d+\]\.(low|high)", place)) and not math.isnan(value)


def _check_hash(result: Result) -> Inspection:
    if result.is_sealed:
        return Inspection("hash", True, f"The hash {result.hash} matches its content.")
    return Inspection(
        "hash", False, "The file was changed after it was written.",
        (f"the file says {result.hash or 'nothing'}, its content gives {result.sealed().hash}",),
    )  # fmt: skip


def _check_place(path: Path, result: Result) -> Inspection:
    parts = len(result.place.parts)
    lies = Path(*path.absolute().parts[-parts:])
    folder = _folder_of(path)
    direct = folder is None or path.absolute().parent == (folder / result.place).parent
    if lies == result.place and direct:
        return Inspection("place", True, f"It is in the folder that its content says: {result.place}.")
    below = path.absolute().relative_to(folder) if folder is not None else lies
    return Inspection("place", False, "It is not in the folder that its content says.",
                      (f"it is at {below}, but belongs at {result.place}",))  # fmt: skip


# -------------------------------------------------------------------- published results


def _check_published(result: Result) -> Inspection:
    """Compare a published result with the means that come with vimi."""
    if result.model.kind != "published" or not result.source:
        return Inspection(
            "published", False,
            f"A result with a source was imported and one without was measured: this one is {result.model.kind}, "
            f"and its source is {result.source or 'not named'}.",
        )  # fmt: skip
    if result.machines or result.people or result.units or result.pictures:
        return Inspection("published", False, "A published result has no counts, units or pictures, but this one has.")
    known = {own.model.name: own for own in make_published_results()}
    if result.model.name not in known:
        return Inspection(
            "published", False,
            f"vimi has no published numbers of {result.model.name} to compare with. "
            f"{suggest(result.model.name, known)}",
        )  # fmt: skip
    own = known[result.model.name]
    wrong = list(compare_scores(result.scores, own.scores, "the published means are"))
    ours, theirs = own.content, result.content
    wrong += [
        f"{name} differs from what vimi writes: {spell(theirs[name])}"
        for name in ours
        if name not in ("scores", "made", "replaces") and ours[name] != theirs[name]
    ]
    return conclude(
        "published", wrong, "Without counts, as published; it equals the means of 2023 that come with vimi.",
        "It differs from the publication.",
    )  # fmt: skip


# -------------------------------------------------------------------- other results


def _check_others(result: Result, others: Sequence[Result], all_known: bool) -> Inspection:
    """Check that a result does not contradict others, nor takes the place of what it may not.

    Whether a file that it takes the place of is missing can be told only where all that lie beside it are known.
    """
    wrong = list(dict.fromkeys(_contradictions(result, others)))
    by_hash = {other.hash: other for other in others}
    for hash in result.replaces:
        if hash == result.hash or not HASH.fullmatch(hash):
            wrong.append(f"it replaces {hash[:40]!r}, which is not the hash of another file")
        elif hash in by_hash:
            other = by_hash[hash]
            mine, theirs = _identity(result), _identity(other)
            if mine != theirs:
                wrong.append(f"it replaces {other.label}, which is about something else")
            elif not result.covers(other):
                wrong.append(f"it replaces {other.place}, but lacks counts that are there")
        elif all_known:
            wrong.append(f"it replaces {hash}, which does not exist")
    good = f"It contradicts none of {len(others)} others." if others else "There are no others to compare it with."
    return conclude("others", wrong, good, "It contradicts other result files.")


def _identity(result: Result) -> tuple[str, ...]:
    """Return what a result and those that it takes the place of share."""
    return (result.model.name, result.model.weights, result.protocol.identity, result.pool.identity)


def _contradictions(result: Result, others: Sequence[Result]) -> Iterator[str]:
    gone = {hash for own in (result, *others) for hash in own.replaces}
    mine = {own.key: (own.right, own.answered) for own in every_count(result)}
    for other in others:
        if other.model.kind == "published" or result.model.kind == "published":
            continue
        if other.model.weights == result.model.weights and other.model.name != result.model.name:
            yield f"the weights {result.model.weights} are those of {other.model.name}"
        if other.model.name == result.model.name and _is_fixed(result) and other.model.weights != result.model.weights:
            yield f"{result.model.name} has the weights {other.model.weights} in {other.place}"
        if result.hash in gone or other.hash in gone or _identity(result) != _identity(other):
            continue
        shown = {(facts.condition, facts.hash) for facts in result.stimuli}
        if shown & {(facts.condition, facts.hash) for facts in other.stimuli} and not result.has_units_of(other):
            yield f"{other.place} shows the same pictures but differs in its units or flags"
        for counts in every_count(other):
            here, there = result.shown(counts.condition), other.shown(counts.condition)
            alike = here is not None and there is not None and here.hash == there.hash
            if alike and counts.key in mine and mine[counts.key] != (counts.right, counts.answered):
                yield (
                    f"{name_cell(counts)}: {other.place} has other counts; keep one, or list the other under 'replaces'"
                )


def _is_fixed(result: Result) -> bool:
    """Whether a model's name says which weights it has: those of a card, or of a tag of timm's."""
    name = result.model.name
    return result.model.kind == "trained" and (name in card_names() or name == result.model.architecture)
