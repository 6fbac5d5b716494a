"""How the proportion correct falls as queries come closer to the middle of a unit's activations.

A difficulty is a quantile: easy queries are the pictures next to the references, very hard ones lie 15 % of the pool
from either end. The curve is a psychometric function whose stimulus is

    x = -z(quantile),

z being the quantile function of the normal distribution: how many standard deviations the query would lie from the
median if activations were normal; 0 where both queries are the same. A judgement is right with probability

    .5 + (.5 - lapse) logistic(a + b x).

Units differ: each has an intercept and a slope of its own, drawn from a two-dimensional normal distribution. Mean,
spreads and correlation are fitted by maximum likelihood; the integral over units is done by adaptive Gauss-Hermite
quadrature (Pinheiro & Bates, 1995, Approximations to the log-likelihood function in the nonlinear mixed-effects model,
Journal of Computational and Graphical Statistics 4). A unit that was asked about at two difficulties alone thus still
has a curve, drawn towards that of all.

Intervals add two sources. Units: the sandwich of the marginal likelihood's scores. Participants, who are no part of
the model: an answer moves the fit by its own score, averaged over what its unit may be given all answers, and by what
it changes of that; summed over a participant's answers, what goes beyond the noise of single answers is added.

The curve of a cell is the mean over units, not the curve of a typical unit: the distribution of units is integrated
out. Fewer than three difficulties make no curve: two make a difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit, log_expit, logsumexp, ndtr, ndtri
from scipy.stats import chi2, t

from analysis.estimands import spell_estimand
from analysis.proportions import satterthwaite
from analysis.sandwich import LEVEL, Clusters, clustered_estimate, clustered_proportion
from benchmark.errors import AnalysisError
from benchmark.estimate import Estimate
from benchmark.protocol import DIFFICULTIES, Protocol

GUESS = 0.5
THRESHOLD = 0.75
LEAST_DIFFICULTIES = 3
NODES = 9
"""Nodes of the quadrature along each of its two dimensions, placed around each unit's posterior."""

_CURVE_POINTS = 61
_LEAST_LOG_SPREAD, _MOST_LOG_SPREAD = math.log(1e-3), math.log(20.0)

Floats = NDArray[np.float64]


def query_quantiles(protocol: Protocol, pool: int | None = None) -> dict[str, float]:
    """Return the quantile in the middle of each difficulty's queries.

    Parameters
    ----------
    protocol
        Protocol of the study.
    pool
        Pictures in the pool; the protocol's nominal size if None. In a small pool easy queries lie further from the
        end than in a large one, because references take the outermost pictures.

    Returns
    -------
    For each difficulty that the pool can carry: the share of the pool beyond the middle of its queries.
    """
    size = pool or protocol.rules.pool.size
    found = {}
    for difficulty in DIFFICULTIES:
        if protocol.smallest_pool((difficulty,)) <= size:
            window = protocol.windows(size, (difficulty,)).queries[difficulty]
            found[str(difficulty)] = (window.start + window.count / 2) / size
    return found


def query_distance(quantile: ArrayLike) -> Floats:
    """Return the stimulus of the curve, -z(quantile).

    Raises
    ------
    AnalysisError
        If a quantile does not lie above 0 and up to one half.
    """
    share = np.asarray(quantile, dtype=np.float64)
    if not np.all((share > 0) & (share <= 0.5)):
        raise AnalysisError(
            f"A query's quantile lies above 0 and up to .5, not at {share[~((share > 0) & (share <= 0.5))][0]:g}."
        )
    distance: Floats = -ndtri(share)
    return distance


# ------------------------------------------------------------------------------------------------ the model


@dataclass(frozen=True)
class _Counts:
    """Answers and right ones of each unit at each difficulty, and what the difficulties are."""

    answers: Floats
    right: Floats
    x: Floats
    lapse: float


@dataclass(frozen=True)
class _Posterior:
    """What each unit may be: nodes in units of the standard normal, shape (units, nodes), and their weights."""

    log_likelihood: float
    first: Floats
    second: Floats
    weights: Floats
    eta: Floats


def _spreads(parameters: Floats) -> tuple[float, float, float]:
    """Return the Cholesky factor of the covariance of intercepts and slopes."""
    return math.exp(parameters[2]), float(parameters[3]), math.exp(parameters[4])


