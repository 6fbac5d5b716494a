"""How often differences between two groups of people are found that are not there, and how often intervals hold them.

    python -m tests.recovery.groups --studies 1000 --seed 20261201

Studies with known effects are drawn and given to ``analysis.compare_groups``: two groups of people (lay and expert, who
are nested in groups) answer about the same units, which differ, and differ between groups. The truth is that of new
units and people, integrated over both. Size is the share of studies with p < .05 where the groups do not differ; it
should be .03 to .07, and coverage of the 95 % interval .93 to .97.
"""

from __future__ import annotations

import argparse
import math
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit

from analysis import compare_groups

SEED = 20_261_201
GUESS = 0.5
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


@dataclass(frozen=True)
class GroupDesign:
    """Who is asked what: people of each group, and how many of the units each of them answers once in each cell."""

    words: str
    people: tuple[int, int]
    units: int
    asked: int
    cells: tuple[str, ...] = ("natural",)
    unit: float = 0.9
    person: float = 0.5
    unit_group: float = 0.3
    intercept: float = 0.9


DESIGNS = (
    GroupDesign("a laboratory: 10 and 10 people, 45 units, all of them asked of everybody", (10, 10), 45, 45),
    GroupDesign("few: 6 and 6 people, 20 units, all of them asked of everybody", (6, 6), 20, 20),
    GroupDesign("unequal: 60 and 12 people, 80 units, 40 asked of each", (60, 12), 80, 40),
    GroupDesign("online: 100 and 100 people, 84 units, 40 asked of each", (100, 100), 84, 40),
    GroupDesign(
        "two cells: 20 and 20 people, 40 units, all of them in both", (20, 20), 40, 40, ("natural", "synthetic")
    ),
    GroupDesign("easy: 20 and 20 people, 60 units, all asked of everybody", (20, 20), 60, 60, intercept=2.5),
    GroupDesign("people alike: 20 and 20 people, 40 units", (20, 20), 40, 40, person=0.0, unit_group=0.0),
    GroupDesign("units alike: 20 and 20 people, 40 units", (20, 20), 40, 40, unit=0.0, unit_group=0.0),
    GroupDesign("people differ much: 15 and 15 people, 60 units", (15, 15), 60, 60, person=1.2),
)
EFFECTS = (0.0, 0.1)
"""Differences of proportions correct, lay minus expert; 0 is where the size is read."""


def mean(eta: float, design: GroupDesign) -> float:
    """Return the mean proportion correct over new units and people."""
    spread = math.sqrt(design.unit**2 + design.unit_group**2 + design.person**2)
    return float((WEIGHTS / WEIGHTS.sum()) @ (GUESS + (1 - GUESS) * expit(eta + spread * NODES)))


def draw(design: GroupDesign, eta: tuple[float, float], rng: np.random.Generator) -> pd.DataFrame:
    """Return one study's judgements; ``eta`` holds each group's intercept."""
    unit = rng.normal(0, design.unit, design.units)
    by_group = rng.normal(0, design.unit_group, (2, design.units))
    parts: dict[str, list[np.ndarray]] = {"cell": [], "group": [], "unit": [], "person": [], "right": []}
    people = 0
    for cell in range(len(design.cells)):
        for group, count in enumerate(design.people):
            asked = rng.random((count, design.units)).argsort(axis=1)[:, : design.asked]
            able = rng.normal(0, design.person, count)
            right = GUESS + (1 - GUESS) * expit(eta[group] + unit[asked] + by_group[group][asked] + able[:, None])
            parts["cell"].append(np.full(asked.size, cell))
            parts["group"].append(np.full(asked.size, group))
            parts["unit"].append(asked.ravel())
            parts["person"].append(np.repeat(people + np.arange(count), design.asked))
            parts["right"].append((rng.random(asked.shape) < right).ravel())
            people += count
    codes = {name: np.concatenate(own) for name, own in parts.items()}

    def named(name: str, labels: list[str]) -> pd.Categorical:
        return pd.Categorical.from_codes(codes[name], categories=labels)

    return pd.DataFrame(
        {
            "correct": codes["right"].astype(np.float64),
            "model": "model",
            "condition": named("cell", list(design.cells)),
            "difficulty": "easy",
            "references": "both",
            "unit": named("unit", [f"unit-{number}" for number in range(design.units)]),
            "layer": "layer",
            "participant": named("person", [f"person-{number}" for number in range(people)]),
            "expertise": named("group", ["lay", "expert"]),
        }
    ).astype(dict.fromkeys(("model", "difficulty", "references", "layer"), "category"))


def measure(design: GroupDesign, effect: float, studies: int, seed: int) -> dict[str, object]:
    """Return how often p < .05, and how often intervals held the truth, by themselves and together."""
    expert = design.intercept
    goal = mean(expert, design) + effect
    if goal >= 0.98:  # near the ceiling the lay group is the worse one
        goal, effect = mean(expert, design) - effect, -effect
    lay = float(brentq(lambda eta: mean(eta, design) - goal, -8, 12))
    found, held, together, widths = [], [], [], []
    for number in range(studies):
        table = draw(design, (lay, expert), np.random.default_rng([seed, number]))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            family = compare_groups(table, "expertise", "lay", "expert", seed=number)
        found += [own.p < 0.05 for own in family]
        held += [own.difference.low <= effect <= own.difference.high for own in family]
        together.append(all(own.simultaneous.low <= effect <= own.simultaneous.high for own in family))
        widths += [own.difference.high - own.difference.low for own in family]
    return {
        "design": design.words, "effect": effect, "p < .05": float(np.mean(found)), "held": float(np.mean(held)),
        "all held": float(np.mean(together)), "width": float(np.mean(widths)), "studies": studies,
    }  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--designs", type=int, nargs="+", default=range(1, len(DESIGNS) + 1), help="numbers, from 1")
    given = parser.parse_args()
    print("| design | truth | p < .05 | 95 % interval holds it | width |\n| --- | --- | --- | --- | --- |")
    for number in given.designs:
        for effect in EFFECTS:
            row = measure(DESIGNS[number - 1], effect, given.studies, given.seed + number)
            print(
                f"| {row['design']} | {row['effect']:g} | {row['p < .05']:.3f} | {row['held']:.3f} | "
                f"{row['width']:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
