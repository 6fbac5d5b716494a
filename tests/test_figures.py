from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot
from PIL import Image

from analysis.figures import plot_machine_scores, save_figure, why_no_regression
from analysis.machines.performance import MachineScore
from benchmark.errors import StorageError
from benchmark.estimate import Estimate

DEMO = {"efficientnet_lite0": 4_652_008, "efficientnet_lite1": 5_416_680, "efficientnet_lite2": 6_092_072}
SIX = {f"model{n}": 5_000_000 * 2**n for n in range(6)}


def estimate(value: float, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(value, value - 0.05 if low is None else low, value + 0.05 if high is None else high, "", 10, "")


def score(
    model: str,
    own: Estimate | None = None,
    low_level: Estimate | None = None,
    twin: Estimate | None = None,
    condition: str = "natural",
) -> MachineScore:
    own = own or estimate(0.8)
    return MachineScore(
        model, condition, "easy", "both", "features:seer", "vimi1", False, 0, own, own, low_level, None, twin, None
    )


def drawn_points(axis: Any) -> set[tuple[float, float]]:
    return {(round(float(x), 6), round(float(y), 6)) for line in axis.lines if line.get_marker() not in ("None", "")
            for x, y in line.get_xydata()}  # fmt: skip


def drawn_lines(axis: Any) -> list[Any]:
    """Return everything that joins points by a line, the level of chance apart."""
    return [
        line for line in axis.lines
        if line.get_linestyle() not in ("None", "", " ") and set(line.get_ydata()) != {0.5}
    ]  # fmt: skip


def texts(axis: Any) -> str:
    return " | ".join(text.get_text() for text in axis.texts)


def test_three_models_over_an_eighth_of_a_decade_carry_no_regression_and_the_figure_says_so() -> None:
    reason = why_no_regression(dict(DEMO))
    assert reason == (
        "No slope on size: 3 models over 0.12 decades of parameters; a slope needs 4 models over 0.5 decades."
    )
    (axis,) = plot_machine_scores([score(name) for name in DEMO], DEMO)
    assert reason in texts(axis).replace("\n", " ")
    assert drawn_lines(axis) == []


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ([7_000_000], "there is 1 model of known size."),
        ([7_000_000, None, None], "there is 1 model of known size (2 more of unknown size)."),
        ([None, None], "the number of parameters is known of none of 2 models."),
        ([7_000_000, 7_000_000], "all 2 models have the same number of parameters."),
        ([1_000_000, 100_000_000], "2 models over 2.00 decades"),
        ([1, 2, 10], "3 models over 1.00 decades"),
        ([100, 110, 120, 130, 140, 150], "6 models over 0.18 decades"),
        ([1, 1, 2, 2, 2, 10], "6 models of 3 sizes over 1.00 decades"),
        ([1, 2, 3, 10], ""),
    ],
)
def test_a_regression_needs_four_models_over_half_a_decade(parameters: list[int | None], words: str) -> None:
    reason = why_no_regression({f"model-{k}": size for k, size in enumerate(parameters)})
    assert reason.removeprefix("No slope on size: ").startswith(words)
    assert bool(words) == bool(reason)


def test_enough_models_need_no_excuse() -> None:
    (axis,) = plot_machine_scores([score(name) for name in SIX], SIX)
    assert "no regression" not in texts(axis)


def test_each_condition_has_axes_with_its_scores_at_the_models_sizes() -> None:
    scores = [score(name, estimate(0.6 + 0.05 * n)) for n, name in enumerate(DEMO)]
    scores += [score("efficientnet_lite1", estimate(0.55), condition="synthetic")]
    natural, synthetic = plot_machine_scores(scores, DEMO)
    assert natural.get_title("left") == "natural references"
    assert synthetic.get_title("left") == "synthetic references"
    expected = {(round(size / 1e6, 6), round(0.6 + 0.05 * n, 6)) for n, size in enumerate(DEMO.values())}
    assert drawn_points(natural) == expected
    assert drawn_points(synthetic) == {(5.41668, 0.55)}
    assert natural.get_xscale() == "log"


