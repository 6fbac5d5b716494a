"""How many more sessions until the interval is as narrow as asked, from the answers so far.

More sessions make people's luck and answers' luck smaller, but not that of the units which were drawn: where the
units alone make the interval wider than asked, no number of sessions will do, and more units are needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np
import pandas as pd
from scipy.stats import chi2

from analysis.estimands import spell_estimand
from analysis.results import Record
from analysis.settings import Settings, choose
from analysis.threads import threaded
from analysis.variance_components import Components, split_variance
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL, Estimate

WIDTH = 0.02
"""Of an interval of +-1 point."""

KEYS = ["model", "condition", "difficulty"]


@dataclass(frozen=True)
class Outlook(Record):
    """What more sessions would do for one model's mean.

    Attributes
    ----------
    model, condition, difficulty
        Whose mean.
    width
        The width asked for.
    components
        Variance components of the answers so far.
    sessions
        Sessions so far: of the model if people are nested in models, of the condition if sessions mix models.
    units
        Units that will be asked about.
    width_now, narrowest
        The width now, and after endless sessions about these units.
    more
        Sessions still needed; infinity if no number will do.
    units_needed
        Units that the width needs, however many sessions there are.
    sessions_with_more_units
        Sessions in all with twice the units that are needed; None where the units at hand will do.
    """

    model: str
    condition: str
    difficulty: str
    width: float
    components: Components
    sessions: int
    units: int
    width_now: float
    narrowest: float
    more: Estimate
    units_needed: Estimate
    sessions_with_more_units: int | None

    @property
    def reachable(self) -> bool:
        """Whether more sessions about these units can reach the width at all."""
        return math.isfinite(self.more.value)

    @property
    def answer(self) -> str:
        """The answer in words, without whose it is."""
        points = f"+-{100 * self.width / 2:g} points (an interval {self.width:g} wide)"
        now = f"known to +-{100 * self.width_now / 2:.1f} points after {self.sessions:,} sessions"
        if not self.reachable:
            possible = ""
            if math.isfinite(self.more.low):
                possible = f" At the lucky end of what is known of its units, {self.more.low:,.0f} more would do."
            extra = self.sessions_with_more_units
            fresh = f", or {extra:,} sessions about {2 * int(self.units_needed.value):,} units" if extra else ""
            return (
                f"{now}. No number of sessions brings it to {points}: its {self.units:,} units alone leave "
                f"+-{100 * self.narrowest / 2:.1f}, at best {self.narrowest:.3f} wide. It needs at least "
                f"{self.units_needed.value:,.0f} units "
                f"[{self.units_needed.low:,.0f}, {self.units_needed.high:,.0f}]{fresh}.{possible}"
            )
        if self.more.value == 0:
            return f"{now}: {points} are reached."
        high = f"{self.more.high:,.0f}" if math.isfinite(self.more.high) else "never"
        return f"{now}; {self.more.value:,.0f} more [{self.more.low:,.0f}, {high}] bring it to {points}."

    @property
    def sentence(self) -> str:
        """The answer in words."""
        return f"{self.model} ({self.condition}, {self.difficulty}) is {self.answer}"


@dataclass(frozen=True)
class Forecast(Record):
    """What more sessions would do, for every model and condition.

    Attributes
    ----------
    width
        The width asked for.
    crossed
        Whether sessions mix models: then one session serves them all.
    outlooks
        One a model, condition and difficulty.
    unknown
        Of whom nothing can be said yet, and why.
    total
        Sessions still needed in all.
    """

    width: float
    crossed: bool
    outlooks: tuple[Outlook, ...]
    unknown: tuple[str, ...]
    total: Estimate

    def frame(self) -> pd.DataFrame:
        """Return one row an outlook."""
        rows = [
            {
                "model": own.model,
                "condition": own.condition,
                "difficulty": own.difficulty,
                "mean": own.components.mean,
                "sessions": own.sessions,
                "units": own.units,
                "width now": own.width_now,
                "narrowest with these units": own.narrowest,
                "more sessions": own.more.value,
                "more sessions, low": own.more.low,
                "more sessions, high": own.more.high,
                "units needed": own.units_needed.value,
                "units needed, low": own.units_needed.low,
                "units needed, high": own.units_needed.high,
            }
            for own in self.outlooks
        ]
        return pd.DataFrame(rows)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The answers in words, the study's first."""
        points = f"+-{100 * self.width / 2:g} points"
        never = sum(not own.reachable for own in self.outlooks)
        if never:
            first = (
                f"{never} of {len(self.outlooks)} means can't reach {points} with the units there are, however many "
                "sessions follow."
            )
        elif self.total.value == 0:
            first = f"All means are known to {points}."
        else:
            first = f"{self.total.value:,.0f} more sessions in all bring every mean to {points}."
        return (first, *(own.sentence for own in self.outlooks), *self.unknown)


