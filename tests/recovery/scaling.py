"""How often tests of a slope over few, unequal and related models find what is not there: before and after.

Run by hand: ``python -m tests.recovery.scaling --write docs/scaling.md``. Every world is simulated at 9 and 18 models,
20,000 sets each: model means with a slope of 0 (size of the test), and with a slope at the margin of equivalence (false
equivalence, false non-improvement). The margin is 3.5 standard errors of the slope in the first world. Every set goes
through the weights that ``analysis.scaling.robust`` gives for its predictor and families, which is all that the verdict
uses. Error rates have a standard error of .0015 at .05. Last come random arrangements of related models.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import nct, t

from analysis.published import published_models
from analysis.scaling import predictor_values
from analysis.scaling.robust import FEW_FAMILIES, MOST_SHARED, robust_weights, shared_inflation

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

SETS = 20_000
SEED = 777_001
"""Not among the seeds by which the test was chosen: 3, 5, 7, 11, 77, 99, 2024 and 20261130."""

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PUBLISHED = predictor_values(published_models(), "parameters").to_numpy()
EVEN = np.linspace(PUBLISHED.min(), PUBLISHED.max(), 18)
CARDS = np.array([0, 1, 2, 2, 2, 2, 3, 3, 4])


@dataclass(frozen=True)
class World:
    """Where models lie, which are relatives, and how they err.

    ``known`` says whether the test is told the families.
    """

    name: str
    x: Floats
    families: Codes
    errors: Floats
    known: bool = False
    shared: bool = False


def worlds(seed: int = SEED, sets: int = SETS) -> Iterator[World]:
    """Yield every world, each with draws of its own."""
    designs = {
        "the 9 published sizes": (PUBLISHED, CARDS),
        "9 evenly spaced": (np.linspace(EVEN[0], EVEN[-1], 9), np.repeat(np.arange(3), 3)),
        "18 evenly spaced": (EVEN, np.repeat(np.arange(6), 3)),
        "18, the 9 twice": (np.repeat(PUBLISHED, 2), np.repeat(CARDS, 2)),
    }
    for number, (design, (x, families)) in enumerate(designs.items()):
        rng = np.random.default_rng([seed, number])
        n = len(x)
        place = (x - x.min()) / np.ptp(x)
        centred = x - x.mean()
        bend = centred**2 - (centred**2).mean()
        bend -= centred * (bend @ centred) / (centred @ centred)
        alone = np.arange(n)

        def noise(draw: np.random.Generator = rng, models: int = n) -> Floats:
            return draw.normal(size=(sets, models))

        yield World(f"{design}: alike, normal", x, alone, noise())
        yield World(f"{design}: heavy tails (t3)", x, alone, rng.standard_t(3, (sets, n)))
        yield World(f"{design}: skewed", x, alone, rng.exponential(size=(sets, n)) - 1)
        yield World(f"{design}: mildly curved", x, alone, noise() + 0.4 * bend / bend.std())
        for factor in (3, 6):
            yield World(f"{design}: spread falls {factor}-fold", x, alone, noise() * float(factor) ** -place)
            yield World(f"{design}: spread grows {factor}-fold", x, alone, noise() * float(factor) ** place)
        for name, odd in (("largest", x.argmax()), ("smallest", x.argmin())):
            yield World(f"{design}: {name} odd (SD 3)", x, alone, noise() * np.where(alone == odd, 3.0, 1.0))
        yield World(f"{design}: alike, families known", x, families, noise(), known=True)
        yield World(f"{design}: spread falls 6-fold, families known", x, families, noise() * 6.0**-place, known=True)
        for share in (0.3, 0.5, 0.8):
            common = rng.normal(size=(sets, int(families.max()) + 1))[:, families]
            errors = np.sqrt(share) * common + np.sqrt(1 - share) * noise()
            yield World(f"{design}: families share {share:.0%} of the variance", x, families, errors, True, True)
            if share == 0.5:
                yield World(f"{design}: the same, families not known", x, alone, errors, False, True)
        mixed = np.arange(n) % (3 if n == 9 else 6)
        common = rng.normal(size=(sets, int(mixed.max()) + 1))[:, mixed]
        errors = np.sqrt(0.5) * (common + noise())
        yield World(f"{design}: families that span all sizes share 50%", x, mixed, errors, True, True)
    x, rng = EVEN, np.random.default_rng([seed, 9])
    for share, sizes in (
        (0.5, (6, 6, 6)),
        (0.5, (8, 8, 2)),
        (0.8, (8, 8, 2)),
        (0.8, (14, 2, 2)),
        (0.8, (2, 14, 2)),
        (0.8, (2, 2, 14)),
        (0.8, (11, 3, 2, 2)),
        (0.8, (2, 2, 3, 11)),
        (0.5, (4, 14)),
        (0.5, (9, 9)),
    ):
        families = np.repeat(np.arange(len(sizes)), sizes)
        common = rng.normal(size=(sets, len(sizes)))[:, families]
        errors = np.sqrt(share) * common + np.sqrt(1 - share) * rng.normal(size=(sets, 18))
        in_order = f"{len(sizes)} families of {', '.join(map(str, sizes))} in order of size"
        yield World(f"18 evenly spaced: {in_order} share {share:.0%}", x, families, errors, True, True)


def least_squares(x: Floats, y: Floats) -> tuple[Floats, Floats, float]:
    """Return slopes, errors and degrees of freedom of sets of means, shape (sets, models)."""
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = y @ centred / spread
    rest = y - y.mean(axis=1, keepdims=True) - slope[:, None] * centred
    return slope, np.sqrt((rest**2).sum(axis=1) / (len(x) - 2) / spread), len(x) - 2.0


def robust(x: Floats, y: Floats, families: Codes) -> tuple[Floats, Floats, float] | None:
    """Return the same with robust errors; None where they are refused."""
    count = len(np.unique(families))
    if count == 2 < len(x) and shared_inflation(x, families) > MOST_SHARED:
        return None
    weights, parts, freedom = robust_weights(x, families if count > 2 else np.arange(len(x)))
    return y @ weights, np.sqrt(((y @ parts.T) ** 2).sum(axis=1)), freedom


def rates(found: tuple[Floats, Floats, float] | None, x: Floats, margin: float, rising: float) -> tuple[float, ...]:
    """Return size, false equivalence, false non-improvement, and power at the slope ``rising``."""
    if found is None:
        return (np.nan,) * 4
    slope, error, freedom = found
    size = (2 * t.sf(np.abs(slope) / error, freedom) < 0.05).mean()
    # With a true slope at the margin only the estimate moves: by the margin.
    at = slope + margin
    upper = t.cdf((at - margin) / error, freedom) < 0.05
    lower = t.sf((at + margin) / error, freedom) < 0.05
    power = (2 * t.sf(np.abs(slope + rising) / error, freedom) < 0.05).mean()
    return float(size), float((upper & lower).mean()), float(upper.mean()), float(power)


def reach(x: Floats, power: float = 0.8) -> tuple[float, float]:
    """Return the slope that least squares finds with a power of .8 where models are alike, and its standard error."""
    n = len(x)
    error = 1 / float(np.sqrt(((x - x.mean()) ** 2).sum()))
    bound = float(t.ppf(0.975, n - 2))
    return error * brentq(lambda ratio: 1 - nct.cdf(bound, n - 2, ratio) - power, 0.1, 20), error


def measure(seed: int = SEED, sets: int = SETS) -> list[str]:
    """Return the table, one line a world."""
    kinds = ["size", "false equivalence", "false non-improvement", "power"]
    lines = [f"| world | {' | '.join(f'{kind} | **robust**' for kind in kinds)} | df |", "|---" * 10 + "|"]

    def cell(value: float) -> str:
        return "refused" if np.isnan(value) else f"{value:.3f}"

    for world in worlds(seed, sets):
        rising, error = reach(world.x)
        before = rates(least_squares(world.x, world.errors), world.x, 3.5 * error, rising)
        found = robust(world.x, world.errors, world.families)
        after = rates(found, world.x, 3.5 * error, rising)
        cells = [cell(value) for pair in zip(before, after) for value in pair]
        freedom = "" if found is None else f"{found[2]:.1f}"
        lines.append(f"| {world.name} | {' | '.join(cells)} | {freedom} |")
        print(lines[-1], flush=True)
    return lines


def search_arrangements(seed: int = SEED, arrangements: int = 500, sets: int = 3000, confirmed: int = 30_000) -> str:
    """Return in words how often random families of 18 models that share 80 % of their variance spoil the size."""
    x, rng, sizes = EVEN, np.random.default_rng([seed, 10]), []

    def size_of(families: Codes, draws: int) -> float | None:
        common = rng.normal(size=(draws, int(families.max()) + 1))[:, families]
        errors = np.sqrt(0.8) * common + np.sqrt(0.2) * rng.normal(size=(draws, len(x)))
        found = robust(x, errors, families)
        return None if found is None else rates(found, x, 0.0, 0.0)[0]

    for number in range(arrangements):
        cuts = np.sort(rng.choice(np.arange(1, len(x)), rng.integers(2, 6), replace=False))
        families = np.repeat(np.arange(len(cuts) + 1), np.diff([0, *cuts, len(x)]))
        if number % 2:
            families = rng.permutation(families)
        size = size_of(families, sets)
        if size is not None:
            sizes.append((size, families))
    high = np.mean([size > 0.07 for size, _ in sizes])
    _, worst = max(sizes, key=lambda pair: pair[0])
    middle = np.median([size for size, _ in sizes])
    members = ", ".join(map(str, np.bincount(worst)))
    return (
        f"In {len(sizes)} random arrangements of 18 evenly spaced models into 3 to 6 families that share 80 % of their "
        f"variance (half of them in order of size), the median size is {middle:.3f}; {high:.1%} have a size above .07. "
        f"The worst (families of {members} models) has {size_of(worst, confirmed):.3f}, measured on new draws."
    )


def main() -> None:
    """Print the table, or put it into a document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--sets", type=int, default=SETS)
    parser.add_argument("--write", type=Path, help="document with the lines 'measured: begin' and 'measured: end'")
    given = parser.parse_args()
    lines = measure(given.seed, given.sets)
    arranged = search_arrangements(given.seed)
    print(arranged)
    if given.write:
        before, _, rest = given.write.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        note = f"{given.sets:,} sets a world, seed {given.seed}; up to {FEW_FAMILIES} families count as few."
        text = "\n".join([BEGIN, note, "", *lines, "", *textwrap.wrap(arranged, 120), END])
        given.write.write_text(before + text + after, encoding="utf-8")


if __name__ == "__main__":
    main()
