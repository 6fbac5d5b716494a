"""What a second model costs on pictures that were worked on before, in processor seconds.

    python -m tests.speed.pool_work --pool PICTURES.npz --array test_pictures --count 3000

Writes pictures as PNG files in a folder, then builds and observes studies of small networks on them, each in a process
of its own: with the cache off, with an empty cache, and with the cache that the first one left. Put another checkout
first on ``PYTHONPATH`` to measure that one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image


def write_pictures(arguments: argparse.Namespace, folder: Path) -> None:
    """Write the pictures as PNG files, in class folders if labels come with them."""
    pictures = np.load(arguments.pool)[arguments.array][: arguments.count]
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:05d}.png")


def work(pool: Path, out: Path, seed: int) -> None:
    """Build a study of a small network with its twin, and let three observers answer it; print what each part took."""
    import torch

    from benchmark.experiment import Experiment
    from benchmark.workflow import build, observe_study

    torch.set_num_threads(1)
    experiment = Experiment.model_validate(
        {
            "seed": 42,
            "pool": {"source": f"folder:{pool}"},
            "models": [
                {"card": f"tests.speed.pool_work:network_{seed}", "twin": True, "training_data": ["cifar-10"],
                 "training_images": 50_000}
            ],
            "units": {"per_model": 42},
        }
    )  # fmt: skip
    marks = [("start", _processor())]
    study = build(experiment, out, device="cpu")
    marks.append(("build", _processor()))
    for observer in ("lowlevel", "features:efficientnet_lite0", "features:efficientnet_lite2"):
        observe_study(study, observer, references=("both", "none"), device="cpu")
        marks.append((observer, _processor()))
    parts = {name: round(after - before, 1) for (_, before), (name, after) in pairwise(marks)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"total": round(marks[-1][1], 1), **parts, "peak GiB": round(peak, 2),
                      "stimuli": study.stimuli_hash}))  # fmt: skip


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _network(seed: int) -> object:
    """Return a ResNet-20 for 32-pixel pictures, with random weights that belong to a seed."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inner: int, outer: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outer)
            self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outer)
            self.skip = (
                nn.Identity() if inner == outer and stride == 1 else nn.Conv2d(inner, outer, 1, stride, bias=False)
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(y + self.skip(x))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = [16] * 3 + [32] * 3 + [64] * 3
        blocks = nn.Sequential(
            *(Block(a, b, 2 if a != b else 1) for a, b in zip([16, *widths], widths))
        )  # fmt: skip
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, 1, 1), blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
        )  # fmt: skip


def network_1() -> object:
    """Return the first network."""
    return _network(1)


def network_2() -> object:
    """Return the second network."""
    return _network(2)


FACTS = {"input": {"size": 32, "crop_ratio": 1.0, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.25] * 3},
         "layers": ["1.*.conv1", "1.*.conv2", "1.*.bn1", "1.*.bn2"]}  # fmt: skip
network_1.card = network_2.card = FACTS  # type: ignore[attr-defined]


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", help="an .npz file of pictures, shape (pictures, height, width, 3), uint8")
    parser.add_argument("--array", default="test_pictures", help="name of the array in it")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--only", default="", help="only these runs, with commas: off, first, second")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(Path(arguments.work[0]), Path(arguments.work[1]), int(arguments.work[2]))
        return
    with tempfile.TemporaryDirectory() as root:
        pool = Path(root) / "pool"
        write_pictures(arguments, pool)
        for name, seed, cache in (("off", 2, "off"), ("first", 1, ""), ("second", 2, "")):
            if arguments.only and name not in arguments.only.split(","):
                continue
            command = [sys.executable, "-m", "tests.speed.pool_work", "--work", str(pool), f"{root}/{name}", str(seed)]
            environment = {**os.environ, "VIMI_CACHE": cache}
            ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            print(f"{name:8s}", ran.stdout.strip().splitlines()[-1] if ran.returncode == 0 else ran.stderr[-2000:])


if __name__ == "__main__":
    main()
