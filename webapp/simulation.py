"""Simulations of a whole study: bots take part, and estimates are compared with their true values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time

import pandas as pd
import sqlalchemy as sa

from analysis.exclusions import Rule, describe_exclusions, judge_sessions, protocol_rules, usable_responses
from analysis.intervals.means import estimate_mean
from benchmark import schemas
from benchmark.database import Database, hosting_identity, people, read_answers, read_sessions
from benchmark.errors import HostingError
from benchmark.estimate import Estimate
from benchmark.progress import Advance, Reporter
from benchmark.simulation_settings import SimulationSettings
from benchmark.storage import write_text
from benchmark.study import Study
from benchmark.trials import study_cells
from benchmark.units import PLANTED, UNIT_COLUMNS
from webapp.assignment import CellState, cell_states, own_rows, refuse_mixing
from webapp.bots import (
    SIMULATED,
    BotPopulation,
    Crowd,
    LocalHost,
    RemoteHost,
    SimulatedClock,
    Story,
    Truth,
    draw_crowd,
    play,
    play_in_real_time,
)
from webapp.hosting import Hosting, open_hosting

RULES_OF_TIME = ("total time", "instruction time")
"""Rules that say nothing of bots whose time ran faster than the server's."""

_CELL = ["model", "condition", "difficulty", "references"]


@dataclass(frozen=True)
class Recovery:
    """A proportion that bots' answers give, and the true one.

    Attributes
    ----------
    model, condition, difficulty, references
        What was asked about.
    estimate
        Mean over units, from the usable sessions.
    truth
        The same mean of the true probabilities.
    answers
        Answers that the estimate rests on.
    """

    model: str
    condition: str
    difficulty: str
    references: str
    estimate: Estimate
    truth: float
    answers: int

    @property
    def agrees(self) -> bool:
        """Whether the interval holds the truth."""
        return self.estimate.low <= self.truth <= self.estimate.high


@dataclass(frozen=True)
class Simulation:
    """What became of a simulated study.

    Attributes
    ----------
    stories
        What became of each bot, by its own account.
    responses, sessions
        What the database holds of all simulated people, those of earlier simulations too; over HTTP without a
        database that can be read, what the bots say was acknowledged, and no sessions.
    judged
        The sessions, judged by the rules that were applied.
    rules
        These rules.
    cells
        How far each cell of the study is; none without a database.
    balance
        For each cell, the fewest and the most usable judgements that a unit of it has.
    truth
        True probabilities, by unit.
    recovered
        Proportions beside the true ones.
    resent
        Messages that had to be sent again.
    seconds
        How long it took.
    database
        Where the answers are.
    faster
        How much faster than its server's the bots' time ran.
    files
        Tables that were written.
    """

    stories: list[Story]
    responses: pd.DataFrame
    sessions: pd.DataFrame
    judged: pd.DataFrame
    rules: tuple[Rule, ...]
    cells: list[CellState]
    balance: dict[str, tuple[int, int]]
    truth: pd.DataFrame
    recovered: list[Recovery]
    resent: int
    seconds: float
    database: str
    faster: float
    files: tuple[Path, ...]

    @property
    def outcomes(self) -> dict[str, int]:
        """How many bots ended in which way."""
        return dict(Counter(story.outcome for story in self.stories).most_common())

    @property
    def usable(self) -> int:
        """How many sessions are usable."""
        return int(self.judged["usable"].sum()) if len(self.judged) else 0

    @property
    def exclusions(self) -> pd.DataFrame:
        """How many finished sessions fail which rule."""
        finished = set(self.sessions.loc[self.sessions["session_status"] == "complete", "session"])
        return describe_exclusions(self.judged[self.judged["session"].isin(finished)], self.rules)


def simulation_url(study: Study) -> str:
    """Return where simulated people's answers go by default: a separate file.

    They are never in the way of people's: neither of their slots, nor of their tables.
    """
    return f"sqlite:///{study.root.resolve() / 'simulation.sqlite'}"


