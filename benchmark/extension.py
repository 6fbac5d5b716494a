"""Extending a study: models, conditions and difficulties are added, and what was there stays as it was.

An extension is built beside the study, in its folder ``extension``: pictures, activations and records of sets are
shared, since their names or headers say what they are, but tables and manifest are its own. Once every stage has run
and every old row of stimuli and trials has been found unchanged, its tables take the place of the study's: first the
tables, which only gain rows, then the experiment, and the manifest last. So whoever reads the study meanwhile, a
running server among them, finds it as it was before or as it is after; and a build that is killed goes on.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import NameNotFound, StudyError, StudyMismatch
from benchmark.experiment import Experiment, compare_experiments
from benchmark.hashing import hash_rows
from benchmark.storage import write_atomically
from benchmark.study import Stage, Study
from benchmark.tasks import assemble_tasks
from benchmark.waves import read_waves, study_waves

if TYPE_CHECKING:
    import pandas as pd

_TABLES = ("pool.parquet", "planted.safetensors", "units.parquet", "statistics.parquet", "stimuli.parquet",
           "trials.parquet", "experiment.toml")  # fmt: skip
"""What is put in place of the study's, in this order; the manifest follows."""

_OWN = ("vimi", "versions", "experiment", "protocol", "rules", "models", "pool", "notes", "stages", "waves")
"""Entries of the manifest that an extension replaces; others are left to whoever wrote them."""


class ExtensionDraft(Study):
    """An extension of a study that is being built."""

    @property
    def tables(self) -> Path:
        """Folder of its own tables and manifest."""
        return self.root / "extension"

    @property
    def facts(self) -> dict[str, Any]:
        """The manifest's entry for the extension: what it extends, how many waves there were, and the anchor."""
        return dict(self.manifest.get("extension", {}))

    def discard(self) -> None:
        """Remove its tables; what they share with the study stays."""
        # The manifest goes first: without it, nothing else in the folder counts.
        self.manifest_path.unlink(missing_ok=True)
        shutil.rmtree(self.tables, ignore_errors=True)


def begin_extension(study: Study, experiment: Experiment, anchor: str = "") -> ExtensionDraft:
    """Begin to extend a study, or find the extension that was begun.

    Parameters
    ----------
    study
        A study with trials.
    experiment
        The extended experiment.
    anchor
        The old model whose units are judged again; see :mod:`benchmark.waves`.

    Raises
    ------
    StudyMismatch
        If the experiment changes something that is there; the message names it.
    NameNotFound
        If the anchor is no model of the study that people are asked about.
    StageMissing
        If the study has no trials yet.
    StudyError
        If its trials are not those that its manifest speaks of.
    """
    made = study.stage_outputs("trials")
    comparison = compare_experiments(study.experiment, experiment)
    if comparison.changed:
        raise StudyMismatch(
            f"{study.root} can only be extended by models, conditions and difficulties. Other settings changed: "
            f"{'; '.join(comparison.changed[:5])}. Restore the study's settings, or build into another folder."
        )
    asked = study.asked_models
    if anchor and anchor not in asked:
        raise NameNotFound(
            "model to use as anchor", anchor, asked, "An anchor must be a model that people were already asked about."
        )
    draft = ExtensionDraft(study.root)
    wanted = {"of": study.hash, "anchor": anchor}
    if draft.manifest_path.is_file():
        begun = draft.manifest
        if begun["experiment"] == experiment.hash and wanted.items() <= begun.get("extension", {}).items():
            draft._freeze(experiment)
            return draft
    draft.discard()
    if made.get("trials") != hash_rows(study.trials()):
        raise StudyError(
            f"{study.trials_path} is not the file that the study was built with. Restore it from a backup before you "
            "extend the study."
        )
    manifest = study.manifest
    waves = study_waves(study, assemble_tasks(study.stimuli()))
    if not read_waves(manifest):
        # From now on the study says itself which cells it has: its tables may soon hold more.
        study.update_manifest(waves=[wave.facts() for wave in waves])
    for name in ("pool.parquet", "planted.safetensors"):
        if (study.tables / name).is_file():
            _copy(study.tables / name, draft.tables / name)
    draft._freeze(experiment)
    draft.write_manifest(
        {
            **{name: manifest[name] for name in _OWN if name in manifest},
            "experiment": experiment.hash,
            "waves": [wave.facts() for wave in waves],
            "stages": {"units": manifest["stages"]["units"]},
            "extension": {**wanted, "waves": len(waves), "ready": False},
        }
    )
    return draft


