"""Sensitivity apart from bias: d', criterion and position bias, by model and condition.

Each trial shows two queries, one above the other. Read as detection theory reads two-alternative forced choice
(Macmillan & Creelman, 2005, Detection theory: a user's guide, chapter 7), the side of the maximal query is the
stimulus and the side chosen the response: choosing the upper query is a hit where the maximal one is on top, and a
false alarm where it is not. With z the quantile function of the normal distribution,

    d' = (z(hits) - z(false alarms)) / sqrt(2),        criterion = -(z(hits) + z(false alarms)) / 2.

Without bias, d' is sqrt(2) z(proportion correct). A positive criterion means that the lower query is preferred. Such a
preference lowers the proportion of right answers, but not d'.

Two answers are given for every cell. *Pooled*: the rates of all answers together, with an interval for new units and
new people. *Hierarchical*: each participant has a d' and a criterion of their own, drawn from normal distributions;
their means and spreads are fitted by maximum likelihood, the integral over participants done by Gauss-Hermite
quadrature (the random-effects form of the model: DeCarlo, 1998, Signal detection theory and generalized linear models,
Psychological Methods 3). No cell is ever corrected for being empty in that fit; a participant's own posterior mean is
drawn towards the rest the more, the fewer their answers. Where people differ, the mean of their d' exceeds the d' of
pooled rates: averaging probabilities flattens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize
from scipy.special import log_ndtr, logsumexp, ndtri
from scipy.stats import chi2, fisher_exact, norm, t

from analysis.estimands import spell_estimand
from analysis.sandwich import LEVEL, Clusters, clustered_estimate, clustered_proportion
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate

ROOT_TWO = math.sqrt(2.0)
NODES = 9
"""Nodes of the quadrature along each of its two dimensions, placed around each participant's posterior."""

_LEAST_SPREAD, _MOST_SPREAD = 1e-3, 4.0
"""Standard deviations between participants that are looked for, in units of d'; below the least, they are 0."""


def d_prime_from_proportion(proportion: ArrayLike) -> NDArray[np.float64]:
    """Return the d' of an unbiased observer in two-alternative forced choice: sqrt(2) z(proportion correct).

    A proportion of 1 gives infinity and 0 minus infinity, as the definition says.
    """
    share = np.asarray(proportion, dtype=np.float64)
    if not np.all((share >= 0) & (share <= 1)):
        raise AnalysisError("A proportion correct lies between 0 and 1.")
    distance: NDArray[np.float64] = ROOT_TWO * ndtri(share)
    return distance


