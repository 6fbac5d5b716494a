"""Proportion correct, with intervals that say what they generalise to."""

from analysis.confidence_sequences import estimate_at_any_time, follow_mean
from analysis.estimands import spell_estimand
from analysis.proportions.answers import Answers, read_answers
from analysis.proportions.clustered_means import ClusteredMeans, Mean, cluster_means
from analysis.proportions.estimates import ProportionCell, Proportions, StandardErrors, estimate_proportions
from analysis.proportions.intervals import Interval
from analysis.proportions.side_by_side import Intervals, compare_intervals
from analysis.variance_components import Components, split_variance

__all__ = [
    "Answers",
    "ClusteredMeans",
    "Components",
    "Interval",
    "Intervals",
    "Mean",
    "ProportionCell",
    "Proportions",
    "StandardErrors",
    "cluster_means",
    "compare_intervals",
    "estimate_at_any_time",
    "estimate_proportions",
    "follow_mean",
    "read_answers",
    "spell_estimand",
    "split_variance",
]
