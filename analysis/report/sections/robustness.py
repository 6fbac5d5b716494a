"""Whether the headline hangs on choices that could have been made differently."""

from __future__ import annotations

from analysis.figures import plot_specification_curve
from analysis.multiverse import run_multiverse
from analysis.report.document import Section
from analysis.report.material import Draft, Material


def vary_choices(material: Material) -> Section:
    """Return the section on the multiverse of exclusions and analysis choices."""
    draft = Draft("robustness")
    if not material.settings.thorough:
        draft.absent.append("the grid of exclusions was not gone through, because a quick report was asked for.")
    else:
        with draft.trying("multiverse"):
            own = material.dataset
            easy = own.responses[own.responses["difficulty"] == material.difficulty]
            found = run_multiverse(
                easy, own.sessions, seed=material.settings.seed, most=MOST, reporter=material.reporter
            )
            for agreement in found.agreement():
                draft.find(agreement.sentence(), f"{len(found.choices)} choices: {', '.join(found.choices)}.")
            for headline, table in found.table().groupby("headline", sort=True):
                name = str(headline) or "all answers"
                axes = plot_specification_curve(
                    table.reset_index(drop=True), found.choices, no_effect=0.5, value_label="proportion correct"
                )
                draft.draw(
                    f"specifications-{name.replace(' ', '-')}", f"Specification curve, {name}", axes, table,
                    "Every column is one way to exclude sessions and to take the mean; the protocol's own is marked.",
                )  # fmt: skip
            if found.failed:
                draft.absent.append(f"{len(found.failed)} specifications leave nothing to estimate from.")
    return draft.section(
        "Does it hang on who was left out?",
        "The headline under every combination of exclusion rules, each as the protocol has it, stricter, more "
        "lenient or "
        "left out.",
    )


MOST = 400
"""Specifications that the figure can carry; with more in the grid, a seeded sample with the protocol's own in it."""
