"""Maximising Laplace's approximation over standard deviations and, for the joint objective, fixed effects.

A quasi-Newton method with the exact gradient comes near; Newton steps with a Hessian of differences of gradients end
the search so tightly that the answer no longer depends on where it began. The Hessian serves the standard errors too.
A standard deviation at zero makes its logarithm run away, and the likelihood flat; so small ones are tried at zero, and
kept there if nothing is lost: a boundary fit, which is a proper answer, and said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from analysis.mixed_model.design import ModelMatrix
from analysis.mixed_model.expectation_propagation import ExpectationPropagation
from analysis.mixed_model.laplace import Evaluation, Laplace, ModeNotFound
from analysis.mixed_model.links import Floats
from analysis.threads import one_thread

SMALLEST, LARGEST = math.log(1e-3), math.log(30.0)
"""Bounds of the logarithm of a standard deviation during the search."""
_SUSPECT = math.log(0.1)
"""Below this, a standard deviation is tried at zero."""
_STEP = 0.02
"""Step of the differences, in units of about a standard error."""
_SOLVED = 1e-7
"""Newton decrement, in units of likelihood squared away, at which the search has converged."""
_MOST_POLISHING = 8
_WALL = 1e3
"""How high the objective counts where it can't be computed."""
_LOOSE, _FINE, _TIGHT = 1e-5, 1e-7, 1e-9
"""How exact expectation propagation has to be on the way, for differences of gradients, and at the end."""
LARGE = 300_000
"""With more answers, rounding of sums exceeds what the finer tolerances buy: these are then ten and a hundred times
coarser, and the search begins at what a part of the answers says."""


class NotConverged(Exception):
    """The search ended without a maximum; the message says where it stood."""


@dataclass(frozen=True)
class Optimum:
    """Where the approximate likelihood is greatest.

    Attributes
    ----------
    spread
        Logarithms of the standard deviations, minus infinity at the boundary; and after them the shears of random
        slopes.
    moving
        Which of these are free: standard deviations that are not at the boundary, and what shears them.
    evaluation
        The objective there.
    hessian
        Second derivatives of the objective, with respect to what is free of the spread and, for the joint objective,
        the fixed effects.
    slopes
        Shape (coefficients, what is free of the spread): how the fixed effects at the mode follow it; zero for the
        joint objective, whose fixed effects are free themselves.
    converged
        Whether the gradient vanishes.
    decrement
        Log-likelihood that another Newton step would gain.
    """

    spread: Floats
    moving: NDArray[np.bool_]
    evaluation: Evaluation
    hessian: Floats
    slopes: Floats
    converged: bool
    decrement: float

    @property
    def log_sds(self) -> Floats:
        """Shape (factors,): logarithms of the standard deviations; minus infinity at the boundary."""
        return self.spread[: len(self.evaluation.sds)]

    def away_from_zero(self, least: float) -> Floats:
        """Return the spread with no standard deviation below a number: where another search may begin."""
        return np.concatenate([np.maximum(self.log_sds, math.log(least)), self.shears])

    @property
    def shears(self) -> Floats:
        """The shears of random slopes."""
        return self.spread[len(self.evaluation.sds) :]

    @property
    def free(self) -> NDArray[np.bool_]:
        """Shape (factors,): which standard deviations are not at the boundary."""
        return self.moving[: len(self.evaluation.sds)]


def spread_of_levels(
    design: ModelMatrix, optimum: Optimum, spread: Floats | None = None
) -> tuple[Floats, list[Floats]]:
    """Return how much levels differ, in the unit of the columns of the table.

    Parameters
    ----------
    design, optimum
        Of a fit.
    spread
        Another spread than the optimum's.

    Returns
    -------
    Shape (factors,): standard deviations; and for each term with slopes the correlations of its effects, a matrix.
    """
    count = len(design.factors)
    values = optimum.spread if spread is None else spread
    sds = np.exp(values[:count])
    found, correlations, start = sds.copy(), [], count
    for term in design.terms:
        shears = values[start : start + term.shears]
        root = term.root(sds[list(term.factors)], shears)
        found[list(term.factors)] = np.sqrt((root**2).sum(axis=1))
        with np.errstate(invalid="ignore", divide="ignore"):
            unit = root / found[list(term.factors)][:, None]
        correlations.append(unit @ unit.T)
        start += term.shears
    return found, correlations


