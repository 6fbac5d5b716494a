"""Reliability of unit means: what it is, what it leaves to be reached, and how many answers give it."""

from analysis.reliability.ceilings import AccuracyCeiling, accuracy_ceiling, noise_ceiling
from analysis.reliability.curves import CurvePoint, ReliabilityCurve, answers_needed, reliability_curve
from analysis.reliability.estimates import Reliability, estimate_reliability
from analysis.reliability.published_means import ImpliedReliability, implied_reliability

__all__ = [
    "AccuracyCeiling",
    "CurvePoint",
    "ImpliedReliability",
    "Reliability",
    "ReliabilityCurve",
    "accuracy_ceiling",
    "answers_needed",
    "estimate_reliability",
    "implied_reliability",
    "noise_ceiling",
    "reliability_curve",
]