def test_twins_and_the_low_level_observer_are_drawn_beside_and_named() -> None:
    scores = [score("efficientnet_lite0", estimate(0.8), estimate(0.7), estimate(0.6)), score("efficientnet_lite1")]
    (axis,) = plot_machine_scores(scores, DEMO)
    assert sorted(y for _, y in drawn_points(axis)) == [0.6, 0.7, 0.8, 0.8]
    assert len({x for x, y in drawn_points(axis) if y != 0.8} | {4.652008}) == 3
    named = {text.get_text() for text in axis.figure.legends[0].get_texts()}
    assert named == {"trained", "low-level observer", "random-weight twin"}
    assert "chance" in texts(axis)


proportions = st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted)


@given(st.lists(st.tuples(proportions, proportions, proportions), min_size=1, max_size=3))
@settings(max_examples=15, deadline=None)
def test_every_point_and_every_interval_lies_inside_the_axes(rows: list[tuple[list[float], ...]]) -> None:
    scores = [
        score(name, *(Estimate(middle, low, high, "", 9, "") for low, middle, high in row), condition=condition)
        for (name, row), condition in zip(zip(DEMO, rows), ("natural", "synthetic", "natural"))
    ]
    axes = plot_machine_scores(scores, DEMO)
    ends = [end for row in rows for low, _, high in row for end in (low, high)]
    for axis in axes:
        bottom, top = axis.get_ylim()
        assert bottom < min(ends) and max(ends) < top
        left, right = axis.get_xlim()
        assert all(left < x < right for x, _ in drawn_points(axis))
        # Chance stays in view, whatever the scores are.
        assert bottom < 0.5 < top


def test_a_score_far_below_chance_moves_the_lower_limit_and_a_usual_one_does_not() -> None:
    (usual,) = plot_machine_scores([score("efficientnet_lite0", estimate(0.8))], DEMO)
    (low,) = plot_machine_scores([score("efficientnet_lite0", estimate(0.2, 0.02, 0.4))], DEMO)
    assert usual.get_ylim()[0] == pytest.approx(0.3)
    assert low.get_ylim()[0] < 0.02


def test_intervals_are_drawn_from_end_to_end() -> None:
    (axis,) = plot_machine_scores([score("efficientnet_lite0", Estimate(0.7, 0.4, 0.9, "", 9, ""))], DEMO)
    (bars,) = axis.containers
    (segment,) = bars.lines[2][0].get_segments()
    assert sorted(segment[:, 1]) == pytest.approx([0.4, 0.9])


def test_what_must_be_said_about_the_numbers_is_on_the_figure() -> None:
    (axis,) = plot_machine_scores([score("efficientnet_lite0")], DEMO, "plumbing check, not a measurement")
    assert axis.figure.get_suptitle() == "Plumbing check, not a measurement"


def test_a_saved_figure_is_a_picture_and_pyplot_never_hears_of_it(tmp_path: Path) -> None:
    before = pyplot.get_fignums()
    axes = plot_machine_scores([score(name) for name in DEMO], DEMO)
    path = tmp_path / "results" / "scores.png"
    save_figure(axes, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert min(pixels.shape[:2]) > 400
    assert pixels.std() > 5
    assert pyplot.get_fignums() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["scores.png"]


def test_a_figure_that_can_not_be_saved_leaves_the_old_one_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scores.png"
    save_figure(plot_machine_scores([score("efficientnet_lite0")], DEMO), path)
    before = path.read_bytes()
    axes = plot_machine_scores([score("efficientnet_lite1")], DEMO)

    def disk_is_full(target: Path, **settings: Any) -> None:
        Path(target).write_bytes(before[:500])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(axes[0].figure, "savefig", disk_is_full)
    with pytest.raises(StorageError, match=r"scores\.png"):
        save_figure(axes, path)
    assert path.read_bytes() == before
    Image.open(io.BytesIO(path.read_bytes())).verify()
    assert [entry.name for entry in tmp_path.iterdir()] == ["scores.png"]


def test_a_figure_of_both_conditions_is_drawn_without_warnings(tmp_path: Path) -> None:
    scores = [
        score(name, estimate(0.8), estimate(0.7), estimate(0.6) if condition == "natural" else None, condition)
        for name in SIX
        for condition in ("natural", "synthetic")
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(plot_machine_scores(scores, SIX, "a note"), tmp_path / "scores.png")