def simulate_study(
    study: Study,
    settings: SimulationSettings | None = None,
    *,
    population: BotPopulation | None = None,
    patience: float = 60.0,
    reporter: Reporter | None = None,
) -> Simulation:
    """Let simulated people of known ability take part in a study, and compare what they give with what is true.

    Parameters
    ----------
    study
        A study with trials.
    settings
        How many come, and how.
    population
        What they are like; ordinary people with the settings' shares if None.
    patience
        Seconds for which the server may be away, over HTTP.
    reporter
        Is told of every simulated person whose way has ended.

    Returns
    -------
    What became of it; tables of the truth are in the study's ``results/``.

    Raises
    ------
    HostingError
        If the database holds answers of people (see :func:`webapp.assignment.refuse_mixing`), or the server is away.
    """
    given = settings or SimulationSettings()
    people = population or BotPopulation(dropout=given.dropout, inattentive=given.inattentive)
    with (reporter or Reporter()).task("simulated people", given.participants) as advance:
        if given.http:
            return _simulate_over_http(study, given, people, patience, advance)
        return _simulate_here(study, given, people, advance)


def _simulate_here(
    study: Study, settings: SimulationSettings, population: BotPopulation, advance: Advance
) -> Simulation:
    """Let simulated people take part in this process, on a clock that jumps from one event to the next."""
    begun = monotonic()
    clock = SimulatedClock(time())
    url = settings.database or simulation_url(study)
    hosting = open_hosting(study, url, pilot=settings.pilot, bots=True, clock=clock)
    try:
        refuse_mixing(hosting)
        came, seen = _earlier(hosting)
        clock.now = max(clock.now, seen)
        crowd = _crowd(study, settings, population, came)
        enough = (lambda: is_full(hosting)) if settings.until_full else _never
        play(crowd.lives(LocalHost(hosting)), clock, advance, enough)
        return _summarise(study, crowd, hosting.database, settings.pilot, begun, cells=_states(hosting))
    finally:
        hosting.database.close()


def _simulate_over_http(
    study: Study, settings: SimulationSettings, population: BotPopulation, patience: float, advance: Advance
) -> Simulation:
    """Send simulated people through a running server, which must have been started with ``--bots``."""
    begun = monotonic()
    crowd = _crowd(study, settings, population)
    host = RemoteHost(settings.http, patience)
    with closing(host):
        play_in_real_time(crowd.lives(host), settings.workers, settings.speed, advance)
    database = Database(settings.database) if settings.database else None
    try:
        return _summarise(
            study, crowd, database, settings.pilot, begun, resent=host.resent, faster=settings.speed,
            address=settings.http,
        )  # fmt: skip
    finally:
        if database is not None:
            database.close()


def is_full(hosting: Hosting) -> bool:
    """Whether a usable session holds every slot."""
    return all(state.usable == state.slots for state in _states(hosting))


def _never() -> bool:
    return False


def _states(hosting: Hosting) -> list[CellState]:
    with hosting.database.reading() as connection:
        return cell_states(connection, hosting)


def _earlier(hosting: Hosting) -> tuple[int, float]:
    """Return how many came before, and when the last was seen: their clock may be ahead of real time."""
    with hosting.database.reading() as connection:
        count, seen = connection.execute(
            sa.select(sa.func.count(), sa.func.max(people.c.seen_at)).where(own_rows(hosting, people))
        ).one()
    return int(count), float(seen or 0.0)


def _crowd(study: Study, settings: SimulationSettings, population: BotPopulation, first: int = 0) -> Crowd:
    if settings.participants < 1:
        raise HostingError(f"{settings.participants} participants are too few; send at least one.")
    rules = study.protocol.rules
    slowest = rules.exclusions.total_seconds[1] / rules.exclusions.trials
    return draw_crowd(
        study.stimuli(), rules.session, participants=settings.participants, seed=settings.seed,
        interval=settings.interval, population=population, slow_seconds=1.3 * slowest, first=first,
        truth_seed=study.experiment.seed,
    )  # fmt: skip


