"""How scores depend on the size of the pool: the job that lets machine observers answer over smaller pools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import ObserverError
from benchmark.progress import Reporter, default_reporter
from benchmark.study import Study
from benchmark.units import PLANTED

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.engines.base import Engine
    from benchmark.observers.base import Observer
    from benchmark.pool_sizes import PoolSize


def observe_pool_sizes(
    study: Study | Path | str,
    observers: Sequence[str],
    sizes: Sequence[int] | None = None,
    *,
    device: str = "auto",
    reporter: Reporter | None = None,
    engine: Engine | str = "local",
    address: str = "",
) -> pd.DataFrame:
    """Let machine observers answer a study's natural tasks as they are over smaller pools.

    Stimuli and answers of each size are kept in ``STUDY/pool_sizes/SIZE``, never among the study's own. An observer is
    made once for all sizes, and embeds no picture twice.

    Parameters
    ----------
    study
        The study, or its folder; it must have exemplars.
    observers
        Names of the observers: ``lowlevel``, ``features:efficientnet_lite0``. For the excess, ``lowlevel`` must be
        one of them.
    sizes
        How many pictures the pools have; if not given, the whole pool, half of it, and so on, as far as the windows of
        the protocol fit.
    device
        Where networks run.
    reporter
        Shows progress.
    engine, address
        Who embeds the pictures that feature observers have not embedded yet, as in
        :func:`benchmark.workflow.observe_study`; all else is quick and done by this process.

    Returns
    -------
    The table of responses with a column ``pool_size`` behind the others, for
    :func:`analysis.machines.score_pool_sizes`. Answers of each size carry the identity of the protocol for that size.

    Raises
    ------
    ObserverError
        If no observer is named, or one can't answer.
    VimiError
        If a size does not fit; see :func:`stimuli.pool_sizes.make_pool_sizes`.
    """
    import pandas as pd

    from benchmark.engines import opened_engine
    from stimuli.pool_sizes import make_pool_sizes

    if not observers:
        raise ObserverError("No observer was named; name at least one, such as features:efficientnet_lite0.")
    study = Study.open(study)
    reporter = reporter or default_reporter()
    with opened_engine(engine, address, reporter) as opened:
        made = [_make_observer(study, name, opened, device, reporter) for name in dict.fromkeys(observers)]
        views = make_pool_sizes(study, sizes, reporter=reporter)
        # An observer may standardise over all pictures that it sees: whatever else the study shows is shown beside
        # every size, so that over the whole pool the answers are those of the study itself.
        every = study.stimuli()
        beside = every[(every["condition"] != "natural") | (every["model"] == PLANTED)]
        parts: list[pd.DataFrame] = []
        for view in views:
            parts += _observe_size(view, made, beside, reporter)
    return pd.concat(parts, ignore_index=True)


def _make_observer(study: Study, name: str, engine: Engine, device: str, reporter: Reporter) -> Observer:
    """Make an observer; where the engine's workers are elsewhere, they embed the pictures of one that has features."""
    from benchmark.device import prepare_torch
    from benchmark.observers import create_observer

    target = engine.choose_device(device)
    if not engine.is_elsewhere:
        prepare_torch(target)
        return create_observer(name, study, target, reporter)
    from benchmark.observing import create_observer_here

    return create_observer_here(name, study, engine, target, reporter)


def _observe_size(
    view: PoolSize, observers: Sequence[Observer], beside: pd.DataFrame, reporter: Reporter
) -> list[pd.DataFrame]:
    """Let observers answer over one size, keep their answers, and return them."""
    from benchmark import schemas
    from benchmark.responses import observe, store_responses

    stimuli = schemas.concatenate([view.stimuli(), beside], schemas.STIMULI)
    parts: list[pd.DataFrame] = []
    for observer in observers:
        # The observer may show a bar of its own, which can't stand inside another.
        reporter.say(f"{observer.name} answers over {view.size:,} pictures")
        with view.timed("observers", f"{observer.name} over {view.size} pictures"):
            answers = observe(view, observer, stimuli=stimuli)
        own = (answers["condition"] == "natural") & (answers["kind"] == "main")
        responses = answers[own].reset_index(drop=True)
        store_responses(view, responses)
        parts.append(responses.assign(pool_size=view.size))
    return parts


def stored_pool_sizes(study: Study | Path | str) -> pd.DataFrame:
    """Return the answers over smaller pools that a study has already.

    Answers to stimuli that were made before the study was built anew are left out.

    Parameters
    ----------
    study
        The study, or its folder.

    Returns
    -------
    The table of :func:`observe_pool_sizes`; without rows if nobody has answered.
    """
    import pandas as pd

    from benchmark import schemas
    from benchmark.pool_sizes import made_sizes

    study = Study.open(study)
    parts: list[pd.DataFrame] = []
    for view in made_sizes(study):
        for path in sorted((view.folder / "responses").glob("*.parquet")):
            stored = schemas.RESPONSES.read(path)
            present = stored[stored["stimuli_hash"] == view.stimuli_hash]
            parts += [present.assign(pool_size=view.size)] if len(present) else []
    if not parts:
        return schemas.RESPONSES.empty().assign(pool_size=pd.Series(dtype="int64"))
    return pd.concat(parts, ignore_index=True)
