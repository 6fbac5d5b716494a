"""A hosted study: its trials, its texts, its database and its keys."""

from __future__ import annotations

import hashlib
import hmac
import time as time_module
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from benchmark import __version__
from benchmark.database import PILOT, Database, database_url, hosting_identity
from benchmark.documents import BLANK
from benchmark.errors import HostingError
from benchmark.experiment import RecruitmentSettings
from benchmark.protocol import SessionRules
from benchmark.study import Study
from webapp.layout import SessionSlots
from webapp.recruitment import RECRUITERS, Outcome, Recruiter, completion_code
from webapp.renditions import Renditions
from webapp.store import SECRET, open_store, read_setting, secret_key, write_setting
from webapp.wording import Wording

if TYPE_CHECKING:
    from webapp.result_files import ResultFiles


STEP_SECONDS = 2.0
"""By how much the machine's clock may leave ours before that is said: more than what it is usually corrected by."""


def _running_seconds() -> float:
    """Return seconds of a steady clock, which also runs while the machine sleeps and ignores clock changes."""
    boot = getattr(time_module, "CLOCK_BOOTTIME", None)
    return monotonic() if boot is None else time_module.clock_gettime(boot)


class SteadyClock:
    """Tells the time in seconds since 1970, and never jumps: durations are right though the machine's clock is set.

    It starts with the machine's clock and goes on by itself. If the two part, that is said once; the next start of the
    server follows the machine's.

    Parameters
    ----------
    wall
        The machine's clock.
    running
        Seconds that go on evenly.
    """

    def __init__(self, wall: Callable[[], float] = time, running: Callable[[], float] = _running_seconds) -> None:
        self._wall, self._running = wall, running
        self._ahead = wall() - running()
        self._said = False

    def __call__(self) -> float:
        """Return the time."""
        now = self._running() + self._ahead
        parted = self._wall() - now
        if abs(parted) > STEP_SECONDS and not self._said:
            self._said = True
            print(
                f"The machine's clock was set {'back' if parted < 0 else 'forward'} by {abs(parted):,.0f} s. vimi "
                "keeps its own steady time for answers, so durations stay correct; after a restart it follows the "
                "machine's clock."
            )
        return now


@dataclass
class Hosting:
    """Everything that serving a study needs.

    Attributes
    ----------
    study
        The study.
    database
        Where sessions and answers are kept.
    identity
        The study's name in the database.
    layout
        Its session slots.
    wording
        The texts that participants read.
    keys
        Keys of the laboratory by purpose.
    pilot
        Whether answers belong to a pilot.
    preview
        Whether somebody only looks: the database is thrown away.
    plain
        Whether trials are drawn with plain buttons instead of the component.
    bots
        Whether simulated people may take part, over HTTP too.
    result_files
        What the page of the leaderboard shows; there is no such page without any.
    clock
        Tells the time, in seconds since 1970.
    """

    study: Study
    database: Database
    identity: str
    layout: SessionSlots
    wording: Wording
    keys: dict[str, bytes]
    pilot: bool = False
    preview: bool = False
    plain: bool = False
    bots: bool = False
    result_files: ResultFiles | None = None
    clock: Callable[[], float] = field(default_factory=SteadyClock)

    @cached_property
    def rules(self) -> SessionRules:
        """The protocol's rules on sessions."""
        return self.study.protocol.rules.session

    @cached_property
    def recruitment(self) -> RecruitmentSettings:
        """Where people come from."""
        return self.study.experiment.recruitment

    @property
    def recruiter(self) -> Recruiter:
        """Whose links are expected."""
        return RECRUITERS[self.recruitment.recruiter]

    @property
    def resume_seconds(self) -> float:
        """How long a silent session is kept."""
        return self.study.experiment.hosting.resume_minutes * 60

    @cached_property
    def payment_usd(self) -> float:
        """Pay of a session."""
        given = self.recruitment.payment_usd
        return self.rules.payment_usd if given is None else given

    def part_payment_usd(self, outcome: str | None) -> float:
        """Return what somebody is paid who consented and was then sent away with this outcome."""
        return {
            "failed practice": self.recruitment.partial_payment_usd, "full": self.recruitment.full_payment_usd,
        }.get(outcome or "", 0.0)  # fmt: skip

    @cached_property
    def consent_values(self) -> dict[str, object]:
        """Values for the consent text."""
        missing = self.wording.label("not_stated")
        fields = ("ethics_approval", "controller", "contact", "retention", "pool_licence")
        return {
            **{name: self.recruitment.stated(name) or missing for name in fields},
            "minutes": round(self.rules.typical_seconds / 60),
            "payment": self.wording.label("payment_some", amount=f"{self.payment_usd:.2f}")
            if self.payment_usd
            else self.wording.label("payment_none"),
            "trials": self.rules.main_trials + self.rules.catch_trials,
            "megabytes": self.megabytes,
        }

    @cached_property
    def renditions(self) -> Renditions:
        """The pictures as they are sent."""
        return Renditions(self.study, self.layout.queries, self.identity)

    @cached_property
    def trial_bytes(self) -> float:
        """Bytes of the pictures of a trial, as stored in the study."""
        return self.renditions.mean_bytes * (2 * self.study.protocol.references_per_side + 2)

    @property
    def megabytes(self) -> int:
        """How much a session loads, in round megabytes: at most, since most windows show pictures smaller."""
        rules = self.rules
        practice = rules.practice_obvious + rules.practice_less_obvious
        trials = rules.main_trials + rules.catch_trials + practice
        return max(1, round(self.trial_bytes * trials / 1e6 + 2))

    @property
    def consent_hash(self) -> str:
        """Hash of the consent text, as participants see it now: its file may be edited while the server runs."""
        return self.wording.consent_hash(**self.consent_values)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What is stored with every answer: versions and hashes of what was shown."""
        study = self.study.hash
        return {
            "protocol": self.study.protocol.identity,
            "study_hash": PILOT + study if self.pilot else study,
            "stimuli_hash": self.study.stimuli_hash,
            "vimi_version": __version__,
        }

    @cached_property
    def weights(self) -> dict[str, str]:
        """Hash of every model's weights."""
        return {name: facts["weights_hash"] for name, facts in self.study.manifest["models"].items()}

    @cached_property
    def closed_because(self) -> list[str]:
        """Required fields that are still empty; none if nobody is recruited."""
        if self.preview or self.bots or (self.pilot and self.recruitment.recruiter == "open"):
            return []
        return self.recruitment.unfilled

    @cached_property
    def door_key(self) -> bytes:
        """The key of the cookies that the experimenter's devices keep."""
        return hmac.new(self.keys["trials"], b"door", hashlib.sha256).digest()

    def code(self, outcome: Outcome) -> str:
        """Return the completion code of an outcome."""
        return completion_code(self.recruitment, self.identity, outcome)

    def trial_token(self, session: int, trial: str) -> str:
        """Return the token of a session's trial: it can't be guessed and reveals nothing about the trial."""
        message = f"{self.identity}\x1f{session}\x1f{trial}".encode()
        return hmac.new(self.keys["trials"], message, hashlib.sha256).hexdigest()[:32]