def maximise(
    laplace: Laplace | ExpectationPropagation,
    spread: Floats,
    coefficients: Floats | None = None,
    *,
    held: NDArray[np.bool_] | None = None,
    held_coefficients: NDArray[np.bool_] | None = None,
    with_hessian: bool = True,
) -> Optimum:
    """Maximise the approximate likelihood.

    Parameters
    ----------
    laplace
        The approximation: Laplace's, or expectation propagation.
    spread
        Where to begin: logarithms of standard deviations, and the shears of random slopes after them. Minus infinity
        puts a factor at the boundary for good.
    coefficients
        Where to begin, for the joint objective.
    held
        What of the spread stays where it is.
    held_coefficients
        Fixed effects that stay where they are, for the joint objective.
    with_hessian
        Whether to find second derivatives and polish with them; without, the search ends sooner, within about a
        hundredth of a standard error of the maximum.

    Raises
    ------
    NotConverged
        If there is no maximum to be reached.
    """
    fixed = np.zeros(len(spread), dtype=bool) if held is None else held
    with one_thread():
        free = _drop_idle(laplace, ~fixed & np.isfinite(spread), spread)
        point = _Point(laplace, spread.copy(), coefficients, free, held_coefficients)
        point.approach(5e-3)
        suspects = point.free & point.is_deviation & (point.spread < _SUSPECT)
        if suspects.any():
            point = _try_zero(point, suspects)
        return point.polish() if with_hessian else point.stop()


def _drop_idle(laplace: Laplace | ExpectationPropagation, free: NDArray[np.bool_], spread: Floats) -> NDArray[np.bool_]:
    """Return what may move without the shears of columns whose standard deviation is 0: they change nothing."""
    free = free.copy()
    count = len(laplace.system.positions)
    for place, (column, _) in enumerate(laplace.system.sheared()):
        free[count + place] &= bool(np.isfinite(spread[column]))
    return free


