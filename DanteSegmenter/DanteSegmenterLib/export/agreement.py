"""Check that an exported network still computes the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ModelError
from .source import Source, noise, patient

# Relative to the largest logit (to 1 if all are smaller). ONNX Runtime sums the moments of large maps less accurately
# than PyTorch, up to a tenth of this; a mask changes only where a logit is that close to 0.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Agreement:
    """Largest differences between both networks' logits, on noise and on a synthetic patient.

    Attributes:
        largest_logit: largest absolute logit of the original.
    """

    on_noise: float
    on_patient: float
    largest_logit: float

    @property
    def tolerated(self) -> float:
        """Largest difference that counts as rounding."""
        return TOLERANCE * max(1.0, self.largest_logit)

    @property
    def holds(self) -> bool:
        """Whether both compute the same; False for NaN."""
        return self.on_noise <= self.tolerated and self.on_patient <= self.tolerated

    def __str__(self) -> str:
        return (
            f"largest difference of logits to PyTorch: {self.on_noise:.1e} on noise, {self.on_patient:.1e} on a "
            f"generated patient (logits up to {self.largest_logit:.3g}, tolerated {self.tolerated:.1e})"
        )


def agreement_of(source: Source, other: Callable[[Tensor], Tensor]) -> Agreement:
    """Compare on both windows, separately and as one batch, since the batch size is variable.

    Args:
        other: [B, C, *patch] -> logits [B, O, *patch], loaded from the exported file.
    """
    windows = [noise(source), patient(source)]
    with torch.no_grad():
        wanted = [source.network(window) for window in windows]
    alone, together = [other(window) for window in windows], other(torch.cat(windows)).split(1)
    on_noise, on_patient = (max(_difference(w, a), _difference(w, t)) for w, a, t in zip(wanted, alone, together))
    return Agreement(on_noise, on_patient, max(float(w.abs().max()) for w in wanted))


def _difference(one: Tensor, other: Tensor) -> float:
    """Largest absolute difference; infinite if the shapes differ."""
    return float((one - other).abs().max()) if one.shape == other.shape else float("inf")


def check_agreement(source: Source, other: Callable[[Tensor], Tensor], what: str) -> Agreement:
    """Check that the exported network computes the same.

    Raises:
        ModelError: it does not; `what` names the export in the message.
    """
    found = agreement_of(source, other)
    if not found.holds:
        raise ModelError(
            f"the {what} does not compute what '{source.spec.name}' does and was not kept ({found}). Try another "
            "version of PyTorch."
        )
    return found
