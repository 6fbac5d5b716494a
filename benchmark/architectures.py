"""Architectures of the paper that timm lacks, registered with timm, so that every model is built one way."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmark.timm_loading import timm


class InceptionV1(nn.Module):
    """lucent's InceptionV1 (the weights of TensorFlow's, 1,008 outputs) with timm's view of a model."""

    num_features = 1024

    def __init__(self) -> None:
        super().__init__()
        from lucent.modelzoo.inceptionv1 import InceptionV1 as LucentInceptionV1

        # The layers themselves, not a wrapper around them: their names are the ones that the field knows.
        inner = LucentInceptionV1(pretrained=False)
        self._modules.update(inner._modules)
        self._forward = type(inner).forward
        self.num_classes = 1008

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class probabilities of shape (batch, 1008) for pictures of shape (batch, 3, 224, 224)."""
        return self._forward(self, x)  # type: ignore[no-any-return]

    def get_classifier(self) -> nn.Module:
        """Return the layer whose input is the last feature layer."""
        return self.get_submodule("softmax2_pre_activation_matmul")


@timm.models.register_model  # type: ignore[untyped-decorator]
def inceptionv1_lucent(pretrained: bool = False, **options: Any) -> nn.Module:
    """Build lucent's InceptionV1; its weights are loaded by vimi, which reads them safely."""
    return InceptionV1()


@timm.models.register_model  # type: ignore[untyped-decorator]
def resnet50_robust(pretrained: bool = False, **options: Any) -> nn.Module:
    """Build a ResNet-50 for the adversarially trained weights; they are loaded by vimi."""
    model: nn.Module = timm.create_model("resnet50", pretrained=False)
    return model