class _Point:
    """Where a search stands, and what it may still move."""

    def __init__(
        self,
        laplace: Laplace | ExpectationPropagation,
        spread: Floats,
        coefficients: Floats | None,
        free: NDArray[np.bool_],
        held_coefficients: NDArray[np.bool_] | None,
    ) -> None:
        self.laplace = laplace
        self.spread = spread
        self.is_deviation = np.arange(len(spread)) < len(laplace.system.positions)
        self.coefficients = coefficients
        self.free = free
        self.held = held_coefficients
        self.loose = np.zeros(0, dtype=bool) if coefficients is None else np.ones(len(coefficients), dtype=bool)
        if held_coefficients is not None:
            self.loose = ~held_coefficients
        large = laplace.system.design.size > LARGE
        self.fine, self.tight = (10 * _FINE, 100 * _TIGHT) if large else (_FINE, _TIGHT)
        laplace.tolerance = _LOOSE
        self.current = self._evaluate(spread, coefficients)
        self.scale = self._find_scale()

    def _evaluate(self, spread: Floats, coefficients: Floats | None) -> Evaluation:
        """Return the objective at a point."""
        try:
            return self.laplace.evaluate(spread, coefficients)
        except ModeNotFound as error:
            raise NotConverged(
                "the most likely random effects were not found at standard deviations of "
                + ", ".join(f"{math.exp(value):.3g}" for value in spread[: len(self.laplace.system.positions)])
            ) from error

    def _find_scale(self) -> Floats:
        """Return about a standard error for each thing that moves: a matrix whose columns span the moves.

        For a log standard deviation it follows from how many of the levels the data, not the prior, determine.
        """
        system, selected = self.laplace.system, self.current.selected
        widths = []
        sheared = system.sheared()
        for which in np.flatnonzero(self.free):
            if not self.is_deviation[which]:
                # A shear is about a ratio of two standard deviations.
                column = sheared[which - len(system.positions)][0]
                own = math.exp(max(self.spread[column], _SUSPECT))
                widths.append(min(1 / (own * math.sqrt(len(system.levels[column]))), 0.5))
                continue
            levels = system.levels[which]
            effective = len(levels) - float(selected.variances[levels].sum())
            widths.append(min(1 / math.sqrt(max(2 * effective**2 / len(levels), 0.25)), 0.5))
        count = len(widths)
        matrix = np.zeros((count + int(self.loose.sum()),) * 2)
        matrix[np.arange(count), np.arange(count)] = widths
        if self.loose.any():
            factorised = self.current.factorised
            covariance = factorised.select_inverse(fixed=True).fixed[np.ix_(self.loose, self.loose)]
            matrix[count:, count:] = np.linalg.cholesky(covariance)
        return matrix

    def move(self, step: Floats) -> tuple[Floats, Floats | None]:
        """Return log standard deviations and fixed effects after a scaled step from here."""
        change = self.scale @ step
        spread = self.spread.copy()
        count = int(self.free.sum())
        spread[self.free] += change[:count]
        bounded = self.free & self.is_deviation
        spread[bounded] = np.clip(spread[bounded], SMALLEST - 2, LARGEST)
        if self.coefficients is None:
            return spread, None
        coefficients = self.coefficients.copy()
        coefficients[self.loose] += change[count:]
        return spread, coefficients

    def gradient(self, evaluation: Evaluation) -> Floats:
        """Return the scaled gradient."""
        count = len(self.free)
        parts = [evaluation.gradient[:count][self.free]]
        if self.coefficients is not None:
            parts.append(evaluation.gradient[count:][self.loose])
        return np.asarray(self.scale.T @ np.concatenate(parts))

    def at(self, step: Floats) -> Evaluation:
        """Return the objective after a scaled step."""
        return self._evaluate(*self.move(step))

    def settle(self, step: Floats, evaluation: Evaluation) -> None:
        """Go there."""
        self.spread, self.coefficients = self.move(step)
        self.current = evaluation

    def approach(self, tolerance: float) -> None:
        """Come near the maximum with a quasi-Newton method: until the scaled gradient is this small."""
        if not len(self.scale):
            return
        count = int(self.free.sum())
        widths = np.diag(self.scale)[:count]
        bounds = [
            ((SMALLEST - own) / width, (LARGEST - own) / width) if deviation else (-60.0, 60.0)
            for own, width, deviation in zip(self.spread[self.free], widths, self.is_deviation[self.free])
        ]
        bounds = [(min(low, 0.0), max(high, 0.0)) for low, high in bounds]
        bounds += [(-60.0, 60.0)] * int(self.loose.sum())
        self.laplace.tolerance = _LOOSE
        best: tuple[float, Floats, Evaluation] = (math.inf, np.zeros(0), self.current)

        def objective(step: Floats) -> tuple[float, Floats]:
            nonlocal best
            try:
                evaluation = self.at(step)
            except NotConverged:
                # A first step may leap to where the approximation breaks down: a wall there turns the search back.
                if not math.isfinite(best[0]):
                    raise
                away = step - best[1]
                return best[0] + _WALL * (1 + float(away @ away)), 2 * _WALL * away
            if evaluation.value < best[0]:
                best = (evaluation.value, step.copy(), evaluation)
            return evaluation.value, self.gradient(evaluation)

        minimize(
            objective,
            np.zeros(len(self.scale)),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 200, "ftol": 1e-10, "gtol": tolerance, "maxcor": 20},
        )
        self.settle(best[1], best[2])

    def hessian(self) -> tuple[Floats, Floats]:
        """Return scaled second derivatives, and how fixed effects at the mode follow; by central differences."""
        size = len(self.scale)
        second = np.empty((size, size))
        slopes = np.zeros((self.laplace.system.coefficients, size))
        start = self.current.mode.unknowns
        self.laplace.tolerance = self.fine
        for column in range(size):
            step = np.zeros(size)
            step[column] = _STEP
            self.laplace.restart(start)
            above = self.at(step)
            self.laplace.restart(start)
            below = self.at(-step)
            second[:, column] = (self.gradient(above) - self.gradient(below)) / (2 * _STEP)
            if self.laplace.free_fixed:
                slopes[:, column] = (above.coefficients - below.coefficients) / (2 * _STEP)
        self.laplace.restart(start)
        return (second + second.T) / 2, slopes

    def stop(self) -> Optimum:
        """Return the point as it is, without second derivatives."""
        gradient = self.gradient(self.current)
        decrement = float(0.5 * gradient @ gradient)
        unknown = np.full((len(self.scale),) * 2, np.nan)
        slopes = np.full((self.laplace.system.coefficients, int(self.free.sum())), np.nan)
        return Optimum(
            self.spread, self.free, self.current, unknown, slopes, decrement < 1e-2 and self.current.exact, decrement
        )

    def polish(self) -> Optimum:
        """Take Newton steps to the maximum."""
        size = len(self.scale)
        if not size:
            empty = np.zeros((0, 0))
            return self._optimum(empty, np.zeros((self.laplace.system.coefficients, 0)), True, 0.0)
        self.scale = self._find_scale()  # from here: it was that of the start
        second, slopes = self.hessian()
        self.laplace.tolerance = self.tight
        self.current = self._evaluate(self.spread, self.coefficients)
        decrement, moved, renewed = math.inf, 0.0, 0
        for _ in range(_MOST_POLISHING):
            gradient = self.gradient(self.current)
            direction = -_solve_convex(second, gradient)
            decrement = float(-0.5 * gradient @ direction)
            if decrement < _SOLVED**2:
                break
            length = min(1.0, 2.0 / float(np.abs(direction).max()))
            found = self.at(length * direction)
            while found.value > self.current.value + 1e-7 * max(1.0, abs(self.current.value) * 1e-3) and length > 1e-3:
                length /= 2
                found = self.at(length * direction)
            moved += length * float(np.abs(direction).max())
            self.settle(length * direction, found)
            if moved > 0.3 and renewed < 3:
                second, slopes = self.hessian()
                self.laplace.tolerance = self.tight
                moved, renewed = 0.0, renewed + 1
        gradient = self.gradient(self.current)
        decrement = float(0.5 * gradient @ _solve_convex(second, gradient))
        at_bound = bool((self.spread[self.free & self.is_deviation] > LARGEST - 1e-6).any())
        return self._optimum(second, slopes, decrement < 1e-6 and not at_bound, decrement)

    def _optimum(self, second: Floats, slopes: Floats, converged: bool, decrement: float) -> Optimum:
        """Return the result, in the units of the model."""
        inverse = np.linalg.inv(self.scale) if len(self.scale) else self.scale
        count = int(self.free.sum())
        return Optimum(
            spread=self.spread,
            moving=self.free,
            evaluation=self.current,
            hessian=inverse.T @ second @ inverse,
            slopes=(slopes @ inverse)[:, :count],
            converged=converged and self.current.exact,
            decrement=decrement,
        )


def _solve_convex(second: Floats, right: Floats) -> Floats:
    """Solve with a matrix of second derivatives, made convex where it is not."""
    values, vectors = np.linalg.eigh(second)
    floor = 1e-5 * max(float(np.abs(values).max()), 1e-12)
    return np.asarray(vectors @ ((vectors.T @ right) / np.maximum(np.abs(values), floor)))


def _try_zero(point: _Point, suspects: NDArray[np.bool_]) -> _Point:
    """Put small standard deviations at zero, the smallest first, where that loses no likelihood."""
    for which in sorted(np.flatnonzero(suspects), key=lambda which: float(point.spread[which])):
        spread = point.spread.copy()
        spread[which] = -math.inf
        free = point.free.copy()
        free[which] = False
        free = _drop_idle(point.laplace, free, spread)
        point.laplace.restart(point.current.mode.unknowns)
        other = _Point(point.laplace, spread, point.coefficients, free, point.held)
        other.approach(5e-3)
        if other.current.value <= point.current.value + 1e-7 * max(1.0, abs(point.current.value) * 1e-3):
            point = other
        else:
            point.laplace.restart(point.current.mode.unknowns)
    return point
