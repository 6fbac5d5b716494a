"""Figures of the analysis: what they draw, for one model or thirty, and what they refuse."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.text import Text

from analysis import figures
from analysis.figures import figure_as_svg, figure_of, save_figure
from analysis.figures.labels import label_points, spread
from analysis.figures.style import drawing, limited, log_ticks, open_figure, series_styles
from analysis.figures.words import display_names, number, printable, quantity
from benchmark.errors import AnalysisError

CONDITIONS = ("natural", "synthetic")
LONG = "vit_large_patch14_reg4_dinov2.lvd142m_a_name_that_goes_on"
PUBLISHED = pd.read_csv(Path(__file__).resolve().parents[1] / "analysis" / "data" / "imi_2023.csv")


def model_names(count: int, long: bool = False) -> list[str]:
    return [f"{LONG}_{n}" if long and n % 3 else f"model{n}" for n in range(count)]


def scores(count: int, long: bool = False, conditions: tuple[str, ...] = CONDITIONS) -> pd.DataFrame:
    """Return a row a model and condition; every fourth model from the third on has no second condition."""
    rng = np.random.default_rng(count)
    rows = []
    for turn, name in enumerate(model_names(count, long)):
        for condition in conditions:
            if condition != conditions[0] and turn % 4 == 2:
                continue
            value = rng.uniform(0.55, 0.9)
            rows.append({"model": name, "condition": condition, "value": value, "low": value - rng.uniform(0.01, 0.05),
                         "high": value + rng.uniform(0.01, 0.05), "n": 84})  # fmt: skip
    return pd.DataFrame(rows)


def draw_comparison(count: int, long: bool) -> Any:
    table = scores(count, long)
    table["group"] = [("a", "ab", "b")[turn % 3] for turn in range(len(table))]
    return figures.plot_model_comparison(table, note="plumbing check, not a measurement")


def wide(count: int, long: bool) -> pd.DataFrame:
    table = scores(count, long)
    parts = [
        table[table["condition"] == c]
        .set_index("model")[["value", "low", "high"]]
        .set_axis([c, f"{c}_low", f"{c}_high"], axis=1)
        for c in CONDITIONS
    ]
    return pd.concat(parts, axis=1).rename_axis("model").reset_index()


def scaling_tables(count: int, long: bool) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(3)
    table = scores(count, long)
    sizes = {name: rng.uniform(6, 9) for name in model_names(count, long)}
    parts, fits, bands = [], [], []
    for predictor, scale in (("parameters", 1.0), ("accuracy", 0.8)):
        own = table.assign(predictor=predictor, x=[scale * sizes[m] for m in table["model"]], family="cnn")
        own.loc[own.index % 3 == 1, "family"] = "vit"
        parts.append(own)
        for condition in CONDITIONS:
            refused = "one model: nothing to regress on" if count == 1 or condition == "synthetic" else ""
            ends = (np.nan,) * 3 if refused else (-0.07, -0.13, -0.01)
            fits.append(dict(zip(("slope", "low", "high"), ends), condition=condition, predictor=predictor,
                             refused=refused, unit="proportion correct per decade of parameters"))  # fmt: skip
            x = np.linspace(own["x"].min(), own["x"].max(), 9)
            bands.append(pd.DataFrame({"condition": condition, "predictor": predictor, "x": x, "value": 0.8,
                                       "low": 0.77, "high": 0.83}))  # fmt: skip
    return pd.concat(parts, ignore_index=True), pd.DataFrame(fits), pd.concat(bands, ignore_index=True)


def leverage_table(count: int, long: bool) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    slope = -0.07 + rng.normal(0, 0.01, count)
    table = pd.DataFrame({
        "model": model_names(count, long), "leverage": rng.uniform(0, 0.6, count),
        "cooks_distance": rng.exponential(0.3, count), "residual": rng.normal(0, 0.02, count),
        "slope_without": slope, "slope_without_low": slope - 0.06, "slope_without_high": slope + 0.06,
    })  # fmt: skip
    table.loc[0, ["leverage", "cooks_distance"]] = [1.0, np.inf]
    table.loc[0, ["slope_without", "slope_without_low", "slope_without_high"]] = np.nan
    return table


def rank_table(count: int, long: bool) -> pd.DataFrame:
    table = scores(count, long)
    table["rank"] = table.groupby("condition")["value"].rank(ascending=False)
    table["low"], table["high"] = np.maximum(1, table["rank"] - 2), table["rank"] + 2
    table["group"] = ["a" if rank < count / 2 else "ab" if rank < count * 0.7 else "b" for rank in table["rank"]]
    return table


def unit_table(count: int, long: bool) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    return pd.concat(
        [
            pd.DataFrame({"model": row.model, "condition": row.condition, "unit": np.arange(20),
                          "value": rng.binomial(30, row.value, 20) / 30, "noise": rng.binomial(30, row.value, 20) / 30})
            for row in scores(count, long).itertuples()
        ]
    )  # fmt: skip


def spread_over(count: int, long: bool, column: str, levels: list[Any]) -> pd.DataFrame:
    parts = []
    for turn, level in enumerate(levels):
        own = scores(count, long).assign(**{column: level})
        own[["value", "low", "high"]] -= 0.03 * turn
        parts.append(own)
    return pd.concat(parts, ignore_index=True)


def draw_difficulty(count: int, long: bool) -> Any:
    table = spread_over(count, long, "difficulty", ["easy", "medium", "hard", "very_hard"])
    curves = spread_over(count, long, "position", [0.0, 1.5, 3.0])
    return figures.plot_difficulty(table, curves)


def draw_confidence(count: int, long: bool) -> Any:
    table = spread_over(count, long, "confidence", [1, 2, 3]).assign(share=0.3, share_low=0.25, share_high=0.36)
    return figures.plot_confidence(table, scores(count, long))


def draw_layers(count: int, long: bool) -> Any:
    table = spread_over(count, long, "depth", [0.1, 0.5, 0.9])
    table["layer"] = table["depth"].astype(str)
    table["layer_type"] = np.where(table["depth"] > 0.4, "attention", "convolution")
    types = scores(3).rename(columns={"model": "layer_type"})
    return figures.plot_layers(table, types, spread_over(count, long, "depth", [0.0, 1.0]))


def specifications(count: int) -> pd.DataFrame:
    rng = np.random.default_rng(6)
    grid = list(itertools.product([0.6, 0.8, 1.0], ["none", "135 s"], ["units", "two-way"], [True, False], range(10)))
    table = pd.DataFrame(grid[:count], columns=["catch trials", "time", "interval", "repeated", "seed"])
    table["value"] = rng.normal(-0.03, 0.03, len(table))
    table["low"], table["high"] = table["value"] - 0.04, table["value"] + 0.04
    table["protocol"] = np.arange(len(table)) == len(table) // 2
    return table


def draw_specifications(count: int, long: bool) -> Any:
    return figures.plot_specification_curve(specifications(6 * count), ["catch trials", "time", "interval", "repeated"])


def draw_margins(count: int, long: bool) -> Any:
    table = scores(count, long).rename(columns={"model": "predictor"})
    table["value"] -= 0.7
    for level, reach in (("90", 0.04), ("95", 0.05)):
        table[f"low_{level}"], table[f"high_{level}"] = table["value"] - reach, table["value"] + reach
    table["margin"] = np.where(np.arange(len(table)) % 2, 0.03, np.nan)
    table["smallest_margin"] = table["value"].abs() + 0.04
    table["verdict"] = "no margin was declared: no verdict"
    return figures.plot_margins(table)


def draw_sweep(count: int, long: bool) -> Any:
    widths = [0.177, 0.354, 0.5, 0.707, 1.0]
    rows = [
        {"prior_width": w, "value": w * 10 ** (n % 5 - 2), "series": name}
        for n, name in enumerate(model_names(min(count, 9), long))
        for w in widths
    ]
    return figures.plot_prior_sweep(pd.DataFrame(rows), declared=0.354)


def draw_intervals_compared(count: int, long: bool) -> Any:
    table = spread_over(count, long, "interval", ["two-way sandwich", "units only, as in 2023", "pigeonhole", "t"])
    return figures.plot_intervals_compared(table.assign(default=table["interval"] == "two-way sandwich"), chance=0.5)


def draw_guessing(count: int, long: bool) -> Any:
    table = pd.concat([scores(count, long).assign(kind=kind) for kind in ("participant", "unit")])
    table = table.rename(columns={"model": "name"}).assign(flagged=lambda t: t["value"] > 0.8)
    overall = pd.DataFrame({"kind": ["unit"], "value": [0.51], "low": [0.47], "high": [0.55]})
    return figures.plot_guessing(table, overall)


def draw_components(count: int, long: bool) -> Any:
    return figures.plot_variance_components(
        scores(count, long).rename(columns={"model": "component"}).assign(share=0.2)
    )


def draw_power(count: int, long: bool) -> Any:
    table = spread_over(min(count, 5), long, "effect", [0.0, 0.03, 0.06]).rename(columns={"model": "series"})
    return figures.plot_power(table[table["condition"] == "natural"], declared=0.03)


def draw_frontier(count: int, long: bool) -> Any:
    table = scores(count, long, ("natural",)).rename(columns={"model": "design"})
    return figures.plot_design_frontier(
        table.assign(cost=np.arange(len(table)) * 100 + 50, on_frontier=table["value"] < 0.8, planned=table.index == 0)
    )


def draw_reliability(count: int, long: bool) -> Any:
    table = spread_over(min(count, 5), long, "answers", [5, 30, 120]).rename(columns={"model": "series"})
    table = table[table["condition"] == "natural"]
    return figures.plot_reliability_curve(
        table.assign(observed=table["answers"] == 30, ceiling=table["value"] ** 0.5, wanted=0.9,
                     ceiling_low=table["value"] ** 0.5 - 0.05, ceiling_high=table["value"] ** 0.5 + 0.05), wanted=0.9
    )  # fmt: skip


def draw_agreement(count: int, long: bool) -> Any:
    rng = np.random.default_rng(7)
    summary = scores(min(count, 4), long).rename(columns={"model": "observer"})
    summary = summary.assign(ceiling=0.95, ceiling_low=0.9, ceiling_high=0.99, corrected=summary["value"] / 0.95,
                             corrected_low=summary["low"] / 0.95, corrected_high=summary["high"] / 0.95)  # fmt: skip
    units = [
        pd.DataFrame({"observer": r.observer, "condition": r.condition, "human": rng.uniform(0.4, 1, n),
                      "machine": rng.normal(0, 1, n)})
        for r, n in zip(summary.itertuples(), itertools.cycle([60, 700]))
    ]  # fmt: skip
    return figures.plot_human_machine(pd.concat(units), summary)


def draw_calibration(count: int, long: bool) -> Any:
    table = spread_over(min(count, 4), long, "predicted", [0.6, 0.75, 0.95]).rename(columns={"model": "series"})
    return figures.plot_calibration(table[table["condition"] == "natural"])


DRAWN: dict[str, Callable[[int, bool], Any]] = {
    "model comparison": draw_comparison,
    "scaling": lambda count, long: figures.plot_scaling(*scaling_tables(count, long)),
    "natural against synthetic": lambda count, long: figures.plot_natural_against_synthetic(wide(count, long)),
    "difficulty": draw_difficulty,
    "confidence": draw_confidence,
    "layers": draw_layers,
    "specification curve": draw_specifications,
    "ranks": lambda count, long: figures.plot_ranks(rank_table(count, long)),
    "power": draw_power,
    "design frontier": draw_frontier,
    "leverage": lambda count, long: figures.plot_leverage(
        leverage_table(count, long), leverage_threshold=0.4, cooks_threshold=1.0, slope=(-0.07, -0.13, -0.01),
        condition="natural",
    ),
    "reliability": draw_reliability,
    "people and machines": draw_agreement,
    "calibration": draw_calibration,
    "guessing": draw_guessing,
    "variance components": draw_components,
    "margins": draw_margins,
    "prior sweep": draw_sweep,
    "intervals compared": draw_intervals_compared,
    "unit scores": lambda count, long: figures.plot_unit_distribution(unit_table(count, long), scores(count, long)),
}  # fmt: skip


def texts_of(axes: Any) -> list[Any]:
    """Return all texts that are seen, once the figure is laid out."""
    figure = figure_of(axes)
    with drawing():
        figure.draw_without_rendering()
    return [
        text for text in figure.findobj(matplotlib.text.Text) if text.get_visible() and text.get_text().strip()
    ]  # fmt: skip


def seen_ticks(axes: Any) -> set[int]:
    """Return the ids of tick labels outside their axis's limits: matplotlib keeps them, but does not draw them."""
    hidden: set[int] = set()
    for axis in figure_of(axes).findobj(matplotlib.axis.Axis):
        low, high = sorted(axis.get_view_interval())
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            outside = not low - 1e-9 <= tick.get_loc() <= high + 1e-9
            if outside or not axis.axes.axison:
                hidden |= {id(tick.label1), id(tick.label2)}
        if not axis.axes.axison:
            hidden |= {id(axis.label), id(axis.offsetText)}
    return hidden


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize(("count", "long"), [(1, False), (7, True)])
def test_nothing_is_cut_off_and_no_letter_is_tiny(name: str, count: int, long: bool) -> None:
    axes = DRAWN[name](count, long)
    texts = texts_of(axes)
    canvas = figure_of(axes).bbox
    hidden = seen_ticks(axes)
    with drawing():
        for text in texts:
            if id(text) in hidden:
                continue
            box = text.get_window_extent()
            inside = box.x0 >= -2 and box.y0 >= -2 and box.x1 <= canvas.x1 + 2 and box.y1 <= canvas.y1 + 2
            assert inside, f"{text.get_text()!r} at {box} leaves {canvas}"
            assert text.get_fontsize() >= 7.0, text.get_text()
    for axis in np.ravel(axes):
        assert axis.get_window_extent().width > 40 and axis.get_window_extent().height > 15, name