@threaded
def sessions_until(
    table: pd.DataFrame, width: float = WIDTH, *, units: int | None = None, **settings: Unpack[Settings]
) -> Forecast:
    """Say how many more sessions are needed until each mean's interval is as narrow as asked.

    Parameters
    ----------
    table
        Table of judgements; only main trials with both sides of references count.
    width
        Width of the interval for new units and people: .02 for +-1 point.
    units
        Units of each model that will be asked about, if not those that answers are there for.
    settings
        ``level`` is that of the intervals of the answers. Those combine chi-square intervals of the variance between
        units and of what a session adds, each of a level that makes both hold together, so that they are rather too
        wide than too narrow.

    Raises
    ------
    AnalysisError
        If the table has no such trials, or nothing can be said of any model.
    """
    level = choose(settings).level
    if not 0 < width < 1:
        raise AnalysisError(f"The width of an interval of a proportion lies between 0 and 1, not at {width:g}.")
    if units is not None and units < 2:
        raise AnalysisError(f"At least two units are needed, not {units}.")
    kept = table[(table["kind"] == "main") & (table["references"] == "both")]
    if kept.empty:
        raise AnalysisError("There are no main trials with references to forecast from.")
    kept = kept.astype(dict.fromkeys((*KEYS, "unit", "session"), str))
    crossed = bool((kept.groupby("session")["model"].nunique() > 1).any())
    outlooks, unknown = [], []
    for (model, condition, difficulty), own in kept.groupby(KEYS, sort=True):
        components = components_of(own)
        if components is None or not components.spreads:
            unknown.append(f"{model} ({condition}, {difficulty}): {why_unknown(components)}")
            continue
        alike = kept[(kept["condition"] == condition) & (kept["difficulty"] == difficulty)]
        everybody = alike["session"].nunique() if crossed else components.people
        count = components.units if units is None else units
        outlooks.append(look_out((model, condition, difficulty), components, count, everybody, width, level))
    if not outlooks:
        raise AnalysisError(f"Nothing can be forecast yet. {' '.join(unknown)}")
    return Forecast(width, crossed, tuple(outlooks), tuple(unknown), _total(outlooks, crossed, level))


def why_unknown(components: Components | None) -> str:
    """Say why nothing can be said of what more sessions would do."""
    why = "all answers agree" if components else "too few units, people or answers"
    return f"Nothing can be said yet: {why}."


def components_of(table: pd.DataFrame) -> Components | None:
    """Return the variance components of one model's judgements, by unit and session; None if there are too few."""
    by_unit, by_session = (
        table.groupby(name, observed=True)["correct"].agg(["size", "sum"]) for name in ("unit", "session")
    )
    return split_variance(by_unit["size"], by_unit["sum"], by_session["size"], by_session["sum"])


