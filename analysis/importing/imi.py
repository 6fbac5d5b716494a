"""The data set of the 2023 paper (IMI, Zenodo 8131197): its table of human responses, as released.

One row is one answer, practice and catch trials included; facts of a session are repeated in its rows. What the file
spells in its own way is spelled in vimi's here: models by the names of vimi's cards, ``optimized`` as synthetic,
``_hard85`` (queries from the .15 quantile) as very hard, ``_hard95`` (.05) as hard, ``_hard99`` (.01) as medium, choice
``a`` and ``b`` as the minimal and the maximal query. In the first version of the release the synthetic hard trials of
ResNet-50 carry its plain name: the task's name, which every row has, tells them apart.

The pickles beside the tables are never read.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.dataset import Dataset, derive_sessions, model_facts, unit_facts
from analysis.importing.cells import by_distinct, to_booleans, to_integers, to_numbers
from analysis.importing.faults import FILE, ROW, Faults
from analysis.importing.schema import conform
from benchmark import __version__, schemas
from benchmark.errors import ImportFailure, suggest
from benchmark.hashing import hash_file
from benchmark.units import PLANTED, unit_names

NAME = "imi2023"
PROTOCOL = "imi2023"
SOURCE = "Zimmermann, Klein & Brendel (2023), human responses of the IMI data set (Zenodo 8131197)"

Table = Literal["main", "all", "lower_quality"]

MODELS = {
    "googlenet": "googlenet",
    "inceptionv1": "googlenet",
    "densenet201": "densenet201",
    "densenet_201": "densenet201",
    "resnet50": "resnet50",
    "resnet50_l2": "resnet50_l2",
    "resnet50_robust": "resnet50_l2",
    "robust_resnet50": "resnet50_l2",
    "clip_resnet50": "clip_resnet50",
    "wide_resnet50": "wide_resnet50",
    "wide_resnet50_2": "wide_resnet50",
    "vit_b32": "vit_b32",
    "in1k_vit_b32": "vit_b32",
    "clip_vit_b32": "clip_vit_b32",
    "convnext_b": "convnext_b",
}
"""Names of models in the release, with hyphens as underscores, and the names of vimi's cards."""

CONDITIONS = {"natural": "natural", "optimized": "synthetic", "synthetic": "synthetic"}

DIFFICULTIES = {"": "easy", "85": "very_hard", "95": "hard", "99": "medium"}
"""Quantile of the queries in percent, as the suffix of a model's or a task's name has it."""

NEEDED = (
    "rt", "button_pressed", "switched_queries", "confidence", "choice", "correct", "min_query", "max_query",
    "catch_trial", "is_demo", "trial_index", "response_index", "participant_id", "task_id", "batch", "channel", "layer",
    "mode", "model", "passed_checks", "multi_participation", "instruction_time_details_extracted",
    "total_response_time_details_extracted", "catch_trials_details_ratio_extracted", "demo_trials_details_extracted",
)  # fmt: skip
"""Columns that are read, of the 45."""

_TASK = re.compile(r"(?P<name>.*?)[-_](?P<number>\d+)")
_HARD = re.compile(r"[-_]hard[-_]?(?P<percent>\d+)")
_MODE = re.compile(r"[-_](?P<mode>natural|optimized|synthetic)(?=[-_]|$)")
_ANONYMOUS = ("anonymized", "anonymised", "")


def import_imi(path: Path | str, *, table: Table = "main") -> Dataset:
    """Read the human responses of the 2023 release.

    Parameters
    ----------
    path
        A table of responses (``responses_main.csv``, which may be packed), the folder ``human_responses`` or the
        folder of the release.
    table
        Which table of a folder: the answers that the paper analyses, all answers, or those of lower quality.

    Returns
    -------
    The data set.

    Raises
    ------
    ImportFailure
        If there is no such table, or its rows are not as the release has them: rows are named by number, column and
        reason.
    """
    file = _find(Path(path), table)
    frame = _read(file)
    return _Release(file, frame).dataset()


def _find(path: Path, table: Table) -> Path:
    if path.suffix in (".pkl", ".pickle"):
        raise ImportFailure(
            f"{path} is a pickle. Reading one can run code, so vimi reads none. Give the .csv beside it."
        )
    if path.is_file():
        return path
    if not path.exists():
        raise ImportFailure(f"There is no file or folder {path}.")
    names = [f"responses_{table}.csv", f"responses_{table}.csv.gz"]
    offered = [folder / name for folder in (path, path / "human_responses") for name in names]
    for candidate in offered:
        if candidate.is_file():
            return candidate
    raise ImportFailure(f"{path} holds no {names[0]}, and no human_responses/{names[0]}. Give the file itself.")


