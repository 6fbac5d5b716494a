"""Factorising the Hessian of the penalised likelihood, solving with it, and reading entries of its inverse.

The Hessian is ``A' W A + I`` with the identity on the random effects alone, where a row of A holds an answer's fixed
effects and, at each of its levels, the standard deviation of that factor (the random effects are scaled to unit
variance). ``analysis.mixed_model.structure`` says in what order its unknowns are eliminated. Entries of the inverse
are found at the places that answers touch, from the last unknown backwards (Takahashi, Fagan & Chin 1973); the gradient
of Laplace's approximation needs no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.sparse import csr_array

from analysis.mixed_model.design import Design, Integers
from analysis.mixed_model.links import Floats
from analysis.mixed_model.structure import ChainFactor, Structure

_SPARSE_COST = 20.0
"""How much longer a multiplication takes in a sparse product than in LAPACK's dense ones."""
_MOST_PAIRS = 20_000_000
"""Pairs of entries that are worth the memory that they take."""
_CHUNK = 4_000_000
"""Most numbers in a dense intermediate result."""


class NotPositiveDefinite(Exception):
    """The Hessian has a direction in which the penalised likelihood does not bend downwards."""


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
        return _rowwise(values[self.levels], border[self.rows])[self.pairs]


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
    """

    def __init__(self, design: Design, structure: Structure) -> None:
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
            dense = len(present) * width <= 4 * _CHUNK and len(present) * width**2 / _SPARSE_COST < many
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

    def linear_predictor(self, unknowns: Floats, sds: Sequence[float] | Floats) -> Floats:
        """Return the linear predictor of every answer."""
        eta: Floats = self.design.fixed @ unknowns[self.fixed_start :]
        for position, sd in zip(self.positions, sds):
            eta += sd * unknowns[position]
        return eta

    def add_up(self, values: Floats, sds: Sequence[float] | Floats) -> Floats:
        """Return A' times a value for every answer: the transpose of ``linear_predictor``."""
        total = np.zeros(self.size)
        for position, sd in zip(self.positions, sds):
            total += sd * np.bincount(position, values, minlength=self.size)
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


def _factorise_dense(matrix: Floats) -> Floats:
    """Return the lower Cholesky factor."""
    if not len(matrix):
        return matrix
    factor, info = lapack.dpotrf(matrix, lower=1, clean=1)
    if info != 0 or not np.isfinite(factor[-1, -1]):
        raise NotPositiveDefinite
    return np.asarray(factor)


def _solve_dense(factor: Floats, right: Floats) -> Floats:
    """Solve with a lower Cholesky factor."""
    if not len(factor) or right.size == 0:
        return right
    solution, _ = lapack.dpotrs(factor, right, lower=1)
    return np.asarray(solution).reshape(right.shape)


def _invert_dense(factor: Floats) -> Floats:
    """Return the inverse of the matrix whose lower Cholesky factor is given."""
    if not len(factor):
        return factor
    inverse, _ = lapack.dpotri(factor, lower=1)
    lower = np.tril(inverse)
    return np.asarray(lower + np.tril(lower, -1).T)


