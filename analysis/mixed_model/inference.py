"""Intervals beyond Wald's: the profile likelihood, and the parametric bootstrap."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from analysis.estimands import spell_estimand
from analysis.intervals.quantiles import critical_value
from analysis.mixed_model.laplace import ModeNotFound
from analysis.mixed_model.links import Floats
from analysis.mixed_model.optimisation import NotConverged, Optimum, maximise, spread_of_levels
from analysis.results import Record
from analysis.threads import one_thread
from benchmark.errors import AnalysisError, suggest
from benchmark.estimate import LEVEL, Estimate
from benchmark.progress import Reporter

if TYPE_CHECKING:
    from analysis.mixed_model.fit import MixedModelFit

_PRECISION = 0.01
"""How near the signed root of the deviance comes to its quantile, in standard deviations."""
_MOST_STEPS = 12


def profile_interval(fit: MixedModelFit, name: str, level: float = LEVEL) -> Estimate:
    """Return a fixed effect or standard deviation with its profile-likelihood interval.

    The ends are where the log-likelihood, maximised over everything else, has fallen by half the square of the
    quantile: Student's t for coefficients that compare models, as in ``MixedModelFit.freedom``, else normal. Fixed
    effects are profiled on the likelihood that is maximised over them, whatever the method of the fit.

    Raises
    ------
    AnalysisError
        If there is no such effect, or the other effects have no maximum on the way.
    """
    names = [factor.name for factor in fit.design.factors]
    if name in names:
        return _profile_sd(fit, names.index(name), level)
    if name in fit.design.names:
        return _profile_coefficient(fit, fit.design.names.index(name), level)
    raise AnalysisError(f"There is no effect {name!r}. {suggest(name, [*fit.design.names, *names])}")


def _profile_sd(fit: MixedModelFit, which: int, level: float) -> Estimate:
    """Profile a standard deviation, on its logarithm."""
    factor = fit.design.factors[which]
    quantile = critical_value(level)
    unit = fit.unit_of(which)
    value = float(fit.scales[which])
    if any(which in term.factors and term.shears for term in fit.design.terms):
        raise AnalysisError(
            f"The profile likelihood of {factor.name!r} can't be followed: its standard deviation and its correlations "
            "belong together. Use standard_deviations and correlations, or a bootstrap."
        )
    if not fit.optimum.free[which]:
        low, high = 0.0, upper_end_at_boundary(fit, factor.name, level)
    else:
        place = int(fit.optimum.free[:which].sum())
        width = min(math.sqrt(max(float(fit.covariance[place, place]), 1e-4)), 1.0)
        profile = _Profile(fit, which, None)
        high = math.exp(profile.find_end(math.log(value), width, quantile, most=math.log(50.0)))
        zero = profile.root(-math.inf)
        low = 0.0
        if zero > quantile:
            low = math.exp(profile.find_end(math.log(value), -width, quantile, most=math.log(1e-4)))
    return Estimate(
        unit * value,
        unit * min(low, value),
        unit * max(high, value),
        f"profile likelihood; {fit.method}",
        factor.size,
        fit.scale,
        spell_estimand(fit.scope),
        level,
    )


def _profile_coefficient(fit: MixedModelFit, which: int, level: float) -> Estimate:
    """Profile a fixed effect."""
    wald = fit.wald(fit.design.names[which], level)
    freedom = fit.freedom(fit.design.names[which])
    if freedom < 1:
        return wald
    quantile = float(t.ppf((1 + level) / 2, freedom) if math.isfinite(freedom) else norm.ppf((1 + level) / 2))
    error = fit.standard_errors[fit.design.names[which]]
    profile = _Profile(fit, None, which)
    value = float(profile.best.evaluation.coefficients[which])
    low = profile.find_end(value, -error, quantile, most=-math.inf)
    high = profile.find_end(value, error, quantile, most=math.inf)
    how = f"t with {freedom:.0f} degrees of freedom" if math.isfinite(freedom) else "normal"
    return Estimate(
        wald.value,
        min(low, wald.value),
        max(high, wald.value),
        f"profile likelihood ({how}), maximised over all other effects; {fit.method}",
        wald.n,
        fit.scale,
        wald.estimand,
        level,
    )


class _Profile:
    """The likelihood with one effect held, maximised over the others."""

    def __init__(self, fit: MixedModelFit, sd: int | None, coefficient: int | None) -> None:
        self.fit = fit
        self.sd = sd
        self.coefficient = coefficient
        joint = coefficient is not None or fit.model.method in ("joint", "propagation-joint")
        self.joint = joint
        self.engine = fit.model.engine(fit.system, joint=joint)
        self.engine.restart(fit.optimum.evaluation.mode.unknowns)
        self.best = fit.optimum
        if joint and fit.model.method not in ("joint", "propagation-joint"):
            self.best = self._maximise(fit.optimum.away_from_zero(0.02), fit.coefficients)
        self.last = self.best

    def _maximise(self, spread: Floats, coefficients: Floats) -> Optimum:
        """Maximise with the held effect where it is."""
        held = np.zeros(len(spread), dtype=bool)
        held_coefficients = np.zeros(len(coefficients), dtype=bool)
        started = getattr(self, "best", None) is not self.fit.optimum or not self.joint
        if self.sd is not None:
            held[self.sd] = True
        elif started or self.fit.model.method in ("joint", "propagation-joint"):
            held_coefficients[self.coefficient] = True
        try:
            return maximise(
                self.engine,
                spread,
                coefficients if self.joint else None,
                held=held,
                held_coefficients=held_coefficients if self.joint else None,
                with_hessian=False,
            )
        except NotConverged as error:
            raise AnalysisError(
                f"The profile likelihood can't be followed to its end: {error}. Use the Wald interval, or a bootstrap."
            ) from error

    def root(self, value: float) -> float:
        """Return the square root of the deviance with the effect at a value."""
        start = np.where(np.isfinite(self.last.spread), self.last.spread, math.log(0.02))
        coefficients = self.last.evaluation.coefficients.copy()
        if self.sd is not None:
            start[self.sd] = value
        elif self.coefficient is not None:
            coefficients[self.coefficient] = value
        found = self._maximise(start, coefficients)
        if math.isfinite(value):
            self.last = found
        return math.sqrt(max(2 * (found.evaluation.value - self.best.evaluation.value), 0.0))

    def find_end(self, value: float, width: float, quantile: float, most: float) -> float:
        """Return where the root of the deviance meets the quantile, by interpolation between steps either side."""
        near, near_root = value, 0.0
        far, far_root = value + quantile * width, 0.0
        self.last = self.best
        sign = 1.0 if width > 0 else -1.0
        step = abs(quantile * width)
        outside = False
        place = far
        for _ in range(_MOST_STEPS):
            place = min(place, most) if sign > 0 else max(place, most)
            root = self.root(place)
            if abs(root - quantile) < _PRECISION:
                return place
            if root < quantile and place == most:
                return sign * math.inf
            if root < quantile:
                near, near_root = place, root
                if not outside:
                    place += sign * min(max(step * (quantile / max(root, 0.3) - 1), 0.1 * step), 2 * step)
                    continue
            else:
                far, far_root, outside = place, root, True
            place = near + (far - near) * (quantile - near_root) / (far_root - near_root)
        return place


def upper_end_at_boundary(fit: MixedModelFit, name: str, level: float) -> float:
    """Return the largest standard deviation that the likelihood allows for a factor that is estimated as 0.

    The log-likelihood may fall as far as at the upper end of a two-sided interval: by half the square of the normal
    quantile. The other standard deviations stay where they are.
    """
    which = [factor.name for factor in fit.design.factors].index(name)
    quantile = critical_value(level)
    engine = fit.model.engine(fit.system)
    best = fit.optimum.evaluation
    coefficients = None if engine.free_fixed else best.coefficients
    spread = fit.optimum.spread.copy()

    def root(log_sd: float) -> float:
        spread[which] = log_sd
        try:
            value = engine.evaluate(spread, coefficients).value - best.value
        except ModeNotFound:  # so far out that the approximation breaks down
            return math.inf
        return math.sqrt(max(2 * value, 0.0)) - quantile

    low, high = math.log(1e-3), math.log(0.05)
    with one_thread():
        while root(high) < 0:
            low, high = high, high + 0.7
            if high > math.log(30.0):
                return math.inf
        for _ in range(8):
            middle = (low + high) / 2
            if root(middle) < 0:
                low = middle
            else:
                high = middle
    return math.exp(high)


@dataclass(frozen=True)
class Bootstrap(Record):
    """What refitting to simulated answers shows.

    Attributes
    ----------
    estimates
        Fixed effects and standard deviations with bias-corrected percentile intervals.
    bias
        By name: mean over the refits, less the estimate that they were simulated from.
    standard_errors
        By name: spread of the refits.
    draws
        One row a refit, one column an effect.
    failed
        Refits that had no maximum; they are left out.
    """

    estimates: dict[str, Estimate]
    bias: dict[str, float]
    standard_errors: dict[str, float]
    draws: pd.DataFrame
    failed: int

    def frame(self) -> pd.DataFrame:
        """Return one row an effect."""
        return pd.DataFrame(
            [
                {"name": name, "bias": self.bias[name], "standard_error": self.standard_errors[name]}
                | estimate.as_dict()
                for name, estimate in self.estimates.items()
            ]
        )


def bootstrap(
    fit: MixedModelFit, refits: int, *, seed: int, level: float = LEVEL, reporter: Reporter | None = None
) -> Bootstrap:
    """Refit the model to answers that it simulates itself: new units, people and models every time.

    Parameters
    ----------
    refits
        How many.
    seed
        Of the simulated answers.
    reporter
        Told of progress.

    Raises
    ------
    AnalysisError
        If fewer than 20 refits are asked for or succeed.
    """
    if refits < 20:
        raise AnalysisError(f"{refits} refits are too few for an interval; ask for 20 at the least, 200 for a paper.")
    design = fit.design
    names = [*design.names, *(factor.name for factor in design.factors)]
    found = np.concatenate([fit.coefficients, fit.sds])
    draws: list[Floats] = []
    failed = 0
    start = np.where(np.isfinite(fit.optimum.spread), fit.optimum.spread, math.log(0.1))
    with (reporter or Reporter()).task("Parametric bootstrap", refits) as advance:
        for stream in np.random.default_rng(seed).spawn(refits):
            system = fit.system.with_answers(draw_answers(fit, stream))
            try:
                optimum = fit.model._maximise(system, start.copy(), fit.coefficients.copy(), with_hessian=False)
                draws.append(np.concatenate([optimum.evaluation.coefficients, spread_of_levels(design, optimum)[0]]))
            except AnalysisError:
                failed += 1
            advance(1)
    if len(draws) < 20:
        raise AnalysisError(
            f"{failed} of {refits} refits have no maximum: the estimates stand too near the edge of what is possible "
            "for a bootstrap. Use profile intervals."
        )
    table = np.array(draws)
    estimates: dict[str, Estimate] = {}
    for column, name in enumerate(names):
        low, high = _corrected_percentiles(table[:, column], float(found[column]), level)
        coefficient = name in design.names and column < len(design.names)
        base = fit.wald(name, level).n if coefficient else design.factor(name).size
        estimates[name] = Estimate(
            float(found[column]),
            min(low, float(found[column])),
            max(high, float(found[column])),
            f"parametric bootstrap, {len(draws)} refits, bias-corrected percentiles; {fit.method}",
            base,
            fit.scale,
            spell_estimand(fit.scope),
            level,
        )
    return Bootstrap(
        estimates,
        dict(zip(names, (float(value) for value in table.mean(axis=0) - found))),
        dict(zip(names, (float(value) for value in table.std(axis=0, ddof=1)))),
        pd.DataFrame(table, columns=names),
        failed,
    )


def _corrected_percentiles(draws: Floats, value: float, level: float) -> tuple[float, float]:
    """Return bias-corrected percentiles (Efron 1981)."""
    below = (float((draws < value).sum()) + 0.5 * float((draws == value).sum()) + 0.5) / (len(draws) + 1)
    shift = float(norm.ppf(below))
    ends = [float(norm.cdf(2 * shift + norm.ppf(q))) for q in ((1 - level) / 2, (1 + level) / 2)]
    low, high = np.quantile(draws, ends)
    return float(low), float(high)


def draw_answers(fit: MixedModelFit, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return simulated answers from the fitted model with new levels of all random effects, in the design's order."""
    design = fit.design
    eta = design.fixed @ fit.coefficients
    for which, (factor, sd) in enumerate(zip(design.factors, fit.scales)):
        eta = eta + fit.system.weigh(rng.normal(0, 1, factor.size)[factor.codes], which) * sd
    from analysis.mixed_model.links import Link

    probability = Link(fit.model.link, design.guess, fit.model.lapse).probability(eta)
    return np.asarray(rng.random(design.size) < probability)


def simulate(fit: MixedModelFit, seed: int) -> pd.DataFrame:
    """Return the table of a fit with simulated answers: new units, people and models like those at hand.

    The answers do not depend on the order of the rows.
    """
    correct = np.empty(fit.design.size)
    correct[fit.design.rows] = draw_answers(fit, np.random.default_rng(seed))
    return fit.table.assign(**{fit.model.outcome: correct})
