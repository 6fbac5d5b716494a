"""Machine scores against size, data and accuracy of the models: slopes by observer, with the refusals of people's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.machines.performance import MachineScore
from analysis.report.document import Finding, Section
from analysis.report.material import EASY, Material, SectionDraft
from analysis.report.sections.scaling import EXCESS, add_slopes, verdict_findings
from analysis.scaling import ScalingStudy, fit_scaling
from benchmark.estimate import Estimate


@dataclass(frozen=True)
class MachineScaling:
    """Slopes of one machine observer's scores.

    Attributes
    ----------
    observer
        Who answered.
    quantity
        Excess over the low-level observer; proportion correct where that one has not answered about every model.
    means
        One row a model and condition: ``model``, ``condition``, ``value``, ``standard_error``.
    study
        The slopes.
    """

    observer: str
    quantity: str
    means: pd.DataFrame
    study: ScalingStudy

    @property
    def about(self) -> str:
        """Whose answers, and which quantity."""
        return f"by {self.observer}, {self.quantity}"


def machine_verdicts(own: MachineScaling) -> list[Finding]:
    """Return the verdicts on the slopes of an observer's scores."""
    return verdict_findings(own.study, own.about)


def scale_machines(material: Material, made: list[MachineScaling]) -> Section:
    """Fit the slopes of every observer's scores, keep them for the headline, and return their section."""
    draft = SectionDraft("machine-scaling")
    settings = material.settings
    shown: list[MachineScore] = []
    with draft.trying("machine observers"):
        shown = [own for own in material.machine_scores if own.is_headline and own.difficulty == EASY]
    for observer in sorted({own.observer for own in shown}):
        scores = [own for own in shown if own.observer == observer]
        with draft.trying(f"slopes by {observer}"):
            whole = all(own.excess is not None for own in scores)
            means = pd.DataFrame(
                [
                    {"model": own.model, "condition": own.condition, **_mean(own.excess if whole else own.score)}
                    for own in scores
                ]
            )
            study = fit_scaling(
                means, material.dataset.models, predictors=settings.predictors,
                smallest_effect=settings.smallest_effect, drawing=settings.drawing, seed=settings.seed, joint=(),
            )  # fmt: skip
            own = MachineScaling(observer, EXCESS if whole else "proportion correct", means, study)
            add_slopes(draft, study, means, material.dataset.models, own.about)
            made.append(own)
    if not shown:
        draft.lack("no observer answered easy trials with both sides of the references about a trained model.")
    return draft.section(
        "Do machine scores rise with size, data or accuracy?",
        "Slopes of one observer's scores over models. As for people's answers, the sample is the models: with too "
        "few of them, or too narrow a range, vimi gives no slope. Each observer's slopes are one family of tests.",
    )


def _mean(estimate: Estimate | None) -> dict[str, float]:
    """Return a score with its standard error, as its interval has it."""
    assert estimate is not None
    width = estimate.high - estimate.low
    return {"value": estimate.value, "standard_error": width / (2 * 1.96) if np.isfinite(width) else np.nan}
