"""Natural exemplars: which pictures explain a unit, and which it is asked about.

A unit's pictures are ranked by (activation, tie key). References come from the outermost window of either side,
spread by strength: the window is cut into K strata, and each task gets one picture of each stratum, so that all
tasks of a unit are disjoint and equally strong. Queries come from the window of their difficulty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmark.protocol import Difficulty, Protocol, Window, Windows
from benchmark.randomness import generator_from
from benchmark.units import Unit

SIDES = ("max", "min")
ATTEMPTS = 64
"""How often a unit's pictures are dealt while a task shows a group twice that need not. The first deal is nearly
always enough; only pools of few, large groups need more."""


@dataclass(frozen=True)
class Exemplars:
    """The natural pictures of one unit, by place in the pool.

    Attributes
    ----------
    references
        Per side, shape (tasks, K): the strongest stratum first.
    queries
        Per difficulty and side, shape (tasks,).
    ranks
        Shape (pictures,): rank of each picture from the bottom.
    repeated
        Pairs (task, place) whose group, or forbidden class, the task shows twice.
    """

    references: dict[str, NDArray[np.int64]]
    queries: dict[tuple[Difficulty, str], NDArray[np.int64]]
    ranks: NDArray[np.int64]
    repeated: frozenset[tuple[int, int]]


def strata(window: Window, count: int) -> list[range]:
    """Cut a window into ``count`` strata of consecutive ranks, as equal as can be."""
    edges = [window.start + window.count * k // count for k in range(count + 1)]
    return [range(first, last) for first, last in pairwise(edges)]


def choose_exemplars(
    order: NDArray[np.int64],
    windows: Windows,
    protocol: Protocol,
    *,
    seed: int,
    unit: Unit,
    groups: NDArray[np.int64],
    labels: NDArray[np.int64] | None = None,
) -> Exemplars:
    """Choose a unit's references and queries.

    Parameters
    ----------
    order
        Places of all pictures, ascending by (activation, tie key).
    windows
        Where pictures come from.
    protocol
        Gives K and B, and whether groups and classes must be distinct within a task.
    seed, unit
        Seed the shuffling.
    groups
        Shape (pictures,): number of each picture's group.
    labels
        Shape (pictures,): number of each picture's class, -1 if it has none; needed for distinct classes.

    Notes
    -----
    Where groups must be distinct, each stratum is dealt to the tasks by minimising the number of repeated
    groups (a linear assignment with random ties), and all of them are dealt anew if that was not enough; what the
    pool makes unavoidable is reported, not hidden.
    """
    generator = generator_from(seed, "exemplars", str(unit))
    apart = groups if protocol.rules.pool.distinct_groups else None
    classes = labels if protocol.rules.tasks.distinct_classes else None
    best: Exemplars | None = None
    for _ in range(1 if apart is not None and _must_repeat(order, windows, protocol, apart) else ATTEMPTS):
        dealer = _Dealer(generator, protocol.tasks_per_unit, apart, classes)
        chosen = _deal(dealer, order, windows, protocol.references_per_side)
        if best is None or len(chosen.repeated) < len(best.repeated):
            best = chosen
        if not best.repeated:
            break
    assert best is not None
    return best


def _must_repeat(order: NDArray[np.int64], windows: Windows, protocol: Protocol, groups: NDArray[np.int64]) -> bool:
    """Whether the windows hold too few groups for every task to show each of them at most once."""
    tasks = protocol.tasks_per_unit
    for query in windows.queries.values():
        places = np.concatenate(
            [side[part.start : part.stop] for side in (order, order[::-1]) for part in (windows.references, query)]
        )
        sizes = np.unique(groups[places], return_counts=True)[1]
        if np.minimum(sizes, tasks).sum() < 2 * tasks * (protocol.references_per_side + 1):
            return True
    return False


def _deal(dealer: _Dealer, order: NDArray[np.int64], windows: Windows, k: int) -> Exemplars:
    """Deal all strata and queries once."""
    by_side = {"max": order[::-1], "min": order}
    references = {
        side: np.stack(
            [dealer.deal(by_side[side][part.start : part.stop]) for part in strata(windows.references, k)], 1
        )
        for side in SIDES
    }
    queries: dict[tuple[Difficulty, str], NDArray[np.int64]] = {}
    for difficulty, window in windows.queries.items():
        # Queries of two difficulties are never in one trial: each is dealt against the references alone.
        round_ = dealer.branch()
        for side in SIDES:
            queries[difficulty, side] = round_.deal(by_side[side][window.start : window.stop], is_query=True)
        dealer.repeated |= round_.repeated
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return Exemplars(references, queries, ranks, frozenset(dealer.repeated))


class _Dealer:
    """Deals pictures to tasks so that no task gets a group twice, as far as that can be."""

    def __init__(
        self,
        generator: np.random.Generator,
        tasks: int,
        groups: NDArray[np.int64] | None,
        labels: NDArray[np.int64] | None,
    ) -> None:
        self.generator = generator
        self.tasks = tasks
        self.groups = groups
        self.labels = labels
        self.taken: list[set[int]] = [set() for _ in range(tasks)]
        self.classes: list[set[int]] = [set() for _ in range(tasks)]
        self.repeated: set[tuple[int, int]] = set()

    def branch(self) -> _Dealer:
        """Return a dealer that knows what has been dealt and keeps its own deals to itself."""
        other = _Dealer(self.generator, self.tasks, self.groups, self.labels)
        other.taken = [set(groups) for groups in self.taken]
        other.classes = [set(classes) for classes in self.classes]
        return other

    def deal(self, candidates: NDArray[np.int64], is_query: bool = False) -> NDArray[np.int64]:
        """Give each task one of the candidates; returns their places, shape (tasks,)."""
        shuffled = self.generator.permutation(candidates)
        chosen = shuffled[: self.tasks]
        if self.groups is not None or (self.labels is not None and is_query):
            cost = self._costs(shuffled, is_query)
            columns = np.arange(self.tasks)
            if cost[columns, columns].any():
                # Among equally good assignments, prefer the shuffled order: ties stay random.
                rows, columns = linear_sum_assignment(cost + 1e-6 * self.generator.random(cost.shape))
                columns = columns[np.argsort(rows)]
                chosen = shuffled[columns]
            paid = cost[np.arange(self.tasks), columns]
            self.repeated |= {(int(task), int(chosen[task])) for task in np.flatnonzero(paid)}
        for task, place in enumerate(chosen.tolist()):
            if self.groups is not None:
                self.taken[task].add(int(self.groups[place]))
            if self.labels is not None and not is_query:
                self.classes[task].add(int(self.labels[place]))
        return np.asarray(chosen, dtype=np.int64)

    def _costs(self, places: NDArray[np.int64], is_query: bool) -> NDArray[np.int64]:
        """Return what each task pays for each place, shape (tasks, places): a repeated group 1, a repeated class 1."""
        cost = np.zeros((self.tasks, len(places)), dtype=np.int64)
        if self.groups is not None:
            groups = self.groups[places].tolist()
            cost += np.array([[group in taken for group in groups] for taken in self.taken])
        if self.labels is not None and is_query:
            labels = self.labels[places].tolist()
            cost += np.array([[label >= 0 and label in classes for label in labels] for classes in self.classes])
        return cost


def exemplar_rows(
    unit: Unit,
    chosen: Exemplars,
    column: NDArray[np.float32],
    pool: pd.DataFrame,
    method: str,
) -> Iterator[dict[str, object]]:
    """Yield a unit's rows of the table of stimuli.

    Parameters
    ----------
    unit
        The unit.
    chosen
        Its exemplars.
    column
        Shape (pictures,): its activations.
    pool
        The table of the pool.
    method
        What chose them: the identity of the protocol.
    """
    pictures, labels, groups = (pool[name].to_numpy() for name in ("picture", "label", "group"))
    size, names = len(pool), unit.fields()

    def row(role: str, side: str, difficulty: str, task: int, position: int, place: int) -> dict[str, object]:
        rank = int(chosen.ranks[place])
        return {
            **names,
            "condition": "natural",
            "role": role,
            "side": side,
            "difficulty": difficulty,
            "task": task,
            "position": position,
            "picture": pictures[place],
            "activation": float(column[place]),
            "rank": rank if side == "min" else size - 1 - rank,
            "label": labels[place],
            "group": groups[place],
            "group_repeated": (task, place) in chosen.repeated,
            "method": method,
        }

    for side in SIDES:
        for task, members in enumerate(chosen.references[side].tolist()):
            for position, place in enumerate(members):
                yield row("reference", side, "", task, position, place)
    for (difficulty, side), places in chosen.queries.items():
        for task, place in enumerate(places.tolist()):
            yield row("query", side, difficulty, task, 0, place)
