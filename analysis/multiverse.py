"""One question, asked in every defensible way: the headline estimate over a grid of exclusions and analysis choices.

A specification names one option of every choice: each exclusion rule left out, as the protocol has it, more lenient or
stricter; which answers count; and how the mean is taken. All specifications together say how far the headline rests on
choices that could have been made differently: Steegen, Tuerlinckx, Gelman & Vanpaemel (2016), Increasing transparency
through a multiverse analysis, Perspectives on Psychological Science 11; Simonsohn, Simmons & Nelson (2020),
Specification curve analysis, Nature Human Behaviour 4.

Every rule judges every session once; specifications that leave the same answers share one estimate. They are one
result, however many there are: agreement is counted over distinct sets of answers, and a choice that changes nothing
in these data (a rule about times that nobody knows, say) is dropped from the grid and named.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.exclusions import (
    AUTHENTIC,
    COMPLETE,
    FIRST_PARTICIPATION,
    Rule,
    catch_rule,
    instruction_time_rule,
    position_rule,
    practice_rule,
    tabulate_sessions,
    total_time_rule,
)
from analysis.judgement_table import judgements
from analysis.proportions import Mean, estimate_proportions
from analysis.results import AnalysisResult, Plotted, Record
from analysis.settings import Settings, choose
from analysis.threads import threaded
from benchmark.errors import AnalysisError, NameNotFound
from benchmark.estimate import Estimate, spell_value
from benchmark.progress import Reporter
from benchmark.protocol import Protocol, load_protocol

__all__ = [
    "HEADLINES",
    "Agreement",
    "Choice",
    "Multiverse",
    "Specification",
    "proportion_headline",
    "rule_choices",
    "run_multiverse",
]

OFF = "off"
MOST = 20_000
"""Specifications that are estimated at most, unless more are asked for."""

Headline = Callable[[pd.DataFrame], "Estimate | Mapping[str, Estimate]"]
"""From a table of judgements to the headline: one estimate, or several with names."""

Filter = Callable[[pd.DataFrame], NDArray[np.bool_]]


@dataclass(frozen=True)
class Choice:
    """Something that could be decided differently.

    Attributes
    ----------
    name
        What is decided.
    options
        From each option's name to the rule on sessions, or to the filter on judgements; None leaves all in.
    protocol
        The option that the protocol takes.
    """

    name: str
    options: Mapping[str, Rule | Filter | None]
    protocol: str

    def __post_init__(self) -> None:
        if self.protocol not in self.options:
            raise AnalysisError(f"The choice {self.name!r} lacks the protocol's option {self.protocol!r}.")


@dataclass(frozen=True)
class Specification(Record):
    """One way to answer the question.

    Attributes
    ----------
    settings
        The option of every choice.
    headline
        Name of the estimate, where the headline has several.
    sessions, answers
        How many are left.
    estimate
        What comes out.
    protocol
        Whether this is the protocol's own specification.
    answer_set
        Number of its set of answers and kind of mean: specifications that share it are one result.
    """

    settings: dict[str, str]
    headline: str
    sessions: int
    answers: int
    estimate: Estimate
    protocol: bool
    answer_set: int = 0


def _results(distinct: int) -> str:
    return "one set of answers" if distinct == 1 else f"{distinct:,} different sets of answers"


@dataclass(frozen=True)
class Agreement(Record):
    """How far the specifications of one headline agree.

    Attributes
    ----------
    headline
        Its name.
    specifications
        How many there are.
    distinct
        Different sets of answers (and kinds of mean) among them: how many results there really are. All that follows
        is counted over these.
    lowest, highest, median
        Of the estimates.
    protocol
        The protocol's own estimate.
    reference
        What the estimates are compared with: chance for a proportion, otherwise 0.
    same_side
        Share of distinct results whose estimate lies on the same side of the reference as the protocol's.
    excluding
        Share whose interval lies wholly on that side.
    """

    headline: str
    specifications: int
    distinct: int
    lowest: float
    highest: float
    median: float
    protocol: Estimate
    reference: float
    same_side: float
    excluding: float

    def sentence(self) -> str:
        """Say how far the specifications agree."""
        side = "above" if self.protocol.value > self.reference else "below"
        name = f"{self.headline}: " if self.headline else ""
        reference = f"{self.reference:g}".removeprefix("0") or "0"
        return (
            f"{name}over {self.specifications:,} specifications, which leave {_results(self.distinct)}, the estimate "
            f"runs from {spell_value(self.lowest)} to {spell_value(self.highest)} (the protocol's: {self.protocol}). "
            f"Of the different results {100 * self.same_side:.0f} % lie {side} {reference}, "
            f"{100 * self.excluding:.0f} % with their whole interval."
        )


@dataclass(frozen=True)
class Multiverse(Plotted, AnalysisResult):
    """The headline over all specifications.

    Attributes
    ----------
    specifications
        In the order of the grid.
    choices
        Names of the choices that change anything.
    idle
        The choices that change nothing here, and the protocol's option of each: whatever is chosen, the same answers
        count.
    failed
        Specifications that leave nothing to estimate from, with the reason.
    grid
        Size of the whole grid; larger than the number of specifications if only a sample was estimated.
    """

    specifications: tuple[Specification, ...]
    choices: tuple[str, ...]
    failed: tuple[tuple[dict[str, str], str], ...]
    grid: int
    idle: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Specification]:
        return iter(self.specifications)

    def _draw(self, headline: str | None = None, **options: Any) -> Any:
        """Draw the specification curve of a headline; the first one if none is named."""
        from analysis.figures import plot_specification_curve

        tables = dict(tuple(self.distinct().groupby("headline")))
        name = next(iter(tables)) if headline is None else headline
        if name not in tables:
            raise NameNotFound("headline", name, list(tables))
        table = tables[name].reset_index(drop=True)
        unit = str(table["unit"].iloc[0])
        asked = {"no_effect": 0.5 if unit == "proportion correct" else 0.0, "value_label": unit, **options}
        return plot_specification_curve(table, self.choices, **asked)

    def readable(self) -> pd.DataFrame:
        """Return one row a headline as people read it: how far its specifications agree."""
        rows = [
            {
                "headline": own.headline or "–", "protocol's": str(own.protocol),
                "specifications": f"{own.specifications:,}", "different results": f"{own.distinct:,}",
                "lowest": spell_value(own.lowest), "median": spell_value(own.median),
                "highest": spell_value(own.highest), "compared with": spell_value(own.reference),
                "same side": f"{own.same_side:.0%}", "whole interval": f"{own.excluding:.0%}",
            }
            for own in self.agreement()
        ]  # fmt: skip
        return pd.DataFrame(rows)

    @property
    def caption(self) -> str:
        """What was varied, what changes nothing, and what could not be estimated."""
        made = len({tuple(own.settings.items()) for own in self.specifications})
        of = f" of {self.grid:,}" if self.grid > made + len(self.failed) else ""
        said = [f"{made:,}{of} specifications over {', '.join(self.choices) or 'no choice'}.", self.idle_sentence]
        if self.failed:
            said.append(f"{len(self.failed):,} leave nothing to estimate from: {self.failed[0][1]}")
        if not self.agreement():
            said.append("The protocol's own is among those, so that there is nothing to compare with.")
        return " ".join(part for part in said if part)

    def frame(self) -> pd.DataFrame:
        """Return one row a specification and headline, from the lowest estimate to the highest: a specification curve.

        Columns: ``headline``, ``place`` (position on the curve, from 1), one column a choice, ``sessions``,
        ``answers``, the fields of the estimate, ``protocol`` and ``answer_set``.
        """
        rows = [
            {
                "headline": own.headline, **self.idle, **own.settings, "sessions": own.sessions, "answers": own.answers,
                **own.estimate.as_dict(), "protocol": own.protocol, "answer_set": own.answer_set,
            }
            for own in self.specifications
        ]  # fmt: skip
        table = pd.DataFrame(rows).sort_values(["headline", "value", "low"], kind="stable", ignore_index=True)
        table.insert(1, "place", table.groupby("headline").cumcount() + 1)
        return table

    def distinct(self) -> pd.DataFrame:
        """Return the table with one row for each different result: the protocol's specification, or the first."""
        table = self.frame().sort_values("protocol", ascending=False, kind="stable")
        table = table.drop_duplicates(["headline", "answer_set"])
        table = table.sort_values(["headline", "value", "low"], kind="stable", ignore_index=True)
        table["place"] = table.groupby("headline").cumcount() + 1
        return table

    @property
    def idle_sentence(self) -> str:
        """Name the choices that change nothing; empty if there are none."""
        if not self.idle:
            return ""
        what = "the choice changes" if len(self.idle) == 1 else "these choices change"
        return f"Left out of the grid, because {what} nothing in these data: {', '.join(self.idle)}."

    def agreement(self, reference: float | None = None) -> tuple[Agreement, ...]:
        """Return how far the specifications of each headline agree.

        Parameters
        ----------
        reference
            What to compare with; if None, chance (0.5) for a proportion correct, and 0 for anything else.
        """
        results = []
        for headline in sorted({own.headline for own in self.specifications}):
            own = [one for one in self.specifications if one.headline == headline]
            mine = next((one.estimate for one in own if one.protocol), None)
            if mine is None:
                continue  # The protocol's own leaves nothing to estimate from: it stands among the failed.
            line = reference if reference is not None else 0.5 if mine.unit == "proportion correct" else 0.0
            every, own = len(own), list({one.answer_set: one for one in reversed(own)}.values())
            values = np.array([one.estimate.value for one in own])
            sign = math.copysign(1.0, mine.value - line) if mine.value != line else 0.0
            ends = np.array([one.estimate.low if sign > 0 else one.estimate.high for one in own])
            results.append(
                Agreement(
                    headline, every, len(own), float(values.min()), float(values.max()), float(np.median(values)),
                    mine, line,
                    float((np.sign(values - line) == sign).mean()),
                    float((np.sign(ends - line) == sign).mean()) if sign else 0.0,
                )
            )  # fmt: skip
        return tuple(results)


