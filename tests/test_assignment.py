"""Who gets which slot: balance whatever people do, on both databases, in one process and in several."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa

from analysis.exclusions import judge_sessions, protocol_rules, usable_responses
from benchmark.database import answers, people, read_answers, read_sessions, sessions
from benchmark.errors import HostingError
from benchmark.randomness import generator_from
from benchmark.simulation_settings import SimulationSettings
from benchmark.study import Study
from benchmark.units import UNIT_COLUMNS
from tests.hosted import MODELS, Clock, host, make_hosted_study, walk_to_practice
from webapp.answering import Answer, ShownTrial, current_trial, record_answer
from webapp.assignment import cell_states, lease_slot, refuse_mixing, release_stale
from webapp.bots import BotPopulation, LocalHost, draw_crowd, play
from webapp.bots.playing import Life
from webapp.hosting import Hosting
from webapp.participation import Device, Participant, agree, arrive, check_device, leave_comments, look_up, stop
from webapp.recruitment import Visitor
from webapp.simulation import count_judgements, is_full, simulate_study
from webapp.store import problems, report_problem

pytest_plugins = ["tests.databases"]

NESTED = {
    "protocol": "imi2023",
    "units": {"per_model": 8},
    "session": {"main_trials": 4, "catch_trials": 2, "responses_per_unit": 3},
}


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two models mixed in every session: 12 units, 6 slots."""
    return make_hosted_study(tmp_path_factory.mktemp("crossed"))


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two models, each with people of its own: two cells of 6 slots."""
    return make_hosted_study(tmp_path_factory.mktemp("nested"), **NESTED)


@contextmanager
def hosting_of(study: Study, url: str, **options: Any) -> Iterator[Hosting]:
    made = host(study, url, **options)
    try:
        yield made
    finally:
        made.database.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'answers.sqlite'}"


@pytest.fixture
def hosting(crossed: Study, database_url: str) -> Iterator[Hosting]:
    with hosting_of(crossed, database_url) as made:
        yield made


# ---------------------------------------------------------------- by hand


@cache
def maximal_queries(root: Path, stimuli: str) -> frozenset[str]:
    table = Study.open(root).stimuli()
    return frozenset(table.loc[(table["role"] == "query") & (table["side"] == "max"), "picture"])


def is_right(shown: ShownTrial, study: Study) -> str:
    """Return the position of the right answer, which only somebody with the study can know."""
    return "upper" if maximal_queries(study.root, study.stimuli_hash) >= {shown.upper} else "lower"


def give(hosting: Hosting, person: Participant, shown: ShownTrial, *, right: bool = True) -> ShownTrial | None:
    """Answer a trial in four seconds; returns the next one of the block."""
    where = is_right(shown, hosting.study)
    if not right:
        where = "lower" if where == "upper" else "upper"
    assert isinstance(hosting.clock, Clock)
    hosting.clock.pass_by(4)
    answer = Answer(participant=person.token, trial=shown.trial, position=where, confidence=2)  # type: ignore[arg-type]
    acknowledgement = record_answer(hosting, answer)
    assert acknowledgement.state == "stored"
    return acknowledgement.next


def answer_block(hosting: Hosting, person: Participant, *, right: bool = True, most: int = 100) -> None:
    """Answer the present block to its end, or so many trials of it."""
    shown = current_trial(hosting, person.token)
    while shown is not None and most > 0:
        shown = give(hosting, person, shown, right=right)
        most -= 1


def begin_trials(hosting: Hosting) -> Participant:
    """Let somebody come through the practice."""
    person = walk_to_practice(hosting)
    answer_block(hosting, person)
    known = look_up(hosting, person.token)
    assert known is not None and known.phase == "trials"
    return known


def sessions_of(hosting: Hosting, person: Participant) -> list[Any]:
    with hosting.database.reading() as connection:
        query = sa.select(sessions).where(sessions.c.participant == person.id).order_by(sessions.c.id)
        return list(connection.execute(query).fetchall())


def held_slots(hosting: Hosting) -> list[str]:
    with hosting.database.reading() as connection:
        query = sa.select(sessions.c.slot).where(
            sessions.c.holds, sessions.c.study == hosting.identity, sessions.c.pilot == hosting.pilot
        )
        return sorted(connection.execute(query).scalars())


def settings_of(hosting: Hosting) -> Any:
    with hosting.database.reading() as connection:
        return {state.name: state for state in cell_states(connection, hosting)}


def test_a_slot_is_leased_when_the_practice_is_passed(hosting: Hosting) -> None:
    person = walk_to_practice(hosting)
    assert held_slots(hosting) == [] and settings_of(hosting)["natural-easy"].coming == 1
    answer_block(hosting, person)
    assert held_slots(hosting) == ["natural-easy-0000"]
    state = settings_of(hosting)["natural-easy"]
    assert (state.slots, state.usable, state.leased, state.free, state.coming) == (6, 0, 1, 5, 0)
    answer_block(hosting, person)
    state = settings_of(hosting)["natural-easy"]
    assert (state.usable, state.leased) == (1, 0)


def test_a_slot_is_given_back_after_silence_and_leased_again(hosting: Hosting) -> None:
    first = begin_trials(hosting)
    answer_block(hosting, first, most=3)
    assert isinstance(hosting.clock, Clock)
    hosting.clock.pass_by(hosting.resume_seconds - 1)
    with hosting.database.writing() as connection:
        assert release_stale(connection, hosting) == 0
    hosting.clock.pass_by(2)
    second = begin_trials(hosting)
    assert [row.status for row in sessions_of(hosting, first)] == ["timed out"]
    assert sessions_of(hosting, second)[0].slot == sessions_of(hosting, first)[0].slot == "natural-easy-0000"
    assert held_slots(hosting) == ["natural-easy-0000"]


def test_who_leaves_gives_the_slot_back_at_once(hosting: Hosting) -> None:
    first = begin_trials(hosting)
    stop(hosting, first.token)
    assert held_slots(hosting) == []
    assert sessions_of(hosting, begin_trials(hosting))[0].slot == "natural-easy-0000"


@pytest.mark.parametrize("released", [True, False], ids=["leased meanwhile", "still free"])
@pytest.mark.parametrize("way", ["reload", "wake", "answer"])
def test_who_comes_back_late_starts_again_at_the_practice_with_another_slot(
    crossed: Study, sqlite_url: str, way: str, released: bool
) -> None:
    with hosting_of(crossed, sqlite_url) as hosting:
        late = begin_trials(hosting)
        answer_block(hosting, late, most=2)
        waiting = current_trial(hosting, late.token)
        assert waiting is not None and isinstance(hosting.clock, Clock)
        hosting.clock.pass_by(hosting.resume_seconds + 1)
        if released:
            begin_trials(hosting)
        if way == "reload":
            assert arrive(hosting, None, token=late.token).participant is not None
        elif way == "answer":  # it was given in time and waited in the browser: it is kept where it belongs
            assert give(hosting, late, waiting) is None
        shown = current_trial(hosting, late.token)
        known = look_up(hosting, late.token)
        assert known is not None and known.phase == "practice" and known.practice_attempts == 0
        assert shown is not None and shown.block == "practice"
        answer_block(hosting, late)
        answer_block(hosting, late)
        rows = sessions_of(hosting, late)
        assert [row.status for row in rows] == ["timed out", "complete"]
        assert rows[1].slot != rows[0].slot and rows[1].usable
        with hosting.database.reading() as connection:
            per_session = connection.execute(
                sa.select(answers.c.session, sa.func.count())
                .where(answers.c.participant == late.id)
                .group_by(answers.c.session)
                .order_by(answers.c.session)
            ).fetchall()
        assert [count for _, count in per_session] == [5 + 2 + (way == "answer"), 5 + 8]


def test_who_comes_back_in_time_goes_on_at_the_same_trial(crossed: Study, sqlite_url: str) -> None:
    with hosting_of(crossed, sqlite_url) as hosting:
        person = begin_trials(hosting)
        answer_block(hosting, person, most=3)
        before = current_trial(hosting, person.token)
        assert isinstance(hosting.clock, Clock)
        hosting.clock.pass_by(hosting.resume_seconds - 10)
        arrive(hosting, None, token=person.token)
        assert current_trial(hosting, person.token) == before


def test_no_person_gets_a_slot_twice(crossed: Study, sqlite_url: str) -> None:
    with hosting_of(crossed, sqlite_url) as hosting:
        assert isinstance(hosting.clock, Clock)
        person = begin_trials(hosting)
        for _ in range(8):  # more often than there are slots
            answer_block(hosting, person, most=1)
            hosting.clock.pass_by(hosting.resume_seconds + 1)
            arrive(hosting, None, token=person.token)
            answer_block(hosting, person)
        slots = [row.slot for row in sessions_of(hosting, person)]
        assert len(set(slots)) == len(slots) == 9
        assert slots[:6] == hosting.layout.slots("natural-easy") and slots[6] == "natural-easy-0006"


def test_slots_behind_the_plan_are_opened_when_all_are_leased(hosting: Hosting) -> None:
    ready = [walk_to_practice(hosting) for _ in range(6)]
    assert all(person.cell for person in ready)
    with hosting.database.writing() as connection:  # two more slip in, as they may while others are on their way
        for _ in range(2):
            ready.append(walk_to_practice_whatever(hosting, connection))
    for person in ready:
        answer_block(hosting, person)
    assert held_slots(hosting) == [f"natural-easy-{n:04d}" for n in range(8)]
    state = settings_of(hosting)["natural-easy"]
    assert (state.slots, state.leased, state.free) == (8, 8, 0)  # what was opened must be filled
    for person in ready:
        answer_block(hosting, person)
    assert judgements(hosting) == {"natural-easy": (4, 4)}


def walk_to_practice_whatever(hosting: Hosting, connection: sa.engine.Connection) -> Participant:
    """Put somebody before the practice, whether or not there is room."""
    row = connection.execute(sa.select(people).where(people.c.cell.is_not(None)).limit(1)).one()
    own = {**row._asdict(), "token": f"token-{row.id}-{time.monotonic_ns()}"}
    own.pop("id")
    mark = str(time.monotonic_ns())
    own |= {"person": mark, "pseudonym": "P" + mark[-10:], "receipt": mark[-20:]}
    connection.execute(people.insert().values(**own))
    return Participant.of(connection.execute(sa.select(people).where(people.c.token == own["token"])).one())


def test_a_full_study_turns_people_away_with_a_code_of_its_own(hosting: Hosting) -> None:
    for _ in range(6):
        person = begin_trials(hosting)
        answer_block(hosting, person)
    assert is_full(hosting)
    newcomer = arrive(hosting, None, kind="simulated").participant
    assert newcomer is not None
    check_device(hosting, newcomer.token, Device(1280, 800, "chrome"))
    left = agree(hosting, newcomer.token)
    assert (left.phase, left.outcome, left.cell) == ("end", "full", None)
    assert hosting.code("full") not in (hosting.code("complete"), hosting.code("timed out"))
    assert judgements(hosting) == {"natural-easy": (3, 3)}


def test_people_on_their_way_count_before_they_have_a_slot(hosting: Hosting) -> None:
    came = [walk_to_practice(hosting) for _ in range(12)]
    admitted = [person for person in came if person.phase == "practice"]
    # Four in five are expected to come through the practice: seven for six slots.
    assert len(admitted) == 7
    assert {person.outcome for person in came if person not in admitted} == {"full"}
    assert isinstance(hosting.clock, Clock)
    hosting.clock.pass_by(hosting.resume_seconds + 1)  # nobody is heard of again: the places are free
    assert walk_to_practice(hosting).phase == "practice"


def test_the_slot_of_an_excluded_session_is_offered_anew(hosting: Hosting) -> None:
    hasty = walk_to_practice(hosting, instruction_seconds=14)
    answer_block(hosting, hasty)
    answer_block(hosting, hasty)
    (row,) = sessions_of(hosting, hasty)
    assert (row.status, row.usable, row.reasons, row.holds) == ("complete", False, "instruction time", False)
    known = look_up(hosting, hasty.token)
    assert known is not None and known.outcome == "complete"  # who finished is paid all the same
    careful = begin_trials(hosting)
    answer_block(hosting, careful)
    (second,) = sessions_of(hosting, careful)
    assert (second.slot, second.usable, second.reasons, second.holds) == (row.slot, True, None, True)


def test_answers_name_the_study_that_the_server_knows(tmp_path: Path, sqlite_url: str) -> None:
    study = make_hosted_study(tmp_path / "study")
    with hosting_of(study, sqlite_url) as hosting:
        before, weights = Study.open(study.root).hash, dict(study.manifest["models"])
        # What is put in place of the study while a server runs is not what that server shows.
        study.finish_stage("exemplars", "by hand", {"stimuli": "others"})
        study.update_manifest(models={name: {**facts, "weights_hash": "others"} for name, facts in weights.items()})
        assert Study.open(study.root).hash != before
        assert hosting.provenance["study_hash"] == before and "others" not in hosting.weights.values()


def test_time_spent_before_the_first_trial_does_not_count(hosting: Hosting) -> None:
    person = begin_trials(hosting)
    assert isinstance(hosting.clock, Clock)
    assert current_trial(hosting, person.token) is not None  # the page before the first trial
    hosting.clock.pass_by(1500)
    answer_block(hosting, person)
    with hosting.database.reading() as connection:
        assert read_sessions(connection, hosting.identity)["total_seconds"].tolist() == [8 * 4]
    assert sessions_of(hosting, person)[0].usable


def test_a_character_that_postgresql_does_not_know_harms_nobody(hosting: Hosting) -> None:
    person = begin_trials(hosting)
    answer_block(hosting, person)
    leave_comments(hosting, person.token, "\0=1+1\0")
    with hosting.database.writing() as connection:
        report_problem(connection, hosting.identity, "script error", pseudonym=person.pseudonym, detail="a\0b")
        assert connection.execute(sa.select(problems.c.detail)).scalar_one() == "ab"
        assert connection.execute(sa.select(people.c.comments)).scalar_one() == "=1+1"


def test_who_fails_the_catch_trials_is_excluded_by_name(hosting: Hosting) -> None:
    careless = begin_trials(hosting)
    answer_block(hosting, careless, right=False)
    (row,) = sessions_of(hosting, careless)
    assert not row.usable and "catch" in row.reasons and held_slots(hosting) == []


def test_who_never_passes_the_practice_takes_no_slot(hosting: Hosting) -> None:
    person = walk_to_practice(hosting)
    for _ in range(3):
        answer_block(hosting, person, right=False)
    known = look_up(hosting, person.token)
    assert known is not None and (known.phase, known.outcome) == ("end", "failed practice")
    (row,) = sessions_of(hosting, person)
    assert (row.status, row.slot, row.practice_attempts) == ("screened out", None, 3)


def test_the_pilot_has_slots_of_its_own(crossed: Study, database_url: str) -> None:
    with hosting_of(crossed, database_url) as study, hosting_of(crossed, database_url, pilot=True) as pilot:
        ours, theirs = begin_trials(study), begin_trials(pilot)
        answer_block(study, ours)
        answer_block(pilot, theirs)
        assert held_slots(study) == held_slots(pilot) == ["natural-easy-0000"]
        assert look_up(study, theirs.token) is None and look_up(pilot, ours.token) is None
        assert settings_of(study)["natural-easy"].usable == 1
        with study.database.reading() as connection:
            for pilots in (False, True):
                own = read_answers(connection, study.identity, pilot=pilots)
                assert set(own["observer"]) == {(theirs if pilots else ours).pseudonym}
                assert own["study"].str.startswith("pilot:").all() == pilots


def test_no_unit_occurs_twice_in_a_session(crossed: Study, nested: Study, sqlite_url: str) -> None:
    for study in (crossed, nested):
        with hosting_of(study, sqlite_url) as hosting:
            for cell in hosting.layout.cells:
                for number in range(20):  # far behind the plan
                    main = hosting.layout.main_trials(hosting.layout.cells[cell].cell.slot(number))
                    assert not main.duplicated(UNIT_COLUMNS).any()


def test_the_cell_that_lacks_most_comes_first(nested: Study, sqlite_url: str) -> None:
    with hosting_of(nested, sqlite_url) as hosting:
        cells = [begin_trials(hosting).cell for _ in range(12)]
        assert Counter(cells) == {f"{model}-natural-easy": 6 for model in MODELS}
        assert all(abs(cells[:n].count(cells[0]) - n / 2) <= 0.5 for n in range(2, 13, 2))


# ---------------------------------------------------------------- people and simulated people


def test_simulated_people_and_people_do_not_mix(crossed: Study, sqlite_url: str) -> None:
    with hosting_of(crossed, sqlite_url) as bots, hosting_of(crossed, sqlite_url, bots=False) as server:
        refuse_mixing(bots)
        refuse_mixing(server)
        begin_trials(bots)
        refuse_mixing(bots)
        with pytest.raises(HostingError, match=r"1 simulated people.*--database"):
            refuse_mixing(server)
    other = sqlite_url + "2"
    with hosting_of(crossed, other) as hosting:
        person = begin_trials(hosting)
        with hosting.database.writing() as connection:
            connection.execute(people.update().where(people.c.id == person.id).values(kind="human"))
    with pytest.raises(HostingError, match=r"holds answers of 1 people.*--pilot"):
        simulate_study(crossed, SimulationSettings(participants=2, database=other))
    assert len(simulate_study(crossed, SimulationSettings(participants=2, database=other, pilot=True)).stories) == 2


# ---------------------------------------------------------------- balance, whatever people do


def judgements(hosting: Hosting) -> dict[str, tuple[int, int]]:
    """Return the fewest and the most usable judgements of a unit, cell by cell, from the answers alone."""
    with hosting.database.reading() as connection:
        facts = read_sessions(connection, hosting.identity, pilot=hosting.pilot)
        given = read_answers(connection, hosting.identity, pilot=hosting.pilot)
    judged = judge_sessions(facts, given, protocol_rules(hosting.study.protocol))
    return count_judgements(hosting.study, usable_responses(given, judged))


def check_what_is_stored(hosting: Hosting, planned: int) -> None:
    """Check all that must hold once a study is full."""
    for fewest, most in judgements(hosting).values():
        assert planned <= fewest and most - fewest <= 1
    with hosting.database.reading() as connection:
        given = read_answers(connection, hosting.identity)
        rows = connection.execute(sa.select(sessions).where(sessions.c.slot.is_not(None))).fetchall()
    leases = Counter((row.participant, row.slot) for row in rows)
    assert set(leases.values()) == {1}
    holders = Counter(row.slot for row in rows if row.holds)
    assert set(holders.values()) == {1} and all(row.usable for row in rows if row.holds)
    usable = [row for row in rows if row.usable]
    assert all(row.holds for row in usable), "a usable session behind another one's slot would unbalance units"
    main = given[given["kind"] == "main"]
    assert not main.duplicated(["session", *UNIT_COLUMNS]).any()
    assert not given.duplicated(["observer", "trial"]).any()
    assert given["response_id"].is_unique


DROPPING = BotPopulation(dropout=0.3, inattentive=0.15, hasty=0.05, slow=0.05)


@pytest.mark.parametrize(("layout", "seed"), [("crossed", 2), ("nested", 1)])
def test_units_stay_balanced_though_three_in_ten_drop_out(
    crossed: Study, nested: Study, sqlite_url: str, layout: str, seed: int
) -> None:
    study = {"crossed": crossed, "nested": nested}[layout]
    with hosting_of(study, sqlite_url) as hosting:
        crowd = draw_crowd(
            study.stimuli(), hosting.rules, participants=200, seed=seed, population=DROPPING, interval=90
        )
        play(crowd.lives(LocalHost(hosting)), hosting_clock(hosting), enough=lambda: is_full(hosting))
        assert is_full(hosting)
        check_what_is_stored(hosting, planned=3)
        left = sum(bool(story.left) for story in crowd.stories)
        came = sum(story.outcome != "not needed" for story in crowd.stories)
        assert left and came > 8
        # Slots behind the plan cost money: there are few.
        assert sum(state.slots for state in settings_of(hosting).values()) <= 6 * len(hosting.layout.cells) + 3


def hosting_clock(hosting: Hosting) -> Any:
    """The clock of a test, which has the ``now`` that whoever plays lives sets."""
    assert isinstance(hosting.clock, Clock)
    return hosting.clock


def play_together(lives: Iterable[tuple[float, Life]], clock: Clock, workers: int, window: float) -> int:
    """Play lives on a test's clock, several at the same moment; returns how often at least two were.

    Up to ``workers`` events that lie within ``window`` seconds happen at once, each in a thread of its own. The clock
    stands still meanwhile: it counts what was done, and not how long a loaded machine took for it.
    """
    queue = [(clock.now + begins, number, life) for number, (begins, life) in enumerate(lives)]
    heapq.heapify(queue)
    together = 0
    with ThreadPoolExecutor(workers) as pool:
        while queue:
            now = [heapq.heappop(queue)]
            while queue and len(now) < workers and queue[0][0] <= now[0][0] + window:
                now.append(heapq.heappop(queue))
            together += len(now) > 1
            clock.now = max(clock.now, now[-1][0])
            waits = pool.map(lambda event: next(event[2], None), now)
            for wait, (_, number, life) in zip(waits, now, strict=True):
                if wait is not None:
                    heapq.heappush(queue, (clock.now + wait, number, life))
    return together


def test_units_stay_balanced_with_two_servers_and_many_threads(crossed: Study, database_url: str) -> None:
    clock = Clock()
    population = BotPopulation(dropout=0.3, inattentive=0.15, hasty=0, slow=0, double_click=0.3)
    rules = crossed.protocol.rules.session
    with (
        hosting_of(crossed, database_url, clock=clock) as first,
        hosting_of(crossed, database_url, clock=clock) as second,
    ):
        usable, together = [0], 0
        # Wave by wave, since whoever is still silent when a wave ends is given up by the next. Of twelve people some
        # complete a usable session; only what happens to all twelve by chance could leave a wave without.
        while not is_full(first):
            crowd = draw_crowd(
                crossed.stimuli(), rules, participants=12, seed=7 + len(usable), population=population, interval=15
            )
            together += play_together(crowd.lives(LocalHost(first), LocalHost(second)), clock, workers=8, window=10)
            assert sum(story.miscounted for story in crowd.stories) == 0
            with first.database.writing() as connection:
                release_stale(connection, first)
            with first.database.reading() as connection:
                usable.append(connection.execute(sa.select(sa.func.count()).where(sessions.c.usable)).scalar_one())
            assert usable[-1] > usable[-2], f"a wave of twelve people brought nothing: {usable}"
        assert together > 50
        check_what_is_stored(first, planned=3)


# ---------------------------------------------------------------- races


def test_servers_that_lease_at_the_same_moment_lease_different_slots(crossed: Study, database_url: str) -> None:
    with hosting_of(crossed, database_url) as first, hosting_of(crossed, database_url) as second:
        ready = [walk_to_practice(first) for _ in range(6)]
        for person in ready:
            current_trial(first, person.token)  # begins a session
        together = Barrier(6)

        def lease(number: int) -> str:
            hosting = (first, second)[number % 2]
            (session,) = sessions_of(hosting, ready[number])
            together.wait()
            with hosting.database.writing() as connection:
                return lease_slot(connection, hosting, session.id)

        with ThreadPoolExecutor(6) as pool:
            slots = list(pool.map(lease, range(6)))
        assert sorted(slots) == [f"natural-easy-{n:04d}" for n in range(6)]


def test_the_same_link_opened_in_many_tabs_at_once_lets_in_one_person(tmp_path: Path, database_url: str) -> None:
    study = make_hosted_study(tmp_path / "study", recruitment={"recruiter": "prolific"})
    with hosting_of(study, database_url) as first, hosting_of(study, database_url) as second:
        together = Barrier(8)

        def come(number: int) -> str:
            together.wait()
            arrival = arrive((first, second)[number % 2], Visitor("someone", "submission"), kind="simulated")
            assert arrival.participant is not None
            return arrival.participant.token

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(come, range(8)))) == 1


def test_silent_people_who_all_wake_at_once_wait_for_nobody(crossed: Study, database_url: str) -> None:
    with hosting_of(crossed, database_url) as first, hosting_of(crossed, database_url) as second:
        late = [begin_trials(first) for _ in range(5)]
        waiting = [current_trial(first, person.token) for person in late]
        assert isinstance(first.clock, Clock) and isinstance(second.clock, Clock)
        first.clock.pass_by(first.resume_seconds + 1)
        second.clock.now = first.clock.now
        together = Barrier(10)
        draws = generator_from(1, "tabs").permutation(10).tolist()

        def wake(number: int) -> None:
            person, shown = late[number // 2], waiting[number // 2]
            assert shown is not None
            hosting = (first, second)[number % 2]
            together.wait()
            if number % 2:
                arrive(hosting, None, token=person.token)
            else:
                answer = Answer(participant=person.token, trial=shown.trial, position="upper")
                assert record_answer(hosting, answer).state == "stored"
            current_trial(hosting, person.token)

        with ThreadPoolExecutor(10) as pool:
            list(pool.map(wake, draws))
        for person in late:
            known = look_up(first, person.token)
            assert known is not None and known.phase == "practice"
            assert [row.status for row in sessions_of(first, person)] == ["timed out", "open"]
