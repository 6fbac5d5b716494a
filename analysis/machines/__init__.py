"""How machine observers answer: scores beside the controls, and scores over smaller pools."""

from analysis.machines.performance import MachineScore, MachineScores, observer_check, score_machines
from analysis.machines.pool_sizes import (
    PoolSizeChange,
    PoolSizeCurve,
    pool_size_changes,
    score_pool_sizes,
)

__all__ = [
    "MachineScore",
    "MachineScores",
    "PoolSizeChange",
    "PoolSizeCurve",
    "observer_check",
    "pool_size_changes",
    "score_machines",
    "score_pool_sizes",
]
