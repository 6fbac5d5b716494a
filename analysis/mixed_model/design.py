"""From a table of judgements to numbers: which answers, which fixed effects, which levels of which factors.

Answers and levels are put in an order that depends on neither the order of the rows nor the names of the levels, so
that a fit is the same to the last bit however the table is shuffled and its people and units are renamed. The order
is that of colours refined as in Weisfeiler & Leman's test of isomorphism: a level's colour is a hash of the colours of
its answers, an answer's a hash of what it holds and of the colours of its levels, a few rounds of both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.mixed_model.links import Floats
from benchmark.errors import AnalysisError, first_line, suggest

Integers = NDArray[np.int64]
INTERCEPT = "intercept"
OUTCOME = "correct"
"""Column of right and wrong answers, unless a formula names another."""
MOST_CELLS = 12
"""A fixed effect with more values than this is no set of cells that units and models could differ in."""
_NAME = re.compile(r"[^()|+*~`,]+")
_ROUNDS = 4
_RANDOM_TERM = re.compile(r"\(((?:[^()|]|\([^()|]*\))+)(\|\|?)\s*([\w:./ ]+?)\s*\)")


def split_formula(formula: str) -> tuple[str, str, tuple[str, ...]]:
    """Split a formula in lme4's spelling into the outcome, the fixed effects and the random ones.

    ``"correct ~ synthetic*logp + (1|unit) + (1 + synthetic|participant)"`` becomes ``("correct", "synthetic*logp",
    ("unit", "1 + synthetic | participant"))``. ``(1|model/unit)`` is ``(1|model) + (1|model:unit)``. ``(x || g)`` is
    ``(1|g) + (0 + x|g)``, term by term: effects of different terms are then uncorrelated. As in lme4, the effects that
    belong to the values of one text column stay correlated. Without a left-hand side the outcome is ``correct``.

    Raises
    ------
    AnalysisError
        If a random term can't be read, or the left-hand side is no name of a column.
    """
    left, tilde, right = formula.partition("~")
    if not tilde:
        left, right = OUTCOME, formula
    outcome = left.strip().strip("`").strip() or OUTCOME
    if "~" in right or not _NAME.fullmatch(outcome):
        raise AnalysisError(
            f"The left-hand side of the formula {formula!r} must be the name of the column that says which answers are "
            "right, one row an answer: 'correct ~ ...'. Sums and functions of columns are columns to be made before."
        )
    random = tuple(
        dict.fromkeys(
            name
            for effects, bars, group in _RANDOM_TERM.findall(right)
            for name in _spell_random(effects.strip(), group.strip(), uncorrelated=bars == "||")
        )
    )
    fixed = _RANDOM_TERM.sub("", right)
    if "|" in fixed:
        raise AnalysisError(
            f"The formula {formula!r} has a random term that can't be read. Write (1 | factor) for one effect a level, "
            "(1 + x | factor) for slopes."
        )
    terms = [term.strip() for term in fixed.split("+")]
    return outcome, " + ".join(term for term in terms if term) or "1", random


def _spell_random(effects: str, group: str, *, uncorrelated: bool) -> list[str]:
    """Return the random effects of a term as ``MixedModel.random`` has them."""
    groups = _nested(group)
    if effects == "1":
        return groups
    if not uncorrelated:
        return [f"{effects} | {name}" for name in groups]
    terms = [term for term in _terms_of(effects) if term != "1"]
    whole = ["1"] if "1" in _terms_of(effects) else []
    return [name if term == "1" else f"0 + {term} | {name}" for name in groups for term in (*whole, *terms)]


def _terms_of(effects: str) -> list[str]:
    """Return the terms of a formula, one by one; the intercept is ``1``."""
    from formulaic import Formula  # type: ignore[import-untyped, unused-ignore]
    from formulaic.errors import FormulaicError  # type: ignore[import-untyped, unused-ignore]

    try:
        return [str(term) for term in Formula(effects)]
    except (FormulaicError, ValueError, SyntaxError) as error:
        raise AnalysisError(f"The random slopes {effects!r} can't be read: {first_line(error)}") from error


def split_random(name: str) -> tuple[str, str]:
    """Return the effects and the group of a random effect; the effects of ``unit`` are ``1``.

    Raises
    ------
    AnalysisError
        If it has no group, or is written with two bars.
    """
    effects, bar, group = name.partition("|")
    if not bar:
        return "1", name.strip()
    if "|" in group or not group.strip() or not effects.strip():
        raise AnalysisError(
            f"The random effect {name!r} can't be read: write 'x | factor'. Uncorrelated slopes are several: "
            "'factor', '0 + x | factor'."
        )
    return effects.strip(), group.strip()


def _nested(term: str) -> list[str]:
    """Return the factors of a random term: ``a/b`` is ``a`` and ``a:b``, as in lme4."""
    parts = term.replace(" ", "").split("/")
    return [":".join(parts[: number + 1]) for number in range(len(parts))]


@dataclass(frozen=True)
class Factor:
    """A grouping factor, or a column of a random slope: that has a factor of its own, with the levels of its group.

    Attributes
    ----------
    name
        As given: ``unit``, or ``unit:condition``; for a column of a slope ``condition[T.synthetic] | unit``.
    codes
        Shape (answers,): the level of each answer.
    labels
        Name of each level.
    values
        Shape (answers,): what the level's effect is multiplied by in each answer; None for 1.
    """

    name: str
    codes: Integers
    labels: tuple[str, ...]
    values: Floats | None = None

    @property
    def size(self) -> int:
        """How many levels there are."""
        return len(self.labels)


@dataclass(frozen=True)
class SlopeTerm:
    """A random term with slopes: ``(1 + x | participant)``.

    The effects of a level are ``L S u``, with u of unit variance, S the diagonal matrix of standard deviations that the
    factors of the columns have, and L a lower triangular matrix with ones on its diagonal, whose other elements are the
    *shears*. Any covariance can be written so.

    Attributes
    ----------
    group
        The grouping factor: ``participant``.
    effects
        Name of each effect of a level: ``intercept``, ``x``.
    factors
        For each effect, which factor of the design its column is.
    columns
        Shape (answers, effects): what effects are multiplied by, divided by ``sizes``.
    sizes
        Shape (effects,): root mean square of each column, so that all are of one size while the model is fitted.
    variables
        For each effect, the columns of the table behind it.
    specification
        What makes the columns of other tables (formulaic's ``ModelSpec``).
    """

    group: str
    effects: tuple[str, ...]
    factors: tuple[int, ...]
    columns: Floats
    sizes: Floats
    variables: tuple[frozenset[str], ...]
    specification: Any

    @property
    def shear_places(self) -> list[tuple[int, int]]:
        """Row and column of each shear in L."""
        size = len(self.effects)
        return [(row, column) for column in range(size) for row in range(column + 1, size)]

    @property
    def shears(self) -> int:
        """How many shears there are."""
        return len(self.shear_places)

    def unit_lower(self, shears: Floats) -> Floats:
        """Return L."""
        lower = np.eye(len(self.effects))
        for (row, column), value in zip(self.shear_places, shears):
            lower[row, column] = value
        return lower

    def root(self, sds: Floats, shears: Floats) -> Floats:
        """Return the root R of the effects' covariance R R', in the unit of the columns as they were given."""
        return np.asarray(self.unit_lower(shears) * sds / self.sizes[:, None])


@dataclass(frozen=True)
class ModelMatrix:
    """All that a fit needs to know of a table: the matrix of fixed effects, and the levels of grouping factors.

    Attributes
    ----------
    correct
        Shape (answers,): whether each answer is right.
    fixed
        Shape (answers, coefficients): the design matrix.
    names
        Name of each coefficient.
    factors
        Grouping factors, without those that had to be left out.
    guess
        Probability of a right answer when nothing is seen: one for all, or one an answer.
    rows
        Shape (answers,): which row of the table each answer stands in.
    stratum
        For each coefficient, the terms of it that vary within models, and whether it has one that does not: what its
        degrees of freedom follow from.
    specification
        What makes a design matrix of the same columns for other tables (formulaic's ``ModelSpec``).
    notes
        What had to be done differently from what was asked, in words.
    terms
        Random terms with slopes.
    """

    correct: NDArray[np.bool_]
    fixed: Floats
    names: tuple[str, ...]
    factors: tuple[Factor, ...]
    guess: float | Floats
    rows: Integers
    stratum: tuple[tuple[frozenset[str], bool], ...]
    specification: Any
    notes: tuple[str, ...] = ()
    terms: tuple[SlopeTerm, ...] = ()

    @property
    def size(self) -> int:
        """How many answers there are."""
        return len(self.correct)

    def factor(self, name: str) -> Factor:
        """Return the factor of a name."""
        for factor in self.factors:
            if factor.name == name:
                return factor
        raise AnalysisError(f"There is no random effect of {name!r}. {suggest(name, [f.name for f in self.factors])}")


def thin(design: ModelMatrix, wanted: int) -> ModelMatrix:
    """Return the design of about so many answers: all those of a part of the levels of its largest factor.

    Levels are numbered by hashes of their answers, so that every so-and-so-manieth is a random part of them.
    """
    step = max(design.size // wanted, 1)
    largest = max(design.factors, key=lambda factor: factor.size)
    kept = largest.codes % step == 0
    values = {which: column for term in design.terms for which, column in zip(term.factors, term.columns[kept].T)}
    factors = []
    for which, factor in enumerate(design.factors):
        present, codes = np.unique(factor.codes[kept], return_inverse=True)
        labels = tuple(factor.labels[level] for level in present.tolist())
        factors.append(Factor(factor.name, codes.astype(np.int64), labels, values.get(which)))
    return replace(
        design,
        correct=design.correct[kept],
        fixed=np.ascontiguousarray(design.fixed[kept]),
        factors=tuple(factors),
        guess=design.guess if isinstance(design.guess, float) else design.guess[kept],
        rows=design.rows[kept],
        terms=tuple(replace(term, columns=np.ascontiguousarray(term.columns[kept])) for term in design.terms),
    )


def lay_out_design(
    table: pd.DataFrame,
    fixed: str | Sequence[str],
    random: Sequence[str],
    *,
    guess: float | str,
    lapse: float,
    cluster: str = "model",
    outcome: str = OUTCOME,
) -> ModelMatrix:
    """Return the design of a mixed model.

    Parameters
    ----------
    table
        One row an answer, in plain types (``judgements.plain``), with all columns that are named below.
    fixed
        A formula of fixed effects (``"1 + condition * predictor"``), or the names of columns, which are added up.
    random
        Names of grouping factors: columns, or columns joined by colons; with slopes ``1 + x | participant``.
    guess
        Probability of a right answer when nothing is seen, or the name of a column that holds it.
    lapse
        What is missing between the upper asymptote and 1.
    cluster
        Column whose levels are the models: what tells coefficients of models from others.
    outcome
        Column of right (1) and wrong (0) answers.

    Raises
    ------
    AnalysisError
        If there are no answers, a column is missing or has holes, all answers are right or none is, or coefficients
        can't be distinguished.
    """
    formula = fixed if isinstance(fixed, str) else " + ".join(["1", *(f"`{name}`" for name in fixed)])
    asked = [split_random(name) for name in random]
    needed = {outcome, *(column for _, group in asked for column in group.split(":"))}
    if isinstance(guess, str):
        needed.add(guess)
    _check_columns(table, needed)
    if table.empty:
        raise AnalysisError("There are no answers to fit a mixed model to: the table has no rows.")
    table, renamed = _tell_units_apart(table, cluster, [group for _, group in asked])
    correct = _read_correct(table[outcome])
    matrix, names, specification, terms = _fixed_effects(table, formula)
    clusters = _codes(table, cluster) if cluster in table else None
    asymptote = _read_guess(table, guess, lapse)
    _check_rank(table, matrix, names)
    factors, slopes, notes = _grouping_factors(table, asked, matrix)
    notes += renamed
    _check_answers(correct, matrix, names, asymptote, lapse)
    held = np.column_stack([matrix, *(term.columns for term in slopes)])
    order, recoded = _canonical_order(correct, held, asymptote, [codes for _, codes, _ in factors])
    slopes = [replace(term, columns=np.ascontiguousarray(term.columns[order])) for term in slopes]
    values = {which: column for term in slopes for which, column in zip(term.factors, term.columns.T)}
    return ModelMatrix(
        correct=correct[order],
        fixed=np.ascontiguousarray(matrix[order]),
        names=names,
        factors=tuple(
            Factor(name, codes[order], tuple(np.asarray(labels, dtype=object)[level_order]), values.get(which))
            for which, ((name, _, labels), (codes, level_order)) in enumerate(zip(factors, recoded))
        ),
        guess=asymptote if isinstance(asymptote, float) else asymptote[order],
        rows=order,
        stratum=_strata(table, matrix, terms, clusters),
        specification=specification,
        notes=tuple(notes),
        terms=tuple(slopes),
    )


def _check_columns(table: pd.DataFrame, needed: set[str]) -> None:
    """Refuse a table that lacks a column, or has holes in one."""
    for name in sorted(needed):
        if name not in table:
            raise AnalysisError(f"The table has no column {name!r}. {suggest(name, [str(c) for c in table.columns])}")
        if table[name].isna().any():
            raise AnalysisError(
                f"The column {name!r} has no value in {int(table[name].isna().sum()):,} of {len(table):,} rows; drop "
                "these rows, or the effect."
            )


def _tell_units_apart(table: pd.DataFrame, cluster: str, random: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return the table with units and tasks renamed where several models share a name, and a note if there were any."""
    notes: list[str] = []
    changed: dict[str, Any] = {}
    used = {column for name in random for column in name.split(":")}
    for column in ("unit", "task"):
        if cluster not in table or column not in used or column == cluster:
            continue
        own, models = (pd.factorize(table[name].astype(object))[0] for name in (column, cluster))
        if _constant_within(models, own):
            continue
        changed[column] = table[cluster].astype(str) + "/" + table[column].astype(str)
        notes.append(f"Several models have a {column} of one name: these are different {column}s, one for each model.")
    return (table.assign(**changed) if changed else table), notes


def default_random(table: pd.DataFrame, fixed: str | Sequence[str], cluster: str = "model") -> tuple[str, ...]:
    """Return the random effects of a design that speaks for new units, new people and new models.

    Units, people and models, as far as the table has them; and for every fixed effect that comes in cells (a condition:
    texts, truth values, or at most ``MOST_CELLS`` numbers) each of them with the effect where it varies within them:
    ``unit:condition``, ``model:condition``. Without the last, the interval of a condition's effect holds for these
    models alone (Barr et al. 2013, Random effects structure for confirmatory hypothesis testing: keep it maximal).

    Parameters
    ----------
    table
        One row an answer.
    fixed
        As for :func:`lay_out_design`.
    cluster
        Column of the models.
    """
    present = [name for name in ("unit", "participant", cluster) if name in table]
    found = list(present)
    named = [str(name) for name in fixed] if not isinstance(fixed, str) else re.findall(r"[^\W\d]\w*", fixed)
    for column in dict.fromkeys(named):
        if column not in table or column in present:
            continue
        values = pd.factorize(table[column].astype(object))[0]
        if values.max() >= MOST_CELLS:
            continue
        groups = {name: pd.factorize(table[name].astype(object))[0] for name in present}
        if cluster in groups and "unit" in groups:
            groups["unit"] = groups["unit"] * (int(groups[cluster].max()) + 1) + groups[cluster]
        found += [f"{name}:{column}" for name, own in groups.items() if not _constant_within(values, own)]
    return tuple(found)


def _read_correct(column: pd.Series) -> NDArray[np.bool_]:
    """Return whether answers are right."""
    values = column.to_numpy(dtype=np.float64)
    if not np.isin(values, (0.0, 1.0)).all():
        strange = values[~np.isin(values, (0.0, 1.0))][0]
        raise AnalysisError(
            f"The column {column.name!r} holds {strange:g}, and an answer is right or wrong: it must hold 0 and 1 "
            "alone, one row an answer."
        )
    right: NDArray[np.bool_] = values == 1
    return right


def _read_guess(table: pd.DataFrame, guess: float | str, lapse: float) -> float | Floats:
    """Return the lower asymptote, after checking that it leaves room for a link."""
    values = table[guess].to_numpy(dtype=np.float64) if isinstance(guess, str) else np.array([float(guess)])
    if not (np.isfinite(values).all() and values.min() >= 0 and lapse >= 0 and values.max() + lapse < 1):
        raise AnalysisError(
            f"The guess rate ({values.min():g} to {values.max():g}) and the lapse rate ({lapse:g}) must be at least 0 "
            "and add up to less than 1."
        )
    return values if isinstance(guess, str) else float(guess)


def _fixed_effects(table: pd.DataFrame, formula: str) -> tuple[Floats, tuple[str, ...], Any, list[frozenset[str]]]:
    """Return the design matrix of the fixed effects, its names, and the columns of the table behind each of them."""
    from formulaic import model_matrix  # type: ignore[import-untyped, unused-ignore]
    from formulaic.errors import FormulaicError  # type: ignore[import-untyped, unused-ignore]

    data = table.copy()
    for name in data.columns:
        if isinstance(data[name].dtype, pd.CategoricalDtype):
            data[name] = data[name].cat.remove_unused_categories()
    try:
        made = model_matrix(formula, data, na_action="raise")
    except (FormulaicError, ValueError, KeyError, TypeError, SyntaxError) as error:
        reason = first_line(error)
        raise AnalysisError(f"The formula of fixed effects {formula!r} can't be read: {reason}") from error
    matrix = np.asarray(made, dtype=np.float64)
    names = tuple(INTERCEPT if name == "Intercept" else str(name) for name in made.columns)
    if not names:
        raise AnalysisError(f"The formula {formula!r} has no fixed effect; the smallest is '1', the intercept alone.")
    if not np.isfinite(matrix).all():
        bad = [name for name, column in zip(names, matrix.T) if not np.isfinite(column).all()]
        raise AnalysisError(f"Fixed effects have values that are not finite: {', '.join(bad)}.")
    variables: list[frozenset[str]] = [frozenset()] * len(names)
    for term, columns in made.model_spec.term_indices.items():
        for column in columns:
            variables[column] = frozenset(str(name) for name in made.model_spec.term_variables[term])
    return matrix, names, made.model_spec, variables


def _check_rank(table: pd.DataFrame, matrix: Floats, names: Sequence[str]) -> None:
    """Refuse coefficients that can't be distinguished, and name them."""
    scale = np.sqrt((matrix**2).sum(axis=0))
    empty = [name for name, length in zip(names, scale) if length == 0]
    if empty:
        raise AnalysisError(
            f"No answer says anything about {', '.join(map(repr, empty))}: the column of the design is zero throughout "
            "(a condition that some models lack?). Leave it out of the formula, or these models."
        )
    values, directions = np.linalg.eigh((matrix / scale).T @ (matrix / scale))
    if values[0] > 1e-10 * len(names):
        return
    mixed = directions[:, values <= 1e-10 * len(names)]
    involved = [name for name, row in zip(names, mixed) if np.abs(row).max() > 1e-4]
    cells = ""
    named = [column for column in table.columns if any(str(column) in name for name in involved)]
    if named:
        cells = f" Each of {', '.join(map(repr, named))} must vary within the levels of the others."
    raise AnalysisError(
        f"The coefficients {', '.join(map(repr, involved))} can't be distinguished: their columns of the design add up "
        f"to zero.{cells} Leave one out, or the models that lack a condition."
    )


def _codes(table: pd.DataFrame, name: str) -> Integers:
    """Return the levels of a factor as numbers."""
    codes = np.zeros(len(table), dtype=np.int64)
    for column in name.split(":"):
        own = pd.factorize(table[column].astype(object))[0]
        codes = pd.factorize(codes * (int(own.max()) + 1) + own)[0].astype(np.int64)
    return codes


def _grouping_factors(
    table: pd.DataFrame, random: Sequence[tuple[str, str]], matrix: Floats
) -> tuple[list[tuple[str, Integers, list[str]]], list[SlopeTerm], list[str]]:
    """Return name, codes and labels of each grouping factor, the terms with slopes, and why some were left out."""
    factors: list[tuple[str, Integers, list[str]]] = []
    slopes: list[SlopeTerm] = []
    notes: list[str] = []
    for effects, name in random:
        codes = _codes(table, name)
        size = int(codes.max()) + 1
        first = np.unique(codes, return_index=True)[1]
        columns = [table[column].astype(object).iloc[first].astype(str) for column in name.split(":")]
        labels = [":".join(parts) for parts in zip(*columns)]
        if effects != "1":
            if size < 2:
                notes.append(
                    f"The random slopes of {name} are left out: all answers share its one level ({labels[0]})."
                )
                continue
            term, own_notes = _slope_term(table, effects, name, codes, len(factors))
            slopes.append(term)
            notes += own_notes
            factors += [(_column_name(effect, name), codes, labels) for effect in term.effects]
            continue
        twin = next(
            (
                other
                for other, others, _ in factors
                if "|" not in other and other != name and _same_partition(codes, others)
            ),
            None,
        )
        if size < 2:
            notes.append(
                f"The random effect of {name} is left out: all answers share its one level ({labels[0]}), so it can't "
                "be told from the intercept, and nothing here speaks for other levels."
            )
        elif twin is not None:
            notes.append(f"The random effect of {name} is left out: it groups answers exactly as {twin} does.")
        elif size <= matrix.shape[1] and _in_span(codes, size, matrix):
            notes.append(
                f"The random effect of {name} is left out: the fixed effects fit each of its {size} levels by itself, "
                "and nothing is left to vary; estimates speak for these levels alone."
            )
        else:
            if size == len(table):
                notes.append(
                    f"Every level of {name} has one answer: its variance shows in nothing but the curvature of the "
                    "link, and is poorly determined."
                )
            factors.append((name, codes, labels))
    twice = {name for name, _, _ in factors if [other for other, _, _ in factors].count(name) > 1}
    if twice or len(set(random)) < len(random):
        named = ", ".join(sorted(twice)) or ", ".join(name for _, name in random)
        raise AnalysisError(f"A random effect is named twice: {named}.")
    return factors, slopes, notes


def _column_name(effect: str, group: str) -> str:
    """Return the name of a factor that is a column of a random slope; the intercept's is its group's."""
    return group if effect == INTERCEPT else f"{effect} | {group}"


def _slope_term(
    table: pd.DataFrame, effects: str, group: str, codes: Integers, first: int
) -> tuple[SlopeTerm, list[str]]:
    """Return a random term with slopes, whose columns are factors from ``first`` on, and what a reader should know."""
    matrix, names, specification, variables = _fixed_effects(table, effects)
    sizes = np.sqrt((matrix**2).mean(axis=0))
    empty = [name for name, size in zip(names, sizes) if size == 0]
    if empty:
        raise AnalysisError(f"The random slope of {', '.join(empty)} by {group} is zero in every answer; leave it out.")
    columns = matrix / sizes
    if len(names) > 1 and np.linalg.eigvalsh(columns.T @ columns / len(columns))[0] < 1e-10:
        raise AnalysisError(
            f"The random effects {', '.join(names)} of {group} can't be distinguished: their columns add up to zero. "
            "Leave one out."
        )
    notes = [
        f"{name} does not vary within any level of {group}, so its random slope only lets levels with another {name} "
        "spread more."
        for name, column in zip(names, matrix.T)
        if name != INTERCEPT and _constant_within(column, codes)
    ]
    term = SlopeTerm(
        group, names, tuple(range(first, first + len(names))), columns, sizes, tuple(variables), specification
    )
    return term, notes


def _in_span(codes: Integers, size: int, matrix: Floats) -> bool:
    """Say whether fixed effects tell all levels of a factor apart."""
    indicator = np.eye(size)[codes]
    basis = np.linalg.qr(matrix)[0]
    left = indicator - basis @ (basis.T @ indicator)
    return bool((left**2).sum() < 1e-8 * len(codes))


def _same_partition(one: Integers, other: Integers) -> bool:
    """Say whether two factors group answers alike."""
    sizes = int(one.max()) + 1, int(other.max()) + 1
    return sizes[0] == sizes[1] == len(np.unique(one * sizes[1] + other))


def _check_answers(
    correct: NDArray[np.bool_], matrix: Floats, names: Sequence[str], guess: float | Floats, lapse: float
) -> None:
    """Refuse answers whose likelihood has no maximum at a finite value."""
    share = float(correct.mean())
    if share in (0.0, 1.0):
        raise AnalysisError(
            f"All {len(correct):,} answers are {'right' if share else 'wrong'}: the likelihood grows without end as "
            f"the intercept goes to {'+' if share else '-'}infinity. Report the proportion with an exact interval "
            "instead."
        )
    floor, ceiling = float(np.mean(guess)), 1 - lapse
    if share <= floor:
        raise AnalysisError(
            f"Only {share:.1%} of {len(correct):,} answers are right, no more than by guessing ({floor:.0%}): the "
            "intercept has no finite estimate on a scale that starts at the guess rate."
        )
    if share >= ceiling:
        raise AnalysisError(
            f"{share:.2%} of {len(correct):,} answers are right, no fewer than a lapse rate of {lapse:.1%} allows: the "
            "intercept has no finite estimate. Check the lapse rate."
        )
    for name, column in zip(names, matrix.T):
        values = np.unique(column)
        if len(values) != 2 or name == INTERCEPT:
            continue
        for value in values:
            cell = column == value
            own = float(correct[cell].mean())
            if own >= ceiling or own == 0:
                why = "no fewer than the lapse rate allows" if own else "which no finite value makes likely"
                raise AnalysisError(
                    f"Where {name} is {value:g}, {own:.1%} of {int(cell.sum()):,} answers are right, {why}: its "
                    "coefficient has no finite estimate. Leave the effect out, or report this group apart."
                )


def _strata(
    table: pd.DataFrame, matrix: Floats, terms: Sequence[frozenset[str]], clusters: Integers | None
) -> tuple[tuple[frozenset[str], bool], ...]:
    """Return, for each coefficient, its variables that vary within models, and whether it compares models."""
    if clusters is None:
        return tuple((variables, False) for variables in terms)
    within = {
        name: not _constant_within(pd.factorize(table[name].astype(object))[0], clusters)
        for name in frozenset().union(*terms)
        if name in table
    }
    return tuple(
        (
            frozenset(name for name in variables if within.get(name, True)),
            any(not within.get(name, True) for name in variables) or _constant_within(column, clusters),
        )
        for variables, column in zip(terms, matrix.T)
    )


def _constant_within(values: NDArray[Any], clusters: Integers) -> bool:
    """Say whether values are the same throughout each cluster."""
    size = int(clusters.max()) + 1
    first = np.zeros(size, dtype=np.asarray(values).dtype)
    first[clusters] = values
    return bool(np.array_equal(first[clusters], values))


def _canonical_order(
    correct: NDArray[np.bool_], matrix: Floats, guess: float | Floats, factors: Sequence[Integers]
) -> tuple[Integers, list[tuple[Integers, Integers]]]:
    """Return an order of answers, and new codes with the old level of each, that depend on no names.

    Returns
    -------
    The order of the answers; and for each factor the new codes (in the old order of answers) and, for each new level,
    the old one.
    """
    own = _mix(correct.astype(np.uint64))
    held = matrix if isinstance(guess, float) else np.column_stack([matrix, guess])
    for number, column in enumerate((held + 0.0).T):  # + 0.0: minus zero is zero
        own = _mix(own + _mix(np.ascontiguousarray(column).view(np.uint64) + np.uint64(number)))
    colour = own
    levels: list[NDArray[np.uint64]] = []
    for _ in range(_ROUNDS):
        levels = []
        for codes in factors:
            total = np.zeros(int(codes.max()) + 1, dtype=np.uint64)
            np.add.at(total, codes, _mix(colour))  # whole numbers modulo 2^64: the same in any order
            levels.append(_mix(total))
        colour = own
        for number, (codes, level) in enumerate(zip(factors, levels)):
            colour = _mix(colour + _mix(level[codes] + np.uint64(number)))
    recoded = []
    for codes, level in zip(factors, levels):
        order = np.argsort(level, kind="stable")
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        recoded.append((rank[codes], order.astype(np.int64)))
    return np.lexsort((*(codes for codes, _ in recoded), colour)).astype(np.int64), recoded


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return well-mixed hashes of whole numbers (the finaliser of splitmix64)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)
