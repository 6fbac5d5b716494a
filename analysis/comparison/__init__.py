"""Differences between models, and between conditions: with errors that know which units and people are shared."""

from analysis.comparison.differences import (
    Comparison,
    Difference,
    compare_conditions,
    compare_groups,
    compare_models,
)
from analysis.comparison.joint_means import DRAWS, JointMeans, draw_scores, join_means
from analysis.comparison.models import model_means
from analysis.comparison.ranks import RankedModel, Ranks, rank_models, rank_values
from analysis.comparison.unit_level import UnitLevelTest, compare_unit_means

__all__ = [
    "DRAWS",
    "Comparison",
    "Difference",
    "JointMeans",
    "RankedModel",
    "Ranks",
    "UnitLevelTest",
    "compare_conditions",
    "compare_groups",
    "compare_models",
    "compare_unit_means",
    "draw_scores",
    "join_means",
    "model_means",
    "rank_models",
    "rank_values",
]
