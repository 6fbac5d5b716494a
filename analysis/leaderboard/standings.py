"""The leaderboard: from result files to tables of models, with ranks, groups that can't be distinguished, and validity.

Everything here is read from result files. A table holds what may be compared: one protocol, one pool, one condition,
one difficulty, one way to make the stimuli. Within it, ranks are given for each observer by itself, to the rows that
may be ranked; every other row says what it lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.comparison.ranks import Ranks, rank_models, rank_values
from analysis.intervals.means import ROUNDING
from analysis.leaderboard.result import (
    MachineCounts,
    ModelFacts,
    PoolFacts,
    ProtocolFacts,
    Result,
    Score,
    StimulusFacts,
    Subject,
    iterate_scores,
    present_results,
)
from analysis.leaderboard.scores import (
    CONTROLS,
    PEOPLE,
    QUANTITIES,
    counted_judgements,
    is_computed_anew,
    merged_people_scores,
    with_todays_intervals,
)
from analysis.leaderboard.validity import ValidityCheck, check_validity
from analysis.results import AnalysisResult, spread_out
from benchmark.errors import AnalysisError, LeaderboardError, NameNotFound
from benchmark.estimate import Estimate
from benchmark.observers.base import LOW_LEVEL
from benchmark.plumbing import PLUMBING
from benchmark.progress import Reporter
from benchmark.protocol import load_protocol

if TYPE_CHECKING:
    from analysis.leaderboard.sections import LeaderboardSection

PUBLISHED = "published"
"""Observer of imported scores: the people whom a paper asked."""

NATURAL = "natural"
"""The condition whose references and queries depend on the size of the pool: a rank needs that to be measured."""

LEAST_COUNTED = 0.5
"""Share of a protocol's units that a ranked number rests on at least. Flagged units are left out of all numbers, and a
rank must not be had by flagging those that nobody understands.
"""

_KINDS = {"human": 0, "published": 1, "simulated": 2, "machine": 3}


@dataclass(frozen=True)
class Standing:
    """A model's scores and rank in a table, by one observer.

    Attributes
    ----------
    observer_kind, observer
        Who answered: ``human`` and ``people``, or ``machine`` and the observer's name.
    headline
        What ranks go by: people's proportion correct, a machine's excess over the low-level observer.
    quantity
        Which of the two it is: ``score`` or ``excess``.
    score
        Proportion correct.
    rank
        Rank among the rows that may be ranked, with its simultaneous confidence set; None if this one may not.
    groups
        Letters of the groups of rows that are indistinguishable.
    missing
        What keeps it from a rank, in words; empty if nothing does.
    units, answers
        Units that it rests on, and answers about them.
    quantities
        Every other number of this observer: ``twin``, ``trained_minus_twin``, ``mis``, ``noise_ceiling``, …
    """

    observer_kind: str
    observer: str
    quantity: str
    headline: Estimate
    score: Estimate
    units: int
    answers: int
    missing: tuple[str, ...] = ()
    rank: Estimate | None = None
    groups: str = ""
    quantities: dict[str, Estimate] | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Kind and name of the observer."""
        return (self.observer_kind, self.observer)

    @property
    def spelled_rank(self) -> str:
        """The rank with its confidence set, in whole numbers: ``1 [1, 6]``; a dash if there is none."""
        rank = self.rank
        return f"{rank.value:.0f} [{rank.low:.0f}, {rank.high:.0f}]" if rank is not None else "–"

    @property
    def named_numbers(self) -> list[tuple[str, Estimate, str]]:
        """Every number of it: its name, the number, and what it means; the headline first."""
        named = {self.quantity: self.headline, "score": self.score, **(self.quantities or {})}
        return [(name.replace("_", " "), estimate, QUANTITIES.get(name, "")) for name, estimate in named.items()]


