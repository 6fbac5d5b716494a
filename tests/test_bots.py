"""Simulated people: what is true of them is recovered, and what they were promised is kept."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from benchmark.command_line import app
from benchmark.database import answers, people
from benchmark.errors import HostingError
from benchmark.randomness import generator_from
from benchmark.responses import read_responses
from benchmark.simulation_settings import SimulationSettings
from benchmark.study import Study
from benchmark.tasks import assemble_tasks
from benchmark.units import PLANTED, UNIT_COLUMNS
from tests.hosted import host, make_hosted_study
from webapp.answering import Answer, ShownTrial, record_answer
from webapp.bots import (
    BotPopulation,
    LocalHost,
    Recognition,
    RemoteHost,
    SimulatedClock,
    Story,
    Truth,
    draw_crowd,
    handle_step,
    play,
    play_in_real_time,
    sigmoid,
)
from webapp.hosting import Hosting
from webapp.layout import place_pictures
from webapp.simulation import simulate_study, simulation_url

PLAIN = BotPopulation(
    inattentive=0, hasty=0, slow=0, unable=0, unwilling=0, small_window=0, dropout=0, double_click=0, position_sd=0
)
"""People to whom nothing happens."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_hosted_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def hosting(study: Study, tmp_path: Path) -> Iterator[Hosting]:
    made = host(study, f"sqlite:///{tmp_path / 'answers.sqlite'}", clock=SimulatedClock(1_700_000_000.0))
    with closing(made.database):
        yield made


def send(hosting: Hosting, population: BotPopulation, participants: int, seed: int = 1) -> list[Story]:
    """Send people through the study one after the other."""
    crowd = draw_crowd(
        hosting.study.stimuli(), hosting.rules, participants=participants, seed=seed, population=population
    )
    assert isinstance(hosting.clock, SimulatedClock)
    play(crowd.lives(LocalHost(hosting)), hosting.clock)
    return crowd.stories


def stored_answers(hosting: Hosting) -> dict[str, Any]:
    """Return what is stored of each answer, by its token."""
    with hosting.database.reading() as connection:
        rows = connection.execute(sa.select(answers)).fetchall()
    assert len({row.token for row in rows}) == len(rows)
    return {row.token: row for row in rows}


def check_nothing_lost(hosting: Hosting, stories: list[Story], *, unacknowledged: int = 0) -> None:
    """Check that each acknowledged answer is stored as it was first sent, and nothing else is."""
    stored = stored_answers(hosting)
    told = [answer for story in stories for answer in story.acknowledged]
    assert len({answer.trial for answer in told}) == len(told)
    assert {answer.trial for answer in told} <= set(stored)
    assert len(stored) - len(told) <= unacknowledged
    for answer in told:
        row = stored[answer.trial]
        assert row.correct == answer.correct and row.kind == answer.kind
        assert (row.choice == row.query_top) == (answer.position == "upper")
        assert [getattr(row, name) for name in UNIT_COLUMNS if name != "index"] == [
            answer.task[name] for name in UNIT_COLUMNS if name != "index"
        ]
    assert sum(story.miscounted for story in stories) == 0


# ---------------------------------------------------------------- truth


TASK = {
    "model": "model", "layer": "layer", "basis": "neuron", "index": 3, "aggregator": "mean", "condition": "natural",
    "difficulty": "easy",
}  # fmt: skip


def test_the_true_probability_is_that_of_people_drawn_at_random() -> None:
    truth = Truth(4, BotPopulation(lapse=0.1, person_sd=1.2))
    ability = np.random.default_rng(0).normal(0, 1.2, size=400_000)
    knows = 0.9 * sigmoid(truth.logit(TASK, "both") + ability)
    assert truth.probability(TASK, "both") == pytest.approx(float((knows + (1 - knows) / 2).mean()), abs=1e-3)


def test_what_is_true_of_a_unit_depends_on_its_name_and_the_seed_alone() -> None:
    first, second = Truth(4, PLAIN), Truth(4, PLAIN)
    second.logit({**TASK, "index": 9}, "both")
    assert first.logit(TASK, "both") == second.logit(TASK, "both") != Truth(5, PLAIN).logit(TASK, "both")


def test_harder_tasks_and_fewer_references_are_known_less_often() -> None:
    truth = Truth(4, PLAIN)
    easy = truth.probability(TASK, "both")
    assert easy > truth.probability({**TASK, "difficulty": "hard"}, "both") > 0.5
    assert easy > truth.probability({**TASK, "condition": "synthetic"}, "both")
    assert easy > truth.probability(TASK, "max") > truth.probability(TASK, "none") == 0.5
    assert truth.probability({**TASK, "model": PLANTED}, "both") > 0.98