def rule_choices(protocol: Protocol | None = None) -> tuple[Choice, ...]:
    """Return the choices that a protocol's exclusion rules leave open: each off, the protocol's, lenient, strict.

    Parameters
    ----------
    protocol
        Whose numbers are in the middle; the paper's if None.
    """
    rules = (protocol or load_protocol("imi2023")).rules
    limits, attempts = rules.exclusions, rules.session.practice_attempts
    shortest, longest = limits.total_seconds
    trials, least, reading = limits.trials, limits.each_position, limits.instruction_seconds

    def times(factor: float) -> Rule:
        return total_time_rule(shortest * factor, longest / factor, trials)

    catches = sorted({0.6, limits.catch_correct, 1.0})
    return (
        Choice(
            "catch",
            {OFF: None, **{f"{share:.0%}": catch_rule(share) for share in catches}},
            f"{limits.catch_correct:.0%}",
        ),
        Choice(
            "total time",
            {
                OFF: None,
                f"{shortest:g}-{longest:g} s": times(1.0),
                f"{shortest * 1.5:g}-{longest / 1.5:.0f} s": times(1.5),
            },
            f"{shortest:g}-{longest:g} s",
        ),
        Choice(
            "instruction time",
            {
                OFF: None,
                f"{reading:g} s": instruction_time_rule(reading),
                f"{2 * reading:g} s": instruction_time_rule(2 * reading),
            },
            f"{reading:g} s",
        ),
        Choice(
            "positions",
            {
                OFF: None,
                f"{least} of {trials}": position_rule(least, trials),
                f"{2 * least} of {trials}": position_rule(2 * least, trials),
            },
            f"{least} of {trials}",
        ),
        Choice(
            "practice",
            {OFF: None, **{f"at most {most}": practice_rule(most) for most in sorted({1, attempts})}},
            f"at most {attempts}",
        ),
        Choice("first participation", {OFF: None, "asked for": FIRST_PARTICIPATION}, "asked for"),
        Choice("authenticity", {OFF: None, "asked for": AUTHENTIC}, OFF),
    )


