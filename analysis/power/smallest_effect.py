"""The smallest effect that a design finds: by formula to begin with, by simulation in the end."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from analysis.arguments import check_kind
from analysis.estimands import spell_estimand
from analysis.intervals.quantiles import critical_value
from analysis.multiple_tests import ALPHA
from analysis.power.analyses import alpha_was_level, regress_means
from analysis.power.design import Design
from analysis.power.goals import SCOPES, UNITS, WORDS, Goal, check_goal, predict_error, prepare_studies
from analysis.power.simulated_power import SIMULATIONS, simulate_power
from analysis.power.variances import approximate_effect
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL, Estimate
from benchmark.progress import Reporter


@alpha_was_level
def smallest_detectable(
    design: Design,
    goal: Goal = "slope",
    *,
    power: float = 0.8,
    alpha: float = ALPHA,
    family: int = 1,
    simulations: int = SIMULATIONS,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Estimate:
    """Return the smallest effect that a design finds with a given power.

    For slopes and differences, studies are simulated at five effects around the one that a formula gives, and a
    probit regression of what they find on the effect tells where the power is reached. For equivalence it is the
    smallest margin that is passed with this power where there is no effect, and for widths the width that so many
    studies stay below: quantiles of the simulated studies.

    Parameters
    ----------
    simulations
        Studies in all.

    Returns
    -------
    The effect, in the unit of the goal's effect; its interval is that of the simulation.

    Raises
    ------
    AnalysisError
        If the design can't carry the goal, or has no room for an effect that it would find with this power.
    """
    check_kind(design, Design, "design", "Design(...) makes one, and find_design() gives the one of 2023.")
    if not alpha < power < 1:
        raise AnalysisError(f"A power must lie between alpha, {alpha:g}, and 1, not at {power:g}.")
    check_goal(design, goal, 1.0, simulations, alpha)
    if simulations < 50:
        raise AnalysisError(f"The smallest effect can't be told from {simulations} simulations; take at least 50.")
    if goal in ("equivalence", "width"):
        return _quantile_of(design, goal, power, alpha / family, simulations, seed, reporter)
    error, freedom = predict_error(design, goal)
    at = [approximate_effect(error, chance, freedom, alpha / family) for chance in _around(power)]
    each = -(-simulations // len(at))
    # Studies of their own for every effect: the interval takes them as independent.
    seeds = np.random.SeedSequence([seed, len(at)]).generate_state(len(at)).tolist()
    shares = [
        simulate_power(
            design, goal, effect=effect, alpha=alpha, family=family, simulations=each, seed=own, reporter=reporter
        ).power.value
        for effect, own in zip(at, seeds)
    ]
    value, low, high = _invert(np.array(at), np.array(shares), each, power)
    return Estimate(
        value,
        low,
        high,
        f"effect at which {power:.0%} of simulated studies succeed: probit regression over {each * len(at):,} studies "
        f"at {len(at)} effects, {WORDS[goal]}, alpha {alpha / family:.3g}",
        each * len(at),
        UNITS[goal],
        spell_estimand(SCOPES[goal]),
    )


def _around(power: float) -> list[float]:
    """Return powers on either side of the one asked for, evenly on the probit scale."""
    middle = float(norm.ppf(power))
    return [float(norm.cdf(middle + step)) for step in (-0.6, -0.3, 0.0, 0.3, 0.6)]


def _invert(
    effects: NDArray[np.float64], shares: NDArray[np.float64], each: int, power: float
) -> tuple[float, float, float]:
    """Return the effect at which a probit regression reaches the power, with its interval (delta method)."""
    import statsmodels.api as sm

    right = np.rint(shares * each)
    if right.min() == each or right.max() == 0:
        raise AnalysisError("All simulated studies end alike; take another power, or more simulations.")
    # Half a success and half a failure more keep a regression finite where one effect's studies all succeed.
    counts = np.column_stack([right + 0.5, each - right + 0.5])
    fit = sm.GLM(
        counts, sm.add_constant(effects / effects.mean()), family=sm.families.Binomial(sm.families.links.Probit())
    ).fit()
    intercept, slope = fit.params
    if slope <= 0:
        raise AnalysisError("Power does not rise with the effect in these simulations; take more of them.")
    value = float((norm.ppf(power) - intercept) / slope)
    gradient = np.array([-1 / slope, -value / slope])
    half = float(critical_value(LEVEL) * np.sqrt(gradient @ fit.cov_params() @ gradient))
    scale = float(effects.mean())
    return scale * value, scale * (value - half), scale * (value + half)


def _quantile_of(
    design: Design, goal: Goal, power: float, alpha: float, simulations: int, seed: int, reporter: Reporter | None
) -> Estimate:
    """Return the bound that so large a share of simulated studies meets, with the interval of the order statistics."""
    studied, population, outcome = prepare_studies(design, goal, 0.0)
    bounds = np.empty(simulations)
    title = f"Studies, {goal}"
    for number, answers in studied.studies(population, outcome.predictor, simulations, seed, title, reporter):
        measured = outcome.measure(answers)
        if goal == "equivalence":
            measured = regress_means(measured[None], design.values).passing_margin(alpha)
        bounds[number] = measured[0]
    ordered = np.sort(bounds)
    place = min(math.ceil(power * simulations), simulations) - 1
    low = int(binom.ppf(0.025, simulations, power))
    high = min(int(binom.ppf(0.975, simulations, power)) + 1, simulations)
    return Estimate(
        float(ordered[place]),
        float(ordered[max(low - 1, 0)]),
        float(ordered[high - 1]),
        f"bound that {power:.0%} of {simulations:,} simulated studies meet; {WORDS[goal]}, alpha {alpha:.3g}; "
        "interval by order statistics",
        simulations,
        UNITS[goal],
        spell_estimand(SCOPES[goal]),
    )