@dataclass(frozen=True)
class Row:
    """A model in a table.

    Attributes
    ----------
    name
        The model's name; with the beginning of a hash if the table has it twice.
    model
        What is known of it.
    stimuli
        What was shown.
    pool
        The pool, as this model sees it (seen in training or not).
    standings
        One for each observer, people first.
    checks
        The validity panel.
    notes
        What goes wherever its numbers go.
    results
        The results that it was made from.
    models
        Models of its table, whichever of them are shown: what is told from 0 is told beside so many others.
    """

    name: str
    model: ModelFacts
    stimuli: StimulusFacts | None
    pool: PoolFacts
    standings: tuple[Standing, ...]
    checks: tuple[ValidityCheck, ...]
    notes: tuple[str, ...]
    results: tuple[Result, ...]
    models: int = 1

    @property
    def description(self) -> str:
        """What is known of the model, in a sentence."""
        model, training = self.model, self.model.training
        facts = [
            f"{model.kind}, family {model.family}",
            f"{model.parameters:,} parameters" if model.parameters else "",
            f"trained on {' + '.join(training.data)} ({training.images:,} pictures)" if training else "",
            f"top-1 {model.accuracy.top1:g} % ({model.accuracy.measured})" if model.accuracy else "",
            f"licence {model.licence}",
            f"weights {model.weights}" if model.weights else "weights not known",
        ]
        return "; ".join(filter(None, facts)) + "."

    @property
    def is_computed_anew(self) -> bool:
        """Whether its machine intervals are computed from its files' counts, since the files hold older ones."""
        return any(map(is_computed_anew, self.results))

    def standing(self, kind: str, observer: str) -> Standing | None:
        """Return the standing by an observer, or None."""
        return next((own for own in self.standings if own.key == (kind, observer)), None)