def _log_chances(eta: Floats, lapse: float) -> tuple[Floats, Floats]:
    """Return the logs of the chances of a right and a wrong answer."""
    gain = 1 - GUESS - lapse
    right = np.log(GUESS + gain * expit(eta))
    # 1 - guess - gain F = gain (1 - F) + lapse
    wrong = (
        np.logaddexp(math.log(gain) + log_expit(-eta), math.log(lapse)) if lapse else math.log(gain) + log_expit(-eta)
    )
    return right, wrong


def _score(eta: Floats, lapse: float) -> tuple[Floats, Floats]:
    """Return the derivative by eta of the logs of the chances of a right and a wrong answer."""
    gain = 1 - GUESS - lapse
    up, down = expit(eta), expit(-eta)
    if_right = gain * up * down / (GUESS + gain * up)
    # Without lapses, gain F (1 - F) / (gain (1 - F)) is F, also where 1 - F is too small a number to divide by.
    if_wrong = -up if lapse == 0 else -gain * up * down / (gain * down + lapse)
    return if_right, if_wrong


def _integrate(parameters: Floats, counts: _Counts) -> _Posterior:
    """Integrate over units by adaptive Gauss-Hermite quadrature."""
    one, cross, two = _spreads(parameters)
    base = parameters[0] + parameters[1] * counts.x
    on_first, on_second = one + cross * counts.x, two * counts.x
    wrong = counts.answers - counts.right
    mode = np.zeros((len(counts.answers), 2))
    for _ in range(25):
        eta = base + mode[:, :1] * on_first + mode[:, 1:] * on_second
        if_right, if_wrong = _score(eta, counts.lapse)
        slope = counts.right * if_right + wrong * if_wrong
        curve = -counts.answers * if_right * if_wrong  # Fisher's information on eta
        gradient = np.column_stack([slope @ on_first, slope @ on_second]) - mode
        a, b, c = 1 + curve @ on_first**2, curve @ (on_first * on_second), 1 + curve @ on_second**2
        determinant = a * c - b**2
        step = np.column_stack([c * gradient[:, 0] - b * gradient[:, 1], a * gradient[:, 1] - b * gradient[:, 0]])
        step = np.clip(step / determinant[:, None], -1.0, 1.0)
        mode = mode + step
        if np.abs(step).max() < 1e-7:
            break
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    left, right = (grid.ravel() for grid in np.meshgrid(nodes, nodes, indexing="ij"))
    log_weight = np.log(np.outer(weights, weights).ravel() / (2 * math.pi))
    # Nodes lie at mode + S n, S S' being the inverse of the information.
    s11 = np.sqrt(c / determinant)
    s21 = -b / determinant / s11
    s22 = np.sqrt(np.maximum(a / determinant - s21**2, 1e-300))
    first = mode[:, :1] + s11[:, None] * left
    second = mode[:, 1:] + s21[:, None] * left + s22[:, None] * right
    eta = base + first[..., None] * on_first + second[..., None] * on_second
    log_right, log_wrong = _log_chances(eta, counts.lapse)
    likelihood = np.einsum("und,ud->un", log_right, counts.right) + np.einsum("und,ud->un", log_wrong, wrong)
    terms = likelihood - 0.5 * (first**2 + second**2) + 0.5 * (left**2 + right**2) + log_weight
    terms = terms + (np.log(s11) + np.log(s22))[:, None]
    total = logsumexp(terms, axis=1, keepdims=True)
    return _Posterior(float(total.sum()), first, second, np.exp(terms - total), eta)


def _answer_scores(parameters: Floats, counts: _Counts, posterior: _Posterior) -> tuple[Floats, Floats]:
    """Return the score of a right and of a wrong answer about each unit at each difficulty, shape (units, d, 5)."""
    one, _, two = _spreads(parameters)
    scores = []
    for by_eta in _score(posterior.eta, counts.lapse):
        weighted = by_eta * posterior.weights[..., None]
        plain = weighted.sum(axis=1)
        on_first = np.einsum("und,un->ud", weighted, posterior.first)
        on_second = np.einsum("und,un->ud", weighted, posterior.second)
        parts = (plain, plain * counts.x, one * on_first, on_first * counts.x, two * on_second * counts.x)
        scores.append(np.stack(parts, axis=-1))
    return scores[0], scores[1]


