"""Settings that every estimator takes, by the same four words.

    settings = Settings(level=0.9, seed=3)
    estimate_proportions(answers, **settings)
    estimate_reliability(answers, **settings)
    estimate_reliability(answers, level=0.9)

An estimator that draws nothing ignores ``resamples`` and ``seed``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypedDict, get_type_hints

from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL

RESAMPLES = 2000


class Settings(TypedDict, total=False):
    """How intervals are made. Every setting may be left out.

    Attributes
    ----------
    level
        Coverage of intervals: .95.
    resamples
        Replicates of bootstraps: 2,000, unless the estimator says otherwise.
    seed
        Of everything that is drawn at random: 0.
    threads
        Threads of linear algebra; as many as there are processors if None.
    """

    level: float
    resamples: int
    seed: int
    threads: int | None


@dataclass(frozen=True)
class Chosen:
    """Settings that are complete and valid."""

    level: float = LEVEL
    resamples: int = RESAMPLES
    seed: int = 0
    threads: int | None = None


def choose(settings: Settings, *, resamples: int = RESAMPLES, level: float = LEVEL) -> Chosen:
    """Return all settings, those left out by their defaults.

    Parameters
    ----------
    settings
        What was asked for.
    resamples, level
        Defaults of the estimator, where they are its own.

    Raises
    ------
    TypeError
        If there is no such setting.
    AnalysisError
        If a setting is out of range.
    """
    known = get_type_hints(Settings)
    for name in settings:
        if name not in known:
            raise TypeError(f"There is no setting {name!r}; the settings are {', '.join(known)}.")
    chosen = Chosen(**{"resamples": resamples, "level": level, **settings})  # type: ignore[arg-type]
    if not (isinstance(chosen.level, float) and 0 < chosen.level < 1):
        raise AnalysisError(f"level is the coverage of intervals, between 0 and 1, such as 0.95; got {chosen.level!r}.")
    if not _is_whole(chosen.resamples) or chosen.resamples < 1:
        raise AnalysisError(f"resamples is a whole number from 1 on; got {chosen.resamples!r}.")
    if not _is_whole(chosen.seed) or chosen.seed < 0:
        raise AnalysisError(f"seed is a whole number from 0 on; got {chosen.seed!r}.")
    if chosen.threads is not None and (not _is_whole(chosen.threads) or chosen.threads < 1):
        raise AnalysisError(f"threads is a whole number from 1 on; got {chosen.threads!r}.")
    return chosen


def _is_whole(value: object) -> bool:
    """Whether a value is a whole number (numpy's too), which True is not."""
    return not isinstance(value, bool) and hasattr(value, "__index__") and math.isfinite(int(value))
