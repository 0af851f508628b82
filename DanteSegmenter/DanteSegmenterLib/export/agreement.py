"""Whether a network that was written in another format still computes what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ModelError
from .source import Source, noise, patient

# Of the largest logit (of 1, where all are smaller). ONNX Runtime sums the moments of a large map less exactly than
# PyTorch, which is worth up to a tenth of this; a mask changes only where a logit is as near to 0 as that.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Agreement:
    """The largest differences between the logits of both, on noise and on a generated patient.

    Attributes:
        largest_logit: in absolute value, of the original.
    """

    on_noise: float
    on_patient: float
    largest_logit: float

    @property
    def tolerated(self) -> float:
        """The largest difference that is rounding."""
        return TOLERANCE * max(1.0, self.largest_logit)

    @property
    def holds(self) -> bool:
        """Whether both compute the same; a difference that is no number does not hold."""
        return self.on_noise <= self.tolerated and self.on_patient <= self.tolerated

    def __str__(self) -> str:
        return (
            f"largest difference of logits to PyTorch: {self.on_noise:.1e} on noise, {self.on_patient:.1e} on a "
            f"generated patient (logits up to {self.largest_logit:.3g}, tolerated {self.tolerated:.1e})"
        )


def agreement_of(source: Source, other: Callable[[Tensor], Tensor]) -> Agreement:
    """Compare on both windows, once one by one and once together: the batch is of any size.

    Args:
        other: [B, C, *patch] -> logits [B, O, *patch], read back from what was written.
    """
    windows = [noise(source), patient(source)]
    with torch.no_grad():
        wanted = [source.network(window) for window in windows]
    alone, together = [other(window) for window in windows], other(torch.cat(windows)).split(1)
    on_noise, on_patient = (max(_difference(w, a), _difference(w, t)) for w, a, t in zip(wanted, alone, together))
    return Agreement(on_noise, on_patient, max(float(w.abs().max()) for w in wanted))


def _difference(one: Tensor, other: Tensor) -> float:
    """Largest absolute one; infinite where the shapes differ."""
    return float((one - other).abs().max()) if one.shape == other.shape else float("inf")


def check_agreement(source: Source, other: Callable[[Tensor], Tensor], what: str) -> Agreement:
    """
    Raises:
        ModelError: `what` was written does not compute what the network does.
    """
    found = agreement_of(source, other)
    if not found.holds:
        raise ModelError(
            f"the {what} does not compute what '{source.spec.name}' does and was not kept ({found}). Try another "
            "version of PyTorch."
        )
    return found