def count_choices(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Count hits and false alarms.

    Parameters
    ----------
    table
        Table of judgements.
    by
        Columns whose combinations are counted apart.

    Returns
    -------
    One row for each combination, sorted, with ``upper_trials`` and ``hits`` (the maximal query on top; the upper one
    chosen) and ``lower_trials`` and ``false_alarms`` (the maximal query below; the upper one chosen).

    Raises
    ------
    AnalysisError
        If the table is empty.
    """
    if table.empty:
        raise AnalysisError("There are no judgements to count hits and false alarms in.")
    top, upper = table["max_on_top"].to_numpy(), table["upper"].to_numpy()
    parts = {"upper_trials": top, "hits": top * upper, "lower_trials": 1 - top, "false_alarms": (1 - top) * upper}
    keys = [table[name].astype(str).to_numpy() for name in by]
    counts = pd.DataFrame(parts).groupby(keys, sort=True).sum()
    counts.index.names = list(by)
    return counts.reset_index()


def corrected_rates(counts: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return hit and false-alarm rates with the log-linear correction: (x + 1/2) / (n + 1), in every row.

    Reference: Hautus (1995), Corrections for extreme proportions and their biasing effects on estimated values of d',
    Behavior Research Methods 27.
    """
    hits = (counts["hits"].to_numpy(np.float64) + 0.5) / (counts["upper_trials"].to_numpy(np.float64) + 1)
    alarms = (counts["false_alarms"].to_numpy(np.float64) + 0.5) / (counts["lower_trials"].to_numpy(np.float64) + 1)
    return hits, alarms


@dataclass(frozen=True)
class Detection:
    """Sensitivity and bias in one cell: a model and a condition, say.

    Attributes
    ----------
    cell
        What the cell is: ``{"model": "resnet50", "condition": "natural"}``.
    answers, participants
        How many there are.
    d_prime, criterion
        From the pooled rates; two-way cluster-robust intervals.
    typical_d_prime, typical_criterion
        Means over participants, from the hierarchical fit; None with fewer than three participants.
    spread_d_prime, spread_criterion
        Standard deviations between participants, from the same fit; 0 where maximum likelihood sees none.
    upper
        Share of answers that chose the upper query.
    bias
        Proportion right where the maximal query is on top, less that where it is below: 0 without bias.
    bias_p
        p of no such difference.
    individuals
        One row a participant: counts, ``d_prime`` and ``criterion`` with the log-linear correction, and their posterior
        means ``shrunk_d_prime`` and ``shrunk_criterion`` (equal to the former where there is no hierarchical fit).
    """

    cell: dict[str, str]
    answers: int
    participants: int
    d_prime: Estimate
    criterion: Estimate
    typical_d_prime: Estimate | None
    typical_criterion: Estimate | None
    spread_d_prime: Estimate | None
    spread_criterion: Estimate | None
    upper: Estimate
    bias: Estimate
    bias_p: float
    individuals: pd.DataFrame

    @property
    def verdict(self) -> str:
        """What the cell says of position bias, in words."""
        name = " ".join(self.cell.values())
        if self.bias.method.startswith("no interval"):
            return f"{name}: position bias can't be judged: {self.bias.method.removeprefix('no interval: ')}."
        if not self.bias.excludes_zero:
            return f"{name}: no position bias is seen (difference {self.bias}, p = {self.bias_p:.3f})."
        side = "upper" if self.bias.value > 0 else "lower"
        return f"{name}: people prefer the {side} query (difference {self.bias}, p = {self.bias_p:.3f})."


def detect(table: pd.DataFrame, by: Sequence[str] = ("model", "condition"), level: float = LEVEL) -> list[Detection]:
    """Estimate d', criterion and position bias in each cell.

    Parameters
    ----------
    table
        Table of judgements.
    by
        Columns that make the cells.
    level
        Coverage of the intervals.

    Returns
    -------
    One result a cell, sorted by its names.

    Raises
    ------
    AnalysisError
        If the table is empty, or a cell shows the maximal query on one side alone.
    """
    if table.empty:
        raise AnalysisError("There are no judgements to estimate d' from.")
    keys = pd.MultiIndex.from_arrays([table[name].astype(str).to_numpy() for name in by], names=list(by))
    codes, cells = pd.factorize(keys, sort=True)
    results = []
    for code, names in enumerate(cells):
        cell = dict(zip(by, names, strict=True))
        results.append(_detect_cell(table[codes == code], cell, level))
    return results


def _detect_cell(own: pd.DataFrame, cell: dict[str, str], level: float) -> Detection:
    name = " ".join(cell.values())
    top = own["max_on_top"].to_numpy(dtype=np.float64)
    upper = own["upper"].to_numpy(dtype=np.float64)
    if top.min() == top.max():
        raise AnalysisError(
            f"d' and bias of {name} can't be estimated: in all {len(own):,} answers the maximal query was "
            f"{'on top' if top[0] else 'below'}. Sides must be balanced, as the protocols of vimi have them."
        )
    clusters = Clusters.of(own)
    total = count_choices(own, ["participant"])
    pooled = total[["upper_trials", "hits", "lower_trials", "false_alarms"]].sum().to_frame().T
    (hit,), (alarm,) = corrected_rates(pooled)
    # Influence of each answer on z(hits) and z(false alarms), by the delta method.
    density = [math.exp(-0.5 * float(ndtri(rate)) ** 2) / math.sqrt(2 * math.pi) for rate in (hit, alarm)]
    on_hit = top * (upper - upper[top == 1].mean()) / (top.sum() * density[0])
    on_alarm = (1 - top) * (upper - upper[top == 0].mean()) / ((1 - top).sum() * density[1])
    z_hit, z_alarm = float(ndtri(hit)), float(ndtri(alarm))
    d_prime = clustered_estimate(
        (z_hit - z_alarm) / ROOT_TWO,
        (on_hit - on_alarm) / ROOT_TWO,
        clusters,
        unit="d'",
        level=level,
    )
    criterion = clustered_estimate(
        -(z_hit + z_alarm) / 2, -(on_hit + on_alarm) / 2, clusters, unit="criterion", level=level
    )
    bias, p = _bias(own, clusters, level)
    individuals, typical = _individuals(total, level)
    return Detection(
        cell=cell,
        answers=len(own),
        participants=len(total),
        d_prime=d_prime,
        criterion=criterion,
        typical_d_prime=typical.d_prime if typical else None,
        typical_criterion=typical.criterion if typical else None,
        spread_d_prime=typical.spread_d_prime if typical else None,
        spread_criterion=typical.spread_criterion if typical else None,
        upper=clustered_proportion(upper, clusters, unit="proportion upper", level=level),
        bias=bias,
        bias_p=p,
        individuals=individuals,
    )


def _bias(own: pd.DataFrame, clusters: Clusters, level: float) -> tuple[Estimate, float]:
    """Estimate the difference between right answers with the maximal query on top and below, and its p."""
    top, correct = own["max_on_top"].to_numpy(np.float64), own["correct"].to_numpy(np.float64)
    above, below = correct[top == 1].mean(), correct[top == 0].mean()
    influence = top * (correct - above) / top.sum() - (1 - top) * (correct - below) / (1 - top).sum()
    value = float(above - below)
    estimate = clustered_estimate(
        value, influence, clusters, unit="difference of proportions correct", bounds=(-1.0, 1.0),
        level=level,
    )  # fmt: skip
    return estimate, clusters.p_value(value, influence)


# ------------------------------------------------------------------------------------- the hierarchical model


@dataclass(frozen=True)
class Hierarchy:
    """The hierarchical fit: means and spreads of participants' d' and criterion, and each one's posterior means."""

    d_prime: Estimate
    criterion: Estimate
    spread_d_prime: Estimate
    spread_criterion: Estimate
    shrunk_d_prime: NDArray[np.float64]
    shrunk_criterion: NDArray[np.float64]
    log_likelihood: float


def fit_hierarchy(counts: pd.DataFrame, level: float = LEVEL) -> Hierarchy:
    """Fit normal distributions of d' and criterion over participants, by maximum likelihood.

    Parameters
    ----------
    counts
        One row a participant, as ``count_choices`` makes them.
    level
        Coverage of the intervals of the means (observed information; Student's t with participants - 1 degrees of
        freedom, since the spreads are estimated from so many).

    Raises
    ------
    AnalysisError
        If there are fewer than three participants.
    """
    people = len(counts)
    if people < 3:
        raise AnalysisError(
            f"A hierarchical fit of d' needs three participants, not {people}: a spread can't be told from "
            f"{'two' if people == 2 else 'one'}. Use the pooled estimate."
        )
    trials = counts[["upper_trials", "lower_trials"]].to_numpy(np.float64)
    chosen = counts[["hits", "false_alarms"]].to_numpy(np.float64)
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    first, second = (grid.ravel() for grid in np.meshgrid(nodes, nodes, indexing="ij"))
    log_weight = np.log(np.outer(weights, weights).ravel() / (2 * math.pi))

    def by_node(mean: NDArray[np.float64], spread: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        # The nodes sit around each participant's own posterior, found once from their corrected rates: with plain
        # nodes, a participant with many answers would fall between two of them.
        centre, width = _own_posterior(trials, chosen, mean, spread)
        d = centre[:, :1] + width[:, :1] * first
        c = centre[:, 1:] + width[:, 1:] * second
        prior = -0.5 * (((d - mean[0]) / spread[0]) ** 2 + ((c - mean[1]) / spread[1]) ** 2) - np.log(spread).sum()
        jacobian = np.log(width).sum(axis=1)[:, None] + 0.5 * (first**2 + second**2) + log_weight
        return d, c, _log_likelihood(trials, chosen, d, c) + prior + jacobian

    def negative(parameters: NDArray[np.float64]) -> float:
        terms = by_node(parameters[:2], np.exp(parameters[2:]))[2]
        return -float(logsumexp(terms, axis=1).sum())

    def with_gradient(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        # By Fisher's identity, the gradient is the posterior mean of that of the participants' distribution.
        spread = np.exp(parameters[2:])
        d, c, terms = by_node(parameters[:2], spread)
        total = logsumexp(terms, axis=1, keepdims=True)
        posterior = np.exp(terms - total)
        gradient = np.empty(4)
        for n, value in enumerate((d, c)):
            away = (value - parameters[n]) / spread[n]
            gradient[n] = (posterior * away).sum() / spread[n]
            gradient[2 + n] = (posterior * (away**2 - 1)).sum()
        return -float(total.sum()), -gradient

    hits, alarms = corrected_rates(counts)
    own_d, own_c = (ndtri(hits) - ndtri(alarms)) / ROOT_TWO, -(ndtri(hits) + ndtri(alarms)) / 2
    begin = np.array([np.median(own_d), np.median(own_c), math.log(0.3), math.log(0.3)])
    spreads = (math.log(_LEAST_SPREAD), math.log(_MOST_SPREAD))
    bounds = [(-8.0, 8.0), (-8.0, 8.0), spreads, spreads]
    fitted = minimize(with_gradient, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 300})
    mean, spread = fitted.x[:2], np.exp(fitted.x[2:])
    d, c, terms = by_node(mean, spread)
    posterior = np.exp(terms - logsumexp(terms, axis=1, keepdims=True))
    errors = _standard_errors(negative, fitted.x)
    half = float(t.ppf((1 + level) / 2, people - 1)) * errors
    method = (
        f"hierarchical maximum likelihood over {people:,} participants (Gauss-Hermite quadrature), observed "
        f"information, Student's t with {people - 1} degrees of freedom"
    )
    estimand = spell_estimand("new people")
    means = [
        Estimate(
            float(mean[n]), float(mean[n] - half[n]), float(mean[n] + half[n]), method, people, unit, estimand, level
        )
        for n, unit in enumerate(("d'", "criterion"))
    ]
    return Hierarchy(
        d_prime=means[0],
        criterion=means[1],
        spread_d_prime=_spread(negative, fitted.x, 2, "standard deviation of d'", people, estimand, level),
        spread_criterion=_spread(negative, fitted.x, 3, "standard deviation of the criterion", people, estimand, level),
        shrunk_d_prime=(posterior * d).sum(axis=1),
        shrunk_criterion=(posterior * c).sum(axis=1),
        log_likelihood=-float(fitted.fun),
    )


def _log_likelihood(
    trials: NDArray[np.float64], chosen: NDArray[np.float64], d: NDArray[np.float64], c: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return each participant's log-likelihood at each node, without the binomial coefficients."""
    hit, alarm = d / ROOT_TWO - c, -d / ROOT_TWO - c
    total = np.zeros(np.broadcast_shapes(d.shape, c.shape))
    for n, z in enumerate((hit, alarm)):
        yes, no = chosen[:, n, None], trials[:, n, None] - chosen[:, n, None]
        total += yes * log_ndtr(z) + no * log_ndtr(-z)
    return total


def _own_posterior(
    trials: NDArray[np.float64], chosen: NDArray[np.float64], mean: NDArray[np.float64], spread: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mode and width of each participant's posterior of d' and criterion, by Newton's method.

    The log posterior is concave, and its gradient in z(hits) and z(false alarms) is that of a probit.
    """
    place = np.tile(mean, (len(trials), 1))
    sign = np.array([1.0, -1.0]) / ROOT_TWO
    information = np.tile(1 / spread**2, (len(trials), 1))
    for _ in range(12):
        z = place[:, :1] * sign - place[:, 1:]
        log_density = -0.5 * z**2 - 0.5 * math.log(2 * math.pi)
        yes, no = np.exp(log_density - log_ndtr(z)), np.exp(log_density - log_ndtr(-z))
        missed = trials - chosen
        slope = chosen * yes - missed * no
        curve = chosen * yes * (z + yes) + missed * no * (no - z)
        gradient = np.column_stack([(slope * sign).sum(axis=1), -slope.sum(axis=1)]) - (place - mean) / spread**2
        a = (curve * sign**2).sum(axis=1) + 1 / spread[0] ** 2
        b = -(curve * sign).sum(axis=1)
        e = curve.sum(axis=1) + 1 / spread[1] ** 2
        determinant = a * e - b**2
        step = np.column_stack([e * gradient[:, 0] - b * gradient[:, 1], a * gradient[:, 1] - b * gradient[:, 0]])
        step /= determinant[:, None]
        place = place + np.clip(step, -2.0, 2.0)
        information = np.column_stack([a, e])
        if np.abs(step).max() < 1e-8:
            break
    return place, 1 / np.sqrt(information)


def _spread(
    negative: Callable[[NDArray[np.float64]], float],
    place: NDArray[np.float64],
    which: int,
    unit: str,
    people: int,
    estimand: str,
    level: float,
) -> Estimate:
    """Return a standard deviation; in its interval, twice the log-likelihood falls by at most chi-square's quantile."""
    limit = -negative(place) - chi2.ppf(level, 1) / 2
    bottom, top = math.log(_LEAST_SPREAD), math.log(_MOST_SPREAD)

    def excess(value: float) -> float:
        moved = place.copy()
        moved[which] = value
        return float(-negative(moved) - limit)

    best = float(place[which])
    low = 0.0 if excess(bottom) >= 0 else math.exp(brentq(excess, bottom, best, xtol=1e-4))
    high = math.inf if excess(top) >= 0 else math.exp(brentq(excess, best, top, xtol=1e-4))
    value = 0.0 if best <= bottom + 1e-6 else math.exp(best)
    method = "maximum likelihood (Gauss-Hermite quadrature); likelihood-ratio interval, other parameters held"
    return Estimate(value, min(low, value), high, method, people, unit, estimand, level)


def _standard_errors(
    negative: Callable[[NDArray[np.float64]], float], place: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the standard errors of the first two parameters from the observed information, spreads held fixed.

    Means and log spreads are nearly orthogonal; a spread at its lower bound has no curvature to invert.
    """
    step = 1e-3
    hessian = np.empty((2, 2))
    for i in range(2):
        for j in range(2):
            total = 0.0
            for si in (1, -1):
                for sj in (1, -1):
                    moved = place.copy()
                    moved[i] += si * step
                    moved[j] += sj * step
                    total += si * sj * negative(moved)
            hessian[i, j] = total / (4 * step**2)
    return np.sqrt(np.diag(np.linalg.inv(hessian)))


def _individuals(counts: pd.DataFrame, level: float) -> tuple[pd.DataFrame, Hierarchy | None]:
    """Return the table of participants, and the hierarchical fit where there are enough of them."""
    hits, alarms = corrected_rates(counts)
    table = counts.assign(
        d_prime=(ndtri(hits) - ndtri(alarms)) / ROOT_TWO, criterion=-(ndtri(hits) + ndtri(alarms)) / 2
    )
    if len(counts) < 3:
        return table.assign(shrunk_d_prime=table["d_prime"], shrunk_criterion=table["criterion"]), None
    typical = fit_hierarchy(counts, level)
    return table.assign(shrunk_d_prime=typical.shrunk_d_prime, shrunk_criterion=typical.shrunk_criterion), typical


# ------------------------------------------------------------------------------------- who and what is biased


def position_bias(table: pd.DataFrame, by: str = "participant") -> pd.DataFrame:
    """Test each participant, or each unit, for a preference for one side.

    Parameters
    ----------
    table
        Table of judgements.
    by
        Column to go by: ``participant`` or ``unit``.

    Returns
    -------
    One row for each that was asked about on both sides, sorted by name: ``answers``, ``upper`` (share of answers that
    chose the upper query), ``right_above`` and ``right_below`` (proportion right with the maximal query on top and
    below), ``difference`` with ``low`` and ``high`` (Newcombe's interval of a difference of two proportions, 1998),
    ``p`` (Fisher's exact test of right or wrong against the side), ``p_holm`` (Holm's correction over the rows) and
    ``biased`` (``p_holm`` below .05).

    Raises
    ------
    AnalysisError
        If nobody was asked about both sides.
    """
    from statsmodels.stats.multitest import multipletests

    counts = count_choices(table, [by])
    counts = counts[(counts["upper_trials"] > 0) & (counts["lower_trials"] > 0)].reset_index(drop=True)
    if counts.empty:
        raise AnalysisError(
            f"Position bias by {by} can't be tested: no {by} was asked with the maximal query on top and with it below."
        )
    above, below = counts["upper_trials"].to_numpy(), counts["lower_trials"].to_numpy()
    right_above = counts["hits"].to_numpy()
    right_below = below - counts["false_alarms"].to_numpy()
    p = np.array(
        [float(fisher_exact([[a, m - a], [b, n - b]])[1]) for a, m, b, n in zip(right_above, above, right_below, below)]
    )
    holm = multipletests(p, method="holm")[1]
    first, first_low, first_high = _wilson(right_above, above)
    second, second_low, second_high = _wilson(right_below, below)
    return pd.DataFrame(
        {
            by: counts[by],
            "answers": (above + below).astype(np.int64),
            "upper": (counts["hits"] + counts["false_alarms"]).to_numpy() / (above + below),
            "right_above": first,
            "right_below": second,
            "difference": first - second,
            "low": first - second - np.hypot(first - first_low, second_high - second),
            "high": first - second + np.hypot(first_high - first, second - second_low),
            "p": p,
            "p_holm": holm,
            "biased": holm < 0.05,
        }
    )


def _wilson(right: NDArray[np.float64], trials: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return proportions and the ends of their Wilson intervals."""
    z = float(norm.ppf((1 + LEVEL) / 2))
    share = right / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z * np.sqrt(share * (1 - share) / trials + (z / trials) ** 2 / 4) / (1 + z**2 / trials)
    return share, middle - half, middle + half


def detection_table(results: Sequence[Detection]) -> pd.DataFrame:
    """Return results as a table, one row a cell: each estimate with the ends of its interval."""
    rows = []
    for result in results:
        row: dict[str, Any] = {**result.cell, "answers": result.answers, "participants": result.participants}
        for name in (
            "d_prime",
            "criterion",
            "typical_d_prime",
            "typical_criterion",
            "spread_d_prime",
            "spread_criterion",
            "upper",
            "bias",
        ):
            estimate: Estimate | None = getattr(result, name)
            for part in ("value", "low", "high"):
                row[name if part == "value" else f"{name}_{part}"] = getattr(estimate, part) if estimate else None
        rows.append({**row, "bias_p": result.bias_p})
    return pd.DataFrame(rows)
