"""Tiny real architectures with random weights, for tests that look closely at what a network computes."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from benchmark.model_sources import load_card
from benchmark.model_zoo import Model, load_model
from benchmark.protocol import Aggregator


@cache
def load_tiny(card: str, aggregator: Aggregator = "mean") -> Model:
    """Load a model with random weights whose batch norms are far from the identity, as trained ones are.

    All tests share it: don't change it.
    """
    model = load_model(load_card(card), weights="random", seed=1, aggregator=aggregator)
    generator = torch.Generator().manual_seed(5)
    for module in model.module.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for values, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
            ):
                values.copy_(torch.rand(values.shape, generator=generator) * (high - low) + low)
    return model