def _holds(column: str, values: tuple[str, ...]) -> Filter:
    """Return the filter on the values of a column."""

    def keep(table: pd.DataFrame) -> NDArray[np.bool_]:
        return np.asarray(table[column].isin(values).to_numpy(), dtype=bool)

    return keep


REPEATED = Choice("repeated trials", {"left out": _holds("kind", ("main",)), "counted": None}, "left out")
"""Whether answers to repeated trials count."""

REFERENCES = Choice(
    "references", {"both": _holds("references", ("both",)), "one side too": None}, "both"
)  # fmt: skip
"""Whether trials count that show the references of one side alone. Those without references never do."""


def proportion_headline(by: Sequence[str] = ("condition",), mean: Mean = "units") -> Headline:
    """Return the headline that estimates the proportion correct, by condition if nothing else is said."""

    def headline(table: pd.DataFrame) -> dict[str, Estimate]:
        cells = estimate_proportions(table, by, mean=mean)
        return {", ".join(cell.names.values()): cell.estimate for cell in cells}

    return headline


HEADLINES: Mapping[str, Headline] = {
    "units": proportion_headline(mean="units"),
    "answers": proportion_headline(mean="answers"),
}
"""The headline if nothing else is said: the proportion correct by condition, as a mean over units or over answers."""


