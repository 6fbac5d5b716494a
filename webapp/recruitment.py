"""Recruiters: what their links say, and how a participant gets back to them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from benchmark.experiment import RecruitmentSettings
from benchmark.hashing import hash_settings

Outcome = Literal["complete", "screened out", "no consent", "failed practice", "timed out", "full"]
OUTCOMES: tuple[Outcome, ...] = ("complete", "screened out", "no consent", "failed practice", "timed out", "full")

LONGEST_PARAMETER = 200
"""Characters of a link's parameter that are read; anything longer is no identifier."""


@dataclass(frozen=True)
class Recruiter:
    """How a recruiter names people in its links, and where they go back to.

    Attributes
    ----------
    name
        As in ``[recruitment] recruiter``.
    person, submission, study
        Names of the link's parameters: the person, this participation of theirs, and the recruiter's own study.
    return_url
        Where participants go back to, unless the experiment says something else.
    preview
        A value of the submission parameter that means: somebody only looks.
    """

    name: str
    person: str = ""
    submission: str = ""
    study: str = ""
    return_url: str = ""
    preview: str = ""


RECRUITERS: dict[str, Recruiter] = {
    recruiter.name: recruiter
    for recruiter in (
        Recruiter("open"),
        Recruiter(
            "prolific", "PROLIFIC_PID", "SESSION_ID", "STUDY_ID",
            "https://app.prolific.com/submissions/complete?cc={code}",
        ),
        Recruiter("mturk", "workerId", "assignmentId", "hitId", preview="ASSIGNMENT_ID_NOT_AVAILABLE"),
        Recruiter("sona", "id", "", "experiment_id"),
    )
}  # fmt: skip
"""Every recruiter, by name."""


@dataclass(frozen=True)
class Visitor:
    """Whom a link names.

    Attributes
    ----------
    person
        The recruiter's identifier of the person.
    submission
        Its identifier of this participation; empty if it has none.
    study
        Its own study; empty if the link does not say.
    """

    person: str
    submission: str = ""
    study: str = ""


def read_link(recruiter: Recruiter, parameters: Mapping[str, str]) -> Visitor | None:
    """Return whom a link names, or None if it names nobody or only previews.

    Parameters
    ----------
    recruiter
        Whose links are expected.
    parameters
        Parameters of the link.
    """
    values = {
        name: parameters.get(key, "").strip() if key else ""
        for name, key in (
            ("person", recruiter.person), ("submission", recruiter.submission), ("study", recruiter.study),
        )
    }  # fmt: skip
    if not values["person"] or any(len(value) > LONGEST_PARAMETER or "{" in value for value in values.values()):
        return None  # a placeholder that the recruiter did not fill names nobody
    if recruiter.submission and not values["submission"]:
        return None
    if recruiter.preview and values["submission"] == recruiter.preview:
        return None
    return Visitor(**values)


def hash_identifier(key: bytes, recruiter: str, identifier: str) -> str:
    """Return the keyed hash (HMAC-SHA-256) by which a person is recognised without being known."""
    return hmac.new(key, f"{recruiter}\x1f{identifier}".encode(), hashlib.sha256).hexdigest()


def completion_code(settings: RecruitmentSettings, study: str, outcome: Outcome) -> str:
    """Return the code for an outcome: as the experiment sets it, or made from the study."""
    given = str(getattr(settings.codes, outcome.replace(" ", "_")))
    return given or "V" + hash_settings(["completion code", study, outcome])[:7].upper()


def return_address(settings: RecruitmentSettings, code: str, visitor: Visitor | None, pseudonym: str) -> str:
    """Return where a participant goes back to; empty if the recruiter takes the code by hand."""
    template = settings.return_url or RECRUITERS[settings.recruiter].return_url
    values = {
        "code": code,
        "participant": visitor.person if visitor else pseudonym,
        "submission": visitor.submission if visitor else "",
        "study": visitor.study if visitor else "",
    }
    for name, value in values.items():
        template = template.replace("{" + name + "}", quote(value, safe=""))
    return template