@pytest.mark.parametrize("name", DRAWN)
def test_thirty_models_with_long_names_are_laid_out(name: str) -> None:
    axes = DRAWN[name](30, True)
    with drawing():
        figure_of(axes).draw_without_rendering()
    width, height = figure_of(axes).get_size_inches()
    assert width <= 9 and height < 26
    for axis in np.ravel(axes):
        assert axis.get_window_extent().width > 40 and axis.get_window_extent().height > 15, name


def test_a_figure_is_written_as_a_picture(tmp_path: Path) -> None:
    save_figure(DRAWN["ranks"](3, True), tmp_path / "figure.png")
    save_figure(DRAWN["ranks"](3, True), tmp_path / "again.png")
    assert (tmp_path / "figure.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert (tmp_path / "figure.png").stat().st_size > 5_000


@pytest.mark.parametrize("name", DRAWN)
def test_the_svg_is_the_same_again_whole_and_its_identifiers_are_its_own(name: str) -> None:
    first, second = (figure_as_svg(DRAWN[name](2, False), description=f"<{name}> & more") for _ in range(2))
    assert first == second
    root = ET.fromstring(first)
    identifiers = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(identifiers) == len(set(identifiers))
    targets = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', first)
    assert {a or b for a, b in targets} <= set(identifiers)
    assert not re.findall(r'(?:href|src)="(?!#)', first)
    assert "<metadata" not in first and "<!--" not in first and "xlink" not in first
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == f"<{name}> & more"
    assert re.search(r"<style[^>]*>#", first), "The rule of style must not reach beyond this element."


def test_names_with_a_halo_are_written_as_letters_and_keep_it() -> None:
    axes = DRAWN["scaling"](2, False)
    effects = [text.get_path_effects() for text in figure_of(axes).findobj(Text)]
    text = figure_as_svg(axes)
    assert [text.get_path_effects() for text in figure_of(axes).findobj(Text)] == effects
    halos = re.findall(r'<g style="fill: none; stroke: white; stroke-width: ([^"]+)"[^>]*>(.*?)</g>', text, re.DOTALL)
    assert len(halos) == sum(bool(own) for own in effects) > 0
    assert all(float(width) > 0 and "<use" in letters and "<path" not in letters for width, letters in halos)
    assert max(len(path) for path in re.findall(r"<path[^>]*>", text)) < 5000, "Whole words are no outlines."


def test_two_equal_figures_on_one_page_can_be_told_apart() -> None:
    axes = DRAWN["model comparison"](2, False)
    one, other = (figure_as_svg(axes, name) for name in ("one", "other"))
    assert not set(re.findall(r'\bid="([^"]+)"', one)) & set(re.findall(r'\bid="([^"]+)"', other))


def test_words_of_the_figure_are_never_taken_for_markup() -> None:
    table = scores(2, conditions=("natural",))
    table["model"] = ['<g id="a">--><script>', "100 $ & 5 $ \u4e2d\u6587 -- ]]>"]
    text = figure_as_svg(figures.plot_model_comparison(table))
    ET.fromstring(text)
    assert "script" not in text
    assert printable("5 $ \u4e2d") == "5 \\$ \N{WHITE SQUARE}"


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        (figures.plot_model_comparison, scores(2)),
        (figures.plot_natural_against_synthetic, PUBLISHED),
        (figures.plot_ranks, rank_table(3, False).drop(columns="value")),
        (figures.plot_unit_distribution, unit_table(2, False)),
        (figures.plot_difficulty, spread_over(2, False, "difficulty", ["easy"])),
        (figures.plot_leverage, leverage_table(3, False)),
        (lambda t: figures.plot_specification_curve(t, ["time"]), specifications(5)),
        (figures.plot_calibration, spread_over(1, False, "predicted", [0.6])),
        (figures.plot_guessing, scores(2).assign(kind="unit", name="x")),
        (figures.plot_variance_components, scores(2).assign(component="unit")),
        (figures.plot_intervals_compared, scores(2).assign(interval="t")),
        (figures.plot_power, scores(2).assign(effect=0.1)),
        (figures.plot_design_frontier, scores(2).assign(design="a", cost=1, on_frontier=True)),
        (figures.plot_reliability_curve, scores(2).assign(answers=3)),
        (figures.plot_human_machine, pd.DataFrame({"human": [0.5], "machine": [0.1]})),
        (figures.plot_layers, scores(2).assign(layer="a", depth=0.5)),
        (figures.plot_confidence, scores(2).assign(confidence=1, share=1.0)),
        (figures.plot_prior_sweep, pd.DataFrame({"prior_width": [1.0], "value": [2.0]})),
    ],
)
def test_empty_tables_missing_columns_and_impossible_numbers_are_refused(draw: Any, table: pd.DataFrame) -> None:
    draw(table)
    with pytest.raises(AnalysisError, match="has no rows"):
        draw(table.iloc[:0])
    needed = 0
    for column in table.columns:
        try:
            draw(table.drop(columns=column))
        except AnalysisError as problem:
            needed += 1
            assert column in str(problem)
    assert needed >= 2
    for column in table.columns.intersection(["value", "natural", "rank", "human", "leverage", "noise"]):
        wrong = table.copy()
        wrong[column] = wrong[column].astype(float)
        wrong.loc[wrong.index[0], column] = np.inf
        with pytest.raises(AnalysisError, match="can't show row 0"):
            draw(wrong)


