"""Recomputing a result file's own statements: identity, experiment, model, notes, counts, scores, pictures.

Nothing that a file names is run or looked up, apart from the cards and protocols that ship with vimi.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.leaderboard.pictures import open_sheet
from analysis.leaderboard.result import MachineCounts, PeopleCounts, Result, Score
from analysis.leaderboard.scores import interval_of, score_result
from benchmark.documents import parse
from benchmark.errors import VimiError, first_line, suggest
from benchmark.experiment import Experiment
from benchmark.hashing import LENGTH
from benchmark.model_card import TWIN_SUFFIX, ModelCard, card_names
from benchmark.model_sources import load_card
from benchmark.observers.base import SHUFFLED, Kinship
from benchmark.plumbing import PLUMBING, repeats_groups
from benchmark.progress import Reporter
from benchmark.protocol import DIFFICULTIES, REFERENCES, Protocol, Rules, load_protocol, protocol_names

VALUE_TOLERANCE = 1e-9
"""By how much a score may differ from the one that its counts give."""

END_TOLERANCE = 0.05
"""By which share of its width an interval's ends may differ: other versions of numpy and scipy may draw other
bootstrap replicates from the same seed.
"""

MOST_ANSWERS = 5_000_000
"""Answers of a file that are counted through at all; a release has some ten thousand."""

Counts = MachineCounts | PeopleCounts

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+@:/~-]*")
"""What models are called: letters of other alphabets look like these, and a name like another's is no name."""

FLAGS = ("", "constant", "dead", "silent")
"""Flags that units have, see ``benchmark.schemas.UNIT_STATISTICS``."""

HASH = re.compile(rf"[0-9a-f]{{{LENGTH}}}")
"""What vimi's hashes look like."""


@dataclass(frozen=True)
class Inspection:
    """One thing that was looked at.

    Attributes
    ----------
    name
        What it is: ``scores``.
    holds
        Whether the file passes.
    sentence
        What was found.
    differences
        Where the file departs from what was computed, a sentence each; empty if nowhere.
    """

    name: str
    holds: bool
    sentence: str
    differences: tuple[str, ...] = ()


def conclude(name: str, wrong: Sequence[str], good: str, bad: str) -> Inspection:
    """Return an inspection that holds if nothing is wrong."""
    return Inspection(name, not wrong, bad if wrong else good, tuple(wrong))


def spell(value: Any) -> str:
    """Write a value for a message, shortened."""
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 160 else f"{text[:157]}…"


def check_measured(result: Result, reporter: Reporter | None) -> list[Inspection]:
    """Check all statements of a file of measured results."""
    protocol, rules = _check_protocol(result)
    counts = _check_counts(result, rules)
    return [
        protocol,
        _check_making(result, rules),
        _check_model(result),
        _check_stimuli(result),
        _check_notes(result, rules),
        _check_units(result),
        counts,
        _check_scores(result, reporter)
        if counts.holds
        else Inspection("scores", False, "Not computed: these counts give no scores."),
        _check_pictures(result),
    ]


def _check_protocol(result: Result) -> tuple[Inspection, Protocol | None]:
    """Compute the protocol's identity from the rules in the file."""
    given = result.protocol
    if given.name not in protocol_names():
        sentence = f"vimi has no protocol {given.name!r}. {suggest(given.name, protocol_names())}"
        return Inspection("protocol", False, sentence), None
    try:
        summary = load_protocol(given.name).rules.summary  # a file has the rules alone
        protocol = Protocol(parse(Rules, {**given.rules, "summary": summary}, "protocol.rules"))
    except VimiError as error:
        return Inspection("protocol", False, f"Its rules do not form a protocol: {error}"), None
    wrong = []
    if protocol.name != given.name:
        wrong.append(f"the file says {given.name}, its rules are called {protocol.name}")
    elif protocol.identity != given.identity:
        wrong.append(f"the file says {given.identity}, its rules give {protocol.identity}")
    if protocol.rules.pool.size != result.pool.size:
        wrong.append(
            f"the rules are for a pool of {protocol.rules.pool.size:,} pictures, and the file's has "
            f"{result.pool.size:,}"
        )
    found = conclude(
        "protocol", wrong, f"The identity {given.identity} matches its rules.", "Its identity does not match its rules."
    )
    return found, protocol


