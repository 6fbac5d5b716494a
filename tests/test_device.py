"""Devices and threads: names that people type, limits that a machine has, and timm loaded without the compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmark import device
from benchmark.device import choose_device, set_threads
from benchmark.errors import VimiError

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", ["gpu", "gpu:0"])
def test_a_gpu_is_called_cuda(name: str) -> None:
    with pytest.raises(VimiError, match=f"no device '{name}'.*Use --device cuda, cpu or auto"):
        choose_device(name)


def test_an_unknown_device_is_refused_in_one_line() -> None:
    with pytest.raises(VimiError, match="'quantum' can't be used here") as caught:
        choose_device("quantum")
    assert "\n" not in str(caught.value)


def test_the_number_of_threads_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIMI_THREADS", "3")
    assert set_threads() == torch.get_num_threads() == 3
    monkeypatch.setenv("VIMI_THREADS", "0")
    with pytest.raises(VimiError, match="VIMI_THREADS is '0'; it must be a whole number of at least 1"):
        set_threads()


def test_a_process_uses_no_more_threads_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIMI_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(4)
    monkeypatch.setattr(device, "count_processors", lambda: 2)
    assert set_threads() == 2
    monkeypatch.setattr(device, "count_processors", lambda: 64)
    assert set_threads() == 2, "torch's own number is never raised"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setattr(device, "count_processors", lambda: 1)
    assert set_threads() == 2, "what the user told torch itself is left alone"


def test_threads_that_wait_sleep_and_timm_is_loaded_without_the_compiler() -> None:
    code = (
        "import os, sys\n"
        "import benchmark\n"
        "assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'\n"
        "import benchmark.model_zoo\n"
        "heavy = {'torch._dynamo', 'torch._inductor', 'sympy', 'triton'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import torch, torchvision\n"
        "from timm.models.naflexvit import NaFlexVit\n"
        # Whoever wants the compiler afterwards gets the real one.
        "boxes = torch.tensor([[0, 0, 0, 4, 4.0]])\n"
        "assert torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), boxes, 2).shape == (1, 1, 2, 2)\n"
        "import torch._dynamo.utils\n"
        "assert torch._dynamo is sys.modules['torch._dynamo'] and torch._dynamo.__file__\n"
        "assert callable(torch._dynamo.disable(lambda: 1))\n"
        "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).item() == 2\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
