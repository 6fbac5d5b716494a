"""Freezing a plan: its content, hash and date, the state of the study at that moment, and whether it was edited since.

The hash shows that a file is the one that was frozen only to who has noted the hash elsewhere, for whoever edits the
file can compute a new one. Send it to a public registry, or to somebody.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.preregistration.plan import Plan, check_plan, read_plan
from analysis.results import ShownAsText
from benchmark import __version__
from benchmark.documents import parse
from benchmark.errors import AnalysisError
from benchmark.hashing import hash_settings
from benchmark.storage import write_json
from benchmark.study import Study

NAME = "preregistration"
_FORMAT = 1


@dataclass(frozen=True)
class Preregistration(ShownAsText):
    """A frozen plan.

    Attributes
    ----------
    plan
        The plan.
    hash
        Hash of everything else in the file: the first 128 bits of a SHA-256 over its canonical spelling.
    frozen_at
        When it was frozen, in UTC.
    vimi
        Version of vimi that froze it.
    answers, people, sessions
        How many main answers, people and sessions were in by then; simulated people are counted apart.
    simulated_answers
        Answers of simulated people by then.
    amends
        Hash of the plan that this one amends; empty for a first one.
    path
        The file.
    """

    plan: Plan
    hash: str
    frozen_at: datetime
    vimi: str
    answers: int
    people: int
    sessions: int
    simulated_answers: int
    amends: str
    path: Path

    def __str__(self) -> str:
        when = f"{self.frozen_at:%Y-%m-%d %H:%M} UTC"
        state = "before any answer" if not self.answers else f"after {self.answers:,} answers of {self.people} people"
        return f"registered {state}, on {when}, hash {self.hash}" + (f", amending {self.amends}" if self.amends else "")


def preregister(
    study: Study | Path | str, plan: Path | str, *, amend: bool = False, database: str = ""
) -> Preregistration:
    """Freeze a plan into a study's folder.

    Only numbers of answers are looked at, never what they are.

    Parameters
    ----------
    study
        The study, or its folder.
    plan
        The file of the plan.
    amend
        Freeze an amendment beside the plan that was frozen before, which stays.
    database
        URL of the database, if it is not the study's own nor the one that ``VIMI_DATABASE`` names.

    Raises
    ------
    DocumentError
        If the plan has blanks or mistakes.
    AnalysisError
        If the plan is not about this study, or one was frozen before and this is no amendment.
    """
    from benchmark.responses import read_responses

    study = Study.open(study)
    content = read_plan(plan)
    check_plan(content, study)
    earlier = preregistrations(study)
    if earlier and not amend:
        raise AnalysisError(
            f"A plan is already frozen: {earlier[-1].path} ({earlier[-1]}). It can't be changed. To change the plan, "
            "freeze an amendment."
        )
    if amend and not earlier:
        raise AnalysisError(f"{study.root} has no frozen plan to amend.")
    responses = read_responses(study, database)
    main = responses[responses["kind"] == "main"]
    human = main[main["observer_kind"] == "human"]
    values: dict[str, Any] = {
        "format": _FORMAT,
        "vimi": __version__,
        "frozen_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "state": {
            "answers": len(human),
            "people": int(human["observer"].nunique()),
            "sessions": int(human["session"].nunique()),
            "simulated_answers": int((main["observer_kind"] == "simulated").sum()),
        },
        "amends": earlier[-1].hash if earlier else "",
        "plan": content.model_dump(mode="json"),
    }
    values["hash"] = hash_settings(values)
    path = study.root / (f"{NAME}.json" if not earlier else f"{NAME}-{len(earlier) + 1}.json")
    write_json(path, values)
    return read_preregistration(path)


def preregistrations(study: Study | Path | str) -> list[Preregistration]:
    """Return a study's frozen plans, the first one first; each is verified.

    Raises
    ------
    AnalysisError
        If one was edited, or does not amend the one before it.
    """
    root = study.root if isinstance(study, Study) else Path(study)
    found: list[Preregistration] = []
    while (path := root / (f"{NAME}.json" if not found else f"{NAME}-{len(found) + 1}.json")).is_file():
        one = read_preregistration(path)
        if one.amends != (found[-1].hash if found else ""):
            raise AnalysisError(f"{path} does not amend the plan before it.")
        found.append(one)
    return found


def read_preregistration(path: Path | str, expected: str = "") -> Preregistration:
    """Read a frozen plan, and check that it is as it was frozen.

    Parameters
    ----------
    path
        The file.
    expected
        The hash that was noted elsewhere, if any.

    Raises
    ------
    AnalysisError
        If the file is missing, was edited, or is not the one whose hash was noted.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{path} can't be read as a frozen plan: {error}") from None
    if not isinstance(values, dict) or values.get("format") != _FORMAT or "hash" not in values:
        raise AnalysisError(f"{path} is not a frozen plan that this version of vimi reads.")
    stated = values.pop("hash")
    found = hash_settings(values)
    if stated != found:
        raise AnalysisError(
            f"{path} was edited after it was frozen: it states the hash {stated}, but its content has {found}. "
            "Restore the file, and make changes in an amendment."
        )
    if expected and expected != stated:
        raise AnalysisError(f"{path} has the hash {stated}, not {expected}: it is not the plan that was noted.")
    try:
        state = values["state"]
        return Preregistration(
            parse(Plan, values["plan"], str(path)), stated, datetime.fromisoformat(values["frozen_at"]),
            str(values["vimi"]), int(state["answers"]), int(state["people"]), int(state["sessions"]),
            int(state["simulated_answers"]), str(values["amends"]), path,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise AnalysisError(f"{path} is not a complete frozen plan: {error}") from None
