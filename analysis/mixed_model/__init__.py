"""Mixed models of right and wrong answers, with crossed random effects, a guess rate and lapses."""

from analysis.mixed_model.expectation_propagation import ExpectationPropagation
from analysis.mixed_model.fit import METHODS, MixedModel, MixedModelFit
from analysis.mixed_model.hypotheses import Contrast, LikelihoodRatio, WaldTest, likelihood_ratio
from analysis.mixed_model.inference import Bootstrap
from analysis.mixed_model.laplace import Laplace
from analysis.mixed_model.links import Link
from analysis.mixed_model.marginal_means import MarginalMean, MarginalMeans
from analysis.mixed_model.sensitivities import (
    GuessRates,
    LapseSweep,
    Sensitivity,
    estimate_guess_rates,
    estimate_lapse,
    guessing_sensitivity,
    lapse_sweep,
    learning_sensitivity,
)
from analysis.mixed_model.slopes import slopes_from

__all__ = [
    "METHODS",
    "Bootstrap",
    "Contrast",
    "ExpectationPropagation",
    "GuessRates",
    "Laplace",
    "LapseSweep",
    "LikelihoodRatio",
    "Link",
    "MarginalMean",
    "MarginalMeans",
    "MixedModel",
    "MixedModelFit",
    "Sensitivity",
    "WaldTest",
    "estimate_guess_rates",
    "estimate_lapse",
    "guessing_sensitivity",
    "lapse_sweep",
    "learning_sensitivity",
    "likelihood_ratio",
    "slopes_from",
]
