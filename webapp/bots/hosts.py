"""Where bots are sent: this process, or a running server; and the server's side of it."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.errors import HostingError
from webapp import participation
from webapp.answering import Acknowledgement, Answer, ShownTrial, current_trial, record_answer
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
    trial: ShownTrial | None = None


class Host(Protocol):
    """Where bots are sent: this process, or a running server."""

    def step(self, step: Step, participant: str = "", **values: Any) -> Reply:
        """Take a step of a participant's way."""

    def answer(self, answer: Answer) -> Acknowledgement:
        """Send an answer; a reply means that it is committed."""


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
        raise HostingError("This server does not accept bots. Start it with --bots, on a separate database.")
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
    """Parse a message of :func:`handle_step` into its reply."""
    known, trial = message["participant"], message["trial"]
    return Reply(
        Participant(**{item.name: known[item.name] for item in fields(Participant)}) if known else None,
        message["refusal"],
        ShownTrial.model_validate(trial) if trial else None,
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
            raise HostingError(f"{address!r} is not a server's address. Give one such as http://localhost:8501")
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
        """Send a message and return the reply."""
        until, pause = time.monotonic() + self._patience, 0.1
        while True:
            try:
                status, body = self._exchange(path, json.dumps(message).encode())
                if status in (200, 409):  # 409: an answer that is stale, with what comes next
                    return dict(json.loads(body))
                trouble = f"it answers {status}: {body[:200].decode(errors='replace')}"
                if status < 500 and status != 429:
                    raise HostingError(f"The server refuses {path} from a bot: {trouble}. Was it started with --bots?")
            except (OSError, http.client.HTTPException, ValueError) as error:
                trouble = str(error) or type(error).__name__
            if time.monotonic() + pause > until:
                raise HostingError(
                    f"The server {self._parts.geturl()} has not responded for {self._patience:g} s ({trouble}). Start "
                    "it, and send the bots again."
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
