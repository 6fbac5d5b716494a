"""Laplace's approximation to the likelihood of a mixed model, and its gradient.

With the random effects scaled to unit variance, the penalised negative log-likelihood of fixed effects b and random
effects u is ``P = -sum log p(y | eta) + |u|^2 / 2``. Laplace's approximation puts a normal density at its mode: the
log-likelihood is about ``-P - log|H| / 2`` at the mode, with H the Hessian of P. Three ways to use it:

``joint``
    The mode is over u, the fixed effects are maximised together with the standard deviations: maximum likelihood.
``restricted``
    The mode is over b and u, and H is that of both: the fixed effects are integrated out, as in restricted maximum
    likelihood, which gives the standard deviations back the degrees of freedom that fixed effects take.
``penalised``
    The mode is over b and u, but H is that of u alone: what lme4 does with nAGQ = 0.

H holds the observed curvature, or the expected one (Fisher's), which is always positive. The gradient follows the
mode as the standard deviations change (implicit differentiation; Kristensen et al. 2016, TMB, section 2), and needs the
leverage of every answer besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.mixed_model.factorisation import Factorisation, NotPositiveDefinite, SelectedInverse
from analysis.mixed_model.links import Floats, Link, Terms
from analysis.mixed_model.system import System

Objective = Literal["joint", "restricted", "penalised"]
Curvature = Literal["observed", "expected"]

_MOST_STEPS = 200
_CLOSE = 1e-18
"""Newton decrement (twice the penalised likelihood still to be gained) at which the mode counts as found."""
_FLAT = 1e-9
"""Decrement at which the mode is accepted when rounding lets no step gain anything more."""


class ModeNotFound(Exception):
    """The penalised likelihood has no maximum that can be reached."""


@dataclass(frozen=True)
class Mode:
    """Where the penalised likelihood is greatest.

    Attributes
    ----------
    unknowns
        Shape (unknowns,): random effects of unit variance, then fixed effects.
    eta
        Shape (answers,): the linear predictor.
    terms
        Log-likelihood of each answer, and its derivatives.
    penalised
        The penalised negative log-likelihood P.
    """

    unknowns: Floats
    eta: Floats
    terms: Terms
    penalised: float


@dataclass(frozen=True)
class Evaluation:
    """The objective at one point.

    Attributes
    ----------
    value
        Minus the approximate log-likelihood.
    gradient
        Its derivatives: with respect to the logarithms of the standard deviations, the shears of random slopes and,
        for the joint objective, to the fixed effects.
    sds
        Standard deviation of each factor.
    mode
        Where the penalised likelihood is greatest.
    factorised, selected
        The Hessian in its determinant, and entries of its inverse.
    exact
        Whether the Hessian is of the curvature that was asked for; not so where the observed one is not positive
        definite.
    """

    value: float
    gradient: Floats
    sds: Floats
    mode: Mode
    factorised: Factorisation
    selected: SelectedInverse
    exact: bool

    @property
    def coefficients(self) -> Floats:
        """The fixed effects."""
        return self.mode.unknowns[self.factorised.system.fixed_start :]


class Laplace:
    """Laplace's approximation for one design.

    Parameters
    ----------
    system
        The design, and the order of elimination.
    link
        From the linear predictor to probabilities.
    objective, curvature
        Which approximation; see above.
    """

    def __init__(self, system: System, link: Link, objective: Objective, curvature: Curvature) -> None:
        self.system = system
        self.link = link
        self.objective: Objective = objective
        self.curvature: Curvature = curvature
        self.free_fixed = objective != "joint"
        self.evaluations = 0
        self.tolerance = 0.0
        self._last: Floats | None = None

    def restart(self, unknowns: Floats | None) -> None:
        """Begin the next search for a mode here; None begins at zero."""
        self._last = unknowns

    def find_mode(self, sds: Sequence[float] | Floats, coefficients: Floats | None = None) -> Mode:
        """Find the mode by Newton's method, guarded by Fisher scoring.

        Parameters
        ----------
        sds
            Standard deviation of each factor.
        coefficients
            The fixed effects, where these are not part of the search.

        Raises
        ------
        ModeNotFound
            If it is not reached.
        """
        system, fixed = self.system, self.free_fixed
        unknowns = np.zeros(system.size) if self._last is None else self._last.copy()
        if coefficients is not None:
            unknowns[system.fixed_start :] = coefficients
        current = self._at(unknowns, sds)
        trust = self._last is not None
        for step in range(_MOST_STEPS):
            right = system.add_up(current.terms.score, sds)
            right[: system.fixed_start] -= current.unknowns[: system.fixed_start]
            if not fixed:
                right[system.fixed_start :] = 0.0
            factorised, newton = self._factorise(current.terms, sds, observed=trust or step >= 3)
            direction = factorised.solve(right, fixed=fixed)
            decrement = float(right @ direction)
            if not np.isfinite(decrement):
                break
            found = self._search(current, direction, decrement, sds)
            if found is None and newton:
                factorised, _ = self._factorise(current.terms, sds, observed=False)
                direction = factorised.solve(right, fixed=fixed)
                found = self._search(current, direction, float(right @ direction), sds)
            if found is None:
                if decrement < _FLAT:
                    self._last = current.unknowns
                    return current
                break
            current = found
            if decrement < (_CLOSE if not newton else 1e-10):
                # A Newton step from so near squares the distance: below rounding.
                self._last = current.unknowns
                return current
        raise ModeNotFound

    def _at(self, unknowns: Floats, sds: Sequence[float] | Floats) -> Mode:
        """Return the penalised likelihood at a point."""
        eta = self.system.linear_predictor(unknowns, sds)
        terms = self.link.terms(eta, self.system.design.correct)
        random = unknowns[: self.system.fixed_start]
        return Mode(unknowns, eta, terms, float(0.5 * random @ random - terms.log_likelihood.sum()))

    def _search(self, current: Mode, direction: Floats, decrement: float, sds: Sequence[float] | Floats) -> Mode | None:
        """Return a better point along a direction, or None; very near the mode rounding decides, and any will do."""
        slack = 1e-11 * max(abs(current.penalised), 1.0) if decrement < 1e-6 else 0.0
        length = 1.0
        for _ in range(30):
            found = self._at(current.unknowns + length * direction, sds)
            if found.penalised <= current.penalised - 1e-4 * length * decrement + slack:
                return found
            length /= 2
        return None

    def _factorise(self, terms: Terms, sds: Sequence[float] | Floats, *, observed: bool) -> tuple[Factorisation, bool]:
        """Return the Hessian, and whether it is the observed one; the expected one where that is indefinite."""
        if observed:
            try:
                return Factorisation(self.system, sds, terms.observed), True
            except NotPositiveDefinite:
                pass
        try:
            return Factorisation(self.system, sds, terms.expected), False
        except NotPositiveDefinite as error:
            raise ModeNotFound from error

    def evaluate(self, spread: Floats, coefficients: Floats | None = None) -> Evaluation:
        """Return the objective and its gradient.

        Parameters
        ----------
        spread
            Logarithms of the standard deviations (minus infinity leaves a factor without effect), and after them the
            shears of random slopes.
        coefficients
            Fixed effects, for the joint objective.
        """
        count = len(self.system.positions)
        self.system = system = self.system.with_shears(spread[count:])
        sds = np.exp(spread[:count])
        self.evaluations += 1
        mode = self.find_mode(sds, coefficients)
        whole = self.objective == "restricted"
        curved, observed = self._factorise(mode.terms, sds, observed=True)
        if self.curvature == "observed":
            factorised, exact = curved, observed
        else:
            factorised, exact = Factorisation(system, sds, mode.terms.expected), True
        used: Curvature = "observed" if factorised is curved and observed else "expected"
        selected = factorised.select_inverse(fixed=whole)
        value = mode.penalised + 0.5 * factorised.log_determinant(fixed=whole)
        if whole:
            value -= 0.5 * system.coefficients * float(np.log(2 * np.pi))
        # How the determinant changes with the linear predictor, and so as the mode moves.
        pull = 0.5 * mode.terms.weight_slopes(used) * selected.leverages
        moved = system.add_up(pull, sds)
        if not self.free_fixed:
            moved[system.fixed_start :] = 0.0
        answer = curved.solve(moved, fixed=self.free_fixed)
        push = pull - mode.terms.weights("observed" if observed else "expected") * system.linear_predictor(answer, sds)
        gradient = np.empty(len(sds))
        for which, (levels, position) in enumerate(zip(system.levels, system.positions)):
            effects = mode.unknowns[levels]
            gradient[which] = (
                len(levels)
                - selected.variances[levels].sum()
                - effects @ effects
                + answer[levels] @ effects
                + sds[which] * (push @ system.weigh(mode.unknowns[position], which))
            )
        weights = mode.terms.weights(used)
        sheared = [
            float(
                (push - mode.terms.score) @ (sds[column] * added * mode.unknowns[system.positions[column]])
                + sds[column] * (weights * added) @ selected.half_leverages(column)
                + mode.terms.score @ (sds[column] * added * answer[system.positions[column]])
            )
            for column, added in system.sheared()
        ]
        gradient = np.concatenate([gradient, sheared]) if sheared else gradient
        if not self.free_fixed:
            design = system.design.fixed
            gradient = np.concatenate([gradient, design.T @ (push - mode.terms.score)])
        return Evaluation(value, gradient, sds, mode, factorised, selected, exact)