class Factorisation:
    """A factorised Hessian.

    Parameters
    ----------
    system
        What does not change.
    sds
        Standard deviation of each factor of the design.
    weights
        Shape (answers,): the information of each answer.

    Raises
    ------
    NotPositiveDefinite
        If the Hessian is not positive definite; with weights above zero it always is.
    """

    def __init__(self, system: System, sds: Sequence[float] | Floats, weights: Floats) -> None:
        self.system = system
        self.sds = np.asarray(sds, dtype=np.float64)
        structure = system.structure
        chain, width = structure.chain, system.border_width
        self.border_scale = np.ones(width)
        self.border_scale[: structure.border_size] = self.sds[system.border_factor] if structure.border_size else 1.0
        border = system.border * self.border_scale
        # The matrix as it is before any elimination.
        totals = [np.bincount(link.codes, weights, minlength=link.size) for link in chain]
        scale = [self.sds[link.factor] for link in chain]
        self.diagonal = [1 + sd**2 * total for sd, total in zip(scale, totals)]
        self.up = [
            [scale[place] * scale[place + 1 + step] * totals[place] for step in range(len(link.parents))]
            for place, link in enumerate(chain)
        ]
        self.data = [
            sd
            * sum(
                (
                    self.sds[which] * np.bincount(entries, weights, minlength=len(link.columns))
                    for (which, _), entries in zip(structure.outer, link.entries)
                ),
                np.zeros(len(link.columns)),
            )
            for sd, link in zip(scale, chain)
        ]
        self.sides = [sd * meeting.add_up(weights, border) for sd, meeting in zip(scale, system.meetings)]
        offsets = structure.offsets
        flat = np.zeros(int(offsets[-1]))
        for (i, j), places in structure.places.items():
            sds_of = self.sds[structure.outer[i][0]] * self.sds[structure.outer[j][0]]
            flat += sds_of * np.bincount(places, weights, minlength=len(flat))
        for offset, width_of in zip(offsets, np.diff(structure.blocks)):
            flat[offset : offset + width_of**2 : width_of + 1] += 1.0
        outer_side = np.zeros((structure.outer_size, width))
        for (which, _), meeting in zip(structure.outer, system.outer_meetings):
            outer_side += self.sds[which] * meeting.add_up(weights, border)
        totals_by_row = np.bincount(system.profile, weights, minlength=len(border))
        corner = border.T @ (totals_by_row[:, None] * border)
        corner[np.arange(structure.border_size), np.arange(structure.border_size)] += 1.0
        # The chain, one factor after another.
        for place, link in enumerate(chain):
            diagonal, data, side = self.diagonal[place], self.data[place], self.sides[place]
            if not (diagonal > 0).all():
                raise NotPositiveDefinite
            for step, parent in enumerate(link.parents):
                later = place + 1 + step
                ratio = self.up[place][step] / diagonal
                self.diagonal[later] -= np.bincount(parent, ratio * self.up[place][step], minlength=chain[later].size)
                for further in range(step + 1, len(link.parents)):
                    self.up[later][further - step - 1] -= np.bincount(
                        parent, ratio * self.up[place][further], minlength=chain[later].size
                    )
                if structure.outer:
                    self.data[later] -= np.bincount(
                        link.carried[step], data * ratio[system.rows[place]], minlength=len(self.data[later])
                    )
                self.sides[later] -= system.gather_parents[place][step] @ (ratio[:, None] * side)
            scaled = side / diagonal[:, None]
            corner -= side.T @ scaled
            for block, part in enumerate(system.blocks[place]):
                low, high = structure.blocks[block], structure.blocks[block + 1]
                inverse = 1 / diagonal[part.rows]
                square = flat[offsets[block] : offsets[block + 1]].reshape(high - low, high - low)
                if part.dense:
                    dense = part.fill(data, high - low)
                    square -= dense.T @ (dense * inverse[:, None])
                    outer_side[low:high] -= dense.T @ scaled[part.rows]
                    continue
                sparse = part.sparse(data, high - low)
                turned = sparse.T.tocsr()
                outer_side[low:high] -= turned @ scaled[part.rows]
                if part.pairs is not None:
                    first, second, places = part.pairs
                    own = data[part.entries]
                    products = (own * inverse[part.local_rows])[first] * own[second]
                    square -= np.bincount(places, products, minlength=square.size).reshape(square.shape)
                else:
                    made = (turned @ sparse.multiply(inverse[:, None]).tocsr()).tocoo()
                    square[made.coords] -= made.data
        # The outer blocks, and the border.
        self.factors: list[Floats] = []
        self.tied = np.zeros_like(outer_side)
        for block in range(len(structure.blocks) - 1):
            low, high = structure.blocks[block], structure.blocks[block + 1]
            square = flat[offsets[block] : offsets[block + 1]].reshape(high - low, high - low)
            self.factors.append(_factorise_dense(square))
            self.tied[low:high] = _solve_dense(self.factors[-1], outer_side[low:high])
        self.outer_side = outer_side
        corner -= outer_side.T @ self.tied
        self.corner = _factorise_dense(corner)

    def log_determinant(self, *, fixed: bool) -> float:
        """Return the logarithm of the determinant, of all or (not ``fixed``) of the random effects' part."""
        total = sum(float(np.log(diagonal).sum()) for diagonal in self.diagonal)
        total += sum(2 * float(np.log(np.diag(factor)).sum()) for factor in self.factors)
        corner = np.diag(self.corner)[: self._width(fixed)]
        return total + 2 * float(np.log(corner).sum())

    def _width(self, fixed: bool) -> int:
        """Return how many columns of the border take part."""
        return self.system.border_width if fixed else self.system.structure.border_size

    def solve(self, right: Floats, *, fixed: bool) -> Floats:
        """Solve with the Hessian, or (not ``fixed``) with its part that belongs to random effects.

        Parameters
        ----------
        right
            Shape (unknowns,).

        Returns
        -------
        Shape (unknowns,): the solution; zero at the coefficients where these take no part.
        """
        system, structure = self.system, self.system.structure
        width = self._width(fixed)
        parts = [right[start:end].copy() for start, end in zip(system.starts, system.starts[1:])]
        outer = right[system.outer_start : system.border_start].copy()
        border = right[system.border_start : system.border_start + width].copy()
        for place, link in enumerate(structure.chain):
            ratio = parts[place] / self.diagonal[place]
            for step, parent in enumerate(link.parents):
                later = place + 1 + step
                parts[later] -= np.bincount(parent, self.up[place][step] * ratio, minlength=len(parts[later]))
            border -= self.sides[place][:, :width].T @ ratio
            if structure.outer:
                outer -= np.bincount(
                    link.columns, self.data[place] * ratio[system.rows[place]], minlength=structure.outer_size
                )
        border -= self.tied[:, :width].T @ outer
        border = _solve_dense(self.corner[:width, :width], border)
        solved = np.empty_like(outer)
        for block, factor in enumerate(self.factors):
            low, high = structure.blocks[block], structure.blocks[block + 1]
            solved[low:high] = _solve_dense(factor, outer[low:high])
        solved -= self.tied[:, :width] @ border
        for place in reversed(range(len(structure.chain))):
            link = structure.chain[place]
            total = parts[place] - self.sides[place][:, :width] @ border
            for step, parent in enumerate(link.parents):
                total -= self.up[place][step] * parts[place + 1 + step][parent]
            if structure.outer:
                total -= np.bincount(system.rows[place], self.data[place] * solved[link.columns], minlength=link.size)
            parts[place] = total / self.diagonal[place]
        rest = np.zeros(system.border_width - width)
        return np.concatenate([*parts, solved, border, rest])

    def select_inverse(self, *, fixed: bool) -> SelectedInverse:
        """Return the entries of the inverse that answers touch, of all or of the random effects' part."""
        return SelectedInverse(self, fixed=fixed)


