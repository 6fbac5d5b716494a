"""Machine observers: their own scores against their controls, and how well they agree with people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.agreement import (
    calibrate,
    error_consistency,
    fit_temperature,
    machine_answers,
    model_agreement,
    score_forecasts,
    score_with_machine,
    unit_agreement,
)
from analysis.agreement.calibration import Calibration, calibration_points
from analysis.figures import plot_calibration, plot_human_machine, plot_machine_scores
from analysis.intervals.means import differs_from_zero
from analysis.machines.performance import MachineScore, MachineScores, observer_check
from analysis.report.document import Section
from analysis.report.material import Material, SectionDraft, capital
from benchmark.observers.base import LOW_LEVEL, SHUFFLED
from benchmark.units import PLANTED


def machine_names(responses: pd.DataFrame) -> list[str]:
    """Return the machine observers in a table of responses, controls left out."""
    own = responses[(responses["observer_kind"] == "machine") & (responses["model"] != PLANTED)]
    return [name for name in sorted(own["observer"].unique()) if not name.endswith(SHUFFLED)]


def score_observers(material: Material) -> Section:
    """Return the section on machine observers' own scores."""
    draft = SectionDraft("machines")
    with draft.trying("machine observers"):
        scores = [own for own in material.machine_scores if own.is_headline]
        controls = [own for own in material.machine_scores if not own.is_headline]
        draft.tabulate(
            "scores", "Machine observers: excess over low-level, and trained minus random twin",
            [
                {
                    **_names(own),
                    "excess over low-level": own.excess,
                    "trained minus twin": own.trained_minus_twin,
                    "proportion correct": own.score,
                    "low-level": own.low_level,
                    "twin": own.twin,
                    "mean probability": own.mis,
                    "relative of the model": own.related,
                    "flagged units kept apart": own.kept_apart,
                }
                for own in scores
            ],
            "The excess is the headline of a machine row, because colours and textures alone can give a high "
            "proportion. Relatives of a model are never ranked.",
        )  # fmt: skip
        draft.tabulate(
            "controls", "Controls: answers without references, or with shuffled ones",
            [
                {
                    **_names(own),
                    "control": own.control,
                    "proportion correct": own.score,
                    "low-level": own.low_level,
                    "twin": own.twin,
                    "in words": own.verdict or "–",
                }
                for own in controls
            ],
            "Without references, or with shuffled ones, an observer should be at chance. These answers score no "
            "model.",
        )  # fmt: skip
        for (observer, condition, difficulty), own in _grouped(scores):
            for sentence in _judge_models(own):
                draft.find(f"By {observer}, {condition}, {difficulty}: {sentence}")
        for score in scores:
            if score.trained_minus_twin is None:
                draft.lack("there is no random twin.", f"{score.observer} on {score.model}, {score.condition}")
        for control in controls:
            if control.verdict and "give something away" in control.verdict:
                draft.find(control.verdict)
        _draw_scores(draft, material, scores)
        check = observer_check(material.responses, seed=material.settings.seed)
        draft.tabulate("planted", "Observers on units whose meaning is known", check.to_dict("records"), folded=True)
    return draft.section(
        "How do machine observers score?",
        "Machines answer each task once. A network with random weights must not look understandable: every score is "
        "shown with those of its random twin and of the low-level observer.",
    )


def _names(own: MachineScore) -> dict[str, str]:
    return {"model": own.model, "condition": own.condition, "difficulty": own.difficulty, "observer": own.observer}


def _grouped(scores: Sequence[MachineScore]) -> list[tuple[tuple[str, str, str], list[MachineScore]]]:
    """Return the scores of each observer, condition and difficulty."""
    found: dict[tuple[str, str, str], list[MachineScore]] = {}
    for own in scores:
        found.setdefault((own.observer, own.condition, own.difficulty), []).append(own)
    return sorted(found.items())


