"""A reporting checklist for two-alternative forced-choice experiments on interpretability, filled from the data.

Every item is answered from what is there, or says that it is not known. Nothing is guessed.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from analysis.judgement_table import about_trained
from analysis.preregistration.deviations import Deviation
from analysis.preregistration.freezing import Preregistration
from analysis.results import Record
from analysis.scaling.results import Refusal, ScalingStudy
from benchmark.errors import NameNotFound
from benchmark.estimate import Estimate
from benchmark.observers.base import LOW_LEVEL
from benchmark.units import PLANTED, UNIT_COLUMNS

if TYPE_CHECKING:
    from benchmark.study import Study

UNKNOWN = "not known"

ITEMS: dict[str, str] = {
    "estimand": "What do the numbers speak for: which models, units and people, and how are units weighted?",
    "models": "How many models, which, and how many of each family?",
    "units": "How many units of each model, and by which rule were they drawn?",
    "people": "How many people answered, and how were they recruited?",
    "answers": "How many main answers, and how many of each unit?",
    "conditions": "Which conditions, difficulties and kinds of references?",
    "protocol": "Which protocol, and which hash of the experiment?",
    "pool": "Which pool of pictures, how large, and do its pictures share sources?",
    "seen": "Which models have seen the pool in training?",
    "exclusions": "Which exclusion rules were applied, and how many sessions did they leave out?",
    "stopping": "When were no more answers collected, and was that planned?",
    "registration": "Was a plan frozen, when, and before which answers?",
    "deviations": "What was done otherwise than planned?",
    "smallest effect": "Which smallest effects of interest were declared?",
    "multiplicity": "Which tests were corrected together, and how?",
    "effective sample size": "How many independent things do claims on scaling rest on?",
    "guess rate": "Is the guess rate what the design says? Proportion correct in trials without references.",
    "lapse": "How often do attentive people fail? Proportion correct in catch trials.",
    "feedback": "Did people learn after each trial whether they were right?",
    "assignment": "Did a session mix models, or stay with one?",
    "twins": "Were random-weight twins scored beside the models?",
    "low level": "How well does an observer do that knows only colours and spectra?",
    "confidence": "Was confidence asked for?",
    "seeds": "Which seeds were used, of the experiment and of the analysis?",
    "ethics": "Who approved the study?",
    "payment": "What were people paid?",
    "notes": "What must be said wherever these numbers appear?",
    "data": "Where can the answers be had?",
}
"""The items, and what each asks."""


@dataclass(frozen=True)
class ChecklistItem:
    """An item of the checklist: its name, its question, and the answer or that it is unknown."""

    name: str
    question: str
    answer: str

    @property
    def known(self) -> bool:
        """Whether it could be answered."""
        return self.answer != UNKNOWN


@dataclass(frozen=True)
class Checklist(Record):
    """A filled checklist."""

    items: tuple[ChecklistItem, ...]

    @property
    def unknown(self) -> list[str]:
        """Names of the items that could not be answered."""
        return [item.name for item in self.items if not item.known]

    def answer(self, name: str) -> str:
        """Return the answer to an item.

        Raises
        ------
        NameNotFound
            If there is no such item.
        """
        found = {item.name: item.answer for item in self.items}
        if name not in found:
            raise NameNotFound("item of the checklist", name, found)
        return found[name]

    def frame(self) -> pd.DataFrame:
        """Return one row an item: ``item``, ``question``, ``answer``."""
        return pd.DataFrame(
            [(i.name, i.question, i.answer) for i in self.items], columns=["item", "question", "answer"]
        )

    def markdown(self) -> str:
        """Return the checklist as a table in Markdown."""
        lines = ["| item | question | answer |", "|---|---|---|"]
        for item in self.items:
            answer = html.escape(item.answer, quote=False).replace("|", "\\|").replace("\n", " ")
            lines.append(f"| {item.name} | {item.question} | {answer} |")
        return "\n".join(lines) + "\n"


def fill_checklist(
    *,
    study: Study | None = None,
    responses: pd.DataFrame | None = None,
    excluded: pd.DataFrame | None = None,
    sessions: int | None = None,
    preregistration: Preregistration | None = None,
    deviations: Sequence[Deviation] | None = None,
    scaling: ScalingStudy | None = None,
    estimates: Sequence[Estimate] = (),
    seed: int | None = None,
    answers: Mapping[str, str] | None = None,
) -> Checklist:
    """Fill the checklist from whatever there is.

    Parameters
    ----------
    study
        The study, for everything that was decided when it was built.
    responses
        All responses that were analysed, machines' and catch trials included.
    excluded
        What ``analysis.exclusions.describe_exclusions`` says: ``rule`` and ``fail``.
    sessions
        How many sessions were judged by these rules.
    preregistration, deviations
        The frozen plan, and what was done otherwise; without a plan nothing can deviate.
    scaling
        The slopes.
    estimates
        Main numbers, for their estimands.
    seed
        Of the analysis.
    answers
        By item, what only a person can say; it replaces what would stand there.

    Raises
    ------
    NameNotFound
        If ``answers`` names no item.
    """
    found: dict[str, str] = {}
    if study is not None:
        found |= _from_study(study)
    if responses is not None:
        found |= _from_responses(responses, study)
    if excluded is not None:
        rules = "; ".join(f"{row.rule}: {row.fail} left out" for row in excluded.itertuples(index=False))
        found["exclusions"] = (rules or "no rule") + (f"; of {sessions:,} sessions" if sessions is not None else "")
    found |= _from_plan(preregistration, deviations)
    slopes = [] if scaling is None else [result for result in scaling if not isinstance(result, Refusal)]
    spoken = dict.fromkeys(
        e.estimand for e in [*estimates, *(result.slope.estimate for result in slopes)] if e.estimand
    )
    if spoken:
        found["estimand"] = "; also ".join(spoken)
    if scaling is not None:
        found["multiplicity"] = "Holm over " + "; over ".join(
            f"{len(places)} tests ({name})" for name, places in scaling.places.items()
        )
        refused = [str(result) for result in scaling if isinstance(result, Refusal)]
        sizes = [f"{r.condition}, {r.predictor}: {r.effective_sample_size}" for r in slopes]
        found["effective sample size"] = " ".join([*sizes, *(f"{text}." for text in refused)])
    seeds = [] if study is None else [f"experiment {study.experiment.seed}"]
    seeds += [] if seed is None else [f"analysis {seed}"]
    if seeds:
        found["seeds"] = ", ".join(seeds)
    for name, text in (answers or {}).items():
        if name not in ITEMS:
            raise NameNotFound("item of the checklist", name, ITEMS)
        if text.strip():
            found[name] = text.strip()
    return Checklist(
        tuple(ChecklistItem(name, question, found.get(name) or UNKNOWN) for name, question in ITEMS.items())
    )


def _from_plan(preregistration: Preregistration | None, deviations: Sequence[Deviation] | None) -> dict[str, str]:
    if preregistration is None:
        return {"registration": "no plan was frozen", "deviations": "no plan was frozen that could be deviated from"}
    plan = preregistration.plan
    found = {
        "registration": str(preregistration),
        "smallest effect": "; ".join(
            f"{name}: {'none, on purpose' if margin is None else f'{margin:g}'}"
            for name, margin in plan.margins().items()
        )
        or "no predictor was planned",
        "stopping": f"planned: {plan.stopping.rule}" + (f" ({plan.stopping.note})" if plan.stopping.note else ""),
    }
    if deviations is not None:
        found["deviations"] = " ".join(str(deviation) for deviation in deviations) or "nothing"
        ended = [str(deviation) for deviation in deviations if deviation.topic == "stopping"]
        found["stopping"] += f"; {ended[0]}" if ended else "; kept to"
    return found


def _from_study(study: Study) -> dict[str, str]:
    manifest, experiment, rules = study.manifest, study.experiment, study.protocol.rules
    models = {name: manifest["models"][name] for name in study.asked_models}
    crossed = rules.session.models == "crossed"
    found = {
        "protocol": f"{study.protocol.identity}, experiment {manifest['experiment']}",
        "feedback": "yes, after each trial" if rules.session.feedback else "no",
        "assignment": "sessions mix all models" if crossed else "a session stays with one model",
        "conditions": (
            f"{', '.join(experiment.stimuli.conditions)}; {', '.join(experiment.stimuli.difficulties)}; references "
            + ", ".join(f"{kind} in {share:.0%}" for kind, share in rules.session.references.items() if share > 0)
        ),
        "units": f"{experiment.units.per_model} of each model, rule {rules.units.rule}",
        "notes": "; ".join(manifest["notes"]) or "nothing",
    }  # fmt: skip
    if models:
        families = pd.Series([str(facts.get("card", {}).get("family", UNKNOWN)) for facts in models.values()])
        counts = ", ".join(f"{count} {name}" for name, count in families.value_counts().sort_index().items())
        found["models"] = f"{len(models)}: {', '.join(sorted(models))}; by family: {counts}"
        seen = [f"{name}: {facts.get('pool_seen_in_training', UNKNOWN)}" for name, facts in sorted(models.items())]
        found["seen"] = "; ".join(seen)
        found["twins"] = f"{len(manifest['models']) - len(models)} of {len(models)} models have one"
    pool = manifest.get("pool", {})
    if "size" in pool:
        found["pool"] = f"{pool.get('name', UNKNOWN)}, {pool['size']:,} pictures" + (
            f" in {pool['groups']:,} groups" if "groups" in pool else ""
        )
    recruitment = experiment.recruitment
    if recruitment.ethics_approval.strip():
        found["ethics"] = recruitment.ethics_approval
    paid = recruitment.payment_usd if recruitment.payment_usd is not None else rules.session.payment_usd
    found["payment"] = f"${paid:.2f} for a session" + ("" if recruitment.payment_usd is not None else ", by protocol")
    return found


def _from_responses(responses: pd.DataFrame, study: Study | None) -> dict[str, str]:
    people = responses[responses["observer_kind"] != "machine"]
    main = people[(people["kind"] == "main") & (people["model"] != PLANTED)]
    found: dict[str, str] = {}
    kinds = main["observer_kind"].unique()
    if len(main):
        how = f", recruited through {study.experiment.recruitment.recruiter}" if study is not None else ""
        simulated = "; simulated, not people" if "simulated" in kinds and "human" not in kinds else ""
        mixed = "; simulated people among them" if len(kinds) > 1 else ""
        found["people"] = (
            f"{main['observer'].nunique():,} in {main['session'].nunique():,} sessions{how}{simulated}{mixed}"
        )
        shown = main[main["references"] == "both"]
        each = shown.groupby([*UNIT_COLUMNS, "condition", "difficulty"]).size()
        fewest, most = (int(each.min()), int(each.max())) if len(each) else (0, 0)
        spread = f"; {fewest if fewest == most else f'{fewest} to {most}'} of each unit and condition" if most else ""
        found["answers"] = f"{len(main):,}{spread}"
        units = main.drop_duplicates(UNIT_COLUMNS).groupby("model").size()
        found["units"] = "; ".join(f"{model}: {count}" for model, count in units.items()) + (
            f"; rule {study.protocol.rules.units.rule}" if study is not None else ""
        )
        asked = main["confidence"].notna().mean()
        found["confidence"] = "no" if asked == 0 else f"yes, on {asked:.0%} of the answers"
        found["models"] = f"{main['model'].nunique()}: {', '.join(sorted(main['model'].unique()))}"
        if study is not None:
            found["models"] = _from_study(study).get("models", found["models"])
        else:
            given = [", ".join(dict.fromkeys(main[name])) for name in ("condition", "difficulty", "references")]
            found["conditions"] = f"{given[0]}; {given[1]}; references {given[2]}"
            found["protocol"] = ", ".join(map(str, dict.fromkeys(main["protocol"])))
    none = main[main["references"] == "none"]
    if len(none):
        found["guess rate"] = _share(none["correct"]) + " without references; the design says .5"
    catch = people[people["kind"] == "catch"]
    if len(catch):
        found["lapse"] = _share(catch["correct"]) + " of the catch trials, before or after exclusions as analysed"
    low = responses[(responses["observer"] == LOW_LEVEL) & (responses["references"] == "both")]
    low = low[about_trained(low)]
    if len(low):
        found["low level"] = "; ".join(
            f"{model}, {condition}: {_share(own['correct'])}"
            for (model, condition), own in low.groupby(["model", "condition"])
        )
    return found


def _share(right: pd.Series) -> str:
    return f"{int(right.sum()):,} of {len(right):,} right ({right.mean():.3f})"