class SelectedInverse:
    """Entries of the inverse of a Hessian, at the places that answers touch.

    Attributes
    ----------
    variances
        Shape (unknowns,): its diagonal; zero at coefficients that take no part.
    leverages
        Shape (answers,): ``a' H^-1 a`` for the row a of each answer.
    fixed
        Shape (coefficients, coefficients): the part that belongs to the fixed effects.
    """

    def __init__(self, factorised: Factorisation, *, fixed: bool) -> None:
        system, structure = factorised.system, factorised.system.structure
        chain, width = structure.chain, factorised._width(fixed)
        corner = _invert_dense(factorised.corner[:width, :width])
        tied = factorised.tied[:, :width]
        outer_corner = -tied @ corner
        blocks: list[Floats] = []
        for block, factor in enumerate(factorised.factors):
            low, high = structure.blocks[block], structure.blocks[block + 1]
            blocks.append(_invert_dense(factor) - outer_corner[low:high] @ tied[low:high].T)
        own: list[Floats] = [np.zeros(0)] * len(chain)  # the diagonal
        with_outer: list[Floats] = [np.zeros(0)] * len(chain)  # at the entries of the sparse matrices
        with_border: list[Floats] = [np.zeros(0)] * len(chain)
        with_later: list[list[Floats]] = [[] for _ in chain]  # at each level's parents
        for place in reversed(range(len(chain))):
            link, rows = chain[place], system.rows[place]
            data, side = factorised.data[place], factorised.sides[place][:, :width]
            up, inverse = factorised.up[place], 1 / factorised.diagonal[place]
            border = side @ corner
            outer = np.zeros(len(link.columns))
            if structure.outer:
                border += csr_array((data, link.columns, link.pointers), shape=(link.size, structure.outer_size)) @ (
                    outer_corner
                )
                outer += _rowwise(side[rows], outer_corner[link.columns])
                for block, part in enumerate(system.blocks[place]):
                    outer[part.entries] += _multiply_at(part, data, blocks[block])
            for step, parent in enumerate(link.parents):
                border += up[step][:, None] * with_border[place + 1 + step][parent]
                if structure.outer:
                    outer += up[step][rows] * with_outer[place + 1 + step][link.carried[step]]
            with_border[place] = -inverse[:, None] * border
            with_outer[place] = -inverse[rows] * outer
            for step, parent in enumerate(link.parents):
                later = place + 1 + step
                total = _rowwise(side, with_border[later][parent])
                if structure.outer:
                    total += np.bincount(rows, data * with_outer[later][link.carried[step]], minlength=link.size)
                for other, other_parent in enumerate(link.parents):
                    if other == step:
                        total += up[other] * own[later][parent]
                    elif other < step:
                        total += up[other] * with_later[place + 1 + other][step - other - 1][other_parent]
                    else:
                        total += up[other] * with_later[later][other - step - 1][parent]
                with_later[place].append(-inverse * total)
            total = _rowwise(side, with_border[place])
            if structure.outer:
                total += np.bincount(rows, data * with_outer[place], minlength=link.size)
            for step in range(len(link.parents)):
                total += up[step] * with_later[place][step]
            own[place] = inverse - inverse * total
        diagonals = [np.diag(block) for block in blocks]
        self.variances = np.concatenate(
            [*own, *diagonals, np.diag(corner) if width else np.zeros(0), np.zeros(system.border_width - width)]
        )
        self.fixed = corner[structure.border_size :, structure.border_size :]
        self.leverages = self._leverages(
            factorised, corner, outer_corner, blocks, own, with_outer, with_border, with_later
        )

    @staticmethod
    def _leverages(
        factorised: Factorisation,
        corner: Floats,
        outer_corner: Floats,
        blocks: list[Floats],
        own: list[Floats],
        with_outer: list[Floats],
        with_border: list[Floats],
        with_later: list[list[Floats]],
    ) -> Floats:
        """Return each answer's leverage from the entries that its levels share."""
        system, structure, sds = factorised.system, factorised.system.structure, factorised.sds
        width = len(corner)
        rows = system.border[:, :width] * factorised.border_scale[:width]
        total = _rowwise(rows, rows @ corner)[system.profile]
        for place, link in enumerate(structure.chain):
            sd = sds[link.factor]
            own_part = sd * own[place]
            for step, values in enumerate(with_later[place]):
                own_part = own_part + 2 * sds[structure.chain[place + 1 + step].factor] * values
            total += sd * own_part[link.codes]
            total += (2 * sd) * system.meetings[place].multiply(with_border[place], rows)
            for (which, _), entries in zip(structure.outer, link.entries):
                total += (2 * sd * sds[which] * with_outer[place])[entries]
        flat = np.concatenate([block.ravel() for block in blocks]) if blocks else np.zeros(0)
        for (i, j), places in structure.places.items():
            total += (sds[structure.outer[i][0]] * sds[structure.outer[j][0]]) * flat[places]
        for (which, _), meeting in zip(structure.outer, system.outer_meetings):
            total += (2 * sds[which]) * meeting.multiply(outer_corner, rows)
        return total


def _rowwise(one: Floats, other: Floats) -> Floats:
    """Return the inner product of each row of one with the same row of the other."""
    return np.asarray(np.einsum("ij,ij->i", one, other))


def _multiply_at(part: BlockOfLink, data: Floats, dense: Floats) -> Floats:
    """Return C times a dense matrix, at the entries of the sparse C alone."""
    width = len(dense)
    if part.dense:
        return np.asarray((part.fill(data, width) @ dense)[part.local_rows, part.local_columns])
    if part.pairs is not None:
        first, second, places = part.pairs
        products = data[part.entries][second] * dense.ravel()[places]
        return np.asarray(np.bincount(first, products, minlength=len(part.entries)), dtype=np.float64)
    sparse = part.sparse(data, width)
    step = max(_CHUNK // max(width, 1), 1)
    made = np.empty(len(part.entries))
    for low in range(0, len(part.rows), step):
        high = min(low + step, len(part.rows))
        first, last = part.pointers[low], part.pointers[high]
        product = sparse[low:high] @ dense
        made[first:last] = product[part.local_rows[first:last] - low, part.local_columns[first:last]]
    return made