def test_a_value_outside_its_interval_is_refused_with_its_row() -> None:
    table = scores(2)
    table.loc[1, "low"] = table.loc[1, "value"] + 0.1
    with pytest.raises(AnalysisError, match="'model comparison' can't show row 1"):
        figures.plot_model_comparison(table)


def test_slopes_that_are_neither_given_nor_refused_are_not_drawn() -> None:
    points, fits, bands = scaling_tables(9, False)
    with pytest.raises(AnalysisError):
        figures.plot_scaling(points, fits.assign(low=np.where(fits["slope"].notna(), 1.0, np.nan)), bands)
    axes = figures.plot_scaling(points, fits.iloc[:0].reindex([0]).assign(condition="x", predictor="y"), bands)
    assert all("No line: no regression was asked for" in axis.get_title("left") for axis in axes)


def curves(axis: Any) -> list[Any]:
    return [
        line
        for line in axis.lines
        if line.get_linestyle() == "-" and len(line.get_xdata()) == 9 and line.get_zorder() == 3
    ]


def test_a_refused_slope_has_its_reason_and_no_line_and_the_others_say_how_many_models() -> None:
    axes = figures.plot_scaling(*scaling_tables(9, False))
    natural, synthetic = axes[0], axes[1]
    assert natural.get_title("left") == "natural references, 9 models\nslope −.070 [−.130, −.010] per decade"
    assert len(curves(natural)) == 1 and len(natural.collections) >= 1
    assert "No line: one model: nothing to regress on" in synthetic.get_title("left").replace("\n", " ")
    assert curves(synthetic) == []
    points, fits, _ = scaling_tables(9, False)
    assert not any(curves(axis) for axis in figures.plot_scaling(points, fits)), "No band, no line."