def _check_making(result: Result, protocol: Protocol | None) -> Inspection:
    """Check that the experiment in the file gives its protocol and names its model."""
    made = result.made
    if not made.experiment:
        return Inspection("experiment", False, "The file does not say from which experiment it was made.")
    try:
        experiment = parse(Experiment, dict(made.experiment), "made.experiment")
        resolved = experiment.resolve_protocol()
    except (VimiError, ValueError, TypeError) as error:
        return Inspection("experiment", False, f"The experiment in the file can't be read: {error}")
    wrong = []
    # Compared without the size of the pool, which an experiment does not know.
    if protocol is not None and resolved.for_pool(1).identity != protocol.for_pool(1).identity:
        wrong.append(
            f"the experiment asks for {resolved.name} with other rules than the file's: for this pool they would give "
            f"{resolved.for_pool(max(result.pool.size, 1)).identity}, and the file says {result.protocol.identity}"
        )
    if experiment.seed != made.seed:
        wrong.append(f"the experiment's seed is {experiment.seed}, and the file says {made.seed}")
    if not 0 <= made.seed < 2**63:
        wrong.append(f"{made.seed} is not a valid seed")
    names = [entry.card.removeprefix("timm:") for entry in experiment.models if not entry.weights]
    shipped = len(names) == len(experiment.models) and all(name in card_names() for name in names)
    if shipped and result.model.name not in (*names, *(f"{name}@random" for name in names)):
        wrong.append(f"the experiment has the models {', '.join(names)}, but the file is about {result.model.name}")
    if not HASH.fullmatch(made.study):
        wrong.append("the study has no hash")
    return conclude(
        "experiment", wrong, "The experiment in the file matches its protocol and its model.",
        "The file can't have been made from the experiment in it.",
    )  # fmt: skip


def _check_model(result: Result) -> Inspection:
    """Check the facts of the model: against its name, and against the card that ships with vimi."""
    model = result.model
    untrained = model.name.endswith(("@random", TWIN_SUFFIX))
    wrong = []
    if not NAME.fullmatch(model.name):
        wrong.append(f"a model can't be called {model.name[:60]!r}")
    if untrained != (model.kind == "untrained"):
        wrong.append(f"the model is called {model.name}, but the file says that it is {model.kind}")
    if model.kind == "untrained" and (model.training or model.accuracy):
        wrong.append("random weights have no training data and no accuracy")
    if not HASH.fullmatch(model.weights):
        wrong.append(f"the weights have no hash: {model.weights[:40]!r}")
    if model.twin_weights and not HASH.fullmatch(model.twin_weights):
        wrong.append(f"the twin's weights have no hash: {model.twin_weights[:40]!r}")
    if model.weights and model.weights == model.twin_weights:
        wrong.append("the model and its twin have the same weights")
    for name in ("parameters", "layers", "units", "canonical_units"):
        if (number := getattr(model, name)) is not None and number <= 0:
            wrong.append(f"{name} is {number}")
    if None not in (model.units, model.canonical_units) and model.canonical_units > model.units:  # type: ignore[operator]
        wrong.append(f"it has {model.canonical_units:,} canonical units of {model.units:,}")
    base = model.name.removesuffix(TWIN_SUFFIX).partition("@")[0]
    if base not in card_names():
        good = f"vimi has no card of {model.name}: its author states its facts."
        return conclude("model", wrong, good, "Its facts about the model are impossible.")
    wrong += _compare_card(result, load_card(base))
    return conclude("model", wrong, f"Its facts match vimi's card {base}.",
                  f"Its facts about the model differ from vimi's card {base}.")  # fmt: skip


def _compare_card(result: Result, card: ModelCard) -> Iterator[str]:
    """Say where a model's facts depart from its card; weights of one's own leave only the architecture."""
    model = result.model
    named: dict[str, Any] = {
        "family": card.family, "architecture": card.timm, "parameters": card.parameters,
        "input": card.input.model_dump(mode="json"),
    }  # fmt: skip
    if model.name == card.name:
        named |= {
            "title": card.title, "licence": card.licence, "source": card.source,
            "training": card.training.model_dump(mode="json") if card.training else None,
            "accuracy": card.accuracy.model_dump(mode="json") if card.accuracy else None,
        }  # fmt: skip
    given = model.model_dump(mode="json")
    for name, value in named.items():
        if value is not None and given[name] != value:
            yield f"{name}: the file says {spell(given[name])}, the card {spell(value)}"


