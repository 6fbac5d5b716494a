"""Psychophysics: what answers say beyond the proportion correct, and whether it means what it seems to."""

from analysis.psychophysics.confidence import Metacognition, measure_confidence
from analysis.psychophysics.consistency import Consistency, repeat_consistency
from analysis.psychophysics.detection import Detection, detect
from analysis.psychophysics.detection_rates import d_prime_from_proportion
from analysis.psychophysics.difficulty import DifficultyCurve, DifficultyCurves, fit_difficulty_curves
from analysis.psychophysics.guessing import GuessingCheck, check_guessing
from analysis.psychophysics.learning import Learning, learning_curve
from analysis.psychophysics.quantiles import query_quantiles
from analysis.psychophysics.references import ReferencesComparison, compare_references
from analysis.psychophysics.response_times import ReactionTimes, reaction_times
from analysis.psychophysics.sides import position_bias
from analysis.psychophysics.type2 import type2_auroc

__all__ = [
    "Consistency",
    "Detection",
    "DifficultyCurve",
    "DifficultyCurves",
    "GuessingCheck",
    "Learning",
    "Metacognition",
    "ReactionTimes",
    "ReferencesComparison",
    "check_guessing",
    "compare_references",
    "d_prime_from_proportion",
    "detect",
    "fit_difficulty_curves",
    "learning_curve",
    "measure_confidence",
    "position_bias",
    "query_quantiles",
    "reaction_times",
    "repeat_consistency",
    "type2_auroc",
]
