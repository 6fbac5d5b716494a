"""Reading a table as its mapping describes it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.dataset import Dataset, derive_sessions, model_facts, unit_facts
from analysis.importing.cells import by_distinct, plain_number, spell_number, to_booleans, to_numbers
from analysis.importing.checks import (
    check_answers,
    check_copies,
    check_labels,
    check_names,
    check_times,
    find_varying,
    has_decimal_names,
    refuse_varying,
    without_decimals,
)
from analysis.importing.faults import FILE, ROW, Faults
from analysis.importing.layout import (
    REMARKS,
    NothingInFile,
    call_files,
    check_columns,
    count_others,
    expand_json,
    fill_down,
    find_files,
    fold,
    join,
    melt,
)
from analysis.importing.mapping import (
    COLUMNS,
    POSITION,
    SESSION_COLUMNS,
    FileLayout,
    Mapping,
    read_mapping,
)
from analysis.importing.rules import MappingRule, TextTable, sources_of
from analysis.importing.schema import conform, convert
from benchmark import __version__, schemas
from benchmark.errors import ImportFailure, suggest
from benchmark.hashing import hash_file
from benchmark.tasks import flip_coins
from benchmark.units import PLANTED, UNIT_COLUMNS, unit_names

DEFAULTS: dict[str, Any] = {
    "observer_kind": "human",
    "session_status": "complete",
    "basis": "neuron",
    "aggregator": "mean",
    "difficulty": "easy",
    "references": "both",
    "task": 0,
}
"""What is taken for granted where a mapping says nothing; the notes of the data set say so."""

_TOLD = {
    "difficulty": "the mapping tells no difficulty: all queries count as easy",
    "references": "the mapping does not tell which references were shown: all trials count as showing both sides",
    "task": "the mapping does not tell the tasks of a unit apart: all answers about a unit count as one task",
}


def import_csv(files: Path | str | Sequence[Path | str], mapping: Path | str | Mapping) -> Dataset:
    """Read a laboratory's table as its mapping describes it.

    Parameters
    ----------
    files
        A file (text, packed text, JSON or Parquet), a folder of them, a pattern, or several of these.
    mapping
        The mapping, or its file.

    Returns
    -------
    The data set.

    Raises
    ------
    ImportFailure
        If something is not as the mapping says: rows are named by number, column and reason.
    DocumentError
        If the mapping itself is wrong.
    """
    beside = Path() if isinstance(mapping, Mapping) else Path(mapping).parent
    given = mapping if isinstance(mapping, Mapping) else read_mapping(mapping)
    paths = find_files(files, given.file.pattern)
    names = call_files(paths)
    sources = {name: hash_file(path) for name, path in names.items()}
    _refuse_identical(sources)
    frame, notes = _read_all(names, given)
    notes += count_others(files, given.file.pattern, mapping)
    table, lacking, more = _reshape(frame, given, beside, sources)
    if not isinstance(mapping, Mapping):
        sources[Path(mapping).name] = hash_file(Path(mapping))
    what = " ".join(list(names)[:3]) + (" …" if paths[3:] else "")
    reading = _Reading(given, table, lacking, what, [*notes, *more], set(frame.columns))
    return reading.dataset(sources)


def _refuse_identical(sources: dict[str, str]) -> None:
    """Check that no file is given twice.

    Raises
    ------
    ImportFailure
        Naming two files that hold the same bytes.
    """
    seen: dict[str, str] = {}
    for name, digest in sources.items():
        other = seen.setdefault(digest, name)
        if other != name:
            raise ImportFailure(
                f"{name} and {other} are identical, so their answers would count twice. Leave one of them out."
            )


def _read_all(names: dict[str, Path], mapping: Mapping) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of all files as one table, and what must be said of them."""
    layout = mapping.file
    parts: dict[str, pd.DataFrame] = {}
    empty: list[str] = []
    notes: list[str] = []
    for name, path in names.items():
        try:
            part = layout.read(path, name)
        except NothingInFile:
            if len(names) == 1:
                raise
            empty.append(name)
            continue
        notes += part.attrs.pop(REMARKS, [])
        if part.empty:
            empty.append(name)
        parts[name] = part
    if empty:
        notes.append(f"{len(empty):,} files without rows are left out: {_some(empty)}")
    if not any(len(part) for part in parts.values()):
        if len(names) == 1:
            raise ImportFailure(f"{next(iter(names))} has a header, but no rows.")
        raise ImportFailure(f"None of the {len(names):,} files holds a row ({_some(empty)}). Export them again.")
    used = [name for _, name in sources_of(mapping.columns)]
    for column in dict.fromkeys(used):
        absent = [name for name, part in parts.items() if len(part) and column not in part.columns]
        if absent and len(absent) < len(parts):
            notes.append(f"{len(absent):,} files have no column {column!r}, which is missing there: {_some(absent)}")
    filled = [part for part in parts.values() if len(part)]
    frame = filled[0] if len(filled) == 1 else pd.concat(filled, ignore_index=True)
    text = [name for name in frame.columns if name != ROW]
    return frame.fillna(dict.fromkeys(text, "")), notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _reshape(
    frame: pd.DataFrame, mapping: Mapping, beside: Path, sources: dict[str, str]
) -> tuple[TextTable, dict[str, NDArray[np.bool_]], list[str]]:
    """Bring the table into one row a trial.

    Returns
    -------
    The table, which rows lack a counterpart in which joined file, and what must be said of optional ones.
    """
    layout = mapping.file
    notes: list[str] = []
    if layout.json_columns:
        frame = expand_json(frame, layout.json_columns)
    if layout.fill:
        frame = fill_down(frame, layout.fill)
    if mapping.wide:
        frame = melt(frame, mapping.wide.pattern)
    if mapping.fold:
        frame = fold(frame, mapping.fold.by, mapping.fold.part)
    lacking: dict[str, NDArray[np.bool_]] = {}
    for entry in mapping.join:
        path = beside / entry.file
        reader = FileLayout(delimiter=entry.delimiter, encoding=entry.encoding, format=entry.format)
        (found,) = find_files(path)
        there = [name for _, name in entry.pairs]
        other = reader.read(found).fillna("")
        other = other.rename(columns={n: entry.prefix + n for n in other.columns if n not in (*there, FILE, ROW)})
        frame, absent = join(frame, other, entry.pairs, entry.file)
        keys = ", ".join(here for here, _ in entry.pairs)
        if absent.all():
            raise ImportFailure(
                f"[[join]] {entry.file}: none of its rows matches a row of the files. Check that both spell {keys} in "
                "the same way."
            )
        if not entry.optional:
            lacking[f"{entry.file} has no row for it ({keys})"] = absent
        elif absent.any():
            notes.append(f"{entry.file} has no row for {int(absent.sum()):,} of {len(absent):,} rows ({keys})")
        sources[found.name] = hash_file(found)
    return TextTable(frame, layout.missing, layout.decimal, layout.thousands), lacking, notes


