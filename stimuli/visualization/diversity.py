"""How alike the pictures of a set are: inner products of their Gram matrices in the unit's layer.

The similarity of two pictures is the inner product of their Frobenius-normalised Gram matrices, 0 to 1; the
loss of a set is its mean over all pairs of different pictures, as in the 2023 paper (and lucid's diversity).
"""

from __future__ import annotations

from typing import Any, cast

import torch


def features_by_picture(tensor: torch.Tensor, axis: int, pictures: int) -> torch.Tensor:
    """Return a layer's features, shape (pictures, positions, channels)."""
    if tensor.ndim == 2:
        return tensor.reshape(pictures, -1, tensor.shape[-1])
    last = tensor.movedim(axis, -1)
    return last.reshape(pictures, -1, last.shape[-1])


def diversity_loss(features: torch.Tensor) -> torch.Tensor:
    """Return each set's mean similarity over its pairs of different pictures.

    With features F of a picture, positions x channels, the inner product of two Gram matrices is
    <F'F, H'H> = ||F H'||^2: it can be computed over channels or over positions. Whichever is cheaper is used;
    both are exact.

    Parameters
    ----------
    features
        Shape (sets, images, positions, channels).

    Returns
    -------
    Shape (sets,).
    """
    sets, images, positions, channels = features.shape
    if images < 2:
        return features.new_zeros(sets)
    over_positions = images * positions * positions * images * channels
    over_channels = images * positions * channels * channels + images * images * channels * channels
    if over_positions < over_channels:
        flat = features.reshape(sets, images * positions, channels)
        products = (flat @ flat.transpose(1, 2)).square()
        inner = products.reshape(sets, images, positions, images, positions).sum((2, 4))
    else:
        grams = cast(torch.Tensor, _Gram.apply(features)).flatten(2)
        inner = grams @ grams.transpose(1, 2)
    lengths = inner.diagonal(dim1=1, dim2=2).clamp_min(torch.finfo(inner.dtype).tiny).sqrt()
    alike = inner / (lengths[:, :, None] * lengths[:, None, :])
    total = alike.sum((1, 2)) - alike.diagonal(dim1=1, dim2=2).sum(1)
    return total / (images * (images - 1))


class _Gram(torch.autograd.Function):
    """Gram matrices F'F, with a gradient that uses their symmetry: one product instead of two."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor) -> torch.Tensor:
        """Return shape (..., channels, channels) for features of shape (..., positions, channels)."""
        ctx.save_for_backward(features)
        return features.transpose(-1, -2) @ features

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        """Return the gradient by the features: F (G + G')."""
        (features,) = ctx.saved_tensors
        (gradient,) = gradients
        result: torch.Tensor = features @ (gradient + gradient.transpose(-1, -2))
        return result
