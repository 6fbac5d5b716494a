"""From the scale of the link to a probability, with what guessing and lapsing leave of it.

A judgement is right with probability ``p = guess + (1 - guess - lapse) F(eta)``: with nothing seen (eta of minus
infinity) a guess is right in half of two-alternative trials, and of what is seen plainly a share ``lapse`` goes wrong
all the same (Wichmann & Hill 2001, The psychometric function I, equation 1). F is the logistic or the normal
distribution function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, ndtr

Floats = NDArray[np.float64]
LinkName = Literal["logit", "probit"]
LINKS: tuple[LinkName, ...] = ("logit", "probit")

_FARTHEST = {"logit": 300.0, "probit": 30.0}
"""Beyond this, F or 1 - F is no longer a normal number in double precision."""


@dataclass(frozen=True)
class Link:
    """A distribution function between two asymptotes.

    Attributes
    ----------
    name
        ``logit`` or ``probit``.
    guess
        Lower asymptote: one for all answers, or one an answer.
    lapse
        What is missing between the upper asymptote and 1.
    """

    name: LinkName = "logit"
    guess: float | Floats = 0.5
    lapse: float = 0.0

    @property
    def span(self) -> float | Floats:
        """Distance between the asymptotes."""
        return 1 - self.guess - self.lapse

    def distribution(self, eta: Floats) -> tuple[Floats, Floats]:
        """Return F and 1 - F, both without cancellation."""
        rises = expit if self.name == "logit" else ndtr
        return rises(eta), rises(-eta)

    def probability(self, eta: ArrayLike) -> Floats:
        """Return the probability of a right answer."""
        below, _ = self.distribution(np.asarray(eta, dtype=np.float64))
        probability: Floats = self.guess + self.span * below
        return probability

    def chances(self, eta: Floats) -> tuple[Floats, Floats]:
        """Return the probabilities of a right and of a wrong answer, both without cancellation."""
        below, above = self.distribution(np.clip(eta, -_FARTHEST[self.name], _FARTHEST[self.name]))
        return np.asarray(self.guess + self.span * below), np.asarray(self.lapse + self.span * above)

    def log_chances(self, eta: Floats) -> tuple[Floats, Floats]:
        """Return their logarithms."""
        right, wrong = self.chances(eta)
        return np.log(right), np.log(wrong)

    def scores(self, eta: Floats) -> tuple[Floats, Floats]:
        """Return the first derivatives of these logarithms."""
        eta = np.clip(eta, -_FARTHEST[self.name], _FARTHEST[self.name])
        right, wrong = self.chances(eta)
        slope = self.span * self.slopes(eta)[0]
        return slope / right, -slope / wrong

    def slopes(self, eta: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the first three derivatives of F."""
        below, above = self.distribution(eta)
        if self.name == "logit":
            first = below * above
            second = first * (above - below)
            return first, second, first * (1 - 6 * first)
        first = np.exp(-0.5 * eta**2) / np.sqrt(2 * np.pi)
        return first, -eta * first, (eta**2 - 1) * first

    def terms(self, eta: Floats, correct: NDArray[np.bool_]) -> Terms:
        """Return the log-likelihood of each answer and what fitting needs of its derivatives.

        Parameters
        ----------
        eta
            Shape (answers,): on the scale of the link.
        correct
            Shape (answers,): whether the answer is right.
        """
        eta = np.clip(eta, -_FARTHEST[self.name], _FARTHEST[self.name])
        below, above = self.distribution(eta)
        right, wrong = self.guess + self.span * below, self.lapse + self.span * above
        first, second, third = (self.span * slope for slope in self.slopes(eta))
        seen = np.where(correct, right, wrong)
        sign = np.where(correct, 1.0, -1.0)
        one, two, three = sign * first / seen, sign * second / seen, sign * third / seen
        expected = first**2 / (right * wrong)
        return Terms(
            log_likelihood=np.log(seen),
            score=one,
            observed=one**2 - two,
            observed_slope=-(three - 3 * two * one + 2 * one**3),
            expected=expected,
            expected_slope=first * (2 * second - expected * (wrong - right)) / (right * wrong),
        )


@dataclass(frozen=True)
class Terms:
    """Log-likelihood of each answer, and its derivatives with respect to eta; all of shape (answers,).

    Attributes
    ----------
    log_likelihood
        Logarithm of the probability of what was answered.
    score
        Its first derivative.
    observed, expected
        Minus its second derivative, and what that is on average over right and wrong answers (Fisher's information).
    observed_slope, expected_slope
        Their derivatives with respect to eta.
    """

    log_likelihood: Floats
    score: Floats
    observed: Floats
    observed_slope: Floats
    expected: Floats
    expected_slope: Floats

    def weights(self, curvature: Literal["observed", "expected"]) -> Floats:
        """Return the information of each answer."""
        return self.observed if curvature == "observed" else self.expected

    def weight_slopes(self, curvature: Literal["observed", "expected"]) -> Floats:
        """Return the derivative of the information of each answer."""
        return self.observed_slope if curvature == "observed" else self.expected_slope
