"""The picture of a trial shows what a participant sees, each picture in its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmark.errors import StudyError
from benchmark.study import Study
from stimuli.trial_picture import BACKGROUND, GAP, MARGIN, SIDE, draw_trial, save_trial_picture

LARGE = round(1.5 * SIDE)


def shown(study: Study, name: str, side: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(study.image(name)).resize((side, side), Image.Resampling.LANCZOS))


def places(canvas: NDArray[np.uint8], picture: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Return every left upper corner (x, y) at which a canvas shows a picture."""
    windows = np.lib.stride_tricks.sliding_window_view(canvas, (1, picture.shape[1], 3))[:, :, 0, 0]
    height = len(picture)
    return [
        (int(x), int(y))
        for y, x in np.argwhere((windows == picture[0]).all(axis=(2, 3)))
        if y + height <= len(canvas) and (canvas[y : y + height, x : x + picture.shape[1]] == picture).all()
    ]


def middle(canvas: NDArray[np.uint8]) -> float:
    return canvas.shape[1] / 2


def test_minimal_references_are_left_maximal_right_and_queries_between_them(tiny_study: Study) -> None:
    trials = tiny_study.trials().query("references == 'both' and condition == 'natural' and kind == 'main'")
    for row in trials.head(2).itertuples():
        canvas = np.asarray(draw_trial(tiny_study, row.trial))
        for side, names in (("min", row.references_min), ("max", row.references_max)):
            found = [places(canvas, shown(tiny_study, name, SIDE)) for name in names]
            corners = [next((x, y) for x, y in corner if (x < middle(canvas)) == (side == "min")) for corner in found]
            left = corners[0][0]
            assert corners == [(left + n * (SIDE + GAP), MARGIN) for n in range(len(names))], "in the order shown"
        top, bottom = (
            places(canvas, shown(tiny_study, getattr(row, f"query_{side}"), LARGE))
            for side in (row.query_top, {"max": "min", "min": "max"}[row.query_top])
        )
        assert top[0][1] + LARGE <= bottom[0][1]
        assert abs(top[0][0] + LARGE / 2 - middle(canvas)) <= 1
        assert top[0][0] == bottom[0][0]


def test_the_query_on_top_is_the_one_that_the_trial_says(tiny_study: Study) -> None:
    trials = tiny_study.trials()
    for side in ("max", "min"):
        row = trials[trials["query_top"] == side].iloc[0]
        canvas = np.asarray(draw_trial(tiny_study, row["trial"]))
        heights = {
            name: places(canvas, shown(tiny_study, row[f"query_{name}"], LARGE))[0][1] for name in ("max", "min")
        }
        assert min(heights, key=heights.__getitem__) == side


def test_references_that_are_not_shown_are_not_drawn(tiny_study: Study) -> None:
    row = tiny_study.trials().query("references == 'none'").iloc[0]
    canvas = np.asarray(draw_trial(tiny_study, row["trial"]))
    for side in ("max", "min"):
        for name in row[f"references_{side}"]:
            assert places(canvas, shown(tiny_study, name, SIDE)) == []
    block = 3 * SIDE + 2 * GAP
    assert (canvas[:, : MARGIN + block] == BACKGROUND).all()
    assert (canvas[:, -MARGIN - block :] == BACKGROUND).all()


def test_the_background_is_the_grey_of_the_page(tiny_study: Study) -> None:
    canvas = np.asarray(draw_trial(tiny_study, tiny_study.trials()["trial"].iloc[0]))
    for edge in (canvas[:MARGIN], canvas[-MARGIN:], canvas[:, :MARGIN], canvas[:, -MARGIN:]):
        assert (edge == BACKGROUND).all()


def test_an_unknown_trial_is_refused_with_one_that_there_is(tiny_study: Study) -> None:
    with pytest.raises(StudyError, match="no trial 'natural/99'") as caught:
        draw_trial(tiny_study, "natural/99")
    assert tiny_study.trials()["trial"].iloc[0] in str(caught.value)


def test_the_picture_of_a_study_is_its_first_natural_trial_with_all_references(
    tiny_study: Study, tmp_path: Path
) -> None:
    path = save_trial_picture(tiny_study, tmp_path / "below" / "trial.png")
    rows = tiny_study.trials().query("references == 'both' and condition == 'natural' and kind == 'main'")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert (np.asarray(image) == np.asarray(draw_trial(tiny_study, rows["trial"].iloc[0]))).all()
