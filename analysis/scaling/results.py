"""What scaling gives back: slopes with all that they rest on, refusals, and the whole study as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from analysis.intervals.quantiles import critical_value
from analysis.multiple_tests import spell_p
from analysis.results import AnalysisResult, Plotted, Record, ShownAsText
from analysis.scaling.bayes_factors import RegressionBayesFactor, regression_bayes_factor
from analysis.scaling.equivalence import PassingMargins, SlopeEquivalence, passing_margins
from analysis.scaling.families import FamilyPlace, Test
from analysis.scaling.permutation import PermutationTest, permute_slope, permute_spearman
from analysis.scaling.predictors import LEAST_MODELS, PREDICTORS, Predictor, predictor_values
from analysis.scaling.regression import (
    LeastSquaresFit,
    Slope,
)
from analysis.scaling.verdicts import MarginTests, Verdict, judge, refuse
from benchmark.errors import AnalysisError, NameNotFound
from benchmark.estimate import LEVEL, Estimate

Rung = Literal["robust", "least squares", "meta-regression", "mixed model"]
RUNGS: tuple[Rung, ...] = ("robust", "least squares", "meta-regression", "mixed model")
"""The first is what verdicts rest on if nothing else is said. The others take all models for equally uncertain, apart
from the errors of their own means, and for unrelated."""

INFLUENTIAL = 1.0
"""Cook's distance above which a slope rests on one model."""