def test_every_interval_is_drawn_from_end_to_end_and_every_point_at_its_value() -> None:
    table = scores(5)
    axis = figures.plot_model_comparison(table)
    bars = [line.get_xydata() for line in axis.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 2]
    drawn = {(round(a[0], 9), round(b[0], 9)) for data in bars for a, b in zip(data[::3], data[1::3])}
    assert drawn == {(round(low, 9), round(high, 9)) for low, high in zip(table["low"], table["high"])}
    points = {round(x, 9) for line in axis.lines if line.get_marker() in "os" for x in line.get_xdata()}
    assert points == {round(value, 9) for value in table["value"]}
    left, right = axis.get_xlim()
    assert left < min(0.5, table["low"].min()) and right > table["high"].max()


def test_the_best_model_stands_on_top_whatever_the_order_of_the_rows() -> None:
    table = scores(9)
    first, second = (
        [tick.get_text() for tick in figures.plot_model_comparison(t).get_yticklabels()]
        for t in (table, table.sample(frac=1, random_state=1))
    )
    natural = table[table["condition"] == "natural"].sort_values("value", ascending=False)
    assert first == second == list(natural["model"])


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        (figures.plot_model_comparison, scores(6)),
        (figures.plot_natural_against_synthetic, PUBLISHED),
        (figures.plot_ranks, rank_table(6, False)),
        (lambda t: figures.plot_scaling(t, *scaling_tables(6, False)[1:]), scaling_tables(6, False)[0]),
        (lambda t: figures.plot_specification_curve(t, ["time", "seed"]), specifications(30)),
        (figures.plot_leverage, leverage_table(6, False)),
        (figures.plot_confidence, spread_over(3, False, "confidence", [1, 2, 3]).assign(share=0.3)),
    ],
)
def test_the_order_of_rows_changes_nothing(draw: Any, table: pd.DataFrame) -> None:
    shuffled = table.sample(frac=1, random_state=1)
    if "predictor" in table:  # which decides the order of the panels
        shuffled = shuffled.sort_values("predictor", ascending=False, kind="stable")
    assert figure_as_svg(draw(shuffled)) == figure_as_svg(draw(table))


