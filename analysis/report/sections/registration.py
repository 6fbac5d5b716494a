"""What was planned, what was done otherwise, and the reporting checklist."""

from __future__ import annotations

from analysis.preregistration import describe_conduct, fill_checklist, list_deviations
from analysis.preregistration.deviations import Deviation
from analysis.report.document import Section
from analysis.report.material import Material, SectionDraft
from analysis.scaling import ScalingStudy


def compare_with_registration(material: Material, scaling: ScalingStudy | None) -> Section:
    """Return the section on the frozen plan, deviations from it, and the checklist."""
    draft = SectionDraft("registration")
    settings, study = material.settings, material.study
    registration = settings.registration
    cells = list(material.proportions) if material.has_people else []
    deviations: list[Deviation] | None = None
    if registration is None:
        draft.lack(
            "no plan was frozen for this data set, so everything here is exploratory. Freeze one before answers come "
            "in: vimi preregister STUDY."
        )
    else:
        conduct = describe_conduct(
            material.responses,
            study.manifest["experiment"] if study else "",
            [rule.name for rule in settings.rules],
            estimates=[cell.estimate for cell in cells],
            scope="new units and people",
            drawing=settings.drawing,
            predictors=settings.predictors,
            rung=settings.rung,
            families=settings.families,
            smallest_effect={name: settings.smallest_effect.get(name) for name in settings.predictors},
            seed=settings.seed,
        )
        deviations = list_deviations(registration, conduct)
        if settings.mean != "units":
            deviations = [*deviations, Deviation("mean", "over units", f"over {settings.mean}")]
        draft.find(
            f"The plan {registration.plan.title!r} was frozen on {registration.frozen_at:%Y-%m-%d}, when "
            f"{registration.answers:,} answers had been collected. The analysis deviates from it in "
            f"{len(deviations)} points.",
            f"Hash of the plan: {registration.hash}.",
        )
        draft.tabulate(
            "deviations", "Deviations from the plan",
            [{"topic": own.topic, "planned": own.planned, "done": own.done} for own in deviations],
        )  # fmt: skip
    checklist = fill_checklist(
        study=study,
        responses=material.dataset.responses,
        excluded=material.exclusion.report,
        sessions=material.exclusion.sessions,
        preregistration=registration,
        deviations=deviations,
        scaling=scaling,
        estimates=[cell.estimate for cell in cells],
        seed=settings.seed,
        answers={"notes": "; ".join(material.dataset.notes)} if material.dataset.notes else None,
    )
    draft.tabulate("checklist", "Reporting checklist", checklist.frame().to_dict("records"))
    if checklist.unknown:
        draft.lack(f"checklist items that only the authors can fill in: {len(checklist.unknown)}.")
    return draft.section("Was it planned?", "A plan that was frozen before the data says which analyses were planned.")