@dataclass(frozen=True)
class StandingsTable:
    """Rows that may be compared; see the module.

    Attributes
    ----------
    protocol, pool, condition, difficulty
        What they share.
    method
        How synthetic stimuli were made, in words; empty for natural ones.
    rows
        Models, the highest headline by the first observer first.
    """

    protocol: ProtocolFacts
    pool: PoolFacts
    condition: str
    difficulty: str
    method: str
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """What the table is called: ``natural, easy: vimi1 on imagenet-validation``."""
        made = f" ({self.method})" if self.method else ""
        return f"{self.condition}{made}, {self.difficulty}: {self.protocol.identity} on {self.pool.name}"

    @property
    def observers(self) -> tuple[tuple[str, str], ...]:
        """Kind and name of every observer, people first."""
        found = {standing.key for row in self.rows for standing in row.standings}
        return tuple(sorted(found, key=lambda key: (_KINDS[key[0]], key[1])))

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of all rows, each once."""
        return tuple(dict.fromkeys(note for row in self.rows for note in row.notes))

    @property
    def is_plumbing_check(self) -> bool:
        """Whether its numbers only show that the parts work together."""
        return PLUMBING in self.notes

    @property
    def sections(self) -> tuple[LeaderboardSection, ...]:
        """One section per observer, formatted for reading."""
        from analysis.leaderboard.sections import lay_out_sections

        return lay_out_sections(self)

    def frame(self) -> pd.DataFrame:
        """Return one row for each model and observer, every number at full precision."""
        return pd.DataFrame([_flat(self, row, standing) for row in self.rows for standing in row.standings])


@dataclass(frozen=True)
class Leaderboard(AnalysisResult):
    """All tables, and the results that they were made from."""

    tables: tuple[StandingsTable, ...]
    results: tuple[Result, ...]

    def __iter__(self) -> Iterator[StandingsTable]:
        return iter(self.tables)

    def choose(
        self, *, protocol: str = "", condition: str = "", observer: str = "", family: str = "", model: str = ""
    ) -> Leaderboard:
        """Return what has these properties, with the ranks that it has here; as for :func:`build_leaderboard`.

        Raises
        ------
        NameNotFound
            If one of them names something that no row has.
        """
        chosen = _Choice(protocol, condition, observer, family, model)
        chosen.check(self.tables)
        return Leaderboard(tuple(made for table in self.tables if (made := chosen.keep(table)).rows), self.results)

    def only(self, hashes: Collection[str]) -> Leaderboard:
        """Return the rows that any of some results is part of, with the ranks that they have here."""
        tables = [
            replace(table, rows=tuple(row for row in table.rows if any(own.hash in hashes for own in row.results)))
            for table in self.tables
        ]
        kept = tuple(result for result in self.results if result.hash in hashes)
        return Leaderboard(tuple(table for table in tables if table.rows), kept)

    def __str__(self) -> str:
        from analysis.leaderboard.sections import section_text

        parts = ["\n".join([table.title, *table.notes, *map(section_text, table.sections)]) for table in self.tables]
        return "\n\n".join(parts) or "The leaderboard has no rows."

    def _repr_html_(self) -> str:
        """Return the tables as a notebook shows them: each by each of its observers, with why rows are not ranked."""
        from analysis.leaderboard.sections import section_html

        parts = []
        for table in self.tables:
            notes = "".join(f"<p><b>{escape(note)}</b></p>" for note in table.notes)
            parts.append(f"<h4>{escape(table.title)}</h4>{notes}" + "".join(map(section_html, table.sections)))
        return "".join(parts) or "<p>The leaderboard has no rows.</p>"

    def readable(self) -> pd.DataFrame:
        """Return the tables as people read them, below one another."""
        parts = [
            section.readable().assign(table=table.title, observer=section.who)
            for table in self.tables
            for section in table.sections
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    @property
    def caption(self) -> str:
        """How many tables and rows there are."""
        rows = sum(len(table.rows) for table in self.tables)
        return f"Leaderboard with {len(self.tables)} tables and {rows} rows."

    def frame(self) -> pd.DataFrame:
        """Return the rows of all tables; the columns protocol, pool, condition, ... keep them apart."""
        parts = [table.frame() for table in self.tables if table.rows]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _flat(table: StandingsTable, row: Row, standing: Standing) -> dict[str, Any]:
    model = row.model
    flat: dict[str, Any] = {
        "protocol": table.protocol.identity,
        "pool": table.pool.name,
        "pool_identity": table.pool.identity,
        "condition": table.condition,
        "difficulty": table.difficulty,
        "method": table.method,
        "model": row.name,
        "kind": model.kind,
        "family": model.family,
        "observer_kind": standing.observer_kind,
        "observer": standing.observer,
        "headline_quantity": standing.quantity,
        **spread_out("headline", standing.headline),
        **spread_out("score", standing.score),
        **spread_out("rank", standing.rank),
        "groups": standing.groups,
        "unranked_because": "; ".join(standing.missing),
        "units": standing.units,
        "answers": standing.answers,
        "parameters": model.parameters,
        "training_data": " + ".join(model.training.data) if model.training else "",
        "training_images": model.training.images if model.training else None,
        "top1": model.accuracy.top1 if model.accuracy else None,
        "pool_seen_in_training": row.pool.seen_in_training,
        "notes": "; ".join(row.notes),
        "weights": model.weights,
        "stimuli": row.stimuli.hash if row.stimuli else "",
        "files": " ".join(result.hash for result in row.results),
    }
    for name, estimate in (standing.quantities or {}).items():
        flat |= spread_out(name, estimate)
    return flat


def build_leaderboard(
    results: Iterable[Result],
    *,
    protocol: str = "",
    condition: str = "",
    observer: str = "",
    family: str = "",
    model: str = "",
    reporter: Reporter | None = None,
) -> Leaderboard:
    """Build the leaderboard from results.

    All machine intervals of it are made by one method: where a file has those of an older one, today's are computed
    from the file's counts, and the tables say of which rows. The files stay as they are.

    Parameters
    ----------
    results
        Results, as read from their files.
    protocol
        Only this protocol: its identity, or the name of its file for all its variants.
    condition
        Only this kind of references.
    observer
        Only the standings by this observer: ``people``, or a machine's name.
    family, model
        Only models of this family, or this model. Ranks are still those among all.
    reporter
        Shows progress.

    Raises
    ------
    LeaderboardError
        If two files give different counts for one cell.
    NameNotFound
        If a filter names something that no result has.
    """
    present = present_results(results)
    older = [result for result in present if is_computed_anew(result)]
    if older:
        with (reporter or Reporter()).task("Intervals of older files", len(older)) as advance:
            for result in older:
                with_todays_intervals(result)
                advance(1)
    tables = [_table(key, members) for key, members in _grouped(present).items()]
    tables.sort(key=lambda t: (t.is_plumbing_check, t.protocol.name, t.protocol.identity, t.pool.name, t.condition))
    return Leaderboard(tuple(tables), tuple(present)).choose(
        protocol=protocol, condition=condition, observer=observer, family=family, model=model
    )


@dataclass(frozen=True)
class _Choice:
    """What of the leaderboard is wanted."""

    protocol: str
    condition: str
    observer: str
    family: str
    model: str

    def check(self, tables: Sequence[StandingsTable]) -> None:
        """Check that every filter names something that exists."""
        rows = [row for table in tables for row in table.rows]
        identities = {table.protocol.identity for table in tables}
        known: dict[str, set[str]] = {
            "protocol": identities | {table.protocol.name for table in tables},
            "condition": {table.condition for table in tables},
            "observer": {PEOPLE} | {name for table in tables for _, name in table.observers},
            "family": {row.model.family for row in rows},
            "model": {row.model.name for row in rows},
        }
        for kind, options in known.items():
            name = getattr(self, kind)
            if name and name not in options:
                raise NameNotFound(f"{kind} on the leaderboard", name, options)

    def keep(self, table: StandingsTable) -> StandingsTable:
        """Return what is wanted of a table."""
        if self.protocol not in ("", table.protocol.identity, table.protocol.name):
            return replace(table, rows=())
        if self.condition not in ("", table.condition):
            return replace(table, rows=())
        rows = [row for row in table.rows if self.family in ("", row.model.family)]
        rows = [row for row in rows if self.model in ("", row.model.name)]
        if self.observer:
            rows = [replace(row, standings=tuple(own for own in row.standings if self._is_wanted(own))) for row in rows]
        return replace(table, rows=_ordered([row for row in rows if row.standings]))

    def _is_wanted(self, standing: Standing) -> bool:
        """Whether a standing is by the observer; ``people`` are all of them, those of a paper included."""
        people = self.observer == PEOPLE and standing.observer_kind != "machine"
        return people or standing.observer == self.observer


_TableKey = tuple[str, str, str, str, str]


def _grouped(results: Sequence[Result]) -> dict[_TableKey, list[tuple[Result, ...]]]:
    """Group results by table, and within it those of one model and one set of stimuli into one row."""
    rows: dict[tuple[_TableKey, tuple[str, ...]], list[Result]] = {}
    for result in results:
        cells = {(score.condition, score.difficulty) for score in result.scores}
        for condition, difficulty in sorted(cells):
            shown = result.shown(condition)
            table = (
                result.protocol.identity, result.pool.identity, condition, difficulty, shown.words if shown else "",
            )  # fmt: skip
            row = (result.model.name, result.model.weights, shown.hash if shown else "")
            rows.setdefault((table, row), []).append(result)
    grouped: dict[_TableKey, list[tuple[Result, ...]]] = {}
    for (table, _), members in rows.items():
        grouped.setdefault(table, []).append(tuple(members))
    return grouped


def _table(key: _TableKey, members: Sequence[tuple[Result, ...]]) -> StandingsTable:
    """Make a table of its rows' results."""
    _, _, condition, difficulty, method = key
    names = [own[0].model.name for own in members]
    rows = []
    for own in members:
        name = own[0].model.name
        if names.count(name) > 1:
            shown = own[0].shown(condition)
            name = f"{name} ({own[0].model.weights[:6]}/{shown.hash[:6] if shown else ''})"
        rows.append(_row(name, own, condition, difficulty, len(members)))
    first = members[0][0]
    table = StandingsTable(first.protocol, first.pool, condition, difficulty, method, tuple(rows))
    for kind, observer in table.observers:
        table = replace(table, rows=_ranked(table, kind, observer))
    return replace(table, rows=_ordered(list(table.rows)))


