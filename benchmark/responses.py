"""Answers: how machines' are made and stored, and the one reader of all of a study's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from benchmark import __version__, schemas
from benchmark.errors import ObserverError, StudyError
from benchmark.hashing import hash_settings
from benchmark.model_card import ModelCard
from benchmark.observers.base import SHUFFLED, Observer
from benchmark.protocol import References
from benchmark.study import Study
from benchmark.tasks import TASK_COLUMNS, assemble_tasks, flip_coins, present, task_names
from benchmark.units import PLANTED


def reaction_seconds(milliseconds: pd.Series) -> pd.Series:
    """Return reaction times in seconds, the unit in which all results show them.

    Answers are stored with milliseconds (``rt_ms``); everything that is said about reaction times is in seconds.
    """
    return milliseconds.astype(np.float64) / 1000


def observe(
    study: Study,
    observer: Observer,
    *,
    references: Sequence[References] = ("both",),
    shuffle_references: bool = False,
    stimuli: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Let an observer answer each distinct task of a study once, in canonical order.

    The observer's own model is left out: nothing is observed by itself. Relatives are marked.

    Parameters
    ----------
    study
        The study.
    observer
        Who answers.
    references
        Which sides are shown; each kind gives another set of answers.
    shuffle_references
        Deal the references to the sides at random, to check that the observer then only guesses.
    stimuli
        The table of stimuli, if it has been read already.

    Returns
    -------
    The table of responses.

    Raises
    ------
    ObserverError
        If no task is left for the observer.
    """
    stimuli = study.stimuli() if stimuli is None else stimuli
    models = study.manifest["models"]
    own = models_with_weights(study, observer.weights_hash)
    if not set(stimuli["model"].unique()) - own - {PLANTED}:
        raise ObserverError(
            f"{observer.name} is the only model of this study, and a model can't observe itself. Choose another "
            "observer."
        )
    labels = _labels(stimuli)
    tasks = assemble_tasks(stimuli[~stimuli["model"].isin(own)])
    parts = [
        _answer(study, observer, tasks, kind, models, shuffle_references, labels) for kind in dict.fromkeys(references)
    ]
    return schemas.concatenate(parts, schemas.RESPONSES)


def models_with_weights(study: Study, weights_hash: str | None) -> set[str]:
    """Return the models of a study that have certain weights: an observer made of these is the model itself."""
    return {name for name, facts in study.manifest["models"].items() if facts["weights_hash"] == weights_hash}


def _labels(stimuli: pd.DataFrame) -> dict[str, str]:
    known = stimuli.loc[stimuli["label"].notna(), ["picture", "label"]].drop_duplicates("picture", keep="last")
    return dict(zip(known["picture"], known["label"]))


def _answer(
    study: Study,
    observer: Observer,
    tasks: pd.DataFrame,
    references: References,
    models: dict[str, dict[str, object]],
    shuffle: bool,
    labels: dict[str, str],
) -> pd.DataFrame:
    """Let an observer answer tasks that show the same sides."""
    seed = study.experiment.seed
    trials, top = present(tasks, references=references, seed=seed, labels=labels)
    if shuffle:
        trials = trials.shuffle_references(seed)
    trial = task_names(tasks)
    upper = np.clip(observer.answer(trials), 0.0, 1.0)
    if np.isnan(upper).any():
        raise ObserverError(
            f"{observer.name} returned NaN for {int(np.isnan(upper).sum())} of {len(tasks)} tasks, the first of them "
            f"{trial[int(np.isnan(upper).argmax())]}. Its network may have overflowed on one of their pictures."
        )
    coin = flip_coins(trial, seed, "coin", observer.name, references)
    chose_upper = np.where(upper == 0.5, coin, upper > 0.5)
    correct = chose_upper == top
    probability = np.where(top, upper, 1 - upper)
    cards = {name: ModelCard.model_validate(facts["card"]) for name, facts in models.items()}
    related = {name: observer.kinship.related_to(card) for name, card in cards.items()}
    order = tasks.groupby(["model", "condition"], sort=False).cumcount()
    stimuli_hash = study.stimuli_hash
    name = observer.name + (SHUFFLED if shuffle else "")
    frame = pd.DataFrame(
        {
            "response_id": [hash_settings([stimuli_hash, name, references, item]) for item in trial],
            "protocol": study.protocol.identity,
            "study": study.hash,
            "observer_kind": "machine",
            "observer": name,
            "related": [related.get(model, False) for model in tasks["model"]],
            "session": [f"{name}/{model}/{c}" for model, c in zip(tasks["model"], tasks["condition"])],
            "session_status": "complete",
            "trial": trial,
            "trial_index": order.to_numpy(),
            "kind": np.where(tasks["model"] == PLANTED, "catch", "main"),
            **{column: tasks[column] for column in TASK_COLUMNS},
            "references": references,
            "query_top": np.where(top, "max", "min"),
            "choice": np.where(correct, "max", "min"),
            "correct": correct,
            "probability": probability,
            "answered_at": datetime.now(UTC),
            "vimi_version": __version__,
            "stimuli_hash": stimuli_hash,
            "weights_hash": [models.get(model, {}).get("weights_hash") for model in tasks["model"]],
        }
    )
    return schemas.RESPONSES.conform(frame)