@dataclass
class _Cache:
    """Estimates by the sessions, filter and headline that they come from."""

    found: dict[tuple[bytes, ...], Any] = field(default_factory=dict)


@threaded
def run_multiverse(
    responses: pd.DataFrame,
    sessions: pd.DataFrame,
    *,
    protocol: Protocol | None = None,
    choices: Sequence[Choice] | None = None,
    headlines: Headline | Mapping[str, Headline] | None = None,
    most: int = MOST,
    reporter: Reporter | None = None,
    **settings: Unpack[Settings],
) -> Multiverse:
    """Estimate the headline under every specification.

    Parameters
    ----------
    responses
        Table of responses, before any exclusion.
    sessions
        Table of sessions. A session that was not finished counts in no specification; answers of sessions that are not
        in the table count in all.
    protocol
        Whose rules are the middle of the grid; the paper's if None.
    choices
        What is decided differently; ``rule_choices(protocol)``, and, where there are any, repeated trials and those
        with one side's references, if None. Other choices than these see main trials with both sides' references.
    headlines
        From a table of judgements to an estimate, or to several with names. With more than one, which one is taken is
        a choice ("mean over") of its own; the first is the protocol's.
    most
        Specifications to estimate at most. If the grid is larger: the protocol's own, those that differ from it in one
        choice, and a seeded sample of the others.
    reporter
        Told how far it is.
    settings
        As for every estimator: :class:`Settings`. The seed is that of the sample; the level belongs to the headlines.

    Raises
    ------
    AnalysisError
        If there is nothing to analyse, or no specification leaves anything.
    """
    chosen = choose(settings)
    everything = judgements(responses, kinds=("main", "repeated"), references=("both", "max", "min"))
    if choices is None:
        choices = rule_choices(protocol)
        choices += (REPEATED,) if (everything["kind"] == "repeated").any() else ()
        choices += (REFERENCES,) if (everything["references"] != "both").any() else ()
    for choice, column, usual in ((REPEATED, "kind", "main"), (REFERENCES, "references", "both")):
        if choice not in choices:
            everything = everything[everything[column] == usual].reset_index(drop=True)
    named = headlines if isinstance(headlines, Mapping) else HEADLINES if headlines is None else {"": headlines}
    if len({choice.name for choice in choices}) < len(choices) or "mean over" in {choice.name for choice in choices}:
        raise AnalysisError(
            "Two choices of the multiverse have the same name. 'mean over' is reserved for the choice of headline."
        )
    if not named:
        raise AnalysisError("A multiverse needs at least one headline.")

    table = tabulate_sessions(sessions, responses)
    place = pd.Index(table.sessions["session"].astype(str)).get_indexer(pd.Index(everything["session"].astype(str)))
    finished = COMPLETE.judge(table) > 0
    passes = {
        (choice.name, option): rule.judge(table) > 0
        for choice in choices
        for option, rule in choice.options.items()
        if isinstance(rule, Rule)
    }
    filters = {
        (choice.name, option): np.asarray(rule(everything), dtype=bool)
        for choice in choices
        for option, rule in choice.options.items()
        if rule is not None and not isinstance(rule, Rule)
    }
    # Alone, an option leaves these answers; options that leave the same do so in every combination.
    known = np.where(place >= 0, finished[place] if len(finished) else True, True)

    def leaves(name: str, option: str) -> bytes:
        if (name, option) in filters:
            return bytes((known & filters[name, option]).tobytes())
        usable = passes.get((name, option), finished)
        return bytes((known & np.where(place >= 0, usable[place] if len(usable) else True, True)).tobytes())

    idle = tuple(
        choice.name
        for choice in choices
        if len(choice.options) > 1 and len({leaves(choice.name, option) for option in choice.options}) == 1
    )
    axes = [(own.name, list(own.options), own.protocol) for own in choices if own.name not in idle]
    if len(named) > 1:
        axes.append(("mean over", list(named), next(iter(named))))
    settled = {own.name: own.protocol for own in choices if own.name in idle}
    grid = math.prod(len(options) for _, options, _ in axes)
    numbers: dict[tuple[bytes, str], int] = {}
    specifications: list[Specification] = []
    failed: list[tuple[dict[str, str], str]] = []
    cache = _Cache()
    picked = _pick(axes, grid, most, chosen.seed)
    with (reporter or Reporter()).task("Specifications", len(picked)) as advance:
        for decisions in picked:
            usable, keep = finished.copy(), np.ones(len(everything), dtype=bool)
            for key in {**settled, **decisions}.items():
                if key in passes:
                    usable &= passes[key]
                elif key in filters:
                    keep &= filters[key]
            keep &= np.where(place >= 0, usable[place] if len(usable) else True, True)
            which = decisions.get("mean over", next(iter(named)))
            outcome = _estimate(everything, keep, named[which], which, cache)
            mine = all(decisions[name] == option for name, _, option in axes)
            if isinstance(outcome, str):
                failed.append((decisions, outcome))
            else:
                count = len(np.unique(place[keep & (place >= 0)]))
                number = numbers.setdefault((np.packbits(keep).tobytes(), which), len(numbers) + 1)
                specifications += [
                    Specification(decisions, name, count, int(keep.sum()), estimate, mine, number)
                    for name, estimate in outcome.items()
                ]
            advance(1)
    if not specifications:
        raise AnalysisError(
            f"None of the {len(picked):,} specifications leaves answers to estimate from. The first: {failed[0][1]}"
        )
    return Multiverse(tuple(specifications), tuple(name for name, _, _ in axes), tuple(failed), grid, settled)


