"""Trials as files for laboratories that host elsewhere: jsPsych in a browser, PsychoPy on a laboratory's computer.

Participants' files say which picture goes where and nothing else: neither which query is right, nor which unit, model
or kind of trial it is. Pictures are named after their content, and sides that a trial does not show are not in its
file. What answers are scored with stands in ``key.csv``, outside the folder that goes to participants.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any

import pandas as pd

from benchmark import schemas
from benchmark.hashing import hash_settings
from benchmark.progress import Reporter
from benchmark.schemas import Column, Schema
from benchmark.study import Study
from webapp.export.codebook import introduce, write_codebook
from webapp.export.datasets import spell
from webapp.export.folder import Folder
from webapp.export.tables import ExportTable
from webapp.layout import place_pictures
from webapp.wording import Wording

LABELS = (
    "trial_question", "trial_upper", "trial_lower", "trial_confidence", "trial_confidence_1", "trial_confidence_2",
    "trial_confidence_3",
)  # fmt: skip
"""Texts that a trial needs."""

_HIDDEN = ("query_max", "query_min", "references_max", "references_min")

KEY = Schema(
    "key",
    (
        Column("slot", "string", "session slot of the files, with leading zeros"),
        Column("trial", "string", "identifies the trial in the files that participants get"),
        Column("block", "string", "practice, or trials that count", values=("practice", "trials")),
        Column("right", "string", "which of the two queries is right", values=("upper", "lower")),
        Column("name", "string", "name of the trial, as in vimi's tables"),
        *(column for column in schemas.TRIALS.columns if column.name not in ("trial", *_HIDDEN)),
    ),
)
"""What answers are scored with."""

SIZE = 0.13
"""Width of a reference in PsychoPy, in heights of the window; a query's is twice that."""


@dataclass(frozen=True)
class ShownPictures:
    """A trial as participants get it: the pictures of each place, and no word about them.

    Attributes
    ----------
    trial
        Identifies it.
    block
        ``practice`` or ``trials``.
    left, right
        References of either side; empty where a side is not shown.
    upper, lower
        The queries.
    """

    trial: str
    block: str
    left: tuple[str, ...]
    right: tuple[str, ...]
    upper: str
    lower: str

    @property
    def pictures(self) -> tuple[str, ...]:
        """All pictures of the trial."""
        return (*self.left, *self.right, self.upper, self.lower)


def write_jspsych(folder: Folder, study: Study, reporter: Reporter) -> None:
    """Write a page for jsPsych 8, with the trials of each session slot in a file of their own."""
    slots, key = _lay_out(study)
    for slot, trials in slots.items():
        listed = [
            {
                "trial": shown.trial, "block": shown.block, "left": [*map(_path, shown.left)],
                "right": [*map(_path, shown.right)], "upper": _path(shown.upper), "lower": _path(shown.lower),
            }
            for shown in trials
        ]  # fmt: skip
        folder.write(f"website/trials/{slot}.json", json.dumps(listed, indent=1) + "\n", len(listed))
    rules = study.protocol.rules.session
    wording = Wording(study.experiment.texts.language, study.root / "texts")
    folder.write_json(
        "website/settings.json",
        {
            "slots": [*slots],
            "locked_ms": round(rules.locked_seconds * 1000),
            "labels": {name.removeprefix("trial_"): wording.labels[name] for name in LABELS},
        },
    )
    for name in ("index.html", "experiment.js", "experiment.css"):
        text = resources.files("webapp.export").joinpath("website", name).read_text(encoding="utf-8")
        folder.write(f"website/{name}", text)
    _copy_pictures(folder, study, slots, "website", reporter)
    _write_key(folder, key)
    feedback = "with" if rules.feedback else "without"
    folder.write(
        "README.md",
        "\n".join(
            [
                "# Trials of a study of vimi, for jsPsych 8",
                "",
                *introduce(folder.source),
                "",
                f"`website/` goes to your server; `key.csv` stays with you. Sessions: {len(slots)}. Put jsPsych next "
                "to the page, so that nothing is loaded from another host:",
                "",
                "- `website/jspsych/jspsych.js`: `dist/index.browser.min.js` of the package `jspsych` (version 8)",
                "- `website/jspsych/jspsych.css`: `css/jspsych.css` of that package",
                "- `website/jspsych/preload.js`: `dist/index.browser.min.js` of `@jspsych/plugin-preload`",
                "- `website/jspsych/html-button-response.js`: the same file of `@jspsych/plugin-html-button-response`",
                "",
                "Open `index.html?slot=0001` for the first session; give each participant a different slot. The page "
                "shows only the trials: add your own consent, instructions and debriefing. To keep the data, replace "
                "`save` in `experiment.js`; by default, the browser offers them as a file. Every row has `trial`, "
                "`position` (upper or lower), `confidence` (1 to 3) and `rt` in ms.",
                "",
                *_about_the_key(feedback),
            ]
        ),
    )


