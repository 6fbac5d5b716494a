"""A network of a user's own that can be held in the middle of a batch, on workers that are told to."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from stimuli.activations import BATCH_ON_CPU

HOLD = "VIMI_TESTS_HOLD"
"""Names the folder that workers look into; only they have it in their environment."""


def make() -> nn.Module:
    """Return timm's smallest ResNet with weights of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        module = timm.create_model("test_resnet", pretrained=False)
    module.register_forward_pre_hook(wait_while_held)
    return module


def wait_while_held(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Say on which node, and by which process, a batch of a shard is in work, and wait until it may go on."""
    folder = os.environ.get(HOLD)
    if folder is None or len(inputs[0]) != BATCH_ON_CPU or not (Path(folder) / "hold").is_file():
        return
    import ray

    said = Path(folder) / ray.get_runtime_context().get_node_id()
    unfinished = said.with_suffix(f".{os.getpid()}")
    unfinished.write_text(str(os.getpid()))
    unfinished.replace(said)
    while (Path(folder) / "hold").is_file():
        time.sleep(0.05)