def test_published_values_are_hollow_and_only_where_there_are_any() -> None:
    table = scores(3).assign(published=np.nan)
    assert "published" not in key_words(figures.plot_model_comparison(table))
    table.loc[0, "published"] = 0.7
    axis = figures.plot_model_comparison(table)
    assert "published in 2023" in key_words(axis)
    hollow = [line for line in axis.lines if line.get_markerfacecolor() == "none"]
    assert [x for line in hollow for x in line.get_xdata() if np.isfinite(x)] == [0.7]


def key_words(axes: Any) -> str:
    return " ".join(text.get_text() for legend in figure_of(axes).legends for text in legend.get_texts())


def test_an_estimate_without_an_interval_is_a_dotted_line_not_a_bar() -> None:
    table = scores(3, conditions=("natural",)).assign(method="BCa")
    table.loc[0, ["low", "high", "method"]] = [0.0, 1.0, "no interval: one unit"]
    table.loc[1, ["low", "high"]] = [-np.inf, np.inf]
    axis = figures.plot_model_comparison(table)
    assert axis.get_xlim()[0] > 0.3, "Bounds of the possible don't stretch the axis."
    dotted = [line for line in axis.lines if line.get_linestyle() == "--" and line.get_linewidth() == 1.0]
    assert len(dotted) == 2


