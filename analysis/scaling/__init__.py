"""Interpretability against model size, data-set size and accuracy: slopes, and what may be said of them."""

from analysis.multiple_tests import adjust_holm
from analysis.scaling.bayes_factors import (
    RegressionBayesFactor,
    SavageDickey,
    jzs_bayes_factor,
    regression_bayes_factor,
    savage_dickey,
)
from analysis.scaling.equivalence import (
    NO_VERDICT,
    PassingMargins,
    SlopeEquivalence,
    assess_equivalence,
    passing_margins,
)
from analysis.scaling.families import FamilyPlace
from analysis.scaling.predictors import PREDICTORS, Predictor, models_from_cards, models_from_study, predictor_values
from analysis.scaling.regression import Slope, least_squares, make_slope, meta_regression
from analysis.scaling.results import (
    JointRegression,
    MixedModelSlope,
    Refusal,
    ScalingResult,
    ScalingStudy,
    scaling_points,
    slope_from_estimate,
)
from analysis.scaling.robust import RobustFit, robust_slope
from analysis.scaling.study import fit_scaling, tabulate_means
from analysis.scaling.verdicts import KINDS, Verdict, judge

__all__ = [
    "KINDS",
    "NO_VERDICT",
    "PREDICTORS",
    "FamilyPlace",
    "JointRegression",
    "MixedModelSlope",
    "PassingMargins",
    "Predictor",
    "Refusal",
    "RegressionBayesFactor",
    "RobustFit",
    "SavageDickey",
    "ScalingResult",
    "ScalingStudy",
    "Slope",
    "SlopeEquivalence",
    "Verdict",
    "adjust_holm",
    "assess_equivalence",
    "fit_scaling",
    "judge",
    "jzs_bayes_factor",
    "least_squares",
    "make_slope",
    "meta_regression",
    "models_from_cards",
    "models_from_study",
    "passing_margins",
    "predictor_values",
    "regression_bayes_factor",
    "robust_slope",
    "savage_dickey",
    "scaling_points",
    "slope_from_estimate",
    "tabulate_means",
]