def _check_stimuli(result: Result) -> Inspection:
    """Check that every condition's stimuli are described exactly once."""
    wrong = []
    shown = Counter(facts.condition for facts in result.stimuli)
    wrong += [f"{condition} is described {count} times" for condition, count in shown.items() if count > 1]
    asked = {counts.condition for counts in every_count(result)}
    asked |= {score.condition for score in result.scores}
    wrong += [
        f"{condition} was asked about, but its stimuli are not described" for condition in sorted(asked - {*shown})
    ]
    for facts in result.stimuli:
        if not HASH.fullmatch(facts.hash):
            wrong.append(f"the stimuli of {facts.condition} have no hash")
        if not 0 <= facts.repeated_groups <= 1 or not 0 <= (facts.accepted or 0) <= 1:
            wrong.append(
                f"a share of {facts.condition} is not between 0 and 1: {facts.repeated_groups}, {facts.accepted}"
            )
        if (facts.condition == "natural") == bool(facts.method):
            wrong.append(f"{facts.condition} stimuli are made by {facts.method or 'nothing'}")
        elif facts.method and not {"preset", "canvas", "steps"} <= set(facts.method):
            wrong.append(f"the method of the {facts.condition} stimuli is missing: {facts.method}")
    return conclude("stimuli", wrong, f"{' and '.join(shown) or 'Nothing'}: the stimuli are described.",
                  "The stimuli are not described as they must be.")  # fmt: skip


def _check_notes(result: Result, protocol: Protocol | None) -> Inspection:
    """Check that results that measure nothing are marked, by the rule with which a build marks a study."""
    facts = result.pool.facts
    few = "bundled" in (result.pool.source, result.pool.name, facts.get("source"), facts.get("name"))
    natural = result.shown("natural")
    repeated = natural.repeated_groups if natural else 0.0
    wrong = []
    for name in ("source", "name", "size", "labelled"):
        if name in facts and facts[name] != getattr(result.pool, name):
            wrong.append(f"the pool's {name} is {getattr(result.pool, name)!r}, and among its facts {facts[name]!r}")
    if not HASH.fullmatch(result.pool.identity):
        wrong.append(f"the pool's identity is not a hash: {result.pool.identity[:40]!r}")
    if PLUMBING not in result.notes:
        if few:
            wrong.append(f"the pool is the bundled one, but the note {PLUMBING!r} is missing")
        if repeats_groups(repeated, protocol):
            wrong.append(
                f"{repeated:.1%} of pictures repeat a group of their task, but the note {PLUMBING!r} is missing"
            )
    said = f"It says that it is a {PLUMBING}." if PLUMBING in result.notes else (
        f"Its pool keeps groups apart ({repeated:.1%} of pictures repeat one), so it needs no note."
    )  # fmt: skip
    return conclude("notes", wrong, said, "Its note on validity is missing.")


def _check_units(result: Result) -> Inspection:
    keys = Counter((unit.layer, unit.basis, unit.index, unit.aggregator) for unit in result.units)
    wrong = [f"{'/'.join(map(str, key))} appears {count} times" for key, count in keys.items() if count > 1]
    for unit in result.units:
        shares = (unit.depth, unit.tie_share, unit.positive_share)
        if unit.index < 0 or any(share is not None and not 0 <= share <= 1 for share in shares):
            wrong.append(f"the facts about {unit.layer}:{unit.index} are impossible")
        if not {unit.flag, unit.twin_flag} <= set(FLAGS):
            wrong.append(f"{unit.layer}:{unit.index} has an unknown flag: {unit.flag or unit.twin_flag}")
    if not result.units:
        wrong.append("it has none")
    return conclude("units", wrong, f"{len(result.units)} units, no two alike.", "Its units are impossible.")


# -------------------------------------------------------------------- counts


def _check_counts(result: Result, protocol: Protocol | None) -> Inspection:
    """Check that the counts can be those of answers under the protocol."""
    wrong: list[str] = []
    if protocol is None:
        wrong.append("the protocol's rules are unknown, so counts can't be checked against them")
    else:
        for machine in result.machines:
            wrong += [f"{name_cell(machine)}: {problem}" for problem in _machine_problems(machine, result, protocol)]
        for people in result.people:
            wrong += [f"{name_cell(people)}: {problem}" for problem in _people_problems(people, result, protocol)]
        wrong += _unequal_tasks(result)
    total = sum(sum(counts.answered) for counts in every_count(result))
    if total > MOST_ANSWERS:
        wrong.append(f"{total:,} answers are more than a file may have")
    if not total:
        wrong.append("nobody has answered")
    if any(counts.subject == "twin" for counts in result.machines) and not result.model.twin_weights:
        wrong.append("it has answers about its twin, but does not name the twin's weights")
    machines = sum(sum(counts.answered) for counts in result.machines)
    said = f"{machines:,} answers by machines and {total - machines:,} by people are consistent with the protocol."
    return conclude("counts", wrong, said, "These counts are impossible under the protocol.")