def test_models_without_synthetic_references_are_on_the_margin_and_named() -> None:
    axis = figures.plot_natural_against_synthetic(PUBLISHED)
    words = [text.get_text() for text in axis.texts]
    assert "vit_b32, no synthetic" in words and "clip_vit_b32, no synthetic" in words
    crosses = [line for line in axis.lines if line.get_marker() == "o" and len(line.get_xdata()) == 7]
    assert len(crosses) == 1
    assert {name for name in PUBLISHED["model"] if "vit" not in name} <= set(words)
    low, high = max(axis.get_xlim()[0], axis.get_ylim()[0]), min(axis.get_xlim()[1], axis.get_ylim()[1])
    assert high > low, "The line of equality is in view."


def test_one_condition_alone_can_be_all_that_there_is() -> None:
    lonely = PUBLISHED.assign(synthetic=np.nan, synthetic_low=np.nan, synthetic_high=np.nan)
    figures.plot_natural_against_synthetic(lonely)
    figures.plot_scaling(*(t[t["condition"] == "natural"] for t in scaling_tables(5, False)))


def test_the_declared_specification_stands_out_with_its_place() -> None:
    table = specifications(216)
    upper, lower = figures.plot_specification_curve(table, ["catch trials", "time", "interval", "repeated"])
    declared = table[table["protocol"]].iloc[0]
    place = int((table["value"] < declared["value"]).sum()) + 1
    words = " ".join(text.get_text() for text in upper.texts)
    assert f"place {place} of {len(table)}" in words
    one_side = int(((table["low"] > 0) | (table["high"] < 0)).sum())
    assert f"{one_side} of {len(table)} specifications lie wholly on one side" in words
    assert [tick.get_text() for tick in lower.get_yticklabels()] == [
        "0.6", "0.8", "1.0", "135 s", "none", "two-way", "units", "False", "True",
    ]  # fmt: skip
    # Each specification has one cell in each setting.
    for setting, levels in (("time", 2), ("catch trials", 3)):
        assert table[setting].nunique() == levels
    cells = sum(
        round((path.vertices[2::5, 0] - path.vertices[0::5, 0]).sum()) for path in (p.get_path() for p in lower.patches)
        if len(path.vertices) % 5 == 0 and path.vertices[0, 0] != 0
    )  # fmt: skip
    assert cells == 4 * len(table)