def check_stage(study: Study, draft: ExtensionDraft, stage: Stage) -> None:
    """Check, after a stage, that nothing has changed that the study has.

    Raises
    ------
    StudyMismatch
        Naming what came out otherwise. The extension is given up; the study is as it was.
    """
    checks = {"units": _check_models, "exemplars": _check_natural, "visualizations": _check_stimuli,
              "trials": _check_trials}  # fmt: skip
    problem = checks[stage](study, draft) if stage in checks else ""
    if problem:
        draft.discard()
        raise StudyMismatch(
            f"{study.root} can't be extended here: {problem}. The trials that people have already answered would "
            "change. Use the pictures, weights, packages and device that it was built with (see its manifest.json), "
            "or build into another folder. vimi changed nothing."
        )


def _check_models(study: Study, draft: ExtensionDraft) -> str:
    before, after = study.manifest, draft.manifest
    if before["protocol"] != after["protocol"]:
        return f"its protocol was {before['protocol']}, and is now {after['protocol']}"
    for name, facts in before["models"].items():
        if after["models"].get(name, {}).get("weights_hash") != facts["weights_hash"]:
            return f"the weights of {name} are others than before"
    return ""


def _check_natural(study: Study, draft: ExtensionDraft) -> str:
    before, after = (table[table["condition"] == "natural"] for table in (study.stimuli(), draft.stimuli()))
    return _first_difference(before, after)


def _check_stimuli(study: Study, draft: ExtensionDraft) -> str:
    return _first_difference(study.stimuli(), draft.stimuli())


def _first_difference(before: pd.DataFrame, after: pd.DataFrame) -> str:
    """Say which model's old stimuli are not the same any more, if there is one."""
    same = after["condition"].isin(before["condition"].unique()) & after["difficulty"].isin(
        before["difficulty"].unique()
    )
    for name, own in before.groupby("model", sort=False):
        if hash_rows(own) != hash_rows(after[same & (after["model"] == name)]):
            return f"the stimuli of {name} came out otherwise than before"
    return ""


def _check_trials(study: Study, draft: ExtensionDraft) -> str:
    before, after = study.trials(), draft.trials()
    if hash_rows(before) != hash_rows(after.head(len(before))):
        return "this version of vimi lays out old sessions otherwise"
    return ""


def finish_extension(study: Study) -> bool:
    """Replace the study by its extension, once all its stages have run and been checked.

    A call that is killed is finished by the next one: until the manifest is replaced, which is the last step, the
    study is read as it was, and its tables may hold more than it speaks of.

    Returns
    -------
    Whether there was an extension of the study as it is now.
    """
    draft = ExtensionDraft(study.root)
    if not draft.manifest_path.is_file():
        return False
    if study.hash != draft.facts["of"]:
        draft.discard()  # it has taken its place already, or extends a state that the study is not in any more
        return False
    if not draft.facts["ready"]:
        lineage = {"of": draft.stimuli_hash, "earlier": sorted(study.stimuli_hashes)}
        draft.update_manifest(stimuli_lineage=lineage, extension={**draft.facts, "ready": True})
    for name in _TABLES:
        if (draft.tables / name).is_file():
            _copy(draft.tables / name, study.tables / name)
    extended = draft.manifest
    study.update_manifest(**{name: extended[name] for name in (*_OWN, "stimuli_lineage") if name in extended})
    draft.discard()
    return True


def is_ready(study: Study) -> bool:
    """Whether an extension has been checked and only has to take the study's place."""
    draft = ExtensionDraft(study.root)
    return draft.manifest_path.is_file() and bool(draft.facts.get("ready"))


def _copy(source: Path, target: Path) -> None:
    """Copy a file atomically."""

    def write(unfinished: Path) -> None:
        shutil.copyfile(source, unfinished)

    write_atomically(target, write)
