"""The published means of the 2023 paper: nine models, natural and synthetic references.

Source: Zimmermann, Klein & Brendel (2023), "Scale alone does not improve mechanistic interpretability in vision
models" (NeurIPS 2023; arXiv 2307.05471). The means and their 95 % intervals were read off the vector graphics of the
project page (repository brendel-group/imi, branch ``page``, commit fc67db9): heights of bars and ends of error bars.
They are means over 84 units of 30 answers each, with BCa bootstrap intervals over units. Parameters are counted on the
networks that were shown (the image tower only, for CLIP); accuracies are those of the paper's notebook.
"""

from __future__ import annotations

from importlib import resources

import pandas as pd

from analysis.intervals.quantiles import critical_value
from benchmark.estimate import LEVEL

__all__ = ["published_means", "published_models"]

SOURCE = "Zimmermann, Klein & Brendel (2023), arXiv 2307.05471; read off the figures of the project page"
UNITS = 84
ANSWERS_PER_UNIT = 30
CONDITIONS = ("natural", "synthetic")


def published_models() -> pd.DataFrame:
    """Return what is known of the nine models.

    Returns
    -------
    One row a model: ``model``, ``family``, ``parameters``, ``training_images`` and ``top1`` (a share).
    """
    table = _read().rename(columns={"params": "parameters", "train_images": "training_images"})
    return table[["model", "family", "parameters", "training_images", "top1"]]


def published_means() -> pd.DataFrame:
    """Return the published proportions correct.

    Returns
    -------
    One row a model and condition that was run: ``model``, ``condition``, ``value``, ``low``, ``high``,
    ``standard_error`` (half the interval over 1.96: the figures give no other) and ``answers``.
    """
    table = _read()
    parts = []
    for condition in CONDITIONS:
        own = table[["model", condition, f"{condition}_low", f"{condition}_high"]].dropna()
        own.columns = pd.Index(["model", "value", "low", "high"])
        parts.append(own.assign(condition=condition))
    means = pd.concat(parts, ignore_index=True)
    means["standard_error"] = (means["high"] - means["low"]) / (2 * critical_value(LEVEL))
    means["answers"] = UNITS * ANSWERS_PER_UNIT
    return means[["model", "condition", "value", "low", "high", "standard_error", "answers"]]


def _read() -> pd.DataFrame:
    with resources.as_file(resources.files("analysis") / "data" / "imi_2023.csv") as path:
        return pd.read_csv(path)
