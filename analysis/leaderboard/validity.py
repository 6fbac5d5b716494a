"""The validity panel of a row: other explanations of its score than that the units are understood."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.intervals.means import differs_from_zero
from analysis.leaderboard.result import Result, Score, iterate_scores
from analysis.leaderboard.scores import CONTROLS, PEOPLE, merged_people_scores
from analysis.machines.pool_sizes import PoolSizeChange
from benchmark.estimate import Estimate
from benchmark.observers.base import LOW_LEVEL
from benchmark.plumbing import PLUMBING, repeats_groups

Verdict = Literal["holds", "warns", "fails", "unknown"]
WORST_FIRST: tuple[Verdict, ...] = ("fails", "warns", "unknown", "holds")

MOST_TIES = 0.01
"""Share of tied pictures above which ties are warned of."""
LEAST_ACCEPTED = 0.9
"""Share of accepted synthetic pictures below which the visualiser is said to have missed."""

CHANCE = 0.5


@dataclass(frozen=True)
class ValidityCheck:
    """One line of the panel.

    Attributes
    ----------
    name
        What is looked at: ``random twin``.
    verdict
        ``holds``; ``warns`` where the score may mean less than it seems; ``fails`` where it measures nothing;
        ``unknown`` where it was not looked at.
    sentence
        What was found, with its numbers.
    estimate
        The number behind it, if there is one.
    observer
        The machine observer that it speaks of; empty if all.
    """

    name: str
    verdict: Verdict
    sentence: str
    estimate: Estimate | None = None
    observer: str = ""


def check_validity(
    results: Sequence[Result], condition: str, difficulty: str, models: int = 1
) -> tuple[ValidityCheck, ...]:
    """Return the validity panel of a row.

    Parameters
    ----------
    results
        Results of one model and one set of stimuli.
    condition, difficulty
        Of the row.
    models
        Rows of its table: comparisons with twins are corrected for their number.
    """
    panel = _Panel(tuple(results), condition, difficulty, models)
    if results[0].source:
        return (panel.published(),)
    return tuple(check for make in panel.makers() for check in make())


@dataclass(frozen=True)
class _Panel:
    """What the checks of a row are made from."""

    results: tuple[Result, ...]
    condition: str
    difficulty: str
    models: int = 1

    @property
    def first(self) -> Result:
        return self.results[0]

    def makers(self) -> tuple[Callable[[], Sequence[ValidityCheck]], ...]:
        """The checks, in the order in which they are shown."""
        return (
            self.twin, self.low_level, self.label, self.no_references, self.pool_size, self.groups, self.training,
            self.ties, self.silent, self.acceptance, self.people,
        )  # fmt: skip

    def scores(self, **wanted: object) -> list[Score]:
        """Return scores by machines in this condition, on the whole pool if nothing else is asked for."""
        about = {"condition": self.condition, "difficulty": self.difficulty, "observer_kind": "machine", **wanted}
        found = {s.key: s for result in self.results for s in iterate_scores(result, **about)}
        return [score for score in found.values() if score.observer not in CONTROLS or "observer" in wanted]

    def whole(self, **wanted: object) -> list[Score]:
        """Return scores on the whole pool."""
        return self.scores(**{"pool_size": self.first.pool.size, **wanted})

    def published(self) -> ValidityCheck:
        """Published means were measured without any of these controls."""
        return ValidityCheck(
            "controls", "unknown",
            "Published means: the publication reports no random twin, no low-level observer and no trials without "
            "references.",
        )  # fmt: skip

    def twin(self) -> list[ValidityCheck]:
        """Trained minus twin; a difference that may be 0 is said in words."""
        found = [
            ValidityCheck(
                "random twin", *_told_apart(self.first.model.name, score, self.models), score.estimate, score.observer
            )
            for score in self.whole(quantity="trained_minus_twin", references="both")
        ]
        sentence = (
            "No random-weight twin was scored in this condition, so a network with random weights might do as well."
        )
        return found or [ValidityCheck("random twin", "unknown", sentence)]

    def low_level(self) -> list[ValidityCheck]:
        """Excess over the low-level observer, of the model and of its twin."""
        twins = {s.observer: s.estimate for s in self.whole(quantity="twin_excess", references="both")}
        found = []
        for score in self.whole(quantity="excess", references="both"):
            beside = f"; its twin's is {twins[score.observer]}" if score.observer in twins else ""
            less = score.estimate.low <= 0
            words = "does not exceed what colour and spectrum give away" if less else "exceeds the low-level observer"
            found.append(
                ValidityCheck(
                    "low-level observer", "warns" if less else "holds",
                    f"By {score.observer}, the score {words}: excess {score.estimate}{beside}.",
                    score.estimate, score.observer,
                )
            )  # fmt: skip
        return found or [ValidityCheck("low-level observer", "unknown", "The low-level observer has not answered.")]

    def label(self) -> list[ValidityCheck]:
        """How far class labels alone answer the trials."""
        if not self.first.pool.labelled:
            return [
                ValidityCheck(
                    "labels", "unknown", "The pool has no classes, so the score from labels alone is unknown."
                )
            ]
        found = self.whole(quantity="score", references="both", observer="label")
        if not found:
            return [ValidityCheck("labels", "unknown", "The label observer has not answered.")]
        estimate = found[0].estimate
        more = estimate.low > CHANCE
        words = "answer more than chance" if more else "do not answer more than chance"
        return [
            ValidityCheck(
                "labels", "warns" if more else "holds", f"Labels alone {words}: {estimate}.", estimate, "label"
            )
        ]

    def no_references(self) -> list[ValidityCheck]:
        """What the queries alone give away."""
        found = []
        for score in self.whole(quantity="score", references="none"):
            away = not score.low <= CHANCE <= score.high
            words = "give something away" if away else "give nothing away"
            found.append(
                ValidityCheck(
                    "no references", "warns" if away else "holds",
                    f"By {score.observer}, the queries alone {words}: {score.estimate} without references.",
                    score.estimate, score.observer,
                )
            )  # fmt: skip
        return found or [
            ValidityCheck("no references", "unknown", "No machine has answered trials without references.")
        ]

    def pool_size(self) -> list[ValidityCheck]:
        """How the score depends on the number of pictures in the pool."""
        found = []
        for slope in self.whole(quantity="score_per_halving", references="both"):
            about = {"references": "both", "observer": slope.observer}
            scores = sorted(self.scores(quantity="score", **about), key=lambda score: -score.pool_size)
            excess = self.whole(quantity="excess_per_halving", **about)
            largest, smallest = scores[0].pool_size, scores[-1].pool_size
            change = PoolSizeChange(
                largest, smallest, math.log2(largest / smallest), True, slope.estimate, None,
                excess[0].estimate if excess else None, None, None,
            )  # fmt: skip
            steps = ", ".join(f"{score.estimate} over {score.pool_size:,} pictures" for score in scores)
            words = (change.sentence(self.first.model.name, name) for name in ("score", "excess"))
            found.append(
                ValidityCheck(
                    "pool size", "warns" if slope.estimate.excludes_zero else "holds",
                    " ".join([f"By {slope.observer}: {steps}.", *filter(None, words)]), slope.estimate, slope.observer,
                )
            )  # fmt: skip
        return found or [
            ValidityCheck("pool size", "unknown", "The effect of the pool's size on the score was not measured.")
        ]

    def groups(self) -> list[ValidityCheck]:
        """Whether tasks show one source photograph, or near-duplicates, twice."""
        shown = self.first.shown(self.condition)
        repeated = shown.repeated_groups if shown else 0.0
        if PLUMBING in self.first.notes:
            share = f": {repeated:.1%} of pictures repeat a group of their task" if repeated else ""
            sentence = f"the pool {self.first.pool.name} has too few sources to keep them apart{share}."
            return [ValidityCheck("pool", "fails", f"Plumbing check, not a measurement: {sentence}")]
        verdict: Verdict = "warns" if repeats_groups(repeated) else "holds"
        return [ValidityCheck("pool", verdict, f"{repeated:.1%} of pictures repeat a group of their task.")]

    def training(self) -> list[ValidityCheck]:
        """Whether the model has seen the pool in training."""
        seen = self.first.pool.seen_in_training
        sentences = {
            "seen": "The model was trained on the pictures of the pool.",
            "unseen": "The model was not trained on the pictures of the pool.",
        }
        verdicts: dict[str, Verdict] = {"seen": "warns", "unseen": "holds"}
        sentence = sentences.get(seen, "It is unknown whether the model was trained on the pictures of the pool.")
        return [ValidityCheck("training", verdicts.get(seen, "unknown"), sentence)]

    def ties(self) -> list[ValidityCheck]:
        """How many pictures have the activation of another."""
        shares = np.array([unit.tie_share for unit in self.first.units if unit.tie_share is not None])
        if not len(shares):
            return [ValidityCheck("ties", "unknown", "Ties were not counted.")]
        many = int((shares > MOST_TIES).sum())
        sentence = f"{shares.mean():.2%} of a unit's pictures share their activation with another, on average"
        more = f"; {many} of {len(shares)} units have more than {MOST_TIES:.0%}" if many else ""
        return [ValidityCheck("ties", "warns" if many else "holds", f"{sentence}{more}.")]

    def silent(self) -> list[ValidityCheck]:
        """Dead, silent and constant units, which are kept apart."""
        flags = [unit.flag for unit in self.first.units if unit.flag]
        if not flags:
            return [
                ValidityCheck("dead units", "holds", f"None of the {len(self.first.units)} units is dead or silent.")
            ]
        counted = ", ".join(f"{flags.count(flag)} {flag}" for flag in sorted(set(flags)))
        return [
            ValidityCheck(
                "dead units", "warns",
                f"{counted} of {len(self.first.units)} units; they are kept apart and count in no score.",
            )
        ]  # fmt: skip

    def acceptance(self) -> list[ValidityCheck]:
        """Whether synthetic pictures excite the unit as much as natural ones do."""
        shown = self.first.shown(self.condition)
        if shown is None or shown.accepted is None:
            return []
        few = shown.accepted < LEAST_ACCEPTED
        return [
            ValidityCheck(
                "visualisations", "warns" if few else "holds",
                f"{shown.accepted:.0%} of synthetic pictures belong to a set that excites its unit as strongly as its "
                f"best natural exemplars ({shown.words}).",
            )
        ]  # fmt: skip

    def people(self) -> list[ValidityCheck]:
        """How people answer without references, and how many sessions were left out."""
        scores = merged_people_scores(self.results, "human")
        own = [s for s in scores if (s.condition, s.difficulty) == (self.condition, self.difficulty)]
        if not own:
            return []
        excluded = max(counts.excluded for result in self.results for counts in result.people)
        found = []
        for score in own:
            if score.quantity == "score" and score.references == "none":
                away = not score.low <= CHANCE <= score.high
                words = "give something away to people" if away else "give nothing away to people"
                found.append(
                    ValidityCheck(
                        "guessing", "warns" if away else "holds", f"The queries alone {words}: {score.estimate}.",
                        score.estimate, PEOPLE,
                    )
                )  # fmt: skip
        if not found:
            found.append(ValidityCheck("guessing", "unknown", "People answered no trials without references."))
        return [
            *found,
            ValidityCheck("exclusions", "holds", f"{excluded:,} sessions were left out by the protocol's rules."),
        ]


def _told_apart(model: str, score: Score, models: int) -> tuple[Verdict, str]:
    """Return the verdict on trained minus twin, corrected for the models of the table, and its sentence."""
    difference = score.estimate
    if not differs_from_zero(difference, models):
        end = f", which is not significant over {models} models" if difference.excludes_zero else " includes 0"
        return "warns", (
            f"By {score.observer}, {model} is indistinguishable from its random-weight twin: trained minus twin "
            f"{difference}{end}."
        )
    word = "better" if difference.value > 0 else "worse"
    return ("holds" if difference.value > 0 else "warns"), (
        f"By {score.observer}, {model} is answered {word} than its random-weight twin: trained minus twin {difference}."
    )


__all__ = ["LOW_LEVEL", "ValidityCheck", "Verdict", "check_validity"]
