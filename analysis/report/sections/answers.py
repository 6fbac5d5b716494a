"""Which answers there are, and whose count."""

from __future__ import annotations

from analysis.dataset import describe
from analysis.report.document import Section
from analysis.report.material import Material, SectionDraft


def describe_answers(material: Material) -> Section:
    """Return the section on the answers and on exclusions."""
    draft = SectionDraft("answers")
    dataset, exclusion = material.dataset, material.exclusion
    if exclusion.sessions or material.has_people:
        draft.find(exclusion.sentence(), "Exclusions decide what is analysed, never who is paid.")
    else:
        draft.find("Only machine observers have answered, so there are no people's sessions to exclude.")
    if material.has_people:
        draft.find(_spell_headline(material), "Answers outside the headline are analysed in separate sections.")
    report = exclusion.report
    if exclusion.sessions:
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
        draft.lack(f"not recorded in this data set: {', '.join(described.missing)}.")
    return draft.section(
        "Whose answers count",
        "Exclusion rules look at whole sessions. A session never fails a rule because of a fact that was not recorded.",
    )


def _spell_headline(material: Material) -> str:
    """Say how the answers that count divide: those that headline numbers rest on, and all others by what they are."""
    counted, difficulty = material.counted, material.difficulty
    repeated = counted["kind"] == "repeated"
    one_side = ~counted["references"].isin(["both", "none"])
    parts = {
        "repeated trials": repeated,
        "trials without references": ~repeated & (counted["references"] == "none"),
        "trials with one side of the references": ~repeated & one_side,
        f"trials that are not {difficulty}": ~repeated & (counted["references"] == "both")
        & (counted["difficulty"] != difficulty),
    }  # fmt: skip
    rest = [f"{int(mask.sum()):,} to {name}" for name, mask in parts.items() if mask.any()]
    about_others = material.exclusion.kept - len(counted)
    if about_others:
        rest.append(f"{about_others:,} about planted units or random-weight twins")
    others = f"; the others are {', '.join(rest)}" if rest else ""
    return (
        f"Headline numbers use {len(material.headline):,} of these {material.exclusion.kept:,} answers: "
        f"{difficulty} main trials with both sides of the references{others}."
    )
