"""Factorising the Hessian of the penalised likelihood, solving with it, and reading entries of its inverse.

The Hessian is ``A' W A + I`` with the identity on the random effects alone, where a row of A holds an answer's fixed
effects and, at each of its levels, the standard deviation of that factor (the random effects are scaled to unit
variance). ``analysis.mixed_model.structure`` says in what order its unknowns are eliminated. Entries of the inverse
are found at the places that answers touch, from the last unknown backwards (Takahashi, Fagan & Chin 1973); the gradient
of Laplace's approximation needs no others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import lapack
from scipy.sparse import csr_array

from analysis.mixed_model.links import Floats
from analysis.mixed_model.structure import ChainFactor
from analysis.mixed_model.system import System, rowwise


class NotPositiveDefinite(Exception):
    """The Hessian has a direction in which the penalised likelihood does not bend downwards."""


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
        weigh = system.weigh
        scale = [self.sds[link.factor] for link in chain]
        totals = [
            np.asarray(
                np.bincount(link.codes, weigh(weights, link.factor, link.factor), minlength=link.size), dtype=np.float64
            )
            for link in chain
        ]
        self.diagonal = [1 + sd**2 * total for sd, total in zip(scale, totals)]
        self.up = [
            [
                scale[place]
                * scale[place + 1 + step]
                * self._meet(link, chain[place + 1 + step], weights, totals[place])
                for step in range(len(link.parents))
            ]
            for place, link in enumerate(chain)
        ]
        self.data = [
            sd
            * sum(
                (
                    self.sds[which]
                    * np.bincount(entries, weigh(weights, link.factor, which), minlength=len(link.columns))
                    for (which, _), entries in zip(structure.outer, link.entries)
                ),
                np.zeros(len(link.columns)),
            )
            for sd, link in zip(scale, chain)
        ]
        self.sides = [
            sd * meeting.add_up(weigh(weights, link.factor), border)
            for sd, link, meeting in zip(scale, chain, system.meetings)
        ]
        offsets = structure.offsets
        flat = np.zeros(int(offsets[-1]))
        for (i, j), places in structure.places.items():
            sds_of = self.sds[structure.outer[i][0]] * self.sds[structure.outer[j][0]]
            pair = (structure.outer[i][0], structure.outer[j][0])
            flat += sds_of * np.bincount(places, weigh(weights, *pair), minlength=len(flat))
        for offset, width_of in zip(offsets, np.diff(structure.blocks)):
            flat[offset : offset + width_of**2 : width_of + 1] += 1.0
        outer_side = np.zeros((structure.outer_size, width))
        for (which, _), meeting in zip(structure.outer, system.outer_meetings):
            outer_side += self.sds[which] * meeting.add_up(weigh(weights, which), border)
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

    def _meet(self, link: ChainFactor, later: ChainFactor, weights: Floats, total: Floats) -> Floats:
        """Return what the answers of each level add up to where it meets its parent."""
        values = self.system.values
        if values[link.factor] is None and values[later.factor] is None:
            return total
        both = self.system.weigh(weights, link.factor, later.factor)
        return np.asarray(np.bincount(link.codes, both, minlength=link.size), dtype=np.float64)

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
                for block, part in enumerate(system.blocks[place]):
                    low, high = structure.blocks[block], structure.blocks[block + 1]
                    outer[part.entries] = part.multiply_at(data, blocks[block], side[part.rows], outer_corner[low:high])
            for step, parent in enumerate(link.parents):
                border += up[step][:, None] * with_border[place + 1 + step][parent]
                if structure.outer:
                    outer += up[step][rows] * with_outer[place + 1 + step][link.carried[step]]
            with_border[place] = -inverse[:, None] * border
            with_outer[place] = -inverse[rows] * outer
            for step, parent in enumerate(link.parents):
                later = place + 1 + step
                total = rowwise(side, with_border[later][parent])
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
            total = rowwise(side, with_border[place])
            if structure.outer:
                total += np.bincount(rows, data * with_outer[place], minlength=link.size)
            for step in range(len(link.parents)):
                total += up[step] * with_later[place][step]
            own[place] = inverse - inverse * total
        self._factorised, self._corner, self._outer_corner, self._blocks = factorised, corner, outer_corner, blocks
        self._own, self._with_outer, self._with_border, self._with_later = own, with_outer, with_border, with_later
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
        weigh = system.weigh
        rows = system.border[:, :width] * factorised.border_scale[:width]
        total = rowwise(rows, rows @ corner)[system.profile]
        for place, link in enumerate(structure.chain):
            sd = sds[link.factor]
            later = structure.chain[place + 1 : place + 1 + len(with_later[place])]
            if any(system.values[other.factor] is not None for other in (link, *later)):
                total += sd**2 * weigh(own[place][link.codes], link.factor, link.factor)
                for other, values in zip(later, with_later[place]):
                    total += 2 * sd * sds[other.factor] * weigh(values[link.codes], link.factor, other.factor)
            else:
                own_part = sd * own[place]
                for other, values in zip(later, with_later[place]):
                    own_part = own_part + 2 * sds[other.factor] * values
                total += sd * own_part[link.codes]
            total += (2 * sd) * weigh(system.meetings[place].multiply(with_border[place], rows), link.factor)
            for (which, _), entries in zip(structure.outer, link.entries):
                total += weigh((2 * sd * sds[which] * with_outer[place])[entries], link.factor, which)
        flat = np.concatenate([block.ravel() for block in blocks]) if blocks else np.zeros(0)
        for (i, j), places in structure.places.items():
            pair = (structure.outer[i][0], structure.outer[j][0])
            total += weigh((sds[pair[0]] * sds[pair[1]]) * flat[places], *pair)
        for (which, _), meeting in zip(structure.outer, system.outer_meetings):
            total += (2 * sds[which]) * weigh(meeting.multiply(outer_corner, rows), which)
        return total

    def entry(self, one: int, other: int) -> Floats:
        """Return, for each answer, the inverse's entry of its levels of two factors, neither of which is in the border.

        Parameters
        ----------
        one, other
            Factors of the design.
        """
        structure = self._factorised.system.structure
        chain = {link.factor: place for place, link in enumerate(structure.chain)}
        outer = {which: number for number, (which, _) in enumerate(structure.outer)}
        if one in chain and other in chain:
            first, last = sorted((chain[one], chain[other]))
            values = self._own[first] if first == last else self._with_later[first][last - first - 1]
            return np.asarray(values[structure.chain[first].codes])
        if one in chain or other in chain:
            inner, outside = (one, other) if one in chain else (other, one)
            place = chain[inner]
            return np.asarray(self._with_outer[place][structure.chain[place].entries[outer[outside]]])
        flat = np.concatenate([block.ravel() for block in self._blocks])
        return np.asarray(flat[structure.places[outer[one], outer[other]]])

    def half_leverages(self, which: int) -> Floats:
        """Return, for each answer, ``e' H^-1 a``: e picks its level of a factor, a is the row of the answer.

        The factor has multipliers (it is a column of a random slope), so that it is not in the border.
        """
        factorised = self._factorised
        system, structure = factorised.system, factorised.system.structure
        width = len(self._corner)
        rows = system.border[:, :width] * factorised.border_scale[:width]
        total = np.zeros(system.design.size)
        for place, link in enumerate(structure.chain):
            if link.factor == which:
                total += system.meetings[place].multiply(self._with_border[place], rows)
            total += factorised.sds[link.factor] * system.weigh(self.entry(which, link.factor), link.factor)
        for (other, _), meeting in zip(structure.outer, system.outer_meetings):
            if other == which:
                total += meeting.multiply(self._outer_corner, rows)
            total += factorised.sds[other] * system.weigh(self.entry(which, other), other)
        return total