def open_hosting(
    study: Study,
    url: str = "",
    *,
    pilot: bool = False,
    preview: bool = False,
    plain: bool = False,
    bots: bool = False,
    result_files: ResultFiles | None = None,
    clock: Callable[[], float] | None = None,
) -> Hosting:
    """Prepare a study for being hosted: open its database, lay out its slots, read its texts.

    Parameters
    ----------
    study
        A study with trials.
    url
        The database, if it is not the study's own nor the one that ``VIMI_DATABASE`` names.
    pilot, preview, plain, bots, result_files, clock
        As in :class:`Hosting`.

    Raises
    ------
    StageMissing
        If the study has no trials yet.
    HostingError
        If its texts can't be read.
    DatabaseError
        If the database can't be used.
    """
    layout = SessionSlots(study)
    wording = Wording(study.experiment.texts.language, study.root / "texts")
    database = open_store(database_url(study, url))
    with database.writing() as connection:
        keys = {name: secret_key(connection, name) for name in ("people", "trials")}
    identity = hosting_identity(study, create=True)
    hosting = Hosting(
        study, database, identity, layout, wording, keys, pilot, preview, plain, bots, result_files,
        clock or SteadyClock(),
    )  # fmt: skip
    # Read together with the slots: an extension that takes the study's place later is not what is shown here.
    _ = hosting.provenance, hosting.weights
    return hosting


def check_texts(hosting: Hosting) -> None:
    """Check that no text that participants read has a blank; a preview may show one.

    Raises
    ------
    HostingError
        If one has; the message names the files and lines.
    """
    blanks = [] if hosting.preview or hosting.bots else hosting.wording.blanks()
    if blanks:
        texts = hosting.study.experiment.texts
        source = texts.folder or texts.consent or hosting.study.root / "texts"
        raise HostingError(
            f'Texts for participants still say "{BLANK}": {", ".join(blanks)}. Fill in the blanks in {source} and '
            "start again. Until then, --preview shows the pages."
        )


def check_key(hosting: Hosting, accept: bool = False) -> None:
    """Check that people are recognised with the key that they were recognised with before.

    With another key, everybody would be new: one person could take part again, and nobody could go on.

    Parameters
    ----------
    hosting
        The hosted study.
    accept
        Take the key as it is now for the study's own: the earlier one is lost.

    Raises
    ------
    HostingError
        If the key is another one.
    """
    mark = hmac.new(hosting.keys["people"], b"fingerprint", hashlib.sha256).hexdigest()[:16]
    with hosting.database.writing() as connection:
        known = read_setting(connection, hosting.identity, "key", mark)
        if known != mark and not accept:
            raise HostingError(
                f"The key that recognises returning participants is not the one that {hosting.study.root} was hosted "
                f"with before: {SECRET} was set, changed or left out. Set it to its old value. If that is lost, give "
                "--new-key to continue with the present key; vimi then no longer recognises people who took part "
                "before."
            )
        write_setting(connection, hosting.identity, "key", mark)