def test_shares_are_checked() -> None:
    with pytest.raises(HostingError, match=r"dropout .* between 0 and 1, not 1.5"):
        BotPopulation(dropout=1.5)


# ---------------------------------------------------------------- recognising trials


def shown(task: dict[str, Any], references: str = "both") -> ShownTrial:
    trial = {**task, "references": references, "query_top": "min"}
    left, right, upper, lower = place_pictures(trial)
    return ShownTrial(
        trial="t", number=1, of=2, block="trials", left=left[::-1], right=right, upper=upper, lower=lower,
        feedback=False, upcoming=[],
    )  # fmt: skip


def test_every_task_is_recognised_by_itsplace_pictures(study: Study) -> None:
    tasks = assemble_tasks(study.stimuli())
    recognition = Recognition(tasks)
    for task in tasks.to_dict("records"):
        for references in ("both", "max", "min", "none"):
            found, kind = recognition.find(shown(task, references))
            assert (found["index"], found["model"], found["task"]) == (task["index"], task["model"], task["task"])
            assert kind == references and found["query_max"] == task["query_max"]


def test_units_with_the_same_queries_are_told_apart_by_their_references(study: Study) -> None:
    tasks = assemble_tasks(study.stimuli())
    twin = tasks.iloc[[0]].copy()
    twin["index"], twin["query_max"], twin["query_min"] = 99, twin["query_min"], twin["query_max"]
    twin["references_max"] = tasks.iloc[[1]]["references_max"].tolist()
    twin["references_min"] = tasks.iloc[[1]]["references_min"].tolist()
    both = Recognition(pd.concat([tasks, twin], ignore_index=True))
    for row in (tasks.iloc[0], twin.iloc[0]):
        found, _ = both.find(shown(row.to_dict()))
        assert (found["index"], found["query_max"]) == (row["index"], row["query_max"])


def test_pictures_of_another_study_are_named_as_such(study: Study) -> None:
    task = assemble_tasks(study.stimuli()).iloc[0].to_dict()
    with pytest.raises(HostingError, match="Check that the address is a server of this study"):
        Recognition(assemble_tasks(study.stimuli())).find(shown({**task, "query_max": "other"}))


# ---------------------------------------------------------------- what people do


def test_all_that_was_acknowledged_is_stored_once_as_it_was_first_sent(hosting: Hosting) -> None:
    stories = send(hosting, replace(PLAIN, double_click=1.0, dropout=0.5, back=0.5), 8)
    assert sum(len(story.acknowledged) for story in stories) > 40
    check_nothing_lost(hosting, stories)


def test_reaction_times_and_confidence_follow_certainty(hosting: Hosting) -> None:
    send(hosting, replace(PLAIN, unit_logit=-1), 6)
    rows = pd.DataFrame([row._asdict() for row in stored_answers(hosting).values()])
    assert rows["rt_ms"].min() >= 1000 * hosting.rules.locked_seconds
    sure, unsure = rows[rows["kind"] != "main"], rows[(rows["kind"] == "main") & ~rows["correct"].astype(bool)]
    assert sure["confidence"].mean() > unsure["confidence"].mean() + 0.5
    assert sure["rt_ms"].median() < unsure["rt_ms"].median()
    assert rows["rt_ms"].mean() > rows["rt_ms"].median()  # a tail to the right
    assert set(rows["confidence"]) == {1, 2, 3}


@pytest.mark.parametrize(
    ("population", "outcome", "reason"),
    [
        (replace(PLAIN, inattentive=1), "complete", "positions"),
        (replace(PLAIN, hasty=1), "complete", "instruction time"),
        (replace(PLAIN, slow=1), "complete", "total time"),
        (replace(PLAIN, unwilling=1), "no consent", ""),
        (replace(PLAIN, small_window=1), "screened out", ""),
        (replace(PLAIN, unable=1), "failed practice", ""),
        (replace(PLAIN, dropout=1, goodbye=1), "returned", ""),
        (replace(PLAIN, dropout=1, goodbye=0, back=0), "left", ""),
        (replace(PLAIN, dropout=1, goodbye=0, back=1), "complete", "none"),
    ],
    ids=["inattentive", "hasty", "slow", "unwilling", "small window", "unable", "goodbye", "silent", "back"],
)
def test_what_people_are_like_shows_in_what_becomes_of_them(
    study: Study, tmp_path: Path, population: BotPopulation, outcome: str, reason: str
) -> None:
    settings = SimulationSettings(participants=3, database=f"sqlite:///{tmp_path / 'a.sqlite'}", interval=4000)
    made = simulate_study(study, settings, population=population)
    assert made.outcomes == {outcome: 3}
    finished = made.judged[made.judged["session"].isin(
        made.sessions.loc[made.sessions["session_status"] == "complete", "session"]
    )]  # fmt: skip
    assert len(finished) == (3 if outcome == "complete" else 0)
    if reason == "none":
        assert all(story.returned for story in made.stories)
        # Who comes back before the slot is given up may have been away too long for the rule on total time.
        assert set(finished["reasons"]) <= {"", "total time"} and finished["usable"].any()
    else:
        assert all(reason in reasons for reasons in finished["reasons"])


