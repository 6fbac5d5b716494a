"""Units that mislead: answered below chance, which a scale that starts at the guess rate can't say.

Some units' pictures point people the wrong way: the answers are right less often than by guessing. On a scale whose
lower end is the guess rate such a unit lies at minus infinity, drags the mean along and blows up the spread between
units. Here the counts of every unit in every condition are taken as a mixture. A unit speaks with probability
``1 - share``: its answers are right with ``guess + (1 - guess - lapse) F(eta)``, with eta normal about the fixed
effects. Or it misleads: its probability of a right answer is anything below the guess rate, uniformly. Both are
integrated over, and share, fixed effects and spread are found by maximum likelihood. People enter only through the mean
over them: different people answer about one unit, so that its counts are binomial.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import betainc, expit, gammaln, logit
from scipy.stats import binom, chi2

from analysis.estimands import spell_estimand
from analysis.mixed_model.design import Integers, ModelMatrix
from analysis.mixed_model.links import Floats, Link, LinkName
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL, Estimate

EVIDENCE = 0.001
"""Chance of calling units misleading where none is, at which the mixture takes the place of the plain model."""
_POINTS = 30
_SMALLEST = 1e-6


@dataclass(frozen=True)
class Cells:
    """Right answers of units: one entry a unit and row of fixed effects.

    Attributes
    ----------
    name
        Name of the factor: ``unit``, or ``unit:condition``.
    of
        Shape (answers,): which cell each answer belongs to.
    answers, right
        Shape (cells,).
    fixed
        Shape (cells, coefficients): mean of the design's rows.
    guess
        Shape (cells,): mean of the guess rates.
    """

    name: str
    of: Integers
    answers: Floats
    right: Floats
    fixed: Floats
    guess: Floats

    @classmethod
    def read(cls, design: ModelMatrix, factor: str = "unit") -> Cells:
        """Count a design's answers by unit, and by unit and condition where the design has such a factor.

        Raises
        ------
        AnalysisError
            If the design has no random effect of units.
        """
        names = [other.name for other in design.factors if factor in other.name.split(":")]
        if not names:
            raise AnalysisError("Units below chance are looked for among the levels of a random effect of units.")
        finest = max((other for other in design.factors if other.name in names), key=lambda other: other.size)
        size = finest.size
        answers = np.bincount(finest.codes, minlength=size).astype(np.float64)
        fixed = np.column_stack([np.bincount(finest.codes, own, minlength=size) for own in design.fixed.T])
        guess = np.bincount(finest.codes, np.broadcast_to(design.guess, design.size), minlength=size)
        right = np.bincount(finest.codes, design.correct, minlength=size).astype(np.float64)
        return cls(finest.name, finest.codes, answers, right, fixed / answers[:, None], guess / answers)


class Mixture:
    """The mixture of units that speak and units that mislead, fitted to counts.

    Parameters
    ----------
    cells
        Counts of units.
    link, lapse
        As in the model.
    """

    def __init__(self, cells: Cells, link: LinkName = "logit", lapse: float = 0.0) -> None:
        self.cells = cells
        nodes, weights = np.polynomial.hermite_e.hermegauss(_POINTS)
        self._nodes, self._weights = nodes, weights / weights.sum()
        self._link, self._lapse = link, lapse
        n, k = cells.answers, cells.right
        self._choose = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
        below = betainc(k + 1, n - k + 1, np.clip(cells.guess, _SMALLEST, 1)) / (n + 1)
        self.misleads = np.maximum(below / np.maximum(cells.guess, _SMALLEST), 1e-300)
        # Distinct cells alone are computed.
        key = np.column_stack([n, k, cells.guess, cells.fixed])
        _, self._first, self._inverse, counts = np.unique(
            key, axis=0, return_index=True, return_inverse=True, return_counts=True
        )
        self._inverse = self._inverse.ravel()
        self._counts = counts.astype(np.float64)

    def _speaks(self, place: Floats) -> Floats:
        """Return the likelihood of each distinct cell if its unit speaks."""
        own, cells = self._first, self.cells
        eta = (cells.fixed[own] @ place[:-1])[:, None] + math.exp(place[-1]) * self._nodes
        link = Link(self._link, cells.guess[own][:, None], self._lapse)
        chance = np.clip(link.probability(eta), 1e-12, 1 - 1e-12)
        n, k = cells.answers[own][:, None], cells.right[own][:, None]
        return np.asarray(
            np.exp(self._choose[own][:, None] + k * np.log(chance) + (n - k) * np.log1p(-chance)) @ self._weights
        )

    def loss(self, place: Floats, share: float) -> float:
        """Return minus the log-likelihood at coefficients and log spread, with a share of misleading units."""
        mixed = (1 - share) * self._speaks(place) + share * self.misleads[self._first]
        return -float(self._counts @ np.log(np.maximum(mixed, 1e-300)))

    def _fit(self, share: float | None, start: Floats) -> tuple[Floats, float, float]:
        """Return coefficients and log spread, share, and loss: the share held, or found."""
        size = len(start)
        bounds = [(-8.0, 8.0)] * (size - 1) + [(math.log(0.05), math.log(8.0))]
        if share is not None:
            found = minimize(lambda place: self.loss(place, share), start, method="L-BFGS-B", bounds=bounds)
            return found.x, share, float(found.fun)
        best = None
        for first in (0.02, 0.15):
            found = minimize(
                lambda place: self.loss(place[:-1], float(expit(place[-1]))),
                np.append(start, logit(first)),
                method="L-BFGS-B",
                bounds=[*bounds, (-9.0, 3.0)],
            )
            if best is None or found.fun < best.fun:
                best = found
        assert best is not None
        return best.x[:-1], float(expit(best.x[-1])), float(best.fun)

    @cached_property
    def without(self) -> tuple[Floats, float, float]:
        """Coefficients and log spread with no misleading units, 0, and the loss."""
        size = self.cells.fixed.shape[1]
        mean = float(self.cells.right.sum() / self.cells.answers.sum())
        floor = float(self.cells.guess.mean())
        middle = float(logit(np.clip((mean - floor) / (1 - floor - self._lapse), 0.05, 0.95)))
        start, *_ = np.linalg.lstsq(self.cells.fixed, np.full(len(self.cells.fixed), middle), rcond=None)
        assert len(start) == size
        return self._fit(0.0, np.append(start, 0.0))

    @cached_property
    def fitted(self) -> tuple[Floats, float, float]:
        """Coefficients and log spread, share of misleading units, and the loss."""
        return self._fit(None, self.without[0])

    @property
    def p(self) -> float:
        """Chance of so much evidence for misleading units if there is none: a share of 0 is at a boundary."""
        deviance = 2 * (self.without[2] - self.fitted[2])
        return 0.5 * float(chi2.sf(deviance, 1)) if deviance > 1e-6 else 1.0

    @property
    def posterior(self) -> Floats:
        """Shape (cells,): how likely each unit misleads."""
        place, share, _ = self.fitted
        speaks = self._speaks(place)[self._inverse]
        return np.asarray(share * self.misleads / (share * self.misleads + (1 - share) * speaks))

    def below(self, design: ModelMatrix) -> tuple[str, ...]:
        """Return the names of the units that are more likely below chance than above it."""
        labels = design.factor(self.cells.name).labels
        return tuple(sorted(labels[level] for level in np.flatnonzero(self.posterior >= 0.5)))

    def share(self, level: float = LEVEL) -> Estimate:
        """Return the share of units below chance, with its profile-likelihood interval."""
        place, value, best = self.fitted
        drop = float(chi2.ppf(level, 1)) / 2

        def fallen(share: float) -> float:
            return self._fit(share, place)[2] - best - drop

        low = 0.0 if fallen(0.0) <= 0 else float(brentq(fallen, 0.0, value, xtol=1e-3))
        high = 1.0 if fallen(0.95) <= 0 else float(brentq(fallen, value, 0.95, xtol=1e-3))
        number = len(self.cells.answers)
        return Estimate(
            value, min(low, value), max(high, value),
            f"mixture of units above chance and units anywhere below it, profile likelihood ({number} units)",
            number, "share of units", spell_estimand("new units"), level,
        )  # fmt: skip

    @property
    def surely_below(self) -> tuple[int, float]:
        """How many units are below chance with p < .05 each, and how many would be if all were at chance."""
        cells = self.cells
        tail = binom.cdf(cells.right, cells.answers, cells.guess)
        reached = np.array(
            [_largest_level(int(n), float(g)) for n, g in zip(cells.answers, cells.guess)], dtype=np.float64
        )
        return int((tail < 0.05).sum()), float(reached.sum())


def _largest_level(answers: int, guess: float) -> float:
    """Return how likely a unit at chance has a binomial tail below .05."""
    tails = binom.cdf(np.arange(answers + 1), answers, guess)
    below = tails[tails < 0.05]
    return float(below.max()) if len(below) else 0.0
