"""The optimiser of pictures and dictionaries."""

from __future__ import annotations

import torch
from torch.optim.adam import adam


class Adam:
    """``torch.optim.Adam`` with its own step, bit by bit, and without what an optimiser of torch imports.

    That is torch's compiler, which nothing here uses: two seconds in every process that optimises something.

    Parameters
    ----------
    parameters
        What to optimise; each gets a gradient before every step.
    rate
        Learning rate.
    fused
        Whether all parameters take their step in one kernel; torch chooses otherwise.
    """

    def __init__(self, parameters: list[torch.Tensor], rate: float, *, fused: bool) -> None:
        self.parameters, self.rate, self.fused = parameters, rate, fused
        self.means = [torch.zeros_like(own) for own in parameters]
        self.squares = [torch.zeros_like(own) for own in parameters]
        kind = torch.float64 if torch.get_default_dtype() == torch.float64 and not fused else torch.float32
        self.steps = [torch.zeros((), dtype=kind, device=own.device if fused else "cpu") for own in parameters]

    def forget(self, place: int) -> None:
        """Let a parameter begin anew."""
        for moments in (self.means, self.squares, self.steps):
            moments[place].zero_()

    @torch.no_grad()
    def step(self) -> None:
        """Take a step down the gradients of all parameters."""
        gradients = [own.grad for own in self.parameters if own.grad is not None]
        if len(gradients) < len(self.parameters):
            raise ValueError("A parameter has no gradient: moments would go to the wrong one.")
        adam(
            self.parameters, gradients, self.means, self.squares, [], self.steps, fused=self.fused or None,
            amsgrad=False, beta1=0.9, beta2=0.999, lr=self.rate, weight_decay=0.0, eps=1e-8, maximize=False,
        )  # fmt: skip