def write_psychopy(folder: Folder, study: Study, reporter: Reporter) -> None:
    """Write conditions files for PsychoPy, one for each session slot, and where its pictures go."""
    slots, key = _lay_out(study)
    most = max(max(len(shown.left), len(shown.right)) for trials in slots.values() for shown in trials)
    sides = [f"{side}_{number + 1}" for side in ("left", "right") for number in range(most)]
    for slot, trials in slots.items():
        rows = [
            [
                shown.trial, shown.block, str(number + 1), _path(shown.upper), _path(shown.lower),
                *_filled(shown.left, most), *_filled(shown.right, most),
            ]
            for number, shown in enumerate(trials)
        ]  # fmt: skip
        header = ["trial", "block", "number", "upper", "lower", *sides]
        folder.write(f"experiment/conditions/{slot}.csv", _csv([header, *rows]), len(rows))
    places = _places(most)
    folder.write("experiment/layout.csv", _csv([["place", "x", "y", "width"], *places]), len(places))
    _copy_pictures(folder, study, slots, "experiment", reporter)
    _write_key(folder, key)
    feedback = "with" if study.protocol.rules.session.feedback else "without"
    folder.write(
        "README.md",
        "\n".join(
            [
                "# Trials of a study of vimi, for PsychoPy",
                "",
                *introduce(folder.source),
                "",
                "`experiment/` goes to the computers of your participants; `key.csv` stays with you. Sessions: "
                f"{len(slots)}, one conditions file each. Give each participant a different file, and present its "
                "rows in order (loop type `sequential`): the order is part of the design.",
                "",
                "The columns `upper` and `lower` are the two queries, `left_1` ... and `right_1` ... the references; "
                "add an image component for each, with `$upper` and so on as its image. An empty cell is a side that "
                "the trial does not show: leave its pictures out. `layout.csv` has their positions in PsychoPy's "
                "`height` units, for a window at least 1.57 times as wide as high. Pictures are lossless WebP, which "
                "PsychoPy reads through Pillow. Answers unlock after "
                f"{study.protocol.rules.session.locked_seconds:g} s. Record `trial`, the position that was chosen "
                "(upper or lower), confidence (1 to 3) and reaction time.",
                "",
                *_about_the_key(feedback),
            ]
        ),
    )


def _about_the_key(feedback: str) -> list[str]:
    """Return the README's lines about scoring, for every software."""
    return [
        "## Scoring",
        "",
        "Nothing in the participants' folder says which query is right. Join the answers with `key.csv` on `trial`: "
        "an answer is right if its position is `right`. `kind` distinguishes practice and catch trials from those "
        "that count.",
        "",
        f"The protocol runs {feedback} feedback, and repeats the practice until all its answers are right. Both need "
        "the key: let your own server check each answer. If you leave them out, say so: it is then a different "
        "protocol.",
        "",
        "`codebook.md` says what the columns of the key mean; `manifest.json` has the SHA-256 of every file. "
        "Pictures of the pool are copied: its licence says whether you may show and share them.",
        "",
    ]