def _gradient(parameters: Floats, counts: _Counts, posterior: _Posterior) -> Floats:
    right, wrong = _answer_scores(parameters, counts, posterior)
    total: Floats = np.einsum("ud,udp->p", counts.right, right) + np.einsum(
        "ud,udp->p", counts.answers - counts.right, wrong
    )
    return total


def _fit(counts: _Counts) -> tuple[Floats, float]:
    """Return the parameters that make the answers likeliest, and their log-likelihood."""

    def negative(parameters: Floats) -> tuple[float, Floats]:
        posterior = _integrate(parameters, counts)
        return -posterior.log_likelihood, -_gradient(parameters, counts, posterior)

    share = counts.right.sum() / counts.answers.sum()
    rescaled = float(np.clip((share - GUESS) / (1 - GUESS - counts.lapse), 0.05, 0.95))
    begin = np.array([math.log(rescaled / (1 - rescaled)), 0.5, math.log(0.8), 0.0, math.log(0.3)])
    spread = (_LEAST_LOG_SPREAD, _MOST_LOG_SPREAD)
    bounds = [(-30.0, 30.0), (-30.0, 30.0), spread, (-20.0, 20.0), spread]
    fitted = minimize(negative, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500})
    if not np.isfinite(fitted.fun):
        raise AnalysisError("The difficulty curve could not be fitted: its likelihood is not finite.")
    return fitted.x, -float(fitted.fun)