def _ordered(rows: list[Row]) -> tuple[Row, ...]:
    """Order rows by the headline of the first observer; rows without it come last."""
    keys = sorted({own.key for row in rows for own in row.standings}, key=lambda key: (_KINDS[key[0]], key[1]))

    def place(row: Row) -> tuple[Any, ...]:
        values = [own.headline.value if (own := row.standing(*key)) else -np.inf for key in keys]
        return (*(-value for value in values), row.name)

    return tuple(sorted(rows, key=place))


def _row(name: str, results: tuple[Result, ...], condition: str, difficulty: str, models: int) -> Row:
    """Make a row of the results of one model and one set of stimuli, in a table of so many models."""
    _check_agreement(results)
    first = results[0]
    alike = tuple(with_todays_intervals(result) for result in results)
    standings = [*_people_standings(alike, condition, difficulty), *_machines(alike, condition, difficulty)]
    standings.sort(key=lambda own: (_KINDS[own.observer_kind], own.observer))
    return Row(
        name=name,
        model=first.model,
        stimuli=first.shown(condition),
        pool=first.pool,
        standings=tuple(standings),
        checks=check_validity(alike, condition, difficulty, models),
        notes=tuple(dict.fromkeys(note for result in results for note in result.notes)),
        results=results,
        models=models,
    )


