"""Bots: simulated people of known ability, who take part through the very functions that people do.

A bot lives as a generator: it takes a step, says for how many seconds it now reads, looks or thinks, and goes on.
Whoever plays the lives decides what time is: a clock that jumps from one event to the next, or real time. So leases,
silences and races interleave as they would, and an hour of people takes seconds.

What a bot knows of a trial is what a person sees, its pictures. Which of them is right it finds in the study's own
tasks, in this process and over HTTP alike; no token, and nothing that a server sends, tells it.
"""

from __future__ import annotations

import heapq
import http.client
import json
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, Literal, Protocol
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.errors import HostingError
from benchmark.progress import Advance
from benchmark.protocol import DIFFICULTIES, REFERENCES, SessionRules
from benchmark.randomness import generator_from
from benchmark.tasks import PLANTED, TASK_COLUMNS, UNIT_COLUMNS, assemble_tasks
from webapp import participation
from webapp.answering import Acknowledgement, Answer, Presentation, current_trial, record_answer
from webapp.hosting import Hosting
from webapp.participation import LONGEST_COMMENT, Device, Participant
from webapp.recruitment import Visitor

SIMULATED = "simulated"
"""The kind of person that a bot is."""

_LONGEST_NAME = 200
"""Characters of a person's name that a bot may give."""

Step = Literal[
    "arrive", "check_device", "agree", "decline", "answer_colour_vision", "finish_instructions", "answer_quiz",
    "leave_comments", "stop", "current_trial",
]  # fmt: skip

# -------------------------------------------------------------------- what bots are like


@dataclass(frozen=True)
class Population:
    """What simulated people are like.

    Attributes
    ----------
    unit_logit, model_sd, unit_sd
        How understandable units are: the logit of the share of tasks that an average person sees through, and its
        spread over models and over the units of a model.
    person_sd
        Spread of people's ability, in logits.
    condition_shift, difficulty_shift, one_side_shift
        Logits for each condition behind the natural one, for each step of difficulty, and for tasks that show
        references of one side alone. Without references there is nothing to see through: people guess.
    planted_logit
        How understandable the units of catch and practice trials are.
    lapse
        Share of trials in which somebody guesses although they know.
    position_sd
        Spread of people's preference for the upper query when they guess, in logits.
    inattentive
        Share of people who look at the practice only, and always press the same button afterwards.
    hasty
        Share of people who skip the instructions.
    slow
        Share of people who take longer than the protocol allows.
    unable
        Share of people who take the task the wrong way round, and so fail the practice.
    unwilling, small_window
        Shares of people who do not consent, and whose window is too small.
    dropout
        Share of people who leave at a moment that is drawn from all steps of their way.
    goodbye, back
        Of those who leave: the share who says so, and, of the silent ones, the share who comes back.
    back_seconds
        Mean time until they come back.
    double_click
        Share of answers that are sent a second time at once.
    """

    unit_logit: float = 0.8
    model_sd: float = 0.4
    unit_sd: float = 1.0
    person_sd: float = 0.5
    condition_shift: float = -0.5
    difficulty_shift: float = -0.7
    one_side_shift: float = -0.3
    planted_logit: float = 7.0
    lapse: float = 0.02
    position_sd: float = 0.3
    inattentive: float = 0.05
    hasty: float = 0.02
    slow: float = 0.02
    unable: float = 0.03
    unwilling: float = 0.02
    small_window: float = 0.02
    dropout: float = 0.3
    goodbye: float = 0.3
    back: float = 0.3
    back_seconds: float = 1800.0
    double_click: float = 0.1

    def __post_init__(self) -> None:
        for name in ("lapse", "inattentive", "hasty", "slow", "unable", "unwilling", "small_window", "dropout",
                     "goodbye", "back", "double_click"):  # fmt: skip
            if not 0 <= getattr(self, name) <= 1:
                raise HostingError(f"{name} of simulated people is a share between 0 and 1, not {getattr(self, name)}.")


