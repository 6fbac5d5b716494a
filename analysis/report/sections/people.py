"""Do groups of people differ: lay and expert, one laboratory and another?"""

from __future__ import annotations

from itertools import combinations

import pandas as pd

from analysis.comparison import compare_groups
from analysis.judgement_table import COLUMNS, UNKNOWN
from analysis.report.document import Section
from analysis.report.material import Material, SectionDraft

MOST_GROUPS = 4
"""With more groups, their pairs are no table to read."""


def attributes_of(table: pd.DataFrame) -> list[str]:
    """Return the declared attributes of people in a table of judgements that differ between them."""
    own = [str(name) for name in table.columns if name not in COLUMNS and name != "references_per_side"]
    return [name for name in own if table[name].nunique() > 1]


def compare_people(material: Material) -> Section:
    """Return the section on differences between groups of people."""
    draft = SectionDraft("people")
    table = material.headline
    for name in attributes_of(table):
        people = table.drop_duplicates("participant")[name].value_counts()
        known = [str(group) for group in people.index if people[group] > 0 and group != UNKNOWN]
        counted = ", ".join(f"{people[group]:,} {group}" for group in known)
        draft.find(f"{name.capitalize()}: {counted}.", "Only people who pass the exclusion rules are counted.")
        if len(known) > MOST_GROUPS:
            draft.absent.append(f"{name}: {len(known)} groups; vimi compares pairs only up to {MOST_GROUPS} groups.")
            continue
        for first, second in combinations(known, 2):
            with draft.trying(f"{name}: {first} minus {second}"):
                found = compare_groups(
                    table, name, first, second, within=("model", "condition"), drawing=material.settings.drawing,
                    units=material.units, seed=material.settings.seed,
                )  # fmt: skip
                apart = sum(own.p_holm < 0.05 for own in found)
                title = f"{name.capitalize()}: {first} minus {second}"
                draft.find(
                    f"{title}: {apart} of {found.size} cells differ after Holm's correction.",
                    f"The family is {found.family}, {found.size} tests.",
                )
                rows = [
                    {
                        "cell": own.first.rpartition(", ")[0],
                        "difference": own.difference,
                        "simultaneous interval": own.simultaneous,
                        "p": own.p,
                        "p, Holm": own.p_holm,
                        "p, max-T": own.p_max_t,
                    }
                    for own in found
                ]
                draft.tabulate(f"{name}-{first}-{second}", title, rows, f"Family: {found.family}.")
                draft.absent.extend(found.left_out)
    return draft.section(
        "Do groups of people differ?",
        "People are nested in groups; both groups answer about the same units, so the difference is paired by unit.",
    )