@dataclass(frozen=True)
class Refusal(ShownAsText):
    """Replaces a slope that the data do not support.

    Attributes
    ----------
    condition, predictor
        Which slope was asked for.
    reason
        Why there is none.
    models
        Models that had a mean and a value of the predictor.
    """

    condition: str
    predictor: str
    reason: str
    models: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The verdict: refused."""
        return refuse(self.condition, self.predictor, self.reason)

    def __str__(self) -> str:
        return f"{self.condition}, {self.predictor}: refused: {self.reason}"


@dataclass(frozen=True)
class MixedModelSlope(Record):
    """The third method: the slope from the mixed model on single answers.

    Attributes
    ----------
    latent
        The slope on the scale of the link.
    slope
        The slope on the scale of proportions; its t refers to models - coefficients.
    """

    latent: Estimate
    slope: Slope


MixedModel = Callable[[str, Predictor, pd.Series], MixedModelSlope | str]
"""From condition, predictor and its values (indexed by model) to a slope, or to the reason why there is none."""


def slope_from_estimate(predictor: str, estimate: Estimate, degrees_of_freedom: float) -> Slope:
    """Return the slope of an estimate with a symmetric t interval."""

    reach = (estimate.high - estimate.low) / 2
    return Slope(predictor, estimate, reach / critical_value(estimate.level, degrees_of_freedom), degrees_of_freedom)


class Range(NamedTuple):
    """Smallest and largest."""

    low: float
    high: float


@dataclass(frozen=True)
class ScalingResult(Record):
    """The slope of one condition's means on one predictor.

    Attributes
    ----------
    condition, predictor
        Which slope.
    points
        One row a model, from the lowest to the highest: ``model``, ``family``, ``x`` (on the scale of the regression),
        ``value``, ``standard_error``, ``leverage``, ``cook``, and slope, standard error and p without this model
        (``slope_without``, ``standard_error_without``, ``p_without``).
    rung
        The rung that place, tests and verdict rest on.
    least_squares, robust, meta_regression, mixed_model
        The ladder; a refusal where a rung lacks something, None where no mixed model was given. ``robust`` has the
        slope of least squares and an error that survives unequal spread and errors that relatives share.
    spread
        Whether residuals spread more at one end of the predictor: Spearman's correlation of their sizes with it. The
        verdict does not depend on it. None where residuals are all alike.
    between_models
        Standard deviation between models beside the slope, beyond their own standard errors.
    within_families
        The slope with a constant of its own for every family of architectures: a sensitivity analysis.
    place
        Place in the declared family of tests.
    margins
        Tests against the declared smallest effect, None without one.
    warnings
        What a reader must know of these points.
    effective_sample_size
        How many independent things the slope rests on, in a sentence.
    seed
        Of permutations, where there are too many to count.
    """

    condition: str
    predictor: str
    points: pd.DataFrame
    rung: Rung
    fit: LeastSquaresFit
    least_squares: Slope
    robust: Slope | Refusal
    meta_regression: Slope | Refusal
    mixed_model: MixedModelSlope | Refusal | None
    between_models: Estimate | None
    within_families: Slope | Refusal
    spread: PermutationTest | None
    place: FamilyPlace
    margins: MarginTests | None
    warnings: tuple[str, ...]
    effective_sample_size: str
    seed: int

    @property
    def slope(self) -> Slope:
        """The slope of the rung that the verdict rests on."""
        return slope_of_rung(self.rung, self.least_squares, self.robust, self.meta_regression, self.mixed_model)

    @property
    def adjusted(self) -> Estimate:
        """The slope with its Holm-adjusted interval."""
        return self.place.interval(self.slope)

    @property
    def leave_one_out(self) -> Range:
        """Smallest and largest slope with one model left out."""
        return Range(float(self.points["slope_without"].min()), float(self.points["slope_without"].max()))

    @property
    def highest_leverage(self) -> tuple[str, float]:
        """The model with the most leverage, and how much of it."""
        row = self.points.loc[self.points["leverage"].idxmax()]
        return str(row["model"]), float(row["leverage"])

    @property
    def most_influential(self) -> tuple[str, float]:
        """The model with the largest Cook's distance, and the distance."""
        row = self.points.loc[self.points["cook"].idxmax()]
        return str(row["model"]), float(row["cook"])

    @cached_property
    def permutation(self) -> PermutationTest:
        """Permutation test of the least-squares slope."""
        return permute_slope(self.points["x"].to_numpy(), self.points["value"].to_numpy(), seed=self.seed)

    @cached_property
    def spearman(self) -> PermutationTest:
        """Spearman's rank correlation with its permutation test."""
        return permute_spearman(self.points["x"].to_numpy(), self.points["value"].to_numpy(), seed=self.seed)

    @cached_property
    def bayes_factor(self) -> RegressionBayesFactor:
        """JZS Bayes factor of the model means, with a sweep of priors."""
        correlation = float(np.sign(self.fit.coefficients[0]) * np.sqrt(max(self.fit.r_squared, 0.0)))
        return regression_bayes_factor(correlation, len(self.points))

    @property
    def equivalence(self) -> SlopeEquivalence | None:
        """Tests of this slope alone against the declared margin; None without one: there is then no verdict."""
        return self.margins.tests if self.margins else None

    @property
    def passing_margins(self) -> PassingMargins:
        """The smallest margins that would pass."""
        return passing_margins(self.slope)

    @property
    def verdict(self) -> Verdict:
        """What may be said."""
        return judge(self.condition, self.slope, self.place, self.margins)

    def ladder(self) -> pd.DataFrame:
        """Return one row a rung: slope, standard error, interval, degrees of freedom, p, or why it was refused."""
        mixed = self.mixed_model
        rungs: list[tuple[str, Slope | Refusal | None]] = [
            ("least squares", self.least_squares),
            ("robust", self.robust),
            ("meta-regression", self.meta_regression),
            ("mixed model", mixed.slope if isinstance(mixed, MixedModelSlope) else mixed),
            ("within families (sensitivity)", self.within_families),
        ]  # fmt: skip
        return pd.DataFrame([_rung_row(name, rung) for name, rung in rungs])