def _summarise(
    study: Study, crowd: Crowd, database: Database | None, pilot: bool, begun: float, *,
    cells: Sequence[CellState] = (), resent: int = 0, faster: float = 1.0, address: str = "",
) -> Simulation:  # fmt: skip
    """Compare the database's answers with the true values."""
    rules = protocol_rules(study.protocol)
    if faster != 1:
        rules = tuple(rule for rule in rules if rule.name not in RULES_OF_TIME)
    if database is not None:
        with database.reading() as connection:
            identity = hosting_identity(study)
            responses = read_answers(connection, identity, pilot=pilot)
            sessions = read_sessions(connection, identity, pilot=pilot)
        responses = responses[responses["observer_kind"] == SIMULATED].reset_index(drop=True)
        sessions = sessions[sessions["observer_kind"] == SIMULATED].reset_index(drop=True)
        counted = usable_responses(responses, judged := judge_sessions(sessions, responses, rules))
    else:
        responses, sessions = told_answers(crowd.stories), schemas.SESSIONS.empty()
        judged = judge_sessions(sessions, schemas.RESPONSES.empty(), rules)
        counted = responses[responses["attentive"]]
    truth = crowd.truth.table(crowd.tasks)
    recovered = compare(counted, crowd.truth)
    return Simulation(
        crowd.stories, responses, sessions, judged, rules, list(cells), count_judgements(study, counted), truth,
        recovered, resent, monotonic() - begun, str(database) if database is not None else address, faster,
        _write(study, crowd, truth, recovered),
    )  # fmt: skip


def told_answers(stories: Sequence[Story]) -> pd.DataFrame:
    """Return the acknowledged answers, as the bots counted them."""
    columns = [*UNIT_COLUMNS, "condition", "difficulty"]
    rows = [
        {
            **{name: answer.task[name] for name in columns},
            "references": answer.references,
            "kind": answer.kind,
            "correct": answer.correct,
            "attentive": story.traits.attentive,
            "response_id": answer.trial,
        }
        for story in stories
        for answer in story.acknowledged
    ]
    return pd.DataFrame(rows, columns=[*columns, "references", "kind", "correct", "attentive", "response_id"])


def count_judgements(study: Study, responses: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Return, for each cell of a study, the fewest and the most main judgements that a unit of it has."""
    keys = [*UNIT_COLUMNS, "condition", "difficulty"]
    known = responses[responses["kind"] == "main"].groupby(keys).size().to_dict()
    found = {}
    for cell in study_cells(study):
        asked = cell.tasks[keys].drop_duplicates().itertuples(index=False, name=None)
        counts = [int(known.get(tuple(key), 0)) for key in asked]
        found[cell.name] = (min(counts), max(counts))
    return found


def compare(responses: pd.DataFrame, truth: Truth) -> list[Recovery]:
    """Compare the proportions that answers give with the true ones.

    Parameters
    ----------
    responses
        Answers of usable sessions.
    truth
        What is true.

    Returns
    -------
    For each model, condition, difficulty and kind of references, the mean over units with its interval beside the
    mean of the same units' true probabilities.
    """
    main = responses[(responses["kind"] == "main") & (responses["model"] != PLANTED)]
    found = []
    for key, part in main.groupby(_CELL, sort=True):
        by_unit = part.groupby(UNIT_COLUMNS)["correct"].mean()
        names = dict(zip(_CELL, map(str, key)))
        true = [
            truth.probability({**dict(zip(UNIT_COLUMNS, unit)), **names}, names["references"]) for unit in by_unit.index
        ]
        estimate = estimate_mean(by_unit.to_numpy(dtype=float), unit="proportion correct", seed=truth.seed)
        found.append(Recovery(**names, estimate=estimate, truth=sum(true) / len(true), answers=len(part)))
    return found


def _write(study: Study, crowd: Crowd, truth: pd.DataFrame, recovered: Sequence[Recovery]) -> tuple[Path, ...]:
    """Write true values next to estimates, so that any analysis can be checked against them."""
    persons = pd.DataFrame(
        [
            {
                "pseudonym": story.participant.pseudonym if story.participant else None,
                "outcome": story.outcome,
                "left": story.left or None,
                "returned": story.returned,
                "acknowledged": len(story.acknowledged),
                **vars(story.traits),
            }
            for story in crowd.stories
        ]
    )
    rows = pd.DataFrame(
        [
            {
                **{name: getattr(item, name) for name in _CELL}, "estimate": item.estimate.value,
                "low": item.estimate.low, "high": item.estimate.high, "truth": item.truth,
                "units": item.estimate.n, "answers": item.answers, "agrees": item.agrees,
            }
            for item in recovered
        ]
    )  # fmt: skip
    made = {"simulated_truth.csv": truth, "simulated_people.csv": persons, "simulated_recovery.csv": rows}
    for name, table in made.items():
        write_text(study.results / name, table.to_csv(index=False))
    return tuple(study.results / name for name in made)
