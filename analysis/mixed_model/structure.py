"""In what order the unknowns of a mixed model are eliminated, found once for a design.

The Hessian of the penalised likelihood couples two levels only if some answer belongs to both. Three kinds of factors
make good use of that:

- the *chain*: factors of which each is nested in the next (tasks in unit-by-condition in units). One after another
  they have diagonal blocks, and stay so when the one before is eliminated: the elimination costs no search for an
  order and no fill among them;
- *outer* factors, which cross the chain (people): what is left of them after the elimination is dense, but splits into
  blocks wherever a study is nested (people who saw one model only). Where sessions mix all models there is one block;
- the *border*: factors with few levels, which tie all blocks together (models), and the fixed effects.

Each column of a random slope is a factor of its own, with the levels of its group.

This is a sparse Cholesky factorisation with its order chosen from the meaning of the factors, whose trailing blocks
are handed to LAPACK; compare Bates et al. (2015), Fitting linear mixed-effects models using lme4, section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from analysis.mixed_model.design import Integers, ModelMatrix

BORDER_LEVELS = 40
"""Factors with at most so many levels can go into the border."""


@dataclass(frozen=True)
class ChainFactor:
    """A factor of the chain, and how it meets the others.

    Attributes
    ----------
    factor
        Which factor of the design.
    codes
        Shape (answers,): levels.
    size
        How many levels.
    parents
        For each later factor of the chain, in its order: the level that each level of this one lies in.
    pointers, columns
        Which outer levels meet each level: the structure of a sparse matrix in compressed rows, (levels, outer
        levels).
    entries
        For each outer factor: shape (answers,), which entry of that matrix each answer belongs to.
    carried
        For each later factor of the chain: where each entry of this matrix lies in that factor's matrix.
    """

    factor: int
    codes: Integers
    size: int
    parents: tuple[Integers, ...]
    pointers: NDArray[np.int32]
    columns: NDArray[np.int32]
    entries: tuple[Integers, ...]
    carried: tuple[Integers, ...]


@dataclass(frozen=True)
class Structure:
    """The order of elimination of a design.

    Attributes
    ----------
    chain
        Factors that are eliminated one after another, each with a diagonal block.
    outer
        Factors that are left, as (which factor of the design, levels of the answers among all outer levels).
    outer_size
        Outer levels in all.
    blocks
        Shape (blocks + 1,): where each block of outer levels begins.
    places
        For each pair of outer factors: shape (answers,), where each answer adds to the blocks laid end to end.
    border
        Factors in the border, as (which factor of the design, levels of the answers among all columns of the border).
    border_size
        Levels in the border; the fixed effects follow them.
    """

    chain: tuple[ChainFactor, ...]
    outer: tuple[tuple[int, Integers], ...]
    outer_size: int
    blocks: Integers
    places: dict[tuple[int, int], Integers]
    border: tuple[tuple[int, Integers], ...]
    border_size: int

    @property
    def offsets(self) -> Integers:
        """Where each block begins, of all laid end to end."""
        return np.concatenate([[0], np.cumsum(np.diff(self.blocks) ** 2)]).astype(np.int64)


def find_structure(design: ModelMatrix, *, border_levels: int = BORDER_LEVELS) -> Structure:
    """Return a good order of elimination.

    Parameters
    ----------
    design
        The design.
    border_levels
        Factors with at most so many levels go into the border, the largest chain aside.
    """
    factors = design.factors
    codes = [factor.codes for factor in factors]
    sizes = [factor.size for factor in factors]
    chain = _longest_chain(codes, sizes, border_levels)
    rest = [which for which in range(len(factors)) if which not in chain]
    # Rows of the border are few because its columns hold nothing but 0 and 1, besides the fixed effects.
    border = [which for which in rest if sizes[which] <= border_levels and factors[which].values is None]
    outer = [which for which in rest if which not in border]
    outer_codes, blocks = _order_blocks(
        [codes[which] for which in outer], [sizes[which] for which in outer], codes, chain
    )
    outer_size = int(blocks[-1])
    starts = np.concatenate([[0], np.cumsum([sizes[which] for which in border])]).astype(np.int64)
    return Structure(
        chain=_link_chain(chain, codes, sizes, outer_codes, outer_size),
        outer=tuple(zip(outer, outer_codes)),
        outer_size=outer_size,
        blocks=blocks,
        places=_find_places(outer_codes, blocks),
        border=tuple((which, codes[which] + start) for which, start in zip(border, starts)),
        border_size=int(starts[-1]),
    )


def _nested(inner: Integers, outer: Integers, sizes: tuple[int, int]) -> Integers | None:
    """Return the outer level that each inner level lies in; None if one lies in two."""
    parent = np.zeros(sizes[0], dtype=np.int64)
    parent[inner] = outer
    return parent if np.array_equal(parent[inner], outer) else None


def _longest_chain(codes: Sequence[Integers], sizes: Sequence[int], border_levels: int) -> list[int]:
    """Return the chain of nested factors with most levels in all; factors fit for the border come last if at all."""
    order = sorted(range(len(sizes)), key=lambda which: (sizes[which], which))
    best: dict[int, list[int]] = {}
    for which in order:
        tails = [
            best[other]
            for other in order[: order.index(which)]
            if sizes[other] > border_levels
            and _nested(codes[which], codes[other], (sizes[which], sizes[other])) is not None
        ]
        best[which] = [which, *max(tails, key=lambda tail: sum(sizes[i] for i in tail), default=[])]
    return max(best.values(), key=lambda tail: (sum(sizes[i] for i in tail), tail), default=[])


def _order_blocks(
    outer: Sequence[Integers], sizes: Sequence[int], codes: Sequence[Integers], chain: Sequence[int]
) -> tuple[list[Integers], Integers]:
    """Return the answers' outer levels, numbered block by block, and where each block begins."""
    if not outer:
        return [], np.zeros(1, dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    shifted = [own + start for own, start in zip(outer, starts)]
    total = int(starts[-1])
    edges = [(shifted[0], own) for own in shifted[1:]]
    top = int(codes[chain[-1]].max()) + 1
    edges += [(own, codes[chain[-1]] + total) for own in shifted]
    rows, columns = (np.concatenate([edge[side] for edge in edges]) for side in (0, 1))
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(total + top, total + top))
    _, labels = connected_components(graph.tocsr(), directed=False)
    own = labels[:total]
    first = np.unique(own, return_index=True)[1]
    rank = np.empty(int(own.max()) + 1, dtype=np.int64)
    rank[own[np.sort(first)]] = np.arange(len(first))
    order = np.argsort(rank[own], kind="stable")
    place = np.empty(total, dtype=np.int64)
    place[order] = np.arange(total)
    counts = np.bincount(rank[own])
    return [place[levels] for levels in shifted], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _link_chain(
    chain: Sequence[int],
    codes: Sequence[Integers],
    sizes: Sequence[int],
    outer: Sequence[Integers],
    outer_size: int,
) -> tuple[ChainFactor, ...]:
    """Return how the factors of the chain meet one another and the outer ones."""
    keys = [
        [codes[which] * max(outer_size, 1) + own for own in outer] for which in chain
    ]  # one number for each pair of a level and an outer level
    distinct = [np.unique(np.concatenate(own)) if own else np.zeros(0, dtype=np.int64) for own in keys]
    links = []
    for place, which in enumerate(chain):
        later = chain[place + 1 :]
        parents = [_nested(codes[which], codes[other], (sizes[which], sizes[other])) for other in later]
        rows, columns = np.divmod(distinct[place], max(outer_size, 1))
        carried = [
            np.searchsorted(distinct[place + 1 + step], parent[rows] * max(outer_size, 1) + columns)
            for step, parent in enumerate(parents)
            if parent is not None
        ]
        links.append(
            ChainFactor(
                factor=which,
                codes=codes[which],
                size=sizes[which],
                parents=tuple(parent for parent in parents if parent is not None),
                pointers=np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=sizes[which]))]).astype(np.int32),
                columns=columns.astype(np.int32),
                entries=tuple(np.searchsorted(distinct[place], own) for own in keys[place]),
                carried=tuple(carried),
            )
        )
    return tuple(links)


def _find_places(outer: Sequence[Integers], blocks: Integers) -> dict[tuple[int, int], Integers]:
    """Return where each answer adds to the outer blocks, for each pair of outer factors."""
    if not outer:
        return {}
    offsets = np.concatenate([[0], np.cumsum(np.diff(blocks) ** 2)])
    widths = np.diff(blocks)
    block = np.searchsorted(blocks, outer[0], side="right") - 1
    start, width, offset = blocks[block], widths[block], offsets[block]
    return {
        (i, j): offset + (outer[i] - start) * width + (outer[j] - start)
        for i in range(len(outer))
        for j in range(len(outer))
    }
