"""Bayes factors for and against a slope: JZS by quadrature with a sweep of priors, Savage-Dickey from any draws.

A Bayes factor compares two hypotheses as predictors of the data: no slope, and a slope with a stated prior. It depends
on that prior, so a sweep over priors stands beside every number, and so does the one-sided version. Schwarz's
approximation (BIC) is given as a rough check only: with nine models it is off by a factor of up to four.

References: Liang et al. (2008), Mixtures of g priors for Bayesian variable selection, JASA 103, eq. 7 and 13; Rouder
& Morey (2012), Default Bayes factors for model selection in regression, Multivar. Behav. Res. 47; Dickey & Lientz
(1970), Ann. Math. Stat. 41; Heck (2019), A caveat on the Savage-Dickey density ratio, Br. J. Math. Stat. Psychol. 72.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import gaussian_kde, norm, t

from analysis.intervals.quantiles import critical_value
from analysis.results import Record, ShownAsText
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL

MEDIUM = float(np.sqrt(2) / 4)
"""Default scale of the Cauchy prior on the standardised slope, "medium" in R's BayesFactor."""

SCALES = (MEDIUM / 2, MEDIUM, 0.5, float(np.sqrt(2) / 2), 1.0)
_BATCHES = 20
_LARGEST = 700.0
"""Bayes factors above e^700 are given as that: they would not fit into a number."""


@dataclass(frozen=True)
class RegressionBayesFactor(ShownAsText):
    """JZS Bayes factors of a slope against none.

    Attributes
    ----------
    bf10
        Evidence for a slope over none.
    bf_negative, bf_positive
        Evidence for a negative, and for a positive, slope over none.
    scale
        Scale of the Cauchy prior.
    bf10_bic
        Schwarz's approximation, which knows no prior: rough.
    sweep
        One row a scale: ``scale``, ``bf10``, ``bf01``, ``bf_negative``, ``bf_positive``.
    method
        How it was computed, in words that a paper could print.
    numerical_error
        Relative error of ``bf10`` by quadrature: how much it changes if every second node is left out. It stands where
        an estimate has its interval, since given data and prior there is no luck in a Bayes factor.
    """

    bf10: float
    bf_negative: float
    bf_positive: float
    scale: float
    bf10_bic: float
    sweep: pd.DataFrame
    method: str
    numerical_error: float

    @property
    def bf01(self) -> float:
        """Evidence for no slope over one."""
        return 1 / self.bf10

    @property
    def bf01_bic(self) -> float:
        """Schwarz's approximation to it: rough."""
        return 1 / self.bf10_bic

    def __str__(self) -> str:
        low, high = self.sweep["bf01"].min(), self.sweep["bf01"].max()
        return (
            f"BF01 = {self.bf01:.2f} (Cauchy prior of scale {self.scale:.3f}; {low:.2f} to {high:.2f} for scales "
            f"{self.sweep['scale'].min():.3f} to {self.sweep['scale'].max():.3f}; BIC, rough: {self.bf01_bic:.2f})"
        )


def jzs_bayes_factor(r_squared: float, n: int, predictors: int = 1, scale: float = MEDIUM) -> float:
    """Return the JZS Bayes factor of a regression over the mean alone.

    The integral over g of (1 + g)^((n - p - 1) / 2) (1 + g (1 - R^2))^(-(n - 1) / 2), weighted by an inverse gamma
    prior with shape 1/2 and scale n r^2 / 2.

    Parameters
    ----------
    r_squared
        Share of the variance explained, below 1.
    n
        Models.
    predictors
        Predictors, without the intercept.
    scale
        Scale r of the Cauchy prior on standardised slopes.

    Raises
    ------
    AnalysisError
        If there are too few models, or the predictors explain everything.
    """
    _check(r_squared, n, predictors, scale)
    return float(np.exp(min(_log_integral(r_squared, n, predictors, scale), _LARGEST)))