class Truth:
    """What bots know and how often: the truth that a study of them must recover.

    Parameters
    ----------
    seed
        The truth of a unit depends on this and on the unit's name alone.
    population
        What people are like.
    """

    def __init__(self, seed: int, population: Population) -> None:
        self.seed = seed
        self.population = population
        self._logits: dict[tuple[Any, ...], float] = {}

    def logit(self, task: Mapping[str, Any], references: str) -> float:
        """Return the logit of the probability that an average person sees through a task."""
        unit = tuple(task[name] for name in UNIT_COLUMNS)
        given = self.population
        if task["model"] == PLANTED:
            return given.planted_logit
        if unit not in self._logits:
            model = generator_from(self.seed, "truth of a model", task["model"]).normal(0, given.model_sd)
            own = generator_from(self.seed, "truth of a unit", *unit).normal(0, given.unit_sd)
            self._logits[unit] = given.unit_logit + float(model) + float(own)
        value = self._logits[unit] + given.difficulty_shift * DIFFICULTIES.index(task["difficulty"])
        value += 0.0 if task["condition"] == "natural" else given.condition_shift
        value += given.one_side_shift if references in ("max", "min") else 0.0
        return -np.inf if references == "none" else value

    def probability(self, task: Mapping[str, Any], references: str) -> float:
        """Return the probability that an attentive person, drawn at random, answers a task rightly."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(41)
        knows = sigmoid(self.logit(task, references) + self.population.person_sd * nodes)
        return float(0.5 + 0.5 * (1 - self.population.lapse) * (weights @ knows) / weights.sum())

    def table(self, tasks: pd.DataFrame) -> pd.DataFrame:
        """Return the truth as a table: one row for each unit, condition, difficulty and kind of references."""
        keys = [*UNIT_COLUMNS, "condition", "difficulty"]
        distinct = tasks.loc[tasks["model"] != PLANTED, keys].drop_duplicates().to_dict("records")
        rows = [
            {**row, "references": references, "probability": self.probability(row, references)}
            for row in distinct
            for references in REFERENCES
        ]
        return pd.DataFrame(rows, columns=[*keys, "references", "probability"])


def sigmoid(logit: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of a logit; minus infinity is 0."""
    return np.asarray(0.5 * (1 + np.tanh(np.asarray(logit, dtype=np.float64) / 2)))


class Recognition:
    """Finds the task that a trial shows by its pictures, as somebody with the study on the desk would.

    Parameters
    ----------
    tasks
        All distinct tasks of the study.
    """

    def __init__(self, tasks: pd.DataFrame) -> None:
        self._by_queries: dict[frozenset[str], list[dict[str, Any]]] = {}
        for row in tasks[[*TASK_COLUMNS, "query_max", "query_min", "references_max", "references_min"]].to_dict(
            "records"
        ):
            queries = frozenset((row["query_max"], row["query_min"]))
            self._by_queries.setdefault(queries, []).append({str(name): value for name, value in row.items()})

    def find(self, shown: Presentation) -> tuple[dict[str, Any], str]:
        """Return the task of a trial, and which references it shows.

        Two units may share their queries: references then tell which it is. Where none are shown there is nothing to
        see through, so that it does not matter.
        """
        fitting = [
            task
            for task in self._by_queries.get(frozenset((shown.upper, shown.lower)), [])
            if set(shown.left) <= set(task["references_min"]) and set(shown.right) <= set(task["references_max"])
        ]
        if not fitting:
            raise HostingError(
                "A bot was shown pictures that are no task of the study. Is the address that of a server of this study?"
            )
        sides = (bool(shown.left), bool(shown.right))
        return fitting[0], {(True, True): "both", (True, False): "min", (False, True): "max"}.get(sides, "none")


# -------------------------------------------------------------------- where bots are sent


@dataclass(frozen=True)
class Reply:
    """What a host answers to a step.

    Attributes
    ----------
    participant
        The participant after the step; None if nobody was let in.
    refusal
        Why nobody was let in.
    trial
        The trial, if one was asked for and there is one.
    """

    participant: Participant | None = None
    refusal: str | None = None
    trial: Presentation | None = None


class Host(Protocol):
    """Where bots are sent: this process, or a running server."""

    def step(self, step: Step, participant: str = "", **values: Any) -> Reply:
        """Take a step of a participant's way."""

    def answer(self, answer: Answer) -> Acknowledgement:
        """Send an answer; what comes back is committed."""


