"""Signs that an agent answers: signed requests, a jumping pointer, text that was not typed.

They are evidence for exclusion rules that an analysis names, and turn nobody away: eye trackers, voice control and
dictation leave some of the same signs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.engine import Connection

from benchmark.database import people

JUMP_PIXELS, JUMP_MOVES = 40, 2
"""A pointer that comes so far with so few events was put there: a hand's way is sampled at least every 16 ms."""

CENTRE_PIXELS = 1
"""Nearer to the middle of a button, in both directions, programs press and people rarely do."""

LONGEST_NAME = 60

Count = Annotated[int, Field(ge=0, le=1_000_000)]


class Writing(BaseModel):
    """How a free text was written, in numbers. Neither the text nor its keys are in it.

    Attributes
    ----------
    keys
        Keys that went down in the field.
    pastes, pasted
        How often something was pasted or dropped into it, and how many characters that were.
    inserted
        Characters that came in without a key before them and without pasting: dictation, a keyboard's suggestion,
        or a program.
    scripted
        Events that a script made.
    key_ms
        Median time from one key to the next.
    seconds
        From the first to the last event.
    """

    model_config = ConfigDict(extra="forbid")

    keys: Count = 0
    pastes: Count = 0
    pasted: Count = 0
    inserted: Count = 0
    scripted: Count = 0
    key_ms: Annotated[float, Field(ge=0, le=86_400_000, allow_inf_nan=False)] | None = None
    seconds: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] = 0


def signed_agent(headers: Mapping[str, str]) -> str | None:
    """Return the agent that a signed request names, or None if the request is not signed.

    Agents that go by Web Bot Auth send ``Signature-Agent`` beside the signature of RFC 9421. The signature is not
    verified, since the key lies with the agent's maker and a host need not reach the internet: who wants to be taken
    for an agent can be.

    Parameters
    ----------
    headers
        Of the request; names in any case.
    """
    given = {name.lower(): value for name, value in headers.items()}
    if not given.get("signature") or not given.get("signature-input"):
        return None
    agent = given.get("signature-agent", "")
    if not agent and "web-bot-auth" not in given["signature-input"]:
        return None
    address = agent.strip().strip('"')
    name = urlsplit(address if "//" in address else f"//{address}").hostname or "unnamed"
    return re.sub(r"[^a-z0-9.-]", "", name)[:LONGEST_NAME] or "unnamed"


def pointer_signs(trace: Mapping[str, float], pointer: bool) -> list[str]:
    """Return signs of a program in an answer's pointer trace: ``pointer jump``, ``centred press``.

    Parameters
    ----------
    trace
        Summary of the pointer during the trial.
    pointer
        Whether the answer was given with it.
    """
    if not pointer or trace.get("touch"):
        return []
    signs = []
    if trace.get("path", 0) >= JUMP_PIXELS and trace.get("moves", 0) <= JUMP_MOVES:
        signs.append("pointer jump")
    offsets = [trace.get("offset_x"), trace.get("offset_y")]
    if all(offset is not None and abs(offset) <= CENTRE_PIXELS for offset in offsets):
        signs.append("centred press")
    return signs


def note_agent(connection: Connection, participant: int, agent: str) -> None:
    """Note that an agent signed a participant's requests."""
    evidence = _read(connection, participant)
    agents = evidence.setdefault("agents", [])
    if agent not in agents and len(agents) < 5:
        agents.append(agent)
        _write(connection, participant, evidence)


def note_writing(connection: Connection, participant: int, writing: Writing) -> None:
    """Note how a participant's comment was written."""
    evidence = _read(connection, participant)
    evidence["writing"] = writing.model_dump(exclude_none=True)
    _write(connection, participant, evidence)


def _read(connection: Connection, participant: int) -> dict[str, Any]:
    stored = connection.execute(sa.select(people.c.evidence).where(people.c.id == participant)).scalar()
    evidence: dict[str, Any] = json.loads(stored) if stored else {}
    return evidence


def _write(connection: Connection, participant: int, evidence: dict[str, Any]) -> None:
    connection.execute(people.update().where(people.c.id == participant).values(evidence=json.dumps(evidence)))