def _check(r_squared: float, n: int, predictors: int, scale: float) -> None:
    if predictors < 1 or n < predictors + 2:
        raise AnalysisError(f"{n} models are too few for the Bayes factor of a regression on {predictors} predictors.")
    if not 0 <= r_squared < 1:
        raise AnalysisError(f"R squared is {r_squared}; for a Bayes factor it must be at least 0 and below 1.")
    if not (np.isfinite(scale) and scale > 0):
        raise AnalysisError(f"The scale of the prior is {scale}; it must be positive.")


def _log_integral(
    r_squared: float,
    n: int,
    predictors: int,
    scale: float,
    factor: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
    halved: bool = False,
) -> float:
    """Return the logarithm of the integral over g, times a factor between 0 and 1 if one is given.

    ``halved`` leaves out every second node: the difference tells the numerical error.
    """
    rate = n * scale**2 / 2

    def log_integrand(u: NDArray[np.float64]) -> NDArray[np.float64]:
        """In u = log g, the Jacobian included."""
        g = np.exp(u)
        prior = 0.5 * np.log(rate / np.pi) - 0.5 * u - rate / g
        value: NDArray[np.float64] = (
            0.5 * (n - predictors - 1) * np.log1p(g) - 0.5 * (n - 1) * np.log1p(g * (1 - r_squared)) + prior
        )
        return value

    # In u the integrand is smooth and falls off on both sides, so that the trapezoid rule converges exponentially.
    # What lies beyond where it has fallen to e^-60 of its top adds nothing.
    coarse = np.linspace(-40, 150, 3801)
    values = log_integrand(coarse)
    inside = coarse[values > values.max() - 60]
    u = np.linspace(inside[0], inside[-1], 4001)
    values = log_integrand(u)
    top = float(values.max())
    if halved:
        u, values = u[::2], values[::2]
    weight = np.ones(len(u)) if factor is None else factor(np.exp(u))
    return top + float(np.log(max(float(np.trapezoid(weight * np.exp(values - top), u)), 1e-300)))


def regression_bayes_factor(
    correlation: float, n: int, *, scale: float = MEDIUM, scales: Sequence[float] = SCALES
) -> RegressionBayesFactor:
    """Return the JZS Bayes factors of one slope, with a sweep of priors.

    Parameters
    ----------
    correlation
        Correlation of the means with the predictor: its square is R squared, and its sign the slope's.
    n
        Models.
    scale, scales
        Scale of the Cauchy prior, and the scales of the sweep.

    Raises
    ------
    AnalysisError
        If there are too few models, or they lie exactly on a line.
    """
    r_squared = correlation**2
    rows = []
    for own in dict.fromkeys([scale, *scales]):
        both = jzs_bayes_factor(r_squared, n, 1, own)
        share = _share_negative(correlation, n, own)
        rows.append(
            {"scale": own, "bf10": both, "bf01": 1 / both, "bf_negative": 2 * share * both,
             "bf_positive": 2 * (1 - share) * both}
        )  # fmt: skip
    sweep = pd.DataFrame(rows)
    own = sweep.iloc[0]
    bic = float(np.exp(min(-0.5 * (n * np.log1p(-r_squared) + np.log(n)), _LARGEST)))
    error = abs(np.expm1(_log_integral(r_squared, n, 1, scale, halved=True) - _log_integral(r_squared, n, 1, scale)))
    method = (
        f"JZS Bayes factor by quadrature (relative error {max(float(error), 1e-12):.0e}) on {n} model means, Cauchy "
        f"prior of scale {scale:.4f} on the standardised slope; one-sided versions keep the half of the prior on their "
        "side"
    )
    return RegressionBayesFactor(
        float(own["bf10"]), float(own["bf_negative"]), float(own["bf_positive"]), scale, bic,
        sweep.sort_values("scale", ignore_index=True), method, float(error),
    )  # fmt: skip


