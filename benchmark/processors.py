"""How many processors there are to use."""

from __future__ import annotations

import os
from pathlib import Path


def count_processors() -> int:
    """Return how many processors this process may use, by its affinity and its control group's quota (version 2)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return min(allowed, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no control groups here, or no quota in them ("max")
        return allowed
