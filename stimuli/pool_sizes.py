"""What a study would ask over smaller pools: exemplars of nested parts of its pool.

Difficulty is a rank, not a quantile: with fewer pictures, the same number of references and queries reaches further
into a unit's ranking, so a score depends on the size of the pool. How much it does can be measured without another
forward pass, since a built study keeps its sampled units' activations of every picture. A smaller pool is the pictures
whose seeded hash of content comes first: smaller ones lie within larger ones, and no folder's order matters. Units,
rules, groups, labels and the order of ties are the study's; the windows are those of the protocol for that size, which
makes it another protocol.

Where what belongs to a size is kept says :mod:`benchmark.pool_sizes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark import __version__, schemas
from benchmark.errors import StudyError, StudyMismatch
from benchmark.hashing import hash_rows, picture_keys
from benchmark.plumbing import PLUMBING, repeats_groups
from benchmark.pool_sizes import PoolSize, halved_sizes
from benchmark.progress import Reporter
from benchmark.protocol import DIFFICULTIES, Difficulty, Protocol
from benchmark.randomness import seed_from, tie_keys
from benchmark.storage import only_process, remove_unfinished, write_json
from benchmark.study import Study
from benchmark.units import Unit, read_units
from stimuli.activations import ActivationPlan, read_activations
from stimuli.exemplars import choose_exemplars, exemplar_rows
from stimuli.image_store import store_crops
from stimuli.loading import check_picture
from stimuli.materials import Materials
from stimuli.order_statistics import TieKeys, full_order
from stimuli.pools import Pool
from stimuli.survey import Survey


def nested_order(pictures: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Return the places of pictures in the order in which growing pools take them in.

    Parameters
    ----------
    pictures
        Hashes of the pictures' content.
    seed
        The experiment's seed.
    """
    keys = tie_keys(seed_from(seed, "pool sizes"), picture_keys(pictures))
    return np.asarray(np.lexsort((np.asarray(pictures), keys)), dtype=np.int64)


def part_of_pool(pictures: Sequence[str], size: int, seed: int) -> NDArray[np.int64]:
    """Return the places of the pictures in a pool of a smaller size, ascending."""
    return np.sort(nested_order(pictures, seed)[:size])


def make_pool_sizes(
    study: Study, sizes: Sequence[int] | None = None, *, reporter: Reporter | None = None
) -> list[PoolSize]:
    """Choose natural exemplars over smaller pools, going on where a killed call stopped.

    Parameters
    ----------
    study
        A study with exemplars.
    sizes
        How many pictures the pools have; all of :func:`halved_sizes` if not given.
    reporter
        Shows progress.

    Returns
    -------
    One for each size, the largest first. The stimuli of the whole pool are those of the study itself, as far as they
    are natural and of its models.

    Raises
    ------
    StudyError
        If a size is larger than the pool, or the pool has changed.
    PoolTooSmall
        If a size can't carry any of the study's difficulties.
    StudyMismatch
        If the study's activations are of other weights or pictures than it has now.
    """
    study.stage_outputs("exemplars")
    views = [PoolSize(study.root, size) for size in _checked_sizes(study, sizes)]
    reporter = reporter or Reporter()
    with only_process(study.root / "pool_sizes"):
        remove_unfinished(study.root / "pool_sizes")
        missing: list[PoolSize] = []
        with reporter.task("Looking for smaller pools", len(views)) as advance:
            for view in views:
                missing += [] if view.is_whole else [view]
                advance(1)
        if missing:
            materials = Materials(study, device_name="cpu", skip_unreadable=False, reporter=reporter)
            rankings = _read_rankings(study, materials)
            for view in missing:
                _make(study, view, rankings, materials.pool, reporter)
    return views


def _checked_sizes(study: Study, sizes: Sequence[int] | None) -> list[int]:
    """Return the sizes, the largest first."""
    whole = int(study.manifest["pool"]["size"])
    if sizes is None:
        return halved_sizes(study)
    wanted = study.experiment.stimuli.difficulties
    for size in sizes:
        if not 0 < size <= whole:
            raise StudyError(
                f"The pool of {study.root} has {whole:,} pictures; a pool of {size:,} can't be drawn from it. Give "
                f"sizes between 1 and {whole:,}."
            )
        view = PoolSize(study.root, size)
        if not view.difficulties:
            view.protocol.windows(size, (next(name for name in DIFFICULTIES if name in wanted),))  # says what is wrong
    if not sizes:
        raise StudyError("No pool size was given. Name at least one, or leave sizes out to use all that fit.")
    return sorted(set(sizes), reverse=True)