class _Reading:
    """One table on its way into the schema."""

    def __init__(
        self,
        mapping: Mapping,
        table: TextTable,
        lacking: dict[str, NDArray[np.bool_]],
        what: str,
        notes: Sequence[str] = (),
        own: Collection[str] = (),
    ) -> None:
        self.mapping, self.table = mapping, table
        self.faults = Faults(what, table.frame)
        self.notes: list[str] = list(notes)
        self._own = own
        self._whole_numbers: set[str] = set()
        self._sessions_shared = False
        self._raw_missing: dict[str, pd.Series] = {}
        self._check_sources()
        self.kind = self._kinds()
        self.kept = (self.kind != "drop").to_numpy()
        if not self.kept.any():
            raise ImportFailure(f"{what}: the mapping drops all {len(table):,} rows.")
        for reason, rows in lacking.items():
            self.faults.add(rows & self.kept, "the row", reason)

    def _check_sources(self) -> None:
        """Check that every column that the mapping reads is in the table."""
        mapping = self.mapping
        for target, name in sources_of(mapping.columns):
            check_columns(self.table.frame, [name], f"[columns] {target}")
        for target, name in sources_of(mapping.people):
            check_columns(self.table.frame, [name], f"[people] {target}")
        for target, name in sources_of(mapping.sessions):
            check_columns(self.table.frame, [name], f"[sessions] {target}")
        facts = {name: rules for name in ("depth", "width", "kind") if (rules := getattr(mapping.units, name))}
        for target, name in sources_of(facts):
            check_columns(self.table.frame, [name], f"[units] {target}")
        for number, rule in enumerate(mapping.kinds, start=1):
            check_columns(self.table.frame, rule.where, f"[[kinds]] number {number}")

    def _kinds(self) -> pd.Series:
        """Return the kind of each row."""
        index = self.table.frame.index
        everything = np.ones(len(self.table), dtype=bool)
        if "kind" in self.mapping.columns:
            rules = self.mapping.columns["kind"]
            kind = self.table.evaluate(rules, "kind", self.faults, everything)
            known = ("main", "catch", "practice", "repeated", "drop")
            column = schemas.Column("kind", "string", "what the trial is for", values=known)
            kind = convert(kind, column, self.faults, called=rules[0].called).fillna("main")
            self._count_dropped((kind == "drop").to_numpy(), "")
            return kind
        kind = pd.Series("main", index=index, dtype="str")
        open_rows = everything.copy()
        for rule in self.mapping.kinds:
            here = open_rows & self.table.rows_where(rule.where)
            kind = kind.mask(here, rule.kind)
            if rule.kind == "drop":
                self._count_dropped(here, rule.reason)
            open_rows &= ~here
        return kind

    def _count_dropped(self, rows: NDArray[np.bool_], reason: str) -> None:
        if rows.any():
            self.notes.append(f"{int(rows.sum()):,} rows left out" + (f": {reason}" if reason else ""))

    # ---------------------------------------------------------------- columns

    def _raw(self, target: str) -> pd.Series | None:
        """Return what the mapping's rules make of a target, for the rows that are kept."""
        rules = self.mapping.columns.get(target)
        if rules is None:
            return None
        return self.table.evaluate(rules, target, self.faults, self.kept)[self.kept]

    def _called(self, target: str) -> str:
        return self.mapping.columns[target][0].called if target in self.mapping.columns else ""

    def _column(self, target: str, *, optional: bool = False) -> pd.Series | None:
        """Return a column in the kind that the schema wants; ``optional`` lets cells be missing."""
        values = self._raw(target)
        if values is None:
            return None
        self._raw_missing[target] = values.isna()
        column = POSITION if target == "position" else COLUMNS[target]
        if optional and not column.nullable:
            column = schemas.Column(column.name, column.kind, column.meaning, True, column.values)
        rules = self.mapping.columns[target]
        decimal, thousands = self.table.decimal, self.table.thousands
        if any(rule.value is not None or rule.values or rule.otherwise is not None for rule in rules):
            # What the mapping itself spells has a decimal point.
            numbers, wrong = to_numbers(values, decimal, thousands)
            if column.kind in ("integer", "number") and not wrong.any():
                values = numbers
            decimal, thousands = ".", ""
        return convert(
            values, column, self._kept_faults, called=self._called(target), form=rules[0].time, decimal=decimal,
            thousands=thousands,
        )  # fmt: skip

    def dataset(self, sources: dict[str, str]) -> Dataset:
        """Return the data set, or raise with all that is wrong."""
        origin = self.table.frame.loc[self.kept, [FILE, ROW]]
        self._kept_faults = Faults(self.faults.what, origin)
        mapping = self.mapping
        columns: dict[str, Any] = {"kind": self.kind[self.kept]}
        aside = columns["kind"].isin(("practice", "catch"))
        for target in UNIT_COLUMNS:
            found = self._column(target, optional=True)
            columns[target] = found
        self._complete_units(columns, aside)
        columns["observer"], columns["session"] = self._people_and_sessions()
        for target in ("observer_kind", "condition", "difficulty", "references", "task", "session_status"):
            columns[target] = self._given_or_default(target)
        answers = self._answers()
        columns |= answers
        optional = [column.name for column in COLUMNS.values() if column.nullable]
        for target in optional:
            found = self._column(target)
            if found is not None:
                columns[target] = found
        columns["stimuli_hash"] = self._text_or("stimuli_hash", "unknown")
        columns |= self._attributes(columns["observer"])
        responses = pd.DataFrame(columns, index=origin.index)
        varying = self._check_varying(responses)
        self._raise(varying)
        if varying:
            raise ImportFailure(f"{self.faults.what}: {varying}")
        self._check_rows(responses)
        responses["trial_index"] = self._trial_index(responses)
        self._raise()
        unit = unit_names(responses)
        trial = self._column("trial")
        spelled = (
            unit + "/" + responses["condition"] + "/" + responses["difficulty"] + "/" + responses["task"].astype(str)
        )
        responses["trial"] = spelled if trial is None else trial
        identity = self._column("response_id")
        numbered = origin[FILE].astype(str) + "#" + origin[ROW].astype(str)
        if mapping.wide:
            numbered = numbered + "#" + self.table.frame.loc[self.kept, "trial"]
        responses["response_id"] = f"{mapping.name}:" + numbered if identity is None else identity
        twice = responses["response_id"].duplicated().to_numpy()
        self._kept_faults.add(twice, "'response_id'", "an earlier row has the same", responses["response_id"])
        self._raise()
        if mapping.positions == "unknown":
            responses["query_top"] = _toss(responses["response_id"])
            self.notes.append(
                "which query was on top was not recorded and a coin stands in for it: positions say nothing"
            )
        constant = {"protocol": mapping.protocol, "study": mapping.name, "vimi_version": __version__, "related": False}
        conformed = conform(schemas.RESPONSES, responses.assign(**constant).reset_index(drop=True))
        facts = self._session_facts(responses)
        self._raise()
        return self._assemble(conformed, responses, facts, sources)

    def _assemble(
        self, conformed: pd.DataFrame, responses: pd.DataFrame, facts: pd.DataFrame, sources: dict[str, str]
    ) -> Dataset:
        mapping = self.mapping
        for name, count in self.table.outside.items():
            self.notes.append(f"{count:,} cells of {name} lie outside the limits of the mapping and count as missing")
        given = [f"from {mapping.source}"] if mapping.source else []
        return Dataset(
            name=mapping.name,
            responses=conformed,
            sessions=derive_sessions(conformed, facts),
            units=self._unit_facts(conformed, responses),
            models=self._model_facts(conformed),
            protocol=mapping.protocol,
            notes=tuple(dict.fromkeys([*given, *mapping.notes, *self.notes])),
            sources=sources,
            origin={
                "importer": "mapping",
                "mapping": mapping.model_dump(mode="json", by_alias=True, exclude_unset=True),
                "defaults": {name: value for name, value in DEFAULTS.items() if name not in mapping.columns},
            },
        )

    def _raise(self, besides: str = "") -> None:
        """Raise the errors of both collectors, with further errors of the table."""
        self.faults.absorb(self._kept_faults)
        self.faults.check(besides)

    # ---------------------------------------------------------------- people

    def _people_and_sessions(self) -> tuple[pd.Series, pd.Series]:
        """Return the names of people and of their sessions; a session that several people share is named by both."""
        observer, session = self._raw("observer"), self._raw("session")
        assert observer is not None  # every mapping says it
        people = self._names("observer", observer)
        if session is None:
            return people, people
        sessions = self._names("session", session)
        pairs = pd.DataFrame({"session": sessions, "observer": people}).dropna().drop_duplicates()
        shared = pairs[pairs["session"].duplicated(keep=False)]
        self._sessions_shared = not shared.empty
        if shared.empty:
            return people, sessions
        first = shared["session"].iloc[0]
        names = shared.loc[shared["session"] == first, "observer"].tolist()
        self.notes.append(
            f"{shared['session'].nunique():,} sessions have several observers (first: {first!r} of {names[0]!r} and "
            f"{names[1]!r}): each session is named by its observer too"
        )
        return people, people + "/" + sessions

    def _names(self, target: str, raw: pd.Series) -> pd.Series:
        """Return names of people or sessions, after a look at what programs make of names."""
        self._raw_missing[target] = raw.isna()
        if raw.dtype.kind == "f":
            return self._converted(target, raw)
        if has_decimal_names(raw):
            self._whole_numbers.add(target)
            self.notes.append(f"{self._spelled(target)}: whole numbers such as 1.0 are read as 1")
            raw = without_decimals(raw)
        self.notes += check_names(raw, self._spelled(target), self._kept_faults)
        return self._converted(target, raw)

    def _converted(self, target: str, values: pd.Series) -> pd.Series:
        return convert(values, COLUMNS[target], self._kept_faults, called=self._called(target))

    def _attributes(self, observer: pd.Series) -> dict[str, pd.Series]:
        """Return the declared attributes of people: one value a person."""
        found = {}
        for name, rules in self.mapping.people.items():
            values = self.table.evaluate(rules, name, self.faults, self.kept)[self.kept]
            column = schemas.Column(name, "string", f"the person's {name}", nullable=True)
            values = convert(values, column, self._kept_faults, called=rules[0].called)
            first = values.groupby(observer).transform("first")
            differs = (values.notna() & (values != first)).fillna(False).to_numpy(dtype=bool)
            reason = (
                f"an earlier row of the same observer says another {name}: an attribute of people is one value each"
            )
            self._kept_faults.add(differs, f"{rules[0].called!r} (for {name})", reason, values)
            found[schemas.PERSON + name] = first
            unknown = observer[first.isna()].nunique()
            if unknown:
                self.notes.append(f"{name} is not known of {unknown:,} of {observer.nunique():,} observers")
        return found

    # ---------------------------------------------------------------- checks of the whole table

    def _check_varying(self, responses: pd.DataFrame) -> str:
        """Say which columns vary within a cell without being declared as pooled; the notes name the pooled ones."""
        main = (responses["kind"] == "main").to_numpy()
        if not main.any() or responses["observer"].isna().all():
            return ""
        own = responses[main]
        names = [name for name in own.columns if name not in ("query_top", "choice")]
        answers = own[names].assign(unit=own.groupby(UNIT_COLUMNS, dropna=False).ngroup())
        if self.mapping.positions == "recorded":
            answers["query_top"] = own["query_top"]
        if "confidence" not in answers:
            answers["confidence"] = 0
        mapping = self.mapping
        facts = {name: rules for name in ("depth", "width", "kind") if (rules := getattr(mapping.units, name))}
        known = {
            name
            for rules in (mapping.columns, mapping.people, mapping.sessions, facts)
            for _, name in sources_of(rules)
        }
        known |= {name for rule in mapping.kinds for name in rule.where} | {mapping.file.name}
        known |= set(mapping.file.json_columns) | {name for entry in mapping.join for name, _ in entry.pairs}
        known |= {*mapping.fold.by, mapping.fold.part} if mapping.fold else set()
        known |= {"trial"} if mapping.wide else set()
        rows = self.table.frame.loc[own.index]
        attributes = [name for name in own.columns if str(name).startswith(schemas.PERSON)]
        joined = [name for name in rows.columns if name not in self._own]
        found = find_varying(rows, known, answers, attributes, joined if mapping.join else ())
        pooled = [own for own in found if own.name in mapping.pooled]
        if pooled:
            self.notes.append(f"pooled, as the mapping says: {', '.join(map(str, pooled))}")
        unasked = [own for own in found if own.name not in mapping.pooled]
        return refuse_varying(unasked) if unasked else ""

    def _check_rows(self, responses: pd.DataFrame) -> None:
        """Check that every answer is there once, and that times are milliseconds."""
        mapping = self.mapping
        people = (responses["observer_kind"] == "human") & (responses["kind"] == "main")
        times = responses.get("rt_ms")
        if times is not None:
            self.notes += check_times(times[people], self.faults.what)
        told_by_name = {
            name
            for target in ("observer", "session")
            for _, name in sources_of({target: mapping.columns[target]} if target in mapping.columns else {})
        }
        rows = self.table.frame.loc[responses.index]
        files = rows[FILE]
        rows = rows.drop(columns=[name for name in (FILE, ROW, mapping.file.name) if name in rows])
        named = bool(mapping.file.name) and mapping.file.name in told_by_name
        self.notes += check_copies(rows, files, times, named, self._kept_faults)
        self.notes += check_labels(responses)

    def _given_or_default(self, target: str) -> pd.Series:
        values = self._column(target)
        if values is not None:
            return values
        if target in _TOLD:
            self.notes.append(_TOLD[target])
        return self._constant(DEFAULTS[target])

    def _text_or(self, target: str, default: str) -> pd.Series:
        values = self._column(target)
        return self._constant(default) if values is None else values

    def _constant(self, value: Any) -> pd.Series:
        return pd.Series(value, index=self.table.frame.index[self.kept])

    def _complete_units(self, columns: dict[str, Any], aside: pd.Series) -> None:
        """Fill what practice and catch trials do not say of their units; other trials must say it."""
        stand_in = {"model": PLANTED, "layer": columns["kind"], "index": 0, **DEFAULTS}
        for target in UNIT_COLUMNS:
            if columns[target] is None:
                columns[target] = self._constant(stand_in[target])
                continue
            values = columns[target]
            holes = values.isna()
            filled = holes & aside
            if filled.any():
                values = values.mask(filled, stand_in[target])
            reason = f"it is needed ({COLUMNS[target].meaning})"
            lost = (self._raw_missing[target] & ~aside).to_numpy()
            self._kept_faults.add(lost, self._spelled(target), reason, values)
            columns[target] = values

    def _spelled(self, target: str) -> str:
        called = self._called(target)
        return f"{called!r} (for {target})" if called and called != target else repr(target)

    # ---------------------------------------------------------------- answers

    def _answers(self) -> dict[str, pd.Series]:
        """Return choice, query_top and correct, from whatever tells them, checked against each other."""
        index = self.table.frame.index[self.kept]
        nothing = pd.Series(pd.NA, index=index, dtype="boolean")
        told: list[tuple[str, pd.Series]] = []  # whether the maximal query was chosen
        correct = self._column("correct", optional=True)
        if correct is not None:
            told.append((f"{self._spelled('correct')} says {{}}", correct.astype("boolean")))
        choice = self._column("choice", optional=True)
        if choice is not None:
            told.append((f"{self._spelled('choice')} says {{}}", _equals(choice, "max")))
        answer, right = self._raw("answer"), self._raw("right_answer")
        if answer is not None and right is not None:
            given, target = _alike(answer, right, self.table.decimal, self.table.thousands)
            same = (given == target).astype("boolean")
            called = self._spelled("answer"), self._spelled("right_answer")
            self.notes += check_answers(given, target, called, self.faults.what)
            told.append((f"{self._spelled('answer')} against {self._spelled('right_answer')} says {{}}", same))
        top = self._column("query_top", optional=True)
        top_max = nothing if top is None else _equals(top, "max")
        position = self._column("position", optional=True)
        upper = nothing if position is None else _equals(position, "upper")
        told.append(("the position that was chosen says {}", (upper == top_max).mask(upper.isna() | top_max.isna())))
        chosen_max = told[0][1]
        for said, values in told[1:]:
            contradiction = (values != chosen_max).fillna(False).to_numpy(dtype=bool)
            for verdict in (True, False):
                here = contradiction & values.eq(verdict).fillna(False).to_numpy(dtype=bool)
                words = {True: "right", False: "wrong"}
                first = told[0][0].format(words[not verdict])
                self._kept_faults.add(here, "the answer", f"{first}, but {said.format(words[verdict])}")
            chosen_max = chosen_max.fillna(values)
        derived = (upper == chosen_max).mask(upper.isna() | chosen_max.isna())
        top_max = top_max.fillna(derived)
        unanswered = chosen_max.isna().to_numpy()
        known = unanswered & ~self._kept_faults.rows()
        self._kept_faults.add(
            known,
            "the answer",
            "nothing says whether it is right; leave trials without an answer out by a rule in [[kinds]]: "
            'kind = "drop"',
        )
        if self.mapping.positions == "recorded":
            untold = top_max.isna().to_numpy() & ~unanswered & ~self._kept_faults.rows()
            self._kept_faults.add(untold, "the answer", "nothing says which query was on top")
        chosen = chosen_max.fillna(False).astype(bool)
        return {
            "choice": pd.Series(np.where(chosen, "max", "min"), index=index),
            "correct": chosen,
            "query_top": pd.Series(np.where(top_max.fillna(False).astype(bool), "max", "min"), index=index),
        }

    # ---------------------------------------------------------------- order and facts

    def _trial_index(self, responses: pd.DataFrame) -> pd.Series:
        """Return each row's position in its session: as mapped, or by the order of the rows."""
        given = self._column("trial_index")
        if given is None:
            return responses.groupby("session", sort=False).cumcount()
        twice = pd.DataFrame({"session": responses["session"], "trial_index": given}).duplicated().to_numpy()
        self._kept_faults.add(twice, self._spelled("trial_index"), "an earlier row of the session has the same", given)
        return given.astype("Int64")

    def _session_facts(self, responses: pd.DataFrame) -> pd.DataFrame:
        """Return facts of sessions by the rules; rows that are not trials are used, too."""
        mapping = self.mapping
        every = np.ones(len(self.table), dtype=bool)
        session = responses["session"].reindex(self.table.frame.index)
        if not self.kept.all():
            session = session.fillna(self._session_everywhere(every))
        facts = pd.DataFrame({"session": pd.unique(responses["session"])})
        for target, rules in mapping.sessions.items():
            column = SESSION_COLUMNS[target]
            values = self.table.evaluate(rules, target, self.faults, every)
            taken = self._take(values, session, rules[0], target)
            facts[target] = facts["session"].map(taken)
            origin = pd.DataFrame({FILE: "session " + facts["session"].astype(str), ROW: 0})
            local = Faults(self.faults.what, origin)
            nullable = schemas.Column(column.name, column.kind, column.meaning, True, column.values)
            facts[target] = convert(facts[target], nullable, local, called=rules[0].called, form=rules[0].time)
            local.check()
        return facts

    def _session_everywhere(self, every: NDArray[np.bool_]) -> pd.Series:
        """Return the session of every row, also of those that are dropped; what is wrong there was said elsewhere."""
        silent = Faults("", self.table.frame)
        parts = {}
        for target in ("observer", "session"):
            if target in self.mapping.columns:
                own = self.table.evaluate(self.mapping.columns[target], target, silent, every)
                parts[target] = without_decimals(own) if target in self._whole_numbers else own
        if "session" not in parts:
            return parts["observer"]
        return parts["observer"] + "/" + parts["session"] if self._sessions_shared else parts["session"]

    def _take(self, values: pd.Series, session: pd.Series, rule: MappingRule, target: str) -> pd.Series:
        """Return one value a session."""
        if rule.take in ("sum", "mean", "least", "most", "span", "count"):
            if rule.take == "count":
                return values.groupby(session).count()
            numbers, wrong = to_numbers(values, self.table.decimal, self.table.thousands)
            self.faults.add(wrong, f"{rule.called!r} (for {target})", "no number", values)
            grouped = numbers.groupby(session)
            if rule.take == "span":
                return grouped.max() - grouped.min()
            if rule.take == "sum":
                return grouped.sum(min_count=1)
            return {"mean": grouped.mean, "least": grouped.min, "most": grouped.max}[rule.take]()
        grouped = values.groupby(session)
        if rule.take == "only":
            first = session.map(grouped.first())
            differs = (values.notna() & (values != first) & session.notna()).to_numpy(dtype=bool)
            reason = "an earlier row of the session says something else; say with take which counts"
            self.faults.add(differs, f"{rule.called!r} (for {target})", reason, values)
        return grouped.last() if rule.take == "last" else grouped.first()

    def _unit_facts(self, conformed: pd.DataFrame, responses: pd.DataFrame) -> pd.DataFrame:
        table = unit_facts(conformed)
        unit = unit_names(conformed).to_numpy()
        for target, low, high in (("depth", 0.0, 1.0), ("width", 1.0, np.inf), ("kind", 0.0, 0.0)):
            rules = getattr(self.mapping.units, target)
            if rules is None:
                continue
            values = self.table.evaluate(rules, f"{target} of units", self.faults, self.kept)[self.kept]
            if target != "kind":
                raw = values
                values, wrong = to_numbers(values, self.table.decimal, self.table.thousands)
                wrong = wrong | (values < low).to_numpy() | (values > high).to_numpy()
                self._kept_faults.add(wrong, f"{rules[0].called!r} (for {target} of units)", "no such number", raw)
            values = values.set_axis(unit)
            first = values.groupby(level=0).first()
            differs = (values.notna() & (values != first.reindex(unit))).to_numpy(dtype=bool)
            reason = "an earlier row of the unit says something else"
            self._kept_faults.add(differs, f"{rules[0].called!r} (for {target} of units)", reason, values.to_numpy())
            table[target] = table["unit"].map(first)
        self._raise()
        return table.assign(kind=table["kind"].fillna("").astype("str"))

    def _model_facts(self, responses: pd.DataFrame) -> pd.DataFrame:
        table = model_facts(responses["model"].unique()).set_index("model")
        for name, entry in self.mapping.models.items():
            if name not in table.index:
                raise ImportFailure(f"[models.{name}]: no answer is about {name!r}. {suggest(name, table.index)}")
            for fact, value in entry.model_dump(exclude_none=True).items():
                table.loc[name, fact] = value
        return table.reset_index()