def _judge_models(scores: Sequence[MachineScore]) -> list[str]:
    """Say in two sentences which models exceed the low-level observer, and which their twin: all of them are named.

    What is said to differ does so after a correction for the number of comparisons; intervals are of each by itself.
    """
    sentences = []
    for quantity, yes, no, unsure in (
        ("excess", "above the low-level observer", "below it", "not shown to differ from it"),
        ("trained_minus_twin", "answered better than the random-weight twin", "answered worse than it",
         "indistinguishable from it"),
    ):  # fmt: skip
        known = [(own, difference) for own in scores if (difference := getattr(own, quantity)) is not None]
        if not known:
            continue
        sides = {yes: [], no: [], unsure: []}  # type: dict[str, list[str]]
        corrected = (
            f", corrected for {len(known)} models (Bonferroni; intervals are each one's own)" if len(known) > 1 else ""
        )
        for own, difference in known:
            told = differs_from_zero(difference, len(known))
            if quantity == "trained_minus_twin" and own.twin_p_adjusted is not None:
                told = own.twin_p_adjusted < 1 - difference.level
                many = own.twin_tests > 1
                corrected = (
                    f", corrected for {own.twin_tests} comparisons with twins (Holm; intervals are each one's own)"
                    if many
                    else ""
                )
            side = unsure if not told else yes if difference.value > 0 else no
            sides[side].append(f"{own.model} {difference}")
        parts = [f"{words}: {', '.join(models)}" for words, models in sides.items() if models]
        name = "excess over low-level" if quantity == "excess" else "trained minus twin"
        sentences.append(f"{name}, {_count_models(len(known))}{corrected}. {capital('; '.join(parts))}.")
    return sentences


def _count_models(count: int) -> str:
    return "1 model" if count == 1 else f"{count} models"


def _draw_scores(draft: SectionDraft, material: Material, scores: Sequence[MachineScore]) -> None:
    """Draw the scores by the observer that answered about most models, against model size."""
    known = material.dataset.models.dropna(subset=["parameters"])
    parameters = dict(zip(known["model"].astype(str), known["parameters"].astype(int)))
    shown = [
        own
        for own in scores
        if own.difficulty == "easy" and own.model in parameters
    ]  # fmt: skip
    observers = sorted({own.observer for own in shown})
    for observer in observers:
        own = [score for score in shown if score.observer == observer]
        draft.draw(
            f"scores-{_slug(observer)}", f"Proportion correct by {observer}",
            plot_machine_scores(own, parameters, "; ".join(material.dataset.notes)), MachineScores(own).frame(),
            "Every score is shown with its random-weight twin and the low-level observer.",
        )  # fmt: skip