def _machine_problems(counts: MachineCounts, result: Result, protocol: Protocol) -> Iterator[str]:
    yield from _cell_problems(counts, result)
    size = counts.pool_size
    if not 0 < size <= result.pool.size:
        yield f"a pool of {size:,} pictures can't be part of one of {result.pool.size:,}"
        return
    # A smaller pool is another protocol: its size is among the rules.
    identity = result.protocol.identity if size == result.pool.size else protocol.for_pool(size).identity
    if counts.protocol != identity:
        yield f"answered under {counts.protocol}, not under {identity}"
    most = max(counts.answered, default=0)
    if most > protocol.tasks_per_unit:
        yield f"a unit was asked about {most:,} times, but has {protocol.tasks_per_unit} tasks"
    if counts.observer.endswith(SHUFFLED):
        yield "an observer with shuffled references can't be on a leaderboard"
    for value, answered in zip(counts.probability, counts.answered):
        if not -1e-9 <= value <= answered + 1e-6:
            yield f"probabilities of {answered} answers can't add up to {value}"
            break
    if not counts.related and is_relative(counts.observer, counts.subject, result):
        yield "this observer is a relative of the model, but the file says that it is not"


def _unequal_tasks(result: Result) -> Iterator[str]:
    """Say where machines were asked about other tasks than others: all see all, so that none is scored on a choice."""
    known: dict[tuple[Any, ...], MachineCounts] = {}
    for counts in result.machines:
        cell = (counts.subject, counts.condition, counts.difficulty, counts.references, counts.pool_size)
        first = known.setdefault(cell, counts)
        if first.answered != counts.answered:
            yield f"{name_cell(counts)}: its number of answers per unit differs from that of {first.observer}"


def is_relative(observer: str, subject: str, result: Result) -> bool:
    """Whether an observer that is made of a network with a card is known to be a relative of the model, or of its twin.

    A twin was trained on nothing: it shares its architecture with its relatives, and no data.
    """
    kind, _, specification = observer.partition(":")
    base = specification.partition("@")[0]
    if kind != "features" or base not in card_names():
        return False
    kinship, training = Kinship.of(load_card(base)), result.model.training
    data = set(training.data) if training and subject == "model" else set()
    return result.model.family in kinship.families or bool(kinship.data & data)


def _people_problems(counts: PeopleCounts, result: Result, protocol: Protocol) -> Iterator[str]:
    yield from _cell_problems(counts, result)
    if len(set(counts.people)) != len(counts.people):
        yield "two people have the same code"
    if len(set(zip(counts.person, counts.unit))) != len(counts.person):
        yield "a person and a unit appear together twice"
    if len(set(counts.person)) != len(counts.people):
        yield "a listed person has no answers"
    if counts.excluded < 0:
        yield f"{counts.excluded} is an impossible number of excluded sessions"
    by_person: Counter[int] = Counter()
    for person, answered in zip(counts.person, counts.answered):
        by_person[person] += answered
    most, allowed = max(by_person.values(), default=0), protocol.rules.session.main_trials
    if most > allowed:
        yield f"a person has answered {most:,} times, but a session has {allowed} trials"


def _cell_problems(counts: MachineCounts | PeopleCounts, result: Result) -> Iterator[str]:
    if counts.difficulty not in DIFFICULTIES:
        yield f"unknown difficulty {counts.difficulty!r}"
    if counts.references not in REFERENCES:
        yield f"unknown mode of references {counts.references!r}"
    if result.shown(counts.condition) is None:
        yield "the stimuli are not described"


def every_count(result: Result) -> list[Counts]:
    """Return the counts of machines and of people."""
    return [*result.machines, *result.people]


def name_cell(counts: Counts) -> str:
    """Name what counts are about: ``natural, easy, both, by lowlevel, of the twin``."""
    about = f"{counts.condition}, {counts.difficulty}, {counts.references}"
    if isinstance(counts, PeopleCounts):
        return f"{about}, by {counts.kind} people"
    return f"{about}, by {counts.observer}, of the {counts.subject}, {counts.pool_size:,} pictures"