def _read(file: Path) -> pd.DataFrame:
    """Read the columns that are needed, as text; columns of few values as categories."""
    import pyarrow as pa
    from pyarrow import csv

    few = pa.dictionary(pa.int32(), pa.string())
    # Packed files are recognised by their ending.
    try:
        with pa.input_stream(str(file), compression="detect") as stream, csv.open_csv(stream) as reader:
            header = reader.schema.names
        missing = [name for name in NEEDED if name not in header]
        if missing:
            raise ImportFailure(
                f"{file}: the column {missing[0]!r} of the release is missing. {suggest(missing[0], header)} Read a "
                "table of another shape with vimi import-csv and a mapping."
            )
        twice = [name for name in NEEDED if header.count(name) > 1]
        if twice:
            raise ImportFailure(f"{file}: two columns are called {twice[0]!r}. Remove one of them.")
        types = {name: pa.string() if name in ("rt", "trial_index") else few for name in NEEDED}
        table = csv.read_csv(
            str(file) if file.suffix == ".csv" else pa.input_stream(str(file), compression="detect"),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                include_columns=list(NEEDED), column_types=types, strings_can_be_null=True,
                null_values=["", "NA", "NaN", "nan", "None", "null"], quoted_strings_can_be_null=True,
            ),
        )  # fmt: skip
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise ImportFailure(f"{file} can't be read as a table of comma-separated values: {error}") from None
    if not table.num_rows:
        raise ImportFailure(f"{file} has a header, but no rows.")
    frame = table.to_pandas(split_blocks=True)
    return frame.assign(**{FILE: file.name, ROW: np.arange(2, len(frame) + 2)})


