"""All errors, and how they are worded.

Every error names what is wrong, where, and what to do next. The command line prints the message alone and
leaves with the exit code of the error; a traceback is only ever shown for a defect of vimi itself.

    VimiError                  exit code 2: something the user can put right
    ├── DocumentError          a TOML file: unknown key, wrong type, unreadable
    ├── NameNotFound           an unknown model, layer, unit, observer, pool or protocol
    ├── CardError              a model card that does not fit its model
    ├── WeightsError           weights that are missing, or can't be loaded safely
    ├── PoolError              pictures
    │   ├── UnreadablePicture  a file that is not a picture, or is broken
    │   └── PoolTooSmall       fewer pictures than the protocol needs
    ├── ActivationError        activations that can't be ranked
    │   └── NonFiniteActivation
    ├── StudyError             the study folder
    │   ├── StudyLocked        another process is building it
    │   ├── StudyMismatch      it was built from something else
    │   └── StageMissing       an earlier stage has not run
    ├── ObserverError          an observer that can't answer
    ├── EngineError            workers that can't be reached, or can't do their work
    ├── DatabaseError          the database of people's answers
    ├── HostingError           the hosted task: settings, texts, links, codes
    ├── ImportFailure          imported answers that do not match their description
    ├── AnalysisError          answers that do not support an analysis, or an incomplete request
    ├── LeaderboardError       a model that can't be added, or a result file that fails verification
    └── StorageError           the disk is full, or can't be written (exit code 1)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class VimiError(Exception):
    """Base of every error that vimi raises on purpose."""

    exit_code = 2


class DocumentError(VimiError):
    """A TOML document has an unknown key, a wrong value or can't be read."""


class NameNotFound(VimiError):
    """A name is not among the known ones; the message suggests the near ones."""

    def __init__(self, kind: str, name: str, options: Iterable[str], hint: str = "") -> None:
        super().__init__(f"There is no {kind} {name!r}. {suggest(name, options)}{' ' + hint if hint else ''}")


class CardError(VimiError):
    """A model card contradicts its model, or lacks something that only its author can know."""


class WeightsError(VimiError):
    """Weights are missing, do not fit, or could only be loaded by running code from the file."""


class PoolError(VimiError):
    """A pool of pictures is missing, empty or malformed."""


class UnreadablePicture(PoolError):
    """A file of the pool is not a picture, or is broken."""


class PoolTooSmall(PoolError):
    """The pool has fewer pictures than the protocol's windows need."""


class ActivationError(VimiError):
    """Activations can't be measured, stored or ranked."""


class NonFiniteActivation(ActivationError):
    """A model produced NaN or infinity."""


class BasisError(VimiError):
    """A basis does not fit its layer, can't be trained, or can't be read."""


class StudyError(VimiError):
    """The study folder is not in the state that the call needs."""


class StudyLocked(StudyError):
    """Another process is building the same study."""


class StudyMismatch(StudyError):
    """The study was built from another experiment, protocol, pool or set of weights."""


class StageMissing(StudyError):
    """A stage was requested before its inputs exist."""


class ObserverError(VimiError):
    """An observer can't answer these trials."""


class EngineError(VimiError):
    """The workers of an engine can't be reached, or can't do what this process would do."""


class DatabaseError(VimiError):
    """The database of people's answers can't be reached, read or understood."""


class HostingError(VimiError):
    """The hosted task can't be set up, or was asked for something it does not have."""


class ImportFailure(VimiError):
    """Imported answers do not match their mapping, or the description of their release."""


class AnalysisError(VimiError):
    """The answers do not support the requested analysis, or the request is incomplete."""


class LeaderboardError(VimiError):
    """A model can't be added to the leaderboard, or a result file can't be read or fails verification."""


class StorageError(VimiError):
    """Something could not be written."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """Return the first line of what somebody else's error says, its type if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def spell_error(error: BaseException, most: int = 300) -> str:
    """Return the type of somebody else's error, and the first line of what it says."""
    name = type(error).__name__
    return f"{name}: {first_line(error)[:most]}" if str(error).strip() else name


def common_prefix(names: Iterable[str]) -> str:
    """Return the first part of all names, with its point, if they share one: ``module.``; empty otherwise."""
    first = {name.partition(".")[0] + "." for name in names if "." in name} | {"" for name in names if "." not in name}
    return first.pop() if len(first) == 1 else ""


def name_some(names: Sequence[str], most: int = 3) -> str:
    """Name a few of many, with their number."""
    if not names:
        return "nothing"
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def is_near(name: str, options: Iterable[str]) -> bool:
    """Whether a name may be one of the options, mistyped."""
    return bool(_near(name, options, 1))


def _near(name: str, options: Iterable[str], most: int) -> list[str]:
    folded = {option.casefold(): option for option in sorted(set(options))}
    return [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=most, cutoff=0.6)]


def suggest(name: str, options: Iterable[str], most: int = 3) -> str:
    """Return "Did you mean ...?" for the options nearest to a name, or the options themselves if few."""
    known = sorted(set(options))
    near = _near(name, known, most)
    if near:
        return f"Did you mean {' or '.join(repr(option) for option in near)}?"
    if not known:
        return "None is known."
    shown = ", ".join(known[:12]) + (f", … ({len(known)} in all)" if len(known) > 12 else "")
    return f"Known: {shown}."