def _check_agreement(results: Sequence[Result]) -> None:
    """Check that no two files give different counts for one cell."""
    known: dict[tuple[str, ...], tuple[Result, Any]] = {}
    for result in results:
        if not result.has_units_of(results[0]):
            raise LeaderboardError(
                f"Two result files of {result.label} show the same pictures but differ in their units or flags: "
                f"{results[0].place} and {result.place}. Keep one, or list it under 'replaces' in the other."
            )
        cells = [(own.key, own) for own in result.machines] + [(own.key, own) for own in result.people]
        for key, counts in cells:
            asked = (counts.right, counts.answered)  # probabilities differ in their last digits between machines
            before, others = known.setdefault(key, (result, asked))
            if others != asked:
                raise LeaderboardError(
                    f"Two result files of {result.label} give different counts of {'/'.join(key)}: {before.place} and "
                    f"{result.place}. Keep one, or list it under 'replaces' in the other."
                )


def _scores(results: Iterable[Result], **wanted: Any) -> list[Score]:
    """Return the scores of some results; each once."""
    found = {score.key: score for result in results for score in iterate_scores(result, **wanted)}
    return list(found.values())


def _machines(results: Sequence[Result], condition: str, difficulty: str) -> Iterator[Standing]:
    """Yield the standings by machine observers that are not controls."""
    first = results[0]
    scores = _scores(
        results, condition=condition, difficulty=difficulty, references="both", observer_kind="machine",
        pool_size=first.pool.size,
    )  # fmt: skip
    for observer in sorted({score.observer for score in scores}):
        if observer in CONTROLS:
            continue
        own = {score.quantity: score.estimate for score in scores if score.observer == observer}
        counts = _whole_pool_counts(results, observer, condition, difficulty)
        if "score" not in own or counts is None:  # no unit counts: all are flagged
            continue
        quantity = "excess" if "excess" in own else "score"
        missing = _missing(first, sum(answered > 0 for answered in counts.answered), own[quantity].n)
        if counts.related:
            missing.append("the observer is a relative of the model")
        if "excess" not in own:
            missing.append("the low-level observer has not answered")
        if "trained_minus_twin" not in own and first.model.kind != "untrained":
            missing.append("its random-weight twin has no score")
        if condition == NATURAL and not _is_followed(results, observer, difficulty):
            missing.append("its score over smaller pools was not measured")
        twin = own.get("trained_minus_twin")
        if twin is not None and _is_few(first, twin.n) and not _is_few(first, own[quantity].n):
            missing.append("less than half of its units count in the random-weight twin")
        excesses = _excesses(results, observer, condition, difficulty)
        if not missing and (len(excesses) < 2 or np.ptp(excesses) <= ROUNDING):
            missing.append("all units have the same score, so its rank has no uncertainty to estimate")
        yield Standing(
            "machine", observer, quantity, own[quantity], own["score"], own["score"].n, sum(counts.answered),
            tuple(missing), quantities={name: value for name, value in own.items() if name != "score"},
        )  # fmt: skip


