"""How people answered: controls, learning, confidence, sensitivity and bias, difficulty, depth of layers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.figures import plot_confidence, plot_difficulty, plot_guessing, plot_layers
from analysis.proportions import Proportions
from analysis.psychophysics import (
    Metacognition,
    check_guessing,
    compare_references,
    detect,
    fit_difficulty_curves,
    learning_curve,
    measure_confidence,
    query_quantiles,
    reaction_times,
    repeat_consistency,
)
from analysis.psychophysics.confidence import confidence_points
from analysis.psychophysics.guessing import guessing_points
from analysis.report.document import Section
from analysis.report.material import Material, SectionDraft
from benchmark.protocol import load_protocol


def check_controls(material: Material) -> Section:
    """Return the section on what a proportion correct might mean besides understanding."""
    draft = SectionDraft("controls")
    everything: pd.DataFrame | None = None
    with draft.trying("controls"):
        everything = material.people(("main",), None)
    if everything is not None:
        if (everything["references"] == "none").any():
            with draft.trying("guessing without references"):
                guessing = check_guessing(everything)
                draft.find(
                    guessing.verdict, "Trials without references show how often the queries alone give the answer away."
                )
                draft.tabulate(
                    "guessing", "Trials without references",
                    [
                        {
                            "proportion correct": guessing.proportion,
                            "p": guessing.p,
                            "p over people": guessing.p_participants,
                            "p over answers": guessing.p_answers,
                            "spread of units": guessing.unit_spread,
                        }
                    ],
                )  # fmt: skip
                drawn, overall = guessing_points(guessing)
                draft.draw(
                    "guessing", "Guessing without references", plot_guessing(drawn, overall), drawn,
                    "In red: people and units that chance alone does not explain, after Holm's correction. Bands: "
                    "the means.",
                )  # fmt: skip
        else:
            draft.lack("no trial was shown without references, so the guess rate of .5 is an assumption.", "guessing")
        if everything["references"].nunique() > 1:
            with draft.trying("sides of references"):
                compared = compare_references(everything)
                rows = [
                    {**own.cell, **own.proportions, "maximal minus minimal side": own.max_minus_min} for own in compared
                ]
                draft.tabulate("references", "Which side of the references matters", rows)
                for own in compared:
                    if own.max_minus_min is not None:
                        draft.find(own.verdict)
    with draft.trying("learning"):
        learned = learning_curve(material.headline)
        draft.tabulate(
            "learning", "Change over a session",
            [
                {
                    **own.cell,
                    "first to last trial": own.slope,
                    "p": own.p,
                    "first half": own.first_half,
                    "second half": own.second_half,
                    "second minus first": own.difference,
                }
                for own in learned
            ],
        )  # fmt: skip
    with draft.trying("repeated trials"):
        _add_repeats(draft, material)
    with draft.trying("reaction times"):
        times = reaction_times(material.headline, seed=material.settings.seed)
        draft.tabulate(
            "reaction-times", "Reaction times, medians in seconds",
            [{**own.cell, "right": own.right, "wrong": own.wrong, "wrong / right": own.ratio} for own in times],
        )  # fmt: skip
    return draft.section(
        "Is it understanding?",
        "What else may change a proportion correct: queries that give the answer away, one side of references that "
        "is enough, learning, inconsistent answers.",
    )


def _add_repeats(draft: SectionDraft, material: Material) -> None:
    if not (material.counted["kind"] == "repeated").any():
        draft.lack("there are no repeated trials, so consistency can't be measured.")
        return
    repeated = repeat_consistency(material.people(("main", "repeated"), ("both",)))
    draft.tabulate(
        "repeats", "The same trial twice",
        [
            {
                **own.cell,
                "same answer": own.agreement,
                "kappa": own.kappa,
                "first": own.first,
                "repeated": own.repeated,
                "pairs": own.pairs,
            }
            for own in repeated
        ],
    )  # fmt: skip


def describe_confidence(material: Material) -> Section:
    """Return the section on confidence, sensitivity and bias."""
    draft = SectionDraft("confidence")
    with draft.trying("confidence"):
        measured = measure_confidence(material.headline, seed=material.settings.seed)
        for own in measured:
            for reason in own.reasons:
                draft.lack(reason, _spell_cell(own.cell))
        draft.tabulate("levels", "Accuracy by confidence", [row for own in measured for row in _levels(own)])
        draft.tabulate(
            "metacognition", "Do people know when they are right?",
            [
                {
                    **own.cell,
                    "type-2 AUROC": own.auroc,
                    "rise per step": own.slope,
                    "meta-d'": own.meta_d_prime,
                    "M-ratio": own.m_ratio,
                }
                for own in measured
            ],
            "The M-ratio is meta-d' over d'; d' itself is in the table of sensitivity and bias.",
        )  # fmt: skip
        for own in measured:
            if own.auroc is not None:
                draft.find(own.verdict)
        levels, areas = confidence_points(measured)
        if len(levels):
            axes = plot_confidence(levels, areas if len(areas) else None)
            draft.draw("levels", "Accuracy by confidence", axes, levels)
    with draft.trying("signal detection"):
        detected = detect(material.headline)
        draft.tabulate(
            "detection", "Sensitivity and bias",
            [
                {
                    **own.cell,
                    "d'": own.d_prime,
                    "criterion": own.criterion,
                    "typical person's d'": own.typical_d_prime,
                    "upper query chosen": own.upper,
                    "position bias": own.bias,
                    "p of bias": own.bias_p,
                }
                for own in detected
            ],
        )  # fmt: skip
    return draft.section(
        "Are people sure when they are right?",
        "Confidence from 1 to 3, and the position of the maximal query as the signal of a detection task: d' "
        "measures sensitivity without bias.",
    )


def _spell_cell(cell: dict[str, str]) -> str:
    return ", ".join(cell.values())


def _levels(own: Metacognition) -> list[dict[str, Any]]:
    return [
        {
            **own.cell,
            "confidence": str(level.confidence),
            "proportion correct": level.accuracy,
            "share of answers": level.share,
        }
        for level in own.levels
    ]


def describe_difficulty(material: Material) -> Section:
    """Return the section on difficulty and on the depth of layers."""
    draft = SectionDraft("difficulty")
    table = material.people()
    found = sorted(table["difficulty"].unique())
    if len(found) > 1:
        by = ("model", "condition", "difficulty")
        with draft.trying("difficulty"):
            cells = material.estimate(table, by)
            draft.tabulate(
                "difficulties", "Proportion correct by difficulty",
                [{**cell.names, "proportion correct": cell.estimate, "answers": cell.answers} for cell in cells],
            )  # fmt: skip
        with draft.trying("difficulty curves"):
            quantiles = _quantiles(material)
            fitted = fit_difficulty_curves(table, quantiles, lapse=material.settings.lapse or 0.0)
            draft.absent.extend(fitted.refused)
            for curve in fitted.curves:
                draft.find(curve.verdict, curve.band)
            if fitted.curves:
                points = pd.concat([curve.frame() for curve in fitted.curves], ignore_index=True)
                points = points.rename(columns={"quantile": "position"})
                lines = pd.concat([c.curve.assign(**c.cell) for c in fitted.curves], ignore_index=True)
                lines = lines.rename(columns={"quantile": "position"})
                draft.draw("curves", "Difficulty curves", plot_difficulty(points, lines), points)
    else:
        draft.lack(f"all main trials are {found[0]}, so there is no curve.", "difficulty")
    _describe_layers(draft, material)
    return draft.section(
        "How do scores depend on difficulty and layer?",
        "Harder queries come from nearer the middle of a unit's activations. Layers are ordered by depth.",
    )


def _quantiles(material: Material) -> dict[str, float]:
    """Return the quantiles of the difficulties in the data set's protocol."""
    return query_quantiles(load_protocol(material.dataset.protocol.partition("+")[0]))


