"""Is this installation whole: what is loaded from where, and what is missing."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark.cache import FOLDER, VARIABLE, Cache, size_of
from benchmark.errors import VimiError, first_line
from benchmark.processors import count_processors
from benchmark.study import package_versions

PACKAGES = ("benchmark", "stimuli", "webapp", "analysis")

State = Literal["ok", "note", "fail"]


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at."""

    state: State
    what: str
    found: str


def examine() -> list[Diagnosis]:
    """Look at everything that a build depends on."""
    findings = [*_packages(), *_python(), *_torch(), *_models(), *_photographs(), _cache()]
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    findings.append(Diagnosis("ok" if free > 2 else "note", "disk", f"{free:,.1f} GiB free here"))
    return findings


def _packages() -> list[Diagnosis]:
    """Check that the four packages come from one place: their names are common, and others could overwrite them."""
    home = Path(__file__).resolve().parent.parent
    findings = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if origin is None:
            findings.append(
                Diagnosis("fail", name, "is not installed; install vimi again in an environment of its own")
            )
        elif origin.parent != home:
            findings.append(
                Diagnosis("fail", name, f"comes from {origin}, which is not vimi's: another distribution has the same "
                        f"name, or another folder comes first. vimi lies in {home}; give it an environment of its own")
            )  # fmt: skip
        else:
            findings.append(Diagnosis("ok", name, f"from {origin}"))
    return findings


def _python() -> list[Diagnosis]:
    versions = package_versions()
    wanted = sys.version_info >= (3, 11)
    findings = [
        Diagnosis("ok" if wanted else "fail", "Python", f"{versions.pop('python')} on {versions.pop('machine')}")
    ]
    versions.pop("vimi")
    for package, found in versions.items():
        findings.append(Diagnosis("ok" if found != "not installed" else "fail", package, found))
    return findings


def _torch() -> list[Diagnosis]:
    """Check that torch and torchvision fit, lucent imports, and say where networks will run."""
    import torch

    from benchmark.workflow import try_parametrization

    findings = []
    try:
        ops = importlib.import_module("torchvision.ops")
        boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
        ops.nms(boxes, torch.ones(1), 0.5)
        findings.append(Diagnosis("ok", "torchvision's operators", "work with this torch"))
    except Exception as error:
        findings.append(
            Diagnosis("fail", "torchvision's operators", f"{first_line(error)}: torch and torchvision are of different "
                    "builds; install both in one go")
        )  # fmt: skip
    try:
        try_parametrization()
        findings.append(Diagnosis("ok", "lucent's parametrisation", "can be used"))
    except Exception as error:
        findings.append(
            Diagnosis("fail", "lucent's parametrisation", f"{first_line(error)}: kornia must be 0.4.1 or older")
        )
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    cores = count_processors()
    findings.append(Diagnosis("ok", "networks run on", f"{device}, {cores} cores, {torch.get_num_threads()} threads"))
    return findings


def _models() -> list[Diagnosis]:
    """Say which cards have their weights on this machine."""
    from benchmark.model_card import card_names
    from benchmark.model_sources import load_card
    from benchmark.model_zoo import weights_on_machine

    have = [name for name in card_names() if weights_on_machine(load_card(name)) is not None]
    missing = [name for name in card_names() if name not in have]
    bundled = [name for name in card_names() if load_card(name).weights.source.startswith("wheel:")]
    broken = [name for name in bundled if name not in have]
    findings = [Diagnosis("fail" if broken else "ok", "weights on this machine", ", ".join(have) or "none")]
    if missing:
        findings.append(Diagnosis("note", "weights to be downloaded", ", ".join(missing)))
    return findings


def _cache() -> Diagnosis:
    """Say where work on pictures is cached for studies built here, and how to turn that off."""
    folder = Cache.beside(Path.cwd() / "study").folder
    if folder is None:
        return Diagnosis("note", "cache of pictures", f"off ({VARIABLE}={os.environ[VARIABLE]})")
    taken = f"{size_of(folder) / 2**20:,.0f} MiB" if folder.is_dir() else "nothing yet"
    return Diagnosis(
        "ok", "cache of pictures", f"{folder}, {taken}; of studies elsewhere, {FOLDER} beside them. Delete it at any "
        f"time; {VARIABLE}=off turns it off, {VARIABLE}=FOLDER moves it"
    )  # fmt: skip


def _photographs() -> list[Diagnosis]:
    from benchmark.workflow import open_photographs

    try:
        count = open_photographs()
    except (VimiError, OSError) as error:
        return [Diagnosis("fail", "bundled photographs", first_line(error))]
    return [Diagnosis("ok", "bundled photographs", f"{count} of {count}")]
