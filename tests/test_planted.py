"""Planted units: their truth is on the pixels, so no network decides who is excluded from a study."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from benchmark.study import Study
from benchmark.tasks import assemble_tasks
from benchmark.units import PLANTED, UNIT_COLUMNS
from stimuli.planted import DETECTORS, Detector, look, paint, scores
from stimuli.pool_sources import open_pool
from tests.conftest import paint_picture

NAMES = [detector.sees for detector in DETECTORS]


def score(detector: Detector, pixels: np.ndarray) -> float:
    return detector.score(look(Image.fromarray(pixels)))


@pytest.mark.parametrize("detector", DETECTORS, ids=NAMES)
@settings(max_examples=15, deadline=None)
@given(side=some.sampled_from([32, 64, 100, 224]), seed=some.integers(0, 10_000))
def test_a_detector_ranks_all_its_strong_paintings_above_all_its_weak_ones(
    detector: Detector, side: int, seed: int
) -> None:
    strong = [score(detector, paint(detector, 1, number, side, seed)) for number in range(4)]
    weak = [score(detector, paint(detector, -1, number, side, seed)) for number in range(4)]
    assert min(strong) > max(weak)


@pytest.mark.parametrize("detector", DETECTORS, ids=NAMES)
def test_paintings_are_stronger_than_nearly_all_photographs_and_the_weak_ones_weaker(detector: Detector) -> None:
    pool = open_pool("bundled")
    photographs = [detector.score(look(pool.original(place))) for place in range(3, 800, 20)]
    strong = np.mean([score(detector, paint(detector, 1, number, 128, 5)) for number in range(6)])
    weak = np.mean([score(detector, paint(detector, -1, number, 128, 5)) for number in range(6)])
    assert np.mean(photographs < strong) >= 0.7
    assert np.mean(photographs > weak) >= 0.7


def test_detectors_see_what_they_say_they_see() -> None:
    def plain(colour: tuple[int, int, int]) -> np.ndarray:
        return np.broadcast_to(np.array(colour, np.uint8), (96, 96, 3)).copy()

    y, x = np.mgrid[0:96, 0:96]

    def stripes(phase: np.ndarray) -> np.ndarray:
        return np.repeat(np.where(phase % 16 < 8, 40, 210).astype(np.uint8)[..., None], 3, axis=2)

    pixels = {
        "red": plain((220, 20, 20)),
        "green": plain((20, 220, 20)),
        "blue": plain((20, 20, 220)),
        "light": plain((250, 250, 250)),
        "fine detail": np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8),
        "vertical edges": stripes(x),
        "rising edges": stripes(x + y),  # constant along x + y: they run from the lower left to the upper right
    }
    for detector in DETECTORS:
        found = {name: score(detector, picture) for name, picture in pixels.items()}
        assert max(found, key=found.__getitem__) == detector.sees, found


def test_opposite_orientations_get_opposite_scores() -> None:
    for number in range(5):
        turned = {d.sees: d for d in DETECTORS if d.layer == "orientation"}
        pixels = paint_picture(number, 96, 96)
        upright = score(turned["vertical edges"], pixels)
        assert score(turned["vertical edges"], np.rot90(pixels).copy()) == pytest.approx(-upright, abs=0.02)
        rising = score(turned["rising edges"], pixels)
        assert score(turned["rising edges"], pixels[:, ::-1].copy()) == pytest.approx(-rising, abs=0.02)


def test_scores_are_those_of_the_detectors_in_order() -> None:
    image = Image.fromarray(paint_picture(4))
    assert scores(image).tolist() == pytest.approx([detector.score(look(image)) for detector in DETECTORS])
    assert scores(image).shape == (len(DETECTORS),)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("value", [0, 255])
def test_a_flat_picture_has_finite_scores(mode: str, value: int) -> None:
    assert np.isfinite(scores(Image.new(mode, (50, 50), value if mode == "L" else (value,) * 3))).all()


def test_a_painting_is_repeated_by_its_seed_and_number_alone() -> None:
    for detector in DETECTORS:
        first = paint(detector, 1, 0, 40, 3)
        assert first.shape == (40, 40, 3) and first.dtype == np.uint8
        assert np.array_equal(first, paint(detector, 1, 0, 40, 3))
        for other in (paint(detector, 1, 1, 40, 3), paint(detector, -1, 0, 40, 3), paint(detector, 1, 0, 40, 4)):
            assert not np.array_equal(first, other)


def test_there_are_colours_orientations_and_a_texture_and_the_obvious_ones_are_enough_for_practice() -> None:
    assert {detector.layer for detector in DETECTORS} == {"colour", "orientation", "texture"}
    assert len({str(detector.unit) for detector in DETECTORS}) == len(DETECTORS)
    assert sum(detector.obvious for detector in DETECTORS) >= 5
    assert any(not detector.obvious for detector in DETECTORS)


def test_detectors_run_where_no_network_can_be_imported() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'timm', 'torchvision', 'benchmark.model_zoo'):\n"
        "    sys.modules[name] = None\n"
        "import numpy as np\n"
        "from PIL import Image\n"
        "from stimuli.planted import DETECTORS, paint, scores\n"
        "for detector in DETECTORS:\n"
        "    print(*scores(Image.fromarray(paint(detector, 1, 0, 32, 0))))\n"
    )
    root = Path(__file__).parent.parent
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    here = [scores(Image.fromarray(paint(detector, 1, 0, 32, 0))) for detector in DETECTORS]
    assert np.allclose(np.array([line.split() for line in found.stdout.splitlines()], float), here)


# -------------------------------------------------------------------- in a study


def test_catch_and_practice_trials_are_all_planted_and_main_trials_never(tiny_study: Study) -> None:
    trials = tiny_study.trials()
    planted = trials["model"] == PLANTED
    assert set(trials.loc[planted, "kind"]) == {"catch", "practice"}
    assert set(trials.loc[~planted, "kind"]) == {"main"}


def test_no_picture_serves_two_tasks_of_a_planted_unit_nor_twice_in_one(tiny_study: Study) -> None:
    stimuli = tiny_study.stimuli()
    natural = stimuli[(stimuli["model"] == PLANTED) & (stimuli["condition"] == "natural")]
    assert natural.groupby(UNIT_COLUMNS).ngroups == len(DETECTORS)
    for _, own in natural.groupby(UNIT_COLUMNS):
        assert own["picture"].is_unique
        assert own["task"].nunique() >= 2


def test_planted_queries_are_the_most_extreme_pictures_of_their_detector(tiny_study: Study) -> None:
    stimuli = tiny_study.stimuli()
    natural = stimuli[(stimuli["model"] == PLANTED) & (stimuli["condition"] == "natural")]
    for detector in DETECTORS:
        own = natural[(natural["layer"] == detector.layer) & (natural["index"] == detector.index)]
        values = {
            picture: detector.score(look(Image.fromarray(tiny_study.image(picture)))) for picture in own["picture"]
        }
        for side, sign in (("max", 1), ("min", -1)):
            queries = own[(own["role"] == "query") & (own["side"] == side)]
            others = own[~own["picture"].isin(queries["picture"])]
            weakest = min(sign * values[picture] for picture in queries["picture"])
            assert weakest >= max(sign * values[picture] for picture in others["picture"])
            assert sorted(queries["rank"]) == list(range(len(queries)))


def test_the_right_answer_of_a_planted_task_is_its_detectors(tiny_study: Study) -> None:
    tasks = assemble_tasks(tiny_study.stimuli())
    planted = tasks[tasks["model"] == PLANTED]
    assert set(planted["condition"]) == {"natural", "synthetic"}
    for row in planted.itertuples():
        detector = next(
            d for d in DETECTORS if d.layer == row.layer and d.unit.index == row[planted.columns.get_loc("index") + 1]
        )
        upper, lower = (
            detector.score(look(Image.fromarray(tiny_study.image(picture))))
            for picture in (row.query_max, row.query_min)
        )
        assert upper > lower