def compare_with_people(material: Material) -> Section:
    """Return the section on agreement between people and machines."""
    draft = SectionDraft("agreement")
    people = material.headline
    seed = material.settings.seed
    calibrations: list[Calibration] = []
    machines: dict[str, pd.DataFrame] = {}
    for observer in machine_names(material.responses):
        with draft.trying(observer):
            machines[observer] = machine_answers(material.responses, observer)
    for observer, machine in machines.items():
        with draft.trying(f"{observer}: units"):
            units = unit_agreement(people, machine, seed=seed)
            draft.tabulate(
                f"units-{_slug(observer)}", f"Unit scores of people and of {observer}",
                [
                    {
                        "model": own.model,
                        "condition": own.condition,
                        "r": own.pearson,
                        "rho": own.spearman,
                        "people's reliability": own.human_reliability,
                        "r, disattenuated": own.disattenuated,
                        "remark": own.remark,
                    }
                    for own in units
                ],
                "Disattenuated: divided by the square root of the reliability of people's scores, the largest "
                'correlation that any score can reach. "Above 1": that reliability is too uncertain to keep the '
                "value below 1.",
            )  # fmt: skip
        with draft.trying(f"{observer}: models"):
            draft.tabulate(
                f"models-{_slug(observer)}", f"Model scores of people and of {observer}",
                [
                    {
                        "condition": own.condition,
                        "r": own.pearson,
                        "rho": own.spearman,
                        "these models": own.these_models,
                    }
                    for own in model_agreement(people, machine, seed=seed)
                ],
            )  # fmt: skip
        with draft.trying(f"{observer}: errors"):
            draft.tabulate(
                f"errors-{_slug(observer)}", f"Do people and {observer} make errors on the same tasks?",
                [
                    {
                        "condition": own.condition,
                        "kappa": own.kappa,
                        "among people": own.human,
                        "agreement observed": own.observed,
                        "expected by chance": own.expected,
                        "remark": own.remark,
                    }
                    for own in error_consistency(people, machine)
                ],
                "Cohen's kappa below 0: they make errors on different tasks more often than expected by chance.",
            )  # fmt: skip
        if observer == LOW_LEVEL and machine["probability"].nunique() < 3:
            continue
        with draft.trying(f"{observer}: forecasts"):
            draft.tabulate(
                f"forecasts-{_slug(observer)}", f"How well {observer} predicts single answers",
                [
                    {
                        "condition": own.condition,
                        "log-loss": own.machine,
                        "of a constant": own.constant,
                        "gain over a constant": own.over_constant,
                        "gain over unit means": own.over_unit_means,
                        "trials": own.trials,
                    }
                    for own in score_forecasts(people, machine, seed=seed)
                ],
                "Log-loss in nats per trial; guessing at random gives .693.",
            )  # fmt: skip
        with draft.trying(f"{observer}: calibration"):
            calibrations += calibrate(people, machine, seed=seed)
        with draft.trying(f"{observer}: temperature"):
            draft.tabulate(
                f"temperature-{_slug(observer)}", f"The temperature of {observer} that fits people",
                [
                    {
                        "condition": own.condition,
                        "temperature": own.temperature,
                        "used": own.used,
                        "log-loss before": own.before,
                        "after, cross-validated": own.after,
                        "gain": own.gain,
                    }
                    for own in fit_temperature(people, machine, seed=seed)
                ],
            )  # fmt: skip
        with draft.trying(f"{observer}: prediction-powered scores"):
            draft.tabulate(
                f"powered-{_slug(observer)}", f"People's scores with the help of {observer}",
                [
                    {
                        "model": own.model,
                        "condition": own.condition,
                        "people alone": own.human_only,
                        "prediction-powered": own.score,
                        "saving": own.saving,
                        "bound on it": own.bound,
                        "units with answers": own.labelled,
                        "further units": own.unlabelled,
                        "p of random labelling": own.labelling_p,
                        "remark": own.remark,
                    }
                    for own in score_with_machine(people, machine, seed=seed)
                ],
                "A saving of 1.2 means that people alone would have to give 1.2 times as many answers. The bound is "
                "the saving of a machine that knows every unit's true score. The score is unbiased only if people's "
                "units were chosen at random: a small p is evidence against that.",
            )  # fmt: skip
    if calibrations:
        data = calibration_points(calibrations)
        with draft.trying("figure of calibration"):
            draft.draw("calibration", "Calibration against people's choices", plot_calibration(data), data)
    with draft.trying("figure of units"):
        drawn = _unit_pairs(people, machines)
        if len(drawn):
            draft.draw("units", "Unit scores of people and machines", plot_human_machine(drawn), drawn)
    return draft.section(
        "Do machines answer as people do?",
        "Correlations over units, raw and corrected for the noise in people's scores; errors on single tasks; how "
        "well machines predict single answers; and how many human answers they save.",
    )


def _slug(observer: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in observer).strip("-")


def _unit_pairs(people: pd.DataFrame, machines: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one row a unit, condition and observer: the mean of people's answers and the machine's score."""
    keys = ["model", "condition", "unit"]
    human = people.groupby(keys, observed=True)["correct"].mean().rename("human")
    parts = []
    for observer, machine in machines.items():
        own = machine.groupby(keys, observed=True)["probability"].mean().rename("machine")
        parts.append(pd.concat([human, own], axis=1, join="inner").reset_index().assign(observer=observer))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