def _describe_layers(draft: SectionDraft, material: Material) -> None:
    units = material.units
    placed: dict[str, Proportions] = {}
    for factor, column, known in (
        ("depth", "depth", units["depth"].notna().any()),
        ("layer_type", "kind", bool((units["kind"] != "").any())),
    ):
        if not known:
            draft.lack("not known for these units.", f"proportion by {column} of the layer")
            continue
        with draft.trying(f"proportion by {column} of the layer"):
            cells = material.estimate(material.headline, ("model", "condition", factor))
            placed[factor] = cells
            draft.tabulate(
                f"layers-{column}", f"Proportion correct by {column} of the layer",
                [{**cell.names, "proportion correct": cell.estimate, "units": cell.units} for cell in cells],
            )  # fmt: skip
    if "depth" in placed:
        with draft.trying("figure of layers"):
            _draw_layers(draft, material)


def _draw_layers(draft: SectionDraft, material: Material) -> None:
    """Draw the proportion of every layer at its depth."""
    depth = material.units.dropna(subset=["depth"]).drop_duplicates(["model", "layer"])
    cells = material.estimate(material.headline, ("model", "condition", "layer"))
    data = cells.frame().merge(depth[["model", "layer", "depth", "kind"]], on=["model", "layer"], how="inner")
    data = data.rename(columns={"kind": "layer_type"})
    if (data["layer_type"] == "").all():
        data = data.drop(columns="layer_type")
    draft.draw(
        "layers", "Proportion correct by depth of the layer", plot_layers(data), data,
        "Depth 0 is the picture, 1 the output. Layers with few units have wide intervals. Pale marks have no "
        "interval, because one unit is not enough to generalise to its layer.",
    )  # fmt: skip