def _share_negative(correlation: float, n: int, scale: float) -> float:
    """Return the posterior probability, under a slope with the prior, that it is negative.

    Given g the slope is t with n - 1 degrees of freedom around g / (1 + g) times its least-squares value; the ratio of
    its centre to its scale is sign(r) sqrt(g R^2 (n - 1) / (1 + g (1 - R^2))).
    """
    r_squared, sign = correlation**2, float(np.sign(correlation))

    def negative(g: NDArray[np.float64]) -> NDArray[np.float64]:
        ratio = sign * np.sqrt(g * r_squared * (n - 1) / (1 + g * (1 - r_squared)))
        return np.asarray(t.cdf(-ratio, n - 1), dtype=np.float64)

    part = _log_integral(r_squared, n, 1, scale, negative)
    return float(np.clip(np.exp(part - _log_integral(r_squared, n, 1, scale)), 0.0, 1.0))


@dataclass(frozen=True)
class SavageDickey(Record):
    """A Savage-Dickey density ratio.

    Attributes
    ----------
    bf01
        Posterior over prior density at the null value: evidence for it.
    low, high
        95 % interval of what another set of as many draws would give.
    bf01_normal
        The same with a normal density of the draws' mean and deviation: rough, and a check on the other.
    method
        How the density was estimated, in words that a paper could print.
    """

    bf01: float
    low: float
    high: float
    bf01_normal: float
    method: str

    @property
    def bf10(self) -> float:
        """Evidence against the null value."""
        return 1 / self.bf01


def savage_dickey(
    draws: Sequence[float] | NDArray[np.float64], prior_density: float, *, null: float = 0.0, least_beyond: int = 50
) -> SavageDickey:
    """Return the Savage-Dickey Bayes factor for a null value, from draws of a posterior.

    Parameters
    ----------
    draws
        Draws of the parameter, of whatever sampler; shape (chains, draws) or (draws,).
    prior_density
        The prior's density at the null value: of a normal prior of deviation s, 1 / (s sqrt(2 pi)). Other parameters'
        priors must not depend on the parameter (Heck, 2019).
    null
        The value that is tested.
    least_beyond
        At least so many draws must lie on either side of it, or its density is only extrapolated.

    Raises
    ------
    AnalysisError
        If draws are too few, constant or not finite, or the null value lies beyond nearly all of them.
    """
    values = np.asarray(draws, dtype=np.float64).ravel()
    if not np.isfinite(values).all():
        raise AnalysisError("Some posterior draws are not finite.")
    if not (np.isfinite(prior_density) and prior_density > 0):
        raise AnalysisError(f"The prior's density at {null:g} is {prior_density}; it must be positive.")
    beyond = int(min((values < null).sum(), (values > null).sum()))
    if len(values) < 10 * _BATCHES or beyond < least_beyond:
        raise AnalysisError(
            f"{beyond} of {len(values):,} posterior draws lie beyond {null:g}; its density can't be estimated with "
            f"fewer than {least_beyond}. Draw more. If that does not help, the posterior excludes {null:g}: compute "
            "the Bayes factor by bridge sampling."
        )

    def density(sample: NDArray[np.float64]) -> float:
        return float(gaussian_kde(sample, bw_method="silverman")(null)[0])

    ratio = density(values) / prior_density
    # Runs of neighbouring draws: a chain's autocorrelation is within them. Their bandwidth is the wider one of fewer
    # draws, so only their scatter is used, not their mean.
    parts = np.log([density(part) for part in np.array_split(values, _BATCHES)])
    error = float(parts.std(ddof=1) / np.sqrt(_BATCHES))
    reach = float(np.exp(critical_value(LEVEL, _BATCHES - 1) * error))
    normal = float(norm.pdf(null, values.mean(), values.std(ddof=1))) / prior_density
    return SavageDickey(
        ratio, ratio / reach, ratio * reach, normal,
        f"Savage-Dickey ratio, Gaussian kernel density with Silverman's bandwidth on {len(values):,} draws; interval "
        f"from {_BATCHES} runs of draws",
    )  # fmt: skip