def store_responses(study: Study, responses: pd.DataFrame) -> None:
    """Write an observer's answers, replacing its earlier ones.

    What it answered to the same stimuli with other sides shown is kept; so is what it answered before the study was
    extended, since old stimuli are unchanged.
    """
    known = study.stimuli_hashes
    for observer, part in responses.groupby("observer"):
        path = study.response_path(str(observer))
        if path.is_file():
            before = schemas.RESPONSES.read(path)
            same = before["stimuli_hash"].isin([*known, *part["stimuli_hash"]]) & (before["observer"] == observer)
            kept = before[same & ~before["references"].isin(part["references"])]
            part = schemas.concatenate([kept, part], schemas.RESPONSES)
        schemas.RESPONSES.write(part, path)


def current_responses(study: Study, responses: pd.DataFrame) -> pd.DataFrame:
    """Return the answers to stimuli that the study has now: those from before an extension are among them."""
    return responses[responses["stimuli_hash"].isin(study.stimuli_hashes)].reset_index(drop=True)


def machine_responses(study: Study) -> pd.DataFrame:
    """Return machine observers' answers to the stimuli that the study has now.

    People's answers are not even looked up: what machines make of a study needs no database, and shows nobody how
    far people are before they have finished.
    """
    stored = current_responses(study, _read_files(study))
    return stored[stored["observer_kind"] == "machine"].reset_index(drop=True)


def read_responses(study: Study, database: str = "", *, pilot: bool = False) -> pd.DataFrame:
    """Return all answers of a study, from its files and its database, as one table.

    Parameters
    ----------
    study
        The study.
    database
        URL of the database, if it is not the study's own nor the one that ``VIMI_DATABASE`` names.
    pilot
        Return people's answers to the pilot instead of those to the study; nothing else is then in the table.
    """
    people = _people(study, database, pilot)
    return schemas.concatenate([*([] if pilot else [_read_files(study)]), people], schemas.RESPONSES)


def _read_files(study: Study) -> pd.DataFrame:
    """Return the answers in a study's files."""
    paths = sorted((study.root / "responses").glob("*.parquet"))
    parts = [schemas.RESPONSES.read(path) for path in paths]
    first: dict[str, str] = {}
    for path, part in zip(paths, parts):
        for identity in part["response_id"]:
            other = first.setdefault(identity, path.name)
            if other != path.name:
                raise StudyError(
                    f"{path} and {other} hold the same answer (response_id {identity!r}), which would count twice. "
                    "Remove one of the files from the study's folder of responses."
                )
    return schemas.concatenate(parts, schemas.RESPONSES)


def _people(study: Study, url: str, pilot: bool) -> pd.DataFrame:
    """Return people's answers, if the study has ever been hosted."""
    from benchmark.database import read_answers, reading_people

    with reading_people(study, url) as people:
        return schemas.RESPONSES.empty() if people is None else read_answers(*people, pilot=pilot)
