"""Slopes of model means: least squares, and meta-regression with a variance between models.

Both refer to t with models - coefficients degrees of freedom: whatever was asked of how many people, a slope over
models rests on the models. Both take models for unrelated, and least squares for equally exact: the error that needs
neither is in ``analysis.scaling.robust``. A weighted fit that knew only the models' own standard errors would take the
scatter between models for nothing, and is not offered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import chi2, t

from analysis.intervals.quantiles import critical_value
from analysis.results import Record
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL, Estimate


@dataclass(frozen=True)
class Slope(Record):
    """A slope with its standard error and the degrees of freedom of its t reference.

    Attributes
    ----------
    predictor
        What it is a slope on.
    estimate
        Value and 95 % interval.
    standard_error
        Its standard error; positive.
    degrees_of_freedom
        Of the t distribution that intervals and tests refer to; at least 1.
    """

    predictor: str
    estimate: Estimate
    standard_error: float
    degrees_of_freedom: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.estimate.value) and self.standard_error > 0 and self.degrees_of_freedom >= 1):
            raise AnalysisError(
                f"The slope on {self.predictor} has value {self.estimate.value}, standard error "
                f"{self.standard_error} and {self.degrees_of_freedom} degrees of freedom, so it can't be tested. A "
                "slope needs a positive standard error and at least 1 degree of freedom."
            )

    @property
    def value(self) -> float:
        """The slope itself."""
        return self.estimate.value

    @property
    def p(self) -> float:
        """Two-sided p-value against a slope of 0."""
        return float(2 * t.sf(abs(self.value) / self.standard_error, self.degrees_of_freedom))

    def p_below(self, bound: float) -> float:
        """Return the one-sided p-value of the hypothesis that the slope is at least ``bound``."""
        return float(t.cdf((self.value - bound) / self.standard_error, self.degrees_of_freedom))

    def p_above(self, bound: float) -> float:
        """Return the one-sided p-value of the hypothesis that the slope is at most ``bound``."""
        return float(t.sf((self.value - bound) / self.standard_error, self.degrees_of_freedom))

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the two-sided interval of a level."""
        reach = critical_value(level, self.degrees_of_freedom) * self.standard_error
        return self.value - reach, self.value + reach


def make_slope(
    predictor: str,
    value: float,
    standard_error: float,
    degrees_of_freedom: float,
    *,
    n: int,
    unit: str,
    method: str,
    estimand: str,
) -> Slope:
    """Return a slope whose 95 % interval comes from t; ``method`` need not name it.

    Raises
    ------
    AnalysisError
        If the standard error is not positive, or there is less than 1 degree of freedom.
    """
    usable = np.isfinite(value) and standard_error > 0 and degrees_of_freedom >= 1
    reach = critical_value(LEVEL, degrees_of_freedom) * standard_error if usable else 0.0
    words = f"{method}, t({degrees_of_freedom:.3g})"
    estimate = Estimate(value, value - reach, value + reach, words, n, unit, estimand, LEVEL)
    return Slope(predictor, estimate, standard_error, degrees_of_freedom)


@dataclass(frozen=True)
class LeastSquaresFit:
    """An ordinary least-squares fit with an intercept.

    Attributes
    ----------
    coefficients, standard_errors
        Shape (predictors,): without the intercept.
    intercept
        The intercept.
    degrees_of_freedom
        Models minus coefficients, the intercept included.
    leverage, cook
        Shape (models,): diagonal of the hat matrix, and Cook's distance (0 where leverage is 1).
    r_squared
        Share of the variance that is explained.
    """

    coefficients: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    intercept: float
    degrees_of_freedom: int
    leverage: NDArray[np.float64]
    cook: NDArray[np.float64]
    r_squared: float


def least_squares(x: NDArray[np.float64], y: NDArray[np.float64]) -> LeastSquaresFit:
    """Regress means on predictors, with an intercept.

    Parameters
    ----------
    x
        Shape (models,) or (models, predictors).
    y
        Shape (models,).

    Raises
    ------
    AnalysisError
        If predictors are collinear, or no degree of freedom is left.
    """
    from statsmodels.regression.linear_model import OLS

    design = np.column_stack([np.ones(len(y)), x])
    _check_design(design)
    fit = OLS(y, design).fit()
    leverage = np.asarray(fit.get_influence().hat_matrix_diag, dtype=np.float64)
    residual = np.asarray(fit.resid, dtype=np.float64)
    spread = float(fit.mse_resid)
    # Cook (1977): e^2 h / (k s^2 (1 - h)^2). A model of leverage 1 has no residual: its distance is not defined.
    free = 1 - leverage
    defined = (free > 1e-8) & (spread > 0)
    distance = np.zeros(len(y))
    distance[defined] = residual[defined] ** 2 * leverage[defined] / (design.shape[1] * spread * free[defined] ** 2)
    total = float(((y - y.mean()) ** 2).sum())
    return LeastSquaresFit(
        np.asarray(fit.params, dtype=np.float64)[1:],
        np.asarray(fit.bse, dtype=np.float64)[1:],
        float(fit.params[0]),
        int(fit.df_resid),
        leverage,
        distance,
        1 - float((residual**2).sum()) / total if total > 0 else 0.0,
    )


@dataclass(frozen=True)
class MetaRegressionFit:
    """A random-effects meta-regression with an intercept.

    Attributes
    ----------
    coefficients, standard_errors
        Shape (predictors,): without the intercept; errors after Knapp and Hartung.
    degrees_of_freedom
        Models minus coefficients, the intercept included.
    between, between_low, between_high
        Standard deviation between models that is left, with its 95 % Q-profile interval.
    heterogeneity, p
        Cochran's Q of the residuals, and its p-value against a deviation of 0.
    """

    coefficients: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    degrees_of_freedom: int
    between: float
    between_low: float
    between_high: float
    heterogeneity: float
    p: float