def _mean_chance(parameters: Floats, x: Floats, lapse: float) -> Floats:
    """Return the mean over units of the chance of a right answer, at each x (centred as in the fit)."""
    one, cross, two = _spreads(parameters)
    spread = np.sqrt((one + cross * x) ** 2 + (two * x) ** 2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    eta = (parameters[0] + parameters[1] * x)[:, None] + spread[:, None] * nodes
    chance: Floats = GUESS + (1 - GUESS - lapse) * (expit(eta) @ weights) / math.sqrt(2 * math.pi)
    return chance


# ------------------------------------------------------------------------------------------------ curves


@dataclass(frozen=True)
class Point:
    """The proportion correct at one difficulty, as observed and as the curve has it."""

    difficulty: str
    quantile: float
    observed: Estimate
    fitted: float


@dataclass(frozen=True)
class DifficultyCurve:
    """The psychometric function of one cell: a model and a condition, say.

    Attributes
    ----------
    cell
        What the cell is: ``{"model": "resnet50", "condition": "natural"}``.
    points
        Observed proportions, from the easiest on.
    slope
        Mean over units of b, the rise on the logistic scale for each standard deviation that queries lie further out.
    unit_spread, slope_spread
        Standard deviations between units of the curve's height (at the mean x) and of its slope. Their intervals hold
        the other parameters (likelihood ratio).
    curve
        Columns ``quantile``, ``value``, ``low``, ``high``: the mean over units with a pointwise band.
    threshold
        Quantile at which the mean proportion falls to ``THRESHOLD``; None where that lies outside the tested quantiles.
    threshold_note
        Why there is no threshold; else empty.
    units
        One row a unit: ``answers``, ``slope`` (its posterior mean), and by difficulty its posterior mean proportion.
    lapse
        Share of lapses that was assumed.
    log_likelihood
        Of the fit.
    band
        How the band was made.
    """

    cell: dict[str, str]
    points: tuple[Point, ...]
    slope: Estimate
    unit_spread: Estimate
    slope_spread: Estimate
    curve: pd.DataFrame
    threshold: Estimate | None
    threshold_note: str
    units: pd.DataFrame
    lapse: float
    log_likelihood: float
    band: str

    @property
    def verdict(self) -> str:
        """What the curve says, in words."""
        name = " ".join(self.cell.values())
        ends = (
            f"from {self.points[0].observed} ({self.points[0].difficulty}) to {self.points[-1].observed} "
            f"({self.points[-1].difficulty})"
        )
        if not self.slope.excludes_zero:
            return f"{name}: no change with difficulty is shown ({ends})."
        word = "falls" if self.slope.value > 0 else "rises"
        text = f"{name}: the proportion correct {word} with difficulty, {ends}"
        if self.threshold is not None:
            return f"{text}; it is {THRESHOLD:.2f} at the quantile {self.threshold}."
        return f"{text}; {self.threshold_note}."

    def table(self) -> pd.DataFrame:
        """Return one row a difficulty: the observed proportion with its interval, and the curve's."""
        return pd.DataFrame(
            [
                {
                    **self.cell, "difficulty": point.difficulty, "quantile": point.quantile,
                    "value": point.observed.value, "low": point.observed.low, "high": point.observed.high,
                    "fitted": point.fitted,
                }
                for point in self.points
            ]
        )  # fmt: skip


@dataclass(frozen=True)
class DifficultyCurves:
    """Curves of all cells that can carry one, and why the others can't."""

    curves: tuple[DifficultyCurve, ...]
    refused: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """Return the points of all curves."""
        return pd.concat([curve.table() for curve in self.curves], ignore_index=True)


def fit_difficulty_curves(
    table: pd.DataFrame,
    quantiles: Mapping[str, float],
    by: Sequence[str] = ("model", "condition"),
    *,
    lapse: float = 0.0,
    level: float = LEVEL,
) -> DifficultyCurves:
    """Fit a difficulty curve to each cell that was asked about at three difficulties or more.

    Parameters
    ----------
    table
        Table of judgements.
    quantiles
        The quantile of each difficulty's queries: ``query_quantiles`` takes it from a protocol.
    by
        Columns that make the cells.
    lapse
        Share of trials that are answered wrongly whatever is shown (from catch trials, say).
    level
        Coverage of the intervals.

    Raises
    ------
    AnalysisError
        If no cell can carry a curve, a difficulty has no quantile, or the lapse lies outside 0 to .5.
    """
    if table.empty:
        raise AnalysisError("There are no judgements to fit a difficulty curve to.")
    if not 0 <= lapse < 0.5:
        raise AnalysisError(f"A share of lapses lies between 0 and .5, not at {lapse:g}.")
    unknown = sorted(set(table["difficulty"].astype(str)) - set(quantiles))
    if unknown:
        raise AnalysisError(
            f"The quantile of the difficulty {unknown[0]!r} is not known. Take the quantiles from the study's protocol "
            "and the size of its pool: query_quantiles(protocol, pool)."
        )
    keys = pd.MultiIndex.from_arrays([table[name].astype(str).to_numpy() for name in by], names=list(by))
    codes, cells = pd.factorize(keys, sort=True)
    curves, refused = [], []
    for code, names in enumerate(cells):
        try:
            own = table[codes == code]
            curves.append(_fit_cell(own, dict(zip(by, names, strict=True)), quantiles, lapse, level))
        except AnalysisError as error:
            refused.append(str(error))
    if not curves:
        raise AnalysisError(" ".join(refused))
    return DifficultyCurves(tuple(curves), tuple(refused))


def _fit_cell(
    own: pd.DataFrame, cell: dict[str, str], quantiles: Mapping[str, float], lapse: float, level: float
) -> DifficultyCurve:
    name = " ".join(cell.values())
    spelt = own["difficulty"].astype(str).to_numpy()
    present = sorted(set(spelt), key=lambda difficulty: quantiles[difficulty])
    shares = np.array([quantiles[difficulty] for difficulty in present])
    if len(np.unique(shares)) < LEAST_DIFFICULTIES:
        raise AnalysisError(_refuse(own, spelt, present, name, level))
    if own["unit"].nunique() < 2:
        raise AnalysisError(f"{name}: one unit alone makes no curve over units.")
    correct = own["correct"].to_numpy(np.float64)
    if correct.min() == correct.max():
        raise AnalysisError(f"{name}: all answers are {'right' if correct[0] else 'wrong'}, so no curve can be fitted.")
    if correct.mean() <= GUESS:
        raise AnalysisError(
            f"{name}: {correct.mean():.3f} of the answers are right, no more than by guessing: there is no curve."
        )
    place = pd.Categorical(spelt, categories=present).codes.astype(np.int64)
    unit_names, unit = np.unique(own["unit"].astype(str).to_numpy(), return_inverse=True)
    distance = query_distance(shares)
    centre = float(distance[place].mean())
    size = (len(unit_names), len(present))
    cells = unit * size[1] + place
    counts = _Counts(
        answers=np.bincount(cells, minlength=math.prod(size)).astype(np.float64).reshape(size),
        right=np.bincount(cells, weights=correct, minlength=math.prod(size)).astype(np.float64).reshape(size),
        x=distance - centre,
        lapse=lapse,
    )
    parameters, log_likelihood = _fit(counts)
    clusters = Clusters.of(own)
    inside = _Inside(parameters, counts, clusters, unit, place, correct, level)
    fitted = _mean_chance(parameters, counts.x, lapse)
    points = []
    for n, difficulty in enumerate(present):
        rows = place == n
        observed = clustered_proportion(correct[rows], Clusters.of(own[rows]), unit="proportion correct", level=level)
        points.append(Point(difficulty, float(shares[n]), observed, float(fitted[n])))
    x = np.linspace(distance.max(), distance.min(), _CURVE_POINTS)
    low, high, freedom = inside.band(x - centre)
    curve = pd.DataFrame(
        {
            "quantile": ndtr(-x),
            "value": np.clip(_mean_chance(parameters, x - centre, lapse), low, high),
            "low": low,
            "high": high,
        }
    )
    threshold, note = inside.threshold(centre, distance)
    return DifficultyCurve(
        cell=cell,
        points=tuple(points),
        slope=inside.slope(),
        unit_spread=inside.spread(2, "standard deviation of log odds"),
        slope_spread=inside.spread(4, "standard deviation of log odds per SD of distance"),
        curve=curve,
        threshold=threshold,
        threshold_note=note,
        units=inside.units(unit_names, present),
        lapse=lapse,
        log_likelihood=log_likelihood,
        band=f"{inside.method(freedom)}, delta method; mean over units",
    )


def _refuse(own: pd.DataFrame, spelt: NDArray[np.str_], present: Sequence[str], name: str, level: float) -> str:
    """Say why there is no curve; two difficulties still make a difference."""
    if len(present) == 1:
        return f"{name}: one difficulty ({present[0]}) alone makes no curve."
    if len(present) > 2:
        return f"{name}: the difficulties {', '.join(present)} lie at fewer than three quantiles: no curve."
    correct = own["correct"].to_numpy(np.float64)
    first, second = spelt == present[0], spelt == present[1]
    one, two = correct[first].mean(), correct[second].mean()
    influence = first * (correct - one) / first.sum() - second * (correct - two) / second.sum()
    difference = clustered_estimate(
        float(one - two), influence, Clusters.of(own), unit="difference of proportions correct", bounds=(-1.0, 1.0),
        level=level,
    )  # fmt: skip
    return (
        f"{name}: two difficulties: a difference, no curve; {present[0]} less {present[1]} is {difference}. A curve "
        "takes at least three."
    )


class _Inside:
    """What follows from a fit: influences of answers, bands, thresholds and units."""

    def __init__(
        self,
        parameters: Floats,
        counts: _Counts,
        clusters: Clusters,
        unit: NDArray[np.int64],
        place: NDArray[np.int64],
        correct: Floats,
        level: float,
    ) -> None:
        self.parameters, self.counts, self.clusters, self.level = parameters, counts, clusters, level
        self.posterior = _integrate(parameters, counts)
        if_right, if_wrong = _answer_scores(parameters, counts, self.posterior)
        wrong = counts.answers - counts.right
        by_unit = np.einsum("ud,udp->up", counts.right, if_right) + np.einsum("ud,udp->up", wrong, if_wrong)
        # What one more right answer, less one more wrong one, adds to the total score: directly, and by moving its
        # unit's posterior (the derivative of the marginal score by the weight of an answer inside the integral).
        chance = GUESS + (1 - GUESS - counts.lapse) * expit(self.posterior.eta)
        expected = np.einsum("und,un->ud", chance, self.posterior.weights)
        change = if_right - if_wrong + self._moved(parameters, counts)
        by_answer = (correct - expected[unit, place])[:, None] * change[unit, place]
        # A spread of 0 lies on its bound: neither it nor, for slopes, their covariance then moves.
        self.free = [0, 1]
        if parameters[2] > _LEAST_LOG_SPREAD + 0.5:
            self.free += [2, 3]
        if parameters[4] > _LEAST_LOG_SPREAD + 0.5:
            self.free.append(4)
        information = self._information()[np.ix_(self.free, self.free)]
        values, vectors = np.linalg.eigh((information + information.T) / 2)
        # A direction that the answers say nothing of is left as it is, instead of being inverted.
        inverse = np.where(values > values.max() * 1e-10, 1 / np.maximum(values, 1e-300), 0.0)
        inverted = (vectors * inverse) @ vectors.T
        self.by_unit: Floats = by_unit[:, self.free] @ inverted
        self.by_answer: Floats = by_answer[:, self.free] @ inverted

    def _moved(self, parameters: Floats, counts: _Counts) -> Floats:
        """Return the posterior covariance of a unit's score with log p(right) - log p(wrong), shape (units, d, 5)."""
        posterior = self.posterior
        one, _, two = _spreads(parameters)
        if_right, if_wrong = _score(posterior.eta, counts.lapse)
        by_eta = if_right * counts.right[:, None] + if_wrong * (counts.answers - counts.right)[:, None]
        plain, sloped = by_eta.sum(axis=-1), by_eta @ counts.x
        parts = (
            plain,
            sloped,
            one * posterior.first * plain,
            posterior.first * sloped,
            two * posterior.second * sloped,
        )
        score = np.stack(parts, axis=-1)
        weights = posterior.weights
        score = score - np.einsum("unp,un->up", score, weights)[:, None]
        log_right, log_wrong = _log_chances(posterior.eta, counts.lapse)
        moved: Floats = np.einsum("unp,und,un->udp", score, log_right - log_wrong, weights, optimize=True)
        return moved

    def _information(self) -> Floats:
        """Return minus the Hessian of the log-likelihood, from differences of its gradient."""
        hessian = np.empty((5, 5))
        for n in range(5):
            step = 1e-4 * max(1.0, abs(self.parameters[n]))
            ends = []
            for sign in (1, -1):
                moved = self.parameters.copy()
                moved[n] += sign * step
                ends.append(_gradient(moved, self.counts, _integrate(moved, self.counts)))
            hessian[n] = (ends[0] - ends[1]) / (2 * step)
        return -hessian

    def variance(self, by_parameter: Floats) -> tuple[float, float]:
        """Return the variance of a quantity with such derivatives by the parameters, and its degrees of freedom."""
        units = len(self.by_unit)
        from_units = float(((self.by_unit @ by_parameter[self.free]) ** 2).sum()) * units / (units - 1)
        if "participant" not in self.clusters.names:
            return from_units, units - 1.0
        person = self.clusters.codes[self.clusters.names.index("participant")]
        people = int(person.max()) + 1
        influence = self.by_answer @ by_parameter[self.free]
        sums = np.bincount(person, weights=influence)
        from_people = max(float((sums**2).sum()) * people / (people - 1) - float((influence**2).sum()), 0.0)
        total, first, second = (np.array([value]) for value in (from_units + from_people, from_units, from_people))
        freedom = satterthwaite(total, first, np.array([units - 1.0]), second, np.array([people - 1.0]))
        return float(total[0]), float(freedom[0])

    def method(self, freedom: float) -> str:
        """Return the method of an interval."""
        return (
            f"maximum likelihood with units as random; units (sandwich) and participants (influence) added "
            f"({self.clusters.words}), Student's t on {freedom:.1f} degrees of freedom"
        )

    def slope(self) -> Estimate:
        """Return the mean slope."""
        variance, freedom = self.variance(np.eye(5)[1])
        half = float(t.ppf((1 + self.level) / 2, freedom)) * math.sqrt(variance)
        value = float(self.parameters[1])
        return Estimate(
            value, value - half, value + half, self.method(freedom), self.clusters.smallest,
            "log odds per SD of distance", self.clusters.estimand, self.level,
        )  # fmt: skip

    def _derivatives(self, x: Floats) -> Floats:
        """Return the derivatives of the mean curve by the parameters, shape (points, 5)."""
        columns = []
        for n in range(5):
            up, down = self.parameters.copy(), self.parameters.copy()
            up[n] += 1e-5
            down[n] -= 1e-5
            lapse = self.counts.lapse
            columns.append((_mean_chance(up, x, lapse) - _mean_chance(down, x, lapse)) / 2e-5)
        return np.column_stack(columns)

    def band(self, x: Floats) -> tuple[Floats, Floats, float]:
        """Return the pointwise band of the mean curve, and its smallest degrees of freedom.

        It is made on the logistic scale between the guess rate and the ceiling, so that it stays between them.
        """
        gain = 1 - GUESS - self.counts.lapse
        value = np.clip((_mean_chance(self.parameters, x, self.counts.lapse) - GUESS) / gain, 1e-9, 1 - 1e-9)
        derivatives = self._derivatives(x) / gain / (value * (1 - value))[:, None]
        halves, freedoms = np.empty(len(x)), np.empty(len(x))
        for n, row in enumerate(derivatives):
            variance, freedoms[n] = self.variance(row)
            halves[n] = t.ppf((1 + self.level) / 2, freedoms[n]) * math.sqrt(variance)
        middle = np.log(value / (1 - value))
        exact = GUESS + gain * value
        low = np.minimum(GUESS + gain * expit(middle - halves), exact)
        high = np.maximum(GUESS + gain * expit(middle + halves), exact)
        return low, high, float(freedoms.min())

    def threshold(self, centre: float, distance: Floats) -> tuple[Estimate | None, str]:
        """Return the quantile at which the mean curve crosses the threshold, or why it does not."""

        def excess(x: float) -> float:
            chance = _mean_chance(self.parameters, np.array([x - centre]), self.counts.lapse)
            return float(chance[0]) - THRESHOLD

        near, far = float(distance.min()), float(distance.max())
        if excess(near) * excess(far) > 0:
            side = "above" if excess(near) > 0 else "below"
            return None, f"it stays {side} {THRESHOLD:.2f} at all tested quantiles"
        x = float(brentq(excess, near, far, xtol=1e-10))
        place = np.array([x - centre])
        rise = (excess(x + 1e-5) - excess(x - 1e-5)) / 2e-5
        variance, freedom = self.variance(self._derivatives(place)[0] / -rise)
        half = float(t.ppf((1 + self.level) / 2, freedom)) * math.sqrt(variance)
        value, low, high = float(ndtr(-x)), float(ndtr(-x - half)), min(float(ndtr(-x + half)), 0.5)
        method = f"{self.method(freedom)}, delta method on the scale of the distance"
        estimate = Estimate(
            value, min(low, value), max(high, value), method, max(self.clusters.smallest, 1), "quantile",
            self.clusters.estimand, self.level,
        )  # fmt: skip
        return estimate, ""

    def spread(self, which: int, unit: str) -> Estimate:
        """Return a standard deviation between units, with its likelihood-ratio interval, other parameters held.

        Slopes' spread is the length of its row of the Cholesky factor; the interval scales the row.
        """
        one, cross, two = _spreads(self.parameters)
        value = one if which == 2 else math.hypot(cross, two)
        method = "maximum likelihood (adaptive quadrature); likelihood-ratio interval, other parameters held"
        limit = self.posterior.log_likelihood - float(chi2.ppf(self.level, 1)) / 2

        def excess(log_scale: float) -> float:
            moved = self.parameters.copy()
            moved[which] += log_scale
            if which == 4:
                moved[3] *= math.exp(log_scale)
            return _integrate(moved, self.counts).log_likelihood - limit

        bottom, top = math.log(1e-3 / value), math.log(20.0 / value)
        low = 0.0 if bottom >= 0 or excess(bottom) >= 0 else value * math.exp(brentq(excess, bottom, 0.0, xtol=1e-4))
        high = math.inf if top <= 0 or excess(top) >= 0 else value * math.exp(brentq(excess, 0.0, top, xtol=1e-4))
        units = len(self.counts.answers)
        value = 0.0 if value <= 2e-3 else value
        estimand = spell_estimand("new units")
        return Estimate(value, min(low, value), high, method, units, unit, estimand, self.level)

    def units(self, names: NDArray[np.str_], present: Sequence[str]) -> pd.DataFrame:
        """Return each unit's posterior means."""
        _, cross, two = _spreads(self.parameters)
        weights = self.posterior.weights
        slope = self.parameters[1] + (weights * (cross * self.posterior.first + two * self.posterior.second)).sum(
            axis=1
        )
        chance = GUESS + (1 - GUESS - self.counts.lapse) * expit(self.posterior.eta)
        means = np.einsum("und,un->ud", chance, weights)
        columns = {"unit": names, "answers": self.counts.answers.sum(axis=1).astype(np.int64), "slope": slope}
        return pd.DataFrame({**columns, **{difficulty: means[:, n] for n, difficulty in enumerate(present)}})
