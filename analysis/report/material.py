"""What every section of a report works on: the data set, the settings, and the answers that count."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from analysis.dataset import Dataset
from analysis.estimands import Drawing
from analysis.exclusions import DEFAULT_RULES, Exclusion, Rule, exclude
from analysis.figures import figure_as_svg
from analysis.figures.tables import in_order
from analysis.judgement_table import PEOPLE, judgements, split_conditions
from analysis.machines.performance import MachineScore, score_machines
from analysis.preregistration import Preregistration
from analysis.proportions import Mean, Proportions, estimate_proportions
from analysis.report.document import Figure, Finding, ReportTable, Section
from analysis.scaling.results import Rung
from benchmark.errors import VimiError
from benchmark.progress import Reporter
from benchmark.study import Study

EASY = "easy"


@dataclass(frozen=True)
class ReportSettings:
    """What a report is asked to do.

    Attributes
    ----------
    rules
        Exclusion rules for people's sessions.
    drawing
        Which mean over units models get.
    mean
        What counts alike in a mean: units, or single answers.
    predictors
        What interpretability is regressed on.
    smallest_effect
        By predictor, the declared smallest effect of interest; without one, no verdict on equivalence.
    families
        By name, the slopes that are corrected together; one family of all of them if None.
    lapse
        Lapse rate of the mixed model; estimated from catch trials if None.
    thorough
        Whether to fit the mixed model and go through the grid of exclusions, which take minutes on large data.
    rung
        Which rung of the ladder verdicts on scaling rest on.
    registration
        The frozen plan to compare with, if there is one.
    seed
        Of all that is random.
    """

    rules: tuple[Rule, ...] = DEFAULT_RULES
    drawing: Drawing = "layer-uniform"
    mean: Mean = "units"
    predictors: tuple[str, ...] = ("parameters", "training images", "accuracy")
    smallest_effect: Mapping[str, float] = field(default_factory=dict)
    families: Mapping[str, Sequence[tuple[str, str]]] | None = None
    lapse: float | None = None
    thorough: bool = True
    rung: Rung = "robust"
    registration: Preregistration | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Material:
    """The data set, and what is derived from it once for all sections.

    Attributes
    ----------
    dataset
        The data set.
    settings
        What was asked for.
    study
        The study that the answers come from; None for other answers. Flagged units of a study are kept apart in
        machines' scores.
    reporter
        Shows progress.
    """

    dataset: Dataset
    settings: ReportSettings = ReportSettings()
    study: Study | None = None
    reporter: Reporter = field(default_factory=Reporter)

    @cached_property
    def exclusion(self) -> Exclusion:
        """Whose answers count."""
        return exclude(self.dataset.responses, self.dataset.sessions, self.settings.rules)

    @property
    def responses(self) -> pd.DataFrame:
        """Answers that count, of people and machines."""
        return self.exclusion.responses

    def people(self, kinds: Sequence[str] = ("main",), references: Sequence[str] | None = ("both",)) -> pd.DataFrame:
        """Return people's judgements of trained models.

        Where people saw one side or both, or different numbers of references, conditions tell it, and by default all
        answers that any references explain are returned.

        Raises
        ------
        AnalysisError
            If there are none.
        """
        if references == ("both",) and self.has_kinds_of_references:
            references = ("both", "max", "min")
        table = judgements(self.responses, kinds=kinds, references=references)
        return split_conditions(table) if self.has_kinds_of_references else table

    @cached_property
    def has_kinds_of_references(self) -> bool:
        """Whether people's main trials differ in the sides, or in the number, of their references."""
        own = self.responses
        main = own[own["observer_kind"].isin(PEOPLE) & (own["kind"] == "main") & (own["references"] != "none")]
        number = main["references_per_side"].nunique() if "references_per_side" in main else 0
        return main["references"].nunique() > 1 or number > 1

    @cached_property
    def has_people(self) -> bool:
        """Whether people, or simulated people, gave main answers that count."""
        own = self.responses
        return bool((own["observer_kind"].isin(PEOPLE) & (own["kind"] == "main")).any())

    @cached_property
    def difficulty(self) -> str:
        """The difficulty that headline numbers are about: easy, or else the most frequent one."""
        counts = self.people()["difficulty"].value_counts()
        return EASY if counts.get(EASY, 0) else str(counts.index[0])

    @cached_property
    def headline(self) -> pd.DataFrame:
        """Judgements that headline numbers are made of: main trials with references, one difficulty.

        Raises
        ------
        AnalysisError
            If there are none.
        """
        table = self.people()
        own = table[table["difficulty"] == self.difficulty].reset_index(drop=True)
        names = own.select_dtypes("category").columns
        return own.assign(**{name: own[name].cat.remove_unused_categories() for name in names})

    @cached_property
    def proportions(self) -> Proportions:
        """Proportion correct by model and condition, with two-way intervals."""
        return self.estimate(self.headline)

    def estimate(self, table: pd.DataFrame, by: Sequence[str] = ("model", "condition"), **changes: Any) -> Proportions:
        """Return proportions correct with the mean that was asked for; ``changes`` as of ``estimate_proportions``."""
        asked: dict[str, Any] = {"drawing": self.settings.drawing, "mean": self.settings.mean, "units": self.units}
        return estimate_proportions(table, by, **(asked | changes))

    @cached_property
    def counted(self) -> pd.DataFrame:
        """People's judgements that count: main and repeated trials, whatever was shown; the rows of the exclusions."""
        return self.people(("main", "repeated"), None)

    @cached_property
    def machine_scores(self) -> tuple[MachineScore, ...]:
        """Scores of machine observers, with flagged units of a study kept apart.

        Raises
        ------
        AnalysisError
            If machines answered under two protocols.
        """
        statistics = self.study.statistics() if self.study else None
        return tuple(score_machines(self.responses, statistics, seed=self.settings.seed))

    @property
    def units(self) -> pd.DataFrame:
        """What is known of units."""
        return self.dataset.units

    @cached_property
    def conditions(self) -> list[str]:
        """Conditions of the headline answers, in order."""
        return in_order(self.headline["condition"])