def _lay_out(study: Study) -> tuple[dict[str, list[ShownPictures]], pd.DataFrame]:
    """Return the trials of each slot as participants get them, and the key to them."""
    slots: dict[str, list[ShownPictures]] = {}
    key: list[dict[str, Any]] = []
    trials = study.trials()
    sessions = trials["session"].unique()
    digits = max(4, len(str(len(sessions))))
    numbers = {name: f"{number + 1:0{digits}d}" for number, name in enumerate(sessions)}
    for row in trials.to_dict("records"):
        shown = _show(row, study.stimuli_hash)
        slot = numbers[row["session"]]
        slots.setdefault(slot, []).append(shown)
        right = "upper" if row["query_top"] == "max" else "lower"
        known = {name: value for name, value in row.items() if name not in ("trial", *_HIDDEN)}
        key.append(
            {
                "slot": slot, "trial": shown.trial, "block": shown.block, "right": right, "name": row["trial"], **known,
            }
        )  # fmt: skip
    return slots, KEY.conform(pd.DataFrame(key))


def _show(row: dict[str, Any], salt: str) -> ShownPictures:
    """Return a trial as participants get it."""
    left, right, upper, lower = place_pictures(row)
    return ShownPictures(
        # Its name would tell the condition, and in nested designs the model.
        hash_settings(["exported trial", salt, row["trial"]])[:16],
        "practice" if row["kind"] == "practice" else "trials",
        tuple(left),
        tuple(right),
        upper,
        lower,
    )


def _write_key(folder: Folder, key: pd.DataFrame) -> None:
    """Write what answers are scored with, and its codebook."""
    folder.tables["key"] = len(key)
    cells = spell(ExportTable(KEY, key))
    folder.write("key.csv", _csv([list(cells.columns), *cells.to_numpy().tolist()]), len(key))
    write_codebook(folder, {"key": (KEY, "`key.csv`")}, "UTF-8, commas, a header; an empty cell has no value.")


def _copy_pictures(
    folder: Folder, study: Study, slots: dict[str, list[ShownPictures]], below: str, reporter: Reporter
) -> None:
    """Copy the pictures that some trial shows; each keeps its name, the hash of its pixels."""
    needed = sorted({picture for trials in slots.values() for shown in trials for picture in shown.pictures})
    with reporter.task("copy the pictures", len(needed)) as advance:
        for picture in needed:
            path = study.image_path(picture)
            if not path.is_file():
                study.image(picture)  # says which picture is missing, and what to do
            folder.copy(path, f"{below}/{_path(picture)}")
            advance(1)


def _path(picture: str) -> str:
    """Return where a picture is, from the folder that participants get."""
    return f"images/{picture[:2]}/{picture}.webp"


def _filled(pictures: tuple[str, ...], length: int) -> list[str]:
    """Return the paths of pictures, and empty cells up to a length."""
    return [*map(_path, pictures), *([""] * (length - len(pictures)))]


def _places(references: int) -> list[list[str]]:
    """Return where pictures go in PsychoPy: name of the position, x and y of its centre, width; all in heights."""
    columns = 3 if references > 4 else 2 if references > 1 else 1
    rows = -(-references // columns)
    step = SIZE * 1.08
    centre = step * (columns + 1) / 2 + SIZE
    places = [
        ["upper", "0", _number(SIZE * 1.1), _number(2 * SIZE)],
        ["lower", "0", _number(-SIZE * 1.1), _number(2 * SIZE)],
    ]
    for side, sign in (("left", -1), ("right", 1)):
        for number in range(references):
            x = sign * centre + (number % columns - (columns - 1) / 2) * step
            y = ((rows - 1) / 2 - number // columns) * step
            places.append([f"{side}_{number + 1}", _number(x), _number(y), _number(SIZE)])
    return places


def _number(value: float) -> str:
    return f"{value:.4f}"


def _csv(rows: Iterable[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
