"""How far a mixed model's answers depend on what it takes as given: lapses, no learning, guessing at one half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import beta, betabinom

from analysis.estimands import spell_estimand
from analysis.mixed_model.fit import MixedModel, MixedModelFit
from analysis.mixed_model.links import Floats
from analysis.results import Record
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL, Estimate
from benchmark.progress import Reporter

LEARNING = "learning"
GUESSING = "guess_rate"
_SWEEP = (0.0, 0.01, 0.02, 0.03, 0.04, 0.05)


@dataclass(frozen=True)
class Sensitivity(Record):
    """A model fitted as planned, and otherwise.

    Attributes
    ----------
    name
        What was changed.
    base, other
        The two fits.
    """

    name: str
    base: MixedModelFit
    other: MixedModelFit

    def frame(self) -> pd.DataFrame:
        """Return one row an effect of the planned model: its value in both, and how far it moved.

        ``moved`` is counted in the standard errors of the planned fit; it is missing for standard deviations at the
        boundary, which have none.
        """
        rows = []
        before = {**self.base.fixed, **self.base.standard_deviations}
        after = {**self.other.fixed, **self.other.standard_deviations}
        for name, estimate in before.items():
            if name not in after:
                continue
            other = after[name]
            error = self.base.standard_error(name)
            rows.append(
                {
                    "name": name,
                    "value": estimate.value,
                    "low": estimate.low,
                    "high": estimate.high,
                    f"value, {self.name}": other.value,
                    f"low, {self.name}": other.low,
                    f"high, {self.name}": other.high,
                    "difference": other.value - estimate.value,
                    "moved": (other.value - estimate.value) / error if error > 0 else None,
                }
            )
        return pd.DataFrame(rows)


def estimate_lapse(catch: pd.DataFrame, level: float = LEVEL) -> Estimate:
    """Return the lapse rate that catch trials show.

    The answer to a catch trial is plain to see, so that it is wrong only by a lapse. With Jeffreys's prior the rate,
    pooled over people, has the posterior Beta(wrong + 1/2, right + 1/2); its mean is the estimate.

    Parameters
    ----------
    catch
        Judgements on catch trials (``judgements(responses, kinds=("catch",))``), with ``correct`` and ``participant``.

    Raises
    ------
    AnalysisError
        If there are none.
    """
    if "kind" in catch:
        catch = catch[catch["kind"] == "catch"]
    if catch.empty:
        raise AnalysisError("There are no catch trials to estimate a lapse rate from; give one (0 to .05 is usual).")
    right = float(catch["correct"].sum())
    wrong = len(catch) - right
    posterior = beta(wrong + 0.5, right + 0.5)
    low, high = posterior.ppf([(1 - level) / 2, (1 + level) / 2])
    people = int(catch["participant"].astype(object).nunique()) if "participant" in catch else len(catch)
    return Estimate(
        float(posterior.mean()),
        float(low),
        float(high),
        f"posterior mean and equal-tailed interval, Jeffreys's prior, {wrong:.0f} of {len(catch)} catch trials wrong",
        people,
        "lapse rate",
        spell_estimand("these units and people"),
        level,
    )


@dataclass(frozen=True)
class LapseSweep(Record):
    """A model fitted under several lapse rates.

    Attributes
    ----------
    fits
        By lapse rate.
    refused
        Lapse rates that the answers contradict, and why.
    """

    fits: dict[float, MixedModelFit]
    refused: dict[float, str]

    def frame(self) -> pd.DataFrame:
        """Return one row an effect and lapse rate."""
        return pd.concat(
            [fit.frame().assign(lapse=lapse, log_likelihood=fit.log_likelihood) for lapse, fit in self.fits.items()],
            ignore_index=True,
        )


def lapse_sweep(
    model: MixedModel, table: pd.DataFrame, lapses: Sequence[float] = _SWEEP, reporter: Reporter | None = None
) -> LapseSweep:
    """Fit a model under each of several lapse rates.

    Raises
    ------
    AnalysisError
        If the answers contradict them all.
    """
    fits: dict[float, MixedModelFit] = {}
    refused: dict[float, str] = {}
    with (reporter or Reporter()).task("Lapse rates", len(lapses)) as advance:
        for lapse in lapses:
            try:
                fits[float(lapse)] = replace(model, lapse=float(lapse)).fit(table)
            except AnalysisError as error:
                refused[float(lapse)] = str(error)
            advance(1)
    if not fits:
        raise AnalysisError(
            f"No lapse rate of {', '.join(map(str, lapses))} can be fitted: {next(iter(refused.values()))}"
        )
    return LapseSweep(fits, refused)


def learning_sensitivity(model: MixedModel, table: pd.DataFrame, base: MixedModelFit | None = None) -> Sensitivity:
    """Fit a model with a change over the session beside it.

    The coefficient ``learning`` of the other fit is the change from the first trial of a session to its last.

    Parameters
    ----------
    table
        Judgements, with ``trial_index`` and ``session`` (or ``participant``).
    base
        The fit without it, if there is one already.

    Raises
    ------
    AnalysisError
        If the table lacks the trials' places, or no session has two.
    """
    if "trial_index" not in table:
        raise AnalysisError("Learning needs the column 'trial_index': the place of each answer in its session.")
    place = table["trial_index"].astype(np.float64)
    session = next((name for name in ("session", "participant") if name in table), None)
    groups = table[session].astype(object) if session else pd.Series(0, index=table.index)
    first, last = (place.groupby(groups).transform(end) for end in ("min", "max"))
    if not (last > first).any():
        raise AnalysisError("No session has two trials: learning can't be told from differences between people.")
    scaled = ((place - first) / (last - first).where(last > first, 1.0)).astype(np.float64)
    formula = model.fixed if isinstance(model.fixed, str) else " + ".join(["1", *(f"`{n}`" for n in model.fixed)])
    other = replace(model, fixed=f"{formula} + {LEARNING}").fit(table.assign(**{LEARNING: scaled}))
    return Sensitivity("with learning", base or model.fit(table), other)


@dataclass(frozen=True)
class GuessRates(Record):
    """What each unit's trials without references are answered right.

    Attributes
    ----------
    table
        One row a unit: ``unit``, ``answers``, ``right``, and ``guess_rate``, shrunken towards the mean.
    mean
        Mean over units.
    spread
        Standard deviation between units beyond chance.
    """

    table: pd.DataFrame
    mean: float
    spread: float


def estimate_guess_rates(unreferenced: pd.DataFrame, units: Sequence[str]) -> GuessRates:
    """Estimate how often each unit is answered right when no references are shown.

    Units' rates follow a beta distribution whose two parameters are estimated by maximum likelihood from the
    (beta-binomial) counts; each unit's rate is the mean of its posterior. Units without such trials get the mean.

    Parameters
    ----------
    unreferenced
        Judgements without references, with ``unit`` and ``correct``.
    units
        The units that rates are wanted for.

    Raises
    ------
    AnalysisError
        If there are no such judgements.
    """
    if "references" in unreferenced:
        unreferenced = unreferenced[unreferenced["references"] == "none"]
    if unreferenced.empty:
        raise AnalysisError(
            "There are no trials without references to estimate guessing from; a protocol with the condition 'none' "
            "has them."
        )
    counts = (
        unreferenced.assign(unit=unreferenced["unit"].astype(object))
        .groupby("unit")["correct"]
        .agg(["size", "sum"])
        .sort_values(["size", "sum"])
    )
    number, right = counts["size"].to_numpy(), counts["sum"].to_numpy()

    def loss(place: Floats) -> float:
        mean, precision = float(expit(place[0])), float(np.exp(place[1]))
        return float(-betabinom.logpmf(right, number, mean * precision, (1 - mean) * precision).sum())

    middle = (float(right.sum()) + 0.5) / (float(number.sum()) + 1)
    best = min(
        (
            minimize(loss, [float(logit(middle)), start], method="L-BFGS-B", bounds=[(-8, 8), (-1, np.log(1e5))])
            for start in (1.0, 3.0, 6.0)
        ),
        key=lambda found: float(found.fun),
    )
    mean, precision = float(expit(best.x[0])), float(np.exp(best.x[1]))
    rates = pd.Series((right + mean * precision) / (number + precision), index=counts.index)
    wanted = sorted(set(units))
    table = pd.DataFrame(
        {
            "unit": wanted,
            "answers": counts["size"].reindex(wanted).fillna(0).astype(np.int64).to_numpy(),
            "right": counts["sum"].reindex(wanted).fillna(0.0).to_numpy(),
            GUESSING: rates.reindex(wanted).fillna(mean).to_numpy(),
        }
    )
    return GuessRates(table, mean, float(np.sqrt(mean * (1 - mean) / (precision + 1))))


def guessing_sensitivity(
    model: MixedModel, table: pd.DataFrame, unreferenced: pd.DataFrame, base: MixedModelFit | None = None
) -> Sensitivity:
    """Fit a model with each unit's own guess rate, as its trials without references show it, in the place of one half.

    Some queries betray the answer by themselves: the maximal picture looks odd. A unit that is answered right in six of
    ten trials without references has no more to gain than four.

    Raises
    ------
    AnalysisError
        If there are no trials without references, or the answers are worse with references than without.
    """
    rates = estimate_guess_rates(unreferenced, [str(name) for name in table["unit"].astype(object).unique()])
    known = dict(zip(rates.table["unit"], rates.table[GUESSING]))
    values = table["unit"].astype(object).map(known).astype(np.float64)
    other = replace(model, guess=GUESSING).fit(table.assign(**{GUESSING: values}))
    return Sensitivity("own guess rates", base or model.fit(table), other)
