"""All that does not change from one factorisation of the Hessian to the next: which unknown meets which, and where.

``analysis.mixed_model.structure`` says in what order the unknowns are eliminated; here it becomes indices, so that a
factorisation only fills in numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from analysis.mixed_model.design import Integers, ModelMatrix
from analysis.mixed_model.links import Floats
from analysis.mixed_model.structure import ChainFactor, Structure

_SPARSE_COST = 20.0
"""How much longer a multiplication takes in a sparse product than in LAPACK's dense ones."""
_MOST_PAIRS = 20_000_000
"""Pairs of entries that are worth the memory that they take."""
CHUNK = 4_000_000
"""Most numbers in a dense intermediate result."""


@dataclass(frozen=True)
class BlockOfLink:
    """What a factor of the chain has to do with one block of outer levels.

    Attributes
    ----------
    rows
        Which levels meet the block.
    entries
        Which entries of the factor's sparse matrix belong to it, row by row.
    local_rows, local_columns, pointers
        The same entries as a sparse matrix (rows, width of the block).
    dense
        Whether products of this matrix are sooner made as dense ones.
    pairs
        If not, and if they are not too many: all pairs of entries in one row, as (first entry, second entry, where
        their columns meet in the block's own square matrix); entries are counted as here.
    """

    rows: Integers
    entries: Integers
    local_rows: Integers
    local_columns: NDArray[np.int32]
    pointers: NDArray[np.int32]
    dense: bool
    pairs: tuple[Integers, Integers, Integers] | None

    def sparse(self, data: Floats, width: int) -> csr_array:
        """Return the block as a sparse matrix."""
        return csr_array((data[self.entries], self.local_columns, self.pointers), shape=(len(self.rows), width))

    def fill(self, data: Floats, width: int) -> Floats:
        """Return the block as a dense matrix."""
        made = np.zeros((len(self.rows), width))
        made[self.local_rows, self.local_columns] = data[self.entries]
        return made

    def multiply_at(self, data: Floats, dense: Floats, left: Floats, right: Floats) -> Floats:
        """Return the block times a dense matrix, plus ``left @ right.T``, at the block's own entries alone.

        ``left`` has a row for each of the block's rows, ``right`` one for each of its columns.
        """
        width = len(dense)
        if self.dense:
            product = self.fill(data, width) @ dense
            product += left @ right.T
            return np.asarray(product[self.local_rows, self.local_columns])
        added = rowwise(left[self.local_rows], right[self.local_columns])
        if self.pairs is not None:
            first, second, places = self.pairs
            products = data[self.entries][second] * dense.ravel()[places]
            return np.asarray(added + np.bincount(first, products, minlength=len(self.entries)), dtype=np.float64)
        sparse = self.sparse(data, width)
        step = max(CHUNK // max(width, 1), 1)
        made = np.empty(len(self.entries))
        for low in range(0, len(self.rows), step):
            high = min(low + step, len(self.rows))
            first, last = self.pointers[low], self.pointers[high]
            product = sparse[low:high] @ dense
            made[first:last] = product[self.local_rows[first:last] - low, self.local_columns[first:last]]
        return made + added


@dataclass(frozen=True)
class Meeting:
    """Which rows of the border the levels of a factor meet.

    Attributes
    ----------
    pairs
        Shape (answers,): which pair of a level and a row each answer belongs to.
    levels, rows
        Level and row of each pair, sorted by level.
    pointers
        Where the pairs of each level begin.
    shape
        Levels and rows.
    """

    pairs: Integers
    levels: Integers
    rows: Integers
    pointers: Integers
    shape: tuple[int, int]

    @classmethod
    def of(cls, codes: Integers, size: int, profile: Integers, profiles: int) -> Meeting:
        """Return the pairs of levels and rows that occur."""
        keys, pairs = np.unique(codes * profiles + profile, return_inverse=True)
        levels, rows = np.divmod(keys, profiles)
        return cls(pairs, levels, rows, np.searchsorted(levels, np.arange(size + 1)), (size, profiles))

    def add_up(self, weights: Floats, border: Floats) -> Floats:
        """Return, for each level, the weighted sum of the border's rows over its answers."""
        totals = np.bincount(self.pairs, weights, minlength=len(self.levels))
        return np.asarray(csr_array((totals, self.rows, self.pointers), shape=self.shape) @ border)

    def multiply(self, values: Floats, border: Floats) -> Floats:
        """Return, for each answer, the product of its level's row of values and its row of the border."""
        return rowwise(values[self.levels], border[self.rows])[self.pairs]


class System:
    """All that does not change from one factorisation to the next.

    Attributes
    ----------
    size
        Unknowns: all levels, then the coefficients.
    positions
        For each factor of the design: shape (answers,), which unknown each answer's level is.
    levels
        For each factor of the design: shape (levels,), which unknown each level is.
    values
        For each factor of the design: shape (answers,), what its effect is multiplied by in each answer; None for 1.
    shears
        What is added of later columns of a random slope to earlier ones; see ``design.SlopeTerm``.
    """

    def __init__(self, design: ModelMatrix, structure: Structure) -> None:
        self.design = design
        self.structure = structure
        self.coefficients = design.fixed.shape[1]
        self.border_width = structure.border_size + self.coefficients
        sizes = [link.size for link in structure.chain]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.outer_start = int(self.starts[-1])
        self.border_start = self.outer_start + structure.outer_size
        self.fixed_start = self.border_start + structure.border_size
        self.size = self.fixed_start + self.coefficients
        positions: dict[int, Integers] = {
            link.factor: link.codes + start for link, start in zip(structure.chain, self.starts)
        }
        positions |= {which: levels + self.outer_start for which, levels in structure.outer}
        positions |= {which: levels + self.border_start for which, levels in structure.border}
        self.positions = [positions[which] for which in range(len(design.factors))]
        self.levels = []
        for factor, position in zip(design.factors, self.positions):
            own = np.empty(factor.size, dtype=np.int64)
            own[factor.codes] = position
            self.levels.append(own)
        border = np.zeros((design.size, self.border_width))
        for _, levels in structure.border:
            border[np.arange(design.size), levels] = 1.0
        border[:, structure.border_size :] = design.fixed
        # Many answers have the same fixed effects and the same levels in the border: one row stands for them all.
        self.border, self.profile = _distinct_rows(border)
        self.border_factor = np.full(structure.border_size, -1, dtype=np.int64)
        for which, levels in structure.border:
            self.border_factor[levels] = which
        profiles = len(self.border)
        self.meetings = [Meeting.of(link.codes, link.size, self.profile, profiles) for link in structure.chain]
        self.outer_meetings = [
            Meeting.of(levels, structure.outer_size, self.profile, profiles) for _, levels in structure.outer
        ]
        self.gather_parents = [
            [_indicator(parent, later.size) for parent, later in zip(link.parents, structure.chain[place + 1 :])]
            for place, link in enumerate(structure.chain)
        ]
        self.values = [factor.values for factor in design.factors]
        self.shears = np.zeros(sum(term.shears for term in design.terms))
        self.rows = [np.repeat(np.arange(link.size), np.diff(link.pointers)) for link in structure.chain]
        self.blocks = [self._split(link, rows) for link, rows in zip(structure.chain, self.rows)]

    def _split(self, link: ChainFactor, rows: Integers) -> list[BlockOfLink]:
        """Split a factor's sparse matrix by blocks of outer levels."""
        bounds = self.structure.blocks
        own = np.searchsorted(bounds, link.columns, side="right") - 1
        order = np.argsort(own, kind="stable")
        ends = np.searchsorted(own[order], np.arange(len(bounds)))
        blocks = []
        for block in range(len(bounds) - 1):
            entries = order[ends[block] : ends[block + 1]]
            present, local_rows = np.unique(rows[entries], return_inverse=True)
            counts = np.bincount(local_rows, minlength=len(present))
            width = int(bounds[block + 1] - bounds[block])
            many = float((counts.astype(np.float64) ** 2).sum())
            dense = len(present) * width <= 4 * CHUNK and len(present) * width**2 / _SPARSE_COST < many
            pointers = np.concatenate([[0], np.cumsum(counts)])
            columns = link.columns[entries] - bounds[block]
            pairs = None
            if not dense and many <= _MOST_PAIRS:
                first = np.repeat(np.arange(len(entries)), counts[local_rows])
                starts = np.repeat(np.cumsum(counts[local_rows]) - counts[local_rows], counts[local_rows])
                second = pointers[local_rows[first]] + np.arange(len(first)) - starts
                pairs = first, second, (columns[first] * width + columns[second]).astype(np.int64)
            blocks.append(
                BlockOfLink(
                    rows=present,
                    entries=entries,
                    local_rows=local_rows,
                    local_columns=columns.astype(np.int32),
                    pointers=pointers.astype(np.int32),
                    dense=dense,
                    pairs=pairs,
                )
            )
        return blocks

    def with_answers(self, correct: NDArray[np.bool_]) -> System:
        """Return the same system for other answers to the same questions."""
        other = copy(self)
        other.design = replace(self.design, correct=correct)
        return other

    def with_shears(self, shears: Floats) -> System:
        """Return the same system with other shears: other correlations of random slopes."""
        if not len(shears) or np.array_equal(shears, self.shears):
            return self
        other = copy(self)
        other.shears = shears.copy()
        other.values = list(self.values)
        start = 0
        for term in self.design.terms:
            own = shears[start : start + term.shears]
            for which, values in zip(term.factors, (term.columns @ term.unit_lower(own)).T):
                other.values[which] = np.ascontiguousarray(values)
            start += term.shears
        return other

    def sheared(self) -> list[tuple[int, Floats]]:
        """Return, for each shear, the factor that it changes, and what it adds to that factor's multipliers."""
        return [
            (term.factors[column], term.columns[:, row])
            for term in self.design.terms
            for row, column in term.shear_places
        ]

    def weigh(self, weights: Floats, *factors: int) -> Floats:
        """Return weights of answers times what the effects of some factors are multiplied by in each answer."""
        for which in factors:
            values = self.values[which]
            if values is not None:
                weights = weights * values
        return weights

    def linear_predictor(self, unknowns: Floats, sds: Sequence[float] | Floats) -> Floats:
        """Return the linear predictor of every answer."""
        eta: Floats = self.design.fixed @ unknowns[self.fixed_start :]
        for which, (position, sd) in enumerate(zip(self.positions, sds)):
            eta += sd * self.weigh(unknowns[position], which)
        return eta

    def add_up(self, values: Floats, sds: Sequence[float] | Floats) -> Floats:
        """Return A' times a value for every answer: the transpose of ``linear_predictor``."""
        total = np.zeros(self.size)
        for which, (position, sd) in enumerate(zip(self.positions, sds)):
            total += sd * np.bincount(position, self.weigh(values, which), minlength=self.size)
        total[self.fixed_start :] = self.design.fixed.T @ values
        return total


def _distinct_rows(matrix: Floats) -> tuple[Floats, Integers]:
    """Return the distinct rows of a matrix, in order of first appearance, and which of them each row is."""
    keys = np.zeros(len(matrix), dtype=np.int64)
    for column in matrix.T:
        own = np.unique(column, return_inverse=True)[1]
        keys = np.unique(keys * (int(own.max()) + 1) + own, return_inverse=True)[1]
    first = np.unique(keys, return_index=True)[1]
    return np.ascontiguousarray(matrix[first]), keys


def _indicator(codes: Integers, size: int) -> csr_array:
    """Return the sparse matrix (levels, things) that adds things up by level."""
    order = np.argsort(codes, kind="stable")
    pointers = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=size))])
    return csr_array((np.ones(len(codes)), order.astype(np.int32), pointers.astype(np.int32)), shape=(size, len(codes)))


def rowwise(one: Floats, other: Floats) -> Floats:
    """Return the inner product of each row of one with the same row of the other."""
    return np.asarray(np.einsum("ij,ij->i", one, other))
