"""A picture of a trial, as a participant sees it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from benchmark.errors import StudyError
from benchmark.storage import write_atomically
from benchmark.study import Study

BACKGROUND = (128, 128, 128)
SIDE = 112
GAP = 6
MARGIN = 28


def draw_trial(study: Study, trial: str) -> Image.Image:
    """Draw a trial: minimal references on the left, maximal ones on the right, the queries between them.

    Parameters
    ----------
    study
        The study.
    trial
        Name of the trial.

    Raises
    ------
    StudyError
        If there is no such trial.
    """
    trials = study.trials().set_index("trial")
    if trial not in trials.index:
        raise StudyError(f"{study.root} has no trial {trial!r}; the first is {trials.index[0]!r}.")
    row = trials.loc[trial]
    block = 3 * SIDE + 2 * GAP
    width = 2 * MARGIN + 2 * block + 2 * (MARGIN + GAP) + round(1.5 * SIDE)
    canvas = Image.new("RGB", (width, block + 2 * MARGIN), BACKGROUND)
    for side, left in (("min", MARGIN), ("max", width - MARGIN - block)):
        if row["references"] not in ("both", side):
            continue
        for number, name in enumerate(row[f"references_{side}"][:9]):
            place = (left + number % 3 * (SIDE + GAP), MARGIN + number // 3 * (SIDE + GAP))
            canvas.paste(_picture(study, name, SIDE), place)
    large = round(1.5 * SIDE)
    top = row["query_top"]
    order = (top, "min" if top == "max" else "max")
    space = (block - 2 * large) // 3
    for number, side in enumerate(order):
        place = ((width - large) // 2, MARGIN + space + number * (large + space))
        canvas.paste(_picture(study, row[f"query_{side}"], large), place)
    return canvas


def save_trial_picture(study: Study, path: Path) -> Path:
    """Draw the study's first main trial with all its references."""
    trials = study.trials()
    main = trials[(trials["kind"] == "main") & (trials["references"] == "both") & (trials["condition"] == "natural")]
    image = draw_trial(study, str(main["trial"].iloc[0]))
    write_atomically(path, lambda target: image.save(target, "PNG"))
    return path


def _picture(study: Study, name: str, side: int) -> Image.Image:
    return Image.fromarray(study.image(name)).resize((side, side), Image.Resampling.LANCZOS)
