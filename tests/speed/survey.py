"""What the survey of many small files takes: processor time a file, and memory at its peak.

    python -m tests.speed.survey --pool PICTURES.npz --arrays train_pictures test_pictures --count 20000

Writes pictures as PNG files: those of the arrays, then altered ones (mirrored with noise, or the same with noise too
weak to see, which are near-duplicates). Surveys them in a process of its own, with near-duplicates grouped and nothing
cached. Put another checkout first on ``PYTHONPATH`` and run this file by its path to measure that one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

SEED = 1
UNSEEN = 2
"""Standard deviation of noise that nobody sees, in steps of 255."""
SEEN = 40
NEAR = 0.25
"""Share of the altered pictures that are near-duplicates of others."""


def write_pictures(file: str, arrays: list[str], count: int, folder: Path) -> int:
    """Write the pictures; return how many of them are near-duplicates of others."""
    stored = np.load(file)
    pictures = np.concatenate([stored[name] for name in arrays])
    rng = np.random.default_rng(SEED)
    folder.mkdir(parents=True)
    planted = 0
    for number in range(count):
        picture = pictures[number % len(pictures)]
        if number >= len(pictures):
            near = rng.random() < NEAR
            planted += near
            drawn = rng.normal(0, UNSEEN if near else SEEN, picture.shape)
            picture = (picture if near else picture[:, ::-1]) + drawn
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / f"{number:06d}.png")
    return planted


def work(folder: Path, scratch: Path) -> None:
    """Survey the pictures; print what it took."""
    import torch

    from stimuli.pool_sources import open_pool
    from stimuli.survey import survey_pool

    torch.set_num_threads(1)
    pool = open_pool(f"folder:{folder}")
    before = _processor()
    survey = survey_pool(pool, scratch, crop=224)
    took = _processor() - before
    groups = survey.table["group"].nunique()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps(
            {
                "files": len(pool), "ms a file": round(1000 * took / len(pool), 2), "peak GiB": round(peak, 2),
                "pictures": len(survey.table), "groups": int(groups),
            }
        )
    )  # fmt: skip


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", help="an .npz file of pictures, shape (pictures, height, width, 3), uint8")
    parser.add_argument("--arrays", nargs="+", default=["train_pictures", "test_pictures"])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(Path(given.work[0]), Path(given.work[1]))
        return
    with tempfile.TemporaryDirectory() as root:
        planted = write_pictures(given.pool, given.arrays, given.count, Path(root) / "pool")
        print(f"{planted:,} near-duplicates planted")
        command = [sys.executable, __file__, "--work", f"{root}/pool", f"{root}/survey"]
        ran = subprocess.run(command, env={**os.environ}, capture_output=True, text=True, check=False)
        print(ran.stdout.strip() if ran.returncode == 0 else ran.stderr[-2000:])


if __name__ == "__main__":
    main()