def more_sessions(components: Components, units: int, sessions: int, width: float, level: float = LEVEL) -> Estimate:
    """Estimate how many more sessions bring an interval to a width.

    Parameters
    ----------
    components
        Variance components of the answers so far.
    units
        Units that will be asked about.
    sessions
        Sessions so far in which they could be asked about; crossed sessions may miss a model now and then.
    width
        Of the interval for new units and people.
    level
        Of the answer's interval.

    Returns
    -------
    The sessions still needed; infinity where no number will do. Its interval carries the doubt about the variance
    between units and about that of what a session adds, see :func:`component_ends`.
    """
    sessions = max(sessions, components.people)
    share = components.people / sessions
    low, high = component_ends(components, level)

    def more(own: Components) -> float:
        # What is reached is reached: the width of today's interval is no matter of luck.
        if 2 * components.half_width <= width:
            return 0.0
        wanted = own.sessions_for(width, units)
        return max(math.ceil(wanted / share) - sessions, 0.0) if math.isfinite(wanted) else math.inf

    value = more(components)
    return Estimate(
        value, min(more(low), value), max(more(high), value), _method(components),
        min(components.units, components.people), "sessions", spell_estimand("new units and people"), level,
    )  # fmt: skip


def _method(components: Components) -> str:
    return (
        f"variance components by moments from {components.answers:,} answers; interval from chi-square intervals of "
        "the variance between units and of a session's, which hold together"
    )


def look_out(
    names: tuple[str, str, str], components: Components, units: int, sessions: int, width: float, level: float = LEVEL
) -> Outlook:
    """Say what more sessions would do for one mean: what the dashboard, the report and ``vimi power --until`` say.

    Parameters
    ----------
    names
        Model, condition and difficulty.
    components, units, sessions, width, level
        As for :func:`more_sessions`.
    """
    sessions = max(sessions, components.people)
    share = components.people / sessions
    low, high = component_ends(components, level)
    more = more_sessions(components, units, sessions, width, level)
    needed = [own.units_for(width) for own in (low, components, high)]
    fresh = None
    if math.isinf(more.value):
        wanted = components.sessions_for(width, 2 * needed[1])
        fresh = math.ceil(wanted / share) if math.isfinite(wanted) else None
    return Outlook(
        *names,
        width,
        components,
        sessions,
        units,
        2 * components.half_width,
        components.narrowest(units),
        more,
        Estimate(needed[1], min(needed), max(needed), more.method, more.n, "units", more.estimand, level),
        fresh,
    )


def component_ends(components: Components, level: float = LEVEL) -> tuple[Components, Components]:
    """Return the components at the lower and at the upper end of what the answers say of them.

    The variance of unit means is (nearly) a multiple of chi-square with units - 1 degrees of freedom, and that of what
    a session adds with sessions - 1. Each end is that of an interval of level 1 - (1 - level) / 2, so that both hold
    together at the level (Bonferroni).
    """
    tail = (1 - level) / 4
    noise = (components.person + components.answer) * components.units / components.answers
    seen, freedom = components.unit + noise, components.units - 1
    ends = []
    for q in (1 - tail, tail):
        unit = max(seen * freedom / float(chi2.ppf(q, freedom)) - noise, 0.0)
        scale = (components.people - 1) / float(chi2.ppf(q, components.people - 1))
        pick = min if q > 0.5 else max
        ends.append(
            replace(
                components,
                unit=pick(unit, components.unit),
                person=components.person * scale,
                answer=components.answer * scale,
            )
        )
    return ends[0], ends[1]


def _total(outlooks: list[Outlook], crossed: bool, level: float) -> Estimate:
    """Return the sessions still needed in all: the slowest model decides where sessions mix models."""
    table = pd.DataFrame(
        {
            "cell": [f"{own.condition}/{own.difficulty}" for own in outlooks],
            "value": [own.more.value for own in outlooks],
            "low": [own.more.low for own in outlooks],
            "high": [own.more.high for own in outlooks],
        }
    )
    ends = ["low", "value", "high"]
    sums = (table.groupby("cell")[ends].max() if crossed else table[ends]).sum()
    how = "most of any model, summed over conditions" if crossed else "summed over models and conditions"
    value = float(sums["value"])
    return Estimate(
        value,
        float(np.minimum(sums["low"], value)),
        float(np.maximum(sums["high"], value)),
        f"sessions still needed by each mean, {how}; interval from the ends of each",
        min(own.more.n for own in outlooks),
        "sessions",
        spell_estimand("new units and people"),
        level,
    )
