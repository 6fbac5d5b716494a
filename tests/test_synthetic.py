"""Synthetic stimuli of a study: made, judged and stored set by set, and resumed behind what is stored."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmark import schemas
from benchmark.errors import StudyError
from benchmark.experiment import VisualizationSettings
from benchmark.hashing import hash_rows
from benchmark.model_zoo import Model
from benchmark.progress import Advance, Reporter
from benchmark.readings import PlaceReader
from benchmark.study import Study
from benchmark.units import Unit
from stimuli.pictures import resize_to, to_pixels
from stimuli.planted import DETECTORS
from stimuli.synthetic import canvas_warning, make_sets, paint_planted, preset_settings, to_shown
from stimuli.visualization.fast import FastSettings
from stimuli.visualization.views import central_view

from .conftest import make_experiment, paint_picture
from .tiny_models import load_tiny

POOL = 24


@dataclass
class Stage:
    """What the stage needs: a study that it writes into, a model, units, and the pool at the canvas."""

    study: Study
    model: Model
    units: list[Unit]
    pool: NDArray[np.uint8]
    columns: dict[Unit, NDArray[np.float32]]

    def run(self, reporter: Reporter | None = None, units: list[Unit] | None = None) -> list[dict[str, Any]]:
        """Run the stage."""
        return make_sets(
            self.study, self.model, units or self.units, self.columns, lambda row: self.pool[row], reporter=reporter
        )

    def records(self) -> dict[Path, dict[str, Any]]:
        """Return the records on disk."""
        folder = self.study.root / "visualizations" / self.model.name
        return {path: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}

    def elsewhere(self, root: Path) -> Stage:
        """Return the same stage in a copy of the study."""
        return Stage(Study(shutil.copytree(self.study.root, root)), self.model, self.units, self.pool, self.columns)


def prepare(root: Path, card: str, units: list[tuple[str, int]], checkpoint: Path, **wanted: Any) -> Stage:
    """Prepare the stage for units of a model, in a new study."""
    model = load_tiny(card)
    settings = {"canvas": 32, "steps": 12, "shown": "canvas", **wanted}
    study = Study.create(root, make_experiment(root, checkpoint, visualization=settings))
    canvas = model.card.input.size if settings["canvas"] == "model" else settings["canvas"]
    pool = np.stack([paint_picture(n, canvas, canvas).transpose(2, 0, 1) for n in range(POOL)])
    named = [Unit(model.name, layer, index) for layer, index in units]
    shown = torch.from_numpy(pool).float() / 255
    shown = central_view(shown, 0, canvas if canvas % 16 == 0 else model.card.input.size)
    places = [model.layer_map[unit.layer].place for unit in named]
    with PlaceReader(model.module, places, "mean", model.prefix_tokens) as reader:
        values = reader.read_places(model.normalize(shown))
    columns = {unit: value[:, unit.index].numpy() for unit, value in zip(named, values)}
    return Stage(study, model, named, pool, columns)


UNITS = [("layer1.0.bn2", 3), ("layer2.0.conv1", 7), ("layer1.0.bn2", 11)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> tuple[Stage, list[dict[str, Any]]]:
    """A stage that has run, and its rows; tests that change it must copy it."""
    stage = prepare(tmp_path_factory.mktemp("synthetic") / "study", "timm:test_resnet", UNITS, checkpoint)
    return stage, stage.run()


def digest(rows: list[dict[str, Any]]) -> str:
    return hash_rows(schemas.STIMULI.conform(pd.DataFrame(rows)))


class CountingReporter(Reporter):
    """Counts finished sets and calls a function at each."""

    def __init__(self, each: Callable[[int], None] = lambda count: None) -> None:
        self.finished = 0
        self.total = 0
        self.each = each

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        self.total += total

        def advance(count: int) -> None:
            self.finished += count
            self.each(self.finished)

        yield advance


def test_every_unit_gets_a_set_of_references_on_both_sides(made: tuple[Stage, list[dict[str, Any]]]) -> None:
    stage, rows = made
    table = pd.DataFrame(rows)
    count = stage.study.protocol.references_per_side
    sizes = table.groupby(["layer", "index", "side"]).size()
    assert len(sizes) == 2 * len(UNITS) and (sizes == count).all()
    assert set(table["condition"]) == {"synthetic"} and set(table["role"]) == {"reference"}
    for _, group in table.groupby(["layer", "index", "side"]):
        assert group["position"].tolist() == list(range(count))
        strength = group["activation"] if group["side"].iloc[0] == "max" else -group["activation"]
        assert strength.is_monotonic_decreasing, "the strongest picture comes first"
        for picture in group["picture"]:
            assert stage.study.image(picture).shape == (32, 32, 3)


def test_activations_in_the_table_are_the_networks_own_for_the_stored_pictures(
    made: tuple[Stage, list[dict[str, Any]]],
) -> None:
    stage, rows = made
    for row in rows:
        pixels = torch.from_numpy(stage.study.image(row["picture"]).copy()).permute(2, 0, 1)[None].float() / 255
        with PlaceReader(stage.model.module, [stage.model.layer_map[row["layer"]].place]) as reader:
            read = float(reader.read_places(stage.model.normalize(pixels))[0][0, row["index"]])
        assert row["activation"] == pytest.approx(read, rel=1e-4, abs=1e-5)


def test_quality_is_recorded_beside_each_picture(made: tuple[Stage, list[dict[str, Any]]]) -> None:
    stage, rows = made
    exact = {unit: column.astype(np.float64) for unit, column in stage.columns.items()}
    by_set: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for row in rows:
        by_set.setdefault((row["layer"], row["index"], row["side"]), []).append(row)
        sign = 1 if row["side"] == "max" else -1
        # The pool is small and has the canvas's size: thresholds are its own extremes.
        values = sign * exact[Unit(stage.model.name, row["layer"], row["index"])]
        own = sign * row["activation"]
        best, middle = values.max(), np.median(values)
        assert row["over_best"] == pytest.approx((own - middle) / (best - middle), rel=1e-3, abs=1e-3)
        # Of so small a pool every picture is among the most extreme: its median is the middle itself.
        assert np.sign(row["over_median"]) == np.sign(own - middle) and np.isfinite(row["over_median"])
        assert row["margin"] == pytest.approx((own - best) / values.std(), rel=1e-3, abs=2e-3)
        assert 0 < row["steps"] <= 12
        assert 0 <= row["diversity_loss"] <= 1.001
        assert row["method"].startswith("fast:")
    for members in by_set.values():
        assert len({row["accepted"] for row in members}) == 1
        # The rule: the weakest picture beats the best natural one.
        assert members[0]["accepted"] == (min(row["margin"] for row in members) > 0)
    for record in stage.records().values():
        assert record["seconds"] > 0
        assert {"over_best", "over_median", "margin", "steps", "seconds", "accepted", "diversity_loss"} <= set(record)
        assert len(record["over_best"]) == len(record["over_median"]) == len(record["margin"]) == 3


def test_sets_that_fail_are_kept_and_flagged(tmp_path: Path, checkpoint: Path) -> None:
    # One step can't beat the best of a pool.
    stage = prepare(tmp_path / "study", "timm:test_resnet", UNITS[:2], checkpoint, steps=1)
    rows = stage.run()
    assert len(rows) == 2 * 2 * stage.study.protocol.references_per_side
    failed = [row for row in rows if not row["accepted"]]
    assert failed
    assert all(stage.study.image_path(row["picture"]).is_file() for row in failed)
    assert all(row["steps"] == 1 for row in rows)


def test_a_second_run_makes_nothing_anew_and_gives_the_same_rows(
    made: tuple[Stage, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, rows = made
    again = stage.elsewhere(tmp_path / "copy")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in again.records()}
    reporter = CountingReporter()
    assert digest(again.run(reporter)) == digest(rows)
    assert (reporter.finished, reporter.total) == (6, 6)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in again.records()} == before


@pytest.mark.parametrize("victim", range(6))
def test_a_deleted_record_is_remade_alone_and_bit_by_bit(
    victim: int, made: tuple[Stage, list[dict[str, Any]]], tmp_path: Path
) -> None:
    stage, rows = made
    again = stage.elsewhere(tmp_path / "copy")
    records = again.records()
    path = list(records)[victim]
    for picture in records[path]["pictures"]:
        again.study.image_path(picture).unlink()
    path.unlink()
    for other in again.records():
        os.utime(other, ns=(1, 1))
    assert digest(again.run()) == digest(rows)
    remade = [other for other in again.records() if other.stat().st_mtime_ns != 1]
    assert remade == [path]
    fresh = again.records()[path]
    assert {k: v for k, v in fresh.items() if k != "seconds"} == {
        k: v for k, v in records[path].items() if k != "seconds"
    }
    assert all(again.study.image_path(row["picture"]).is_file() for row in rows)


def test_a_set_whose_picture_was_lost_is_made_again(made: tuple[Stage, list[dict[str, Any]]], tmp_path: Path) -> None:
    stage, rows = made
    again = stage.elsewhere(tmp_path / "copy")
    again.study.image_path(rows[0]["picture"]).unlink()
    assert digest(again.run()) == digest(rows)
    assert again.study.image_path(rows[0]["picture"]).is_file()


@pytest.mark.parametrize("kept", [1, 3, 5])
def test_a_killed_run_goes_on_behind_the_sets_it_had_stored(
    kept: int, made: tuple[Stage, list[dict[str, Any]]], tmp_path: Path
) -> None:
    stage, rows = made
    again = stage.elsewhere(tmp_path / "copy")
    shutil.rmtree(again.study.root / "visualizations")
    shutil.rmtree(again.study.root / "images")

    def kill(finished: int) -> None:
        if finished == kept:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        again.run(CountingReporter(kill))
    stored = again.records()
    assert len(stored) == kept
    for path in stored:
        os.utime(path, ns=(1, 1))
    assert digest(again.run()) == digest(rows)
    assert [path for path in again.records() if path.stat().st_mtime_ns == 1] == list(stored)
    assert len(again.records()) == 6


def test_records_of_other_settings_seeds_weights_or_thresholds_are_not_taken_over(
    made: tuple[Stage, list[dict[str, Any]]], tmp_path: Path, checkpoint: Path
) -> None:
    stage, _ = made
    changes = {
        "steps": {"visualization": {"canvas": 32, "steps": 11, "shown": "canvas"}},
        "shown": {"visualization": {"canvas": 32, "steps": 12}},
        "seed": {"seed": 4, "visualization": {"canvas": 32, "steps": 12, "shown": "canvas"}},
    }
    names = {path.name for path in stage.records()}
    for name, change in changes.items():
        study = Study.create(tmp_path / name, make_experiment(tmp_path, checkpoint, **change))
        shutil.copytree(stage.study.root / "visualizations", study.root / "visualizations")
        other = Stage(study, stage.model, stage.units[:1], stage.pool, stage.columns)
        other.run()
        fresh = {path.name for path in other.records()} - names
        assert len(fresh) == 2, name
    # Brighter pictures of the pool: other thresholds.
    copy = stage.elsewhere(tmp_path / "pool")
    copy.pool = 255 - copy.pool
    copy.run(units=stage.units[:1])
    assert len({path.name for path in copy.records()} - names) == 2


def test_units_of_one_layer_do_not_depend_on_which_others_are_asked_for(
    made: tuple[Stage, list[dict[str, Any]]], tmp_path: Path, checkpoint: Path
) -> None:
    _, rows = made
    alone = prepare(tmp_path / "study", "timm:test_resnet", UNITS[2:], checkpoint)
    mine = [row for row in rows if (row["layer"], row["index"]) == UNITS[2]]
    assert digest(alone.run()) == digest(mine)


def test_a_model_that_takes_only_its_own_size_gets_pictures_of_the_canvas(tmp_path: Path, checkpoint: Path) -> None:
    units = [("blocks.1.mlp.fc1", 5)]
    stage = prepare(tmp_path / "study", "timm:test_vit", units, checkpoint, canvas=40, steps=36)
    rows = stage.run()
    assert len(rows) == 2 * stage.study.protocol.references_per_side
    column = stage.columns[stage.units[0]]
    for row in rows:
        pixels = stage.study.image(row["picture"])
        assert pixels.shape == (40, 40, 3)
        shown = central_view(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255, 0, 160)
        with PlaceReader(stage.model.module, [stage.model.layer_map[row["layer"]].place]) as reader:
            read = float(reader.read_places(stage.model.normalize(shown))[0][0, row["index"]])
        assert row["activation"] == pytest.approx(read, abs=1e-4)
        if row["accepted"]:
            assert row["activation"] > column.max() if row["side"] == "max" else row["activation"] < column.min()
    assert any(row["accepted"] for row in rows)


@pytest.mark.parametrize(
    ("card", "layer"), [("timm:test_resnet", "layer1.0.bn2"), ("timm:test_vit", "blocks.1.mlp.fc1")]
)
def test_the_papers_recipe_serves_a_study_too(card: str, layer: str, tmp_path: Path, checkpoint: Path) -> None:
    stage = prepare(tmp_path / "study", card, [(layer, 3)], checkpoint, preset="imi2023", steps=3)
    rows = stage.run()
    count = stage.study.protocol.references_per_side
    assert len(rows) == 2 * count
    column = stage.columns[stage.units[0]].astype(np.float64)
    for row in rows:
        assert row["method"].startswith("imi2023:")
        sign = 1 if row["side"] == "max" else -1
        best, middle = (sign * column).max(), np.median(sign * column)
        expected = (sign * row["activation"] - middle) / (best - middle)
        assert row["over_best"] == pytest.approx(expected, rel=1e-3, abs=1e-3)
        assert row["steps"] >= 3 * 2
    assert digest(rows) == digest(stage.run())


def test_an_accelerator_gets_larger_batches_in_half_precision_and_a_cpu_does_not() -> None:
    asked = VisualizationSettings(canvas=64, steps=100)
    on_cpu, on_gpu = (preset_settings(asked, 9, torch.device(name), 224) for name in ("cpu", "cuda"))
    assert isinstance(on_cpu, FastSettings) and isinstance(on_gpu, FastSettings)
    assert (on_cpu.half, on_gpu.half) == (False, True)
    assert on_gpu.sets > on_cpu.sets
    for chosen in (on_cpu, on_gpu):
        assert (chosen.canvas, chosen.steps, chosen.images) == (64, 100, 9)


def test_the_canvas_follows_the_model_unless_it_is_given() -> None:
    cpu = torch.device("cpu")
    for preset in ("fast", "imi2023"):
        own, given = VisualizationSettings(preset=preset), VisualizationSettings(preset=preset, canvas=96)
        assert [preset_settings(own, 9, cpu, side).canvas for side in (32, 224, 300)] == [32, 224, 300]
        assert [preset_settings(given, 9, cpu, side).canvas for side in (32, 224)] == [96, 96]
        assert canvas_warning(own, {"small": 32, "large": 224}) == ""
        assert canvas_warning(given, {"same": 96}) == ""
        warning = canvas_warning(given, {"small": 32, "same": 96, "large": 224})
        assert "small (32), large (224)" in warning and "same" not in warning


def test_all_pictures_are_shown_at_one_size_whatever_they_were_optimised_at(
    made: tuple[Stage, list[dict[str, Any]]], tmp_path: Path, checkpoint: Path
) -> None:
    _, plain = made
    for shown, side in (("smooth", 48), ("pixels", 32)):
        stage = prepare(tmp_path / shown, "timm:test_resnet", UNITS, checkpoint, shown=shown)
        rows = stage.run()
        assert digest(stage.run()) == digest(rows)
        for row, small in zip(rows, plain):
            picture = stage.study.image(row["picture"])
            assert picture.shape == (side, side, 3)
            # What is optimised and measured is the same; only its size when it is shown differs.
            assert row["activation"] == small["activation"]
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    assert np.array_equal(to_shown(pixels, 69, "canvas"), pixels)
    assert np.array_equal(to_shown(pixels, 20, "smooth"), pixels)
    enlarged = to_shown(pixels, 69, "pixels")
    assert enlarged.shape == (60, 60, 3), "the largest whole number that fits"
    assert all(np.array_equal(enlarged[y::3, x::3], pixels) for y in range(3) for x in range(3))
    assert to_shown(pixels, 69, "smooth").shape == (69, 69, 3)
    assert to_shown(pixels, 16, "pixels").shape == (16, 16, 3), "larger ones are made smaller"


def test_smooth_enlargement_and_the_way_back_change_little(made: tuple[Stage, list[dict[str, Any]]]) -> None:
    stage, rows = made
    small = stage.study.image(rows[0]["picture"])
    back = resize_to(Image.fromarray(to_shown(small, 224, "smooth")), len(small))
    assert np.abs(to_pixels(back).astype(float) - small).mean() < 6


def test_pictures_of_an_older_version_of_the_preset_are_not_mixed_with_new_ones(
    tmp_path: Path, checkpoint: Path
) -> None:
    with pytest.raises(StudyError, match=r"version 1 of the preset 'fast'.*another folder"):
        prepare(tmp_path / "study", "timm:test_resnet", UNITS, checkpoint, version=1).run()


def test_painted_references_of_planted_units_score_on_their_side(tmp_path: Path, checkpoint: Path) -> None:
    study = Study.create(tmp_path / "study", make_experiment(tmp_path, checkpoint))
    rows = paint_planted(study, 48)
    count = study.protocol.references_per_side
    assert len(rows) == 2 * count * len(DETECTORS)
    assert digest(rows) == digest(paint_planted(study, 48))
    table = schemas.STIMULI.conform(pd.DataFrame(rows))
    assert set(table["method"]) == {"painted"}
    assert set(table["side"]) == {"max", "min"}
    assert (table.groupby(["layer", "index", "side"])["picture"].nunique() == count).all()
    for picture in table["picture"]:
        assert study.image(picture).shape == (48, 48, 3)