class _Release:
    """The table on its way into the schema."""

    def __init__(self, file: Path, frame: pd.DataFrame) -> None:
        self.file, self.frame = file, frame
        self.faults = Faults(str(file), frame)
        self.notes: list[str] = []

    def dataset(self) -> Dataset:
        """Return the data set, or raise with all that is wrong."""
        frame = self.frame
        practice, catch = self._truth("is_demo"), self._truth("catch_trial")
        kind = np.where(practice, "practice", np.where(catch, "catch", "main"))
        main = kind == "main"
        task = self._tasks()
        session, codes = self._sessions()
        columns: dict[str, Any] = {"kind": kind, "session": session, "observer": self._observers(session)}
        first = columns["observer"].groupby(codes).transform("first")
        other = (columns["observer"] != first).to_numpy(dtype=bool)
        reason = "an earlier row of the same task and response is another participant's"
        self.faults.add(other, "'participant_id'", reason, frame["participant_id"])
        columns |= self._units(task, main, kind)
        columns |= self._conditions(task, main, codes)
        columns |= self._answers()
        numbers, wrong = to_numbers(frame["rt"])
        self.faults.add(wrong | (numbers < 0).to_numpy(), "'rt'", "no time in milliseconds", frame["rt"])
        columns["rt_ms"] = numbers
        order = self._numbers("trial_index")
        self.faults.check()
        columns["trial_index"] = _rank(codes, order)
        table = pd.DataFrame(columns)
        identity = session.to_numpy(dtype=object) + ("#" + order.astype(np.int64).astype(str)).to_numpy(dtype=object)
        twice = pd.Series(identity).duplicated().to_numpy()
        self.faults.add(twice, "'trial_index'", "an earlier row of the session has the same", frame["trial_index"])
        self.faults.check()
        spelled = unit_names(table)
        constant = {
            "response_id": identity, "protocol": PROTOCOL, "study": NAME, "observer_kind": "human", "related": False,
            "session_status": "complete", "references": "both", "vimi_version": __version__,
            "stimuli_hash": "unknown", "trial": spelled + "/" + _together(table, ["condition", "difficulty", "task"]),
        }  # fmt: skip
        responses = conform(schemas.RESPONSES, table.assign(**constant))
        if responses["kind"].eq("main").sum() == 0:
            raise ImportFailure(f"{self.file} holds no main trials: all rows are practice or catch trials.")
        untold = main & (task["percent"] != "").to_numpy() & (self._model_percent() == "").to_numpy()
        if untold.any():
            self.notes.append(
                f"the difficulty of {int(untold.sum()):,} main trials stands in task_id alone, not in the name of the "
                "model"
            )
        return Dataset(
            name=NAME,
            responses=responses,
            sessions=derive_sessions(responses, self._session_facts(session, codes)),
            units=unit_facts(responses),
            models=model_facts(responses["model"].unique()),
            protocol=PROTOCOL,
            notes=(f"from {SOURCE}", *self.notes),
            sources={self.file.name: hash_file(self.file)},
            origin={"importer": "imi", "table": self.file.name},
        )

    # ---------------------------------------------------------------- cells

    def _truth(self, name: str) -> NDArray[np.bool_]:
        values, wrong = to_booleans(self.frame[name])
        self.faults.add(wrong | values.isna().to_numpy(), repr(name), "neither true nor false", self.frame[name])
        truths: NDArray[np.bool_] = values.fillna(False).to_numpy(dtype=bool)
        return truths

    def _numbers(self, name: str) -> pd.Series:
        values, wrong = to_integers(self.frame[name])
        wrong = wrong | values.isna().to_numpy() | (values < 0).fillna(False).to_numpy(dtype=bool)
        self.faults.add(wrong, repr(name), "no whole number from 0", self.frame[name])
        return values.fillna(0)

    # ---------------------------------------------------------------- who and what

    def _tasks(self) -> pd.DataFrame:
        """Return what the name of a task tells, one row an answer: model, mode and hardness in percent."""
        names = self.frame["task_id"].cat.categories
        codes = self.frame["task_id"].cat.codes.to_numpy()
        rows = []
        for name in names:
            text = str(name)
            found = _TASK.fullmatch(text)
            base = found["name"] if found else text
            hard = _HARD.search(base)
            percent = hard["percent"] if hard else ""
            base = _HARD.sub("", base)
            mode = _MODE.search(base)
            model = _MODE.sub("", base).replace("-", "_").strip("_").casefold()
            rows.append((_known_model(model), CONDITIONS.get(mode["mode"] if mode else "", ""), percent))
        rows.append(("", "", ""))  # code -1: no name
        distinct = pd.DataFrame(rows, columns=["model", "condition", "percent"], dtype="str")
        facts = distinct.take(codes % len(rows)).reset_index(drop=True)
        self.faults.add(codes < 0, "'task_id'", "every answer belongs to a task", self.frame["task_id"])
        wrong = ~facts["percent"].isin(DIFFICULTIES).to_numpy()
        self.faults.add(
            wrong, "'task_id'", "no difficulty of the release: hard85, hard95, hard99", self.frame["task_id"]
        )
        return facts

    def _model_percent(self) -> pd.Series:
        def percent(name: str) -> str:
            found = _HARD.search(str(name))
            return found["percent"] if found else ""

        return by_distinct(self.frame["model"], percent).fillna("")

    def _sessions(self) -> tuple[pd.Series, NDArray[np.int64]]:
        """Return each row's session, a response to a task, and its number.

        Participants of the first version are all called alike: the task and the number of its response tell sessions
        apart, in every version.
        """
        task, response = self.frame["task_id"], self.frame["response_index"]
        self.faults.add(
            response.isna().to_numpy(), "'response_index'", "it tells the sessions of a task apart", response
        )
        several = len(response.cat.categories) + 1
        pairs = task.cat.codes.to_numpy(dtype=np.int64) * several + response.cat.codes.to_numpy()
        codes, distinct = pd.factorize(pairs)
        tasks, responses = [*task.cat.categories, "?"], [*map(_whole, response.cat.categories), "?"]
        names = [
            f"{tasks[(pair - pair % several) // several]}/{responses[pair % several]}" for pair in distinct.tolist()
        ]
        return pd.Series(pd.array(names, dtype="str").take(codes)), codes

    def _observers(self, session: pd.Series) -> pd.Series:
        person = by_distinct(self.frame["participant_id"], str)
        unnamed = person.isna() | person.str.casefold().isin(_ANONYMOUS)
        if unnamed.any():
            self.notes.append("participants are anonymous: each session counts as another person's")
        return person.mask(unnamed, session)

    def _units(self, task: pd.DataFrame, main: NDArray[np.bool_], kind: NDArray[np.str_]) -> dict[str, Any]:
        frame = self.frame
        said = frame["model"]

        def model_of(name: str) -> str | None:
            return _known_model(_HARD.sub("", str(name)).replace("-", "_").casefold()) or None

        model = by_distinct(said, model_of)
        unknown = (model.isna() & said.notna()).to_numpy() & main
        self.faults.add(
            unknown, "'model'", f"no model of the release. Known: {', '.join(sorted(set(MODELS.values())))}", said
        )
        # The task's name tells the model too, in versions that leave the column empty.
        model = model.fillna(task["model"].mask(task["model"] == ""))
        self.faults.add(
            (model.isna() & said.isna()).to_numpy() & main, "'model'", "neither it nor task_id tells one", said
        )
        other = (model != task["model"]).to_numpy() & (task["model"] != "").to_numpy() & main & ~unknown
        self.faults.add(other & model.notna().to_numpy(), "'model'", "task_id names another model", said)
        layer = frame["layer"]
        self.faults.add(layer.isna().to_numpy() & main, "'layer'", "every main trial is about a unit", layer)
        layer = by_distinct(layer, lambda name: str(name).replace("/", ".").replace("@", "."))
        index, wrong = to_integers(by_distinct(frame["channel"], _last_number))
        self.faults.add(
            (index.isna().to_numpy() | wrong) & main, "'channel'", "no number of a channel", frame["channel"]
        )
        # Catch and practice trials are hand-picked; what they show is distinguished by their pictures where need be.
        shown = frame["max_query"].cat
        places = np.append(np.argsort(np.argsort(shown.categories.to_numpy(dtype=object))), 0)[shown.codes]
        index = index.fillna(pd.Series(places, dtype="Int64"))
        batch, _ = to_integers(by_distinct(frame["batch"], _last_number))
        self.faults.add(batch.isna().to_numpy() & main, "'batch'", "no number of a batch", frame["batch"])
        return {
            "model": model.where(main, PLANTED).fillna(PLANTED),
            "layer": layer.fillna(pd.Series(kind, index=layer.index, dtype="str")),
            "basis": "neuron",
            "index": index.to_numpy(dtype=np.int64),
            "aggregator": "mean",
            "task": batch.where(main, 0).fillna(0).astype(np.int64),
        }

    def _conditions(
        self, task: pd.DataFrame, main: NDArray[np.bool_], codes: NDArray[np.int64]
    ) -> dict[str, pd.Series]:
        """Return condition and difficulty; practice and catch trials are as the main trials of their session."""
        mode = self.frame["mode"]
        condition = by_distinct(mode, lambda name: CONDITIONS.get(str(name)))
        unknown = main & condition.isna().to_numpy() & mode.notna().to_numpy()
        self.faults.add(unknown, "'mode'", "main trials are natural or optimized", mode)
        told = task["condition"].mask(task["condition"] == "")
        other = main & (condition != told).fillna(False).to_numpy(dtype=bool) & told.notna().to_numpy()
        self.faults.add(other & condition.notna().to_numpy(), "'mode'", "task_id names another condition", mode)
        own = condition.where(main).fillna(told)
        session = own.groupby(codes).transform("first")
        self.faults.add(
            session.isna().to_numpy() & ~unknown,
            "'mode'",
            "neither it nor the rest of the session tells a condition",
            mode,
        )
        percent = self._model_percent()
        percent = percent.mask(percent == "", task["percent"])
        clash = main & (task["percent"] != "").to_numpy() & (percent != task["percent"]).to_numpy()
        self.faults.add(clash, "'model'", "task_id names another difficulty", self.frame["model"])
        unlisted = main & ~percent.isin(DIFFICULTIES).to_numpy()
        self.faults.add(
            unlisted, "'model'", "no difficulty of the release: hard85, hard95, hard99", self.frame["model"]
        )
        difficulty = percent.map(DIFFICULTIES).where(main)
        difficulty = (
            difficulty.groupby(codes).transform("first").fillna(task["percent"].map(DIFFICULTIES)).fillna("easy")
        )
        return {"condition": own.where(main).fillna(session).fillna("natural"), "difficulty": difficulty}

    # ---------------------------------------------------------------- answers

    def _answers(self) -> dict[str, Any]:
        frame = self.frame
        choice = by_distinct(frame["choice"], {"a": "min", "b": "max"}.get)
        self.faults.add(choice.isna().to_numpy(), "'choice'", "it must be a (minimal) or b (maximal)", frame["choice"])
        correct = self._truth("correct")
        chose_max = (choice == "max").to_numpy(dtype=bool)
        wrong = (chose_max != correct) & choice.notna().to_numpy()
        self.faults.add(wrong, "'correct'", "the choice says otherwise: b is right, a is wrong", frame["correct"])
        top_max = self._truth("switched_queries")
        confidence, bad = to_integers(frame["confidence"])
        bad = bad | ~confidence.isin([1, 2, 3]).to_numpy() & confidence.notna().to_numpy(dtype=bool)
        self.faults.add(bad, "'confidence'", "confidence is 1, 2 or 3", frame["confidence"])
        self._check_buttons(chose_max == top_max)
        return {
            "query_top": np.where(top_max, "max", "min"),
            "choice": np.where(chose_max, "max", "min"),
            "correct": correct,
            "confidence": confidence,
        }

    def _check_buttons(self, upper: NDArray[np.bool_]) -> None:
        """Compare the button with what was chosen: 0 to 2 stand at the upper query, 3 to 5 at the lower one."""
        button, wrong = to_integers(self.frame["button_pressed"])
        outside = wrong | (~button.isin(range(6)).to_numpy() & button.notna().to_numpy(dtype=bool))
        self.faults.add(outside, "'button_pressed'", "buttons are 0 to 5", self.frame["button_pressed"])
        pressed_upper = (button <= 2).fillna(False).to_numpy(dtype=bool)
        differs = (pressed_upper != upper) & button.notna().to_numpy(dtype=bool) & ~outside
        if differs.any():
            first = ", ".join(self.faults.name_row(row) for row in np.flatnonzero(differs)[:3].tolist())
            self.notes.append(
                f"in {int(differs.sum()):,} of {len(differs):,} rows the button lies at another query than the one "
                f"that choice and switched_queries tell ({first}{', …' if differs.sum() > 3 else ''}); the score goes "
                "by the choice, and positions are to be used with care"
            )

    # ---------------------------------------------------------------- sessions

    def _session_facts(self, session: pd.Series, codes: NDArray[np.int64]) -> pd.DataFrame:
        """Return the facts of each session, which the release repeats in its rows."""
        first = pd.Series(codes).drop_duplicates().index
        rows = self.frame.iloc[first]

        def number(name: str) -> pd.Series:
            values, wrong = to_numbers(rows[name])
            everywhere = np.zeros(len(self.frame), dtype=bool)
            everywhere[first] = wrong
            self.faults.add(everywhere, repr(name), "no number", self.frame[name])
            return values

        passed, _ = to_booleans(rows["passed_checks"])
        ratio = number("catch_trials_details_ratio_extracted")
        known = [
            {name: value for name, value in (("passed_checks", check), ("catch_ratio", share)) if not pd.isna(value)}
            for check, share in zip(passed, ratio)
        ]
        spelled = [
            json.dumps({"release": {k: v if k == "catch_ratio" else bool(v) for k, v in facts.items()}})
            for facts in known
        ]
        several, _ = to_booleans(rows["multi_participation"])
        facts = pd.DataFrame(
            {
                "session": session.iloc[first].to_numpy(),
                "total_seconds": number("total_response_time_details_extracted").to_numpy(),
                "instruction_seconds": number("instruction_time_details_extracted").to_numpy(),
                "practice_attempts": number("demo_trials_details_extracted").round().to_numpy(),
                "earlier_participation": several.fillna(False).to_numpy(dtype=bool),
                "evidence": spelled,
            }
        )
        self.faults.check()
        return facts