def test_names_beside_points_overlap_neither_each_other_nor_the_edge() -> None:
    rng = np.random.default_rng(0)
    for count in (5, 12, 30):
        with drawing():
            axis = open_figure(3.0, width=4.0).subplots()
            x, y = rng.uniform(0, 1, (2, count))
            axis.set(xlim=(-0.1, 1.1), ylim=(-0.1, 1.1))
            names = [f"name {n}" for n in range(count)]
            left_out = label_points(axis, x, y, names)
            boxes = {t.get_text(): t.get_window_extent() for t in axis.texts if t.get_text() in names}
            assert set(left_out) | set(boxes) == set(names) and not set(left_out) & set(boxes)
            assert count > 12 or not left_out
            for a, b in itertools.combinations(boxes.values(), 2):
                assert min(a.x1, b.x1) - max(a.x0, b.x0) < 1 or min(a.y1, b.y1) - max(a.y0, b.y0) < 1
            panel = axis.get_window_extent()
            assert all(panel.x0 - 1 <= b.x0 and b.x1 <= panel.x1 + 1 for b in boxes.values())
            said = " ".join(t.get_text() for t in axis.texts)
            assert bool(left_out) == ("without room" in said)


def test_spread_places_keep_their_order_their_gap_and_their_ends() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        wanted = rng.uniform(0, 1, rng.integers(1, 12))
        placed = spread(wanted, 0.05, 0.0, 1.0)
        assert (np.diff(placed[np.argsort(wanted, kind="stable")]) >= 0.05 - 1e-9).all()
        assert placed.min() >= -1e-9 and placed.max() <= 1 + 1e-9
    assert spread([0.2, 0.8], 0.05, 0, 1) == pytest.approx([0.2, 0.8])
    assert spread([0.5, 0.5], 0.1, 0, 1) == pytest.approx([0.45, 0.55])
    assert spread([0.5] * 5, 1.0, 0, 1) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert len(spread([], 1.0, 0, 1)) == 0


