"""Wilson's interval of a proportion, of independent answers and of answers that hang together.

Reference: Wilson (1927), Probable inference, the law of succession, and statistical inference, JASA 22.
"""

from __future__ import annotations

import math

from analysis.intervals.quantiles import critical_value


def wilson_interval(value: float, count: float, quantile: float) -> tuple[float, float]:
    """Return Wilson's interval (1927, equation 5) of a proportion of so many answers, or effective answers.

    Parameters
    ----------
    value
        The proportion.
    count
        Answers that it rests on: need not be whole.
    quantile
        Of the standard normal, or of Student's t where ``count`` comes from an estimated variance.
    """
    square = quantile**2 / count
    middle = (value + square / 2) / (1 + square)
    half = quantile * math.sqrt(value * (1 - value) / count + square / (4 * count)) / (1 + square)
    return max(min(middle - half, value), 0.0), min(max(middle + half, value), 1.0)


def interval_of_count(right: int, answers: int, level: float) -> tuple[float, float]:
    """Return Wilson's interval of the proportion of so many right answers among independent ones."""
    return wilson_interval(right / answers, answers, critical_value(level))


def bound_proportion(value: float, variance: float, freedom: float, least: float, level: float) -> tuple[float, float]:
    """Return Wilson's interval of a proportion with an estimated variance.

    The effective number of answers is the one whose binomial variance is as large, and never more than ``least``'s,
    the variance of independent answers: no clustering makes a mean surer than that.

    Parameters
    ----------
    value, variance, freedom
        The proportion, its variance, and the degrees of freedom of that variance.
    least
        Variance of the proportion were all answers independent.
    level
        Coverage.
    """
    count = value * (1 - value) / max(variance, least)
    return wilson_interval(value, count, critical_value(level, freedom))
