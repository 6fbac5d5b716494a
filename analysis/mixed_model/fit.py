"""Mixed models of right and wrong answers: what is asked for, and what comes back.

``MixedModel`` says which effects there are; ``MixedModel.fit`` estimates them from a table of judgements.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import chi2

from analysis.estimands import Scope, spell_estimand
from analysis.intervals.quantiles import critical_value
from analysis.judgement_table import plain
from analysis.mixed_model.design import (
    OUTCOME,
    ModelMatrix,
    default_random,
    lay_out_design,
    split_formula,
    split_random,
    thin,
)
from analysis.mixed_model.expectation_propagation import ExpectationPropagation
from analysis.mixed_model.laplace import Curvature, Evaluation, Laplace
from analysis.mixed_model.links import LINKS, Floats, Link, LinkName
from analysis.mixed_model.misleading import EVIDENCE, Cells, Mixture
from analysis.mixed_model.optimisation import LARGE, NotConverged, Optimum, maximise, spread_of_levels
from analysis.mixed_model.structure import find_structure
from analysis.mixed_model.system import System
from analysis.results import AnalysisResult, Plotted, ResultList
from analysis.same_units import check_one_model_a_name
from benchmark.errors import AnalysisError
from benchmark.estimate import LEVEL, Estimate
from benchmark.progress import Reporter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.mixed_model.hypotheses import Contrast, LikelihoodRatio, LinearTest, WaldTest
    from analysis.mixed_model.inference import Bootstrap
    from analysis.mixed_model.marginal_means import MarginalMeans
    from analysis.mixed_model.prediction import Levels

Method = Literal["default", "propagation", "propagation-joint", "restricted", "joint", "parity"]
METHODS: dict[Method, str] = {
    "default": "expectation propagation, fixed effects integrated out (restricted likelihood)",
    "propagation": "expectation propagation, fixed effects integrated out (restricted likelihood)",
    "propagation-joint": "expectation propagation, maximum likelihood",
    "restricted": "Laplace approximation, fixed effects integrated out (restricted likelihood)",
    "joint": "Laplace approximation, maximum likelihood",
    "parity": "Laplace approximation as in lme4 with nAGQ = 0: fixed effects inside the penalised iteration",
}
"""Ways to fit, and what they are. ``docs/recovery.md`` compares how well they find the truth."""

Engine = Laplace | ExpectationPropagation
_START = 0.5
_PART = 60_000
"""Answers that a search among many more begins with."""
_FEW = 3.0
"""With fewer degrees of freedom, the interval of a standard deviation is that of its profile likelihood."""
_FARTHEST = {"logit": 12.0, "probit": 6.0}
"""A fixed part of the linear predictor beyond this is a runaway."""


@dataclass(frozen=True)
class MixedModel:
    """A generalised linear mixed model of right and wrong answers, with crossed random effects.

    An answer is right with probability ``guess + (1 - guess - lapse) F(eta)``; eta adds up fixed effects and one
    normal random effect for each factor.

    Attributes
    ----------
    fixed
        A formula (``"1 + condition * predictor"``), or names of columns, which are added to an intercept.
    random
        Grouping factors: names of columns, or several joined by colons (``"unit:condition"``); with slopes
        ``"1 + condition | participant"``, effects that are correlated within a person. None is what speaks for new
        units, people and models: each of them, and each with every condition that varies within it
        (``design.default_random``).
    link
        F: ``logit`` or ``probit``.
    guess
        Probability of a right answer when nothing is seen; or the name of a column that holds one for each answer.
    lapse
        Share of answers that are wrong however plain the answer is; see ``estimate_lapse``.
    method
        How to fit; see ``METHODS``.
    curvature
        For methods with Laplace's approximation: whether its determinant holds the observed or the expected
        information. None is what is usual: expected for ``parity``, observed for the others. lme4's is the expected
        one: its nAGQ = 0 is ``parity``, its nAGQ = 1 ``joint`` with the expected curvature.
    models
        Column that tells the models apart, for the degrees of freedom of what compares models.
    outcome
        Column of right (1) and wrong (0) answers.
    misleading
        Whether the default method looks for units that are answered below chance, and sets them apart where the counts
        leave no doubt that there are any; see ``mixed_model.misleading``. Other methods never do.
    """

    fixed: str | Sequence[str] = "1"
    random: Sequence[str] | None = None
    link: LinkName = "logit"
    guess: float | str = 0.5
    lapse: float = 0.0
    method: Method = "default"
    curvature: Curvature | None = None
    models: str = "model"
    outcome: str = OUTCOME
    misleading: bool = True

    def __post_init__(self) -> None:
        if self.link not in LINKS:
            raise AnalysisError(f"There is no link {self.link!r}; there are {', '.join(LINKS)}.")
        if self.method not in METHODS:
            raise AnalysisError(f"There is no method {self.method!r}; there are {', '.join(METHODS)}.")
        if self.curvature == "observed" and self.method == "parity":
            raise AnalysisError("The parity method uses the expected curvature, as lme4 does.")

    @classmethod
    def from_formula(
        cls,
        formula: str,
        *,
        link: LinkName = "logit",
        guess: float | str = 0.5,
        lapse: float = 0.0,
        method: Method = "default",
        curvature: Curvature | None = None,
        models: str = "model",
    ) -> MixedModel:
        """Return the model of a formula in lme4's spelling: ``"correct ~ predictor + (1|unit) + (1|model)"``.

        The left-hand side names the column of right and wrong answers. Random effects are those of the formula, none
        beside. Slopes are ``(1 + condition | participant)``, uncorrelated ones ``(1 + x || participant)``, nested
        factors ``(1 | model/unit)``; see ``design.split_formula``.

        Raises
        ------
        AnalysisError
            If a random term can't be read, or the left-hand side is no name of a column.
        """
        outcome, fixed, random = split_formula(formula)
        return cls(fixed, random, link, guess, lapse, method, curvature, models, outcome)

    def fit(self, table: pd.DataFrame) -> MixedModelFit:
        """Estimate the model.

        Parameters
        ----------
        table
            One row an answer: ``correct`` (right or wrong), and the columns that the effects name. Conditions and all
            other names (``judgements.NAMES``) are cells, whatever they are coded as; numbers in other columns are
            trends.

        Raises
        ------
        AnalysisError
            If the table can't carry the model: no answers, all right, an empty cell, effects that can't be told
            apart, a likelihood without a maximum, or two models of one name.
        """
        began = time.perf_counter()
        table = plain(table, outcome=self.outcome)
        check_one_model_a_name(table, self.models)
        if self.random is None:
            return replace(self, random=default_random(table, self.fixed, self.models)).fit(table)
        design = lay_out_design(
            table, self.fixed, tuple(self.random), guess=self.guess, lapse=self.lapse, cluster=self.models,
            outcome=self.outcome,
        )  # fmt: skip
        mixture = self._look_for_misleading(design)
        if mixture is not None:
            return self._set_apart(table, design, mixture)
        system = System(design, find_structure(design))
        start = np.concatenate([np.full(len(design.factors), math.log(_START)), np.zeros(len(system.shears))])
        optimum: Optimum | None
        failure: AnalysisError | None = None
        try:
            optimum = self._maximise(system, start, None)
            trouble = "" if optimum.converged else "the search did not end at a maximum"
        except AnalysisError as error:
            if self.method != "default":
                raise
            trouble, failure, optimum = str(error), error, None
        if self.method == "default" and trouble:
            # With very few answers, large standard deviations (every task either plain or guessed) can be as likely as
            # any, and the likelihood has no maximum. Laplace's approximation, whose bias is towards zero, still has.
            for other in (replace(self, method="restricted", curvature="expected"), replace(self, method="parity")):
                try:
                    second = other._maximise(system, start, None)
                except AnalysisError:
                    continue
                if second.converged:
                    note = (
                        "Expectation propagation found no maximum of the likelihood; this is a fit by Laplace's "
                        f"approximation, which finds smaller standard deviations than there are. ({trouble})"
                    )
                    return other._conclude(table, system, second, time.perf_counter() - began, note)
            if failure is not None:
                raise failure
        assert optimum is not None  # else there was a failure
        return self._conclude(table, system, optimum, time.perf_counter() - began)

    def _look_for_misleading(self, design: ModelMatrix) -> Mixture | None:
        """Return the mixture of units above and below chance, if the counts leave no doubt that some mislead."""
        units = any("unit" in factor.name.split(":") for factor in design.factors)
        if not (self.misleading and self.method == "default" and units) or float(np.max(design.guess)) == 0:
            return None
        mixture = Mixture(Cells.read(design), self.link, self.lapse)
        return mixture if mixture.p < EVIDENCE else None

    def _set_apart(self, table: pd.DataFrame, design: ModelMatrix, mixture: Mixture) -> MixedModelFit:
        """Fit the units that speak, and say how many mislead."""
        below = mixture.posterior >= 0.5
        share = mixture.share()
        sure, chance = mixture.surely_below
        what = "units" if mixture.cells.name == "unit" else f"levels of {mixture.cells.name}"
        number = len(below)
        kept = np.sort(design.rows[~below[mixture.cells.of]])
        note = (
            f"Some {what} mislead: {share.value:.1%} [{share.low:.1%}, {share.high:.1%}] of {number:,} are answered "
            f"below chance ({sure:,} with p < .05 each, where {chance:,.0f} would be if all were guessed). "
            f"{int(below.sum()):,} that are more likely below chance than above it are set apart: effects, spreads and "
            "marginal means are those of the others. A mean over all units is that of estimate_proportions."
        )
        if not len(kept):
            raise AnalysisError(note + " Nothing is left to fit: report proportions.")
        fit = replace(self, misleading=False).fit(table.iloc[kept])
        return replace(fit, model=self, misleading=share, set_apart=mixture.below(design), notes=(note, *fit.notes))

    def engine(self, system: System, *, joint: bool | None = None) -> Engine:
        """Return the approximation to the likelihood that the method asks for.

        Parameters
        ----------
        system
            The design, and the order of elimination.
        joint
            Whether fixed effects are maximised over, whatever the method says; None leaves it to the method.
        """
        link = Link(self.link, system.design.guess, self.lapse)
        together = self.method in ("joint", "propagation-joint") if joint is None else joint
        if self.method in ("default", "propagation", "propagation-joint"):
            return ExpectationPropagation(system, link, "joint" if together else "restricted")
        if together:
            return Laplace(system, link, "joint", self._curvature)
        return Laplace(system, link, "penalised" if self.method == "parity" else "restricted", self._curvature)

    @property
    def _curvature(self) -> Curvature:
        """The curvature in the determinant."""
        return self.curvature or ("expected" if self.method == "parity" else "observed")

    def _maximise(
        self, system: System, spread: Floats, coefficients: Floats | None, *, with_hessian: bool = True
    ) -> Optimum:
        """Fit, with the errors said in the words of the model."""
        try:
            engine = self.engine(system)
            if not engine.free_fixed and coefficients is None:
                spread, coefficients = self._begin(system.design, spread, near=system)
            elif system.design.size > LARGE and coefficients is None:
                spread, _ = self._begin(system.design, spread)
            optimum = maximise(engine, spread, None if engine.free_fixed else coefficients, with_hessian=with_hessian)
        except NotConverged as error:
            raise AnalysisError(
                f"The mixed model has no maximum that can be reached: {error}. {_suspects(system.design, self.lapse)}"
            ) from error
        _check_finite(system.design, optimum.evaluation, self.link)
        return optimum

    def _begin(self, design: ModelMatrix, spread: Floats, near: System | None = None) -> tuple[Floats, Floats]:
        """Return the spread and the fixed effects to begin with.

        Of many answers a part is fitted. Of few, Laplace's approximation with everything inside is quick and robust.
        """
        if design.size > LARGE:
            part = thin(design, _PART)
            system = System(part, find_structure(part))
            found = self._maximise(system, spread, None, with_hessian=False)
        else:
            system = near if near is not None else System(design, find_structure(design))
            link = Link(self.link, design.guess, self.lapse)
            found = maximise(Laplace(system, link, "penalised", "expected"), spread, with_hessian=False)
            _check_finite(design, found.evaluation, self.link)
        return found.away_from_zero(0.05), found.evaluation.coefficients

    def _conclude(
        self, table: pd.DataFrame, system: System, optimum: Optimum, seconds: float, note: str = ""
    ) -> MixedModelFit:
        """Put a fit into words."""
        design = system.design
        notes = [*([note] if note else []), *design.notes]
        deviations = spread_of_levels(design, optimum)[0]
        boundary = tuple(factor.name for factor, own in zip(design.factors, deviations) if own == 0)
        notes += [
            f"The standard deviation of {name} is estimated as 0, at the boundary of what is possible: the answers "
            "vary no more between its levels than chance and the other effects make them."
            for name in boundary
        ]
        notes += [
            f"The random effects of {term.group} are estimated as fully dependent on one another (a singular fit): the "
            "answers don't determine all of their variances and correlations. Correlations there have no interval."
            for term in design.terms
            if not all(optimum.free[which] for which in term.factors)
            and any(deviations[which] > 0 and not optimum.free[which] for which in term.factors)
        ]
        if not optimum.converged:
            notes.append(
                f"The search for the maximum ended before it was reached (log-likelihood still to gain: "
                f"{optimum.decrement:.2g}); don't rely on this fit."
                if optimum.evaluation.exact
                else "The observed curvature is not positive definite at the mode; the expected one stands in for it."
            )
        covariance, sound = _covariance(self, optimum, design)
        if not sound:
            notes.append("The likelihood is not curved like a maximum in every direction: no standard errors.")
        flat = _flat_directions(covariance, optimum, design, self.link) if sound else ()
        if flat:
            notes.append(
                f"The likelihood is flat in {', '.join(map(repr, flat))}: values from mere guessing to all right are "
                "about as likely, so that the fit has found no maximum worth the name, and no interval is given. "
                f"{_suspects(design, self.lapse)}"
            )
        fit = MixedModelFit(
            model=self,
            log_likelihood=-optimum.evaluation.value,
            parameters=len(design.names) + int(optimum.moving.sum()),
            converged=optimum.converged and sound and not flat,
            flat=flat,
            boundary=boundary,
            notes=tuple(notes),
            seconds=seconds,
            covariance=covariance,
            table=table,
            system=optimum.evaluation.factorised.system,
            optimum=optimum,
        )
        lone = [name for name, (within, _) in zip(design.names, design.stratum) if within]
        lone = [name for name in lone if not fit.speaks_for_new_models(name)]
        if fit.scope == "new models" and lone:
            within = sorted({v for name in lone for v in design.stratum[design.names.index(name)][0]})
            notes.append(
                f"The interval of {', '.join(lone)} holds for these models alone: the fit has no random effect of "
                f"{', '.join(f'{self.models}:{name}' for name in within)}. With random=None it is added."
            )
        return replace(fit, notes=tuple(notes))


def _flat_directions(covariance: Floats, optimum: Optimum, design: ModelMatrix, link: LinkName) -> tuple[str, ...]:
    """Return the coefficients of which the answers say nothing between guessing and all right."""
    errors = np.sqrt(np.maximum(np.diag(covariance)[int(optimum.moving.sum()) :], 0.0))
    reach = np.array([np.abs(own if np.ptp(own) == 0 else own - own.mean()).max() for own in design.fixed.T])
    return tuple(name for name, far in zip(design.names, errors * reach) if far > _FARTHEST[link] / 2)


def _suspects(design: ModelMatrix, lapse: float) -> str:
    """Return which groups are answered as if by guessing, or all right: what a missing maximum is often due to."""
    found = []
    for name, column in zip(design.names, design.fixed.T):
        values = np.unique(column)
        for value in values if len(values) == 2 else ():
            own = column == value
            share, floor = (
                float(design.correct[own].mean()),
                float(np.mean(np.broadcast_to(design.guess, own.shape)[own])),
            )
            if share <= floor + 0.02 or share >= 1 - lapse - 0.01:
                found.append(f"{share:.1%} where {name} is {value:g}")
    if found:
        return f"Right are {' and '.join(found)}: leave that effect out, or report the group apart."
    return (
        "Often there are too few answers for so many effects, or a group is answered all right or by chance; look at "
        "the proportions by condition and model, or drop an effect."
    )


def _check_finite(design: ModelMatrix, evaluation: Evaluation, link: LinkName) -> None:
    """Refuse fixed effects that ran away."""
    parts = design.fixed * evaluation.coefficients
    reach = float(np.abs(parts.sum(axis=1)).max())
    if not np.isfinite(parts).all() or reach > _FARTHEST[link]:
        worst = design.names[int(np.argmax(np.abs(parts).max(axis=0)))]
        raise AnalysisError(
            f"The coefficient of {worst!r} runs away ({evaluation.coefficients[design.names.index(worst)]:.3g}): some "
            "group is answered as well as all right, or no better than by guessing, and its effect has no finite "
            "estimate. Leave the effect out, or report the group apart."
        )


def _covariance(model: MixedModel, optimum: Optimum, design: ModelMatrix) -> tuple[Floats, bool]:
    """Return the covariance of what is free of the spread and of the fixed effects, and whether it is one."""
    free, size = int(optimum.moving.sum()), len(design.names)
    covariance = np.zeros((free + size, free + size))
    try:
        inverse: Floats = np.asarray(np.linalg.inv(optimum.hessian)) if len(optimum.hessian) else optimum.hessian
        positive = bool((np.linalg.eigvalsh(inverse) > 0).all()) if len(inverse) else True
    except np.linalg.LinAlgError:
        inverse, positive = np.zeros_like(optimum.hessian), False
    if not positive:
        inverse = np.zeros_like(inverse)
    if len(inverse) == free + size and model.method in ("joint", "propagation-joint"):
        return inverse, positive
    within = optimum.evaluation.factorised.select_inverse(fixed=True).fixed
    covariance[:free, :free] = inverse
    covariance[free:, free:] = within
    if model.method != "parity":
        # What the standard deviations' own uncertainty adds; lme4's standard errors leave it out.
        moved = optimum.slopes @ inverse
        covariance[free:, :free] = moved
        covariance[:free, free:] = moved.T
        covariance[free:, free:] += moved @ optimum.slopes.T
    return covariance, positive


@dataclass(frozen=True)
class MixedModelFit(Plotted, AnalysisResult):
    """A fitted mixed model.

    Attributes
    ----------
    model
        What was asked for.
    log_likelihood
        Its (approximate) logarithm at the maximum; the restricted one for methods that integrate fixed effects out,
        which is no measure by which models with different fixed effects can be compared.
    parameters
        Coefficients, and standard deviations and correlations that are not at the boundary.
    converged
        Whether the maximum was reached, and the likelihood is curved like one.
    flat
        Coefficients that the answers leave open between guessing and all right; a fit with any has not converged.
    boundary
        Factors whose standard deviation is estimated as 0.
    notes
        What a reader of the numbers should know.
    seconds
        How long the fit took.
    covariance
        Of what is free of the spread (logarithms of standard deviations, without those at the boundary, and shears of
        random slopes), and the fixed effects.
    table
        The answers.
    system, optimum
        Inner workings, for what is computed from the fit.
    misleading
        Share of units below chance, if some had to be set apart; None if there was no sign of any.
    set_apart
        Those that were, by name of the level.
    """

    model: MixedModel
    log_likelihood: float
    parameters: int
    converged: bool
    flat: tuple[str, ...]
    boundary: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float
    covariance: Floats = field(repr=False)
    table: pd.DataFrame = field(repr=False)
    system: System = field(repr=False)
    optimum: Optimum = field(repr=False)
    misleading: Estimate | None = None
    set_apart: tuple[str, ...] = field(default=(), repr=False)

    @property
    def design(self) -> ModelMatrix:
        """Answers, fixed effects and factors, as they were fitted."""
        return self.system.design

    @property
    def aic(self) -> float:
        """Akaike's information criterion; restricted if the likelihood is."""
        return 2 * self.parameters - 2 * self.log_likelihood

    @property
    def coefficients(self) -> Floats:
        """Shape (coefficients,): the fixed effects, in the order of ``design.names``."""
        return self.optimum.evaluation.coefficients

    @cached_property
    def sds(self) -> Floats:
        """Shape (factors,): the standard deviations, in the order of ``design.factors``."""
        return spread_of_levels(self.design, self.optimum)[0]

    @property
    def scales(self) -> Floats:
        """Shape (factors,): what the effects of unit variance are multiplied by; ``sds`` but for random slopes."""
        return self.optimum.evaluation.sds

    def random_variance(self, rows: Any = slice(None), without: Sequence[int] = ()) -> float | Floats:
        """Return the variance that random effects give the linear predictor, of all or of some answers.

        Parameters
        ----------
        rows
            Which answers, in the order of the design.
        without
            Factors that are left out.
        """
        kept = [which for which in range(len(self.scales)) if which not in without]
        plain = [which for which in kept if self.system.values[which] is None]
        total: float | Floats = float(sum(self.scales[which] ** 2 for which in plain))
        for which in kept:
            values = self.system.values[which]
            if values is not None:
                total = total + (self.scales[which] * values[rows]) ** 2
        return total

    @property
    def standard_errors(self) -> dict[str, float]:
        """Standard error of each fixed effect, by name."""
        free = int(self.optimum.moving.sum())
        errors = np.sqrt(np.maximum(np.diag(self.covariance)[free:], 0.0))
        return dict(zip(self.design.names, (float(error) for error in errors)))

    @property
    def scale(self) -> str:
        """Unit of measurement of effects."""
        guess = self.model.guess if isinstance(self.model.guess, str) else f"{self.model.guess:g}"
        lapse = f", lapse {self.model.lapse:g}" if self.model.lapse else ""
        return f"{self.model.link} (guess {guess}{lapse})"

    @property
    def scope(self) -> Scope:
        """What the intercept speaks for."""
        return self._scope(self.model.models in {factor.name for factor in self.design.factors})

    def _scope(self, new_models: bool) -> Scope:
        """Return what an effect speaks for, if it speaks for new models or not."""
        names = {factor.name for factor in self.design.factors}
        if new_models:
            return "new models"
        if "participant" in names:
            return "new units and people"
        return "new units" if "unit" in names else "these units and people"

    @property
    def number_of_models(self) -> int:
        """How many models there are."""
        name = self.model.models
        return int(self.table[name].astype(object).nunique()) if name in self.table else 1

    def varies_between_models(self, variables: Iterable[str]) -> bool:
        """Say whether the fit has a random effect of models with these variables: ``model:condition``.

        A random slope of models, ``(1 + condition | model)``, is one as well.
        """
        wanted = {self.model.models, *variables}
        return any(self._varies_with(which) == wanted for which in range(len(self.design.factors)))

    def _varies_with(self, which: int) -> set[str]:
        """Return the columns of the table that tell the effects of a factor apart: its own, and those of its slope."""
        for term in self.design.terms:
            if which in term.factors:
                return {*term.group.split(":"), *term.variables[term.factors.index(which)]}
        return set(self.design.factors[which].name.split(":"))

    def speaks_for_new_models(self, name: str) -> bool:
        """Say whether a coefficient's interval holds for new models: what it changes varies between models here."""
        within, compares = self.design.stratum[self.design.names.index(name)]
        if not within:
            return self.varies_between_models(())
        return self.varies_between_models(within) or (compares and self.varies_between_models(()))

    def freedom(self, name: str) -> float:
        """Return the degrees of freedom of a coefficient: infinite if it does not speak for new models.

        A coefficient that compares models has as many as there are models, less the coefficients that all compare
        models (the intercept is one): Student's t with few models is what keeps its interval honest. An effect that
        varies between models (``model:condition``) has as many as there are models that show it, less the coefficients
        that share these differences: the effect itself, and its interactions with properties of models. Where that
        variance is estimated as 0, the error comes from units, people and answers, and so do the degrees of freedom
        (``_freedom_within_models``).
        """
        design = self.design
        groups = [split_random(name)[1] for name in self.model.random or ()]
        if self.model.models not in groups or self.number_of_models < 2:
            return math.inf
        within, compares = design.stratum[design.names.index(name)]
        if within and self.varies_between_models(within):
            shared = [other for inside, other in design.stratum if inside == within]
            pure = sum(not other for other in shared)
            least = float(self._models_that_show(within) - math.ceil(len(shared) / max(pure, 1)))
            between = [which for which in range(len(design.factors)) if design.factors[which].name in self.boundary]
            if any(self._varies_with(which) == {self.model.models, *within} for which in between):
                return max(least, self._freedom_within_models(name)) if least >= 1 else least
            return least
        if not compares:
            return math.inf
        taken = sum(1 for inside, other in design.stratum if other and not inside)
        return float(self.number_of_models - taken)

    def _freedom_within_models(self, name: str) -> float:
        """Return the degrees of freedom of a coefficient's error where nothing of it comes from between models.

        By Satterthwaite (1946), An approximate distribution of estimates of variance components, Biometrics Bulletin 2,
        equation 17: of parts V_k of the variance V, each with f_k degrees of freedom, V has V^2 / sum(V_k^2 / f_k). The
        part of a factor is its variance times the derivative of V by it, which is the sum of the squares of its
        levels' entries in the solution of the mixed model's equations for this coefficient; the answers have the rest.
        A component at the boundary has no part, as in Giesbrecht & Burns (1985), Biometrics 41.
        """
        system = self.system
        place = system.fixed_start + self.design.names.index(name)
        asked = np.zeros(system.size)
        asked[place] = 1.0
        solution = self.optimum.evaluation.factorised.solve(asked, fixed=True)
        whole = float(solution[place])
        parts = [float((solution[levels] ** 2).sum()) for levels in system.levels]
        counts = [max(factor.size - 1.0, 1.0) for factor in self.design.factors]
        parts.append(max(whole - sum(parts), 0.0))
        counts.append(max(self.design.size - 1.0, 1.0))
        taken = sum(part**2 / count for part, count in zip(parts, counts))
        return whole**2 / taken if taken > 0 else 0.0

    def _models_that_show(self, variables: Iterable[str]) -> int:
        """Return how many models have answers at two values of every one of some variables."""
        model = pd.factorize(self.table[self.model.models].astype(object))[0]
        shows = np.ones(int(model.max()) + 1, dtype=bool)
        for name in variables:
            values = pd.factorize(self.table[name].astype(object))[0]
            pairs = np.unique(model * (int(values.max()) + 1) + values) // (int(values.max()) + 1)
            shows &= np.bincount(pairs, minlength=len(shows)) > 1
        return int(shows.sum())

    @property
    def fixed(self) -> dict[str, Estimate]:
        """Fixed effects with Wald intervals: Student's t for those that compare models, else normal."""
        return {name: self.wald(name, LEVEL) for name in self.design.names}

    def wald(self, name: str, level: float) -> Estimate:
        """Return a fixed effect with its Wald interval."""
        if name not in self.design.names:
            raise AnalysisError(f"There is no fixed effect {name!r}; there are {', '.join(self.design.names)}.")
        value = float(self.coefficients[self.design.names.index(name)])
        error, freedom = self.standard_errors[name], self.freedom(name)
        models = self.number_of_models
        low, high = -math.inf, math.inf
        if math.isfinite(freedom) and freedom < 1:
            method = f"no interval: {models} models leave no degrees of freedom for what compares models"
        elif name in self.flat:
            method = "no interval: the likelihood is flat in this direction"
        elif not (self.converged and error > 0):
            method = "no interval: the fit did not converge"
        elif math.isfinite(freedom):
            width = critical_value(level, freedom) * error
            low, high = value - width, value + width
            less = models - freedom
            how = f"{models} models less {less:.0f}" if less > 0 else "Satterthwaite, no variance between models"
            method = f"Wald, t with {freedom:.0f} degrees of freedom ({how}); {self.method}"
        else:
            width = critical_value(level) * error
            low, high = value - width, value + width
            method = f"Wald, normal; {self.method}"
        return Estimate(
            value, low, high, method, self._independent(freedom), self.scale,
            spell_estimand(self._scope(self.speaks_for_new_models(name))), level,
        )  # fmt: skip

    def _independent(self, freedom: float) -> int:
        """Return how many independent things a coefficient rests on."""
        if math.isfinite(freedom):
            return self.number_of_models
        sizes = [factor.size for factor in self.design.factors if factor.name != self.model.models]
        return min(sizes, default=self.design.size)

    @property
    def method(self) -> str:
        """How the model was fitted, in words."""
        text = METHODS[self.model.method]
        if self.model.method in ("joint", "restricted"):
            text += f", {self.model._curvature} information"
        if self.misleading is not None:
            text += f"; {len(self.set_apart)} units below chance set apart"
        return text

    @cached_property
    def standard_deviations(self) -> dict[str, Estimate]:
        """Standard deviations of the random effects, with intervals.

        The interval is that of a variance whose estimate is distributed as chi-square, with the degrees of freedom that
        its standard error implies (Satterthwaite 1946). Where these are few, it is the profile likelihood's. At the
        boundary, zero is the lower end, and the upper one is where the likelihood has fallen as far as the level
        allows.
        """
        return {factor.name: self._standard_deviation(which) for which, factor in enumerate(self.design.factors)}

    def _standard_deviation(self, which: int) -> Estimate:
        """Return one standard deviation."""
        factor = self.design.factors[which]
        value = float(self.sds[which])
        low, high = 0.0, math.inf
        term = next((own for own in self.design.terms if which in own.factors and own.shears), None)
        if term is not None:
            low, high, method = self._correlated_deviation(which)
        elif not self.optimum.free[which]:
            from analysis.mixed_model.inference import upper_end_at_boundary

            high = upper_end_at_boundary(self, factor.name, LEVEL) * self.unit_of(which)
            method = (
                f"at the boundary; upper end where the likelihood has fallen as far as the level allows; {self.method}"
            )
        else:
            place = int(self.optimum.free[:which].sum())
            variance = float(self.covariance[place, place])
            freedom = 1 / (2 * variance) if variance > 0 else 0.0
            if self.converged and 0 < freedom < _FEW:
                try:
                    return self.profile(factor.name)
                except AnalysisError as error:
                    method = f"no interval: {str(error).split(':')[0].lower()}; {self.method}"
            elif self.converged and freedom:
                tail = (1 - LEVEL) / 2
                low, high = (value * math.sqrt(freedom / float(chi2.ppf(share, freedom))) for share in (1 - tail, tail))
                method = f"Satterthwaite, chi-square with {freedom:.1f} degrees of freedom; {self.method}"
            else:
                method = "no interval: the fit did not converge"
        words = spell_estimand(self.scope)
        return Estimate(value, low, high, method, factor.size, self.scale, words, LEVEL)

    def unit_of(self, which: int) -> float:
        """Return by how much a factor's standard deviation is larger than its scale: columns are fitted at one size."""
        for term in self.design.terms:
            if which in term.factors:
                return 1 / float(term.sizes[term.factors.index(which)])
        return 1.0

    def _spread_error(self, read: Callable[[Floats], float]) -> float:
        """Return the standard error of a function of the spread, by the delta method with central differences."""
        moving = np.flatnonzero(self.optimum.moving)
        slopes = np.empty(len(moving))
        for place, which in enumerate(moving):
            ends = []
            for sign in (1, -1):
                spread = self.optimum.spread.copy()
                spread[which] += sign * 1e-5
                ends.append(read(spread))
            slopes[place] = (ends[0] - ends[1]) / 2e-5
        return math.sqrt(max(float(slopes @ self.covariance[: len(moving), : len(moving)] @ slopes), 0.0))

    def _correlated_deviation(self, which: int) -> tuple[float, float, str]:
        """Return the interval of the standard deviation of a correlated effect, and its method."""
        value, most = float(self.sds[which]), self._most_at_boundary(which)
        if value == 0:
            how = "at the boundary; upper end where the likelihood has fallen as far as the level allows"
            return 0.0, most, f"{how}; {self.method}"
        error = self._spread_error(
            lambda spread: math.log(spread_of_levels(self.design, self.optimum, spread)[0][which])
        )
        freedom = 1 / (2 * error**2) if error > 0 else 0.0
        if not (self.converged and freedom):
            return 0.0, math.inf, "no interval: the fit did not converge"
        width = critical_value(LEVEL) * 2 * value**2 * error
        low, high = (math.sqrt(max(value**2 + sign * width, 0.0)) for sign in (-1, 1))
        if freedom < _FEW:
            # Near zero the logarithm says little, and the likelihood of correlated effects has no profile to follow.
            return low, max(high, most), f"Wald on the variance; {self.method}"
        # Where a variance is small beside its error, chi-square's lower end is too high; where it is large, the upper
        # end of a symmetric interval is too low (docs/recovery.md).
        tail = (1 - LEVEL) / 2
        lower, upper = (value * math.sqrt(freedom / float(chi2.ppf(share, freedom))) for share in (1 - tail, tail))
        how = f"the wider of Wald on the variance and chi-square with {freedom:.1f} degrees of freedom, at each end"
        return min(low, lower), max(high, upper, most), f"{how}; {self.method}"

    def _most_at_boundary(self, which: int) -> float:
        """Return the standard deviation of a correlated effect if what is at the boundary were as large as it can be.

        A singular fit leaves directions out of which the data say little; the likelihood says how far they could go.
        """
        from analysis.mixed_model.inference import upper_end_at_boundary

        term = next(own for own in self.design.terms if which in own.factors)
        most = 0.0
        for column in term.factors:
            if self.optimum.free[column]:
                continue
            spread = self.optimum.spread.copy()
            upper = upper_end_at_boundary(self, self.design.factors[column].name, LEVEL)
            if not math.isfinite(upper):
                return math.inf
            spread[column] = math.log(upper)
            most = max(most, float(spread_of_levels(self.design, self.optimum, spread)[0][which]))
        return most

    @cached_property
    def correlations(self) -> dict[str, Estimate]:
        """Correlations of the random effects of a level, by name (``intercept, x | participant``), with intervals.

        The interval is Wald's on Fisher's z. A singular fit, whose effects depend on one another fully, has none.
        """
        found: dict[str, Estimate] = {}
        for number, term in enumerate(self.design.terms):
            for row, column in term.shear_places:
                name = f"{term.effects[column]}, {term.effects[row]} | {term.group}"
                found[name] = self._correlation(number, row, column)
        return found

    def _correlation(self, number: int, row: int, column: int) -> Estimate:
        """Return one correlation."""
        term = self.design.terms[number]

        def read(spread: Floats) -> float:
            return float(spread_of_levels(self.design, self.optimum, spread)[1][number][row, column])

        value, low, high = read(self.optimum.spread), -1.0, 1.0
        singular = not all(self.optimum.free[which] for which in term.factors)
        if singular or not abs(value) < 1:
            method = f"no interval: the fit is singular; {self.method}"
        elif not self.converged:
            method = "no interval: the fit did not converge"
        else:
            error = self._spread_error(lambda spread: math.atanh(read(spread)))
            low, high = (math.tanh(math.atanh(value) + sign * critical_value(LEVEL) * error) for sign in (-1, 1))
            method = f"Wald on Fisher's z; {self.method}"
        size = self.design.factors[term.factors[0]].size
        return Estimate(value, low, high, method, size, "correlation", spell_estimand(self.scope), LEVEL)

    def _draw(self, **options: Any) -> Any:
        """Draw the fixed effects with their intervals."""
        from analysis.figures import plot_estimates

        table = self.frame().query("effect == 'fixed'").rename(columns={"name": "label"})
        return plot_estimates(table, **{"value_label": f"effect, {self.scale}", "level": 0.0, **options})

    def plot_residuals(self, ax: Axes | None = None, *, seed: int = 0, **options: Any) -> Any:
        """Draw quantile residuals: their quantiles, and their means against the prediction; ``ax`` as for ``plot``."""
        from analysis.figures import plot_residuals
        from analysis.figures.style import drawing_into

        with drawing_into(ax):
            return plot_residuals(self.residuals(seed), **options)

    def readable(self) -> pd.DataFrame:
        """Return all estimates as people read them: fixed effects, standard deviations, correlations."""
        effects = {
            "fixed": self.fixed,
            "standard deviation": self.standard_deviations,
            "correlation": self.correlations,
        }
        return pd.DataFrame(
            [
                {"effect": kind, "name": name, "estimate": str(estimate)}
                for kind, named in effects.items()
                for name, estimate in named.items()
            ]
        )

    @property
    def caption(self) -> str:
        """The scale of the effects, how well the fit went, and what a reader should know."""
        state = "converged" if self.converged else "has NOT converged"
        said = f"Effects on the scale {self.scale}; log-likelihood {self.log_likelihood:,.2f}; the fit {state}."
        return " ".join([said, *self.notes])

    def frame(self) -> pd.DataFrame:
        """Return all estimates, one a row: fixed effects, standard deviations, correlations of random slopes."""
        rows = [("fixed", name, estimate) for name, estimate in self.fixed.items()]
        rows += [("sd", name, estimate) for name, estimate in self.standard_deviations.items()]
        rows += [("correlation", name, estimate) for name, estimate in self.correlations.items()]
        errors = self.standard_errors
        return pd.DataFrame(
            [
                {"effect": kind, "name": name, "standard_error": errors[name] if kind == "fixed" else np.nan}
                | estimate.as_dict()
                for kind, name, estimate in rows
            ]
        )

    @property
    def params(self) -> pd.Series:
        """The fixed effects, by name."""
        return pd.Series(self.coefficients, index=list(self.design.names), name="coef")

    @property
    def bse(self) -> pd.Series:
        """Standard errors of the fixed effects, by name."""
        return pd.Series(self.standard_errors, name="std err", dtype=float)

    @property
    def tvalues(self) -> pd.Series:
        """The fixed effects in standard errors, by name; t where ``degrees_of_freedom`` is finite, else z."""
        return self._coefficient_table["z or t"]

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of the fixed effects, by Wald, by name; missing where there is no standard error."""
        return self._coefficient_table["p"]

    @property
    def degrees_of_freedom(self) -> pd.Series:
        """Degrees of freedom of each fixed effect; infinite for one that does not speak for new models."""
        return self._coefficient_table["df"]

    @cached_property
    def _coefficient_table(self) -> pd.DataFrame:
        from analysis.mixed_model.hypotheses import coefficient_table

        return coefficient_table(self)

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Return the fixed effects' intervals at the level ``1 - alpha``, lower and upper ends as columns 0, 1."""
        ends = {name: self.wald(name, 1 - alpha) for name in self.design.names}
        return pd.DataFrame({0: {n: e.low for n, e in ends.items()}, 1: {n: e.high for n, e in ends.items()}})

    def cov_params(self) -> pd.DataFrame:
        """Return the covariance of the fixed effects."""
        free, names = int(self.optimum.moving.sum()), list(self.design.names)
        return pd.DataFrame(self.covariance[free:, free:], index=names, columns=names)

    @property
    def nobs(self) -> int:
        """How many answers were fitted."""
        return self.design.size

    @property
    def df_model(self) -> int:
        """How many fixed effects there are beside the intercept."""
        return len(self.design.names) - 1

    @property
    def df_resid(self) -> int:
        """Answers less fixed effects. Tests use ``degrees_of_freedom``, since answers are no independent models."""
        return self.nobs - len(self.design.names)

    @property
    def llf(self) -> float:
        """The log-likelihood: ``log_likelihood``."""
        return self.log_likelihood

    @property
    def bic(self) -> float:
        """Schwarz's information criterion, with the number of answers; restricted if the likelihood is."""
        return self.parameters * math.log(self.nobs) - 2 * self.log_likelihood

    def summary(self, alpha: float = 0.05) -> Any:
        """Return the fit as statsmodels shows fits: a ``Summary`` with ``as_text``, ``as_html`` and ``as_latex``."""
        from statsmodels.iolib.summary2 import Summary

        shown = Summary()
        shown.add_title("Mixed model of right and wrong answers")
        groups = ", ".join(f"{own.name} {own.size}" for own in self.design.factors)
        shown.add_dict(
            {
                "Outcome": self.model.outcome, "Answers": f"{self.nobs:,}", "Link": self.scale,
                "Log-likelihood": f"{self.llf:,.2f}", "AIC": f"{self.aic:,.1f}", "BIC": f"{self.bic:,.1f}",
                "Converged": "yes" if self.converged else "NO", "Levels": groups or "no random effects",
            }
        )  # fmt: skip
        ends = self.conf_int(alpha).set_axis([f"[{alpha / 2:g}", f"{1 - alpha / 2:g}]"], axis="columns")
        shown.add_df(self._coefficient_table.join(ends), float_format="%.4f")
        deviations = {
            name: {"std dev": own.value, "low": own.low, "high": own.high}
            for name, own in self.standard_deviations.items()
        }
        if deviations:
            shown.add_df(pd.DataFrame(deviations).T, float_format="%.4f")
        if self.correlations:
            rows = {
                name: {"correlation": own.value, "low": own.low, "high": own.high}
                for name, own in self.correlations.items()
            }
            shown.add_df(pd.DataFrame(rows).T, float_format="%.4f")
        for note in (f"Method: {self.method}.", *self.notes):
            shown.add_text(note)
        return shown

    def wald_test(self, hypothesis: str | Sequence[str]) -> WaldTest:
        """Test linear hypotheses, ``"condition[T.synthetic] = 0"``; see ``hypotheses.wald_test``."""
        from analysis.mixed_model.hypotheses import wald_test

        return wald_test(self, hypothesis)

    def compare(self, smaller: MixedModelFit) -> LikelihoodRatio:
        """Test a smaller model within this one by their likelihoods; see ``hypotheses.likelihood_ratio``."""
        from analysis.mixed_model.hypotheses import likelihood_ratio

        return likelihood_ratio(smaller, self)

    def contrasts(self, by: str | Sequence[str], level: float = LEVEL) -> ResultList[Contrast]:
        """Return the differences of all pairs of groups, on the link's scale; see ``hypotheses.contrast_groups``."""
        from analysis.mixed_model.hypotheses import contrast_groups

        return contrast_groups(self, by, level)

    def predict(self, table: pd.DataFrame | None = None, levels: Levels = "known") -> pd.Series:
        """Return the probability of a right answer for each row; see ``prediction.predict``."""
        from analysis.mixed_model.prediction import predict

        return predict(self, table, levels)

    @property
    def fittedvalues(self) -> pd.Series:
        """The probability of a right answer for each answer that was fitted, at its levels' own effects."""
        return self.predict().rename("fittedvalues")

    @property
    def resid(self) -> pd.Series:
        """Right (1) or wrong (0) less ``fittedvalues``; ``residuals`` gives quantile residuals, which tell more."""
        right = pd.Series(self.table[self.model.outcome].to_numpy(dtype=float), index=self.fittedvalues.index)
        return (right - self.fittedvalues).rename("resid")

    @property
    def random_effects(self) -> dict[str, pd.Series]:
        """The random effects by factor, each by level: ``conditional_modes``, which has standard errors."""
        return {
            factor.name: self.conditional_modes(factor.name).set_index("level")["effect"]
            for factor in self.design.factors
        }

    def t_test(self, hypothesis: str | Sequence[str], level: float = LEVEL) -> ResultList[LinearTest]:
        """Test hypotheses one by one, ``"condition[T.synthetic] = 0"``; see ``hypotheses.linear_tests``."""
        from analysis.mixed_model.hypotheses import linear_tests

        return linear_tests(self, hypothesis, level)

    def residuals(self, seed: int = 0) -> pd.DataFrame:
        """Return randomised quantile residuals; see ``prediction.quantile_residuals``."""
        from analysis.mixed_model.prediction import quantile_residuals

        return quantile_residuals(self, seed)

    def standard_error(self, name: str) -> float:
        """Return the standard error of a fixed effect or of a standard deviation; 0 at the boundary."""
        if name in self.design.names:
            return self.standard_errors[name]
        which = self.design.factors.index(self.design.factor(name))
        if self.sds[which] == 0:
            return 0.0
        if any(which in term.factors and term.shears for term in self.design.terms):
            value = float(self.sds[which])
            return value * self._spread_error(
                lambda spread: math.log(spread_of_levels(self.design, self.optimum, spread)[0][which])
            )
        place = int(self.optimum.free[:which].sum())
        return float(self.sds[which]) * math.sqrt(max(float(self.covariance[place, place]), 0.0))

    def profile(self, name: str, level: float = LEVEL) -> Estimate:
        """Return an effect with its profile-likelihood interval; see ``inference.profile_interval``."""
        from analysis.mixed_model.inference import profile_interval

        return profile_interval(self, name, level)

    def bootstrap(self, refits: int, *, seed: int, level: float = LEVEL, reporter: Reporter | None = None) -> Bootstrap:
        """Refit to simulated answers; see ``inference.bootstrap``."""
        from analysis.mixed_model.inference import bootstrap

        return bootstrap(self, refits, seed=seed, level=level, reporter=reporter)

    def simulate(self, seed: int) -> pd.DataFrame:
        """Return the table with answers that the model simulates: new units, people and models."""
        from analysis.mixed_model.inference import simulate

        return simulate(self, seed)

    def marginal_means(self, by: str | Sequence[str] = (), level: float = LEVEL) -> MarginalMeans:
        """Return proportions correct, integrated over random effects; see ``marginal_means.marginal_means``."""
        from analysis.mixed_model.marginal_means import marginal_means

        return marginal_means(self, (by,) if isinstance(by, str) else by, level)

    def conditional_modes(self, factor: str) -> pd.DataFrame:
        """Return the random effects of a factor; see ``marginal_means.conditional_modes``."""
        from analysis.mixed_model.marginal_means import conditional_modes

        return conditional_modes(self, factor)

    def predict_units(self, level: float = LEVEL) -> MarginalMeans:
        """Return how well each unit is answered about: its proportion correct, shrunken towards the others'.

        One mean a unit (and condition, if there are several): its own effects stay at their conditional modes, people
        and tasks are integrated out.
        """
        several = "condition" in self.table and self.table["condition"].astype(object).nunique() > 1
        return self.marginal_means(("unit", "condition") if several else ("unit",), level)