def _is_followed(results: Sequence[Result], observer: str, difficulty: str) -> bool:
    """Whether a machine has answered natural trials over a part of the pool as well as over the whole."""
    wanted = ("model", observer, NATURAL, difficulty, "both")
    return any(
        (own.subject, own.observer, own.condition, own.difficulty, own.references) == wanted
        and own.pool_size != result.pool.size
        for result in results
        for own in result.machines
    )


def _missing(result: Result, units: int, counted: int) -> list[str]:
    """Return what keeps any standing of a result from a rank; flagged units are asked about, and do not count."""
    missing = []
    if PLUMBING in result.notes:
        missing.append(PLUMBING)
    if result.model.kind == "untrained":
        missing.append("random weights: a control, not a model")
    needed = result.protocol.rules.get("units", {}).get("used")
    if needed and units < needed:
        missing.append(f"{units} of {needed} units")
    elif _is_few(result, counted):
        missing.append("less than half of its units count")
    return missing


def _is_few(result: Result, counted: int) -> bool:
    """Whether a number rests on too few units to be ranked."""
    needed = result.protocol.rules.get("units", {}).get("used") or len(result.units)
    return counted < max(2, LEAST_COUNTED * needed)


def _people_standings(results: Sequence[Result], condition: str, difficulty: str) -> Iterator[Standing]:
    """Yield the standing by people, by simulated people and by the people of a published paper, where there is one."""
    for kind in ("human", "simulated", "published"):
        scores = merged_people_scores(results, kind) if kind != "published" else []
        scores = scores or _scores(results, observer_kind=kind)
        own = {
            score.quantity: score
            for score in scores
            if (score.condition, score.difficulty, score.references) == (condition, difficulty, "both")
        }
        if "score" not in own:
            continue
        estimate = own["score"].estimate
        asked, units, answers, fewest = _judgements_of(results, kind, condition, difficulty)
        missing = _missing(results[0], asked, units) if kind != "published" else []
        if kind == "simulated":
            missing.append("simulated people")
        if kind != "published":
            needed = judgements_needed(results[0])
            if fewest < needed:
                missing.append(f"{fewest} of {needed} judgements a unit at least")
        yield Standing(
            kind, own["score"].observer, "score", estimate, estimate, units or estimate.n,
            answers or own["score"].answers, tuple(missing),
            quantities={name: score.estimate for name, score in own.items() if name != "score"},
        )  # fmt: skip


def judgements_needed(result: Result) -> int:
    """Return how many judgements with both sides shown each unit needs before people's score is ranked."""
    rules = result.protocol.rules
    session = rules.get("session") or load_protocol(result.protocol.name).rules.session.model_dump()
    return round(float(session["responses_per_unit"]) * float(session["references"].get("both", 1.0)))


def _judgements_of(results: Sequence[Result], kind: str, condition: str, difficulty: str) -> tuple[int, int, int, int]:
    """Return units judged; and of those that are not flagged: units, judgements, and the fewest judgements of one."""
    asked: set[int] = set()
    total: dict[int, int] = {}
    for result in results:
        for counts in result.people:
            if (counts.kind, counts.condition, counts.difficulty, counts.references) == (
                kind, condition, difficulty, "both",
            ):  # fmt: skip
                asked |= {unit for unit, answered in zip(counts.unit, counts.answered) if answered}
                for unit, answered in zip(counts.unit, counts.answered):
                    if not result.units[unit].flag:
                        total[unit] = total.get(unit, 0) + answered
    return len(asked), len(total), sum(total.values()), min(total.values(), default=0)


# -------------------------------------------------------------------- ranks


def _ranked(table: StandingsTable, kind: str, observer: str) -> tuple[Row, ...]:
    """Return the rows of a table with their ranks by one observer."""
    eligible = [row for row in table.rows if (own := row.standing(kind, observer)) and not own.missing]
    if len(eligible) < 2:
        reason = ("no other model to rank it against",) if eligible else ()
        return tuple(
            _with(row, kind, observer, lambda own: replace(own, missing=own.missing or reason)) for row in table.rows
        )
    try:
        ranks = _ranks(table, eligible, kind, observer)
    except AnalysisError as error:  # what can't be ranked takes nothing else from the leaderboard
        unranked = (f"these rows can't be ranked: {error}",)
        return tuple(
            _with(row, kind, observer, lambda own: replace(own, missing=own.missing or unranked)) for row in table.rows
        )
    found = {row["model"]: row for row in ranks.frame().to_dict("records")}
    rank = {own.model: own.rank for own in ranks}
    return tuple(
        _with(row, kind, observer, lambda own: replace(own, rank=rank[row.name], groups=found[row.name]["groups"]))  # noqa: B023
        if row in eligible
        else row
        for row in table.rows
    )