@dataclass(frozen=True)
class JointRegression(Record):
    """Several predictors jointly: a sensitivity analysis, in no family of tests.

    Attributes
    ----------
    condition
        Condition of the means.
    slopes
        One a predictor, each with the others held constant.
    condition_number
        Of the centred and scaled predictors: 1 where they are uncorrelated.
    fit
        The fit, with leverage and Cook's distance of ``models``.
    models
        The models, in the order of the fit.
    """

    condition: str
    slopes: tuple[Slope, ...]
    condition_number: float
    fit: LeastSquaresFit
    models: tuple[str, ...]


@dataclass(frozen=True)
class ScalingStudy(Plotted, AnalysisResult):
    """All slopes that were asked for.

    Attributes
    ----------
    results
        One a condition and predictor; a refusal where the data can't carry it.
    joint
        By condition: size and data (or what else was asked for) at once, or why that is refused.
    places
        By family: the place of each test, the refused ones included.
    rung
        The rung that tests and verdicts rest on.
    """

    results: tuple[ScalingResult | Refusal, ...]
    joint: dict[str, JointRegression | Refusal]
    places: dict[str, dict[Test, FamilyPlace]]
    rung: Rung

    def __iter__(self) -> Iterator[ScalingResult | Refusal]:
        return iter(self.results)

    def result(self, condition: str, predictor: str) -> ScalingResult | Refusal:
        """Return the result of a condition and predictor.

        Raises
        ------
        NameNotFound
            If it was not asked for.
        """
        for result in self.results:
            if (result.condition, result.predictor) == (condition, predictor):
                return result
        known = [f"{result.condition}, {result.predictor}" for result in self.results]
        raise NameNotFound("slope", f"{condition}, {predictor}", known)

    @property
    def verdicts(self) -> list[Verdict]:
        """All verdicts, in the order of the results."""
        return [result.verdict for result in self.results]

    def _draw(self, **options: Any) -> Any:
        """Draw models as points and slopes as lines with bands: a row of panels a predictor, a column a condition."""
        from analysis.figures import plot_scaling

        return plot_scaling(*scaling_points(self), **options)

    def readable(self) -> pd.DataFrame:
        """Return one row a result as people read it; the verdicts say what each rests on."""
        return pd.DataFrame([_spelled_row(result) for result in self.results])

    @property
    def caption(self) -> str:
        """What the verdicts rest on, and where their sentences are."""
        return (
            f"Slopes over models, tested by the method {self.rung!r}; p after Holm over the slope's family. Verdicts "
            "as sentences: .verdicts"
        )

    @property
    def params(self) -> pd.Series:
        """The slopes, by condition and predictor; missing where one is refused."""
        return self._of_slopes(lambda slope: slope.value, "slope")

    @property
    def bse(self) -> pd.Series:
        """Standard errors of the slopes."""
        return self._of_slopes(lambda slope: slope.standard_error, "std err")

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of the slopes, each by itself; ``frame()`` has them after Holm (``p_adjusted``), too."""
        return self._of_slopes(lambda slope: slope.p, "p")

    def conf_int(self, alpha: float = 1 - LEVEL) -> pd.DataFrame:
        """Return the slopes' t intervals at the level ``1 - alpha``, each by itself; the ends are the columns 0, 1.

        Raises
        ------
        AnalysisError
            If alpha does not lie between 0 and 1.
        """
        if not 0 < alpha < 1:
            raise AnalysisError(f"alpha must lie between 0 and 1, not be {alpha}: .05 gives 95 % intervals.")

        def reach(slope: Slope) -> float:
            return critical_value(1 - alpha, slope.degrees_of_freedom) * slope.standard_error

        low = self._of_slopes(lambda slope: slope.value - reach(slope), "low")
        return pd.DataFrame({0: low, 1: self._of_slopes(lambda slope: slope.value + reach(slope), "high")})

    def _of_slopes(self, measure: Callable[[Slope], float], name: str) -> pd.Series:
        """Return a number of each slope, by condition and predictor."""
        index = pd.MultiIndex.from_tuples(
            [(own.condition, own.predictor) for own in self.results], names=["condition", "predictor"]
        )
        numbers = [np.nan if isinstance(own, Refusal) else measure(own.slope) for own in self.results]
        return pd.Series(numbers, index=index, name=name, dtype=float)

    def frame(self) -> pd.DataFrame:
        """Return one row a result: the slope, its tests, and what it rests on; a refused one holds no number."""
        return pd.DataFrame([_table_row(result) for result in self.results], columns=TABLE_COLUMNS)


TABLE_COLUMNS = [
    "condition", "predictor", "models", "slope", "rests_on", "standard_error", "low", "high", "degrees_of_freedom", "p",
    "p_adjusted", "family", "family_size", "adjusted_low", "adjusted_high", "standard_error_least_squares",
    "low_least_squares", "high_least_squares", "p_least_squares", "spread", "p_spread", "p_permutation", "spearman",
    "p_spearman", "bf01", "bf01_bic", "between_models", "highest_leverage", "leverage_of", "largest_cook", "cook_of",
    "leave_one_out_low", "leave_one_out_high", "smallest_equivalence_margin", "smallest_non_improvement_margin",
    "verdict", "because", "warnings",
]  # fmt: skip


def slope_of_rung(
    rung: Rung, least: Slope, robust: Slope | Refusal, meta: Slope | Refusal, mixed: MixedModelSlope | Refusal | None
) -> Slope:
    """Return the slope of a rung.

    Raises
    ------
    AnalysisError
        If that rung is refused, or was not given.
    """
    chosen: Slope | Refusal | None = least
    if rung == "robust":
        chosen = robust
    elif rung == "meta-regression":
        chosen = meta
    elif rung == "mixed model":
        chosen = mixed.slope if isinstance(mixed, MixedModelSlope) else mixed
    if not isinstance(chosen, Slope):
        raise AnalysisError(f"There is no {rung} slope: {chosen.reason if chosen else 'none was given'}.")
    return chosen


def _spelled_row(result: ScalingResult | Refusal) -> dict[str, object]:
    names = {"condition": result.condition, "predictor": result.predictor}
    if isinstance(result, Refusal):
        return {**names, "slope": "–", "unit": "", "models": len(result.models), "p, Holm": "–",
                "verdict": f"refused: {result.reason}"}  # fmt: skip
    slope = result.slope.estimate
    return {**names, "slope": str(slope), "unit": slope.unit, "models": slope.n,
            "p, Holm": spell_p(result.place.adjusted), "verdict": result.verdict.kind}  # fmt: skip


def _rung_row(name: str, rung: Slope | Refusal | None) -> dict[str, object]:
    if isinstance(rung, Slope):
        found = rung.estimate
        return {
            "rung": name, "slope": found.value, "standard_error": rung.standard_error, "low": found.low,
            "high": found.high, "degrees_of_freedom": rung.degrees_of_freedom, "p": rung.p, "n": found.n,
            "unit": found.unit, "method": found.method, "refused": "",
        }  # fmt: skip
    return {"rung": name, "refused": rung.reason if rung else "no mixed model was given"}


def _table_row(result: ScalingResult | Refusal) -> dict[str, object]:
    verdict = result.verdict
    said = {"condition": result.condition, "predictor": result.predictor, "verdict": verdict.kind,
            "because": verdict.because}  # fmt: skip
    if isinstance(result, Refusal):
        return {**said, "models": len(result.models), "warnings": ""}
    slope, margins = result.slope, result.passing_margins
    (leverage_of, leverage), (cook_of, cook) = result.highest_leverage, result.most_influential
    return {
        **said, "models": slope.estimate.n, "slope": slope.value, "standard_error": slope.standard_error,
        "low": slope.estimate.low, "high": slope.estimate.high, "p": slope.p, "p_adjusted": result.place.adjusted,
        "rests_on": result.rung, "degrees_of_freedom": slope.degrees_of_freedom,
        "standard_error_least_squares": result.least_squares.standard_error,
        "low_least_squares": result.least_squares.estimate.low,
        "high_least_squares": result.least_squares.estimate.high, "p_least_squares": result.least_squares.p,
        "spread": result.spread.coefficient if result.spread else None,
        "p_spread": result.spread.p if result.spread else None,
        "family": result.place.family, "family_size": result.place.size, "adjusted_low": result.adjusted.low,
        "adjusted_high": result.adjusted.high, "p_permutation": result.permutation.p,
        "spearman": result.spearman.coefficient, "p_spearman": result.spearman.p,
        "bf01": result.bayes_factor.bf01, "bf01_bic": result.bayes_factor.bf01_bic,
        "between_models": result.between_models.value if result.between_models else None,
        "highest_leverage": leverage, "leverage_of": leverage_of, "largest_cook": cook, "cook_of": cook_of,
        "leave_one_out_low": result.leave_one_out.low, "leave_one_out_high": result.leave_one_out.high,
        "smallest_equivalence_margin": margins.equivalence,
        "smallest_non_improvement_margin": margins.non_improvement, "warnings": " ".join(result.warnings),
    }  # fmt: skip


def scaling_points(
    study: ScalingStudy, means: pd.DataFrame | None = None, models: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return what the figure of slopes takes.

    Parameters
    ----------
    study
        The slopes.
    means, models
        What they were fitted to; without them a refused slope has no points.

    Returns
    -------
    Points, one row a model, condition and predictor, where there are as many models as a slope needs; slopes, one row a
    condition and predictor, or the reason why there is none; and the lines with their bands.
    """
    points, slopes, bands = [], [], []
    for result in study:
        names = {"condition": result.condition, "predictor": result.predictor}
        if isinstance(result, Refusal):
            slopes.append({**names, "slope": np.nan, "low": np.nan, "high": np.nan, "refused": result.reason})
            if means is None or models is None or len(result.models) < LEAST_MODELS:
                continue
            own = _points_of(result, means, models)
        else:
            own = result.points
            slope = result.slope.estimate
            slopes.append(
                {**names, "slope": slope.value, "low": slope.low, "high": slope.high, "refused": "", "unit": slope.unit}
            )
            bands.append(_band(result).assign(**names))
        known = own["standard_error"].to_numpy(dtype=np.float64) if "standard_error" in own else np.zeros(len(own))
        reach = 1.96 * np.nan_to_num(known)
        points.append(
            own[["model", "family", "x", "value"]].assign(
                **names, label=PREDICTORS[result.predictor].label, low=np.clip(own["value"] - reach, -1, 1),
                high=np.clip(own["value"] + reach, -1, 1),
            )
        )  # fmt: skip
    empty = pd.DataFrame()
    return (
        pd.concat(points, ignore_index=True) if points else empty,
        pd.DataFrame(slopes),
        pd.concat(bands, ignore_index=True) if bands else empty,
    )


def _points_of(result: Refusal, means: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Return the points that a refused slope would have had."""
    own = means[(means["condition"] == result.condition) & means["model"].isin(result.models)]
    own = own.merge(models[["model", "family"]], on="model", how="left")
    return own.assign(x=own["model"].map(predictor_values(models, result.predictor)))


def _band(result: ScalingResult) -> pd.DataFrame:
    """Return the line of least squares with the 95 % band of the mean, at places along the predictor."""
    x = result.points["x"].to_numpy(dtype=np.float64)
    slope = result.least_squares
    centre, spread = float(x.mean()), float(((x - x.mean()) ** 2).sum())
    noise = slope.standard_error * np.sqrt(spread)  # residual standard deviation
    places = np.linspace(x.min(), x.max(), 41)
    value = result.fit.intercept + slope.value * places
    error = noise * np.sqrt(1 / len(x) + (places - centre) ** 2 / spread)
    reach = critical_value(LEVEL, slope.degrees_of_freedom) * error
    return pd.DataFrame({"x": places, "value": value, "low": value - reach, "high": value + reach})