class _StepValues(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    token: Annotated[str, Field(min_length=16, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    person: Annotated[str, Field(max_length=_LONGEST_NAME)] = ""
    submission: Annotated[str, Field(max_length=_LONGEST_NAME)] = ""
    width: int = 0
    height: int = 0
    browser: Annotated[str, Field(max_length=40)] = "other"
    answer: Annotated[str, Field(max_length=40)] = ""
    right: bool = False
    text: Annotated[str, Field(max_length=LONGEST_COMMENT)] = ""


class _StepMessage(BaseModel):
    model_config = ConfigDict(extra="forbid")

    step: Step
    participant: Annotated[str, Field(max_length=64)] = ""
    values: _StepValues = _StepValues()


def handle_step(hosting: Hosting, message: Mapping[str, Any]) -> dict[str, Any]:
    """Take a step on a bot's behalf: the server's side of ``POST /api/bot``.

    Parameters
    ----------
    hosting
        The hosted study; it must have been opened for bots.
    message
        ``step``, ``participant`` (its token; none to arrive) and ``values`` of the step.

    Returns
    -------
    ``participant``, ``refusal`` and ``trial``, ready to be sent as JSON.

    Raises
    ------
    HostingError
        If bots are not let in here, or the message can't be understood.
    """
    if not hosting.bots:
        raise HostingError("This server lets no bots in. Start it with --bots, on a database of their own.")
    try:
        read = _StepMessage.model_validate(dict(message))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise HostingError(f"A bot's message can't be understood: {place}: {first['msg']}.") from None
    reply = _take_step(hosting, read.step, read.participant, read.values)
    return {
        "participant": asdict(reply.participant) if reply.participant else None,
        "refusal": reply.refusal,
        "trial": reply.trial.model_dump() if reply.trial else None,
    }


def _take_step(hosting: Hosting, step: Step, token: str, values: _StepValues) -> Reply:
    """Call the function of a step."""
    if step == "arrive":
        recruited = hosting.recruitment.recruiter != "open"
        visitor = Visitor(values.person, values.submission) if recruited and values.person else None
        arrival = participation.arrive(hosting, visitor, token=values.token or "", kind=SIMULATED)
        return Reply(arrival.participant, arrival.refusal)
    if step == "current_trial":
        trial = current_trial(hosting, token)  # it may send somebody back to the practice: look them up behind it
        return Reply(participation.look_up(hosting, token), trial=trial)
    plain: dict[str, Callable[[Hosting, str], Participant]] = {
        "agree": participation.agree,
        "decline": participation.decline,
        "finish_instructions": participation.finish_instructions,
        "stop": participation.stop,
    }
    if step in plain:
        return Reply(plain[step](hosting, token))
    if step == "check_device":
        return Reply(participation.check_device(hosting, token, Device(values.width, values.height, values.browser)))
    if step == "answer_colour_vision":
        return Reply(participation.answer_colour_vision(hosting, token, values.answer))
    if step == "answer_quiz":
        return Reply(participation.answer_quiz(hosting, token, values.right))
    return Reply(participation.leave_comments(hosting, token, values.text))


def read_reply(message: Mapping[str, Any]) -> Reply:
    """Return the reply that :func:`handle_step` made a message of."""
    known, trial = message["participant"], message["trial"]
    return Reply(
        Participant(**{item.name: known[item.name] for item in fields(Participant)}) if known else None,
        message["refusal"],
        Presentation.model_validate(trial) if trial else None,
    )


@dataclass(frozen=True)
class LocalHost:
    """A study that is hosted in this process."""

    hosting: Hosting

    def step(self, step: Step, participant: str = "", **values: Any) -> Reply:
        """Take a step of a participant's way."""
        return read_reply(handle_step(self.hosting, {"step": step, "participant": participant, "values": values}))

    def answer(self, answer: Answer) -> Acknowledgement:
        """Store an answer."""
        return record_answer(self.hosting, answer)


class RemoteHost:
    """A running server, reached over HTTP. What could not be sent is sent again, until the server answers.

    Parameters
    ----------
    address
        ``http://HOST:PORT``, with a path before it if the server has one.
    patience
        Seconds for which a server may be away, to be restarted, for example.
    """

    def __init__(self, address: str, patience: float = 60.0) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise HostingError(f"{address!r} is no server's address. Give one such as http://localhost:8501")
        self._parts = parts
        self._patience = patience
        self._idle: list[http.client.HTTPConnection] = []
        self.resent = 0
        """How often something had to be sent again."""

    def step(self, step: Step, participant: str = "", **values: Any) -> Reply:
        """Take a step of a participant's way."""
        return read_reply(self._post("/api/bot", {"step": step, "participant": participant, "values": values}))

    def answer(self, answer: Answer) -> Acknowledgement:
        """Send an answer, again and again until it is acknowledged."""
        return Acknowledgement.model_validate(self._post("/api/answer", answer.model_dump(mode="json")))

    def _post(self, path: str, message: dict[str, Any]) -> dict[str, Any]:
        """Send a message and return what comes back."""
        until, pause = time.monotonic() + self._patience, 0.1
        while True:
            try:
                status, body = self._exchange(path, json.dumps(message).encode())
                if status in (200, 409):  # 409: an answer that is stale, with what comes next
                    return dict(json.loads(body))
                trouble = f"it answers {status}: {body[:200].decode(errors='replace')}"
                if status < 500 and status != 429:
                    raise HostingError(f"The server refuses {path} of a bot: {trouble}. Was it started with --bots?")
            except (OSError, http.client.HTTPException, ValueError) as error:
                trouble = str(error) or type(error).__name__
            if time.monotonic() + pause > until:
                raise HostingError(
                    f"The server {self._parts.geturl()} has not answered for {self._patience:g} s ({trouble}). "
                    "Start it, and send the bots again."
                )
            self.resent += 1
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _exchange(self, path: str, body: bytes) -> tuple[int, bytes]:
        try:
            connection = self._idle.pop()
        except IndexError:
            kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
            connection = kind(self._parts.hostname or "", self._parts.port, timeout=30)
        try:
            connection.request("POST", self._parts.path.rstrip("/") + path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            read = response.read()
        except BaseException:
            connection.close()  # it failed: the next message opens another
            raise
        self._idle.append(connection)
        return response.status, read

    def close(self) -> None:
        """Close all connections that are not in use."""
        while self._idle:
            self._idle.pop().close()


# -------------------------------------------------------------------- who bots are


@dataclass(frozen=True)
class Traits:
    """What a simulated person is like: the truth about them."""

    ability: float
    preference: float
    inattentive: bool
    hasty: bool
    slow: bool
    unable: bool
    unwilling: bool
    small_window: bool
    leaves_at: int | None
    says_goodbye: bool
    comes_back: bool

    @classmethod
    def draw(cls, population: Population, generator: np.random.Generator, moments: int) -> Traits:
        """Draw a person; ``moments`` is the length of a whole way through the study, in steps."""
        given, chance = population, generator.random(9)
        return cls(
            ability=float(generator.normal(0, given.person_sd)),
            preference=float(generator.normal(0, given.position_sd)),
            inattentive=bool(chance[0] < given.inattentive),
            hasty=bool(chance[1] < given.hasty),
            slow=bool(chance[2] < given.slow),
            unable=bool(chance[3] < given.unable),
            unwilling=bool(chance[4] < given.unwilling),
            small_window=bool(chance[5] < given.small_window),
            leaves_at=int(generator.integers(moments)) if chance[6] < given.dropout else None,
            says_goodbye=bool(chance[7] < given.goodbye),
            comes_back=bool(chance[8] < given.back),
        )

    @property
    def attentive(self) -> bool:
        """Whether the answers follow the truth of the units."""
        return not (self.inattentive or self.unable)


@dataclass(frozen=True)
class Acknowledged:
    """An answer that a host has acknowledged.

    Attributes
    ----------
    trial
        The trial's token.
    position
        What was sent first, and must be what is stored.
    kind
        ``practice``, ``main`` or ``catch``.
    task
        The task that the bot saw.
    references
        Which references were shown.
    correct
        Whether the answer is right.
    """

    trial: str
    position: str
    kind: str
    task: dict[str, Any]
    references: str
    correct: bool


@dataclass
class Story:
    """What became of a bot, by its own account.

    Attributes
    ----------
    number
        Its number.
    traits
        What it is like.
    participant
        As the host last described it; None if it was never let in.
    refusal
        Why it was not let in.
    left
        ``silent`` or ``goodbye`` if it left before the end.
    returned
        Whether it came back after it had left.
    acknowledged
        Its answers that the host acknowledged, in order.
    stale
        Answers that came too late to be stored.
    miscounted
        Answers whose second copy was not recognised: there must be none.
    """

    number: int
    traits: Traits
    participant: Participant | None = None
    refusal: str | None = None
    left: str = ""
    returned: bool = False
    acknowledged: list[Acknowledged] = field(default_factory=list)
    stale: int = 0
    miscounted: int = 0

    @property
    def outcome(self) -> str:
        """How it ended, in a word or two."""
        if self.participant is None:
            return f"not let in: {self.refusal}" if self.refusal else "not needed"
        return self.participant.outcome or "left"


class Bot:
    """A simulated person.

    Parameters
    ----------
    number
        Which one: with the seed, it decides who the person is.
    seed
        Of all that is random.
    population
        What people are like.
    truth
        What units are like.
    recognition
        Finds the task of a trial.
    rules
        The protocol's rules on sessions: how long buttons are locked, how long feedback takes.
    slow_seconds
        How long a slow person takes for a trial.
    token
        What a link carries; a bot whose first message got lost arrives again with it.
    """

    def __init__(
        self, number: int, seed: int, population: Population, truth: Truth, recognition: Recognition,
        rules: SessionRules, slow_seconds: float = 75.0, token: str = "",
    ) -> None:  # fmt: skip
        self._draws = generator_from(seed, "simulated person", number)
        practice = rules.practice_obvious + rules.practice_less_obvious
        moments = 6 + practice + rules.main_trials + rules.catch_trials
        self._population = population
        self._truth = truth
        self._recognition = recognition
        self._rules = rules
        self._slow_seconds = slow_seconds
        self._link = token or secrets.token_urlsafe(24)
        self._moment = 0
        self._next: Presentation | None = None
        self.story = Story(number, Traits.draw(population, self._draws, moments))

    def live(self, host: Host) -> Iterator[float]:
        """Take part; yields the seconds that pass until the bot does something again."""
        story = self.story
        self._take(host.step("arrive", **self._greeting()))
        while story.participant is not None and story.participant.phase not in ("debriefing", "end"):
            if self._moment == story.traits.leaves_at and not story.left:
                if story.traits.says_goodbye:
                    story.left = "goodbye"
                    self._take(host.step("stop", story.participant.token))
                    return
                story.left = "silent"
                if not story.traits.comes_back:
                    return
                yield float(self._draws.exponential(self._population.back_seconds))
                story.returned, self._next = True, None
                self._take(host.step("arrive", **self._greeting()))
                continue
            self._moment += 1
            if story.participant.phase in ("practice", "trials"):
                yield from self._answer_trial(host, story.participant)
            elif (yield from self._turn_page(host, story.participant)):
                return

    def _greeting(self) -> dict[str, str]:
        return {"token": self._link, "person": self._link, "submission": self._link}

    def _take(self, reply: Reply) -> None:
        """Note what a host says of oneself."""
        if reply.participant is not None:
            self.story.participant = reply.participant
        elif reply.refusal:
            self.story.refusal = reply.refusal

    def _turn_page(self, host: Host, known: Participant) -> Generator[float, None, bool]:
        """Do what a page asks for; returns whether the way ends here."""
        traits, uniform = self.story.traits, self._draws.uniform
        if known.phase == "device":
            yield float(uniform(1, 5))
            width = int(self._draws.integers(320, 900)) if traits.small_window else 1280
            self._take(host.step("check_device", known.token, width=width, height=800, browser="chrome"))
            return traits.small_window
        if known.phase == "consent":
            yield float(uniform(10, 60))
            self._take(host.step("decline" if traits.unwilling else "agree", known.token))
        elif known.phase == "colour vision":
            yield float(uniform(2, 6))
            self._take(host.step("answer_colour_vision", known.token, answer="normal"))
        elif known.phase == "instructions":
            yield float(uniform(4, 9) if traits.hasty else uniform(40, 120))
            self._take(host.step("finish_instructions", known.token))
        elif known.phase == "quiz":
            yield float(uniform(5, 20))
            self._take(host.step("answer_quiz", known.token, right=bool(self._draws.random() < 0.8)))
        else:
            yield float(uniform(2, 30))
            self._take(host.step("leave_comments", known.token, text="I am a simulated person."))
        return False

    def _answer_trial(self, host: Host, known: Participant) -> Iterator[float]:
        """Look at a trial and answer it, until it is acknowledged or known to be too late."""
        shown = self._next or self._ask_for_trial(host, known)
        if shown is None:
            return
        task, references = self._recognition.find(shown)
        position, confidence, seconds = self._decide(shown, task, references)
        onset = float(self._draws.uniform(5, 25))
        yield seconds + onset / 1000
        answer = Answer.model_validate({
            "participant": known.token, "trial": shown.trial, "position": position, "confidence": confidence,
            "rt_ms": seconds * 1000, "onset_delay_ms": onset, "visible": True, "focused": True, "input": "pointer",
            "early_inputs": 0,
        })  # fmt: skip
        acknowledgement = host.answer(answer)
        if acknowledgement.state in ("stored", "known"):
            kind = "practice" if shown.block == "practice" else "catch" if task["model"] == PLANTED else "main"
            right = "upper" if shown.upper == task["query_max"] else "lower"
            self.story.acknowledged.append(
                Acknowledged(shown.trial, position, kind, task, references, position == right)
            )
            if self._draws.random() < self._population.double_click:
                other = "lower" if position == "upper" else "upper"
                again = answer.model_copy(update={"position": other if self._draws.random() < 0.5 else position})
                self.story.miscounted += host.answer(again).state != "known"
        else:
            self.story.stale += 1
        if shown.feedback:
            yield self._rules.frame_seconds + self._rules.verdict_seconds + float(self._draws.uniform(0.2, 1))
        self._next = acknowledgement.next
        if self._next is None:
            self._next = self._ask_for_trial(host, known)  # the block is over: ask where one is now

    def _ask_for_trial(self, host: Host, known: Participant) -> Presentation | None:
        reply = host.step("current_trial", known.token)
        self._take(reply)
        return reply.trial

    def _decide(
        self, shown: Presentation, task: Mapping[str, Any], references: str
    ) -> tuple[Literal["upper", "lower"], int, float]:
        """Return the position, the confidence and the seconds it takes."""
        traits, draws, given = self.story.traits, self._draws, self._population
        practising = shown.block == "practice"
        share = float(sigmoid(self._truth.logit(task, references) + traits.ability))
        knows = bool(draws.random() < share) and bool(draws.random() >= given.lapse)
        guess = bool(draws.random() < sigmoid(traits.preference))
        if traits.inattentive and not practising:
            knows, guess = False, traits.preference > 0
        upper = (shown.upper == task["query_max"]) if knows else guess
        if traits.unable:
            upper = shown.upper == task["query_min"]
        certainty = 0.25 + 0.65 * share if knows else 0.1 + 0.25 * share
        # Ex-Gaussian reaction times: the less certain, the slower, and the longer the tail.
        looks = draws.normal(1.4 + 1.2 * (1 - certainty), 0.3) + draws.exponential(0.8 + 1.6 * (1 - certainty))
        seconds = max(float(looks), 0.2) + self._rules.locked_seconds
        if traits.slow and not practising:
            seconds = self._slow_seconds * float(draws.uniform(1, 1.3))
        return "upper" if upper else "lower", 1 + int(draws.binomial(2, certainty)), seconds


# -------------------------------------------------------------------- what time is


class SimulatedClock:
    """A clock that whoever plays lives sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


Life = Iterator[float]


def play(
    lives: Iterable[tuple[float, Life]], clock: SimulatedClock, advance: Advance = lambda count: None,
    enough: Callable[[], bool] = lambda: False,
) -> None:  # fmt: skip
    """Play lives on a simulated clock, one event after the other in the order of their times.

    Parameters
    ----------
    lives
        When each begins, in seconds from now, and the life.
    clock
        Is set to the time of every event.
    advance
        Is told of each life that has ended.
    enough
        Asked before a life begins; once it says yes, lives that have not begun never do.
    """
    start = clock.now
    queue = [(start + begins, number, False, life) for number, (begins, life) in enumerate(lives)]
    heapq.heapify(queue)
    while queue:
        when, number, begun, life = heapq.heappop(queue)
        clock.now = max(clock.now, when)
        if not begun and enough():
            advance(1)
            continue
        wait = next(life, None)
        if wait is None:
            advance(1)
        else:
            heapq.heappush(queue, (clock.now + wait, number, True, life))


def play_in_real_time(
    lives: Iterable[tuple[float, Life]], workers: int, speed: float = 1.0, advance: Advance = lambda count: None
) -> None:
    """Play lives while time really passes, several at once.

    Parameters
    ----------
    lives
        When each begins, in seconds from now, and the life.
    workers
        Threads: how many lives can do something at the same moment.
    speed
        How much faster than the lives themselves say; what they say of reaction times stays as it is.
    advance
        Is told of each life that has ended.
    """
    start = time.monotonic()
    queue = [(start + begins / speed, number, life) for number, (begins, life) in enumerate(lives)]
    heapq.heapify(queue)
    changed = threading.Condition()
    busy = 0
    failures: list[BaseException] = []

    def due() -> tuple[int, Life] | None:
        """Wait for the next event; None when there will be no more."""
        nonlocal busy
        with changed:
            while not failures and (queue or busy):
                now = time.monotonic()
                if queue and queue[0][0] <= now:
                    busy += 1
                    return heapq.heappop(queue)[1:]
                changed.wait(queue[0][0] - now if queue else None)
            return None

    def work() -> None:
        nonlocal busy
        while (event := due()) is not None:
            number, life = event
            try:
                wait = next(life, None)
            except BaseException as error:  # handed to whoever plays
                wait = None
                failures.append(error)
            with changed:
                busy -= 1
                if wait is None:
                    advance(1)
                else:
                    heapq.heappush(queue, (time.monotonic() + wait / speed, number, life))
                changed.notify_all()

    threads = [threading.Thread(target=work, name=f"bots-{number}", daemon=True) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # in short turns, so that an interruption is heard
    if failures:
        raise failures[0]


# -------------------------------------------------------------------- a crowd


@dataclass
class Crowd:
    """Bots that share a truth.

    Attributes
    ----------
    tasks
        All distinct tasks of the study.
    truth
        What units are like.
    bots
        Who comes, in the order in which they do.
    arrivals
        When each comes, in seconds.
    """

    tasks: pd.DataFrame
    truth: Truth
    bots: list[Bot]
    arrivals: list[float]

    @property
    def stories(self) -> list[Story]:
        """What became of the bots."""
        return [bot.story for bot in self.bots]

    def lives(self, *hosts: Host) -> list[tuple[float, Life]]:
        """Return the bots' lives, dealt to hosts in turn."""
        return [
            (when, bot.live(hosts[number % len(hosts)]))
            for number, (when, bot) in enumerate(zip(self.arrivals, self.bots))
        ]


def draw_crowd(
    stimuli: pd.DataFrame, rules: SessionRules, *, participants: int, seed: int = 0, interval: float = 60.0,
    population: Population | None = None, slow_seconds: float = 75.0, first: int = 0, truth_seed: int | None = None,
) -> Crowd:  # fmt: skip
    """Draw simulated people.

    Parameters
    ----------
    stimuli
        The table of stimuli.
    rules
        The protocol's rules on sessions.
    participants
        How many.
    seed
        Of all that is random about them.
    interval
        Mean seconds between two arrivals.
    population
        What they are like.
    slow_seconds
        How long slow ones take for a trial.
    first
        Number of the first: with the seed it decides who somebody is.
    truth_seed
        Of what is true of the units, if it is not that of the people.
    """
    given = population or Population()
    tasks = assemble_tasks(stimuli)
    truth = Truth(seed if truth_seed is None else truth_seed, given)
    recognition = Recognition(tasks)
    bots = [
        Bot(number, seed, given, truth, recognition, rules, slow_seconds)
        for number in range(first, first + participants)
    ]
    arrivals = np.cumsum(generator_from(seed, "arrivals", first).exponential(interval, size=participants)).tolist()
    return Crowd(tasks, truth, bots, arrivals)
