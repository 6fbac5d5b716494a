"""Recruiters: the format of their links, how participants return to them, and what to paste into their forms."""

from __future__ import annotations

import hashlib
import hmac
import re
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

_IDENTIFIER = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.@-]{{0,{LONGEST_PARAMETER - 1}}}")
"""What recruiters' identifiers look like. Anything else in a link is a placeholder that was not filled, or somebody's
attempt to get a formula into the experimenter's table of payments."""


@dataclass(frozen=True)
class Recruiter:
    """How a recruiter names people in its links, and where they return to.

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
    query
        What the recruiter fills into a link.
    advice
        What to do with the link.
    """

    name: str
    person: str = ""
    submission: str = ""
    study: str = ""
    return_url: str = ""
    preview: str = ""
    query: str = ""
    advice: str = ""


RECRUITERS: dict[str, Recruiter] = {
    recruiter.name: recruiter
    for recruiter in (
        Recruiter("open", advice="Give this link to anybody. Everyone who opens it gets a personal link to come back."),
        Recruiter(
            "prolific", "PROLIFIC_PID", "SESSION_ID", "STUDY_ID",
            "https://app.prolific.com/submissions/complete?cc={code}",
            query="?PROLIFIC_PID={{%PROLIFIC_PID%}}&STUDY_ID={{%STUDY_ID%}}&SESSION_ID={{%SESSION_ID%}}",
            advice="Paste it as the study's URL, choose 'I'll use URL parameters', and enter the codes below.",
        ),
        Recruiter(
            "mturk", "workerId", "assignmentId", "hitId", preview="ASSIGNMENT_ID_NOT_AVAILABLE",
            advice=("Put this into the HTML of a survey-link HIT, next to a text field for the code; it passes on the "
                "worker's identifiers:\n<a id=\"vimi\" target=\"_blank\">Open the "
                'study</a>\n<script>document.getElementById("vimi").href = "{address}" + '
                "window.location.search</script>"),
        ),
        Recruiter(
            "sona", "id", "", "experiment_id", query="?id=%SURVEY_CODE%",
            advice="Paste it as the study's URL. Copy SONA's completion URL for the client side into [recruitment] "
            "return_url, with {participant} in place of XXXX: it is then used for complete sessions only.",
        ),
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
    """Return the participant that a link names, or None if it names nobody or is a preview.

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
    if not values["person"] or any(value and not _IDENTIFIER.fullmatch(value) for value in values.values()):
        return None
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


def return_address(
    settings: RecruitmentSettings,
    code: str,
    visitor: Visitor | None,
    pseudonym: str,
    outcome: Outcome = "complete",
) -> str:
    """Return where a participant returns to; empty if the recruiter takes the code by hand.

    An address without ``{code}`` grants credit to whoever opens it: only those get it who have finished.
    """
    template = settings.return_url or RECRUITERS[settings.recruiter].return_url
    if outcome != "complete" and "{code}" not in template:
        return ""
    values = {
        "code": code,
        "participant": visitor.person if visitor else pseudonym,
        "submission": visitor.submission if visitor else "",
        "study": visitor.study if visitor else "",
    }
    for name, value in values.items():
        template = template.replace("{" + name + "}", quote(value, safe=""))
    return template


# -------------------------------------------------------------------- what to paste into a recruiter's form


MEANINGS: dict[Outcome, str] = {
    "complete": "finished: approve and pay, even if an exclusion rule fails",
    "screened out": "window too small, or a browser that can't show the task: ask to return",
    "no consent": "did not consent: ask to return",
    "failed practice": "failed the practice: ask to return, never reject",
    "timed out": "away for too long: ask to return",
    "full": "no place was left: ask to return",
}
"""What a completion code says, and what to do about it at the recruiter."""


@dataclass(frozen=True)
class Briefing:
    """What an experimenter enters at the recruiter.

    Attributes
    ----------
    recruiter
        Its name.
    link
        The link to paste.
    advice
        What to do with it.
    codes
        Completion code by outcome.
    meanings
        What a code says, and what to do about it, by outcome.
    unfilled
        Settings that must be filled before the link works.
    """

    recruiter: str
    link: str
    advice: str
    codes: dict[Outcome, str]
    meanings: dict[Outcome, str]
    unfilled: list[str]


def meanings_of(settings: RecruitmentSettings) -> dict[Outcome, str]:
    """Return the meaning of each code, with the payment of people who are sent away."""
    meanings = dict(MEANINGS)
    parts: tuple[tuple[Outcome, float], ...] = (
        ("failed practice", settings.partial_payment_usd), ("full", settings.full_payment_usd),
    )  # fmt: skip
    for outcome, amount in parts:
        if amount:
            meanings[outcome] += f", and pay USD {amount:.2f} as vimi payments says"
    return meanings


def brief(settings: RecruitmentSettings, study: str, address: str) -> Briefing:
    """Say what to enter at the recruiter.

    Parameters
    ----------
    settings
        ``[recruitment]`` of the experiment.
    study
        The study's name in the database.
    address
        Where people reach the server: ``https://study.example.org``.
    """
    recruiter = RECRUITERS[settings.recruiter]
    root = address.rstrip("/") + "/"
    return Briefing(
        recruiter.name,
        root + recruiter.query,
        recruiter.advice.replace("{address}", root),
        {outcome: completion_code(settings, study, outcome) for outcome in OUTCOMES},
        meanings_of(settings),
        settings.unfilled,
    )
