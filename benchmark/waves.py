"""Waves: which cells of sessions a study has, and which of them an extension added.

A study begins with one wave: its models, conditions and difficulties as they were first built. What is added later
is asked about in a wave of its own, and earlier waves stay as they are: a cell keeps its name and its list of models,
and its sessions follow from those. People of a new wave are other people, so that each wave has an anchor: units that
an earlier wave asked about, and that people of the new wave judge again. Where sessions mix models, the anchor's
units are mixed into them; where nothing that is new can be mixed with something old (nested sessions, or a new
condition alone), an old cell is repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmark.errors import NameNotFound, StudyError
from benchmark.protocol import Protocol
from benchmark.units import UNIT_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.study import Study

Group = tuple[str, str, str]
"""Condition, difficulty and model: what a wave newly asks about, or not."""


@dataclass(frozen=True)
class WaveCell:
    """What a cell asks about.

    Attributes
    ----------
    name
        ``natural-easy`` or, if nested, ``resnet50-natural-easy``; behind that ``-wave2`` in the second wave.
    condition, difficulty
        Of all its trials.
    models
        Whose units it asks about.
    anchors
        Those of them that an earlier wave asked about in this condition and difficulty.
    """

    name: str
    condition: str
    difficulty: str
    models: tuple[str, ...]
    anchors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wave:
    """Cells that were laid out together.

    Attributes
    ----------
    number
        1 for what a study began with.
    cells
        Its cells.
    anchor
        The model by which it is compared with earlier waves; empty in the first.
    """

    number: int
    cells: tuple[WaveCell, ...]
    anchor: str = ""

    def facts(self) -> dict[str, Any]:
        """Return the wave as the manifest keeps it."""
        return asdict(self)

    @property
    def groups(self) -> set[Group]:
        """What it asks about."""
        return {(cell.condition, cell.difficulty, model) for cell in self.cells for model in cell.models}


def read_waves(manifest: dict[str, Any]) -> list[Wave]:
    """Return the waves that a manifest names; none if its trials have not been laid out.

    Raises
    ------
    StudyError
        If they can't be understood.
    """
    try:
        return [
            Wave(
                wave["number"],
                tuple(
                    WaveCell(
                        cell["name"], cell["condition"], cell["difficulty"], tuple(cell["models"]),
                        tuple(cell["anchors"]),
                    )
                    for cell in wave["cells"]
                ),
                wave["anchor"],
            )
            for wave in manifest.get("waves", [])
        ]  # fmt: skip
    except (KeyError, TypeError) as error:
        raise StudyError(
            f"The manifest's waves can't be understood ({error!r}); restore manifest.json from a backup of the study."
        ) from None


def first_wave(tasks: pd.DataFrame, protocol: Protocol, asked: Collection[str]) -> Wave:
    """Return the wave that asks about every task of some models.

    Parameters
    ----------
    tasks
        Distinct tasks.
    protocol
        Says whether sessions mix models.
    asked
        Models whose units people are asked about.
    """
    return Wave(1, tuple(_divide(_groups(tasks, asked), protocol, "")))


def next_wave(
    tasks: pd.DataFrame, protocol: Protocol, asked: Sequence[str], earlier: Sequence[Wave], anchor: str = ""
) -> Wave | None:
    """Return the wave that asks about what earlier ones did not, or None if there is nothing such.

    Parameters
    ----------
    tasks
        Distinct tasks of the extended study.
    protocol
        Says whether sessions mix models, and how many units a session needs.
    asked
        Models whose units people are asked about, in the order of the experiment.
    earlier
        The waves so far.
    anchor
        The model whose units are judged again; if not given, that of the wave before, or the first model.

    Raises
    ------
    NameNotFound
        If no earlier wave asked about the anchor.
    """
    known = {group for wave in earlier for group in wave.groups}
    answered = {model for _, _, model in known}
    old = [name for name in asked if name in answered]
    if anchor and anchor not in old:
        raise NameNotFound(
            "model to use as anchor", anchor, old, ("An anchor must be a model that people were already asked about.")
        )
    new = [group for group in _groups(tasks, asked) if group not in known]
    if not new:
        return None
    anchor = anchor or (earlier[-1].anchor if earlier else "") or next(iter(old), "")
    candidates = [anchor, *(name for name in old if name != anchor)] if anchor else []
    number = max((wave.number for wave in earlier), default=0) + 1
    suffix = f"-wave{number}"
    anchors: list[Group] = []
    if protocol.rules.session.models == "crossed":
        for pair in sorted({group[:2] for group in new}):
            own = [group for group in new if group[:2] == pair]
            anchors += _anchors(tasks, protocol, pair, own, candidates, known)
    if anchor and not anchors:
        # Nothing new shares a session with something old: an old cell is repeated by people of the new wave.
        first = next(cell for wave in earlier for cell in wave.cells if anchor in cell.models)
        pair = (first.condition, first.difficulty)
        only = [anchor] if protocol.rules.session.models == "nested" else candidates
        anchors = _anchors(tasks, protocol, pair, [], only, known)
    return Wave(number, tuple(_divide([*new, *anchors], protocol, suffix, anchors)), anchor)


def plan_waves(study: Study, tasks: pd.DataFrame) -> list[Wave]:
    """Return the waves whose trials a study, or an extension that is being built, lays out.

    Those that a study has been extended by stay as they are when its trials are laid out anew.
    """
    manifest = study.manifest
    known = read_waves(manifest)
    extension = manifest.get("extension")
    if extension is None:
        return known if len(known) > 1 else [_begin(study, tasks)]
    earlier = known[: extension["waves"]]
    added = next_wave(_of_experiment(study, tasks), study.protocol, study.asked_models, earlier, extension["anchor"])
    return [*earlier, *([added] if added else [])]


def study_waves(study: Study, tasks: pd.DataFrame) -> list[Wave]:
    """Return the waves of a study: as its manifest names them, or the one that it would begin with."""
    return read_waves(study.manifest) or [_begin(study, tasks)]


def _begin(study: Study, tasks: pd.DataFrame) -> Wave:
    return first_wave(_of_experiment(study, tasks), study.protocol, study.asked_models)


def _of_experiment(study: Study, tasks: pd.DataFrame) -> pd.DataFrame:
    """Return the tasks in the conditions and difficulties that the experiment asks about.

    Natural references are chosen in every study, since queries and the thresholds of synthetic ones need them.
    """
    wanted = study.experiment.stimuli
    return tasks[tasks["condition"].isin(wanted.conditions) & tasks["difficulty"].isin(wanted.difficulties)]


def _groups(tasks: pd.DataFrame, asked: Collection[str]) -> list[Group]:
    """Return what can be asked about some models, in canonical order."""
    own = tasks.loc[tasks["model"].isin(list(asked)), ["condition", "difficulty", "model"]].drop_duplicates()
    return sorted(own.itertuples(index=False, name=None))


def _divide(
    groups: Iterable[Group], protocol: Protocol, suffix: str, anchors: Collection[Group] = ()
) -> list[WaveCell]:
    """Divide what is asked about into cells."""
    nested = protocol.rules.session.models == "nested"
    members: dict[tuple[str, ...], list[str]] = {}
    for condition, difficulty, model in sorted(groups):
        members.setdefault((condition, difficulty, *([model] if nested else [])), []).append(model)
    return [
        WaveCell(
            "-".join([*model, condition, difficulty]) + suffix,
            condition,
            difficulty,
            tuple(models),
            tuple(name for name in models if (condition, difficulty, name) in anchors),
        )
        for (condition, difficulty, *model), models in members.items()
    ]


def _anchors(
    tasks: pd.DataFrame,
    protocol: Protocol,
    pair: tuple[str, str],
    own: Sequence[Group],
    candidates: Sequence[str],
    known: Collection[Group],
) -> list[Group]:
    """Return the old models whose units join a cell: one, and more only where a session would lack units."""
    alike = tasks[(tasks["condition"] == pair[0]) & (tasks["difficulty"] == pair[1])]
    counts = alike[UNIT_COLUMNS].drop_duplicates()["model"].value_counts().to_dict()
    units = sum(counts.get(model, 0) for _, _, model in own)
    chosen: list[Group] = []
    for name in candidates:
        group = (*pair, name)
        if group in known and (not chosen or units < protocol.rules.session.main_trials):
            chosen.append(group)
            units += counts.get(name, 0)
    return chosen
