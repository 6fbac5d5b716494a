"""Proportion correct, with intervals that say what they speak for."""

from analysis.proportions.answers import Answers, read_answers
from analysis.proportions.clustered_means import ClusteredMeans, Mean, cluster_means
from analysis.proportions.estimates import ProportionCell, Proportions, StandardErrors, estimate_proportions
from analysis.proportions.intervals import LEVEL, Interval
from analysis.proportions.side_by_side import Intervals, compare_intervals

__all__ = [
    "LEVEL",
    "Answers",
    "ClusteredMeans",
    "Interval",
    "Intervals",
    "Mean",
    "ProportionCell",
    "Proportions",
    "StandardErrors",
    "cluster_means",
    "compare_intervals",
    "estimate_proportions",
    "read_answers",
]