def _with(row: Row, kind: str, observer: str, change: Callable[[Standing], Standing]) -> Row:
    return replace(row, standings=tuple(change(own) if own.key == (kind, observer) else own for own in row.standings))


def _ranks(table: StandingsTable, rows: Sequence[Row], kind: str, observer: str) -> Ranks:
    """Rank rows by one observer."""
    names = [row.name for row in rows]
    if kind in ("human", "simulated"):
        named = [
            result.model_copy(update={"model": result.model.model_copy(update={"name": row.name})})
            for row in rows
            for result in row.results
            if result.people
        ]
        judged = counted_judgements(named, kind)
        judged = judged[(judged["difficulty"] == table.difficulty) & (judged["references"] == "both")]
        # Rows of one network, which differ in their pictures alone, were asked about the same units.
        first = {row.model.weights: row.name for row in reversed(rows)}
        same = {row.name: first[row.model.weights] for row in rows if row.model.weights}
        return rank_models(judged, condition=table.condition, same_units=same)
    standings = [own for row in rows if (own := row.standing(kind, observer))]
    values = np.array([own.headline.value for own in standings])
    if kind == "published":
        errors = np.array([(own.headline.high - own.headline.low) / (2 * 1.959964) for own in standings])
    else:
        errors = np.array([_excess_error(row, observer, table) for row in rows])
    fewest = min(own.units for own in standings)
    return rank_values(
        names, values, np.diag(errors**2), estimand=standings[0].headline.estimand, freedom=fewest - 1, count=fewest
    )


def _excess_error(row: Row, observer: str, table: StandingsTable) -> float:
    """Return the standard error of an excess: units are the sample, and each has its own difference."""
    known = _excesses(row.results, observer, table.condition, table.difficulty)
    return float(known.std(ddof=1) / np.sqrt(len(known)))


def _excesses(results: Sequence[Result], observer: str, condition: str, difficulty: str) -> NDArray[np.float64]:
    """Return the excess over the low-level observer of every unit that has one; shape (units,)."""
    differences = unit_shares(results, observer, condition, difficulty) - unit_shares(
        results, LOW_LEVEL, condition, difficulty
    )
    return differences[np.isfinite(differences)]


def unit_shares(
    results: Sequence[Result], observer: str, condition: str, difficulty: str, *, subject: Subject = "model"
) -> NDArray[np.float64]:
    """Return a machine observer's share of right answers per unit of a row's first result; NaN where there is none."""
    units = results[0].units
    shares = np.full(len(units), np.nan)
    counts = _whole_pool_counts(results, observer, condition, difficulty, subject)
    if counts is not None:
        answered = np.array(counts.answered, dtype=np.float64)
        flagged = np.array([bool(unit.flag) for unit in units])
        np.divide(np.array(counts.right), answered, out=shares, where=(answered > 0) & ~flagged)
    return shares


def _whole_pool_counts(
    results: Iterable[Result], observer: str, condition: str, difficulty: str, subject: Subject = "model"
) -> MachineCounts | None:
    """Return a machine's counts with both sides shown, over the whole pool; None if there are none."""
    wanted = (subject, observer, condition, difficulty, "both")
    for result in results:
        for own in result.machines:
            about = (own.subject, own.observer, own.condition, own.difficulty, own.references)
            if about == wanted and own.pool_size == result.pool.size:
                return own
    return None


__all__ = [
    "PEOPLE",
    "PUBLISHED",
    "Leaderboard",
    "Row",
    "Standing",
    "StandingsTable",
    "build_leaderboard",
    "judgements_needed",
    "unit_shares",
]