def _estimate(
    everything: pd.DataFrame, keep: NDArray[np.bool_], headline: Headline, which: str, cache: _Cache
) -> dict[str, Estimate] | str:
    """Return the headline of some judgements, or why there is none."""
    key = (np.packbits(keep).tobytes(), which.encode())
    if key not in cache.found:
        own = everything[keep]
        if own.empty:
            cache.found[key] = "No answers are left."
        else:
            try:
                found = headline(own)
                cache.found[key] = {"": found} if isinstance(found, Estimate) else dict(found)
            except AnalysisError as error:
                cache.found[key] = str(error)
    outcome: dict[str, Estimate] | str = cache.found[key]
    return outcome


def _pick(axes: Sequence[tuple[str, list[str], str]], grid: int, most: int, seed: int) -> list[dict[str, str]]:
    """Return the specifications to estimate, in the order of the grid."""
    sizes = [len(options) for _, options, _ in axes]
    if grid <= most:
        places = list(itertools.product(*(range(size) for size in sizes)))
    else:
        own = tuple(options.index(option) for _, options, option in axes)
        near = {own} | {(*own[:k], option, *own[k + 1 :]) for k, size in enumerate(sizes) for option in range(size)}
        rng = np.random.default_rng(seed)
        while len(near) < most:
            near.add(tuple(int(rng.integers(size)) for size in sizes))
        places = sorted(near)
    return [{name: options[k] for (name, options, _), k in zip(axes, place)} for place in places]