def test_people_leave_in_every_phase(hosting: Hosting) -> None:
    send(hosting, replace(PLAIN, dropout=1, goodbye=0, back=0), 60)
    with hosting.database.reading() as connection:
        phases = set(connection.execute(sa.select(people.c.phase)).scalars())
    assert phases >= {"device", "consent", "instructions", "practice", "trials"}


# ---------------------------------------------------------------- recovery


def test_known_proportions_are_recovered_within_their_intervals(tmp_path: Path) -> None:
    study = make_hosted_study(
        tmp_path / "study", units={"per_model": 10},
        session={"main_trials": 20, "catch_trials": 5, "responses_per_unit": 21, "references_none": 0.2},
    )  # fmt: skip
    made = simulate_study(study, SimulationSettings(participants=150, until_full=True))
    assert made.database == simulation_url(study) and made.faster == 1
    assert made.balance["natural-easy"][0] >= 21 and np.ptp(made.balance["natural-easy"]) <= 1
    assert made.usable >= 21 and made.usable < len(made.sessions)
    assert {(item.model, item.references) for item in made.recovered} == {
        (model, references) for model in study.manifest["models"] for references in ("both", "none")
    }
    assert all(item.agrees for item in made.recovered), [(str(i.estimate), i.truth) for i in made.recovered]
    # Unit by unit: differences from the truth are no larger than chance makes them, and the truth is not one number.
    usable = set(made.judged.loc[made.judged["usable"], "session"])
    main = made.responses[made.responses["session"].isin(usable) & (made.responses["kind"] == "main")]
    keys = [*UNIT_COLUMNS, "condition", "difficulty", "references"]
    seen = main.groupby(keys)["correct"].agg(["sum", "count"]).reset_index().merge(made.truth, on=keys)
    true = seen["probability"]
    z = (seen["sum"] - seen["count"] * true) / np.sqrt(seen["count"] * true * (1 - true))
    assert len(seen) == 40 and abs(z.mean()) < 0.6 and 0.5 < float((z**2).mean()) < 1.8
    both = seen[seen["references"] == "both"]
    assert np.corrcoef(both["sum"] / both["count"], both["probability"])[0, 1] > 0.6
    # What is true lies beside the results; people and machines read the same table.
    written = pd.read_csv(study.results / "simulated_truth.csv")
    assert written["probability"].tolist() == pytest.approx(made.truth["probability"].tolist())
    assert len(pd.read_csv(study.results / "simulated_people.csv")) == 150
    assert pd.read_csv(study.results / "simulated_recovery.csv")["agrees"].all()
    table = read_responses(study, simulation_url(study))
    assert len(table) == len(made.responses) and set(table["observer_kind"]) == {"simulated"}
    assert len(read_responses(study)) == 0  # they are in nobody's way