# -------------------------------------------------------------------- scores


def _check_scores(result: Result, reporter: Reporter | None) -> Inspection:
    """Compute every score from the counts."""
    try:
        computed = score_result(result, reporter=reporter, interval=interval_of(result))
    except Exception as error:  # whatever a file provokes, the answer is that its counts give no scores
        reason = first_line(error)
        return Inspection("scores", False, f"Its counts give no scores: {reason}")
    wrong = list(compare_scores(result.scores, computed, "its counts give"))
    return conclude(
        "scores", wrong,
        f"All {len(computed)} were computed again from the counts, by the file's own method, and agree: values within "
        f"{VALUE_TOLERANCE:g}, "
        f"intervals within {END_TOLERANCE:.0%} of their width.",
        f"{len(wrong)} of {max(len(computed), len(result.scores))} differ from the scores computed from its counts.",
    )  # fmt: skip


def compare_scores(given: Sequence[Score], computed: Sequence[Score], source: str) -> Iterator[str]:
    """Say where scores differ.

    Parameters
    ----------
    given
        The file's.
    computed
        What they should be. How an interval was made is said in words, which may change from one version of vimi to
        the next, and is not compared.
    source
        Where these come from: ``its counts give``.
    """
    mine, right = ({score.key: score for score in scores} for scores in (given, computed))
    for key, score in mine.items():
        if key not in right:
            yield f"{_name_score(score)}: the file says {score.estimate}, {source} no such score"
        elif not _agrees(score, right[key]):
            yield f"{_name_score(score)}: {_tell_apart(score, right[key], source)}"
    for key, score in right.items():
        if key not in mine:
            yield f"{_name_score(score)}: the file lacks it, {source} {score.estimate}"


def _agrees(given: Score, computed: Score) -> bool:
    exact = ("n", "unit", "estimand", "level", "answers")
    if any(getattr(given, name) != getattr(computed, name) for name in exact):
        return False
    width = computed.high - computed.low
    allowed = END_TOLERANCE * width + VALUE_TOLERANCE if math.isfinite(width) else VALUE_TOLERANCE
    return (
        abs(given.value - computed.value) <= VALUE_TOLERANCE
        and _is_near(given.low, computed.low, allowed)
        and _is_near(given.high, computed.high, allowed)
    )


def _is_near(given: float, computed: float, allowed: float) -> bool:
    return given == computed or abs(given - computed) <= allowed


def _tell_apart(given: Score, computed: Score, source: str) -> str:
    """Say how two scores differ: rounded, or exactly where the rounded values are equal."""
    if str(given.estimate) != str(computed.estimate):
        return f"the file says {given.estimate}, {source} {computed.estimate}"
    for name in ("value", "low", "high", "n", "unit", "estimand", "level", "answers"):
        if getattr(given, name) != getattr(computed, name):
            return f"{name}: the file says {getattr(given, name)!r}, {source} {getattr(computed, name)!r}"
    return "they differ"


def _name_score(score: Score) -> str:
    about = [score.quantity, score.condition, score.difficulty]
    about += [f"{score.references} shown"] if score.references != "both" else []
    by = score.observer if score.observer_kind == "machine" else f"{score.observer_kind} {score.observer}"
    return f"{', '.join(about)}, by {by}, {score.pool_size:,} pictures"


# -------------------------------------------------------------------- pictures


def _check_pictures(result: Result) -> Inspection:
    wrong = []
    shown = Counter(sheet.condition for sheet in result.pictures)
    for sheet in result.pictures:
        if shown[sheet.condition] > 1 or result.shown(sheet.condition) is None:
            wrong.append(f"there is more than one sheet of {sheet.condition}")
        if len(set(sheet.units)) != len(sheet.units):
            wrong.append(f"the sheet of {sheet.condition} shows a unit twice")
        try:
            open_sheet(sheet)
        except Exception as error:  # a picture from a stranger: whatever the decoder finds wrong with it, it is no good
            wrong.append(str(error).strip() or f"a sheet of {sheet.condition} can't be read: {type(error).__name__}")
    good = f"Sheets of pictures: {len(result.pictures)}, all readable and of the stated size."
    if not result.pictures:
        good = "The file has no pictures."
    return conclude("pictures", wrong, good, "Its sheets of pictures do not match their description.")
