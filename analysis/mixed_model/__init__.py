"""Mixed models of right and wrong answers, with crossed random effects, a guess rate and lapses."""

from analysis.mixed_model.expectation_propagation import ExpectationPropagation
from analysis.mixed_model.fit import METHODS, MixedModel, MixedModelFit
from analysis.mixed_model.inference import Bootstrap
from analysis.mixed_model.laplace import Laplace
from analysis.mixed_model.links import Link
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
    "ExpectationPropagation",
    "GuessRates",
    "Laplace",
    "LapseSweep",
    "Link",
    "MixedModel",
    "MixedModelFit",
    "Sensitivity",
    "estimate_guess_rates",
    "estimate_lapse",
    "guessing_sensitivity",
    "lapse_sweep",
    "learning_sensitivity",
    "slopes_from",
]