def _make(study: Study, view: PoolSize, rankings: Sequence[Ranking], pool: Pool, reporter: Reporter) -> None:
    """Choose exemplars for a size, store their pictures and write table and manifest, the manifest last."""
    table, seed = study.pool(), study.experiment.seed
    places = part_of_pool(list(table["picture"]), view.size, seed)
    rows: list[dict[str, object]] = []
    units = sum(len(ranking.units) for ranking in rankings)
    with reporter.task(f"Exemplars over {view.size:,} pictures", units) as advance:
        for ranking in rankings:
            for chosen in ranking.rows(table, places, view.protocol, view.difficulties, seed):
                rows += chosen
                advance(1)
    stimuli = schemas.STIMULI.conform(pd.DataFrame(rows))
    _store_pictures(study, pool, table, set(stimuli["picture"]), reporter)
    repeated = float(stimuli["group_repeated"].mean())
    notes = list(study.manifest["notes"])
    if repeats_groups(repeated, view.protocol) and PLUMBING not in notes:
        notes.append(PLUMBING)
    schemas.STIMULI.write(stimuli, view.stimuli_path)
    write_json(
        view.facts_path,
        {
            "vimi": __version__,
            "size": view.size,
            "protocol": view.protocol.identity,
            "difficulties": list(view.difficulties),
            "inputs": view.inputs,
            "outputs": {"stimuli": hash_rows(stimuli)},
            "pictures": int(stimuli["picture"].nunique()),
            "share_of_pictures_repeating_a_group": round(repeated, 6),
            "notes": notes,
        },
    )


@dataclass(frozen=True)
class Ranking:
    """How a model's used units rank the pictures of the pool.

    Attributes
    ----------
    units
        The units.
    columns
        Shape (units, pictures): their activations.
    owners
        Shape (units,): the column of each unit, which orders its ties.
    ties
        Gives tie keys of columns and places in the whole pool.
    """

    units: tuple[Unit, ...]
    columns: NDArray[np.float32]
    owners: NDArray[np.int64]
    ties: TieKeys

    def rows(
        self,
        pool: pd.DataFrame,
        places: NDArray[np.int64],
        protocol: Protocol,
        difficulties: tuple[Difficulty, ...],
        seed: int,
    ) -> Iterator[list[dict[str, object]]]:
        """Yield each unit's rows of the table of stimuli over a part of the pool.

        Parameters
        ----------
        pool
            The table of the whole pool.
        places
            Which of its rows are in the part, ascending.
        protocol
            The protocol for so many pictures.
        difficulties
            Which queries are chosen.
        seed
            The experiment's seed.
        """
        part = pool.iloc[places]
        windows = protocol.windows(len(places), difficulties)
        groups, labels = (
            np.asarray(pd.factorize(part[name], sort=True)[0], dtype=np.int64) for name in ("group", "label")
        )

        def ties(columns: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.generic]:
            return self.ties(columns, places[own])

        for unit, column, owner in zip(self.units, self.columns, self.owners.tolist()):
            own = column[places]
            chosen = choose_exemplars(
                full_order(own, owner, ties), windows, protocol, seed=seed, unit=unit, groups=groups, labels=labels
            )
            yield list(exemplar_rows(unit, chosen, own, part, protocol.identity))


def _read_rankings(study: Study, materials: Materials) -> list[Ranking]:
    """Read how every model's used units rank the pool, in the order of the study's stimuli.

    Models are loaded for their layers alone, which say how ties are ordered; nothing is run.
    """
    table, statistics = study.pool(), study.statistics()
    # Of a survey, the order of ties needs the pictures alone.
    survey = Survey(table, np.arange(len(table)), np.empty((len(table), 0), dtype=np.float32), (), 0)
    rankings: list[Ranking] = []
    for name, model in materials.models().items():
        measured = read_activations(study.activations(name))
        plan = ActivationPlan(model, materials.pool, survey, measured.units, 0, study.protocol, study.experiment.seed)
        other = [what for what in ("weights", "pictures") if measured.header[what] != plan.header[what]]
        if other:
            raise StudyMismatch(
                f"The activations of {name} in {study.root} were made with different {' and '.join(other)} from what "
                "is there now. Restore the old state, or build the study again."
            )
        used = set(read_units(statistics[(statistics["model"] == name) & statistics["used"]]))
        kept = [row for row, unit in enumerate(measured.units) if unit in used]
        units = tuple(measured.units[row] for row in kept)
        owners = np.array([plan.column(unit) for unit in units], dtype=np.int64)
        rankings.append(Ranking(units, measured.columns[kept], owners, plan.ties))
    return rankings


def _store_pictures(study: Study, pool: Pool, table: pd.DataFrame, pictures: set[str], reporter: Reporter) -> None:
    """Store those of the pictures that the study does not have yet."""
    missing = table[[not study.image_path(picture).is_file() for picture in table["picture"]]]
    missing = missing[missing["picture"].isin(pictures)]
    if missing.empty:
        return
    places = {entry.source: place for place, entry in enumerate(pool.entries)}
    lost = [source for source in missing["source"] if source not in places]
    if lost:
        raise StudyError(
            f"The pool {study.experiment.pool.source} has changed since {study.root} was built: {lost[0]} is gone. "
            "Restore it: smaller pools use pictures that the study has not stored."
        )
    wanted = {places[source]: picture for source, picture in zip(missing["source"], missing["picture"])}
    for place, picture in store_crops(study, pool, wanted, study.experiment.pool.crop, reporter).items():
        check_picture(picture, wanted[place], pool.entries[place].source)