def _known_model(name: str) -> str:
    """Return the card's name of a model of the release, or nothing: dates and the like may stand behind it."""
    while name and name not in MODELS:
        shorter = re.sub(r"_\d+$", "", name)
        if shorter == name:
            return ""
        name = shorter
    return MODELS.get(name, "")


def _last_number(cell: str) -> str | None:
    """Return the number at the end of a cell: 17 of ``channel_17``, 3 of ``batch_3`` or ``3.0``; -1 of ``-1``."""
    found = re.search(r"(?:^(-)|[^\d])?(\d+)(?:\.0+)?$", str(cell).strip())
    return f"{found[1] or ''}{found[2]}" if found else None


def _whole(cell: str) -> str:
    return re.sub(r"\.0+$", "", str(cell))


def _rank(codes: NDArray[np.int64], order: pd.Series) -> NDArray[np.int64]:
    """Return each row's position in its session, from 0, by an order that may have gaps."""
    sequence = np.lexsort((order.to_numpy(dtype=np.int64), codes))
    grouped = codes[sequence]
    starts = np.flatnonzero(np.concatenate([[True], grouped[1:] != grouped[:-1]]))
    lengths = np.diff(np.append(starts, len(codes)))
    ranks = np.empty(len(codes), dtype=np.int64)
    ranks[sequence] = np.arange(len(codes)) - np.repeat(starts, lengths)
    return ranks


def _together(table: pd.DataFrame, names: list[str]) -> pd.Series:
    """Return columns as one, joined by slashes."""
    result = table[names[0]].astype("str")
    for name in names[1:]:
        result = result + "/" + table[name].astype("str")
    return result
