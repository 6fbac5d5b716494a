"""Which answers there are, and whose count."""

from __future__ import annotations

from analysis.dataset import describe
from analysis.report.document import Section
from analysis.report.material import Draft, Material


def describe_answers(material: Material) -> Section:
    """Return the section on the answers and on exclusions."""
    draft = Draft("answers")
    dataset, exclusion = material.dataset, material.exclusion
    draft.find(exclusion.sentence(), "Exclusions decide what is analysed, and never who is paid.")
    report = exclusion.report
    draft.tabulate("exclusions", "Rules, and the sessions that fail them", report.to_dict("records"))
    described = describe(dataset)
    counts = described.counts
    draft.tabulate(
        "contents", "What the data set holds, before exclusions",
        counts.rename(columns={"kind": "trials"}).to_dict("records"), folded=len(counts) > 12,
    )  # fmt: skip
    out = exclusion.judged[~exclusion.judged["usable"].astype(bool)]
    draft.tabulate(
        "left-out", "Sessions left out", out[["session", "reasons"]].to_dict("records"), folded=True,
    )  # fmt: skip
    if described.missing:
        draft.absent.append(f"not recorded in this data set: {', '.join(described.missing)}.")
    return draft.section(
        "Whose answers count",
        "Exclusion rules look at whole sessions. A fact that was never recorded speaks for the session.",
    )