def meta_regression(
    x: NDArray[np.float64], y: NDArray[np.float64], standard_errors: NDArray[np.float64]
) -> MetaRegressionFit:
    """Regress means on predictors, each with its own standard error and a variance between models.

    The variance between models maximises the restricted likelihood (Viechtbauer, 2005, Bias and efficiency of
    meta-analytic variance estimators, J. Educ. Behav. Stat. 30, eq. 14); standard errors of coefficients are those of
    Knapp & Hartung (2003, Improved tests for a random effects meta-regression, Stat. Med. 22), not truncated, with t
    on models - coefficients; the interval of the variance is Viechtbauer's Q-profile (2007, Stat. Med. 26).

    Parameters
    ----------
    x
        Shape (models,) or (models, predictors).
    y, standard_errors
        Shape (models,): means and their own standard errors.

    Raises
    ------
    AnalysisError
        If a standard error is not positive, predictors are collinear, or no degree of freedom is left.
    """
    if not (np.isfinite(standard_errors).all() and (standard_errors > 0).all()):
        raise AnalysisError("A meta-regression needs a positive standard error for each model's mean.")
    design = np.column_stack([np.ones(len(y)), x])
    _check_design(design)
    variance = standard_errors**2
    freedom = len(y) - design.shape[1]

    def misfit(extra: float) -> float:
        return -restricted_log_likelihood(extra, design, y, variance)

    # No estimate can exceed the whole scatter of the means by much; the square root spreads the grid towards 0.
    most = 4 * float(np.var(y, ddof=1)) + float(variance.max())
    grid = most * np.linspace(0, 1, 101) ** 2
    best = int(np.argmin([misfit(extra) for extra in grid]))
    if best == len(grid) - 1:
        raise AnalysisError("The variance between models can't be estimated: no maximum of its likelihood was found.")
    found = minimize_scalar(
        misfit, bounds=(grid[max(best - 1, 0)], grid[best + 1]), method="bounded", options={"xatol": 1e-12 * most}
    )
    extra = 0.0 if misfit(0.0) <= float(found.fun) else float(found.x)
    coefficients, covariance, statistic = _weighted_fit(design, y, variance + extra)
    scale = statistic / freedom
    if scale <= 0:
        raise AnalysisError("The means lie exactly on a line, so no standard error can be estimated.")
    low, high = (_profile(design, y, variance, float(chi2.ppf(share, freedom))) for share in (0.975, 0.025))
    at_zero = _weighted_fit(design, y, variance)[2]
    return MetaRegressionFit(
        coefficients[1:],
        np.sqrt(scale * np.diag(covariance))[1:],
        freedom,
        float(np.sqrt(extra)),
        min(low, float(np.sqrt(extra))),
        max(high, float(np.sqrt(extra))),
        at_zero,
        float(chi2.sf(at_zero, freedom)),
    )


def restricted_log_likelihood(
    between: float, design: NDArray[np.float64], y: NDArray[np.float64], variance: NDArray[np.float64]
) -> float:
    """Return the restricted log-likelihood of a variance between models, but for a constant.

    Parameters
    ----------
    between
        The variance between models.
    design
        Shape (models, coefficients): predictors, the intercept included.
    y, variance
        Shape (models,): means and the squares of their standard errors.
    """
    _, covariance, statistic = _weighted_fit(design, y, variance + between)
    return 0.5 * (float(np.linalg.slogdet(covariance)[1]) - float(np.log(variance + between).sum()) - statistic)


def _weighted_fit(
    design: NDArray[np.float64], y: NDArray[np.float64], variance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return coefficients, their covariance and the weighted sum of squared residuals."""
    weighted = design / variance[:, None]
    covariance: NDArray[np.float64] = np.asarray(np.linalg.inv(design.T @ weighted), dtype=np.float64)
    coefficients = covariance @ (weighted.T @ y)
    residual = y - design @ coefficients
    return coefficients, covariance, float((residual**2 / variance).sum())


def _profile(
    design: NDArray[np.float64], y: NDArray[np.float64], variance: NDArray[np.float64], quantile: float
) -> float:
    """Return the deviation between models at which the weighted scatter equals a quantile; 0 if none does."""

    def excess(between: float) -> float:
        return _weighted_fit(design, y, variance + between)[2] - quantile

    if excess(0.0) <= 0:
        return 0.0
    most = float(variance.max() + np.var(y, ddof=1))
    while excess(most) > 0:
        most *= 4
    return float(np.sqrt(brentq(excess, 0.0, most, xtol=1e-14)))


def _check_design(design: NDArray[np.float64]) -> None:
    """Refuse designs that no regression can be made on."""
    models, coefficients = design.shape
    if models <= coefficients:
        raise AnalysisError(
            f"{models} models are too few for {coefficients} coefficients: no degrees of freedom are left. Use fewer "
            "predictors, or more models."
        )
    spread = design[:, 1:].std(axis=0)
    if (spread <= 1e-12 * (1 + np.abs(design[:, 1:]).max(axis=0))).any():
        raise AnalysisError("A predictor has the same value for every model, so it has no slope.")
    if condition_number(design[:, 1:]) > 1e8:
        raise AnalysisError("The predictors are collinear: one is a combination of the others.")


def condition_number(x: NDArray[np.float64]) -> float:
    """Return the condition number of predictors that are centred and scaled: 1 where they are uncorrelated."""
    columns = x.reshape(len(x), -1)
    centred = columns - columns.mean(axis=0)
    values = np.linalg.svd(centred / np.linalg.norm(centred, axis=0), compute_uv=False)
    return float(values[0] / values[-1]) if values[-1] > 0 else float("inf")