class SectionDraft:
    """A section while it is written: what fails for lack of data is noted, and the rest goes on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.findings: list[Finding] = []
        self.tables: list[ReportTable] = []
        self.figures: list[Figure] = []
        self.cautions: list[str] = []
        self.absent: list[str] = []
        self._cautions: dict[str, list[str]] = {}
        self._absent: dict[str, list[str]] = {}
        self._names: set[str] = set()

    @contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """Note why a block can't be carried out, and go on after it."""
        try:
            yield
        except VimiError as error:
            self.lack(str(error), what)

    def lack(self, reason: str, what: str = "") -> None:
        """Note what could not be done, and why; a reason that several things share is said once."""
        self._absent.setdefault(reason, []).append(what)

    def caution(self, text: str, about: str = "") -> None:
        """Note what a reader must know, and of which number; a text that holds for several is said once."""
        self._cautions.setdefault(text, []).append(about)

    def _file_name(self, name: str) -> str:
        """Return a name that files and links can have, and that nothing else in this section has."""
        safe = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in name)
        safe = re.sub("-+", "-", safe).strip("-").lower() or "unnamed"
        turn, found = 1, safe
        while found in self._names:
            turn, found = turn + 1, f"{safe}-{turn + 1}"
        self._names.add(found)
        return found

    def draw(self, name: str, title: str, axes: Any, data: pd.DataFrame, caption: str = "") -> None:
        """Add a figure from its axes."""
        name = self._file_name(f"figure {name}").removeprefix("figure-")
        self.figures.append(Figure(name, title, figure_as_svg(axes, f"{self.name}-{name}", title), data, caption))

    def tabulate(
        self, name: str, title: str, rows: Sequence[Mapping[str, Any]], note: str = "", folded: bool = False
    ) -> None:
        """Add a table from its rows, unless there are none."""
        if rows:
            frame = pd.DataFrame(list(rows), dtype=object)
            self.tables.append(ReportTable(self._file_name(name), title, frame, note, folded))

    def find(self, sentence: str, because: str = "", kind: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(sentence, because, kind))

    def section(self, title: str, lead: str = "") -> Section:
        """Return the section as it stands."""
        return Section(
            name=self.name,
            title=title,
            lead=lead,
            findings=tuple(self.findings),
            tables=tuple(self.tables),
            figures=tuple(self.figures),
            cautions=tuple(dict.fromkeys([*self.cautions, *(said_once(*one) for one in self._cautions.items())])),
            absent=tuple(dict.fromkeys([*self.absent, *(said_once(*one) for one in self._absent.items())])),
        )


NAMED = 6
"""Things that a sentence lists; of more, it says how many."""


def said_once(text: str, about: Collection[str]) -> str:
    """Put before a sentence what it holds for: "natural on parameters; natural on accuracy: ..."."""
    things = [name for name in dict.fromkeys(about) if name]
    if not things:
        return text
    more = f" and {len(things) - NAMED} more" if len(things) > NAMED else ""
    return f"{'; '.join(things[:NAMED])}{more}: {text}"


def capital(text: str) -> str:
    """Begin a sentence with a capital letter, and leave all others as they are."""
    return text[:1].upper() + text[1:]
