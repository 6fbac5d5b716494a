"""Result files of models that do not exist, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import numpy as np

from analysis.intervals import means
from analysis.leaderboard.result import (
    MachineCounts,
    Making,
    ModelFacts,
    PeopleCounts,
    PoolFacts,
    ProtocolFacts,
    Result,
    StimulusFacts,
    UnitFacts,
)
from analysis.leaderboard.scores import score_result
from benchmark.protocol import load_protocol

TASKS = 20
SEER = "features:seer"

P = ParamSpec("P")

_made: dict[str, Result] = {}


def _made_once(make: Callable[P, Result]) -> Callable[P, Result]:
    """Make a result once for the same arguments: scoring takes a while, and no result can be changed."""

    @wraps(make)
    def kept(*given: P.args, **facts: P.kwargs) -> Result:
        key = repr((given, sorted(facts.items()), means.RESAMPLES))
        if key not in _made:
            _made[key] = make(*given, **facts)
        return _made[key]

    return kept


@_made_once
def made_up_result(
    name: str,
    *,
    score: float = 0.9,
    low_level: float | None = 0.7,
    twin: float | None = 0.7,
    units: int = 84,
    seed: int = 0,
    people: dict[str, float] | None = None,
    answers_per_unit: int = 30,
    people_kind: str = "human",
    related: bool = False,
    condition: str = "natural",
    pool: str = "photographs",
    identity: str = "vimi1",
    notes: Sequence[str] = (),
    kind: str = "trained",
    family: str = "made-up",
    flags: dict[int, str] | None = None,
    method: dict[str, Any] | None = None,
    followed: bool = True,
    **changes: Any,
) -> Result:
    """Return the sealed result of a made-up model.

    ``score``, ``low_level`` and ``twin`` are the probabilities with which observers are right; ``people`` maps a study
    to that of its people, thirty of whom judge every unit once. Natural stimuli were also asked about over half of
    the pool (without scores of their own), unless they are not ``followed``.
    """
    rng = np.random.default_rng([seed, *map(ord, name)])
    known = flags or {}
    counts = []
    for subject, observer, chance in (
        ("model", SEER, score), ("model", "lowlevel", low_level), ("twin", SEER, twin), ("twin", "lowlevel", twin),
    ):  # fmt: skip
        if chance is None:
            continue
        right = rng.binomial(TASKS, chance, units)
        counts.append(
            MachineCounts.model_validate(
                {
                    "subject": subject, "condition": condition, "difficulty": "easy", "references": "both",
                    "observer": observer, "related": related and observer == SEER, "protocol": identity,
                    "pool_size": 50_000, "right": right.tolist(), "answered": [TASKS] * units,
                }
            )
        )  # fmt: skip
    asked = [
        _people(study, chance, units, answers_per_unit, people_kind, condition, rng)
        for study, chance in (people or {}).items()
    ]
    protocol = load_protocol(identity.partition("+")[0])
    result = Result.model_validate(
        {
            "model": ModelFacts.model_validate(
                {"name": name, "title": name, "family": family, "kind": kind, "weights": name.encode().hex() * 4,
                 "twin_weights": "0f" * 16 if twin is not None else "", "parameters": 1_000_000 + 1000 * len(name)}
            ),
            "protocol": ProtocolFacts(
                identity=identity, name=protocol.name, rules=protocol.rules.model_dump(mode="json", exclude={"summary"})
            ),
            "pool": PoolFacts(name=pool, source="folder", identity=f"hash of {pool}", size=50_000),
            "stimuli": [StimulusFacts(condition=condition, hash=f"{name}{condition}", method=method or {})],
            "notes": list(notes),
            "units": [
                UnitFacts(layer=f"layer{k % 4}", basis="neuron", index=k, aggregator="mean", flag=known.get(k, ""))
                for k in range(units)
            ],
            "machines": counts,
            "people": asked,
            "made": Making(made_at="2026-11-23T00:00:00+00:00", study="study", seed=3),
            **changes,
        }
    )  # fmt: skip
    scored = result.model_copy(update={"scores": score_result(result)})
    if not followed or condition != "natural":
        return scored.sealed()
    half = {"pool_size": 25_000, "protocol": f"{identity.partition('+')[0]}+12345678"}
    parts = tuple(own.model_copy(update=half) for own in scored.machines if own.subject == "model")
    return scored.model_copy(update={"machines": (*scored.machines, *parts)}).sealed()


def _people(
    study: str, chance: float, units: int, answers: int, kind: str, condition: str, rng: np.random.Generator
) -> PeopleCounts:
    people = [f"p{k:03d}" for k in range(answers)]
    person, unit = (axis.ravel().tolist() for axis in np.mgrid[0:answers, 0:units])
    right = (rng.random(answers * units) < chance).astype(int).tolist()
    return PeopleCounts.model_validate(
        {
            "study": study, "kind": kind, "condition": condition, "difficulty": "easy", "references": "both",
            "people": people, "person": person, "unit": unit, "right": right, "answered": [1] * len(unit),
        }
    )  # fmt: skip
