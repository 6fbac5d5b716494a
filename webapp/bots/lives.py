"""One simulated person: their traits, their actions and their outcome."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from benchmark.protocol import SessionRules
from benchmark.randomness import generator_from
from benchmark.units import PLANTED
from webapp.answering import Answer, ShownTrial
from webapp.bots.hosts import Host, Reply
from webapp.bots.population import BotPopulation, Recognition, Truth, sigmoid
from webapp.participation import Participant


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
    def draw(cls, population: BotPopulation, generator: np.random.Generator, moments: int) -> Traits:
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
        self, number: int, seed: int, population: BotPopulation, truth: Truth, recognition: Recognition,
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
        self._next: ShownTrial | None = None
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
        """Note what a host reports about this person."""
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

    def _ask_for_trial(self, host: Host, known: Participant) -> ShownTrial | None:
        reply = host.step("current_trial", known.token)
        self._take(reply)
        return reply.trial

    def _decide(
        self, shown: ShownTrial, task: Mapping[str, Any], references: str
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
