"""What several tests share: small pictures with a structure, tiny real architectures, and one tiny built study."""

from __future__ import annotations

import fcntl
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

# Files of tests run side by side: more threads than one would wait for each other. It must be said before numpy loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Tests start a hundred processes: where Python is told to keep no bytecode, as in many containers, each of them would
# compile all that it imports, for up to half a minute. A folder beside pytest's own cache is out of everyone's way.
if sys.dont_write_bytecode:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    sys.dont_write_bytecode, sys.pycache_prefix = False, os.environ["PYTHONPYCACHEPREFIX"]

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from benchmark.cache import VARIABLE
from benchmark.study import Study

# pytest-xdist's controller reads this file and runs no test: torch, which it would wait for before it starts a worker,
# is imported where it is needed.
if TYPE_CHECKING:
    from benchmark.experiment import Experiment
    from benchmark.model_zoo import Model

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A loaded machine is no error: no example has a deadline, whether its test says so or not.
settings.register_profile("vimi", deadline=None)
settings.load_profile("vimi")

os.environ[VARIABLE] = "off"  # tests of work on pictures must see it done; tests of the cache turn it on


LONGEST = (
    "browser", "leaderboard", "build", "extension", "analysis_figures", "report", "visualization_fast", "kill",
    "assignment", "mixed_model", "engines", "command_line_json", "starters", "backup", "export", "answer_verbs",
    "blindness", "forecast",
)  # fmt: skip
"""Files that take longest, the longest first: the rest fills up whichever worker is done with them sooner."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Start one worker more than there are processors: tests of browsers, servers and kills mostly wait."""
    asked = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS", "")
    return int(asked) if asked.isdecimal() else 1 + (os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest files begin first; pytest-xdist keeps to this order with ``--no-loadscope-reorder``."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_collection_finish() -> None:
    """Keep what was imported from the collector of garbage: it would look through it all, again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


CLASSES = 6


def paint_picture(number: int, width: int = 56, height: int = 48) -> np.ndarray:
    """Return a picture of coloured stripes and blots; to a network they are alike, so groups are tested elsewhere."""
    generator = np.random.default_rng(1000 + number)
    y, x = np.mgrid[0:height, 0:width] / height
    angle, frequency = generator.uniform(0, np.pi), generator.uniform(2, 25)
    stripes = np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) + generator.uniform(0, 6))
    coarse = generator.normal(size=(6, 7, 3)).astype(np.float32)
    planes = [Image.fromarray(coarse[..., n]).resize((width, height), Image.Resampling.BICUBIC) for n in range(3)]
    blots = np.stack([np.asarray(plane) for plane in planes], axis=-1)
    tint = generator.normal(0, 0.8, size=3)
    mixed = generator.uniform(0.2, 1.2) * stripes[..., None] * generator.normal(size=3) + blots + tint
    return np.rint(255 / (1 + np.exp(-mixed))).astype(np.uint8)


def write_pictures(folder: Path, count: int, *, labelled: bool = False) -> Path:
    """Write pictures below a folder, in class folders if they shall be labelled."""
    for number in range(count):
        place = folder / f"class{number % CLASSES}" if labelled else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(paint_picture(number)).save(place / f"{number:04d}.png")
    return folder


def make_for_all(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that is made once for all of pytest-xdist's workers; the second that asks waits for the first."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, made = base / name, base / f"{name}.made"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 pictures."""
    return write_pictures(tmp_path_factory.mktemp("pictures"), 60)


@pytest.fixture(scope="session")
def labelled_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 pictures in class folders."""
    return make_for_all(tmp_path_factory, "labelled", lambda folder: write_pictures(folder, 60, labelled=True))


@pytest.fixture(scope="session")
def resnet() -> Model:
    """timm's smallest ResNet, random weights."""
    from benchmark.model_sources import load_card
    from benchmark.model_zoo import load_model

    return load_model(load_card("timm:test_resnet"), weights="random", seed=1)


@pytest.fixture(scope="session")
def vit() -> Model:
    """timm's smallest ViT, random weights."""
    from benchmark.model_sources import load_card
    from benchmark.model_zoo import load_model

    return load_model(load_card("timm:test_vit"), weights="random", seed=1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A safetensors checkpoint for timm's smallest ResNet: to vimi, a trained model."""
    from safetensors.torch import save_file

    from benchmark.model_sources import load_card
    from benchmark.model_zoo import build_untrained

    def make(folder: Path) -> None:
        folder.mkdir()
        module = build_untrained(load_card("timm:test_resnet"), 7)
        state = {name: value.contiguous() for name, value in module.state_dict().items()}
        save_file(state, str(folder / "tiny.safetensors"))

    return make_for_all(tmp_path_factory, "weights", make) / "tiny.safetensors"


def trained_model(checkpoint: Path) -> dict[str, object]:
    """Return the entry of a trained model with its twin."""
    return {
        "card": "timm:test_resnet",
        "weights": str(checkpoint),
        "twin": True,
        "training_data": ["stripes"],
        "training_images": 60,
    }


def make_experiment(folder: Path, checkpoint: Path, **changes: object) -> Experiment:
    """Return a tiny experiment: two models, one of them with a twin, both conditions."""
    from benchmark.experiment import Experiment

    values: dict[str, object] = {
        "seed": 3,
        "pool": {"source": f"imagenet:{folder}", "crop": 48},
        "models": [
            trained_model(checkpoint),
            {"card": "timm:test_vit", "weights": "random"},
        ],
        "units": {"per_model": 8},
        "stimuli": {"conditions": ["natural", "synthetic"], "references": 3, "tasks": 3},
        "visualization": {"canvas": 32, "steps": 12, "units": 3},
        "session": {"main_trials": 6, "responses_per_unit": 6},
    }
    values.update(changes)
    return Experiment.model_validate(values)


@pytest.fixture(scope="session")
def tiny_study(labelled_folder: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A whole study, built once for all workers; tests that change it must copy it."""
    from benchmark.workflow import build

    experiment = make_experiment(labelled_folder, checkpoint)
    return Study.open(make_for_all(tmp_path_factory, "tiny", lambda folder: build(experiment, folder)))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports have empty figures: drawing takes most of a quick report's time, and most tests look at the rest."""
    monkeypatch.setattr("analysis.report.material.figure_as_svg", lambda *_, **__: "<svg/>")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Torch uses one thread in every test: files of tests run side by side, and numbers agree between machines."""
    import torch

    torch.set_num_threads(1)