def test_simulations_add_up(study: Study, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.sqlite'}"
    first = simulate_study(study, SimulationSettings(participants=2, database=url), population=PLAIN)
    second = simulate_study(study, SimulationSettings(participants=2, database=url), population=PLAIN)
    assert len(second.sessions) == 4 and len(first.sessions) == 2
    assert [story.traits for story in first.stories] != [story.traits for story in second.stories]
    pd.testing.assert_frame_equal(first.truth, second.truth)


# ---------------------------------------------------------------- the server's side


def test_messages_that_make_no_sense_are_refused(hosting: Hosting) -> None:
    arrived = handle_step(hosting, {"step": "arrive"})
    assert arrived["participant"]["phase"] == "device" and arrived["trial"] is None
    json.dumps(arrived)
    for message in (
        {"step": "settle"},
        {"step": "agree", "participant": "x" * 65},
        {"step": "agree", "admin": True},
        {"step": "check_device", "values": {"width": "wide"}},
        {"step": "leave_comments", "values": {"text": "x" * 4001}},
        {"step": "arrive", "values": {"token": "short"}},
        {"step": "arrive", "values": {"kind": "human"}},
    ):
        with pytest.raises(HostingError, match="can't be understood"):
            handle_step(hosting, message)
    with pytest.raises(HostingError, match="No participant"):
        handle_step(hosting, {"step": "agree", "participant": "x" * 20})


def test_a_server_for_people_lets_no_bots_in(study: Study, tmp_path: Path) -> None:
    server = host(study, f"sqlite:///{tmp_path / 'a.sqlite'}", bots=False)
    with closing(server.database), pytest.raises(HostingError, match="does not accept bots"):
        handle_step(server, {"step": "arrive"})


# ---------------------------------------------------------------- over HTTP


@contextmanager
def serving(hosting: Hosting, failures: float = 0.0) -> Iterator[str]:
    """Serve a study; in some share of the requests the connection breaks before, in some after they were handled."""
    draws = generator_from(1, "failures")
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                before, after = draws.random(2) < failures
            if before:
                return self.drop()
            try:
                if self.path == "/api/bot":
                    status, reply = 200, handle_step(hosting, message)
                else:
                    status, reply = 200, record_answer(hosting, Answer.model_validate(message)).model_dump()
            except HostingError as error:
                status, reply = 400, {"error": str(error)}
            if after:
                return self.drop()
            body = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return None

        def drop(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_nothing_is_lost_or_doubled_though_connections_break(hosting: Hosting) -> None:
    population = replace(PLAIN, double_click=0.2)
    crowd = draw_crowd(hosting.study.stimuli(), hosting.rules, participants=5, population=population, interval=1)
    with serving(hosting, failures=0.1) as address, closing(RemoteHost(address, patience=300)) as remote:
        play_in_real_time(crowd.lives(remote), workers=5, speed=1e6)
    assert remote.resent > 10
    assert {story.outcome for story in crowd.stories} == {"complete"}
    check_nothing_lost(hosting, crowd.stories)
    with hosting.database.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(people)).scalar_one() == 5


def test_a_simulation_over_http_says_that_time_ran_faster(hosting: Hosting) -> None:
    with serving(hosting) as address:
        settings = SimulationSettings(
            participants=3, http=address, interval=1, speed=1e6, database=hosting.database.url.render_as_string()
        )
        made = simulate_study(hosting.study, settings, population=PLAIN)
        alone = simulate_study(hosting.study, replace(settings, participants=2, database=""), population=PLAIN)
    assert made.outcomes == {"complete": 3} and made.usable == 3
    assert "total time" not in {rule.name for rule in made.rules} and made.faster == 1e6
    assert alone.database == address and len(alone.sessions) == 0 and alone.recovered
    with hosting.database.reading() as connection:
        marks = connection.execute(sa.text("SELECT usable FROM sessions WHERE status = 'complete'")).scalars().all()
    assert not any(marks), "by the server's own clock nobody reads the instructions in no time"


def test_a_server_that_stays_away_is_named(study: Study) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(HostingError, match=rf"{port} has not responded for 0.3 s .*Start it"):
        away = SimulationSettings(participants=2, http=f"http://127.0.0.1:{port}", interval=0.1, speed=100)
        simulate_study(study, away, patience=0.3)
    with pytest.raises(HostingError, match="not a server's address"):
        RemoteHost("localhost:8501")


def test_a_server_without_bots_is_named(study: Study, tmp_path: Path) -> None:
    server = host(study, f"sqlite:///{tmp_path / 'a.sqlite'}", bots=False)
    with closing(server.database), serving(server) as address, pytest.raises(HostingError, match="started with --bots"):
        simulate_study(study, SimulationSettings(participants=1, http=address, interval=0.1, speed=100))


# ---------------------------------------------------------------- the verb


def test_simulate_prints_outcomes_coverage_and_what_was_recovered(study: Study, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.sqlite'}"
    done = CliRunner().invoke(
        app, ["simulate", str(study.root), "--participants", "4", "--dropout", "0", "--database", url, "--seed", "3"]
    )
    assert done.exit_code == 0, done.output
    assert "4 simulated people" in done.output and "answers acknowledged" in done.output
    assert "natural-easy" in done.output and "efficientnet_lite1" in done.output
    assert "simulated_truth.csv" in done.output.replace("\n", "")