def _equals(values: pd.Series, wanted: str) -> pd.Series:
    return (values == wanted).astype("boolean").mask(values.isna())


def _alike(answer: pd.Series, right: pd.Series, decimal: str, thousands: str) -> tuple[pd.Series, pd.Series]:
    """Return answers and the right ones in one spelling, both missing where either is.

    What the cells are is decided once, for both columns together: truth values, numbers, or else text, whose case does
    not matter.
    """
    nothing = answer.isna() | right.isna()
    both = pd.concat([_text(answer, decimal), _text(right, decimal)], ignore_index=True)
    truths, wrong = to_booleans(both)
    if not wrong.any():
        compared: pd.Series = truths.astype("str")
    elif not to_numbers(both, decimal, thousands)[1].any():
        spelled = both.str.replace(thousands, "", regex=False) if thousands else both
        compared = by_distinct(spelled.str.replace(decimal, ".", regex=False), plain_number)
    else:
        compared = both.str.casefold()
    first, second = compared.iloc[: len(answer)], compared.iloc[len(answer) :]
    return (
        pd.Series(first.to_numpy(), index=answer.index, dtype="string").mask(nothing),
        pd.Series(second.to_numpy(), index=answer.index, dtype="string").mask(nothing),
    )


def _text(values: pd.Series, decimal: str) -> pd.Series:
    """Return cells as text, numbers that rules have made as the file spells numbers."""
    if values.dtype.kind != "f":
        return values.astype("str")
    return by_distinct(values, lambda number: spell_number(number).replace(".", decimal))


def _toss(identities: pd.Series) -> NDArray[np.str_]:
    """Return which query counts as the upper one where nobody knows: drawn from a hash of the answer's identity."""
    return np.where(flip_coins(identities.tolist(), "position unknown"), "max", "min")
