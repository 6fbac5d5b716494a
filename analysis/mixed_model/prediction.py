"""What a fitted mixed model predicts, for its own answers and for new ones, and what is left: quantile residuals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy.special import ndtri

from analysis.judgement_table import plain
from analysis.mixed_model.design import split_random
from analysis.mixed_model.links import Floats
from analysis.mixed_model.marginal_means import integrate
from benchmark.errors import AnalysisError, first_line, suggest

if TYPE_CHECKING:
    from analysis.mixed_model.fit import MixedModelFit

Levels = Literal["known", "new"]


def predict(fit: MixedModelFit, table: pd.DataFrame | None = None, levels: Levels = "known") -> pd.Series:
    """Return the probability of a right answer for each row of a table.

    Parameters
    ----------
    fit
        The fit.
    table
        Rows with the columns of the fixed effects, and of a guess rate that is a column; the answers that were fitted
        if None. For ``levels="known"`` also those of the random effects, as far as their levels are known.
    levels
        ``known``: units, people and models that were fitted keep their own effects (posterior means or modes), and
        the effects of others are integrated out. ``new``: all are integrated out, as for new units and people.

    Raises
    ------
    AnalysisError
        If a column is missing, or holds a value that a fixed effect has not seen.
    """
    if levels not in ("known", "new"):
        raise AnalysisError(f"There is no way to predict {levels!r}; there are 'known' and 'new' (levels).")
    own = fit.table if table is None else plain(table, outcome="")
    eta = _fixed_part(fit, own)
    variance = np.zeros(len(own))
    mode = fit.optimum.evaluation.mode.unknowns
    for which in range(len(fit.design.factors)):
        sd = fit.scales[which] * _multipliers(fit, own, which)
        place = _places(fit, own, which) if levels == "known" else np.full(len(own), -1)
        known = place >= 0
        eta[known] += sd[known] * mode[fit.system.levels[which]][place[known]]
        variance[~known] += sd[~known] ** 2
    guess = _guess(fit, own)
    mean = integrate(eta, variance, fit.model.link)[0]
    return pd.Series(
        guess + (1 - guess - fit.model.lapse) * mean, index=(own if table is None else table).index, name="probability"
    )


def _fixed_part(fit: MixedModelFit, table: pd.DataFrame) -> Floats:
    """Return the fixed part of the linear predictor."""
    return np.asarray(_columns(fit.design.specification, table) @ fit.coefficients)


def _columns(specification: Any, table: pd.DataFrame) -> Floats:
    """Return the columns of a design for other rows than those that were fitted."""
    from formulaic.errors import FormulaicError  # type: ignore[import-untyped, unused-ignore]

    try:
        made = specification.get_model_matrix(table, na_action="raise")
    except (FormulaicError, ValueError, KeyError, TypeError) as error:
        raise AnalysisError(
            f"The table lacks what the effects need ({first_line(error)}): it must have the columns and values "
            "that the model was fitted with."
        ) from error
    return np.asarray(made, dtype=np.float64)


def _multipliers(fit: MixedModelFit, table: pd.DataFrame, which: int) -> Floats:
    """Return what the effects of a factor are multiplied by in each row: 1 but for random slopes."""
    start = 0
    for term in fit.design.terms:
        if which in term.factors:
            columns = _columns(term.specification, table) / term.sizes
            lower = term.unit_lower(fit.optimum.shears[start : start + term.shears])
            return np.asarray((columns @ lower)[:, term.factors.index(which)])
        start += term.shears
    return np.ones(len(table))


def _places(fit: MixedModelFit, table: pd.DataFrame, which: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the number of each row's level of a factor; -1 where it was not fitted."""
    factor = fit.design.factors[which]
    columns = split_random(factor.name)[1].split(":")
    if any(column not in table for column in columns):
        return np.full(len(table), -1, dtype=np.int64)
    known = {label: number for number, label in enumerate(factor.labels)}
    parts = {column: table[column].astype(object).astype(str) for column in columns}
    plainly = _join([parts[column] for column in columns])
    found = plainly.map(known)
    models = fit.model.models
    if found.isna().any() and models in table and models not in columns:
        # Units and tasks of one name in several models were distinguished by the model's name before them.
        before = table[models].astype(object).astype(str) + "/"
        parts = {c: before + part if c in ("unit", "task") else part for c, part in parts.items()}
        found = found.fillna(_join([parts[column] for column in columns]).map(known))
    return np.asarray(found.fillna(-1), dtype=np.int64)


def _join(parts: Sequence[pd.Series]) -> pd.Series:
    """Return names of several columns as one."""
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + ":" + part
    return whole


def _guess(fit: MixedModelFit, table: pd.DataFrame) -> Floats:
    """Return the guess rate of each row."""
    guess = fit.model.guess
    if not isinstance(guess, str):
        return np.full(len(table), float(guess))
    if guess not in table:
        raise AnalysisError(
            f"The guess rate is the column {guess!r}, which the table lacks. {suggest(guess, list(map(str, table)))}"
        )
    return np.asarray(table[guess], dtype=np.float64)


def quantile_residuals(fit: MixedModelFit, seed: int = 0) -> pd.DataFrame:
    """Return randomised quantile residuals of the answers.

    An answer has a place in its predicted distribution, drawn evenly from what it covers: (0, 1 - p) if wrong, (1 - p,
    1) if right, with p the probability at the levels' own effects. Through the normal distribution's inverse this is a
    standard normal number if the model holds (Dunn & Smyth 1996, Randomized quantile residuals, Journal of
    Computational and Graphical Statistics 5).

    Returns
    -------
    The answers that were fitted, in the order of the table, with ``probability`` and ``residual`` beside.
    """
    probability = predict(fit)
    right = fit.table[fit.model.outcome].to_numpy(dtype=np.float64) == 1
    wrong = 1 - probability.to_numpy()
    drawn = np.random.default_rng([seed, 0x51]).random(len(right))
    place = np.where(right, wrong + drawn * (1 - wrong), drawn * wrong)
    tiny = np.finfo(np.float64).tiny
    return fit.table.assign(probability=probability, residual=ndtri(np.clip(place, tiny, 1 - 1e-16)))