def test_matplotlib_is_left_as_it_was_and_pyplot_hears_of_nothing() -> None:
    before, open_before = dict(matplotlib.rcParams), pyplot.get_fignums()
    with matplotlib.rc_context({"font.size": 20, "axes.grid": True}):
        strange = figure_as_svg(DRAWN["ranks"](3, False))
        assert matplotlib.rcParams["font.size"] == 20
    assert figure_as_svg(DRAWN["ranks"](3, False)) == strange, "The settings of the process must not reach a figure."
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == open_before


def test_threads_draw_what_one_alone_draws() -> None:
    names = ["ranks", "power", "leverage", "margins"]
    alone = [figure_as_svg(DRAWN[name](3, False)) for name in names]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda name: figure_as_svg(DRAWN[name](3, False)), names))
    assert together == alone


def test_figures_are_imported_without_matplotlib() -> None:
    code = "import sys, analysis.figures; print('matplotlib' in sys.modules, 'statsmodels' in sys.modules)"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=300)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_long_names_lose_their_middle_but_stay_distinct() -> None:
    names = [f"{'x' * 40}{n}{'y' * 40}" for n in range(30)] + ["short"]
    shown = display_names(names, 20)
    assert len(set(shown.values())) == 31 and shown["short"] == "short"


def test_conditions_look_the_same_in_every_figure_and_differ_without_colour() -> None:
    styles = series_styles(["other", "synthetic", "natural", "another"])
    assert list(styles) == ["natural", "synthetic", "another", "other"]
    assert (styles["natural"].colour, styles["synthetic"].colour) == ("#1b7f79", "#c8553d")
    assert len({look.marker for look in styles.values()}) == 4
    assert series_styles(["synthetic"])["synthetic"] == styles["synthetic"]


def test_numbers_are_written_as_papers_do() -> None:
    assert [number(x) for x in (0.8386, -0.0721, 1.5, -0.0001, np.inf)] == [".839", "−.072", "1.500", ".000", "∞"]
    assert [quantity(x) for x in (25_557_032, 2e9, 999.5, 1500)] == ["25.6 M", "2 bn", "1e+03", "1.5 k"]
    assert log_ticks(7e6, 9e7) == [1e7, 2e7, 5e7]
    assert limited([0.5, 0.5])[0] < 0.5 < limited([0.5, 0.5])[1]
    assert limited([np.inf, np.nan]) == (0.0, 1.0)


def test_many_conditions_wrap_and_each_predictor_begins_a_row() -> None:
    conditions = tuple("abcde")
    table = scores(4, False, conditions[:1])
    cells = [(condition, predictor) for predictor in ("parameters", "accuracy") for condition in conditions]
    points = pd.concat([table.assign(condition=c, predictor=p, x=np.arange(4.0)) for c, p in cells])
    fits = pd.DataFrame(cells, columns=["condition", "predictor"])
    fits = fits.assign(slope=np.nan, low=np.nan, high=np.nan, refused="few")
    axes = figures.plot_scaling(points, fits)
    assert len(axes) == 10
    corners = [tuple(np.round(axis.get_position().p0, 2)) for axis in axes]
    assert len({x for x, _ in corners}) == 3, "Three panels side by side at most."
    assert corners[5][0] == corners[0][0] and corners[5][1] < corners[4][1]


def test_what_was_left_out_is_said_where_nothing_is_covered() -> None:
    with drawing():
        axis = open_figure(1.2, width=1.6).subplots()
        axis.set(xlim=(0, 1), ylim=(0, 1))
        x, y = np.linspace(0.8, 0.9, 9), np.full(9, 0.1)
        assert label_points(axis, x, y, [f"a rather long name {number}" for number in range(9)])
        (said,) = [text for text in axis.texts if "without room" in text.get_text()]
        box = said.get_window_extent()
        points = axis.transData.transform(np.column_stack([x, y]))
    assert not any(box.x0 <= left <= box.x1 and box.y0 <= up <= box.y1 for left, up in points)
