"""Planted copies are found among real pictures, and unrelated ones stay apart, on varied and on uniform pools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.speed.near_duplicates import ALTERED, digits, paint_x_rays, plant

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FOUND = ("recompressed", "resized", "brighter", "mirrored", "shifted by 3 %", "inner 95 %")
"""Copies that must be found on a pool of varied photographs."""


def photographs(count: int) -> list[Image.Image]:
    files = sorted((DATA / "imagenet-1000").glob("*/*"))
    if not files:
        pytest.skip("the 1,000 ImageNet pictures beside the checkout are missing")
    return [Image.open(path).convert("RGB") for path in files[:: len(files) // count][:count]]


def small_pictures(count: int) -> list[Image.Image]:
    path = DATA / "cifar" / "cifar10_subset.npz"
    if not path.is_file():
        pytest.skip("the CIFAR pictures beside the checkout are missing")
    with np.load(path) as arrays:
        return [Image.fromarray(picture) for picture in arrays["test_pictures"][:count]]


@pytest.mark.parametrize("pool", [photographs, small_pictures])
def test_copies_are_found_among_real_pictures_and_no_others_are_joined(pool: object) -> None:
    planted = plant(pool(150), 8, FOUND)  # type: ignore[operator]
    groups = planted.groups()
    assert max(groups.values()) <= 2 and len(groups) >= 148
    recall = planted.recall()
    assert min(recall.values()) >= 0.85, recall
    assert np.mean(list(recall.values())) >= 0.95, recall


@pytest.mark.parametrize("pool", [digits, paint_x_rays])
def test_pictures_that_are_much_alike_are_not_one_group(pool: object) -> None:
    planted = plant(pool(120), 8, ("recompressed", "resized"))  # type: ignore[operator]
    assert planted.limits.adapted
    assert len(planted.groups()) >= 110
    recall = planted.recall()
    assert recall["recompressed"] >= 0.85 and recall["resized"] >= 0.5, recall


def test_every_alteration_gives_another_picture() -> None:
    picture = paint_x_rays(1)[0]
    for name, alter in ALTERED.items():
        altered = alter(picture)
        assert altered.size != picture.size or np.any(np.asarray(altered) != np.asarray(picture)), name
